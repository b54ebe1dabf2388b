//! Reading, writing, sizes, holes, copies.

use smb_proto::{FileAttributes, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Initial, Kind, Range, StorageOp, StorageReply};

use super::{Case, Client};

pub(super) const CASES: &[Case] = &[
    ("read_and_write", read_and_write),
    ("large_data", large_data),
    ("append", append),
    ("data_of_directories_is_refused", data_of_directories_is_refused),
    ("end_of_file_moves", end_of_file_moves),
    ("allocation", allocation),
    ("overwrite_empties", overwrite_empties),
    ("zero", zero),
    ("sparse_ranges", sparse_ranges),
    ("copy", copy),
    ("hostile_offsets", hostile_offsets),
];

fn read_and_write(client: &Client) {
    let file = client.file("f", b"0123456789");
    assert_eq!(client.read(file.handle, 0, 4).as_deref(), Ok(&b"0123"[..]));
    assert_eq!(client.read(file.handle, 8, 100).as_deref(), Ok(&b"89"[..]));
    assert_eq!(client.read(file.handle, 10, 1).as_deref(), Ok(&b""[..]));
    assert_eq!(client.read(file.handle, 1 << 40, 1).as_deref(), Ok(&b""[..]));
    assert_eq!(client.read(file.handle, 0, 0).as_deref(), Ok(&b""[..]));
    assert_eq!(client.write(file.handle, 12, b"ab"), Ok(2));
    assert_eq!(client.read(file.handle, 9, 100).as_deref(), Ok(&b"9\0\0ab"[..]));
    assert_eq!(client.write(file.handle, 100, b""), Ok(0));
    assert_eq!(client.attributes(file.handle).end_of_file, 14);
    let through = StorageOp::Write {
        handle: file.handle,
        offset: Some(0),
        buffer: bytes::Bytes::from_static(b"XYZ"),
        length: 2,
        write_through: true,
    };
    assert_eq!(client.written(through), Ok(2));
    assert_eq!(client.done(StorageOp::Flush { handle: file.handle }), Ok(()));
    let again = client.find("F");
    assert!(client.open(again.handle, true, false).is_ok());
    assert_eq!(client.read(again.handle, 0, 4).as_deref(), Ok(&b"XY23"[..]));
    client.close(again.handle);
    client.close(file.handle);
}

fn large_data(client: &Client) {
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = client.file("f", &data);
    assert_eq!(client.read(file.handle, 0, 8 << 20).as_deref(), Ok(data.as_slice()));
    assert_eq!(
        client.read(file.handle, 1_234_567, 1 << 20).as_deref(),
        Ok(&data[1_234_567..1_234_567 + (1 << 20)])
    );
    let attributes = client.attributes(file.handle);
    assert_eq!(attributes.end_of_file, data.len() as u64);
    assert!(attributes.allocation >= attributes.end_of_file);
    client.close(file.handle);
}

fn append(client: &Client) {
    let file = client.file("f", b"one");
    assert_eq!(client.write(file.handle, None, b"two"), Ok(3));
    assert_eq!(client.write(file.handle, None, b"three"), Ok(5));
    assert_eq!(client.read(file.handle, 0, 100).as_deref(), Ok(&b"onetwothree"[..]));
    client.close(file.handle);
}

fn data_of_directories_is_refused(client: &Client) {
    client.directory("d");
    let directory = client.find("d");
    assert_eq!(client.read(directory.handle, 0, 1), Err(NtStatus::INVALID_DEVICE_REQUEST));
    assert_eq!(client.write(directory.handle, 0, b"x"), Err(NtStatus::INVALID_DEVICE_REQUEST));
    assert_eq!(client.done(StorageOp::Flush { handle: directory.handle }), Ok(()));
    client.close(directory.handle);
}

fn end_of_file_moves(client: &Client) {
    let file = client.file("f", b"0123456789");
    let set = |size| client.done(StorageOp::SetEndOfFile { handle: file.handle, size });
    assert_eq!(set(4), Ok(()));
    assert_eq!(set(6), Ok(()));
    assert_eq!(client.read(file.handle, 0, 100).as_deref(), Ok(&b"0123\0\0"[..]));
    assert_eq!(set(0), Ok(()));
    let attributes = client.attributes(file.handle);
    assert_eq!((attributes.end_of_file, attributes.allocation), (0, 0));
    client.close(file.handle);
}

fn allocation(client: &Client) {
    let file = client.file("f", b"0123456789");
    let set = |size| client.done(StorageOp::SetAllocation { handle: file.handle, size });
    assert!(client.attributes(file.handle).allocation >= 10);
    assert_eq!(set(1 << 20), Ok(()));
    assert_eq!(client.attributes(file.handle).end_of_file, 10);
    assert_eq!(set(5), Ok(()));
    assert_eq!(client.read(file.handle, 0, 100).as_deref(), Ok(&b"01234"[..]));
    client.close(file.handle);
    let root = client.find("");
    let initial = Initial { allocation: 1 << 20, ..Initial::default() };
    let file = client.create_with(root.handle, &"g".into(), Kind::File, initial).unwrap();
    assert_eq!(client.attributes(file.handle).end_of_file, 0);
    client.close(file.handle);
    client.close(root.handle);
}

fn overwrite_empties(client: &Client) {
    let file = client.file("f", b"0123456789");
    let before = client.attributes(file.handle);
    for supersede in [false, true] {
        assert_eq!(client.write(file.handle, 0, b"data"), Ok(4));
        let initial = Box::new(Initial { dos: FileAttributes::HIDDEN, ..Initial::default() });
        match client.call(StorageOp::Overwrite { handle: file.handle, initial, supersede }) {
            StorageReply::Attributes(after) => {
                assert_eq!((after.end_of_file, after.number), (0, before.number));
                if client.caps().extended_attributes {
                    assert_eq!(after.dos, FileAttributes::HIDDEN);
                    assert_eq!(after.creation == before.creation, !supersede);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    client.close(file.handle);
}

fn zero(client: &Client) {
    let file = client.file("f", &[b'x'; 10_000]);
    let zero = |offset, beyond| client.done(StorageOp::Zero { handle: file.handle, offset, beyond });
    assert_eq!(zero(100, 9_000), Ok(()));
    assert_eq!(zero(9_990, 1 << 40), Ok(()));
    assert_eq!(zero(1 << 30, 1 << 40), Ok(()));
    assert_eq!(zero(5, 5), Ok(()));
    assert_eq!(zero(5, 4), Err(NtStatus::INVALID_PARAMETER));
    let mut expected = vec![b'x'; 10_000];
    expected[100..9_000].fill(0);
    expected[9_990..].fill(0);
    assert_eq!(client.read(file.handle, 0, 20_000), Ok(expected));
    client.close(file.handle);
}

fn ranges(client: &Client, handle: Handle, offset: u64, length: u64) -> Vec<Range> {
    match client.call(StorageOp::AllocatedRanges { handle, offset, length, count_max: 100 }) {
        StorageReply::Ranges(ranges) => ranges,
        other => panic!("{other:?}"),
    }
}

fn sparse_ranges(client: &Client) {
    const MIB: u64 = 1 << 20;
    let file = client.file("f", b"");
    assert_eq!(client.write(file.handle, 4 * MIB, b"x"), Ok(1));
    let whole = [Range { offset: MIB, length: 3 * MIB + 1 }];
    assert_eq!(ranges(client, file.handle, MIB, 100 * MIB), whole, "without the mark all is allocated");
    assert_eq!(ranges(client, file.handle, 100 * MIB, 1), []);
    if client.caps().sparse {
        assert_eq!(client.done(StorageOp::SetSparse { handle: file.handle, sparse: true }), Ok(()));
        assert!(client.attributes(file.handle).dos.contains(FileAttributes::SPARSE_FILE));
        let [only] = ranges(client, file.handle, 0, 100 * MIB)[..] else { panic!("one range") };
        assert!(only.offset > 3 * MIB && only.offset + only.length == 4 * MIB + 1);
        assert_eq!(client.write(file.handle, 0, &[b'y'; 2 << 20]), Ok(2 << 20));
        assert_eq!(client.done(StorageOp::Zero { handle: file.handle, offset: 0, beyond: MIB }), Ok(()));
        let found = ranges(client, file.handle, 0, 100 * MIB);
        assert_eq!((found[0], found.len()), (Range { offset: MIB, length: MIB }, 2));
        let clipped = ranges(client, file.handle, MIB + 10, 20);
        assert_eq!(clipped, [Range { offset: MIB + 10, length: 20 }]);
        let op = StorageOp::AllocatedRanges { handle: file.handle, offset: 0, length: 9 * MIB, count_max: 1 };
        match client.call(op) {
            StorageReply::Ranges(ranges) => assert_eq!(ranges.len(), 2, "one more than asked"),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.read(file.handle, MIB - 1, 2).as_deref(), Ok(&b"\0y"[..]));
        assert!(client.attributes(file.handle).allocation < 4 * MIB);
        assert_eq!(client.done(StorageOp::SetSparse { handle: file.handle, sparse: false }), Ok(()));
        assert!(!client.attributes(file.handle).dos.contains(FileAttributes::SPARSE_FILE));
    }
    client.close(file.handle);
}

fn copy(client: &Client) {
    let source = client.file("source", b"0123456789");
    let target = client.file("target", b"abc");
    let copy = |from: Handle, source_offset, to: Handle, target_offset, length| {
        let op = StorageOp::Copy { source: from, source_offset, target: to, target_offset, length };
        client.written(op)
    };
    assert_eq!(copy(source.handle, 2, target.handle, 1, 4), Ok(4));
    assert_eq!(client.read(target.handle, 0, 100).as_deref(), Ok(&b"a2345"[..]));
    assert_eq!(copy(source.handle, 8, target.handle, 5, 100), Ok(2));
    assert_eq!(copy(source.handle, 10, target.handle, 5, 100), Ok(0));
    assert_eq!(client.read(target.handle, 0, 100).as_deref(), Ok(&b"a234589"[..]));
    assert_eq!(copy(source.handle, 0, source.handle, 10, 5), Ok(5));
    assert_eq!(client.read(source.handle, 0, 100).as_deref(), Ok(&b"012345678901234"[..]));
    client.close(source.handle);
    client.close(target.handle);
}

fn hostile_offsets(client: &Client) {
    let file = client.file("f", b"x");
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        assert!(client.write(file.handle, offset, b"yy").is_err());
        assert!(client.done(StorageOp::SetEndOfFile { handle: file.handle, size: offset }).is_err());
        let _ = client.read(file.handle, offset, 10);
        let _ = client.done(StorageOp::Zero { handle: file.handle, offset, beyond: u64::MAX });
        let op =
            StorageOp::AllocatedRanges { handle: file.handle, offset, length: u64::MAX, count_max: u32::MAX };
        let _ = client.call(op);
        let (handle, length) = (file.handle, 2);
        let op = StorageOp::Copy {
            source: handle,
            source_offset: offset,
            target: handle,
            target_offset: 0,
            length,
        };
        let _ = client.call(op);
    }
    let short = StorageOp::Write {
        handle: file.handle,
        offset: Some(0),
        buffer: bytes::Bytes::from_static(b"ab"),
        length: 3,
        write_through: false,
    };
    assert_eq!(client.written(short), Err(NtStatus::INVALID_PARAMETER));
    assert_eq!(client.attributes(file.handle).end_of_file, 1);
    client.close(file.handle);
}
