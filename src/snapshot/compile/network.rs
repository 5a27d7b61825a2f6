//! `network_config`: deadlines, trust, static headers, and where a provider is.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue};

use super::Compiler;
use super::proxy;
use crate::config::file::{NetworkFile, ProxyFile};
use crate::config::problem::pointer_to;
use crate::config::{Code, SecretRef};
use crate::limits::{
    CONNECT_TIMEOUT_DEFAULT, CONNECT_TIMEOUT_LONGEST, FIRST_BYTE_TIMEOUT_DEFAULT, FIRST_BYTE_TIMEOUT_LONGEST,
    KEEP_ALIVE_DEFAULT, KEEP_ALIVE_LONGEST, RETRY_BACKOFF_INITIAL_DEFAULT, RETRY_BACKOFF_LONGEST,
    RETRY_BACKOFF_MAX_DEFAULT, STREAM_IDLE_TIMEOUT_DEFAULT, STREAM_IDLE_TIMEOUT_LONGEST,
};
use crate::provider::{AuthKind, BaseUrl, ProviderRow};
use crate::snapshot::{Retry, Through, Timeouts, Unready};

/// The decided form. What did not resolve makes the provider's keys unready, nothing else.
pub(super) struct Network {
    pub base_url: Option<Result<BaseUrl, Unready>>,
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub keep_alive: Duration,
    pub skip_verify: bool,
    pub ca_pem: Result<Option<Arc<str>>, Unready>,
    pub extra_headers: Result<Vec<(HeaderName, HeaderValue)>, Unready>,
    pub proxy: Result<Through, Unready>,
    pub http2: bool,
    pub connections_max: Option<usize>,
    /// `base_url` must lead to public addresses.
    pub public_only: bool,
    /// Nothing of this provider has to.
    pub private_allowed: bool,
    pub betas: Arc<[(Box<str>, bool)]>,
}

/// Headers that belong to the connection, to the body or to us.
const RESERVED: [HeaderName; 13] = [
    HOST,
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
    ACCEPT_ENCODING,
    CONTENT_TYPE,
    CONTENT_LENGTH,
    CONTENT_ENCODING,
];
const RESERVED_BY_NAME: [&str; 2] = ["keep-alive", "proxy-connection"];

pub(super) fn settings(
    cx: &mut Compiler<'_>,
    file: Option<&NetworkFile>,
    proxy: Option<&ProxyFile>,
    row: Option<&'static ProviderRow>,
    // How the provider's keys are shown, if it has any.
    auth: AuthKind,
    provider: &str,
) -> Network {
    let pointer = &*pointer_to(provider, "network_config");
    let absent = NetworkFile::default();
    let file = file.unwrap_or(&absent);
    let skip_verify = file.insecure_skip_verify.unwrap_or(false);
    if skip_verify && file.ca_cert_pem.is_some() {
        let text = "a CA to verify against, and `insecure_skip_verify` that verifies nothing";
        cx.problems.error(Code::Conflict, pointer_to(pointer, "ca_cert_pem"), text).hint("keep one of the two");
    }
    Network {
        base_url: file.base_url.as_ref().and_then(|reference| base_url(cx, reference, row, pointer)),
        timeouts: timeouts(cx, file, pointer),
        retry: retry(cx, file, pointer),
        keep_alive: cx.span(
            file.keep_alive_timeout_in_seconds,
            KEEP_ALIVE_DEFAULT,
            KEEP_ALIVE_LONGEST,
            pointer_to(pointer, "keep_alive_timeout_in_seconds"),
        ),
        skip_verify,
        ca_pem: match &file.ca_cert_pem {
            Some(reference) => cx.certificates(reference, &pointer_to(pointer, "ca_cert_pem")).map(Some),
            None => Ok(None),
        },
        extra_headers: extra_headers(
            cx,
            file.extra_headers.as_deref().unwrap_or_default(),
            auth,
            &pointer_to(pointer, "extra_headers"),
        ),
        proxy: proxy::of(cx, proxy, &pointer_to(provider, "proxy_config")),
        http2: file.enforce_http2.unwrap_or(false),
        connections_max: file.max_conns_per_host.and_then(|max| usize::try_from(max).ok()),
        public_only: file.public_address_only.unwrap_or(false),
        private_allowed: file.allow_private_network.unwrap_or(false),
        betas: betas(cx, file.beta_header_overrides.as_deref().unwrap_or_default(), pointer),
    }
}

/// Longest beginnings first: the one that says most of a feature decides.
fn betas(cx: &mut Compiler<'_>, file: &[(String, bool)], pointer: &str) -> Arc<[(Box<str>, bool)]> {
    let pointer = pointer_to(pointer, "beta_header_overrides");
    for (name, _) in file {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
            cx.problems.error(Code::BadValue, pointer_to(&pointer, name), "not the name of a beta feature");
        }
    }
    let mut betas: Vec<(Box<str>, bool)> =
        file.iter().map(|(name, travels)| (name.as_str().into(), *travels)).collect();
    betas.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    betas.into()
}

fn base_url(
    cx: &mut Compiler<'_>,
    reference: &SecretRef,
    row: Option<&'static ProviderRow>,
    pointer: &str,
) -> Option<Result<BaseUrl, Unready>> {
    let at = pointer_to(pointer, "base_url");
    if row.is_some_and(|row| row.in_process) {
        cx.problems.error(Code::Conflict, at, "this provider is served inside the process and has no address");
        return None;
    }
    Some(cx.base_url(reference, &at, row.map_or("", |row| row.version_prefix)))
}

fn timeouts(cx: &mut Compiler<'_>, file: &NetworkFile, pointer: &str) -> Timeouts {
    let mut of = |value, default, longest, name| cx.span(value, default, longest, pointer_to(pointer, name));
    Timeouts {
        connect: of(
            file.connect_timeout_in_seconds,
            CONNECT_TIMEOUT_DEFAULT,
            CONNECT_TIMEOUT_LONGEST,
            "connect_timeout_in_seconds",
        ),
        first_byte: of(
            file.default_request_timeout_in_seconds,
            FIRST_BYTE_TIMEOUT_DEFAULT,
            FIRST_BYTE_TIMEOUT_LONGEST,
            "default_request_timeout_in_seconds",
        ),
        idle_gap: of(
            file.stream_idle_timeout_in_seconds,
            STREAM_IDLE_TIMEOUT_DEFAULT,
            STREAM_IDLE_TIMEOUT_LONGEST,
            "stream_idle_timeout_in_seconds",
        ),
    }
}

fn retry(cx: &mut Compiler<'_>, file: &NetworkFile, pointer: &str) -> Retry {
    if let (Some(initial), Some(max)) = (file.retry_backoff_initial, file.retry_backoff_max)
        && initial > max
    {
        let text = "`retry_backoff_initial` is longer than `retry_backoff_max`";
        cx.problems.error(Code::Conflict, pointer_to(pointer, "retry_backoff_initial"), text);
    }
    let mut of = |value, default, name| cx.span(value, default, RETRY_BACKOFF_LONGEST, pointer_to(pointer, name));
    let initial = of(file.retry_backoff_initial, RETRY_BACKOFF_INITIAL_DEFAULT, "retry_backoff_initial");
    // One of the two may be written alone, on either side of the other's default.
    let max = of(file.retry_backoff_max, RETRY_BACKOFF_MAX_DEFAULT.max(initial), "retry_backoff_max");
    Retry {
        max: file.max_retries.and_then(|max| u32::try_from(max).ok()).unwrap_or(0),
        backoff_initial: initial.min(max),
        backoff_max: max,
    }
}

fn extra_headers(
    cx: &mut Compiler<'_>,
    file: &[(String, SecretRef)],
    auth: AuthKind,
    pointer: &str,
) -> Result<Vec<(HeaderName, HeaderValue)>, Unready> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut unready = None;
    for (name, reference) in file {
        let at = pointer_to(pointer, name);
        let value = cx.header_value(reference, &at);
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            cx.problems.error(Code::BadValue, at, "not a header name");
            continue;
        };
        if RESERVED.contains(&name) || RESERVED_BY_NAME.contains(&name.as_str()) {
            cx.problems.error(Code::Conflict, at, "this header belongs to the connection or the body");
        } else if carries_key(auth, &name) {
            let problem = cx.problems.error(Code::Conflict, at, "the key's credential goes into this header");
            problem.hint("put the credential into the key's `value`");
        } else if headers.iter().any(|(other, _)| *other == name) {
            cx.problems.error(Code::Duplicate, at, "this header is there twice, ignoring case");
        } else {
            match value {
                Ok(value) => headers.push((name, value)),
                Err(why) => unready = unready.or(Some(why)),
            }
        }
    }
    unready.map_or(Ok(headers), Err)
}

fn carries_key(auth: AuthKind, name: &HeaderName) -> bool {
    match auth {
        AuthKind::None => false,
        AuthKind::Bearer | AuthKind::AwsSigV4 | AuthKind::GoogleOAuth => name == http::header::AUTHORIZATION,
        AuthKind::Header(header) => name.as_str() == header,
        AuthKind::Azure => name == http::header::AUTHORIZATION || name.as_str() == "api-key",
    }
}
