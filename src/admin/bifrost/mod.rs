//! The Bifrost face: `/api/providers`, their keys, `/api/keys` (CONTRACT 4.1, bifrost.md 3).
//!
//! Reads come from the running generation, writes go to the writer and are answered from the
//! generation that it made. Lists are whole.

mod wire;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ETAG, HeaderMap};
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub use wire::envelope;

use super::error::ApiError;
use super::etag::{self, IfMatch};
use super::keys::{CreateKey, DeleteKey, ReplaceKey};
use super::merge::{Ground, invalid};
use super::providers::{CreateProvider, DeleteProvider, PutProvider};
use super::record::{KeyBody, ProviderBody};
use super::refresh::{self, Prober};
use super::view::{keys_hash, list_hash, provider_hash};
use super::{Admin, Made, json as answer, write};
use crate::config::Tree;
use crate::config::problem::pointer_to;
use crate::config::syntax::{Kind, Value};
use crate::hash::ConfigHash;
use crate::snapshot::{Allow, Key, Provider};
use crate::store::Generation;

type Answer = Result<Response<Bytes>, ApiError>;

/// `GET /api/providers`, sorted by name.
pub fn providers(admin: &Admin, head: &HeaderMap) -> Answer {
    let generation = admin.generation();
    let mut all: Vec<&Provider> = generation.snapshot.providers.iter().map(|provider| &**provider).collect();
    all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let hash = list_hash(all.iter().filter_map(|it| Some((it.name.to_string(), hash_of(&generation, it)?))));
    tagged(head, hash, || {
        let shown: Vec<Json> =
            all.iter().filter_map(|it| admin.lens.provider(it, Ground::from(&*generation))).collect();
        json!({"total": shown.len(), "providers": shown})
    })
}

/// `GET /api/providers/{provider}`.
pub fn provider(admin: &Admin, head: &HeaderMap, name: &str) -> Answer {
    let generation = admin.generation();
    shown_provider(admin, &generation, name, Some(head))
}

fn shown_provider(admin: &Admin, generation: &Generation, name: &str, head: Option<&HeaderMap>) -> Answer {
    let found = write::provider(&generation.snapshot, name)?;
    let hash = hash_of(generation, found).ok_or_else(ApiError::provider_not_found)?;
    let none = HeaderMap::new();
    tagged(head.unwrap_or(&none), hash, || admin.lens.provider(found, Ground::from(generation)).unwrap_or_default())
}

fn hash_of(generation: &Generation, provider: &Provider) -> Option<ConfigHash> {
    let pointer = pointer_to("/providers", provider.name.as_str());
    generation.document.tree.find(&pointer).map(provider_hash)
}

/// `GET /api/providers/{provider}/keys`, in file order.
pub fn keys(admin: &Admin, head: &HeaderMap, name: &str) -> Answer {
    let generation = admin.generation();
    let provider = write::provider(&generation.snapshot, name)?;
    tagged(head, keys_hash(provider), || {
        let keys = provider.keys.iter();
        let shown: Vec<Json> = keys.filter_map(|key| admin.lens.key(key, Ground::from(&*generation))).collect();
        json!({"total": shown.len(), "keys": shown})
    })
}

/// `GET /api/providers/{provider}/keys/{key_id}`.
pub fn key(admin: &Admin, head: &HeaderMap, name: &str, id: &str) -> Answer {
    shown_key(admin, &admin.generation(), name, id, Some(head))
}

fn shown_key(admin: &Admin, generation: &Generation, name: &str, id: &str, head: Option<&HeaderMap>) -> Answer {
    let provider = write::provider(&generation.snapshot, name)?;
    let key = write::key(provider, id)?;
    let none = HeaderMap::new();
    tagged(head.unwrap_or(&none), key.hash, || admin.lens.key(key, Ground::from(generation)).unwrap_or_default())
}

/// `GET /api/keys`: a bare array, as clients that pick a key want it.
pub fn all_keys(admin: &Admin, head: &HeaderMap) -> Answer {
    let generation = admin.generation();
    let keys = || generation.snapshot.providers.iter().flat_map(|provider| &provider.keys);
    tagged(head, list_hash(keys().map(|key| (key.id.to_string(), key.hash))), || {
        keys().filter(|key| !key.pointer.is_empty()).map(|key| entry(key)).collect()
    })
}

fn entry(key: &Key) -> Json {
    let names = |allow: &Allow| match allow {
        Allow::All => json!(["*"]),
        Allow::Set(names) => json!(names),
    };
    json!({
        "key_id": key.id.as_str(),
        "name": key.name.as_str(),
        "provider": key.provider.as_str(),
        "models": names(&key.rule.allow),
        "blacklisted_models": names(&key.rule.deny),
        "weight": key.weight.value(),
        "priority": key.priority.value(),
        "enabled": key.enabled,
        "config_hash": key.hash.hex(),
    })
}

/// `POST /api/providers`.
pub async fn create_provider(admin: &Admin, prober: &dyn Prober, body: &Tree) -> Answer {
    let body = ProviderBody::read(body)?;
    let name = body.name.clone().ok_or_else(|| invalid("missing_member", "provider", "`provider` is needed here"))?;
    let ids = body.keys.iter().flatten().map(id_of).collect();
    let change = CreateProvider { name: name.clone(), body, ids, now: admin.time() };
    let written = write::apply(admin, Box::new(change)).await?;
    refresh::soon(prober, &written, &name, |_| true);
    let response = shown_provider(admin, &admin.looked_at(written.generation), &name, None)?;
    Ok(made(response, &name))
}

/// `PUT /api/providers/{provider}`.
pub async fn put_provider(admin: &Admin, prober: &dyn Prober, head: &HeaderMap, name: &str, body: &Tree) -> Answer {
    let body = ProviderBody::read(body)?;
    if body.keys.is_some() {
        let message = "keys have routes of their own: /api/providers/{provider}/keys";
        return Err(invalid("unknown_member", "keys", message).into());
    }
    if body.name.as_deref().is_some_and(|named| named != name) {
        return Err(invalid("invalid_value", "name", "a provider cannot be renamed").into());
    }
    let change = PutProvider { name: name.to_owned(), body, if_match: IfMatch::of(head) };
    let written = write::apply(admin, Box::new(change)).await?;
    refresh::soon(prober, &written, name, |_| true);
    shown_provider(admin, &admin.looked_at(written.generation), name, None)
}

/// `DELETE /api/providers/{provider}`.
pub async fn delete_provider(admin: &Admin, head: &HeaderMap, name: &str) -> Answer {
    let change = DeleteProvider { name: name.to_owned(), if_match: IfMatch::of(head) };
    write::apply(admin, Box::new(change)).await?;
    Ok(answer(StatusCode::OK, &json!({"name": name})))
}

/// `POST /api/providers/{provider}/keys`.
pub async fn create_key(admin: &Admin, prober: &dyn Prober, head: &HeaderMap, name: &str, body: &Tree) -> Answer {
    let body = KeyBody::read(body.root().clone())?;
    let id = id_of(body.value());
    let (now, if_match) = (admin.time(), IfMatch::of(head));
    let change = CreateKey { provider: name.to_owned(), body, id: id.clone(), now, if_match };
    let written = write::apply(admin, Box::new(change)).await?;
    refresh::soon(prober, &written, name, |key| key.id.as_str() == id);
    let response = shown_key(admin, &admin.looked_at(written.generation), name, &id, None)?;
    Ok(made(response, &format!("{name}/{id}")))
}

/// For the audit log: the path does not name what is new.
fn made(mut response: Response<Bytes>, name: &str) -> Response<Bytes> {
    response.extensions_mut().insert(Made(name.into()));
    response
}

/// `PUT /api/providers/{provider}/keys/{key_id}`.
pub async fn put_key(
    admin: &Admin,
    prober: &dyn Prober,
    head: &HeaderMap,
    (name, id): (&str, &str),
    body: &Tree,
) -> Answer {
    let body = KeyBody::read(body.root().clone())?;
    let (now, if_match) = (admin.time(), IfMatch::of(head));
    let change = ReplaceKey { provider: name.to_owned(), key_id: id.to_owned(), body, now, if_match };
    let written = write::apply(admin, Box::new(change)).await?;
    refresh::soon(prober, &written, name, |key| key.id.as_str() == id);
    shown_key(admin, &admin.looked_at(written.generation), name, id, None)
}

/// `DELETE /api/providers/{provider}/keys/{key_id}`: answers with what is gone.
pub async fn delete_key(admin: &Admin, head: &HeaderMap, name: &str, id: &str) -> Answer {
    admin.generation();
    let shown = Arc::new(Mutex::new(None));
    let change = DeleteKey {
        provider: name.to_owned(),
        key_id: id.to_owned(),
        if_match: IfMatch::of(head),
        lens: admin.lens.clone(),
        shown: Arc::clone(&shown),
    };
    write::apply(admin, Box::new(change)).await?;
    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(answer(StatusCode::OK, &shown.unwrap_or_else(|| json!({"id": id}))))
}

/// The body's own id, else a fresh one.
fn id_of(key: &Value) -> String {
    match key.member("id").map(|member| &member.value.kind) {
        Some(Kind::Text(id)) if !id.is_empty() => id.to_string(),
        _ => Uuid::new_v4().to_string(),
    }
}

/// 304 where the caller has it already.
fn tagged(head: &HeaderMap, hash: ConfigHash, body: impl FnOnce() -> Json) -> Answer {
    let mut response = if etag::is_known(head, hash) {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        answer(StatusCode::OK, &body())
    };
    response.headers_mut().insert(ETAG, etag::header(hash));
    Ok(response)
}
