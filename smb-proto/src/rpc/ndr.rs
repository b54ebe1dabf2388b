//! NDR 2.0, little-endian (C706 chapter 14; MS-RPCE 2.2.4): aligned primitives, unique pointers, conformant and
//! varying arrays.
//!
//! A structure is written in two passes, as NDR lays it out: its fixed part with a referent identifier for every
//! pointer, then the referents in the same order. An array of structures has all fixed parts before the first
//! referent. [`Reader::structures`] and [`Writer::structures`] do that for flat structures, those of 32-bit numbers
//! and pointers to strings or bytes, which is every structure of the services here.

use crate::error::Malformed;
use crate::name::Name;
use crate::wire;

const SHORT: Malformed = Malformed("NDR: data ends early");

/// What a member of a flat structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A 32-bit number.
    Number,
    /// A unique pointer to a string.
    Text,
    /// A unique pointer to an array of bytes, sized by the number in front of it.
    Bytes,
}

/// The value of a member of a flat structure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Of [`Kind::Number`].
    Number(u32),
    /// Of [`Kind::Text`]; `None` is the null pointer.
    Text(Option<Name>),
    /// Of [`Kind::Bytes`]; `None` is the null pointer.
    Bytes(Option<Vec<u8>>),
}

/// Reads NDR from the start of a stub, or fields of a PDU from the start of the PDU: both align alike.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; alignment counts from their start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// The next `length` bytes, without alignment.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.rest().get(..length).ok_or(SHORT)?;
        self.position = self.position.saturating_add(length);
        Ok(taken)
    }

    /// Skips to a multiple of `alignment`, a power of two.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end before it.
    pub fn align(&mut self, alignment: usize) -> Result<(), Malformed> {
        self.take(wire::padding(self.position, alignment)).map(|_| ())
    }

    /// `N` bytes as they stand.
    ///
    /// # Errors
    /// [`Malformed`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    /// A byte.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// An aligned 16-bit number.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.align(2)?;
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// An aligned 32-bit number.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A referent identifier of a unique pointer: whether a referent follows.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn pointer(&mut self) -> Result<bool, Malformed> {
        Ok(self.u32()? != 0)
    }

    /// A number behind a unique pointer that is a parameter of its own (its referent follows at once).
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn unique_u32(&mut self) -> Result<Option<u32>, Malformed> {
        if self.pointer()? { self.u32().map(Some) } else { Ok(None) }
    }

    /// A string behind a unique pointer that is a parameter of its own.
    ///
    /// # Errors
    /// As [`Reader::string`].
    pub fn unique_string(&mut self) -> Result<Option<Name>, Malformed> {
        if self.pointer()? { self.string().map(Some) } else { Ok(None) }
    }

    /// A conformant and varying string of UTF-16, ended by a zero that is not part of the name.
    ///
    /// # Errors
    /// [`Malformed`] when the counts contradict each other or the bytes, or the zero is missing.
    pub fn string(&mut self) -> Result<Name, Malformed> {
        let maximum = self.u32()?;
        let offset = self.u32()?;
        let actual = self.u32()?;
        if offset != 0 || actual > maximum {
            return Err(Malformed("NDR string: counts contradict each other"));
        }
        let length = usize::try_from(actual).ok().and_then(|units| units.checked_mul(2)).ok_or(SHORT)?;
        let units = wire::utf16(self.take(length)?, "NDR string")?;
        let end = units.iter().position(|unit| *unit == 0).ok_or(Malformed("NDR string: not terminated"))?;
        Ok(Name::from_units(units.get(..end).unwrap_or_default()))
    }

    /// The count of a conformant array whose elements take at least `element_size` bytes each.
    ///
    /// # Errors
    /// [`Malformed`] when it is not `expected` (the member that sizes it) or more than the bytes can hold.
    pub fn count(&mut self, expected: u32, element_size: usize) -> Result<usize, Malformed> {
        let count = self.u32()?;
        if count != expected {
            return Err(Malformed("NDR array: its size contradicts its count"));
        }
        let count = usize::try_from(count).map_err(|_| SHORT)?;
        if count.checked_mul(element_size.max(1)).is_none_or(|size| size > self.rest().len()) {
            return Err(SHORT);
        }
        Ok(count)
    }

    /// `count` flat structures of one layout, with their referents. `count` must have passed [`Reader::count`], or be
    /// small.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end early or contradict themselves.
    pub fn structures(&mut self, layout: &[Kind], count: usize) -> Result<Vec<Vec<Value>>, Malformed> {
        let mut structures = Vec::with_capacity(count.min(self.rest().len()));
        for _ in 0..count {
            let mut members = Vec::with_capacity(layout.len());
            for _ in layout {
                members.push(self.u32()?);
            }
            structures.push(members);
        }
        structures.into_iter().map(|members| self.referents(layout, &members)).collect()
    }

    fn referents(&mut self, layout: &[Kind], members: &[u32]) -> Result<Vec<Value>, Malformed> {
        let mut values = Vec::with_capacity(layout.len());
        let mut previous = 0;
        for (kind, member) in layout.iter().zip(members) {
            values.push(match kind {
                Kind::Number => Value::Number(*member),
                Kind::Text if *member == 0 => Value::Text(None),
                Kind::Text => Value::Text(Some(self.string()?)),
                Kind::Bytes if *member == 0 => Value::Bytes(None),
                Kind::Bytes => {
                    let length = self.count(previous, 1)?;
                    Value::Bytes(Some(self.take(length)?.to_vec()))
                }
            });
            previous = *member;
        }
        Ok(values)
    }
}

/// Writes NDR; alignment counts from the start of what this writer wrote.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    pointers: u32,
}

/// The first referent identifier. Any nonzero number does; distinct ones from here on are customary.
const FIRST_REFERENT: u32 = 0x0002_0000;

impl Writer {
    /// Nothing written yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), pointers: 0 }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes as they stand, without alignment.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Zeros up to a multiple of `alignment`, a power of two.
    pub fn align(&mut self, alignment: usize) {
        wire::align(&mut self.bytes, 0, alignment);
    }

    /// A byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// An aligned 16-bit number.
    pub fn u16(&mut self, value: u16) {
        self.align(2);
        self.put(&value.to_le_bytes());
    }

    /// An aligned 32-bit number.
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.put(&value.to_le_bytes());
    }

    /// A referent identifier of its own, or the null pointer.
    pub fn pointer(&mut self, present: bool) {
        if present {
            self.u32(FIRST_REFERENT.wrapping_add(self.pointers.wrapping_mul(4)));
            self.pointers = self.pointers.wrapping_add(1);
        } else {
            self.u32(0);
        }
    }

    /// A number behind a unique pointer that is a parameter of its own.
    pub fn unique_u32(&mut self, value: Option<u32>) {
        self.pointer(value.is_some());
        if let Some(value) = value {
            self.u32(value);
        }
    }

    /// A string behind a unique pointer that is a parameter of its own.
    pub fn unique_string(&mut self, value: Option<&Name>) {
        self.pointer(value.is_some());
        if let Some(value) = value {
            self.string(value);
        }
    }

    /// A conformant and varying string with its terminating zero; a zero inside the name would end it there.
    pub fn string(&mut self, value: &Name) {
        let units = value.units().split(|unit| *unit == 0).next().unwrap_or_default();
        let count = wire::length_u32(units.len().saturating_add(1));
        self.u32(count);
        self.u32(0);
        self.u32(count);
        wire::put_utf16(&mut self.bytes, units);
        self.put(&[0, 0]);
    }

    /// Flat structures with their referents: all fixed parts, then all referents.
    pub fn structures(&mut self, structures: &[Vec<Value>]) {
        for value in structures.iter().flatten() {
            match value {
                Value::Number(number) => self.u32(*number),
                Value::Text(text) => self.pointer(text.is_some()),
                Value::Bytes(bytes) => self.pointer(bytes.is_some()),
            }
        }
        for value in structures.iter().flatten() {
            match value {
                Value::Text(Some(text)) => self.string(text),
                Value::Bytes(Some(bytes)) => {
                    self.u32(wire::length_u32(bytes.len()));
                    self.put(bytes);
                }
                Value::Number(_) | Value::Text(None) | Value::Bytes(None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_that_of_ndr() {
        let mut writer = Writer::new();
        writer.u8(1);
        writer.u16(0x0302);
        writer.u32(0x0706_0504);
        writer.unique_string(Some(&Name::from("ab")));
        writer.unique_u32(Some(9));
        let expected: Vec<u8> = [
            &[1, 0, 2, 3, 4, 5, 6, 7][..],
            &[0, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0],
            &[b'a', 0, b'b', 0, 0, 0, 0, 0],
            &[4, 0, 2, 0, 9, 0, 0, 0],
        ]
        .concat();
        let bytes = writer.into_bytes();
        assert_eq!(bytes, expected);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0302));
        assert_eq!(reader.u32(), Ok(0x0706_0504));
        assert_eq!(reader.unique_string(), Ok(Some(Name::from("ab"))));
        assert_eq!(reader.unique_u32(), Ok(Some(9)));
        assert!(reader.rest().is_empty());
    }

    #[test]
    fn referents_follow_all_fixed_parts() {
        let rows = vec![
            vec![Value::Text(Some(Name::from("a"))), Value::Number(3), Value::Bytes(Some(vec![7, 8, 9]))],
            vec![Value::Text(None), Value::Number(0), Value::Bytes(None)],
            vec![Value::Text(Some(Name::from(""))), Value::Number(0), Value::Bytes(Some(Vec::new()))],
        ];
        let mut writer = Writer::new();
        writer.structures(&rows);
        let bytes = writer.into_bytes();
        assert_eq!(bytes[36..52], [2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'a', 0, 0, 0]);
        let layout = [Kind::Text, Kind::Number, Kind::Bytes];
        assert_eq!(Reader::new(&bytes).structures(&layout, 3), Ok(rows));
        for length in 0..bytes.len() {
            assert!(Reader::new(&bytes[..length]).structures(&layout, 3).is_err(), "{length}");
        }
    }

    #[test]
    fn hostile_counts_are_refused_before_anything_is_allocated() {
        let string = |maximum: u32, offset: u32, actual: u32, units: &[u16]| {
            let mut writer = Writer::new();
            for number in [maximum, offset, actual] {
                writer.u32(number);
            }
            for unit in units {
                writer.u16(*unit);
            }
            Reader::new(&writer.into_bytes()).string().is_err()
        };
        assert!(!string(9, 0, 2, &[65, 0]));
        assert!(string(u32::MAX, 0, u32::MAX, &[65, 0]));
        assert!(string(2, 1, 1, &[65, 0]));
        assert!(string(1, 0, 2, &[65, 0]));
        assert!(string(2, 0, 2, &[65, 66]));
        assert!(string(0, 0, 0, &[]));
        let huge = u32::MAX.to_le_bytes();
        assert!(Reader::new(&huge).count(u32::MAX, 12).is_err());
        assert!(Reader::new(&huge).structures(&[Kind::Number], usize::MAX).is_err());
    }
}
