//! Extended attributes as SMB knows them, all in the one attribute `user.leasehold.eas`, which keeps their order and case.
//!
//! Layout, little-endian: version (1), then for each flags (1), length of name (1), length of value (2), name, value.

use std::ffi::CStr;

use bytes::Bytes;
use rustix::io::Errno;
use smb_proto::NtStatus;
use smb_proto::fscc::ea::{self, FullEa};

use super::handle::Inode;
use super::record::Record;
use super::xattr;
use crate::fault::{Fault, Outcome};
use crate::handles::lock;

const NAME: &CStr = c"user.leasehold.eas";
const VERSION: u8 = 1;

/// The attributes of an inode.
pub(super) fn load(inode: &Inode) -> Outcome<Vec<FullEa>> {
    match xattr::get(inode.path(), NAME)? {
        Some(value) => Ok(parse(&Bytes::from(value)).ok_or(NtStatus::EA_CORRUPT_ERROR)?),
        None => Ok(Vec::new()),
    }
}

fn parse(value: &Bytes) -> Option<Vec<FullEa>> {
    let (&VERSION, mut rest) = value.split_first()? else { return None };
    let mut list = Vec::new();
    while !rest.is_empty() {
        let ([flags, name_length, low, high], tail) = rest.split_first_chunk()?;
        let (name, tail) = tail.split_at_checked(usize::from(*name_length))?;
        let (data, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
        list.push(FullEa { flags: *flags, name: value.slice_ref(name), value: value.slice_ref(data) });
        rest = tail;
    }
    Some(list)
}

fn emit(list: &[FullEa]) -> Outcome<Vec<u8>> {
    let mut value = vec![VERSION];
    for ea in list {
        let name_length = u8::try_from(ea.name.len()).map_err(|_| NtStatus::INVALID_EA_NAME)?;
        let value_length = u16::try_from(ea.value.len()).map_err(|_| NtStatus::EA_TOO_LARGE)?;
        value.extend_from_slice(&[ea.flags, name_length]);
        value.extend_from_slice(&value_length.to_le_bytes());
        value.extend_from_slice(&ea.name);
        value.extend_from_slice(&ea.value);
    }
    Ok(value)
}

/// Sets some attributes, one after the other; an empty value removes.
pub(super) fn set(inode: &Inode, eas: &[FullEa]) -> Outcome<()> {
    let _held = lock(&inode.edit);
    let list = crate::ea::merge(load(inode)?, eas)?;
    store(inode, &list)
}

/// Replaces all attributes.
pub(super) fn replace(inode: &Inode, eas: &[FullEa]) -> Outcome<()> {
    let _held = lock(&inode.edit);
    let list = crate::ea::merge(Vec::new(), eas)?;
    store(inode, &list)
}

/// Writes the attributes and their size in the record. The inode's `edit` is held.
fn store(inode: &Inode, list: &[FullEa]) -> Outcome<()> {
    let ea_size = ea::packed_size(list);
    if list.is_empty() {
        xattr::remove(inode.path(), NAME)?;
    } else {
        match xattr::set(inode.path(), NAME, &emit(list)?) {
            Err(Errno::NOSPC) => return Err(Fault::Status(NtStatus::EA_TOO_LARGE)),
            result => result?,
        }
    }
    Ok(Record::update_held(inode, |record| record.ea_size = ea_size)?)
}
