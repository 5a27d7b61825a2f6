//! Carries the cells of keys and origins, and the last model lists, from snapshot to snapshot.
//!
//! Owned by the writer and touched at compile only, hence no lock. A key is the same key while its
//! id, its written form and its resolved secret are the same: a changed secret begins afresh.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::KeyHealth;
use crate::hash::{ConfigHash, Fingerprint};
use crate::id::{KeyId, ProviderName, TransportId};
use crate::limits::{MODEL_LIST_ENTRIES_MAX, RETIRED_HEALTH_KEEP, RETIRED_HEALTH_MAX};
use crate::ticks::Ticks;

/// Model lists by provider, as the upstreams gave them last.
pub type Listed = HashMap<ProviderName, Arc<[Box<str>]>>;

/// One cell, and since when no snapshot holds it.
#[derive(Debug, Default)]
struct Entry {
    health: Arc<KeyHealth>,
    unheld_since: Option<Ticks>,
}

/// What outlives snapshots. An empty one serves dry runs.
#[derive(Debug, Default)]
pub struct Registry {
    keys: HashMap<(KeyId, ConfigHash, Fingerprint), Entry>,
    origins: HashMap<TransportId, Entry>,
    listed: Listed,
}

impl Registry {
    pub fn new() -> Self {
        Self::default()
    }

    /// The cell of a key; a new one for a key that was not there before.
    pub fn key(&mut self, id: &KeyId, hash: ConfigHash, fingerprint: Fingerprint) -> Arc<KeyHealth> {
        Arc::clone(&self.keys.entry((id.clone(), hash, fingerprint)).or_default().health)
    }

    /// The breaker of an origin, shared by all keys whose destination it is.
    pub fn origin(&mut self, id: TransportId) -> Arc<KeyHealth> {
        Arc::clone(&self.origins.entry(id).or_default().health)
    }

    pub fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Keeps what an upstream listed. Returns whether it differs from what was known, which is when
    /// the snapshot has to be made again.
    pub fn set_listed(&mut self, provider: &ProviderName, mut models: Vec<Box<str>>) -> bool {
        models.truncate(MODEL_LIST_ENTRIES_MAX);
        let known = self.listed.get(provider);
        if known.is_some_and(|known| **known == *models) {
            return false;
        }
        self.listed.insert(provider.clone(), models.into());
        true
    }

    /// Forgets what no snapshot has held for RETIRED_HEALTH_KEEP, and the oldest beyond
    /// RETIRED_HEALTH_MAX. Called after a swap, with the providers that are configured now.
    pub fn prune<'a>(&mut self, providers: impl IntoIterator<Item = &'a ProviderName>, now: Ticks) {
        retire(&mut self.keys, now);
        retire(&mut self.origins, now);
        let mut listed = Listed::new();
        for provider in providers {
            if let Some((name, models)) = self.listed.remove_entry(provider) {
                listed.insert(name, models);
            }
        }
        self.listed = listed;
    }

    /// Cells of keys and of origins, held or not.
    pub fn sizes(&self) -> (usize, usize) {
        (self.keys.len(), self.origins.len())
    }
}

fn retire<K: Eq + Hash>(cells: &mut HashMap<K, Entry>, now: Ticks) {
    let mut ages = Vec::new();
    cells.retain(|_, entry| {
        if Arc::strong_count(&entry.health) > 1 {
            entry.unheld_since = None;
            return true;
        }
        let since = *entry.unheld_since.get_or_insert(now);
        let keep = now.since(since) < RETIRED_HEALTH_KEEP;
        if keep {
            ages.push(since);
        }
        keep
    });
    let Some(excess) = ages.len().checked_sub(RETIRED_HEALTH_MAX + 1) else { return };
    // All retired up to this moment go: they came in one swap, and none of them is worth more.
    let (_, newest_to_go, _) = ages.select_nth_unstable(excess);
    let newest_to_go = *newest_to_go;
    cells.retain(|_, entry| entry.unheld_since.is_none_or(|since| since > newest_to_go));
}
