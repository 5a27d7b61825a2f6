//! Small worlds for tests: keys, providers and snapshots without a config file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::HeaderValue;
use http::uri::{Authority, Scheme};

use super::*;
use crate::hash::FingerprintKey;
use crate::health::registry::Listed;
use crate::id::ModelName;
use crate::provider;

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(600),
    idle_gap: Duration::from_secs(60),
};

/// A key that serves every model; fields are changed before it is put into a provider.
pub fn key(name: &str) -> Key {
    let transport = Transport {
        id: TransportId(1),
        scheme: Scheme::HTTP,
        authority: Authority::from_static("127.0.0.1:1"),
        host: "127.0.0.1".into(),
        port: 1,
        ca_pem: None,
        skip_verify: false,
        keep_alive: Duration::from_secs(30),
        in_process: false,
        wire: Wire::default(),
    };
    let ready = Ready {
        transport: Arc::new(transport),
        base_path: "/v1".into(),
        root_path: "".into(),
        place: Place::Plain,
        auth: UpstreamAuth::None,
        issuers: Arc::default(),
        extra_headers: Vec::new(),
        only_model: None,
        betas: Arc::default(),
    };
    Key {
        id: KeyId::new(format!("id-{name}")),
        name: KeyName::new(name),
        provider: ProviderName::new(""),
        row: provider::row(provider::DEFAULT_PROVIDER).unwrap(),
        pointer: String::new(),
        hash: ConfigHash::of_bytes(name.as_bytes()),
        fingerprint: Fingerprint::of(&FingerprintKey::new([0; 32]), [Some(name)]),
        rule: ModelRule { allow: Allow::All, deny: Allow::Set(Vec::new()) },
        aliases: Aliases::default(),
        weight: Weight::DEFAULT,
        priority: Priority::DEFAULT,
        enabled: true,
        for_batch: false,
        ready: Ok(ready),
        timeouts: TIMEOUTS,
        health: Arc::default(),
        origin: Arc::default(),
        provider_header: HeaderValue::from_static("p"),
        key_header: HeaderValue::from_static("k"),
    }
}

impl Key {
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = Weight::new(weight).unwrap();
        self
    }

    pub fn priority(mut self, priority: u16) -> Self {
        self.priority = Priority::new(priority).unwrap();
        self
    }

    pub fn models(mut self, names: &[&str]) -> Self {
        self.rule.allow = set(names);
        self
    }

    pub fn deny(mut self, names: &[&str]) -> Self {
        self.rule.deny = set(names);
        self
    }

    pub fn alias(mut self, entries: &[(&str, &str)]) -> Self {
        self.aliases = Aliases::new(entries.iter().copied());
        self
    }

    pub fn disabled(mut self) -> Self {
        self.enabled = false;
        self
    }

    pub fn batch(mut self) -> Self {
        self.for_batch = true;
        self
    }

    pub fn unready(mut self) -> Self {
        self.ready = Err(Unready::EnvMissing { name: "KW_MISSING".into() });
        self
    }

    pub fn only(mut self, model: &str) -> Self {
        if let Ok(ready) = &mut self.ready {
            ready.only_model = Some(model.into());
        }
        self
    }

    pub fn origin(mut self, origin: &Arc<OriginHealth>) -> Self {
        self.origin = Arc::clone(origin);
        self
    }
}

/// `["*"]` is all, as compile reads it.
fn set(names: &[&str]) -> Allow {
    match names {
        ["*"] => Allow::All,
        names => Allow::Set(names.iter().map(|name| name.to_ascii_lowercase().into()).collect()),
    }
}

/// A provider of a standard name is that row; any other is a custom one on OpenAI's row.
pub fn provider(name: &str, keys: Vec<Key>) -> Provider {
    let row = provider::row(name);
    let named = |mut key: Key| {
        key.provider = ProviderName::new(name);
        key.id = KeyId::new(format!("{name}-{}", key.name));
        Arc::new(key)
    };
    let keys: Vec<_> = keys.into_iter().map(named).collect();
    let pools = index::pools(&keys);
    Provider {
        name: ProviderName::new(name),
        row: row.unwrap_or_else(|| provider::row(provider::DEFAULT_PROVIDER).unwrap()),
        custom: row.is_none(),
        keys,
        pools,
        timeouts: TIMEOUTS,
        retry: Retry { max: 0, backoff_initial: Duration::from_millis(500), backoff_max: Duration::from_secs(5) },
        allowed: AllowedRequests::All,
        path_overrides: HashMap::new(),
    }
}

impl Provider {
    pub fn retries(mut self, max: u32) -> Self {
        self.retry.max = max;
        self
    }
}

pub fn snapshot(providers: Vec<Provider>) -> Snapshot {
    listing(providers, &Listed::new())
}

pub fn listing(providers: Vec<Provider>, listed: &Listed) -> Snapshot {
    let providers: Vec<_> = providers.into_iter().map(Arc::new).collect();
    let names: HashSet<_> = providers.iter().map(|p| p.name.clone()).collect();
    assert_eq!(names.len(), providers.len());
    let mark = GenerationMark {
        number: 1,
        hash: ConfigHash::of_bytes(b""),
        in_flight: AtomicU64::new(0),
        header: HeaderValue::from_static("1-00000000"),
    };
    let limits = ServerLimits {
        in_flight_max: 1,
        request_body_bytes_max: 1,
        header_bytes_max: 1,
        header_count_max: 1,
        header_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(1),
        connections_max: 1,
    };
    let server = ServerSettings {
        listen: Vec::new(),
        tls: None,
        open_data_plane: false,
        drain: Duration::from_secs(25),
        limits,
    };
    Snapshot {
        mark: Arc::new(mark),
        index: index::build(&providers, listed),
        providers,
        routes: HashMap::new(),
        projects: None,
        prices: Prices::default(),
        redis: None,
        management: Management::default(),
        server,
        access_log: false,
        log_level: LogLevel::Info,
        state_dir: PathBuf::new(),
        sealing_key: SealingKey::Own { file: PathBuf::new() },
        masks: HashMap::new(),
    }
}

impl Snapshot {
    /// `targets`: provider, model, weight.
    pub fn route(mut self, name: &str, strategy: Strategy, targets: &[(&str, &str, f64)]) -> Self {
        let target = |(provider, model, weight): &(&str, &str, f64)| RouteTarget {
            provider: self.index.by_name[*provider],
            model: ModelName::new(*model),
            weight: Weight::new(*weight).unwrap(),
        };
        let targets = targets.iter().map(target).collect();
        self.routes.insert(name.into(), Route { name: name.into(), strategy, targets });
        self
    }
}
