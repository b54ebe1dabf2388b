//! Shared blocks, trimmed ranges, and controls that say what a volume does not have.

use smb_proto::command::ioctl::FsctlCode;
use smb_proto::fscc::class::FsInfoClass;
use smb_proto::fscc::fsctl::{DuplicateExtents, Range};

use super::*;
use crate::request::{Asked, Ioctl, IoctlInput, QueryInfo};
use crate::response::IoctlOutput;

fn world() -> World {
    let mut world = World::new();
    world.shard.shares[0].caps.block_clone = true;
    world.shard.shares[0].caps.sparse = true;
    world.connected()
}

fn control(
    world: &mut World,
    file_id: FileId,
    code: FsctlCode,
    input: IoctlInput,
    output_max: u32,
) -> Actions {
    world.send(Command::Ioctl(Box::new(Ioctl {
        code,
        file_id,
        is_fsctl: true,
        input_length: 0,
        input_max: 0,
        output_max,
        input,
    })))
}

fn duplicate(world: &mut World, source: FileId, target: FileId, byte_count: u64) -> Actions {
    let extents = DuplicateExtents { source, source_offset: 4096, target_offset: 0, byte_count };
    let input = IoctlInput::DuplicateExtents(extents);
    control(world, target, FsctlCode::DUPLICATE_EXTENTS_TO_FILE, input, 0)
}

fn output(actions: &Actions) -> Vec<u8> {
    let Body::Ioctl { output: IoctlOutput::Bytes(bytes), .. } = &response(actions).body else {
        panic!("{actions:?}")
    };
    bytes.clone()
}

#[test]
fn blocks_are_shared_between_two_opens_of_the_session() {
    let mut world = world();
    let (source, target) = (world.open("a", 5, 50), world.open("b", 6, 60));
    let (token, op) = submitted(&duplicate(&mut world, source, target, 8192));
    let expected = StorageOp::CloneExtents {
        source: Handle(50),
        source_offset: 4096,
        target: Handle(60),
        target_offset: 0,
        length: 8192,
    };
    assert_eq!(op, expected);
    // Neither open goes under it.
    for id in [source, target] {
        assert!(
            world.send(Command::Close(close::Request { flags: close::Flags::EMPTY, file_id: id })).is_empty()
        );
    }
    let actions = world.answer(token, StorageReply::Done);
    assert_eq!(response(&actions).status, NtStatus::SUCCESS);
    let closes: Vec<Token> = submits(&actions).into_iter().map(|(token, _)| token).collect();
    assert_eq!(closes.len(), 2, "both close now: {actions:?}");
    closes.into_iter().for_each(|token| drop(world.answer(token, StorageReply::Done)));
    assert!(world.shard.opens.is_empty() && world.shard.waits.is_empty());
}

#[test]
fn what_no_volume_could_do_is_refused_before_it_is_asked() {
    let mut world = world();
    let (source, target) = (world.open("a", 5, 50), world.open("b", 6, 60));
    let nobodys = FileId { persistent: 1, volatile: 1 };
    assert_eq!(response(&duplicate(&mut world, nobodys, target, 4096)).status, NtStatus::INVALID_HANDLE);
    let halved = FileId { volatile: source.volatile ^ 1, ..source };
    assert_eq!(response(&duplicate(&mut world, halved, target, 4096)).status, NtStatus::INVALID_HANDLE);
    let endless = duplicate(&mut world, source, target, u64::MAX - 4096);
    assert_eq!(response(&endless).status, NtStatus::INVALID_PARAMETER);
    assert_eq!(
        response(&duplicate(&mut world, source, target, 0)).status,
        NtStatus::SUCCESS,
        "nothing to do"
    );
    let code = FsctlCode::DUPLICATE_EXTENTS_TO_FILE_EX;
    let at_once = control(&mut world, target, code, IoctlInput::DuplicateAtOnce, 0);
    assert_eq!(response(&at_once).status, NtStatus::NOT_SUPPORTED);
    let short = control(&mut world, target, code, IoctlInput::Unreadable, 0);
    assert_eq!(response(&short).status, NtStatus::BUFFER_TOO_SMALL);
    let (token, _) = submitted(&duplicate(&mut world, source, target, 4096));
    let failed = world.answer(token, StorageReply::Failed(NtStatus::DISK_FULL));
    assert_eq!(response(&failed).status, NtStatus::DISK_FULL);
}

#[test]
fn a_volume_that_cannot_share_blocks_does_not_have_the_control() {
    let mut world = World::new().connected();
    let (source, target) = (world.open("a", 5, 50), world.open("b", 6, 60));
    let actions = duplicate(&mut world, source, target, 4096);
    assert_eq!(response(&actions).status, NtStatus::INVALID_DEVICE_REQUEST);
}

#[test]
fn whole_pages_are_trimmed_and_counted() {
    let mut world = world();
    let id = world.open("a", 5, 50);
    let trim = |world: &mut World, ranges: &[(u64, u64)], room| {
        let ranges =
            ranges.iter().map(|(file_offset, length)| Range { file_offset: *file_offset, length: *length });
        control(world, id, FsctlCode::FILE_LEVEL_TRIM, IoctlInput::Trim(ranges.collect()), room)
    };
    let actions = trim(&mut world, &[(0, 4096), (1, 4096), (4097, 9000)], 4);
    let (token, op) = submitted(&actions);
    let whole = |offset, length| crate::storage::Range { offset, length };
    let StorageOp::Trim { handle: Handle(50), ranges } = op else { panic!("{op:?}") };
    assert_eq!(ranges, [whole(0, 4096), whole(8192, 4096)]);
    assert_eq!(output(&world.answer(token, StorageReply::Done)), [2, 0, 0, 0]);
    let nothing = trim(&mut world, &[(1, 4096)], 4);
    assert_eq!(output(&nothing), [0; 4]);
    assert!(submits(&nothing).is_empty());
    assert_eq!(response(&trim(&mut world, &[], 4)).status, NtStatus::INVALID_PARAMETER);
    assert_eq!(response(&trim(&mut world, &[(0, 4096)], 3)).status, NtStatus::INVALID_PARAMETER);
    let overflow = trim(&mut world, &[(u64::MAX, 1)], 4);
    assert_eq!(response(&overflow).status, NtStatus::INTEGER_OVERFLOW);
}

#[test]
fn a_volume_tells_that_it_has_no_previous_versions_and_no_quotas() {
    let mut world = World::new().connected();
    let id = world.open("a", 5, 50);
    let code = FsctlCode::SRV_ENUMERATE_SNAPSHOTS;
    let snapshots = |world: &mut World, room| control(world, id, code, IoctlInput::Nothing, room);
    assert_eq!(response(&snapshots(&mut world, 15)).status, NtStatus::INVALID_PARAMETER);
    assert_eq!(output(&snapshots(&mut world, 16))[..8], [0; 8], "none, and none returned");
    let volume = crate::storage::VolumeInfo {
        creation: FileTime(1),
        serial: 1,
        label: Name::default(),
        unit_size: 4096,
        sector_size: 512,
        units_total: 1,
        units_free: 1,
        units_available: 1,
        component_max: 255,
    };
    let mut query = |class| {
        let asked = Asked::Volume(class);
        let query = QueryInfo { file_id: id, output_max: 100, input_length: 0, asked };
        let (token, _) = submitted(&world.send(Command::QueryInfo(Box::new(query))));
        let actions = world.answer(token, StorageReply::Volume(volume.clone()));
        let Body::Info(bytes) = &response(&actions).body else { panic!("{actions:?}") };
        bytes.clone()
    };
    assert_eq!(query(FsInfoClass::CONTROL), [[0; 24].as_slice(), &[0xFF; 16], &[0; 8]].concat());
    let object_id = query(FsInfoClass::OBJECT_ID);
    assert_eq!((object_id.len(), &object_id[..12]), (64, [9; 12].as_slice()), "made of the server's id");
}

/// What no volume backs is refused as what it is (MS-SMB2 3.3.5.20.4, 3.3.5.21.4, MS-FSA 2.1.5.10).
#[test]
fn quotas_integrity_and_set_object_ids_are_honestly_refused() {
    let mut world = world();
    let id = world.open("a", 5, 50);
    let query = QueryInfo { file_id: id, output_max: 100, input_length: 0, asked: Asked::Quota };
    let actions = world.send(Command::QueryInfo(Box::new(query)));
    assert_eq!(response(&actions).status, NtStatus::NOT_SUPPORTED);
    let set = SetInfo { file_id: id, length: 0, what: Setting::Quota };
    let actions = world.send(Command::SetInfo(Box::new(set)));
    assert_eq!(response(&actions).status, NtStatus::NOT_SUPPORTED);
    for code in [
        FsctlCode::GET_INTEGRITY_INFORMATION,
        FsctlCode::SET_INTEGRITY_INFORMATION,
        FsctlCode::SET_OBJECT_ID,
        FsctlCode::DELETE_OBJECT_ID,
    ] {
        let actions = control(&mut world, id, code, IoctlInput::Nothing, 4096);
        assert_eq!(response(&actions).status, NtStatus::INVALID_DEVICE_REQUEST, "{code:?}");
    }
    let actions = control(&mut world, id, FsctlCode::GET_COMPRESSION, IoctlInput::Nothing, 2);
    assert_eq!(output(&actions), [0, 0], "nothing is compressed");
    let actions = control(&mut world, id, FsctlCode::SET_COMPRESSION, IoctlInput::SetCompression(2), 0);
    assert_eq!(response(&actions).status, NtStatus::NOT_SUPPORTED);
}
