//! The immutable world that one request sees: providers, keys, routes, projects, settings.
//!
//! Made by `compile` alone and never in a bad state: defaults are decided, secrets resolved, sums
//! built. Holds nothing that changes but `Arc`s to health cells, and no socket.

pub mod compile;
pub mod destination;
pub mod diff;
#[cfg(test)]
pub mod fixture;
pub mod index;
pub mod public_mark;
pub mod reference_rule;
pub mod resolve;
pub mod route_rule;
mod secret_fields;
mod wire;

pub use compile::{CompileInput, compile, load, plaintext_literals, sealable_literals};
pub use diff::{Change, ChangeKind, diff};
pub use reference_rule::may_refer;
pub use resolve::{DryRun, Resolve, Unresolved};
pub use secret_fields::secret_fields;
pub use wire::{IssuerWay, ProxyEnvironment, ProxyKind, ProxyServer, Reach, Through, Wire};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};

use crate::budget::{Budget, Price, SpendCell, Unit};
use crate::config::Document;
use crate::dialect::Operation;
use crate::hash::{ConfigHash, Fingerprint};
use crate::health::{KeyHealth, OriginHealth};
use crate::id::{KeyId, KeyName, ProjectId, ProviderName, TransportId, UpstreamModel};
use crate::provider::{Place, ProviderRow, UpstreamAuth};
use crate::rate::RateCell;
use crate::secret::Secret;
use crate::weight::{Priority, Weight};

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    pub mark: Arc<GenerationMark>,
    /// In file order.
    pub providers: Vec<Arc<Provider>>,
    /// By name with its `@`.
    pub routes: HashMap<Box<str>, Route>,
    /// Which providers a bare model name means.
    pub index: Index,
    /// `None`: no `projects` member, hence an open data plane on loopback.
    pub projects: Option<Vec<Project>>,
    pub prices: Prices,
    /// Where limits and budgets are shared; or why that is not known.
    pub redis: Option<Result<RedisAddress, Unready>>,
    pub management: Management,
    pub server: ServerSettings,
    pub access_log: bool,
    pub log_level: LogLevel,
    /// Where files of our own lie; absolute. Made when it is first needed.
    pub state_dir: PathBuf,
    /// What seals and opens literals of this file.
    pub sealing_key: SealingKey,
    /// Pointer of each sealed field that could be opened, and what may be shown for it.
    pub masks: HashMap<Box<str>, Glimpse>,
}

/// What may be shown of a secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Glimpse {
    pub mask: Box<str>,
    /// How it begins, for Redeo's lists.
    pub prefix: Box<str>,
}

impl Glimpse {
    pub fn of(secret: &Secret) -> Self {
        Self { mask: secret.mask().into(), prefix: secret.prefix().into() }
    }
}

/// Number and hash of a generation, in an `Arc` of its own: streams hold this, never the snapshot.
#[derive(Debug)]
pub struct GenerationMark {
    /// Counts from 1 in each process.
    pub number: u64,
    /// Of the file's bytes.
    pub hash: ConfigHash,
    /// Requests that run on it.
    pub in_flight: AtomicU64,
    /// `<number>-<first 8 hex of the hash>`, the value of `x-keyway-generation`.
    pub header: HeaderValue,
}

impl GenerationMark {
    pub fn new(number: u64, hash: ConfigHash) -> Self {
        let header = HeaderValue::from_str(&format!("{number}-{}", hash.short()));
        // Digits, a dash and hex always fit.
        let header = header.unwrap_or_else(|_| HeaderValue::from_static("-"));
        Self { number, hash, in_flight: AtomicU64::new(0), header }
    }
}

#[derive(Debug)]
pub struct Provider {
    pub name: ProviderName,
    pub row: &'static ProviderRow,
    /// From `custom_provider_config`.
    pub custom: bool,
    /// In file order. A keyless provider has one key without a credential.
    pub keys: Vec<Arc<Key>>,
    pub pools: Pools,
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub allowed: AllowedRequests,
    /// Operation to path or full URL.
    pub path_overrides: HashMap<Operation, Box<str>>,
}

/// Deadlines of one provider (CONTRACT 2): each is named in its own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub first_byte: Duration,
    pub idle_gap: Duration,
}

/// Sending again what one target could not answer: `max_retries` and its back-off. Rotation over
/// keys is none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts of one request on one target, beside each key's first.
    pub max: u32,
    pub backoff_initial: Duration,
    pub backoff_max: Duration,
}

/// `allowed_requests` of a custom provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedRequests {
    All,
    /// Names of operations, `_stream` appended for streamed ones (bifrost.md 5.3).
    Only(Vec<Box<str>>),
}

#[derive(Debug)]
pub struct Key {
    pub id: KeyId,
    pub name: KeyName,
    pub provider: ProviderName,
    pub row: &'static ProviderRow,
    /// JSON pointer into the file; empty for the implicit key of a keyless provider.
    pub pointer: String,
    pub hash: ConfigHash,
    pub fingerprint: Fingerprint,
    pub rule: ModelRule,
    /// Caller's name (folded) to upstream model.
    pub aliases: Aliases,
    pub weight: Weight,
    pub priority: Priority,
    pub enabled: bool,
    pub for_batch: bool,
    /// Whether it could be used at all, and with what.
    pub ready: Result<Ready, Unready>,
    pub timeouts: Timeouts,
    pub health: Arc<KeyHealth>,
    /// Of the origin that the key's destination shares with others.
    pub origin: Arc<OriginHealth>,
    /// Values of `x-keyway-provider` and `x-keyway-key`.
    pub provider_header: HeaderValue,
    pub key_header: HeaderValue,
}

/// All that a usable key needs on the wire.
#[derive(Clone, Debug)]
pub struct Ready {
    pub transport: Arc<Transport>,
    /// Path before the operation, version prefix included: `/v1`, `/openai/v1`.
    pub base_path: Box<str>,
    /// The same without the version prefix, for passthrough.
    pub root_path: Box<str>,
    /// How the path of a call is made of them.
    pub place: Place,
    pub auth: UpstreamAuth,
    /// To whoever gives out the tokens of `auth`.
    pub issuers: Arc<IssuerWay>,
    pub extra_headers: Vec<(HeaderName, HeaderValue)>,
    /// Only this model is served (`vllm_key_config.model_name`), folded.
    pub only_model: Option<Box<str>>,
    /// `beta_header_overrides`: beginnings of values of Anthropic's beta header, and whether they travel.
    pub betas: Arc<[(Box<str>, bool)]>,
}

/// Why a key cannot be used, without its value (CONTRACT 2.3 `status`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    EnvMissing {
        name: String,
    },
    FileUnreadable {
        path: PathBuf,
    },
    /// `why` in words, of the value alone.
    SealedUnreadable {
        why: &'static str,
    },
    Incomplete {
        what: String,
    },
}

/// Where bytes go and over what trust.
#[derive(Debug)]
pub struct Transport {
    pub id: TransportId,
    pub scheme: Scheme,
    /// Host and port as they stand in `Host`.
    pub authority: Authority,
    pub host: Box<str>,
    pub port: u16,
    /// PEM of the roots to trust instead of the system's.
    pub ca_pem: Option<Arc<str>>,
    pub skip_verify: bool,
    pub keep_alive: Duration,
    /// Served inside the process: the app's in-memory upstream.
    pub in_process: bool,
    pub wire: Wire,
}

/// Whitelist and blacklist; deny wins, names are folded, `provider/`-less.
#[derive(Clone, Debug, PartialEq, Eq)]

pub struct ModelRule {
    pub allow: Allow,
    pub deny: Allow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    All,
    Set(Vec<Box<str>>),
}

/// `aliases` of one key.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    /// Exact name first, folded name second (bifrost.md 2.4).
    pub exact: HashMap<Box<str>, UpstreamModel>,
    pub folded: HashMap<Box<str>, UpstreamModel>,
    /// Names as written, in file order, for model lists.
    pub names: Vec<Box<str>>,
}

/// Keys of one provider by requested model. Filled by `index.rs`.
#[derive(Debug, Default)]
pub struct Pools {
    /// For names that set some key apart from the others, by folded name.
    pub by_model: HashMap<Box<str>, Pool>,
    /// For all other names.
    pub rest: Pool,
    /// For calls without a model: every key that serves any.
    pub any: Pool,
    /// The same three over keys with `use_for_batch_api` only.
    pub batch_by_model: HashMap<Box<str>, Pool>,
    pub batch_rest: Pool,
    pub batch_any: Pool,
}

/// Eligible keys in priority tiers, lowest number first.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub tiers: Vec<Tier>,
}

#[derive(Clone, Debug)]
pub struct Tier {
    pub priority: Priority,
    /// Index into `Provider::keys`, and the cumulative weight up to and including it. Keys of
    /// weight 0 are left out unless all are 0, when every weight counts as 1.
    pub draws: Vec<(u32, f64)>,
    /// Drained keys of the tier: used only when every drawn one is barred or tried.
    pub drained: Vec<u32>,
}

/// Providers for a bare model name.
#[derive(Debug, Default)]
pub struct Index {
    /// Folded model name to (priority, provider index), ascending: named in `models` or `aliases`.
    pub named: HashMap<Box<str>, Vec<(Priority, u32)>>,
    /// The same from the upstream's last model list.
    pub listed: HashMap<Box<str>, Vec<(Priority, u32)>>,
    /// Provider name to its place in `Snapshot::providers`.
    pub by_name: HashMap<ProviderName, u32>,
}

/// `routes.@name`.
#[derive(Debug)]
pub struct Route {
    pub name: Box<str>,
    pub strategy: Strategy,
    pub targets: Vec<RouteTarget>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Fallback,
    Weighted,
}

#[derive(Debug)]
pub struct RouteTarget {
    /// Index into `Snapshot::providers`.
    pub provider: u32,
    pub model: crate::id::ModelName,
    pub weight: Weight,
}

#[derive(Debug)]
pub struct Project {
    pub id: ProjectId,
    pub keys: Vec<AccessKey>,
    /// Patterns over `provider/model` and `@route`; `*` matches any run of characters. Folded.
    pub models: Vec<Box<str>>,
    pub passthrough: bool,
    pub pin: bool,
    pub budgets: Vec<Budget>,
    pub spend: Arc<SpendCell>,
    /// What happens while what was spent and used cannot be known: nobody is let in.
    pub closed_on_outage: bool,
}

impl Project {
    /// Some budget is one of dollars.
    pub fn counts_usd(&self) -> bool {
        self.budgets.iter().any(|budget| budget.reach.unit == Unit::NanoUsd)
    }
}

/// `state.redis.url`, taken apart.
#[derive(Clone, Debug)]
pub struct RedisAddress {
    pub host: Box<str>,
    pub port: u16,
    pub database: u16,
    pub user: Option<Box<str>>,
    pub password: Option<Secret>,
}

impl RedisAddress {
    /// For people: no user and no password.
    pub fn shown(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

/// `prices`, by folded name.
#[derive(Debug, Default)]
pub struct Prices {
    /// `model` or `provider/model`.
    pub models: HashMap<Box<str>, Price>,
    /// `provider/*`.
    pub providers: HashMap<Box<str>, Price>,
}

impl Prices {
    /// Of a model as its upstream knows it: by provider and model, by model, by provider.
    pub fn of(&self, provider: &str, model: &str) -> Option<Price> {
        let (provider, model) = (provider.to_ascii_lowercase(), model.to_ascii_lowercase());
        let whole = self.models.get(format!("{provider}/{model}").as_str());
        whole.or_else(|| self.models.get(model.as_str())).or_else(|| self.providers.get(provider.as_str())).copied()
    }
}

/// A project or management key: name and digest, or the reason why there is none.
#[derive(Debug)]
pub struct AccessKey {
    pub name: Box<str>,
    /// blake3 of the whole token; `None` = configured but unresolved, which admits nobody.
    pub digest: Option<blake3::Hash>,
    /// Requests a minute.
    pub rate_limit: u64,
    pub rate: Arc<RateCell>,
}

#[derive(Debug, Default)]
pub struct Management {
    /// `None`: no `keys` member, hence loopback only.
    pub keys: Option<Vec<AccessKey>>,
    /// `None`: same listeners as the data plane.
    pub listen: Option<Vec<ListenSpec>>,
    /// Every write through an API is refused.
    pub locked: bool,
    /// What an API body may refer to.
    pub references: References,
    /// Private origins that an API body may name as base_url: `scheme://host[:port]` in lower case.
    pub allowed_origins: Vec<Box<str>>,
}

/// `management.references`, with what it takes to judge a path.
#[derive(Debug)]
pub struct References {
    /// Names of variables, `*` allowed.
    pub env: Vec<Box<str>>,
    /// Paths as written, `*` allowed.
    pub files: Vec<Box<str>>,
    /// Of the config: relative paths count from here.
    pub dir: PathBuf,
    /// Nothing in it may be referred to.
    pub state_dir: PathBuf,
}

impl Default for References {
    fn default() -> Self {
        let env = ["*_KEY", "*_TOKEN", "*_SECRET", "AWS_*", "AZURE_*", "GOOGLE_*"].map(Into::into).into();
        Self { env, files: Vec::new(), dir: PathBuf::new(), state_dir: PathBuf::new() }
    }
}

/// Where the key comes from that seals and opens values of this file.
#[derive(Clone, Debug)]
pub enum SealingKey {
    /// `management.sealing_key`, as it resolved; where it did not, nothing steps in for it.
    Given(Result<Secret, Unready>),
    /// A file in the state directory, made when it is first needed.
    Own { file: PathBuf },
}

impl SealingKey {
    /// The key file of a state directory.
    pub fn file_in(state_dir: &Path) -> PathBuf {
        state_dir.join("sealing.key")
    }
}

#[derive(Clone, Debug)]
pub struct ServerSettings {
    pub listen: Vec<ListenSpec>,
    pub tls: Option<TlsFiles>,
    pub open_data_plane: bool,
    pub drain: Duration,
    pub limits: ServerLimits,
}

/// Certificate chain and key as PEM, read at compile so that a bad pair never becomes a generation.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub cert_pem: Arc<str>,
    pub key_pem: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    pub in_flight_max: u64,
    pub request_body_bytes_max: u64,
    pub header_bytes_max: u64,
    pub header_count_max: u64,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub connections_max: u64,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenSpec {
    /// `host` is an IP address or a name that is resolved at bind time.
    Tcp { host: Box<str>, port: u16, tls: bool },
    /// `mode`: permission bits of the socket file.
    Unix { path: PathBuf, mode: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What compile makes of a file.
#[derive(Debug)]
pub struct Compiled {
    pub snapshot: Snapshot,
    /// What it was made of.
    pub document: Arc<Document>,
    /// Referenced secret files: watched too.
    pub secret_files: Vec<PathBuf>,
    /// Of everything that the references resolved to: part of what a generation is.
    pub fingerprint: Fingerprint,
}
