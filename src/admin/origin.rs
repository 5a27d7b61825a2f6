//! Which addresses an API body may write out (CONTRACT 3.2): public ones, and the private origins
//! that the file lists. Pure: names are not looked up here. What a name leads to is checked where it
//! is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::provider::BaseUrl;

const NOT_PUBLIC: &str =
    "this address is not public; list its origin in `management.allowed_origins` in the file to allow it";
const NEVER: &str = "link-local and metadata addresses are never allowed";

/// Names that mean this machine or its surroundings, whatever a resolver says.
const LOCAL_NAMES: [&str; 12] = [
    "localhost",
    "local",
    "internal",
    "localdomain",
    "home",
    "arpa",
    "lan",
    "intranet",
    "corp",
    "private",
    "svc",
    "cluster",
];
/// Metadata services by name.
const METADATA_NAMES: [&str; 5] =
    ["metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"];
/// Metadata services by number, where that is not link-local: Alibaba's, Azure's.
const METADATA_NUMBERS: [[u8; 4]; 2] = [[100, 100, 100, 200], [168, 63, 129, 16]];

/// `allowed`: origins of `management.allowed_origins`.
pub fn check(text: &str, allowed: &[String]) -> Result<(), String> {
    let url = BaseUrl::parse(text, "").map_err(|what| format!("the URL {what}"))?;
    let host = url.host.trim_end_matches('.');
    let place = match address(host) {
        Some(ip) => place_of(ip),
        None => place_of_name(host),
    };
    match place {
        Place::Public => Ok(()),
        Place::Never => Err(NEVER.to_owned()),
        Place::Private if allowed.iter().any(|origin| is_origin_of(origin, &url)) => Ok(()),
        Place::Private => Err(NOT_PUBLIC.to_owned()),
    }
}

fn is_origin_of(origin: &str, url: &BaseUrl) -> bool {
    BaseUrl::parse(origin, "")
        .is_ok_and(|allowed| (&allowed.scheme, &allowed.host, allowed.port) == (&url.scheme, &url.host, url.port))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Public,
    Private,
    /// Not even when the file allows it.
    Never,
}

fn place_of_name(host: &str) -> Place {
    if METADATA_NAMES.contains(&host) {
        return Place::Never;
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    // A name without a dot is one of a local network or of a container's neighbours. One that ends in
    // a number is no name: some resolver makes an address of it by wrapping around what is too large.
    let is_local = LOCAL_NAMES.contains(&last) || !host.contains('.') || is_numeric(last);
    if is_local { Place::Private } else { Place::Public }
}

fn is_numeric(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The host as an address, in every spelling that some resolver takes for one.
fn address(host: &str) -> Option<IpAddr> {
    if let Ok(ip) = host.parse::<Ipv6Addr>() {
        return Some(IpAddr::V6(ip));
    }
    let parts: Vec<&str> = host.split('.').collect();
    let numbers: Vec<u64> = parts.iter().map(|part| number(part)).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    if first.len() > 3 || first.iter().any(|byte| *byte > 255) {
        return None;
    }
    // The last number fills all the bytes that are left: 127.1 is 127.0.0.1.
    let left = 4 - first.len() as u32;
    if *last >= 1 << (8 * left) {
        return None;
    }
    let head = first.iter().fold(0, |whole, byte| whole << 8 | byte);
    u32::try_from(head << (8 * left) | last).ok().map(|whole| IpAddr::V4(Ipv4Addr::from(whole)))
}

/// Decimal, `0x` hexadecimal or `0` octal, as `inet_aton` reads it.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some("") => return Some(0),
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    // Digits that are not octal behind a 0: some readers take them for decimal.
    plain.then(|| u64::from_str_radix(digits, radix).or_else(|_| digits.parse()).ok())?
}

fn place_of(ip: IpAddr) -> Place {
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

#[cfg(test)]
mod tests;
