//! Keys of a provider: create, replace, delete, each as a [`Change`] that can be planned anew on
//! whatever stands on disk by then. Checks in the order of bifrost.md 3.3 to 3.5.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;

use super::etag::IfMatch;
use super::merge::{Ground, address, invalid, made, patched, without_secrets};
use super::record::{KeyBody, refusal};
use super::replace::{Merged, Replacement};
use super::shape::{DEPLOYMENTS, KEY, PROVIDER, members};
use super::view::{DEPLOYMENT_HOLDERS, Lens, aliases, aliases_canon, keys_hash};
use super::write::{all_resolved, key, provider_with_keys, stored};
use crate::config::edit::{Edit, NewValue, apply};
use crate::config::file::KeyFile;
use crate::config::problem::pointer_to;
use crate::config::read::FromConfig;
use crate::config::syntax::{Kind, Value};
use crate::config::{Problems, SecretRef, Tree};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::id::KeyId;
use crate::provider::AuthKind;
use crate::snapshot::{CompileInput, DryRun, Provider, Snapshot, load};
use crate::store::{Base, Change, Plan, Refused};

/// Name of the one key that has none (CONTRACT 2.3).
const DEFAULT_NAME: &str = "default";

/// A new key.
pub struct CreateKey {
    pub provider: String,
    pub body: KeyBody,
    /// Of the body, or a fresh one.
    pub id: String,
    /// RFC 3339.
    pub now: String,
    pub if_match: IfMatch,
}

impl Change for CreateKey {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let provider = provider_with_keys(base.snapshot, &self.provider)?;
        let at = pointer_to("/providers", &self.provider);
        let owner = stored(base, &at, "provider")?;
        self.if_match.admits(Some(keys_hash(provider)))?;
        let body = self.body.value();
        complete(body, provider, owner)?;
        trial(&self.provider, owner, &sound(body, None))?;
        let new = record(body, &self.id, &self.now, "", Ground::from(base))?;
        let name = text(body, "name").unwrap_or(DEFAULT_NAME);
        if provider.keys.iter().any(|key| key.name.as_str() == name) {
            return Err(conflict("duplicate_key_name", "another key of this provider has this name"));
        }
        if base.snapshot.providers.iter().flat_map(|it| &it.keys).any(|key| key.id.as_str() == self.id) {
            return Err(conflict("duplicate_key_id", "another key has this id"));
        }
        let pointer = pointer_to(&at, "keys");
        let edit = match owner.member("keys") {
            Some(_) => Edit::Append { pointer, value: new },
            None => Edit::Set { pointer, value: NewValue::List(vec![new]) },
        };
        Ok(Plan { edits: vec![edit], renewed: vec![self.id.clone()] })
    }

    fn accept(&self, made: &Snapshot) -> Result<(), Refused> {
        all_resolved(made, &[KeyId::new(self.id.as_str())])
    }
}

/// Another content for a key that is there.
pub struct ReplaceKey {
    pub provider: String,
    pub key_id: String,
    pub body: KeyBody,
    pub now: String,
    pub if_match: IfMatch,
}

impl Change for ReplaceKey {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let provider = provider_with_keys(base.snapshot, &self.provider)?;
        let key = key(provider, &self.key_id)?;
        let old = stored(base, &key.pointer, "key")?;
        let owner = stored(base, &pointer_to("/providers", &self.provider), "provider")?;
        self.if_match.admits(Some(key.hash))?;
        let body = self.body.value();
        let ground = Ground::from(base);
        let mut merged = Merged::default();
        let (stored_canon, body_canon) = (KeyFile::canon(old), KeyFile::canon(body));
        Replacement {
            record: &KEY,
            pointer: &key.pointer,
            field: "",
            stored: old,
            body,
            stored_canon: Some(&stored_canon),
            body_canon: Some(&body_canon),
        }
        .into_edits(ground, &mut merged)?;
        trial(&self.provider, owner, &sound(body, Some(old)))?;
        self.aliases(old, body, &key.pointer, ground, &mut merged)?;
        if let Some(name) = text(body, "name").filter(|name| *name != key.name.as_str()) {
            if provider.keys.iter().any(|other| other.name.as_str() == name) {
                return Err(conflict("duplicate_key_name", "another key of this provider has this name"));
            }
            let set = |member: &str, value: &str| Edit::Set {
                pointer: pointer_to(&key.pointer, member),
                value: NewValue::text(value),
            };
            // A derived id follows the name: written out, it stays what clients know.
            if text(old, "id").is_none() {
                merged.edits.push(set("id", &self.key_id));
            }
            merged.edits.push(set("name", name));
        }
        // A record that a hand wrote without times stays without: the file's history has them.
        let timed = ["created_at", "updated_at"].into_iter().any(|member| old.member(member).is_some());
        if timed && !merged.edits.is_empty() {
            let pointer = pointer_to(&key.pointer, "updated_at");
            merged.edits.push(Edit::Set { pointer, value: NewValue::text(&*self.now) });
        }
        let renewed = if merged.kept { Vec::new() } else { vec![self.key_id.clone()] };
        Ok(Plan { edits: merged.edits, renewed })
    }
}

/// Some members of a key; all others stay.
pub struct PatchKey {
    pub provider: String,
    pub key_id: String,
    /// A record of a key; `null` takes a member away.
    pub changes: Value,
    pub now: String,
}

impl Change for PatchKey {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let key = key(provider_with_keys(base.snapshot, &self.provider)?, &self.key_id)?;
        let body = KeyBody::read(patched(&KEY, stored(base, &key.pointer, "key")?, &self.changes))?;
        let (provider, key_id, now) = (self.provider.clone(), self.key_id.clone(), self.now.clone());
        ReplaceKey { provider, key_id, body, now, if_match: IfMatch::None }.plan(base)
    }
}

impl ReplaceKey {
    /// Aliases in both spellings are one list; where it changes, it is written in the new one.
    fn aliases(
        &self,
        old: &Value,
        body: &Value,
        pointer: &str,
        ground: Ground<'_>,
        merged: &mut Merged,
    ) -> Result<(), Refused> {
        if aliases_canon(old) == aliases_canon(body) {
            return Ok(());
        }
        let wanted = new_aliases(body, "", ground)?;
        let at = pointer_to(pointer, "aliases");
        match (old.member("aliases"), wanted) {
            (_, Some(value)) => merged.edits.push(Edit::Set { pointer: at, value }),
            (Some(_), None) => merged.edits.push(Edit::Remove { pointer: at }),
            (None, None) => {}
        }
        for holder in DEPLOYMENT_HOLDERS {
            let at = pointer_to(pointer, holder);
            let goes = merged.edits.iter().any(|edit| matches!(edit, Edit::Remove { pointer } if *pointer == at));
            let Some(held) = old.member(holder).filter(|held| !goes && held.value.member(DEPLOYMENTS).is_some()) else {
                continue;
            };
            // A holder of nothing else goes as a whole, unless something is about to come into it.
            let comes = merged.edits.iter().any(|edit| edit_pointer(edit).starts_with(&format!("{at}/")));
            let alone = members(&held.value).len() == 1 && !comes;
            let pointer = if alone { at } else { pointer_to(&at, DEPLOYMENTS) };
            merged.edits.push(Edit::Remove { pointer });
        }
        Ok(())
    }
}

fn edit_pointer(edit: &Edit) -> &str {
    match edit {
        Edit::Set { pointer, .. } | Edit::Remove { pointer } | Edit::Append { pointer, .. } => pointer,
    }
}

/// A key that shall be gone.
pub struct DeleteKey {
    pub provider: String,
    pub key_id: String,
    pub if_match: IfMatch,
    pub lens: Lens,
    /// What the key was, as the last plan saw it.
    pub shown: Arc<Mutex<Option<Json>>>,
}

impl Change for DeleteKey {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let provider = provider_with_keys(base.snapshot, &self.provider)?;
        let key = key(provider, &self.key_id)?;
        stored(base, &key.pointer, "key")?;
        self.if_match.admits(Some(key.hash))?;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = self.lens.key(key, Ground::from(base));
        Ok(Plan { edits: vec![Edit::Remove { pointer: key.pointer.clone() }], renewed: Vec::new() })
    }
}

/// What a new key must bring (bifrost.md 2.2 and 3.3): a credential, or an address, or both.
fn complete(body: &Value, provider: &Provider, owner: &Value) -> Result<(), Refused> {
    let is_set = |value: Option<&Value>| value.is_some_and(|value| !SecretRef::is_unset(value));
    let member = |holder: &Value, name: &str| holder.member(name).map(|m| m.value.clone());
    if !provider.row.value_optional && !is_set(body.member("value").map(|m| &m.value)) {
        return Err(invalid("value_required", "value", "the value is missing or empty; send the key, or \"env.NAME\""));
    }
    if provider.row.needs_endpoint && !provider.custom {
        let config = format!("{}_key_config", provider.row.id);
        let name = if provider.row.auth == AuthKind::Azure { "endpoint" } else { "url" };
        let url = member(body, &config).and_then(|config| member(&config, name));
        let shared = member(owner, "network_config").and_then(|network| member(&network, "base_url"));
        if ![url, member(body, "base_url"), shared].iter().any(|address| is_set(address.as_ref())) {
            let message = "this provider has no address of its own: each key names its server's";
            return Err(invalid("url_required", &format!("{config}.{name}"), message));
        }
    }
    Ok(())
}

/// A body as a new member of `keys`.
pub fn record(body: &Value, id: &str, now: &str, field: &str, ground: Ground<'_>) -> Result<NewValue, Refused> {
    let mut new = made(&KEY, &[], body, field, ground)?;
    new.push(("id".to_owned(), NewValue::text(id)));
    new.extend(text(body, "name").map(|name| ("name".to_owned(), NewValue::text(name))));
    new.extend(new_aliases(body, field, ground)?.map(|aliases| ("aliases".to_owned(), aliases)));
    new.extend(["created_at", "updated_at"].map(|member| (member.to_owned(), NewValue::text(now))));
    new.sort_by_key(|(name, _)| KeyFile::MEMBERS.iter().position(|known| known == name));
    Ok(NewValue::Object(new))
}

/// The aliases of a body, the old generation's folded in; `None` where there are none.
fn new_aliases(body: &Value, field: &str, ground: Ground<'_>) -> Result<Option<NewValue>, Refused> {
    let mut new = Vec::new();
    for (name, alias) in aliases(body) {
        if let Some(endpoint) = text(alias, "endpoint") {
            let field = if field.is_empty() { String::new() } else { format!("{field}.") };
            address(endpoint, &format!("{field}aliases.{name}.endpoint"), ground.document)?;
        }
        new.push((name.to_owned(), NewValue::from(alias)));
    }
    Ok((!new.is_empty()).then_some(NewValue::Object(new)))
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    match &value.member(name)?.value.kind {
        Kind::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn conflict(code: &'static str, message: &str) -> Refused {
    Refused::Conflict { code, message: message.to_owned() }
}

/// The body as a key of a file, without secrets and without what is not the client's to say.
fn sound(body: &Value, old: Option<&Value>) -> Value {
    let mut key = without_secrets(&KEY, body, old);
    if let Kind::Object(members) = &mut key.kind {
        members.retain(|m| !matches!(&*m.name, "id" | "created_at" | "updated_at"));
    }
    key
}

/// Compiles the key alone in its provider, resolving nothing: what is wrong with it by itself is
/// found before its name is compared with others, and is named by its own members.
fn trial(provider: &str, owner: &Value, key: &Value) -> Result<(), Refused> {
    let mut alone: Vec<(String, NewValue)> = Vec::new();
    for member in members(&without_secrets(&PROVIDER, owner, None)) {
        if &*member.name != "keys" {
            alone.push((member.name.to_string(), NewValue::from(&member.value)));
        }
    }
    alone.push(("keys".to_owned(), NewValue::List(vec![NewValue::from(key)])));
    let at = pointer_to("/providers", provider);
    let edit = Edit::Set { pointer: at.clone(), value: NewValue::Object(alone) };
    // A value that cannot be written is found by the edit of the real file too.
    let Ok(text) = Tree::parse("{\"providers\": {}}").map(|tree| apply(&tree, &[edit]).unwrap_or_default()) else {
        return Ok(());
    };
    let input = CompileInput {
        number: 0,
        hash: ConfigHash::of_bytes(b""),
        dir: Path::new("/"),
        resolve: &DryRun,
        fingerprint_key: &FingerprintKey::new([0; 32]),
        strict_env: false,
    };
    let (_, problems) = load(&text, &input, &mut Registry::new());
    let key_at = format!("{at}/keys/0");
    let mine = problems.0.into_iter().map(|mut problem| {
        if let Some(below) = problem.pointer.strip_prefix(&key_at) {
            problem.pointer = below.to_owned();
        }
        problem
    });
    refusal(&Problems(mine.collect()), "").map_or(Ok(()), Err)
}
