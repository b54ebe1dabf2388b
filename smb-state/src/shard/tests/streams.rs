//! Named streams: what goes with the last close, and how they are renamed (MS-FSA 2.1.5.5, 2.1.5.15.12.1).

use smb_proto::fscc::file_info::{RenameFlags, RenameInformation, SetFileInformation};

use super::*;

/// Opens stream `S` of file 5, or the file itself.
fn open(world: &mut World, stream: &str, handle: u64, options: CreateOptions) -> FileId {
    let path = if stream.is_empty() { "f".to_owned() } else { format!("f:{stream}") };
    let Command::Create(mut request) = create(&path, CreateDisposition::OPEN) else { unreachable!() };
    request.create_options = options;
    let (token, _) = submitted(&world.send(Command::Create(request)));
    let object = Object { stream: Name::from(stream), ..object("f", 5, handle) };
    let (token, _) = submitted(&world.answer(token, StorageReply::Resolved(Resolved::Found(object))));
    let actions = world.answer(token, StorageReply::Attributes(attributes(5)));
    let Body::Create(create) = &response(&actions).body else { panic!("{actions:?}") };
    create.file_id
}

fn close(world: &mut World, file_id: FileId) -> (Token, StorageOp) {
    submitted(&world.send(Command::Close(close::Request { flags: close::Flags::EMPTY, file_id })))
}

fn rename(world: &mut World, file_id: FileId, name: &str) -> Actions {
    let rename = RenameInformation {
        flags: RenameFlags::REPLACE_IF_EXISTS,
        root_directory: 0,
        name: Name::from(name),
    };
    let what = Setting::File(SetFileInformation::Rename(rename));
    world.send(Command::SetInfo(Box::new(SetInfo { file_id, length: 40, what })))
}

#[test]
fn a_stream_that_closes_last_takes_the_file_with_it() {
    let mut world = World::new().connected();
    let stream = open(&mut world, "S", 50, CreateOptions::EMPTY);
    let file = open(&mut world, "", 51, CreateOptions::DELETE_ON_CLOSE);
    let (token, op) = close(&mut world, file);
    assert_eq!(op, StorageOp::Close { handle: Handle(51) }, "the stream holds the file");
    world.answer(token, StorageReply::Done);
    let (token, op) = close(&mut world, stream);
    assert_eq!(op, StorageOp::Unlink { handle: Handle(50) }, "the file goes, not the stream");
    let (token, op) = submitted(&world.answer(token, StorageReply::Done));
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    world.answer(token, StorageReply::Done);
    assert!(world.shard.files.is_empty() && world.shard.opens.is_empty());
}

#[test]
fn a_name_is_gone_with_the_last_open_for_whoever_comes_while_it_is_being_removed() {
    let mut world = World::new().connected();
    let file = open(&mut world, "", 50, CreateOptions::DELETE_ON_CLOSE);
    let (removal, op) = close(&mut world, file);
    assert_eq!(op, StorageOp::Unlink { handle: Handle(50) });
    let (token, _) = submitted(&world.send(create("f", CreateDisposition::OPEN)));
    let found = Resolved::Found(object("f", 5, 51));
    let actions = world.answer(token, StorageReply::Resolved(found));
    assert_eq!((responses(&actions).len(), submits(&actions).len()), (0, 0), "it waits: {actions:?}");
    let actions = world.answer(removal, StorageReply::Done);
    let again = |(token, op)| if matches!(op, StorageOp::Resolve { .. }) { Some(token) } else { None };
    let token = submits(&actions).into_iter().find_map(again).expect("the name is looked up again");
    let parent = directory(10);
    let actions = world.answer(token, StorageReply::Resolved(Resolved::NoName { parent }));
    let statuses: Vec<NtStatus> = responses(&actions).iter().map(|response| response.status).collect();
    assert!(!statuses.contains(&NtStatus::DELETE_PENDING), "{statuses:?}");
}

#[test]
fn a_stream_goes_before_its_file_when_both_do() {
    let mut world = World::new().connected();
    let stream = open(&mut world, "S", 50, CreateOptions::DELETE_ON_CLOSE);
    let file = open(&mut world, "", 51, CreateOptions::DELETE_ON_CLOSE);
    let (token, _) = close(&mut world, file);
    world.answer(token, StorageReply::Done);
    let (token, op) = close(&mut world, stream);
    assert_eq!(op, StorageOp::UnlinkStream { handle: Handle(50) });
    let (token, op) = submitted(&world.answer(token, StorageReply::Done));
    assert_eq!(op, StorageOp::Unlink { handle: Handle(50) }, "now it is the link's turn");
    let (token, _) = submitted(&world.answer(token, StorageReply::Done));
    world.answer(token, StorageReply::Done);
    assert!(world.shard.files.is_empty() && world.shard.opens.is_empty());
}

#[test]
fn every_open_of_a_stream_follows_its_rename() {
    let mut world = World::new().connected();
    let one = open(&mut world, "S", 50, CreateOptions::EMPTY);
    let two = open(&mut world, "S", 51, CreateOptions::DELETE_ON_CLOSE);
    let (token, op) = submitted(&rename(&mut world, one, ":T:$DATA"));
    assert_eq!(op, StorageOp::RenameStream { handle: Handle(50), stream: Name::from("T"), replace: true });
    assert_eq!(response(&world.answer(token, StorageReply::Done)).status, NtStatus::SUCCESS);
    let (token, _) = close(&mut world, one);
    world.answer(token, StorageReply::Done);
    let (token, op) = close(&mut world, two);
    assert_eq!(op, StorageOp::UnlinkStream { handle: Handle(51) });
    let (token, _) = submitted(&world.answer(token, StorageReply::Done));
    world.answer(token, StorageReply::Done);
    assert!(world.shard.files.is_empty(), "the file knew the stream by its new name");
}

#[test]
fn a_rename_that_fails_gives_the_name_back() {
    let mut world = World::new().connected();
    let one = open(&mut world, "S", 50, CreateOptions::EMPTY);
    let (token, _) = submitted(&rename(&mut world, one, ":T:$DATA"));
    let failed = world.answer(token, StorageReply::Failed(NtStatus::OBJECT_NAME_COLLISION));
    assert_eq!(response(&failed).status, NtStatus::OBJECT_NAME_COLLISION);
    let taken = open(&mut world, "T", 51, CreateOptions::EMPTY);
    assert_eq!(
        response(&rename(&mut world, one, ":T:$DATA")).status,
        NtStatus::INVALID_PARAMETER,
        "it is open"
    );
    let (token, _) = close(&mut world, taken);
    world.answer(token, StorageReply::Done);
    let again = rename(&mut world, one, ":T:$DATA");
    assert!(matches!(submitted(&again).1, StorageOp::RenameStream { .. }));
}
