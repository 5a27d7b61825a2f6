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
    seed: u64,
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
    cells: Mutex<Cells<C, K>>,
}

/// By hash of the label values, which are hashed once per look-up and never copied for it.
type Cells<C, const K: usize> = HashMap<u64, SmallVec<[Labelled<C, K>; 1]>, BuildHasherDefault<Hashed>>;

/// A label set and the cells of all workers.
pub type Series<C, const K: usize> = ([Box<str>; K], Vec<Arc<C>>);

#[derive(Debug)]
struct Labelled<C, const K: usize> {
    labels: [Box<str>; K],
    cell: Arc<C>,
}

impl<C: Default, const K: usize> Default for Family<C, K> {
    fn default() -> Self {
        let registry = Registry { values: std::array::from_fn(|_| HashSet::new()), series: BTreeMap::new() };
        Self { registry: Mutex::new(registry), seed: RandomState::new().hash_one(0) }
    }
}

impl<C: Default, const K: usize> Family<C, K> {
    pub fn shard(self: &Arc<Self>) -> Shard<C, K> {
        Shard { family: Arc::clone(self), cells: Mutex::default() }
    }

    /// Every label set with the cells of all workers, sorted.
    pub fn series(&self) -> Vec<Series<C, K>> {
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

    /// Not SipHash: this runs twice per request. The seed is secret, so names that collide cannot be
    /// made up; and those that do share a short list.
    fn hash(&self, labels: [&str; K]) -> u64 {
        let mut hash = self.seed;
        for label in labels {
            for word in label.as_bytes().chunks(8) {
                let word = word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
                hash = folded(hash ^ word);
            }
            // A border between labels: ("ab", "c") is not ("a", "bc").
            hash = folded(hash ^ self.seed.rotate_left(32) ^ 0xff);
        }
        hash
    }
}

/// Both halves of a wide product, for every bit to reach every other.
fn folded(value: u64) -> u64 {
    let wide = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    let (low, high) = (wide as u64, (wide >> 64) as u64);
    low ^ high
}

impl<C: Default, const K: usize> Shard<C, K> {
    /// Lets `record` add to the worker's cell for these label values, under the worker's own lock:
    /// so a cell has one writer at a time and needs no read-modify-write.
    pub fn with(&self, labels: [&str; K], newcomer: Newcomer, record: impl FnOnce(&C)) {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = find(&cells, self.family.hash(labels), labels) {
            record(cell);
            return;
        }
        drop(cells);
        self.first(labels, newcomer, record);
    }

    /// A label set that this worker has no cell for.
    #[cold]
    fn first(&self, labels: [&str; K], newcomer: Newcomer, record: impl FnOnce(&C)) {
        let admitted = self.family.admitted(labels, newcomer);
        let borrowed = admitted.each_ref().map(|label| &**label);
        let hash = self.family.hash(borrowed);
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = find(&cells, hash, borrowed) {
            record(cell);
            return;
        }
        let cell = Arc::new(C::default());
        record(&cell);
        let mut registry = self.family.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.series.entry(admitted.clone()).or_default().push(Arc::clone(&cell));
        drop(registry);
        cells.entry(hash).or_default().push(Labelled { labels: admitted, cell });
    }
}

fn find<'a, C, const K: usize>(cells: &'a Cells<C, K>, hash: u64, labels: [&str; K]) -> Option<&'a C> {
    let same = cells.get(&hash)?;
    same.iter().find(|one| one.labels.iter().zip(labels).all(|(a, b)| **a == *b)).map(|one| &*one.cell)
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
        one.with(["a", "x"], Newcomer::Admit, |c: &Counter| c.add(2));
        one.with(["a", "x"], Newcomer::Admit, |c: &Counter| c.add(3));
        two.with(["a", "x"], Newcomer::Admit, |c: &Counter| c.add(10));
        assert_eq!(total(&family, ["a", "x"]), 15);
        assert_eq!(family.series().len(), 1);
        assert_eq!(family.series()[0].1.len(), 2, "one cell per worker, not one per call");
    }

    #[test]
    fn a_flood_of_names_stays_bounded() {
        let family = Arc::new(Family::<Counter, 2>::default());
        let shard = family.shard();
        for i in 0..100_000 {
            shard.with(["openai", &format!("model-{i}")], Newcomer::Admit, |c: &Counter| c.add(1));
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
                shard.with([&format!("p{i}"), &format!("m{j}")], Newcomer::Admit, |c: &Counter| c.add(1));
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
        shard.with(["openai", "real"], Newcomer::Admit, |c: &Counter| c.add(1));
        shard.with(["openai", "guess"], Newcomer::NotAt(1), |c: &Counter| c.add(1));
        shard.with(["openai", "real"], Newcomer::NotAt(1), |c: &Counter| c.add(1));
        shard.with(["groq", "real"], Newcomer::NotAt(1), |c: &Counter| c.add(4));
        assert_eq!(total(&family, ["openai", "guess"]), 0);
        assert_eq!(total(&family, ["openai", OTHER]), 1);
        assert_eq!(total(&family, ["openai", "real"]), 2);
        assert_eq!(total(&family, ["groq", "real"]), 4, "a new set of known values");
    }
}
