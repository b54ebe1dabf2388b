//! Times that opens keep, and writes that are told of late (MS-FSA 2.1.4.17, 2.1.5.15.2).

use smb_proto::fscc::file_info::{BasicInformation, SetFileInformation};

use super::*;
use crate::request::Write;
use crate::storage::{Kept, SetAttributes};
use crate::timer::{Armed, Timer};

const AS_IT_IS: FileTime = FileTime(0);
const FREEZE: FileTime = FileTime(u64::MAX);
const THAW: FileTime = FileTime(u64::MAX - 1);

fn basic(last_access: FileTime, last_write: FileTime, change: FileTime) -> BasicInformation {
    BasicInformation {
        creation_time: AS_IT_IS,
        last_access_time: last_access,
        last_write_time: last_write,
        change_time: change,
        attributes: FileAttributes::EMPTY,
    }
}

fn set_basic(world: &mut World, file_id: FileId, basic: BasicInformation) -> Actions {
    let what = Setting::File(SetFileInformation::Basic(basic));
    world.send(Command::SetInfo(Box::new(SetInfo { file_id, length: 40, what })))
}

/// Sets times, and says what storage was asked.
fn change(world: &mut World, file_id: FileId, basic: BasicInformation) -> SetAttributes {
    let (token, op) = submitted(&set_basic(world, file_id, basic));
    let StorageOp::SetAttributes { set, .. } = op else { panic!("{op:?}") };
    assert_eq!(response(&world.answer(token, StorageReply::Done)).status, NtStatus::SUCCESS);
    set
}

fn write(world: &mut World, file_id: FileId) -> Actions {
    let actions = world.send(Command::Write(Write {
        file_id,
        offset: 0,
        buffer: BufferId(9),
        length: 4,
        write_through: false,
        unbuffered: false,
        by_rdma: false,
    }));
    let (token, op) = submitted(&actions);
    assert!(matches!(op, StorageOp::Write { .. }), "a write asks for nothing else: {op:?}");
    assert_eq!(response(&world.answer(token, StorageReply::Written { length: 4 })).status, NtStatus::SUCCESS);
    actions
}

fn armed(actions: &Actions) -> Option<(Timer, Armed)> {
    actions.iter().find_map(|action| {
        if let Action::Arm { timer, armed, .. } = action { Some((*timer, *armed)) } else { None }
    })
}

fn close(world: &mut World, file_id: FileId, flags: close::Flags) -> Actions {
    world.send(Command::Close(close::Request { flags, file_id }))
}

#[test]
fn a_time_that_is_set_is_kept_until_it_is_given_free() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let set = change(&mut world, id, basic(AS_IT_IS, FileTime(77), AS_IT_IS));
    let write_kept = Kept { write: true, ..Kept::default() };
    assert_eq!((set.last_write, set.kept), (Some(FileTime(77)), write_kept));
    // Frozen as it is; what was kept stays kept.
    let set = change(&mut world, id, basic(AS_IT_IS, AS_IT_IS, FREEZE));
    assert_eq!((set.change, set.kept), (None, Kept { change: true, ..write_kept }));
    let set = change(&mut world, id, basic(FREEZE, THAW, AS_IT_IS));
    assert_eq!((set.last_access, set.last_write), (None, None));
    assert_eq!(set.kept, Kept { access: true, write: false, change: true });
    // Another open keeps what it was told itself.
    let other = world.open("a", 5, 51);
    let set = change(&mut world, other, basic(AS_IT_IS, AS_IT_IS, AS_IT_IS));
    assert_eq!(set.kept, Kept::default());
}

#[test]
fn a_time_below_the_smallest_changes_nothing() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let actions = set_basic(&mut world, id, basic(FREEZE, AS_IT_IS, FileTime(u64::MAX - 2)));
    assert_eq!(response(&actions).status, NtStatus::INVALID_PARAMETER);
    let set = change(&mut world, id, basic(AS_IT_IS, AS_IT_IS, AS_IT_IS));
    assert!(set.kept.is_nothing(), "what was refused leaves nothing behind");
}

#[test]
fn the_first_write_shows_after_a_while_and_no_later_one() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let (timer, first) = armed(&write(&mut world, id)).unwrap();
    assert_eq!(timer, Timer::WriteTime(crate::ids::OpenId(id.persistent)));
    assert_eq!(armed(&write(&mut world, id)), None, "the delay is that of the first write");
    let (token, op) = submitted(&world.step(Event::Expired(timer, first)));
    assert_eq!(op, StorageOp::SettleTimes { handle: Handle(50), now: false });
    // Nothing is closed under it.
    assert!(close(&mut world, id, close::Flags::EMPTY).is_empty());
    let (token, op) = submitted(&world.answer(token, StorageReply::Attributes(attributes(5))));
    assert_eq!(op, StorageOp::Close { handle: Handle(50) }, "everything was told");
    assert_eq!(response(&world.answer(token, StorageReply::Done)).status, NtStatus::SUCCESS);
    assert!(world.step(Event::Expired(timer, first)).is_empty(), "the timer is gone");
    assert_eq!(world.shard.holdings().timers, 0);
}

#[test]
fn a_write_after_the_delay_has_the_time_of_the_close() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let (timer, first) = armed(&write(&mut world, id)).unwrap();
    let (token, _) = submitted(&world.step(Event::Expired(timer, first)));
    world.answer(token, StorageReply::Attributes(attributes(5)));
    assert_eq!(armed(&write(&mut world, id)), None);
    let (token, op) = submitted(&close(&mut world, id, close::Flags::POSTQUERY_ATTRIB));
    assert_eq!(op, StorageOp::SettleTimes { handle: Handle(50), now: true });
    let (token, op) = submitted(&world.answer(token, StorageReply::Attributes(attributes(5))));
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    let actions = world.answer(token, StorageReply::Done);
    let Body::Close(answer) = &response(&actions).body else { panic!("{actions:?}") };
    assert_eq!(answer.last_write_time, FileTime(3), "the attributes are those that settling left");
}

#[test]
fn a_flush_or_a_change_of_times_tells_of_what_was_written() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let (timer, first) = armed(&write(&mut world, id)).unwrap();
    let (token, _) = submitted(&world.step(Event::Expired(timer, first)));
    world.answer(token, StorageReply::Attributes(attributes(5)));
    write(&mut world, id);
    change(&mut world, id, basic(AS_IT_IS, AS_IT_IS, AS_IT_IS));
    let (_, op) = submitted(&close(&mut world, id, close::Flags::EMPTY));
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
}

#[test]
fn a_write_that_keeps_its_time_starts_no_delay() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    change(&mut world, id, basic(AS_IT_IS, FREEZE, AS_IT_IS));
    assert_eq!(armed(&write(&mut world, id)), None);
}

#[test]
fn a_close_within_the_delay_asks_storage_no_more_than_before() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let (timer, _) = armed(&write(&mut world, id)).unwrap();
    let actions = close(&mut world, id, close::Flags::EMPTY);
    assert!(actions.contains(&Action::Disarm(timer)), "{actions:?}");
    assert_eq!(submitted(&actions).1, StorageOp::Close { handle: Handle(50) });
}
