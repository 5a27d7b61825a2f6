//! Carries the cells of keys and origins, and the last model lists, from snapshot to snapshot.
//!
//! Owned by the writer and touched at compile only, hence no lock. A key is the same key while its
//! id, its written form and its resolved secret are the same: a changed secret begins afresh.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::{KeyHealth, OriginHealth};
use crate::budget::{BudgetCell, Reach, SpendCell};
use crate::hash::{ConfigHash, Fingerprint};
use crate::id::{KeyId, ProjectId, ProviderName, TransportId};
use crate::limits::{MODEL_LIST_ENTRIES_MAX, RETIRED_HEALTH_KEEP, RETIRED_HEALTH_MAX};
use crate::rate::RateCell;
use crate::ticks::Ticks;

/// Model lists by provider, as the upstreams gave them last.
pub type Listed = HashMap<ProviderName, Arc<[Box<str>]>>;

/// One cell, and since when no snapshot holds it.
#[derive(Debug, Default)]
struct Entry<H> {
    health: Arc<H>,
    unheld_since: Option<Ticks>,
}

/// What outlives snapshots. An empty one serves dry runs.
#[derive(Debug, Default)]
pub struct Registry {
    keys: HashMap<(KeyId, ConfigHash, Fingerprint), Entry<KeyHealth>>,
    origins: HashMap<TransportId, Entry<OriginHealth>>,
    /// By owner and name of the access key; the management's owner is empty.
    rates: HashMap<(Box<str>, Box<str>), Entry<RateCell>>,
    spend: HashMap<ProjectId, Entry<SpendCell>>,
    /// By project, budget and what it counts.
    budgets: HashMap<(ProjectId, Box<str>, Reach), Entry<BudgetCell>>,
    listed: Listed,
}

impl Registry {
    pub fn new() -> Self {
        Self::default()
    }

    /// The cell of a key; a new one for a key that was not there before.
    pub fn key(&mut self, id: &KeyId, hash: ConfigHash, fingerprint: Fingerprint) -> Arc<KeyHealth> {
        let entry = self.keys.entry((id.clone(), hash, fingerprint)).or_default();
        // A secret that was rotated away and comes back: requests that still hold the old cell must not
        // take it for a reason to go on with it.
        if entry.health.is_rotated() {
            *entry = Entry::default();
        }
        Arc::clone(&entry.health)
    }

    /// Breaker and retry budget of an origin, shared by all keys whose destination it is.
    pub fn origin(&mut self, id: TransportId) -> Arc<OriginHealth> {
        Arc::clone(&self.origins.entry(id).or_default().health)
    }

    /// What an access key has used of its limit.
    pub fn rate(&mut self, owner: &str, name: &str) -> Arc<RateCell> {
        Arc::clone(&self.rates.entry((owner.into(), name.into())).or_default().health)
    }

    /// What a project has spent since the books were last written.
    pub fn spend(&mut self, project: &ProjectId) -> Arc<SpendCell> {
        Arc::clone(&self.spend.entry(project.clone()).or_default().health)
    }

    /// What the books say of a budget.
    pub fn budget(&mut self, project: &ProjectId, id: &str, reach: Reach) -> Arc<BudgetCell> {
        Arc::clone(&self.budgets.entry((project.clone(), id.into(), reach)).or_default().health)
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
        retire(&mut self.keys, now, KeyHealth::shed);
        retire(&mut self.origins, now, |_| ());
        retire(&mut self.rates, now, |_| ());
        retire(&mut self.spend, now, |_| ());
        retire(&mut self.budgets, now, |_| ());
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

/// `shed` takes from a cell that nobody holds any more what is too large to be kept on.
fn retire<K: Eq + Hash, H>(cells: &mut HashMap<K, Entry<H>>, now: Ticks, shed: fn(&mut H)) {
    let mut ages = Vec::new();
    cells.retain(|_, entry| {
        if Arc::strong_count(&entry.health) > 1 {
            entry.unheld_since = None;
            return true;
        }
        let since = *entry.unheld_since.get_or_insert_with(|| {
            if let Some(cell) = Arc::get_mut(&mut entry.health) {
                shed(cell);
            }
            now
        });
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hash::FingerprintKey;
    use crate::health::Outcome;

    fn at(seconds: u64) -> Ticks {
        Ticks::default().after(Duration::from_secs(seconds))
    }

    fn fingerprint(secret: &str) -> Fingerprint {
        Fingerprint::of(&FingerprintKey::new([1; 32]), [Some(secret)])
    }

    #[test]
    fn same_key_same_cell() {
        let mut registry = Registry::new();
        let (id, hash) = (KeyId::new("k"), ConfigHash::of_bytes(b"1"));
        let first = registry.key(&id, hash, fingerprint("a"));
        first.record(None, Outcome::Bench, at(0));
        assert!(Arc::ptr_eq(&first, &registry.key(&id, hash, fingerprint("a"))));
        for other in [
            registry.key(&KeyId::new("l"), hash, fingerprint("a")),
            registry.key(&id, ConfigHash::of_bytes(b"2"), fingerprint("a")),
            registry.key(&id, hash, fingerprint("b")),
        ] {
            assert!(!Arc::ptr_eq(&first, &other));
            assert_eq!(other.look(None, at(0)), crate::health::Admission::Free);
        }
        assert!(Arc::ptr_eq(&registry.origin(TransportId(1)), &registry.origin(TransportId(1))));
    }

    #[test]
    fn a_retired_cell_is_small() {
        use crate::health::Window;
        let mut registry = Registry::new();
        let (id, hash) = (KeyId::new("k"), ConfigHash::of_bytes(b"1"));
        let held = registry.key(&id, hash, fingerprint("a"));
        held.attempted(None, at(1));
        registry.prune([], at(2));
        assert_eq!(held.window(Window::Minute, at(2)).attempts, 1);
        drop(held);
        registry.prune([], at(2));
        let back = registry.key(&id, hash, fingerprint("a"));
        assert_eq!(back.window(Window::Minute, at(2)).attempts, 0, "its windows went with its last snapshot");
    }

    #[test]
    fn retired_cells_come_back_for_an_hour() {
        let mut registry = Registry::new();
        let (id, hash) = (KeyId::new("k"), ConfigHash::of_bytes(b"1"));
        let held = registry.key(&id, hash, fingerprint("a"));
        held.record(None, Outcome::Bench, at(0));
        drop(held);
        registry.prune([], at(10));
        registry.prune([], at(3609));
        let back = registry.key(&id, hash, fingerprint("a"));
        assert_ne!(back.look(None, at(1)), crate::health::Admission::Free, "remembered");
        registry.prune([], at(3610));
        drop(back);
        registry.prune([], at(3611));
        registry.prune([], at(7210));
        assert_eq!(registry.sizes(), (1, 0), "the hour begins anew");
        registry.prune([], at(7211));
        assert_eq!(registry.sizes(), (0, 0));
    }

    #[test]
    fn retired_cells_are_bounded() {
        let mut registry = Registry::new();
        let held = registry.origin(TransportId(u64::MAX));
        for n in 0..3 {
            for m in 0..2000 {
                registry.origin(TransportId(n * 2000 + m));
            }
            registry.prune([], at(n));
        }
        // The oldest batch went; what is held does not count.
        assert_eq!(registry.sizes(), (0, 4001));
        drop(held);
    }

    #[test]
    fn lists() {
        let mut registry = Registry::new();
        let (a, b) = (ProviderName::new("a"), ProviderName::new("b"));
        assert!(registry.set_listed(&a, vec!["x".into()]));
        assert!(!registry.set_listed(&a, vec!["x".into()]));
        assert!(registry.set_listed(&a, vec![Box::from("y")]));
        assert!(registry.set_listed(&b, vec!["z".into(); MODEL_LIST_ENTRIES_MAX + 1]));
        assert_eq!(registry.listed()["b"].len(), MODEL_LIST_ENTRIES_MAX);
        registry.prune([&a], at(0));
        assert_eq!(registry.listed().len(), 1);
        assert_eq!(*registry.listed()["a"], [Box::from("y")]);
    }
}
