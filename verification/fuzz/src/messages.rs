//! What surrounds commands, and the commands themselves.

use bytes::Bytes;
use smb_proto::NtStatus;
use smb_proto::header::{CommandCode, Flags, Header, Routing, SIZE as HEADER_SIZE};

/// A synchronous header without surprises.
#[must_use]
pub fn plain_header(command: u16) -> Header {
    Header {
        credit_charge: 1,
        status: NtStatus::SUCCESS,
        command,
        credits: 1,
        flags: Flags(0),
        next_command: 0,
        message_id: 4,
        routing: Routing::Sync { process_id: 0, tree_id: 5 },
        session_id: 6,
        signature: [0; 16],
    }
}

/// A message of a header and a body.
#[must_use]
pub fn message(header: &Header, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_SIZE + body.len());
    header.emit(&mut out);
    out.extend_from_slice(body);
    out.into()
}

/// The SMB2 header.
pub mod header {
    use super::*;
    use crate::shape::{emitted, round_trip};

    /// Parses a header and emits it again.
    pub fn check(input: &[u8]) {
        let _ = smb_proto::frame::Kind::of(input);
        if let Some(prefix) = input.first_chunk::<4>() {
            let _ = smb_proto::frame::length(*prefix, 1 << 20);
        }
        if let Ok(header) = Header::parse(input) {
            round_trip(&header, Header::emit, |bytes| Header::parse(bytes));
        }
    }

    /// Headers of both kinds.
    pub fn seeds() -> Vec<Vec<u8>> {
        let plain = plain_header(CommandCode::Read.code());
        let waiting =
            Header { flags: Flags::ASYNC_COMMAND, routing: Routing::Async { async_id: 9 }, ..plain };
        [plain, waiting].iter().map(|header| emitted(|out| header.emit(out))).collect()
    }
}

/// Several messages in one frame.
pub mod compound {
    use super::*;
    use smb_proto::compound::{Builder, split};

    /// Splits, joins, splits again.
    pub fn check(input: &[u8]) {
        let frame = Bytes::copy_from_slice(input);
        let parts: Vec<_> = split(&frame).collect();
        let Ok(messages) = parts.into_iter().collect::<Result<Vec<_>, _>>() else { return };
        assert_eq!(messages.iter().map(Bytes::len).sum::<usize>(), input.len(), "bytes were lost");
        let mut builder = Builder::new();
        for message in &messages {
            let mut message = message.to_vec();
            message[20..24].fill(0);
            builder.push(&message);
        }
        let (joined, ranges) = builder.finish();
        assert_eq!(ranges.len(), messages.len());
        // The last message may come out with padding that it didn't come with.
        let (same, padding) = joined.split_at(input.len().min(joined.len()));
        assert_eq!(same, input, "joining is not the inverse of splitting");
        assert!(padding.len() < 8 && padding.iter().all(|byte| *byte == 0), "{padding:?} is no padding");
    }

    /// One message, and three.
    pub fn seeds() -> Vec<Vec<u8>> {
        let echo = message(&plain_header(CommandCode::Echo.code()), &[4, 0, 0, 0]);
        [1, 3]
            .map(|count| {
                let mut builder = Builder::new();
                (0..count).for_each(|_| builder.push(&echo));
                builder.finish().0
            })
            .into()
    }
}

/// Every request.
pub mod request {
    use super::*;
    use crate::shape::{choice, chosen, round_trip_from};
    use smb_proto::command::Request;

    /// The first byte is the command, the rest the body.
    pub fn check(input: &[u8]) {
        let (command, body) = choice(input);
        let header = plain_header(u16::try_from(command % 20).unwrap_or(0));
        if let Ok(request) = Request::parse(&header, &message(&header, &body)) {
            assert_eq!(request.command().code(), header.command);
            let start = message(&header, &[]).to_vec();
            round_trip_from(start, &request, Request::emit, |bytes| Request::parse(&header, bytes));
        }
    }

    /// Every command.
    pub fn seeds() -> Vec<Vec<u8>> {
        let mut seeds: Vec<_> = crate::server::samples::requests()
            .iter()
            .map(|request| {
                let header = plain_header(request.command().code());
                let mut out = message(&header, &[]).to_vec();
                request.emit(&mut out);
                chosen(usize::from(header.command), &out[HEADER_SIZE..])
            })
            .collect();
        seeds.dedup();
        seeds
    }
}

/// Every response, errors and notifications.
pub mod response {
    use super::*;
    use crate::shape::{choice, chosen, round_trip_from};
    use smb_proto::command::{Response, UNSOLICITED_MESSAGE_ID};

    const STATUSES: [NtStatus; 6] = [
        NtStatus::SUCCESS,
        NtStatus::ACCESS_DENIED,
        NtStatus::MORE_PROCESSING_REQUIRED,
        NtStatus::BUFFER_OVERFLOW,
        NtStatus::PENDING,
        NtStatus::STOPPED_ON_SYMLINK,
    ];

    /// The first byte is the command, the second the status, the rest the body.
    pub fn check(input: &[u8]) {
        let (command, rest) = choice(input);
        let (status, body) = choice(&rest);
        let header = Header {
            status: STATUSES[status % STATUSES.len()],
            message_id: if status & 0x80 == 0 { 4 } else { UNSOLICITED_MESSAGE_ID },
            ..plain_header(u16::try_from(command % 20).unwrap_or(0))
        };
        if let Ok(response) = Response::parse(&header, &message(&header, &body)) {
            let start = message(&header, &[]).to_vec();
            round_trip_from(start, &response, Response::emit, |bytes| Response::parse(&header, bytes));
        }
    }

    /// Every command, successful and failed.
    pub fn seeds() -> Vec<Vec<u8>> {
        let bodies = crate::server::samples::response_bodies();
        bodies
            .iter()
            .flat_map(|(command, body)| {
                [0, 1, 0x80].map(|status| chosen(usize::from(*command), &chosen(status, body)))
            })
            .collect()
    }
}

/// Lists of negotiate contexts.
pub mod negotiate_contexts {
    use super::*;
    use crate::shape::{choice, chosen, round_trip};
    use smb_proto::command::negotiate_context as contexts;

    /// The first byte is the number of contexts, the rest the list.
    pub fn check(input: &[u8]) {
        let (count, list) = choice(input);
        let count = u16::try_from(count).unwrap_or(0);
        if let Ok(parsed) = contexts::parse_list(&list, 0, count) {
            assert_eq!(parsed.len(), usize::from(count));
            round_trip(
                &parsed,
                |parsed, out| {
                    contexts::emit_list(parsed, out);
                },
                |bytes| contexts::parse_list(bytes, 0, count),
            );
        }
    }

    /// One list with every context.
    pub fn seeds() -> Vec<Vec<u8>> {
        use smb_proto::command::negotiate_context::*;
        let all = [
            NegotiateContext::PreauthIntegrity {
                algorithms: vec![HashAlgorithm(1)],
                salt: Bytes::from_static(&[7; 8]),
            },
            NegotiateContext::Encryption { ciphers: vec![Cipher(2), Cipher(1)] },
            NegotiateContext::Compression {
                flags: CompressionFlags(1),
                algorithms: vec![CompressionAlgorithm(1), CompressionAlgorithm(4)],
            },
            NegotiateContext::NetName("server".into()),
            NegotiateContext::Transport { flags: TransportFlags(1) },
            NegotiateContext::RdmaTransform { transforms: vec![RdmaTransform(1)] },
            NegotiateContext::Signing { algorithms: vec![SigningAlgorithm(2)] },
            NegotiateContext::Unknown { context_type: ContextType(0x99), data: Bytes::from_static(b"xyz") },
        ];
        let mut out = Vec::new();
        contexts::emit_list(&all, &mut out);
        vec![chosen(all.len(), &out), chosen(1, &out)]
    }
}

/// Chains of create contexts, in both directions.
pub mod create_contexts {
    use super::*;
    use crate::shape::{choice, chosen, emitted, round_trip};
    use smb_proto::create_context::svhdx::OpenDevice;
    use smb_proto::create_context::{RequestContext, ResponseContext};

    /// The first byte is the direction, the rest the chain.
    pub fn check(input: &[u8]) {
        let (direction, chain) = choice(input);
        match direction % 3 {
            0 => {
                if let Ok(parsed) = RequestContext::parse_chain(&chain) {
                    // An empty chain is no chain: nothing is emitted for it.
                    round_trip(
                        &parsed,
                        |parsed, out| RequestContext::emit_chain(parsed, out),
                        RequestContext::parse_chain,
                    );
                }
            }
            1 => {
                if let Ok(parsed) = ResponseContext::parse_chain(&chain) {
                    round_trip(
                        &parsed,
                        |parsed, out| ResponseContext::emit_chain(parsed, out),
                        ResponseContext::parse_chain,
                    );
                }
            }
            _ => {
                if let Ok(parsed) = OpenDevice::parse(&chain) {
                    round_trip(&parsed, OpenDevice::emit, |bytes| OpenDevice::parse(bytes));
                }
            }
        }
    }

    /// A chain of everything for each direction.
    pub fn seeds() -> Vec<Vec<u8>> {
        use smb_proto::create_context::*;
        let requests = crate::server::samples::create_contexts();
        let responses = [
            ResponseContext::MaximalAccess(MaximalAccess {
                query_status: NtStatus::SUCCESS,
                maximal_access: smb_proto::AccessMask(0x001F_01FF),
            }),
            ResponseContext::OnDiskId(OnDiskId { disk_file_id: 3, volume_id: 4 }),
        ];
        vec![
            chosen(0, &emitted(|out| RequestContext::emit_chain(&requests, out))),
            chosen(1, &emitted(|out| ResponseContext::emit_chain(&responses, out))),
            chosen(2, &[2; 200]),
        ]
    }
}

/// SMB1's NEGOTIATE.
pub mod smb1_negotiate {
    use super::*;
    use crate::shape::{emitted, round_trip};
    use smb_proto::command::smb1::NegotiateRequest;

    /// Parses the one message of SMB1 that is understood.
    pub fn check(input: &[u8]) {
        if let Ok(parsed) = NegotiateRequest::parse(&Bytes::copy_from_slice(input)) {
            round_trip(&parsed, NegotiateRequest::emit, NegotiateRequest::parse);
        }
    }

    /// The request of a client that speaks everything.
    pub fn seeds() -> Vec<Vec<u8>> {
        vec![emitted(|out| crate::server::samples::smb1_negotiate().emit(out))]
    }
}

/// Transform and compression headers.
pub mod transform {
    use super::*;
    use crate::shape::{emitted, round_trip};
    use smb_proto::command::negotiate_context::CompressionAlgorithm;
    use smb_proto::crypto::portable::Portable;
    use smb_proto::crypto::{CipherAlgorithm, Provider, seal};
    use smb_proto::transform::{CompressedMessage, PatternV1, TransformHeader, payloads};

    /// Parses; tries to decrypt with a fixed key; walks through chains of compressed payloads.
    pub fn check(input: &[u8]) {
        if let Ok(header) = TransformHeader::parse(input) {
            round_trip(&header, TransformHeader::emit, |bytes| TransformHeader::parse(bytes));
            let cipher =
                Portable.cipher(CipherAlgorithm::Aes128Gcm, &[1; 16]).expect("a key of the right length");
            let _ = seal::open(cipher.as_ref(), &mut input.to_vec());
        }
        if let Ok(pattern) = PatternV1::parse(input) {
            round_trip(&pattern, PatternV1::emit, |bytes| PatternV1::parse(bytes));
        }
        if let Ok(compressed) = CompressedMessage::parse(&Bytes::copy_from_slice(input)) {
            round_trip(&compressed, CompressedMessage::emit, CompressedMessage::parse);
            if let CompressedMessage::Chained { chain, .. } = &compressed {
                let Ok(parts) = payloads(chain).collect::<Result<Vec<_>, _>>() else { return };
                let again = emitted(|out| {
                    for (index, part) in parts.iter().enumerate() {
                        part.emit(out, index == 0);
                    }
                });
                let again: Result<Vec<_>, _> = payloads(&again.into()).collect();
                assert_eq!(again.as_ref(), Ok(&parts));
            }
        }
    }

    /// An encrypted message and both forms of compressed ones.
    pub fn seeds() -> Vec<Vec<u8>> {
        let cipher =
            Portable.cipher(CipherAlgorithm::Aes128Gcm, &[1; 16]).expect("a key of the right length");
        let sealed = seal::seal(cipher.as_ref(), 6, &[2; 16], smb_proto::Payload::copy_from(b"sealed"));
        let unchained = CompressedMessage::Unchained {
            original_size: 100,
            algorithm: CompressionAlgorithm(1),
            uncompressed: Bytes::from_static(b"front"),
            compressed: Bytes::from_static(b"squeezed"),
        };
        let chained = emitted(|out| {
            out.extend_from_slice(b"\xFCSMB\x40\0\0\0\x04\0\x01\0\x08\0\0\0\x41\0\0\0\x20\0\0\0");
            out.extend_from_slice(b"\0\0\0\0\x04\0\0\0rest");
        });
        vec![sealed.data().to_vec(), emitted(|out| unchained.emit(out)), chained]
    }
}

/// Bodies of IOCTLs that SMB itself defines.
pub mod control_bodies {
    use crate::shape::{choice, chosen, emitted, round_trip};
    use smb_proto::command::error::{ShareRedirect, SymbolicLink};
    use smb_proto::command::ioctl::*;
    use smb_proto::command::query_info::QueryQuotaInfo;

    macro_rules! round {
        ($type:ty, $input:expr) => {
            if let Ok(parsed) = <$type>::parse(&$input) {
                round_trip(&parsed, <$type>::emit, |bytes| <$type>::parse(bytes));
            }
        };
    }

    /// The first byte chooses the structure.
    pub fn check(input: &[u8]) {
        let (which, body) = choice(input);
        match which % 11 {
            0 => round!(ValidateNegotiateRequest, body),
            1 => round!(ValidateNegotiateResponse, body),
            2 => round!(CopyChunkRequest, body),
            3 => round!(CopyChunkResponse, body),
            4 => round!(ResumeKeyResponse, body),
            5 => round!(NetworkResiliencyRequest, body),
            6 => round!(SnapshotArray, body),
            7 => {
                if let Ok(parsed) = NetworkInterface::parse_list(&body) {
                    round_trip(
                        &parsed,
                        |parsed, out| NetworkInterface::emit_list(parsed, out),
                        |bytes| NetworkInterface::parse_list(bytes),
                    );
                }
            }
            8 => round!(QueryQuotaInfo, body),
            9 => {
                if let Ok(parsed) = SymbolicLink::parse(&body) {
                    assert_eq!(SymbolicLink::parse(&parsed.to_bytes()), Ok(parsed));
                }
            }
            _ => {
                if let Ok(parsed) = ShareRedirect::parse(&body) {
                    assert_eq!(ShareRedirect::parse(&parsed.to_bytes()), Ok(parsed));
                }
            }
        }
    }

    /// One of each of the first few, which have the most structure.
    pub fn seeds() -> Vec<Vec<u8>> {
        let validate = ValidateNegotiateRequest {
            capabilities: 0x7F,
            guid: [3; 16],
            security_mode: 1,
            dialects: vec![0x0202, 0x0210, 0x0300],
        };
        let copy = CopyChunkRequest {
            source_key: ResumeKey([9; 24]),
            chunks: vec![CopyChunk { source_offset: 0, target_offset: 8, length: 16 }; 2],
        };
        let snapshots = SnapshotArray::fit(vec!["@GMT-2026.01.02-03.04.05".into()], 400);
        vec![
            chosen(0, &emitted(|out| validate.emit(out))),
            chosen(2, &emitted(|out| copy.emit(out))),
            chosen(6, &emitted(|out| snapshots.emit(out))),
            chosen(7, &[0; 152]),
            chosen(9, &[1; 40]),
            chosen(10, &[1; 48]),
        ]
    }
}
