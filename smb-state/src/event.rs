//! What can happen to a shard.

use std::net::IpAddr;

use smb_proto::command::ioctl::NetworkInterface;

use crate::config::{Limits, Share};
use crate::ids::{BufferId, ConnectionId, MessageId, SessionId, ShardId, ShareId, Token};
use crate::message::Envelope;
use crate::record::Record;
use crate::request::Chain;
use crate::storage::StorageReply;
use crate::timer::{Armed, Timer};

/// One thing that happened. [`crate::Shard::step`] consumes one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A peer connected. The adapter gives a connection to one shard and keeps it there.
    Accepted {
        /// Its id, never used before.
        connection: ConnectionId,
        /// What counts connections of one peer together (an address, not a port).
        peer: Peer,
    },
    /// A frame arrived and could be read.
    Request {
        /// Where.
        connection: ConnectionId,
        /// Its requests, one or a compound.
        chain: Chain,
    },
    /// A frame arrived that could not be read, or failed decryption.
    Malformed {
        /// Where.
        connection: ConnectionId,
    },
    /// The peer is gone, or the adapter gave it up. Nothing more comes from this connection.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// A storage request was answered. Comes exactly once for each [`crate::Action::Submit`].
    Completed {
        /// The request's token.
        token: Token,
        /// The answer.
        reply: StorageReply,
    },
    /// A record is durable, or could not be made so. Comes exactly once for each [`crate::Action::Store`].
    Stored {
        /// The request's token.
        token: Token,
        /// Whether it would survive a power cut.
        durable: bool,
    },
    /// A persistent open's record was there when the server started. Goes to the shard that is home to its id, before any connection
    /// is accepted; one after the other, each once the one before was answered with [`crate::Action::Recovered`], in the order
    /// in which they were stored.
    Restored {
        /// The record.
        record: Box<Record>,
    },
    /// A step of an authentication ended. Comes exactly once for each [`crate::action::Output::Authenticate`] and
    /// [`crate::action::Output::Bind`].
    Authenticated {
        /// Where the exchange runs.
        connection: ConnectionId,
        /// The session being set up.
        session: SessionId,
        /// The SESSION_SETUP request that carried the token.
        message: MessageId,
        /// How it ended.
        outcome: AuthOutcome,
    },
    /// A timer ran out. A stale one is ignored, so an adapter need not win races against [`crate::Action::Disarm`].
    Expired(Timer, Armed),
    /// A message of another shard; exactly once and in order for each pair of shards (R10).
    FromShard {
        /// Who sent it.
        from: ShardId,
        /// The message.
        envelope: Envelope,
    },
    /// The operator did something.
    Admin(Admin),
}

/// What counts connections of one peer together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Peer(pub u128);

impl From<IpAddr> for Peer {
    /// One customer of IPv6 has a whole /64 to connect from.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u128::from(v4.to_ipv6_mapped())),
            IpAddr::V6(v6) => Self(u128::from(v6) >> 64 << 64),
        }
    }
}

/// How a step of an authentication ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AuthOutcome {
    /// The client must send another token.
    Continue {
        /// The token to answer with.
        reply: BufferId,
    },
    /// The client is who it says it is; its session key waits in the endpoint.
    Accepted {
        /// The last token, if the mechanism has one.
        reply: Option<BufferId>,
        /// Who.
        identity: Identity,
        /// The mechanism made a session key (anonymous and guest logons have none to rely on).
        keyed: bool,
        /// How long the proof holds, in milliseconds; `None` is for ever.
        valid_for_ms: Option<u64>,
    },
    /// A bind's signature is not the session's ([`crate::action::Output::Bind`]): nobody looked at its token.
    Unverified,
    /// The client is refused.
    Denied {
        /// The status for the client.
        status: smb_proto::NtStatus,
    },
}

impl AuthOutcome {
    /// The payload that comes with it.
    #[must_use]
    pub fn payload(&self) -> Option<BufferId> {
        match self {
            Self::Continue { reply } => Some(*reply),
            Self::Accepted { reply, .. } => *reply,
            Self::Unverified | Self::Denied { .. } => None,
        }
    }
}

/// Who a session belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A user of the database.
    User {
        /// Name as the database spells it, which makes it comparable.
        name: Box<str>,
        /// Number that the database keeps for the user; part of the user's SID.
        number: u32,
    },
    /// Somebody let in as the guest.
    Guest,
    /// Nobody in particular.
    Anonymous,
}

impl Identity {
    /// Whether it is a named user, with a session key that only that user can know.
    #[must_use]
    pub fn is_user(&self) -> bool {
        matches!(self, Self::User { .. })
    }
}

/// What an operator can do to a running shard. The same event goes to every shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Admin {
    /// These are the shares from now on. Tree connects to a share that is gone end; others stay as they are.
    Shares(Vec<Share>),
    /// These are the addresses where clients can reach the server, from now on.
    Interfaces(Vec<NetworkInterface>),
    /// These are the limits from now on.
    Limits(Limits),
    /// End a session and what it holds; nothing of it is preserved (S7).
    EndSession(SessionId),
    /// End every tree connect to a share.
    EndShare(ShareId),
    /// Stop: end every connection once its responses are out.
    Shutdown,
    /// A seeded fault: the next break that takes read caching from a lease is neither told nor waited for.
    #[cfg(feature = "seeded-faults")]
    ForgetBreak,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_network() {
        let of = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::2"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
