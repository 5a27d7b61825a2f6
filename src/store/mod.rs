//! The one owner of config.json: reads it, makes generations of it, says which one runs.
//!
//! [`Store`] is what the rest of the process sees: the running snapshot and the status, both
//! swapped whole. [`Writer`] is the only one who swaps. `ArcSwap` stands in this file and nowhere
//! else; files and environment are read in `disk.rs` and `resolve.rs` and nowhere else.

#![expect(clippy::disallowed_types, reason = "the one place of the swap")]

mod attempt;
mod disk;
mod hops;
mod journal;
mod port;
mod resolve;
mod settle;
mod sight;
mod status;
mod watch;
mod writer;

#[cfg(test)]
mod reload_tests;

pub use disk::{Disk, FileStat, Refusal, SystemDisk};
pub use port::{Clock, Compile, ListenerPort, PreparedToken, Source, SystemClock};
pub use resolve::{Env, Resolver, system_env};
pub use status::{Alive, Failure, ReloadOutcome, ReloadResult, Status, WatchMode};
pub use watch::{Directories, Events, Knock, NoEvents, SystemEvents};
pub use writer::{StartError, Writer, WriterOptions};

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::id::ProviderName;
use crate::snapshot::Snapshot;

/// The running snapshot and the state of its file. Shared by all; written by the [`Writer`] alone.
#[derive(Debug)]
pub struct Store {
    snapshot: ArcSwap<Snapshot>,
    status: ArcSwap<Status>,
}

impl Store {
    fn new(snapshot: Arc<Snapshot>, status: Status) -> Self {
        Self { snapshot: ArcSwap::new(snapshot), status: ArcSwap::from_pointee(status) }
    }

    /// The running generation. A request asks once and keeps what it got.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The same without touching the reference count, for a look that holds it for no await.
    pub fn load(&self) -> impl Deref<Target = Arc<Snapshot>> + use<> {
        self.snapshot.load()
    }

    /// What is known of the file and of the last reloads.
    pub fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    fn swap(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
    }

    fn publish(&self, status: Status) {
        self.status.store(Arc::new(status));
    }
}

/// What others may ask of the writer, over a channel of [`crate::limits::WRITER_QUEUE_MAX`].
#[derive(Debug)]
pub enum Command {
    /// A hint: look at the file now instead of at the next poll.
    FileMayHaveChanged,
    /// SIGHUP and `POST /api/config/reload`: resolve every reference again, even if the file is
    /// the same. The reply comes when the file has settled and is applied, refused or unchanged.
    Reload {
        reply: Option<oneshot::Sender<ReloadOutcome>>,
    },
    /// An upstream's model list arrived: compiled in under the same generation.
    ModelsListed {
        provider: ProviderName,
        models: Arc<[Box<str>]>,
    },
    Shutdown,
}
