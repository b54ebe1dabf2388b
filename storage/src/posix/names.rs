//! Names: UTF-16 on the wire, UTF-8 on the disk. Unpaired surrogates, which Windows allows, become the three bytes that
//! generalised UTF-8 gives them (WTF-8), so that every name comes back as it went in.

use std::ffi::{CStr, CString};

use smb_proto::{Name, NtStatus};

use crate::fault::Outcome;

/// Longest name of a file in bytes.
pub(super) const COMPONENT_MAX: usize = 255;

/// The name of a file or directory as the disk has it.
///
/// # Errors
/// OBJECT_NAME_INVALID for what cannot be one name in a directory.
pub(super) fn to_local(name: &Name) -> Outcome<CString> {
    let bytes = encode(name.units());
    let wrong = bytes.is_empty()
        || bytes.len() > COMPONENT_MAX
        || matches!(bytes.as_slice(), b"." | b"..")
        || bytes.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0));
    if wrong {
        return Err(NtStatus::OBJECT_NAME_INVALID.into());
    }
    Ok(CString::new(bytes).map_err(|_| NtStatus::OBJECT_NAME_INVALID)?)
}

/// The units of a name of the disk; `None` for names that clients cannot see because nothing they could send would lead
/// to them: not WTF-8, or with a backslash or colon.
pub(super) fn visible(local: &CStr) -> Option<Vec<u16>> {
    let mut units = Vec::new();
    visible_in(local, &mut units).then_some(units)
}

/// The same into a buffer that is used again; `false` for names that clients cannot see.
pub(super) fn visible_in(local: &CStr, units: &mut Vec<u16>) -> bool {
    let bytes = local.to_bytes();
    units.clear();
    !bytes.iter().any(|byte| matches!(byte, b'\\' | b':')) && decode_in(bytes, units)
}

/// WTF-8 of UTF-16.
pub(super) fn encode(units: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(units.len() + units.len() / 2);
    for decoded in char::decode_utf16(units.iter().copied()) {
        match decoded {
            Ok(character) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(unpaired) => {
                let unit = unpaired.unpaired_surrogate();
                let [high, low] = unit.to_be_bytes();
                bytes.extend_from_slice(&[
                    0xE0 | high >> 4,
                    0x80 | (high << 2 | low >> 6) & 0x3F,
                    0x80 | low & 0x3F,
                ]);
            }
        }
    }
    bytes
}

/// UTF-16 of WTF-8; `None` for anything else, a surrogate pair in six bytes among it (it has a form of four).
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u16>> {
    let mut units = Vec::with_capacity(bytes.len());
    decode_in(bytes, &mut units).then_some(units)
}

/// The same appended to a buffer; `false` if it is no WTF-8.
fn decode_in(mut bytes: &[u8], units: &mut Vec<u16>) -> bool {
    if bytes.is_ascii() {
        units.extend(bytes.iter().copied().map(u16::from));
        return true;
    }
    loop {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                units.extend(text.encode_utf16());
                break;
            }
            Err(error) => {
                let (text, rest) = bytes.split_at(error.valid_up_to());
                let Ok(valid) = std::str::from_utf8(text) else { return false };
                units.extend(valid.encode_utf16());
                let [0xED, middle @ 0xA0..=0xBF, last @ 0x80..=0xBF, rest @ ..] = rest else { return false };
                let unit = 0xD000 | u16::from(middle & 0x3F) << 6 | u16::from(last & 0x3F);
                let is_second = (0xDC00..=0xDFFF).contains(&unit);
                let after_first =
                    text.is_empty() && units.last().is_some_and(|unit| (0xD800..=0xDBFF).contains(unit));
                if is_second && after_first {
                    return false;
                }
                units.push(unit);
                bytes = rest;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went_in() {
        let samples: [&[u16]; 6] = [
            &[b'a'.into(), b'Z'.into()],
            &[0xE4, 0x4E2D, 0xD83D, 0xDE00],
            &[0xD800],
            &[0xDC00, 0xD800],
            &[0xDC00, 0xD83D, 0xDE00, 0xDBFF],
            &[b'x'.into(), 0xDFFF, b'y'.into()],
        ];
        for units in samples {
            assert_eq!(decode(&encode(units)).as_deref(), Some(units));
        }
        for unit in 0..=u16::MAX {
            assert_eq!(decode(&encode(&[unit])), Some(vec![unit]));
        }
    }

    #[test]
    fn what_is_not_wtf8_is_no_name() {
        // A pair written as two surrogates, a lone continuation byte, Latin-1, an overlong slash.
        for bytes in [&[0xED, 0xA0, 0xBD, 0xED, 0xB8, 0x80][..], &[0x80], b"caf\xE9", &[0xC0, 0xAF]] {
            assert_eq!(decode(bytes), None);
        }
        assert_eq!(visible(c"a:b"), None);
        assert_eq!(visible(c"a\\b"), None);
    }

    #[test]
    fn what_cannot_be_in_a_directory_is_refused() {
        for name in ["", ".", "..", "a/b", "a\\b", "a\0b"] {
            assert!(to_local(&Name::from(name)).is_err(), "{name:?}");
        }
        assert!(to_local(&Name::from("a".repeat(255).as_str())).is_ok());
        assert!(to_local(&Name::from("a".repeat(256).as_str())).is_err());
        assert!(to_local(&Name::from("\u{4E2D}".repeat(86).as_str())).is_err());
    }
}
