//! Shared blocks, trimmed ranges.

use smb_proto::NtStatus;
use smb_state::storage::{Range, StorageOp};

use super::{Case, Client};

pub(super) const CASES: &[Case] = &[
    ("extents_are_shared", extents_are_shared),
    ("what_cannot_be_shared_is_refused", what_cannot_be_shared_is_refused),
    ("trimmed_ranges_are_empty_or_as_they_were", trimmed_ranges_are_empty_or_as_they_were),
];

/// Blocks of any file system that shares them divide this.
const BLOCK: u64 = 64 * 1024;

fn blocks(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| vec![*byte; BLOCK as usize]).collect()
}

fn extents_are_shared(client: &Client) {
    if !client.caps().block_clone {
        return;
    }
    let (source, target) = (client.file("s", &blocks(b"abc")), client.file("t", &blocks(b"xyz")));
    let share = |source_offset, target_offset, length| StorageOp::CloneExtents {
        source: source.handle,
        source_offset,
        target: target.handle,
        target_offset,
        length,
    };
    assert_eq!(client.done(share(BLOCK, 0, BLOCK)), Ok(()));
    let length = 3 * BLOCK as u32;
    assert_eq!(client.read(target.handle, 0, length), Ok(blocks(b"byz")));
    assert_eq!(client.write(target.handle, 0, b"!"), Ok(1));
    assert_eq!(client.read(source.handle, BLOCK, 1).as_deref(), Ok(&b"b"[..]), "a write parts them");
    // The target's end stays where it is.
    assert_eq!(client.done(share(0, 2 * BLOCK, 2 * BLOCK)), Ok(()));
    assert_eq!(client.attributes(target.handle).end_of_file, 3 * BLOCK);
    assert_eq!(client.read(target.handle, 2 * BLOCK, 1).as_deref(), Ok(&b"a"[..]));
    client.close(source.handle);
    client.close(target.handle);
}

fn what_cannot_be_shared_is_refused(client: &Client) {
    if !client.caps().block_clone {
        return;
    }
    let (source, target) = (client.file("s", &blocks(b"ab")), client.file("t", &blocks(b"xy")));
    let share = |from, target, source_offset, target_offset, length| {
        client.done(StorageOp::CloneExtents { source: from, source_offset, target, target_offset, length })
    };
    let (from, to) = (source.handle, target.handle);
    for (source_offset, target_offset, length) in [(1, 0, BLOCK), (0, 1, BLOCK), (0, 0, BLOCK - 1)] {
        let shared = share(from, to, source_offset, target_offset, length);
        assert_eq!(shared, Err(NtStatus::INVALID_PARAMETER), "no whole blocks");
    }
    assert_eq!(share(from, to, BLOCK, 0, 2 * BLOCK), Err(NtStatus::NOT_SUPPORTED), "past the source's end");
    assert_eq!(share(from, from, 0, BLOCK, 2 * BLOCK), Err(NtStatus::NOT_SUPPORTED), "onto itself");
    if client.caps().sparse {
        assert_eq!(client.done(StorageOp::SetSparse { handle: from, sparse: true }), Ok(()));
        assert_eq!(
            share(from, to, 0, 0, BLOCK),
            Err(NtStatus::NOT_SUPPORTED),
            "holes that the target can't have"
        );
    }
    assert_eq!(client.read(to, 0, 2 * BLOCK as u32), Ok(blocks(b"xy")));
    client.close(source.handle);
    client.close(target.handle);
}

fn trimmed_ranges_are_empty_or_as_they_were(client: &Client) {
    if !client.caps().sparse {
        return;
    }
    let file = client.file("f", &blocks(b"abc"));
    let handle = file.handle;
    let ranges = vec![
        Range { offset: BLOCK, length: BLOCK },
        Range { offset: 10 * BLOCK, length: BLOCK },
        Range { offset: u64::MAX / BLOCK / 4 * BLOCK, length: BLOCK },
    ];
    assert_eq!(client.done(StorageOp::Trim { handle, ranges }), Ok(()));
    let data = client.read(handle, 0, 4 * BLOCK as u32).unwrap();
    assert_eq!(data.len() as u64, 3 * BLOCK, "the end stays where it is");
    let (first, rest) = data.split_at(BLOCK as usize);
    let (trimmed, last) = rest.split_at(BLOCK as usize);
    assert!(first.iter().all(|byte| *byte == b'a') && last.iter().all(|byte| *byte == b'c'));
    assert!(trimmed.iter().all(|byte| *byte == b'b') || trimmed.iter().all(|byte| *byte == 0));
    client.close(handle);
}
