//! Symbolic links as reparse points: what the posix driver tells of them, and how clients make them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use smb_proto::fscc::reparse::ReparseTag;
use smb_proto::security::{Acl, SecurityDescriptor, SecurityInformation};
use smb_proto::{FileAttributes, Name, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Initial, Kind, Object, Resolved, StorageOp, StorageReply};
use storage::conformance::Client;
use storage::offload::Inline;
use storage::posix::{Posix, PosixOptions};

fn volume(root: &Path) -> (Arc<Posix>, Client) {
    let driver = Arc::new(Posix::new(root, PosixOptions::default(), Arc::new(Inline)).unwrap());
    (Arc::clone(&driver), Client::new(driver))
}

fn target(client: &Client, handle: Handle) -> Result<Name, NtStatus> {
    match client.call(StorageOp::LinkTarget { handle }) {
        StorageReply::Target(target) => Ok(target),
        StorageReply::Failed(status) => Err(status),
        other => panic!("expected a target, got {other:?}"),
    }
}

fn set_target(client: &Client, handle: Handle, target: &str) -> Result<(), NtStatus> {
    let initial = Box::default();
    client.done(StorageOp::SetLinkTarget { handle, target: Some(Name::from(target)), initial })
}

fn is_link(object: &Object) -> bool {
    let is_link = object.attributes.reparse_tag == ReparseTag::SYMLINK.0;
    assert_eq!(object.attributes.dos.contains(FileAttributes::REPARSE_POINT), is_link);
    is_link
}

#[test]
fn a_link_is_shown_and_not_followed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("d/e")).unwrap();
    fs::write(root.path().join("d/f"), "data").unwrap();
    let absolute = root.path().canonicalize().unwrap().join("d/f");
    for (text, name, told) in [
        (Path::new("f"), "near", Ok("f")),
        (Path::new("./e/../f"), "around", Ok(r".\e\..\f")),
        (Path::new("../d/"), "directory", Ok(r"..\d")),
        (Path::new("missing/x"), "dangling", Ok(r"missing\x")),
        (&absolute, "absolute", Ok(r"..\d\f")),
        (Path::new("../.."), "up", Err(NtStatus::ACCESS_DENIED)),
        (Path::new("e/../../../x"), "far up", Err(NtStatus::ACCESS_DENIED)),
        (Path::new("/etc/passwd"), "outside", Err(NtStatus::ACCESS_DENIED)),
    ] {
        symlink(text, root.path().join("d").join(name)).unwrap();
        let (driver, client) = volume(root.path());
        let object = client.find(&format!("D\\{name}"));
        assert!(is_link(&object) && object.attributes.kind == Kind::File, "{name}");
        assert_eq!((object.attributes.end_of_file, object.attributes.allocation), (0, 0));
        let told = told.map(Name::from);
        assert_eq!(target(&client, object.handle), told, "{name}");
        assert!(client.open(object.handle, true, true).is_ok());
        assert!(client.read(object.handle, 0, 1).is_err() && client.write(object.handle, 0, b"x").is_err());
        client.close(object.handle);
        for (path, component) in [(format!("d\\{name}\\x\\y"), 2), (format!("D\\{name}\\x"), 2)] {
            let expected = told.clone().map(|target| Resolved::Link { component, target });
            assert_eq!(client.resolve(&path), expected, "{path}");
        }
        assert_eq!(driver.handles_open(), 0);
    }
    let (_, client) = volume(root.path());
    let directory = client.find("d");
    assert_eq!(client.names(directory.handle, "near", 4096), ["near"]);
    assert_eq!(client.names(directory.handle, "*", 4096).len(), 10);
    let file = client.find("d\\f");
    assert!(!is_link(&file));
    assert_eq!(target(&client, file.handle), Err(NtStatus::NOT_A_REPARSE_POINT));
    client.close(file.handle);
    client.close(directory.handle);
}

#[test]
fn renames_and_removals_are_of_the_link() {
    let root = tempfile::tempdir().unwrap();
    let (driver, client) = volume(root.path());
    client.put("f", b"data");
    symlink("f", root.path().join("link")).unwrap();
    let link = client.find("link");
    assert_eq!(client.rename(link.handle, "moved", false), Ok(()));
    assert_eq!(fs::read_link(root.path().join("moved")).unwrap(), Path::new("f"));
    assert_eq!(client.done(StorageOp::Unlink { handle: link.handle }), Ok(()));
    client.close(link.handle);
    assert!(!client.exists("moved") && client.exists("f"));
    assert_eq!(driver.handles_open(), 0);
}

#[test]
fn clients_make_links_of_files_and_directories() {
    let root = tempfile::tempdir().unwrap();
    let (driver, client) = volume(root.path());
    client.directory("d");
    client.directory("d\\e");
    for (kind, path) in [(Kind::File, "d\\link"), (Kind::Directory, "d\\e\\link")] {
        let made = client.create(path, kind).unwrap();
        let other = client.find(path);
        assert_eq!(set_target(&client, made.handle, r"..\x\y"), Ok(()), "{path}");
        let local = root.path().join(path.replace('\\', "/"));
        assert_eq!(fs::read_link(&local).unwrap(), Path::new("../x/y"));
        // The handle stands for the link now.
        let now = client.attributes(made.handle);
        assert_eq!(now.reparse_tag, ReparseTag::SYMLINK.0);
        assert_eq!(target(&client, made.handle), Ok(Name::from(r"..\x\y")));
        let found = client.find(path);
        assert!(is_link(&found) && found.attributes.number == now.number);
        client.close(found.handle);
        // A link can be led elsewhere, and made a file again.
        assert_eq!(set_target(&client, made.handle, "z"), Ok(()));
        assert_eq!(fs::read_link(&local).unwrap(), Path::new("z"));
        let remove = || {
            let initial = Box::default();
            client.done(StorageOp::SetLinkTarget { handle: made.handle, target: None, initial })
        };
        assert_eq!(remove(), Ok(()));
        assert_eq!(remove(), Err(NtStatus::NOT_A_REPARSE_POINT));
        assert_eq!((client.attributes(made.handle).reparse_tag, fs::metadata(&local).unwrap().len()), (0, 0));
        assert_eq!(client.write(made.handle, 0, b"data"), Ok(4));
        assert_eq!(client.done(StorageOp::Unlink { handle: made.handle }), Ok(()));
        client.close(other.handle);
        client.close(made.handle);
        assert!(!client.exists(path));
    }
    assert_eq!(fs::read_dir(root.path().join("d")).unwrap().count(), 1, "nothing is left over");
    assert_eq!(driver.handles_open(), 0);
}

#[test]
fn what_can_not_become_a_link_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (_, client) = volume(root.path());
    client.directory("d");
    client.put("d\\f", b"data");
    client.put("e", b"");
    fs::hard_link(root.path().join("e"), root.path().join("e2")).unwrap();
    client.put("g", b"");
    for (path, to, status) in [
        ("d", "x", NtStatus::DIRECTORY_NOT_EMPTY),
        ("", "x", NtStatus::ACCESS_DENIED),
        ("d\\f", "x", NtStatus::IO_REPARSE_DATA_INVALID),
        ("e", "x", NtStatus::NOT_SUPPORTED),
        ("g", "..", NtStatus::ACCESS_DENIED),
        ("g", r"x\..\..\y", NtStatus::ACCESS_DENIED),
        ("g", r"x\..\y", NtStatus::ACCESS_DENIED),
        ("g", "", NtStatus::IO_REPARSE_DATA_INVALID),
        ("g", r"\x", NtStatus::IO_REPARSE_DATA_INVALID),
        ("g", "x/../../y", NtStatus::IO_REPARSE_DATA_INVALID),
    ] {
        let object = client.find(path);
        assert_eq!(set_target(&client, object.handle, to), Err(status), "{path} to {to}");
        assert_eq!(client.attributes(object.handle).reparse_tag, 0);
        client.close(object.handle);
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4);
}

#[test]
fn a_number_stays_while_it_is_open_and_nobody_else_gets_it() {
    let root = tempfile::tempdir().unwrap();
    let (driver, client) = volume(root.path());
    let made = client.create("f", Kind::File).unwrap();
    let number = made.attributes.number;
    // The second replacement would free the inode of the first.
    for target in ["x", "y"] {
        assert_eq!(set_target(&client, made.handle, target), Ok(()));
        let found = client.find("f");
        assert_eq!((client.attributes(made.handle).number, found.attributes.number), (number, number));
        client.close(found.handle);
    }
    let others: Vec<Object> =
        (0..32).map(|other| client.create(&format!("other{other}"), Kind::File).unwrap()).collect();
    assert!(others.iter().all(|other| other.attributes.number != number));
    others.iter().for_each(|other| client.close(other.handle));
    // Somebody who opened it meanwhile keeps the number.
    let found = client.find("f");
    client.close(made.handle);
    let again = client.find("f");
    assert_eq!((found.attributes.number, again.attributes.number), (number, number));
    client.close(again.handle);
    client.close(found.handle);
    let now = client.find("f");
    assert_ne!(now.attributes.number, number);
    client.close(now.handle);
    assert_eq!(driver.handles_open(), 0);
}

#[test]
fn a_link_with_two_names_stays_one() {
    let root = tempfile::tempdir().unwrap();
    let (_, client) = volume(root.path());
    symlink("x", root.path().join("a")).unwrap();
    let link = client.find("a");
    let parent = client.find("");
    let name = Name::from("b");
    let more = StorageOp::Link { handle: link.handle, parent: parent.handle, name, replace: false };
    assert_eq!(client.done(more), Ok(()));
    let remove = StorageOp::SetLinkTarget { handle: link.handle, target: None, initial: Box::default() };
    assert_eq!(client.done(remove), Err(NtStatus::NOT_SUPPORTED));
    assert_eq!(set_target(&client, link.handle, "y"), Err(NtStatus::NOT_SUPPORTED));
    assert_eq!(fs::read_link(root.path().join("a")).unwrap(), Path::new("x"));
    client.close(parent.handle);
    client.close(link.handle);
}

#[test]
fn a_file_that_a_link_becomes_starts_as_a_new_one() {
    let root = tempfile::tempdir().unwrap();
    let (_, client) = volume(root.path());
    if !client.caps().security {
        return;
    }
    symlink("x", root.path().join("f")).unwrap();
    let link = client.find("f");
    let descriptor = SecurityDescriptor { dacl: Some(Acl::default()), ..SecurityDescriptor::default() };
    let initial = Initial { security: Some(Box::new(descriptor)), ..Initial::default() };
    let op = StorageOp::SetLinkTarget { handle: link.handle, target: None, initial: Box::new(initial) };
    assert_eq!(client.done(op), Ok(()));
    let file = client.find("f");
    assert!(!is_link(&file));
    assert_eq!(file.security.and_then(|security| security.dacl), Some(Acl::default()));
    client.close(file.handle);
    client.close(link.handle);
}

#[test]
fn a_link_moves_only_to_where_it_stays_inside() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    let (driver, client) = volume(root.path());
    client.put("a\\b\\link", b"");
    let link = client.find("a\\b\\link");
    assert_eq!(set_target(&client, link.handle, r"..\..\x"), Ok(()));
    // A local program's links may lead anywhere, but not further by what clients do.
    symlink("../../x", root.path().join("a/far")).unwrap();
    let far = client.find("a\\far");
    for (handle, from, to, status) in [
        (link.handle, "a/b/link", "a\\link", Err(NtStatus::ACCESS_DENIED)),
        (link.handle, "a/b/link", "link", Err(NtStatus::ACCESS_DENIED)),
        (far.handle, "a/far", "far", Err(NtStatus::ACCESS_DENIED)),
        (far.handle, "a/far", "a\\farther", Ok(())),
        (link.handle, "a/b/link", "a\\b\\moved", Ok(())),
    ] {
        let parent = client.find(to.rsplit_once('\\').map_or("", |(parent, _)| parent));
        let name = Name::from(to.rsplit('\\').next().unwrap());
        let more = StorageOp::Link { handle, parent: parent.handle, name, replace: false };
        if status.is_err() {
            assert_eq!(client.done(more), status, "another name: {to}");
        }
        client.close(parent.handle);
        assert_eq!(client.rename(handle, to, false), status, "{to}");
        assert_eq!(root.path().join(from).is_symlink(), status.is_err());
    }
    client.close(link.handle);
    client.close(far.handle);
    assert_eq!(driver.handles_open(), 0);
}

#[test]
fn a_link_is_protected_as_its_directory_is() {
    let root = tempfile::tempdir().unwrap();
    let (_, client) = volume(root.path());
    client.directory("d");
    symlink("x", root.path().join("d/link")).unwrap();
    if !client.caps().security {
        return;
    }
    let directory = client.find("d");
    let descriptor = SecurityDescriptor { dacl: Some(Acl::default()), ..SecurityDescriptor::default() };
    let set = StorageOp::SetSecurity {
        handle: directory.handle,
        parts: SecurityInformation::DACL,
        descriptor: Box::new(descriptor),
    };
    assert_eq!(client.done(set), Ok(()));
    let link = client.find("d\\link");
    assert_eq!(link.security.and_then(|security| security.dacl), Some(Acl::default()));
    client.close(link.handle);
    client.close(directory.handle);
}

#[test]
fn a_volume_that_follows_links_makes_none() {
    let root = tempfile::tempdir().unwrap();
    let options = PosixOptions { follows_links: true, ..PosixOptions::default() };
    let client = Client::new(Arc::new(Posix::new(root.path(), options, Arc::new(Inline)).unwrap()));
    assert!(!client.caps().symbolic_links);
    let file = client.create("f", Kind::File).unwrap();
    assert_eq!(set_target(&client, file.handle, "x"), Err(NtStatus::INVALID_DEVICE_REQUEST));
    assert_eq!(target(&client, file.handle), Err(NtStatus::NOT_A_REPARSE_POINT));
    client.close(file.handle);
}
