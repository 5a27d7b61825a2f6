//! The records of config.json, one file per part, names as in CONTRACT 2.
//!
//! What is here is what was written: an absent member is `None`, defaults are decided in
//! `snapshot/compile`. Durations are already read (integers in the unit of the name, or `"30s"`).
//! The doc comment of a member is its description in the JSON Schema.

pub mod alias;
pub mod key;
pub mod network;
pub mod observability;
pub mod project;
pub mod provider;
pub mod route;
pub mod server;

pub use alias::AliasFile;
pub use key::{
    AzureKeyFile, BatchBucketFile, BatchS3File, BedrockKeyFile, KeyFile, ReplicateKeyFile, UrlKeyFile, VertexKeyFile,
    VllmKeyFile,
};
pub use network::{NetworkFile, ThroughputGuardFile};
pub use observability::ObservabilityFile;
pub use project::{BudgetFile, PriceFile, ProjectFile, ProjectKeyFile, RedisFile, StateFile};
pub use provider::{ConcurrencyFile, CustomProviderFile, OpenAiFile, ProviderFile, ProxyFile};
pub use route::{RouteFile, StrategyFile, TargetFile};
pub use server::{LimitsFile, ManagementFile, ManagementKeyFile, ReferencesFile, ServerFile, TlsFile};

use crate::config::record::record;

/// A JSON object whose members are data: order as in the file, names unique.
pub type Members<T> = Vec<(String, T)>;

record! {
    /// The whole file.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ConfigFile {
        /// Where editors find this schema; not read otherwise.
        named "$schema" pub schema: Option<String>,
        /// Where callers reach the gateway, and within which limits.
        pub server: Option<ServerFile>,
        /// The management APIs.
        pub management: Option<ManagementFile>,
        /// Upstream providers by name.
        pub providers: Option<Members<ProviderFile>>,
        /// Named routes: `@name` to targets.
        pub routes: Option<Members<RouteFile>>,
        /// Who may call, with what; absent = no project keys, loopback and Unix sockets only; [] = nobody.
        pub projects: Option<Vec<ProjectFile>>,
        /// Prices by upstream model name; `provider/*` is allowed.
        pub prices: Option<Members<PriceFile>>,
        /// Where spend and other lasting state is kept.
        pub state: Option<StateFile>,
        /// Logs and traces.
        pub observability: Option<ObservabilityFile>,
    }
}
