//! The tables, and the steps from each older form of them to this one.
//!
//! `user_version` of the file counts the steps. A file that a newer keyway made is left alone.

use rusqlite::Connection;

/// Tells our file from any other SQLite file: "kway".
const APPLICATION_ID: i64 = 0x6b77_6179;

/// Each step leads from the form of its index to the next. A step that was released never changes.
const STEPS: [&str; 1] = ["
    CREATE TABLE replay (
        scope  BLOB PRIMARY KEY,
        body   BLOB NOT NULL,
        run    BLOB NOT NULL,
        began  INTEGER NOT NULL,
        status INTEGER,
        head   TEXT,
        answer BLOB
    ) WITHOUT ROWID;
    CREATE INDEX replay_began ON replay (began);
    CREATE TABLE audit (
        number     INTEGER PRIMARY KEY AUTOINCREMENT,
        at         INTEGER NOT NULL,
        who        TEXT NOT NULL,
        action     TEXT NOT NULL,
        target     TEXT NOT NULL,
        request    TEXT NOT NULL,
        status     INTEGER,
        code       TEXT,
        generation INTEGER
    );
    CREATE TABLE seen (
        key     TEXT PRIMARY KEY,
        hash    BLOB NOT NULL,
        first   INTEGER NOT NULL,
        changed INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE ids (
        id       TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        key      TEXT NOT NULL,
        project  TEXT,
        at       INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX ids_at ON ids (at);
    CREATE TABLE spend (
        project  TEXT NOT NULL,
        hour     INTEGER NOT NULL,
        run      BLOB NOT NULL,
        nano_usd INTEGER NOT NULL,
        tokens   INTEGER NOT NULL,
        PRIMARY KEY (project, hour, run)
    ) WITHOUT ROWID;
"];

/// Why a file is not used.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It belongs to another program.
    Foreign,
    /// A newer keyway made it.
    Newer,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is a database of another program"),
            Self::Newer => f.write_str("a newer keyway made it"),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

/// Brings the tables to today's form, all steps or none.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Unfit> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let pragma = |name: &str| transaction.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let is_empty = transaction.query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get::<_, bool>(0))?;
    if application != APPLICATION_ID && !is_empty {
        return Err(Unfit::Foreign);
    }
    let done = usize::try_from(version).ok().filter(|done| *done <= STEPS.len()).ok_or(Unfit::Newer)?;
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    if done < STEPS.len() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(STEPS.len()).unwrap_or(i64::MAX))?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_older_form_becomes_todays() {
        let tables = |connection: &Connection| -> Vec<String> {
            let mut names =
                connection.prepare("SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name").unwrap();
            names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let mut new = Connection::open_in_memory().unwrap();
        migrate(&mut new).unwrap();
        let wanted = tables(&new);
        assert!(wanted.iter().any(|sql| sql.contains("TABLE audit")));
        for done in 1..=STEPS.len() {
            let mut old = Connection::open_in_memory().unwrap();
            for step in &STEPS[..done] {
                old.execute_batch(step).unwrap();
            }
            old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            old.pragma_update(None, "user_version", i64::try_from(done).unwrap()).unwrap();
            migrate(&mut old).unwrap();
            migrate(&mut old).unwrap();
            assert_eq!(tables(&old), wanted, "from {done}");
        }
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let mut newer = Connection::open_in_memory().unwrap();
        migrate(&mut newer).unwrap();
        newer.pragma_update(None, "user_version", 1_000).unwrap();
        assert!(matches!(migrate(&mut newer), Err(Unfit::Newer)));

        let mut foreign = Connection::open_in_memory().unwrap();
        foreign.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
        assert!(matches!(migrate(&mut foreign), Err(Unfit::Foreign)));
        let count: i64 = foreign.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }
}
