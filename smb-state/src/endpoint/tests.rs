//! Frames to requests, without keys; whole conversations are driven by `verification/count` and the fuzzing world.

use std::cell::RefCell;
use std::collections::BTreeMap;

use smb_proto::Payload;
use smb_proto::command::{FileId, Request as WireRequest, echo, read, write};
use smb_proto::compound::Builder;
use smb_proto::crypto::Portable;
use smb_proto::header::Routing;
use smb_proto::status::NtStatus;

use super::*;
use crate::ids::{BufferId, ShardId};

#[derive(Default)]
struct Table(RefCell<BTreeMap<BufferId, Bytes>>);

impl Buffers for Table {
    fn insert(&self, bytes: Bytes) -> BufferId {
        let mut table = self.0.borrow_mut();
        let id = BufferId(table.keys().next_back().map_or(1, |last| last.0 + 1));
        table.insert(id, bytes);
        id
    }

    fn get(&self, buffer: BufferId) -> Option<Bytes> {
        self.0.borrow().get(&buffer).cloned()
    }

    fn take(&self, buffer: BufferId) -> Option<Payload> {
        self.0.borrow_mut().remove(&buffer).map(|bytes| Payload::copy_from(&bytes))
    }

    fn release(&self, buffer: BufferId) {
        assert!(self.0.borrow_mut().remove(&buffer).is_some(), "released twice");
    }
}

fn endpoint() -> Endpoint {
    let options = EndpointOptions::standalone("test");
    Endpoint::new(ConnectionId::new(ShardId(0), 1), Peer(1), options, Arc::new(Portable))
}

fn message(request: &WireRequest, message_id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header {
        credit_charge: 1,
        status: NtStatus::SUCCESS,
        command: request.command().code(),
        credits: 1,
        flags: Flags::default(),
        next_command: 0,
        message_id,
        routing: Routing::Sync { process_id: 0, tree_id: 5 },
        session_id: 7,
        signature: [0; 16],
    }
    .emit(&mut bytes);
    request.emit(&mut bytes);
    bytes
}

fn write_request(data: &'static [u8]) -> WireRequest {
    WireRequest::Write(write::Request {
        offset: 0,
        file_id: FileId { persistent: 1, volatile: 2 },
        flags: write::WriteFlags::EMPTY,
        channel: read::Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
        data: Bytes::from_static(data),
    })
}

fn compound(messages: &[Vec<u8>]) -> BytesMut {
    let mut builder = Builder::new();
    messages.iter().for_each(|message| builder.push(message));
    BytesMut::from(&builder.finish().0[..])
}

#[test]
fn a_compound_comes_in_its_order() {
    let table = Table::default();
    let messages = [
        message(&write_request(b"one"), 3),
        message(&WireRequest::Echo(echo::Request), 4),
        message(&write_request(b"two"), 5),
    ];
    let chain = endpoint().receive(compound(&messages), &table).unwrap();
    let ids: Vec<u64> =
        std::iter::once(&chain.first).chain(&chain.rest).map(|request| request.message.0).collect();
    assert_eq!(ids, [3, 4, 5]);
    let data: Vec<Bytes> = table.0.borrow().values().cloned().collect();
    assert_eq!(data, [&b"one"[..], b"two"]);
}

#[test]
fn what_a_broken_compound_brought_is_given_back() {
    let table = Table::default();
    for good in 0..3 {
        let mut messages: Vec<Vec<u8>> = (0..good).map(|id| message(&write_request(b"data"), id)).collect();
        let mut broken = message(&write_request(b"data"), 9);
        broken[0] = 0;
        messages.push(broken);
        let mut endpoint = endpoint();
        assert!(endpoint.receive(compound(&messages), &table).is_err());
        assert!(table.0.borrow().is_empty(), "{good} good messages");
        let event = endpoint.receive_event(BytesMut::from(&b"\xFESMBtoo short"[..]), &table);
        assert_eq!(event, Event::Malformed { connection: ConnectionId::new(ShardId(0), 1) });
    }
}

#[test]
fn a_signature_without_a_key_is_not_taken_for_one() {
    let table = Table::default();
    let mut signed = message(&write_request(b"data"), 3);
    let signer = Portable.signer(smb_proto::crypto::SigningAlgorithm::AesCmac, &[1; 16]);
    smb_proto::crypto::signing::sign_message(&*signer, &mut signed);
    let chain = endpoint().receive(BytesMut::from(&signed[..]), &table).unwrap();
    assert_eq!(chain.first.protection, Protection::Unverified);
}
