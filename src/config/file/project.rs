//! `projects`, `prices` and `state`.

use crate::config::SecretRef;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectFile {
    pub id: Option<String>,
    pub keys: Option<Vec<ProjectKeyFile>>,
    pub models: Option<Vec<String>>,
    pub passthrough: Option<bool>,
    pub pin: Option<bool>,
    pub budgets: Option<Vec<BudgetFile>>,
    /// `open` or `closed`.
    pub on_state_outage: Option<String>,
}

/// Exactly one of `hash` (`blake3:<64 hex>`) and `value`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectKeyFile {
    pub name: Option<String>,
    pub hash: Option<String>,
    pub value: Option<SecretRef>,
    pub rate_limit_per_minute: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetFile {
    pub id: Option<String>,
    pub limit_usd: Option<f64>,
    pub limit_tokens: Option<u64>,
    /// `day`, `week`, `month`.
    pub period: Option<String>,
    /// `calendar` or `rolling`.
    pub window: Option<String>,
}

/// `prices.<upstream model>`, USD per million tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PriceFile {
    pub input_usd_per_mtok: Option<f64>,
    pub cached_input_usd_per_mtok: Option<f64>,
    pub cache_write_usd_per_mtok: Option<f64>,
    pub output_usd_per_mtok: Option<f64>,
    pub reasoning_usd_per_mtok: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateFile {
    pub dir: Option<String>,
    pub redis: Option<RedisFile>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedisFile {
    pub url: Option<SecretRef>,
}
