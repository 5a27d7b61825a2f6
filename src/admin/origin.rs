//! Which addresses an API body may write out (CONTRACT 3.2): public ones, and the private origins
//! that the file lists. Pure: names are not looked up here. What a name leads to is checked where it
//! is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::provider::{AddressPlace as Place, BaseUrl, place_of_address as place_of};

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

#[cfg(test)]
mod tests;
