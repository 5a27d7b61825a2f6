//! What is known of each provider: rows of data, and the pure functions that act on a row.
//!
//! Behaviour is read from the row. No code outside this module matches on a provider's name
//! (`tests/it/architecture.rs` looks for literals).

pub mod auth;
mod catalog;
pub mod credential;
pub mod fault;
pub mod place;
mod proxy_url;
mod reach;
pub mod retry_after;
pub mod sigv4;
pub mod url;

pub use auth::UpstreamAuth;
pub use fault::{classify, error_code};
pub use place::{Place, Spot};
pub use proxy_url::{ProxyUrl, is_exempt};
pub use reach::{AddressPlace, is_never_dialled, place_of_address};
pub use retry_after::{retry_after, retry_after_header};
pub use url::{BaseUrl, path_and_query};

use crate::dialect::{Dialect, Endpoint, Operation};
use crate::error::FaultClass;

/// What a call without a model means when nothing else says it (CONTRACT 3.1).
pub const DEFAULT_PROVIDER: &str = "openai";

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
    /// Dialects that its API speaks, the preferred one first. None: an API of its own, which is reached
    /// by its own paths alone.
    pub speaks: &'static [Dialect],
    /// Prefixes of dialects that do not stand under `version_prefix`.
    pub prefixes: &'static [(Dialect, &'static str)],
    /// Dialects of which it has these operations alone.
    pub parts: &'static [(Dialect, &'static [Operation])],
    /// Headers that a key goes under where the caller speaks this dialect.
    pub key_headers: &'static [(Dialect, &'static str)],
    /// Where it lists its models, below the version prefix, with the query that gives the longest
    /// page; empty where it cannot be asked.
    pub models_path: &'static str,
    /// What it is known to do of the OpenAI API. For those who read the docs: a path of a dialect that
    /// it speaks is relayed whether or not it stands here, for a provider grows faster than a table.
    pub operations: &'static [Operation],
    /// Operations that lie elsewhere than below the version prefix: their paths from the base URL.
    pub elsewhere: &'static [(Operation, &'static str)],
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
    /// What a rate limit holds for.
    pub rate_scope: RateScope,
    /// `GET …/models` lists what a key may use; without it a key cannot be probed free of cost.
    pub lists_models: bool,
    /// How a key is verified free of cost.
    pub verify: Verify,
    /// That list says what there is, not what a key may call: good to try a key with, and no source of
    /// names.
    pub lists_more_than_it_serves: bool,
}

/// The call that costs nothing and that only a good key gets an answer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verify {
    /// The list of models.
    Models,
    /// This one, behind the version prefix; the list is given to anybody.
    Path(&'static str),
    /// There is none.
    Nothing,
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

impl AuthKind {
    /// Whether what is shown is made for the request or fetched, so that a refusal may be met by making
    /// or fetching it once more.
    pub fn is_shown_anew(self) -> bool {
        match self {
            Self::Azure | Self::AwsSigV4 | Self::GoogleOAuth => true,
            Self::None | Self::Bearer | Self::Header(_) => false,
        }
    }
}

/// What an upstream counts its rate limit by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateScope {
    /// Each model of an account apart: other models of the key go on.
    Model,
    /// The account: a 429 rests the whole key.
    Account,
}

/// The catalogue, in the order in which docs and pickers show it.
pub fn rows() -> &'static [ProviderRow] {
    catalog::ROWS
}

/// A row by its id or by another name for it. Names are exact, as in the file.
pub fn row(name: &str) -> Option<&'static ProviderRow> {
    catalog::ROWS.iter().find(|row| row.id == name || row.also.contains(&name))
}

impl ProviderRow {
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.speaks.contains(&dialect)
    }

    /// Whether it is asked for this at all; what it makes of a path that it does not have is its own word.
    pub fn serves(&self, endpoint: Endpoint) -> bool {
        let part = self.parts.iter().find(|(of, _)| *of == endpoint.dialect);
        self.speaks(endpoint.dialect) && part.is_none_or(|(_, operations)| operations.contains(&endpoint.operation))
    }

    /// Another name of the header that a key goes under.
    pub fn key_header(&self, dialect: Dialect) -> Option<&'static str> {
        self.key_headers.iter().find(|(of, _)| *of == dialect).map(|(_, name)| *name)
    }

    /// What stands between base URL and operation path of a dialect.
    pub fn prefix(&self, dialect: Dialect) -> &'static str {
        let own = self.prefixes.iter().find(|(of, _)| *of == dialect);
        own.map_or(self.version_prefix, |(_, prefix)| prefix)
    }

    /// Path of an operation of the OpenAI API that does not lie below the version prefix.
    pub fn elsewhere(&self, endpoint: Endpoint) -> Option<&'static str> {
        let own = self.elsewhere.iter().find(|(of, _)| *of == endpoint.operation);
        own.filter(|_| endpoint.dialect == Dialect::OpenAi).map(|(_, path)| *path)
    }

    /// Whether a bare model name (folded) belongs to this vendor.
    pub fn owns(&self, folded_model: &str) -> bool {
        self.families.iter().any(|family| folded_model.starts_with(family))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// CONTRACT 3.2, in its order.
    const NAMES: [&str; 25] = [
        "openai",
        "azure",
        "anthropic",
        "bedrock",
        "vertex",
        "gemini",
        "cohere",
        "mistral",
        "groq",
        "fireworks",
        "cerebras",
        "openrouter",
        "perplexity",
        "xai",
        "deepseek",
        "together",
        "nebius",
        "parasail",
        "huggingface",
        "ollama",
        "vllm",
        "sgl",
        "replicate",
        "elevenlabs",
        "mock",
    ];

    #[test]
    fn all_rows_of_the_contract() {
        let ids: Vec<_> = rows().iter().map(|row| row.id).collect();
        assert_eq!(ids, NAMES);
        assert_eq!(row("google").map(|row| row.id), Some("gemini"));
        assert!(row("OpenAI").is_none() && row("").is_none());
        assert!(row(DEFAULT_PROVIDER).is_some());
    }

    #[test]
    fn rows_hold_together() {
        let mut names = HashSet::new();
        for row in rows() {
            for name in row.also.iter().chain([&row.id]) {
                assert!(names.insert(*name), "{name} twice");
            }
            assert!(!row.label.is_empty(), "{}", row.id);
            assert!(row.families.iter().all(|f| !f.is_empty() && *f == f.to_ascii_lowercase()), "{}", row.id);
            // A URL where the row has one, and one from the key where it has not.
            assert_eq!(
                row.base_url.is_empty(),
                row.needs_endpoint || matches!(row.auth, AuthKind::AwsSigV4 | AuthKind::GoogleOAuth),
                "{}",
                row.id
            );
            if !row.base_url.is_empty() {
                let base = BaseUrl::parse(row.base_url, row.version_prefix).expect(row.id);
                assert!(base.base_path.ends_with(row.version_prefix), "{}", row.id);
            }
            assert_eq!(row.in_process, row.id == "mock");
            if row.keyless {
                assert_eq!(row.auth, AuthKind::None);
            }
            // What is relayed has paths that mean something.
            assert!(row.speaks.iter().all(|dialect| !dialect.paths().is_empty()), "{}", row.id);
            assert_eq!(row.speaks(Dialect::OpenAi), !row.operations.is_empty(), "{}", row.id);
            assert!(row.prefixes.iter().all(|(dialect, _)| row.speaks(*dialect)), "{}", row.id);
            assert!(row.parts.iter().all(|(dialect, _)| row.speaks(*dialect)), "{}", row.id);
            assert!(row.key_headers.iter().all(|(dialect, _)| row.speaks(*dialect)), "{}", row.id);
        }
    }

    /// A bare name that two vendors claim would go to whichever stands first in the file.
    #[test]
    fn no_family_lies_inside_another() {
        let families: Vec<_> = rows().iter().flat_map(|row| row.families.iter().map(|f| (row.id, *f))).collect();
        for (id, family) in &families {
            for (other_id, other) in &families {
                assert!(id == other_id || !other.starts_with(family), "{id} {family} covers {other_id} {other}");
            }
        }
    }

    #[test]
    fn whose_model() {
        let owner = |model: &str| rows().iter().find(|row| row.owns(model)).map(|row| row.id);
        for (model, id) in [
            ("gpt-4o", Some("openai")),
            ("o3-mini", Some("openai")),
            ("text-embedding-3-small", Some("openai")),
            ("claude-sonnet-5", Some("anthropic")),
            ("gemini-3-flash", Some("gemini")),
            ("grok-4", Some("xai")),
            ("mistral-large-latest", Some("mistral")),
            ("deepseek-chat", Some("deepseek")),
            ("command-a", Some("cohere")),
            ("mock-429", Some("mock")),
            ("llama-3.3-70b", None),
            ("", None),
        ] {
            assert_eq!(owner(model), id, "{model}");
        }
    }
}
