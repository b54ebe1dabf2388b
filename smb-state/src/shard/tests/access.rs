//! Security descriptors that count: what a CREATE, a rename and a new descriptor are refused, and that nothing leaks when they
//! are.

use smb_proto::command::query_directory;
use smb_proto::create_context::{RequestContext, ResponseContext};
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};
use smb_proto::security::{Ace, AceFlags, Acl, SecurityDescriptor, SecurityInformation, Sid};

use super::*;
use crate::security::{account_domain, default_descriptor};
use crate::storage::Initial;

const ALL: AccessMask = AccessMask::FILE_ALL_ACCESS;
const READ: AccessMask = AccessMask::FILE_GENERIC_READ;
const MAXIMUM: AccessMask = AccessMask::MAXIMUM_ALLOWED;
const HERE: AceFlags = AceFlags::EMPTY;

fn alice() -> Sid {
    account_domain(&[9; 16]).child(1000).unwrap()
}

/// Of somebody else.
fn descriptor(aces: Vec<Ace>) -> Box<SecurityDescriptor> {
    Box::new(SecurityDescriptor::new(Sid::LOCAL_SYSTEM, Sid::LOCAL_SYSTEM, Acl::new(aces)))
}

fn everyone(mask: AccessMask) -> Box<SecurityDescriptor> {
    descriptor(vec![Ace::allow(Sid::EVERYONE, mask, HERE)])
}

fn file(security: Box<SecurityDescriptor>) -> Object {
    Object { security: Some(security), ..object("a", 5, 50) }
}

fn root(security: Option<Box<SecurityDescriptor>>) -> Object {
    Object { security, ..directory(10) }
}

fn request(access: AccessMask) -> create::Request {
    let Command::Create(request) = create("a", CreateDisposition::OPEN) else { panic!() };
    create::Request { desired_access: access, ..*request }
}

fn closes(actions: &Actions) -> Vec<u64> {
    let handle = |op| if let StorageOp::Close { handle } = op { Some(handle.0) } else { None };
    submits(actions).into_iter().filter_map(|(_, op)| handle(op)).collect()
}

impl World {
    /// Sends a CREATE and says what its name leads to.
    fn create(&mut self, request: create::Request, resolved: Resolved) -> Actions {
        let (token, _) = submitted(&self.send(Command::Create(Box::new(request))));
        self.answer(token, StorageReply::Resolved(resolved))
    }

    /// Opens what is there, as far as storage that is to make it ready; says what was granted.
    fn granted(&mut self, request: create::Request, found: Object) -> AccessMask {
        let actions = self.create(request, Resolved::Found(found));
        self.granted_after(&actions)
    }

    fn granted_after(&mut self, actions: &Actions) -> AccessMask {
        let open = |(token, op)| if matches!(op, StorageOp::Open { .. }) { Some(token) } else { None };
        let token = submits(actions).into_iter().find_map(open);
        let token = token.unwrap_or_else(|| panic!("not granted: {actions:?}"));
        let actions = self.answer(token, StorageReply::Attributes(attributes(5)));
        assert_eq!(response(&actions).status, NtStatus::SUCCESS);
        self.shard.opens.values().next_back().unwrap().access
    }

    /// The CREATE is refused, these handles are given back, and nothing is kept.
    #[track_caller]
    fn refused(&mut self, actions: &Actions, status: NtStatus, handles: &[u64]) {
        assert_eq!(response(actions).status, status);
        assert_eq!(closes(actions), handles);
        for (token, _) in submits(actions) {
            self.answer(token, StorageReply::Done);
        }
        assert!(self.shard.waits.is_empty());
        assert!(self.shard.opens.is_empty() && self.shard.files.is_empty());
        assert!(self.shard.namespaces.is_empty());
    }
}

#[test]
fn a_dacl_refuses_what_it_does_not_grant() {
    let mut world = World::new().connected();
    let write = AccessMask::WRITE_DATA;
    let actions = world.create(request(READ.with(write)), Resolved::Found(file(everyone(READ))));
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[50]);
    let deny = Ace::deny(alice(), write, HERE);
    let denied = descriptor(vec![deny, Ace::allow(Sid::EVERYONE, ALL, HERE)]);
    let actions = world.create(request(write), Resolved::Found(file(denied.clone())));
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[50]);
    assert_eq!(world.granted(request(READ), file(denied)), READ);
}

#[test]
fn a_null_dacl_grants_everything_and_an_empty_one_nothing() {
    let mut world = World::new().connected();
    let actions = world.create(request(AccessMask::EXECUTE), Resolved::Found(file(descriptor(Vec::new()))));
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[50]);
    let mut null = descriptor(Vec::new());
    null.dacl = None;
    assert_eq!(world.granted(request(AccessMask::GENERIC_ALL), file(null)), ALL);
}

#[test]
fn what_has_no_descriptor_costs_nothing_and_grants_what_the_default_says() {
    let mut world = World::new().connected();
    let opened = world.granted(request(MAXIMUM), object("a", 5, 50));
    let default = default_descriptor(alice(), alice(), Kind::File);
    let asked = world.granted(request(MAXIMUM), file(Box::new(default)));
    assert_eq!((opened, asked), (ALL, ALL), "QUERY_INFO shows what is evaluated");
}

#[test]
fn the_maximum_counts_the_directory_and_is_told() {
    let mut world = World::new().connected();
    let mut request = request(MAXIMUM);
    request.contexts.push(RequestContext::QueryMaximalAccess(None));
    let actions = world.create(request.clone(), Resolved::Found(file(everyone(AccessMask::READ_DATA))));
    let (token, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Resolve { path: Vec::new(), stream: None });
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(root(None))));
    assert_eq!(closes(&actions), [10]);
    let open = submits(&actions).into_iter().find(|(_, op)| matches!(op, StorageOp::Open { .. }));
    let actions = world.answer(open.unwrap().0, StorageReply::Attributes(attributes(5)));
    let Body::Create(opened) = &response(&actions).body else { panic!("{actions:?}") };
    let expected = AccessMask::READ_DATA.with(AccessMask::DELETE).with(AccessMask::READ_ATTRIBUTES);
    let [ResponseContext::MaximalAccess(told)] = opened.contexts.as_slice() else { panic!("{opened:?}") };
    assert_eq!(told.maximal_access, expected);
    let open = world.shard.opens.values().next().unwrap();
    assert_eq!(open.access, expected);
}

#[test]
fn a_directory_that_grants_no_more_leaves_nothing_to_open() {
    let mut world = World::new().connected();
    let actions = world.create(request(MAXIMUM), Resolved::Found(file(descriptor(Vec::new()))));
    let (token, _) = submitted(&actions);
    let parent = root(Some(everyone(AccessMask::TRAVERSE)));
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(parent)));
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[10, 50]);
}

#[test]
fn who_may_delete_children_may_delete_any_child() {
    let mut world = World::new().connected();
    let delete =
        create::Request { create_options: CreateOptions::DELETE_ON_CLOSE, ..request(AccessMask::DELETE) };
    for (parent, granted) in [
        (Some(everyone(AccessMask::LIST_DIRECTORY)), false),
        (Some(everyone(AccessMask::DELETE_CHILD)), true),
    ] {
        let actions = world.create(delete.clone(), Resolved::Found(file(everyone(READ))));
        let (token, _) = submitted(&actions);
        let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(root(parent))));
        if granted {
            assert_eq!(world.granted_after(&actions), AccessMask::DELETE);
        } else {
            world.refused(&actions, NtStatus::ACCESS_DENIED, &[10, 50]);
        }
    }
}

#[test]
fn a_directory_that_is_another_by_now_is_not_asked() {
    let mut world = World::new().connected();
    let actions = world.create(request(AccessMask::DELETE), Resolved::Found(file(everyone(READ))));
    let (token, _) = submitted(&actions);
    let mut other = root(None);
    other.attributes.number = FileNumber(77);
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(other)));
    assert_eq!(closes(&actions), [10, 50]);
    let again = submits(&actions).into_iter().find(|(_, op)| matches!(op, StorageOp::Resolve { .. }));
    let (token, _) = again.expect("it runs again from its name");
    let actions = world.answer(token, StorageReply::Failed(NtStatus::IO_DEVICE_ERROR));
    assert_eq!(response(&actions).status, NtStatus::IO_DEVICE_ERROR);
}

#[test]
fn a_disconnect_while_the_directory_is_looked_up_gives_both_handles_back() {
    let mut world = World::new().connected();
    let actions = world.create(request(AccessMask::DELETE), Resolved::Found(file(everyone(READ))));
    let (token, _) = submitted(&actions);
    world.step(Event::Disconnected { connection: CONNECTION });
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(root(None))));
    let mut open = submits(&actions);
    let mut closed = Vec::new();
    while let Some((token, op)) = open.pop() {
        let mut reply = StorageReply::Attributes(attributes(5));
        if let StorageOp::Close { handle } = op {
            closed.push(handle.0);
            reply = StorageReply::Done;
        }
        open.extend(submits(&world.answer(token, reply)));
    }
    closed.sort_unstable();
    assert_eq!(closed, [10, 50]);
    assert!(world.shard.waits.is_empty() && world.shard.opens.is_empty() && world.shard.files.is_empty());
}

#[test]
fn an_owner_may_change_the_dacl_unless_it_says_what_owners_may() {
    let mut world = World::new().connected();
    let owners = AccessMask::READ_CONTROL.with(AccessMask::WRITE_DAC);
    let mut own = descriptor(Vec::new());
    own.owner = Some(alice());
    let mut bound = descriptor(vec![Ace::allow(Sid::OWNER_RIGHTS, AccessMask::READ_CONTROL, HERE)]);
    bound.owner = Some(alice());
    let actions = world.create(request(owners), Resolved::Found(file(bound)));
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[50]);
    assert_eq!(world.granted(request(owners), file(own)), owners);
}

#[test]
fn a_read_only_file_takes_writing_from_the_maximum() {
    let mut world = World::new().connected();
    let mut found = file(everyone(ALL));
    found.attributes.dos = FileAttributes::READONLY;
    let actions = world.create(request(AccessMask::WRITE_DATA), Resolved::Found(found.clone()));
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[50]);
    let deleting =
        create::Request { create_options: CreateOptions::DELETE_ON_CLOSE, ..request(AccessMask::DELETE) };
    let actions = world.create(deleting, Resolved::Found(found.clone()));
    world.refused(&actions, NtStatus::CANNOT_DELETE, &[50]);
    let actions = world.create(request(MAXIMUM), Resolved::Found(found));
    let (token, _) = submits(&actions).pop().unwrap();
    let mut read_only = attributes(5);
    read_only.dos = FileAttributes::READONLY;
    world.answer(token, StorageReply::Attributes(read_only));
    let writes = AccessMask::WRITE_DATA.with(AccessMask::APPEND_DATA);
    assert_eq!(world.shard.opens.values().next().unwrap().access, ALL.without(writes));
}

#[test]
fn overwriting_needs_the_right_to_write_what_it_replaces() {
    let mut world = World::new().connected();
    let overwrite = create::Request { create_disposition: CreateDisposition::OVERWRITE, ..request(READ) };
    let writes = READ.with(AccessMask::WRITE_DATA).with(AccessMask::WRITE_EA);
    let actions = world.create(overwrite.clone(), Resolved::Found(file(everyone(writes))));
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[50]);
    let writes = everyone(writes.with(AccessMask::WRITE_ATTRIBUTES));
    let actions = world.create(overwrite, Resolved::Found(file(writes)));
    assert!(matches!(submitted(&actions).1, StorageOp::Open { .. }));
}

#[test]
fn a_stream_is_made_by_who_may_write_the_file() {
    let mut world = World::new().connected();
    let stream = create::Request {
        name: Name::from("a:s"),
        create_disposition: CreateDisposition::OPEN_IF,
        ..request(READ)
    };
    let actions = world.create(stream.clone(), Resolved::NoStream { file: file(everyone(READ)) });
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[50]);
    let actions = world.create(stream, Resolved::NoStream { file: file(everyone(ALL)) });
    assert!(matches!(submitted(&actions).1, StorageOp::CreateStream { .. }));
}

/// What a new file, or directory, starts with in a directory.
fn initial(world: &mut World, request: create::Request, parent: Object) -> Initial {
    let actions = world.create(request, Resolved::NoName { parent });
    let (token, StorageOp::Create { initial, .. }) = submitted(&actions) else { panic!("{actions:?}") };
    world.answer(token, StorageReply::Failed(NtStatus::DISK_FULL));
    *initial
}

fn making(contexts: Vec<RequestContext>) -> create::Request {
    create::Request { create_disposition: CreateDisposition::CREATE, contexts, ..request(READ) }
}

#[test]
fn a_new_file_inherits_and_belongs_to_its_maker() {
    let mut world = World::new().connected();
    let plain = initial(&mut world, making(Vec::new()), root(None));
    assert_eq!((plain.security, plain.owner), (None, Some(alice())), "nothing to store but the owner");
    let handed = Ace::allow(Sid::CREATOR_OWNER, READ, AceFlags::OBJECT_INHERIT);
    let parent = descriptor(vec![Ace::allow(Sid::EVERYONE, ALL, HERE), handed]);
    let heir = initial(&mut world, making(Vec::new()), root(Some(parent))).security.unwrap();
    assert_eq!(heir.owner, Some(alice()));
    assert_eq!(heir.dacl, Some(Acl::new(vec![Ace::allow(alice(), READ, HERE)])));
    let nothing = initial(&mut world, making(Vec::new()), root(Some(everyone(ALL)))).security.unwrap();
    let own = [alice(), Sid::LOCAL_SYSTEM].map(|sid| Ace::allow(sid, ALL, HERE));
    assert_eq!(nothing.dacl, Some(Acl::new(own.to_vec())), "its maker's default list");
}

fn given(descriptor: &SecurityDescriptor) -> Vec<RequestContext> {
    let mut bytes = Vec::new();
    descriptor.emit(&mut bytes);
    vec![RequestContext::SdBuffer(bytes.into())]
}

#[test]
fn a_maker_gives_a_list_but_nobody_elses_ownership() {
    let mut world = World::new().connected();
    let list = Acl::new(vec![Ace::allow(Sid::EVERYONE, AccessMask::GENERIC_READ, HERE)]);
    let own = SecurityDescriptor { owner: None, ..SecurityDescriptor::new(alice(), alice(), list) };
    let made = initial(&mut world, making(given(&own)), root(None)).security.unwrap();
    assert_eq!(made.owner, Some(alice()));
    assert_eq!(made.dacl, Some(Acl::new(vec![Ace::allow(Sid::EVERYONE, READ, HERE)])));
    let actions = world.create(making(given(&everyone(ALL))), Resolved::NoName { parent: root(None) });
    assert_eq!(response(&actions).status, NtStatus::INVALID_OWNER);
    assert_eq!(closes(&actions), [10]);
}

#[test]
fn names_come_only_into_a_directory_that_lets_them_in() {
    let mut world = World::new().connected();
    let files = || root(Some(everyone(AccessMask::ADD_FILE)));
    let mut directory = making(Vec::new());
    directory.create_options = CreateOptions::DIRECTORY_FILE;
    let actions = world.create(directory, Resolved::NoName { parent: files() });
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[10]);
    let parent = root(Some(everyone(AccessMask::ADD_SUBDIRECTORY)));
    let actions = world.create(making(Vec::new()), Resolved::NoName { parent });
    world.refused(&actions, NtStatus::ACCESS_DENIED, &[10]);
    let actions = world.create(making(Vec::new()), Resolved::NoName { parent: files() });
    assert!(matches!(submitted(&actions).1, StorageOp::Create { .. }));
}

#[test]
fn a_maker_is_granted_what_the_new_list_does_not_grant() {
    let mut world = World::new().connected();
    let none = SecurityDescriptor { owner: None, ..*descriptor(Vec::new()) };
    let mut request = create::Request { desired_access: MAXIMUM, ..making(given(&none)) };
    request.contexts.push(RequestContext::QueryMaximalAccess(None));
    let actions = world.create(request, Resolved::NoName { parent: root(Some(everyone(ALL))) });
    let (token, op) = submitted(&actions);
    let StorageOp::Create { initial, .. } = op else { panic!("{op:?}") };
    let made = Object { security: initial.security, ..object("a", 5, 50) };
    let actions = world.answer(token, StorageReply::Opened(made));
    let Body::Create(opened) = &response(&actions).body else { panic!("{actions:?}") };
    let [ResponseContext::MaximalAccess(told)] = opened.contexts.as_slice() else { panic!("{opened:?}") };
    let by_directory = AccessMask::DELETE.with(AccessMask::READ_ATTRIBUTES);
    let owners = AccessMask::READ_CONTROL.with(AccessMask::WRITE_DAC);
    assert_eq!(told.maximal_access, owners.with(by_directory), "what the next open can have");
    assert_eq!(world.shard.opens.values().next().unwrap().access, ALL, "what this one has");
}

fn rename(file_id: FileId, replace: bool, link: bool) -> Command {
    let rename = RenameInformation {
        flags: if replace { RenameFlags::REPLACE_IF_EXISTS } else { RenameFlags::EMPTY },
        root_directory: 0,
        name: Name::from("b"),
    };
    let information =
        if link { SetFileInformation::Link(rename) } else { SetFileInformation::Rename(rename) };
    Command::SetInfo(Box::new(SetInfo { file_id, length: 40, what: Setting::File(information) }))
}

#[test]
fn a_rename_needs_the_right_to_add_a_name() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    for link in [false, true] {
        let (token, _) = submitted(&world.send(rename(id, false, link)));
        let parent = root(Some(everyone(AccessMask::ADD_SUBDIRECTORY)));
        let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(parent)));
        assert_eq!(response(&actions).status, NtStatus::ACCESS_DENIED);
        assert_eq!(closes(&actions), [10]);
    }
}

#[test]
fn a_rename_replaces_only_what_could_be_deleted() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    for (parent, security, may) in [
        (AccessMask::ADD_FILE, READ, false),
        (AccessMask::ADD_FILE, AccessMask::DELETE, true),
        (AccessMask::ADD_FILE.with(AccessMask::DELETE_CHILD), READ, true),
    ] {
        let (token, _) = submitted(&world.send(rename(id, true, false)));
        let parent = root(Some(everyone(parent)));
        let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(parent)));
        let (token, _) = submitted(&actions);
        let existing = Object { security: Some(everyone(security)), ..object("b", 6, 60) };
        let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(existing)));
        if may {
            let (token, op) = submitted(&actions);
            assert!(matches!(op, StorageOp::Rename { replace: true, .. }));
            let actions = world.answer(token, StorageReply::Failed(NtStatus::DISK_FULL));
            assert_eq!(closes(&actions), [10, 60]);
        } else {
            assert_eq!(response(&actions).status, NtStatus::ACCESS_DENIED);
            assert_eq!(closes(&actions), [10, 60]);
        }
    }
}

#[test]
fn a_read_only_share_takes_no_link() {
    let mut config = config();
    config.shares[0].read_only = true;
    let mut world = World::with(config).connected();
    world.granted(request(READ), object("a", 5, 50));
    let (id, open) = world.shard.opens.iter().next().unwrap();
    let id = open.file_id(*id);
    let (token, _) = submitted(&world.send(rename(id, false, true)));
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(root(None))));
    assert_eq!(response(&actions).status, NtStatus::ACCESS_DENIED);
}

#[test]
fn a_descriptor_is_set_with_specific_rights_and_no_strange_owner() {
    let mut world = World::new().connected();
    let file_id = world.open("a", 5, 50);
    let mut set = |parts, descriptor: Box<SecurityDescriptor>| {
        let what = Setting::Security { parts, descriptor };
        world.send(Command::SetInfo(Box::new(SetInfo { file_id, length: 40, what })))
    };
    let actions = set(SecurityInformation::OWNER, everyone(ALL));
    assert_eq!(response(&actions).status, NtStatus::INVALID_OWNER);
    let actions = set(SecurityInformation::OWNER, Box::default());
    assert_eq!(response(&actions).status, NtStatus::INVALID_OWNER);
    let actions = set(SecurityInformation::DACL, everyone(AccessMask::GENERIC_READ));
    let (_, StorageOp::SetSecurity { parts, descriptor, .. }) = submitted(&actions) else { panic!() };
    assert_eq!((parts, descriptor), (SecurityInformation::DACL, everyone(READ)));
}

#[test]
fn listings_are_trimmed_where_the_share_says_so() {
    for trimmed in [false, true] {
        let mut config = config();
        config.shares[0].access_based = trimmed;
        let mut world = World::with(config).connected();
        let actions = world.create(request(READ), Resolved::Found(directory(10)));
        let (token, _) = submitted(&actions);
        let actions = world.answer(token, StorageReply::Attributes(directory(10).attributes));
        let Body::Create(opened) = &response(&actions).body else { panic!("{actions:?}") };
        let query = query_directory::Request {
            file_information_class: FileInfoClass::NAMES.0,
            flags: query_directory::QueryDirectoryFlags::EMPTY,
            file_index: 0,
            file_id: opened.file_id,
            file_name: Name::from("*"),
            output_buffer_length: 4096,
        };
        let (_, op) = submitted(&world.send(Command::QueryDirectory(Box::new(query))));
        let StorageOp::List { listing, .. } = op else { panic!("{op:?}") };
        assert_eq!(listing.visible_to.map(|token| token.user), trimmed.then(alice));
    }
}
