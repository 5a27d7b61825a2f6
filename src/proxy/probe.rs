//! One cost-free call with one key: does the upstream list its models?
//!
//! Made when a key is new, when it has changed and when somebody asks, never by a clock. What comes of
//! it is the key's `status`; it never benches a key, for an upstream may keep its list from a key that
//! serves well. Says one word of a failure: text, status and address of the upstream stay here.

use std::sync::Arc;

use super::{Proxy, list_models};
use crate::health::ListFault;
use crate::snapshot::Key;

/// What a probe found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probed {
    Models(Arc<[Box<str>]>),
    Unauthorized,
    Unreachable,
    Timeout,
    Unexpected,
    /// This provider has no list, or the key has nothing to ask with: nothing was sent.
    Unsupported,
}

/// Asks once, and remembers how it went.
pub async fn probe(proxy: &Proxy, key: &Key) -> Probed {
    if !key.row.lists_models || !key.enabled || key.ready.is_err() {
        return Probed::Unsupported;
    }
    let listed = list_models(proxy, key).await;
    key.health.listed(listed.as_ref().map(drop).map_err(|fault| *fault));
    match listed {
        Ok(models) => {
            key.health.vouched(proxy.clock.now());
            Probed::Models(models)
        }
        Err(ListFault::Unauthorized) => Probed::Unauthorized,
        Err(ListFault::Unreachable) => Probed::Unreachable,
        Err(ListFault::Timeout) => Probed::Timeout,
        Err(ListFault::Unexpected) => Probed::Unexpected,
    }
}
