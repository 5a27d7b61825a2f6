//! What a swap changed, by name: for the log line of a reload and for people. Never a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Management, Provider, Snapshot};

/// One thing that differs between two snapshots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Change {
    /// `providers/openai`, `keys/openai/main`, `routes/@fast`, `projects/app`, `server`, …
    pub path: String,
    pub kind: ChangeKind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

const SERVER: &str = "server";

/// All differences, in the order of their paths. A key whose secret or destination differs is
/// changed, also where the file says the same.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let (before, after) = (parts(old), parts(new));
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| (path, ChangeKind::Removed));
    let there = after.iter().filter_map(|(path, now)| match before.get(path) {
        None => Some((path, ChangeKind::Added)),
        Some(then) => (then != now).then_some((path, ChangeKind::Changed)),
    });
    let mut changes: Vec<Change> = gone.chain(there).map(|(path, kind)| Change { path: path.clone(), kind }).collect();
    // The one secret that no fingerprint stands for.
    let tls_key = |snapshot: &Snapshot| snapshot.server.tls.as_ref().map(|tls| tls.key_pem.clone());
    if tls_key(old) != tls_key(new) {
        changes.push(Change { path: SERVER.to_owned(), kind: ChangeKind::Changed });
    }
    changes.sort();
    changes.dedup();
    changes
}

/// Everything that has a name, and a digest of what it is. The digests go through `Debug`, whose
/// output for a secret is empty of it, plus the fingerprints that tell secrets apart.
fn parts(snapshot: &Snapshot) -> BTreeMap<String, blake3::Hash> {
    let mut parts = BTreeMap::new();
    for provider in &snapshot.providers {
        parts.insert(format!("providers/{}", provider.name), digest(&settings(provider)));
        for key in &provider.keys {
            let is = (key.hash.hex(), key.fingerprint, &key.id, key.row.id, key.ready.as_ref().err());
            parts.insert(format!("keys/{}/{}", provider.name, key.name), digest(&is));
        }
    }
    for route in snapshot.routes.values() {
        let target =
            |at: u32| usize::try_from(at).ok().and_then(|at| snapshot.providers.get(at)).map(|provider| &provider.name);
        let targets: Vec<_> = route.targets.iter().map(|t| (target(t.provider), &t.model, t.weight)).collect();
        parts.insert(format!("routes/{}", route.name), digest(&(route.strategy, targets)));
    }
    match &snapshot.projects {
        None => {}
        Some(projects) => {
            parts.insert("projects".to_owned(), digest(&()));
            for project in projects {
                parts.insert(format!("projects/{}", project.id), digest(project));
            }
        }
    }
    let Management { keys, listen, locked, references, allowed_origins } = &snapshot.management;
    parts.insert("management".to_owned(), digest(&(keys, listen, locked, references, allowed_origins)));
    let server = &snapshot.server;
    let certificate = server.tls.as_ref().map(|tls| &tls.cert_pem);
    let is = (&server.listen, certificate, server.open_data_plane, server.drain, server.limits);
    parts.insert(SERVER.to_owned(), digest(&is));
    parts.insert("observability".to_owned(), digest(&(snapshot.access_log, snapshot.log_level)));
    parts
}

fn settings(provider: &Arc<Provider>) -> impl std::fmt::Debug {
    // Maps have no order of their own.
    let paths: BTreeMap<&str, &str> =
        provider.path_overrides.iter().map(|(operation, path)| (operation.as_str(), &**path)).collect();
    (
        provider.row.id,
        provider.custom,
        provider.timeouts,
        provider.retry,
        provider.allowed.clone(),
        format!("{paths:?}"),
    )
}

fn digest(it: &impl std::fmt::Debug) -> blake3::Hash {
    blake3::hash(format!("{it:?}").as_bytes())
}
