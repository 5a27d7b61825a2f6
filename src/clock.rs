//! The one place where monotonic time becomes [`Ticks`]: tokio's clock, so that tests may pause it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::ticks::Ticks;

/// Counts from when it was made; a copy counts from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn starting_now() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> Ticks {
        Ticks(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Wall time, for dates in headers and on the wire; never for deadlines.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    pub fn since_start(&self) -> Duration {
        self.start.elapsed()
    }
}
