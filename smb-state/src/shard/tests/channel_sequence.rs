//! Stale requests and replays (MS-SMB2 3.3.5.2.10), and what is said of the server's addresses (3.3.5.15.11).

use std::net::Ipv4Addr;

use smb_proto::command::ioctl::{FsctlCode, InterfaceAddress, InterfaceCapabilities, NetworkInterface};
use smb_proto::command::query_info::SecurityInformation;

use super::*;
use crate::event::Admin;
use crate::request::{Ioctl, IoctlInput, Write};
use crate::response::IoctlOutput;

impl World {
    fn send_in(&mut self, sequence: u16, replay: bool, command: Command) -> Actions {
        let request = self.request(command);
        let first = Request { channel_sequence: sequence, replay, ..request };
        self.step(Event::Request { connection: CONNECTION, chain: Chain { first, rest: Vec::new() } })
    }
}

fn write(file_id: FileId) -> Command {
    Command::Write(Write {
        file_id,
        offset: 0,
        buffer: BufferId(70),
        length: 1,
        write_through: false,
        unbuffered: false,
        by_rdma: false,
    })
}

fn read(file_id: FileId) -> Command {
    Command::Read(read::Request {
        padding: 0,
        flags: read::Flags::default(),
        length: 1,
        offset: 0,
        file_id,
        minimum_count: 0,
        channel: read::Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
    })
}

fn ioctl(code: FsctlCode, file_id: FileId, output_max: u32) -> Command {
    Command::Ioctl(Box::new(Ioctl {
        code,
        file_id,
        is_fsctl: true,
        input_length: 0,
        input_max: 0,
        output_max,
        input: IoctlInput::Nothing,
    }))
}

fn set_security(file_id: FileId) -> Command {
    let descriptor = smb_proto::security::descriptor::SecurityDescriptor::default();
    Command::SetInfo(Box::new(SetInfo {
        file_id,
        length: 20,
        what: Setting::Security { parts: SecurityInformation(0), descriptor: Box::new(descriptor) },
    }))
}

#[test]
fn what_is_stale_changes_nothing() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let (token, _) = submitted(&world.send_in(3, false, write(id)));
    world.answer(token, StorageReply::Written { length: 1 });
    for stale in [2, 0, 0x8003] {
        for command in [write(id), set_security(id), ioctl(FsctlCode::SRV_REQUEST_RESUME_KEY, id, 100)] {
            let actions = world.send_in(stale, false, command);
            assert_eq!(response(&actions).status, NtStatus::FILE_NOT_AVAILABLE);
            assert!(submits(&actions).is_empty());
        }
        // What changes nothing is carried out.
        let (token, _) = submitted(&world.send_in(stale, false, read(id)));
        world.answer(token, StorageReply::Read { buffer: BufferId(71), length: 1 });
    }
    submitted(&world.send_in(0x8002, false, write(id)));
}

#[test]
fn a_replay_waits_for_what_was_sent_before_also_when_nobody_hears_of_it() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let (old, _) = submitted(&world.send_in(0, false, write(id)));
    let actions = world.send_in(1, true, write(id));
    assert_eq!(response(&actions).status, NtStatus::FILE_NOT_AVAILABLE, "the old one is under way");
    assert_eq!(response(&world.send_in(1, true, write(id))).status, NtStatus::FILE_NOT_AVAILABLE);
    let (new, _) = submitted(&world.send_in(1, false, write(id)));
    world.answer(new, StorageReply::Written { length: 1 });
    assert_eq!(response(&world.send_in(1, true, write(id))).status, NtStatus::FILE_NOT_AVAILABLE);
    world.answer(old, StorageReply::Failed(NtStatus::DISK_FULL));
    submitted(&world.send_in(1, true, write(id)));
}

#[test]
fn a_create_starts_the_sequence() {
    let mut world = World::new().connected();
    let actions = world.send_in(0xFFFF, false, create("a", CreateDisposition::OPEN));
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(object("a", 5, 50))));
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Attributes(attributes(5)));
    let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
    let id = create.file_id;
    assert_eq!(response(&world.send_in(0xFFFE, false, write(id))).status, NtStatus::FILE_NOT_AVAILABLE);
    submitted(&world.send_in(0, false, write(id)));
}

#[test]
fn clients_with_multichannel_are_told_where_else_to_connect() {
    let interface = NetworkInterface {
        index: 2,
        capabilities: InterfaceCapabilities::RSS_CAPABLE,
        link_speed: 1_000_000_000,
        address: InterfaceAddress::V4(Ipv4Addr::new(192, 0, 2, 1)),
    };
    let code = FsctlCode::QUERY_NETWORK_INTERFACE_INFO;
    for capabilities in [Capabilities::EMPTY, Capabilities::MULTI_CHANNEL] {
        let mut world = World::new();
        let offer = negotiate::Request { capabilities, ..negotiate_request() };
        let actions = world.send(Command::Negotiate(Box::new(offer)));
        let Body::Negotiate(answer) = &response(&actions).body else { panic!("{actions:?}") };
        let announced = answer.response.capabilities.contains(Capabilities::MULTI_CHANNEL);
        assert_eq!(announced, capabilities == Capabilities::MULTI_CHANNEL);
        let mut world = world.authenticated_and_connected();
        world.step(Event::Admin(Admin::Interfaces(vec![interface])));
        let actions = world.send(ioctl(code, FileId::ALL_ONES, 1000));
        if !announced {
            assert_eq!(response(&actions).status, NtStatus::NOT_SUPPORTED);
            continue;
        }
        let Body::Ioctl { output: IoctlOutput::Bytes(bytes), .. } = &response(&actions).body else {
            panic!("{actions:?}")
        };
        assert_eq!(NetworkInterface::parse_list(bytes), Ok(vec![interface]));
        let actions = world.send(ioctl(code, FileId::ALL_ONES, 151));
        assert_eq!(response(&actions).status, NtStatus::BUFFER_TOO_SMALL);
        let actions = world.send(ioctl(code, FileId { persistent: 1, volatile: 1 }, 1000));
        assert_eq!(response(&actions).status, NtStatus::INVALID_PARAMETER);
    }
}
