//! Good messages, to start from.

use bytes::Bytes;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::create::{CreateDisposition, CreateOptions, ImpersonationLevel, ShareAccess};
use smb_proto::command::ioctl::{CopyChunk, CopyChunkRequest, ResumeKey};
use smb_proto::command::negotiate::Dialect;
use smb_proto::command::negotiate_context::{
    Cipher, CompressionAlgorithm, CompressionFlags, HashAlgorithm, NegotiateContext, SigningAlgorithm,
};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::command::{FileId, Request, create, negotiate, smb1, tree_connect};
use smb_proto::create_context::{
    DurableFlags, DurableReconnectV2, DurableRequestV2, LeaseFlags, LeaseKey, LeaseState, LeaseV1, LeaseV2,
    RequestContext,
};
use smb_proto::rpc::Service;
use smb_proto::rpc::client::PipeClient;
use smb_proto::security::acl::{Ace, AceFlags, Acl};
use smb_proto::security::descriptor::SecurityDescriptor;
use smb_proto::security::sid::Sid;
use smb_proto::{AccessMask, FileTime};

use super::generate::client_negotiate;
use crate::script::Script;
use crate::shape::emitted;

/// Every dialect, lowest first.
pub const DIALECTS: [Dialect; 5] =
    [Dialect::SMB_2_0_2, Dialect::SMB_2_1, Dialect::SMB_3_0, Dialect::SMB_3_0_2, Dialect::SMB_3_1_1];

/// A NEGOTIATE of these dialects, with the contexts of 3.1.1.
#[must_use]
pub fn negotiate(dialects: &[Dialect], everything: bool) -> negotiate::Request {
    let mut contexts = vec![NegotiateContext::PreauthIntegrity {
        algorithms: vec![HashAlgorithm(1)],
        salt: Bytes::from_static(&[4; 32]),
    }];
    if everything {
        contexts.extend([
            NegotiateContext::Encryption { ciphers: vec![Cipher(2), Cipher(1)] },
            NegotiateContext::Signing { algorithms: vec![SigningAlgorithm(2), SigningAlgorithm(1)] },
            NegotiateContext::Compression {
                flags: CompressionFlags(0),
                algorithms: vec![CompressionAlgorithm(1)],
            },
            NegotiateContext::NetName("server".into()),
        ]);
    }
    negotiate::Request { contexts, ..client_negotiate(dialects) }
}

/// SMB1's NEGOTIATE for SMB2.
#[must_use]
pub fn smb1_negotiate() -> smb1::NegotiateRequest {
    let mut message = b"\xFFSMB\x72\0\0\0\0\x18\x53\xC8".to_vec();
    message.extend_from_slice(&[0; 20]);
    let dialects = b"\x02NT LM 0.12\0\x02SMB 2.002\0\x02SMB 2.???\0";
    message.push(0);
    message.extend_from_slice(&u16::try_from(dialects.len()).unwrap_or(0).to_le_bytes());
    message.extend_from_slice(dialects);
    smb1::NegotiateRequest::parse(&message.into()).expect("a request of SMB1")
}

/// TREE_CONNECT.
#[must_use]
pub fn tree_connect(path: &str) -> tree_connect::Request {
    tree_connect::Request { path: path.into(), ..Default::default() }
}

/// CREATE of a file, made if it is not there.
#[must_use]
pub fn create(name: &str) -> create::Request {
    create::Request {
        oplock_level: OplockLevel(0),
        impersonation_level: ImpersonationLevel(2),
        desired_access: AccessMask(0x001F_01FF),
        file_attributes: FileAttributes(0x80),
        share_access: ShareAccess(7),
        create_disposition: CreateDisposition(3),
        create_options: CreateOptions(0x40),
        name: name.into(),
        contexts: Vec::new(),
    }
}

/// CREATE of a directory, made if it is not there.
#[must_use]
pub fn create_directory(name: &str) -> create::Request {
    create::Request {
        create_options: CreateOptions(1),
        file_attributes: FileAttributes(0x10),
        ..create(name)
    }
}

/// Contexts of CREATE, one of each.
#[must_use]
pub fn create_contexts() -> Vec<RequestContext> {
    let key = LeaseKey([1; 16]);
    vec![
        RequestContext::QueryMaximalAccess(None),
        RequestContext::QueryOnDiskId,
        RequestContext::Lease(LeaseV1 { key, state: LeaseState(7), flags: LeaseFlags(0) }),
        RequestContext::LeaseV2(LeaseV2 {
            key,
            state: LeaseState(3),
            flags: LeaseFlags(4),
            parent_key: LeaseKey([2; 16]),
            epoch: 5,
        }),
        RequestContext::DurableHandleRequest,
        RequestContext::DurableHandleRequestV2(DurableRequestV2 {
            timeout_ms: 1000,
            flags: DurableFlags(0),
            create_guid: [6; 16],
        }),
        RequestContext::DurableHandleReconnect(FileId { persistent: 1, volatile: 1 }),
        RequestContext::DurableHandleReconnectV2(DurableReconnectV2 {
            file_id: FileId { persistent: 1, volatile: 1 },
            create_guid: [6; 16],
            flags: DurableFlags(0),
        }),
        RequestContext::AllocationSize(4096),
        RequestContext::TimewarpToken(FileTime(1 << 56)),
        RequestContext::AppInstanceId([7; 16]),
        RequestContext::EaBuffer(ea()),
        RequestContext::SdBuffer(descriptor()),
        RequestContext::Unknown { name: Bytes::from_static(b"Else"), data: Bytes::from_static(b"?") },
    ]
}

fn ea() -> Bytes {
    Bytes::from_static(b"\0\0\0\0\0\x01\x02\0A\0xy")
}

/// A security descriptor that lets everyone do everything.
#[must_use]
pub fn descriptor() -> Bytes {
    let everyone = Ace::allow(Sid::EVERYONE, AccessMask(0x001F_01FF), AceFlags(0));
    let descriptor = SecurityDescriptor::new(Sid::EVERYONE, Sid::EVERYONE, Acl::new(vec![everyone]));
    emitted(|out| descriptor.emit(out)).into()
}

/// A bind of srvsvc.
#[must_use]
pub fn rpc_bind() -> Vec<u8> {
    emitted(|out| PipeClient::new(Service::Srvsvc, 4280).bind(out))
}

/// Two chunks of a server-side copy, from the open whose resume key begins with its id.
#[must_use]
pub fn copy_chunks(file_id: FileId, length: u64) -> Vec<u8> {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&file_id.persistent.to_le_bytes());
    key[8..16].copy_from_slice(&file_id.volatile.to_le_bytes());
    let length = u32::try_from(length & 0xFFFF_FFFF).unwrap_or(0);
    let chunks = vec![
        CopyChunk { source_offset: 0, target_offset: 10, length },
        CopyChunk { source_offset: 5, target_offset: 0, length: 1 },
    ];
    emitted(|out| CopyChunkRequest { source_key: ResumeKey(key), chunks }.emit(out))
}

/// Requests of every command, several of some.
#[must_use]
pub fn requests() -> Vec<Request> {
    let mut requests = vec![
        Request::Negotiate(negotiate(&DIALECTS, true)),
        Request::Create(create("dir\\file")),
        Request::Create(create::Request { contexts: create_contexts(), ..create("file:stream") }),
        Request::TreeConnect(tree_connect("\\\\server\\data")),
    ];
    requests.extend(super::generate::one_of_each());
    requests
}

/// Bodies of responses: the size that each begins with, and zeros.
#[must_use]
pub fn response_bodies() -> Vec<(u16, Vec<u8>)> {
    const SIZES: [(u16, u8); 22] = [
        (0, 65),
        (1, 9),
        (2, 4),
        (3, 16),
        (4, 4),
        (5, 89),
        (6, 60),
        (7, 4),
        (8, 17),
        (9, 17),
        (10, 4),
        (11, 49),
        (13, 4),
        (14, 9),
        (15, 9),
        (16, 9),
        (17, 2),
        (18, 24),
        (18, 36),
        (18, 44),
        (5, 9),
        (16, 8),
    ];
    let body = |size: u8| {
        let mut body = vec![0; usize::from(size).next_multiple_of(8)];
        body[0] = size;
        body
    };
    SIZES.map(|(command, size)| (command, body(size))).into()
}

/// Scripts of [`super::session`]: whatever they decide, each begins with a client that is logged on.
#[must_use]
pub fn scripts() -> Vec<Vec<u8>> {
    let mut scripts = Vec::new();
    for (index, options) in [0_u8, 1, 2, 4, 8, 16, 17, 25].into_iter().enumerate() {
        let mut script = vec![options, u8::try_from(index).unwrap_or(0)];
        // Requests of every kind, in an order that differs between scripts.
        for step in 0..24_u8 {
            let kind = step.wrapping_mul(5).wrapping_add(options);
            script.extend_from_slice(&[15 + step % 17, 0, 0, 0, 1, 1, kind, 0, step, step, 0, 0, 0, 0]);
        }
        debug_assert!(!Script::new(&script).is_over());
        scripts.push(script);
    }
    scripts
}
