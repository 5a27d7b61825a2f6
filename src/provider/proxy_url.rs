//! The URL of a proxy, taken apart; and which hosts the environment exempts from one.
//!
//! Stricter than curl: a scheme is written, there is no path, and a login stands in the URL only where
//! nothing else can hold it, in the environment. Errors never quote the URL.

use std::net::IpAddr;

use super::url::host_and_port;

/// Where a proxy is and what is spoken to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyUrl {
    pub socks: bool,
    pub tls: bool,
    /// Without the brackets of an IPv6 address.
    pub host: Box<str>,
    pub port: u16,
}

/// Name and password.
pub type Login = (String, String);

const SOCKS_PORT: u16 = 1080;

impl ProxyUrl {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) =
            text.split_once("://").ok_or("is not a URL: it begins with http://, https:// or socks5://")?;
        let (socks, tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, false, 80),
            "https" => (false, true, 443),
            "socks5" | "socks5h" => (true, false, SOCKS_PORT),
            _ => return Err("has a scheme other than http, https and socks5"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("has user information: put it into `username` and `password`");
        }
        if authority.contains(['/', '?', '#', '\\']) {
            return Err("has a path or a query, which a proxy has not");
        }
        let (host, port) = host_and_port(authority)?;
        Ok(Self { socks, tls, host: host.into_boxed_str(), port: port.unwrap_or(default_port) })
    }

    /// As in `HTTPS_PROXY`: `http://` may be left out, and a login, percent-encoded, may stand before
    /// the host.
    pub fn from_environment(text: &str) -> Result<(Self, Option<Login>), &'static str> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let Some((login, host)) = rest.rsplit_once('@') else {
            return Ok((Self::parse(&format!("{scheme}://{rest}"))?, None));
        };
        let decoded = |part: &str| {
            let text = percent_encoding::percent_decode_str(part).decode_utf8();
            text.map(|text| text.into_owned()).map_err(|_| "has user information that is not text")
        };
        let (name, password) = login.split_once(':').unwrap_or((login, ""));
        let login = (decoded(name)?, decoded(password)?);
        Ok((Self::parse(&format!("{scheme}://{host}"))?, Some(login)))
    }
}

/// Whether a `NO_PROXY` list names a host: by itself, by a domain above it, by an address or a block
/// of addresses, with a port or without.
pub fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.');
    let ip = host.parse::<IpAddr>().ok();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let (entry, wanted) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') || name.ends_with(']') => match digits.parse::<u16>() {
                Ok(number) => (name, Some(number)),
                Err(_) => (entry, None),
            },
            _ => (entry, None),
        };
        if wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        let entry = entry.trim_start_matches('[').trim_end_matches(']');
        if entry == "*" {
            return true;
        }
        match (ip, entry.split_once('/')) {
            (Some(ip), Some((block, bits))) => is_in_block(ip, block, bits),
            (Some(ip), None) => entry.parse::<IpAddr>().is_ok_and(|entry| entry.to_canonical() == ip.to_canonical()),
            (None, _) => {
                let domain = entry.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
                let above = host.len().checked_sub(domain.len()).and_then(|at| host.split_at_checked(at));
                !domain.is_empty()
                    && above.is_some_and(|(below, tail)| {
                        tail.eq_ignore_ascii_case(domain) && (below.is_empty() || below.ends_with('.'))
                    })
            }
        }
    })
}

fn is_in_block(ip: IpAddr, block: &str, bits: &str) -> bool {
    let (Ok(block), Ok(bits)) = (block.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let same = |width: u32, a: u128, b: u128| bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0);
    match (ip.to_canonical(), block) {
        (IpAddr::V4(ip), IpAddr::V4(block)) => same(32, u32::from(ip).into(), u32::from(block).into()),
        (IpAddr::V6(ip), IpAddr::V6(block)) => same(128, ip.into(), block.into()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, socks, tls, host, port) in [
            ("http://proxy:3128", false, false, "proxy", 3128),
            ("HTTP://Proxy.Example/", false, false, "proxy.example", 80),
            ("https://proxy", false, true, "proxy", 443),
            ("socks5://127.0.0.1", true, false, "127.0.0.1", 1080),
            ("socks5h://[::1]:9050", true, false, "::1", 9050),
        ] {
            let expected = ProxyUrl { socks, tls, host: host.into(), port };
            assert_eq!(ProxyUrl::parse(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "proxy:3128",
            "ftp://proxy",
            "socks4://proxy",
            "http://user:pw@proxy",
            "http://proxy/path",
            "http://proxy?x",
            "http://",
            "http://proxy:0",
            "http://pro xy",
            "http://proxy#f",
        ] {
            assert!(ProxyUrl::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn urls_of_the_environment() {
        let (url, login) = ProxyUrl::from_environment("http://us%40er:p%3Aw@proxy:8080/").unwrap();
        assert_eq!((&*url.host, url.port, login), ("proxy", 8080, Some(("us@er".to_owned(), "p:w".to_owned()))));
        let (url, login) = ProxyUrl::from_environment("proxy:8080").unwrap();
        assert_eq!((&*url.host, url.port, url.tls, login), ("proxy", 8080, false, None));
        assert_eq!(ProxyUrl::from_environment("socks5://u@h").unwrap().1, Some(("u".to_owned(), String::new())));
        assert!(ProxyUrl::from_environment("http://%ff@h").is_err());
    }

    #[test]
    fn exempt_hosts() {
        for (list, host, port, exempt) in [
            ("", "h", 443, false),
            ("*", "h", 443, true),
            ("example.com", "example.com", 443, true),
            ("example.com", "api.example.com", 443, true),
            (".example.com", "api.example.com", 443, true),
            ("*.example.com", "api.example.com", 443, true),
            ("example.com", "badexample.com", 443, false),
            ("EXAMPLE.com", "api.example.COM.", 443, true),
            ("a, b ,localhost", "localhost", 80, true),
            ("localhost:8000", "localhost", 8000, true),
            ("localhost:8000", "localhost", 80, false),
            ("10.0.0.0/8", "10.2.3.4", 80, true),
            ("10.0.0.0/8", "11.2.3.4", 80, false),
            ("0.0.0.0/0", "11.2.3.4", 80, true),
            ("10.0.0.0/33", "10.0.0.0", 80, false),
            ("127.0.0.1", "127.0.0.1", 80, true),
            ("127.0.0.1", "127.0.0.10", 80, false),
            ("::1", "::1", 80, true),
            ("[::1]:80", "::1", 80, true),
            ("fd00::/8", "fd12::1", 80, true),
            ("10.0.0.0/8", "ten.example", 80, false),
        ] {
            assert_eq!(is_exempt(list, host, port), exempt, "{list:?} {host}:{port}");
        }
    }
}
