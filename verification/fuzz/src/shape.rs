//! The property that every parser shares, and small helpers for it.

use std::fmt::Debug;

use bytes::Bytes;

/// What was parsed can be emitted, and what was emitted parses to the same value.
///
/// # Panics
/// When it does not.
pub fn round_trip<T: PartialEq + Debug, E: Debug>(
    value: &T,
    emit: impl Fn(&T, &mut Vec<u8>),
    parse: impl Fn(&Bytes) -> Result<T, E>,
) {
    round_trip_from(Vec::new(), value, emit, parse);
}

/// [`round_trip`] for what stands behind other bytes of its message.
///
/// # Panics
/// When the value is another after the trip.
pub fn round_trip_from<T: PartialEq + Debug, E: Debug>(
    start: Vec<u8>,
    value: &T,
    emit: impl Fn(&T, &mut Vec<u8>),
    parse: impl Fn(&Bytes) -> Result<T, E>,
) {
    let mut out = start;
    emit(value, &mut out);
    let bytes = Bytes::from(out);
    match parse(&bytes) {
        Ok(again) => assert_eq!(*value, again, "another value after emitting {bytes:02x?}"),
        Err(error) => panic!("{value:?} was emitted as {bytes:02x?}, which is refused: {error:?}"),
    }
}

/// The first byte, which chooses a variant of a target, and the rest.
#[must_use]
pub fn choice(input: &[u8]) -> (usize, Bytes) {
    match input.split_first() {
        Some((first, rest)) => (usize::from(*first), Bytes::copy_from_slice(rest)),
        None => (0, Bytes::new()),
    }
}

/// An input that [`choice`] splits into these.
#[must_use]
pub fn chosen(choice: usize, rest: &[u8]) -> Vec<u8> {
    let first = u8::try_from(choice).unwrap_or(u8::MAX);
    [&[first], rest].concat()
}

/// What an emitter writes.
pub fn emitted(emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out);
    out
}
