//! Symbolic links: where a CREATE stops, and reparse points.

use smb_proto::command::error::{SymbolicLink, SymbolicLinkFlags};
use smb_proto::command::ioctl::FsctlCode;
use smb_proto::fscc::reparse::{ReparseData, ReparseTag};
use smb_proto::security::{Ace, AceFlags, Acl, SecurityDescriptor, Sid};

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

/// A control that replaces an object, up to where storage is told to; its directory grants everything.
fn exchanged(world: &mut World, id: FileId, code: FsctlCode, input: IoctlInput) -> (Token, StorageOp) {
    let actions = control(world, id, code, input, 0);
    let (_, actions) = look_up(world, &actions, Resolved::Found(directory(10)));
    submitted(&actions)
}

/// Answers the look at a directory, or an object, and takes the handle back; says which path was looked up, and what it leads to.
fn look_up(world: &mut World, actions: &Actions, found: Resolved) -> (Vec<Name>, Actions) {
    let (token, op) = submitted(actions);
    let StorageOp::Resolve { path, .. } = op else { panic!("{op:?}") };
    let mut actions = world.answer(token, StorageReply::Resolved(found));
    let close = |action: &Action| matches!(action, Action::Submit { op: StorageOp::Close { .. }, .. });
    let at = actions.iter().position(close).expect("the handle is given back");
    let Action::Submit { token, .. } = actions.remove(at) else { unreachable!() };
    assert!(world.answer(token, StorageReply::Done).is_empty());
    (path, actions)
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
    let (token, op) = exchanged(&mut world, id, set, symlink(1));
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
    let (token, op) = exchanged(&mut world, id, delete, remove(ReparseTag::SYMLINK));
    assert!(matches!(op, StorageOp::SetLinkTarget { handle: Handle(60), target: None, .. }), "{op:?}");
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
    let (token, op) = exchanged(world, id, FsctlCode::SET_REPARSE_POINT, to_x());
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

fn grants(mask: AccessMask) -> Option<Box<SecurityDescriptor>> {
    let flags = AceFlags::OBJECT_INHERIT;
    let list = Acl::new(vec![Ace::allow(Sid::EVERYONE, mask, flags)]);
    Some(Box::new(SecurityDescriptor::new(Sid::LOCAL_SYSTEM, Sid::LOCAL_SYSTEM, list)))
}

/// Opens `f` with these rights.
fn open_for(world: &mut World, access: AccessMask) -> FileId {
    let Command::Create(mut request) = create("f", CreateDisposition::OPEN) else { unreachable!() };
    request.desired_access = access;
    let actions = resolved(world, Command::Create(request), Resolved::Found(object("f", 6, 60)));
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Attributes(attributes(6)));
    let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
    create.file_id
}

#[test]
fn making_a_link_needs_what_removing_and_making_need() {
    let (attributes, delete) = (AccessMask::WRITE_ATTRIBUTES, AccessMask::DELETE);
    let (add, child) = (AccessMask::ADD_FILE, AccessMask::DELETE_CHILD);
    // What the open has, the directory grants, the object's descriptor grants if it is asked, and whether that is enough.
    for (access, by_directory, by_object, enough) in [
        (attributes.with(delete), add, None, true),
        (attributes.with(delete), child, None, false),
        (attributes, add.with(child), None, true),
        (attributes, add, Some(delete), true),
        (attributes, add, Some(attributes), false),
        (attributes, child, None, false),
    ] {
        for (code, input) in [
            (FsctlCode::SET_REPARSE_POINT, to_x()),
            (FsctlCode::DELETE_REPARSE_POINT, IoctlInput::DeleteReparsePoint(ReparseTag::SYMLINK)),
        ] {
            let mut world = world();
            let id = open_for(&mut world, access);
            let actions = control(&mut world, id, code, input, 0);
            let parent = Object { security: grants(by_directory), ..directory(10) };
            let (path, mut actions) = look_up(&mut world, &actions, Resolved::Found(parent));
            assert_eq!(path, []);
            if let Some(mask) = by_object {
                let found = Object { security: grants(mask), ..object("f", 6, 61) };
                let (path, later) = look_up(&mut world, &actions, Resolved::Found(found));
                assert_eq!(path, [Name::from("f")]);
                actions = later;
            }
            if enough {
                let (token, op) = submitted(&actions);
                assert!(matches!(op, StorageOp::SetLinkTarget { .. }), "{op:?}");
                actions = world.answer(token, StorageReply::Done);
            }
            let expected = if enough { NtStatus::SUCCESS } else { NtStatus::ACCESS_DENIED };
            assert_eq!(response(&actions).status, expected, "{access:?} {by_directory:?} {by_object:?}");
            assert!(world.shard.waits.is_empty());
        }
    }
}

#[test]
fn a_file_that_a_link_becomes_inherits() {
    let mut world = world();
    let id = world.open("f", 6, 60);
    let delete = IoctlInput::DeleteReparsePoint(ReparseTag::SYMLINK);
    let actions = control(&mut world, id, FsctlCode::DELETE_REPARSE_POINT, delete, 0);
    let mask = AccessMask::FILE_ALL_ACCESS;
    let parent = Object { security: grants(mask), ..directory(10) };
    let (_, actions) = look_up(&mut world, &actions, Resolved::Found(parent));
    let (_, op) = submitted(&actions);
    let StorageOp::SetLinkTarget { target: None, initial, .. } = op else { panic!("{op:?}") };
    let security = initial.security.expect("a descriptor");
    assert_eq!(security.owner, initial.owner);
    let aces = security.dacl.expect("a list").aces;
    assert_eq!(aces, [Ace::allow(Sid::EVERYONE, mask, AceFlags::EMPTY)]);
    assert_eq!(initial.dos, FileAttributes::ARCHIVE);
}

#[test]
fn where_the_directory_is_another_now_nothing_is_made() {
    let mut world = world();
    let id = world.open("f", 6, 60);
    let actions = control(&mut world, id, FsctlCode::SET_REPARSE_POINT, to_x(), 0);
    let mut other = directory(10);
    other.attributes.number = FileNumber(77);
    let (_, actions) = look_up(&mut world, &actions, Resolved::Found(other));
    assert_eq!(response(&actions).status, NtStatus::OBJECT_PATH_NOT_FOUND);
    assert!(world.shard.waits.is_empty());
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
