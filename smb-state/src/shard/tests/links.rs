//! Symbolic links: where a CREATE stops, and reparse points.

use smb_proto::command::error::{SymbolicLink, SymbolicLinkFlags};
use smb_proto::command::ioctl::FsctlCode;
use smb_proto::fscc::reparse::{ReparseData, ReparseTag};

use super::*;
use crate::request::{Ioctl, IoctlInput};
use crate::response::IoctlOutput;

fn world() -> World {
    let mut world = World::new();
    world.shard.shares[0].caps.symbolic_links = true;
    world.connected()
}

fn link(number: u64, handle: u64) -> Object {
    let mut object = object("link", number, handle);
    object.attributes.dos = object.attributes.dos.with(FileAttributes::REPARSE_POINT);
    object.attributes.reparse_tag = ReparseTag::SYMLINK.0;
    object
}

/// A CREATE, up to where its name led.
fn resolved(world: &mut World, command: Command, resolved: Resolved) -> Actions {
    let (token, op) = submitted(&world.send(command));
    assert!(matches!(op, StorageOp::Resolve { .. }));
    world.answer(token, StorageReply::Resolved(resolved))
}

fn stopped(actions: &Actions) -> &SymbolicLink {
    let response = response(actions);
    assert_eq!(response.status, NtStatus::STOPPED_ON_SYMLINK);
    let Body::StoppedOnLink(link) = &response.body else { panic!("{actions:?}") };
    link
}

fn told(target: &str, left: &str) -> SymbolicLink {
    SymbolicLink {
        unparsed_path_length: u16::try_from(left.len() * 2).unwrap(),
        substitute_name: Name::from(target),
        print_name: Name::from(target),
        flags: SymbolicLinkFlags::RELATIVE,
    }
}

fn control(world: &mut World, file_id: FileId, code: FsctlCode, input: IoctlInput, room: u32) -> Actions {
    world.send(Command::Ioctl(Box::new(Ioctl {
        code,
        file_id,
        is_fsctl: true,
        input_length: 0,
        input_max: 0,
        output_max: room,
        input,
    })))
}

fn nothing_is_left(world: &World) {
    assert!(world.shard.opens.is_empty() && world.shard.waits.is_empty());
}

#[test]
fn a_create_stops_at_a_link_on_its_way() {
    let mut world = world();
    let found = Resolved::Link { component: 2, target: Name::from(r"..\there") };
    let actions = resolved(&mut world, create(r"a\link\b\c:s", CreateDisposition::OPEN_IF), found);
    assert_eq!(*stopped(&actions), told(r"..\there", r"\b\c:s"));
    nothing_is_left(&world);
}

#[test]
fn a_create_stops_at_a_link_at_its_end() {
    let mut world = world();
    // Whatever it wants there, and also with the name of a stream.
    for (name, disposition, left) in [
        ("link", CreateDisposition::OPEN, ""),
        ("link", CreateDisposition::CREATE, ""),
        ("link", CreateDisposition::SUPERSEDE, ""),
        ("link:s", CreateDisposition::OPEN_IF, ":s"),
    ] {
        let found = match left {
            "" => Resolved::Found(link(5, 50)),
            _ => Resolved::NoStream { file: link(5, 50) },
        };
        let actions = resolved(&mut world, create(name, disposition), found);
        let (token, op) = submitted(&actions);
        assert_eq!(op, StorageOp::LinkTarget { handle: Handle(50) });
        let actions = world.answer(token, StorageReply::Target(Name::from("there")));
        assert_eq!(*stopped(&actions), told("there", left), "{name}");
        let (token, op) = submitted(&actions);
        assert_eq!(op, StorageOp::Close { handle: Handle(50) });
        assert!(world.answer(token, StorageReply::Done).is_empty());
        nothing_is_left(&world);
    }
}

#[test]
fn where_a_link_leads_out_nothing_is_told() {
    let mut world = world();
    let found = Resolved::Found(link(5, 50));
    let actions = resolved(&mut world, create("link", CreateDisposition::OPEN), found);
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Failed(NtStatus::ACCESS_DENIED));
    assert_eq!(response(&actions).status, NtStatus::ACCESS_DENIED);
    assert_eq!(response(&actions).body, Body::Error);
    let (token, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    assert!(world.answer(token, StorageReply::Done).is_empty());
    nothing_is_left(&world);
}

/// Opens a link itself.
fn open_link(world: &mut World) -> FileId {
    let Command::Create(mut request) = create("link", CreateDisposition::OPEN) else { unreachable!() };
    request.create_options = CreateOptions::OPEN_REPARSE_POINT;
    let actions = resolved(world, Command::Create(request), Resolved::Found(link(5, 50)));
    let (token, op) = submitted(&actions);
    assert!(matches!(op, StorageOp::Open { .. }), "{op:?}");
    let actions = world.answer(token, StorageReply::Attributes(link(5, 50).attributes));
    let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
    assert!(create.file_attributes.contains(FileAttributes::REPARSE_POINT));
    create.file_id
}

#[test]
fn a_link_can_be_opened_and_read_itself() {
    let mut world = world();
    let id = open_link(&mut world);
    let mut whole = Vec::new();
    let there = Name::from("there");
    ReparseData::Symlink {
        substitute: there.clone(),
        print: there.clone(),
        flags: ReparseData::SYMLINK_RELATIVE,
    }
    .emit(&mut whole);
    for (room, status) in [(4096, NtStatus::SUCCESS), (20, NtStatus::BUFFER_OVERFLOW)] {
        let get = control(&mut world, id, FsctlCode::GET_REPARSE_POINT, IoctlInput::Nothing, room);
        let (token, op) = submitted(&get);
        assert_eq!(op, StorageOp::LinkTarget { handle: Handle(50) });
        let actions = world.answer(token, StorageReply::Target(there.clone()));
        assert_eq!(response(&actions).status, status);
        let Body::Ioctl { output: IoctlOutput::Bytes(bytes), .. } = &response(&actions).body else {
            panic!("{actions:?}")
        };
        assert_eq!(*bytes, whole[..whole.len().min(room as usize)]);
    }
    let get = control(&mut world, id, FsctlCode::GET_REPARSE_POINT, IoctlInput::Nothing, 7);
    assert_eq!(response(&get).status, NtStatus::BUFFER_TOO_SMALL);
}

#[test]
fn links_are_made_and_unmade_through_an_open() {
    let mut world = world();
    let id = world.open("f", 6, 60);
    let symlink = |flags| {
        let data = ReparseData::Symlink { substitute: Name::from("there"), print: Name::default(), flags };
        IoctlInput::SetReparsePoint(Box::new(data))
    };
    let set = FsctlCode::SET_REPARSE_POINT;
    let (token, op) = submitted(&control(&mut world, id, set, symlink(1), 0));
    assert_eq!(
        op,
        StorageOp::SetLinkTarget {
            handle: Handle(60),
            target: Some(Name::from("there")),
            initial: Box::default()
        }
    );
    let actions = world.answer(token, StorageReply::Done);
    assert_eq!(response(&actions).status, NtStatus::SUCCESS);
    let delete = FsctlCode::DELETE_REPARSE_POINT;
    let remove = |tag| IoctlInput::DeleteReparsePoint(tag);
    let (token, op) = submitted(&control(&mut world, id, delete, remove(ReparseTag::SYMLINK), 0));
    assert_eq!(op, StorageOp::SetLinkTarget { handle: Handle(60), target: None, initial: Box::default() });
    let actions = world.answer(token, StorageReply::Failed(NtStatus::NOT_A_REPARSE_POINT));
    assert_eq!(response(&actions).status, NtStatus::NOT_A_REPARSE_POINT);

    let mount = ReparseData::MountPoint { substitute: Name::from(r"\??\C:\x"), print: Name::default() };
    let special = ReparseData::Other { tag: ReparseTag::NFS, data: Bytes::new() };
    for (code, input, status) in [
        (set, symlink(0), NtStatus::ACCESS_DENIED),
        (set, IoctlInput::SetReparsePoint(Box::new(mount)), NtStatus::NOT_A_DIRECTORY),
        (set, IoctlInput::SetReparsePoint(Box::new(special)), NtStatus::IO_REPARSE_TAG_NOT_HANDLED),
        (set, IoctlInput::Unreadable, NtStatus::IO_REPARSE_DATA_INVALID),
        (delete, IoctlInput::Unreadable, NtStatus::IO_REPARSE_DATA_INVALID),
        (delete, remove(ReparseTag(1)), NtStatus::IO_REPARSE_TAG_INVALID),
        (delete, remove(ReparseTag::MOUNT_POINT), NtStatus::IO_REPARSE_TAG_MISMATCH),
    ] {
        let actions = control(&mut world, id, code, input, 0);
        assert_eq!(response(&actions).status, status);
    }
}

fn to_x() -> IoctlInput {
    let data = ReparseData::Symlink { substitute: Name::from("x"), print: Name::default(), flags: 1 };
    IoctlInput::SetReparsePoint(Box::new(data))
}

#[test]
fn what_somebody_else_has_open_becomes_no_link() {
    let mut world = world();
    let id = world.open("f", 6, 60);
    // Who only looks at attributes is in nobody's way otherwise.
    let Command::Create(mut request) = create("f", CreateDisposition::OPEN) else { unreachable!() };
    request.desired_access = AccessMask::READ_ATTRIBUTES;
    request.share_access = ShareAccess(0);
    let actions = resolved(&mut world, Command::Create(request), Resolved::Found(object("f", 6, 61)));
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Attributes(attributes(6)));
    let Body::Create(other) = &response(&actions).body else { panic!("{actions:?}") };
    let other = other.file_id;
    let delete = IoctlInput::DeleteReparsePoint(ReparseTag::SYMLINK);
    for (by, code, input) in [
        (id, FsctlCode::SET_REPARSE_POINT, to_x()),
        (other, FsctlCode::SET_REPARSE_POINT, to_x()),
        (id, FsctlCode::DELETE_REPARSE_POINT, delete),
    ] {
        let actions = control(&mut world, by, code, input, 0);
        let refused = if by == id { NtStatus::SHARING_VIOLATION } else { NtStatus::ACCESS_DENIED };
        assert_eq!(response(&actions).status, refused);
        assert!(submits(&actions).is_empty());
    }
    let close = close::Request { flags: close::Flags::EMPTY, file_id: other };
    let (token, _) = submitted(&world.send(Command::Close(close)));
    world.answer(token, StorageReply::Done);
    begin(&mut world, id);
}

/// A file is becoming a link; storage has been told to.
fn begin(world: &mut World, id: FileId) -> Token {
    let (token, op) = submitted(&control(world, id, FsctlCode::SET_REPARSE_POINT, to_x(), 0));
    assert!(matches!(op, StorageOp::SetLinkTarget { handle: Handle(60), .. }), "{op:?}");
    token
}

#[test]
fn who_opens_what_becomes_a_link_waits_and_starts_again() {
    for reply in [StorageReply::Done, StorageReply::Failed(NtStatus::DISK_FULL)] {
        let mut world = world();
        let id = world.open("f", 6, 60);
        let token = begin(&mut world, id);
        // By another name of the file as well.
        let found = Resolved::Found(object("g", 6, 61));
        let actions = resolved(&mut world, create("g", CreateDisposition::OPEN), found);
        assert!(actions.is_empty(), "{actions:?}");
        let second = control(&mut world, id, FsctlCode::SET_REPARSE_POINT, to_x(), 0);
        assert_eq!(response(&second).status, NtStatus::SHARING_VIOLATION, "one at a time");
        let failed = matches!(reply, StorageReply::Failed(_));
        let actions = world.answer(token, reply);
        assert_eq!(response(&actions).status.is_error(), failed);
        let again = |(_, op): &(Token, StorageOp)| matches!(op, StorageOp::Resolve { .. });
        assert!(submits(&actions).iter().any(again), "{actions:?}");
    }
}

#[test]
fn an_open_closes_when_its_exchange_is_done() {
    let mut world = world();
    let id = world.open("f", 6, 60);
    let token = begin(&mut world, id);
    let close = close::Request { flags: close::Flags::EMPTY, file_id: id };
    assert!(world.send(Command::Close(close)).is_empty());
    let actions = world.answer(token, StorageReply::Done);
    let (token, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Close { handle: Handle(60) });
    world.answer(token, StorageReply::Done);
    nothing_is_left(&world);
    assert!(world.shard.files.is_empty());
}

#[test]
fn who_may_not_write_makes_no_link() {
    let mut world = world();
    let Command::Create(mut request) = create("f", CreateDisposition::OPEN) else { unreachable!() };
    request.desired_access = AccessMask::READ_DATA.with(AccessMask::DELETE);
    let actions = resolved(&mut world, Command::Create(request), Resolved::Found(object("f", 6, 60)));
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Attributes(attributes(6)));
    let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
    let id = create.file_id;
    let data = ReparseData::Symlink { substitute: Name::from("x"), print: Name::default(), flags: 1 };
    let input = IoctlInput::SetReparsePoint(Box::new(data));
    let actions = control(&mut world, id, FsctlCode::SET_REPARSE_POINT, input, 0);
    assert_eq!(response(&actions).status, NtStatus::ACCESS_DENIED);
}

#[test]
fn a_volume_without_links_has_no_reparse_points() {
    let mut world = World::new().connected();
    let id = world.open("f", 6, 60);
    let data = ReparseData::Symlink { substitute: Name::from("x"), print: Name::default(), flags: 1 };
    for (code, input) in [
        (FsctlCode::GET_REPARSE_POINT, IoctlInput::Nothing),
        (FsctlCode::SET_REPARSE_POINT, IoctlInput::SetReparsePoint(Box::new(data))),
        (FsctlCode::DELETE_REPARSE_POINT, IoctlInput::DeleteReparsePoint(ReparseTag::SYMLINK)),
    ] {
        let actions = control(&mut world, id, code, input, 4096);
        assert_eq!(response(&actions).status, NtStatus::INVALID_DEVICE_REQUEST);
    }
}
