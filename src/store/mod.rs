//! The one owner of config.json: reads it, writes it, makes generations of it, says which one runs.
//!
//! [`Store`] is what the rest of the process sees: the running snapshot and the status, both
//! swapped whole. [`Writer`] is the only one who swaps. `ArcSwap` stands in this file and nowhere
//! else; files and environment are read in `disk.rs` and `resolve.rs` and nowhere else; files are written in
//! `disk_write.rs`, those of our own in `state_dir.rs`.

#![expect(clippy::disallowed_types, reason = "the one place of the swap")]

mod apply;
mod attempt;
mod change;
mod disk;
mod disk_write;
mod draft;
mod hops;
mod journal;
mod port;
mod recover;
mod rekey;
mod replace;
mod resolve;
mod seal;
mod sealed_edits;
mod sealing_key;
mod settle;
mod sight;
mod state_dir;
mod status;
mod temp_name;
mod watch;
mod writer;

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod reload_tests;
#[cfg(test)]
mod seal_tests;

pub use change::{Applied, ApplyError, Base, Change, Plan, Refused, Written};
pub use disk::{Disk, FileStat, NewFile, Refusal, SystemDisk};
pub use port::{Clock, Compile, ListenerPort, PreparedToken, Sealer, Source, SystemClock};
pub use rekey::Rekey;
pub use resolve::{Env, Resolver, system_env};
pub use seal::{Place, SealFault, SealKeyId, Sealed};
pub use sealing_key::{KEY_FILE_NOTE, SystemSealer, open_kept, seal_kept, sealed_fields};
pub use state_dir::{make_state_dir, replace_file};
pub use status::{Alive, Failure, ReloadOutcome, ReloadResult, Status, WatchMode, WriteMode};
pub use watch::{Directories, Events, Knock, NoEvents, SystemEvents};
pub use writer::{StartError, Writer, WriterOptions};

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::config::Document;
use crate::id::ProviderName;
use crate::snapshot::Snapshot;

/// The running snapshot and the state of its file. Shared by all; written by the [`Writer`] alone.
#[derive(Debug)]
pub struct Store {
    snapshot: ArcSwap<Snapshot>,
    generation: ArcSwap<Generation>,
    status: ArcSwap<Status>,
}

/// A snapshot and the file that it was made of, for those who show what is written there.
#[derive(Debug)]
pub struct Generation {
    pub snapshot: Arc<Snapshot>,
    pub document: Arc<Document>,
}

impl Store {
    fn new(generation: Arc<Generation>, status: Status) -> Self {
        Self {
            snapshot: ArcSwap::new(generation.snapshot.clone()),
            generation: ArcSwap::new(generation),
            status: ArcSwap::from_pointee(status),
        }
    }

    /// The running generation with its file. For management alone: requests take [`Store::snapshot`].
    pub fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
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

    fn swap(&self, generation: Arc<Generation>) {
        self.snapshot.store(generation.snapshot.clone());
        self.generation.store(generation);
    }

    fn publish(&self, status: Status) {
        self.status.store(Arc::new(status));
    }
}

/// What others may ask of the writer, over a channel of [`crate::limits::WRITER_QUEUE_MAX`].
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
    /// A management API wants the file changed. The reply comes when the change serves, or when
    /// nothing came of it.
    Apply {
        change: Box<dyn Change>,
        reply: Applied,
    },
    /// A management API wants to know what the file with a change in it would mean: the key that it is to
    /// verify before anything is written.
    TryOut {
        change: Box<dyn Change>,
        reply: oneshot::Sender<Result<Arc<Snapshot>, ApplyError>>,
    },
    Shutdown,
}
