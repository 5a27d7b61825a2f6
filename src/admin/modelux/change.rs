//! Providers of this face: create, patch, delete, each as a [`Change`] that can be planned anew on
//! whatever stands on disk by then.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value as Json};

use super::providers::{Base as Url, find, needs_credential};
use crate::admin::credential::{self, complete};
use crate::admin::error::ApiError;
use crate::admin::etag::IfMatch;
use crate::admin::fields;
use crate::admin::keys::{CreateKey, PatchKey};
use crate::admin::providers::CreateProvider;
use crate::admin::record::{KeyBody, ProviderBody};
use crate::admin::write::{all_resolved, provider_of};
use crate::config::edit::Edit;
use crate::config::syntax::Value;
use crate::health::KeyHealth;
use crate::id::{KeyId, TransportId};
use crate::provider::{self, ProviderRow};
use crate::snapshot::{Key, Snapshot};
use crate::store::{Base, Change, Plan, Refused};

/// What a body says of a provider.
pub struct Sent {
    pub name: Option<String>,
    pub api_key: Option<String>,
    pub base_url: Url,
    pub enabled: Option<bool>,
}

impl Sent {
    fn members(&self, row: &ProviderRow, custom: bool) -> Result<Map<String, Json>, Refused> {
        let address = self.base_url.address();
        let mut members = credential::members(row, custom, self.api_key.as_deref(), address).map_err(refused)?;
        members.extend(self.name.as_deref().map(|name| ("name".to_owned(), name.into())));
        members.extend(self.enabled.map(|enabled| ("enabled".to_owned(), enabled.into())));
        Ok(members)
    }
}

/// A new provider of a vendor.
pub struct Create {
    /// As the catalogue or the file has it.
    pub vendor: String,
    pub sent: Sent,
    pub now: String,
    /// Id of the new key.
    pub fresh: String,
}

impl Change for Create {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let (id, now) = (self.fresh.clone(), self.now.clone());
        if let Some(found) = provider_of(base.snapshot, &self.vendor) {
            let body = KeyBody::read(self.key(found.row, found.custom)?)?;
            let provider = found.name.to_string();
            return CreateKey { provider, body, id, now, if_match: IfMatch::None }.plan(base);
        }
        let row = provider::row(&self.vendor).filter(|row| !row.keyless).ok_or_else(unknown)?;
        if row.needs_endpoint && !matches!(self.sent.base_url, Url::Set(_)) {
            return Err(refused(fields::missing("base_url")));
        }
        let body = ProviderBody { value: nothing()?, name: None, keys: Some(vec![self.key(row, false)?]) };
        CreateProvider { name: row.id.to_owned(), body, ids: vec![id], now }.plan(base)
    }

    fn accept(&self, made: &Snapshot) -> Result<(), Refused> {
        all_resolved(made, &[KeyId::new(self.fresh.as_str())])
    }
}

impl Create {
    fn key(&self, row: &ProviderRow, custom: bool) -> Result<Value, Refused> {
        if self.sent.api_key.is_none() && needs_credential(row) {
            return Err(refused(fields::missing("api_key")));
        }
        let mut members = self.sent.members(row, custom)?;
        complete(row, &mut members);
        credential::record(members).map_err(refused)
    }
}

/// Which provider is meant.
pub struct Target {
    pub id: String,
}

impl Target {
    fn key<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s Arc<Key>, Refused> {
        find(snapshot, &self.id).ok_or(Refused::NotFound { what: "provider" })
    }
}

/// Where a key goes, and over what trust.
#[derive(Clone, PartialEq, Eq)]
struct Destination {
    transport: TransportId,
    base_path: Box<str>,
}

impl Destination {
    fn of(key: &Key) -> Option<Self> {
        let ready = key.ready.as_ref().ok()?;
        Some(Self { transport: ready.transport.id, base_path: ready.base_path.clone() })
    }
}

/// Some members of a provider; all others stay.
pub struct Patch {
    pub target: Target,
    pub sent: Arc<Sent>,
    now: String,
    /// Where the new key was verified.
    verified_at: Option<Destination>,
    /// The health of the key as the last plan found it: of the one that is replaced.
    pub before: Arc<Mutex<Option<Arc<KeyHealth>>>>,
}

impl Patch {
    pub fn new(target: Target, sent: Sent, now: String) -> Self {
        Self { target, sent: Arc::new(sent), now, verified_at: None, before: Arc::default() }
    }

    /// The same to be tried out, not to be written.
    pub fn trial(&self) -> Self {
        Self {
            target: Target { id: self.target.id.clone() },
            sent: Arc::clone(&self.sent),
            now: self.now.clone(),
            verified_at: None,
            before: Arc::default(),
        }
    }

    /// What was verified there is not sent elsewhere.
    pub fn bind_to(&mut self, key: &Key) {
        self.verified_at = Destination::of(key);
    }
}

impl Change for Patch {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let key = self.target.key(base.snapshot)?;
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&key.health));
        let custom = provider_of(base.snapshot, key.provider.as_str()).is_some_and(|provider| provider.custom);
        let members = self.sent.members(key.row, custom)?;
        let changes = credential::record(members).map_err(refused)?;
        let (provider, key_id, now) = (key.provider.to_string(), key.id.to_string(), self.now.clone());
        PatchKey { provider, key_id, changes, now }.plan(base)
    }

    fn accept(&self, made: &Snapshot) -> Result<(), Refused> {
        let key = self.target.key(made)?;
        if self.sent.api_key.is_some() {
            all_resolved(made, std::slice::from_ref(&key.id))?;
        }
        if self.verified_at.is_some() && self.verified_at != Destination::of(key) {
            let message = "where the key goes has changed since it was verified; try again".to_owned();
            return Err(Refused::Conflict { code: "config_changed", message });
        }
        Ok(())
    }
}

/// A provider that shall be gone.
pub struct Delete {
    pub target: Target,
}

impl Change for Delete {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let pointer = self.target.key(base.snapshot)?.pointer.clone();
        Ok(Plan { edits: vec![Edit::Remove { pointer }], renewed: Vec::new() })
    }
}

fn nothing() -> Result<Value, Refused> {
    credential::record(Map::new()).map_err(refused)
}

fn unknown() -> Refused {
    let vendors = provider::rows().iter().filter(|row| !row.keyless);
    let names: Vec<&str> = vendors.map(|row| row.also.first().copied().unwrap_or(row.id)).collect();
    let message = format!("there is no such vendor; there are {}", names.join(", "));
    Refused::Invalid { code: "unknown_vendor", field: "vendor".to_owned(), message }
}

/// A value that will not do, found while planning.
fn refused(error: ApiError) -> Refused {
    Refused::Invalid { code: error.code, field: error.field.unwrap_or_default(), message: error.message }
}
