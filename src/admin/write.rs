//! The one way of a management API to the file: a [`Change`] is handed to the writer, and what came
//! of it is waited for. A caller who leaves meanwhile stops nothing.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Admin;
use super::error::ApiError;
use crate::config::syntax::Value;
use crate::id::KeyId;
use crate::snapshot::{Key, Provider, Snapshot, Unready};
use crate::store::{Base, Change, Command, Refused, Written};

/// Makes a change, or says why not.
pub async fn apply(admin: &Admin, change: Box<dyn Change>) -> Result<Written, ApiError> {
    let (reply, answer) = oneshot::channel();
    admin.commands.try_send(Command::Apply { change, reply }).map_err(|_| ApiError::unavailable())?;
    Ok(answer.await.map_err(|_| ApiError::unavailable())??)
}

/// What the file with a change in it would mean, or why it cannot be made. Nothing is written.
pub async fn try_out(admin: &Admin, change: Box<dyn Change>) -> Result<Arc<Snapshot>, ApiError> {
    let (reply, answer) = oneshot::channel();
    admin.commands.try_send(Command::TryOut { change, reply }).map_err(|_| ApiError::unavailable())?;
    Ok(answer.await.map_err(|_| ApiError::unavailable())??)
}

/// A provider of a snapshot.
pub fn provider<'s>(snapshot: &'s Snapshot, name: &str) -> Result<&'s Provider, Refused> {
    let at = snapshot.index.by_name.get(name).and_then(|at| usize::try_from(*at).ok());
    let found = at.and_then(|at| snapshot.providers.get(at));
    found.map(|provider| &**provider).ok_or(Refused::NotFound { what: "provider" })
}

/// The same by any name of its row: `google` finds `gemini`.
pub fn provider_of<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Provider> {
    let exact = provider(snapshot, name).ok();
    exact.or_else(|| {
        let row = crate::provider::row(name)?;
        let mut names = std::iter::once(&row.id).chain(row.also);
        names.find_map(|name| provider(snapshot, name).ok())
    })
}

/// A provider that takes keys. One that takes none has a single key that stands nowhere in the file.
pub fn provider_with_keys<'s>(snapshot: &'s Snapshot, name: &str) -> Result<&'s Provider, Refused> {
    let provider = provider(snapshot, name)?;
    if is_keyless(provider) {
        let message = "this provider takes no keys".to_owned();
        return Err(Refused::Invalid { code: "provider_is_keyless", field: "provider".to_owned(), message });
    }
    Ok(provider)
}

pub fn is_keyless(provider: &Provider) -> bool {
    provider.keys.iter().any(|key| key.pointer.is_empty())
}

pub fn key<'s>(provider: &'s Provider, id: &str) -> Result<&'s Key, Refused> {
    let found = provider.keys.iter().find(|key| key.id.as_str() == id && !key.pointer.is_empty());
    found.map(|key| &**key).ok_or(Refused::NotFound { what: "key" })
}

/// What stands in the file at a pointer of the same file's snapshot.
pub fn stored<'d>(base: &Base<'d>, pointer: &str, what: &'static str) -> Result<&'d Value, Refused> {
    base.document.tree.find(pointer).ok_or(Refused::NotFound { what })
}

/// Refuses new keys whose references lead nowhere: a client who just wrote them wants to know.
pub fn all_resolved(made: &Snapshot, ids: &[KeyId]) -> Result<(), Refused> {
    let keys = made.providers.iter().flat_map(|provider| &provider.keys);
    for key in keys.filter(|key| ids.contains(&key.id)) {
        let message = match &key.ready {
            Err(Unready::EnvMissing { name }) => format!("environment variable {name} is not set, or is empty"),
            Err(Unready::FileUnreadable { .. }) => "the secret file cannot be read, or is empty".to_owned(),
            Ok(_) | Err(Unready::SealedUnreadable { .. } | Unready::Incomplete { .. }) => continue,
        };
        return Err(Refused::Invalid { code: "unresolved_reference", field: "value".to_owned(), message });
    }
    Ok(())
}
