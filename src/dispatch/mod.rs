//! Which model, which key, and what a fault means: pure and seeded.
//!
//! A [`Plan`] answers one question at a time (`next`), so it is O(1) over a thousand keys and never
//! stale after a 429. Does no I/O, reads no clock, knows no HTTP.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::dialect::Endpoint;
use crate::id::{ModelName, ProviderName, UpstreamModel};
use crate::snapshot::Key;
use crate::ticks::Ticks;

/// What routing knows of a request.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    pub endpoint: Endpoint,
    pub stream: bool,
    /// As the caller wrote it, prefix and all; `None` for calls without a model.
    pub model: Option<ModelName>,
    /// `?provider=` of a call without a model.
    pub provider: Option<ProviderName>,
    /// Rows that a bare name means on this path, best first; empty on `/v1`.
    pub native: &'static [&'static str],
    /// Body `fallbacks`.
    pub fallbacks: SmallVec<[ModelName; 2]>,
    pub pin: Option<Pin>,
}

/// `x-bf-api-key-id` or `x-bf-api-key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    Id(String),
    Name(String),
}

/// A step of a route: one provider, one model name as this provider is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index into `Snapshot::providers`.
    pub provider: u32,
    /// `None` for calls without a model.
    pub model: Option<ModelName>,
}

/// One key to try now.
#[derive(Clone, Debug)]
pub struct Pick {
    pub key: Arc<Key>,
    /// After the alias of the chosen key.
    pub model: Option<UpstreamModel>,
    /// Index of the target in the plan: 0 is the first choice.
    pub target: usize,
}

/// Nothing left to try.
#[derive(Clone, Debug, PartialEq)]
pub enum NobodyLeft {
    /// Every key that could serve is only cooling; the earliest is free again at this time.
    Cooling { until: Ticks },
    /// Disabled, filtered out, unresolved, benched.
    NotEligible,
    /// All eligible keys were tried.
    Exhausted,
}
