//! What is refused before any path is matched.
//!
//! Two parts of a chain that read one request in two ways are the usual hole of a gateway, so a head
//! that can be read in two ways is refused here: authority, framing, path. [`CanonicalPath`] has no
//! other maker, and nothing below decodes a path again. Not seen here: a fragment, which the `http`
//! crate cuts off before anybody reads the target, so that all of us read the same.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request};

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
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if let Some(length) = length.map(HeaderValue::as_bytes) {
        let plain = matches!(length, [b'0'] | [b'1'..=b'9', ..]) && length.iter().all(u8::is_ascii_digit);
        if !plain || lengths.next().is_some() {
            return Err(Refusal::BadContentLength);
        }
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        let chunked = encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !chunked || encodings.next().is_some() || length.is_some() {
            return Err(Refusal::BadTransferEncoding);
        }
    }
    match headers.keys().any(|name| is_disguise(name.as_str())) {
        true => Err(Refusal::AmbiguousHeader),
        false => Ok(()),
    }
}

/// Whether a name has underscores and is, with hyphens in their place, one that decides something.
fn is_disguise(name: &str) -> bool {
    const EXACT: [&str; 6] =
        ["proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "content-length", "transfer-encoding"];
    const BEGIN: [&str; 3] = ["x-forwarded-", "x-bf-", "x-keyway-"];
    // How the names above begin: nearly every header is let through by this look alone.
    let suspect = matches!(
        name.as_bytes(),
        [b'x', b'-' | b'_', b'a' | b'b' | b'f' | b'g' | b'k', ..]
            | [b'a', b'p', b'i', ..]
            | [b'c', b'o', b'n', b't', ..]
            | [b'p', b'r', b'o', b'x', ..]
            | [b't', b'r', b'a', b'n', ..]
    );
    if !suspect || memchr::memchr(b'_', name.as_bytes()).is_none() {
        return false;
    }
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
    // /messages/{word} of Anthropic: tokens and batches are words, not names.
    let is_word = |before: &str, word: Option<&str>| before == "messages" && word.is_some_and(has);
    let is_name = match (first, second) {
        // /v1/{word}/...
        (Some("v1"), Some(word)) => !has(word) && !is_word(word, third),
        // /anthropic/v1/{word}/...
        (Some("anthropic"), Some("v1")) => {
            third.is_some_and(|word| !has(word) && !is_word(word, segments.clone().next()))
        }
        // /openai/v1/{word}/...
        (Some("openai"), Some("v1")) => third.is_some_and(|word| !has(word)),
        // /openai/deployments/{name}/{word}/{word}
        (Some("openai"), Some("deployments")) => !segments.clone().any(has),
        (Some("openai"), Some(word)) => !has(word),
        // /passthrough/{provider}/...: what the provider's own API makes of it is its own matter.
        (Some("passthrough"), Some(provider)) => !has(provider),
        // /v1beta/{word}/..., and below /genai.
        (Some("v1beta"), Some(word)) => !has(word),
        (Some("genai"), Some("v1beta")) => third.is_some_and(|word| !has(word)),
        // /model/{id}/{word}, and below /bedrock.
        (Some("model"), Some(_)) => third.is_none_or(|word| !has(word)),
        (Some("bedrock"), Some("model")) => segments.clone().next().is_none_or(|word| !has(word)),
        (Some("bedrock"), Some(word)) => !has(word),
        _ => false,
    };
    is_name && first.is_some_and(|first| !has(first))
}

#[cfg(test)]
mod tests;
