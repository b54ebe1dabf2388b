//! Names and expressions that match them.

use smb_proto::Name;

use crate::shape::{choice, chosen};

fn utf16(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Paths with streams.
pub mod name {
    use super::*;
    use smb_proto::command::ioctl::{gmt_token, gmt_token_time};
    use smb_proto::fscc::name::{StreamPath, check_component, check_stream};
    use smb_proto::rpc;

    /// What a path is taken apart into are names that are valid by themselves.
    pub fn check(input: &[u8]) {
        let units = utf16(input);
        let name = Name::from_units(units.clone());
        let folded = name.folded();
        assert_eq!(folded.folded(), folded, "folding twice is not folding once");
        assert_eq!(folded.units().len(), units.len());
        let _ = rpc::service(&name);
        let _ = check_component(&units);
        let _ = check_stream(&units);
        if let Some(time) = gmt_token_time(&name) {
            assert_eq!(gmt_token_time(&gmt_token(time)), Some(time));
        }
        let Ok(path) = StreamPath::parse(&units) else { return };
        let components: Vec<_> = path.components().collect();
        for component in &components {
            assert!(check_component(component).is_ok(), "{component:?} is no valid component");
        }
        assert_eq!(path.file_name(), components.last().copied());
        assert_eq!(path.is_root(), components.is_empty());
        if let Some(stream) = path.stream() {
            assert!(check_stream(stream.units()).is_ok());
        }
        let again = StreamPath::parse(path.path().units()).expect("a path is a path");
        assert_eq!(again.path(), path.path());
    }

    /// Paths of every form.
    pub fn seeds() -> Vec<Vec<u8>> {
        [
            "",
            "file",
            "a\\b\\c.txt",
            "a:s",
            "a:s:$DATA",
            "d::$INDEX_ALLOCATION",
            "a\\..\\b",
            "@GMT-2026.01.02-03.04.05",
            "a\\",
        ]
        .map(wide)
        .into()
    }
}

/// Expressions of directory listings.
pub mod expression {
    use super::*;
    use smb_proto::fscc::expression::Expression;

    /// The first byte is the length of the pattern, what follows it the name.
    pub fn check(input: &[u8]) {
        let (length, rest) = choice(input);
        let units = utf16(&rest);
        let (pattern, name) = units.split_at((length / 2).min(units.len()));
        for ignore_case in [false, true] {
            let Ok(expression) = Expression::new(pattern, ignore_case) else { continue };
            let matches = expression.matches(name);
            if expression.matches_everything() {
                assert!(matches, "matches everything, but not this");
            }
            if let Some(literal) = expression.literal() {
                assert!(expression.matches(literal), "does not match what it says");
                if !ignore_case {
                    assert_eq!(matches, literal == name, "without wildcards only itself matches");
                }
            }
        }
    }

    /// Wildcards of both generations.
    pub fn seeds() -> Vec<Vec<u8>> {
        [
            ("*", "a"),
            ("*.*", "a.b"),
            ("a?c", "abc"),
            ("<.txt", "a.b.txt"),
            ("\"a>>", ".ab"),
            ("*a*a*a*a*b", "aaaaaaaaaa"),
        ]
        .map(|(pattern, name)| chosen(pattern.len() * 2, &[wide(pattern), wide(name)].concat()))
        .into()
    }
}
