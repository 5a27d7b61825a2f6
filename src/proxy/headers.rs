//! Which headers travel: two allow-lists, one in each direction.
//!
//! What is not listed stays here. A caller's credentials, cookies and forwarding headers never go
//! upstream; an upstream's cookies, auth echoes and hop-by-hop headers never come back (CONTRACT
//! 3.3). A header that the `Connection` header names is hop-by-hop whatever its name (RFC 9110 7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::dialect::Dialect;
use crate::id::RequestId;
use crate::snapshot::{GenerationMark, Key, Ready};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const X_UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
pub const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub const X_KEYWAY_PROVIDER: HeaderName = HeaderName::from_static("x-keyway-provider");
pub const X_KEYWAY_KEY: HeaderName = HeaderName::from_static("x-keyway-key");
pub const X_KEYWAY_MODEL: HeaderName = HeaderName::from_static("x-keyway-model");
pub const X_KEYWAY_GENERATION: HeaderName = HeaderName::from_static("x-keyway-generation");
pub const X_KEYWAY_ATTEMPTS: HeaderName = HeaderName::from_static("x-keyway-attempts");

static ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// What the body of the upstream request is, as far as its head must say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// We read the answer: nothing but plain bytes will do.
    Identity,
    /// Passthrough: whatever the caller accepts.
    AsCaller,
}

/// The head of an upstream request: what the caller sent and may send, the key's own headers, the
/// credential. `Host` is replaced and the length set by the connection. Filtered in place: a new map would
/// hash every name again.
pub fn to_upstream(mut head: HeaderMap, ready: &Ready, encoding: Encoding) -> HeaderMap {
    let is_passthrough = encoding == Encoding::AsCaller;
    keep(&mut head, |name| {
        travels_upstream(name) || is_replaced(name) || is_passthrough && travels_by_passthrough(name)
    });
    match encoding {
        Encoding::AsCaller if head.contains_key(header::ACCEPT_ENCODING) => {}
        Encoding::AsCaller | Encoding::Identity => {
            head.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }
    if ready.auth.header_name() != Some(&header::AUTHORIZATION) {
        head.remove(header::AUTHORIZATION);
    }
    if !ready.betas.is_empty() {
        hold_back_betas(&mut head, &ready.betas);
    }
    for (name, value) in &ready.extra_headers {
        head.insert(name.clone(), value.clone());
    }
    ready.auth.apply(&mut head);
    head
}

/// The key under the name that the provider has for it in this dialect.
pub fn rename_key(head: &mut HeaderMap, ready: &Ready, name: &'static str) {
    if let Some(usual) = ready.auth.header_name()
        && let Some(value) = head.remove(usual)
    {
        head.insert(HeaderName::from_static(name), value);
    }
}

/// What an upstream of this dialect insists on, where the caller did not say it.
pub fn complete(head: &mut HeaderMap, dialect: Dialect) {
    if let Some((name, value)) = dialect.default_header() {
        head.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Features that the operator holds back are taken out of the list that the caller sent.
fn hold_back_betas(head: &mut HeaderMap, betas: &[(Box<str>, bool)]) {
    let travels = |feature: &str| {
        let rule = betas.iter().find(|(beginning, _)| feature.starts_with(&**beginning));
        rule.is_none_or(|(_, travels)| *travels)
    };
    let lines = head.get_all(&ANTHROPIC_BETA).iter().filter_map(|line| line.to_str().ok());
    let features = lines.flat_map(|line| line.split(',')).map(str::trim);
    let kept = features.filter(|feature| !feature.is_empty() && travels(feature)).collect::<Vec<_>>().join(",");
    head.remove(&ANTHROPIC_BETA);
    if let Some(value) = HeaderValue::from_str(&kept).ok().filter(|value| !value.is_empty()) {
        head.insert(ANTHROPIC_BETA.clone(), value);
    }
}

/// Names that need not be taken out first, because what follows always replaces or judges them.
fn is_replaced(name: &str) -> bool {
    matches!(name, "accept-encoding" | "authorization" | "host")
}

/// The head of an answer to the caller, without the gateway's own headers.
pub fn to_caller(mut head: HeaderMap, passthrough: bool) -> HeaderMap {
    if let Some(theirs) = head.remove(X_REQUEST_ID) {
        head.insert(X_UPSTREAM_REQUEST_ID, theirs);
    }
    keep(&mut head, |name| comes_back(name, passthrough));
    head
}

/// Takes out what the list does not have and what `Connection` names.
fn keep(head: &mut HeaderMap, is_listed: impl Fn(&str) -> bool) {
    let named = named_by_connection(head);
    let stays = |name: &str| is_listed(name) && !named.iter().any(|hop| hop.eq_ignore_ascii_case(name));
    let out: SmallVec<[HeaderName; 8]> = head.keys().filter(|name| !stays(name.as_str())).cloned().collect();
    for name in out {
        head.remove(name);
    }
}

/// `x-keyway-*` of an answer that a key gave.
pub fn stamp(out: &mut HeaderMap, key: &Key, model: Option<&str>, attempts: u32) {
    out.insert(X_KEYWAY_PROVIDER, key.provider_header.clone());
    out.insert(X_KEYWAY_KEY, key.key_header.clone());
    if let Some(value) = model.and_then(|m| HeaderValue::from_str(m).ok()) {
        out.insert(X_KEYWAY_MODEL, value);
    }
    out.insert(X_KEYWAY_ATTEMPTS, HeaderValue::from(attempts));
}

/// What every answer carries, whoever gave it. Where the caller's SDK looks for an id under another
/// name, an upstream's own is told beside ours.
pub fn identify(out: &mut HeaderMap, dialect: Dialect, id: &RequestId, mark: &GenerationMark) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        if let Some(name) = dialect.request_id_header()
            && let Some(theirs) = out.insert(name, value.clone())
        {
            out.insert(X_UPSTREAM_REQUEST_ID, theirs);
        }
        out.insert(X_REQUEST_ID, value);
    }
    out.insert(X_KEYWAY_GENERATION, mark.header.clone());
}

/// Header names that `Connection` lists. Almost every head says `keep-alive`, `close` or nothing,
/// hence no allocation there.
fn named_by_connection(head: &HeaderMap) -> SmallVec<[Box<str>; 1]> {
    let lines = head.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let words = lines.flat_map(|line| line.split(',')).map(str::trim);
    words.filter(|word| !["keep-alive", "close"].iter().any(|o| o.eq_ignore_ascii_case(word))).map(Box::from).collect()
}

/// Allow-list towards the upstream. `http` gives names in lower case.
fn travels_upstream(name: &str) -> bool {
    match name {
        "accept" | "accept-language" | "content-type" | "content-language" | "user-agent" => true,
        "idempotency-key" | "prefer" | "range" | "if-match" | "if-none-match" | "if-range" => true,
        "traceparent" | "tracestate" | "baggage" | "http-referer" | "referer" | "x-title" => true,
        "x-client-request-id" | "x-session-affinity" | "x-goog-api-client" | "x-goog-user-project" => true,
        _ => is_of(&["openai-", "anthropic-", "x-stainless-", "x-goog-upload-", "x-amzn-bedrock-"], name),
    }
}

/// The same for a provider's own API, where nobody reads the body: what says how it is to be read, and
/// how uploads go on.
fn travels_by_passthrough(name: &str) -> bool {
    const FAMILIES: [&str; 6] = ["content-", "if-", "x-goog-upload-", "x-upload-content-", "x-amzn-bedrock-", "x-ms-"];
    name != "content-length" && is_of(&FAMILIES, name) && !is_auth_echo(name)
}

/// Allow-list towards the caller (CONTRACT 3.3).
fn comes_back(name: &str, passthrough: bool) -> bool {
    const FAMILIES: [&str; 11] = [
        "content-",
        "retry-after",
        "x-ratelimit-",
        "ratelimit",
        "openai-",
        "anthropic-",
        "x-amzn-",
        "x-goog-",
        "x-ms-",
        "apim-",
        "x-should-retry",
    ];
    match name {
        // The framing belongs to each connection; the length is the body's to know.
        "content-length" | "content-type" => true,
        "etag" | "request-id" | "cf-ray" | "date" | "last-modified" | "accept-ranges" => true,
        "location" => passthrough,
        "x-openai-proxy-wasm" => false,
        _ => (is_of(&FAMILIES, name) || name.ends_with("-request-id")) && !is_auth_echo(name),
    }
}

/// Whether a name begins like one of a list. Every header of every message is asked: the first
/// letters are looked at before anything is called.
fn is_of(families: &[&str], name: &str) -> bool {
    let begin = name.as_bytes().first_chunk::<3>();
    families.iter().any(|family| family.as_bytes().first_chunk::<3>() == begin && name.starts_with(family))
}

/// Members of an allowed family that can carry a credential all the same.
fn is_auth_echo(name: &str) -> bool {
    // One way through the name, by first letters: a search per word costs as much as parsing the head.
    let mut rest = name.as_bytes();
    let mut holds_word = || {
        while let [first, behind @ ..] = rest {
            let word: &[&[u8]] = match first {
                b'a' => &[b"api-key", b"authorization"],
                b'c' => &[b"credential", b"cookie"],
                b's' => &[b"secret"],
                b't' => &[b"token"],
                _ => &[],
            };
            if word.iter().any(|word| rest.starts_with(word)) {
                return true;
            }
            rest = behind;
        }
        false
    };
    !name.starts_with("x-ratelimit-") && !name.starts_with("anthropic-ratelimit-") && holds_word()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towards_the_upstream() {
        for name in
            ["content-type", "user-agent", "openai-beta", "openai-organization", "x-stainless-lang", "traceparent"]
        {
            assert!(travels_upstream(name), "{name}");
        }
        for name in [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "cookie",
            "proxy-authorization",
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "te",
            "upgrade",
            "forwarded",
            "x-forwarded-for",
            "x-real-ip",
            "x-bf-api-key",
            "x-bf-vk",
            "x-keyway-anything",
            "x-amz-security-token",
            "accept-encoding",
            "expect",
        ] {
            assert!(!travels_upstream(name), "{name}");
        }
    }

    #[test]
    fn by_passthrough() {
        for name in ["content-encoding", "content-range", "x-upload-content-type", "if-modified-since"] {
            assert!(travels_by_passthrough(name) && !travels_upstream(name), "{name}");
        }
        for name in ["content-length", "x-ms-authorization-auxiliary", "x-goog-api-key", "cookie", "x-forwarded-for"] {
            assert!(!travels_by_passthrough(name), "{name}");
        }
    }

    #[test]
    fn towards_the_caller() {
        for name in [
            "content-type",
            "content-length",
            "content-encoding",
            "etag",
            "retry-after",
            "retry-after-ms",
            "x-ratelimit-remaining-tokens",
            "anthropic-ratelimit-tokens-remaining",
            "openai-processing-ms",
            "apim-request-id",
            "x-ms-region",
            "x-amzn-requestid",
            "request-id",
        ] {
            assert!(comes_back(name, false), "{name}");
        }
        for name in [
            "set-cookie",
            "www-authenticate",
            "authorization",
            "x-goog-api-key",
            "x-ms-authorization-auxiliary",
            "x-amzn-security-token",
            "server",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "alt-svc",
            "strict-transport-security",
            "location",
        ] {
            assert!(!comes_back(name, false), "{name}");
        }
        assert!(comes_back("location", true));
    }

    #[test]
    fn betas_are_held_back_by_their_beginnings() {
        let rules: [(Box<str>, bool); 3] =
            [("computer-use-2025".into(), true), ("computer-use".into(), false), ("x".into(), false)];
        for (sent, travels) in [
            (&["a-1,computer-use-2024, computer-use-2025-01"][..], Some("a-1,computer-use-2025-01")),
            (&["x-1", " b-2 ,"], Some("b-2")),
            (&["x-1,x"], None),
            (&[], None),
        ] {
            let mut head = HeaderMap::new();
            for line in sent {
                head.append(&ANTHROPIC_BETA, HeaderValue::from_static(line));
            }
            hold_back_betas(&mut head, &rules);
            assert_eq!(head.get(&ANTHROPIC_BETA).map(|value| value.to_str().unwrap()), travels, "{sent:?}");
        }
    }

    #[test]
    fn what_connection_names_stays_here() {
        let mut head = HeaderMap::new();
        head.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, OpenAI-Beta"));
        head.insert("openai-beta", HeaderValue::from_static("x"));
        head.insert("etag", HeaderValue::from_static("y"));
        let back = to_caller(head, false);
        assert!(back.get("openai-beta").is_none());
        assert!(back.get("etag").is_some());
    }
}
