//! The Redeo face: `/v1/providers` and its catalogue (CONTRACT 4.3).
//!
//! A connection is a key of the file: its label is the key's name, its priority the key's priority.
//! Keeps no list of its own, and shows of a secret how it begins.

mod change;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};

use self::change::{Disconnect, Patch, Put, Sent, Target};
use super::credential::{Address, address_member};
use super::error::ApiError;
use super::fields::{Fields, invalid, unprocessable};
use super::merge::Ground;
use super::refresh::{self, Prober};
use super::view::glimpse;
use super::{Admin, Made, body, json as answer, write};
use crate::config::problem::pointer_to;
use crate::limits::LABEL_CHARS_MAX;
use crate::provider::{AuthKind, ProviderRow, rows};
use crate::snapshot::Key;
use crate::store::{Generation, Written};
use crate::weight::Priority;

type Answer = Result<Response<Bytes>, ApiError>;

/// `GET /v1/providers/catalog`: what can be connected in this release.
pub fn catalogue() -> Response<Bytes> {
    let data: Vec<Json> = rows().iter().filter(|row| is_connectable(row)).map(entry).collect();
    answer(StatusCode::OK, &json!({"data": data}))
}

fn is_connectable(row: &ProviderRow) -> bool {
    !row.keyless
}

fn entry(row: &ProviderRow) -> Json {
    let kind = match row.auth {
        AuthKind::AwsSigV4 => "aws_credentials",
        AuthKind::GoogleOAuth => "service_account",
        AuthKind::None | AuthKind::Bearer | AuthKind::Header(_) | AuthKind::Azure => "api_key",
    };
    json!({"id": row.id, "label": row.label, "credentialKind": kind, "supportsEndpoint": row.needs_endpoint})
}

/// `GET /v1/providers`: whole, in the order in which they are tried.
pub fn connections(admin: &Admin) -> Response<Bytes> {
    let generation = admin.generation();
    let mut keys: Vec<&Arc<Key>> = generation.snapshot.providers.iter().flat_map(|provider| &provider.keys).collect();
    // Stable: in file order inside a priority.
    keys.sort_by_key(|key| key.priority);
    let data: Vec<Json> = keys.into_iter().filter_map(|key| item(admin, &generation, key)).collect();
    answer(StatusCode::OK, &json!({"data": data}))
}

/// `None` for the key that stands for a keyless provider: nobody connected it.
fn item(admin: &Admin, generation: &Generation, key: &Key) -> Option<Json> {
    let ground = Ground::from(generation);
    let stored = ground.document.tree.find(&key.pointer).filter(|_| !key.pointer.is_empty())?;
    let own = format!("{}_key_config", key.row.id);
    let below = |name: &str| {
        let pointer = pointer_to(&pointer_to(&key.pointer, &own), name);
        ground.document.tree.find(&pointer).map(|value| glimpse(value, &pointer, ground).prefix)
    };
    let prefix = match stored.member("value") {
        Some(value) => Some(glimpse(&value.value, &pointer_to(&key.pointer, "value"), ground).prefix),
        None if key.row.auth == AuthKind::AwsSigV4 => below("access_key"),
        None => None,
    };
    let mut shown = json!({
        "provider": key.provider.as_str(),
        "label": key.name.as_str(),
        "priority": key.priority.value(),
        "key_prefix": prefix.unwrap_or_default(),
        "updated_at": admin.lens.first_seen.times(stored, key).updated_at,
    });
    if key.row.needs_endpoint
        && let Some(shown) = shown.as_object_mut()
    {
        let config = stored.member(&own).and_then(|config| config.value.member(address_member(key.row)));
        let endpoint = config.and_then(|member| super::shape::literal_text(&member.value));
        shown.insert("endpoint".to_owned(), endpoint.into());
    }
    Some(shown)
}

/// `POST /v1/providers`: a connection to a provider that has none, or another content for its one.
pub async fn put(admin: &Admin, prober: &dyn Prober, text: &str) -> Answer {
    let tree = body::object(text)?;
    let fields = Fields::of(tree.root(), &["provider", "api_key", "priority", "label", "endpoint"])?;
    let provider = fields.required_text("provider")?;
    fields.required_text("api_key")?;
    let sent = sent(fields)?;
    let target = Target { provider: provider.to_owned(), label: None };
    let touched = Arc::default();
    let change = Put { target, sent, now: admin.time(), fresh: uuid::Uuid::new_v4().to_string(), touched };
    let touched = Arc::clone(&change.touched);
    let written = write::apply(admin, Box::new(change)).await.map_err(unprocessable)?;
    shown(admin, prober, written, &touched)
}

/// `PATCH /v1/providers/{provider}[?label=]`.
pub async fn patch(admin: &Admin, prober: &dyn Prober, provider: &str, query: Option<&str>, text: &str) -> Answer {
    let tree = body::object(text)?;
    let sent = sent(Fields::of(tree.root(), &["api_key", "priority", "label", "endpoint"])?)?;
    let target = Target { provider: provider.to_owned(), label: label(query)? };
    let touched = Arc::default();
    let change = Patch { target, sent, now: admin.time(), touched };
    let touched = Arc::clone(&change.touched);
    let written = write::apply(admin, Box::new(change)).await.map_err(unprocessable)?;
    shown(admin, prober, written, &touched)
}

/// `DELETE /v1/providers/{provider}[?label=]`.
pub async fn delete(admin: &Admin, provider: &str, query: Option<&str>) -> Answer {
    let target = Target { provider: provider.to_owned(), label: label(query)? };
    write::apply(admin, Box::new(Disconnect { target })).await.map_err(unprocessable)?;
    Ok(answer(StatusCode::OK, &json!({"ok": true})))
}

/// The connection as the list has it from now on.
fn shown(admin: &Admin, prober: &dyn Prober, written: Written, touched: &Mutex<Option<(String, String)>>) -> Answer {
    let touched = touched.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (provider, id) = touched.ok_or_else(ApiError::unavailable)?;
    refresh::soon(prober, &written, &provider, |key| key.id.as_str() == id);
    let generation = admin.looked_at(written.generation);
    let key = write::key(write::provider(&generation.snapshot, &provider)?, &id)?;
    let mut response = answer(StatusCode::OK, &item(admin, &generation, key).unwrap_or_default());
    response.extensions_mut().insert(Made(format!("{provider}/{id}").into()));
    Ok(response)
}

fn sent(fields: Fields<'_>) -> Result<Sent, ApiError> {
    let label = fields.text("label")?;
    if label.is_some_and(|label| label.chars().count() > LABEL_CHARS_MAX) {
        return Err(invalid("label", format!("a label has at most {LABEL_CHARS_MAX} characters")));
    }
    Ok(Sent {
        api_key: fields.text("api_key")?.map(str::to_owned),
        priority: fields.whole("priority", Priority::MAX)?.and_then(Priority::new),
        label: label.map(str::to_owned),
        endpoint: fields.text("endpoint")?.map(str::to_owned),
    })
}

fn label(query: Option<&str>) -> Result<Option<String>, ApiError> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).filter(|(name, _)| name == "label");
    let label = pairs.next().map(|(_, value)| value.into_owned());
    match pairs.next() {
        Some(_) => Err(invalid("label", "this is asked for twice")),
        None => Ok(label),
    }
}

impl Sent {
    fn address(&self, row: &ProviderRow, custom: bool) -> Result<Address<'_>, ApiError> {
        match self.endpoint.as_deref() {
            None => Ok(Address::Keep),
            Some(endpoint) if row.needs_endpoint && !custom => Ok(Address::Set(endpoint)),
            Some(_) => Err(invalid("endpoint", "this provider takes no endpoint (supportsEndpoint in the catalogue)")),
        }
    }
}
