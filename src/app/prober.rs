//! Lends a worker's upstream connections to the management routes that ask for models.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::admin::{Models, Prober};
use crate::health::ListFault;
use crate::proxy::{Proxy, list_models};
use crate::snapshot::Key;

/// The proxy of one worker, as management sees it.
pub struct WorkerProber(pub Arc<Proxy>);

impl Prober for WorkerProber {
    fn models<'a>(&'a self, key: &'a Key) -> Pin<Box<dyn Future<Output = Result<Models, ListFault>> + Send + 'a>> {
        Box::pin(list_models(&self.0, key))
    }
}
