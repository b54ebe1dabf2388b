//! TREE_CONNECT (MS-SMB2 2.2.9, 2.2.10).
//!
//! The contexts of the request's extension (3.1.1) are carried as they are: remoted identities (2.2.9.2.1) are not
//! taken apart.

use binrw::binrw;
use bytes::Bytes;

use super::BODY_OFFSET;
use crate::access::AccessMask;
use crate::error::Malformed;
use crate::flags::{flags, values};
use crate::name::Name;
use crate::wire;

flags! {
    /// Flags of a request (3.1.1; reserved before).
    pub struct Flags(u16);
    /// The client was connected to this cluster share before.
    CLUSTER_RECONNECT = 0x0001;
    /// The client understands a share redirect in the error response.
    REDIRECT_TO_OWNER = 0x0002;
    /// An extension stands in front of the path.
    EXTENSION_PRESENT = 0x0004;
}

values! {
    /// Type of a context in a request's extension.
    pub struct ContextType(u16);
    /// SMB2_REMOTED_IDENTITY_TREE_CONNECT_CONTEXT_ID.
    REMOTED_IDENTITY = 0x0001;
}

/// A context of a request's extension (2.2.9.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TreeConnectContext {
    /// The type.
    pub context_type: ContextType,
    /// The data.
    pub data: Bytes,
}

/// A request for a share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// Flags.
    pub flags: Flags,
    /// `\\server\share`.
    pub path: Name,
    /// The extension's contexts. Empty also when the extension cannot be read, because whether it counts at all is
    /// the server's to decide (3.3.5.7).
    pub contexts: Vec<TreeConnectContext>,
}

#[binrw]
#[brw(little)]
struct RequestFixed {
    #[br(assert(structure_size == 9))]
    structure_size: u16,
    flags: Flags,
    path_offset: u16,
    path_length: u16,
}

/// Where the buffer of a request starts.
const BUFFER_OFFSET: usize = BODY_OFFSET.saturating_add(8);

#[binrw]
#[brw(little)]
struct Extension {
    /// From the start of the body. (The specification says "of the request", unlike everywhere else "of the header".)
    context_offset: u32,
    context_count: u16,
    reserved: [u8; 10],
}

/// Size of an extension without path and contexts.
const EXTENSION_SIZE: usize = 16;

#[binrw]
#[brw(little)]
struct ContextHead {
    context_type: ContextType,
    data_length: u16,
    reserved: u32,
}

/// Size of the fixed part in front of a context's data.
const CONTEXT_HEAD_SIZE: usize = 8;
/// Contexts start at multiples of this, like those of NEGOTIATE.
const CONTEXT_ALIGNMENT: usize = 8;

impl Request {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short, points outside the message, or the path has an odd number of bytes.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: RequestFixed = wire::fixed(message, BODY_OFFSET, "TREE_CONNECT request")?;
        let path = wire::slice(
            message,
            usize::from(fixed.path_offset),
            usize::from(fixed.path_length),
            "TREE_CONNECT request: path",
        )?;
        let contexts = if fixed.flags.contains(Flags::EXTENSION_PRESENT) {
            parse_contexts(message).unwrap_or_default()
        } else {
            Vec::new()
        };
        Ok(Self { flags: fixed.flags, path: Name::from_wire(&path)?, contexts })
    }

    /// Appends the body, with an extension if the flags say so.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let extended = self.flags.contains(Flags::EXTENSION_PRESENT);
        let path_offset = BUFFER_OFFSET.saturating_add(if extended { EXTENSION_SIZE } else { 0 });
        let fixed = RequestFixed {
            structure_size: 9,
            flags: self.flags,
            path_offset: wire::length_u16(path_offset),
            path_length: wire::length_u16(self.path.wire_len()),
        };
        wire::put(out, &fixed);
        if extended {
            let path_end = path_offset.saturating_add(self.path.wire_len());
            let contexts = path_end.saturating_add(wire::padding(path_end, CONTEXT_ALIGNMENT));
            let extension = Extension {
                context_offset: wire::length_u32(contexts.saturating_sub(BODY_OFFSET)),
                context_count: wire::length_u16(self.contexts.len()),
                reserved: [0; 10],
            };
            wire::put(out, &extension);
        }
        wire::put_utf16(out, self.path.units());
        if extended {
            for context in &self.contexts {
                wire::align(out, 0, CONTEXT_ALIGNMENT);
                let head = ContextHead {
                    context_type: context.context_type,
                    data_length: wire::length_u16(context.data.len()),
                    reserved: 0,
                };
                wire::put(out, &head);
                out.extend_from_slice(&context.data);
            }
        }
    }
}

fn parse_contexts(message: &Bytes) -> Result<Vec<TreeConnectContext>, Malformed> {
    const WHAT: &str = "TREE_CONNECT request: extension";
    let extension: Extension = wire::fixed(message, BUFFER_OFFSET, WHAT)?;
    let offset = usize::try_from(extension.context_offset).map_err(|_| Malformed(WHAT))?;
    let mut position = BODY_OFFSET.checked_add(offset).ok_or(Malformed(WHAT))?;
    let mut contexts = Vec::new();
    for _ in 0..extension.context_count {
        position = position.checked_add(wire::padding(position, CONTEXT_ALIGNMENT)).ok_or(Malformed(WHAT))?;
        let head: ContextHead = wire::fixed(message, position, WHAT)?;
        position = position.checked_add(CONTEXT_HEAD_SIZE).ok_or(Malformed(WHAT))?;
        let data_length = usize::from(head.data_length);
        let data = wire::slice(message, position, data_length, WHAT)?;
        contexts.push(TreeConnectContext { context_type: head.context_type, data });
        position = position.checked_add(data_length).ok_or(Malformed(WHAT))?;
    }
    Ok(contexts)
}

values! {
    /// What is shared.
    pub struct ShareType(u8);
    /// A disk.
    DISK = 0x01;
    /// Named pipes.
    PIPE = 0x02;
    /// A printer.
    PRINT = 0x03;
}

flags! {
    /// Properties of a share. Two bits of them are not a set but one of four policies for offline caching.
    pub struct ShareFlags(u32);
    /// The share is in a DFS tree.
    DFS = 0x0000_0001;
    /// The share is the root of a DFS tree.
    DFS_ROOT = 0x0000_0002;
    /// Offline caching: of files that the user chooses.
    MANUAL_CACHING = 0x0000_0000;
    /// Offline caching: of files that the user opens.
    AUTO_CACHING = 0x0000_0010;
    /// Offline caching: of files that the user opens, which may be used from the cache while the share can be reached.
    VDO_CACHING = 0x0000_0020;
    /// Offline caching: none.
    NO_CACHING = 0x0000_0030;
    /// The bits of offline caching.
    CACHING_MASK = 0x0000_0030;
    /// Nobody can deny reading.
    RESTRICT_EXCLUSIVE_OPENS = 0x0000_0100;
    /// Nobody can deny deletion.
    FORCE_SHARED_DELETE = 0x0000_0200;
    /// Ignored by clients.
    ALLOW_NAMESPACE_CACHING = 0x0000_0400;
    /// Listings show what the user may read.
    ACCESS_BASED_DIRECTORY_ENUM = 0x0000_0800;
    /// No exclusive caching.
    FORCE_LEVELII_OPLOCK = 0x0000_1000;
    /// BranchCache hashes of version 1 (2.1).
    ENABLE_HASH_V1 = 0x0000_2000;
    /// BranchCache hashes of version 2 (3.0).
    ENABLE_HASH_V2 = 0x0000_4000;
    /// Messages must be encrypted (3.0).
    ENCRYPT_DATA = 0x0000_8000;
    /// Remoted identities are understood (3.1.1).
    IDENTITY_REMOTING = 0x0004_0000;
    /// Reads and writes may be compressed (3.1.1).
    COMPRESS_DATA = 0x0010_0000;
    /// Connections of the share's own are preferred.
    ISOLATED_TRANSPORT = 0x0020_0000;
}

flags! {
    /// What a share can do.
    pub struct ShareCapabilities(u32);
    /// The share is in a DFS tree.
    DFS = 0x0000_0008;
    /// The share is continuously available (3.0): handles can be persistent.
    CONTINUOUS_AVAILABILITY = 0x0000_0010;
    /// Every node of a cluster serves the share (3.0).
    SCALEOUT = 0x0000_0020;
    /// A witness watches over the share (3.0).
    CLUSTER = 0x0000_0040;
    /// The owner of the share may move (3.0.2).
    ASYMMETRIC = 0x0000_0080;
    /// The server redirects to the owner of the share (3.1.1).
    REDIRECT_TO_OWNER = 0x0000_0100;
}

/// The answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Response {
    /// What is shared.
    pub share_type: ShareType,
    /// Properties of the share.
    pub share_flags: ShareFlags,
    /// What the share can do.
    pub capabilities: ShareCapabilities,
    /// Most access that the user can have through the share.
    pub maximal_access: AccessMask,
}

#[binrw]
#[brw(little)]
struct ResponseFixed {
    #[br(assert(structure_size == 16))]
    structure_size: u16,
    share_type: ShareType,
    reserved: u8,
    share_flags: ShareFlags,
    capabilities: ShareCapabilities,
    maximal_access: AccessMask,
}

impl Response {
    /// Reads the body of a message (header included in `message`).
    ///
    /// # Errors
    /// [`Malformed`] when it is short.
    pub fn parse(message: &Bytes) -> Result<Self, Malformed> {
        let fixed: ResponseFixed = wire::fixed(message, BODY_OFFSET, "TREE_CONNECT response")?;
        Ok(Self {
            share_type: fixed.share_type,
            share_flags: fixed.share_flags,
            capabilities: fixed.capabilities,
            maximal_access: fixed.maximal_access,
        })
    }

    /// Appends the body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &ResponseFixed {
                structure_size: 16,
                share_type: self.share_type,
                reserved: 0,
                share_flags: self.share_flags,
                capabilities: self.capabilities,
                maximal_access: self.maximal_access,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, round_trip};
    use super::*;

    fn extended() -> Request {
        Request {
            flags: Flags::EXTENSION_PRESENT.with(Flags::CLUSTER_RECONNECT),
            path: Name::from(r"\\server\odd"),
            contexts: vec![
                TreeConnectContext {
                    context_type: ContextType::REMOTED_IDENTITY,
                    data: Bytes::from_static(&[7; 13]),
                },
                TreeConnectContext { context_type: ContextType(9), data: Bytes::new() },
            ],
        }
    }

    #[test]
    fn round_trips() {
        let request =
            Request { flags: Flags::EMPTY, path: Name::from(r"\\server\share"), contexts: Vec::new() };
        round_trip(&request, Request::emit, Request::parse);
        round_trip(&extended(), Request::emit, Request::parse);
        let response = Response {
            share_type: ShareType::DISK,
            share_flags: ShareFlags::NO_CACHING.with(ShareFlags::ENCRYPT_DATA),
            capabilities: ShareCapabilities::CONTINUOUS_AVAILABILITY,
            maximal_access: AccessMask::FILE_ALL_ACCESS,
        };
        round_trip(&response, Response::emit, Response::parse);
        assert_eq!(message(|out| response.emit(out)).len(), 80);
    }

    #[test]
    fn paths_outside_of_the_message_or_of_odd_length_are_refused() {
        let request = Request { path: Name::from(r"\\s\t"), ..Request::default() };
        let bytes = message(|out| request.emit(out)).to_vec();
        for (position, value) in [(68, 73), (69, 0xFF), (70, 9), (71, 1)] {
            let mut broken = bytes.clone();
            broken[position] = value;
            assert!(Request::parse(&broken.into()).is_err(), "byte {position}");
        }
    }

    #[test]
    fn a_broken_extension_leaves_path_and_flags() {
        let bytes = message(|out| extended().emit(out));
        for context_offset in [u32::MAX, u32::MAX - 63, 200] {
            let mut broken = bytes.to_vec();
            broken[72..76].copy_from_slice(&context_offset.to_le_bytes());
            let read = Request::parse(&broken.into());
            assert_eq!(read, Ok(Request { contexts: Vec::new(), ..extended() }));
        }
    }
}
