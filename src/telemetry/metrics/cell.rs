//! What is counted, as atomics: counters and histograms with fixed bounds.
//!
//! Each worker has its own and writes them under a lock of its own, so a load and a store do what
//! a read-modify-write would; the scrape reads without that lock and adds up. Two writers at a time
//! would lose counts. No labels here (family.rs) and no text (text.rs).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        add(&self.0, count);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// Upper bounds of a histogram's buckets, in nanoseconds, ascending.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<const N: usize>(pub [u64; N]);

/// Time spans by bucket; the last cell takes what is over every bound.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    within: [AtomicU64; N],
    over: AtomicU64,
    sum_ns: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { within: [const { AtomicU64::new(0) }; N], over: AtomicU64::new(0), sum_ns: AtomicU64::new(0) }
    }
}

impl<const N: usize> Histogram<N> {
    /// A span equal to a bound counts as within it.
    pub fn observe(&self, bounds: &Bounds<N>, span: Duration) {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bounds.0.iter().zip(&self.within).find(|(bound, _)| ns <= **bound);
        add(bucket.map_or(&self.over, |(_, cell)| cell), 1);
        add(&self.sum_ns, ns);
    }
}

/// Histograms added up for one scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums<const N: usize> {
    pub within: [u64; N],
    pub over: u64,
    pub sum_ns: u64,
}

impl<const N: usize> Default for Sums<N> {
    fn default() -> Self {
        Self { within: [0; N], over: 0, sum_ns: 0 }
    }
}

impl<const N: usize> Sums<N> {
    pub fn add(&mut self, histogram: &Histogram<N>) {
        for (sum, cell) in self.within.iter_mut().zip(&histogram.within) {
            *sum += cell.load(Ordering::Relaxed);
        }
        self.over += histogram.over.load(Ordering::Relaxed);
        self.sum_ns = self.sum_ns.saturating_add(histogram.sum_ns.load(Ordering::Relaxed));
    }

    pub fn count(&self) -> u64 {
        self.within.iter().sum::<u64>() + self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bounds() {
        let bounds = Bounds([10, 20]);
        let histogram = Histogram::default();
        for ns in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(&bounds, Duration::from_nanos(ns));
        }
        let mut sums = Sums::default();
        sums.add(&histogram);
        assert_eq!((sums.within, sums.over, sums.sum_ns, sums.count()), ([2, 2], 2, 1062, 6));
        sums.add(&histogram);
        assert_eq!(sums.count(), 12);
    }
}
