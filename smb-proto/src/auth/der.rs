//! The little of DER (X.690) that SPNEGO needs: one-byte tags, definite lengths. Lengths that are not minimal are read,
//! never written.

use crate::error::Malformed;

/// Tag of an OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// Tag of a BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// Tag of an OBJECT IDENTIFIER.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// Tag of an ENUMERATED.
pub const ENUMERATED: u8 = 0x0A;
/// Tag of a GeneralString.
pub const GENERAL_STRING: u8 = 0x1B;
/// Tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// Tag of the outermost wrapping of a GSS token (RFC 2743 3.1).
pub const APPLICATION_0: u8 = 0x60;

/// Tag of an explicitly tagged field, `[number]`.
#[must_use]
pub const fn context(number: u8) -> u8 {
    0xA0 | number & 0x1F
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next element: its tag and its content.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end early or the length has another form.
    pub fn element(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        self.split().ok_or(Malformed("DER element"))
    }

    /// The content of the next element, which must have this tag.
    ///
    /// # Errors
    /// [`Malformed`] as [`Reader::element`], and for another tag.
    pub fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        match self.element()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(Malformed("DER element has another tag")),
        }
    }

    fn split(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.rest.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let length = digits.iter().fold(0_u32, |length, digit| length << 8 | u32::from(*digit));
                (usize::try_from(length).ok()?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((*tag, content))
    }
}

/// The content of an element that holds exactly one element of `tag`.
///
/// # Errors
/// [`Malformed`] for another tag or bytes after it.
pub fn only(bytes: &[u8], tag: u8) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(bytes);
    let content = reader.expect(tag)?;
    if reader.is_empty() { Ok(content) } else { Err(Malformed("DER element is followed by bytes")) }
}

/// Appends an element.
pub fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    match (u8::try_from(length), length.to_be_bytes()) {
        (Ok(short @ 0..=0x7F), _) => out.push(short),
        (Ok(byte), _) => out.extend_from_slice(&[0x81, byte]),
        (_, [0, 0, high, low]) => out.extend_from_slice(&[0x82, high, low]),
        (_, [0, a, b, c]) => out.extend_from_slice(&[0x83, a, b, c]),
        (_, [a, b, c, d]) => out.extend_from_slice(&[0x84, a, b, c, d]),
    }
    out.extend_from_slice(content);
}

/// An element as bytes of its own.
#[must_use]
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len().saturating_add(6));
    put(&mut out, tag, content);
    out
}
