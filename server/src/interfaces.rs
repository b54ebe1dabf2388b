//! Where clients can reach the server, for those that ask for further connections (MS-SMB2 3.3.5.15.11).

use std::fs;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use smb_proto::command::ioctl::{InterfaceAddress, InterfaceCapabilities, NetworkInterface};

/// Bits per second of an interface that does not say.
const SPEED_DEFAULT: u64 = 1_000_000_000;
/// Addresses that are told at most: an answer for them fits into any client's buffer.
const ADDRESSES_MAX: usize = 256;

/// One address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Local {
    index: u32,
    address: IpAddr,
    /// Bits per second.
    speed: u64,
    /// Several connections are worth while: it has several queues.
    queues: bool,
}

/// The addresses to tell to clients: those that were configured, or those of this machine that can be reached where the
/// server listens.
pub(crate) fn advertised(configured: &[IpAddr], listening: &[IpAddr]) -> Vec<NetworkInterface> {
    let local = local().unwrap_or_else(|error| {
        tracing::warn!(%error, "the network interfaces are unknown: clients are not told of them");
        Vec::new()
    });
    let chosen = if configured.is_empty() { reachable(&local, listening) } else { named(&local, configured) };
    chosen.into_iter().take(ADDRESSES_MAX).map(to_wire).collect()
}

/// The addresses that somebody who reaches one of `listening` may reach too.
fn reachable(local: &[Local], listening: &[IpAddr]) -> Vec<Local> {
    let all = listening.iter().any(IpAddr::is_unspecified);
    let listened_on = |of: &&Local| {
        listening.iter().any(|listen| match listen.is_unspecified() {
            true => listen.is_ipv4() == of.address.is_ipv4(),
            false => *listen == of.address,
        })
    };
    let mut found: Vec<Local> = local.iter().filter(listened_on).copied().collect();
    if all || found.iter().any(|of| !of.address.is_loopback()) {
        // A link's own addresses mean nothing without the link, which an answer can't name.
        let good = |of: &Local| !of.address.is_loopback() && !is_of_link(of.address);
        let good: Vec<Local> = found.iter().copied().filter(good).collect();
        if !good.is_empty() {
            found = good;
        }
    }
    found
}

/// What the operator says. Addresses that are not this machine's (in front of it is something that translates) have
/// numbers of their own.
fn named(local: &[Local], configured: &[IpAddr]) -> Vec<Local> {
    let mut next = local.iter().map(|of| of.index).max().unwrap_or(0);
    let mut chosen: Vec<Local> = Vec::new();
    for address in configured {
        if chosen.iter().any(|of| of.address == *address) {
            continue;
        }
        let known = local.iter().find(|of| of.address == *address).copied();
        chosen.push(known.unwrap_or_else(|| {
            next = next.saturating_add(1);
            Local { index: next, address: *address, speed: SPEED_DEFAULT, queues: false }
        }));
    }
    chosen
}

fn is_of_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn to_wire(local: Local) -> NetworkInterface {
    NetworkInterface {
        index: local.index,
        capabilities: match local.queues {
            true => InterfaceCapabilities::RSS_CAPABLE,
            false => InterfaceCapabilities::EMPTY,
        },
        link_speed: local.speed,
        address: match local.address {
            IpAddr::V4(v4) => InterfaceAddress::V4(v4),
            IpAddr::V6(v6) => InterfaceAddress::V6(v6),
        },
    }
}

/// The addresses of the interfaces that are up.
fn local() -> io::Result<Vec<Local>> {
    let mut found = Vec::new();
    for interface in getifaddrs()? {
        let address = interface.address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        let Some(address) = address else { continue };
        if !interface.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let name = interface.interface_name;
        // It may have gone meanwhile; number 0 is no interface (3.3.5.15.11).
        let Ok(index) = if_nametoindex(name.as_str()) else { continue };
        found.push(Local { index, address, speed: speed(&name), queues: queues(&name) > 1 });
    }
    Ok(found)
}

fn speed(interface: &str) -> u64 {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/speed")).unwrap_or_default();
    let megabits: Option<u64> = text.trim().parse().ok().filter(|speed| *speed > 0);
    megabits.map_or(SPEED_DEFAULT, |megabits| megabits.saturating_mul(1_000_000))
}

fn queues(interface: &str) -> usize {
    let Ok(entries) = fs::read_dir(format!("/sys/class/net/{interface}/queues")) else { return 0 };
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn machine() -> Vec<Local> {
        let of = |index, text| Local { index, address: ip(text), speed: SPEED_DEFAULT, queues: index == 3 };
        vec![
            of(1, "127.0.0.1"),
            of(1, "::1"),
            of(2, "192.0.2.1"),
            of(2, "2001:db8::1"),
            of(2, "fe80::1"),
            of(3, "198.51.100.1"),
        ]
    }

    fn addresses(found: &[Local]) -> Vec<String> {
        found.iter().map(|of| of.address.to_string()).collect()
    }

    #[test]
    fn what_can_be_reached_where_the_server_listens_is_told() {
        for (listening, expected) in [
            (&["0.0.0.0"][..], &["192.0.2.1", "198.51.100.1"][..]),
            (&["0.0.0.0", "::"], &["192.0.2.1", "2001:db8::1", "198.51.100.1"]),
            (&["::"], &["2001:db8::1"]),
            (&["127.0.0.1"], &["127.0.0.1"]),
            (&["127.0.0.1", "::1"], &["127.0.0.1", "::1"]),
            (&["127.0.0.1", "198.51.100.1"], &["198.51.100.1"]),
            (&["203.0.113.9"], &[]),
        ] {
            let listening: Vec<IpAddr> = listening.iter().map(|text| ip(text)).collect();
            assert_eq!(addresses(&reachable(&machine(), &listening)), expected, "{listening:?}");
        }
    }

    #[test]
    fn a_machine_without_a_network_tells_what_it_has() {
        assert_eq!(addresses(&reachable(&machine()[..2], &[ip("0.0.0.0")])), ["127.0.0.1"]);
    }

    #[test]
    fn what_is_configured_is_told_and_nothing_else() {
        let found = named(&machine(), &[ip("203.0.113.1"), ip("198.51.100.1"), ip("203.0.113.1"), ip("::2")]);
        let found: Vec<_> = found.iter().map(|of| (of.index, of.address, of.queues)).collect();
        assert_eq!(
            found,
            [(4, ip("203.0.113.1"), false), (3, ip("198.51.100.1"), true), (5, ip("::2"), false)]
        );
    }

    #[test]
    fn this_machine_has_an_interface() {
        let found = advertised(&[], &[ip("127.0.0.1")]);
        assert!(found.iter().all(|interface| interface.index > 0 && interface.link_speed > 0), "{found:?}");
        assert_eq!(found.len(), 1);
    }
}
