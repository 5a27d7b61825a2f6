//! What an operator sees: log events, one access line per request, metrics.
//!
//! Recording never waits: a worker appends to its own buffer and adds to its own cells; the log
//! thread and the scrape do the rest. Knows nothing of the snapshot, of HTTP routes or of the
//! store: names and numbers come in as arguments. Holds no secret and no body.

use std::sync::Arc;

pub mod access;
mod event;
pub mod line;
pub mod log;
pub mod metrics;

pub use access::{AccessLine, Outcome, Tokens};
pub use log::{Format, Log, LogHandle, LogOptions};
pub use metrics::{AttemptOutcome, Meters, Observed};

/// A worker's own ends of log and metrics.
#[derive(Debug)]
pub struct Recorder {
    access: Arc<log::LineBuffer>,
    meters: Arc<metrics::WorkerMeters>,
}

impl Recorder {
    /// `worker` counts from 0; one beyond `Meters::new` shares the cells of another.
    pub fn new(log: &LogHandle, meters: &Meters, worker: usize) -> Self {
        Self { access: log.buffer(), meters: meters.worker(worker) }
    }

    /// A request has ended: counted always, written where `line.logged`.
    pub fn finish(&self, line: &AccessLine) {
        self.meters.request(line);
        if line.logged {
            let format = self.access.format();
            self.access.push(|out| line.write(format, out));
        }
    }

    /// One upstream try of a request has ended. `key` is the key's id.
    pub fn attempt(&self, provider: &str, key: &str, outcome: AttemptOutcome) {
        self.meters.attempt(provider, key, outcome);
    }
}
