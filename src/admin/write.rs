//! The one way of a management API to the file: a [`Change`] is handed to the writer, and what came
//! of it is waited for. A caller who leaves meanwhile stops nothing.

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

/// A provider of a snapshot, with its place.
pub fn provider<'s>(snapshot: &'s Snapshot, name: &str) -> Result<(u32, &'s Provider), Refused> {
    let at = snapshot.index.by_name.get(name).copied();
    let found = at.and_then(|at| Some((at, &**snapshot.providers.get(at as usize)?)));
    found.ok_or(Refused::NotFound { what: "provider" })
}

/// A provider that takes keys. One that takes none has a single key that stands nowhere in the file.
pub fn provider_with_keys<'s>(snapshot: &'s Snapshot, name: &str) -> Result<(u32, &'s Provider), Refused> {
    let (at, provider) = provider(snapshot, name)?;
    if is_keyless(provider) {
        let message = "this provider takes no keys".to_owned();
        return Err(Refused::Invalid { code: "provider_is_keyless", field: "provider".to_owned(), message });
    }
    Ok((at, provider))
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

/// Routes with a target on the provider that some key can serve now and none could without `key`
/// (without any of the provider's keys where it is `None`).
pub fn routes_left_alone(snapshot: &Snapshot, at: u32, key: Option<&KeyId>) -> Vec<String> {
    let keys = snapshot.providers.get(at as usize).map(|provider| provider.keys.as_slice()).unwrap_or_default();
    let mut alone: Vec<String> = snapshot
        .routes
        .values()
        .filter(|route| {
            route.targets.iter().filter(|target| target.provider == at).any(|target| {
                let serves = |it: &&Key| it.rule.allows(&target.model.folded());
                let able = keys.iter().map(|key| &**key).filter(serves);
                let stays = |it: &Key| key.is_some_and(|gone| it.id != *gone);
                let (mut before, mut after) = (0, 0);
                able.for_each(|it| {
                    before += 1;
                    after += usize::from(stays(it));
                });
                // Without any key of its own the target still names the provider.
                after == 0 && (before > 0 || key.is_none())
            })
        })
        .map(|route| route.name.to_string())
        .collect();
    alone.sort();
    alone
}

/// The refusal of a delete that would leave routes alone.
pub fn refuse_to_leave_alone(routes: &[String]) -> Result<(), Refused> {
    if routes.is_empty() {
        return Ok(());
    }
    let message = format!("these routes would be left without any key for a target: {}", routes.join(", "));
    Err(Refused::Conflict { code: "in_use_by_routes", message })
}

/// Refuses new keys whose references lead nowhere: a client who just wrote them wants to know.
pub fn all_resolved(made: &Snapshot, ids: &[KeyId]) -> Result<(), Refused> {
    let keys = made.providers.iter().flat_map(|provider| &provider.keys);
    for key in keys.filter(|key| ids.contains(&key.id)) {
        let message = match &key.ready {
            Err(Unready::EnvMissing { name }) => format!("environment variable {name} is not set, or is empty"),
            Err(Unready::FileUnreadable { .. }) => "the secret file cannot be read, or is empty".to_owned(),
            Ok(_) | Err(Unready::SealedUnreadable | Unready::Incomplete { .. }) => continue,
        };
        return Err(Refused::Invalid { code: "unresolved_reference", field: "value".to_owned(), message });
    }
    Ok(())
}
