//! `observability`.

use crate::config::record::record;
use crate::config::scalar::word;

word! {
    LogLevel: "error" | "warn" | "info" | "debug" | "trace"
}

record! {
    /// Logs and traces.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ObservabilityFile {
        /// One line for each request; default true.
        pub access_log: Option<bool>,
        /// `error`, `warn`, `info`, `debug`, `trace`; default info.
        pub log_level: Option<String> as LogLevel,
        /// Where traces are sent.
        pub otlp_endpoint: Option<String>,
    }
}
