//! Server-side copy: SRV_COPYCHUNK_COPY (MS-SMB2 2.2.31.1), SRV_COPYCHUNK_RESPONSE (2.2.32.1) and
//! SRV_REQUEST_RESUME_KEY (2.2.32.3).

use binrw::binrw;

use crate::error::Malformed;
use crate::wire;

/// The server's name for an open that is the source of copies.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResumeKey(pub [u8; 24]);

/// One range to be copied (2.2.31.1.1).
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopyChunk {
    /// Where in the source.
    pub source_offset: u64,
    /// Where in the target.
    pub target_offset: u64,
    /// Bytes.
    #[brw(pad_after = 4)] // Reserved.
    pub length: u32,
}

/// SRV_COPYCHUNK_COPY.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CopyChunkRequest {
    /// The source.
    pub source_key: ResumeKey,
    /// Ranges, in the order in which they are to be copied.
    pub chunks: Vec<CopyChunk>,
}

/// SRV_COPYCHUNK_RESPONSE. With `STATUS_INVALID_PARAMETER` the fields are the server's limits, in the same order: chunks,
/// bytes per chunk, bytes in all.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopyChunkResponse {
    /// Chunks written whole.
    pub chunks_written: u32,
    /// Bytes of the chunk that was not written whole.
    pub chunk_bytes_written: u32,
    /// Bytes in all.
    pub total_bytes_written: u32,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    source_key: ResumeKey,
    chunk_count: u32,
    reserved: u32,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 32;
/// Size of a range.
const CHUNK: usize = 24;

impl CopyChunkRequest {
    /// Reads the input. The number of chunks is bounded by the input's size only: a server with a limit answers an
    /// excess with its limits.
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter than its fixed part and its chunks.
    pub fn parse(input: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "copychunk request";
        let fixed: RequestFixed = wire::fixed(input, 0, WHAT)?;
        let count = usize::try_from(fixed.chunk_count).map_err(|_| Malformed(WHAT))?;
        let end = count.checked_mul(CHUNK).and_then(|size| size.checked_add(REQUEST_FIXED));
        let chunks = end.and_then(|end| input.get(REQUEST_FIXED..end)).ok_or(Malformed(WHAT))?;
        let chunks = chunks.chunks_exact(CHUNK).map(|chunk| wire::fixed(chunk, 0, WHAT));
        Ok(Self { source_key: fixed.source_key, chunks: chunks.collect::<Result<_, Malformed>>()? })
    }

    /// Appends the input.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let chunk_count = wire::length_u32(self.chunks.len());
        wire::put(out, &RequestFixed { source_key: self.source_key, chunk_count, reserved: 0 });
        for chunk in &self.chunks {
            wire::put(out, chunk);
        }
    }
}

impl CopyChunkResponse {
    /// Reads the output.
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(output: &[u8]) -> Result<Self, Malformed> {
        wire::fixed(output, 0, "copychunk response")
    }

    /// Appends the output.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(out, self);
    }
}

/// SRV_REQUEST_RESUME_KEY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResumeKeyResponse {
    /// The key.
    pub resume_key: ResumeKey,
}

#[binrw]
#[brw(little)]
struct ResumeKeyFixed {
    resume_key: ResumeKey,
    context_length: u32,
}

impl ResumeKeyResponse {
    /// Reads the output.
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(output: &[u8]) -> Result<Self, Malformed> {
        let fixed: ResumeKeyFixed = wire::fixed(output, 0, "resume key")?;
        Ok(Self { resume_key: fixed.resume_key })
    }

    /// Appends the output: 32 bytes, because clients reckon with four bytes of an empty context.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(out, &ResumeKeyFixed { resume_key: self.resume_key, context_length: 0 });
        out.extend_from_slice(&[0; 4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CopyChunkRequest {
        let chunk = CopyChunk { source_offset: 1 << 33, target_offset: 9, length: 1 << 20 };
        CopyChunkRequest { source_key: ResumeKey([7; 24]), chunks: vec![chunk; 3] }
    }

    #[test]
    fn requests_make_the_round_trip() {
        let mut bytes = Vec::new();
        request().emit(&mut bytes);
        assert_eq!(bytes.len(), 32 + 3 * 24);
        assert_eq!(CopyChunkRequest::parse(&bytes), Ok(request()));
        assert!((0..bytes.len()).all(|length| CopyChunkRequest::parse(&bytes[..length]).is_err()));
    }

    #[test]
    fn more_chunks_than_bytes_are_refused() {
        let mut bytes = Vec::new();
        request().emit(&mut bytes);
        for count in [4, 0x1000_0000, u32::MAX] {
            bytes[24..28].copy_from_slice(&count.to_le_bytes());
            assert!(CopyChunkRequest::parse(&bytes).is_err());
        }
    }

    #[test]
    fn responses_make_the_round_trip() {
        let response =
            CopyChunkResponse { chunks_written: 256, chunk_bytes_written: 0, total_bytes_written: 1 << 24 };
        let mut bytes = Vec::new();
        response.emit(&mut bytes);
        assert_eq!(bytes, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(CopyChunkResponse::parse(&bytes), Ok(response));
        assert!((0..12).all(|length| CopyChunkResponse::parse(&bytes[..length]).is_err()));
    }

    #[test]
    fn resume_keys_make_the_round_trip() {
        let response = ResumeKeyResponse { resume_key: ResumeKey([9; 24]) };
        let mut bytes = Vec::new();
        response.emit(&mut bytes);
        assert_eq!(bytes.len(), 32);
        assert_eq!(ResumeKeyResponse::parse(&bytes), Ok(response));
        assert!((0..28).all(|length| ResumeKeyResponse::parse(&bytes[..length]).is_err()));
    }
}
