//! CHANGE_NOTIFY: who is told what, in which order, and how a watch ends (S19, S42).

use smb_proto::command::change_notify::{self, ChangeNotifyFlags, CompletionFilter};
use smb_proto::fscc::file_info::{BasicInformation, RenameFlags, RenameInformation, SetFileInformation};
use smb_proto::fscc::notify::{self, Action as Happened};

use super::*;
use crate::request::Write;
use crate::storage::{LocalChange, LocalNews};

const NAMES: CompletionFilter = CompletionFilter::FILE_NAME.with(CompletionFilter::DIR_NAME);
const ALL: CompletionFilter = CompletionFilter::VALID_MASK;

/// The watched directory's number, and that of one below it.
const DIRECTORY: u64 = 5;
const BELOW: u64 = 6;

fn child(name: &str, parent: u64, number: u64, kind: Kind) -> Object {
    let dos = if kind == Kind::Directory { FileAttributes::DIRECTORY } else { FileAttributes::ARCHIVE };
    Object {
        attributes: Attributes { kind, dos, ..attributes(number) },
        parent: FileNumber(parent),
        ..object(name, number, number * 10)
    }
}

fn notify_request(file_id: FileId, filter: CompletionFilter, tree: bool, length: u32) -> Command {
    let flags = if tree { ChangeNotifyFlags::WATCH_TREE } else { ChangeNotifyFlags::EMPTY };
    Command::ChangeNotify(change_notify::Request {
        flags,
        output_buffer_length: length,
        file_id,
        completion_filter: filter,
    })
}

fn close_request(file_id: FileId) -> Command {
    Command::Close(close::Request { flags: close::Flags::EMPTY, file_id })
}

impl World {
    fn open_object(&mut self, path: &str, object: Object) -> FileId {
        let (token, _) = submitted(&self.send(create(path, CreateDisposition::OPEN)));
        self.opened(token, object)
    }

    fn opened(&mut self, token: Token, object: Object) -> FileId {
        let attributes = object.attributes;
        let (token, _) = submitted(&self.answer(token, StorageReply::Resolved(Resolved::Found(object))));
        let actions = self.answer(token, StorageReply::Attributes(attributes));
        let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
        create.file_id
    }

    fn open_directory(&mut self) -> FileId {
        self.open_object("Dir", child("Dir", 1, DIRECTORY, Kind::Directory))
    }

    fn open_directory_for(&mut self, access: AccessMask) -> FileId {
        let Command::Create(mut open) = create("Dir", CreateDisposition::OPEN) else { unreachable!() };
        open.desired_access = access;
        let (token, _) = submitted(&self.send(Command::Create(open)));
        self.opened(token, child("Dir", 1, DIRECTORY, Kind::Directory))
    }

    /// Makes a file; returns what else than its CREATE was answered, and its open.
    fn make(&mut self, path: &str, parent: u64, number: u64) -> (Vec<Response>, FileId) {
        let name = path.rsplit('\\').next().unwrap_or(path);
        let (token, _) = submitted(&self.send(create(path, CreateDisposition::CREATE)));
        let parent_object = child("Dir", 1, parent, Kind::Directory);
        let missing = StorageReply::Resolved(Resolved::NoName { parent: parent_object });
        let (token, _) = submitted(&self.answer(token, missing));
        let actions = self.answer(token, StorageReply::Opened(child(name, parent, number, Kind::File)));
        let mut all: Vec<Response> = responses(&actions).into_iter().cloned().collect();
        let made = all.iter().position(|response| matches!(response.body, Body::Create(_))).unwrap();
        let Body::Create(create) = all.remove(made).body else { unreachable!() };
        (all, create.file_id)
    }

    /// Sends a CHANGE_NOTIFY that must wait.
    fn wait_for_change(&mut self, id: FileId, filter: CompletionFilter, tree: bool) -> MessageId {
        let actions = self.send(notify_request(id, filter, tree, 1000));
        let interim = response(&actions);
        assert_eq!((interim.status, &interim.body), (NtStatus::PENDING, &Body::Error), "{actions:?}");
        assert!(interim.async_id.is_some());
        interim.message
    }
}

fn changes(response: &Response) -> Vec<(Happened, String)> {
    assert_eq!(response.status, NtStatus::SUCCESS);
    let Body::Notify(bytes) = &response.body else { panic!("{response:?}") };
    let changes = notify::parse(&Bytes::from(bytes.clone())).unwrap();
    changes.into_iter().map(|change| (change.action, change.name.to_string())).collect()
}

/// What a watcher was told beside what else was answered.
#[track_caller]
fn told(actions: &Actions) -> Vec<(Happened, String)> {
    let mut all = responses(actions).into_iter().filter(|response| matches!(response.body, Body::Notify(_)));
    let first = all.next().unwrap_or_else(|| panic!("nobody was told: {actions:?}"));
    assert!(all.next().is_none(), "{actions:?}");
    changes(first)
}

fn one(action: Happened, name: &str) -> Vec<(Happened, String)> {
    vec![(action, name.to_owned())]
}

#[test]
fn a_change_answers_the_request_that_waits() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    let message = world.wait_for_change(directory, NAMES, false);
    let (told, _) = world.make(r"dir\New", DIRECTORY, 7);
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(told.message, message);
    assert!(told.async_id.is_some() && told.credits == 0);
    assert_eq!(changes(told), one(Happened::ADDED, "New"));
}

#[test]
fn what_happens_while_nobody_waits_is_kept() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    world.wait_for_change(directory, NAMES, false);
    world.make(r"dir\a", DIRECTORY, 7);
    assert!(world.make(r"dir\b", DIRECTORY, 8).0.is_empty());
    assert!(world.make(r"dir\c", DIRECTORY, 9).0.is_empty());
    let actions = world.send(notify_request(directory, NAMES, false, 1000));
    let told = response(&actions);
    assert_eq!(told.async_id, None, "nothing waited, so there was no interim response");
    let both = [(Happened::ADDED, "b".to_owned()), (Happened::ADDED, "c".to_owned())];
    assert_eq!(changes(told), both);
    world.wait_for_change(directory, NAMES, false);
}

#[test]
fn the_first_filter_sticks() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    let first = world.wait_for_change(directory, CompletionFilter::DIR_NAME, false);
    world.wait_for_change(directory, ALL, true);
    assert!(world.make(r"dir\a", DIRECTORY, 7).0.is_empty(), "files' names are not watched");
    assert!(world.make(r"dir\sub\a", BELOW, 8).0.is_empty(), "what is below is not watched");
    let (told, _) = world.make(r"a", 1, 9);
    assert!(told.is_empty());
    let request = world.request(Command::Cancel);
    let request = Request { message: first, ..request };
    let actions = world
        .step(Event::Request { connection: CONNECTION, chain: Chain { first: request, rest: Vec::new() } });
    assert_eq!(response(&actions).status, NtStatus::CANCELLED);
}

#[test]
fn requests_are_answered_in_order_each_once() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    let first = world.wait_for_change(directory, NAMES, true);
    let second = world.wait_for_change(directory, NAMES, true);
    let (told, _) = world.make(r"dir\sub\a", BELOW, 7);
    let [told] = told.as_slice() else { panic!("one change is one answer: {told:?}") };
    assert_eq!((told.message, changes(told)), (first, one(Happened::ADDED, r"sub\a")));
    let (told, _) = world.make(r"dir\sub\b", BELOW, 8);
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((told.message, changes(told)), (second, one(Happened::ADDED, r"sub\b")));
}

#[test]
fn what_does_not_fit_is_forgotten_and_said_so_once() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    // Room for two of the names below.
    let actions = world.send(notify_request(directory, NAMES, false, 40));
    assert_eq!(response(&actions).status, NtStatus::PENDING);
    for (name, number) in [("a", 7), ("b", 8), ("c", 9), ("long name", 10), ("d", 11)] {
        world.make(&format!(r"dir\{name}"), DIRECTORY, number);
    }
    let actions = world.send(notify_request(directory, NAMES, false, 1000));
    let told = response(&actions);
    assert_eq!((told.status, &told.body), (NtStatus::NOTIFY_ENUM_DIR, &Body::Notify(Vec::new())));
    world.wait_for_change(directory, NAMES, false);
    let (told, _) = world.make(r"dir\e", DIRECTORY, 12);
    assert_eq!(changes(&told[0]), one(Happened::ADDED, "e"));
    // A buffer that is too small for what was kept.
    world.make(r"dir\f", DIRECTORY, 13);
    let actions = world.send(notify_request(directory, NAMES, false, 4));
    assert_eq!(response(&actions).status, NtStatus::NOTIFY_ENUM_DIR);
    world.wait_for_change(directory, NAMES, false);
}

#[test]
fn a_cancelled_request_takes_nothing_with_it() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    let message = world.wait_for_change(directory, NAMES, false);
    let cancel = Request { message, ..world.request(Command::Cancel) };
    let chain = Chain { first: cancel, rest: Vec::new() };
    let actions = world.step(Event::Request { connection: CONNECTION, chain });
    let answer = response(&actions);
    assert_eq!((answer.message, answer.status, &answer.body), (message, NtStatus::CANCELLED, &Body::Error));
    assert!(world.make(r"dir\a", DIRECTORY, 7).0.is_empty());
    let actions = world.send(notify_request(directory, NAMES, false, 1000));
    assert_eq!(changes(response(&actions)), one(Happened::ADDED, "a"));
}

#[test]
fn a_close_ends_the_watch() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    let first = world.wait_for_change(directory, NAMES, false);
    let second = world.wait_for_change(directory, NAMES, false);
    let actions = world.send(close_request(directory));
    let answers: Vec<(MessageId, NtStatus, &Body)> = responses(&actions)
        .into_iter()
        .map(|response| (response.message, response.status, &response.body))
        .collect();
    let empty = Body::Notify(Vec::new());
    let cleanup = NtStatus::NOTIFY_CLEANUP;
    assert_eq!(answers, [(first, cleanup, &empty), (second, cleanup, &empty)]);
    assert_eq!(world.shard.holdings().watches, (0, 0));
    let (token, _) = submitted(&actions);
    assert_eq!(response(&world.answer(token, StorageReply::Done)).status, NtStatus::SUCCESS);
}

#[test]
fn a_disconnect_ends_the_watch() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    world.wait_for_change(directory, NAMES, true);
    let (token, _) = submitted(&world.step(Event::Disconnected { connection: CONNECTION }));
    world.answer(token, StorageReply::Done);
    assert_eq!(world.shard.holdings().watches, (0, 0));
    assert!(world.shard.opens.is_empty() && world.shard.waits.is_empty());
}

#[test]
fn a_delete_of_the_directory_ends_the_watch() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    let message = world.wait_for_change(directory, NAMES, false);
    let other = world.open_directory();
    let set =
        SetInfo { file_id: other, length: 1, what: Setting::File(SetFileInformation::Disposition(true)) };
    let (token, _) = submitted(&world.send(Command::SetInfo(Box::new(set))));
    let directory_attributes = child("Dir", 1, DIRECTORY, Kind::Directory).attributes;
    let (token, op) = submitted(&world.answer(token, StorageReply::Attributes(directory_attributes)));
    assert!(matches!(op, StorageOp::CheckEmpty { .. }));
    let actions = world.answer(token, StorageReply::Done);
    let ended = responses(&actions).into_iter().find(|response| response.message == message).unwrap();
    assert_eq!((ended.status, &ended.body), (NtStatus::DELETE_PENDING, &Body::Error));
    assert_eq!(world.shard.holdings().watches, (0, 0));
    for id in [directory, other] {
        let actions = world.send(notify_request(id, NAMES, false, 1000));
        assert_eq!(response(&actions).status, NtStatus::DELETE_PENDING);
    }
    assert_eq!(world.shard.holdings().watches, (0, 0));
}

#[test]
fn a_rename_is_told_in_both_halves() {
    let mut world = World::new().connected();
    let directory = world.open_directory_for(AccessMask::LIST_DIRECTORY);
    world.wait_for_change(directory, ALL, false);
    let (_, file) = world.make(r"dir\Old", DIRECTORY, 7);
    world.wait_for_change(directory, ALL, false);
    let rename =
        RenameInformation { flags: RenameFlags::EMPTY, root_directory: 0, name: Name::from(r"dir\new") };
    let set = SetInfo { file_id: file, length: 100, what: Setting::File(SetFileInformation::Rename(rename)) };
    let actions = world.send(Command::SetInfo(Box::new(set)));
    let (token, _) = submitted(&actions);
    let found = child("Dir", 1, DIRECTORY, Kind::Directory);
    let (token, _) = submitted(&world.answer(token, StorageReply::Resolved(Resolved::Found(found.clone()))));
    let actions = world.answer(token, StorageReply::Resolved(Resolved::NoName { parent: found }));
    let (token, _) =
        submits(&actions).into_iter().find(|(_, op)| matches!(op, StorageOp::Rename { .. })).unwrap();
    let actions = world.answer(token, StorageReply::Done);
    let both =
        [(Happened::RENAMED_OLD_NAME, "Old".to_owned()), (Happened::RENAMED_NEW_NAME, "new".to_owned())];
    assert_eq!(told(&actions), both, "and no more of a file whose name is new anyway");
}

#[test]
fn data_and_attributes_are_told_to_those_who_want_them() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    world.wait_for_change(directory, CompletionFilter::SIZE.with(CompletionFilter::CREATION), false);
    let (_, file) = world.make(r"dir\File", DIRECTORY, 7);
    let basic = |creation: u64, attributes: FileAttributes| {
        let basic =
            BasicInformation { creation_time: FileTime(creation), attributes, ..BasicInformation::default() };
        let what = Setting::File(SetFileInformation::Basic(basic));
        Command::SetInfo(Box::new(SetInfo { file_id: file, length: 40, what }))
    };
    let (token, _) = submitted(&world.send(basic(0, FileAttributes::HIDDEN)));
    assert!(matches!(response(&world.answer(token, StorageReply::Done)).body, Body::SetInfo));
    let (token, _) = submitted(&world.send(basic(77, FileAttributes::EMPTY)));
    let actions = world.answer(token, StorageReply::Done);
    assert_eq!(told(&actions), one(Happened::MODIFIED, "File"));
    let (token, _) = submitted(&world.send(basic(78, FileAttributes::EMPTY)));
    world.answer(token, StorageReply::Failed(NtStatus::DISK_FULL));
    world.wait_for_change(directory, ALL, false);
    let write = || {
        Command::Write(Write {
            file_id: file,
            offset: 0,
            length: 3,
            buffer: BufferId(9),
            write_through: false,
            unbuffered: false,
            by_rdma: false,
        })
    };
    let (token, _) = submitted(&world.send(write()));
    let actions = world.answer(token, StorageReply::Written { length: 3 });
    assert_eq!(told(&actions), one(Happened::MODIFIED, "File"));
    // Twice the same is told once.
    for _ in 0..2 {
        let (token, _) = submitted(&world.send(write()));
        world.answer(token, StorageReply::Written { length: 3 });
    }
    let actions = world.send(notify_request(directory, ALL, false, 1000));
    assert_eq!(changes(response(&actions)), one(Happened::MODIFIED, "File"));
}

#[test]
fn it_waits_only_at_the_end_of_a_compound() {
    let mut world = World::new().connected();
    let directory = world.open_directory();
    let first = world.request(notify_request(directory, NAMES, false, 1000));
    let second = world.request(Command::Echo);
    let chain = Chain { first, rest: vec![second] };
    let actions = world.step(Event::Request { connection: CONNECTION, chain });
    let statuses: Vec<NtStatus> = responses(&actions).iter().map(|response| response.status).collect();
    assert_eq!(statuses, [NtStatus::INTERNAL_ERROR, NtStatus::SUCCESS]);
    assert_eq!(world.shard.holdings().watches, (0, 0));
    // At the end, what came before it is answered when it begins to wait.
    let first = world.request(Command::Echo);
    let second = world.request(notify_request(directory, NAMES, false, 1000));
    let chain = Chain { first, rest: vec![second] };
    let actions = world.step(Event::Request { connection: CONNECTION, chain });
    let statuses: Vec<NtStatus> = responses(&actions).iter().map(|response| response.status).collect();
    assert_eq!(statuses, [NtStatus::SUCCESS, NtStatus::PENDING]);
    let (told, _) = world.make(r"dir\a", DIRECTORY, 7);
    assert_eq!(changes(&told[0]), one(Happened::ADDED, "a"));
}

#[test]
fn only_a_directory_that_may_be_listed_is_watched() {
    let mut world = World::new().connected();
    let file = world.open("a", 8, 80);
    let actions = world.send(notify_request(file, NAMES, false, 1000));
    assert_eq!(response(&actions).status, NtStatus::INVALID_PARAMETER);
    let directory = world.open_directory();
    let actions = world.send(notify_request(directory, NAMES, false, u32::MAX));
    assert_eq!(response(&actions).status, NtStatus::INVALID_PARAMETER);
    let directory = world.open_directory_for(AccessMask::READ_ATTRIBUTES);
    let actions = world.send(notify_request(directory, NAMES, false, 1000));
    assert_eq!(response(&actions).status, NtStatus::ACCESS_DENIED);
}

#[test]
fn watches_are_bounded() {
    let mut world = World::new().connected();
    let one = world.open_directory();
    let two = world.open_directory();
    world.wait_for_change(one, NAMES, false);
    for limits in [
        Limits { watches_per_session_max: 1, ..Limits::default() },
        Limits { watches_per_volume_max: 1, ..Limits::default() },
    ] {
        world.step(Event::Admin(crate::event::Admin::Limits(limits)));
        let actions = world.send(notify_request(two, NAMES, false, 1000));
        assert_eq!(response(&actions).status, NtStatus::INSUFFICIENT_RESOURCES);
        assert_eq!(world.shard.holdings().watches, (1, 1));
    }
    world.step(Event::Admin(crate::event::Admin::Limits(Limits::default())));
    world.wait_for_change(two, NAMES, false);
    // A connection's requests that wait are bounded too; the watch is there all the same.
    let limits = Limits { async_requests_per_connection_max: 2, ..Limits::default() };
    world.step(Event::Admin(crate::event::Admin::Limits(limits)));
    let actions = world.send(notify_request(two, NAMES, false, 1000));
    assert_eq!(response(&actions).status, NtStatus::INSUFFICIENT_RESOURCES);
}

fn locally_watched() -> World {
    let mut config = config();
    for share in &mut config.shares {
        share.caps.local_changes = true;
    }
    World::with(config).connected()
}

fn local(action: Happened, name: &str, filter: CompletionFilter) -> LocalChange {
    LocalChange { change: notify::Change { action, name: Name::from(name) }, filter }
}

#[test]
fn what_local_processes_change_is_told() {
    let mut world = locally_watched();
    let directory = world.open_directory();
    let actions = world.send(notify_request(directory, NAMES, true, 1000));
    assert!(responses(&actions).is_empty(), "nothing may be missed once the client hears that it waits");
    let (token, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Watch { handle: Handle(DIRECTORY * 10), tree: true });
    let actions = world.answer(token, StorageReply::Changed(LocalNews::Changes(Vec::new())));
    assert_eq!(response(&actions).status, NtStatus::PENDING);
    let (token, _) = submitted(&actions);
    let changes = vec![
        local(Happened::MODIFIED, "a", CompletionFilter::SIZE),
        local(Happened::ADDED, r"sub\b", CompletionFilter::FILE_NAME),
    ];
    let actions = world.answer(token, StorageReply::Changed(LocalNews::Changes(changes)));
    assert_eq!(told(&actions), one(Happened::ADDED, r"sub\b"));
    let (token, op) = submitted(&actions);
    assert!(matches!(op, StorageOp::Watch { .. }), "it goes on");
    let actions = world.answer(token, StorageReply::Changed(LocalNews::Overflow));
    let (token, _) = submitted(&actions);
    let answer = world.send(notify_request(directory, NAMES, true, 1000));
    assert_eq!(response(&answer).status, NtStatus::NOTIFY_ENUM_DIR);
    // The close waits for storage.
    let actions = world.send(close_request(directory));
    let (unwatch, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Unwatch { handle: Handle(DIRECTORY * 10) });
    assert!(responses(&actions).is_empty());
    assert!(world.answer(unwatch, StorageReply::Done).is_empty());
    let (close, op) = submitted(&world.answer(token, StorageReply::Done));
    assert_eq!(op, StorageOp::Close { handle: Handle(DIRECTORY * 10) });
    assert_eq!(response(&world.answer(close, StorageReply::Done)).status, NtStatus::SUCCESS);
    assert!(world.shard.waits.is_empty());
}

#[test]
fn a_directory_that_a_local_process_removes_ends_its_watch() {
    let mut world = locally_watched();
    let directory = world.open_directory();
    let (token, _) = submitted(&world.send(notify_request(directory, NAMES, false, 1000)));
    let listens = StorageReply::Changed(LocalNews::Changes(Vec::new()));
    let (token, _) = submitted(&world.answer(token, listens));
    let actions = world.answer(token, StorageReply::Changed(LocalNews::Gone));
    assert_eq!(response(&actions).status, NtStatus::DELETE_PENDING);
    assert!(submits(&actions).is_empty());
    let (close, op) = submitted(&world.send(close_request(directory)));
    assert!(matches!(op, StorageOp::Close { .. }));
    world.answer(close, StorageReply::Done);
    assert!(world.shard.waits.is_empty() && world.shard.opens.is_empty());
}

#[test]
fn a_close_before_storage_listens_leaves_nothing() {
    let mut world = locally_watched();
    let directory = world.open_directory();
    let (token, _) = submitted(&world.send(notify_request(directory, NAMES, false, 1000)));
    let actions = world.send(close_request(directory));
    assert_eq!(response(&actions).status, NtStatus::NOTIFY_CLEANUP);
    let listens = StorageReply::Changed(LocalNews::Changes(Vec::new()));
    let actions = world.answer(token, listens);
    let asked = submits(&actions);
    let [(unwatch, StorageOp::Unwatch { .. }), (close, StorageOp::Close { .. })] = asked.as_slice() else {
        panic!("{actions:?}")
    };
    world.answer(*unwatch, StorageReply::Done);
    assert_eq!(response(&world.answer(*close, StorageReply::Done)).status, NtStatus::SUCCESS);
    assert!(world.shard.waits.is_empty() && world.shard.opens.is_empty());
    assert_eq!(world.shard.holdings().watches, (0, 0));
}
