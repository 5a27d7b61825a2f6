//! How the attempts of one key went lately: counts and latencies over rolling windows of a minute,
//! five minutes and an hour.
//!
//! Three rings of buckets, each bucket a row of atomic counters: whoever ends an attempt adds to three
//! of them and waits for nobody. A bucket whose time is over is emptied by the first who needs it; what
//! others add in that very moment may be lost, a few attempts in a window. Latencies are kept in steps of
//! a fifth, so a percentile is as true as that.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::ticks::Ticks;

/// Steps per doubling of a latency.
const STEPS: u32 = 4;
/// From 1 ms to 2^18 ms, which is longer than any first byte is waited for by default.
const CELLS: usize = 18 * STEPS as usize;

/// One ring: how long a bucket lasts, and how many there are.
const MINUTE: (u64, usize) = (5, 12);
const FIVE_MINUTES: (u64, usize) = (30, 10);
const HOUR: (u64, usize) = (300, 12);

/// A window that can be asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    Minute,
    FiveMinutes,
    Hour,
}

impl Window {
    pub const ALL: [Self; 3] = [Self::Minute, Self::FiveMinutes, Self::Hour];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
        }
    }
}

/// What a window holds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct WindowSeen {
    /// Attempts that ended, but for those whose caller left.
    pub attempts: u64,
    pub failures: u64,
    /// Of good answers, to their first byte; `None` without any.
    pub p50: Option<Duration>,
    pub p90: Option<Duration>,
    pub p95: Option<Duration>,
    pub p99: Option<Duration>,
}

impl WindowSeen {
    /// `None` before traffic.
    pub fn success_rate(&self) -> Option<f64> {
        let good = self.attempts.saturating_sub(self.failures);
        // Counts of an hour are far below what an f64 holds exactly.
        (self.attempts > 0).then(|| good as f64 / self.attempts as f64)
    }
}

/// The windows of one key.
#[derive(Debug)]
pub struct Windows {
    minute: [Bucket; MINUTE.1],
    five_minutes: [Bucket; FIVE_MINUTES.1],
    hour: [Bucket; HOUR.1],
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            minute: std::array::from_fn(|_| Bucket::default()),
            five_minutes: std::array::from_fn(|_| Bucket::default()),
            hour: std::array::from_fn(|_| Bucket::default()),
        }
    }
}

impl Windows {
    /// An attempt ended: with a first byte after `good`, or in a failure.
    pub fn add(&self, good: Option<Duration>, now: Ticks) {
        for window in Window::ALL {
            let (seconds, ring) = self.ring(window);
            let turn = now.0 / 1000 / seconds;
            let at = usize::try_from(turn).unwrap_or_default() % ring.len();
            if let Some(bucket) = ring.get(at) {
                bucket.add(good, turn.wrapping_add(1));
            }
        }
    }

    pub fn seen(&self, window: Window, now: Ticks) -> WindowSeen {
        let (seconds, ring) = self.ring(window);
        let turn = now.0 / 1000 / seconds;
        let newest = turn.wrapping_add(1);
        let oldest = newest.saturating_sub(ring.len() as u64 - 1);
        let mut cells = [0u64; CELLS];
        let mut seen = WindowSeen::default();
        for bucket in ring.iter().filter(|it| (oldest..=newest).contains(&it.turn.load(Ordering::Acquire))) {
            seen.failures += u64::from(bucket.failures.load(Ordering::Relaxed));
            for (sum, cell) in cells.iter_mut().zip(&bucket.cells) {
                *sum += u64::from(cell.load(Ordering::Relaxed));
            }
        }
        let good: u64 = cells.iter().sum();
        seen.attempts = good + seen.failures;
        let percentile = |percent: u64| {
            let rank = (good * percent).div_ceil(100).max(1);
            let mut below = 0;
            let at = cells.iter().position(|cell| {
                below += cell;
                below >= rank
            });
            at.filter(|_| good > 0).map(middle)
        };
        WindowSeen { p50: percentile(50), p90: percentile(90), p95: percentile(95), p99: percentile(99), ..seen }
    }

    fn ring(&self, window: Window) -> (u64, &[Bucket]) {
        match window {
            Window::Minute => (MINUTE.0, &self.minute),
            Window::FiveMinutes => (FIVE_MINUTES.0, &self.five_minutes),
            Window::Hour => (HOUR.0, &self.hour),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    /// Which turn of the ring it counts, from 1; 0: none yet.
    turn: AtomicU64,
    failures: AtomicU32,
    cells: [AtomicU32; CELLS],
}

impl Default for Bucket {
    fn default() -> Self {
        Self { turn: AtomicU64::new(0), failures: AtomicU32::new(0), cells: std::array::from_fn(|_| AtomicU32::new(0)) }
    }
}

impl Bucket {
    fn add(&self, good: Option<Duration>, turn: u64) {
        let counted = self.turn.load(Ordering::Acquire);
        // Who comes late with an old turn does not take a newer one's place.
        if counted < turn && self.turn.compare_exchange(counted, turn, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.failures.store(0, Ordering::Relaxed);
            self.cells.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        }
        let counter = match good {
            None => Some(&self.failures),
            Some(latency) => self.cells.get(cell(latency)),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Which cell a latency falls into: equal steps of its logarithm.
fn cell(latency: Duration) -> usize {
    let millis = latency.as_secs_f64() * 1000.0;
    let step = millis.max(1.0).log2() * f64::from(STEPS);
    // Rounded down on purpose; never negative, for it is at least log2(1).
    (step as usize).min(CELLS - 1)
}

/// What stands for all latencies of a cell: its geometric middle.
fn middle(cell: usize) -> Duration {
    let exponent = (cell as f64 + 0.5) / f64::from(STEPS);
    Duration::from_secs_f64(exponent.exp2() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Ticks {
        Ticks(seconds * 1000)
    }

    const fn ms(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[track_caller]
    fn is_about(found: Option<Duration>, millis: u64) {
        let (found, wanted) = (found.unwrap().as_secs_f64() * 1000.0, millis as f64);
        assert!((found / wanted).ln().abs() < 0.1, "{found} ms for {wanted} ms");
    }

    #[test]
    fn counts_and_percentiles() {
        let windows = Windows::default();
        assert_eq!(windows.seen(Window::Hour, at(0)), WindowSeen::default());
        assert_eq!(WindowSeen::default().success_rate(), None);
        for _ in 0..90 {
            windows.add(ms(100), at(10));
        }
        for _ in 0..9 {
            windows.add(ms(2_000), at(10));
        }
        windows.add(ms(60_000), at(10));
        windows.add(None, at(10));
        for window in Window::ALL {
            let seen = windows.seen(window, at(12));
            assert_eq!((seen.attempts, seen.failures), (101, 1), "{window:?}");
            assert!((seen.success_rate().unwrap() - 100.0 / 101.0).abs() < 1e-9);
            is_about(seen.p50, 100);
            is_about(seen.p90, 100);
            is_about(seen.p95, 2_000);
            is_about(seen.p99, 2_000);
        }
    }

    #[test]
    fn windows_roll() {
        let windows = Windows::default();
        windows.add(None, at(1));
        windows.add(ms(5), at(59));
        let attempts = |window, now| windows.seen(window, at(now)).attempts;
        assert_eq!((attempts(Window::Minute, 59), attempts(Window::Minute, 70)), (2, 1));
        assert_eq!((attempts(Window::Minute, 120), attempts(Window::FiveMinutes, 120)), (0, 2));
        assert_eq!((attempts(Window::FiveMinutes, 400), attempts(Window::Hour, 400)), (0, 2));
        assert_eq!(attempts(Window::Hour, 2 * 3600), 0);
        // The ring comes round: what stood in the bucket is gone.
        windows.add(ms(5), at(3600 + 1));
        assert_eq!(attempts(Window::Minute, 3600 + 1), 1);
        // A late one does not bring an old turn back.
        windows.add(ms(5), at(61));
        assert_eq!(attempts(Window::Minute, 3600 + 1), 2);
    }

    #[test]
    fn every_latency_has_a_cell() {
        for millis in [0, 1, 2, 3, 10, 999, 1_000, 262_143, 262_144, u64::MAX / 1_000_000] {
            let cell = cell(Duration::from_millis(millis));
            assert!(cell < CELLS, "{millis}");
            if (2..262_143).contains(&millis) {
                is_about(Some(middle(cell)), millis);
            }
        }
    }

    #[test]
    fn many_at_once() {
        let windows = Windows::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| windows.add(ms(7), at(3))));
            }
        });
        assert!(windows.seen(Window::Minute, at(3)).attempts >= 3_990);
    }
}
