//! Primitives that every message uses: bounds-checked reading, fixed structures, aligned writing.
//!
//! Fixed parts of messages are binrw structures, read by [`fixed`] and written by [`put`]. Variable parts are
//! cut out of the message by [`slice()`] as reference-counted [`Bytes`], never copied.

use std::io::Cursor;

use binrw::meta::{ReadEndian, WriteEndian};
use binrw::{BinRead, BinWrite, io::NoSeek};
use bytes::Bytes;

use crate::error::Malformed;

/// Reads a fixed structure at `offset` of `bytes`.
///
/// # Errors
/// [`Malformed`] with `what` when the bytes end early or a closed field holds an undefined value.
pub fn fixed<T>(bytes: &[u8], offset: usize, what: &'static str) -> Result<T, Malformed>
where
    T: BinRead + ReadEndian,
    for<'a> T::Args<'a>: Default,
{
    let tail = bytes.get(offset..).ok_or(Malformed(what))?;
    T::read(&mut Cursor::new(tail)).map_err(|_| Malformed(what))
}

/// Appends a fixed structure to `out`.
pub fn put<T>(out: &mut Vec<u8>, value: &T)
where
    T: BinWrite + WriteEndian,
    for<'a> T::Args<'a>: Default,
{
    // Writing into a vector has no error of its own, and our structures have no write assertions.
    let result = value.write(&mut NoSeek::new(out));
    debug_assert!(result.is_ok(), "a fixed structure refused to be written");
}

/// `length` bytes at `offset` of `bytes`, sharing its storage. A `length` of zero is empty whatever `offset` says,
/// because senders leave the offset of an absent part undefined.
///
/// # Errors
/// [`Malformed`] with `what` when the range is not inside `bytes`.
pub fn slice(bytes: &Bytes, offset: usize, length: usize, what: &'static str) -> Result<Bytes, Malformed> {
    if length == 0 {
        return Ok(Bytes::new());
    }
    let end = offset.checked_add(length).ok_or(Malformed(what))?;
    if end > bytes.len() {
        return Err(Malformed(what));
    }
    Ok(bytes.slice(offset..end))
}

/// Bytes missing from `position` to the next multiple of `alignment` (a power of two).
#[must_use]
pub const fn padding(position: usize, alignment: usize) -> usize {
    position.wrapping_neg() & alignment.wrapping_sub(1)
}

/// Appends zeros until `out` is a multiple of `alignment` long, counted from `start`.
pub fn align(out: &mut Vec<u8>, start: usize, alignment: usize) {
    let written = out.len().saturating_sub(start);
    out.resize(out.len().saturating_add(padding(written, alignment)), 0);
}

/// Overwrites four bytes at `position` with a little-endian value: for sizes and offsets known only after what
/// follows them is written. Positions outside `out` are ignored (a caller's mistake, caught in debug builds).
pub fn patch_u32(out: &mut [u8], position: usize, value: u32) {
    let target = position.checked_add(4).and_then(|end| out.get_mut(position..end));
    debug_assert!(target.is_some(), "patched outside what was written");
    if let Some(target) = target {
        target.copy_from_slice(&value.to_le_bytes());
    }
}

/// Little-endian UTF-16 code units of an even number of bytes.
///
/// # Errors
/// [`Malformed`] with `what` for an odd number of bytes.
pub fn utf16(bytes: &[u8], what: &'static str) -> Result<Vec<u16>, Malformed> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
    } else {
        Err(Malformed(what))
    }
}

/// Appends UTF-16 code units, little-endian.
pub fn put_utf16(out: &mut Vec<u8>, units: &[u16]) {
    let start = out.len();
    out.resize(start.saturating_add(units.len().saturating_mul(2)), 0);
    let (pairs, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<2>();
    for (pair, unit) in pairs.iter_mut().zip(units) {
        *pair = unit.to_le_bytes();
    }
}

/// A length for a 32-bit field of the wire. Everything emitted is bounded far below this by configuration.
#[must_use]
pub fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A length for a 16-bit field of the wire.
#[must_use]
pub fn length_u16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
