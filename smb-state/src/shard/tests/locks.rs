//! Byte-range locks (MS-SMB2 3.3.5.14; S22, S37, S38, S39, L7).

use smb_proto::command::ioctl::{CopyChunk, CopyChunkRequest, FsctlCode, ResumeKey};
use smb_proto::command::lock::{self, LockElement, LockFlags, LockSequence};
use smb_proto::fscc::fsctl::Range;

use super::*;
use crate::connection::Phase;
use crate::request::{Ioctl, IoctlInput, Write};
use crate::response::IoctlOutput;

const SHARED: LockFlags = LockFlags::SHARED_LOCK;
const EXCLUSIVE: LockFlags = LockFlags::EXCLUSIVE_LOCK;
const UNLOCK: LockFlags = LockFlags::UNLOCK;
const FAIL: LockFlags = LockFlags::FAIL_IMMEDIATELY;

fn element(offset: u64, length: u64, flags: LockFlags) -> LockElement {
    LockElement { offset, length, flags }
}

fn lock_all(file_id: FileId, locks: &[LockElement]) -> Command {
    Command::Lock(lock::Request { lock_sequence: LockSequence(0), file_id, locks: locks.to_vec() })
}

fn lock(file_id: FileId, offset: u64, length: u64, flags: LockFlags) -> Command {
    lock_all(file_id, &[element(offset, length, flags)])
}

fn read(file_id: FileId, offset: u64, length: u32) -> Command {
    let Command::Read(request) = read_request(file_id) else { unreachable!() };
    Command::Read(read::Request { offset, length, ..request })
}

fn write(file_id: FileId, offset: u64, length: u32) -> Command {
    Command::Write(Write {
        file_id,
        offset,
        buffer: BufferId(9),
        length,
        write_through: false,
        unbuffered: false,
        by_rdma: false,
    })
}

fn close(file_id: FileId) -> Command {
    Command::Close(close::Request { flags: close::Flags::EMPTY, file_id })
}

/// Two opens of one file.
fn two_opens() -> (World, FileId, FileId) {
    let mut world = World::new().connected();
    let one = world.open("a", 5, 50);
    let other = world.open("a", 5, 51);
    (world, one, other)
}

impl World {
    #[track_caller]
    fn status(&mut self, command: Command) -> NtStatus {
        response(&self.send(command)).status
    }

    /// Sends what has to wait; returns its message id.
    #[track_caller]
    fn send_waiting(&mut self, command: Command) -> MessageId {
        let message = MessageId(self.next_message);
        let actions = self.send(command);
        let interim = response(&actions);
        assert_eq!((interim.status, interim.message), (NtStatus::PENDING, message));
        assert!(interim.async_id.is_some());
        message
    }

    /// Closes an open; the answers of everything that this leads to.
    fn close_open(&mut self, file_id: FileId) -> Vec<(MessageId, NtStatus)> {
        let mut actions = self.send(close(file_id));
        let (token, _) = submitted(&actions);
        actions.extend(self.answer(token, StorageReply::Done));
        ended(&actions)
    }

    fn limit_locks(&mut self, most: u32) {
        let limits = Limits { locks_per_open_max: most, ..self.shard.limits };
        self.step(Event::Admin(crate::event::Admin::Limits(limits)));
    }
}

fn ended(actions: &Actions) -> Vec<(MessageId, NtStatus)> {
    responses(actions).iter().map(|response| (response.message, response.status)).collect()
}

#[test]
fn a_lock_is_in_the_way_of_others_until_it_is_unlocked() {
    let (mut world, one, other) = two_opens();
    assert_eq!(world.status(lock(one, 10, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    assert_eq!(world.status(read(other, 19, 1)), NtStatus::FILE_LOCK_CONFLICT);
    assert_eq!(world.status(write(other, 5, 6)), NtStatus::FILE_LOCK_CONFLICT);
    assert_eq!(world.status(lock(other, 19, 5, SHARED.with(FAIL))), NtStatus::LOCK_NOT_GRANTED);
    for free in [read(other, 20, 1), write(other, 0, 10), read(other, 15, 0), read(one, 10, 10)] {
        let (token, op) = submitted(&world.send(free));
        let reply = if let StorageOp::Write { length, .. } = op {
            StorageReply::Written { length }
        } else {
            StorageReply::Read { buffer: BufferId(3), length: 1 }
        };
        assert_eq!(response(&world.answer(token, reply)).status, NtStatus::SUCCESS);
    }
    assert_eq!(world.status(lock(other, 10, 10, UNLOCK)), NtStatus::RANGE_NOT_LOCKED, "it is not its own");
    assert_eq!(world.status(lock(one, 10, 9, UNLOCK)), NtStatus::RANGE_NOT_LOCKED);
    assert_eq!(world.status(lock(one, 10, 10, UNLOCK)), NtStatus::SUCCESS);
    submitted(&world.send(read(other, 19, 1)));
    submitted(&world.send(write(other, 5, 6)));
}

#[test]
fn a_shared_lock_is_in_the_way_of_every_writer() {
    let (mut world, one, other) = two_opens();
    assert_eq!(world.status(lock(one, 0, 10, SHARED)), NtStatus::SUCCESS);
    assert_eq!(world.status(lock(other, 5, 10, SHARED)), NtStatus::SUCCESS);
    submitted(&world.send(read(other, 0, 10)));
    submitted(&world.send(read(one, 0, 10)));
    assert_eq!(world.status(write(other, 0, 1)), NtStatus::FILE_LOCK_CONFLICT);
    assert_eq!(world.status(write(one, 0, 1)), NtStatus::FILE_LOCK_CONFLICT, "its owner too");
    assert_eq!(world.status(lock(one, 0, 4, EXCLUSIVE.with(FAIL))), NtStatus::LOCK_NOT_GRANTED);
}

#[test]
fn blocked_locks_are_granted_in_order() {
    let (mut world, one, other) = two_opens();
    let third = world.open("a", 5, 52);
    assert_eq!(world.status(lock(one, 0, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    let first = world.send_waiting(lock(other, 5, 1, EXCLUSIVE));
    let second = world.send_waiting(lock(third, 4, 3, EXCLUSIVE));
    let unlock = MessageId(world.next_message);
    let actions = world.send(lock(one, 0, 10, UNLOCK));
    assert_eq!(ended(&actions), [(unlock, NtStatus::SUCCESS), (first, NtStatus::SUCCESS)]);
    let granted = responses(&actions)[1];
    assert!(granted.async_id.is_some() && granted.body == Body::Empty);
    let unlock = MessageId(world.next_message);
    let actions = world.send(lock(other, 5, 1, UNLOCK));
    assert_eq!(ended(&actions), [(unlock, NtStatus::SUCCESS), (second, NtStatus::SUCCESS)]);
    assert!(world.shard.waits.is_empty());
}

#[test]
fn a_close_lets_go_of_locks_and_of_what_waits_for_them() {
    let (mut world, one, other) = two_opens();
    let locks = [element(0, 1, EXCLUSIVE.with(FAIL)), element(8, 8, SHARED.with(FAIL))];
    assert_eq!(world.status(lock_all(one, &locks)), NtStatus::SUCCESS);
    let waiting = world.send_waiting(lock(other, 0, 100, EXCLUSIVE));
    let closing = MessageId(world.next_message);
    let all = world.close_open(one);
    assert_eq!(all, [(waiting, NtStatus::SUCCESS), (closing, NtStatus::SUCCESS)]);
    assert_eq!(world.status(lock(other, 0, 100, UNLOCK)), NtStatus::SUCCESS);
}

#[test]
fn a_cancelled_lock_takes_nothing() {
    let (mut world, one, other) = two_opens();
    assert_eq!(world.status(lock(one, 0, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    let waiting = world.send_waiting(lock(other, 5, 1, EXCLUSIVE));
    let first = Request { message: waiting, ..world.request(Command::Cancel) };
    world.next_message -= 1;
    let chain = Chain { first, rest: Vec::new() };
    let actions = world.step(Event::Request { connection: CONNECTION, chain });
    assert_eq!(ended(&actions), [(waiting, NtStatus::CANCELLED)]);
    let actions = world.send(lock(one, 0, 10, UNLOCK));
    assert_eq!(responses(&actions).len(), 1, "nobody waits any more: {actions:?}");
    assert_eq!(world.status(lock(other, 5, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED);
}

#[test]
fn a_blocked_lock_ends_with_its_open() {
    let (mut world, one, other) = two_opens();
    assert_eq!(world.status(lock(one, 0, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    let waiting = world.send_waiting(lock(other, 5, 1, EXCLUSIVE));
    let closing = MessageId(world.next_message);
    let all = world.close_open(other);
    assert_eq!(all, [(waiting, NtStatus::RANGE_NOT_LOCKED), (closing, NtStatus::SUCCESS)]);
    let waiting = world.send_waiting(lock(one, 5, 1, EXCLUSIVE));
    let mut actions = world.send(Command::Logoff);
    for _ in 0..2 {
        let Some((token, _)) = submits(&actions).pop() else { break };
        let more = world.answer(token, StorageReply::Done);
        actions.retain(|action| !matches!(action, Action::Submit { .. }));
        actions.extend(more);
    }
    assert_eq!(ended(&actions)[0], (waiting, NtStatus::RANGE_NOT_LOCKED));
    assert!(world.shard.waits.is_empty() && world.shard.files.is_empty());
}

#[test]
fn a_lock_waits_for_the_io_that_it_forbids_and_what_comes_meanwhile_waits_for_it() {
    let (mut world, one, other) = two_opens();
    let (under_way, _) = submitted(&world.send(read(other, 5, 1)));
    let locking = MessageId(world.next_message);
    let actions = world.send(lock(one, 0, 10, EXCLUSIVE));
    assert!(actions.is_empty(), "no interim response: storage answers soon: {actions:?}");
    let reading = MessageId(world.next_message);
    assert!(world.send(read(other, 6, 1)).is_empty(), "the lock is before it");
    submitted(&world.send(read(other, 10, 1)));
    submitted(&world.send(write(one, 0, 10)));
    let read = MessageId(locking.0 - 1);
    let actions = world.answer(under_way, StorageReply::Read { buffer: BufferId(3), length: 1 });
    assert_eq!(
        ended(&actions),
        [(read, NtStatus::SUCCESS), (locking, NtStatus::SUCCESS), (reading, NtStatus::FILE_LOCK_CONFLICT)]
    );
}

#[test]
fn a_lock_does_not_wait_for_checked_io_elsewhere_in_the_file() {
    let (mut world, one, other) = two_opens();
    assert_eq!(world.status(lock(one, 0, 1, EXCLUSIVE)), NtStatus::SUCCESS);
    let (elsewhere, _) = submitted(&world.send(read(other, 100, 1)));
    let (here, _) = submitted(&world.send(read(other, 50, 1)));
    assert_eq!(world.status(lock(one, 10, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    let locking = MessageId(world.next_message);
    assert!(world.send(lock(one, 50, 10, EXCLUSIVE)).is_empty());
    let actions = world.answer(here, StorageReply::Read { buffer: BufferId(3), length: 1 });
    assert!(ended(&actions).contains(&(locking, NtStatus::SUCCESS)), "{actions:?}");
    world.answer(elsewhere, StorageReply::Read { buffer: BufferId(4), length: 1 });
}

#[test]
fn arrays_lock_all_or_nothing_and_unlock_as_far_as_they_get() {
    let (mut world, one, other) = two_opens();
    assert_eq!(world.status(lock(other, 20, 1, SHARED)), NtStatus::SUCCESS);
    let locks = [element(0, 1, EXCLUSIVE.with(FAIL)), element(15, 10, EXCLUSIVE.with(FAIL))];
    assert_eq!(world.status(lock_all(one, &locks)), NtStatus::LOCK_NOT_GRANTED);
    assert_eq!(world.status(lock(one, 0, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED, "undone");
    let locks = [0, 2, 4].map(|offset| element(offset, 1, EXCLUSIVE.with(FAIL)));
    assert_eq!(world.status(lock_all(one, &locks)), NtStatus::SUCCESS);
    let unlocks = [element(0, 1, UNLOCK), element(1, 1, UNLOCK), element(4, 1, UNLOCK)];
    assert_eq!(world.status(lock_all(one, &unlocks)), NtStatus::RANGE_NOT_LOCKED);
    assert_eq!(world.status(lock(one, 0, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED, "kept");
    assert_eq!(world.status(lock(one, 4, 1, UNLOCK)), NtStatus::SUCCESS, "not reached");
    let unlocks = [element(2, 1, UNLOCK), element(2, 1, SHARED)];
    assert_eq!(world.status(lock_all(one, &unlocks)), NtStatus::INVALID_PARAMETER);
    assert_eq!(world.status(lock(one, 2, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED, "kept");
    // What comes before an element that unlocks stays locked.
    let locks = [element(0, 1, EXCLUSIVE.with(FAIL)), element(2, 1, UNLOCK.with(FAIL))];
    assert_eq!(world.status(lock_all(one, &locks)), NtStatus::INVALID_PARAMETER);
    assert_eq!(world.status(lock(one, 0, 1, UNLOCK)), NtStatus::SUCCESS);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (mut world, one, _) = two_opens();
    let wrong = [
        vec![],
        vec![element(0, 1, LockFlags::EMPTY)],
        vec![element(0, 1, SHARED.with(EXCLUSIVE))],
        vec![element(0, 1, SHARED.with(LockFlags(0x20)))],
        vec![element(0, 1, UNLOCK.with(FAIL))],
        // Several elements never wait.
        vec![element(0, 1, SHARED), element(2, 1, SHARED)],
        vec![element(0, 1, SHARED.with(FAIL)), element(2, 1, SHARED)],
    ];
    for elements in wrong {
        assert_eq!(world.status(lock_all(one, &elements)), NtStatus::INVALID_PARAMETER, "{elements:?}");
    }
    for flags in [SHARED, UNLOCK] {
        assert_eq!(world.status(lock(one, u64::MAX, 2, flags)), NtStatus::INVALID_LOCK_RANGE);
    }
    assert_eq!(world.status(lock(one, u64::MAX, 1, EXCLUSIVE)), NtStatus::SUCCESS);
    let gone = FileId { volatile: one.volatile + 1, ..one };
    assert_eq!(world.status(lock(gone, 0, 1, SHARED)), NtStatus::FILE_CLOSED);
}

#[test]
fn an_open_that_neither_reads_nor_writes_locks_nothing() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let open = world.shard.opens.values_mut().next().unwrap();
    open.access = AccessMask::READ_ATTRIBUTES;
    assert_eq!(world.status(lock(id, 0, 1, SHARED)), NtStatus::ACCESS_DENIED);
    let open = world.shard.opens.values_mut().next().unwrap();
    (open.access, open.kind) = (AccessMask::READ_DATA, Kind::Directory);
    assert_eq!(world.status(lock(id, 0, 1, SHARED)), NtStatus::INVALID_PARAMETER);
    world.shard.opens.values_mut().next().unwrap().kind = Kind::Pipe;
    assert_eq!(world.status(lock(id, 0, 1, SHARED)), NtStatus::INVALID_DEVICE_REQUEST);
}

/// What an open writes under its lock comes before the next lock of the bytes, also when it unlocks before storage is done: who
/// reads under that lock must not find what was there before.
#[test]
fn a_lock_waits_for_what_was_written_under_the_one_before() {
    for asks in [false, true] {
        let (mut world, one, other) = two_opens();
        if asks {
            // Beside a shared lock writers ask the file each time.
            assert_eq!(world.status(lock(other, 100, 1, SHARED)), NtStatus::SUCCESS);
        }
        assert_eq!(world.status(lock(one, 0, 10, EXCLUSIVE)), NtStatus::SUCCESS);
        let waiting = world.send_waiting(lock(other, 5, 1, EXCLUSIVE));
        let (writing, op) = submitted(&world.send(write(one, 5, 1)));
        assert!(matches!(op, StorageOp::Write { .. }));
        let unlocked = world.send(lock(one, 0, 10, UNLOCK));
        assert_eq!(response(&unlocked).status, NtStatus::SUCCESS, "and nobody else is answered");
        let actions = world.answer(writing, StorageReply::Written { length: 1 });
        assert!(ended(&actions).contains(&(waiting, NtStatus::SUCCESS)), "{actions:?}");
        assert_eq!(ended(&actions).len(), 2);
        // Now the next one writes, and what the first one asks for is refused.
        assert_eq!(world.status(read(one, 5, 1)), NtStatus::FILE_LOCK_CONFLICT);
        submitted(&world.send(read(other, 5, 1)));
    }
}

#[test]
fn an_open_has_so_many_locks_and_no_more() {
    let (mut world, one, other) = two_opens();
    world.limit_locks(2);
    assert_eq!(world.status(lock(one, 0, 1, EXCLUSIVE)), NtStatus::SUCCESS);
    let locks = [element(2, 1, SHARED.with(FAIL)), element(4, 1, SHARED.with(FAIL))];
    assert_eq!(world.status(lock_all(one, &locks)), NtStatus::INSUFFICIENT_RESOURCES);
    assert_eq!(world.status(lock(one, 2, 1, SHARED)), NtStatus::SUCCESS, "nothing was kept");
    assert_eq!(world.status(lock(one, 4, 1, SHARED)), NtStatus::INSUFFICIENT_RESOURCES);
    assert_eq!(world.status(lock(other, 4, 1, SHARED)), NtStatus::SUCCESS, "others have their own");
    assert_eq!(world.status(lock(one, 2, 1, UNLOCK)), NtStatus::SUCCESS);
    assert_eq!(world.status(lock(one, 4, 1, SHARED)), NtStatus::SUCCESS, "one was given back");
}

#[test]
fn so_many_locks_wait_and_no_more() {
    let (mut world, one, other) = two_opens();
    let limits = Limits { async_requests_per_connection_max: 1, ..world.shard.limits };
    world.step(Event::Admin(crate::event::Admin::Limits(limits)));
    assert_eq!(world.status(lock(one, 0, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    world.send_waiting(lock(other, 0, 1, EXCLUSIVE));
    assert_eq!(world.status(lock(other, 2, 1, EXCLUSIVE)), NtStatus::INSUFFICIENT_RESOURCES);
    let actions = world.send(lock(one, 0, 10, UNLOCK));
    assert_eq!(responses(&actions).len(), 2, "one has waited: {actions:?}");
}

#[test]
fn nothing_waits_in_the_middle_of_a_compound() {
    let (mut world, one, other) = two_opens();
    assert_eq!(world.status(lock(one, 0, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    let first = world.request(lock(other, 0, 1, EXCLUSIVE));
    let mut last = world.request(lock(FileId::ALL_ONES, 0, 1, EXCLUSIVE));
    last.related = true;
    let (refused, waiting) = (first.message, last.message);
    let chain = Chain { first, rest: vec![last] };
    let actions = world.step(Event::Request { connection: CONNECTION, chain });
    assert_eq!(ended(&actions), [(refused, NtStatus::INTERNAL_ERROR), (waiting, NtStatus::PENDING)]);
    let actions = world.send(lock(one, 0, 10, UNLOCK));
    assert_eq!(ended(&actions)[1..], [(waiting, NtStatus::SUCCESS)], "the last may");
}

#[test]
fn a_lock_that_is_sent_again_takes_effect_once() {
    let (mut world, one, _) = two_opens();
    let sequence = |number, index, flags| {
        Command::Lock(lock::Request {
            lock_sequence: LockSequence::new(number, index),
            file_id: one,
            locks: vec![element(0, 1, flags)],
        })
    };
    // Without several channels nothing is sent again.
    assert_eq!(world.status(sequence(1, 1, SHARED)), NtStatus::SUCCESS);
    assert_eq!(world.status(sequence(1, 1, UNLOCK)), NtStatus::SUCCESS);
    assert_eq!(world.status(sequence(1, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED);
    let connection = world.shard.connections.get_mut(&CONNECTION).unwrap();
    let Phase::Ready(negotiated) = &mut connection.phase else { panic!("not negotiated") };
    negotiated.terms.multi_channel = true;
    assert_eq!(world.status(sequence(1, 1, EXCLUSIVE)), NtStatus::SUCCESS);
    assert_eq!(world.status(sequence(1, 1, EXCLUSIVE)), NtStatus::SUCCESS, "again");
    assert_eq!(world.status(sequence(2, 1, UNLOCK)), NtStatus::SUCCESS, "another number");
    assert_eq!(world.status(sequence(2, 1, UNLOCK)), NtStatus::SUCCESS, "again");
    assert_eq!(world.status(sequence(1, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED, "a failure is not kept");
    assert_eq!(world.status(sequence(1, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED);
    for index in [0, 65] {
        assert_eq!(world.status(sequence(1, index, SHARED)), NtStatus::SUCCESS);
        assert_eq!(world.status(sequence(1, index, UNLOCK)), NtStatus::SUCCESS);
        assert_eq!(world.status(sequence(1, index, UNLOCK)), NtStatus::RANGE_NOT_LOCKED, "not in use");
    }
}

#[test]
fn a_lock_that_is_sent_again_while_it_waits_is_not_taken_twice() {
    let (mut world, one, other) = two_opens();
    let connection = world.shard.connections.get_mut(&CONNECTION).unwrap();
    let Phase::Ready(negotiated) = &mut connection.phase else { panic!("not negotiated") };
    negotiated.terms.multi_channel = true;
    let sequence = |number, index| {
        let lock_sequence = LockSequence::new(number, index);
        Command::Lock(lock::Request { lock_sequence, file_id: other, locks: vec![element(0, 1, EXCLUSIVE)] })
    };
    assert_eq!(world.status(lock(one, 0, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    let waiting = world.send_waiting(sequence(1, 1));
    assert_eq!(world.status(sequence(1, 1)), NtStatus::FILE_NOT_AVAILABLE);
    let actions = world.send(lock(one, 0, 10, UNLOCK));
    assert_eq!(ended(&actions)[1..], [(waiting, NtStatus::SUCCESS)]);
    assert_eq!(world.status(sequence(1, 1)), NtStatus::SUCCESS, "it is known by now");
    assert_eq!(world.status(lock(other, 0, 1, UNLOCK)), NtStatus::SUCCESS);
    assert_eq!(world.status(lock(other, 0, 1, UNLOCK)), NtStatus::RANGE_NOT_LOCKED, "once");
}

#[test]
fn a_lock_breaks_what_others_cache_and_keeps_them_from_caching() {
    let mut world = World::new().connected();
    let open = |world: &mut World, handle: u64, level: OplockLevel| {
        let Command::Create(mut request) = create("a", CreateDisposition::OPEN) else { unreachable!() };
        request.oplock_level = level;
        let (token, _) = submitted(&world.send(Command::Create(request)));
        let found = Resolved::Found(object("a", 5, handle));
        let (token, _) = submitted(&world.answer(token, StorageReply::Resolved(found)));
        let actions = world.answer(token, StorageReply::Attributes(attributes(5)));
        let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
        (create.file_id, create.oplock_level)
    };
    let (_, level) = open(&mut world, 50, OplockLevel::II);
    assert_eq!(level, OplockLevel::II);
    let (other, _) = open(&mut world, 51, OplockLevel::NONE);
    let actions = world.send(lock(other, 0, 1, SHARED));
    assert_eq!(response(&actions).status, NtStatus::SUCCESS, "it does not wait for level II");
    assert!(
        actions.iter().any(|action| matches!(action, Action::Output(_, Output::Notify(_)))),
        "{actions:?}"
    );
    let (third, level) = open(&mut world, 52, OplockLevel::II);
    assert_eq!(level, OplockLevel::NONE, "reads would go unnoticed by locks");
    assert_eq!(world.status(lock(other, 0, 1, UNLOCK)), NtStatus::SUCCESS);
    submitted(&world.send(write(third, 0, 1)));
}

#[test]
fn a_copy_stops_at_the_chunk_that_is_locked() {
    let mut world = World::new().connected();
    let source = world.open("a", 5, 50);
    let target = world.open("b", 6, 60);
    let other = world.open("b", 6, 61);
    assert_eq!(world.status(lock(other, 10, 10, EXCLUSIVE)), NtStatus::SUCCESS);
    let mut key = [0; 24];
    key[..8].copy_from_slice(&source.persistent.to_le_bytes());
    key[8..16].copy_from_slice(&source.volatile.to_le_bytes());
    let chunk = |at: u64| CopyChunk { source_offset: at, target_offset: at, length: 10 };
    let copy = CopyChunkRequest { source_key: ResumeKey(key), chunks: vec![chunk(0), chunk(10), chunk(20)] };
    let ioctl = Ioctl {
        code: FsctlCode::SRV_COPYCHUNK,
        file_id: target,
        is_fsctl: true,
        input_length: 100,
        input_max: 0,
        output_max: 12,
        input: IoctlInput::CopyChunk(copy),
    };
    let (token, op) = submitted(&world.send(Command::Ioctl(Box::new(ioctl))));
    assert!(matches!(op, StorageOp::Copy { target_offset: 0, length: 10, .. }), "{op:?}");
    let actions = world.answer(token, StorageReply::Written { length: 10 });
    let answer = response(&actions);
    assert_eq!(answer.status, NtStatus::FILE_LOCK_CONFLICT);
    let Body::Ioctl { output: IoctlOutput::Bytes(bytes), .. } = &answer.body else { panic!("{answer:?}") };
    assert_eq!(bytes[..4], [1, 0, 0, 0], "one chunk was written");
    assert_eq!(world.status(lock(other, 10, 10, UNLOCK)), NtStatus::SUCCESS);
    assert!(!world.close_open(source).is_empty(), "nothing is left outstanding");
}

#[test]
fn what_is_locked_is_neither_zeroed_nor_trimmed() {
    let (mut world, one, other) = two_opens();
    for open in world.shard.opens.values_mut() {
        open.caps.sparse = true;
    }
    assert_eq!(world.status(lock(one, 5000, 10, SHARED)), NtStatus::SUCCESS);
    let control = |code: FsctlCode, input: IoctlInput| {
        Command::Ioctl(Box::new(Ioctl {
            code,
            file_id: other,
            is_fsctl: true,
            input_length: 16,
            input_max: 0,
            output_max: 0,
            input,
        }))
    };
    let zero = |offset, beyond| control(FsctlCode::SET_ZERO_DATA, IoctlInput::ZeroData(offset, beyond));
    let trim = |file_offset, length| {
        let ranges = vec![Range { file_offset, length }];
        control(FsctlCode::FILE_LEVEL_TRIM, IoctlInput::Trim(ranges))
    };
    assert_eq!(world.status(zero(4096, 5001)), NtStatus::FILE_LOCK_CONFLICT);
    assert_eq!(world.status(trim(0, 8192)), NtStatus::FILE_LOCK_CONFLICT);
    submitted(&world.send(zero(4096, 5000)));
    submitted(&world.send(trim(0, 4096)));
}
