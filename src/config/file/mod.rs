//! The records of config.json, one file per part, names as in CONTRACT 2.
//!
//! What is here is what was written: an absent member is `None`, defaults are decided in
//! `snapshot/compile`. Durations are already read (integers in the unit of the name, or `"30s"`).

pub mod key;
pub mod network;
pub mod observability;
pub mod project;
pub mod provider;
pub mod route;
pub mod server;

pub use key::{
    AliasFile, AzureKeyFile, BatchBucketFile, BatchS3File, BedrockKeyFile, KeyFile, ReplicateKeyFile, UrlKeyFile,
    VertexKeyFile, VllmKeyFile,
};
pub use network::NetworkFile;
pub use observability::ObservabilityFile;
pub use project::{BudgetFile, PriceFile, ProjectFile, ProjectKeyFile, RedisFile, StateFile};
pub use provider::{CustomProviderFile, ProviderFile};
pub use route::{RouteFile, StrategyFile, TargetFile};
pub use server::{LimitsFile, ManagementFile, ManagementKeyFile, ReferencesFile, ServerFile, TlsFile};

/// A JSON object whose members are data: order as in the file, names unique.
pub type Members<T> = Vec<(String, T)>;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigFile {
    pub schema: Option<String>,
    pub server: Option<ServerFile>,
    pub management: Option<ManagementFile>,
    pub providers: Option<Members<ProviderFile>>,
    pub routes: Option<Members<RouteFile>>,
    pub projects: Option<Vec<ProjectFile>>,
    pub prices: Option<Members<PriceFile>>,
    pub state: Option<StateFile>,
    pub observability: Option<ObservabilityFile>,
}
