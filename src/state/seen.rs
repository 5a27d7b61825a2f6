//! When keys that have no times of their own in the file were first seen, and last changed.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::{from_seconds, seconds};
use crate::hash::ConfigHash;
use crate::id::KeyId;

/// What is remembered of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sight {
    pub hash: ConfigHash,
    pub first: SystemTime,
    pub changed: SystemTime,
}

pub(super) fn put(connection: &Connection, keys: &[(KeyId, Sight)]) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare("INSERT OR REPLACE INTO seen (key, hash, first, changed) VALUES (?, ?, ?, ?)")?;
    for (id, sight) in keys {
        insert.execute(params![id.as_str(), sight.hash.bytes(), seconds(sight.first), seconds(sight.changed)])?;
    }
    Ok(())
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<(KeyId, Sight)>> {
    let mut query = connection.prepare("SELECT key, hash, first, changed FROM seen")?;
    let rows = query.query_map([], |row| {
        let sight = Sight {
            hash: ConfigHash::from_bytes(row.get(1)?),
            first: from_seconds(row.get(2)?),
            changed: from_seconds(row.get(3)?),
        };
        Ok((KeyId::new(row.get::<_, String>(0)?), sight))
    })?;
    rows.collect()
}

pub(super) fn trim(connection: &Connection, rows_max: u64) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM seen WHERE key IN (SELECT key FROM seen ORDER BY changed DESC LIMIT -1 OFFSET ?)",
        [i64::try_from(rows_max).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}
