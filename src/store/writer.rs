//! The writer: the only one who makes generations. It polls, settles, compiles and swaps; what it
//! does for a management API stands in `apply.rs`.
//!
//! One loop on one thread, hence no lock and no lock order. A content that does not compile or
//! whose listeners do not bind changes nothing but the status; the last good generation stays.
//! Nothing that stands in a file ends the loop.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::attempt::{Built, Refused, build, unbound};
use super::journal::Journal;
use super::recover::{recover, recover_key};
use super::settle::{Next, Settle};
use super::sight::{Care, Eye, Seen};
use super::watch::Watch;
use super::{
    Clock, Command, Compile, Disk, Env, Events, Generation, Knock, ListenerPort, NoEvents, PreparedToken,
    ReloadOutcome, Sealer, Store, SystemDisk, SystemEvents, SystemSealer, system_env,
};
use crate::config::Problems;
use crate::hash::{Fingerprint, FingerprintKey};
use crate::limits::{POLL_INTERVAL, SETTLE_INTERVAL};
use crate::snapshot::{Compiled, GenerationMark};
use crate::ticks::Ticks;

/// What a writer is made of.
pub struct WriterOptions {
    /// As given on the command line; symbolic links are followed anew at each look.
    pub path: PathBuf,
    pub strict_env: bool,
    pub fingerprint_key: FingerprintKey,
    pub compile: Box<dyn Compile>,
    pub listeners: Box<dyn ListenerPort>,
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn Disk>,
    pub env: Env,
    pub events: Box<dyn Events>,
    pub sealer: Box<dyn Sealer>,
}

impl WriterOptions {
    /// With the disk, the environment, the file events and the sealing key of the system.
    pub fn new(
        path: PathBuf,
        fingerprint_key: FingerprintKey,
        compile: Box<dyn Compile>,
        listeners: Box<dyn ListenerPort>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            path,
            strict_env: false,
            fingerprint_key,
            compile,
            listeners,
            clock,
            disk: Arc::new(SystemDisk),
            env: system_env(),
            events: Box::new(SystemEvents),
            sealer: Box::new(SystemSealer::default()),
        }
    }
}

/// The first load failed: there is nothing to serve.
#[derive(Clone, Debug)]
pub struct StartError {
    pub problems: Problems,
}

/// Owns the file, the store and the way from one to the other.
pub struct Writer {
    pub(super) options: WriterOptions,
    pub(super) directory: PathBuf,
    pub(super) journal: Journal,
    pub(super) eye: Eye,
    watch: Watch,
    pub(super) settle: Settle,
    pub(super) running: Running,
    /// Of the last temporary file.
    pub(super) serial: u64,
    /// The next look, whatever happens before.
    due: Ticks,
    looked_at: Ticks,
    /// Who waits for the outcome of a reload.
    waiting: Vec<oneshot::Sender<ReloadOutcome>>,
    /// What they will be told when the status says the same.
    outcome: Option<ReloadOutcome>,
    /// A model list came in since the last compile.
    relist: bool,
}

/// What runs, and what it was made of.
pub(super) struct Running {
    pub seen: Seen,
    fingerprint: Fingerprint,
    pub mark: Arc<GenerationMark>,
}

impl Running {
    /// The same bytes, and references that resolve to the same.
    pub fn is(&self, built: &Built) -> bool {
        self.seen.view == built.seen.view && self.fingerprint == built.compiled.fingerprint
    }
}

impl Writer {
    /// Loads the file for the first time; the listeners are bound when this returns.
    pub fn start(mut options: WriterOptions) -> Result<(Self, Arc<Store>), StartError> {
        // Made absolute, not resolved: the process may change its directory, and links may move.
        options.path = std::path::absolute(&options.path).unwrap_or(options.path);
        let directory = options.path.parent().unwrap_or(Path::new("/")).to_owned();
        let now = options.clock.now();
        recover(&*options.disk, &options.path);
        let mut eye = Eye::new(options.path.clone(), options.disk.clone(), options.fingerprint_key.clone());
        let seen = eye.look([], Care::Full, now);
        let built = build(&mut options, &directory, &seen, 1, now);
        let Built { compiled, seen, warnings } = built.map_err(|refused| StartError { problems: refused.problems })?;
        let prepared = options.listeners.prepare(&compiled.snapshot.server, &compiled.snapshot.management);
        let prepared = prepared.map_err(|error| StartError { problems: unbound(error) })?;

        let fingerprint = compiled.fingerprint;
        let generation = generation_of(compiled);
        let snapshot = &generation.snapshot;
        recover_key(&snapshot.sealing_key);
        let running = Running { seen, fingerprint, mark: snapshot.mark.clone() };
        let journal = Journal::open(options.clock.clone(), generation.clone(), warnings);
        options.compile.swapped(snapshot, now);
        options.listeners.commit(prepared);
        let watch = Watch::new(std::mem::replace(&mut options.events, Box::new(NoEvents)));
        let serial = options.clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let mut writer = Self {
            options,
            directory,
            journal,
            eye,
            watch,
            settle: Settle::default(),
            running,
            // Unlike that of a process before, which may have had the same number.
            serial: u64::try_from(serial).unwrap_or_default(),
            due: now,
            looked_at: now,
            waiting: Vec::new(),
            outcome: None,
            relist: false,
        };
        writer.follow(now);
        writer.publish();
        let store = writer.journal.store();
        Ok((writer, store))
    }

    /// For those who want the file to be looked at without a channel.
    pub fn knock(&self) -> Knock {
        self.watch.knock()
    }

    /// Runs until told to stop, or until nobody can tell it anything any more.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let knock = self.watch.knock();
        loop {
            let now = self.options.clock.now();
            // Lists come in bursts, one per provider: the last one compiles them all.
            if self.relist && commands.is_empty() {
                self.recompile(now);
            }
            if now >= self.due {
                self.look(now);
            }
            let wait = self.due.remaining(self.options.clock.now());
            tokio::select! {
                command = commands.recv() => match command {
                    None | Some(Command::Shutdown) => return,
                    Some(Command::FileMayHaveChanged) => self.hurry(),
                    Some(Command::Reload { reply }) => {
                        self.waiting.extend(reply);
                        self.settle.force();
                        self.due = self.options.clock.now();
                    }
                    Some(Command::Apply { change, reply }) => {
                        let applied = self.apply(change).await;
                        // Whoever asked may have left; what is written is written.
                        let _left = reply.send(applied);
                    }
                    Some(Command::TryOut { change, reply }) => {
                        let tried = self.try_out(change).await;
                        let _left = reply.send(tried);
                    }
                    Some(Command::ModelsListed { provider, models }) => {
                        self.relist |= self.options.compile.listed(&provider, models);
                    }
                },
                () = knock.heard() => self.hurry(),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks soon, but not at every one of a thousand events in the directory.
    fn hurry(&mut self) {
        let soonest = self.looked_at.after(SETTLE_INTERVAL).max(self.options.clock.now());
        self.due = self.due.min(soonest);
    }

    fn look(&mut self, now: Ticks) {
        self.looked_at = now;
        let care = if self.settle.is_open() { Care::Full } else { Care::Poll };
        let seen = self.eye.look(self.files(), care, now);
        let next = self.settle.see(&seen.view, &self.running.seen.view, now);
        let again = match next {
            Next::Rest => None,
            Next::LookAt(at) => Some(at),
            Next::Try => self.attempt(&seen, LastChance::No, now),
            Next::TryForLast => self.attempt(&seen, LastChance::Yes, now),
        };
        self.due = now.after(POLL_INTERVAL).min(again.unwrap_or(Ticks(u64::MAX)));
        let applied = matches!(next, Next::Try | Next::TryForLast) && again.is_none();
        // A new generation may read files that the look knew nothing of.
        let view = if applied { &self.running.seen.view } else { &seen.view };
        self.journal.looked(view, view.agrees_with(&self.running.seen.view));
        if self.follow(now) {
            self.due = self.due.min(now.after(SETTLE_INTERVAL));
        }
        self.publish();
    }

    /// Secret files that matter: of what runs, and of what was refused last.
    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        let refused = self.settle.failed().into_iter().flat_map(|view| view.files.keys());
        self.running.seen.view.files.keys().chain(refused).cloned().collect()
    }

    /// Tries to make what was seen the running generation. Says when to look again, if earlier
    /// than at the next poll.
    fn attempt(&mut self, seen: &Seen, last_chance: LastChance, now: Ticks) -> Option<Ticks> {
        let number = self.running.mark.number.saturating_add(1);
        let built = match build(&mut self.options, &self.directory, seen, number, now) {
            Ok(built) => built,
            Err(refused) if last_chance == LastChance::No && refused.is_torn() => {
                return Some(self.settle.torn(now));
            }
            Err(refused) => return Some(self.refuse(refused, now)),
        };
        if self.running.is(&built) {
            self.settle.applied();
            let outcome = self.journal.unchanged(self.since(now));
            self.outcome = Some(outcome);
            return None;
        }
        let snapshot = &built.compiled.snapshot;
        let prepared = match self.options.listeners.prepare(&snapshot.server, &snapshot.management) {
            Ok(prepared) => prepared,
            Err(error) => {
                let refused = Refused { problems: unbound(error), view: built.seen.view };
                return Some(self.refuse(refused, now));
            }
        };
        self.take_over(built, prepared, now);
        None
    }

    /// What has been compiled and bound runs from here on.
    pub(super) fn take_over(&mut self, built: Built, prepared: PreparedToken, now: Ticks) {
        let Built { compiled, seen, warnings } = built;
        let fingerprint = compiled.fingerprint;
        let generation = generation_of(compiled);
        let snapshot = &generation.snapshot;
        let before = self.journal.store().snapshot();
        self.running = Running { seen, fingerprint, mark: snapshot.mark.clone() };
        self.settle.applied();
        self.journal.swap(generation.clone());
        self.options.compile.swapped(snapshot, now);
        let outcome = self.journal.applied(&before, snapshot, warnings, self.since(now));
        drop(before);
        // In the same status: nobody sees a swap that looks like drift.
        self.journal.looked(&self.running.seen.view, true);
        self.journal.publish();
        // Old listeners close only now: whoever comes in meets the new generation.
        self.options.listeners.commit(prepared);
        self.outcome = Some(outcome);
    }

    fn refuse(&mut self, refused: Refused, now: Ticks) -> Ticks {
        let hash = refused.view.config.as_ref().ok().copied();
        let outcome = self.journal.refused(refused.problems, hash, self.since(now));
        let again = self.settle.refused(refused.view, now);
        self.outcome = Some(outcome);
        again
    }

    /// A model list arrived: the same text again, under the same generation.
    fn recompile(&mut self, now: Ticks) {
        self.relist = false;
        let seen = self.running.seen.clone();
        let number = self.running.mark.number;
        match build(&mut self.options, &self.directory, &seen, number, now) {
            Ok(mut built) if self.running.is(&built) => {
                built.compiled.snapshot.mark = self.running.mark.clone();
                let generation = generation_of(built.compiled);
                self.journal.swap(generation.clone());
                self.options.compile.swapped(&generation.snapshot, now);
                self.publish();
            }
            // A secret changed meanwhile: that is a new generation, and the next look makes it,
            // with the list in it.
            Ok(_) | Err(_) => self.due = now,
        }
    }

    pub(super) fn follow(&mut self, now: Ticks) -> bool {
        let files = self.files();
        let paths = std::iter::once(self.options.path.as_path()).chain(files.iter().map(PathBuf::as_path));
        self.watch.follow(paths, now)
    }

    pub(super) fn publish(&mut self) {
        self.journal.surroundings(self.watch.mode(), self.options.listeners.restart_pending());
        self.journal.publish();
        let Some(outcome) = self.outcome.take() else { return };
        for reply in self.waiting.drain(..) {
            // Whoever asked may have left.
            let _left = reply.send(outcome.clone());
        }
    }

    fn since(&self, start: Ticks) -> std::time::Duration {
        self.options.clock.now().since(start)
    }
}

fn generation_of(compiled: Compiled) -> Arc<Generation> {
    Arc::new(Generation { snapshot: Arc::new(compiled.snapshot), document: compiled.document })
}

/// Whether a torn text may still become whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastChance {
    Yes,
    No,
}
