//! DCE/RPC over named pipes (MS-RPCE 2.2.2, C706 chapter 12) with the two services that file clients ask:
//! srvsvc (MS-SRVS) lists shares, wkssvc (MS-WKST) names the machine.
//!
//! * [`ndr`]: transfer syntax NDR 2.0, little-endian
//! * [`pdu`]: the connection-oriented PDUs and their framing
//! * [`srvsvc`], [`wkssvc`]: arguments and results of the methods, in both directions
//! * [`server`]: what stands behind a pipe that a client opened
//! * [`client`]: what a client does with a pipe that it opened
//!
//! Deliberately not done: authentication inside RPC (the SMB session has authenticated the caller), NDR64,
//! big-endian peers, the connectionless protocol, and methods that change the server.

use crate::name::{Name, fold_unit};
use pdu::{SyntaxId, Uuid};

mod answer;
pub mod client;
pub mod ndr;
pub mod pdu;
pub mod server;
pub mod srvsvc;
#[cfg(test)]
mod tests;
pub mod wkssvc;

pub use client::PipeClient;
pub use server::PipeServer;

/// A service that is reached through a pipe of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// The server service (MS-SRVS).
    Srvsvc,
    /// The workstation service (MS-WKST).
    Wkssvc,
}

impl Service {
    /// The interface with its version (MS-SRVS 1.9, MS-WKST 1.9).
    #[must_use]
    pub const fn interface(self) -> SyntaxId {
        match self {
            Self::Srvsvc => SyntaxId {
                uuid: Uuid::from_fields(
                    0x4B32_4FC8,
                    0x1670,
                    0x01D3,
                    [0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1, 0x88],
                ),
                major: 3,
                minor: 0,
            },
            Self::Wkssvc => SyntaxId {
                uuid: Uuid::from_fields(
                    0x6BFF_D098,
                    0xA112,
                    0x3610,
                    [0x98, 0x33, 0x46, 0xC3, 0xF8, 0x7E, 0x34, 0x5A],
                ),
                major: 1,
                minor: 0,
            },
        }
    }

    /// The name of the pipe, as a client gives it in CREATE.
    #[must_use]
    pub const fn pipe_name(self) -> &'static str {
        match self {
            Self::Srvsvc => "srvsvc",
            Self::Wkssvc => "wkssvc",
        }
    }
}

/// The service behind a pipe: `srvsvc` or `wkssvc` without regard to case, with or without `\` or `\PIPE\` in front.
#[must_use]
pub fn service(pipe_name: &Name) -> Option<Service> {
    let mut units: Vec<u16> = pipe_name.units().iter().map(|unit| fold_unit(*unit)).collect();
    for prefix in ["\\", "PIPE\\"] {
        let prefix: Vec<u16> = prefix.encode_utf16().collect();
        if let Some(rest) = units.strip_prefix(prefix.as_slice()) {
            units = rest.to_vec();
        }
    }
    [Service::Srvsvc, Service::Wkssvc]
        .into_iter()
        .find(|service| Name::from(service.pipe_name()).folded().units() == units.as_slice())
}

/// A result of a method (MS-ERREF 2.2, and the network management codes above 2100). Unknown codes are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Win32Error(pub u32);

impl Win32Error {
    /// Done.
    pub const SUCCESS: Self = Self(0);
    /// The caller is not allowed to.
    pub const ACCESS_DENIED: Self = Self(5);
    /// An argument makes no sense.
    pub const INVALID_PARAMETER: Self = Self(87);
    /// A name holds what its type does not allow.
    pub const INVALID_NAME: Self = Self(123);
    /// The information level is not one of the method's.
    pub const INVALID_LEVEL: Self = Self(124);
    /// Done as far as the length allowed.
    pub const MORE_DATA: Self = Self(234);
    /// Not even one entry fits the length.
    pub const BUFFER_TOO_SMALL: Self = Self(2123);
    /// No such share.
    pub const NET_NAME_NOT_FOUND: Self = Self(2310);
}

/// The facts that the services tell. Whoever runs the pipe decides which shares its user may know of and puts only
/// those into `shares`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerDescription {
    /// The computer's name, without backslashes.
    pub server_name: Name,
    /// The domain or workgroup.
    pub domain: Name,
    /// A comment for users.
    pub comment: Name,
    /// Major version of the operating system that clients are told of.
    pub version_major: u32,
    /// Minor version.
    pub version_minor: u32,
    /// What the machine does.
    pub server_type: srvsvc::ServerType,
    /// Minutes from local time to UTC: positive west of Greenwich (MS-SRVS 2.2.4.105).
    pub time_zone_minutes: i32,
    /// The shares, in the order in which they are listed.
    pub shares: Vec<ShareDescription>,
}

/// One share. Its path on the server is not part of this: users have no use for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShareDescription {
    /// The name.
    pub name: Name,
    /// What is shared.
    pub kind: srvsvc::ShareType,
    /// A comment for users.
    pub remark: Name,
    /// Caching and enumeration flags (MS-SRVS 2.2.4.29).
    pub flags: u32,
    /// Most concurrent connections; `None` is no limit.
    pub uses_max: Option<u32>,
    /// Connections now.
    pub uses: u32,
    /// The share's security descriptor, self-relative; empty when it is not told.
    pub security_descriptor: Vec<u8>,
}
