//! The SMB2 header, synchronous and asynchronous (MS-SMB2 2.2.1).

use binrw::binrw;

use crate::error::Malformed;
use crate::status::NtStatus;
use crate::wire;

/// Size of the header.
pub const SIZE: usize = 64;
/// First four bytes of every SMB2 message.
pub const PROTOCOL_ID: [u8; 4] = [0xFE, b'S', b'M', b'B'];
/// Where the signature stands in the header.
pub const SIGNATURE_RANGE: std::ops::Range<usize> = 48..64;

/// The 19 commands (MS-SMB2 2.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum CommandCode {
    Negotiate = 0,
    SessionSetup = 1,
    Logoff = 2,
    TreeConnect = 3,
    TreeDisconnect = 4,
    Create = 5,
    Close = 6,
    Flush = 7,
    Read = 8,
    Write = 9,
    Lock = 10,
    Ioctl = 11,
    Cancel = 12,
    Echo = 13,
    QueryDirectory = 14,
    ChangeNotify = 15,
    QueryInfo = 16,
    SetInfo = 17,
    OplockBreak = 18,
}

impl CommandCode {
    /// Every command, in the order of its code.
    pub const ALL: [Self; 19] = [
        Self::Negotiate,
        Self::SessionSetup,
        Self::Logoff,
        Self::TreeConnect,
        Self::TreeDisconnect,
        Self::Create,
        Self::Close,
        Self::Flush,
        Self::Read,
        Self::Write,
        Self::Lock,
        Self::Ioctl,
        Self::Cancel,
        Self::Echo,
        Self::QueryDirectory,
        Self::ChangeNotify,
        Self::QueryInfo,
        Self::SetInfo,
        Self::OplockBreak,
    ];

    /// The command with this code, if there is one.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }
}

/// Flags of the header; undefined bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// The message is a response.
    pub const SERVER_TO_REDIR: Self = Self(0x0000_0001);
    /// The header is the asynchronous one.
    pub const ASYNC_COMMAND: Self = Self(0x0000_0002);
    /// The request continues its predecessor in the compound.
    pub const RELATED_OPERATIONS: Self = Self(0x0000_0004);
    /// The message is signed.
    pub const SIGNED: Self = Self(0x0000_0008);
    /// Three bits of I/O priority (3.1.1).
    pub const PRIORITY_MASK: Self = Self(0x0000_0070);
    /// A DFS operation.
    pub const DFS_OPERATIONS: Self = Self(0x1000_0000);
    /// The request was sent before, on a channel that was lost.
    pub const REPLAY_OPERATION: Self = Self(0x2000_0000);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the eight bytes after the message id hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Routing {
    /// A synchronous header: the tree connect.
    Sync {
        /// Reserved; clients of old send their process id.
        process_id: u32,
        /// TreeId.
        tree_id: u32,
    },
    /// An asynchronous header ([`Flags::ASYNC_COMMAND`]).
    Async {
        /// AsyncId.
        async_id: u64,
    },
}

/// The header of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Credits that the request consumes; 0 counts as 1.
    pub credit_charge: u16,
    /// A response's status. In a request: channel sequence in the low half (3.x), otherwise reserved.
    pub status: NtStatus,
    /// Command code, kept as sent; see [`CommandCode::from_code`].
    pub command: u16,
    /// Credits asked for, or granted.
    pub credits: u16,
    /// Flags. [`Flags::ASYNC_COMMAND`] always agrees with `routing`.
    pub flags: Flags,
    /// Distance to the next message of the compound, 0 in the last.
    pub next_command: u32,
    /// MessageId.
    pub message_id: u64,
    /// TreeId or AsyncId.
    pub routing: Routing,
    /// SessionId.
    pub session_id: u64,
    /// Signature, zero when unsigned.
    pub signature: [u8; 16],
}

#[binrw]
#[brw(little, magic = b"\xFESMB")]
struct Fixed {
    structure_size: u16,
    credit_charge: u16,
    status: u32,
    command: u16,
    credits: u16,
    flags: u32,
    next_command: u32,
    message_id: u64,
    routing: u64,
    session_id: u64,
    /// Bytes, read as a number, which binrw reads at once and an array byte by byte.
    signature: u128,
}

impl Header {
    /// The TreeId of a synchronous header.
    #[must_use]
    pub fn tree_id(&self) -> Option<u32> {
        match self.routing {
            Routing::Sync { tree_id, .. } => Some(tree_id),
            Routing::Async { .. } => None,
        }
    }

    /// Channel sequence of a request (3.x; MS-SMB2 2.2.1.2).
    #[must_use]
    pub fn channel_sequence(&self) -> u16 {
        let [low, high, ..] = self.status.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Reads the header at the start of a message.
    ///
    /// # Errors
    /// [`Malformed`] when it is short, doesn't begin with [`PROTOCOL_ID`] or has another size than 64.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let fixed: Fixed = wire::fixed(message, 0, "SMB2 header")?;
        if usize::from(fixed.structure_size) != SIZE {
            return Err(Malformed("SMB2 header: StructureSize is not 64"));
        }
        let flags = Flags(fixed.flags);
        let routing = if flags.contains(Flags::ASYNC_COMMAND) {
            Routing::Async { async_id: fixed.routing }
        } else {
            let [a, b, c, d, e, f, g, h] = fixed.routing.to_le_bytes();
            Routing::Sync {
                process_id: u32::from_le_bytes([a, b, c, d]),
                tree_id: u32::from_le_bytes([e, f, g, h]),
            }
        };
        Ok(Self {
            credit_charge: fixed.credit_charge,
            status: NtStatus(fixed.status),
            command: fixed.command,
            credits: fixed.credits,
            flags,
            next_command: fixed.next_command,
            message_id: fixed.message_id,
            routing,
            session_id: fixed.session_id,
            signature: fixed.signature.to_le_bytes(),
        })
    }

    /// Appends the header.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (routing, async_flag) = match self.routing {
            Routing::Async { async_id } => (async_id, Flags::ASYNC_COMMAND.0),
            Routing::Sync { process_id, tree_id } => (u64::from(tree_id) << 32 | u64::from(process_id), 0),
        };
        let fixed = Fixed {
            structure_size: 64,
            credit_charge: self.credit_charge,
            status: self.status.0,
            command: self.command,
            credits: self.credits,
            flags: self.flags.0 & !Flags::ASYNC_COMMAND.0 | async_flag,
            next_command: self.next_command,
            message_id: self.message_id,
            routing,
            session_id: self.session_id,
            signature: u128::from_le_bytes(self.signature),
        };
        wire::put(out, &fixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(routing: Routing, flags: Flags) -> Header {
        Header {
            credit_charge: 3,
            status: NtStatus(0xC000_0022),
            command: CommandCode::Read.code(),
            credits: 33,
            flags,
            next_command: 0x88,
            message_id: 0x0102_0304_0506_0708,
            routing,
            session_id: 0x1112_1314_1516_1718,
            signature: [7; 16],
        }
    }

    #[test]
    fn both_forms_make_the_round_trip() {
        let sync = sample(Routing::Sync { process_id: 0xFEFF, tree_id: 9 }, Flags::SIGNED);
        let asynchronous = sample(Routing::Async { async_id: 1 << 40 }, Flags::ASYNC_COMMAND);
        for header in [sync, asynchronous] {
            let mut bytes = Vec::new();
            header.emit(&mut bytes);
            assert_eq!(bytes.len(), SIZE);
            assert_eq!(Header::parse(&bytes), Ok(header));
        }
    }

    #[test]
    fn short_or_foreign_headers_are_refused() {
        let mut bytes = Vec::new();
        sample(Routing::Async { async_id: 1 }, Flags::ASYNC_COMMAND).emit(&mut bytes);
        assert!(Header::parse(&bytes[..63]).is_err());
        bytes[4] = 65;
        assert!(Header::parse(&bytes).is_err());
    }
}
