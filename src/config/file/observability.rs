//! `observability`.

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservabilityFile {
    pub access_log: Option<bool>,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub log_level: Option<String>,
    pub otlp_endpoint: Option<String>,
}
