//! Medians, spreads, ratios.

use serde::{Deserialize, Serialize};

/// The middle of some samples and how far they are apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    /// The median.
    pub(super) median: f64,
    /// The smallest.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
}

impl Spread {
    /// Of at least one sample; none of them may be NaN to be of use.
    pub(super) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return None,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { median, min: sorted[0], max: sorted[sorted.len() - 1] })
    }
}

/// How many times `other` goes into `one`; None if that is no number.
pub(super) fn ratio(one: Option<Spread>, other: Option<Spread>) -> Option<f64> {
    let ratio = one?.median / other?.median;
    ratio.is_finite().then_some(ratio)
}

/// A number with about three digits.
pub(super) fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let whole = text.find('.').unwrap_or(text.len());
    // A space between thousands, as in 13 400.
    let mut grouped = String::with_capacity(text.len() + 4);
    for (position, character) in text.char_indices() {
        let follows_digit = text[..position].ends_with(|before: char| before.is_ascii_digit());
        if position < whole && follows_digit && (whole - position) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(character);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers_of_samples() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([4.0]), Some(Spread { median: 4.0, min: 4.0, max: 4.0 }));
        assert_eq!(Spread::of([9.0, 1.0, 5.0]), Some(Spread { median: 5.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([9.0, 1.0, 6.0, 2.0]), Some(Spread { median: 4.0, min: 1.0, max: 9.0 }));
    }

    #[test]
    fn ratios_are_of_medians_and_never_infinite() {
        let spread = |median| Some(Spread { median, min: 0.0, max: 1e9 });
        assert_eq!(ratio(spread(3.0), spread(2.0)), Some(1.5));
        assert_eq!(ratio(spread(3.0), spread(0.0)), None);
        assert_eq!(ratio(spread(0.0), spread(0.0)), None);
        assert_eq!(ratio(None, spread(2.0)), None);
    }

    #[test]
    fn numbers_keep_three_digits_and_group_thousands() {
        let shown = [0.1234, 1.0, 9.999, 12.34, 99.96, 1234.4, 123_456.0, 1_234_567.0].map(digits);
        assert_eq!(shown, ["0.123", "1.00", "10.0", "12.3", "100", "1 234", "123 456", "1 234 567"]);
    }
}
