//! FILETIME: 100-nanosecond intervals since 1601-01-01 UTC (MS-DTYP 2.3.3).

use std::time::{SystemTime, UNIX_EPOCH as EPOCH};

/// Intervals of 100 ns between 1601 and 1970.
const UNIX_EPOCH: i128 = NEAR_EPOCH as i128;
/// The same as the type that is enough for every time that files really have.
const NEAR_EPOCH: i64 = 116_444_736_000_000_000;

/// A point in time as SMB carries it. Zero usually means "not given", `u64::MAX` and `u64::MAX - 1` have meanings of
/// their own in FILE_BASIC_INFORMATION (MS-FSCC 2.4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(pub u64);

impl FileTime {
    /// From seconds and nanoseconds since 1970, saturating at the ends of the range.
    #[must_use]
    pub fn from_unix(seconds: i64, nanoseconds: u32) -> Self {
        // Listings do this four times for each entry.
        let near = seconds.checked_mul(10_000_000).and_then(|near| near.checked_add(NEAR_EPOCH));
        let near = near.and_then(|near| near.checked_add(i64::from(nanoseconds / 100)));
        if let Some(near) = near.and_then(|near| u64::try_from(near).ok()) {
            return Self(near);
        }
        let intervals = i128::from(seconds)
            .saturating_mul(10_000_000)
            .saturating_add(i128::from(nanoseconds / 100))
            .saturating_add(UNIX_EPOCH);
        Self(u64::try_from(intervals.max(0)).unwrap_or(u64::MAX))
    }

    /// Seconds and nanoseconds since 1970.
    #[must_use]
    pub fn to_unix(self) -> (i64, u32) {
        let intervals = i128::from(self.0).saturating_sub(UNIX_EPOCH);
        let seconds = intervals.div_euclid(10_000_000);
        let rest = intervals.rem_euclid(10_000_000).saturating_mul(100);
        (i64::try_from(seconds).unwrap_or(i64::MAX), u32::try_from(rest).unwrap_or(0))
    }
}

impl From<SystemTime> for FileTime {
    /// A time before 1970 becomes 1970: clocks that are set wrong stand there.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(EPOCH).unwrap_or_default();
        Self::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_far_away_end_where_the_range_ends() {
        assert_eq!(FileTime::from_unix(-11_644_473_600, 99), FileTime(0));
        assert_eq!(FileTime::from_unix(-11_644_473_600, 100), FileTime(1));
        assert_eq!(FileTime::from_unix(-11_644_473_601, 999_999_999), FileTime(0));
        assert_eq!(FileTime::from_unix(i64::MIN, 0), FileTime(0));
        assert_eq!(FileTime::from_unix(i64::MAX, 0), FileTime(u64::MAX));
        // Beyond what a signed number holds.
        let far = 1_700_000_000_000;
        assert_eq!(
            FileTime::from_unix(far, 700),
            FileTime(17_000_000_000_000_000_007 + 116_444_736_000_000_000)
        );
    }

    #[test]
    fn a_systems_time_counts_from_1601() {
        assert_eq!(FileTime::from(EPOCH), FileTime(116_444_736_000_000_000));
        let later = EPOCH + Duration::new(1_700_000_000, 123_456_700);
        assert_eq!(FileTime::from(later).to_unix(), (1_700_000_000, 123_456_700));
        assert_eq!(FileTime::from(EPOCH - Duration::from_secs(1)), FileTime::from(EPOCH));
    }
}
