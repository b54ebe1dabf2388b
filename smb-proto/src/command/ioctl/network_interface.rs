//! NETWORK_INTERFACE_INFO, the output of [`FsctlCode::QUERY_NETWORK_INTERFACE_INFO`](super::FsctlCode) (MS-SMB2
//! 2.2.32.5).

use std::net::{Ipv4Addr, Ipv6Addr};

use binrw::binrw;

use crate::error::Malformed;
use crate::flags::flags;
use crate::wire;

/// More interfaces than this in one answer are refused.
pub const NETWORK_INTERFACES_MAX: usize = 1024;

flags! {
    /// What an interface can do.
    pub struct InterfaceCapabilities(u32);
    /// Receive-side scaling: several connections are worth while.
    RSS_CAPABLE = 0x0000_0001;
    /// RDMA.
    RDMA_CAPABLE = 0x0000_0002;
}

/// The address of an interface (2.2.32.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InterfaceAddress {
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr),
    /// Another family, whose address is not read.
    Other(u16),
}

/// One address of one interface of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkInterface {
    /// Number of the interface; an interface with several addresses is listed with each.
    pub index: u32,
    /// What it can do.
    pub capabilities: InterfaceCapabilities,
    /// Its speed, in bits per second.
    pub link_speed: u64,
    /// The address.
    pub address: InterfaceAddress,
}

/// Family InterNetwork.
const FAMILY_V4: u16 = 0x0002;
/// Family InterNetworkV6.
const FAMILY_V6: u16 = 0x0017;

#[binrw]
#[brw(little)]
struct Fixed {
    next: u32,
    index: u32,
    capabilities: InterfaceCapabilities,
    reserved: u32,
    link_speed: u64,
    family: u16,
    port: u16,
    // IPv4's address, or IPv6's FlowInfo.
    first: [u8; 4],
    // IPv6's address.
    second: [u8; 16],
    rest: [[u8; 8]; 13],
}

/// Size of an entry.
const ENTRY: usize = 152;

impl NetworkInterface {
    /// Reads the output.
    ///
    /// # Errors
    /// [`Malformed`] when an entry is short, Next doesn't lead forward by a multiple of 8 or leads outside, or there
    /// are more than [`NETWORK_INTERFACES_MAX`] entries.
    pub fn parse_list(output: &[u8]) -> Result<Vec<Self>, Malformed> {
        const WHAT: &str = "network interface";
        let mut interfaces = Vec::new();
        let mut rest = output;
        while !rest.is_empty() {
            if interfaces.len() == NETWORK_INTERFACES_MAX {
                return Err(Malformed("network interfaces: too many"));
            }
            let fixed: Fixed = wire::fixed(rest, 0, WHAT)?;
            interfaces.push(Self {
                index: fixed.index,
                capabilities: fixed.capabilities,
                link_speed: fixed.link_speed,
                address: match fixed.family {
                    FAMILY_V4 => InterfaceAddress::V4(fixed.first.into()),
                    FAMILY_V6 => InterfaceAddress::V6(fixed.second.into()),
                    family => InterfaceAddress::Other(family),
                },
            });
            let next = usize::try_from(fixed.next).map_err(|_| Malformed(WHAT))?;
            rest = match next {
                0 => &[],
                _ if next < ENTRY || wire::padding(next, 8) != 0 || next >= rest.len() => {
                    return Err(Malformed("network interface: Next"));
                }
                _ => rest.get(next..).unwrap_or_default(),
            };
        }
        Ok(interfaces)
    }

    /// Appends the output.
    pub fn emit_list(interfaces: &[Self], out: &mut Vec<u8>) {
        let mut interfaces = interfaces.iter().peekable();
        while let Some(interface) = interfaces.next() {
            let (family, first, second) = match interface.address {
                InterfaceAddress::V4(address) => (FAMILY_V4, address.octets(), [0; 16]),
                InterfaceAddress::V6(address) => (FAMILY_V6, [0; 4], address.octets()),
                InterfaceAddress::Other(family) => (family, [0; 4], [0; 16]),
            };
            wire::put(
                out,
                &Fixed {
                    next: if interfaces.peek().is_some() { wire::length_u32(ENTRY) } else { 0 },
                    index: interface.index,
                    capabilities: interface.capabilities,
                    reserved: 0,
                    link_speed: interface.link_speed,
                    family,
                    port: 0,
                    first,
                    second,
                    rest: [[0; 8]; 13],
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces() -> Vec<NetworkInterface> {
        let addresses = [
            InterfaceAddress::V4(Ipv4Addr::new(192, 0, 2, 1)),
            InterfaceAddress::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1)),
            InterfaceAddress::Other(99),
        ];
        let capabilities = InterfaceCapabilities::RSS_CAPABLE;
        let interface =
            |address| NetworkInterface { index: 2, capabilities, link_speed: 10_000_000_000, address };
        addresses.map(interface).into()
    }

    #[test]
    fn lists_make_the_round_trip() {
        for count in 0..=3 {
            let list = interfaces()[..count].to_vec();
            let mut bytes = Vec::new();
            NetworkInterface::emit_list(&list, &mut bytes);
            assert_eq!(bytes.len(), count * ENTRY);
            assert_eq!(NetworkInterface::parse_list(&bytes), Ok(list));
            assert!((1..bytes.len()).all(|length| NetworkInterface::parse_list(&bytes[..length]).is_err()));
        }
    }

    #[test]
    fn addresses_stand_where_socket_addresses_have_them() {
        let mut bytes = Vec::new();
        NetworkInterface::emit_list(&interfaces(), &mut bytes);
        assert_eq!(bytes[24..32], [2, 0, 0, 0, 192, 0, 2, 1]);
        assert_eq!(bytes[ENTRY + 24..ENTRY + 36], [0x17, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x01, 0x0D, 0xB8]);
    }

    #[test]
    fn next_has_to_lead_forward() {
        let mut good = Vec::new();
        NetworkInterface::emit_list(&interfaces(), &mut good);
        for next in [1_u32, 8, 144, 153, 456, 0x8000_0000, u32::MAX] {
            let mut bytes = good.clone();
            bytes[..4].copy_from_slice(&next.to_le_bytes());
            assert!(NetworkInterface::parse_list(&bytes).is_err(), "{next}");
        }
    }
}
