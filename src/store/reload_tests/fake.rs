//! A compile step, listeners and watchers small enough to see through.
//!
//! `{"value": 1, "file": "secret", "env": "NAME", "port": 2}`: the value ends up as
//! `limits.in_flight_max`, the secret in the fingerprint, the port at the listeners. `"bad"` and
//! `"panic"` do what they say.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::*;
use crate::config::{Code, Problems};
use crate::hash::Fingerprint;
use crate::snapshot::{
    Compiled, GenerationMark, Index, LogLevel, Management, SealingKey, ServerLimits, ServerSettings, Snapshot,
};
use crate::ticks::Ticks;

/// What the fakes were asked, and what they are to answer.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Telling>>);

#[derive(Default)]
pub struct Telling {
    pub compiles: usize,
    pub swaps: usize,
    /// Model lists by provider.
    pub lists: Vec<(String, usize)>,
    /// What happened at the listeners, in order.
    pub listeners: Vec<String>,
    /// Port that somebody else has.
    pub taken: Option<u64>,
    /// Where to look when listeners move, which is right after a swap, and what was seen there.
    pub store: Option<Arc<Store>>,
    pub at_commit: Vec<Arc<Status>>,
}

impl Told {
    pub fn with<T>(&self, look: impl FnOnce(&mut Telling) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

pub fn value(snapshot: &Snapshot) -> u64 {
    snapshot.server.limits.in_flight_max
}

/// Whether the generation has its secret.
pub fn has_secret(snapshot: &Snapshot) -> bool {
    snapshot.server.limits.connections_max == 1
}

pub struct FakeCompile(Told);

impl FakeCompile {
    pub fn new(told: &Told) -> Self {
        Self(told.clone())
    }
}

impl Compile for FakeCompile {
    fn compile(&mut self, source: &Source<'_>) -> (Option<Compiled>, Problems) {
        self.0.with(|told| told.compiles += 1);
        let mut problems = Problems::default();
        let Ok(tree) = serde_json::from_str::<serde_json::Value>(source.text) else {
            problems.error(Code::Syntax, "", "not JSON");
            return (None, problems);
        };
        assert!(tree.get("panic").is_none(), "asked to panic");
        let Some(value) = tree.get("value").and_then(serde_json::Value::as_u64) else {
            problems.error(Code::MissingMember, "", "`value` is missing");
            return (None, problems);
        };
        let named = |member: &str| tree.get(member).and_then(serde_json::Value::as_str);
        let mut secrets = Vec::new();
        let mut secret_files = Vec::new();
        if let Some(path) = named("file") {
            secret_files.push(path.into());
            secrets.push(source.resolve.file(path.as_ref()));
        }
        if let Some(name) = named("env") {
            secrets.push(source.resolve.env(name));
        }
        for unready in secrets.iter().filter_map(|secret| secret.as_ref().err()) {
            if source.strict_env {
                problems.error(Code::Unresolved, "/file", format!("{unready:?}"));
                return (None, problems);
            }
            problems.warning(Code::Unresolved, "/file", format!("{unready:?}"));
        }
        let texts = secrets.iter().map(|secret| secret.as_ref().ok().map(crate::secret::Secret::expose));
        let fingerprint = Fingerprint::of(source.fingerprint_key, texts);
        let port = tree.get("port").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let ready = !secrets.is_empty() && secrets.iter().all(Result::is_ok);
        let snapshot = snapshot(source.number, source.hash, value, port, ready);
        let (document, _) = crate::config::read(source.text);
        let Some(document) = document.map(Arc::new) else { return (None, problems) };
        (Some(Compiled { snapshot, document, secret_files, fingerprint }), problems)
    }

    fn listed(&mut self, provider: &crate::id::ProviderName, models: Arc<[Box<str>]>) -> bool {
        self.0.with(|told| {
            let entry = (provider.as_str().to_owned(), models.len());
            let new = !told.lists.contains(&entry);
            told.lists.push(entry);
            new
        })
    }

    fn swapped(&mut self, running: &Snapshot, _now: Ticks) {
        self.0.with(|told| {
            told.swaps += 1;
            told.listeners.push(format!("swap {}", running.mark.number));
        });
    }
}

fn snapshot(number: u64, hash: crate::hash::ConfigHash, value: u64, port: u64, ready: bool) -> Snapshot {
    let header = format!("{number}-{}", hash.short()).parse().unwrap();
    let second = Duration::from_secs(1);
    Snapshot {
        mark: Arc::new(GenerationMark { number, hash, in_flight: 0.into(), header }),
        providers: Vec::new(),
        routes: std::collections::HashMap::new(),
        index: Index::default(),
        projects: None,
        prices: crate::snapshot::Prices::default(),
        redis: None,
        management: Management::default(),
        server: ServerSettings {
            listen: Vec::new(),
            tls: None,
            open_data_plane: false,
            drain: second,
            limits: ServerLimits {
                in_flight_max: value,
                request_body_bytes_max: port,
                header_bytes_max: 1,
                header_count_max: 1,
                header_timeout: second,
                body_timeout: second,
                connections_max: u64::from(ready),
            },
        },
        access_log: false,
        log_level: LogLevel::Info,
        state_dir: std::path::PathBuf::new(),
        sealing_key: SealingKey::Own { file: std::path::PathBuf::new() },
        masks: std::collections::HashMap::new(),
    }
}

pub struct FakeListeners(Told);

impl FakeListeners {
    pub fn new(told: &Told) -> Self {
        Self(told.clone())
    }
}

impl ListenerPort for FakeListeners {
    fn prepare(&mut self, server: &ServerSettings, _management: &Management) -> Result<PreparedToken, String> {
        let port = server.limits.request_body_bytes_max;
        self.0.with(|told| {
            if told.taken == Some(port) {
                return Err(format!("port {port} is taken"));
            }
            told.listeners.push(format!("bind {port}"));
            Ok(PreparedToken(Box::new(port)))
        })
    }

    fn commit(&mut self, prepared: PreparedToken) {
        let port = prepared.0.downcast::<u64>().unwrap();
        self.0.with(|told| {
            told.listeners.push(format!("commit {port}"));
            told.at_commit.extend(told.store.as_ref().map(|store| store.status()));
        });
    }
}

/// Says that it watches, and never says anything again.
pub struct Silent;

impl Events for Silent {
    fn open(&mut self, _knock: Knock) -> Result<Box<dyn Directories>, String> {
        Ok(Box::new(Silent))
    }
}

impl Directories for Silent {
    fn add(&mut self, _directory: &Path) -> Result<(), String> {
        Ok(())
    }

    fn remove(&mut self, _directory: &Path) {}
}

/// The limit of inotify instances is reached.
pub struct NoInstances;

impl Events for NoInstances {
    fn open(&mut self, _knock: Knock) -> Result<Box<dyn Directories>, String> {
        Err("no instances left".to_owned())
    }
}

/// The limit of inotify watches is reached.
pub struct NoWatches;

impl Events for NoWatches {
    fn open(&mut self, _knock: Knock) -> Result<Box<dyn Directories>, String> {
        Ok(Box::new(NoWatches))
    }
}

impl Directories for NoWatches {
    fn add(&mut self, _directory: &Path) -> Result<(), String> {
        Err("no watches left".to_owned())
    }

    fn remove(&mut self, _directory: &Path) {}
}

/// Counts what is read.
#[derive(Default)]
pub struct CountingDisk(pub AtomicUsize);

impl Disk for CountingDisk {
    fn read(&self, path: &Path, cap: u64) -> Result<(FileStat, Vec<u8>), Refusal> {
        self.0.fetch_add(1, Ordering::Relaxed);
        SystemDisk.read(path, cap)
    }

    fn stat(&self, path: &Path) -> Result<FileStat, Refusal> {
        SystemDisk.stat(path)
    }
}
