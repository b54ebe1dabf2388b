//! NetrConnectionEnum, NetrFileEnum, NetrSessionEnum (MS-SRVS 3.1.4.1, 3.1.4.2, 3.1.4.5): what others do on the server.
//!
//! Entries are deliberately not here: ordinary users are refused them.

use super::{MAX_PREFERRED_LENGTH, opnum, read_tag};
use crate::error::Malformed;
use crate::rpc::Win32Error;
use crate::rpc::ndr::{Reader, Writer};

/// An enumeration of connections, files or sessions (MS-SRVS 3.1.4.1, 3.1.4.2, 3.1.4.5): no more of it than a refusal
/// needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivityEnum {
    /// The level.
    pub level: u32,
    /// Where to go on.
    pub resume_handle: Option<u32>,
}

/// The levels that a method's union has arms for, and how many strings its arguments have in front of the level.
fn activity_method(opnum: u16) -> (&'static [u32], usize) {
    match opnum {
        opnum::CONNECTION_ENUM => (&[0, 1], 2),
        opnum::FILE_ENUM => (&[2, 3], 3),
        opnum::SESSION_ENUM => (&[0, 1, 2, 10, 502], 3),
        _ => (&[], 1),
    }
}

impl ActivityEnum {
    /// Reads a stub of the method `opnum`. Entries that a caller sent along hide the resume handle, which counts as
    /// absent then, as it does when the level is not one of the method's.
    ///
    /// # Errors
    /// [`Malformed`] when the stub is not what the method takes.
    pub fn parse(opnum: u16, stub: &[u8]) -> Result<Self, Malformed> {
        let (levels, strings) = activity_method(opnum);
        let mut reader = Reader::new(stub);
        for _ in 0..strings {
            reader.unique_string()?;
        }
        let level = reader.u32()?;
        read_tag(&mut reader, level)?;
        if !levels.contains(&level) {
            return Ok(Self { level, resume_handle: None });
        }
        if reader.pointer()? {
            reader.u32()?;
            if reader.pointer()? {
                return Ok(Self { level, resume_handle: None });
            }
        }
        reader.u32()?;
        Ok(Self { level, resume_handle: reader.unique_u32()? })
    }

    /// The stub of arguments without names and entries, for everything there is.
    #[must_use]
    pub fn emit(&self, opnum: u16) -> Vec<u8> {
        let (levels, strings) = activity_method(opnum);
        let mut writer = Writer::new();
        for _ in 0..strings {
            writer.unique_string(None);
        }
        writer.u32(self.level);
        writer.u32(self.level);
        if levels.contains(&self.level) {
            writer.pointer(true);
            writer.u32(0);
            writer.pointer(false);
        }
        writer.u32(MAX_PREFERRED_LENGTH);
        writer.unique_u32(self.resume_handle);
        writer.into_bytes()
    }

    /// The stub of results that refuses with `status`, or with [`Win32Error::INVALID_LEVEL`] if that comes first.
    #[must_use]
    pub fn refusal(&self, opnum: u16, status: Win32Error) -> Vec<u8> {
        let (levels, _) = activity_method(opnum);
        let known = levels.contains(&self.level);
        let mut writer = Writer::new();
        writer.u32(self.level);
        writer.u32(self.level);
        if known {
            writer.pointer(false);
        }
        writer.u32(0);
        writer.unique_u32(self.resume_handle);
        writer.u32(if known { status } else { Win32Error::INVALID_LEVEL }.0);
        writer.into_bytes()
    }
}
