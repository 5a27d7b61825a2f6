//! `max_conns_per_host`: a bound on the connections of one transport over all workers.
//!
//! Connections belong to the worker that made them; the bound belongs to all. Whoever wants to send
//! takes a [`Turn`] first, of which there are as many as connections may be, and waits for it in a fair
//! queue. With a turn in hand a connection is there to be had: an idle one of one's own, a new one, or a
//! new one in place of another worker's idle one, which is closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Home;
use crate::id::TransportId;
use crate::limits::EVICTIONS_MAX;

/// The right to use one connection.
pub type Turn = OwnedSemaphorePermit;

/// The bounds of all transports that have one, shared by all workers.
#[derive(Clone, Debug, Default)]
pub struct Caps(Arc<Mutex<HashMap<TransportId, Weak<Cap>>>>);

impl Caps {
    pub fn of(&self, id: TransportId, max: usize) -> Arc<Cap> {
        let mut caps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        caps.retain(|_, cap| cap.strong_count() > 0);
        if let Some(cap) = caps.get(&id).and_then(Weak::upgrade) {
            return cap;
        }
        let cap = Arc::new(Cap::new(max));
        caps.insert(id, Arc::downgrade(&cap));
        cap
    }
}

/// The bound of one transport.
#[derive(Debug)]
pub struct Cap {
    max: usize,
    turns: Arc<Semaphore>,
    /// Connections that exist, in use or idle.
    live: AtomicUsize,
    /// Idle lists, one of each worker.
    homes: Mutex<Vec<Weak<Home>>>,
}

/// One connection that exists. Gives its place back when it is dropped.
#[derive(Debug)]
pub struct Live(Arc<Cap>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Cap {
    fn new(max: usize) -> Self {
        let turns = Arc::new(Semaphore::new(max));
        Self { max, turns, live: AtomicUsize::new(0), homes: Mutex::default() }
    }

    pub fn joined_by(&self, home: &Arc<Home>) {
        let mut homes = self.homes();
        homes.retain(|home| home.strong_count() > 0);
        homes.push(Arc::downgrade(home));
    }

    /// Waits for as long as the caller lets it.
    pub async fn turn(&self) -> Option<Turn> {
        // Nobody closes the semaphore.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// A place for a new connection, if one is free.
    pub fn place(self: &Arc<Self>) -> Option<Live> {
        let taken =
            self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, |live| (live < self.max).then(|| live + 1));
        taken.is_ok().then(|| Live(Arc::clone(self)))
    }

    /// The same for whoever holds a turn: an idle connection gives way where none is free.
    pub async fn place_by_turn(self: &Arc<Self>) -> Option<Live> {
        for _ in 0..EVICTIONS_MAX {
            if let Some(place) = self.place() {
                return Some(place);
            }
            if !self.evict() {
                // Between a turn and an idle list; a moment later it is in one of the two.
                tokio::task::yield_now().await;
            }
        }
        None
    }

    fn evict(&self) -> bool {
        let homes: Vec<_> = self.homes().iter().filter_map(Weak::upgrade).collect();
        homes.iter().any(|home| home.close_oldest())
    }

    fn homes(&self) -> MutexGuard<'_, Vec<Weak<Home>>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
