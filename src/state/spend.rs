//! The books: what projects have spent, by the hour, and what of it counts against their budgets.
//!
//! Each process writes rows of its own, as sums and not as additions: a row that is written twice, or
//! by a process that did not hear that it was written, says the same. What others have written to the
//! same ledger counts too. A ledger is the file, or the Redis of several gateways.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, TransactionBehavior, params};

use super::seconds;
use crate::budget::{Budget, HOURS_KEPT, SpendCell, Spent};
use crate::id::ProjectId;
use crate::rate::RateCell;

const HOUR: u64 = 3600;

/// A project whose books are kept.
#[derive(Clone, Debug)]
pub struct Watched {
    pub project: ProjectId,
    pub spend: Arc<SpendCell>,
    pub budgets: Vec<Budget>,
    /// Its keys by name, and what was admitted of each.
    pub rates: Vec<(Box<str>, Arc<RateCell>)>,
}

/// What a project has spent in an hour.
pub(super) type Row = (ProjectId, u64, Spent);

/// What others have written, of all hours from one on.
pub(super) struct Heard {
    pub from_hour: u64,
    pub rows: Vec<Row>,
}

/// Where rows are written for longer than a process lives.
pub(super) trait Ledger {
    /// All of them or an error; the same row may come again.
    fn write(&mut self, rows: &[Row]) -> Result<(), String>;

    /// What others have written of these projects; `None` where there is nothing new. `anew`: nothing
    /// is known of it.
    fn others(&mut self, projects: &[ProjectId], hour: u64, anew: bool) -> Result<Option<Heard>, String>;
}

#[derive(Default)]
pub(super) struct Books {
    books: HashMap<ProjectId, Book>,
    /// What others wrote has been read.
    has_heard: bool,
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
                self.has_heard = false;
                Book::of(watched.clone())
            });
            book.watched = watched;
            book.changed = true;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    /// The ledger is another one than before: nothing is known to be in it.
    pub fn reopened(&mut self) {
        self.has_heard = false;
        for book in self.books.values_mut() {
            book.unwritten = book.ours.keys().copied().collect();
        }
    }

    /// Takes what is new into the books, writes it, and says what counts now. An error says that it is
    /// not in the ledger yet; it counts all the same, and is written the next time.
    pub fn sweep(&mut self, ledger: &mut impl Ledger, now: SystemTime) -> Result<(), String> {
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
        let written = self.write(ledger).and_then(|()| self.hear(ledger, hour));
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

    fn write(&mut self, ledger: &mut impl Ledger) -> Result<(), String> {
        let of = |(id, book): (&ProjectId, &Book)| -> Vec<Row> {
            let spent = |hour| book.ours.get(hour).copied().unwrap_or_default();
            book.unwritten.iter().map(|hour| (id.clone(), *hour, spent(hour))).collect()
        };
        let rows: Vec<Row> = self.books.iter().flat_map(of).collect();
        if rows.is_empty() {
            return Ok(());
        }
        ledger.write(&rows)?;
        for book in self.books.values_mut() {
            book.unwritten.clear();
        }
        Ok(())
    }

    fn hear(&mut self, ledger: &mut impl Ledger, hour: u64) -> Result<(), String> {
        if self.books.is_empty() {
            return Ok(());
        }
        let projects: Vec<ProjectId> = self.books.keys().cloned().collect();
        let heard = ledger.others(&projects, hour, !self.has_heard)?;
        self.has_heard = true;
        let Some(Heard { from_hour, rows }) = heard else { return Ok(()) };
        for book in self.books.values_mut() {
            book.others.retain(|hour, _| *hour < from_hour);
            book.changed = true;
        }
        for (project, hour, spent) in rows {
            if let Some(book) = self.books.get_mut(project.as_str()) {
                book.others.insert(hour, spent);
            }
        }
        Ok(())
    }
}

/// The state's file as a ledger; in memory nobody else writes, and what was known of others stays known.
pub(super) struct FileLedger<'a> {
    pub connection: &'a mut Connection,
    pub in_memory: bool,
    pub run: &'a [u8; 16],
    /// SQLite's count of what others have written, as it was when they were last read.
    pub version: &'a mut Option<i64>,
}

impl Ledger for FileLedger<'_> {
    fn write(&mut self, rows: &[Row]) -> Result<(), String> {
        let mut write = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut insert = transaction.prepare(
                    "INSERT OR REPLACE INTO spend (project, hour, run, nano_usd, tokens) VALUES (?, ?, ?, ?, ?)",
                )?;
                for (id, hour, spent) in rows {
                    let [hour, nano_usd, tokens] = [*hour, spent.nano_usd, spent.tokens].map(signed);
                    insert.execute(params![id.as_str(), hour, self.run, nano_usd, tokens])?;
                }
            }
            transaction.commit()
        };
        write().map_err(|error: rusqlite::Error| error.to_string())
    }

    fn others(&mut self, _: &[ProjectId], hour: u64, anew: bool) -> Result<Option<Heard>, String> {
        if self.in_memory {
            return Ok(None);
        }
        let from_hour = hour.saturating_sub(HOURS_KEPT);
        let mut read = || {
            let version = self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
            if !anew && *self.version == Some(version) {
                return Ok(None);
            }
            let mut query = self.connection.prepare(
                "SELECT project, hour, sum(nano_usd), sum(tokens) FROM spend WHERE run != ? AND hour >= ? GROUP BY project, hour",
            )?;
            let rows = query.query_map(params![self.run, signed(from_hour)], |row| {
                let [hour, nano_usd, tokens] = [row.get(1)?, row.get(2)?, row.get(3)?].map(unsigned);
                Ok((ProjectId::new(row.get::<_, String>(0)?), hour, Spent { nano_usd, tokens }))
            })?;
            let rows = rows.collect::<Result<_, _>>()?;
            *self.version = Some(version);
            Ok(Some(Heard { from_hour, rows }))
        };
        read().map_err(|error: rusqlite::Error| error.to_string())
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
        Watched { project: ProjectId::new("app"), spend: Arc::default(), budgets: vec![budget], rates: vec![] }
    }

    fn tokens(tokens: u64) -> Spent {
        Spent { nano_usd: tokens * 7, tokens }
    }

    fn sweep(
        books: &mut Books,
        connection: &mut Connection,
        in_memory: bool,
        run: [u8; 16],
        now: SystemTime,
    ) -> Result<(), String> {
        // As for one that was opened just now: others are read each time.
        let ledger = &mut FileLedger { connection, in_memory, run: &run, version: &mut None };
        books.sweep(ledger, now)
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
        sweep(&mut ours, &mut here, false, [1; 16], at(0)).unwrap();
        assert_eq!((a.budgets[0].settled(), a.spend.unsettled()), (30, Spent::default()));
        b.spend.add(tokens(50));
        sweep(&mut theirs, &mut there, false, [2; 16], at(0)).unwrap();
        assert_eq!(b.budgets[0].settled(), 80);
        ours.reopened();
        sweep(&mut ours, &mut here, false, [1; 16], at(0)).unwrap();
        sweep(&mut ours, &mut here, false, [1; 16], at(1)).unwrap();
        assert_eq!(a.budgets[0].settled(), 80);
        a.spend.add(tokens(20));
        assert_eq!(a.budgets[0].used_up(a.spend.unsettled()), Some((100 + 1) * 24 * 3600));
        sweep(&mut ours, &mut here, false, [1; 16], at(1)).unwrap();

        // A third one, after a kill of both, and the next day.
        let (mut later, c) = (Books::default(), watched(100));
        later.watch(vec![c.clone()]);
        sweep(&mut later, &mut open(), false, [3; 16], at(2)).unwrap();
        assert_eq!(c.budgets[0].settled(), 100);
        sweep(&mut later, &mut open(), false, [3; 16], at(24)).unwrap();
        assert_eq!((c.budgets[0].settled(), c.budgets[0].used_up(Spent::default())), (0, None));
        // Another limit over the same spend knows it at once.
        let mut d = watched(1_000);
        d.spend = Arc::clone(&c.spend);
        later.watch(vec![d.clone()]);
        sweep(&mut later, &mut open(), false, [3; 16], at(3)).unwrap();
        assert_eq!(d.budgets[0].settled(), 100);
    }

    #[test]
    fn a_file_that_fails_loses_nothing() {
        let mut broken = Connection::open_in_memory().unwrap();
        let (mut books, app) = (Books::default(), watched(100));
        books.watch(vec![app.clone()]);
        app.spend.add(tokens(10));
        assert!(sweep(&mut books, &mut broken, false, [1; 16], at(0)).is_err());
        assert_eq!(app.budgets[0].settled(), 10);
        app.spend.add(tokens(5));
        let mut good = file::in_memory(0).unwrap();
        sweep(&mut books, &mut good, true, [1; 16], at(0)).unwrap();
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
        sweep(&mut books, &mut file, true, [1; 16], at(0)).unwrap();
        books.watch(vec![]);
        assert!(books.is_empty());
    }
}
