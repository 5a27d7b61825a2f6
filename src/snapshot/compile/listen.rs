//! Addresses to listen on: `host:port`, `https://host:port`, `unix:/path?mode=0660`.

use std::net::{IpAddr, Ipv6Addr};

use super::Compiler;
use crate::config::Code;
use crate::config::problem::pointer_to;
use crate::limits::{LISTENERS_MAX, UNIX_PATH_BYTES_MAX};
use crate::snapshot::ListenSpec;

const UNIX_PREFIX: &str = "unix:";
/// Only the user that runs the gateway, unless the file says more.
const UNIX_MODE_DEFAULT: u32 = 0o600;

/// All that could be read of a list; an entry that could not is reported.
pub(super) fn all(cx: &mut Compiler<'_>, written: &[String], pointer: &str) -> Vec<ListenSpec> {
    if written.is_empty() {
        cx.problems.error(Code::BadValue, pointer, "an empty list: nothing could be reached");
    } else if written.len() > LISTENERS_MAX {
        cx.problems.error(Code::BadValue, pointer, format!("more than {LISTENERS_MAX} addresses"));
    }
    let mut specs: Vec<ListenSpec> = Vec::new();
    for (i, text) in written.iter().enumerate() {
        let at = pointer_to(pointer, &i.to_string());
        match parse(cx, text) {
            Err(what) => {
                let problem = cx.problems.error(Code::BadValue, at, what);
                problem.hint("`127.0.0.1:8080`, `https://0.0.0.0:8443` or `unix:/run/keyway.sock?mode=0660`");
            }
            Ok(spec) if specs.iter().any(|other| is_same_place(other, &spec)) => {
                cx.problems.error(Code::Duplicate, at, "this address is in the list already");
            }
            Ok(spec) => specs.push(spec),
        }
    }
    specs
}

/// Whether both would bind the same place. Port 0 is a new port each time.
pub(super) fn is_same_place(a: &ListenSpec, b: &ListenSpec) -> bool {
    match (a, b) {
        (ListenSpec::Tcp { host, port, .. }, ListenSpec::Tcp { host: other, port: other_port, .. }) => {
            *port != 0 && port == other_port && host.eq_ignore_ascii_case(other)
        }
        (ListenSpec::Unix { path, .. }, ListenSpec::Unix { path: other, .. }) => path == other,
        (ListenSpec::Tcp { .. } | ListenSpec::Unix { .. }, _) => false,
    }
}

/// Whether others than this machine can reach it. A name that is not `localhost` may mean anything.
pub(super) fn is_beyond_loopback(spec: &ListenSpec) -> bool {
    match spec {
        ListenSpec::Unix { .. } => false,
        ListenSpec::Tcp { host, .. } => match host.parse::<IpAddr>() {
            Ok(address) => !address.to_canonical().is_loopback(),
            Err(_) => !host.eq_ignore_ascii_case("localhost"),
        },
    }
}

fn parse(cx: &Compiler<'_>, text: &str) -> Result<ListenSpec, &'static str> {
    if let Some(rest) = text.strip_prefix(UNIX_PREFIX) {
        return unix(cx, rest);
    }
    let (tls, rest) = match text.split_once("://") {
        None => (false, text),
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) => return Err("a scheme other than http, https and unix"),
    };
    let (host, port) = rest.rsplit_once(':').ok_or("no port")?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("no port, or something behind it");
    }
    let port = port.parse().map_err(|_| "a port above 65535")?;
    Ok(ListenSpec::Tcp { host: checked_host(host)?.into(), port, tls })
}

/// Without the brackets of an IPv6 address.
fn checked_host(host: &str) -> Result<&str, &'static str> {
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<Ipv6Addr>().map(|_| inside).map_err(|_| "not an IPv6 address");
    }
    let name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    // All digits and dots, but no address: a resolver might still make one of it.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.') && host.parse::<IpAddr>().is_err();
    match host {
        "" => Err("no host: `0.0.0.0` is every address of the machine"),
        _ if !name || numeric => Err("not a host, or an IPv6 address without brackets"),
        _ => Ok(host),
    }
}

fn unix(cx: &Compiler<'_>, rest: &str) -> Result<ListenSpec, &'static str> {
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err("no path of a socket");
    }
    let path = cx.dir.join(path);
    if path.as_os_str().len() > UNIX_PATH_BYTES_MAX {
        return Err("a path longer than a Unix socket can have");
    }
    let mode = match query {
        None => UNIX_MODE_DEFAULT,
        Some(query) => {
            let digits = query.strip_prefix("mode=").ok_or("an option other than `mode`")?;
            let octal = (3..=4).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777);
            mode.ok_or("a mode that is not like 0660")?
        }
    };
    Ok(ListenSpec::Unix { path, mode })
}
