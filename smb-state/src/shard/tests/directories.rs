//! Directories that go with their open (MS-FSA 2.1.5.5; S40).

use smb_proto::fscc::file_info::SetFileInformation;

use super::*;

/// Opens directory 5 by the handle.
fn open_directory(world: &mut World, handle: u64, options: CreateOptions) -> FileId {
    let Command::Create(mut request) = create("d", CreateDisposition::OPEN) else { unreachable!() };
    request.create_options = options;
    let (token, _) = submitted(&world.send(Command::Create(request)));
    let found = Attributes { kind: Kind::Directory, dos: FileAttributes::DIRECTORY, ..attributes(5) };
    let object = Object { attributes: found, ..object("d", 5, handle) };
    let (token, _) = submitted(&world.answer(token, StorageReply::Resolved(Resolved::Found(object))));
    let actions = world.answer(token, StorageReply::Attributes(found));
    let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
    create.file_id
}

fn close(world: &mut World, file_id: FileId) -> Actions {
    world.send(Command::Close(close::Request { flags: close::Flags::EMPTY, file_id }))
}

/// A CREATE of a name in directory 5 that storage did not find; whether the name is reserved, or with what it is refused.
fn make_in_it(world: &mut World) -> Result<Token, NtStatus> {
    let (token, _) = submitted(&world.send(create(r"d\new", CreateDisposition::CREATE)));
    let parent = Object {
        attributes: Attributes { number: FileNumber(5), ..directory(90).attributes },
        ..directory(90)
    };
    let actions = world.answer(token, StorageReply::Resolved(Resolved::NoName { parent }));
    let (token, op) = submitted(&actions);
    if matches!(op, StorageOp::Create { .. }) {
        return Ok(token);
    }
    assert!(matches!(op, StorageOp::Close { .. }), "{op:?}");
    world.answer(token, StorageReply::Done);
    Err(response(&actions).status)
}

#[test]
fn an_empty_directory_goes_and_takes_no_names_meanwhile() {
    let mut world = World::new().connected();
    let id = open_directory(&mut world, 50, CreateOptions::DELETE_ON_CLOSE);
    let other = open_directory(&mut world, 51, CreateOptions::EMPTY);
    let (token, op) = submitted(&close(&mut world, id));
    assert_eq!(op, StorageOp::CheckEmpty { handle: Handle(50) });
    assert_eq!(
        make_in_it(&mut world),
        Err(NtStatus::DELETE_PENDING),
        "names are kept out while it is looked at"
    );
    let (token, op) = submitted(&world.answer(token, StorageReply::Done));
    assert_eq!(op, StorageOp::Close { handle: Handle(50) }, "another open holds it");
    world.answer(token, StorageReply::Done);
    assert_eq!(make_in_it(&mut world), Err(NtStatus::DELETE_PENDING));
    let (token, op) = submitted(&close(&mut world, other));
    assert_eq!(op, StorageOp::Unlink { handle: Handle(51) });
    let (token, _) = submitted(&world.answer(token, StorageReply::Done));
    world.answer(token, StorageReply::Done);
    let held = world.shard.holdings();
    assert_eq!((held.doomed, held.files, held.opens, held.waits), (0, 0, 0, 0));
}

#[test]
fn a_directory_with_entries_stays() {
    let mut world = World::new().connected();
    let id = open_directory(&mut world, 50, CreateOptions::DELETE_ON_CLOSE);
    let (token, _) = submitted(&close(&mut world, id));
    let failed = StorageReply::Failed(NtStatus::DIRECTORY_NOT_EMPTY);
    let (token, op) = submitted(&world.answer(token, failed));
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    assert_eq!(response(&world.answer(token, StorageReply::Done)).status, NtStatus::SUCCESS);
    assert!(make_in_it(&mut world).is_ok(), "names come in again");
    assert_eq!(world.shard.holdings().doomed, 0);
}

#[test]
fn a_close_waits_for_the_name_that_is_on_its_way_in() {
    let mut world = World::new().connected();
    let id = open_directory(&mut world, 50, CreateOptions::DELETE_ON_CLOSE);
    let make = make_in_it(&mut world).unwrap();
    assert!(close(&mut world, id).is_empty());
    let actions = world.answer(make, StorageReply::Failed(NtStatus::DISK_FULL));
    let all = submits(&actions);
    let check = all.iter().find(|(_, op)| matches!(op, StorageOp::CheckEmpty { handle: Handle(50) }));
    assert!(check.is_some(), "the name did not come after all: {actions:?}");
}

#[test]
fn whoever_clears_the_disposition_lets_names_in_again() {
    let mut world = World::new().connected();
    let id = open_directory(&mut world, 50, CreateOptions::DELETE_ON_CLOSE);
    let other = open_directory(&mut world, 51, CreateOptions::EMPTY);
    let (token, _) = submitted(&close(&mut world, id));
    let (token, _) = submitted(&world.answer(token, StorageReply::Done));
    world.answer(token, StorageReply::Done);
    assert_eq!(world.shard.holdings().doomed, 1);
    let what = Setting::File(SetFileInformation::Disposition(false));
    let clear = SetInfo { file_id: other, length: 1, what };
    assert_eq!(response(&world.send(Command::SetInfo(Box::new(clear)))).status, NtStatus::SUCCESS);
    assert_eq!(world.shard.holdings().doomed, 0);
    assert!(make_in_it(&mut world).is_ok());
}
