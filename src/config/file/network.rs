//! `network_config` (bifrost.md 1.4, with the decisions of CONTRACT 2).

use std::time::Duration;

use super::Members;
use crate::config::SecretRef;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkFile {
    pub base_url: Option<SecretRef>,
    pub extra_headers: Option<Members<SecretRef>>,
    pub connect_timeout_in_seconds: Option<Duration>,
    pub default_request_timeout_in_seconds: Option<Duration>,
    pub stream_idle_timeout_in_seconds: Option<Duration>,
    pub max_retries: Option<u64>,
    /// Integer = milliseconds.
    pub retry_backoff_initial: Option<Duration>,
    /// Integer = milliseconds.
    pub retry_backoff_max: Option<Duration>,
    pub keep_alive_timeout_in_seconds: Option<Duration>,
    pub max_conns_per_host: Option<u64>,
    pub enforce_http2: Option<bool>,
    pub insecure_skip_verify: Option<bool>,
    pub ca_cert_pem: Option<SecretRef>,
    pub allow_private_network: Option<bool>,
    pub beta_header_overrides: Option<Members<bool>>,
    pub stream_throughput_guard: Option<serde_json::Value>,
}
