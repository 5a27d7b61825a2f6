//! What must outlive the process and is no config: answers that may be asked for again, the audit
//! log, when keys were first seen, who made a file or batch, what was spent.
//!
//! One SQLite file in `state.dir`, one thread that owns it, one bounded queue before it: no worker
//! waits for a disk. Where the file cannot be had, the same tables live in memory and the status
//! says why. No secret in clear and no body of a request gets here: bodies come as digests.

mod audit;
mod file;
mod ids;
mod replay;
mod resp;
mod schema;
mod seen;
mod shared;
mod spend;
mod thread;

#[cfg(test)]
mod tests;

pub use audit::{Entry, Outcome, Recorded, read_log};
pub use ids::Owner;
pub use replay::{Begun, Digest, Kept};
pub use resp::RedisTarget;
pub use seen::Sight;
pub use spend::Watched;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::id::KeyId;
use crate::limits::STATE_QUEUE_MAX;

/// Name of the file in `state.dir`.
pub const FILE_NAME: &str = "state.sqlite";

/// Where the state is kept.
pub struct Place {
    pub dir: PathBuf,
    /// Makes the directory, fit for files of our own.
    pub prepare: Box<dyn Fn() -> io::Result<()> + Send>,
    /// Tells this process from others that use the same file, before and at the same time.
    pub run: [u8; 16],
    /// Where limits and budgets are shared with other gateways.
    pub redis: Option<Redis>,
}

/// A Redis that the config names; its place may not be known, which is as if it were out of reach.
pub struct Redis(pub Option<RedisTarget>);

/// How the state is kept at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing was heard of the file yet.
    Opening,
    File {
        path: PathBuf,
    },
    /// The file cannot be had: what is remembered ends with the process.
    Memory {
        path: PathBuf,
        why: String,
    },
}

/// The state's thread has no room, or is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state does not answer")
    }
}

impl std::error::Error for Unavailable {}

/// The way to the state's thread. What is sent through one handle is done in that order.
#[derive(Clone)]
pub struct State {
    queue: SyncSender<Order>,
    standing: Arc<Mutex<Standing>>,
    dir: Arc<Path>,
    sharing: Option<Sharing>,
}

/// The way to the thread that shares limits and budgets.
#[derive(Clone)]
struct Sharing {
    words: SyncSender<shared::Word>,
    address: Arc<str>,
    in_reach: Arc<AtomicBool>,
}

/// The thread, for whoever ends the process.
pub struct StateThread {
    queue: SyncSender<Order>,
    thread: JoinHandle<()>,
    sharing: Option<(SyncSender<shared::Word>, JoinHandle<()>)>,
}

/// What the thread is asked to do.
enum Order {
    Begin { scope: Digest, body: Digest, at: SystemTime, reply: oneshot::Sender<Begun> },
    Finish { scope: Digest, kept: Option<Kept>, reply: oneshot::Sender<()> },
    Intend { entry: Entry, reply: oneshot::Sender<u64> },
    Conclude { number: u64, outcome: Outcome },
    Seen { keys: Vec<(KeyId, Sight)> },
    AllSeen { reply: oneshot::Sender<Vec<(KeyId, Sight)>> },
    Remember { id: Box<str>, owner: Owner, at: SystemTime },
    Owners { ids: Vec<Box<str>>, reply: oneshot::Sender<Vec<Option<Owner>>> },
    Forget { id: Box<str> },
    Watch { projects: Vec<Watched>, reply: Option<oneshot::Sender<()>> },
    Stop,
}

impl State {
    /// Starts the thread, which opens the file while others go on.
    pub fn start(mut place: Place) -> io::Result<(Self, StateThread)> {
        let (redis, run) = (place.redis.take(), place.run);
        let (queue, orders) = sync_channel(STATE_QUEUE_MAX);
        let standing = Arc::new(Mutex::new(Standing::Opening));
        let told = Arc::clone(&standing);
        let dir = Arc::from(&*place.dir);
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            thread::run(&place, &orders, &|now| *told.lock().unwrap_or_else(PoisonError::into_inner) = now);
        })?;
        let (sharing, second) = match redis.map(|redis| share(redis, run)).transpose()? {
            Some((sharing, thread)) => (Some(sharing.clone()), Some((sharing.words, thread))),
            None => (None, None),
        };
        let state = Self { queue: queue.clone(), standing, dir, sharing };
        Ok((state, StateThread { queue, thread, sharing: second }))
    }

    /// Address of the Redis that this process started with, and whether it is in reach.
    pub fn redis(&self) -> Option<(&str, bool)> {
        self.sharing.as_ref().map(|it| (&*it.address, it.in_reach.load(Ordering::Relaxed)))
    }

    /// `state.dir` of the generation that this process started with.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request with an `Idempotency-Key` begins. Only [`Begun::Fresh`] may be carried out, and is
    /// then to be ended by [`State::finish`].
    pub async fn begin(&self, scope: Digest, body: Digest, at: SystemTime) -> Result<Begun, Unavailable> {
        self.ask(|reply| Order::Begin { scope, body, at, reply }).await
    }

    /// A request has its answer, or, with `None`, is as if it had never come. When this returns, the
    /// answer outlives the process.
    pub async fn finish(&self, scope: Digest, kept: Option<Kept>) -> Result<(), Unavailable> {
        self.ask(|reply| Order::Finish { scope, kept, reply }).await
    }

    /// Somebody is about to write. Returns the entry's number, for [`State::conclude`].
    pub async fn intend(&self, entry: Entry) -> Result<u64, Unavailable> {
        self.ask(|reply| Order::Intend { entry, reply }).await
    }

    /// What became of a write.
    pub fn conclude(&self, number: u64, outcome: Outcome) -> Result<(), Unavailable> {
        self.send(Order::Conclude { number, outcome })
    }

    /// Keys that were seen for the first time, or changed.
    pub fn seen(&self, keys: Vec<(KeyId, Sight)>) -> Result<(), Unavailable> {
        self.send(Order::Seen { keys })
    }

    /// All keys that were ever seen, as far as they are remembered.
    pub async fn all_seen(&self) -> Result<Vec<(KeyId, Sight)>, Unavailable> {
        self.ask(|reply| Order::AllSeen { reply }).await
    }

    /// An upstream made something that is to be asked for by its id.
    pub fn remember(&self, id: &str, owner: Owner, at: SystemTime) -> Result<(), Unavailable> {
        self.send(Order::Remember { id: id.into(), owner, at })
    }

    /// Whose an id is.
    pub async fn owner(&self, id: &str) -> Result<Option<Owner>, Unavailable> {
        Ok(self.owners(vec![id.into()]).await?.pop().flatten())
    }

    /// The same for many, in their order.
    pub async fn owners(&self, ids: Vec<Box<str>>) -> Result<Vec<Option<Owner>>, Unavailable> {
        self.ask(|reply| Order::Owners { ids, reply }).await
    }

    /// What had this id is gone.
    pub fn forget(&self, id: &str) -> Result<(), Unavailable> {
        self.send(Order::Forget { id: id.into() })
    }

    /// These are the projects whose books are kept from now on.
    pub fn watch(&self, projects: Vec<Watched>) -> Result<(), Unavailable> {
        self.tell_books(projects, None)
    }

    /// With a Redis the books are kept there, else in the file.
    fn tell_books(&self, projects: Vec<Watched>, reply: Option<oneshot::Sender<()>>) -> Result<(), Unavailable> {
        match &self.sharing {
            Some(sharing) => sharing.words.try_send(shared::Word::Watch { projects, reply }).map_err(|_| Unavailable),
            None => self.send(Order::Watch { projects, reply }),
        }
    }

    /// The same, and waits until it is known what they have spent.
    pub async fn watched(&self, projects: Vec<Watched>) -> Result<(), Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.tell_books(projects, Some(reply))?;
        answer.await.map_err(|_| Unavailable)
    }

    fn send(&self, order: Order) -> Result<(), Unavailable> {
        self.queue.try_send(order).map_err(|_| Unavailable)
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.send(order(reply))?;
        answer.await.map_err(|_| Unavailable)
    }
}

impl StateThread {
    /// Waits until all that was sent is done and the file is closed.
    pub fn close(self) {
        if let Some((words, thread)) = self.sharing {
            let _ = words.send(shared::Word::Stop);
            let _ = thread.join();
        }
        // A full queue is emptied soon; a thread that is gone needs no word.
        if let Err(TrySendError::Full(order)) = self.queue.try_send(Order::Stop) {
            let _ = self.queue.send(order);
        }
        let _ = self.thread.join();
    }
}

/// Starts the thread that shares limits and budgets.
fn share(redis: Redis, run: [u8; 16]) -> io::Result<(Sharing, JoinHandle<()>)> {
    let (words, inbox) = sync_channel(STATE_QUEUE_MAX);
    let in_reach = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&in_reach);
    let address = redis.0.as_ref().map(RedisTarget::address).unwrap_or_default().into();
    let thread = std::thread::Builder::new().name("state-redis".to_owned()).spawn(move || {
        shared::run(redis.0.as_ref(), &run, &inbox, &|is_so| told.store(is_so, Ordering::Relaxed));
    })?;
    Ok((Sharing { words, address, in_reach }, thread))
}

/// Whole seconds since 1970.
fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn from_seconds(seconds: i64) -> SystemTime {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
