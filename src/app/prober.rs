//! Lends a worker's upstream connections to the management routes that ask for models.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::admin::{Listing, Prober, Verifying};
use crate::health::ListFault;
use crate::limits::PROBES_BEHIND_MAX;
use crate::proxy::{Probed, Proxy, Verified, probe, verify};
use crate::snapshot::Key;

/// The proxy of one worker, as management sees it. Owns the probes that nobody waits for: they end
/// with the worker.
pub struct WorkerProber {
    proxy: Arc<Proxy>,
    behind: Mutex<JoinSet<()>>,
}

impl WorkerProber {
    pub fn new(proxy: Arc<Proxy>) -> Self {
        Self { proxy, behind: Mutex::default() }
    }
}

impl Prober for WorkerProber {
    fn models<'a>(&'a self, key: &'a Key) -> Listing<'a> {
        Box::pin(async move {
            match probe(&self.proxy, key).await {
                Probed::Models(models) => Some(Ok(models)),
                Probed::Unauthorized => Some(Err(ListFault::Unauthorized)),
                Probed::Unreachable => Some(Err(ListFault::Unreachable)),
                Probed::Timeout => Some(Err(ListFault::Timeout)),
                Probed::Unexpected => Some(Err(ListFault::Unexpected)),
                Probed::Unsupported => None,
            }
        })
    }

    fn verify<'a>(&'a self, key: &'a Key) -> Verifying<'a> {
        Box::pin(async move {
            match verify(&self.proxy, key).await {
                Verified::Good => Some(Ok(())),
                Verified::Failed(fault) => Some(Err(fault)),
                Verified::Unsupported => None,
            }
        })
    }

    fn soon(&self, key: Arc<Key>) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        while behind.try_join_next().is_some() {}
        // One too many is left out: its status stays unknown until it serves or is asked for.
        if behind.len() < PROBES_BEHIND_MAX {
            let proxy = Arc::clone(&self.proxy);
            behind.spawn(async move {
                probe(&proxy, &key).await;
            });
        }
    }
}
