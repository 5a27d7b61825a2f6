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
use crate::store::Command;

/// What an upstream lists.
pub type Models = Arc<[Box<str>]>;

/// Who can ask an upstream for its models; the worker's own connections stand behind it.
pub trait Prober: Send + Sync {
    fn models<'a>(&'a self, key: &'a Key) -> Pin<Box<dyn Future<Output = Result<Models, ListFault>> + Send + 'a>>;
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
    let usable = key.enabled && key.ready.is_ok();
    let listed = if usable { Some(prober.models(key).await) } else { None };
    if let Some(listed) = &listed {
        key.health.listed(listed.as_ref().map(drop).map_err(|fault| *fault));
    }
    let models: &[Box<str>] = match &listed {
        Some(Ok(models)) => {
            // A full queue loses a hint, which comes again with the next list.
            let hint = Command::ModelsListed { provider: key.provider.clone(), models: Arc::clone(models) };
            let _ = admin.commands.try_send(hint);
            models
        }
        _ => &[],
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
