//! Base URLs and the path of an upstream call.
//!
//! A base URL is taken apart once, at compile; what goes on the wire is base path + operation path +
//! query. Refuses everything that could send a key somewhere else than it looks: user info, queries,
//! fragments, dot segments, odd hosts. Errors never quote the URL, for it may hold a secret.

use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};

/// An upstream's address, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseUrl {
    pub scheme: Scheme,
    /// Lower case, without the scheme's default port: what stands in `Host`.
    pub authority: Authority,
    /// Without the brackets of an IPv6 address.
    pub host: Box<str>,
    pub port: u16,
    /// Path without the version prefix and without a trailing slash; often empty.
    pub root_path: Box<str>,
    /// The same with the version prefix.
    pub base_path: Box<str>,
}

impl BaseUrl {
    /// `version_prefix` is `""` or begins with a slash. A URL that already ends in it means the same
    /// as one that does not.
    pub fn parse(text: &str, version_prefix: &str) -> Result<Self, &'static str> {
        // Checked on the raw bytes, so that no parser's leniency gets between.
        if text.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'\\' | b'"' | b'<' | b'>' | b'^' | b'`')) {
            return Err("holds blanks or characters that a URL cannot carry");
        }
        let (scheme, rest) = text.split_once("://").ok_or("is not a URL: it begins with http:// or https://")?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::HTTP, 80),
            "https" => (Scheme::HTTPS, 443),
            _ => return Err("has a scheme other than http and https"),
        };
        if rest.contains(['?', '#']) {
            return Err("has a query or a fragment, which belongs to a call and not to a base URL");
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("has user information: put the credential into the key");
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(default_port);
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let shown = if port == default_port { shown } else { format!("{shown}:{port}") };
        let authority = Authority::try_from(shown).map_err(|_| "has a host that is not one")?;
        let path = checked_path(path)?;
        let root_path = without_suffix(path, version_prefix);
        let base_path = format!("{root_path}{version_prefix}").into_boxed_str();
        Ok(Self { scheme, authority, host: host.into_boxed_str(), port, root_path: root_path.into(), base_path })
    }
}

impl BaseUrl {
    /// The same address, with another path between it and its operations.
    pub fn with_path_below(self, below: &str) -> Self {
        let base_path = format!("{}{below}", self.root_path).into_boxed_str();
        Self { base_path, ..self }
    }

    /// Of a prefix of two words (`/openai/v1`) the first alone may stand at the end of what somebody
    /// wrote (`https://acme.openai.azure.com/openai`): it is not repeated either.
    pub fn without_half_of(self, version_prefix: &str) -> Self {
        let half = version_prefix.rfind('/').and_then(|at| version_prefix.get(..at)).filter(|half| !half.is_empty());
        let Some(root) = half.and_then(|half| self.root_path.strip_suffix(half)) else { return self };
        let base_path = format!("{root}{version_prefix}").into_boxed_str();
        Self { root_path: root.into(), base_path, ..self }
    }
}

/// Lower-case host without brackets, and the port if one is written.
pub(super) fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    const BAD_HOST: &str = "has a host that is not one";
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(BAD_HOST)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| BAD_HOST)?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(BAD_HOST)?) };
        (host, port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        // Underscores stand in container names; nothing else outside the LDH rule does.
        let label = |l: &str| {
            (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let absolute = host.strip_suffix('.').unwrap_or(host);
        if host.len() > 253 || !absolute.split('.').all(label) {
            return Err(BAD_HOST);
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let number = digits.parse::<u16>().ok().filter(|n| *n > 0);
            Some(number.ok_or("has a port that is not between 1 and 65535")?)
        }
        Some(_) => return Err("has a port that is not between 1 and 65535"),
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// The path without trailing slashes.
fn checked_path(path: &str) -> Result<&str, &'static str> {
    let path = path.trim_end_matches('/');
    let mut segments = path.split('/');
    // What stands before the leading slash.
    segments.next();
    for segment in segments {
        // A dot segment may hide behind one round of percent-encoding.
        let decoded = percent_encoding::percent_decode_str(segment).collect::<Vec<u8>>();
        let broken_escape = segment.split('%').skip(1).any(|after| {
            let mut digits = after.bytes();
            !matches!((digits.next(), digits.next()), (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
        });
        if broken_escape || matches!(decoded.as_slice(), b"" | b"." | b"..") || decoded.contains(&0) {
            return Err("has a path with an empty, dotted or broken segment");
        }
    }
    Ok(path)
}

/// `path` without `suffix` where it ends in it at a segment boundary.
fn without_suffix<'a>(path: &'a str, suffix: &str) -> &'a str {
    // A prefix begins with a slash, hence every match is one of whole segments.
    if suffix.is_empty() { path } else { path.strip_suffix(suffix).unwrap_or(path) }
}

/// What goes into the request line: `suffix` begins with a slash and may not be empty unless the
/// base path is not; `query` comes without its `?`.
pub fn path_and_query(base_path: &str, suffix: &str, query: Option<&str>) -> Result<PathAndQuery, InvalidUri> {
    let query = query.filter(|q| !q.is_empty());
    let mut text = String::with_capacity(base_path.len() + suffix.len() + query.map_or(0, |q| q.len() + 1));
    text.push_str(base_path);
    text.push_str(suffix);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str, prefix: &str) -> (String, String, u16, String, String) {
        let url = BaseUrl::parse(text, prefix).unwrap_or_else(|e| panic!("{text}: {e}"));
        (
            format!("{}://{}", url.scheme, url.authority),
            url.host.into(),
            url.port,
            url.root_path.into(),
            url.base_path.into(),
        )
    }

    #[test]
    fn what_is_taken() {
        for (text, prefix, origin, host, port, root, base) in [
            ("https://api.openai.com", "/v1", "https://api.openai.com", "api.openai.com", 443, "", "/v1"),
            ("https://api.openai.com/", "/v1", "https://api.openai.com", "api.openai.com", 443, "", "/v1"),
            ("https://api.openai.com/v1", "/v1", "https://api.openai.com", "api.openai.com", 443, "", "/v1"),
            ("https://api.openai.com/v1//", "/v1", "https://api.openai.com", "api.openai.com", 443, "", "/v1"),
            ("HTTPS://API.OpenAI.com:443/v1", "/v1", "https://api.openai.com", "api.openai.com", 443, "", "/v1"),
            (
                "https://api.groq.com/openai",
                "/v1",
                "https://api.groq.com",
                "api.groq.com",
                443,
                "/openai",
                "/openai/v1",
            ),
            (
                "https://api.groq.com/openai/v1",
                "/v1",
                "https://api.groq.com",
                "api.groq.com",
                443,
                "/openai",
                "/openai/v1",
            ),
            ("http://127.0.0.1:8000", "/v1", "http://127.0.0.1:8000", "127.0.0.1", 8000, "", "/v1"),
            ("http://127.0.0.1:80", "/v1", "http://127.0.0.1", "127.0.0.1", 80, "", "/v1"),
            ("http://[::1]:8000/x", "/v1", "http://[::1]:8000", "::1", 8000, "/x", "/x/v1"),
            ("https://[2001:DB8::1]", "/v1", "https://[2001:db8::1]", "2001:db8::1", 443, "", "/v1"),
            ("http://my_vllm:8000", "/v1", "http://my_vllm:8000", "my_vllm", 8000, "", "/v1"),
            ("http://host./a%2Fb", "/v1", "http://host.", "host.", 80, "/a%2Fb", "/a%2Fb/v1"),
            // Only whole segments are the prefix.
            ("https://h/apiv1", "/v1", "https://h", "h", 443, "/apiv1", "/apiv1/v1"),
            ("https://h/v1/v1", "/v1", "https://h", "h", 443, "/v1", "/v1/v1"),
            ("https://h/x/", "", "https://h", "h", 443, "/x", "/x"),
        ] {
            let expected = (origin.to_owned(), host.to_owned(), port, root.to_owned(), base.to_owned());
            assert_eq!(parts(text, prefix), expected, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "",
            "api.openai.com",
            "//api.openai.com",
            "ftp://h",
            "file:///etc/passwd",
            "https://",
            "https:///v1",
            "http://:80",
            "https://user@h",
            "https://user:pw@h",
            "https://h@evil",
            "https://h?x=1",
            "https://h/v1?x",
            "https://h#f",
            "https://h/a/../b",
            "https://h/./b",
            "https://h//b",
            "https://h/%2e%2E/b",
            "https://h/%2e",
            "https://h/%zz",
            "https://h/%",
            "https://h/%2",
            "https://h/%00",
            "https://h/a b",
            " https://h",
            "https://h\n",
            "https://h\\evil",
            "https://h:0",
            "https://h:65536",
            "https://h:",
            "https://h:+80",
            "https://h:8o",
            "https://[::1",
            "https://[::1]x",
            "https://[h]",
            "https://[fe80::1%25eth0]",
            "https://::1",
            "https://h..x",
            "https://.h",
            "https://.",
            "https://h%41",
            "https://é.example",
            "https://h;x",
            "https://h,x",
            "https://h!x",
            "https://h/<x>",
            "env.OPENAI_BASE_URL",
        ] {
            assert!(BaseUrl::parse(bad, "/v1").is_err(), "{bad:?}");
        }
        assert!(BaseUrl::parse(&format!("https://{}", "a".repeat(64)), "").is_err());
        assert!(BaseUrl::parse(&format!("https://{}", "a.".repeat(127)), "").is_err());
    }

    #[test]
    fn paths_below() {
        for (text, root) in [
            ("https://h/openai", ""),
            ("https://h/openai/v1", ""),
            ("https://h/x/openai", "/x"),
            ("https://h/v1", "/v1"),
            ("https://h", ""),
        ] {
            let url = BaseUrl::parse(text, "/openai/v1").unwrap().without_half_of("/openai/v1");
            assert_eq!((&*url.root_path, &*url.base_path), (root, &*format!("{root}/openai/v1")), "{text}");
        }
        let url = BaseUrl::parse("https://h/openai", "/v1").unwrap().without_half_of("/v1");
        assert_eq!(&*url.root_path, "/openai", "a prefix of one word has no half");
        let url = BaseUrl::parse("https://h/x", "").unwrap().with_path_below("/v1/projects/p");
        assert_eq!((&*url.root_path, &*url.base_path), ("/x", "/x/v1/projects/p"));
    }

    #[test]
    fn request_lines() {
        for (base, suffix, query, line) in [
            ("/v1", "/chat/completions", None, "/v1/chat/completions"),
            ("/v1", "/models", Some("limit=2"), "/v1/models?limit=2"),
            ("/v1", "/models", Some(""), "/v1/models"),
            ("", "/x", None, "/x"),
            ("/openai/v1", "/models/a%2Fb", None, "/openai/v1/models/a%2Fb"),
        ] {
            assert_eq!(path_and_query(base, suffix, query).unwrap().as_str(), line);
        }
        for bad in ["/a b", "/a\nb", "/a\0"] {
            assert!(path_and_query("/v1", bad, None).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_quotes(text in "\\PC{0,60}") {
            if let Err(error) = BaseUrl::parse(&text, "/v1") {
                prop_assert!(text.len() < 8 || !error.contains(&text));
            }
        }

        /// Parsing what was parsed changes nothing.
        #[test]
        fn settled(host in "[a-z][a-z0-9-]{0,9}(\\.[a-z]{2,5})?", port in 1u16.., path in "(/[a-z0-9._~%-]{1,6}){0,3}/{0,2}") {
            if let Ok(first) = BaseUrl::parse(&format!("http://{host}:{port}{path}"), "/v1") {
                let again = BaseUrl::parse(&format!("http://{}{}", first.authority, first.base_path), "/v1").unwrap();
                prop_assert_eq!(first, again);
            }
        }
    }
}
