//! Time as pure code sees it: milliseconds since the process started.
//!
//! One `u64`, so that a deadline fits an atomic. Reads no clock: the app makes a [`Ticks`] from
//! tokio's clock and hands it down.

use std::time::Duration;

/// Milliseconds since process start, on the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Ticks(pub u64);

impl Ticks {
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long until `self` as seen from `now`; zero when it has passed.
    pub fn remaining(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }

    /// How long since `earlier`; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
