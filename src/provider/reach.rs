//! What an address is to the rest of the world: public, private, or one that nobody may name.
//!
//! Pure: numbers only, no names and no lookups. Asked twice, of an address that an API body writes out
//! and of every address that is dialled, so that a name which leads somewhere else is found out there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressPlace {
    Public,
    Private,
    /// Not even when the file allows it.
    Never,
}

use AddressPlace as Place;

/// Metadata services by number, where that is not link-local: Alibaba's, Azure's.
const METADATA_NUMBERS: [[u8; 4]; 2] = [[100, 100, 100, 200], [168, 63, 129, 16]];

/// Whether an address is never dialled, whoever named it: it is where clouds keep the credentials of
/// the machine. What is not specified leads to this machine, and people write it in their files.
pub fn is_never_dialled(ip: IpAddr) -> bool {
    place_of_address(ip) == Place::Never && !ip.to_canonical().is_unspecified()
}

pub fn place_of_address(ip: IpAddr) -> Place {
    match ip {
        IpAddr::V4(ip) => place_of_v4(ip),
        IpAddr::V6(ip) => place_of_v6(ip),
    }
}

fn place_of_v4(ip: Ipv4Addr) -> Place {
    let [a, b, c, _] = ip.octets();
    if ip.is_link_local() || ip.is_unspecified() || METADATA_NUMBERS.contains(&ip.octets()) {
        return Place::Never;
    }
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = a == 192 && b == 0 && c == 0;
    let relay = a == 192 && b == 88 && c == 99;
    let private = ip.is_loopback()
        || ip.is_private()
        || ip.is_broadcast()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || shared
        || benchmark
        || protocol
        || relay;
    if private { Place::Private } else { Place::Public }
}

fn place_of_v6(ip: Ipv6Addr) -> Place {
    let s = ip.segments();
    let [a, b, c, _, _, _, g, h] = s;
    let v4 = |high: u16, low: u16| place_of_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 1] => Place::Private,
        // Mapped, compatible, translated and 6to4 forms lead to the IPv4 address inside.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => {
            v4(g, h)
        }
        [0x2002, ..] => v4(b, c),
        // A network's own translation: never public, whatever is inside.
        [0x64, 0xff9b, 1, ..] if v4(g, h) == Place::Never => Place::Never,
        // The metadata services of AWS and Google over IPv6.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Place::Never,
        _ if a & 0xffc0 == 0xfe80 => Place::Never,
        // Teredo and its neighbours, documentation.
        _ if a == 0x2001 && (b < 0x200 || b == 0xdb8) || a == 0x3fff && b < 0x1000 => Place::Private,
        _ if a & 0xe000 == 0x2000 => Place::Public,
        _ => Place::Private,
    }
}
