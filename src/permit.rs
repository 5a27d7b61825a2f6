//! Bounds on how many of something exist at once, and the proof of being one of them: [`Bound`] for
//! things, [`Room`] for bytes.
//!
//! One padded counter, no queue: whoever does not get a [`Permit`] is refused at once, because a
//! waiting room in front of an overloaded process only moves the overload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{BODY_SHARE_STEP_BYTES, BODY_UNCOUNTED_BYTES};

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

/// A bound on bytes that are held at once, by whatever number of holders.
#[derive(Clone, Debug)]
pub struct Room {
    held: Arc<Count>,
    bytes_max: u64,
}

impl Room {
    pub fn new(bytes_max: u64) -> Self {
        Self { held: Arc::new(Count::default()), bytes_max }
    }

    /// A holder of nothing yet.
    pub fn share(&self) -> Share {
        Share { room: self.clone(), bytes: 0 }
    }

    pub fn held(&self) -> u64 {
        self.held.0.load(Ordering::Acquire)
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

/// What one holder has of a [`Room`]. Given back on drop.
#[derive(Debug)]
pub struct Share {
    room: Room,
    bytes: u64,
}

impl Share {
    /// Makes room for a body that has grown to `bytes`, or says that there is none. Up to
    /// BODY_UNCOUNTED_BYTES cost nothing, what is beyond comes in steps.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        if bytes <= self.bytes || bytes <= BODY_UNCOUNTED_BYTES {
            return true;
        }
        let wanted = bytes.next_multiple_of(BODY_SHARE_STEP_BYTES);
        let more = wanted - self.bytes;
        let before = self.room.held.0.fetch_add(more, Ordering::AcqRel);
        self.bytes = wanted;
        // The refused holder gives back what it took when it is dropped.
        before.saturating_add(more) <= self.room.bytes_max
    }

    /// Whether a body of this length can have room at all.
    pub fn could_grow(&self, bytes: u64) -> bool {
        bytes <= BODY_UNCOUNTED_BYTES || bytes.next_multiple_of(BODY_SHARE_STEP_BYTES) <= self.room.bytes_max
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.held.0.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_at_the_bound() {
        const STEP: u64 = BODY_SHARE_STEP_BYTES;
        let room = Room::new(3 * STEP);
        let (mut one, mut two) = (room.share(), room.share());
        assert!(one.grow(BODY_UNCOUNTED_BYTES) && room.held() == 0);
        assert!(one.grow(BODY_UNCOUNTED_BYTES + 1) && room.held() == STEP);
        assert!(one.grow(STEP) && room.held() == STEP, "within the step");
        assert!(two.grow(2 * STEP) && room.held() == 3 * STEP);
        assert!(!one.grow(STEP + 1), "full");
        drop(one);
        assert_eq!(room.held(), 2 * STEP);
        assert!(two.grow(3 * STEP));
        assert!(!room.share().grow(BODY_UNCOUNTED_BYTES + 1));
        assert!(room.share().grow(BODY_UNCOUNTED_BYTES), "small ones are not held up");
        assert!(two.could_grow(3 * STEP) && !two.could_grow(3 * STEP + 1));
        drop(two);
        assert_eq!(room.held(), 0);
    }

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
