//! Bounds at their edge: what reaches one is answered, and what is given back can be had again (R9). Those of locks, watches,
//! waiting requests, channels and preserved opens are with what they bound.

use super::*;

fn limited(limits: Limits) -> World {
    World::with(Config { limits, ..config() })
}

fn close_open(world: &mut World, file_id: FileId) {
    let close = close::Request { flags: close::Flags::EMPTY, file_id };
    let (token, _) = submitted(&world.send(Command::Close(close)));
    assert_eq!(response(&world.answer(token, StorageReply::Done)).status, NtStatus::SUCCESS);
}

#[test]
fn opens_of_a_session_are_bounded() {
    let mut world = limited(Limits { opens_per_session_max: 2, ..Limits::default() }).connected();
    let (one, _) = (world.open("a", 5, 50), world.open("b", 6, 60));
    for _ in 0..2 {
        let actions = world.send(create("c", CreateDisposition::OPEN));
        assert_eq!(response(&actions).status, NtStatus::INSUFFICIENT_RESOURCES);
        assert_eq!(world.shard.opens.len(), 2);
    }
    close_open(&mut world, one);
    world.open("c", 7, 70);
    // One that is on its way counts, and one that failed does not.
    world.step(Event::Admin(crate::event::Admin::Limits(Limits {
        opens_per_session_max: 3,
        ..Limits::default()
    })));
    let (token, _) = submitted(&world.send(create("d", CreateDisposition::OPEN)));
    let refused = world.send(create("e", CreateDisposition::OPEN));
    assert_eq!(response(&refused).status, NtStatus::INSUFFICIENT_RESOURCES);
    let failed = world.answer(token, StorageReply::Resolved(Resolved::NoPath));
    assert_eq!(response(&failed).status, NtStatus::OBJECT_PATH_NOT_FOUND);
    world.open("e", 8, 80);
}

#[test]
fn tree_connects_of_a_session_are_bounded() {
    let mut world = limited(Limits { tree_connects_per_session_max: 2, ..Limits::default() }).connected();
    let connect = || {
        Command::TreeConnect(tree_connect::Request {
            flags: tree_connect::Flags::EMPTY,
            path: Name::from(r"\\server\share"),
            contexts: Vec::new(),
        })
    };
    let second = world.send(connect());
    assert_eq!(response(&second).status, NtStatus::SUCCESS);
    assert_eq!(response(&world.send(connect())).status, NtStatus::INSUFFICIENT_RESOURCES);
    world.tree = response(&second).tree;
    assert_eq!(response(&world.send(Command::TreeDisconnect)).status, NtStatus::SUCCESS);
    assert_eq!(response(&world.send(connect())).status, NtStatus::SUCCESS);
}

#[test]
fn sessions_of_a_connection_are_bounded() {
    let mut world = limited(Limits { sessions_per_connection_max: 1, ..Limits::default() }).connected();
    let setup = || {
        Command::SessionSetup(SessionSetup {
            binding: false,
            signing_required: false,
            previous_session: SessionId(0),
            token: BufferId(8),
        })
    };
    let first = std::mem::replace(&mut world.session, SessionId(0));
    assert_eq!(response(&world.send(setup())).status, NtStatus::INSUFFICIENT_RESOURCES);
    world.session = first;
    assert_eq!(response(&world.send(Command::Logoff)).status, NtStatus::SUCCESS);
    world.session = SessionId(0);
    assert!(responses(&world.send(setup())).is_empty(), "it is being authenticated");
}

#[test]
fn connections_of_a_shard_are_bounded() {
    for limits in [
        Limits { connections_max: 2, ..Limits::default() },
        Limits { unauthenticated_connections_max: 2, ..Limits::default() },
    ] {
        let mut world = limited(limits);
        let [second, third] = [2, 3].map(|number| ConnectionId::new(ShardId(0), number));
        assert!(!disconnects(&world.step(Event::Accepted { connection: second, peer: Peer(1) })));
        assert!(disconnects(&world.step(Event::Accepted { connection: third, peer: Peer(2) })));
        world.step(Event::Disconnected { connection: third });
        world.step(Event::Disconnected { connection: second });
        let fourth = ConnectionId::new(ShardId(0), 4);
        assert!(!disconnects(&world.step(Event::Accepted { connection: fourth, peer: Peer(2) })));
    }
}

#[test]
fn storage_is_told_how_many_streams_a_file_may_have() {
    let mut world = limited(Limits { streams_per_file_max: 7, ..Limits::default() }).connected();
    let (token, _) = submitted(&world.send(create("f:s", CreateDisposition::OPEN_IF)));
    let found = Resolved::NoStream { file: object("f", 5, 50) };
    let (token, op) = submitted(&world.answer(token, StorageReply::Resolved(found)));
    let StorageOp::CreateStream { most, .. } = op else { panic!("{op:?}") };
    assert_eq!(most, 7);
    let actions = world.answer(token, StorageReply::Failed(NtStatus::FILE_SYSTEM_LIMITATION));
    assert_eq!(response(&actions).status, NtStatus::FILE_SYSTEM_LIMITATION);
    let (token, op) = submitted(&actions);
    assert_eq!(op, StorageOp::Close { handle: Handle(50) });
    assert!(world.answer(token, StorageReply::Done).is_empty() && world.shard.opens.is_empty());
}
