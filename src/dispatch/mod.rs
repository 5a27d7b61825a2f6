//! Which model, which key, and what a fault means: pure and seeded.
//!
//! A [`Plan`] answers one question at a time (`next`), so it is O(1) over a thousand keys and never
//! stale after a 429. Does no I/O, reads no clock, knows no HTTP.

mod backoff;
mod dice;
pub mod explain;
mod pick;
mod plan;
#[cfg(test)]
mod pool_tests;
#[cfg(test)]
mod share_tests;
mod trouble;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

pub use dice::Dice;
pub use explain::{KeyReason, Reason, explain};
pub use plan::{Plan, plan};
use smallvec::SmallVec;
pub use verdict::{Next, Policy, Verdict, judge};

use crate::dialect::{Dialect, Endpoint, Operation};
use crate::error::{GatewayError, Kind};
use crate::id::{ModelName, ProviderName, UpstreamModel};
use crate::snapshot::Key;
use crate::snapshot::index::Ineligible;
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

/// One key to try now. Its attempt owes the key's health a record: a [`Verdict::record`],
/// [`verdict::succeeded`], or [`verdict::untold`] when the caller left.
#[derive(Clone, Debug)]
pub struct Pick {
    pub key: Arc<Key>,
    /// Index into `Snapshot::providers`.
    pub provider: u32,
    /// After the alias of the chosen key.
    pub model: Option<UpstreamModel>,
    /// Index of the target in the plan: 0 is the first choice.
    pub target: usize,
    /// To be waited for before the key is asked again; nothing at its first turn.
    pub wait: Duration,
}

/// Nothing left to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NobodyLeft {
    /// Nothing was tried, and a key that could serve is only cooling; free again at this time.
    Cooling { until: Ticks },
    /// Nothing was tried: a breaker is open, or another request is probing.
    Recovering { until: Ticks },
    /// Disabled, filtered out, unresolved, benched.
    NotEligible,
    /// All that could be tried was tried.
    Exhausted,
}

/// Why there is nothing to plan: known before any key is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlan {
    /// No provider serves a model of this name; these are configured.
    ModelNotFound {
        model: ModelName,
        providers: Vec<ProviderName>,
    },
    UnknownRoute {
        route: ModelName,
    },
    /// `?provider=` names none.
    UnknownProvider {
        provider: ProviderName,
    },
    /// None of these providers does this operation (`allowed_requests`).
    NotServed {
        providers: Vec<ProviderName>,
        operation: Operation,
    },
    /// None of these providers speaks the caller's dialect, and nothing is translated yet.
    OtherDialect {
        providers: Vec<ProviderName>,
        dialect: Dialect,
    },
    /// No provider at all that could take a call without a model.
    NoProvider,
    /// The first choice has no such key.
    PinUnknown {
        pin: Pin,
    },
    PinIneligible {
        pin: Pin,
        why: Ineligible,
    },
}

/// Names that an error message repeats at most.
const NAMES_SHOWN: usize = 10;
/// Characters of a caller's name that an error message repeats at most.
const CHARS_SHOWN: usize = 128;

impl NoPlan {
    /// As an error for the caller. What it repeats is his own words and names of providers.
    pub fn to_error(&self) -> GatewayError {
        match self {
            Self::ModelNotFound { model, providers } => {
                let model = shown(model.as_str());
                let hint = match providers.as_slice() {
                    [] => "no provider is configured".to_owned(),
                    some => format!("say provider/model, with one of: {}", names(some)),
                };
                let message = format!("no provider serves a model named \"{model}\"; {hint}");
                GatewayError::caller(Kind::ModelNotFound, "model_not_found", message).param("model")
            }
            Self::UnknownRoute { route } => {
                let message = format!("there is no route named \"{}\"", shown(route.as_str()));
                GatewayError::caller(Kind::ModelNotFound, "model_not_found", message).param("model")
            }
            Self::UnknownProvider { provider } => {
                let message = format!("there is no provider named \"{}\"", shown(provider.as_str()));
                GatewayError::caller(Kind::BadRequest, "provider_not_found", message).param("provider")
            }
            Self::NotServed { providers, operation } => {
                let message = format!("{} is not served by {}", operation.as_str(), names(providers));
                GatewayError::caller(Kind::Unsupported, "unsupported_operation", message)
            }
            Self::OtherDialect { providers, dialect } => {
                let message = format!(
                    "this call is in the {} dialect, which {} does not speak; translation between dialects is not there yet",
                    dialect.label(),
                    names(providers)
                );
                GatewayError::caller(Kind::Unsupported, "translation_not_supported", message)
            }
            Self::NoProvider => GatewayError::gateway(
                Kind::NoEligibleKey,
                "no_eligible_keys",
                "no provider is configured for this call",
            ),
            Self::PinUnknown { pin } => {
                let message = format!("the pinned key {} is not a key of the provider asked for", pin.shown());
                GatewayError::caller(Kind::BadRequest, "key_not_found", message).param(pin.header())
            }
            Self::PinIneligible { pin, why } => {
                let message =
                    format!("the pinned key {} cannot serve this: {}", pin.shown(), Reason::from(why.clone()).text());
                GatewayError::gateway(Kind::NoEligibleKey, "no_eligible_keys", message).param(pin.header())
            }
        }
    }
}

impl Pin {
    fn fits(&self, key: &Key) -> bool {
        match self {
            Self::Id(id) => key.id.as_str() == id,
            Self::Name(name) => key.name.as_str() == name,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Id(text) | Self::Name(text) => format!("\"{}\"", shown(text)),
        }
    }

    /// The header that it came in.
    pub fn header(&self) -> &'static str {
        match self {
            Self::Id(_) => "x-bf-api-key-id",
            Self::Name(_) => "x-bf-api-key",
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(CHARS_SHOWN).collect()
}

fn names(providers: &[ProviderName]) -> String {
    let mut shown: Vec<&str> = providers.iter().take(NAMES_SHOWN).map(ProviderName::as_str).collect();
    if providers.len() > NAMES_SHOWN {
        shown.push("…");
    }
    shown.join(", ")
}
