//! `POST …/refresh-models`: asks the upstream for its models with a key, and remembers whether that
//! went well. Answers with one of four words where it did not: never with an upstream's text, status
//! or address, which would make of this route a way to look around in a network.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};

use super::error::ApiError;
use super::{Admin, json as answer_json, standing, write};
use crate::health::ListFault;
use crate::limits::PROBES_AT_ONCE_MAX;
use crate::snapshot::Key;
use crate::store::Written;

/// What an upstream lists.
pub type Models = Arc<[Box<str>]>;

/// Who can ask an upstream for its models, and remembers as the key's health how that went; the
/// worker's own connections stand behind it.
pub trait Prober: Send + Sync {
    /// `None`: there is nothing to ask for here, or nothing to ask with.
    fn models<'a>(&'a self, key: &'a Key) -> Listing<'a>;

    /// Whether the upstream takes the key, by a call that costs nothing; `None`: there is no such call.
    /// Remembers nothing.
    fn verify<'a>(&'a self, key: &'a Key) -> Verifying<'a>;

    /// Asks for the models in a while, with nobody waiting for it.
    fn soon(&self, key: Arc<Key>);
}

/// An answer on its way.
pub type Listing<'a> = Pin<Box<dyn Future<Output = Option<Result<Models, ListFault>>> + Send + 'a>>;

/// A verdict on its way.
pub type Verifying<'a> = Pin<Box<dyn Future<Output = Option<Result<(), ListFault>>> + Send + 'a>>;

/// Asks with keys that an API has just written, so that their status is true when it is looked at.
pub fn soon(prober: &dyn Prober, written: &Written, provider: &str, wanted: impl Fn(&Key) -> bool) {
    let snapshot = &written.generation.snapshot;
    let Ok(provider) = write::provider(snapshot, provider) else { return };
    if written.changed {
        provider.keys.iter().filter(|key| wanted(key)).for_each(|key| prober.soon(Arc::clone(key)));
    }
}

/// One key.
pub async fn key(admin: &Admin, prober: &dyn Prober, provider: &str, id: &str) -> Result<Response<Bytes>, ApiError> {
    let generation = admin.generation();
    let provider = write::provider_with_keys(&generation.snapshot, provider)?;
    let key = write::key(provider, id)?;
    Ok(answer_json(StatusCode::OK, &probe(admin, prober, key).await))
}

/// All keys of a provider that could be used.
pub async fn provider(admin: &Admin, prober: &dyn Prober, provider: &str) -> Result<Response<Bytes>, ApiError> {
    let generation = admin.generation();
    let provider = write::provider(&generation.snapshot, provider)?;
    let mut keys = Vec::with_capacity(provider.keys.len());
    for some in provider.keys.chunks(PROBES_AT_ONCE_MAX) {
        let probes: Vec<_> = some.iter().map(|key| probe(admin, prober, key)).collect();
        keys.extend(join_all(probes).await);
    }
    Ok(answer_json(StatusCode::OK, &json!({"provider": provider.name.as_str(), "total": keys.len(), "keys": keys})))
}

async fn probe(admin: &Admin, prober: &dyn Prober, key: &Key) -> Json {
    let listed = prober.models(key).await;
    let models: &[Box<str>] = match &listed {
        Some(Ok(models)) => models,
        Some(Err(_)) | None => &[],
    };
    let error = match &listed {
        Some(Err(fault)) => Some(standing::list_fault(*fault)),
        _ => None,
    };
    let now = admin.clock().now();
    json!({
        "provider": key.provider.as_str(),
        "key_id": key.id.as_str(),
        "key": key.name.as_str(),
        "status": standing::status(key, now),
        "description": standing::description(key, now),
        "error": error,
        "total": models.len(),
        "models": models,
    })
}
