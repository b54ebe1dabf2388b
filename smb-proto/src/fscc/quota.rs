//! Quotas of users: FILE_QUOTA_INFORMATION and FILE_GET_QUOTA_INFORMATION lists (MS-FSCC 2.4.41).

use bytes::Bytes;

use super::Fit;
use super::chain::{Chain, ChainWriter};
use super::{length_at, u64_at};
use crate::error::Malformed;
use crate::security::Sid;
use crate::time::FileTime;
use crate::wire;

/// What one user has and may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuotaEntry {
    /// When the quota was last changed.
    pub change_time: FileTime,
    /// Bytes used.
    pub used: u64,
    /// Bytes above which the user is warned; `u64::MAX` for never.
    pub threshold: u64,
    /// Bytes that the user may have; `u64::MAX` for any number, `u64::MAX - 1` to delete the entry.
    pub limit: u64,
    /// The user.
    pub sid: Sid,
}

/// Size of an entry without its SID.
const FIXED: usize = 40;
/// Size of an entry of a list of SIDs without its SID.
const GET_FIXED: usize = 8;

/// Appends as many quotas as fit into `limit` bytes, whole entries only.
pub fn emit(quotas: &[QuotaEntry], out: &mut Vec<u8>, limit: usize) -> Fit {
    let mut chain = ChainWriter::new(out, limit, 8);
    for quota in quotas {
        let sid_length = quota.sid.wire_len();
        if !chain.begin(out, FIXED.saturating_add(sid_length)) {
            return if chain.is_empty() { Fit::NoEntry } else { Fit::Partial };
        }
        out.extend_from_slice(&wire::length_u32(sid_length).to_le_bytes());
        for field in [quota.change_time.0, quota.used, quota.threshold, quota.limit] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        quota.sid.emit(out);
    }
    Fit::Whole
}

/// Reads quotas.
///
/// # Errors
/// [`Malformed`] when an entry reaches past the next one or the end, or its SID is not one.
pub fn parse(bytes: &Bytes) -> Result<Vec<QuotaEntry>, Malformed> {
    const WHAT: &str = "quota information";
    Chain::new(bytes, FIXED, 8, WHAT)
        .map(|entry| {
            let entry = entry?;
            Ok(QuotaEntry {
                change_time: FileTime(u64_at(&entry, 8, WHAT)?),
                used: u64_at(&entry, 16, WHAT)?,
                threshold: u64_at(&entry, 24, WHAT)?,
                limit: u64_at(&entry, 32, WHAT)?,
                sid: sid(&entry, FIXED)?,
            })
        })
        .collect()
}

/// Appends a list of users whose quotas are asked for (the client's direction).
pub fn emit_get(sids: &[Sid], out: &mut Vec<u8>) {
    let mut chain = ChainWriter::new(out, usize::MAX, 4);
    for sid in sids {
        chain.begin(out, GET_FIXED.saturating_add(sid.wire_len()));
        out.extend_from_slice(&wire::length_u32(sid.wire_len()).to_le_bytes());
        sid.emit(out);
    }
}

/// Reads a list of users whose quotas are asked for.
///
/// # Errors
/// [`Malformed`] when an entry reaches past the next one or the end, or its SID is not one.
pub fn parse_get(bytes: &Bytes) -> Result<Vec<Sid>, Malformed> {
    Chain::new(bytes, GET_FIXED, 4, "list of quotas to get").map(|entry| sid(&entry?, GET_FIXED)).collect()
}

/// The SID at `offset` of an entry, whose length is given behind the entry's first field.
fn sid(entry: &Bytes, offset: usize) -> Result<Sid, Malformed> {
    const WHAT: &str = "quota information: SID";
    let length = length_at(entry, 4, WHAT)?;
    let sid = Sid::parse(&wire::slice(entry, offset, length, WHAT)?)?;
    if sid.wire_len() == length { Ok(sid) } else { Err(Malformed(WHAT)) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::round_trip;
    use super::*;

    #[test]
    fn round_trips() {
        let quota =
            |sid, used| QuotaEntry { change_time: FileTime(9), used, threshold: 5, limit: u64::MAX, sid };
        let quotas = vec![quota(Sid::BUILTIN_ADMINISTRATORS, 1), quota(Sid::EVERYONE, 2)];
        let whole =
            |quotas: &Vec<QuotaEntry>, out: &mut Vec<u8>| assert_eq!(emit(quotas, out, 1000), Fit::Whole);
        let bytes = round_trip(&quotas, whole, parse);
        for length in 1..bytes.len() {
            assert!(parse(&bytes.slice(..length)).is_err());
        }
        assert_eq!(emit(&quotas, &mut Vec::new(), bytes.len() - 1), Fit::Partial);
        assert_eq!(emit(&quotas, &mut Vec::new(), 50), Fit::NoEntry);
        let sids = vec![Sid::EVERYONE, Sid::BUILTIN_USERS];
        round_trip(&sids, |sids, out| emit_get(sids, out), parse_get);
    }
}
