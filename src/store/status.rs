//! What the store says of itself: which generation runs, what is on disk, what went wrong last.
//!
//! Plain values, published whole. Holds no snapshot alive: generations are remembered weakly.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::config::Problems;
use crate::hash::ConfigHash;
use crate::snapshot::{GenerationMark, Snapshot};

/// The state of the config, for `/api/config/status`, `/readyz?verbose` and the metrics.
#[derive(Clone, Debug)]
pub struct Status {
    /// Number and file hash of the running generation.
    pub generation: u64,
    pub hash: ConfigHash,
    pub applied_at: SystemTime,
    /// Warnings of the running generation.
    pub warnings: Arc<Problems>,
    /// Of what is on disk now; `None` while nothing can be read there.
    pub on_disk_hash: Option<ConfigHash>,
    /// What is on disk (the file or a secret file) is not what runs.
    pub drift: bool,
    /// Since when it differs.
    pub stale_since: Option<SystemTime>,
    /// Why what is on disk does not run; gone when it does.
    pub last_error: Option<Failure>,
    pub watch_mode: WatchMode,
    /// How the last API write put the file in its place.
    pub write_mode: WriteMode,
    /// The last [`crate::limits::RELOAD_OUTCOMES_KEPT`], oldest first.
    pub outcomes: Vec<ReloadOutcome>,
    /// Fields whose new value waits for a restart.
    pub restart_pending: Vec<String>,
    /// Generations that somebody still holds, the running one last.
    pub alive: Vec<Alive>,
    /// Attempts since the start, the first load included.
    pub reloads_ok: u64,
    pub reloads_failed: u64,
}

impl Status {
    /// Snapshots that are in memory, the running one included.
    pub fn snapshots_alive(&self) -> usize {
        self.alive.iter().filter(|alive| alive.snapshot.strong_count() > 0).count()
    }

    /// Requests by generation: those that have any, and the running one.
    pub fn in_flight(&self) -> Vec<(u64, u64)> {
        let mut counts: Vec<(u64, u64)> = Vec::new();
        for alive in &self.alive {
            let running = alive.mark.upgrade().map_or(0, |mark| mark.in_flight.load(Ordering::Relaxed));
            let known = counts.iter().any(|(number, _)| *number == alive.number);
            if !known && (running > 0 || alive.number == self.generation) {
                counts.push((alive.number, running));
            }
        }
        counts
    }
}

/// A file content, or the lack of one, that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub problems: Arc<Problems>,
    /// When this same failure was first seen.
    pub at: SystemTime,
    /// Of the refused content; `None` when there was none.
    pub hash: Option<ConfigHash>,
}

/// How changes are noticed. The poll runs in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchMode {
    /// Events of the system, and the poll behind them.
    Events,
    /// No events to be had: the poll alone.
    Poll,
}

impl WatchMode {
    /// Spelling in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "inotify",
            Self::Poll => "poll",
        }
    }
}

/// How a new file takes the place of the old one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    /// Nothing has been written yet.
    Unknown,
    /// In one step that keeps what was displaced: a hand edit is never lost.
    Exchange,
    /// The file system cannot exchange: a hand edit made in the very microseconds is lost.
    Rename,
}

impl WriteMode {
    /// Spelling in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Exchange => "exchange",
            Self::Rename => "rename",
        }
    }
}

/// How one reload ended.
#[derive(Clone, Debug)]
pub struct ReloadOutcome {
    pub at: SystemTime,
    pub result: ReloadResult,
    /// Running afterwards.
    pub generation: u64,
    /// Of the content that was tried; `None` when there was none.
    pub hash: Option<ConfigHash>,
    pub problems: Arc<Problems>,
    /// Compile and swap, without the wait for the file to settle.
    pub took: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReloadResult {
    Applied,
    /// The same bytes and the same secrets as before.
    Unchanged,
    Refused,
}

/// A generation that may still be in use.
#[derive(Clone, Debug)]
pub struct Alive {
    pub number: u64,
    pub snapshot: Weak<Snapshot>,
    pub mark: Weak<GenerationMark>,
}

impl Alive {
    pub(super) fn of(snapshot: &Arc<Snapshot>) -> Self {
        Self { number: snapshot.mark.number, snapshot: Arc::downgrade(snapshot), mark: Arc::downgrade(&snapshot.mark) }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.snapshot.strong_count() == 0 && self.mark.strong_count() == 0
    }
}
