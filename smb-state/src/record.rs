//! What outlives the server of a persistent open (MS-SMB2 3.3.1.10): its record, and the record's bytes.
//!
//! A record says all that is needed to make the open again, and nothing that a start decides anew (shard, session, handle, the
//! numbers of shares and volumes). Its bytes are a version and tagged fields, each with its length: a later version adds fields,
//! and leaves out those that it does not need. A reader passes over fields that it does not know.

use smb_proto::access::AccessMask;
use smb_proto::command::create::{CreateAction, CreateOptions, ShareAccess};
use smb_proto::command::oplock_break::OplockLevel;
use smb_proto::create_context::{LeaseKey, LeaseState};
use smb_proto::{FileTime, Name};

use crate::event::Identity;
use crate::file::caching::LeaseV2;
use crate::file::lock::{Lock, Range};
use crate::ids::{FileNumber, OpenId};

/// The version that this code writes.
const VERSION: u16 = 1;

/// Locks that a persistent open may have, so that stores may bound their records: one with so many, and everything else as long
/// as it may be, is shorter than 1 MiB.
pub const LOCKS_MAX: u32 = 30_000;

/// A persistent open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Open.DurableFileId; no other open ever had it.
    pub open: OpenId,
    /// The share's name: its number is another at the next start.
    pub share: Name,
    /// Path from the share's root, stream included.
    pub path: Name,
    /// The file that the path led to.
    pub file: FileNumber,
    /// Its creation time: numbers are used again when files are gone.
    pub generation: FileTime,
    /// Open.DurableOwner, by name and number.
    pub owner: (Box<str>, u32),
    /// Open.ClientGuid.
    pub client: Option<[u8; 16]>,
    /// Open.CreateGuid.
    pub create_guid: [u8; 16],
    /// Open.DurableOpenTimeout, in milliseconds.
    pub timeout_ms: u32,
    /// What the CREATE did.
    pub action: CreateAction,
    /// What it asked for (Open.DesiredAccess).
    pub desired: AccessMask,
    /// Open.GrantedAccess.
    pub access: AccessMask,
    /// Open.ShareAccess.
    pub share_access: ShareAccess,
    /// Open.CreateOptions, as far as they go on having a meaning.
    pub options: CreateOptions,
    /// Open.LockSequenceArray: numbers by index.
    pub lock_sequences: Vec<(u32, u8)>,
    /// What the file keeps of it.
    pub held: Held,
}

/// What a file keeps of an open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Held {
    /// What it may cache; during a break what will be left.
    pub cached: HeldCache,
    /// Its byte-range locks, and how often each is held.
    pub locks: Vec<(Lock, u64)>,
    /// The delete becomes pending when it closes.
    pub delete_on_close: bool,
    /// The delete of its link or stream is pending.
    pub delete_pending: bool,
}

/// What an open caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum HeldCache {
    /// Nothing.
    #[default]
    Nothing,
    /// An oplock.
    Oplock(OplockLevel),
    /// A lease.
    Lease {
        /// The key.
        key: LeaseKey,
        /// The rights.
        state: LeaseState,
        /// What version 2 adds.
        v2: Option<LeaseV2>,
    },
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadRecord {
    /// A later version wrote it in a way that this one can't read.
    Version(u16),
    /// This field is missing, or not what it should be.
    Field(u8),
    /// It ends in the middle of a field.
    Truncated,
}

const OPEN: u8 = 1;
const SHARE: u8 = 2;
const PATH: u8 = 3;
const FILE: u8 = 4;
const OWNER: u8 = 5;
const CLIENT: u8 = 6;
const CREATE: u8 = 7;
const TIMEOUT: u8 = 8;
const ACCESS: u8 = 9;
const LOCK_SEQUENCES: u8 = 10;
const LOCKS: u8 = 11;
const OPLOCK: u8 = 12;
const LEASE: u8 = 13;
const LEASE_V2: u8 = 14;
const LEASE_PARENT: u8 = 15;
const DELETES: u8 = 16;

impl Record {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        let mut field = |tag: u8, value: &[u8]| {
            out.push(tag);
            out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(value);
        };
        field(OPEN, &self.open.0.to_le_bytes());
        field(SHARE, &units(&self.share));
        field(PATH, &units(&self.path));
        field(FILE, &[self.file.0.to_le_bytes(), self.generation.0.to_le_bytes()].concat());
        field(OWNER, &[&self.owner.1.to_le_bytes()[..], self.owner.0.as_bytes()].concat());
        if let Some(client) = &self.client {
            field(CLIENT, client);
        }
        field(CREATE, &[&self.create_guid[..], &self.action.0.to_le_bytes()].concat());
        field(TIMEOUT, &self.timeout_ms.to_le_bytes());
        let words = [self.desired.0, self.access.0, self.share_access.0, self.options.0];
        field(ACCESS, &words.map(u32::to_le_bytes).concat());
        let sequences = self.lock_sequences.iter();
        let sequences: Vec<u8> =
            sequences.flat_map(|(index, number)| [&index.to_le_bytes()[..], &[*number]].concat()).collect();
        field(LOCK_SEQUENCES, &sequences);
        field(
            LOCKS,
            &self.held.locks.iter().flat_map(|(lock, count)| lock_bytes(*lock, *count)).collect::<Vec<_>>(),
        );
        match self.held.cached {
            HeldCache::Nothing => {}
            HeldCache::Oplock(level) => field(OPLOCK, &[level.0]),
            HeldCache::Lease { key, state, v2 } => {
                field(LEASE, &[&key.0[..], &state.0.to_le_bytes()].concat());
                if let Some(LeaseV2 { parent, epoch }) = v2 {
                    field(LEASE_V2, &epoch.to_le_bytes());
                    if let Some(parent) = parent {
                        field(LEASE_PARENT, &parent.0);
                    }
                }
            }
        }
        field(DELETES, &[u8::from(self.held.delete_on_close), u8::from(self.held.delete_pending)]);
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let fields = Fields::read(bytes)?;
        let [desired, access, share_access, options] = fields.words(ACCESS)?;
        let (create_guid, action) =
            fields.required(CREATE)?.split_first_chunk().ok_or(BadRecord::Field(CREATE))?;
        let (number, name) = fields.required(OWNER)?.split_first_chunk().ok_or(BadRecord::Field(OWNER))?;
        let name = std::str::from_utf8(name).map_err(|_| BadRecord::Field(OWNER))?;
        let (file, generation) = fields.required(FILE)?.split_first_chunk().ok_or(BadRecord::Field(FILE))?;
        Ok(Self {
            open: OpenId(u64::from_le_bytes(fields.exact(OPEN)?)),
            share: fields.name(SHARE)?,
            path: fields.name(PATH)?,
            file: FileNumber(u64::from_le_bytes(*file)),
            generation: FileTime(u64::from_le_bytes(
                generation.try_into().map_err(|_| BadRecord::Field(FILE))?,
            )),
            owner: (name.into(), u32::from_le_bytes(*number)),
            client: fields.get(CLIENT).map(|_| fields.exact(CLIENT)).transpose()?,
            create_guid: *create_guid,
            timeout_ms: u32::from_le_bytes(fields.exact(TIMEOUT)?),
            action: CreateAction(u32::from_le_bytes(
                action.try_into().map_err(|_| BadRecord::Field(CREATE))?,
            )),
            desired: AccessMask(desired),
            access: AccessMask(access),
            share_access: ShareAccess(share_access),
            options: CreateOptions(options),
            lock_sequences: fields
                .list(LOCK_SEQUENCES)?
                .map(|[a, b, c, d, number]: &[u8; 5]| (u32::from_le_bytes([*a, *b, *c, *d]), *number))
                .collect(),
            held: fields.held()?,
        })
    }
}

fn units(name: &Name) -> Vec<u8> {
    name.units().iter().flat_map(|unit| unit.to_le_bytes()).collect()
}

fn lock_bytes(lock: Lock, count: u64) -> [u8; 25] {
    let (offset, length) = lock.range.parts();
    let mut bytes = [0; 25];
    for (place, word) in bytes.chunks_exact_mut(8).zip([offset, length, count]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    if let Some(last) = bytes.last_mut() {
        *last = u8::from(lock.exclusive);
    }
    bytes
}

fn lock_of(bytes: &[u8; 25]) -> Option<(Lock, u64)> {
    let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    let (offset, length, count) = (words.next()?, words.next()?, words.next()?);
    let exclusive = *bytes.last()? != 0;
    Some((Lock { range: Range::new(offset, length)?, exclusive }, count))
}

/// The fields of a record.
struct Fields<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        let (version, mut rest) = bytes.split_first_chunk().ok_or(BadRecord::Truncated)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(BadRecord::Version(version));
        }
        let mut fields = Vec::new();
        while let Some((tag, more)) = rest.split_first() {
            let (length, more) = more.split_first_chunk().ok_or(BadRecord::Truncated)?;
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| BadRecord::Truncated)?;
            let (value, more) = more.split_at_checked(length).ok_or(BadRecord::Truncated)?;
            fields.push((*tag, value));
            rest = more;
        }
        Ok(Self(fields))
    }

    fn get(&self, tag: u8) -> Option<&'a [u8]> {
        self.0.iter().find(|(other, _)| *other == tag).map(|(_, value)| *value)
    }

    fn required(&self, tag: u8) -> Result<&'a [u8], BadRecord> {
        self.get(tag).ok_or(BadRecord::Field(tag))
    }

    fn exact<const N: usize>(&self, tag: u8) -> Result<[u8; N], BadRecord> {
        self.required(tag)?.try_into().map_err(|_| BadRecord::Field(tag))
    }

    fn list<const N: usize>(&self, tag: u8) -> Result<impl Iterator<Item = &'a [u8; N]>, BadRecord> {
        let (items, rest) = self.required(tag)?.as_chunks();
        if rest.is_empty() { Ok(items.iter()) } else { Err(BadRecord::Field(tag)) }
    }

    fn words<const N: usize>(&self, tag: u8) -> Result<[u32; N], BadRecord> {
        let words: Vec<u32> = self.list(tag)?.map(|word| u32::from_le_bytes(*word)).collect();
        words.try_into().map_err(|_| BadRecord::Field(tag))
    }

    fn name(&self, tag: u8) -> Result<Name, BadRecord> {
        let units: Vec<u16> = self.list(tag)?.map(|unit| u16::from_le_bytes(*unit)).collect();
        Ok(Name::from_units(units))
    }

    fn held(&self) -> Result<Held, BadRecord> {
        let [delete_on_close, delete_pending] = self.exact(DELETES)?;
        let locks: Option<Vec<(Lock, u64)>> = self.list(LOCKS)?.map(lock_of).collect();
        let cached = match (self.get(OPLOCK), self.get(LEASE)) {
            (Some(_), _) => {
                let [level] = self.exact(OPLOCK)?;
                HeldCache::Oplock(OplockLevel(level))
            }
            (None, Some(lease)) => {
                let (key, state) = lease.split_first_chunk().ok_or(BadRecord::Field(LEASE))?;
                let parent =
                    self.get(LEASE_PARENT).map(|_| self.exact(LEASE_PARENT).map(LeaseKey)).transpose()?;
                let epoch =
                    self.get(LEASE_V2).map(|_| self.exact(LEASE_V2).map(u16::from_le_bytes)).transpose()?;
                HeldCache::Lease {
                    key: LeaseKey(*key),
                    state: LeaseState(u32::from_le_bytes(
                        state.try_into().map_err(|_| BadRecord::Field(LEASE))?,
                    )),
                    v2: epoch.map(|epoch| LeaseV2 { parent, epoch }),
                }
            }
            (None, None) => HeldCache::Nothing,
        };
        Ok(Held {
            cached,
            locks: locks.ok_or(BadRecord::Field(LOCKS))?,
            delete_on_close: delete_on_close != 0,
            delete_pending: delete_pending != 0,
        })
    }
}

impl Record {
    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::User { name: self.owner.0.clone(), number: self.owner.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            open: OpenId(0x0001_0020_0000_0007),
            share: Name::from("share"),
            path: Name::from("directory\\file:stream"),
            file: FileNumber(4711),
            generation: FileTime(133_000_000_000_000_000),
            owner: ("ann".into(), 1001),
            client: Some([3; 16]),
            create_guid: [4; 16],
            timeout_ms: 60_000,
            action: CreateAction::CREATED,
            desired: AccessMask::WRITE_DATA,
            access: AccessMask::WRITE_DATA.with(AccessMask::READ_DATA),
            share_access: ShareAccess(3),
            options: CreateOptions::WRITE_THROUGH,
            lock_sequences: vec![(1, 2), (64, 15)],
            held: Held {
                cached: HeldCache::Lease {
                    key: LeaseKey([9; 16]),
                    state: LeaseState::READ_HANDLE_WRITE,
                    v2: Some(LeaseV2 { parent: Some(LeaseKey([8; 16])), epoch: 0xFFFE }),
                },
                locks: vec![
                    (Lock { range: Range::new(u64::MAX, 1).unwrap(), exclusive: true }, 1),
                    (Lock { range: Range::new(0, 0).unwrap(), exclusive: false }, 3),
                ],
                delete_on_close: true,
                delete_pending: false,
            },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let full = record();
        let mut bare = record();
        bare.client = None;
        bare.held = Held::default();
        bare.lock_sequences.clear();
        let mut v1 = record();
        v1.held.cached =
            HeldCache::Lease { key: LeaseKey([9; 16]), state: LeaseState::READ_CACHING, v2: None };
        let mut oplock = record();
        oplock.held.cached = HeldCache::Oplock(OplockLevel::BATCH);
        for record in [full, bare, v1, oplock] {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn a_field_of_a_later_version_is_passed_over() {
        let mut bytes = record().encode();
        bytes.extend_from_slice(&[200, 3, 0, 0, 0, 1, 2, 3]);
        assert_eq!(Record::decode(&bytes), Ok(record()));
        bytes[0] = 2;
        assert_eq!(Record::decode(&bytes), Err(BadRecord::Version(2)));
    }

    #[test]
    fn no_bytes_panic_and_no_prefix_is_a_record() {
        let bytes = record().encode();
        for end in 0..bytes.len() {
            assert!(Record::decode(&bytes[..end]).is_err(), "{end}");
        }
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] ^= 0xFF;
            let _ = Record::decode(&other);
        }
    }
}
