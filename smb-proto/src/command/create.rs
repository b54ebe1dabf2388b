//! CREATE (MS-SMB2 2.2.13, 2.2.14).

use binrw::binrw;
use bytes::Bytes;

use super::oplock_break::OplockLevel;
use super::{BODY_OFFSET, FileId};
use crate::access::AccessMask;
use crate::attributes::FileAttributes;
use crate::create_context::{RequestContext, ResponseContext};
use crate::error::Malformed;
use crate::flags::{flags, values};
use crate::name::Name;
use crate::time::FileTime;
use crate::wire;

values! {
    /// Impersonation level; others than these are answered with `STATUS_BAD_IMPERSONATION_LEVEL` (3.3.5.9).
    pub struct ImpersonationLevel(u32);
    /// Anonymous.
    ANONYMOUS = 0;
    /// Identification.
    IDENTIFICATION = 1;
    /// Impersonation.
    IMPERSONATION = 2;
    /// Delegation.
    DELEGATE = 3;
}

flags! {
    /// What other opens of the file may do at the same time.
    pub struct ShareAccess(u32);
    /// Read.
    READ = 0x0000_0001;
    /// Write.
    WRITE = 0x0000_0002;
    /// Delete and rename.
    DELETE = 0x0000_0004;
    /// Everything.
    ALL = 0x0000_0007;
}

values! {
    /// What to do when the file exists, and when it doesn't; others than these are answered with
    /// `STATUS_INVALID_PARAMETER`.
    pub struct CreateDisposition(u32);
    /// Replace it, or create it.
    SUPERSEDE = 0;
    /// Open it, or fail.
    OPEN = 1;
    /// Fail, or create it.
    CREATE = 2;
    /// Open it, or create it.
    OPEN_IF = 3;
    /// Truncate it, or fail.
    OVERWRITE = 4;
    /// Truncate it, or create it.
    OVERWRITE_IF = 5;
}

flags! {
    /// Options of the open. The names are the specification's without `FILE_`.
    pub struct CreateOptions(u32);
    /// Has to be a directory.
    DIRECTORY_FILE = 0x0000_0001;
    /// Writes reach storage before they are answered.
    WRITE_THROUGH = 0x0000_0002;
    /// Access will be sequential.
    SEQUENTIAL_ONLY = 0x0000_0004;
    /// Data is not to be kept in memory.
    NO_INTERMEDIATE_BUFFERING = 0x0000_0008;
    /// Ignored.
    SYNCHRONOUS_IO_ALERT = 0x0000_0010;
    /// Ignored.
    SYNCHRONOUS_IO_NONALERT = 0x0000_0020;
    /// Must not be a directory.
    NON_DIRECTORY_FILE = 0x0000_0040;
    /// Ignored.
    COMPLETE_IF_OPLOCKED = 0x0000_0100;
    /// The client can't deal with extended attributes.
    NO_EA_KNOWLEDGE = 0x0000_0200;
    /// Ignored.
    OPEN_REMOTE_INSTANCE = 0x0000_0400;
    /// Access will be random.
    RANDOM_ACCESS = 0x0000_0800;
    /// Deleted when the last handle is closed.
    DELETE_ON_CLOSE = 0x0000_1000;
    /// The name is a file id: not supported over SMB.
    OPEN_BY_FILE_ID = 0x0000_2000;
    /// Opened for backup or restore.
    OPEN_FOR_BACKUP_INTENT = 0x0000_4000;
    /// Must not be compressed.
    NO_COMPRESSION = 0x0000_8000;
    /// Ignored.
    OPEN_REQUIRING_OPLOCK = 0x0001_0000;
    /// Ignored.
    DISALLOW_EXCLUSIVE = 0x0002_0000;
    /// Not supported over SMB.
    RESERVE_OPFILTER = 0x0010_0000;
    /// Open a reparse point itself.
    OPEN_REPARSE_POINT = 0x0020_0000;
    /// Leave the data in slow storage.
    OPEN_NO_RECALL = 0x0040_0000;
    /// Ignored.
    OPEN_FOR_FREE_SPACE_QUERY = 0x0080_0000;
    /// The bits that 2.2.13 defines.
    VALID_MASK = 0x00F3_FF7F;
}

values! {
    /// What the server did.
    pub struct CreateAction(u32);
    /// Replaced a file.
    SUPERSEDED = 0;
    /// Opened a file.
    OPENED = 1;
    /// Created a file.
    CREATED = 2;
    /// Truncated a file.
    OVERWRITTEN = 3;
}

flags! {
    /// Flags of a response (3.x).
    pub struct ResponseFlags(u8);
    /// The last component is a reparse point, and the request didn't ask to open such.
    REPARSEPOINT = 0x01;
}

/// A request to open or create.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Oplock asked for; [`OplockLevel::LEASE`] says that a context asks for a lease.
    pub oplock_level: OplockLevel,
    /// Impersonation level.
    pub impersonation_level: ImpersonationLevel,
    /// Rights asked for.
    pub desired_access: AccessMask,
    /// Attributes of a new file.
    pub file_attributes: FileAttributes,
    /// What others may do at the same time.
    pub share_access: ShareAccess,
    /// What to do when the file exists or doesn't.
    pub create_disposition: CreateDisposition,
    /// Options.
    pub create_options: CreateOptions,
    /// Path, relative to the share; with a DFS prefix if the header says so. Empty for the share's root.
    pub name: Name,
    /// Contexts.
    pub contexts: Vec<RequestContext>,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 57))]
    structure_size: u16,
    security_flags: u8,
    oplock_level: OplockLevel,
    impersonation_level: ImpersonationLevel,
    smb_create_flags: u64,
    reserved: u64,
    desired_access: AccessMask,
    file_attributes: FileAttributes,
    share_access: ShareAccess,
    create_disposition: CreateDisposition,
    create_options: CreateOptions,
    name_offset: u16,
    name_length: u16,
    contexts_offset: u32,
    contexts_length: u32,
}

/// Size of the fixed part of a request.
const REQUEST_FIXED: usize = 56;
/// Size of the fixed part of a response.
const RESPONSE_FIXED: usize = 88;

/// The bytes of the chain of contexts that a message points to.
fn contexts(message: &Bytes, offset: u32, length: u32) -> Result<Bytes, Malformed> {
    const WHAT: &str = "CREATE: contexts";
    let offset = usize::try_from(offset).map_err(|_| Malformed(WHAT))?;
    let length = usize::try_from(length).map_err(|_| Malformed(WHAT))?;
    if length != 0 && wire::padding(offset, 8) != 0 {
        return Err(Malformed("CREATE: contexts are not aligned"));
    }
    wire::slice(message, offset, length, WHAT)
}

/// Where a chain of contexts starts if it stands behind `position`; zero without contexts.
fn contexts_offset(position: usize, chain: &[u8]) -> usize {
    if chain.is_empty() { 0 } else { position.saturating_add(wire::padding(position, 8)) }
}

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short, points outside the message, or has malformed contexts or half a code unit in
    /// its name.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "CREATE request")?;
        let name = wire::slice(
            message,
            usize::from(fixed.name_offset),
            usize::from(fixed.name_length),
            "CREATE request: name",
        )?;
        let chain = contexts(message, fixed.contexts_offset, fixed.contexts_length)?;
        Ok(Self {
            oplock_level: fixed.oplock_level,
            impersonation_level: fixed.impersonation_level,
            desired_access: fixed.desired_access,
            file_attributes: fixed.file_attributes,
            share_access: fixed.share_access,
            create_disposition: fixed.create_disposition,
            create_options: fixed.create_options,
            name: Name::from_wire(&name)?,
            contexts: RequestContext::parse_chain(&chain)?,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let name_offset = BODY_OFFSET.saturating_add(REQUEST_FIXED);
        let mut chain = Vec::new();
        RequestContext::emit_chain(&self.contexts, &mut chain);
        let contexts_offset = contexts_offset(name_offset.saturating_add(self.name.wire_len()), &chain);
        let start = out.len();
        wire::put(
            out,
            &RequestFixed {
                structure_size: 57,
                security_flags: 0,
                oplock_level: self.oplock_level,
                impersonation_level: self.impersonation_level,
                smb_create_flags: 0,
                reserved: 0,
                desired_access: self.desired_access,
                file_attributes: self.file_attributes,
                share_access: self.share_access,
                create_disposition: self.create_disposition,
                create_options: self.create_options,
                name_offset: wire::length_u16(name_offset),
                name_length: wire::length_u16(self.name.wire_len()),
                contexts_offset: wire::length_u32(contexts_offset),
                contexts_length: wire::length_u32(chain.len()),
            },
        );
        wire::put_utf16(out, self.name.units());
        if !chain.is_empty() {
            wire::align(out, start, 8);
            out.extend_from_slice(&chain);
        } else if self.name.is_empty() {
            out.push(0); // StructureSize counts one byte of the buffer; peers insist that it is there.
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    /// Oplock granted; [`OplockLevel::LEASE`] says that a context holds the lease.
    pub oplock_level: OplockLevel,
    /// Flags.
    pub flags: ResponseFlags,
    /// What the server did.
    pub create_action: CreateAction,
    /// When the file was created.
    pub creation_time: FileTime,
    /// When it was last read.
    pub last_access_time: FileTime,
    /// When its data was last written.
    pub last_write_time: FileTime,
    /// When anything of it was last changed.
    pub change_time: FileTime,
    /// Bytes reserved for it.
    pub allocation_size: u64,
    /// Its size in bytes.
    pub end_of_file: u64,
    /// Its attributes.
    pub file_attributes: FileAttributes,
    /// The open.
    pub file_id: FileId,
    /// Contexts.
    pub contexts: Vec<ResponseContext>,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 89))]
    structure_size: u16,
    oplock_level: OplockLevel,
    flags: ResponseFlags,
    create_action: CreateAction,
    creation_time: u64,
    last_access_time: u64,
    last_write_time: u64,
    change_time: u64,
    allocation_size: u64,
    end_of_file: u64,
    file_attributes: FileAttributes,
    reserved2: u32,
    file_id: FileId,
    contexts_offset: u32,
    contexts_length: u32,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short, points outside the message or has malformed contexts.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "CREATE response")?;
        let chain = contexts(message, fixed.contexts_offset, fixed.contexts_length)?;
        Ok(Self {
            oplock_level: fixed.oplock_level,
            flags: fixed.flags,
            create_action: fixed.create_action,
            creation_time: FileTime(fixed.creation_time),
            last_access_time: FileTime(fixed.last_access_time),
            last_write_time: FileTime(fixed.last_write_time),
            change_time: FileTime(fixed.change_time),
            allocation_size: fixed.allocation_size,
            end_of_file: fixed.end_of_file,
            file_attributes: fixed.file_attributes,
            file_id: fixed.file_id,
            contexts: ResponseContext::parse_chain(&chain)?,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let mut chain = Vec::new();
        ResponseContext::emit_chain(&self.contexts, &mut chain);
        let contexts_offset = contexts_offset(BODY_OFFSET.saturating_add(RESPONSE_FIXED), &chain);
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 89,
                oplock_level: self.oplock_level,
                flags: self.flags,
                create_action: self.create_action,
                creation_time: self.creation_time.0,
                last_access_time: self.last_access_time.0,
                last_write_time: self.last_write_time.0,
                change_time: self.change_time.0,
                allocation_size: self.allocation_size,
                end_of_file: self.end_of_file,
                file_attributes: self.file_attributes,
                reserved2: 0,
                file_id: self.file_id,
                contexts_offset: wire::length_u32(contexts_offset),
                contexts_length: wire::length_u32(chain.len()),
            },
        );
        out.extend_from_slice(&chain);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;
    use crate::create_context::{LeaseFlags, LeaseKey, LeaseState, LeaseV1};

    fn request(name: &str, contexts: Vec<RequestContext>) -> Request {
        Request {
            oplock_level: OplockLevel::LEASE,
            impersonation_level: ImpersonationLevel::IMPERSONATION,
            desired_access: AccessMask::FILE_GENERIC_READ,
            file_attributes: FileAttributes::NORMAL,
            share_access: ShareAccess::READ.with(ShareAccess::DELETE),
            create_disposition: CreateDisposition::OPEN_IF,
            create_options: CreateOptions::NON_DIRECTORY_FILE,
            name: name.into(),
            contexts,
        }
    }

    fn lease() -> LeaseV1 {
        LeaseV1 { key: LeaseKey([5; 16]), state: LeaseState::READ_CACHING, flags: LeaseFlags::EMPTY }
    }

    fn response(contexts: Vec<ResponseContext>) -> Response {
        Response {
            oplock_level: OplockLevel::BATCH,
            flags: ResponseFlags::EMPTY,
            create_action: CreateAction::CREATED,
            creation_time: FileTime(1),
            last_access_time: FileTime(2),
            last_write_time: FileTime(3),
            change_time: FileTime(4),
            allocation_size: 4096,
            end_of_file: 5,
            file_attributes: FileAttributes::ARCHIVE,
            file_id: FileId { persistent: 6, volatile: 7 },
            contexts,
        }
    }

    #[test]
    fn round_trips() {
        let contexts = vec![RequestContext::Lease(lease()), RequestContext::QueryOnDiskId];
        for name in ["", "a", "dir\\file.txt", "\u{1F600}:stream"] {
            round_trip(&request(name, Vec::new()), Request::emit, Request::parse);
            round_trip(&request(name, contexts.clone()), Request::emit, Request::parse);
        }
        round_trip(&response(Vec::new()), Response::emit, Response::parse);
        let contexts = vec![ResponseContext::Lease(lease()), ResponseContext::DurableHandle];
        round_trip(&response(contexts), Response::emit, Response::parse);
    }

    #[test]
    fn unknown_values_are_kept() {
        let odd = Request {
            oplock_level: OplockLevel(0x55),
            impersonation_level: ImpersonationLevel(9),
            create_disposition: CreateDisposition(6),
            create_options: CreateOptions(0x8000_0000),
            ..request("x", Vec::new())
        };
        round_trip(&odd, Request::emit, Request::parse);
        assert!(!odd.create_disposition.is_known() && CreateDisposition::OPEN.is_known());
    }

    #[test]
    fn sizes_are_those_of_the_specification() {
        assert_eq!(message(|out| request("", Vec::new()).emit(out)).len(), 64 + 57);
        assert_eq!(message(|out| request("ab", Vec::new()).emit(out)).len(), 64 + 56 + 4);
        assert_eq!(message(|out| response(Vec::new()).emit(out)).len(), 64 + 88);
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let good = message(|out| request("name", vec![RequestContext::QueryOnDiskId]).emit(out));
        // NameOffset, NameLength (outside, then odd), CreateContextsOffset (outside, then unaligned), its length.
        for (position, value) in [(109, 0xFF), (111, 0xFF), (110, 7), (115, 0xFF), (112, 0x81), (119, 0xFF)] {
            let mut bytes = good.to_vec();
            bytes[position] = value;
            assert!(Request::parse(&bytes.into()).is_err(), "{position}");
        }
    }
}
