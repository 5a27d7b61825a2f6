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
        /// Most connections to one host.
        pub max_conns_per_host: Option<u64> as Whole<1, 10_000>,
        /// Speak HTTP/2 only.
        pub enforce_http2: Option<bool>,
        /// Accept any certificate; excludes ca_cert_pem.
        pub insecure_skip_verify: Option<bool>,
        /// Certificates to trust instead of the system's.
        pub ca_cert_pem: Option<SecretRef>,
        /// Let management APIs name private addresses as base_url.
        pub allow_private_network: Option<bool>,
        /// Anthropic beta headers to let through or hold back.
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
