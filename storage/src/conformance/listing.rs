//! Listings.

use std::collections::BTreeSet;

use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::directory::DirectoryEntry;
use smb_proto::security::{Ace, AceFlags, Acl, SecurityDescriptor, SecurityInformation, Sid, Token};
use smb_proto::{AccessMask, FileAttributes, Name, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Listing, StorageOp};

use super::{Case, Client};

pub(super) const CASES: &[Case] = &[
    ("dots_come_first", dots_come_first),
    ("entries_tell_what_attributes_tell", entries_tell_what_attributes_tell),
    ("patterns", patterns),
    ("ends_and_restarts", ends_and_restarts),
    ("resumes_while_entries_change", resumes_while_entries_change),
    ("buffers_too_small", buffers_too_small),
    ("listings_of_files_are_refused", listings_of_files_are_refused),
    ("what_may_not_be_read_can_be_left_out", what_may_not_be_read_can_be_left_out),
];

fn listing(pattern: Option<&str>, length_max: u32) -> Listing {
    Listing {
        class: FileInfoClass::ID_BOTH_DIRECTORY,
        pattern: pattern.map(Name::from),
        restart: false,
        single: false,
        length_max,
        visible_to: None,
    }
}

fn names(entries: &[DirectoryEntry]) -> Vec<String> {
    entries.iter().map(|entry| entry.name.to_string()).collect()
}

fn dots_come_first(client: &Client) {
    client.directory("d");
    client.directory("d\\e");
    let directory = client.find("d");
    let entries = client.list_once(directory.handle, listing(Some("*"), 65536)).unwrap();
    assert_eq!(names(&entries), [".", "..", "e"]);
    assert_eq!(entries[0].file_id, directory.attributes.number.0);
    assert_eq!(entries[1].file_id, directory.parent.0);
    assert!(entries.iter().all(|entry| entry.attributes.contains(FileAttributes::DIRECTORY)));
    client.close(directory.handle);
    let root = client.find("");
    let entries = client.list_once(root.handle, listing(Some("*"), 65536)).unwrap();
    assert_eq!(names(&entries), [".", "..", "d"]);
    assert_eq!(entries[0].file_id, entries[1].file_id);
    client.close(root.handle);
}

fn entries_tell_what_attributes_tell(client: &Client) {
    client.put("File", &[0; 5000]);
    let file = client.find("file");
    let root = client.find("");
    for class in [
        FileInfoClass::DIRECTORY,
        FileInfoClass::FULL_DIRECTORY,
        FileInfoClass::BOTH_DIRECTORY,
        FileInfoClass::NAMES,
        FileInfoClass::ID_BOTH_DIRECTORY,
        FileInfoClass::ID_FULL_DIRECTORY,
        FileInfoClass::ID_EXTD_DIRECTORY,
    ] {
        let ask = Listing { class, restart: true, ..listing(Some("F*"), 4096) };
        let [entry] = &client.list_once(root.handle, ask).unwrap()[..] else { panic!("one entry") };
        assert_eq!(entry.name.to_string(), "File");
        if class == FileInfoClass::NAMES {
            continue;
        }
        let attributes = client.attributes(file.handle);
        assert_eq!((entry.end_of_file, entry.allocation_size), (5000, attributes.allocation));
        assert_eq!(
            (entry.creation_time, entry.last_write_time),
            (attributes.creation, attributes.last_write)
        );
        assert_eq!((entry.change_time, entry.attributes), (attributes.change, attributes.dos));
        if class == FileInfoClass::ID_BOTH_DIRECTORY {
            assert_eq!(entry.file_id, file.attributes.number.0);
        }
    }
    let ask = Listing { class: FileInfoClass::BASIC, ..listing(None, 4096) };
    assert_eq!(client.list_once(root.handle, ask), Err(NtStatus::INVALID_INFO_CLASS));
    client.close(file.handle);
    client.close(root.handle);
}

fn patterns(client: &Client) {
    for name in ["Alpha.txt", "beta.TXT", "gamma.doc", "Delta"] {
        client.put(name, b"x");
    }
    let root = client.find("");
    for (pattern, expected) in [
        ("*", &["Alpha.txt", "Delta", "beta.TXT", "gamma.doc"][..]),
        ("", &["Alpha.txt", "Delta", "beta.TXT", "gamma.doc"]),
        ("*.txt", &["Alpha.txt", "beta.TXT"]),
        ("?e*", &["Delta", "beta.TXT"]),
        ("ALPHA.TXT", &["Alpha.txt"]),
        ("beta.TXT", &["beta.TXT"]),
        ("nothing", &[]),
        ("*.nothing", &[]),
    ] {
        assert_eq!(client.names(root.handle, pattern, 65536), expected, "{pattern}");
    }
    let bad = Listing { restart: true, ..listing(Some("a/b"), 4096) };
    assert_eq!(client.list_once(root.handle, bad), Err(NtStatus::OBJECT_NAME_INVALID));
    client.close(root.handle);
}

fn ends_and_restarts(client: &Client) {
    client.put("a", b"x");
    client.put("b", b"x");
    let root = client.find("");
    let list = |ask| client.list_once(root.handle, ask);
    assert_eq!(list(listing(Some("x*"), 4096)), Err(NtStatus::NO_SUCH_FILE));
    assert_eq!(list(listing(None, 4096)), Err(NtStatus::NO_SUCH_FILE), "nothing ever matched");
    let restart = Listing { restart: true, ..listing(Some("a*"), 4096) };
    assert_eq!(list(restart.clone()).map(|entries| names(&entries)), Ok(vec!["a".to_string()]));
    assert_eq!(list(listing(None, 4096)), Err(NtStatus::NO_MORE_FILES));
    assert_eq!(list(listing(None, 4096)), Err(NtStatus::NO_MORE_FILES));
    let again = Listing { pattern: None, ..restart };
    assert_eq!(list(again).map(|entries| names(&entries)), Ok(vec!["a".to_string()]));
    let mut seen = Vec::new();
    let single = Listing { single: true, restart: true, ..listing(Some("*"), 4096) };
    let mut ask = single;
    while let Ok(entries) = list(ask.clone()) {
        assert_eq!(entries.len(), 1);
        seen.extend(names(&entries));
        ask.restart = false;
    }
    seen[2..].sort();
    assert_eq!(seen, [".", "..", "a", "b"]);
    client.close(root.handle);
}

/// Everything that stays is seen once, whatever comes and goes; buffers for one to three entries.
fn resumes_while_entries_change(client: &Client) {
    client.directory("d");
    for number in 0..200 {
        client.put(&format!("d\\stays{number:03}"), b"");
        client.put(&format!("d\\goes{number:03}"), b"");
    }
    let directory = client.find("d");
    let (mut seen, mut round) = (Vec::new(), 0);
    let mut gone = BTreeSet::new();
    loop {
        match client.list_once(directory.handle, listing(None, 150 + round % 300)) {
            Ok(entries) => seen.extend(names(&entries)),
            Err(NtStatus::NO_MORE_FILES) => break,
            Err(status) => panic!("{status}"),
        }
        if round < 200 {
            client.remove(&format!("d\\goes{round:03}"));
            gone.insert(format!("goes{round:03}"));
            client.put(&format!("d\\new{round:03}"), b"");
        }
        round += 1;
    }
    let stays: Vec<&String> = seen.iter().filter(|name| name.starts_with("stays")).collect();
    assert_eq!(stays.len(), 200);
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing twice");
    client.close(directory.handle);
}

fn list_in(client: &Client, handle: Handle, length_max: u32) -> Result<usize, NtStatus> {
    client.list_once(handle, listing(None, length_max)).map(|entries| entries.len())
}

fn buffers_too_small(client: &Client) {
    let long = "n".repeat(200);
    client.put(&long, b"x");
    let root = client.find("");
    assert_eq!(list_in(client, root.handle, 103), Err(NtStatus::INFO_LENGTH_MISMATCH));
    assert_eq!(list_in(client, root.handle, 105), Err(NtStatus::BUFFER_OVERFLOW));
    assert_eq!(list_in(client, root.handle, 106), Ok(1));
    assert_eq!(list_in(client, root.handle, 300), Ok(1), "the second dot");
    assert_eq!(list_in(client, root.handle, 300), Err(NtStatus::BUFFER_OVERFLOW));
    assert_eq!(list_in(client, root.handle, 600), Ok(1), "what did not fit comes when it fits");
    assert_eq!(list_in(client, root.handle, 600), Err(NtStatus::NO_MORE_FILES));
    client.close(root.handle);
}

fn listings_of_files_are_refused(client: &Client) {
    client.put("f", b"x");
    let file = client.find("f");
    assert!(list_in(client, file.handle, 4096).is_err());
    assert!(client.done(StorageOp::CheckEmpty { handle: file.handle }).is_err());
    client.close(file.handle);
}

fn what_may_not_be_read_can_be_left_out(client: &Client) {
    if !client.caps().security {
        return;
    }
    let user = Sid::new(5, &[21, 1, 2, 3, 1000]).unwrap();
    for (name, mask) in [("hidden", AccessMask::READ_ATTRIBUTES), ("shown", AccessMask::FILE_GENERIC_READ)] {
        let file = client.file(name, b"x");
        let list = Acl::new(vec![Ace::allow(Sid::EVERYONE, mask, AceFlags::EMPTY)]);
        let descriptor = Box::new(SecurityDescriptor::new(Sid::LOCAL_SYSTEM, Sid::LOCAL_SYSTEM, list));
        let parts = SecurityInformation::OWNER.with(SecurityInformation::DACL);
        assert_eq!(client.done(StorageOp::SetSecurity { handle: file.handle, parts, descriptor }), Ok(()));
        client.close(file.handle);
    }
    let plain = client.file("plain", b"x");
    client.close(plain.handle);
    let root = client.find("");
    let told = |class, pattern, visible_to| {
        let ask = Listing { class, restart: true, visible_to, ..listing(Some(pattern), 4096) };
        let mut names = client.list_once(root.handle, ask).map(|entries| names(&entries))?;
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        Ok(names)
    };
    let token = || Some(Box::new(Token::new(user, vec![Sid::EVERYONE])));
    for class in [FileInfoClass::ID_BOTH_DIRECTORY, FileInfoClass::NAMES] {
        assert_eq!(told(class, "*", token()), Ok(vec!["plain".into(), "shown".into()]));
        assert_eq!(told(class, "hidden", token()), Err(NtStatus::NO_SUCH_FILE));
        assert_eq!(told(class, "*", None).map(|names| names.len()), Ok(3));
    }
    client.close(root.handle);
}
