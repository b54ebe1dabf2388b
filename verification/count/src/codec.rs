//! Messages to bytes and back.

use std::hint::black_box;

use bytes::Bytes;
use smb_proto::command::create::{CreateAction, ResponseFlags};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::command::{FileId, Request, Response, create, read, write};
use smb_proto::fscc::class::FileInfoClass;
use smb_proto::fscc::directory::{self, DirectoryEntry, DirectoryWriter};
use smb_proto::header::{Flags, Header, Routing};
use smb_proto::{FileAttributes, FileTime, Name, NtStatus};

use crate::meter::measured;
use crate::work::{create_request, read_request, write_request};

/// One piece of work.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    work: fn(rounds: u32),
}

/// Every piece of work of the codec.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "codec: READ request, emit and parse",
        work: |rounds| request(read_request(FILE, 4096), rounds),
    },
    Case {
        name: "codec: READ response of 4 KiB, emit and parse",
        work: |rounds| response(Response::Read(read::Response { data: data(), data_remaining: 0 }), rounds),
    },
    Case {
        name: "codec: WRITE request of 4 KiB, emit and parse",
        work: |rounds| request(write_request(FILE, data()), rounds),
    },
    Case {
        name: "codec: WRITE response, emit and parse",
        work: |rounds| response(Response::Write(write::Response { count: 4096 }), rounds),
    },
    Case {
        name: "codec: CREATE request, emit and parse",
        work: |rounds| request(create_request(r"directory\some file.txt", Some(7)), rounds),
    },
    Case {
        name: "codec: CREATE response, emit and parse",
        work: |rounds| response(Response::Create(created()), rounds),
    },
    Case { name: "codec: 100 directory entries, emit", work: emit_entries },
    Case { name: "codec: 100 directory entries, parse", work: parse_entries },
];

const FILE: FileId = FileId { persistent: 0x1122, volatile: 0x3344 };

impl Case {
    pub(crate) fn run(&self, rounds: u32) {
        (self.work)(rounds);
    }
}

fn data() -> Bytes {
    Bytes::from(vec![0x5A; 4096])
}

fn created() -> create::Response {
    create::Response {
        oplock_level: OplockLevel::NONE,
        flags: ResponseFlags::default(),
        create_action: CreateAction::OPENED,
        creation_time: FileTime(1),
        last_access_time: FileTime(2),
        last_write_time: FileTime(3),
        change_time: FileTime(4),
        allocation_size: 4096,
        end_of_file: 100,
        file_attributes: FileAttributes::ARCHIVE,
        file_id: FILE,
        contexts: Vec::new(),
    }
}

fn header(command: u16, flags: Flags) -> Header {
    Header {
        credit_charge: 1,
        status: NtStatus::SUCCESS,
        command,
        credits: 1,
        flags,
        next_command: 0,
        message_id: 5,
        routing: Routing::Sync { process_id: 0xFEFF, tree_id: 3 },
        session_id: 9,
        signature: [0; 16],
    }
}

fn request(request: Request, rounds: u32) {
    let header = header(request.command().code(), Flags::default());
    both(
        header,
        |out| request.emit(out),
        |header, bytes| drop(black_box(Request::parse(header, bytes))),
        rounds,
    );
}

fn response(response: Response, rounds: u32) {
    let command = match &response {
        Response::Read(_) => 8,
        Response::Write(_) => 9,
        _ => 5,
    };
    let header = header(command, Flags::SERVER_TO_REDIR);
    both(
        header,
        |out| response.emit(out),
        |header, bytes| drop(black_box(Response::parse(header, bytes))),
        rounds,
    );
}

/// Emits and parses one message, header included, into a buffer that is large enough.
fn both(header: Header, emit: impl Fn(&mut Vec<u8>), parse: impl Fn(&Header, &Bytes), rounds: u32) {
    let mut out = Vec::with_capacity(8192);
    header.emit(&mut out);
    emit(&mut out);
    let bytes = Bytes::from(out.clone());
    for round in 0..=rounds {
        let mut work = || {
            out.clear();
            black_box(&header).emit(&mut out);
            emit(&mut out);
            black_box(&out);
            let header = Header::parse(black_box(&bytes)).expect("a header");
            parse(&header, &bytes);
        };
        if round == 0 { work() } else { measured(&mut work) }
    }
}

fn entries() -> Vec<DirectoryEntry> {
    let entry = |number: u64| DirectoryEntry {
        end_of_file: number,
        file_id: number,
        attributes: FileAttributes::ARCHIVE,
        name: Name::from(format!("file number {number:05}.txt").as_str()),
        ..DirectoryEntry::default()
    };
    (0..100).map(entry).collect()
}

const CLASS: FileInfoClass = FileInfoClass::ID_BOTH_DIRECTORY;

fn written(entries: &[DirectoryEntry], out: Vec<u8>) -> Vec<u8> {
    let mut writer = DirectoryWriter::in_buffer(CLASS, 65_536, out).expect("a class of listings");
    for entry in entries {
        assert!(writer.push(entry));
    }
    writer.finish()
}

fn emit_entries(rounds: u32) {
    let entries = entries();
    let mut out = written(&entries, Vec::with_capacity(65_536));
    for _ in 0..rounds {
        out.clear();
        measured(&mut || out = written(black_box(&entries), std::mem::take(&mut out)));
    }
}

fn parse_entries(rounds: u32) {
    let bytes = Bytes::from(written(&entries(), Vec::new()));
    assert_eq!(directory::parse(CLASS, &bytes).map(|entries| entries.len()), Ok(100));
    for _ in 0..rounds {
        measured(&mut || drop(black_box(directory::parse(CLASS, black_box(&bytes)))));
    }
}
