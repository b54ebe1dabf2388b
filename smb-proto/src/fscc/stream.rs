//! FileStreamInformation: the streams of a file (MS-FSCC 2.4.49).

use bytes::Bytes;

use super::Fit;
use super::chain::{Chain, ChainWriter};
use crate::error::Malformed;
use crate::name::Name;
use crate::wire;

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamEntry {
    /// In the form `:name:$DATA`; `::$DATA` for the unnamed one.
    pub name: Name,
    /// Bytes of data.
    pub size: u64,
    /// Bytes allocated.
    pub allocation_size: u64,
}

/// Size of an entry without its name.
const FIXED: usize = 24;

impl StreamEntry {
    fn wire_len(&self) -> usize {
        self.name.wire_len().saturating_add(FIXED)
    }
}

/// Appends as many streams as fit into `limit` bytes, whole entries only.
pub fn emit(streams: &[StreamEntry], out: &mut Vec<u8>, limit: usize) -> Fit {
    let mut chain = ChainWriter::new(out, limit, 8);
    for stream in streams {
        if !chain.begin(out, stream.wire_len()) {
            return Fit::Partial;
        }
        out.extend_from_slice(&wire::length_u32(stream.name.wire_len()).to_le_bytes());
        out.extend_from_slice(&stream.size.to_le_bytes());
        out.extend_from_slice(&stream.allocation_size.to_le_bytes());
        wire::put_utf16(out, stream.name.units());
    }
    Fit::Whole
}

/// Reads streams (the client's direction). No bytes are no streams, as for a directory.
///
/// # Errors
/// [`Malformed`] when an entry or a name reaches past the next entry or the end.
pub fn parse(bytes: &Bytes) -> Result<Vec<StreamEntry>, Malformed> {
    const WHAT: &str = "stream information";
    Chain::new(bytes, FIXED, 8, WHAT)
        .map(|entry| {
            let entry = entry?;
            let name_length = super::length_at(&entry, 4, WHAT)?;
            let size = super::u64_at(&entry, 8, WHAT)?;
            let allocation_size = super::u64_at(&entry, 16, WHAT)?;
            let name = Name::from_wire(&wire::slice(&entry, FIXED, name_length, WHAT)?)?;
            Ok(StreamEntry { name, size, allocation_size })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let streams = vec![
            StreamEntry { name: Name::from("::$DATA"), size: 5, allocation_size: 4096 },
            StreamEntry {
                name: Name::from(":Zone.Identifier:$DATA"),
                size: 1 << 33,
                allocation_size: 1 << 34,
            },
        ];
        let whole = |streams: &Vec<StreamEntry>, out: &mut Vec<u8>| {
            assert_eq!(emit(streams, out, 4096), Fit::Whole);
        };
        let bytes = super::super::tests::round_trip(&streams, whole, parse);
        for length in 1..bytes.len() {
            assert!(parse(&bytes.slice(..length)).is_err());
        }
        let mut out = Vec::new();
        assert_eq!(emit(&streams, &mut out, bytes.len() - 1), Fit::Partial);
        assert_eq!(parse(&out.into()).as_deref(), Ok(&streams[..1]));
    }
}
