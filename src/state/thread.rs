//! The one thread that touches the file: takes orders, carries out what has gathered in one
//! transaction, answers when that is committed.
//!
//! Where the file fails, the same orders are carried out in memory, and the file is looked at again
//! from time to time. An order is never lost for the sake of the file, and never done twice in it.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, TransactionBehavior};

use super::replay::Begun;
use super::seen::Sight;
use super::spend::{self, Books, FileLedger};
use super::{FILE_NAME, Order, Owner, Place, Standing, audit, file, ids, replay, seen};
use crate::id::KeyId;
use crate::limits::{
    AUDIT_ROWS_MAX, ID_ROWS_MAX, IDEMPOTENCY_ROWS_MAX, SEEN_ROWS_MAX, SPEND_SWEEP_INTERVAL, STATE_BATCH_MAX,
    STATE_REOPEN_INTERVAL, STATE_RESCUE_ROWS_MAX, STATE_TRIM_INTERVAL,
};

/// Works until it is told to stop or nobody is left to tell it anything.
pub(super) fn run(place: &Place, orders: &Receiver<Order>, tell: &dyn Fn(Standing)) {
    let Some(mut tables) = Tables::open(place, tell) else { return };
    loop {
        let mut batch = Vec::new();
        match orders.recv_timeout(tables.next_look()) {
            Ok(order) => batch.push(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(order) = orders.try_recv().ok().filter(|_| batch.len() < STATE_BATCH_MAX) {
            batch.push(order);
        }
        let stops = batch.iter().position(|order| matches!(order, Order::Stop));
        batch.truncate(stops.unwrap_or(batch.len()));
        if !batch.is_empty() {
            tables.carry_out(batch);
        }
        if stops.is_some() {
            tables.sweep();
            return;
        }
        tables.tend();
    }
}

/// What an order comes to, told when it is committed.
enum Answer {
    Done,
    Begun(Begun),
    Number(u64),
    Sights(Vec<(KeyId, Sight)>),
    Owners(Vec<Option<Owner>>),
}

struct Tables<'a> {
    place: &'a Place,
    tell: &'a dyn Fn(Standing),
    connection: Connection,
    in_memory: bool,
    /// Of the audit log.
    last_number: u64,
    books: Books,
    /// SQLite's count of what others have written.
    version: Option<i64>,
    reopen_at: Instant,
    trim_at: Instant,
    sweep_at: Instant,
}

impl<'a> Tables<'a> {
    /// `None`: there is no memory for them either.
    fn open(place: &'a Place, tell: &'a dyn Fn(Standing)) -> Option<Self> {
        let now = Instant::now();
        let (connection, why) = match file::open(place) {
            Ok(connection) => (connection, None),
            Err(why) => (file::in_memory(0).ok()?, Some(why)),
        };
        let mut tables = Self {
            place,
            tell,
            connection,
            in_memory: why.is_some(),
            last_number: 0,
            books: Books::default(),
            version: None,
            reopen_at: now + STATE_REOPEN_INTERVAL,
            trim_at: now,
            sweep_at: now,
        };
        match why {
            Some(why) => tables.lost(why),
            None => tables.found(),
        }
        Some(tables)
    }

    fn found(&self) {
        (self.tell)(Standing::File { path: self.place.dir.join(FILE_NAME) });
    }

    fn lost(&mut self, why: String) {
        let path = self.place.dir.join(FILE_NAME);
        let shown = path.display().to_string();
        tracing::warn!(
            event = "state_in_memory",
            path = shown,
            error = why,
            "the state is kept in memory, and ends with the process"
        );
        self.in_memory = true;
        self.reopen_at = Instant::now() + STATE_REOPEN_INTERVAL;
        (self.tell)(Standing::Memory { path, why });
    }

    fn next_look(&self) -> Duration {
        let mut next = if self.in_memory { self.trim_at.min(self.reopen_at) } else { self.trim_at };
        if !self.books.is_empty() {
            next = next.min(self.sweep_at);
        }
        next.saturating_duration_since(Instant::now())
    }

    /// What is due without being asked for.
    fn tend(&mut self) {
        let now = Instant::now();
        if self.in_memory && now >= self.reopen_at {
            self.reopen();
        }
        if now >= self.sweep_at && !self.books.is_empty() {
            self.sweep();
        }
        if now >= self.trim_at {
            self.trim_at = now + STATE_TRIM_INTERVAL;
            if let Err(error) = trim(&self.connection, self.in_memory) {
                tracing::warn!(event = "state_not_trimmed", %error, "old entries of the state stay for now");
            }
        }
    }

    fn sweep(&mut self) {
        self.sweep_at = Instant::now() + SPEND_SWEEP_INTERVAL;
        if self.books.is_empty() {
            return;
        }
        if let Err(why) = self.book()
            && self.move_into_memory(why)
        {
            // It counts already; here it is kept for the file.
            let _ = self.book();
        }
    }

    fn book(&mut self) -> Result<(), String> {
        let Self { connection, in_memory, version, .. } = self;
        let ledger = &mut FileLedger { connection, in_memory: *in_memory, run: &self.place.run, version };
        self.books.sweep(ledger, SystemTime::now())
    }

    /// The file fails. Returns whether memory has taken its place.
    fn move_into_memory(&mut self, why: String) -> bool {
        if self.in_memory {
            return false;
        }
        let Ok(memory) = file::in_memory(self.last_number) else { return false };
        file::rescue(&memory, &self.place.dir);
        self.connection = memory;
        self.books.reopened();
        self.lost(why);
        true
    }

    fn reopen(&mut self) {
        self.reopen_at = Instant::now() + STATE_REOPEN_INTERVAL;
        // Opened first: that makes the file and its tables.
        let Ok(connection) = file::open(self.place) else { return };
        if file::bring_back(&mut self.connection, &self.place.dir, &self.place.run).is_ok() {
            self.connection = connection;
            self.in_memory = false;
            self.books.reopened();
            tracing::info!(event = "state_in_file", "the state is kept in its file again");
            self.found();
        }
    }

    fn carry_out(&mut self, batch: Vec<Order>) {
        let (watches, batch): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|order| matches!(order, Order::Watch { .. }));
        for order in watches {
            let Order::Watch { projects, reply } = order else { continue };
            self.books.watch(projects);
            // What they have spent is known when this is done.
            self.sweep_at = Instant::now();
            self.sweep();
            if let Some(reply) = reply {
                let _ = reply.send(());
            }
        }
        if batch.is_empty() {
            return;
        }
        let mut answers = self.attempt(&batch);
        if let Err(error) = &answers
            && self.move_into_memory(error.to_string())
        {
            answers = self.attempt(&batch);
        }
        match answers {
            Ok(answers) => {
                for (order, answer) in batch.into_iter().zip(answers) {
                    reply(order, answer);
                }
            }
            // Whoever waits for an answer hears that there is none.
            Err(error) => tracing::warn!(event = "state_lost", %error, orders = batch.len(), "the state forgets"),
        }
    }

    fn attempt(&mut self, batch: &[Order]) -> rusqlite::Result<Vec<Answer>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answers: Vec<Answer> =
            batch.iter().map(|order| one(&transaction, order, &self.place.run)).collect::<Result<_, _>>()?;
        transaction.commit()?;
        for answer in &answers {
            if let Answer::Number(number) = answer {
                self.last_number = *number;
            }
        }
        Ok(answers)
    }
}

fn one(connection: &Connection, order: &Order, run: &[u8; 16]) -> rusqlite::Result<Answer> {
    Ok(match order {
        Order::Begin { scope, body, at, .. } => Answer::Begun(replay::begin(connection, run, (scope, body), *at)?),
        Order::Finish { scope, kept, .. } => {
            replay::finish(connection, scope, kept.as_ref())?;
            Answer::Done
        }
        Order::Intend { entry, .. } => Answer::Number(audit::intend(connection, entry)?),
        Order::Conclude { number, outcome } => {
            audit::conclude(connection, *number, outcome)?;
            Answer::Done
        }
        Order::Seen { keys } => {
            seen::put(connection, keys)?;
            Answer::Done
        }
        Order::AllSeen { .. } => Answer::Sights(seen::all(connection)?),
        Order::Remember { id, owner, at } => {
            ids::put(connection, id, owner, *at)?;
            Answer::Done
        }
        Order::Owners { ids, .. } => {
            Answer::Owners(ids.iter().map(|id| ids::owner(connection, id)).collect::<Result<_, _>>()?)
        }
        Order::Forget { id } => {
            ids::forget(connection, id)?;
            Answer::Done
        }
        Order::Watch { .. } | Order::Stop => Answer::Done,
    })
}

/// Whoever asked may be gone; what was asked is done all the same.
fn reply(order: Order, answer: Answer) {
    match (order, answer) {
        (Order::Begin { reply, .. }, Answer::Begun(begun)) => drop(reply.send(begun)),
        (Order::Finish { reply, .. }, _) => drop(reply.send(())),
        (Order::Intend { reply, .. }, Answer::Number(number)) => drop(reply.send(number)),
        (Order::AllSeen { reply }, Answer::Sights(sights)) => drop(reply.send(sights)),
        (Order::Owners { reply, .. }, Answer::Owners(owners)) => drop(reply.send(owners)),
        _ => {}
    }
}

fn trim(connection: &Connection, in_memory: bool) -> rusqlite::Result<()> {
    let bound = |rows: u64| if in_memory { rows.min(STATE_RESCUE_ROWS_MAX) } else { rows };
    replay::trim(connection, SystemTime::now(), bound(IDEMPOTENCY_ROWS_MAX))?;
    audit::trim(connection, bound(AUDIT_ROWS_MAX))?;
    seen::trim(connection, bound(SEEN_ROWS_MAX))?;
    spend::trim(connection, SystemTime::now())?;
    ids::trim(connection, bound(ID_ROWS_MAX))
}
