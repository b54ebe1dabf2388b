//! Resolving, creating, renaming, linking, removing.

use smb_proto::{Name, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Initial, Intent, Kind, Resolved, StorageOp, StorageReply};

use super::{Case, Client};

pub(super) const CASES: &[Case] = &[
    ("root", root),
    ("resolve_outcomes", resolve_outcomes),
    ("case_is_ignored_and_kept", case_is_ignored_and_kept),
    ("invalid_names", invalid_names),
    ("unpaired_surrogates", unpaired_surrogates),
    ("create_collides", create_collides),
    ("unlink_while_open", unlink_while_open),
    ("number_is_pinned", number_is_pinned),
    ("unlink_directory", unlink_directory),
    ("rename_moves", rename_moves),
    ("rename_is_followed_by_other_handles", rename_is_followed_by_other_handles),
    ("rename_of_directory_is_followed_below", rename_of_directory_is_followed_below),
    ("rename_replaces", rename_replaces),
    ("rename_changes_case", rename_changes_case),
    ("rename_refuses", rename_refuses),
    ("paths_are_as_stored", paths_are_as_stored),
    ("links", links),
    ("open_tells_stale_names", open_tells_stale_names),
    ("closed_handles_are_refused", closed_handles_are_refused),
];

fn root(client: &Client) {
    let root = client.find("");
    assert_eq!(root.attributes.kind, Kind::Directory);
    assert_eq!(root.parent, root.attributes.number);
    assert!(root.name.is_empty() && root.stream.is_empty());
    assert_ne!(root.attributes.number.0, 0);
    assert_eq!(
        client.open(root.handle, true, false).map(|attributes| attributes.number),
        Ok(root.attributes.number)
    );
    assert!(client.done(StorageOp::Unlink { handle: root.handle }).is_err());
    client.close(root.handle);
}

fn paths_are_as_stored(client: &Client) {
    client.directory("Upper");
    client.directory("Upper\\Lower");
    client.put("Upper\\Lower\\File", b"x");
    let path = |handle| match client.call(StorageOp::Path { handle }) {
        StorageReply::Path(path) => path.to_string(),
        other => panic!("{other:?}"),
    };
    let root = client.find("");
    assert_eq!(path(root.handle), "");
    let file = client.find("UPPER\\lower\\FILE");
    assert_eq!(path(file.handle), "Upper\\Lower\\File");
    client.close(file.handle);
    client.close(root.handle);
}

fn resolve_outcomes(client: &Client) {
    client.directory("d");
    client.put("d\\f", b"x");
    let root = client.find("");
    let directory = client.find("d");
    assert_eq!(directory.parent, root.attributes.number);
    let file = client.find("d\\f");
    assert_eq!(file.parent, directory.attributes.number);
    assert_eq!((file.attributes.kind, file.name.to_string()), (Kind::File, "f".into()));
    match client.resolve("d\\missing") {
        Ok(Resolved::NoName { parent }) => {
            assert_eq!(parent.attributes.number, directory.attributes.number);
            assert_eq!(parent.name.to_string(), "d");
            assert_eq!(parent.parent, root.attributes.number);
            client.close(parent.handle);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.resolve("missing\\f"), Ok(Resolved::NoPath));
    assert_eq!(client.resolve("d\\missing\\f"), Ok(Resolved::NoPath));
    assert_eq!(client.resolve("d\\f\\g"), Ok(Resolved::NotADirectory));
    assert_eq!(client.resolve("D\\F\\g"), Ok(Resolved::NotADirectory));
    for handle in [root.handle, directory.handle, file.handle] {
        client.close(handle);
    }
}

fn case_is_ignored_and_kept(client: &Client) {
    client.directory("Verzeichnis");
    client.put("Verzeichnis\\Straße Ä.TXT", b"x");
    let object = client.find("VERZEICHNIS\\straße ä.txt");
    assert_eq!(object.name.to_string(), "Straße Ä.TXT");
    client.close(object.handle);
    let directory = client.find("verzeichnis");
    assert_eq!(directory.name.to_string(), "Verzeichnis");
    client.close(directory.handle);
    for (name, kind) in [("STRASSE Ä.TXT", Kind::File), ("straße Ä.txt2", Kind::File)] {
        let path = format!("verzeichnis\\{name}");
        client.close(client.create(&path, kind).unwrap().handle);
        assert!(client.exists(&path));
    }
    client.remove("VERZEICHNIS\\STRAßE ä.Txt");
    assert!(!client.exists("Verzeichnis\\Straße Ä.TXT"));
    assert!(client.exists("Verzeichnis\\strasse ä.txt"));
}

fn invalid_names(client: &Client) {
    let root = client.find("");
    let long = "n".repeat(256);
    for name in ["..", ".", "", "a/b", "a\\b", "a\0", long.as_str()] {
        let name = Name::from(name);
        let path = vec![name.clone()];
        let resolved = client.call(StorageOp::Resolve { path, stream: None });
        assert_eq!(resolved, StorageReply::Failed(NtStatus::OBJECT_NAME_INVALID), "{name:?}");
        let path = vec![name.clone(), Name::from("f")];
        let resolved = client.call(StorageOp::Resolve { path, stream: None });
        assert_eq!(resolved, StorageReply::Failed(NtStatus::OBJECT_NAME_INVALID), "{name:?}");
        let created = client.create_with(root.handle, &name, Kind::File, Initial::default());
        assert_eq!(created, Err(NtStatus::OBJECT_NAME_INVALID), "{name:?}");
    }
    let longest = Name::from("n".repeat(255).as_str());
    let created = client.create_with(root.handle, &longest, Kind::File, Initial::default()).unwrap();
    assert_eq!(created.name, longest);
    client.close(created.handle);
    client.close(root.handle);
}

fn unpaired_surrogates(client: &Client) {
    let root = client.find("");
    for units in [vec![0xD800_u16, b'x'.into()], vec![0xDC00], vec![0xD83D, 0xDE00]] {
        let name = Name::from_units(units);
        let created = client.create_with(root.handle, &name, Kind::File, Initial::default()).unwrap();
        assert_eq!(created.name, name);
        client.close(created.handle);
        match client.call(StorageOp::Resolve { path: vec![name.clone()], stream: None }) {
            StorageReply::Resolved(Resolved::Found(object)) => {
                assert_eq!(object.name, name);
                client.close(object.handle);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.names(root.handle, "*", 65536).len(), 3);
    client.close(root.handle);
}

fn create_collides(client: &Client) {
    client.put("File", b"x");
    client.directory("Dir");
    for path in ["File", "fILE", "Dir", "DIR"] {
        for kind in [Kind::File, Kind::Directory] {
            assert_eq!(client.create(path, kind), Err(NtStatus::OBJECT_NAME_COLLISION), "{path}");
        }
    }
    let file = client.find("File");
    let inside = client.create_with(file.handle, &Name::from("x"), Kind::File, Initial::default());
    assert_eq!(inside, Err(NtStatus::NOT_A_DIRECTORY));
    client.close(file.handle);
}

fn unlink_while_open(client: &Client) {
    let object = client.file("f", b"still here");
    let other = client.find("f");
    assert!(client.open(other.handle, true, true).is_ok());
    assert_eq!(client.done(StorageOp::Unlink { handle: object.handle }), Ok(()));
    assert!(!client.exists("f"));
    for handle in [object.handle, other.handle] {
        assert_eq!(client.read(handle, 0, 100).as_deref(), Ok(&b"still here"[..]));
        assert_eq!(client.attributes(handle).links, 0);
    }
    assert_eq!(client.done(StorageOp::Unlink { handle: other.handle }), Err(NtStatus::OBJECT_NAME_NOT_FOUND));
    client.put("f", b"another");
    assert_eq!(client.write(other.handle, 0, b"STILL"), Ok(5));
    assert_eq!(client.read(object.handle, 0, 100).as_deref(), Ok(&b"STILL here"[..]));
    let another = client.find("f");
    assert_eq!(client.read(another.handle, 0, 100).as_deref(), Ok(&b"another"[..]));
    for handle in [object.handle, other.handle, another.handle] {
        client.close(handle);
    }
}

fn number_is_pinned(client: &Client) {
    client.put("f", b"x");
    let pinned = client.find("f");
    client.remove("f");
    // File systems like to give the number that became free last.
    for round in 0..64 {
        let path = format!("g{round}");
        let object = client.file(&path, b"y");
        assert_ne!(object.attributes.number, pinned.attributes.number);
        client.close(object.handle);
        client.remove(&path);
    }
    assert_eq!(client.attributes(pinned.handle).number, pinned.attributes.number);
    client.close(pinned.handle);
}

fn unlink_directory(client: &Client) {
    client.directory("d");
    client.put("d\\f", b"x");
    let directory = client.find("d");
    assert_eq!(
        client.done(StorageOp::CheckEmpty { handle: directory.handle }),
        Err(NtStatus::DIRECTORY_NOT_EMPTY)
    );
    assert_eq!(
        client.done(StorageOp::Unlink { handle: directory.handle }),
        Err(NtStatus::DIRECTORY_NOT_EMPTY)
    );
    client.remove("d\\f");
    assert_eq!(client.done(StorageOp::CheckEmpty { handle: directory.handle }), Ok(()));
    assert_eq!(client.done(StorageOp::Unlink { handle: directory.handle }), Ok(()));
    assert!(!client.exists("d"));
    let inside = client.create_with(directory.handle, &Name::from("x"), Kind::File, Initial::default());
    assert_eq!(inside, Err(NtStatus::OBJECT_PATH_NOT_FOUND));
    client.close(directory.handle);
}

fn rename_moves(client: &Client) {
    client.directory("a");
    client.directory("b");
    client.put("a\\f", b"data");
    let object = client.find("a\\f");
    assert_eq!(client.rename(object.handle, "b\\g", false), Ok(()));
    assert!(!client.exists("a\\f"));
    let moved = client.find("B\\G");
    assert_eq!(moved.attributes.number, object.attributes.number);
    assert_eq!(moved.name.to_string(), "g");
    assert_eq!(client.read(moved.handle, 0, 10).as_deref(), Ok(&b"data"[..]));
    // The name that became free can be taken again.
    client.put("a\\F", b"new");
    client.close(object.handle);
    client.close(moved.handle);
}

fn rename_is_followed_by_other_handles(client: &Client) {
    client.directory("d");
    client.put("f", b"data");
    let first = client.find("f");
    let second = client.find("F");
    assert_eq!(client.rename(first.handle, "d\\g", false), Ok(()));
    assert_eq!(client.rename(second.handle, "h", false), Ok(()));
    assert!(client.exists("h") && !client.exists("d\\g"));
    assert!(client.open(first.handle, true, false).is_ok());
    assert_eq!(client.done(StorageOp::Unlink { handle: first.handle }), Ok(()));
    assert!(!client.exists("h"));
    client.close(first.handle);
    client.close(second.handle);
}

fn rename_of_directory_is_followed_below(client: &Client) {
    client.directory("d");
    client.put("d\\f", b"data");
    let directory = client.find("d");
    let file = client.find("d\\f");
    assert_eq!(client.rename(directory.handle, "e", false), Ok(()));
    assert_eq!(client.rename(file.handle, "e\\g", false), Ok(()));
    assert!(client.exists("e\\g") && !client.exists("d"));
    assert_eq!(client.done(StorageOp::Unlink { handle: file.handle }), Ok(()));
    assert_eq!(client.done(StorageOp::Unlink { handle: directory.handle }), Ok(()));
    client.close(file.handle);
    client.close(directory.handle);
}

fn rename_replaces(client: &Client) {
    client.put("source", b"new");
    client.put("Target", b"old");
    client.directory("directory");
    let source = client.find("source");
    let target = client.find("Target");
    assert_eq!(client.rename(source.handle, "TARGET", false), Err(NtStatus::OBJECT_NAME_COLLISION));
    assert_eq!(client.rename(source.handle, "directory", false), Err(NtStatus::OBJECT_NAME_COLLISION));
    assert_eq!(client.rename(source.handle, "directory", true), Err(NtStatus::ACCESS_DENIED));
    assert_eq!(client.rename(source.handle, "TARGET", true), Ok(()));
    let now = client.find("target");
    assert_eq!((now.name.to_string(), now.attributes.number), ("TARGET".into(), source.attributes.number));
    // What was replaced lives on under its handle, but has no name that could be removed.
    assert_eq!(client.read(target.handle, 0, 10).as_deref(), Ok(&b"old"[..]));
    assert_eq!(
        client.done(StorageOp::Unlink { handle: target.handle }),
        Err(NtStatus::OBJECT_NAME_NOT_FOUND)
    );
    let root = client.find("");
    assert_eq!(client.names(root.handle, "*", 4096), ["TARGET", "directory"]);
    for handle in [source.handle, target.handle, now.handle, root.handle] {
        client.close(handle);
    }
}

fn rename_changes_case(client: &Client) {
    client.put("name", b"x");
    let object = client.find("name");
    for name in ["Name", "NAME", "NAME", "name"] {
        assert_eq!(client.rename(object.handle, name, false), Ok(()), "{name}");
        let found = client.find("nAmE");
        assert_eq!(
            (found.name.to_string(), found.attributes.number),
            (name.into(), object.attributes.number)
        );
        client.close(found.handle);
    }
    client.close(object.handle);
}

fn rename_refuses(client: &Client) {
    client.directory("d");
    client.directory("d\\e");
    client.put("f", b"x");
    let directory = client.find("d");
    assert_eq!(client.rename(directory.handle, "d\\e\\d", false), Err(NtStatus::ACCESS_DENIED));
    assert_eq!(client.rename(directory.handle, "f", true), Err(NtStatus::ACCESS_DENIED));
    let (file, root) = (client.find("f"), client.find(""));
    assert_eq!(client.rename(file.handle, "..", false), Err(NtStatus::OBJECT_NAME_INVALID));
    assert!(client.rename(root.handle, "d\\root", false).is_err());
    let name = Name::from("x");
    let into_file = client.done(StorageOp::Rename {
        handle: directory.handle,
        parent: file.handle,
        name,
        replace: false,
    });
    assert_eq!(into_file, Err(NtStatus::NOT_A_DIRECTORY));
    for handle in [directory.handle, file.handle, root.handle] {
        client.close(handle);
    }
}

fn links(client: &Client) {
    if !client.caps().hard_links {
        return;
    }
    client.put("one", b"data");
    client.put("other", b"other");
    client.directory("d");
    let one = client.find("one");
    assert_eq!(client.link(one.handle, "d\\two", false), Ok(()));
    let two = client.find("d\\TWO");
    assert_eq!(two.attributes.number, one.attributes.number);
    assert_eq!(client.attributes(one.handle).links, 2);
    assert_eq!(client.link(one.handle, "OTHER", false), Err(NtStatus::OBJECT_NAME_COLLISION));
    assert_eq!(client.link(one.handle, "d", true), Err(NtStatus::ACCESS_DENIED));
    assert_eq!(client.link(one.handle, "OTHER", true), Ok(()));
    let other = client.find("other");
    assert_eq!((other.name.to_string(), other.attributes.links), ("OTHER".into(), 3));
    // Each handle removes the link by which it was opened.
    assert_eq!(client.done(StorageOp::Unlink { handle: two.handle }), Ok(()));
    assert!(!client.exists("d\\two") && client.exists("one"));
    // A rename over another link of the same file leaves one of the two.
    assert_eq!(client.rename(one.handle, "other", true), Ok(()));
    assert!(!client.exists("one"));
    assert_eq!(client.attributes(one.handle).links, 1);
    let directory = client.find("d");
    assert_eq!(client.link(directory.handle, "e", false), Err(NtStatus::FILE_IS_A_DIRECTORY));
    for handle in [one.handle, two.handle, other.handle, directory.handle] {
        client.close(handle);
    }
}

fn open_tells_stale_names(client: &Client) {
    client.put("f", b"x");
    let pinned = client.find("f");
    client.remove("f");
    let intent = Intent { read: true, write: false };
    assert_eq!(client.call(StorageOp::Open { handle: pinned.handle, intent }), StorageReply::Stale);
    client.close(pinned.handle);
}

fn closed_handles_are_refused(client: &Client) {
    let object = client.file("f", b"x");
    client.close(object.handle);
    assert_eq!(client.read(object.handle, 0, 1), Err(NtStatus::INVALID_HANDLE));
    assert_eq!(client.done(StorageOp::Close { handle: object.handle }), Err(NtStatus::INVALID_HANDLE));
    assert_eq!(client.done(StorageOp::Flush { handle: Handle(0) }), Err(NtStatus::INVALID_HANDLE));
    let again = client.find("f");
    assert_ne!(again.handle, object.handle);
    client.close(again.handle);
}
