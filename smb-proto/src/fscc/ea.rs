//! Extended attributes: FILE_FULL_EA_INFORMATION and FILE_GET_EA_INFORMATION lists (MS-FSCC 2.4.16).

use std::fmt;

use bytes::Bytes;

use super::Fit;
use super::chain::ChainWriter;
use crate::status::NtStatus;
use crate::wire;

/// Why a list of extended attributes is refused, with where in the list the entry at fault starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EaError {
    /// A name has a character that names may not have, is empty or too long, or an entry has an undefined
    /// flag (`STATUS_INVALID_EA_NAME`).
    Name(usize),
    /// Lengths and offsets do not fit together (`STATUS_EA_LIST_INCONSISTENT`).
    Inconsistent(usize),
}

impl EaError {
    /// The status that Windows answers with.
    #[must_use]
    pub const fn status(self) -> NtStatus {
        match self {
            Self::Name(_) => NtStatus::INVALID_EA_NAME,
            Self::Inconsistent(_) => NtStatus::EA_LIST_INCONSISTENT,
        }
    }
}

impl fmt::Display for EaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(offset) => write!(f, "extended attribute at {offset} has no valid name or flags"),
            Self::Inconsistent(offset) => {
                write!(f, "extended attribute at {offset} has inconsistent lengths")
            }
        }
    }
}

impl std::error::Error for EaError {}

/// Most bytes of a name.
pub const NAME_MAX: usize = 254;

/// Most bytes that the attributes of one file may have together, as [`packed_size`] counts (MS-FSA
/// 2.1.5.15.6).
pub const TOTAL_MAX: usize = 0xFFFF - 4;

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FullEa {
    /// Zero or [`FullEa::NEED_EA`].
    pub flags: u8,
    /// ASCII, without the terminating zero. Compared without regard to case.
    pub name: Bytes,
    /// The value. Setting an empty one deletes the attribute.
    pub value: Bytes,
}

/// Size of an entry of a full list without name and value.
const FULL_FIXED: usize = 8;
/// Size of an entry of a list of names without the name.
const GET_FIXED: usize = 5;

impl FullEa {
    /// The file means nothing to whoever does not understand this attribute.
    pub const NEED_EA: u8 = 0x80;

    fn wire_len(&self) -> usize {
        // The name is followed by a zero.
        FULL_FIXED.saturating_add(self.name.len()).saturating_add(1).saturating_add(self.value.len())
    }

    fn parse(entry: &Bytes, offset: usize) -> Result<Self, EaError> {
        let inconsistent = EaError::Inconsistent(offset);
        let (head, _) = entry.split_first_chunk::<FULL_FIXED>().ok_or(inconsistent)?;
        let [_, _, _, _, flags, name_length, value_low, value_high] = *head;
        let name_length = usize::from(name_length);
        let value_length = usize::from(u16::from_le_bytes([value_low, value_high]));
        let name_end = FULL_FIXED.saturating_add(name_length);
        let value_start = name_end.saturating_add(1);
        let value_end = value_start.saturating_add(value_length);
        if value_end > entry.len() || entry.get(name_end) != Some(&0) {
            return Err(inconsistent);
        }
        let name = entry.slice(FULL_FIXED..name_end);
        if !is_valid_name(&name) || flags & !Self::NEED_EA != 0 {
            return Err(EaError::Name(offset));
        }
        Ok(Self { flags, name, value: entry.slice(value_start..value_end) })
    }
}

/// Whether `name` can name an extended attribute: 1 to 254 bytes, no control characters, none of those
/// reserved.
#[must_use]
pub fn is_valid_name(name: &[u8]) -> bool {
    let reserved = |byte: &u8| *byte < 0x20 || br#"\/:*?"<>|,+=[];"#.contains(byte);
    (1..=NAME_MAX).contains(&name.len()) && !name.iter().any(reserved)
}

/// Reads a full list. No bytes are no attributes.
///
/// # Errors
/// The first entry at fault, and how.
pub fn parse_full(bytes: &Bytes) -> Result<Vec<FullEa>, EaError> {
    parse_list(bytes, FULL_FIXED, FullEa::parse)
}

/// Reads a list of names to be queried. No bytes are no names.
///
/// # Errors
/// The first entry at fault, and how.
pub fn parse_get(bytes: &Bytes) -> Result<Vec<Bytes>, EaError> {
    parse_list(bytes, GET_FIXED, |entry, offset| {
        let inconsistent = EaError::Inconsistent(offset);
        let (&[_, _, _, _, length], _) = entry.split_first_chunk::<GET_FIXED>().ok_or(inconsistent)?;
        let end = GET_FIXED.saturating_add(usize::from(length));
        if entry.get(end) != Some(&0) {
            return Err(inconsistent);
        }
        let name = entry.slice(GET_FIXED..end);
        if is_valid_name(&name) { Ok(name) } else { Err(EaError::Name(offset)) }
    })
}

fn parse_list<T>(
    bytes: &Bytes,
    fixed: usize,
    parse: impl Fn(&Bytes, usize) -> Result<T, EaError>,
) -> Result<Vec<T>, EaError> {
    let mut list = Vec::new();
    let mut offset = 0_usize;
    // Each step goes forward by at least the fixed part of an entry.
    while offset < bytes.len() {
        let inconsistent = EaError::Inconsistent(offset);
        let rest = bytes.slice(offset..);
        let (next, _) = rest.split_first_chunk::<4>().ok_or(inconsistent)?;
        let next = usize::try_from(u32::from_le_bytes(*next)).map_err(|_| inconsistent)?;
        if next == 0 {
            list.push(parse(&rest, offset)?);
            break;
        }
        if next < fixed || next >= rest.len() || wire::padding(next, 4) != 0 {
            return Err(inconsistent);
        }
        list.push(parse(&rest.slice(..next), offset)?);
        offset = offset.saturating_add(next);
    }
    Ok(list)
}

/// Appends as many attributes as fit into `limit` bytes, whole entries only.
pub fn emit_full(list: &[FullEa], out: &mut Vec<u8>, limit: usize) -> Fit {
    let mut chain = ChainWriter::new(out, limit, 4);
    for ea in list {
        if !chain.begin(out, ea.wire_len()) {
            return if chain.is_empty() { Fit::NoEntry } else { Fit::Partial };
        }
        out.extend_from_slice(&[ea.flags, u8::try_from(ea.name.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(&wire::length_u16(ea.value.len()).to_le_bytes());
        out.extend_from_slice(&ea.name);
        out.push(0);
        out.extend_from_slice(&ea.value);
    }
    Fit::Whole
}

/// Appends a list of names (the client's direction).
pub fn emit_get(names: &[Bytes], out: &mut Vec<u8>) {
    let mut chain = ChainWriter::new(out, usize::MAX, 4);
    for name in names {
        chain.begin(out, name.len().saturating_add(GET_FIXED).saturating_add(1));
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name);
        out.push(0);
    }
}

/// The size of a file's attributes as FileEaInformation gives it: packed, with a length in front of the
/// whole; zero for none.
#[must_use]
pub fn packed_size(list: &[FullEa]) -> u32 {
    if list.is_empty() {
        return 0;
    }
    let sizes = list.iter().map(|ea| ea.name.len().saturating_add(ea.value.len()).saturating_add(5));
    wire::length_u32(sizes.fold(4, usize::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ea(name: &'static str, value: &'static [u8]) -> FullEa {
        FullEa { flags: 0, name: Bytes::from_static(name.as_bytes()), value: Bytes::from_static(value) }
    }

    #[test]
    fn full_lists_round_trip() {
        let list = vec![
            ea("ONE", b"1"),
            FullEa { flags: FullEa::NEED_EA, ..ea("TWO", b"") },
            ea("THREE", &[0; 300]),
        ];
        let whole =
            |list: &Vec<FullEa>, out: &mut Vec<u8>| assert_eq!(emit_full(list, out, 4096), Fit::Whole);
        let bytes = super::super::tests::round_trip(&list, whole, parse_full);
        for length in 1..bytes.len() {
            assert!(matches!(parse_full(&bytes.slice(..length)), Err(EaError::Inconsistent(_))), "{length}");
        }
        let mut out = Vec::new();
        assert_eq!(emit_full(&list, &mut out, bytes.len() - 1), Fit::Partial);
        assert_eq!(parse_full(&out.into()).as_deref(), Ok(&list[..2]));
        assert_eq!(emit_full(&list, &mut Vec::new(), 12), Fit::NoEntry);
        assert_eq!(packed_size(&list), 4 + (5 + 4) + (5 + 3) + (5 + 305));
        assert_eq!(packed_size(&[]), 0);
    }

    #[test]
    fn known_bytes() {
        let mut out = Vec::new();
        emit_full(&[ea("AB", b"xyz"), ea("C", b"")], &mut out, 100);
        let expected: [u8; 26] = [
            16, 0, 0, 0, 0, 2, 3, 0, b'A', b'B', 0, b'x', b'y', b'z', 0, 0, //
            0, 0, 0, 0, 0, 1, 0, 0, b'C', 0,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn get_lists_round_trip() {
        let names = vec![Bytes::from_static(b"ONE"), Bytes::from_static(b"SECOND")];
        let bytes = super::super::tests::round_trip(&names, |names, out| emit_get(names, out), parse_get);
        for length in 1..bytes.len() {
            assert!(parse_get(&bytes.slice(..length)).is_err());
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let full = |list: &[FullEa]| {
            let mut out = Vec::new();
            emit_full(list, &mut out, 4096);
            Bytes::from(out)
        };
        assert_eq!(parse_full(&full(&[ea("OK", b"1"), ea("B:D", b"1")])), Err(EaError::Name(12)));
        assert_eq!(parse_full(&full(&[ea("", b"1")])), Err(EaError::Name(0)));
        let odd_flag = FullEa { flags: 1, ..ea("A", b"1") };
        assert_eq!(parse_full(&full(&[odd_flag])), Err(EaError::Name(0)));
        for (position, value) in [(0, 13), (0, 4), (0, 200), (5, 5), (6, 9), (7, 1), (10, 1)] {
            let mut wrong = full(&[ea("OK", b"1"), ea("OTHER", b"1")]).to_vec();
            wrong[position] = value;
            assert_eq!(parse_full(&wrong.into()), Err(EaError::Inconsistent(0)), "{position} {value}");
        }
        assert_eq!(EaError::Name(0).status(), NtStatus::INVALID_EA_NAME);
        assert_eq!(EaError::Inconsistent(0).status(), NtStatus::EA_LIST_INCONSISTENT);
    }

    #[test]
    fn names_are_checked() {
        for name in ["A", "user.name", "with space", "{}!"] {
            assert!(is_valid_name(name.as_bytes()), "{name}");
        }
        for name in
            ["", "a\\b", "a/b", "a:b", "a*", "a?", "\"", "<", ">", "|", ",", "+", "=", "[", "]", ";", "\x1F"]
        {
            assert!(!is_valid_name(name.as_bytes()), "{name}");
        }
        assert!(is_valid_name(&[b'a'; 254]));
        assert!(!is_valid_name(&[b'a'; 255]));
    }
}
