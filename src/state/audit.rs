//! The audit log: every write through a management API, by whom, on what by name, when, and what
//! came of it. No value ever: who writes an entry has names alone.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags, params};

use super::{FILE_NAME, from_seconds, seconds};

/// A write that is about to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub at: SystemTime,
    /// Name of the management key.
    pub who: Box<str>,
    /// Method and route: `PUT /api/providers/{provider}`.
    pub action: Box<str>,
    /// What the path names.
    pub target: Box<str>,
    /// `x-request-id`.
    pub request: Box<str>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub status: u16,
    /// Word of the error; empty where there was none.
    pub code: Box<str>,
    /// Generation that ran when it was answered.
    pub generation: u64,
    /// Name of what was made, where the path does not name it; becomes the target.
    pub made: Option<Box<str>>,
}

/// An entry as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    pub number: u64,
    pub entry: Entry,
    /// `None`: the process ended before the write was answered, or it is being made.
    pub outcome: Option<Outcome>,
}

pub(super) fn intend(connection: &Connection, entry: &Entry) -> rusqlite::Result<u64> {
    connection
        .prepare("INSERT INTO audit (at, who, action, target, request) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![seconds(entry.at), entry.who, entry.action, entry.target, entry.request])?;
    Ok(u64::try_from(connection.last_insert_rowid()).unwrap_or_default())
}

pub(super) fn conclude(connection: &Connection, number: u64, outcome: &Outcome) -> rusqlite::Result<()> {
    let [number, generation] = [number, outcome.generation].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    connection
        .prepare(
            "UPDATE audit SET status = ?, code = ?, generation = ?, target = coalesce(?, target) WHERE number = ?",
        )?
        .execute(params![outcome.status, outcome.code, generation, outcome.made, number])?;
    Ok(())
}

pub(super) fn trim(connection: &Connection, rows_max: u64) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?",
        [i64::try_from(rows_max).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

/// The newest entries in the file of a state directory, oldest first. Reads beside a process that
/// writes.
pub fn read_log(dir: &Path, count: u64) -> Result<Vec<Recorded>, String> {
    let path = dir.join(FILE_NAME);
    let told = |error: rusqlite::Error| format!("{}: {error}", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(told)?;
    newest(&connection, count).map_err(told)
}

pub(super) fn newest(connection: &Connection, count: u64) -> rusqlite::Result<Vec<Recorded>> {
    let mut query = connection.prepare(
        "SELECT number, at, who, action, target, request, status, code, generation FROM
         (SELECT * FROM audit ORDER BY number DESC LIMIT ?) ORDER BY number",
    )?;
    let rows = query.query_map([i64::try_from(count).unwrap_or(i64::MAX)], |row| {
        let outcome = match row.get::<_, Option<u16>>(6)? {
            Some(status) => Some(Outcome { status, code: row.get(7)?, generation: unsigned(row.get(8)?), made: None }),
            None => None,
        };
        let entry = Entry {
            at: from_seconds(row.get(1)?),
            who: row.get(2)?,
            action: row.get(3)?,
            target: row.get(4)?,
            request: row.get(5)?,
        };
        Ok(Recorded { number: unsigned(row.get(0)?), entry, outcome })
    })?;
    rows.collect()
}

/// SQLite knows signed numbers alone.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
