//! The compile step as the store wants it: text in, snapshot and located problems out. Holds what
//! outlives a snapshot.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tracing::level_filters::LevelFilter;

use crate::config::Problems;
use crate::health::Registry;
use crate::id::ProviderName;
use crate::secret::Secret;
use crate::snapshot::{CompileInput, Compiled, LogLevel, Project, Resolve, SealingKey, Snapshot, Unresolved, load};
use crate::state::{State, Watched};
use crate::store::{Compile, Resolver, Source};
use crate::telemetry::LogHandle;
use crate::ticks::Ticks;

pub struct Compiler {
    registry: Registry,
    /// Told the level of the generation that runs; `None` where nothing runs.
    log: Option<LogHandle>,
    /// Told whose books are to be kept, once it runs.
    state: Arc<OnceLock<State>>,
}

impl Compiler {
    pub fn new(log: Option<LogHandle>, state: Arc<OnceLock<State>>) -> Self {
        Self { registry: Registry::new(), log, state }
    }
}

/// The projects of a snapshot, as the books know them.
pub fn books(snapshot: &Snapshot) -> Vec<Watched> {
    let projects = snapshot.projects.iter().flatten();
    let watched = |project: &Project| Watched {
        project: project.id.clone(),
        spend: Arc::clone(&project.spend),
        budgets: project.budgets.clone(),
        rates: project.keys.iter().map(|key| (key.name.clone(), Arc::clone(&key.rate))).collect(),
    };
    projects.map(watched).collect()
}

impl Compile for Compiler {
    fn compile(&mut self, source: &Source<'_>) -> (Option<Compiled>, Problems) {
        let input = CompileInput {
            number: source.number,
            hash: source.hash,
            dir: source.directory,
            resolve: &Through(source.resolve),
            fingerprint_key: source.fingerprint_key,
            strict_env: source.strict_env,
        };
        load(source.text, &input, &mut self.registry)
    }

    fn listed(&mut self, provider: &ProviderName, models: Arc<[Box<str>]>) -> bool {
        self.registry.set_listed(provider, models.to_vec())
    }

    fn swapped(&mut self, running: &Snapshot, now: Ticks) {
        if let Some(log) = &self.log {
            log.set_level(level(running.log_level));
        }
        if let Some(state) = self.state.get()
            && state.watch(books(running)).is_err()
        {
            tracing::warn!(event = "books_not_kept", "the state does not answer: new projects are not counted");
        }
        self.registry.prune(running.providers.iter().map(|provider| &provider.name), now);
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// The store's resolver, asked through the compiler's trait.
struct Through<'a>(&'a Resolver<'a>);

impl Resolve for Through<'_> {
    fn env(&self, name: &str) -> Result<Secret, Unresolved> {
        Ok(self.0.env(name)?)
    }

    fn file(&self, path: &Path) -> Result<Secret, Unresolved> {
        Ok(self.0.file(path)?)
    }

    fn unseal(&self, sealed: &str, pointer: &str, key: &SealingKey) -> Result<Secret, Unresolved> {
        Ok(self.0.unseal(sealed, pointer, key)?)
    }

    fn is_exposed(&self, path: &Path) -> bool {
        self.0.is_exposed(path)
    }
}
