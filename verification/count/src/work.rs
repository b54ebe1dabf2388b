//! What a client asks of the server, and which part of the server is measured.

use std::sync::Arc;

use bytes::Bytes;
use smb_proto::Name;
use smb_proto::access::AccessMask;
use smb_proto::attributes::FileAttributes;
use smb_proto::command::create::{self, CreateDisposition, CreateOptions, ImpersonationLevel, ShareAccess};
use smb_proto::command::lock::{self, LockElement, LockFlags, LockSequence};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::command::write::{self, WriteFlags};
use smb_proto::command::{FileId, Request, Response, close, read};
use smb_proto::create_context::{LeaseFlags, LeaseKey, LeaseState, LeaseV2, RequestContext};
use smb_proto::crypto::{CipherAlgorithm, Provider, SigningAlgorithm};

use crate::meter::Part;
use crate::world::{Protection, World};

pub(crate) const SIGNED: Protection = Protection::Signed(SigningAlgorithm::AesGmac);
pub(crate) const SEALED: Protection = Protection::Sealed(CipherAlgorithm::Aes128Gcm);
const SMALL: u32 = 4 << 10;
const LARGE: u32 = 1 << 20;

/// One piece of work.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    part: Part,
    protection: Protection,
    ask: Ask,
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    Read(u32),
    Write(u32),
    CreateClose,
    LeaseCreate,
    LockUnlock,
}

/// Every piece of work of the shard and the endpoint.
pub(crate) const ALL: &[Case] = &[
    case("shard: READ", Part::Step, SIGNED, Ask::Read(SMALL)),
    case("shard: WRITE", Part::Step, SIGNED, Ask::Write(SMALL)),
    case("shard: CREATE and CLOSE", Part::Step, SIGNED, Ask::CreateClose),
    case("shard: CREATE with a lease", Part::Step, SIGNED, Ask::LeaseCreate),
    case("shard: LOCK and unlock", Part::Step, SIGNED, Ask::LockUnlock),
    case("endpoint: receives a signed WRITE of 4 KiB", Part::Receive, SIGNED, Ask::Write(SMALL)),
    case("endpoint: receives a signed WRITE of 1 MiB", Part::Receive, SIGNED, Ask::Write(LARGE)),
    case("endpoint: receives a sealed WRITE of 4 KiB", Part::Receive, SEALED, Ask::Write(SMALL)),
    case("endpoint: receives a sealed WRITE of 1 MiB", Part::Receive, SEALED, Ask::Write(LARGE)),
    case("endpoint: sends a signed READ of 4 KiB", Part::Send, SIGNED, Ask::Read(SMALL)),
    case("endpoint: sends a signed READ of 1 MiB", Part::Send, SIGNED, Ask::Read(LARGE)),
    case("endpoint: sends a sealed READ of 4 KiB", Part::Send, SEALED, Ask::Read(SMALL)),
    case("endpoint: sends a sealed READ of 1 MiB", Part::Send, SEALED, Ask::Read(LARGE)),
];

const fn case(name: &'static str, part: Part, protection: Protection, ask: Ask) -> Case {
    Case { name, part, protection, ask }
}

impl Case {
    pub(crate) fn run(&self, rounds: u32, provider: Arc<dyn Provider>) {
        let mut world = World::new(self.protection, provider);
        let mut asker = Asker::new(&mut world);
        asker.ask(&mut world, self.ask, Part::Nothing);
        for _ in 0..rounds {
            asker.ask(&mut world, self.ask, self.part);
        }
    }
}

/// A client with an open file of 1 MiB.
pub(crate) struct Asker {
    file: FileId,
    data: Bytes,
    leases: u64,
}

impl Asker {
    pub(crate) fn new(world: &mut World) -> Self {
        let file = open(world, "data", None);
        let data = Bytes::from(vec![0xA5; LARGE as usize]);
        let mut asker = Self { file, data, leases: 0 };
        asker.ask(world, Ask::Write(LARGE), Part::Nothing);
        asker
    }

    /// Asks once and measures `part` of it.
    pub(crate) fn ask(&mut self, world: &mut World, ask: Ask, part: Part) {
        world.meter.part = part;
        match ask {
            Ask::Read(length) => {
                let Response::Read(answer) = world.ask(&read_request(self.file, length)).1 else { panic!() };
                assert_eq!(answer.data.len(), length as usize);
            }
            Ask::Write(length) => {
                let data = self.data.slice(..length as usize);
                let Response::Write(answer) = world.ask(&write_request(self.file, data)).1 else { panic!() };
                assert_eq!(answer.count, length);
            }
            Ask::CreateClose => {
                let file = open(world, "other", None);
                world.ask(&close_request(file));
            }
            Ask::LeaseCreate => {
                self.leases += 1;
                let file = open(world, "leased", Some(self.leases));
                world.meter.part = Part::Nothing;
                world.ask(&close_request(file));
            }
            Ask::LockUnlock => {
                for flags in [LockFlags::EXCLUSIVE_LOCK.with(LockFlags::FAIL_IMMEDIATELY), LockFlags::UNLOCK]
                {
                    let locks = vec![LockElement { offset: 100, length: 10, flags }];
                    let request = lock::Request { lock_sequence: LockSequence(0), file_id: self.file, locks };
                    world.ask(&Request::Lock(request));
                }
            }
        }
        world.meter.part = Part::Nothing;
    }
}

fn open(world: &mut World, name: &str, lease: Option<u64>) -> FileId {
    let (_, Response::Create(answer)) = world.ask(&create_request(name, lease)) else { panic!() };
    if lease.is_some() {
        assert_eq!(answer.oplock_level, OplockLevel::LEASE, "no lease was granted");
    }
    answer.file_id
}

pub(crate) fn create_request(name: &str, lease: Option<u64>) -> Request {
    let contexts = lease.map(|number| {
        let mut key = [0x11; 16];
        key[..8].copy_from_slice(&number.to_le_bytes());
        RequestContext::LeaseV2(LeaseV2 {
            key: LeaseKey(key),
            state: LeaseState::READ_HANDLE_WRITE,
            flags: LeaseFlags::default(),
            parent_key: LeaseKey::default(),
            epoch: 0,
        })
    });
    Request::Create(create::Request {
        oplock_level: if lease.is_some() { OplockLevel::LEASE } else { OplockLevel::NONE },
        impersonation_level: ImpersonationLevel(2),
        desired_access: AccessMask::GENERIC_READ.with(AccessMask::GENERIC_WRITE),
        file_attributes: FileAttributes::EMPTY,
        share_access: ShareAccess(7),
        create_disposition: CreateDisposition::OPEN_IF,
        create_options: CreateOptions::EMPTY,
        name: Name::from(name),
        contexts: contexts.into_iter().collect(),
    })
}

pub(crate) fn read_request(file_id: FileId, length: u32) -> Request {
    Request::Read(read::Request {
        padding: 0x50,
        flags: read::Flags::default(),
        length,
        offset: 0,
        file_id,
        minimum_count: 0,
        channel: read::Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
    })
}

pub(crate) fn write_request(file_id: FileId, data: Bytes) -> Request {
    Request::Write(write::Request {
        offset: 0,
        file_id,
        flags: WriteFlags::EMPTY,
        channel: read::Channel::NONE,
        remaining_bytes: 0,
        channel_info: Bytes::new(),
        data,
    })
}

fn close_request(file_id: FileId) -> Request {
    Request::Close(close::Request { flags: close::Flags::EMPTY, file_id })
}
