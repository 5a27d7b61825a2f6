//! What is refused before any path is matched.
//!
//! Two parts of a chain that read one request in two ways are the usual hole of a gateway, so a head
//! that can be read in two ways is refused here: authority, framing, path. [`CanonicalPath`] has no
//! other maker, and nothing below decodes a path again. Not seen here: a fragment, which the `http`
//! crate cuts off before anybody reads the target, so that all of us read the same.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Uri, Version, request};

use crate::error::{GatewayError, Kind};

/// The parts of a request head that are judged.
#[derive(Clone, Copy, Debug)]
pub struct Head<'p, 'h> {
    pub version: Version,
    pub method: &'h Method,
    /// What comes out of the judgement borrows from this alone.
    pub uri: &'p Uri,
    pub headers: &'h HeaderMap,
}

impl<'p> From<&'p request::Parts> for Head<'p, 'p> {
    fn from(parts: &'p request::Parts) -> Self {
        Self { version: parts.version, method: &parts.method, uri: &parts.uri, headers: &parts.headers }
    }
}

impl<'p, B> From<&'p Request<B>> for Head<'p, 'p> {
    fn from(request: &'p Request<B>) -> Self {
        Self { version: request.version(), method: request.method(), uri: request.uri(), headers: request.headers() }
    }
}

/// A path that every reader understands alike: no empty or dot segments even after one decode, only
/// characters that a path may hold, whole escapes, and none where a plain character would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CanonicalPath<'p> {
    text: &'p str,
}

impl<'p> CanonicalPath<'p> {
    /// As it was sent.
    pub fn as_str(&self) -> &'p str {
        self.text
    }
}

/// Why a head is refused; always a 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// HTTP/1 wants exactly one `host`, HTTP/2 an authority; neither may be absent or double.
    MissingHost,
    DoubleHost,
    /// Not a host name or address with an optional port.
    BadHost,
    /// The target names another authority than `host` does.
    AuthorityMismatch,
    /// `CONNECT`, `*`, or a scheme that is not HTTP.
    BadTarget,
    EmptySegment,
    DotSegment,
    Backslash,
    /// `%` without two hex digits behind it.
    BadEscape,
    /// An escape of a control character.
    EncodedControl,
    /// An escape of a letter, digit, `-`, `.` or `_`: hides a literal segment from the router.
    NeedlessEscape,
    /// `%2F` where a segment is a word of the API, not a name or id.
    EncodedSlash,
    /// A character that has no place in a path.
    BadCharacter,
    /// `transfer-encoding` other than one `chunked`, or beside `content-length`.
    BadTransferEncoding,
    /// `content-length` twice or not in its plain spelling.
    BadContentLength,
    /// A header with `_` that servers of the CGI kind take for one that we rely on.
    AmbiguousHeader,
}

impl Refusal {
    pub fn message(self) -> &'static str {
        match self {
            Self::MissingHost => "the request names no host",
            Self::DoubleHost => "the request names a host twice",
            Self::BadHost => "the host header is not a host",
            Self::AuthorityMismatch => "the request target and the host header differ",
            Self::BadTarget => "the request target is not a path",
            Self::EmptySegment => "the path has an empty segment",
            Self::DotSegment => "the path has a dot segment",
            Self::Backslash => "the path has a backslash",
            Self::BadEscape => "the path has a broken percent escape",
            Self::EncodedControl => "the path has an encoded control character",
            Self::NeedlessEscape => "the path escapes a character that needs no escape",
            Self::EncodedSlash => "the path has an encoded slash outside of a name",
            Self::BadCharacter => "the path has a character that must be escaped",
            Self::BadTransferEncoding => "the transfer-encoding header is not `chunked`",
            Self::BadContentLength => "the content-length header is not a plain number",
            Self::AmbiguousHeader => "a header name with an underscore could be taken for another header",
        }
    }

    /// As in `error.code`.
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingHost | Self::DoubleHost | Self::BadHost | Self::AuthorityMismatch => "invalid_host",
            Self::BadTransferEncoding | Self::BadContentLength | Self::AmbiguousHeader => "invalid_header",
            _ => "invalid_path",
        }
    }
}

impl From<Refusal> for GatewayError {
    fn from(refusal: Refusal) -> Self {
        Self::caller(Kind::BadRequest, refusal.code(), refusal.message())
    }
}

/// Judges a head. Everything that follows reads the path that comes out.
pub fn canonical<'p, 'h>(head: impl Into<Head<'p, 'h>>) -> Result<CanonicalPath<'p>, Refusal> {
    let head = head.into();
    if head.method == Method::CONNECT {
        return Err(Refusal::BadTarget);
    }
    authority(&head)?;
    framing(head.headers)?;
    path(head.uri.path())
}

/// Exactly one host, and the same everywhere.
fn authority(head: &Head<'_, '_>) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::DoubleHost);
    }
    if head.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Refusal::BadTarget);
    }
    let named = head.uri.authority();
    let host = match (host, named) {
        (Some(host), _) => host.as_bytes(),
        (None, Some(named)) if head.version == Version::HTTP_2 => named.as_str().as_bytes(),
        (None, _) => return Err(Refusal::MissingHost),
    };
    if !is_host(host) {
        return Err(Refusal::BadHost);
    }
    match named {
        Some(named) if !named.as_str().as_bytes().eq_ignore_ascii_case(host) => Err(Refusal::AuthorityMismatch),
        _ => Ok(()),
    }
}

/// A name, an IPv4 or a bracketed IPv6 address, with an optional port.
fn is_host(text: &[u8]) -> bool {
    let port = match text {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (inside, rest) = rest.split_at(end);
            let plausible =
                inside.len() >= 2 && inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
            match rest {
                [b']'] if plausible => return true,
                [b']', b':', port @ ..] if plausible => port,
                _ => return false,
            }
        }
        _ => {
            let length =
                text.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')).count();
            match text.split_at(length) {
                ([], _) => return false,
                (_, []) => return true,
                (_, [b':', port @ ..]) => port,
                _ => return false,
            }
        }
    };
    (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit)
}

/// One way to tell where the body ends, and no header in disguise.
fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = 0;
    let mut encodings = 0;
    for (name, value) in headers {
        if *name == CONTENT_LENGTH {
            lengths += 1;
            let plain = matches!(value.as_bytes(), [b'0'] | [b'1'..=b'9', ..]);
            if lengths > 1 || !plain || !value.as_bytes().iter().all(u8::is_ascii_digit) {
                return Err(Refusal::BadContentLength);
            }
        } else if *name == TRANSFER_ENCODING {
            encodings += 1;
            if encodings > 1 || !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::BadTransferEncoding);
            }
        } else if memchr::memchr(b'_', name.as_str().as_bytes()).is_some() && is_disguise(name.as_str()) {
            return Err(Refusal::AmbiguousHeader);
        }
    }
    if encodings > 0 && lengths > 0 { Err(Refusal::BadTransferEncoding) } else { Ok(()) }
}

/// Whether a name with underscores is, with hyphens, one that decides something.
fn is_disguise(name: &str) -> bool {
    const EXACT: [&str; 9] = [
        "host",
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "content-length",
        "transfer-encoding",
        "forwarded",
    ];
    const BEGIN: [&str; 3] = ["x-forwarded-", "x-bf-", "x-keyway-"];
    let plain = name.replace('_', "-");
    EXACT.contains(&plain.as_str()) || BEGIN.iter().any(|begin| plain.starts_with(begin))
}

/// What a byte of a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Dot,
    Percent,
    Backslash,
    Bad,
}

/// RFC 3986 `pchar` without `;`: servers of the Java kind cut a segment there.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "at < 256")]
        {
            classes[at] = match at as u8 {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => Class::Plain,
                b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' => {
                    Class::Plain
                }
                b':' | b'@' => Class::Plain,
                b'/' => Class::Slash,
                b'.' => Class::Dot,
                b'%' => Class::Percent,
                b'\\' => Class::Backslash,
                _ => Class::Bad,
            };
        }
        at += 1;
    }
    classes
};

/// One pass over the path. A decoded slash parts segments like a plain one when dot and empty
/// segments are looked for.
fn path(text: &str) -> Result<CanonicalPath<'_>, Refusal> {
    let bytes = text.as_bytes();
    let Some((b'/', rest)) = bytes.split_first() else { return Err(Refusal::BadTarget) };
    if rest.is_empty() {
        return Ok(CanonicalPath { text });
    }
    let mut segment = Segment::default();
    let mut encoded_slash = false;
    let mut bytes = rest.iter();
    while let Some(&byte) = bytes.next() {
        let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Bad);
        match class {
            Class::Plain => segment.add(false),
            Class::Dot => segment.add(true),
            Class::Slash => segment.end()?,
            Class::Backslash => return Err(Refusal::Backslash),
            Class::Bad => return Err(Refusal::BadCharacter),
            Class::Percent => match decoded(bytes.next(), bytes.next())? {
                b'/' => {
                    encoded_slash = true;
                    segment.end()?;
                }
                _ => segment.add(false),
            },
        }
    }
    segment.end()?;
    if encoded_slash && !slashes_stand_in_names(text) {
        return Err(Refusal::EncodedSlash);
    }
    Ok(CanonicalPath { text })
}

/// The byte of an escape, if it is one that may be escaped.
fn decoded(high: Option<&u8>, low: Option<&u8>) -> Result<u8, Refusal> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(Refusal::BadEscape) };
    #[expect(clippy::cast_possible_truncation, reason = "two hex digits are a byte")]
    let byte = (high * 16 + low) as u8;
    match byte {
        b'.' => Err(Refusal::DotSegment),
        b'\\' => Err(Refusal::Backslash),
        0..=0x1f | 0x7f => Err(Refusal::EncodedControl),
        b'-' | b'_' => Err(Refusal::NeedlessEscape),
        byte if byte.is_ascii_alphanumeric() => Err(Refusal::NeedlessEscape),
        byte => Ok(byte),
    }
}

#[derive(Default)]
struct Segment {
    length: usize,
    dots: usize,
}

impl Segment {
    fn add(&mut self, dot: bool) {
        self.length += 1;
        self.dots += usize::from(dot);
    }

    fn end(&mut self) -> Result<(), Refusal> {
        let Self { length, dots } = std::mem::take(self);
        match length {
            0 => Err(Refusal::EmptySegment),
            1 | 2 if dots == length => Err(Refusal::DotSegment),
            _ => Ok(()),
        }
    }
}

/// Whether each encoded slash stands where a segment is a name or an id. The words of an API are the
/// first ones of a path, and those behind a deployment.
fn slashes_stand_in_names(text: &str) -> bool {
    let has = |part: &str| part.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2f"));
    let mut segments = text.split('/').skip(1);
    let (first, second, third) = (segments.next(), segments.next(), segments.next());
    let is_name = match (first, second) {
        // /v1/{word}/...
        (Some("v1"), Some(word)) => !has(word),
        // /openai/v1/{word}/...
        (Some("openai"), Some("v1")) => third.is_some_and(|word| !has(word)),
        // /openai/deployments/{name}/{word}/{word}
        (Some("openai"), Some("deployments")) => !segments.clone().any(has),
        (Some("openai"), Some(word)) => !has(word),
        // /passthrough/{provider}/...: what the provider's own API makes of it is its own matter.
        (Some("passthrough"), Some(provider)) => !has(provider),
        // Paths of the other dialects hold models and ids as well.
        (Some("v1beta" | "model" | "anthropic" | "genai" | "bedrock"), Some(_)) => true,
        _ => false,
    };
    is_name && first.is_some_and(|first| !has(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &[&str] = &[
        "/",
        "/v1/chat/completions",
        "/v1/models/gpt-4.1",
        "/v1/models/..a",
        "/v1/models/...",
        "/v1/models/openai%2Fgpt-4o",
        "/v1/models/openai%2fgpt-4o",
        "/v1/models/a%3Ab%40c%20d",
        "/v1/models/org/model:provider@2025",
        "/v1/models/m%C3%A9",
        "/v1/models/100%25",
        "/v1/models/a%252Fb",
        "/v1/models/x%7Ey",
        "/v1/files/a%2Fb/content",
        "/openai/v1/models/a%2Fb",
        "/openai/deployments/a%2Fb/chat/completions",
        "/openai/files/a%2Fb",
        "/passthrough/gemini/v1beta/models/a:generateContent",
        "/passthrough/replicate/v1/a%2Fb",
        "/v1beta/models/a%2Fb:generateContent",
        "/model/arn%3Aaws%3Abedrock%2Fx/converse",
        "/api/config/status",
    ];

    const BAD: &[(&str, Refusal)] = {
        use Refusal::{
            Backslash, BadCharacter, BadEscape, BadTarget, DotSegment, EmptySegment, EncodedControl, EncodedSlash,
            NeedlessEscape,
        };
        &[
            ("", BadTarget),
            ("*", BadTarget),
            ("v1/models", BadTarget),
            ("//api", EmptySegment),
            ("//", EmptySegment),
            ("/v1//models", EmptySegment),
            ("/v1/models/", EmptySegment),
            ("/v1/models/%2F", EmptySegment),
            ("/v1/models/a%2F", EmptySegment),
            ("/v1/models/a%2F%2Fb", EmptySegment),
            ("/.", DotSegment),
            ("/v1/./models", DotSegment),
            ("/v1/../api/providers", DotSegment),
            ("/v1/models/..", DotSegment),
            ("/v1/models/a%2F..%2Fb", DotSegment),
            ("/v1/models/a%2F.", DotSegment),
            ("/v1/%2e%2e/api", DotSegment),
            ("/v1/.%2E/api", DotSegment),
            ("/v1/%2E/api", DotSegment),
            ("/v1\\models", Backslash),
            ("/v1/%5C..%5Capi", Backslash),
            ("/v1/models/a%5cb", Backslash),
            ("/v1/models/a%", BadEscape),
            ("/v1/models/a%2", BadEscape),
            ("/v1/models/a%zz", BadEscape),
            ("/v1/models/a%u0041", BadEscape),
            ("/v1/models/a%00b", EncodedControl),
            ("/v1/models/a%0d%0ab", EncodedControl),
            ("/v1/models/a%1Bb", EncodedControl),
            ("/v1/models/a%7f", EncodedControl),
            ("/v1/ch%61t/completions", NeedlessEscape),
            ("/%76%31/models", NeedlessEscape),
            ("/v1/models/gpt%2D4", NeedlessEscape),
            ("/v1/a%5Fb", NeedlessEscape),
            ("/v1/models;x=1", BadCharacter),
            ("/v1/models#a", BadCharacter),
            ("/v1/models?a", BadCharacter),
            ("/v1/models/a b", BadCharacter),
            ("/v1/models/\"a\"", BadCharacter),
            ("/v1/models/{id}", BadCharacter),
            ("/v1/models/a|b", BadCharacter),
            ("/v1/models/[a]", BadCharacter),
            ("/v1/models/a^b", BadCharacter),
            ("/v1/models/é", BadCharacter),
            ("/v1/models/a\u{7f}", BadCharacter),
            ("/v1/models/a\tb", BadCharacter),
            ("/v1%2Fmodels", EncodedSlash),
            ("/v1/chat%2Fcompletions", EncodedSlash),
            ("/v1/files%2Fa", EncodedSlash),
            ("/v1/providers%2Fa/x", EncodedSlash),
            ("/openai%2Fv1/models", EncodedSlash),
            ("/openai/v1%2Fmodels", EncodedSlash),
            ("/openai/v1/chat%2Fcompletions", EncodedSlash),
            ("/openai/files%2Fa", EncodedSlash),
            ("/openai/deployments/a/chat%2Fcompletions", EncodedSlash),
            ("/passthrough%2Fopenai/v1/models", EncodedSlash),
            ("/passthrough/openai%2Fv1/models", EncodedSlash),
            ("/api%2Fconfig/status", EncodedSlash),
            ("/api/config%2Fstatus", EncodedSlash),
            ("/manage/v1/providers%2Fa", EncodedSlash),
        ]
    };

    #[test]
    fn paths() {
        for text in GOOD {
            assert_eq!(path(text).map(|path| path.as_str()), Ok(*text));
        }
        for (text, refusal) in BAD {
            assert_eq!(path(text), Err(*refusal), "{text}");
        }
        println!("{} paths", GOOD.len() + BAD.len());
    }

    fn judge(version: Version, target: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        canonical(&request.body(()).unwrap()).map(|path| assert_eq!(path.as_str(), "/v1/models"))
    }

    #[test]
    fn hosts() {
        use Refusal::{AuthorityMismatch, BadHost, BadTarget, DoubleHost, MissingHost};
        let plain = |host: &str| judge(Version::HTTP_11, "/v1/models?x=../%2e", &[("host", host)]);
        for host in
            ["localhost", "127.0.0.1:8080", "[::1]:8080", "[::1]", "[::ffff:1.2.3.4]", "my_box.local:1", "a-b.C"]
        {
            assert_eq!(plain(host), Ok(()), "{host}");
        }
        for host in [
            "",
            " ",
            "x/?",
            "x/",
            "x?y",
            "x/#@y",
            "x#",
            "a@b",
            "a b",
            "a,b",
            "a:",
            "a:b",
            "a:123456",
            "a:1:2",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "[::1]:",
            "[::1%25eth0]",
            "[x]",
            "x\\y",
            "http://x",
            ":80",
            "%61",
        ] {
            assert_eq!(plain(host), Err(BadHost), "{host:?}");
        }
        let http1 = |target: &str, hosts: &[(&str, &str)]| judge(Version::HTTP_11, target, hosts);
        assert_eq!(http1("/v1/models", &[]), Err(MissingHost));
        assert_eq!(judge(Version::HTTP_10, "/v1/models", &[]), Err(MissingHost));
        assert_eq!(http1("/v1/models", &[("host", "a"), ("host", "a")]), Err(DoubleHost));
        assert_eq!(http1("http://a/v1/models", &[("host", "A")]), Ok(()));
        assert_eq!(http1("http://a/v1/models", &[("host", "b")]), Err(AuthorityMismatch));
        assert_eq!(http1("http://a:80/v1/models", &[("host", "a")]), Err(AuthorityMismatch));
        assert_eq!(http1("http://u@a/v1/models", &[("host", "a")]), Err(AuthorityMismatch));
        assert_eq!(http1("http://a/v1/models", &[]), Err(MissingHost));
        assert_eq!(http1("ftp://a/v1/models", &[("host", "a")]), Err(BadTarget));
        assert_eq!(http1("a:80", &[("host", "a:80")]), Err(BadTarget));
        assert_eq!(http1("*", &[("host", "a")]), Err(BadTarget));
        let http2 = |hosts: &[(&str, &str)]| judge(Version::HTTP_2, "http://a:1/v1/models", hosts);
        assert_eq!(http2(&[]), Ok(()));
        assert_eq!(http2(&[("host", "a:1")]), Ok(()));
        assert_eq!(http2(&[("host", "a")]), Err(AuthorityMismatch));
        assert_eq!(judge(Version::HTTP_2, "/v1/models", &[]), Err(MissingHost));
        let connect = Request::builder().method("CONNECT").uri("a:80").header("host", "a:80").body(()).unwrap();
        assert_eq!(canonical(&connect), Err(BadTarget));
    }

    #[test]
    fn headers() {
        use Refusal::{AmbiguousHeader, BadContentLength, BadTransferEncoding};
        let with = |headers: &[(&str, &str)]| {
            let headers: Vec<_> = [("host", "a")].iter().chain(headers).copied().collect();
            judge(Version::HTTP_11, "/v1/models", &headers)
        };
        assert_eq!(with(&[("transfer-encoding", "Chunked")]), Ok(()));
        assert_eq!(with(&[("content-length", "0")]), Ok(()));
        assert_eq!(with(&[("content-length", "1024"), ("x-trace_id", "1"), ("openai_beta", "x")]), Ok(()));
        for value in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "", "chunked;q=1"] {
            assert_eq!(with(&[("transfer-encoding", value)]), Err(BadTransferEncoding), "{value}");
        }
        let chunked = ("transfer-encoding", "chunked");
        assert_eq!(with(&[chunked, chunked]), Err(BadTransferEncoding));
        assert_eq!(with(&[chunked, ("content-length", "3")]), Err(BadTransferEncoding));
        for value in ["03", "+3", "-3", "0x3", "3,3", "3 ", "", "00"] {
            assert_eq!(with(&[("content-length", value)]), Err(BadContentLength), "{value}");
        }
        assert_eq!(with(&[("content-length", "3"), ("content-length", "3")]), Err(BadContentLength));
        for name in ["x_api_key", "X-Api_Key", "x_forwarded_for", "transfer_encoding", "x_bf_api_key", "content_length"]
        {
            assert_eq!(with(&[(name, "1")]), Err(AmbiguousHeader), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// What an upstream that decodes once would see has no empty and no dot segment either.
        #[test]
        fn an_accepted_path_stays_one_when_decoded(pieces in prop::collection::vec(prop::sample::select(vec![
            "/", "/", "v1", "a", ".", "..", "%2e", "%2F", "%2f", "%5c", "\\", "%25", "%", "%00", ";", "models", "openai", "é",
        ]), 0..10)) {
            let text = format!("/{}", pieces.concat());
            if path(&text).is_ok() && text != "/" {
                let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
                for segment in decoded.split('/').skip(1) {
                    prop_assert!(!matches!(segment, "" | "." | ".."), "{}", text);
                }
                prop_assert!(!decoded.contains(['\\', '\0']));
            }
        }
    }
}
