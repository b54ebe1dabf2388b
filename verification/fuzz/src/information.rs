//! MS-FSCC: information classes, listings, bodies of file system controls.

use bytes::Bytes;
use smb_proto::fscc::class::{FileInfoClass, FsInfoClass};

use crate::shape::{choice, chosen, emitted, round_trip};

/// How much fitted doesn't matter here.
const fn ignored(_: smb_proto::fscc::Fit) {}

/// What is queried and set of files and volumes.
pub mod file_information {
    use super::*;
    use smb_proto::fscc::file_info::{FileInformation, SetFileInformation};
    use smb_proto::fscc::fs_info::FsInformation;

    /// The first byte is what is done, the second the class, the rest the information.
    pub fn check(input: &[u8]) {
        let (what, rest) = choice(input);
        let (class, body) = choice(&rest);
        let class = u8::try_from(class).unwrap_or(0);
        match what % 3 {
            0 => {
                let class = FileInfoClass(class);
                if let Ok(parsed) = SetFileInformation::parse(class, &body) {
                    round_trip(&parsed, SetFileInformation::emit, |bytes| {
                        SetFileInformation::parse(parsed.class(), bytes)
                    });
                }
            }
            1 => {
                let class = FileInfoClass(class);
                if let Ok(parsed) = FileInformation::parse(class, &body) {
                    round_trip(&parsed, FileInformation::emit, |bytes| FileInformation::parse(class, bytes));
                    fits(|out, limit| ignored(parsed.emit_within(out, limit)), parsed.encoded_len());
                }
            }
            _ => {
                let class = FsInfoClass(class);
                if let Ok(parsed) = FsInformation::parse(class, &body) {
                    round_trip(&parsed, FsInformation::emit, |bytes| FsInformation::parse(class, bytes));
                    fits(|out, limit| ignored(parsed.emit_within(out, limit)), parsed.encoded_len());
                }
            }
        }
    }

    /// Whatever limit a client names is kept.
    fn fits(emit: impl Fn(&mut Vec<u8>, usize), length: usize) {
        for limit in [0, 1, 7, 24, 96, length.saturating_sub(1), length] {
            let mut out = b"before".to_vec();
            emit(&mut out, limit);
            assert!(out.len() - 6 <= limit, "{} bytes within {limit}", out.len() - 6);
            assert!(out.starts_with(b"before"));
        }
    }

    /// Something for every class: most are fixed structures that zeros are good for.
    pub fn seeds() -> Vec<Vec<u8>> {
        let named = [&[0; 16][..], &6_u32.to_le_bytes(), b"a\0b\0c\0"].concat();
        let mut seeds: Vec<_> = [10, 11, 65, 72, 40].map(|class| chosen(0, &chosen(class, &named))).into();
        for class in [4, 13, 14, 16, 19, 20, 23, 39, 64] {
            seeds.push(chosen(0, &chosen(class, &[0; 40])));
        }
        let ea = [&[0; 4][..], &[0, 1, 2, 0], b"A\0xy"].concat();
        seeds.push(chosen(0, &chosen(15, &ea)));
        seeds.push(chosen(1, &chosen(15, &ea)));
        for class in [4, 5, 6, 7, 8, 14, 16, 17, 18, 22, 23, 24, 25, 28, 34, 35, 54, 59] {
            seeds.push(chosen(1, &chosen(class, &[0; 104])));
        }
        for class in [9, 21, 48] {
            seeds.push(chosen(1, &chosen(class, b"\x04\0\0\0\\\0a\0")));
        }
        for class in 1..12 {
            seeds.push(chosen(2, &chosen(class, &[0; 64])));
        }
        seeds
    }
}

/// Directory listings of every class.
pub mod directory {
    use super::*;
    use smb_proto::fscc::directory::{self, DirectoryEntry, DirectoryWriter};

    const CLASSES: [FileInfoClass; 12] = [
        FileInfoClass::DIRECTORY,
        FileInfoClass::FULL_DIRECTORY,
        FileInfoClass::BOTH_DIRECTORY,
        FileInfoClass::NAMES,
        FileInfoClass::ID_BOTH_DIRECTORY,
        FileInfoClass::ID_FULL_DIRECTORY,
        FileInfoClass::ID_EXTD_DIRECTORY,
        FileInfoClass::ID_EXTD_BOTH_DIRECTORY,
        FileInfoClass::ID_64_EXTD_DIRECTORY,
        FileInfoClass::ID_64_EXTD_BOTH_DIRECTORY,
        FileInfoClass::ID_ALL_EXTD_DIRECTORY,
        FileInfoClass::ID_ALL_EXTD_BOTH_DIRECTORY,
    ];

    /// The first byte is the class, the rest the listing. Also writes it within its first half.
    pub fn check(input: &[u8]) {
        let (class, body) = choice(input);
        let class = CLASSES[class % CLASSES.len()];
        let Ok(entries) = directory::parse(class, &body) else { return };
        let write = |limit: usize| {
            let mut writer = DirectoryWriter::new(class, limit).expect("a class of directories");
            let count = entries.iter().take_while(|entry| writer.push(entry)).count();
            (count, writer.finish())
        };
        let (count, whole) = write(1 << 24);
        assert_eq!(count, entries.len());
        if !entries.is_empty() {
            assert_eq!(directory::parse(class, &whole.clone().into()).as_ref(), Ok(&entries));
        }
        let (count, half) = write(whole.len() / 2);
        assert!(half.len() <= whole.len() / 2);
        if count > 0 {
            assert_eq!(directory::parse(class, &half.into()).as_deref(), Ok(&entries[..count]));
        }
    }

    /// Two entries of each class.
    pub fn seeds() -> Vec<Vec<u8>> {
        let entry = DirectoryEntry {
            name: "a long name".into(),
            end_of_file: 7,
            file_id: 9,
            ..DirectoryEntry::default()
        };
        CLASSES
            .iter()
            .enumerate()
            .map(|(index, class)| {
                let mut writer = DirectoryWriter::new(*class, 4096).expect("a class of directories");
                assert!(
                    writer.push(&entry) && writer.push(&DirectoryEntry { name: "b".into(), ..entry.clone() })
                );
                chosen(index, &writer.finish())
            })
            .collect()
    }
}

/// Lists that aren't directories: extended attributes, streams, changes, quotas.
pub mod lists {
    use super::*;
    use smb_proto::fscc::notify::NotifyWriter;
    use smb_proto::fscc::{ea, notify, quota, stream};
    use smb_proto::security::sid::Sid;

    const ANY: usize = 1 << 24;

    /// The first byte is the kind of list.
    pub fn check(input: &[u8]) {
        let (which, body) = choice(input);
        match which % 6 {
            0 => {
                if let Ok(parsed) = ea::parse_full(&body) {
                    let _ = ea::packed_size(&parsed);
                    round_trip(&parsed, |list, out| ignored(ea::emit_full(list, out, ANY)), ea::parse_full);
                    within(|out, limit| ignored(ea::emit_full(&parsed, out, limit)));
                }
            }
            1 => {
                if let Ok(parsed) = ea::parse_get(&body) {
                    round_trip(&parsed, |list, out| ea::emit_get(list, out), ea::parse_get);
                }
            }
            2 => {
                if let Ok(parsed) = stream::parse(&body) {
                    round_trip(&parsed, |list, out| ignored(stream::emit(list, out, ANY)), stream::parse);
                    within(|out, limit| ignored(stream::emit(&parsed, out, limit)));
                }
            }
            3 => {
                if let Ok(parsed) = notify::parse(&body) {
                    let write = |list: &Vec<notify::Change>, out: &mut Vec<u8>| {
                        let mut writer = NotifyWriter::new(ANY);
                        assert!(list.iter().all(|change| writer.push(change.action, change.name.units())));
                        out.extend(writer.finish());
                    };
                    round_trip(&parsed, write, notify::parse);
                }
            }
            4 => {
                if let Ok(parsed) = quota::parse(&body) {
                    round_trip(&parsed, |list, out| ignored(quota::emit(list, out, ANY)), quota::parse);
                    within(|out, limit| ignored(quota::emit(&parsed, out, limit)));
                }
            }
            _ => {
                if let Ok(parsed) = quota::parse_get(&body) {
                    round_trip(&parsed, |list, out| quota::emit_get(list, out), quota::parse_get);
                }
            }
        }
    }

    fn within(emit: impl Fn(&mut Vec<u8>, usize)) {
        for limit in [0, 8, 30, 64] {
            let mut out = Vec::new();
            emit(&mut out, limit);
            assert!(out.len() <= limit);
        }
    }

    /// A list of each kind.
    pub fn seeds() -> Vec<Vec<u8>> {
        let eas = [("ONE", "1"), ("TWO", "22")].map(|(name, value)| ea::FullEa {
            flags: 0,
            name: Bytes::from_static(name.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        });
        let streams = [("", 3), ("other", 4)].map(|(name, size)| stream::StreamEntry {
            name: name.into(),
            size,
            allocation_size: 4096,
        });
        let mut changes = NotifyWriter::new(ANY);
        assert!(changes.push(notify::Action(1), &[97, 98]) && changes.push(notify::Action(4), &[99]));
        let sids = [Sid::EVERYONE, Sid::EVERYONE];
        vec![
            chosen(0, &emitted(|out| ignored(ea::emit_full(&eas, out, ANY)))),
            chosen(1, &emitted(|out| ea::emit_get(&eas.clone().map(|ea| ea.name), out))),
            chosen(2, &emitted(|out| ignored(stream::emit(&streams, out, ANY)))),
            chosen(3, &changes.finish()),
            chosen(4, &[0; 80]),
            chosen(5, &emitted(|out| quota::emit_get(&sids, out))),
        ]
    }
}

/// Bodies of file system controls, and reparse data.
pub mod file_system_control {
    use super::*;
    use smb_proto::fscc::fsctl::*;
    use smb_proto::fscc::reparse::ReparseData;

    macro_rules! round {
        ($type:ty, $input:expr) => {
            if let Ok(parsed) = <$type>::parse(&$input) {
                round_trip(&parsed, <$type>::emit, |bytes| <$type>::parse(bytes));
            }
        };
    }

    /// The first byte chooses the structure.
    pub fn check(input: &[u8]) {
        let (which, body) = choice(input);
        match which % 14 {
            0 => round!(ZeroData, body),
            1 => round!(Range, body),
            2 => round!(CompressionState, body),
            3 => round!(ObjectIdBuffer, body),
            4 => round!(GetIntegrity, body),
            5 => round!(SetIntegrity, body),
            6 => round!(DuplicateExtents, body),
            7 => round!(DuplicateExtentsEx, body),
            8 => round!(FileLevelTrim, body),
            9 => round!(PipeWait, body),
            10 => round!(PipePeek, body),
            11 => round!(FileRegions, body),
            12 => {
                if let Ok(parsed) = parse_ranges(&body) {
                    round_trip(
                        &parsed,
                        |parsed, out| ignored(emit_ranges(parsed, out, 1 << 24)),
                        |bytes| parse_ranges(bytes),
                    );
                }
            }
            _ => round!(ReparseData, body),
        }
    }

    /// Symbolic links are what has the most structure.
    pub fn seeds() -> Vec<Vec<u8>> {
        let link = [
            &0xA000_000C_u32.to_le_bytes()[..],
            &[20, 0, 0, 0],
            &[0, 0, 4, 0, 4, 0, 4, 0],
            &1_u32.to_le_bytes(),
            b"a\0b\0a\0b\0",
        ]
        .concat();
        let mount = [
            &0xA000_0003_u32.to_le_bytes()[..],
            &[20, 0, 0, 0],
            &[0, 0, 4, 0, 6, 0, 4, 0],
            b"a\0b\0\0\0a\0b\0\0\0",
        ]
        .concat();
        let mut seeds: Vec<_> = (0..13).map(|which| chosen(which, &[1, 0, 0, 0].repeat(16))).collect();
        seeds.extend([chosen(13, &link), chosen(13, &mount)]);
        seeds
    }
}
