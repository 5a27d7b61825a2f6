//! Requests a minute, counted in one word: no lock, and no thread waits for another.
//!
//! A sliding window: what was admitted in the minute before counts by the share of it that still
//! lies within the last sixty seconds. Time is an argument, in milliseconds since 1970: gateways that
//! share a limit have the same minutes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Highest limit: what a count has room for.
pub const RATE_MAX: u64 = COUNT_MASK;

const MINUTE_MS: u64 = 60_000;
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const MINUTE_MASK: u64 = u16::MAX as u64;

/// What was admitted, here and by those who share the limit.
#[derive(Debug, Default)]
pub struct RateCell {
    here: AtomicU64,
    elsewhere: AtomicU64,
}

/// A limit and what is left of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    pub limit: u64,
    pub remaining: u64,
    /// Until what is left grows again.
    pub reset: Duration,
}

static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

impl Tally {
    /// Says in a head how much is left.
    pub fn tell(&self, head: &mut HeaderMap) {
        head.insert(&LIMIT, HeaderValue::from(self.limit));
        head.insert(&REMAINING, HeaderValue::from(self.remaining));
        head.insert(&RESET, HeaderValue::from(self.reset_seconds()));
    }

    /// Rounded up: who comes back a moment early is refused again.
    pub fn reset_seconds(&self) -> u64 {
        self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0)
    }
}

/// Counts of a minute and of the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub minute: u64,
    pub before: u64,
    pub now: u64,
}

impl Counts {
    fn unpack(word: u64) -> Self {
        Self { minute: word >> (2 * COUNT_BITS), before: word >> COUNT_BITS & COUNT_MASK, now: word & COUNT_MASK }
    }

    fn pack(self) -> u64 {
        self.minute << (2 * COUNT_BITS) | self.before.min(COUNT_MASK) << COUNT_BITS | self.now.min(COUNT_MASK)
    }

    /// The same counts as they are seen in another minute.
    fn at(self, minute: u64) -> Self {
        match minute.wrapping_sub(self.minute) & MINUTE_MASK {
            0 => self,
            1 => Self { minute, before: self.now, now: 0 },
            // Another gateway's clock is a little ahead: its count is of the minute to come.
            MINUTE_MASK => Self { minute, before: self.before, now: self.now },
            _ => Self { minute, before: 0, now: 0 },
        }
    }

    /// How many count, so long after the beginning of the minute.
    fn weighed(self, elapsed_ms: u64) -> u64 {
        self.now + (self.before * MINUTE_MS.saturating_sub(elapsed_ms)).div_ceil(MINUTE_MS)
    }

    /// Milliseconds until fewer than `limit` count; at most until they have all gone.
    fn frees_in(self, limit: u64, elapsed_ms: u64) -> u64 {
        let rest = MINUTE_MS.saturating_sub(elapsed_ms);
        let until = |count: u64, room: u64| {
            MINUTE_MS - room.saturating_mul(MINUTE_MS).checked_div(count).unwrap_or(MINUTE_MS).min(MINUTE_MS)
        };
        let Some(room) = limit.checked_sub(1) else { return rest };
        match room.checked_sub(self.now) {
            Some(room) => until(self.before, room).saturating_sub(elapsed_ms),
            None => rest + until(self.now, room),
        }
    }
}

impl RateCell {
    /// Takes one out of `limit` requests a minute, or says what stands against it.
    pub fn take(&self, limit: u64, now_ms: u64) -> Result<Tally, Tally> {
        let (minute, elapsed) = ((now_ms / MINUTE_MS) & MINUTE_MASK, now_ms % MINUTE_MS);
        let elsewhere = Counts::unpack(self.elsewhere.load(Ordering::Relaxed)).at(minute);
        let mut word = self.here.load(Ordering::Relaxed);
        loop {
            let here = Counts::unpack(word).at(minute);
            let all = Counts { minute, before: here.before + elsewhere.before, now: here.now + elsewhere.now };
            let used = all.weighed(elapsed);
            if used >= limit {
                let reset = Duration::from_millis(all.frees_in(limit, elapsed).max(1));
                return Err(Tally { limit, remaining: 0, reset });
            }
            let taken = Counts { now: here.now + 1, ..here }.pack();
            match self.here.compare_exchange_weak(word, taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let reset = Duration::from_millis(MINUTE_MS - elapsed);
                    return Ok(Tally { limit, remaining: limit - used - 1, reset });
                }
                Err(found) => word = found,
            }
        }
    }

    /// What was admitted here, for those who share the limit.
    pub fn here(&self, now_ms: u64) -> Counts {
        Counts::unpack(self.here.load(Ordering::Relaxed)).at((now_ms / MINUTE_MS) & MINUTE_MASK)
    }

    /// What the others say that they have admitted, each by its own clock.
    pub fn heard(&self, others: impl Iterator<Item = Counts>, now_ms: u64) {
        let minute = (now_ms / MINUTE_MS) & MINUTE_MASK;
        let seen = others.map(|counts| Counts { minute: counts.minute & MINUTE_MASK, ..counts }.at(minute));
        let sum = seen.fold(Counts { minute, ..Counts::default() }, |sum, counts| Counts {
            minute,
            before: sum.before.saturating_add(counts.before),
            now: sum.now.saturating_add(counts.now),
        });
        self.elsewhere.store(sum.pack(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some minute's beginning.
    const START: u64 = 29_000_000 * MINUTE_MS;

    #[test]
    fn the_limit_and_not_one_more() {
        let cell = RateCell::default();
        for left in (0..5).rev() {
            assert_eq!(cell.take(5, START + 10_000).unwrap().remaining, left);
        }
        let refused = cell.take(5, START + 10_000).unwrap_err();
        // One of five has slid out of the window when a fifth of the next minute is over.
        assert_eq!(refused, Tally { limit: 5, remaining: 0, reset: Duration::from_secs(62) });
        assert!(cell.take(5, START + 71_999).is_err());
        assert!(cell.take(5, START + 72_000).is_ok());
        assert!(cell.take(5, START + 72_000).is_err());
        assert_eq!(cell.take(5, START + 600_000).unwrap().remaining, 4);
        assert!(RateCell::default().take(0, START).is_err());
    }

    #[test]
    fn many_threads_take_no_more_than_there_is() {
        let cell = RateCell::default();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| cell.take(600, START + 5).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 600);
    }

    #[test]
    fn the_others_count_too() {
        let (a, b) = (RateCell::default(), RateCell::default());
        for _ in 0..4 {
            a.take(5, START).unwrap();
        }
        b.heard([a.here(START), Counts::default()].into_iter(), START);
        assert_eq!(b.take(5, START).unwrap().remaining, 0);
        assert!(b.take(5, START).is_err());
    }

    proptest! {
        /// Nobody waits in vain, and nobody has to wait longer than was said.
        #[test]
        fn what_is_said_of_the_wait_holds(
            limit in 1u64..50,
            steps in proptest::collection::vec(0u64..20_000, 1..200),
        ) {
            let cell = RateCell::default();
            let mut now = START;
            let mut admitted = Vec::new();
            for step in steps {
                now += step;
                match cell.take(limit, now) {
                    Ok(_) => admitted.push(now),
                    Err(tally) => {
                        let wait = u64::try_from(tally.reset.as_millis()).unwrap();
                        prop_assert!(wait <= 2 * MINUTE_MS);
                        now += wait;
                        prop_assert!(cell.take(limit, now).is_ok(), "after {wait}");
                        admitted.push(now);
                    }
                }
                // By calendar minutes the limit is never passed.
                let minute = admitted.iter().filter(|at| **at / MINUTE_MS == now / MINUTE_MS).count() as u64;
                prop_assert!(minute <= limit);
            }
        }
    }
}
