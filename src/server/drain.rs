//! The signal to finish: one per process, watched by every listener and connection.
//!
//! Begun once and never taken back. Listeners close, connections finish what they serve, and what
//! is left at the bound is cut.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Cheap to clone; all clones are the same signal.
#[derive(Clone, Debug)]
pub struct Drain {
    begun: Arc<AtomicBool>,
    until: Arc<watch::Sender<Option<Instant>>>,
}

/// How the connections of a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Still open at the bound, hence cut.
    pub cut: usize,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    pub fn new() -> Self {
        Self { begun: Arc::default(), until: Arc::new(watch::Sender::new(None)) }
    }

    /// Lets everything finish within `bound` from now. A second call changes nothing.
    pub fn begin(&self, bound: Duration) {
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.until.send_replace(Some(Instant::now() + bound));
        }
    }

    /// One load: asked at every poll of a connection.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Ready when draining has begun; gives the moment at which what is left is cut.
    pub fn begun(&self) -> impl Future<Output = Instant> + Send + use<> {
        let mut until = self.until.subscribe();
        async move {
            loop {
                if let Some(until) = *until.borrow_and_update() {
                    return until;
                }
                if until.changed().await.is_err() {
                    // Nobody is left who could begin it.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn begins_once() {
        let drain = Drain::new();
        let early = drain.begun();
        assert!(!drain.is_begun());
        let start = Instant::now();
        drain.begin(Duration::from_secs(3));
        drain.begin(Duration::from_secs(9));
        assert!(drain.is_begun());
        assert_eq!(early.await - start, Duration::from_secs(3));
        assert_eq!(drain.clone().begun().await - start, Duration::from_secs(3), "late watchers see it too");
    }
}
