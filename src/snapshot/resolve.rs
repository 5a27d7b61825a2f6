//! How compile asks for what a reference stands for: environment, files, sealed values.
//!
//! Only the trait: compile itself reads neither. `store/resolve.rs` is the one that does.

use std::path::Path;

use super::{SealingKey, Unready};
use crate::secret::Secret;

/// Answers references, one step deep: what comes back is a value, never another reference.
pub trait Resolve {
    /// `name` without `env.`. An unset and an empty variable are both missing.
    fn env(&self, name: &str) -> Result<Secret, Unresolved>;
    /// `path` is absolute. One trailing newline is no part of the secret.
    fn file(&self, path: &Path) -> Result<Secret, Unresolved>;
    /// `sealed` is the whole `sealed:v1:…`; `pointer` names the field that it was sealed for, `key`
    /// what should open it.
    fn unseal(&self, sealed: &str, pointer: &str, key: &SealingKey) -> Result<Secret, Unresolved>;
    /// Whether others than its owner may read or write a file. Where nobody looks, they may not.
    fn is_exposed(&self, _path: &Path) -> bool {
        false
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// Looked up and not found.
    Lost(Unready),
    /// Not looked up: a dry run. Counts as resolvable, and is no problem.
    NotAsked,
}

impl From<Unready> for Unresolved {
    fn from(unready: Unready) -> Self {
        Self::Lost(unready)
    }
}

/// Resolves nothing, so that a check of a stranger's document touches neither environment nor disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct DryRun;

impl Resolve for DryRun {
    fn env(&self, _name: &str) -> Result<Secret, Unresolved> {
        Err(Unresolved::NotAsked)
    }

    fn file(&self, _path: &Path) -> Result<Secret, Unresolved> {
        Err(Unresolved::NotAsked)
    }

    fn unseal(&self, _sealed: &str, _pointer: &str, _key: &SealingKey) -> Result<Secret, Unresolved> {
        Err(Unresolved::NotAsked)
    }
}
