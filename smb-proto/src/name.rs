//! Names as SMB carries them: UTF-16 code units, not necessarily well-formed.

use std::fmt;

use crate::error::Malformed;
use crate::wire;

/// A path or a path component in UTF-16, components separated by `\`. Unpaired surrogates are kept: Windows allows
/// them in names.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u16]>);

impl Name {
    /// From UTF-16 code units.
    #[must_use]
    pub fn from_units(units: impl Into<Box<[u16]>>) -> Self {
        Self(units.into())
    }

    /// From the little-endian bytes of the wire.
    ///
    /// # Errors
    /// [`Malformed`] for an odd number of bytes.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(Self(wire::utf16(bytes, "name has an odd number of bytes")?.into()))
    }

    /// The code units.
    #[must_use]
    pub fn units(&self) -> &[u16] {
        &self.0
    }

    /// Number of bytes on the wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.0.len().saturating_mul(2)
    }

    /// Whether the name is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name with every code unit upcased one to one, as volumes compare names without regard to case
    /// (MS-FSA 2.1.4.4 leaves the table to the volume; this is Unicode's simple mapping within the BMP).
    #[must_use]
    pub fn folded(&self) -> Self {
        Self(self.0.iter().map(|unit| fold_unit(*unit)).collect())
    }
}

/// One code unit upcased, if its upper case is one code unit too.
#[must_use]
pub fn fold_unit(unit: u16) -> u16 {
    if unit < 0x80 {
        return match u8::try_from(unit) {
            Ok(byte) => u16::from(byte.to_ascii_uppercase()),
            Err(_) => unit,
        };
    }
    let Some(character) = char::from_u32(u32::from(unit)) else { return unit };
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => u16::try_from(u32::from(single)).unwrap_or(unit),
        _ => unit,
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.encode_utf16().collect())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf16_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf16_lossy(&self.0), f)
    }
}
