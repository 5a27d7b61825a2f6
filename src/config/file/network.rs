//! `network_config` (bifrost.md 1.4, with the decisions of CONTRACT 2).

use std::time::Duration;

use super::Members;
use crate::config::SecretRef;
use crate::config::record::record;
use crate::config::scalar::{Millis, Seconds, Whole};

record! {
    /// How a provider is reached.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct NetworkFile {
        /// Stands before the operation's path, with or without the version prefix.
        pub base_url: Option<SecretRef>,
        /// Added to every upstream call.
        pub extra_headers: Option<Members<SecretRef>>,
        /// Time to connect, TLS included; default 5.
        pub connect_timeout_in_seconds: Option<Duration> as Seconds<1>,
        /// Time to the first byte of the answer; default 600.
        pub default_request_timeout_in_seconds: Option<Duration> as Seconds<1>,
        /// Longest gap between bytes of a stream; default 60.
        pub stream_idle_timeout_in_seconds: Option<Duration> as Seconds<1>,
        /// Further attempts on a target when each of its keys had its turn; default 0.
        pub max_retries: Option<u64> as Whole<0, 100>,
        /// First wait before a retry; an integer counts milliseconds; default 500.
        pub retry_backoff_initial: Option<Duration> as Millis<1>,
        /// Longest wait before a retry; an integer counts milliseconds; default 5000.
        pub retry_backoff_max: Option<Duration> as Millis<1>,
        /// An idle upstream connection is closed after this; default 30.
        pub keep_alive_timeout_in_seconds: Option<Duration> as Seconds<1>,
        /// Most connections at a time; who finds all in use waits for one as long as for a connection.
        pub max_conns_per_host: Option<u64> as Whole<1, 10_000>,
        /// Speak HTTP/2 only: over TLS, or with prior knowledge in clear.
        pub enforce_http2: Option<bool>,
        /// Accept any certificate; excludes ca_cert_pem.
        pub insecure_skip_verify: Option<bool>,
        /// Certificates to trust instead of the system's.
        pub ca_cert_pem: Option<SecretRef>,
        /// The addresses of this provider may be private although an API named them; set by hand alone.
        pub allow_private_network: Option<bool>,
        /// base_url must lead to public addresses; written by APIs with the base_url that they name.
        pub public_address_only: Option<bool>,
        /// Anthropic beta features by name or beginning: false = held back, absent = let through.
        pub beta_header_overrides: Option<Members<bool>>,
        /// Abort streams that are too slow.
        pub stream_throughput_guard: Option<ThroughputGuardFile>,
    }
}

record! {
    /// When a stream counts as too slow.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ThroughputGuardFile {
        /// Least output.
        pub minimum_output_characters_per_second: Option<u64> as Whole<1, 100_000>,
        /// Measured over this; default 5.
        pub probe_window_in_seconds: Option<Duration> as Seconds<1000>,
    }
}
