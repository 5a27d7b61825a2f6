//! The retry budget of one origin: how many attempts it may see beyond one for each request.
//!
//! Each request earns a share of a retry, each retry takes a whole one; a small floor comes back with
//! time, so that an origin with few requests can be tried again at all. Lock-free. Knows neither what
//! a retry is (that is `dispatch/trouble.rs`) nor a clock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{RETRY_FLOOR, RETRY_FLOOR_INTERVAL, RETRY_SAVED_MAX, RETRY_SHARE_PERMILLE};
use crate::ticks::Ticks;

/// One retry, in the unit that is counted in.
const ONE: u64 = 1000;

/// At most `RETRY_FLOOR` + one per `RETRY_FLOOR_INTERVAL` + a fifth of the requests.
#[derive(Debug)]
pub struct RetryBudget {
    /// Thousandths of a retry.
    saved: AtomicU64,
    /// Up to when the floor has been refilled.
    refilled: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: AtomicU64::new(RETRY_FLOOR * ONE), refilled: AtomicU64::new(0) }
    }
}

impl RetryBudget {
    /// A request goes to the origin for the first time. Full, which is the usual state, it is read
    /// and not written: workers share it.
    pub fn earn(&self) {
        if self.saved.load(Ordering::Relaxed) < RETRY_SAVED_MAX * ONE {
            self.saved.fetch_add(RETRY_SHARE_PERMILLE, Ordering::Relaxed);
        }
    }

    /// Takes one retry, if there is one.
    pub fn take(&self, now: Ticks) -> bool {
        self.refill(now);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(ONE)).is_ok()
    }

    /// A retry that was taken and not made.
    pub fn give_back(&self) {
        self.saved.fetch_add(ONE, Ordering::Relaxed);
    }

    fn refill(&self, now: Ticks) {
        let since = self.refilled.load(Ordering::Relaxed);
        let interval = u64::try_from(RETRY_FLOOR_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let due = now.0.saturating_sub(since) / interval;
        if due == 0 {
            return;
        }
        let until = since + due * interval;
        // Lost: whoever won has refilled.
        if self.refilled.compare_exchange(since, until, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let floor = RETRY_FLOOR * ONE;
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
            (saved < floor).then(|| saved.saturating_add(due.saturating_mul(ONE)).min(floor))
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Ticks {
        Ticks(seconds * 1000)
    }

    fn taken(budget: &RetryBudget, now: Ticks) -> u64 {
        (0..).take_while(|_| budget.take(now)).count() as u64
    }

    #[test]
    fn the_floor_the_share_and_the_cap() {
        let budget = RetryBudget::default();
        assert_eq!(taken(&budget, at(5)), RETRY_FLOOR);
        assert_eq!(taken(&budget, at(9)), 0);
        // One comes back in each interval, and no more than the floor.
        assert_eq!(taken(&budget, at(10)), 1);
        assert_eq!(taken(&budget, at(35)), 2);
        assert_eq!(taken(&budget, at(36)), 0);
        assert_eq!(taken(&budget, at(100_000)), RETRY_FLOOR);
        // Five requests earn one.
        (0..5).for_each(|_| budget.earn());
        assert_eq!(taken(&budget, at(100_000)), 1);
        (0..1_000_000).for_each(|_| budget.earn());
        assert_eq!(taken(&budget, at(100_000)), RETRY_SAVED_MAX);
        budget.give_back();
        assert_eq!(taken(&budget, at(100_000)), 1);
    }

    proptest! {
        /// Whatever the order of requests and failures: a fifth of the requests and the floor.
        #[test]
        fn never_more_than_its_share(steps in proptest::collection::vec((0u8..6, 0u64..3_000), 1..400)) {
            let budget = RetryBudget::default();
            let (mut now, mut requests, mut retries) = (Ticks(0), 0u64, 0u64);
            for (step, pause) in steps {
                now = Ticks(now.0 + pause);
                if step < 2 {
                    requests += 1;
                    budget.earn();
                } else if budget.take(now) {
                    if step == 5 { budget.give_back() } else { retries += 1 }
                }
                let refilled = now.0 / 1000 / RETRY_FLOOR_INTERVAL.as_secs();
                prop_assert!(retries * 1000 <= (RETRY_FLOOR + refilled) * 1000 + requests * RETRY_SHARE_PERMILLE);
            }
        }
    }
}
