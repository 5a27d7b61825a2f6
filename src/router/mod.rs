//! Method and path to what is asked for: one table for everything that the gateway answers.
//!
//! Whoever checks and whoever serves get the same [`Matched`]; nobody else looks at a path. Precedence
//! (CONTRACT 3.1): management, exact paths, dialect prefixes, `/v1/*`. Reads no header and no body.

mod admin;
pub mod canonical;

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::dialect::openai::{PATHS, Pattern};
use crate::dialect::{BodyKind, Dialect, Endpoint, Operation};
use crate::id::ModelName;
use crate::limits::MODEL_NAME_BYTES_MAX;

pub use admin::{ADMIN, AdminMatch, AdminRoute, AdminRow};
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

/// First segments that belong to management, whether or not something answers there yet.
const ADMIN_ROOTS: [&str; 3] = ["/api", "/manage", "/mcp"];

/// Paths of the dialects that are not spoken yet.
const OTHER_DIALECTS: [(&str, Dialect); 8] = [
    ("/v1/messages", Dialect::Anthropic),
    ("/v1/complete", Dialect::Anthropic),
    ("/anthropic", Dialect::Anthropic),
    ("/v1beta", Dialect::Gemini),
    ("/v1beta1", Dialect::Gemini),
    ("/genai", Dialect::Gemini),
    ("/model", Dialect::Bedrock),
    ("/bedrock", Dialect::Bedrock),
];

/// What stands directly under `/openai` in Azure's first API.
const AZURE_WORDS: [&str; 4] = ["/responses", "/models", "/files", "/batches"];

const NATIVE_OPENAI: &[&str] = &["openai"];
const NATIVE_AZURE: &[&str] = &["azure", "openai"];

/// Methods that are relayed on a path which is nobody's row.
const RELAYED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const READ: &str = "GET, HEAD";

/// Matches method and path.
pub fn find<'p>(method: &Method, path: &CanonicalPath<'p>) -> Matched<'p> {
    let text = path.as_str();
    if let Some(suffix) = below(text, "/v1") {
        return match suffix {
            _ if starts_with_word(suffix, "/providers") => Matched::NotFound { side: Side::Admin },
            _ => other_dialect(text).unwrap_or_else(|| openai(method, suffix, &[])),
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
    if ADMIN_ROOTS.iter().any(|root| is_at_or_below(text, root)) {
        return admin::find(method, text);
    }
    other_dialect(text).unwrap_or(Matched::NotFound { side: Side::Data })
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

fn other_dialect(text: &str) -> Option<Matched<'static>> {
    let (_, dialect) = OTHER_DIALECTS.iter().find(|(root, _)| is_at_or_below(text, root))?;
    Some(Matched::NotServed { dialect: *dialect })
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
        return openai(method, suffix, NATIVE_OPENAI);
    }
    if let Some(deployment) = rest.strip_prefix("/deployments/") {
        let Some(end) = deployment.find('/') else { return Matched::NotFound { side: Side::Data } };
        let (name, suffix) = deployment.split_at(end);
        let Some(model) = model_name(name) else { return Matched::NotFound { side: Side::Data } };
        return azure(openai(method, suffix, NATIVE_AZURE), Some(model));
    }
    if AZURE_WORDS.iter().any(|word| is_at_or_below(rest, word)) {
        return azure(openai(method, rest, NATIVE_AZURE), None);
    }
    Matched::NotFound { side: Side::Data }
}

fn azure<'p>(matched: Matched<'p>, deployment: Option<ModelName>) -> Matched<'p> {
    match matched {
        Matched::Data(data) => Matched::Data(DataMatch { model: deployment.or(data.model), azure_style: true, ..data }),
        refused => refused,
    }
}

/// Below a version prefix of OpenAI.
fn openai<'p>(method: &Method, suffix: &'p str, native: &'static [&'static str]) -> Matched<'p> {
    let wanted = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut known = None;
    for row in PATHS {
        let Some(rest) = row.pattern.fits(suffix) else { continue };
        if row.method != wanted {
            known = known.or(Some(row.pattern));
            continue;
        }
        let model = match row.pattern {
            Pattern::Model(_) => match model_name(rest) {
                Some(model) => Some(model),
                None => return Matched::NotFound { side: Side::Data },
            },
            Pattern::Exact(_) | Pattern::Below(_) => None,
        };
        return data(suffix, row.operation, row.body, native, model);
    }
    if let Some(pattern) = known {
        return Matched::MethodNotAllowed { side: Side::Data, allow: allowed(pattern).into() };
    }
    other(method, suffix, native)
}

fn data<'p>(
    suffix: &'p str,
    operation: Operation,
    body: BodyKind,
    native: &'static [&'static str],
    model: Option<ModelName>,
) -> Matched<'p> {
    let endpoint = Endpoint { dialect: Dialect::OpenAi, operation };
    Matched::Data(DataMatch { endpoint, body, suffix: Cow::Borrowed(suffix), native, model, azure_style: false })
}

/// A path that is nobody's row: relayed as it is.
fn other<'p>(method: &Method, suffix: &'p str, native: &'static [&'static str]) -> Matched<'p> {
    // Some upstreams ignore case; a row in another spelling would pass what the row forbids.
    let folded = suffix.to_ascii_lowercase();
    if folded != suffix && PATHS.iter().any(|row| row.pattern.fits(&folded).is_some()) {
        return Matched::NotFound { side: Side::Data };
    }
    if !RELAYED.split(", ").any(|relayed| relayed == method.as_str()) {
        return Matched::MethodNotAllowed { side: Side::Data, allow: RELAYED.into() };
    }
    let body = if is_read(method) { BodyKind::None } else { BodyKind::ByContentType };
    data(suffix, Operation::Other, body, native, None)
}

/// The value of `allow` for the rows of one pattern.
fn allowed(pattern: Pattern) -> &'static str {
    let has = |method: &str| PATHS.iter().any(|row| row.pattern == pattern && row.method == method);
    match (has("GET"), has("POST"), has("DELETE")) {
        (true, true, true) => "GET, HEAD, POST, DELETE",
        (true, true, false) => "GET, HEAD, POST",
        (true, false, true) => "GET, HEAD, DELETE",
        (true, false, false) => READ,
        (false, _, true) => "POST, DELETE",
        (false, _, false) => "POST",
    }
}

/// A model name out of a path, decoded once; none where it is no text or too long.
fn model_name(raw: &str) -> Option<ModelName> {
    let name = percent_decode_str(raw).decode_utf8().ok()?;
    (!name.is_empty() && name.len() <= MODEL_NAME_BYTES_MAX).then(|| ModelName::new(name.as_ref()))
}

#[cfg(test)]
mod tests;
