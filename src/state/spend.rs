//! The books: what projects have spent, by the hour, and what of it counts against their budgets.
//!
//! Each process writes rows of its own, as sums and not as additions: a row that is written twice, or
//! by a process that did not hear that it was written, says the same. What others have written to the
//! same file counts too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, TransactionBehavior, params};

use super::seconds;
use crate::budget::{Budget, HOURS_KEPT, SpendCell, Spent};
use crate::id::ProjectId;

const HOUR: u64 = 3600;

/// A project whose books are kept.
#[derive(Clone, Debug)]
pub struct Watched {
    pub project: ProjectId,
    pub spend: Arc<SpendCell>,
    pub budgets: Vec<Budget>,
}

#[derive(Default)]
pub(super) struct Books {
    books: HashMap<ProjectId, Book>,
    /// SQLite's count of what others have written, as it was when they were last read.
    version: Option<i64>,
    /// For which the budgets were balanced.
    hour: u64,
}

struct Book {
    watched: Watched,
    ours: BTreeMap<u64, Spent>,
    others: BTreeMap<u64, Spent>,
    /// Hours of ours that are not in the file.
    unwritten: BTreeSet<u64>,
    changed: bool,
}

impl Books {
    /// These are the projects now. One that is gone is kept while it has something to be written.
    pub fn watch(&mut self, projects: Vec<Watched>) {
        let names: BTreeSet<ProjectId> = projects.iter().map(|watched| watched.project.clone()).collect();
        self.books.retain(|id, book| names.contains(id) || !book.is_settled());
        for watched in projects {
            let book = self.books.entry(watched.project.clone()).or_insert_with(|| {
                // What others wrote of it has not been read.
                self.version = None;
                Book::of(watched.clone())
            });
            book.watched = watched;
            book.changed = true;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    /// The file is another one than before: nothing is known to be in it.
    pub fn reopened(&mut self) {
        self.version = None;
        for book in self.books.values_mut() {
            book.unwritten = book.ours.keys().copied().collect();
        }
    }

    /// Takes what is new into the books, writes it, and says what counts now. An error says that it is
    /// not in the file yet; it counts all the same, and is written the next time. In memory nobody else
    /// writes, and what was known of others stays known.
    pub fn sweep(
        &mut self,
        connection: &mut Connection,
        in_memory: bool,
        run: &[u8; 16],
        now: SystemTime,
    ) -> rusqlite::Result<()> {
        let now = u64::try_from(seconds(now)).unwrap_or_default();
        let hour = now / HOUR;
        let mut taken = Vec::new();
        for book in self.books.values_mut() {
            let spent = book.watched.spend.unsettled();
            if !spent.is_nothing() {
                let sum = book.ours.entry(hour).or_default();
                *sum = sum.plus(spent);
                book.unwritten.insert(hour);
                book.changed = true;
                taken.push((Arc::clone(&book.watched.spend), spent));
            }
        }
        let written = self.write(connection, run);
        let written = if in_memory { written } else { written.and_then(|()| self.read_others(connection, run, hour)) };
        let is_new_hour = std::mem::replace(&mut self.hour, hour) != hour;
        for book in self.books.values_mut().filter(|book| book.changed || is_new_hour) {
            book.changed = false;
            book.balance(hour, now);
        }
        // Only now: until it is in the balance it counts as unsettled.
        for (cell, spent) in taken {
            cell.settle(spent);
        }
        written
    }

    fn write(&mut self, connection: &mut Connection, run: &[u8; 16]) -> rusqlite::Result<()> {
        if self.books.values().all(|book| book.unwritten.is_empty()) {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare(
                "INSERT OR REPLACE INTO spend (project, hour, run, nano_usd, tokens) VALUES (?, ?, ?, ?, ?)",
            )?;
            for (id, book) in &self.books {
                for hour in &book.unwritten {
                    let spent = book.ours.get(hour).copied().unwrap_or_default();
                    let [hour, nano_usd, tokens] = [*hour, spent.nano_usd, spent.tokens].map(signed);
                    insert.execute(params![id.as_str(), hour, run, nano_usd, tokens])?;
                }
            }
        }
        transaction.commit()?;
        for book in self.books.values_mut() {
            book.unwritten.clear();
        }
        Ok(())
    }

    /// Reads what others have written, where they have.
    fn read_others(&mut self, connection: &Connection, run: &[u8; 16], hour: u64) -> rusqlite::Result<()> {
        if self.books.is_empty() {
            return Ok(());
        }
        let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        if self.version == Some(version) {
            return Ok(());
        }
        let mut query = connection.prepare(
            "SELECT project, hour, sum(nano_usd), sum(tokens) FROM spend WHERE run != ? AND hour >= ? GROUP BY project, hour",
        )?;
        let mut rows = query.query(params![run, signed(hour.saturating_sub(HOURS_KEPT))])?;
        for book in self.books.values_mut() {
            book.others.clear();
            book.changed = true;
        }
        while let Some(row) = rows.next()? {
            let project: String = row.get(0)?;
            if let Some(book) = self.books.get_mut(project.as_str()) {
                let [hour, nano_usd, tokens] = [row.get(1)?, row.get(2)?, row.get(3)?].map(unsigned);
                book.others.insert(hour, Spent { nano_usd, tokens });
            }
        }
        self.version = Some(version);
        Ok(())
    }
}

impl Book {
    fn of(watched: Watched) -> Self {
        let (ours, others) = (BTreeMap::new(), BTreeMap::new());
        Self { watched, ours, others, unwritten: BTreeSet::new(), changed: true }
    }

    fn is_settled(&self) -> bool {
        self.unwritten.is_empty() && self.watched.spend.unsettled().is_nothing()
    }

    fn balance(&mut self, hour: u64, now: u64) {
        let oldest = hour.saturating_sub(HOURS_KEPT);
        self.ours.retain(|hour, _| *hour >= oldest);
        let mut all = self.others.clone();
        for (hour, spent) in &self.ours {
            let sum = all.entry(*hour).or_default();
            *sum = sum.plus(*spent);
        }
        for budget in &self.watched.budgets {
            budget.balance(all.iter().map(|(hour, spent)| (*hour, *spent)), now);
        }
    }
}

pub(super) fn trim(connection: &Connection, now: SystemTime) -> rusqlite::Result<()> {
    let hour = u64::try_from(seconds(now)).unwrap_or_default() / HOUR;
    connection.execute("DELETE FROM spend WHERE hour < ?", [signed(hour.saturating_sub(HOURS_KEPT))])?;
    Ok(())
}

/// SQLite knows signed numbers alone; what is beyond them is the most that can be spent.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::{Period, Reach, Unit, Window};
    use crate::state::file;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn watched(limit: u64) -> Watched {
        let reach = Reach { unit: Unit::Tokens, period: Period::Day, window: Window::Calendar };
        let budget = Budget { id: "b".into(), reach, limit, cell: Arc::default() };
        Watched { project: ProjectId::new("app"), spend: Arc::default(), budgets: vec![budget] }
    }

    fn tokens(tokens: u64) -> Spent {
        Spent { nano_usd: tokens * 7, tokens }
    }

    fn at(hours: u64) -> SystemTime {
        NOW + Duration::from_secs(100 * 24 * 3600 + hours * 3600)
    }

    #[test]
    fn what_is_spent_counts_once_whoever_writes_it_how_often() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sqlite");
        let open = || {
            let mut connection = Connection::open(&path).unwrap();
            crate::state::schema::migrate(&mut connection).unwrap();
            connection
        };
        let (mut here, mut there) = (open(), open());
        let (a, b) = (watched(100), watched(100));
        let (mut ours, mut theirs) = (Books::default(), Books::default());
        ours.watch(vec![a.clone()]);
        theirs.watch(vec![b.clone()]);
        a.spend.add(tokens(30));
        ours.sweep(&mut here, false, &[1; 16], at(0)).unwrap();
        assert_eq!((a.budgets[0].settled(), a.spend.unsettled()), (30, Spent::default()));
        b.spend.add(tokens(50));
        theirs.sweep(&mut there, false, &[2; 16], at(0)).unwrap();
        assert_eq!(b.budgets[0].settled(), 80);
        ours.reopened();
        ours.sweep(&mut here, false, &[1; 16], at(0)).unwrap();
        ours.sweep(&mut here, false, &[1; 16], at(1)).unwrap();
        assert_eq!(a.budgets[0].settled(), 80);
        a.spend.add(tokens(20));
        assert_eq!(a.budgets[0].used_up(a.spend.unsettled()), Some((100 + 1) * 24 * 3600));
        ours.sweep(&mut here, false, &[1; 16], at(1)).unwrap();

        // A third one, after a kill of both, and the next day.
        let (mut later, c) = (Books::default(), watched(100));
        later.watch(vec![c.clone()]);
        later.sweep(&mut open(), false, &[3; 16], at(2)).unwrap();
        assert_eq!(c.budgets[0].settled(), 100);
        later.sweep(&mut open(), false, &[3; 16], at(24)).unwrap();
        assert_eq!((c.budgets[0].settled(), c.budgets[0].used_up(Spent::default())), (0, None));
        // Another limit over the same spend knows it at once.
        let mut d = watched(1_000);
        d.spend = Arc::clone(&c.spend);
        later.watch(vec![d.clone()]);
        later.sweep(&mut open(), false, &[3; 16], at(3)).unwrap();
        assert_eq!(d.budgets[0].settled(), 100);
    }

    #[test]
    fn a_file_that_fails_loses_nothing() {
        let mut broken = Connection::open_in_memory().unwrap();
        let (mut books, app) = (Books::default(), watched(100));
        books.watch(vec![app.clone()]);
        app.spend.add(tokens(10));
        assert!(books.sweep(&mut broken, false, &[1; 16], at(0)).is_err());
        assert_eq!(app.budgets[0].settled(), 10);
        app.spend.add(tokens(5));
        let mut good = file::in_memory(0).unwrap();
        books.sweep(&mut good, true, &[1; 16], at(0)).unwrap();
        let sum: i64 = good.query_row("SELECT sum(tokens) FROM spend", [], |row| row.get(0)).unwrap();
        assert_eq!((app.budgets[0].settled(), sum), (15, 15));
        trim(&good, at(40 * 24)).unwrap();
        let rows: i64 = good.query_row("SELECT count(*) FROM spend", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn a_project_that_goes_is_written_first() {
        let mut file = file::in_memory(0).unwrap();
        let (mut books, app) = (Books::default(), watched(100));
        books.watch(vec![app.clone()]);
        app.spend.add(tokens(10));
        books.watch(vec![]);
        assert!(!books.is_empty());
        books.sweep(&mut file, true, &[1; 16], at(0)).unwrap();
        books.watch(vec![]);
        assert!(books.is_empty());
    }
}
