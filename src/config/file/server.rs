//! `server` and `management`.

use std::time::Duration;

use crate::config::SecretRef;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerFile {
    /// `host:port`, `https://host:port`, `unix:/path?mode=0660`.
    pub listen: Option<Vec<String>>,
    pub tls: Option<TlsFile>,
    pub drain_seconds: Option<Duration>,
    pub open_data_plane: Option<bool>,
    pub limits: Option<LimitsFile>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsFile {
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitsFile {
    pub in_flight_max: Option<u64>,
    pub request_body_mb_max: Option<u64>,
    pub header_kb_max: Option<u64>,
    pub header_count_max: Option<u64>,
    pub header_timeout_seconds: Option<Duration>,
    pub body_timeout_seconds: Option<Duration>,
    pub connections_max: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManagementFile {
    pub listen: Option<Vec<String>>,
    pub keys: Option<Vec<ManagementKeyFile>>,
    pub locked: Option<bool>,
    pub sealing_key: Option<SecretRef>,
    pub rate_limit_per_minute: Option<u64>,
    pub references: Option<ReferencesFile>,
    pub allowed_origins: Option<Vec<String>>,
}

/// Exactly one of `hash` (`blake3:<64 hex>`) and `value`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManagementKeyFile {
    pub name: Option<String>,
    pub hash: Option<String>,
    pub value: Option<SecretRef>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReferencesFile {
    pub env: Option<Vec<String>>,
    pub files: Option<Vec<String>>,
}
