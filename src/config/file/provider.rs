//! `providers.<name>`.

use super::{KeyFile, Members, NetworkFile};
use crate::config::SecretRef;
use crate::config::record::record;
use crate::config::scalar::{Whole, word};

word! {
    ProxyType: "none" | "http" | "socks5" | "environment"
}

record! {
    /// A provider: its keys and how it is reached.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ProviderFile {
        /// Keys, of which one is chosen for each attempt.
        pub keys: Option<Vec<KeyFile>>,
        /// How the provider is reached.
        pub network_config: Option<NetworkFile>,
        /// Makes any name a provider that speaks like a known one.
        pub custom_provider_config: Option<CustomProviderFile>,
        /// Worker pool of Bifrost's; requests wait nowhere here.
        pub concurrency_and_buffer_size: Option<ConcurrencyFile>,
        /// Proxy on the way to the provider.
        pub proxy_config: Option<ProxyFile>,
        /// Put the upstream request into the answer; would break its bytes.
        pub send_back_raw_request: Option<bool>,
        /// Put the upstream answer into the answer; would break its bytes.
        pub send_back_raw_response: Option<bool>,
        /// Keep bodies in logs.
        pub store_raw_request_response: Option<bool>,
        /// Settings of OpenAI alone.
        pub openai_config: Option<OpenAiFile>,
    }
}

record! {
    /// A provider from config alone (bifrost.md 1.3).
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CustomProviderFile {
        /// The known provider whose API it speaks.
        pub base_provider_type: Option<String>,
        /// It takes no key; default false.
        pub is_key_less: Option<bool>,
        /// Absent = every request type; present = only those that are true.
        pub allowed_requests: Option<Members<bool>>,
        /// Request type to path (joined to base_url) or full URL.
        pub request_path_overrides: Option<Members<String>>,
    }
}

record! {
    /// Worker pool of Bifrost's.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ConcurrencyFile {
        /// Workers.
        pub concurrency: Option<u64> as Whole<1, 1_000_000>,
        /// Places in the queue.
        pub buffer_size: Option<u64> as Whole<1, 10_000_000>,
    }
}

record! {
    /// Proxy on the way to the provider.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ProxyFile {
        /// `none`, `http`, `socks5` or `environment`.
        named "type" pub kind: Option<String> as ProxyType,
        /// Of the proxy.
        pub url: Option<SecretRef>,
        /// Name at the proxy.
        pub username: Option<SecretRef>,
        /// Password at the proxy.
        pub password: Option<SecretRef>,
        /// Certificates to trust for an https proxy.
        pub ca_cert_pem: Option<SecretRef>,
        /// The proxy must be at a public address; written by APIs with the url that they name.
        pub public_address_only: Option<bool>,
    }
}

record! {
    /// Settings of OpenAI alone.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct OpenAiFile {
        /// Sends store=false with every request.
        pub disable_store: Option<bool>,
    }
}
