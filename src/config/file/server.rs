//! `server` and `management`.

use std::time::Duration;

use crate::config::SecretRef;
use crate::config::record::record;
use crate::config::scalar::{Seconds, Whole};

record! {
    /// Where callers reach the gateway, and within which limits.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ServerFile {
        /// `host:port`, `https://host:port`, `unix:/path?mode=0660`; default 127.0.0.1:8080.
        pub listen: Option<Vec<String>>,
        /// Certificate of the https listeners.
        pub tls: Option<TlsFile>,
        /// How long streams may go on after SIGTERM; default 25.
        pub drain_seconds: Option<Duration> as Seconds<0>,
        /// Serve beyond loopback without project keys; default false.
        pub open_data_plane: Option<bool>,
        /// Bounds of requests and connections.
        pub limits: Option<LimitsFile>,
    }
}

record! {
    /// Certificate and key in PEM, relative to the config's directory.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct TlsFile {
        /// The certificate and its chain.
        pub cert_file: Option<String>,
        /// Its private key.
        pub key_file: Option<String>,
    }
}

record! {
    /// Bounds of requests and connections.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct LimitsFile {
        /// Requests at the same time; more are answered 503 at once; default 4096.
        pub in_flight_max: Option<u64> as Whole<1, 1_000_000>,
        /// Body of a request in MiB; default 100.
        pub request_body_mb_max: Option<u64> as Whole<1, 10_240>,
        /// Head of a request in KiB; default 32.
        pub header_kb_max: Option<u64> as Whole<1, 1024>,
        /// Header fields of a request; default 100.
        pub header_count_max: Option<u64> as Whole<1, 1000>,
        /// Time for a whole request head; default 10.
        pub header_timeout_seconds: Option<Duration> as Seconds<1>,
        /// Longest gap in a request body; default 60.
        pub body_timeout_seconds: Option<Duration> as Seconds<1>,
        /// Connections at the same time; default 16384.
        pub connections_max: Option<u64> as Whole<1, 1_000_000>,
    }
}

record! {
    /// The management APIs.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ManagementFile {
        /// Own listeners; absent = those of `server`.
        pub listen: Option<Vec<String>>,
        /// Keys that may manage; absent = loopback and Unix sockets only.
        pub keys: Option<Vec<ManagementKeyFile>>,
        /// Every write answers 409 naming the file; default false.
        pub locked: Option<bool>,
        /// Key that seals credentials in this file, mostly `env.NAME`; 32 characters or more; absent = a key file in state.dir.
        pub sealing_key: Option<SecretRef>,
        /// Requests a minute and key; default 60.
        pub rate_limit_per_minute: Option<u64> as Whole<0, 10_000_000>,
        /// What an API body may refer to; absent = variables named like secrets, no files.
        pub references: Option<ReferencesFile>,
        /// Private origins, like http://127.0.0.1:11434, that an API body may name as base_url.
        pub allowed_origins: Option<Vec<String>>,
    }
}

record! {
    /// A management key: exactly one of `hash` and `value`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ManagementKeyFile {
        /// For logs.
        pub name: Option<String>,
        /// `blake3:` and 64 hexadecimal digits, as `keyway token new management` prints it.
        pub hash: Option<String>,
        /// The token itself, mostly `env.NAME`; 32 characters or more.
        pub value: Option<SecretRef>,
    }
}

record! {
    /// What an API body may refer to.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ReferencesFile {
        /// Variables, `*` allowed; KEYWAY_* never.
        pub env: Option<Vec<String>>,
        /// Files, `*` allowed.
        pub files: Option<Vec<String>>,
    }
}
