//! A rename over a file, and who opens that name meanwhile: it leads to one file or the other, and is never missing (MS-FSA
//! 2.1.5.15.11).

use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};

use super::*;

/// File 5, open as `a`, is being renamed over `b`, file 6; storage has been told to.
fn begin(world: &mut World) -> Token {
    let file_id = world.open("a", 5, 50);
    let rename =
        RenameInformation { flags: RenameFlags::REPLACE_IF_EXISTS, root_directory: 0, name: Name::from("b") };
    let what = Setting::File(SetFileInformation::Rename(rename));
    let command = Command::SetInfo(Box::new(SetInfo { file_id, length: 40, what }));
    let (token, _) = submitted(&world.send(command));
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(directory(10))));
    let (token, _) = submitted(&actions);
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(object("b", 6, 60))));
    let (token, op) = submitted(&actions);
    assert!(matches!(op, StorageOp::Rename { replace: true, .. }), "{op:?}");
    token
}

/// Opens `b`, which storage still takes for file 6.
fn open_old(world: &mut World) -> Actions {
    let (token, _) = submitted(&world.send(create("b", CreateDisposition::OPEN)));
    world.answer(token, StorageReply::Resolved(Resolved::Found(object("b", 6, 61))))
}

/// The CREATE starts again from its name, which now leads to this file.
fn opens_again(world: &mut World, actions: &Actions, number: u64) {
    let again = |(token, op)| if matches!(op, StorageOp::Resolve { .. }) { Some(token) } else { None };
    let token = submits(actions).into_iter().find_map(again).expect("the name is looked up again");
    let actions = world.answer(token, StorageReply::Resolved(Resolved::Found(object("b", number, 62))));
    let (token, op) = submitted(&actions);
    assert!(matches!(op, StorageOp::Open { handle: Handle(62), .. }), "{op:?}");
    let actions = world.answer(token, StorageReply::Attributes(attributes(number)));
    assert_eq!(response(&actions).status, NtStatus::SUCCESS);
}

#[test]
fn an_open_of_a_name_that_is_being_replaced_waits_for_the_new_file() {
    let mut world = World::new().connected();
    let rename = begin(&mut world);
    let actions = open_old(&mut world);
    assert_eq!((responses(&actions).len(), submits(&actions).len()), (0, 0), "{actions:?}");
    let actions = world.answer(rename, StorageReply::Done);
    assert_eq!(response(&actions).status, NtStatus::SUCCESS, "the rename");
    opens_again(&mut world, &actions, 5);
}

#[test]
fn an_open_goes_on_after_a_rename_that_failed() {
    let mut world = World::new().connected();
    let rename = begin(&mut world);
    open_old(&mut world);
    let actions = world.answer(rename, StorageReply::Failed(NtStatus::DISK_FULL));
    assert_eq!(response(&actions).status, NtStatus::DISK_FULL, "the rename");
    opens_again(&mut world, &actions, 6);
}

#[test]
fn a_client_that_goes_away_waits_no_more() {
    let mut world = World::new().connected();
    let rename = begin(&mut world);
    open_old(&mut world);
    let mut pending: Vec<Token> = Vec::new();
    let mut actions = world.step(Event::Disconnected { connection: CONNECTION });
    actions.extend(world.answer(rename, StorageReply::Done));
    loop {
        pending.extend(submits(&actions).into_iter().map(|(token, _)| token));
        let Some(token) = pending.pop() else { break };
        actions = world.answer(token, StorageReply::Done);
    }
    assert!(world.shard.waits.is_empty() && world.shard.files.is_empty(), "{:?}", world.shard.files);
}
