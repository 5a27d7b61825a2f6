//! The same limits and budgets for several gateways, by way of one Redis.
//!
//! Every exchange says what this process has spent and admitted, as sums in fields of its own, and
//! hears what the others said of themselves: whatever is said twice, or by a process that did not hear
//! the answer, says the same. What others do within one interval is heard of at the next. Where Redis is
//! out of reach, each project is told, and follows its policy.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::resp::{Client, RedisTarget, Reply, Words, words};
use super::spend::{Books, Heard, Ledger, Row, Watched};
use crate::budget::{HOURS_KEPT, Spent};
use crate::id::ProjectId;
use crate::limits::{REDIS_REACH_LOST, SPEND_SWEEP_INTERVAL};
use crate::rate::{Counts, RateCell};

/// How often the hours before the present one are heard anew: others may come back with more.
const ALL_HOURS_EVERY: Duration = Duration::from_secs(60);
const SPEND_KEEP_SECONDS: &[u8] = b"2851200";
const RATE_KEEP_SECONDS: &[u8] = b"180";

/// What the thread is told.
pub(super) enum Word {
    Watch { projects: Vec<Watched>, reply: Option<oneshot::Sender<()>> },
    Stop,
}

/// Works until it is told to stop or nobody is left to tell it anything. `None`: it is not known where
/// Redis is.
pub(super) fn run(target: Option<&RedisTarget>, run: &[u8; 16], words: &Receiver<Word>, tell: &dyn Fn(bool)) {
    let mut sharing = Sharing {
        line: Line { target, client: None, run: hex(run), all_hours_at: None },
        books: Books::default(),
        watched: Vec::new(),
        heard_at: None,
        in_reach: None,
        tell,
    };
    loop {
        let mut told = Vec::new();
        let mut stops = false;
        match words.recv_timeout(SPEND_SWEEP_INTERVAL) {
            Ok(Word::Watch { projects, reply }) => {
                sharing.watched.clone_from(&projects);
                sharing.books.watch(projects);
                told.extend(reply);
            }
            Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => stops = true,
            Err(RecvTimeoutError::Timeout) => {}
        }
        sharing.exchange(SystemTime::now());
        for reply in told {
            let _ = reply.send(());
        }
        if stops {
            return;
        }
    }
}

struct Sharing<'a> {
    line: Line<'a>,
    books: Books,
    watched: Vec<Watched>,
    heard_at: Option<Instant>,
    in_reach: Option<bool>,
    tell: &'a dyn Fn(bool),
}

impl Sharing<'_> {
    fn exchange(&mut self, now: SystemTime) {
        if self.line.open() {
            self.books.reopened();
        }
        let exchanged = self
            .books
            .sweep(&mut self.line, now)
            .and_then(|()| self.line.rates(&self.watched, now).map_err(|error| error.to_string()));
        match exchanged {
            Ok(()) => self.heard_at = Some(Instant::now()),
            Err(error) => {
                if self.line.client.take().is_some() {
                    tracing::debug!(error, "redis does not answer");
                }
            }
        }
        // A moment of silence is none: what is known is as old as one interval anyway.
        let in_reach = self.heard_at.is_some_and(|at| at.elapsed() < REDIS_REACH_LOST);
        for watched in &self.watched {
            watched.spend.set_out_of_reach(!in_reach);
        }
        if self.in_reach.replace(in_reach) != Some(in_reach) {
            (self.tell)(in_reach);
            let address = self.line.target.map(RedisTarget::address).unwrap_or_default();
            if in_reach {
                tracing::info!(event = "redis_in_reach", address, "limits and budgets are shared");
            } else {
                tracing::warn!(
                    event = "redis_out_of_reach",
                    address,
                    "limits and budgets are not shared: see on_state_outage"
                );
            }
        }
    }
}

/// The connection, while there is one.
struct Line<'a> {
    target: Option<&'a RedisTarget>,
    client: Option<Client>,
    /// Name of this process among the others.
    run: String,
    all_hours_at: Option<Instant>,
}

impl Line<'_> {
    /// Whether a connection was made, to a Redis of which nothing is known.
    fn open(&mut self) -> bool {
        if self.client.is_some() {
            return false;
        }
        self.client = self.target.and_then(|target| Client::connect(target).ok());
        self.all_hours_at = None;
        self.client.is_some()
    }

    fn ask(&mut self, commands: &[Words]) -> io::Result<Vec<Reply>> {
        let client = self.client.as_mut().ok_or_else(|| io::Error::other("redis is out of reach"))?;
        client.ask(commands)
    }

    /// Says what was admitted here, and hears of the others.
    fn rates(&mut self, watched: &[Watched], now: SystemTime) -> io::Result<()> {
        let now_ms = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
        let cells: Vec<(Vec<u8>, &Arc<RateCell>)> = watched
            .iter()
            .flat_map(|it| it.rates.iter().map(|(key, cell)| (name(&["rate", it.project.as_str(), key]), cell)))
            .collect();
        let mut commands = Vec::new();
        for (name, cell) in &cells {
            let Counts { minute, before, now } = cell.here(now_ms);
            let value = format!("{minute} {before} {now}");
            commands.push(words(&[b"HSET", name, self.run.as_bytes(), value.as_bytes()]));
            commands.push(words(&[b"EXPIRE", name, RATE_KEEP_SECONDS]));
            commands.push(words(&[b"HGETALL", name]));
        }
        let replies = self.ask(&commands)?;
        for ((_, cell), reply) in cells.iter().zip(replies.iter().skip(2).step_by(3)) {
            let others = fields(reply).filter(|(run, _)| *run != self.run.as_bytes());
            let counts = others.filter_map(|(_, value)| match numbers(value).as_slice() {
                [minute, before, now] => Some(Counts { minute: *minute, before: *before, now: *now }),
                _ => None,
            });
            cell.heard(counts, now_ms);
        }
        Ok(())
    }
}

impl Ledger for Line<'_> {
    fn write(&mut self, rows: &[Row]) -> Result<(), String> {
        let mut commands = Vec::new();
        for (project, hour, spent) in rows {
            let name = name(&["spend", project.as_str(), &hour.to_string()]);
            let value = format!("{} {}", spent.nano_usd, spent.tokens);
            commands.push(words(&[b"HSET", &name, self.run.as_bytes(), value.as_bytes()]));
            commands.push(words(&[b"EXPIRE", &name, SPEND_KEEP_SECONDS]));
        }
        self.ask(&commands).map(drop).map_err(|error| error.to_string())
    }

    fn others(&mut self, projects: &[ProjectId], hour: u64, anew: bool) -> Result<Option<Heard>, String> {
        let is_due = self.all_hours_at.is_none_or(|at| at.elapsed() >= ALL_HOURS_EVERY);
        // The hour before too: somebody's last charges of it may come late.
        let from_hour = hour.saturating_sub(if anew || is_due { HOURS_KEPT } else { 1 });
        let asked: Vec<(&ProjectId, u64)> =
            projects.iter().flat_map(|project| (from_hour..=hour).map(move |hour| (project, hour))).collect();
        let commands: Vec<Words> = asked
            .iter()
            .map(|(project, hour)| words(&[b"HGETALL", &name(&["spend", project.as_str(), &hour.to_string()])]))
            .collect();
        let replies = self.ask(&commands).map_err(|error| error.to_string())?;
        let mut sums: HashMap<(&ProjectId, u64), Spent> = HashMap::new();
        for ((project, hour), reply) in asked.into_iter().zip(&replies) {
            for (_, value) in fields(reply).filter(|(run, _)| *run != self.run.as_bytes()) {
                if let [nano_usd, tokens] = *numbers(value).as_slice() {
                    let sum = sums.entry((project, hour)).or_default();
                    *sum = sum.plus(Spent { nano_usd, tokens });
                }
            }
        }
        if anew || is_due {
            self.all_hours_at = Some(Instant::now());
        }
        let rows = sums.into_iter().map(|((project, hour), spent)| (project.clone(), hour, spent)).collect();
        Ok(Some(Heard { from_hour, rows }))
    }
}

/// Parts are bounded and hold no `/`, but for the last, which may be anything.
fn name(parts: &[&str]) -> Vec<u8> {
    format!("keyway/{}", parts.join("/")).into_bytes()
}

fn fields(reply: &Reply) -> impl Iterator<Item = (&[u8], &[u8])> {
    let Reply::List(items) = reply else { return [].as_chunks::<2>().0.iter().filter_map(pair) };
    items.as_chunks::<2>().0.iter().filter_map(pair)
}

fn pair([name, value]: &[Reply; 2]) -> Option<(&[u8], &[u8])> {
    match (name, value) {
        (Reply::Text(name), Reply::Text(value)) => Some((name, value)),
        _ => None,
    }
}

fn numbers(text: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.split(' ').map_while(|number| number.parse().ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
