//! `providers.<name>`.

use super::{KeyFile, Members, NetworkFile};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderFile {
    pub keys: Option<Vec<KeyFile>>,
    pub network_config: Option<NetworkFile>,
    pub custom_provider_config: Option<CustomProviderFile>,
    /// Present in Bifrost's files; a Problem when set to anything that we would have to act on.
    pub concurrency_and_buffer_size: Option<serde_json::Value>,
    pub proxy_config: Option<serde_json::Value>,
    pub send_back_raw_request: Option<bool>,
    pub send_back_raw_response: Option<bool>,
    pub store_raw_request_response: Option<bool>,
    pub openai_config: Option<serde_json::Value>,
}

/// `custom_provider_config` (bifrost.md 1.3).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomProviderFile {
    pub base_provider_type: Option<String>,
    pub is_key_less: Option<bool>,
    /// Absent = every request type; present = only those that are true.
    pub allowed_requests: Option<Members<bool>>,
    /// Request type to path (joined to base_url) or full URL.
    pub request_path_overrides: Option<Members<String>>,
}
