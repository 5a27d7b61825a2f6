//! Cells by label values, each worker with its own, label sets bounded for all of them together.
//!
//! A worker finds its cell in its own map, without a lock that another worker takes. Only a label
//! set that the worker sees for the first time goes to the shared registry, which decides whether
//! it is told apart or counted as [`OTHER`]. Never grows beyond its bounds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use crate::limits::{METRIC_LABEL_BYTES_MAX, METRIC_LABEL_VALUES_MAX, METRIC_SERIES_MAX};

/// Label value of all that is not told apart.
pub const OTHER: &str = "_other";

/// Whether a value that nobody has seen may take a place. A model name is the caller's text: only
/// a request that an upstream answered well proves that there is such a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Newcomer {
    Admit,
    /// Not in the label at this position; the others come from the config or from us.
    NotAt(usize),
}

/// All cells of one family, by their label values.
#[derive(Debug)]
pub struct Family<C, const K: usize> {
    registry: Mutex<Registry<C, K>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Registry<C, const K: usize> {
    /// Values in use, by label.
    values: [HashSet<Box<str>>; K],
    series: BTreeMap<[Box<str>; K], Vec<Arc<C>>>,
}

/// One worker's view of a family.
#[derive(Debug)]
pub struct Shard<C, const K: usize> {
    family: Arc<Family<C, K>>,
    cells: Mutex<HashMap<u64, SmallVec<[Labelled<C, K>; 1]>, BuildHasherDefault<Hashed>>>,
}

#[derive(Debug)]
struct Labelled<C, const K: usize> {
    labels: [Box<str>; K],
    cell: Arc<C>,
}

impl<C: Default, const K: usize> Default for Family<C, K> {
    fn default() -> Self {
        let registry = Registry { values: std::array::from_fn(|_| HashSet::new()), series: BTreeMap::new() };
        Self { registry: Mutex::new(registry), hasher: RandomState::new() }
    }
}

impl<C: Default, const K: usize> Family<C, K> {
    pub fn shard(self: &Arc<Self>) -> Shard<C, K> {
        Shard { family: Arc::clone(self), cells: Mutex::default() }
    }

    /// Every label set with the cells of all workers, sorted.
    pub fn series(&self) -> Vec<([Box<str>; K], Vec<Arc<C>>)> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.series.iter().map(|(labels, cells)| (labels.clone(), cells.clone())).collect()
    }

    /// The label set under which `labels` is counted.
    fn admitted(&self, labels: [&str; K], newcomer: Newcomer) -> [Box<str>; K] {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let exact = labels.map(Box::from);
        if registry.series.contains_key(&exact) {
            return exact;
        }
        let mut bounded = exact;
        for (at, (label, values)) in bounded.iter_mut().zip(&registry.values).enumerate() {
            let known = values.contains(label);
            let fits = label.len() <= METRIC_LABEL_BYTES_MAX && values.len() < METRIC_LABEL_VALUES_MAX;
            if !known && (newcomer == Newcomer::NotAt(at) || !fits) {
                *label = OTHER.into();
            }
        }
        if !registry.series.contains_key(&bounded) && registry.series.len() >= METRIC_SERIES_MAX {
            // One row for the rest of everything.
            bounded = std::array::from_fn(|_| OTHER.into());
        }
        for (label, values) in bounded.iter().zip(&mut registry.values) {
            if **label != *OTHER && !values.contains(label) {
                values.insert(label.clone());
            }
        }
        registry.series.entry(bounded.clone()).or_default();
        bounded
    }

    fn hash(&self, labels: [&str; K]) -> u64 {
        self.hasher.hash_one(labels)
    }
}

impl<C: Default, const K: usize> Shard<C, K> {
    /// The worker's cell for these label values.
    pub fn cell(&self, labels: [&str; K], newcomer: Newcomer) -> Arc<C> {
        if let Some(cell) = self.find(labels) {
            return cell;
        }
        let admitted = self.family.admitted(labels, newcomer);
        let borrowed = admitted.each_ref().map(|label| &**label);
        if let Some(cell) = self.find(borrowed) {
            return cell;
        }
        let cell = Arc::new(C::default());
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let mut registry = self.family.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.series.entry(admitted.clone()).or_default().push(Arc::clone(&cell));
        drop(registry);
        let hash = self.family.hash(borrowed);
        cells.entry(hash).or_default().push(Labelled { labels: admitted, cell: Arc::clone(&cell) });
        cell
    }

    fn find(&self, labels: [&str; K]) -> Option<Arc<C>> {
        let hash = self.family.hash(labels);
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let same = cells.get(&hash)?;
        same.iter().find(|one| one.labels.iter().zip(labels).all(|(a, b)| **a == *b)).map(|one| Arc::clone(&one.cell))
    }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Counter;
    use super::*;

    fn total(family: &Family<Counter, 2>, labels: [&str; 2]) -> u64 {
        let series = family.series();
        let cells = series.iter().find(|(have, _)| have.iter().zip(labels).all(|(a, b)| **a == *b));
        cells.map_or(0, |(_, cells)| cells.iter().map(|c| c.value()).sum())
    }

    #[test]
    fn workers_add_up() {
        let family = Arc::new(Family::<Counter, 2>::default());
        let (one, two) = (family.shard(), family.shard());
        one.cell(["a", "x"], Newcomer::Admit).add(2);
        one.cell(["a", "x"], Newcomer::Admit).add(3);
        two.cell(["a", "x"], Newcomer::Admit).add(10);
        assert_eq!(total(&family, ["a", "x"]), 15);
        assert_eq!(family.series().len(), 1);
        assert_eq!(family.series()[0].1.len(), 2, "one cell per worker, not one per call");
    }

    #[test]
    fn a_flood_of_names_stays_bounded() {
        let family = Arc::new(Family::<Counter, 2>::default());
        let shard = family.shard();
        for i in 0..100_000 {
            shard.cell(["openai", &format!("model-{i}")], Newcomer::Admit).add(1);
        }
        let series = family.series();
        assert_eq!(series.len(), METRIC_LABEL_VALUES_MAX + 1);
        assert_eq!(total(&family, ["openai", OTHER]), 100_000 - METRIC_LABEL_VALUES_MAX as u64);
        assert_eq!(total(&family, ["openai", "model-0"]), 1);
    }

    #[test]
    fn the_product_of_labels_is_bounded_too() {
        let family = Arc::new(Family::<Counter, 2>::default());
        let shard = family.shard();
        for i in 0..150 {
            for j in 0..150 {
                shard.cell([&format!("p{i}"), &format!("m{j}")], Newcomer::Admit).add(1);
            }
        }
        let series = family.series();
        assert_eq!(series.len(), METRIC_SERIES_MAX + 1);
        let all: u64 = series.iter().flat_map(|(_, cells)| cells).map(|c| c.value()).sum();
        assert_eq!(all, 150 * 150, "nothing is lost");
    }

    #[test]
    fn a_name_that_nobody_answered_takes_no_place() {
        let family = Arc::new(Family::<Counter, 2>::default());
        let shard = family.shard();
        shard.cell(["openai", "real"], Newcomer::Admit).add(1);
        shard.cell(["openai", "guess"], Newcomer::NotAt(1)).add(1);
        shard.cell(["openai", "real"], Newcomer::NotAt(1)).add(1);
        shard.cell(["groq", "real"], Newcomer::NotAt(1)).add(4);
        assert_eq!(total(&family, ["openai", "guess"]), 0);
        assert_eq!(total(&family, ["openai", OTHER]), 1);
        assert_eq!(total(&family, ["openai", "real"]), 2);
        assert_eq!(total(&family, ["groq", "real"]), 4, "a new set of known values");
    }
}
