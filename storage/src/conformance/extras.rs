//! Named streams and extended attributes.

use bytes::Bytes;
use smb_proto::fscc::ea::{FullEa, TOTAL_MAX, packed_size};
use smb_proto::{FileAttributes, Name, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Initial, Intent, Kind, Object, Resolved, StorageOp, StorageReply};

use super::{Case, Client};

pub(super) const CASES: &[Case] = &[
    ("streams_hold_data", streams_hold_data),
    ("streams_are_found_and_listed", streams_are_found_and_listed),
    ("streams_are_bounded", streams_are_bounded),
    ("streams_of_directories", streams_of_directories),
    ("streams_are_renamed", streams_are_renamed),
    ("streams_are_removed", streams_are_removed),
    ("supersede_removes_streams", supersede_removes_streams),
    ("eas_come_back", eas_come_back),
    ("eas_are_refused", eas_are_refused),
    ("eas_of_new_files", eas_of_new_files),
];

fn create_stream(client: &Client, path: &str, stream: &str) -> Result<Object, NtStatus> {
    create_stream_of(client, path, stream, u32::MAX)
}

fn create_stream_of(client: &Client, path: &str, stream: &str, most: u32) -> Result<Object, NtStatus> {
    let file = client.find(path);
    let initial = Box::new(Initial::default());
    let op = StorageOp::CreateStream { file: file.handle, stream: Name::from(stream), initial, most };
    let created = client.opened(op);
    client.close(file.handle);
    created
}

fn stream(client: &Client, path: &str, name: &str, data: &[u8]) {
    let object = create_stream(client, path, name).unwrap();
    assert_eq!(client.write(object.handle, 0, data), Ok(data.len()));
    client.close(object.handle);
}

/// Names and sizes, sorted.
fn streams(client: &Client, handle: Handle) -> Vec<(String, u64)> {
    match client.call(StorageOp::Streams { handle }) {
        StorageReply::Streams(entries) => {
            assert!(entries.iter().all(|entry| entry.allocation >= entry.size));
            let mut streams: Vec<_> =
                entries.iter().map(|entry| (entry.name.to_string(), entry.size)).collect();
            streams.sort();
            streams
        }
        other => panic!("{other:?}"),
    }
}

fn streams_hold_data(client: &Client) {
    if !client.caps().streams {
        return;
    }
    client.put("f", b"unnamed");
    let object = create_stream(client, "f", "Zone.Identifier").unwrap();
    assert_eq!((object.stream.to_string(), object.name.to_string()), ("Zone.Identifier".into(), "f".into()));
    let handle = object.handle;
    assert_eq!(client.write(handle, 0, b"0123456789"), Ok(10));
    assert_eq!(client.write(handle, 12, b"ab"), Ok(2));
    assert_eq!(client.write(handle, None, b"!"), Ok(1));
    assert_eq!(client.read(handle, 8, 100).as_deref(), Ok(&b"89\0\0ab!"[..]));
    assert_eq!(client.read(handle, 15, 1).as_deref(), Ok(&b""[..]));
    assert_eq!(client.done(StorageOp::SetEndOfFile { handle, size: 4 }), Ok(()));
    assert_eq!(client.done(StorageOp::Zero { handle, offset: 1, beyond: 2 }), Ok(()));
    let attributes = client.attributes(handle);
    assert_eq!((attributes.end_of_file, attributes.kind), (4, Kind::File));
    assert_eq!(attributes.number, object.attributes.number);
    client.close(handle);
    let again = client.find("F:zone.identifier");
    assert_eq!(again.stream.to_string(), "Zone.Identifier");
    assert!(client.open(again.handle, true, true).is_ok());
    assert_eq!(client.read(again.handle, 0, 100).as_deref(), Ok(&b"0\x0023"[..]));
    let file = client.find("f");
    assert_eq!(client.read(file.handle, 0, 100).as_deref(), Ok(&b"unnamed"[..]));
    assert_eq!(file.attributes.number, again.attributes.number);
    let (source, target) = (again.handle, file.handle);
    let op = StorageOp::Copy { source, source_offset: 0, target, target_offset: 7, length: 10 };
    assert_eq!(client.written(op), Ok(4));
    assert_eq!(client.attributes(file.handle).end_of_file, 11);
    client.close(file.handle);
    client.close(again.handle);
}

fn streams_are_found_and_listed(client: &Client) {
    if !client.caps().streams {
        assert_eq!(client.resolve("f:s"), Err(NtStatus::OBJECT_NAME_INVALID));
        return;
    }
    client.put("f", b"12345");
    stream(client, "f", "One", b"1");
    stream(client, "f", "Zwei ä", b"22");
    let file = client.find("f");
    let expected = [(String::new(), 5), ("One".into(), 1), ("Zwei ä".into(), 2)];
    assert_eq!(streams(client, file.handle), expected);
    assert_eq!(create_stream(client, "f", "ONE"), Err(NtStatus::OBJECT_NAME_COLLISION));
    match client.resolve("f:three") {
        Ok(Resolved::NoStream { file: found }) => {
            assert_eq!(found.attributes.number, file.attributes.number);
            assert!(found.stream.is_empty());
            client.close(found.handle);
        }
        other => panic!("{other:?}"),
    }
    client.close(file.handle);
    let stream = client.find("f:ONE");
    assert_eq!(streams(client, stream.handle), expected);
    client.close(stream.handle);
}

fn streams_are_bounded(client: &Client) {
    if !client.caps().streams {
        return;
    }
    for path in ["f", "d"] {
        if path == "f" {
            client.put(path, b"data")
        } else {
            client.directory(path)
        }
        let one = create_stream_of(client, path, "one", 2).unwrap();
        client.close(create_stream_of(client, path, "two", 2).unwrap().handle);
        assert_eq!(create_stream_of(client, path, "three", 2), Err(NtStatus::FILE_SYSTEM_LIMITATION));
        assert_eq!(create_stream_of(client, path, "ONE", 2), Err(NtStatus::OBJECT_NAME_COLLISION));
        assert_eq!(client.done(StorageOp::UnlinkStream { handle: one.handle }), Ok(()));
        client.close(create_stream_of(client, path, "three", 2).unwrap().handle);
        client.close(one.handle);
    }
}

fn streams_of_directories(client: &Client) {
    if !client.caps().streams {
        return;
    }
    client.directory("d");
    stream(client, "d", "s", b"data");
    let directory = client.find("d");
    assert_eq!(streams(client, directory.handle), [("s".to_string(), 4)]);
    let stream = client.find("d:s");
    assert_eq!(stream.attributes.kind, Kind::File);
    assert!(!stream.attributes.dos.contains(FileAttributes::DIRECTORY));
    assert!(client.open(stream.handle, true, true).is_ok());
    assert_eq!(client.read(stream.handle, 0, 10).as_deref(), Ok(&b"data"[..]));
    client.close(stream.handle);
    client.close(directory.handle);
}

fn streams_are_renamed(client: &Client) {
    if !client.caps().streams {
        return;
    }
    client.put("f", b"");
    stream(client, "f", "a", b"data of a");
    stream(client, "f", "b", b"data of b");
    let (first, second) = (client.find("f:a"), client.find("f:A"));
    let rename = |name: &str, replace| {
        let (handle, stream) = (first.handle, Name::from(name));
        client.done(StorageOp::RenameStream { handle, stream, replace })
    };
    assert_eq!(rename("B", false), Err(NtStatus::OBJECT_NAME_COLLISION));
    assert_eq!(rename("A", false), Ok(()));
    assert_eq!(rename("c", false), Ok(()));
    assert_eq!(client.read(second.handle, 0, 100).as_deref(), Ok(&b"data of a"[..]), "followed");
    let replaced = client.find("f:b");
    if client.attributes(replaced.handle).end_of_file > 0 {
        assert_eq!(rename("b", true), Err(NtStatus::INVALID_PARAMETER), "what is replaced is empty");
        assert_eq!(client.done(StorageOp::SetEndOfFile { handle: replaced.handle, size: 0 }), Ok(()));
    }
    client.close(replaced.handle);
    assert_eq!(rename("b", true), Ok(()));
    let file = client.find("f");
    assert_eq!(streams(client, file.handle), [(String::new(), 0), ("b".into(), 9)]);
    for handle in [first.handle, second.handle, file.handle] {
        client.close(handle);
    }
}

fn streams_are_removed(client: &Client) {
    if !client.caps().streams {
        return;
    }
    client.put("f", b"unnamed");
    stream(client, "f", "s", b"data");
    let (stream, pinned) = (client.find("f:s"), client.find("f:s"));
    assert_eq!(client.done(StorageOp::UnlinkStream { handle: stream.handle }), Ok(()));
    assert!(client.exists("f") && !client.exists("f:s"));
    assert_eq!(client.read(stream.handle, 0, 10).as_deref(), Ok(&b"data"[..]), "handles stay usable");
    assert_eq!(client.write(stream.handle, 4, b"!"), Ok(1));
    let intent = Intent { read: true, write: false };
    assert_eq!(client.call(StorageOp::Open { handle: pinned.handle, intent }), StorageReply::Stale);
    assert!(!client.exists("f:s"));
    client.close(stream.handle);
    client.close(pinned.handle);
}

fn supersede_removes_streams(client: &Client) {
    if !client.caps().streams {
        return;
    }
    client.put("f", b"unnamed");
    stream(client, "f", "s", b"data");
    let file = client.find("f");
    for (supersede, left) in [(false, 2), (true, 1)] {
        let initial = Box::new(Initial { dos: FileAttributes::ARCHIVE, ..Initial::default() });
        let reply = client.call(StorageOp::Overwrite { handle: file.handle, initial, supersede });
        assert!(matches!(reply, StorageReply::Attributes(attributes) if attributes.end_of_file == 0));
        assert_eq!(streams(client, file.handle).len(), left);
    }
    client.close(file.handle);
}

fn ea(name: &str, value: &str) -> FullEa {
    let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    FullEa { flags: 0, name: copy(name), value: copy(value) }
}

fn eas(client: &Client, handle: Handle) -> Vec<FullEa> {
    match client.call(StorageOp::Eas { handle }) {
        StorageReply::Eas(eas) => eas,
        other => panic!("{other:?}"),
    }
}

fn eas_come_back(client: &Client) {
    if !client.caps().extended_attributes {
        return;
    }
    client.put("f", b"");
    client.directory("d");
    for path in ["f", "d"] {
        let object = client.find(path);
        let set =
            |eas: &[FullEa]| client.done(StorageOp::SetEas { handle: object.handle, eas: eas.to_vec() });
        assert_eq!(eas(client, object.handle), []);
        assert_eq!(set(&[ea("Zebra", "1"), ea("apple", "2"), ea("Mango", "3")]), Ok(()));
        assert_eq!(
            set(&[ea("APPLE", "twenty"), ea("zebra", ""), ea("missing", ""), ea("last", "4")]),
            Ok(())
        );
        let expected = [ea("APPLE", "twenty"), ea("Mango", "3"), ea("last", "4")];
        assert_eq!(eas(client, object.handle), expected);
        assert_eq!(client.attributes(object.handle).ea_size, packed_size(&expected));
        assert_eq!(set(&[ea("apple", ""), ea("mango", ""), ea("LAST", "")]), Ok(()));
        assert_eq!((eas(client, object.handle), client.attributes(object.handle).ea_size), (Vec::new(), 0));
        client.close(object.handle);
    }
}

fn eas_are_refused(client: &Client) {
    client.put("f", b"");
    let file = client.find("f");
    let set = |eas: &[FullEa]| client.done(StorageOp::SetEas { handle: file.handle, eas: eas.to_vec() });
    if !client.caps().extended_attributes {
        assert_eq!(set(&[ea("a", "b")]), Err(NtStatus::EAS_NOT_SUPPORTED));
    } else {
        assert_eq!(set(&[ea("a*b", "x")]), Err(NtStatus::INVALID_EA_NAME));
        let large = "x".repeat(40_000);
        assert_eq!(set(&[ea("a", &large), ea("b", &large)]), Err(NtStatus::EA_TOO_LARGE));
        assert_eq!(eas(client, file.handle), []);
        // Room that one gives back another may take (MS-FSA 2.1.5.15.6).
        assert_eq!(set(&[ea("a", "x")]), Ok(()));
        let two = packed_size(&[ea("a", "x"), ea("b", "x")]) as usize;
        let rest = "x".repeat(TOTAL_MAX + 4 - two + 1);
        assert_eq!(set(&[ea("b", &format!("{rest}x"))]), Err(NtStatus::EA_TOO_LARGE));
        // Where the file system has room for so much.
        if set(&[ea("b", &rest)]).is_ok() {
            assert_eq!(packed_size(&eas(client, file.handle)) as usize, TOTAL_MAX + 4);
            assert_eq!(set(&[ea("c", "x")]), Err(NtStatus::EA_TOO_LARGE));
            assert_eq!(set(&[ea("a", ""), ea("c", "x")]), Ok(()));
        }
    }
    client.close(file.handle);
}

fn eas_of_new_files(client: &Client) {
    if !client.caps().extended_attributes {
        return;
    }
    let root = client.find("");
    let initial = |eas: &[FullEa]| Initial { eas: eas.to_vec(), ..Initial::default() };
    let name = Name::from("f");
    let refused = client.create_with(root.handle, &name, Kind::File, initial(&[ea("?", "x")]));
    assert_eq!(refused, Err(NtStatus::INVALID_EA_NAME));
    assert!(!client.exists("f"), "nothing is left of a file that could not be made");
    let file = client.create_with(root.handle, &name, Kind::File, initial(&[ea("a", "1")])).unwrap();
    assert_eq!((eas(client, file.handle), file.attributes.ea_size), (vec![ea("a", "1")], 11));
    let overwrite = Box::new(initial(&[ea("b", "22")]));
    let op = StorageOp::Overwrite { handle: file.handle, initial: overwrite, supersede: false };
    assert!(matches!(client.call(op), StorageReply::Attributes(attributes) if attributes.ea_size == 12));
    assert_eq!(eas(client, file.handle), [ea("b", "22")]);
    client.close(file.handle);
    client.close(root.handle);
}
