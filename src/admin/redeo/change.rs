//! Connections: put, patch, disconnect, each as a [`Change`] that can be planned anew on whatever
//! stands on disk by then. Which key is meant is decided here; what becomes of it is shared with the
//! other faces.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value as Json};

use crate::admin::credential::{self, complete};
use crate::admin::error::ApiError;
use crate::admin::etag::IfMatch;
use crate::admin::fields;
use crate::admin::keys::{CreateKey, PatchKey};
use crate::admin::providers::CreateProvider;
use crate::admin::record::{KeyBody, ProviderBody};
use crate::admin::write::{self, all_resolved, is_keyless};
use crate::config::edit::Edit;
use crate::config::syntax::Value;
use crate::id::KeyId;
use crate::provider::{self, ProviderRow};
use crate::snapshot::{Key, Provider, Snapshot};
use crate::store::{Base, Change, Plan, Refused};
use crate::weight::Priority;

/// Between the highest priority and that of a new connection.
const PRIORITY_STEP: u16 = 10;

/// What a body says of a connection.
pub struct Sent {
    pub api_key: Option<String>,
    pub priority: Option<Priority>,
    pub label: Option<String>,
    pub endpoint: Option<String>,
}

/// Which connection is meant.
pub struct Target {
    /// As the catalogue or the file has it.
    pub provider: String,
    pub label: Option<String>,
}

/// Provider and id of the key that the last plan was about.
pub type Touched = Arc<Mutex<Option<(String, String)>>>;

/// A connection that is made, or that gets another content.
pub struct Put {
    pub target: Target,
    pub sent: Sent,
    pub now: String,
    /// Id of a new key.
    pub fresh: String,
    pub touched: Touched,
}

impl Change for Put {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let Some(found) = write::provider_of(base.snapshot, &self.target.provider) else { return self.first(base) };
        if is_keyless(found) {
            return Err(keyless());
        }
        let label = self.sent.label.as_deref();
        let key = match keys(found).as_slice() {
            [] => return self.another(found, base),
            [one] => *one,
            several => several.iter().find(|key| Some(key.name.as_str()) == label).ok_or_else(|| ambiguous(several))?,
        };
        patch(found, key, &self.sent, &self.now, &self.touched, base)
    }

    fn accept(&self, made: &Snapshot) -> Result<(), Refused> {
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        touched.iter().try_for_each(|(_, id)| all_resolved(made, &[KeyId::new(id.as_str())]))
    }
}

impl Put {
    /// A provider of which the file knows nothing yet.
    fn first(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let row = provider::row(&self.target.provider);
        let Some(row) = row else {
            let message = "there is no such provider in the catalogue".to_owned();
            return Err(Refused::Invalid { code: "unknown_provider", field: "provider".to_owned(), message });
        };
        if row.keyless {
            return Err(keyless());
        }
        if row.needs_endpoint && self.sent.endpoint.is_none() {
            return Err(refused(fields::missing("endpoint")));
        }
        let body = ProviderBody { value: credential::record(Map::new()).map_err(refused)?, name: None, keys: None };
        let body = ProviderBody { keys: Some(vec![self.key(row, false, base.snapshot)?]), ..body };
        self.touch(row.id);
        let (name, ids, now) = (row.id.to_owned(), vec![self.fresh.clone()], self.now.clone());
        CreateProvider { name, body, ids, now }.plan(base)
    }

    /// A provider that stands in the file without keys.
    fn another(&self, found: &Provider, base: &Base<'_>) -> Result<Plan, Refused> {
        let body = KeyBody::read(self.key(found.row, found.custom, base.snapshot)?)?;
        self.touch(found.name.as_str());
        let (provider, id, now) = (found.name.to_string(), self.fresh.clone(), self.now.clone());
        CreateKey { provider, body, id, now, if_match: IfMatch::None }.plan(base)
    }

    fn key(&self, row: &ProviderRow, custom: bool, snapshot: &Snapshot) -> Result<Value, Refused> {
        let mut members = members(row, custom, &self.sent)?;
        complete(row, &mut members);
        let priority = self.sent.priority.unwrap_or_else(|| next_priority(snapshot));
        members.insert("priority".to_owned(), priority.value().into());
        credential::record(members).map_err(refused)
    }

    fn touch(&self, provider: &str) {
        touch(&self.touched, provider, &self.fresh);
    }
}

/// A connection of which some members change.
pub struct Patch {
    pub target: Target,
    pub sent: Sent,
    pub now: String,
    pub touched: Touched,
}

impl Change for Patch {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let (provider, key) = self.target.key(base.snapshot)?;
        patch(provider, key, &self.sent, &self.now, &self.touched, base)
    }

    fn accept(&self, made: &Snapshot) -> Result<(), Refused> {
        let touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let touched = touched.as_ref().filter(|_| self.sent.api_key.is_some());
        touched.map_or(Ok(()), |(_, id)| all_resolved(made, &[KeyId::new(id.as_str())]))
    }
}

/// A connection that shall be gone.
pub struct Disconnect {
    pub target: Target,
}

impl Change for Disconnect {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let (_, key) = self.target.key(base.snapshot)?;
        Ok(Plan { edits: vec![Edit::Remove { pointer: key.pointer.clone() }], renewed: Vec::new() })
    }
}

impl Target {
    /// The one that is there, or the one that the label names.
    fn key<'s>(&self, snapshot: &'s Snapshot) -> Result<(&'s Provider, &'s Key), Refused> {
        let missing = Refused::NotFound { what: "connection" };
        let provider = write::provider_of(snapshot, &self.provider).ok_or_else(|| missing.clone())?;
        let keys = keys(provider);
        let key = match (keys.as_slice(), self.label.as_deref()) {
            ([], _) => return Err(missing),
            ([one], None) => *one,
            (several, None) => return Err(ambiguous(several)),
            (all, Some(label)) => all.iter().find(|key| key.name.as_str() == label).ok_or(missing)?,
        };
        Ok((provider, key))
    }
}

/// Those that stand in the file.
fn keys(provider: &Provider) -> Vec<&Key> {
    provider.keys.iter().map(|key| &**key).filter(|key| !key.pointer.is_empty()).collect()
}

fn patch(
    provider: &Provider,
    key: &Key,
    sent: &Sent,
    now: &str,
    touched: &Touched,
    base: &Base<'_>,
) -> Result<Plan, Refused> {
    let mut changes = members(key.row, provider.custom, sent)?;
    if let Some(priority) = sent.priority {
        changes.insert("priority".to_owned(), priority.value().into());
    }
    touch(touched, provider.name.as_str(), key.id.as_str());
    let (provider, key_id, now) = (provider.name.to_string(), key.id.to_string(), now.to_owned());
    let changes = credential::record(changes).map_err(refused)?;
    PatchKey { provider, key_id, changes, now }.plan(base)
}

/// Members that say the same in the file, but for the priority.
fn members(row: &ProviderRow, custom: bool, sent: &Sent) -> Result<Map<String, Json>, Refused> {
    let address = sent.address(row, custom).map_err(refused)?;
    let mut members = credential::members(row, custom, sent.api_key.as_deref(), address).map_err(refused)?;
    members.extend(sent.label.as_deref().map(|label| ("name".to_owned(), label.into())));
    Ok(members)
}

/// Behind all that there are (CONTRACT 4.3); the first one stands in the middle, where a key without
/// a priority stands.
fn next_priority(snapshot: &Snapshot) -> Priority {
    let keys = snapshot.providers.iter().flat_map(|provider| &provider.keys).filter(|key| !key.pointer.is_empty());
    let next = keys.map(|key| key.priority.value()).max().map(|highest| highest.saturating_add(PRIORITY_STEP));
    next.and_then(|next| Priority::new(next.min(Priority::MAX))).unwrap_or(Priority::DEFAULT)
}

fn touch(touched: &Touched, provider: &str, id: &str) {
    *touched.lock().unwrap_or_else(PoisonError::into_inner) = Some((provider.to_owned(), id.to_owned()));
}

fn ambiguous(several: &[&Key]) -> Refused {
    let names: Vec<&str> = several.iter().map(|key| key.name.as_str()).collect();
    let message = format!("this provider has several connections; say which by its label: {}", names.join(", "));
    Refused::Conflict { code: "several_connections", message }
}

fn keyless() -> Refused {
    let message = "this provider takes no keys".to_owned();
    Refused::Invalid { code: "provider_is_keyless", field: "provider".to_owned(), message }
}

/// A value that will not do, found while planning.
fn refused(error: ApiError) -> Refused {
    Refused::Invalid { code: error.code, field: error.field.unwrap_or_default(), message: error.message }
}
