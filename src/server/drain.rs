//! The signal to finish: one per process, watched by every listener and connection.
//!
//! Begun once and never taken back. Listeners close, connections finish what they serve; what is left
//! at the bound is told so, and then cut.

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
    over: Arc<AtomicBool>,
    stage: Arc<watch::Sender<Stage>>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Serving,
    Draining { until: Instant },
    Over,
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
        Self { begun: Arc::default(), over: Arc::default(), stage: Arc::new(watch::Sender::new(Stage::Serving)) }
    }

    /// Lets everything finish within `bound` from now. A second call changes nothing.
    pub fn begin(&self, bound: Duration) {
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.stage.send_replace(Stage::Draining { until: Instant::now() + bound });
        }
    }

    /// The bound has been reached: what is still open says its last words.
    pub fn end(&self) {
        self.begun.store(true, Ordering::Release);
        if !self.over.swap(true, Ordering::AcqRel) {
            self.stage.send_replace(Stage::Over);
        }
    }

    /// One load: asked at every poll of an answer.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// One load: asked at every poll of a connection.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Ready when draining has begun; gives the moment at which what is left is cut.
    pub fn begun(&self) -> impl Future<Output = Instant> + Send + use<> {
        self.reached(|stage| match stage {
            Stage::Serving => None,
            Stage::Draining { until } => Some(until),
            Stage::Over => Some(Instant::now()),
        })
    }

    /// Ready when the bound has been reached.
    pub fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(|stage| matches!(stage, Stage::Over).then_some(()))
    }

    fn reached<T: Send>(&self, look: fn(Stage) -> Option<T>) -> impl Future<Output = T> + Send + use<T> {
        let mut stage = self.stage.subscribe();
        async move {
            loop {
                let now = *stage.borrow_and_update();
                if let Some(reached) = look(now) {
                    return reached;
                }
                if stage.changed().await.is_err() {
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
        assert!(!drain.is_over());
        let over = drain.over();
        drain.end();
        drain.end();
        over.await;
        assert!(drain.is_over() && drain.clone().is_begun());
    }
}
