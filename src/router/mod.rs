//! Method and path to what is asked for: one table for everything that the gateway answers.
//!
//! Whoever checks and whoever serves get the same [`Matched`]; nobody else looks at a path. Precedence
//! (CONTRACT 3.1): management, exact paths, dialect prefixes, `/v1/*`. Reads no body, and of the head
//! only whether its sender speaks to Anthropic ([`Tongue`]).

mod admin;
pub mod canonical;

use std::borrow::Cow;
use std::ops::Range;

use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode_str;

use crate::dialect::path::Pattern;
use crate::dialect::{BodyKind, Dialect, Endpoint, Operation};
use crate::id::ModelName;
use crate::limits::MODEL_NAME_BYTES_MAX;

pub use admin::{ADMIN, AdminMatch, AdminRoute, AdminRow, Face, face};
pub use canonical::{CanonicalPath, Head, Refusal, canonical};

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Matched<'p> {
    /// A call of a dialect.
    Data(DataMatch<'p>),
    /// A provider's own API; `path` stands behind the provider and begins with a slash.
    Passthrough {
        provider: Cow<'p, str>,
        path: &'p str,
    },
    Status(StatusRoute),
    Admin(AdminMatch<'p>),
    /// A path of a dialect that this release does not speak.
    NotServed {
        dialect: Dialect,
    },
    /// The path is known, the method is not; `allow` is the value of that header.
    MethodNotAllowed {
        side: Side,
        allow: Cow<'static, str>,
    },
    NotFound {
        side: Side,
    },
}

/// Whose error shape a refusal takes, and whose credentials were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Data,
    Admin,
}

/// A call of a dialect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataMatch<'p> {
    pub endpoint: Endpoint,
    pub body: BodyKind,
    /// Behind the version prefix, as it goes to an upstream: `/chat/completions`, `/models/x`.
    pub suffix: Cow<'p, str>,
    /// Rows that a bare model name means on this path, best first; empty on `/v1`.
    pub native: &'static [&'static str],
    /// From the path: a deployment or `/models/{id}`, decoded once.
    pub model: Option<ModelName>,
    /// Where in `suffix` that model stands; an upstream that knows it under another name gets that
    /// one there. `None`: its name belongs into the body.
    pub model_at: Option<Range<usize>>,
    /// The path asks for a stream, whatever the body says.
    pub streams: bool,
    /// `suffix` stands behind the base URL itself, before any version prefix.
    pub rooted: bool,
    /// `/openai/deployments/...` and `/openai/{responses,models,files,batches}`: the query holds
    /// `api-version`.
    pub azure_style: bool,
}

/// Answered from memory, on the spot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusRoute {
    Livez,
    Readyz,
    Healthz,
    Health,
    Metrics,
}

const STATUS: [(&str, StatusRoute); 5] = [
    ("/livez", StatusRoute::Livez),
    ("/readyz", StatusRoute::Readyz),
    ("/healthz", StatusRoute::Healthz),
    ("/health", StatusRoute::Health),
    ("/metrics", StatusRoute::Metrics),
];

/// Whom the sender of a request takes us for, where the path does not say it: `/v1/models` and
/// `/v1/files` stand in two dialects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tongue {
    /// It sends `anthropic-version`.
    Anthropic,
    Unsaid,
}

static ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

impl Tongue {
    pub fn of(head: &HeaderMap) -> Self {
        if head.contains_key(&ANTHROPIC_VERSION) { Self::Anthropic } else { Self::Unsaid }
    }
}

/// What stands at and below a root that no other dialect has.
const ROOTS: [(&str, Dialect); 9] = [
    ("/v1/messages", Dialect::Anthropic),
    ("/v1/complete", Dialect::Anthropic),
    ("/anthropic", Dialect::Anthropic),
    ("/v1beta", Dialect::Gemini),
    ("/v1beta1", Dialect::Gemini),
    ("/upload", Dialect::Gemini),
    ("/genai", Dialect::Gemini),
    ("/model", Dialect::Bedrock),
    ("/bedrock", Dialect::Bedrock),
];

/// What stands in the Anthropic dialect for senders who say so.
const SHARED: [&str; 2] = ["/v1/models", "/v1/files"];

/// Whose words an error on this path takes, whatever else is wrong with it.
pub fn dialect_of(path: &str, tongue: Tongue) -> Dialect {
    let under = |root: &str| is_at_or_below(path, root);
    if tongue == Tongue::Anthropic && SHARED.iter().any(|root| under(root)) {
        return Dialect::Anthropic;
    }
    ROOTS.iter().find(|(root, _)| under(root)).map_or(Dialect::OpenAi, |(_, dialect)| *dialect)
}

/// What stands directly under `/openai` in Azure's first API.
const AZURE_WORDS: [&str; 4] = ["/responses", "/models", "/files", "/batches"];

const NATIVE_OPENAI: &[&str] = &["openai"];
const NATIVE_AZURE: &[&str] = &["azure", "openai"];
const NATIVE_ANTHROPIC: &[&str] = &["anthropic"];
const NATIVE_GEMINI: &[&str] = &["gemini"];
const NATIVE_BEDROCK: &[&str] = &["bedrock"];

/// Methods that are relayed on a path which is nobody's row.
const RELAYED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const READ: &str = "GET, HEAD";

/// Matches method and path.
pub fn find<'p>(method: &Method, path: &CanonicalPath<'p>, tongue: Tongue) -> Matched<'p> {
    let text = path.as_str();
    if admin::face(text).is_some() {
        return admin::find(method, text);
    }
    if let Some(suffix) = below(text, "/v1") {
        return match dialect_of(text, tongue) {
            Dialect::Anthropic => within(Dialect::Anthropic, method, suffix, shared(suffix)),
            _ => within(Dialect::OpenAi, method, suffix, &[]),
        };
    }
    if let Some(rest) = below(text, "/openai") {
        return azure_or_openai(method, rest);
    }
    if let Some((_, route)) = STATUS.iter().find(|(path, _)| *path == text) {
        return match is_read(method) {
            true => Matched::Status(*route),
            false => Matched::MethodNotAllowed { side: Side::Data, allow: READ.into() },
        };
    }
    if let Some(rest) = below(text, "/passthrough") {
        return passthrough(rest);
    }
    match dialect_of(text, tongue) {
        Dialect::Anthropic => match below(text, "/anthropic/v1") {
            Some(suffix) => within(Dialect::Anthropic, method, suffix, NATIVE_ANTHROPIC),
            None => Matched::NotFound { side: Side::Data },
        },
        Dialect::Gemini => gemini(method, text.strip_prefix("/genai").unwrap_or(text)),
        Dialect::Bedrock => bedrock(method, text.strip_prefix("/bedrock").unwrap_or(text)),
        Dialect::OpenAi | Dialect::Cohere => Matched::NotFound { side: Side::Data },
    }
}

/// What stands below `root`, with its slash.
fn below<'p>(text: &'p str, root: &str) -> Option<&'p str> {
    text.strip_prefix(root).filter(|rest| rest.starts_with('/'))
}

fn is_at_or_below(text: &str, root: &str) -> bool {
    text.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Ignoring case, and whatever is glued to the word: better one path too many that is never relayed.
fn starts_with_word(suffix: &str, word: &str) -> bool {
    suffix.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Gemini's own paths. An upload begins before the version, and goes where its beginning was answered.
fn gemini<'p>(method: &Method, path: &'p str) -> Matched<'p> {
    const UPLOAD: &str = "/upload/v1beta/files";
    if let Some(suffix) = below(path, "/v1beta") {
        return with_model(within(Dialect::Gemini, method, suffix, NATIVE_GEMINI), &["/models/", "/tunedModels/"]);
    }
    if path == UPLOAD {
        let endpoint = Endpoint { dialect: Dialect::Gemini, operation: Operation::Files };
        return match *method {
            Method::POST | Method::PUT => {
                let found = data(endpoint, path, BodyKind::Opaque, NATIVE_GEMINI);
                Matched::Data(DataMatch { rooted: true, ..found })
            }
            _ => Matched::MethodNotAllowed { side: Side::Data, allow: "POST, PUT".into() },
        };
    }
    match is_at_or_below(path, "/v1beta1") {
        true => Matched::NotServed { dialect: Dialect::Gemini },
        false => Matched::NotFound { side: Side::Data },
    }
}

/// Bedrock's own paths, from the root.
fn bedrock<'p>(method: &Method, path: &'p str) -> Matched<'p> {
    match path.starts_with('/') && path != "/model" {
        true => with_model(within(Dialect::Bedrock, method, path, NATIVE_BEDROCK), &["/model/"]),
        false => Matched::NotFound { side: Side::Data },
    }
}

/// Where a path holds the model, nothing goes below `roots` whose model is not known: it would slip
/// past whitelists. Case is ignored, for some upstream might.
fn with_model<'p>(matched: Matched<'p>, roots: &[&str]) -> Matched<'p> {
    let slips =
        |found: &DataMatch<'_>| found.model.is_none() && roots.iter().any(|root| starts_with_word(&found.suffix, root));
    match matched {
        Matched::Data(found) if slips(&found) => Matched::NotFound { side: Side::Data },
        matched => matched,
    }
}

/// On `/v1`, all providers that speak the dialect are listed; any other bare name means the vendor.
fn shared(suffix: &str) -> &'static [&'static str] {
    if is_at_or_below(suffix, "/models") { &[] } else { NATIVE_ANTHROPIC }
}

/// `/{provider}/{path}`.
fn passthrough(rest: &str) -> Matched<'_> {
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match rest.find('/') {
        Some(end) if end > 0 => {
            let (name, path) = rest.split_at(end);
            match percent_decode_str(name).decode_utf8() {
                Ok(provider) => Matched::Passthrough { provider, path },
                Err(_) => Matched::NotFound { side: Side::Data },
            }
        }
        _ => Matched::NotFound { side: Side::Data },
    }
}

/// Below `/openai`: OpenAI's own paths under `/v1`, and those of Azure's first API.
fn azure_or_openai<'p>(method: &Method, rest: &'p str) -> Matched<'p> {
    if let Some(suffix) = below(rest, "/v1") {
        return within(Dialect::OpenAi, method, suffix, NATIVE_OPENAI);
    }
    if let Some(deployment) = rest.strip_prefix("/deployments/") {
        let Some(end) = deployment.find('/') else { return Matched::NotFound { side: Side::Data } };
        let (name, suffix) = deployment.split_at(end);
        let Some(model) = model_name(Dialect::OpenAi, name) else { return Matched::NotFound { side: Side::Data } };
        return azure(within(Dialect::OpenAi, method, suffix, NATIVE_AZURE), Some(model));
    }
    if AZURE_WORDS.iter().any(|word| is_at_or_below(rest, word)) {
        return azure(within(Dialect::OpenAi, method, rest, NATIVE_AZURE), None);
    }
    Matched::NotFound { side: Side::Data }
}

fn azure<'p>(matched: Matched<'p>, deployment: Option<ModelName>) -> Matched<'p> {
    match matched {
        Matched::Data(data) => {
            let model_at = data.model_at.filter(|_| deployment.is_none());
            Matched::Data(DataMatch { model: deployment.or(data.model), model_at, azure_style: true, ..data })
        }
        refused => refused,
    }
}

/// Below a dialect's version prefix.
fn within<'p>(dialect: Dialect, method: &Method, suffix: &'p str, native: &'static [&'static str]) -> Matched<'p> {
    let wanted = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut known = None;
    for row in dialect.paths() {
        let Some(free) = row.pattern.fits(suffix) else { continue };
        if row.method != wanted {
            known = known.or(Some(row.pattern));
            continue;
        }
        let model_at = row.pattern.has_model().then_some(free);
        let model = match &model_at {
            Some(at) => match suffix.get(at.clone()).and_then(|raw| model_name(dialect, raw)) {
                Some(model) => Some(model),
                None => return Matched::NotFound { side: Side::Data },
            },
            None => None,
        };
        let endpoint = Endpoint { dialect, operation: row.operation };
        let found = DataMatch { model, model_at, streams: row.streams, ..data(endpoint, suffix, row.body, native) };
        return Matched::Data(found);
    }
    if let Some(pattern) = known {
        return Matched::MethodNotAllowed { side: Side::Data, allow: allowed(dialect, pattern).into() };
    }
    other(dialect, method, suffix, native)
}

fn data<'p>(endpoint: Endpoint, suffix: &'p str, body: BodyKind, native: &'static [&'static str]) -> DataMatch<'p> {
    let suffix = Cow::Borrowed(suffix);
    let (model, model_at) = (None, None);
    DataMatch { endpoint, body, suffix, native, model, model_at, streams: false, rooted: false, azure_style: false }
}

/// A path that is nobody's row: relayed as it is.
fn other<'p>(dialect: Dialect, method: &Method, suffix: &'p str, native: &'static [&'static str]) -> Matched<'p> {
    // Some upstreams ignore case; a row in another spelling would pass what the row forbids.
    let folded = suffix.to_ascii_lowercase();
    if folded != suffix && dialect.paths().iter().any(|row| row.pattern.fits(&folded).is_some()) {
        return Matched::NotFound { side: Side::Data };
    }
    if !RELAYED.split(", ").any(|relayed| relayed == method.as_str()) {
        return Matched::MethodNotAllowed { side: Side::Data, allow: RELAYED.into() };
    }
    let body = if is_read(method) { BodyKind::None } else { BodyKind::ByContentType };
    let endpoint = Endpoint { dialect, operation: Operation::Other };
    Matched::Data(data(endpoint, suffix, body, native))
}

/// The value of `allow` for the rows of one pattern.
fn allowed(dialect: Dialect, pattern: Pattern) -> String {
    let has = |method: &str| dialect.paths().iter().any(|row| row.pattern == pattern && row.method == method);
    let words = [("GET", READ), ("POST", "POST"), ("PATCH", "PATCH"), ("DELETE", "DELETE")];
    words.iter().filter(|(method, _)| has(method)).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

/// A model name out of a path, decoded once; none where it is no text or too long.
fn model_name(dialect: Dialect, raw: &str) -> Option<ModelName> {
    let name = percent_decode_str(raw).decode_utf8().ok()?;
    let name = dialect.plain_name(&name);
    (!name.is_empty() && name.len() <= MODEL_NAME_BYTES_MAX).then(|| ModelName::new(name))
}

#[cfg(test)]
mod tests;
