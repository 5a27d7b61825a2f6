//! Keys and providers as the APIs show them: what is written in the file, secrets masked, with what
//! is known beside it.
//!
//! Made from the running generation alone. A credential that is written out is shown as its mask, a
//! reference by its name, an address, a region or a project as it stands: without them nobody could
//! tell two keys apart, and none of them opens anything.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::first_seen::FirstSeen;
use super::merge::Ground;
use super::shape::{self, DEPLOYMENTS, Record, Role, Shape, literal_text, members};
use super::standing;
use crate::clock::Clock;
use crate::config::file::{AliasFile, ProviderFile};
use crate::config::problem::pointer_to;
use crate::config::read::{FromConfig, Node};
use crate::config::syntax::{Kind, Value};
use crate::config::{Problems, SecretRef};
use crate::hash::{Canon, ConfigHash};
use crate::limits::MASK_SHORT_CHARS;
use crate::snapshot::{Glimpse, Key, Provider};

/// Members of a key in which the old generation kept `deployments`.
pub const DEPLOYMENT_HOLDERS: [&str; 5] =
    ["azure_key_config", "vertex_key_config", "bedrock_key_config", "replicate_key_config", "huggingface_key_config"];

/// What may be shown of a secret that stands at `pointer`; empty for references.
pub fn mask(stored: &Value, pointer: &str, ground: Ground<'_>) -> String {
    glimpse(stored, pointer, ground).mask.into()
}

/// The same with how it begins.
pub fn glimpse(stored: &Value, pointer: &str, ground: Ground<'_>) -> Glimpse {
    match SecretRef::read(Node::root(stored), &mut Problems::default()) {
        Some(SecretRef::Literal(secret)) => Glimpse::of(&secret),
        // One that cannot be opened is shown as any short one: nothing is known of it.
        Some(SecretRef::Sealed(_)) => {
            let unknown = || Glimpse { mask: "*".repeat(MASK_SHORT_CHARS).into(), ..Glimpse::default() };
            ground.snapshot.masks.get(pointer).cloned().unwrap_or_else(unknown)
        }
        Some(SecretRef::Env(_) | SecretRef::File(_)) | None => Glimpse::default(),
    }
}

/// A secret in the form of CONTRACT 2.2.
fn secret(stored: &Value, role: Role, pointer: &str, ground: Ground<'_>) -> Json {
    let reference = SecretRef::read(Node::root(stored), &mut Problems::default());
    match reference {
        Some(SecretRef::Env(name)) => json!({"value": "", "env_var": format!("env.{name}"), "from_env": true}),
        Some(SecretRef::File(path)) => {
            json!({"value": "", "env_var": "", "from_env": false, "file": path.to_string_lossy()})
        }
        Some(SecretRef::Literal(_)) if role != Role::Credential => {
            json!({"value": literal_text(stored).unwrap_or_default(), "env_var": "", "from_env": false})
        }
        Some(SecretRef::Literal(_) | SecretRef::Sealed(_)) | None => {
            json!({"value": mask(stored, pointer, ground), "env_var": "", "from_env": false})
        }
    }
}

/// The members of a record as they stand, secrets in their outward form.
fn record(of: &Record, stored: &Value, pointer: &str, ground: Ground<'_>) -> Map<String, Json> {
    let mut shown = Map::new();
    for member in members(stored).iter().filter(|m| !of.is_made_up(&m.name) && !matches!(m.value.kind, Kind::Null)) {
        let pointer = pointer_to(pointer, &member.name);
        let value = match of.shape(&member.name) {
            Shape::Secret(_) if SecretRef::is_unset(&member.value) => continue,
            Shape::Secret(role) => secret(&member.value, role, &pointer, ground),
            Shape::Secrets(role) => members(&member.value)
                .iter()
                .map(|m| {
                    let pointer = pointer_to(&pointer, &m.name);
                    (m.name.to_string(), secret(&m.value, role, &pointer, ground))
                })
                .collect::<Map<_, _>>()
                .into(),
            Shape::Record(of) => record(of, &member.value, &pointer, ground).into(),
            Shape::Plain => plain(&member.value),
        };
        shown.insert(member.name.to_string(), value);
    }
    shown
}

/// A value of the file as JSON. A number that no `f64` holds is shown as its text.
pub fn plain(value: &Value) -> Json {
    match &value.kind {
        Kind::Null => Json::Null,
        Kind::Bool(value) => Json::Bool(*value),
        Kind::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::from(&**text)),
        Kind::Text(text) => Json::from(&**text),
        Kind::List(items) => items.iter().map(plain).collect(),
        Kind::Object(members) => {
            members.iter().map(|m| (m.name.to_string(), plain(&m.value))).collect::<Map<_, _>>().into()
        }
    }
}

/// Aliases of a key by name: its own, and the old generation's where they have another name.
pub fn aliases(key: &Value) -> Vec<(&str, &Value)> {
    let own = key.member("aliases").map(|m| members(&m.value)).unwrap_or_default();
    let mut all: Vec<(&str, &Value)> = own.iter().map(|m| (&*m.name, &m.value)).collect();
    for holder in DEPLOYMENT_HOLDERS {
        let old = key.member(holder).and_then(|holder| holder.value.member(DEPLOYMENTS));
        for alias in old.map(|old| members(&old.value)).unwrap_or_default() {
            if !all.iter().any(|(name, _)| name.eq_ignore_ascii_case(&alias.name)) {
                all.push((&alias.name, &alias.value));
            }
        }
    }
    all
}

/// The same in the form in which two spellings are equal.
pub fn aliases_canon(key: &Value) -> Canon {
    Canon::Object(aliases(key).into_iter().map(|(name, value)| (name.to_owned(), AliasFile::canon(value))).collect())
}

/// What views need beside a generation.
#[derive(Clone)]
pub struct Lens {
    pub first_seen: Arc<FirstSeen>,
    pub clock: Clock,
}

impl Lens {
    /// A key that stands in the file; `None` for the one that stands for a keyless provider.
    pub fn key(&self, key: &Key, ground: Ground<'_>) -> Option<Json> {
        let stored = ground.document.tree.find(&key.pointer).filter(|_| !key.pointer.is_empty())?;
        let mut shown = record(&shape::KEY, stored, &key.pointer, ground);
        defaults(&shape::KEY, &mut shown);
        // A key without a credential says so in the form that a client expects there.
        shown.entry("value").or_insert_with(|| json!({"value": "", "env_var": "", "from_env": false}));
        let aliases = aliases(stored).into_iter().map(|(name, value)| (name.to_owned(), plain(value)));
        shown.insert("aliases".to_owned(), aliases.collect::<Map<_, _>>().into());
        let (times, now) = (self.first_seen.times(stored, key), self.clock.now());
        for (member, value) in [
            ("id", json!(key.id.as_str())),
            ("name", json!(key.name.as_str())),
            ("config_hash", json!(key.hash.hex())),
            ("status", json!(standing::status(key, now))),
            ("description", json!(standing::description(key, now))),
            ("created_at", json!(times.created_at)),
            ("updated_at", json!(times.updated_at)),
        ] {
            shown.insert(member.to_owned(), value);
        }
        Some(shown.into())
    }

    /// A provider without its keys.
    pub fn provider(&self, provider: &Provider, ground: Ground<'_>) -> Option<Json> {
        let pointer = pointer_to("/providers", provider.name.as_str());
        let stored = ground.document.tree.find(&pointer)?;
        let mut shown = record(&shape::PROVIDER, stored, &pointer, ground);
        defaults(&shape::PROVIDER, &mut shown);
        // The key that stands for the provider: one that could serve before one that could not.
        let usable = provider.keys.iter().find(|key| key.enabled && key.ready.is_ok());
        let (status, description) = match usable.or_else(|| provider.keys.first()) {
            Some(key) => (standing::status(key, self.clock.now()), standing::description(key, self.clock.now())),
            None => ("incomplete", "no keys: nothing can be served from here".to_owned()),
        };
        for (member, value) in [
            ("name", json!(provider.name.as_str())),
            ("provider_status", json!(if usable.is_some() { "active" } else { "error" })),
            ("status", json!(status)),
            ("description", json!(description)),
            ("config_hash", json!(provider_hash(stored).hex())),
        ] {
            shown.insert(member.to_owned(), value);
        }
        Some(shown.into())
    }
}

/// What an absent member means, said.
fn defaults(of: &Record, shown: &mut Map<String, Json>) {
    for (member, default) in of.defaults {
        if !shown.contains_key(*member) {
            shown.insert((*member).to_owned(), serde_json::from_str(default).unwrap_or_default());
        }
    }
}

/// What is written of a provider, without its keys.
pub fn provider_hash(stored: &Value) -> ConfigHash {
    let mut canon = ProviderFile::canon(stored);
    if let Canon::Object(members) = &mut canon {
        members.remove("keys");
    }
    ConfigHash::of(&canon)
}

/// Of the list of a provider's keys.
pub fn keys_hash(provider: &Provider) -> ConfigHash {
    list_hash(provider.keys.iter().filter(|key| !key.pointer.is_empty()).map(|key| (key.id.to_string(), key.hash)))
}

/// Of a list: its items in order, each by its own.
pub fn list_hash(items: impl Iterator<Item = (String, ConfigHash)>) -> ConfigHash {
    let canon = items.map(|(name, hash)| Canon::List(vec![Canon::Text(name), Canon::Text(hash.hex())]));
    ConfigHash::of(&Canon::List(canon.collect()))
}
