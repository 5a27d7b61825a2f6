//! Opens the file, and carries what it holds into memory and back when it comes and goes.
//!
//! Touches no file but its own: one that is damaged, foreign or newer stays as it is, for whoever
//! wants to look at it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::schema::{Unfit, migrate};
use super::{FILE_NAME, Place};
use crate::limits::{
    STATE_BUSY_WAIT, STATE_CACHE_KIB_MAX, STATE_FILE_BYTES_MAX, STATE_JOURNAL_BYTES_MAX, STATE_RESCUE_ROWS_MAX,
};

const FILE_MODE: u32 = 0o600;
const PAGE_BYTES: u64 = 4096;

/// The file of a place, made where it is not there yet; or why it cannot be used.
pub(super) fn open(place: &Place) -> Result<Connection, String> {
    (place.prepare)().map_err(|error| error.to_string())?;
    let path = place.dir.join(FILE_NAME);
    // SQLite would make it readable for others, and its journal like it.
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.to_string()),
        _ => {}
    }
    connect(&path).map_err(|unfit| unfit.to_string())
}

fn connect(path: &Path) -> Result<Connection, Unfit> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(STATE_BUSY_WAIT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // A file system without shared memory keeps the old kind of journal: slower, and as safe.
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    // A killed process loses nothing that was committed; a power cut may take the last moments along.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", number(STATE_JOURNAL_BYTES_MAX))?;
    connection.pragma_update(None, "cache_size", number(STATE_CACHE_KIB_MAX).saturating_neg())?;
    connection.query_row(&format!("PRAGMA max_page_count = {}", STATE_FILE_BYTES_MAX / PAGE_BYTES), [], |_| Ok(()))?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// The same tables without a file. Audit numbers go on behind `last_number`.
pub(super) fn in_memory(last_number: u64) -> Result<Connection, String> {
    let make = || -> Result<Connection, Unfit> {
        let mut connection = Connection::open_in_memory()?;
        connection.query_row(
            &format!("PRAGMA max_page_count = {}", STATE_FILE_BYTES_MAX / PAGE_BYTES / 8),
            [],
            |_| Ok(()),
        )?;
        migrate(&mut connection)?;
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('audit', ?)", [number(last_number)])?;
        Ok(connection)
    };
    make().map_err(|unfit| unfit.to_string())
}

/// Takes into memory what running requests may ask for. What cannot be read is not known.
pub(super) fn rescue(memory: &Connection, dir: &Path) {
    let path = dir.join(FILE_NAME);
    let Some(path) = path.to_str() else { return };
    if memory.execute("ATTACH DATABASE ? AS file", [path]).is_err() {
        return;
    }
    let rows = number(STATE_RESCUE_ROWS_MAX);
    for copy in [
        "INSERT OR IGNORE INTO main.replay SELECT * FROM file.replay ORDER BY began DESC LIMIT ?",
        "INSERT OR IGNORE INTO main.seen SELECT * FROM file.seen ORDER BY changed DESC LIMIT ?",
        "INSERT OR IGNORE INTO main.ids SELECT * FROM file.ids ORDER BY at DESC LIMIT ?",
    ] {
        let _ = memory.execute(copy, [rows]);
    }
    let _ = memory.execute_batch("DETACH DATABASE file");
}

/// Brings into the file what was kept in memory meanwhile: all of it, or an error and nothing.
pub(super) fn bring_back(memory: &mut Connection, dir: &Path, run: &[u8; 16]) -> Result<(), String> {
    let path = dir.join(FILE_NAME);
    let path = path.to_str().ok_or("its path is not text")?;
    memory.execute("ATTACH DATABASE ? AS file", [path]).map_err(|error| error.to_string())?;
    let copied = (|| {
        let transaction = memory.transaction()?;
        transaction.execute_batch(
            "INSERT OR REPLACE INTO file.replay SELECT * FROM main.replay;
             INSERT OR IGNORE INTO file.seen SELECT * FROM main.seen;
             INSERT OR REPLACE INTO file.ids SELECT * FROM main.ids;
             INSERT INTO file.audit (at, who, action, target, request, status, code, generation)
                 SELECT at, who, action, target, request, status, code, generation FROM main.audit ORDER BY number;",
        )?;
        transaction
            .execute("INSERT OR REPLACE INTO file.spend SELECT * FROM main.spend WHERE run = ?", params![run])?;
        transaction.commit()
    })();
    let _ = memory.execute_batch("DETACH DATABASE file");
    copied.map_err(|error: rusqlite::Error| error.to_string())
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
