//! The writer's book: what happened, kept as the [`Status`] that everybody reads.
//!
//! Publishes only when something changed, and logs a failure once, not at each retry.

use std::sync::Arc;
use std::time::Duration;

use super::sight::View;
use super::{Alive, Clock, Failure, Generation, ReloadOutcome, ReloadResult, Status, Store, WatchMode, WriteMode};
use crate::config::{Problem, Problems, Severity};
use crate::hash::ConfigHash;
use crate::limits::{CHANGES_LOGGED_MAX, RELOAD_OUTCOMES_KEPT};
use crate::snapshot::{Change, Snapshot, diff};

/// The status that is being written, and the store that it is published in.
pub(super) struct Journal {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    status: Status,
    /// Something differs from what was last published.
    changed: bool,
}

impl Journal {
    /// Opens the book with the first generation, and the store with it.
    pub fn open(clock: Arc<dyn Clock>, generation: Arc<Generation>, warnings: Arc<Problems>) -> Self {
        let snapshot = &generation.snapshot;
        log_applied(snapshot, &warnings, &[]);
        let status = Status {
            generation: snapshot.mark.number,
            hash: snapshot.mark.hash,
            applied_at: clock.wall(),
            warnings,
            on_disk_hash: Some(snapshot.mark.hash),
            drift: false,
            stale_since: None,
            last_error: None,
            watch_mode: WatchMode::Poll,
            write_mode: WriteMode::Unknown,
            outcomes: Vec::new(),
            restart_pending: Vec::new(),
            alive: vec![Alive::of(snapshot)],
            reloads_ok: 1,
            reloads_failed: 0,
        };
        let store = Arc::new(Store::new(generation, status.clone()));
        Self { store, clock, status, changed: false }
    }

    pub fn store(&self) -> Arc<Store> {
        self.store.clone()
    }

    /// The one place where a generation starts to serve.
    pub fn swap(&mut self, generation: Arc<Generation>) {
        self.status.alive.push(Alive::of(&generation.snapshot));
        self.store.swap(generation);
        self.changed = true;
    }

    /// A new generation runs, in the place of `before`.
    pub fn applied(
        &mut self,
        before: &Snapshot,
        snapshot: &Snapshot,
        warnings: Arc<Problems>,
        took: Duration,
    ) -> ReloadOutcome {
        log_applied(snapshot, &warnings, &diff(before, snapshot));
        self.status.generation = snapshot.mark.number;
        self.status.hash = snapshot.mark.hash;
        self.status.applied_at = self.clock.wall();
        self.status.warnings = warnings.clone();
        self.status.reloads_ok += 1;
        self.status.last_error = None;
        self.outcome(ReloadResult::Applied, Some(snapshot.mark.hash), warnings, took)
    }

    /// An API write is in the file and runs next, in the place of `before`.
    pub fn written(&mut self, before: &Snapshot, snapshot: &Snapshot, mode: WriteMode) {
        if mode == WriteMode::Rename && self.status.write_mode != mode {
            tracing::warn!(
                event = "config_write_mode",
                mode = mode.as_str(),
                "the file system cannot exchange two files: a hand edit in the moment of an API write can be lost"
            );
        }
        tracing::info!(
            event = "config_written",
            generation = snapshot.mark.number,
            hash = snapshot.mark.hash.short(),
            mode = mode.as_str(),
            changes = told(&diff(before, snapshot)),
            "config written for a management API"
        );
        self.changed |= self.status.write_mode != mode;
        self.status.write_mode = mode;
    }

    /// A reload that was asked for found what runs already.
    pub fn unchanged(&mut self, took: Duration) -> ReloadOutcome {
        self.status.reloads_ok += 1;
        self.status.last_error = None;
        self.outcome(ReloadResult::Unchanged, Some(self.status.hash), self.status.warnings.clone(), took)
    }

    /// What is on disk was refused; `hash` is its content's, if it has any.
    pub fn refused(&mut self, problems: Problems, hash: Option<ConfigHash>, took: Duration) -> ReloadOutcome {
        self.changed = true;
        self.status.reloads_failed += 1;
        let known = self.status.last_error.as_ref().filter(|last| *last.problems == problems && last.hash == hash);
        if let Some(known) = known {
            // A retry that failed in the same way is no news.
            let problems = known.problems.clone();
            return self.describe(ReloadResult::Refused, hash, problems, took);
        }
        let problems = Arc::new(problems);
        tracing::error!(
            event = "config_refused",
            generation = self.status.generation,
            hash = hash.map(|hash| hash.short()),
            problems = problems.0.len(),
            "config refused, the running generation stays"
        );
        problems.0.iter().for_each(log_problem);
        self.status.last_error = Some(Failure { problems: problems.clone(), at: self.clock.wall(), hash });
        self.outcome(ReloadResult::Refused, hash, problems, took)
    }

    /// How the last look at the disk compares with what runs.
    pub fn looked(&mut self, view: &View, agrees: bool) {
        let on_disk = view.config.as_ref().ok().copied();
        self.changed |= self.status.on_disk_hash != on_disk || self.status.drift == agrees;
        self.status.on_disk_hash = on_disk;
        self.status.drift = !agrees;
        if !agrees {
            self.status.stale_since.get_or_insert_with(|| self.clock.wall());
            return;
        }
        self.status.stale_since = None;
        if self.status.last_error.take().is_some() {
            self.changed = true;
            tracing::info!(event = "config_healed", generation = self.status.generation, "the file is again what runs");
        }
    }

    /// State that others own.
    pub fn surroundings(&mut self, watch_mode: WatchMode, restart_pending: Vec<String>) {
        self.changed |= self.status.watch_mode != watch_mode || self.status.restart_pending != restart_pending;
        self.status.watch_mode = watch_mode;
        self.status.restart_pending = restart_pending;
    }

    /// Forgets generations that nobody holds any more, and shows the status if it is new.
    pub fn publish(&mut self) {
        let held = self.status.alive.len();
        self.status.alive.retain(|alive| !alive.is_gone());
        if self.changed || self.status.alive.len() != held {
            self.changed = false;
            self.store.publish(self.status.clone());
        }
    }

    fn outcome(
        &mut self,
        result: ReloadResult,
        hash: Option<ConfigHash>,
        problems: Arc<Problems>,
        took: Duration,
    ) -> ReloadOutcome {
        self.changed = true;
        let outcome = self.describe(result, hash, problems, took);
        let outcomes = &mut self.status.outcomes;
        if outcomes.len() >= RELOAD_OUTCOMES_KEPT {
            outcomes.remove(0);
        }
        outcomes.push(outcome.clone());
        outcome
    }

    fn describe(
        &self,
        result: ReloadResult,
        hash: Option<ConfigHash>,
        problems: Arc<Problems>,
        took: Duration,
    ) -> ReloadOutcome {
        ReloadOutcome { at: self.clock.wall(), result, generation: self.status.generation, hash, problems, took }
    }
}

fn log_applied(snapshot: &Snapshot, warnings: &Problems, changes: &[Change]) {
    tracing::info!(
        event = "config_applied",
        generation = snapshot.mark.number,
        hash = snapshot.mark.hash.short(),
        providers = snapshot.providers.len(),
        keys = snapshot.providers.iter().map(|provider| provider.keys.len()).sum::<usize>(),
        warnings = warnings.0.len(),
        changes = told(changes),
        "config applied"
    );
    warnings.0.iter().for_each(log_problem);
}

/// `keys/openai/main changed, routes/@fast added`: names, never values. `None` when nothing changed
/// that has a name, or when there was nothing before.
fn told(changes: &[Change]) -> Option<String> {
    let names = changes.iter().take(CHANGES_LOGGED_MAX);
    let mut told: Vec<String> = names.map(|change| format!("{} {}", change.path, change.kind.as_str())).collect();
    let rest = changes.len().saturating_sub(CHANGES_LOGGED_MAX);
    if rest > 0 {
        told.push(format!("{rest} more"));
    }
    (!told.is_empty()).then(|| told.join(", "))
}

fn log_problem(problem: &Problem) {
    let Problem { severity, code, pointer, line, column, message, hint } = problem;
    let (code, hint) = (code.as_str(), hint.as_deref());
    match severity {
        Severity::Error => tracing::error!(event = "config_problem", code, pointer, line, column, hint, "{message}"),
        Severity::Warning => tracing::warn!(event = "config_problem", code, pointer, line, column, hint, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ChangeKind;

    #[test]
    fn changes_are_told_by_name_and_bounded() {
        let change = |path: &str, kind| Change { path: path.to_owned(), kind };
        assert_eq!(told(&[]), None);
        let two = [change("keys/openai/main", ChangeKind::Changed), change("routes/@fast", ChangeKind::Added)];
        assert_eq!(told(&two).unwrap(), "keys/openai/main changed, routes/@fast added");
        let many: Vec<_> = (0..25).map(|i| change(&format!("keys/p/{i}"), ChangeKind::Removed)).collect();
        assert!(told(&many).unwrap().ends_with("keys/p/19 removed, 5 more"));
    }
}
