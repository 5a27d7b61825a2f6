//! `/manage/v1/providers`: keys of the file as Modelux knows them, and how their upstreams do.
//!
//! An id is made of the key's own, so that it stays where a key is renamed. A rotation is answered when
//! no attempt begins with the old key any more.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::Answer;
use super::change::{Create, Delete, Patch, Sent, Target};
use super::page::Page;
use crate::admin::credential::{Address, address_member};
use crate::admin::error::ApiError;
use crate::admin::fields::{Fields, invalid, unprocessable, wrong_type};
use crate::admin::first_seen::rfc3339;
use crate::admin::merge::Ground;
use crate::admin::refresh::{self, Prober};
use crate::admin::{Admin, Made, body, json as answer, standing, write};
use crate::config::read::{FromConfig as _, Node};
use crate::config::syntax::{Kind, Value};
use crate::config::{Problems, SecretRef};
use crate::health::{ListFault, Standing, Why, Window, WindowSeen};
use crate::id::KeyId;
use crate::limits::{HEALTH_DEGRADED_BELOW, HEALTH_DOWN_BELOW, ROTATION_SETTLE};
use crate::provider::{AuthKind, ProviderRow};
use crate::snapshot::{Key, Snapshot};
use crate::store::{Generation, Written};

const ID_DOMAIN: &str = "keyway 2026 modelux provider id v1";
const ID_PREFIX: &str = "prov_";
/// Crockford's base 32: no letter that is taken for a digit.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The id under which this face knows a key.
pub fn id_of(key: &KeyId) -> String {
    let mut number = [0; 16];
    blake3::Hasher::new_derive_key(ID_DOMAIN).update(key.as_str().as_bytes()).finalize_xof().fill(&mut number);
    let number = u128::from_be_bytes(number);
    let digit = |at: u32| {
        let value = (number >> (at * 5)) & 31;
        DIGITS.get(value as usize).map_or('0', |digit| char::from(*digit))
    };
    ID_PREFIX.chars().chain((0..26).rev().map(digit)).collect()
}

/// All keys that stand in the file: what keyless providers have is no credential.
fn keys(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Key>> {
    snapshot.providers.iter().flat_map(|provider| &provider.keys).filter(|key| !key.pointer.is_empty())
}

/// The key that an id means.
pub fn find<'s>(snapshot: &'s Snapshot, id: &str) -> Option<&'s Arc<Key>> {
    keys(snapshot).find(|key| id_of(&key.id) == id)
}

fn missing(id: &str) -> ApiError {
    let message = format!("provider {id} not found");
    ApiError::new(StatusCode::NOT_FOUND, "provider_not_found", message).about("provider", id)
}

/// The vendor in the words of this face: `google` where the row has that name too.
pub fn vendor(key: &Key, custom: bool) -> &str {
    if custom { key.provider.as_str() } else { key.row.also.first().copied().unwrap_or(key.row.id) }
}

/// `GET /manage/v1/providers`.
pub fn list(admin: &Admin, query: Option<&str>) -> Answer {
    let page = Page::of(query)?;
    let generation = admin.generation();
    let items = keys(&generation.snapshot).filter_map(|key| {
        let shown = view(admin, &generation, key)?;
        let made = shown.get("created_at").and_then(Json::as_str).unwrap_or_default().to_owned();
        Some(((made, id_of(&key.id)), shown))
    });
    Ok(page.cut(items.collect()))
}

/// `GET /manage/v1/providers/{id}`.
pub fn get(admin: &Admin, id: &str) -> Answer {
    let generation = admin.generation();
    let key = find(&generation.snapshot, id).ok_or_else(|| missing(id))?;
    Ok(answer(StatusCode::OK, &view(admin, &generation, key).ok_or_else(|| missing(id))?))
}

fn view(admin: &Admin, generation: &Generation, key: &Key) -> Option<Json> {
    let stored = Ground::from(generation).document.tree.find(&key.pointer)?;
    let custom = write::provider(&generation.snapshot, key.provider.as_str()).is_ok_and(|provider| provider.custom);
    let now = admin.clock().now();
    let seen = key.health.window(Window::FiveMinutes, now);
    let p50 = seen.p50.or_else(|| key.health.window(Window::Hour, now).p50);
    Some(json!({
        "id": id_of(&key.id),
        "vendor": vendor(key, custom),
        "name": key.name.as_str(),
        "base_url": address(stored, key.row, custom),
        "status": status(admin, key),
        "health": {
            "state": state(admin, key),
            "p50_latency_ms": p50.map(|p50| p50.as_millis() as u64),
            "last_check_at": last_check(admin, key),
        },
        "created_at": admin.lens.first_seen.times(stored, key).created_at,
    }))
}

/// The key's own address, a reference by its name; `null` where it goes to its provider's.
fn address(stored: &Value, row: &ProviderRow, custom: bool) -> Option<String> {
    let own = format!("{}_key_config", row.id);
    let member = match row.needs_endpoint && !custom {
        true => stored.member(&own).and_then(|config| config.value.member(address_member(row))),
        false => None,
    };
    let member = member.or_else(|| stored.member("base_url"))?;
    match SecretRef::read(Node::root(&member.value), &mut Problems::default())? {
        SecretRef::Literal(_) => crate::admin::shape::literal_text(&member.value).map(str::to_owned),
        SecretRef::Env(name) => Some(format!("env.{name}")),
        SecretRef::File(path) => Some(path.to_string_lossy().into_owned()),
        SecretRef::Sealed(_) => None,
    }
}

/// `active`, `disabled`, or `error` where it could not serve as it stands.
fn status(admin: &Admin, key: &Key) -> &'static str {
    let refused = matches!(
        key.health.standing(admin.clock().now()),
        Standing::Barred { why: Why::Unauthorized, .. }
            | Standing::HalfOpen { why: Why::Unauthorized }
            | Standing::ListModelsFailed { why: ListFault::Unauthorized }
    );
    match (key.enabled, &key.ready) {
        (false, _) => "disabled",
        (true, Err(_)) => "error",
        (true, Ok(_)) if refused => "error",
        (true, Ok(_)) => "active",
    }
}

/// From traffic alone: what was not tried is unknown.
fn state(admin: &Admin, key: &Key) -> &'static str {
    let now = admin.clock().now();
    let barred = |standing| match standing {
        Standing::Barred { why, .. } | Standing::HalfOpen { why } => Some(why),
        Standing::Unknown | Standing::Good | Standing::ListModelsFailed { .. } => None,
    };
    let origin = barred(key.origin.breaker.standing(now)).is_some();
    let recent = key.health.window(Window::FiveMinutes, now);
    let seen = if recent.attempts > 0 { recent } else { key.health.window(Window::Hour, now) };
    match (barred(key.health.standing(now)), seen.success_rate()) {
        (Some(Why::Unauthorized | Why::Breaker), _) => "down",
        (_, None) => "unknown",
        (_, Some(rate)) if origin || rate < HEALTH_DOWN_BELOW => "down",
        (Some(_), Some(_)) => "degraded",
        (None, Some(rate)) if rate < HEALTH_DEGRADED_BELOW => "degraded",
        (None, Some(_)) => "healthy",
    }
}

fn last_check(admin: &Admin, key: &Key) -> Option<String> {
    let ago = admin.clock().now().since(key.health.last_attempt()?);
    Some(rfc3339(admin.clock().wall().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)))
}

/// `GET /manage/v1/providers/{id}/health`.
pub fn health(admin: &Admin, id: &str) -> Answer {
    let generation = admin.generation();
    let key = find(&generation.snapshot, id).ok_or_else(|| missing(id))?;
    let now = admin.clock().now();
    let windows: Map<String, Json> =
        Window::ALL.into_iter().map(|it| (it.as_str().to_owned(), window(&key.health.window(it, now)))).collect();
    let body = json!({
        "id": id,
        "state": state(admin, key),
        "reason": standing::description(key, now),
        "last_check_at": last_check(admin, key),
        "windows": windows,
    });
    Ok(answer(StatusCode::OK, &body))
}

fn window(seen: &WindowSeen) -> Json {
    let millis = |latency: Option<std::time::Duration>| latency.map(|it| it.as_millis() as u64);
    json!({
        "requests": seen.attempts,
        "errors": seen.failures,
        "success_rate": seen.success_rate(),
        "latency_ms": {
            "p50": millis(seen.p50), "p90": millis(seen.p90), "p95": millis(seen.p95), "p99": millis(seen.p99),
        },
    })
}

/// `POST /manage/v1/providers`.
pub async fn create(admin: &Admin, prober: &dyn Prober, text: &str) -> Answer {
    let tree = body::object(text)?;
    let fields = Fields::of(tree.root(), &["vendor", "name", "api_key", "base_url"])?;
    let vendor = fields.required_text("vendor")?.to_owned();
    fields.required_text("name")?;
    let sent = sent(fields)?;
    let fresh = uuid::Uuid::new_v4().to_string();
    let change = Create { vendor, sent, now: admin.time(), fresh: fresh.clone() };
    let written = write::apply(admin, Box::new(change)).await.map_err(unprocessable)?;
    let id = id_of(&KeyId::new(fresh.as_str()));
    probe_soon(prober, &written, &id);
    let mut response = shown(admin, written, &id, None)?;
    response.extensions_mut().insert(Made(id.into()));
    Ok(response)
}

fn probe_soon(prober: &dyn Prober, written: &Written, id: &str) {
    if let Some(key) = find(&written.generation.snapshot, id) {
        let provider = key.provider.clone();
        refresh::soon(prober, written, provider.as_str(), |it| it.id == key.id);
    }
}

fn shown(admin: &Admin, written: Written, id: &str, verification: Option<&str>) -> Answer {
    let generation = admin.looked_at(written.generation);
    let key = find(&generation.snapshot, id).ok_or_else(|| missing(id))?;
    let mut shown = view(admin, &generation, key).ok_or_else(|| missing(id))?;
    if let (Some(verification), Some(shown)) = (verification, shown.as_object_mut()) {
        shown.insert("verification".to_owned(), verification.into());
    }
    Ok(answer(StatusCode::OK, &shown))
}

/// `PATCH /manage/v1/providers/{id}`.
pub async fn patch(admin: &Admin, prober: &dyn Prober, id: &str, text: &str) -> Answer {
    patched(admin, prober, id, text).await.map_err(|error| named(error, id))
}

/// What goes wrong with one provider names it.
fn named(error: ApiError, id: &str) -> ApiError {
    if error.status == StatusCode::NOT_FOUND { missing(id) } else { error.about("provider", id) }
}

async fn patched(admin: &Admin, prober: &dyn Prober, id: &str, text: &str) -> Answer {
    let tree = body::object(text)?;
    let sent = sent(Fields::of(tree.root(), &["name", "api_key", "base_url", "status"])?)?;
    let target = Target { id: id.to_owned() };
    let mut change = Patch::new(target, sent, admin.time());
    let mut verification = None;
    if change.sent.api_key.is_some() {
        // Outside the writer's turn, on what the file with the new key in it compiles to.
        let tried = write::try_out(admin, Box::new(change.trial())).await.map_err(unprocessable)?;
        let key = find(&tried, id).ok_or_else(|| missing(id))?;
        verification = Some(match prober.verify(key).await {
            None => "unsupported",
            Some(Ok(())) => "verified",
            Some(Err(fault)) => return Err(unverified(fault)),
        });
        change.bind_to(key);
    }
    let before = Arc::clone(&change.before);
    let rotates = change.sent.api_key.is_some();
    let written = write::apply(admin, Box::new(change)).await.map_err(unprocessable)?;
    let before = before.lock().unwrap_or_else(PoisonError::into_inner).take();
    let after = find(&written.generation.snapshot, id).map(|key| &key.health);
    if let (true, Some(before), Some(after)) = (rotates, before, after)
        && !Arc::ptr_eq(&before, after)
    {
        before.rotate();
        // Attempts that were given the old key a moment ago are on their way when this is over.
        tokio::time::sleep(ROTATION_SETTLE).await;
    }
    if verification.is_none() {
        probe_soon(prober, &written, id);
    }
    shown(admin, written, id, verification)
}

/// The old key stays as it is; the upstream's words stay here.
fn unverified(fault: ListFault) -> ApiError {
    let status = match fault {
        ListFault::Unauthorized | ListFault::Unexpected => StatusCode::UNPROCESSABLE_ENTITY,
        ListFault::Unreachable => StatusCode::BAD_GATEWAY,
        ListFault::Timeout => StatusCode::GATEWAY_TIMEOUT,
    };
    let message = format!("the new key could not be verified ({}); the old one stays", standing::list_fault(fault));
    ApiError::new(status, "verification_failed", message).field("api_key")
}

/// `DELETE /manage/v1/providers/{id}`.
pub async fn delete(admin: &Admin, id: &str) -> Answer {
    let change = Delete { target: Target { id: id.to_owned() } };
    let deleted = write::apply(admin, Box::new(change)).await;
    deleted.map_err(|error| named(unprocessable(error), id))?;
    Ok(answer(StatusCode::OK, &json!({"id": id, "deleted": true})))
}

fn sent(fields: Fields<'_>) -> Result<Sent, ApiError> {
    let enabled = match fields.text("status")? {
        None => None,
        Some("active") => Some(true),
        Some("disabled") => Some(false),
        Some(_) => return Err(invalid("status", "`active` or `disabled` goes here")),
    };
    Ok(Sent {
        name: fields.text("name")?.map(str::to_owned),
        api_key: fields.text("api_key")?.map(str::to_owned),
        base_url: match fields.written("base_url").map(|value| &value.kind) {
            None => Base::Keep,
            Some(Kind::Null) => Base::Own,
            Some(Kind::Text(url)) if !url.trim().is_empty() => Base::Set(url.to_string()),
            Some(Kind::Text(_)) => return Err(invalid("base_url", "this is empty; null means the vendor's own")),
            Some(_) => return Err(wrong_type("base_url", "a text or null")),
        },
        enabled,
    })
}

/// What a body says of the address.
pub enum Base {
    Keep,
    Own,
    Set(String),
}

impl Base {
    pub fn address(&self) -> Address<'_> {
        match self {
            Self::Keep => Address::Keep,
            Self::Own => Address::Own,
            Self::Set(url) => Address::Set(url),
        }
    }
}

/// Vendors whose keys are worth nothing without a credential.
pub fn needs_credential(row: &ProviderRow) -> bool {
    !row.value_optional || matches!(row.auth, AuthKind::AwsSigV4 | AuthKind::GoogleOAuth | AuthKind::Azure)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands in other people's dashboards: a change would be a change of all ids.
    #[test]
    fn golden_id() {
        assert_eq!(id_of(&KeyId::new("main")), "prov_0FHKA8J7MRWZX7A3V1CR8MTS93");
        assert_eq!(id_of(&KeyId::new("spare")), "prov_2Z99D8YC9KFV647J3VKAZBJ1BH");
    }
}
