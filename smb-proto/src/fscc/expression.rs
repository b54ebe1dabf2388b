//! Name expressions: which names a search pattern matches (MS-FSA 2.1.4.4).
//!
//! | unit | matches |
//! |---|---|
//! | `*` | any number of units |
//! | `?` | one unit |
//! | `<` (DOS_STAR) | any number of units, but not the last period of the name |
//! | `>` (DOS_QM) | one unit that is not a period; nothing before a period or at the end |
//! | `"` (DOS_DOT) | a period; nothing at the end |
//!
//! Matching follows all ways through the pattern at once, so it takes at most pattern times name steps.

use super::name::{self, COMPONENT_MAX, NameError};
use crate::name::fold_unit;

const STAR: u16 = b'*' as u16;
const QUESTION: u16 = b'?' as u16;
const DOS_STAR: u16 = b'<' as u16;
const DOS_QM: u16 = b'>' as u16;
const DOS_DOT: u16 = b'"' as u16;
const PERIOD: u16 = b'.' as u16;

/// Whether a unit is one of the five that match more than themselves (MS-FSA 2.1.4.3).
#[must_use]
pub const fn is_wildcard(unit: u16) -> bool {
    matches!(unit, STAR | QUESTION | DOS_STAR | DOS_QM | DOS_DOT)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Every name.
    Everything,
    /// One name.
    Literal,
    /// Names that end in what follows a leading asterisk.
    Suffix,
    /// Anything else.
    General,
}

/// A search pattern, ready to be matched against many names without allocating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// The pattern, folded if case is ignored.
    units: Box<[u16]>,
    ignore_case: bool,
    kind: Kind,
}

/// One flag for each place in the longest pattern, and one for its end.
type States = [bool; COMPONENT_MAX + 1];

impl Expression {
    /// A pattern from a request. An empty one matches everything, as directory queries want it (MS-FSA
    /// 2.1.5.6.3).
    ///
    /// # Errors
    /// [`NameError`] (`STATUS_OBJECT_NAME_INVALID`) when the pattern is no valid component even if wildcards,
    /// `.` and `..` are allowed.
    pub fn new(pattern: &[u16], ignore_case: bool) -> Result<Self, NameError> {
        if !pattern.is_empty() {
            name::check_units(pattern, true)?;
        }
        let fold = |unit: &u16| if ignore_case { fold_unit(*unit) } else { *unit };
        let units: Box<[u16]> = pattern.iter().map(fold).collect();
        let kind = match &*units {
            [] | [STAR] | [STAR, PERIOD, STAR] => Kind::Everything,
            [STAR, rest @ ..] if !rest.iter().copied().any(is_wildcard) => Kind::Suffix,
            all if !all.iter().copied().any(is_wildcard) => Kind::Literal,
            _ => Kind::General,
        };
        Ok(Self { units, ignore_case, kind })
    }

    /// The name that the pattern is, if it has no wildcards: then there is at most one match, and no need to
    /// list. Folded if case is ignored.
    #[must_use]
    pub fn literal(&self) -> Option<&[u16]> {
        (self.kind == Kind::Literal).then_some(&*self.units)
    }

    /// Whether every name matches.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.kind == Kind::Everything
    }

    /// Whether `name`, one component, matches.
    #[must_use]
    pub fn matches(&self, name: &[u16]) -> bool {
        match self.kind {
            Kind::Everything => true,
            Kind::Literal => self.equal(name, &self.units),
            Kind::Suffix => {
                let suffix = self.units.get(1..).unwrap_or_default();
                let start = name.len().checked_sub(suffix.len());
                start.and_then(|start| name.get(start..)).is_some_and(|tail| self.equal(tail, suffix))
            }
            Kind::General => !name.is_empty() && self.run(name),
        }
    }

    fn fold(&self, unit: u16) -> u16 {
        if self.ignore_case { fold_unit(unit) } else { unit }
    }

    fn equal(&self, name: &[u16], folded: &[u16]) -> bool {
        name.len() == folded.len()
            && name.iter().zip(folded).all(|(unit, folded)| self.fold(*unit) == *folded)
    }

    /// Follows all ways: state `n` means that the first `n` units of the pattern are matched.
    fn run(&self, name: &[u16]) -> bool {
        let mut states: States = [false; COMPONENT_MAX + 1];
        set(&mut states, 0);
        let last_period = name.iter().rposition(|unit| *unit == PERIOD);
        for (position, unit) in name.iter().enumerate() {
            states = self.step(states, self.fold(*unit), last_period == Some(position));
            if !states.contains(&true) {
                return false;
            }
        }
        self.ends(states)
    }

    /// The states after one more unit of the name.
    fn step(&self, mut states: States, unit: u16, is_last_period: bool) -> States {
        let mut next: States = [false; COMPONENT_MAX + 1];
        for (here, pattern) in self.units.iter().enumerate() {
            if !states.get(here).copied().unwrap_or(false) {
                continue;
            }
            let after = here.saturating_add(1);
            match *pattern {
                STAR | DOS_STAR => {
                    // Without taking the unit: the loop comes to `after` next.
                    set(&mut states, after);
                    if *pattern == STAR || !is_last_period {
                        set(&mut next, here);
                    }
                }
                DOS_QM if unit == PERIOD => set(&mut states, after),
                DOS_QM | QUESTION => set(&mut next, after),
                DOS_DOT if unit == PERIOD => set(&mut next, after),
                literal if literal == unit => set(&mut next, after),
                _ => {}
            }
        }
        next
    }

    /// Whether one of the states reaches the end of the pattern without taking anything more.
    fn ends(&self, states: States) -> bool {
        let optional = |unit: &&u16| matches!(**unit, STAR | DOS_STAR | DOS_QM | DOS_DOT);
        let tail = self.units.iter().rev().take_while(optional).count();
        let first = self.units.len().saturating_sub(tail);
        states.get(first..=self.units.len()).is_some_and(|ends| ends.contains(&true))
    }
}

fn set(states: &mut States, state: usize) {
    if let Some(state) = states.get_mut(state) {
        *state = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn matches(pattern: &str, name: &str) -> bool {
        Expression::new(&units(pattern), true).unwrap().matches(&units(name))
    }

    /// The rules again, as plain recursion.
    fn model(pattern: &[u16], name: &[u16]) -> bool {
        let Some((&first, rest)) = pattern.split_first() else { return name.is_empty() };
        let taken = |rest: &[u16]| !name.is_empty() && model(rest, &name[1..]);
        let period = name.first() == Some(&PERIOD);
        match first {
            STAR => model(rest, name) || taken(pattern),
            DOS_STAR => model(rest, name) || ((!period || name[1..].contains(&PERIOD)) && taken(pattern)),
            QUESTION => taken(rest),
            DOS_QM if period || name.is_empty() => model(rest, name),
            DOS_QM => taken(rest),
            DOS_DOT => (name.is_empty() && model(rest, name)) || (period && taken(rest)),
            literal => name.first() == Some(&literal) && taken(rest),
        }
    }

    #[test]
    fn documented_rules() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("", "anything", true),
            ("*.*", "no_period", true),
            ("*.", "a.", true),
            ("*.", "a", false),
            ("*.txt", "A.TXT", true),
            ("*.txt", ".txt", true),
            ("*.txt", "a.txt.bak", false),
            ("*x", "x", true),
            ("readme", "ReadMe", true),
            ("readme", "readme2", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("???", "ab", false),
            ("???", "abc", true),
            ("?.?", "a.b", true),
            (">>>", "ab", true),
            (">>>", "abcd", false),
            (">>>.txt", "a.txt", true),
            (">>>.txt", "abcd.txt", false),
            (">", ".", false),
            (">.", ".", true),
            ("a\"", "a", true),
            ("a\"", "a.", true),
            ("a\"", "ab", false),
            ("a\"b", "ab", false),
            ("<", "abc", true),
            ("<", "a.b", false),
            ("<.b", "a.b", true),
            ("<.c", "a.b.c", true),
            ("<.b", "a.b.c", false),
            ("<b", "a.b", false),
            ("<\"*", "a.b.c", true),
            ("<\"", "abc", true),
            ("<\"", "abc.", true),
            ("<\"", "a.c", false),
            (">>>>>>>>\">>>", "autoexec.bat", true),
            (">>>>>>>>\">>>", "autoexec", true),
            (">>>>>>>>\">>>", "autoexec2.bat", false),
            ("*.b*", "a.b.c", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("\u{E4}*", "\u{C4}x", true),
            (".", ".", true),
            ("..", "..", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn case_counts_when_told_to() {
        let exact = Expression::new(&units("a*B"), false).unwrap();
        assert!(exact.matches(&units("axB")));
        assert!(!exact.matches(&units("AxB")));
        assert!(!exact.matches(&units("axb")));
    }

    #[test]
    fn agrees_with_the_plain_rules() {
        let alphabet = units("a.*?<>\"");
        let words = |letters: &[u16], longest: usize| {
            let mut all: Vec<Vec<u16>> = vec![Vec::new()];
            let mut from = 0;
            for _ in 0..longest {
                let until = all.len();
                for word in from..until {
                    for letter in letters {
                        let mut longer = all[word].clone();
                        longer.push(*letter);
                        all.push(longer);
                    }
                }
                from = until;
            }
            all
        };
        let names = words(&units("a.b"), 4);
        for pattern in words(&alphabet, 4) {
            let expression = Expression::new(&pattern, false).unwrap();
            if expression.matches_everything() {
                continue; // "*.*" is an exception to the rules
            }
            for name in names.iter().filter(|name| !name.is_empty()) {
                let context = (String::from_utf16_lossy(&pattern), String::from_utf16_lossy(name));
                assert_eq!(expression.matches(name), model(&expression.units, name), "{context:?}");
            }
        }
    }

    #[test]
    fn literals_are_told_apart() {
        let literal = Expression::new(&units("abc"), true).unwrap();
        assert_eq!(literal.literal(), Some(&units("ABC")[..]));
        assert_eq!(Expression::new(&units("a*"), true).unwrap().literal(), None);
        assert!(Expression::new(&units("*.*"), true).unwrap().matches_everything());
        assert!(!Expression::new(&units("?"), true).unwrap().matches_everything());
    }

    #[test]
    fn long_patterns_take_no_long_time() {
        let mut pattern = "*a".repeat(127);
        pattern.push('b');
        let expression = Expression::new(&units(&pattern), true).unwrap();
        let name = units(&"a".repeat(255));
        for _ in 0..10 {
            assert!(!expression.matches(&name));
        }
        let all_optional = Expression::new(&units(&"<>\"".repeat(85)), true).unwrap();
        assert!(all_optional.matches(&units("a.b")));
        assert!(all_optional.matches(&units(&"a".repeat(255))));
    }

    #[test]
    fn invalid_patterns_are_refused() {
        for pattern in ["a\\b", "a/b", "a:b", "a|b", "a\u{1}b"] {
            assert!(Expression::new(&units(pattern), true).is_err(), "{pattern}");
        }
        assert_eq!(Expression::new(&units(&"a".repeat(256)), true), Err(NameError::ComponentTooLong));
        assert!(Expression::new(&units(&"a".repeat(255)), true).is_ok());
    }
}
