//! What a management API asks of the writer, and what it is told (CONTRACT 2.4).
//!
//! A [`Change`] is a question that can be put again: it is planned on the file as it stands on disk
//! at that moment, and planned anew when a hand edit comes in between. Holds no file and decides no
//! order; that is `apply.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Generation;
use crate::config::edit::Edit;
use crate::config::{Document, Problems};
use crate::hash::ConfigHash;
use crate::snapshot::Snapshot;

/// What one call of a management API wants to be different.
pub trait Change: Send {
    /// The edits that make it so. Called by the writer, each time on what is on disk at that moment.
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused>;

    /// A last look at what the file with the edits in it compiles to, before anything is written.
    /// Here a change can refuse what only shows once references are resolved.
    fn accept(&self, made: &Snapshot) -> Result<(), Refused> {
        let _ = made;
        Ok(())
    }
}

/// The file as it stands on disk, read and compiled.
pub struct Base<'a> {
    pub document: &'a Document,
    pub snapshot: &'a Snapshot,
    /// Of the file's bytes.
    pub hash: ConfigHash,
}

/// What a change comes to on one base.
#[derive(Debug, Default)]
pub struct Plan {
    pub edits: Vec<Edit>,
    /// Ids of keys whose secrets the caller has sent anew, hence may go to a new place; a provider whose
    /// static headers or proxy credentials came anew by [`crate::snapshot::destination::provider_id`].
    /// What is not listed and moves is refused by the writer as [`Refused::SecretRequired`].
    pub renewed: Vec<String>,
}

/// Why a change cannot be made. Nothing here quotes a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// What is to be changed is not there: `provider`, `key`, …
    NotFound { what: &'static str },
    /// It is there already, or something else needs it.
    Conflict { code: &'static str, message: String },
    /// `If-Match` named another state.
    Stale,
    /// The request itself is wrong; `field` in the words of the API, a dotted path.
    Invalid { code: &'static str, field: String, message: String },
    /// A stored secret would go to a new place; `field` is what moves it.
    SecretRequired { field: String },
}

/// A change that is in the file and serves.
#[derive(Clone, Debug)]
pub struct Written {
    pub generation: Arc<Generation>,
    /// False: the file said so already, and was not touched.
    pub changed: bool,
}

/// Why nothing was written; file and memory are both as they were.
#[derive(Clone, Debug)]
pub enum ApplyError {
    Refused(Refused),
    /// The file with the change in it would not compile, or its listeners would not bind.
    Problems(Arc<Problems>),
    /// What is on disk cannot be read or does not compile: nothing can be applied on top.
    ConfigOnDiskInvalid(Arc<Problems>),
    /// The file changed under the change, also when it was planned anew for the
    /// [`crate::limits::APPLY_ATTEMPTS_MAX`]th time.
    ConfigChanged,
    /// `management.locked`.
    Locked {
        path: PathBuf,
    },
    /// The file cannot be written here at all; `fix` says what would help.
    ReadOnly {
        path: PathBuf,
        fix: String,
    },
    /// A secret came and cannot be sealed; says why, never what.
    Sealing {
        reason: String,
    },
    /// The disk failed while writing: ENOSPC, EIO and the like, in words.
    Io {
        path: PathBuf,
        reason: String,
    },
}

impl From<Refused> for ApplyError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// How the writer answers a change.
pub type Applied = oneshot::Sender<Result<Written, ApplyError>>;
