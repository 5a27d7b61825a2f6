//! Who made what an upstream keeps: files, batches, stored responses, by the upstream's id.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::seconds;
use crate::id::{KeyId, ProjectId, ProviderName};
use crate::limits::ID_BYTES_MAX;

/// The key by which something was made, and for whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    pub provider: ProviderName,
    pub key: KeyId,
    /// `None`: made without projects.
    pub project: Option<ProjectId>,
}

pub(super) fn put(connection: &Connection, id: &str, owner: &Owner, at: SystemTime) -> rusqlite::Result<()> {
    if id.len() > ID_BYTES_MAX {
        return Ok(());
    }
    let project = owner.project.as_ref().map(ProjectId::as_str);
    connection
        .prepare("INSERT OR REPLACE INTO ids (id, provider, key, project, at) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![id, owner.provider.as_str(), owner.key.as_str(), project, seconds(at)])?;
    Ok(())
}

pub(super) fn owner(connection: &Connection, id: &str) -> rusqlite::Result<Option<Owner>> {
    connection
        .prepare("SELECT provider, key, project FROM ids WHERE id = ?")?
        .query_row([id], |row| {
            Ok(Owner {
                provider: ProviderName::new(row.get::<_, String>(0)?),
                key: KeyId::new(row.get::<_, String>(1)?),
                project: row.get::<_, Option<String>>(2)?.map(ProjectId::new),
            })
        })
        .optional()
}

pub(super) fn forget(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare("DELETE FROM ids WHERE id = ?")?.execute([id])?;
    Ok(())
}

pub(super) fn trim(connection: &Connection, rows_max: u64) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM ids WHERE id IN (SELECT id FROM ids ORDER BY at DESC LIMIT -1 OFFSET ?)",
        [i64::try_from(rows_max).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}
