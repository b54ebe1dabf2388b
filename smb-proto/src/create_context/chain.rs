//! The chain that create contexts stand in (MS-SMB2 2.2.13.2).

use binrw::binrw;
use bytes::Bytes;

use crate::error::Malformed;
use crate::wire;

/// More contexts than this in one message are refused: the specification names 15.
pub const CONTEXTS_MAX: usize = 64;

/// Shortest name of a context (3.3.5.9).
const NAME_MIN: usize = 4;

#[binrw]
#[brw(little)]
struct Head {
    next: u32,
    name_offset: u16,
    name_length: u16,
    reserved: u16,
    data_offset: u16,
    data_length: u32,
}

/// Size of the fixed part of a context.
const HEAD: usize = 16;

/// Cuts a chain into names and data and gives each to `decode`.
pub(super) fn parse<T>(
    chain: &Bytes,
    decode: impl Fn(Bytes, Bytes) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut contexts = Vec::new();
    let mut rest = chain.clone();
    while !rest.is_empty() {
        if contexts.len() == CONTEXTS_MAX {
            return Err(Malformed("create contexts: too many"));
        }
        let head: Head = wire::fixed(&rest, 0, "create context")?;
        let next = usize::try_from(head.next).map_err(|_| Malformed("create context: Next"))?;
        let following = match next {
            0 => Bytes::new(),
            _ if next < HEAD || wire::padding(next, 8) != 0 || next >= rest.len() => {
                return Err(Malformed("create context: Next"));
            }
            _ => rest.split_off(next),
        };
        let name_length = usize::from(head.name_length);
        if name_length < NAME_MIN {
            return Err(Malformed("create context: name is too short"));
        }
        let name = wire::slice(&rest, usize::from(head.name_offset), name_length, "create context: name")?;
        let length = usize::try_from(head.data_length).map_err(|_| Malformed("create context: data"))?;
        let data = wire::slice(&rest, usize::from(head.data_offset), length, "create context: data")?;
        contexts.push(decode(name, data)?);
        rest = following;
    }
    Ok(contexts)
}

/// Appends a chain. It must start at a multiple of 8 in its message.
pub(super) fn emit<T>(
    out: &mut Vec<u8>,
    contexts: &[T],
    name: impl Fn(&T) -> &[u8],
    emit_data: impl Fn(&T, &mut Vec<u8>),
) {
    let mut data = Vec::new();
    let mut contexts = contexts.iter().peekable();
    while let Some(context) = contexts.next() {
        data.clear();
        emit_data(context, &mut data);
        let name = name(context);
        let before_data = HEAD.saturating_add(name.len());
        let data_offset = before_data.saturating_add(wire::padding(before_data, 8));
        let size = data_offset.saturating_add(data.len());
        let next = match contexts.peek() {
            Some(_) => size.saturating_add(wire::padding(size, 8)),
            None => 0,
        };
        let start = out.len();
        let head = Head {
            next: wire::length_u32(next),
            name_offset: wire::length_u16(HEAD),
            name_length: wire::length_u16(name.len()),
            reserved: 0,
            data_offset: if data.is_empty() { 0 } else { wire::length_u16(data_offset) },
            data_length: wire::length_u32(data.len()),
        };
        wire::put(out, &head);
        out.extend_from_slice(name);
        wire::align(out, start, 8);
        out.extend_from_slice(&data);
        if next != 0 {
            wire::align(out, start, 8);
        }
    }
}
