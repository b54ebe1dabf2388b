//! Attributes, times, security, the volume.

use smb_proto::security::{Ace, AceFlags, Acl, Control, SecurityDescriptor, SecurityInformation, Sid};
use smb_proto::{AccessMask, FileAttributes, FileTime, NtStatus};
use smb_state::ids::Handle;
use smb_state::storage::{Attributes, Initial, Kept, Kind, SetAttributes, StorageOp, StorageReply};

use super::{Case, Client};

pub(super) const CASES: &[Case] = &[
    ("fresh_attributes", fresh_attributes),
    ("times_are_set", times_are_set),
    ("dos_attributes_are_set", dos_attributes_are_set),
    ("readonly_is_set_and_cleared", readonly_is_set_and_cleared),
    ("writing_moves_times", writing_moves_times),
    ("written_times_are_told_in_the_end", written_times_are_told_in_the_end),
    ("kept_times_stay", kept_times_stay),
    ("security_is_kept", security_is_kept),
    ("initial_security", initial_security),
    ("volume", volume),
];

fn set(client: &Client, handle: Handle, set: SetAttributes) {
    assert_eq!(client.done(StorageOp::SetAttributes { handle, set }), Ok(()));
}

fn fresh_attributes(client: &Client) {
    let file = client.file("f", b"");
    let attributes = client.attributes(file.handle);
    assert_eq!(attributes.dos, FileAttributes::ARCHIVE);
    assert_eq!((attributes.kind, attributes.links), (Kind::File, 1));
    assert_eq!((attributes.end_of_file, attributes.allocation, attributes.ea_size), (0, 0, 0));
    let year_2020 = FileTime::from_unix(1_577_836_800, 0);
    for time in [attributes.creation, attributes.last_access, attributes.last_write, attributes.change] {
        assert!(time > year_2020);
    }
    client.directory("d");
    let directory = client.find("d");
    assert_eq!((directory.attributes.dos, directory.attributes.links), (FileAttributes::DIRECTORY, 1));
    assert_eq!((directory.attributes.end_of_file, directory.attributes.allocation), (0, 0));
    client.close(file.handle);
    client.close(directory.handle);
}

fn times_are_set(client: &Client) {
    let file = client.file("f", b"x");
    client.directory("d");
    let directory = client.find("d");
    for handle in [file.handle, directory.handle] {
        let time = |seconds| Some(FileTime::from_unix(seconds, 123_456_700));
        let times = SetAttributes {
            creation: time(1_000_000_000),
            last_access: time(1_100_000_000),
            last_write: time(1_200_000_000),
            change: time(1_300_000_000),
            dos: None,
            kept: Kept::default(),
        };
        set(client, handle, times);
        let attributes = client.attributes(handle);
        assert_eq!(Some(attributes.last_access), times.last_access);
        assert_eq!(Some(attributes.last_write), times.last_write);
        if client.caps().extended_attributes {
            assert_eq!(Some(attributes.creation), times.creation);
            assert_eq!(Some(attributes.change), times.change);
        }
        // What is not given stays; the times of before 1970 are times too.
        let early = Some(FileTime::from_unix(-1_000_000_000, 500));
        set(client, handle, SetAttributes { last_write: early, ..SetAttributes::default() });
        let later = client.attributes(handle);
        assert_eq!((Some(later.last_write), later.last_access), (early, attributes.last_access));
        assert_eq!(later.creation, attributes.creation);
        assert_eq!(later.dos, attributes.dos);
    }
    client.close(file.handle);
    client.close(directory.handle);
}

fn dos_attributes_are_set(client: &Client) {
    if !client.caps().extended_attributes {
        return;
    }
    let file = client.file("f", b"x");
    let several = FileAttributes(FileAttributes::HIDDEN.0 | FileAttributes::SYSTEM.0);
    for (given, told) in [
        (several, several),
        (FileAttributes::NORMAL, FileAttributes::NORMAL),
        (FileAttributes(FileAttributes::ARCHIVE.0 | FileAttributes::NORMAL.0), FileAttributes::ARCHIVE),
        (FileAttributes(FileAttributes::HIDDEN.0 | FileAttributes::DIRECTORY.0), FileAttributes::HIDDEN),
    ] {
        set(client, file.handle, SetAttributes { dos: Some(given), ..SetAttributes::default() });
        assert_eq!(client.attributes(file.handle).dos, told);
    }
    client.close(file.handle);
    client.directory("d");
    let directory = client.find("d");
    set(client, directory.handle, SetAttributes { dos: Some(several), ..SetAttributes::default() });
    let told = client.attributes(directory.handle).dos;
    assert_eq!(told, FileAttributes(several.0 | FileAttributes::DIRECTORY.0));
    client.close(directory.handle);
    let root = client.find("");
    let initial = Initial { dos: FileAttributes::HIDDEN, ..Initial::default() };
    let hidden = client.create_with(root.handle, &"h".into(), Kind::File, initial).unwrap();
    assert_eq!(hidden.attributes.dos, FileAttributes::HIDDEN);
    client.close(hidden.handle);
    client.close(root.handle);
}

fn readonly_is_set_and_cleared(client: &Client) {
    let file = client.file("f", b"x");
    let dos = |bits| SetAttributes { dos: Some(bits), ..SetAttributes::default() };
    set(client, file.handle, dos(FileAttributes::READONLY));
    assert!(client.attributes(file.handle).dos.contains(FileAttributes::READONLY));
    set(client, file.handle, dos(FileAttributes::ARCHIVE));
    assert!(!client.attributes(file.handle).dos.contains(FileAttributes::READONLY));
    client.close(file.handle);
}

fn writing_moves_times(client: &Client) {
    let file = client.file("f", b"x");
    let early = Some(FileTime::from_unix(1_000_000_000, 0));
    set(client, file.handle, SetAttributes { last_write: early, change: early, ..SetAttributes::default() });
    // Longer than a file system's clock ticks.
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(client.write(file.handle, 0, b"y"), Ok(1));
    assert!(matches!(
        client.call(StorageOp::SettleTimes { handle: file.handle, now: false }),
        StorageReply::Attributes(_)
    ));
    let attributes = client.attributes(file.handle);
    assert!(Some(attributes.last_write) > early && Some(attributes.change) > early);
    client.close(file.handle);
}

fn written_times_are_told_in_the_end(client: &Client) {
    let file = client.file("f", b"x");
    let other = client.find("f");
    assert!(client.open(other.handle, true, true).is_ok());
    let told = || {
        let [one, two] = [file.handle, other.handle].map(|handle| client.attributes(handle).last_write);
        assert_eq!(one, two, "every handle is told the same");
        one
    };
    let mut known = told();
    type Ends = [(&'static str, StorageOp<bytes::Bytes>); 4];
    let settled = |reply: &StorageReply<smb_proto::Payload>| {
        matches!(reply, StorageReply::Done | StorageReply::Attributes(_))
    };
    let ends: Ends = [
        ("settling", StorageOp::SettleTimes { handle: file.handle, now: false }),
        ("the time of now", StorageOp::SettleTimes { handle: file.handle, now: true }),
        ("flush", StorageOp::Flush { handle: file.handle }),
        ("a new size", StorageOp::SetEndOfFile { handle: file.handle, size: 7 }),
    ];
    for (what, end) in ends {
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert_eq!(client.write(file.handle, 0, b"y"), Ok(1));
        assert!(told() >= known);
        assert!(settled(&client.call(end)));
        assert!(told() > known, "{what} tells of the write");
        known = told();
    }
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(client.write(file.handle, 0, b"y"), Ok(1));
    client.close(file.handle);
    assert!(client.attributes(other.handle).last_write > known, "closing tells of the write");
    client.close(other.handle);
}

fn kept_times_stay(client: &Client) {
    let file = client.file("f", b"x");
    let other = client.find("f");
    assert!(client.open(other.handle, true, true).is_ok());
    let kept = Kept { access: true, write: true, change: client.caps().extended_attributes };
    let early = Some(FileTime::from_unix(1_000_000_000, 0));
    set(client, file.handle, SetAttributes { last_write: early, change: early, kept, ..Default::default() });
    let before = client.attributes(file.handle);
    let times = |attributes: Attributes| {
        let change = if kept.change { attributes.change } else { FileTime(0) };
        (attributes.last_access, attributes.last_write, change)
    };
    let handle = file.handle;
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(client.write(handle, 0, b"yyyy"), Ok(4));
    assert_eq!(times(client.attributes(handle)), times(before), "a write");
    assert_eq!(client.done(StorageOp::SetEndOfFile { handle, size: 2 }), Ok(()));
    assert_eq!(times(client.attributes(handle)), times(before), "a new size");
    assert!(matches!(client.call(StorageOp::SettleTimes { handle, now: true }), StorageReply::Attributes(_)));
    assert_eq!(times(client.attributes(handle)), times(before), "the time of now");
    assert_eq!(client.read(handle, 0, 2).map(|data| data.len()), Ok(2));
    assert_eq!(times(client.attributes(handle)), times(before), "a read");
    assert_eq!(client.rename(handle, "g", false), Ok(()));
    assert_eq!(times(client.attributes(handle)), times(before), "a rename");
    set(client, handle, SetAttributes { kept, dos: Some(FileAttributes::HIDDEN), ..Default::default() });
    assert_eq!(times(client.attributes(handle)), times(before), "attributes");
    assert_eq!(client.written(write_zero(other.handle)), Ok(1));
    client.close(other.handle);
    assert!(client.attributes(handle).last_write > before.last_write, "another handle moves them");
    let moved = client.attributes(handle);
    set(client, handle, SetAttributes::default());
    assert_eq!(times(client.attributes(handle)), times(moved), "giving times free moves none");
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(client.write(handle, 0, b"z"), Ok(1));
    assert_eq!(client.done(StorageOp::Flush { handle }), Ok(()));
    let freed = client.attributes(handle);
    assert!(freed.last_write > moved.last_write && freed.change > before.change, "given free again");
    client.close(handle);
}

fn write_zero(handle: Handle) -> StorageOp<bytes::Bytes> {
    let buffer = bytes::Bytes::from_static(&[0]);
    StorageOp::Write { handle, offset: Some(0), buffer, length: 1, write_through: false }
}

fn security(client: &Client, handle: Handle) -> SecurityDescriptor {
    match client.call(StorageOp::Security { handle }) {
        StorageReply::Security(descriptor) => *descriptor,
        other => panic!("{other:?}"),
    }
}

fn sample() -> SecurityDescriptor {
    let owner = Sid::new(5, &[21, 1, 2, 3, 1000]).unwrap();
    let ace = Ace::allow(owner, AccessMask(0x001F_01FF), AceFlags(0));
    SecurityDescriptor::new(owner, Sid::BUILTIN_USERS, Acl::new(vec![ace]))
}

fn security_is_kept(client: &Client) {
    let file = client.file("f", b"x");
    let fresh = security(client, file.handle);
    assert!(fresh.owner.is_some() && fresh.group.is_some() && fresh.dacl.is_some());
    let set = |parts: SecurityInformation, descriptor: SecurityDescriptor| {
        let descriptor = Box::new(descriptor);
        client.done(StorageOp::SetSecurity { handle: file.handle, parts, descriptor })
    };
    let all = SecurityInformation::OWNER.with(SecurityInformation::GROUP).with(SecurityInformation::DACL);
    if !client.caps().security {
        assert_eq!(set(all, sample()), Err(NtStatus::NOT_SUPPORTED));
        client.close(file.handle);
        return;
    }
    let stored = || {
        let found = client.find("f");
        client.close(found.handle);
        found.security
    };
    assert_eq!(stored(), None, "what nobody set is not told of");
    assert_eq!(set(SecurityInformation::OWNER, sample()), Ok(()));
    let partly = security(client, file.handle);
    assert_eq!((partly.owner, partly.group), (sample().owner, fresh.group));
    assert_eq!(partly.dacl, fresh.dacl);
    assert_eq!(set(all, sample()), Ok(()));
    let now = security(client, file.handle);
    assert_eq!(stored().as_deref(), Some(&now), "the core hears of it with the name");
    assert_eq!((now.owner, now.group, now.dacl), (sample().owner, sample().group, sample().dacl));
    // A list that is present and not given allows everything: not the same as none.
    assert_eq!(set(SecurityInformation::DACL, SecurityDescriptor::default()), Ok(()));
    let open = security(client, file.handle);
    assert_eq!((open.dacl, open.owner), (None, sample().owner));
    assert!(open.control.contains(Control::DACL_PRESENT));
    client.close(file.handle);
}

fn initial_security(client: &Client) {
    if !client.caps().security {
        return;
    }
    let root = client.find("");
    for (name, kind) in [("f", Kind::File), ("d", Kind::Directory)] {
        let initial = Initial { security: Some(Box::new(sample())), ..Initial::default() };
        let object = client.create_with(root.handle, &name.into(), kind, initial).unwrap();
        let told = security(client, object.handle);
        assert_eq!((told.owner, told.dacl), (sample().owner, sample().dacl));
        assert_eq!(object.security.as_deref(), Some(&sample()));
        client.close(object.handle);
    }
    client.close(root.handle);
}

fn volume(client: &Client) {
    let info = || match client.call(StorageOp::Volume) {
        StorageReply::Volume(info) => info,
        other => panic!("{other:?}"),
    };
    let told = info();
    assert!(told.unit_size >= 512 && told.unit_size.is_multiple_of(told.sector_size));
    assert!(told.units_total >= told.units_free && told.units_free >= told.units_available);
    assert!(told.units_total > 0 && told.component_max > 0 && told.serial != 0);
    assert_eq!(info().serial, told.serial);
}
