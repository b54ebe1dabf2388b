//! Which names are valid, and what parts the name in a CREATE or rename has (MS-FSCC 2.1.5, MS-FSA 2.1.5.1).
//!
//! A period or space at the end of a component is kept as sent: only Win32 clients strip them, before they
//! send.

use std::fmt;

use super::expression::is_wildcard;
use crate::name::{Name, fold_unit};
use crate::status::NtStatus;

/// Most code units of a component, a stream name, or a stream type.
pub const COMPONENT_MAX: usize = 255;

/// Most code units of a path.
pub const PATH_MAX: usize = 32_760;

const BACKSLASH: u16 = b'\\' as u16;
const SLASH: u16 = b'/' as u16;
const COLON: u16 = b':' as u16;
const PERIOD: u16 = b'.' as u16;

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameError {
    /// A component without characters.
    Empty,
    /// A component, stream name or stream type of more than 255 code units.
    ComponentTooLong,
    /// A path of more than 32 760 code units.
    PathTooLong,
    /// A character that names may not have: `/`, `:`, `|`, `\` or a control character.
    Reserved,
    /// A wildcard where only a name will do.
    Wildcard,
    /// The component `.`, which may not be sent.
    CurrentDirectory,
    /// The component `..`, which may not be sent.
    ParentDirectory,
    /// A path that starts with a backslash; SMB2 paths are relative to the share (MS-SMB2 3.3.5.9).
    Absolute,
    /// A colon without what must follow it, too many colons, or a stream on a directory on the way.
    StreamSyntax,
    /// A stream type that no file has.
    StreamType,
}

impl NameError {
    /// The status that Windows answers with.
    #[must_use]
    pub const fn status(self) -> NtStatus {
        match self {
            Self::ParentDirectory => NtStatus::OBJECT_PATH_SYNTAX_BAD,
            Self::Absolute => NtStatus::INVALID_PARAMETER,
            Self::Empty
            | Self::ComponentTooLong
            | Self::PathTooLong
            | Self::Reserved
            | Self::Wildcard
            | Self::CurrentDirectory
            | Self::StreamSyntax
            | Self::StreamType => NtStatus::OBJECT_NAME_INVALID,
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "component without characters",
            Self::ComponentTooLong => "component longer than 255 characters",
            Self::PathTooLong => "path longer than 32760 characters",
            Self::Reserved => "reserved character",
            Self::Wildcard => "wildcard in a name",
            Self::CurrentDirectory => "component is a period",
            Self::ParentDirectory => "component is two periods",
            Self::Absolute => "path starts with a backslash",
            Self::StreamSyntax => "stream is not given as :name:type",
            Self::StreamType => "unknown stream type",
        })
    }
}

impl std::error::Error for NameError {}

/// Whether `component` can name a file or directory (MS-FSCC 2.1.5.2): 1 to 255 code units, none of them
/// reserved, and neither `.` nor `..`.
///
/// # Errors
/// The first rule that is broken.
pub fn check_component(component: &[u16]) -> Result<(), NameError> {
    match component {
        [PERIOD] => Err(NameError::CurrentDirectory),
        [PERIOD, PERIOD] => Err(NameError::ParentDirectory),
        _ => check_units(component, false),
    }
}

/// [`check_component`], with wildcards allowed if `wildcards`, and `.` and `..` always.
pub(super) fn check_units(component: &[u16], wildcards: bool) -> Result<(), NameError> {
    if component.is_empty() {
        return Err(NameError::Empty);
    }
    if component.len() > COMPONENT_MAX {
        return Err(NameError::ComponentTooLong);
    }
    for unit in component {
        if *unit < 0x20 || matches!(*unit, BACKSLASH | SLASH | COLON) || *unit == u16::from(b'|') {
            return Err(NameError::Reserved);
        }
        if !wildcards && is_wildcard(*unit) {
            return Err(NameError::Wildcard);
        }
    }
    Ok(())
}

/// Whether `name` can name a stream (MS-FSCC 2.1.5.3): up to 255 code units without backslash, slash, colon
/// and NUL.
///
/// # Errors
/// The first rule that is broken.
pub fn check_stream(name: &[u16]) -> Result<(), NameError> {
    if name.len() > COMPONENT_MAX {
        return Err(NameError::ComponentTooLong);
    }
    if name.iter().any(|unit| matches!(*unit, BACKSLASH | SLASH | COLON | 0)) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamType {
    /// `$DATA`: bytes.
    Data,
    /// `$INDEX_ALLOCATION`: the entries of a directory.
    IndexAllocation,
}

/// The name of a CREATE, rename or link in its parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamPath {
    path: Name,
    stream: Option<Name>,
    stream_type: Option<StreamType>,
    trailing_separator: bool,
}

impl StreamPath {
    /// Takes apart a path relative to the share's root. Doubled and trailing backslashes are dropped (MS-FSA
    /// 2.1.5.1).
    ///
    /// # Errors
    /// The first rule that is broken; [`NameError::status`] says what to answer.
    pub fn parse(name: &[u16]) -> Result<Self, NameError> {
        if name.len() > PATH_MAX {
            return Err(NameError::PathTooLong);
        }
        if name.first() == Some(&BACKSLASH) {
            return Err(NameError::Absolute);
        }
        let trailing_separator = name.last() == Some(&BACKSLASH);
        let mut path = Vec::with_capacity(name.len());
        let mut suffix = (None, None);
        let mut components =
            name.split(|unit| *unit == BACKSLASH).filter(|component| !component.is_empty()).peekable();
        while let Some(component) = components.next() {
            let file = match component.iter().position(|unit| *unit == COLON) {
                None => component,
                Some(colon) => {
                    let (file, stream) = component.split_at_checked(colon).unwrap_or_default();
                    suffix = parse_suffix(stream)?;
                    let is_last = components.peek().is_none();
                    if !is_last && !is_directory_suffix(&suffix) {
                        return Err(NameError::StreamSyntax);
                    }
                    // Without a file name, a stream is one of the share's root.
                    if file.is_empty() && path.is_empty() && is_last && !trailing_separator {
                        continue;
                    }
                    file
                }
            };
            check_component(file)?;
            if components.peek().is_some() {
                suffix = (None, None);
            }
            if !path.is_empty() {
                path.push(BACKSLASH);
            }
            path.extend_from_slice(file);
        }
        let (stream, stream_type) = suffix;
        Ok(Self { path: Name::from_units(path), stream, stream_type, trailing_separator })
    }

    /// The path of the file, without stream; empty for the share's root.
    #[must_use]
    pub const fn path(&self) -> &Name {
        &self.path
    }

    /// The components of the path, from the root on; none for the share's root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u16]> {
        self.path.units().split(|unit| *unit == BACKSLASH).filter(|component| !component.is_empty())
    }

    /// The last component; `None` for the share's root.
    #[must_use]
    pub fn file_name(&self) -> Option<&[u16]> {
        self.components().next_back()
    }

    /// The path of the directory that holds the file; empty for the share's root, and for what is directly in
    /// it.
    #[must_use]
    pub fn parent(&self) -> &[u16] {
        let units = self.path.units();
        let end = units.iter().rposition(|unit| *unit == BACKSLASH).unwrap_or(0);
        units.get(..end).unwrap_or_default()
    }

    /// Whether this is the share's root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// The named stream; `None` for the unnamed one (`name` and `name::$DATA`) and for a directory's entries.
    #[must_use]
    pub const fn stream(&self) -> Option<&Name> {
        self.stream.as_ref()
    }

    /// The type of stream, if the name says so.
    #[must_use]
    pub const fn stream_type(&self) -> Option<StreamType> {
        self.stream_type
    }

    /// Whether the name ended in a backslash: with FILE_NON_DIRECTORY_FILE that is
    /// `STATUS_OBJECT_NAME_INVALID`.
    #[must_use]
    pub const fn trailing_separator(&self) -> bool {
        self.trailing_separator
    }
}

type Suffix = (Option<Name>, Option<StreamType>);

/// The name and the type behind a file name; `text` starts with a colon.
fn parse_suffix(text: &[u16]) -> Result<Suffix, NameError> {
    let mut parts = text.split(|unit| *unit == COLON).skip(1);
    let name = parts.next().unwrap_or_default();
    let stream_type = parts.next();
    if parts.next().is_some() || stream_type.is_some_and(<[u16]>::is_empty) {
        return Err(NameError::StreamSyntax);
    }
    if name.is_empty() && stream_type.is_none() {
        return Err(NameError::StreamSyntax);
    }
    check_stream(name)?;
    let stream_type = match stream_type {
        None => None,
        Some(text) if is_named(text, "$DATA") => Some(StreamType::Data),
        Some(text) if is_named(text, "$INDEX_ALLOCATION") => Some(StreamType::IndexAllocation),
        Some(_) => return Err(NameError::StreamType),
    };
    let is_index = is_named(name, "$I30");
    match stream_type {
        // The only name that a directory's entries go by.
        Some(StreamType::IndexAllocation) if !name.is_empty() && !is_index => Err(NameError::StreamType),
        Some(StreamType::IndexAllocation) => Ok((None, stream_type)),
        None if is_index => Ok((None, Some(StreamType::IndexAllocation))),
        _ => Ok(((!name.is_empty()).then(|| Name::from_units(name)), stream_type)),
    }
}

/// Whether a suffix names the entries of a directory, and so may stand in the middle of a path.
fn is_directory_suffix(suffix: &Suffix) -> bool {
    matches!(suffix, (None, Some(StreamType::IndexAllocation)))
}

/// Whether `units` are `upper` without regard to case.
fn is_named(units: &[u16], upper: &str) -> bool {
    units.len() == upper.len()
        && units.iter().zip(upper.bytes()).all(|(unit, byte)| fold_unit(*unit) == u16::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn parse(text: &str) -> Result<StreamPath, NameError> {
        StreamPath::parse(&units(text))
    }

    fn parts(text: &str) -> (String, Option<String>, Option<StreamType>) {
        let path = parse(text).unwrap();
        (path.path().to_string(), path.stream().map(Name::to_string), path.stream_type())
    }

    #[test]
    fn components_are_checked() {
        for name in ["a", "a.", "a ", ".a", "...", "a;b", "\u{7F}", "\u{1F600}", "$DATA"] {
            assert_eq!(check_component(&units(name)), Ok(()), "{name}");
        }
        for (name, error) in [
            ("", NameError::Empty),
            (".", NameError::CurrentDirectory),
            ("..", NameError::ParentDirectory),
            ("a/b", NameError::Reserved),
            ("a\\b", NameError::Reserved),
            ("a:b", NameError::Reserved),
            ("a|b", NameError::Reserved),
            ("a\u{1F}", NameError::Reserved),
            ("a*", NameError::Wildcard),
            ("a?", NameError::Wildcard),
            ("a<", NameError::Wildcard),
            ("a>", NameError::Wildcard),
            ("a\"", NameError::Wildcard),
        ] {
            assert_eq!(check_component(&units(name)), Err(error), "{name}");
        }
        assert_eq!(check_component(&[0x61; 255]), Ok(()));
        assert_eq!(check_component(&[0x61; 256]), Err(NameError::ComponentTooLong));
        assert_eq!(check_component(&[0xD800]), Ok(()), "unpaired surrogates are names too");
    }

    #[test]
    fn paths_are_taken_apart() {
        let path = parse("a\\b.txt\\c").unwrap();
        assert_eq!(
            path.components().map(<[u16]>::to_vec).collect::<Vec<_>>(),
            [units("a"), units("b.txt"), units("c")]
        );
        assert_eq!(path.file_name(), Some(&units("c")[..]));
        assert_eq!(path.parent(), units("a\\b.txt"));
        assert!(!path.is_root() && !path.trailing_separator());
        let root = parse("").unwrap();
        assert!(root.is_root());
        assert_eq!((root.components().count(), root.file_name(), root.parent()), (0, None, &[][..]));
        assert_eq!(parse("a").unwrap().parent(), &[]);
        let trailing = parse("a\\\\b\\").unwrap();
        assert!(trailing.trailing_separator());
        assert_eq!(trailing.path().to_string(), "a\\b");
    }

    #[test]
    fn streams_are_taken_apart() {
        let stream = |name: &str| Some(name.to_string());
        assert_eq!(parts("d\\f:s"), ("d\\f".into(), stream("s"), None));
        assert_eq!(parts("f:s:$DATA"), ("f".into(), stream("s"), Some(StreamType::Data)));
        assert_eq!(parts("f:s:$data"), ("f".into(), stream("s"), Some(StreamType::Data)));
        assert_eq!(parts("f::$DATA"), ("f".into(), None, Some(StreamType::Data)));
        assert_eq!(parts("d::$INDEX_ALLOCATION"), ("d".into(), None, Some(StreamType::IndexAllocation)));
        assert_eq!(parts("d:$I30:$INDEX_ALLOCATION"), ("d".into(), None, Some(StreamType::IndexAllocation)));
        assert_eq!(parts("d:$I30\\f:s"), ("d\\f".into(), stream("s"), None));
        assert_eq!(parts("d::$INDEX_ALLOCATION\\f"), ("d\\f".into(), None, None));
        assert_eq!(parts(":s"), (String::new(), stream("s"), None));
        assert_eq!(parts("f:*?<>\"|\u{1}"), ("f".into(), stream("*?<>\"|\u{1}"), None));
    }

    #[test]
    fn wrong_names_are_refused() {
        for (name, error) in [
            ("\\a", NameError::Absolute),
            ("\\", NameError::Absolute),
            ("..\\a", NameError::ParentDirectory),
            ("a\\..", NameError::ParentDirectory),
            ("a\\.\\b", NameError::CurrentDirectory),
            ("a/b", NameError::Reserved),
            ("a\u{0}", NameError::Reserved),
            ("a*\\b", NameError::Wildcard),
            ("f:", NameError::StreamSyntax),
            ("f::", NameError::StreamSyntax),
            ("f:s:", NameError::StreamSyntax),
            ("f:s:$DATA:", NameError::StreamSyntax),
            ("f:s:$DATA:x", NameError::StreamSyntax),
            ("f:s:$FOO", NameError::StreamType),
            ("f:s:$INDEX_ALLOCATION", NameError::StreamType),
            ("f:s\\b", NameError::StreamSyntax),
            ("f::$DATA\\b", NameError::StreamSyntax),
            ("d\\:s", NameError::Empty),
            (":s\\", NameError::Empty),
            ("f:a/b", NameError::Reserved),
            ("f:\u{0}", NameError::Reserved),
        ] {
            assert_eq!(parse(name), Err(error), "{name:?}");
        }
        let long = "a".repeat(256);
        assert_eq!(parse(&format!("d\\{long}")), Err(NameError::ComponentTooLong));
        assert_eq!(parse(&format!("f:{long}")), Err(NameError::ComponentTooLong));
        assert_eq!(parse(&"a\\".repeat(16_381)), Err(NameError::PathTooLong));
        assert_eq!(NameError::ParentDirectory.status(), NtStatus::OBJECT_PATH_SYNTAX_BAD);
        assert_eq!(NameError::Wildcard.status(), NtStatus::OBJECT_NAME_INVALID);
        assert_eq!(NameError::Absolute.status(), NtStatus::INVALID_PARAMETER);
    }
}
