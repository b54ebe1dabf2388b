//! What the operator decides. Plain values: parsing files and flags is the server's.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use smb_proto::Name;
use smb_proto::command::ioctl::NetworkInterface;
use smb_proto::command::negotiate::Dialect;
use smb_proto::crypto::{CipherAlgorithm, SigningAlgorithm};

use crate::ids::{ShareId, VolumeId};
use crate::storage::VolumeCaps;

/// Configuration is shared by clones of a shard and is no part of its state: it hashes to nothing.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Shares a value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || *self.0 == *other.0
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A server's configuration; the same in every shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// ServerGuid (MS-SMB2 2.2.4).
    pub server_guid: [u8; 16],
    /// Number of this start of the server, never used before (R4).
    pub incarnation: u16,
    /// Number of shards.
    pub shards: u16,
    /// Lowest and highest dialect to offer.
    pub dialects: (Dialect, Dialect),
    /// Signers to offer, best first.
    pub signers: Vec<SigningAlgorithm>,
    /// Ciphers to offer, best first; empty turns encryption off.
    pub ciphers: Vec<CipherAlgorithm>,
    /// Every session must sign.
    pub signing_required: bool,
    /// Whether clients must encrypt.
    pub encryption: Encryption,
    /// Bounds.
    pub limits: Limits,
    /// Shares.
    pub shares: Vec<Share>,
    /// Where clients can reach the server: told to those that ask for further connections (FSCTL_QUERY_NETWORK_INTERFACE_INFO).
    pub interfaces: Vec<NetworkInterface>,
}

impl Config {
    /// One shard that serves `shares` with everything that is there: every dialect, signer and cipher, best first. To be
    /// changed where it doesn't fit.
    #[must_use]
    pub fn new(server_guid: [u8; 16], incarnation: u16, shares: Vec<Share>) -> Self {
        Self {
            server_guid,
            incarnation,
            shards: 1,
            dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
            signers: vec![SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac, SigningAlgorithm::HmacSha256],
            ciphers: vec![
                CipherAlgorithm::Aes128Gcm,
                CipherAlgorithm::Aes256Gcm,
                CipherAlgorithm::Aes128Ccm,
                CipherAlgorithm::Aes256Ccm,
            ],
            signing_required: false,
            encryption: Encryption::Possible,
            limits: Limits::default(),
            shares,
            interfaces: Vec::new(),
        }
    }
}

/// Whether sessions are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Encryption {
    /// Where the client or the share wants it.
    #[default]
    Possible,
    /// Every session; clients that can't are refused.
    Required,
}

/// Bounds. Reaching one is an answer, never a failure of the server (R9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Connections of a shard that have no valid session yet.
    pub unauthenticated_connections_max: u32,
    /// Connections of a shard in all.
    pub connections_max: u32,
    /// Milliseconds that a peer has to authenticate.
    pub authentication_timeout_ms: u64,
    /// Sessions of one connection.
    pub sessions_per_connection_max: u32,
    /// Connections of one session (channels).
    pub channels_per_session_max: u32,
    /// Tree connects of one session.
    pub tree_connects_per_session_max: u32,
    /// Opens of one session.
    pub opens_per_session_max: u32,
    /// Opens that one shard keeps for clients that are gone; beyond, such opens are closed with their session.
    pub preserved_opens_max: u32,
    /// Milliseconds that an open is kept when its client does not say how long.
    pub preserve_ms: u32,
    /// The most milliseconds that a client gets when it says how long.
    pub preserve_ms_max: u32,
    /// Byte-range locks of one open.
    pub locks_per_open_max: u32,
    /// Named streams of one file; the volume may have room for less.
    pub streams_per_file_max: u32,
    /// Milliseconds that a client has to acknowledge the break of an oplock or a lease.
    pub break_timeout_ms: u64,
    /// Requests of one connection that wait with an interim response.
    pub async_requests_per_connection_max: u32,
    /// Directories that one session watches (CHANGE_NOTIFY).
    pub watches_per_session_max: u32,
    /// Watches of one volume, of all sessions.
    pub watches_per_volume_max: u32,
    /// Bytes of changes that are kept for one watch while no request is pending.
    pub notify_bytes_max: u32,
    /// Credits outstanding to one client connection.
    pub credits_max: u16,
    /// Bytes of one READ, WRITE or transaction from 2.1 on; a multiple of 65536. 2.0.2 has 65536.
    pub io_size_max: u32,
    /// Bytes of a file; a write beyond is refused. The default is the limit of NTFS with 4 KiB clusters, which is the file
    /// system that volumes present themselves as.
    pub file_size_max: u64,
    /// Bytes of a frame before authentication.
    pub unauthenticated_frame_max: u32,
    /// Requests of one compound.
    pub compound_max: u16,
    /// Chunks of one server-side copy, bytes of a chunk, bytes in all (MS-SMB2 3.3.3).
    pub copy_chunks_max: u32,
    /// Bytes of one chunk.
    pub copy_chunk_size_max: u32,
    /// Bytes of one server-side copy.
    pub copy_size_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unauthenticated_connections_max: 4096,
            connections_max: 65_536,
            authentication_timeout_ms: 30_000,
            sessions_per_connection_max: 256,
            channels_per_session_max: 32,
            tree_connects_per_session_max: 1024,
            opens_per_session_max: 65_536,
            preserved_opens_max: 131_072,
            preserve_ms: 60_000,
            preserve_ms_max: 300_000,
            locks_per_open_max: 65_536,
            streams_per_file_max: 4096,
            break_timeout_ms: 35_000,
            async_requests_per_connection_max: 512,
            watches_per_session_max: 1024,
            watches_per_volume_max: 16_384,
            notify_bytes_max: 64 << 10,
            credits_max: 8192,
            io_size_max: 8 << 20,
            file_size_max: (16 << 40) - (64 << 10),
            unauthenticated_frame_max: 68 << 10,
            compound_max: 256,
            copy_chunks_max: 256,
            copy_chunk_size_max: 1 << 20,
            copy_size_max: 16 << 20,
        }
    }
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// Its number; a share that keeps its number across a reload keeps its tree connects.
    pub id: ShareId,
    /// Its name, compared without regard to case.
    pub name: Name,
    /// The volume behind it.
    pub volume: VolumeId,
    /// What that volume can do.
    pub caps: VolumeCaps,
    /// Nothing may be changed through this share.
    pub read_only: bool,
    /// Every request must be encrypted.
    pub encrypted: bool,
    /// Listings leave out what the user may not read (Share.DoAccessBasedDirectoryEnumeration).
    pub access_based: bool,
    /// Share.IsCA: clients get persistent handles, and this is what acknowledged writes survive. Only where the adapter has a
    /// store for them; what is set in the configuration that a server starts with decides whether clients are told that there
    /// are such handles.
    pub continuous_availability: Option<Survives>,
    /// Who may connect.
    pub allowed: Allowed,
}

impl Share {
    /// A share that every user may change, with a number, a name, and a volume with its capabilities.
    #[must_use]
    pub fn new(id: ShareId, name: &str, volume: VolumeId, caps: VolumeCaps) -> Self {
        Self {
            id,
            name: Name::from(name),
            volume,
            caps,
            read_only: false,
            encrypted: false,
            access_based: false,
            continuous_availability: None,
            allowed: Allowed::Users,
        }
    }
}

/// What acknowledged writes of a continuously available share survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Survives {
    /// A power cut: every write is written through, as 3.3.5.9 has it.
    PowerCut,
    /// The end of the server, but not of its machine: data may be in the page cache. The specification does not know this.
    KilledServer,
}

/// Who may connect to a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Allowed {
    /// Every user of the database.
    #[default]
    Users,
    /// These users of the database (names as the database spells them).
    Named(Vec<Box<str>>),
    /// Every user, and guests and anonymous sessions where the authenticator lets them in.
    Everyone,
}
