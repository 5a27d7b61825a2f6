//! Rules of a listener that is open because only this machine reaches it (CONTRACT 3.1, 4).
//!
//! Loopback is no credential for a web page: a foreign `Host` (DNS rebinding), a foreign `Origin`
//! or a cross-site fetch is refused. So is whatever a reverse proxy has passed on, for then the
//! caller is not on this machine at all. Knows nothing of keys.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, ORIGIN};
use http::{HeaderMap, HeaderName};
use memchr::memrchr;

use super::{Peer, Visit};

const FORWARDED_PREFIX: &str = "x-forwarded-";
static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why an open listener refuses a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// Not from this machine.
    Peer,
    /// `Host` does not name this machine.
    Host,
    /// `Origin` is another site's, or the browser says so.
    Origin,
    /// A proxy stands in between.
    Forwarded,
}

/// Whether an open listener may answer.
pub fn check(visit: &Visit<'_>) -> Result<(), Foreign> {
    let host = match visit.peer {
        Peer::Remote => return Err(Foreign::Peer),
        Peer::Loopback => Some(own_host(visit)?),
        // No browser reaches a Unix socket, and its clients write what they like into `Host`.
        Peer::Unix { .. } => None,
    };
    if is_forwarded(visit.headers) {
        return Err(Foreign::Forwarded);
    }
    if is_cross_site(visit.headers, host) {
        return Err(Foreign::Origin);
    }
    Ok(())
}

/// Whether a request comes from no page, or from one of this machine's own origin. Asked where a key
/// lets in: a browser may be led to bring it along.
pub fn is_own_page(headers: &HeaderMap) -> bool {
    let from_page = headers.contains_key(ORIGIN) || headers.contains_key(&FETCH_SITE);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let own = host.filter(|host| is_loopback_host(split_port(host).0));
    !from_page || (own.is_some() && !is_cross_site(headers, own))
}

/// Whether a host name or address, without port, is this machine's loopback.
pub fn is_loopback_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => bare.strip_suffix('.').unwrap_or(bare).eq_ignore_ascii_case("localhost"),
    }
}

/// The one `host[:port]` that the request names, by header, by `:authority`, or equal in both.
fn own_host<'a>(visit: &Visit<'a>) -> Result<&'a str, Foreign> {
    let mut named = visit.authority;
    for value in visit.headers.get_all(HOST) {
        let text = value.to_str().map_err(|_| Foreign::Host)?;
        if named.is_some_and(|first| !first.eq_ignore_ascii_case(text)) {
            return Err(Foreign::Host);
        }
        named = Some(text);
    }
    let authority = named.ok_or(Foreign::Host)?;
    let (host, port) = split_port(authority);
    let digits = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    (digits && is_loopback_host(host)).then_some(authority).ok_or(Foreign::Host)
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    // Every request comes through here: a search by bytes costs a tenth of one by characters.
    let after_bracket = memrchr(b']', authority.as_bytes()).map_or(0, |at| at + 1);
    match authority.as_bytes().get(after_bracket..).and_then(|rest| memrchr(b':', rest)) {
        Some(at) => (authority.get(..after_bracket + at).unwrap_or(authority), authority.get(after_bracket + at + 1..)),
        None => (authority, None),
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    let is_prefixed = |name: &str| name.starts_with('x') && name.starts_with(FORWARDED_PREFIX);
    headers.contains_key(FORWARDED) || headers.keys().any(|name| is_prefixed(name.as_str()))
}

/// Strictly same-origin: another port of this machine is another program's page, and without CORS
/// headers of ours a browser would not show it the answer anyway.
fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let site = headers.get_all(&FETCH_SITE).iter().any(|v| !matches!(v.as_bytes(), b"same-origin" | b"none"));
    let origin = headers.get_all(ORIGIN).iter().any(|v| v.to_str().map_or(true, |o| !is_own_origin(o, host)));
    site || origin
}

fn is_own_origin(origin: &str, host: Option<&str>) -> bool {
    let (Some((scheme, authority)), Some(host)) = (origin.split_once("://"), host) else { return false };
    let default_port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (origin_host, origin_port) = split_port(authority);
    let (own_host, own_port) = split_port(host);
    origin_host.eq_ignore_ascii_case(own_host)
        && origin_port.unwrap_or(default_port) == own_port.unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn run(peer: Peer, authority: Option<&str>, pairs: &[(&str, &str)]) -> Result<(), Foreign> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        check(&Visit { headers: &headers, authority, query: None, peer, own_uid: 1000 })
    }

    #[test]
    fn hosts() {
        for (host, good) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("localhost.", true),
            ("127.0.0.1:8080", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("", false),
            ("localhost:", false),
            ("localhost:x", false),
            ("localhost:8080/", false),
            ("localhost.evil.example", false),
            ("evil.localhost.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example", false),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("10.0.0.1", false),
            ("2130706433", false),
            ("0x7f.1", false),
            ("user@localhost", false),
            ("localhost#@evil", false),
            ("127.0.0.1\t", false),
        ] {
            let expected = if good { Ok(()) } else { Err(Foreign::Host) };
            assert_eq!(run(Peer::Loopback, None, &[("host", host)]), expected, "{host}");
            assert_eq!(run(Peer::Loopback, Some(host), &[]), expected, ":authority {host}");
        }
        assert_eq!(run(Peer::Loopback, None, &[]), Err(Foreign::Host), "no host at all");
        assert_eq!(run(Peer::Loopback, Some("localhost"), &[("host", "evil.example")]), Err(Foreign::Host));
        assert_eq!(run(Peer::Loopback, None, &[("host", "localhost"), ("host", "evil.example")]), Err(Foreign::Host));
        assert_eq!(run(Peer::Loopback, Some("localhost"), &[("host", "localhost")]), Ok(()));
    }

    #[test]
    fn origins() {
        for (origin, good) in [
            ("http://localhost:8080", true),
            ("http://LOCALHOST:8080", true),
            ("https://localhost:8080", true),
            ("http://localhost", false),
            ("http://localhost:3000", false),
            ("http://127.0.0.1:8080", false),
            ("null", false),
            ("", false),
            ("https://evil.example", false),
            ("http://localhost:8080.evil.example", false),
            ("app://localhost:8080", false),
            ("http://user@localhost:8080", false),
        ] {
            let expected = if good { Ok(()) } else { Err(Foreign::Origin) };
            assert_eq!(
                run(Peer::Loopback, None, &[("host", "localhost:8080"), ("origin", origin)]),
                expected,
                "{origin}"
            );
        }
        assert_eq!(run(Peer::Loopback, None, &[("host", "localhost"), ("origin", "http://localhost:80")]), Ok(()));
        assert_eq!(run(Peer::Unix { uid: 5 }, None, &[("origin", "http://localhost")]), Err(Foreign::Origin));
        assert_eq!(
            run(
                Peer::Loopback,
                None,
                &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "https://evil.example")]
            ),
            Err(Foreign::Origin)
        );
    }

    #[test]
    fn fetch_metadata() {
        for (site, good) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false), ("x", false)]
        {
            let expected = if good { Ok(()) } else { Err(Foreign::Origin) };
            assert_eq!(
                run(Peer::Loopback, None, &[("host", "localhost"), ("sec-fetch-site", site)]),
                expected,
                "{site}"
            );
        }
    }

    #[test]
    fn proxies_and_peers() {
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "X-Forwarded-Proto", "x-forwarded-anything"] {
            for peer in [Peer::Loopback, Peer::Unix { uid: 0 }] {
                assert_eq!(run(peer, None, &[("host", "localhost"), (name, "x")]), Err(Foreign::Forwarded), "{name}");
            }
        }
        assert_eq!(run(Peer::Remote, None, &[("host", "localhost")]), Err(Foreign::Peer));
        assert_eq!(run(Peer::Unix { uid: 7 }, None, &[("host", "anything")]), Ok(()));
        assert_eq!(run(Peer::Unix { uid: 7 }, None, &[]), Ok(()));
    }
}
