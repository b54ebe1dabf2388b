//! Identifiers. Each is a type of its own, ordered, and never reused while anything can still name it (R4).
//!
//! A server-wide id is `incarnation (16 bits) | partition (12 bits) | counter (36 bits)`: the incarnation is new with
//! each start, the partition says which shard is its home whatever the number of shards, the counter never repeats.
//! Ids are guessable; nothing trusts one without a session check.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
            pub struct $name(pub $inner);

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!(stringify!($name), "({:x})"), self.0)
                }
            }
        )*
    };
}

ids! {
    /// A transport connection; given by the adapter, never reused while the server runs.
    ConnectionId(u64);
    /// Session.SessionId (MS-SMB2 3.3.1.8).
    SessionId(u64);
    /// TreeConnect.TreeId, unique within its session (MS-SMB2 3.3.1.9).
    TreeId(u32);
    /// An open, server-wide: the persistent half of its FileId (MS-SMB2 3.3.1.10).
    OpenId(u64);
    /// MessageId of a request, unique within its connection.
    MessageId(u64);
    /// AsyncId of a request that got an interim response, unique within its connection.
    AsyncId(u64);
    /// A volume: one storage driver behind one or more shares.
    VolumeId(u32);
    /// A share of the share table.
    ShareId(u32);
    /// A file on a volume, stable while the volume exists (MS-FSCC FileInternalInformation).
    FileNumber(u64);
    /// What a storage driver opened or pinned; given by the driver.
    Handle(u64);
    /// Payload bytes that the adapter holds; the core only passes the number on (R5).
    BufferId(u64);
    /// One of the shards of this server.
    ShardId(u16);
    /// Part of the id space with a fixed home; more partitions than shards, so that shards can be regrouped.
    Partition(u16);
    /// A connection's place in a session; never reused in it (R6).
    Channel(u16);
}

/// Number of partitions; a power of two, fixed for the life of a server's stored state.
pub const PARTITIONS: u16 = 4096;
const COUNTER_BITS: u32 = 36;
const PARTITION_BITS: u32 = 12;

impl Partition {
    /// The shard that is home to this partition when there are `shards` of them.
    #[must_use]
    pub fn shard(self, shards: u16) -> ShardId {
        ShardId(self.0 % shards.max(1))
    }

    /// The partition of something named by a number that is not one of our ids (file numbers, client guids).
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        // Multiplicative mixing: file numbers are often consecutive or aligned.
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - PARTITION_BITS);
        Self(u16::try_from(mixed).unwrap_or(0))
    }
}

/// Makes the server-wide ids of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdSource {
    incarnation: u16,
    partition: Partition,
    next: u64,
}

impl IdSource {
    /// A source of ids in `partition` for this start of the server.
    #[must_use]
    pub const fn new(incarnation: u16, partition: Partition) -> Self {
        Self { incarnation, partition, next: 1 }
    }

    /// The next id. 2^36 of them last 19 years at 100 a second; then the counter would spill into the partition,
    /// which the assertion forbids.
    pub fn issue(&mut self) -> u64 {
        let counter = self.next;
        assert!(counter < 1 << COUNTER_BITS, "the ids of one incarnation are used up");
        self.next += 1;
        u64::from(self.incarnation) << (COUNTER_BITS + PARTITION_BITS)
            | u64::from(self.partition.0) << COUNTER_BITS
            | counter
    }
}

/// The partition of a server-wide id.
#[must_use]
pub fn partition_of(id: u64) -> Partition {
    let bits = (id >> COUNTER_BITS) & u64::from(PARTITIONS - 1);
    Partition(u16::try_from(bits).unwrap_or(0))
}

const CONNECTION_SHARD_SHIFT: u32 = 48;

impl ConnectionId {
    /// The `number`th connection that the adapter gives to `shard`.
    #[must_use]
    pub const fn new(shard: ShardId, number: u64) -> Self {
        Self((shard.0 as u64) << CONNECTION_SHARD_SHIFT | number & ((1 << CONNECTION_SHARD_SHIFT) - 1))
    }

    /// The shard that owns the connection.
    #[must_use]
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> CONNECTION_SHARD_SHIFT) as u16)
    }
}

impl SessionId {
    /// Where the session lives.
    #[must_use]
    pub fn partition(self) -> Partition {
        partition_of(self.0)
    }
}

impl OpenId {
    /// Where the open lives.
    #[must_use]
    pub fn partition(self) -> Partition {
        partition_of(self.0)
    }
}

/// A file, server-wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    /// Its volume.
    pub volume: VolumeId,
    /// Its number there.
    pub number: FileNumber,
}

impl FileKey {
    /// Where the file's machine lives.
    #[must_use]
    pub fn partition(self) -> Partition {
        Partition::of_number(self.number.0 ^ u64::from(self.volume.0) << 48)
    }
}

/// Names one outstanding piece of work. The generation makes a late answer to a slot that was reused recognisable (R2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token {
    /// Slot in the shard's table.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}
