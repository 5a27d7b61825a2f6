//! What is known of each provider: rows of data, and the pure functions that act on a row.
//!
//! Behaviour is read from the row. No code outside this module matches on a provider's name
//! (`tests/it/architecture.rs` looks for literals).

use http::{HeaderName, HeaderValue};

use crate::dialect::Dialect;
use crate::error::FaultClass;

/// One provider of the catalogue. Facts and sources: docs/providers.md.
#[derive(Debug)]
pub struct ProviderRow {
    /// Name under `providers` in config.json.
    pub id: &'static str,
    /// Other names for the same row, e.g. `google` for `gemini`.
    pub also: &'static [&'static str],
    /// For people and for Redeo's catalogue.
    pub label: &'static str,
    /// Origin and path before the version prefix, without a trailing slash; empty where every key
    /// names its own.
    pub base_url: &'static str,
    /// Stands between base URL and operation path; not repeated when the base URL already ends in it.
    pub version_prefix: &'static str,
    /// Dialects that its API speaks, the preferred one first.
    pub speaks: &'static [Dialect],
    pub auth: AuthKind,
    /// Model name prefixes that belong to it (bare names, CONTRACT 3.4).
    pub families: &'static [&'static str],
    /// A key must name a URL (`vllm_key_config.url` and the like, or `base_url`).
    pub needs_endpoint: bool,
    /// `value` may be empty (bifrost.md 2.2).
    pub value_optional: bool,
    /// Takes no keys at all.
    pub keyless: bool,
    /// Served inside the process: no socket is opened.
    pub in_process: bool,
    /// Deviations from the default fault table: (status, error code or "" for any, class).
    pub faults: &'static [(u16, &'static str, FaultClass)],
    /// Whether this release can serve it; a config that names another is refused.
    pub served: bool,
}

/// How a key is shown to the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthKind {
    None,
    /// `Authorization: Bearer <value>`.
    Bearer,
    /// The value in a header of this (lower-case) name.
    Header(&'static str),
    /// Azure: `api-key` or Entra token.
    Azure,
    AwsSigV4,
    GoogleOAuth,
}

/// A credential compiled into what goes onto a request head.
#[derive(Clone, Debug)]
pub enum UpstreamAuth {
    None,
    /// The value is marked sensitive.
    Header {
        name: HeaderName,
        value: HeaderValue,
    },
}
