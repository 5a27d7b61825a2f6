//! A bound on how many of something exist at once, and the proof of being one of them.
//!
//! One padded counter, no queue: whoever does not get a [`Permit`] is refused at once, because a
//! waiting room in front of an overloaded process only moves the overload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counter stands alone on its cache line, for all workers touch it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// At most `max` permits at a time; `max` may be changed by a reload.
#[derive(Clone, Debug)]
pub struct Bound {
    taken: Arc<Count>,
}

impl Default for Bound {
    fn default() -> Self {
        Self::new()
    }
}

impl Bound {
    pub fn new() -> Self {
        Self { taken: Arc::new(Count::default()) }
    }

    /// A permit, or `None` when `max` are out. `max` is an argument because it belongs to the
    /// generation that the request runs on, while the count outlives generations.
    pub fn take(&self, max: u64) -> Option<Permit> {
        let before = self.taken.0.fetch_add(1, Ordering::AcqRel);
        let permit = Permit { taken: Arc::clone(&self.taken) };
        // Dropping the permit on the refusal path gives the count back.
        (before < max).then_some(permit)
    }

    pub fn taken(&self) -> u64 {
        self.taken.0.load(Ordering::Acquire)
    }
}

/// Given back on drop.
#[derive(Debug)]
pub struct Permit {
    taken: Arc<Count>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound() {
        let bound = Bound::new();
        let first = bound.take(2);
        let second = bound.take(2);
        assert!(first.is_some() && second.is_some());
        assert!(bound.take(2).is_none());
        assert_eq!(bound.taken(), 2);
        drop(first);
        assert!(bound.take(2).is_some());
    }
}
