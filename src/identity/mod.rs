//! Tokens and temporary keys: fetched once for all workers, kept until they end, fetched anew ahead
//! of that by one flight at a time.
//!
//! [`Identity`] is what requests ask; it looks and waits, and never fetches. The [`Keeper`] fetches,
//! on the control thread. A token belongs to what it was fetched with (its fingerprint), not to a
//! generation: it survives every reload that leaves the credential as it was. No fault tells more than
//! a class and the issuer's own code.

mod aws;
mod azure;
mod cell;
mod exchange;
mod google;
mod jwt;
mod keeper;
mod profile;
mod sts;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

pub use keeper::{Inbox, Keeper};

use crate::hash::Fingerprint;
use crate::limits::{CLOCK_SKEW_MIN, IDENTITIES_MAX, IDENTITY_QUEUE_MAX, IDENTITY_WAIT_MAX};
use crate::provider::credential::{Aws, AwsKeys, AwsSource, Credential, Source};
use crate::secret::Secret;
use crate::snapshot::IssuerWay;
use crate::ticks::Ticks;
use cell::{Cell, Look};

/// What identity needs of the world. May block: it is asked on the control thread alone, but for
/// `now`.
pub trait World: Send + Sync {
    fn now(&self) -> Ticks;
    fn wall(&self) -> SystemTime;
    /// `None` where it is unset or empty.
    fn env(&self, name: &str) -> Option<Secret>;
    /// Without one trailing newline; `None` where it cannot be read.
    fn file(&self, path: &Path) -> Option<Secret>;
}

/// What a request shows the upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pass {
    /// Value of `authorization`, marked sensitive.
    Bearer(HeaderValue),
    /// To sign with.
    Keys(AwsKeys),
}

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoPass {
    /// The issuer does not take the credential; with its code, which is made of plain letters.
    Refused(Box<str>),
    /// The issuer cannot be reached, or fails.
    Unreachable,
    /// The issuer answered something that is no token.
    Unexpected,
    /// What there is on this machine is of no use; in words.
    Unusable(&'static str),
    /// Nobody has fetched one in time.
    Late,
}

impl fmt::Display for NoPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) if code.is_empty() => f.write_str("the issuer refused the credential"),
            Self::Refused(code) => write!(f, "the issuer refused the credential: {code}"),
            Self::Unreachable => f.write_str("the issuer of tokens cannot be reached, or fails"),
            Self::Unexpected => f.write_str("the issuer answered something that is no token"),
            Self::Unusable(why) => f.write_str(why),
            Self::Late => f.write_str("no token came in time"),
        }
    }
}

impl std::error::Error for NoPass {}

/// A credential whose token is due.
struct Ask {
    credential: Arc<Credential>,
    way: Arc<IssuerWay>,
    cell: Arc<Cell>,
}

/// By credential, and by the way to its issuers.
type Cells = HashMap<(Fingerprint, u64), Arc<Cell>>;

/// Shared by all workers; clones are the same.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

struct Shared {
    cells: Mutex<Cells>,
    asks: mpsc::Sender<Ask>,
    /// By how many seconds the clocks of AWS are ahead of this machine's.
    skew: AtomicI64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("kept", &self.cells().len()).finish()
    }
}

impl Identity {
    /// Both ends: the one that is asked, and what a [`Keeper`] is made of.
    pub fn new() -> (Self, keeper::Inbox) {
        let (asks, inbox) = mpsc::channel(IDENTITY_QUEUE_MAX);
        let shared = Shared { cells: Mutex::default(), asks, skew: AtomicI64::new(0) };
        (Self { shared: Arc::new(shared) }, keeper::Inbox(inbox))
    }

    /// The pass of a credential: from memory, as a rule. One that is about to end is used while the
    /// next is fetched; only where there is none at all does this wait.
    pub async fn pass(
        &self,
        credential: &Arc<Credential>,
        way: &Arc<IssuerWay>,
        now: impl Fn() -> Ticks,
    ) -> Result<Pass, NoPass> {
        if let Source::Aws(Aws { keys: AwsSource::Static(keys), role: None, .. }) = &credential.source {
            return Ok(Pass::Keys(keys.clone()));
        }
        let cell = self.cell(credential, way, now());
        let until = Instant::now() + IDENTITY_WAIT_MAX;
        loop {
            // Before the look: what settles between the two must not be missed.
            let mut changed = std::pin::pin!(cell.changed.notified());
            changed.as_mut().enable();
            match cell.look(now()) {
                Look::Good(pass) => return Ok(pass),
                Look::Due(pass) => {
                    self.ask(credential, way, &cell, now());
                    return Ok(pass);
                }
                Look::Cold => self.ask(credential, way, &cell, now()),
                Look::Flying => {}
                Look::Barred(why) => return Err(why),
            }
            if timeout_at(until, changed).await.is_err() {
                return Err(NoPass::Late);
            }
        }
    }

    /// The upstream did not take the pass: the next request gets a new one. Says whether there is one
    /// to be had, which is so of everything that was fetched.
    pub fn refused(&self, credential: &Credential, way: &IssuerWay, pass: &Pass) -> bool {
        let cells = self.cells();
        let cell = cells.get(&(credential.fingerprint, way.id));
        cell.inspect(|cell| cell.forget(pass)).is_some()
    }

    /// The time as AWS has it.
    pub fn aws_time(&self, wall: SystemTime) -> SystemTime {
        shifted(wall, self.shared.skew.load(Ordering::Relaxed))
    }

    /// What was signed as of `signed` was refused at `theirs`, by the upstream's clock. Says whether it
    /// was for the clock; if so, the next one is made by theirs.
    pub fn learn_skew(&self, theirs: SystemTime, signed: SystemTime, wall: SystemTime) -> bool {
        if !are_apart(theirs, signed) {
            return false;
        }
        let ahead = |a: SystemTime, b: SystemTime| a.duration_since(b).ok().map(|span| span.as_secs());
        let number = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        let skew = ahead(theirs, wall).map(number).or_else(|| ahead(wall, theirs).map(|s| -number(s))).unwrap_or(0);
        // Many requests may learn it at once; one of them says so.
        if (self.shared.skew.swap(skew, Ordering::Relaxed) - skew).unsigned_abs() >= CLOCK_SKEW_MIN.as_secs() {
            tracing::warn!(skew_seconds = skew, "this machine's clock is off; requests are signed by the upstream's");
        }
        true
    }

    fn ask(&self, credential: &Arc<Credential>, way: &Arc<IssuerWay>, cell: &Arc<Cell>, now: Ticks) {
        let ask = Ask { credential: Arc::clone(credential), way: Arc::clone(way), cell: Arc::clone(cell) };
        if self.shared.asks.try_send(ask).is_err() {
            cell.settle(Err(NoPass::Late), now);
        }
    }

    fn cell(&self, credential: &Credential, way: &IssuerWay, now: Ticks) -> Arc<Cell> {
        let mut cells = self.cells();
        let name = (credential.fingerprint, way.id);
        if let Some(cell) = cells.get(&name) {
            return Arc::clone(cell);
        }
        // What has ended is of no use to anybody.
        cells.retain(|_, cell| !cell.is_spent(now));
        if cells.len() >= IDENTITIES_MAX {
            let oldest = cells.iter().min_by_key(|(_, cell)| cell.last_asked()).map(|(name, _)| *name);
            oldest.map(|name| cells.remove(&name));
        }
        let cell = Arc::new(Cell::new(now));
        cells.insert(name, Arc::clone(&cell));
        cell
    }

    fn cells(&self) -> MutexGuard<'_, Cells> {
        self.shared.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two clocks are so far apart that one does not take what was signed by the other.
fn are_apart(one: SystemTime, other: SystemTime) -> bool {
    let apart = one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap_or_default();
    apart >= CLOCK_SKEW_MIN
}

fn shifted(wall: SystemTime, seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 { wall.checked_sub(span) } else { wall.checked_add(span) };
    moved.unwrap_or(wall)
}

#[cfg(test)]
mod tests;
