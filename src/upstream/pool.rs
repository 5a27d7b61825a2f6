//! Idle connections of one worker, by transport, and the lease on one that is in use.
//!
//! Last in, first out: the youngest connection is the one that the upstream is least likely to have
//! closed, and the rest age out. Bounded in count, age and idle time; nobody waits for a connection.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::link::Link;
use crate::id::TransportId;
use crate::limits::{CONNECTION_AGE_MAX, IDLE_CONNECTIONS_MAX};
use crate::snapshot::Transport;

/// What all connections of one transport share.
pub struct Home {
    idle: Mutex<VecDeque<Box<Link>>>,
    keep_alive: Duration,
    /// The `Host` header.
    pub host: Option<HeaderValue>,
    /// Built when the first connection is dialled.
    pub tls: OnceLock<Arc<ClientConfig>>,
}

impl Home {
    fn new(transport: &Transport) -> Self {
        Self {
            idle: Mutex::default(),
            keep_alive: transport.keep_alive,
            host: HeaderValue::from_str(transport.authority.as_str()).ok(),
            tls: OnceLock::new(),
        }
    }

    /// The youngest connection that is still good, as far as its clock says.
    pub fn checkout(&self, now: Instant) -> Option<Box<Link>> {
        let mut idle = self.idle();
        while let Some(link) = idle.pop_back() {
            if now.duration_since(link.idle_since) > self.keep_alive {
                // All others have been idle for longer.
                idle.clear();
                return None;
            }
            if now.duration_since(link.born) <= CONNECTION_AGE_MAX {
                return Some(link);
            }
        }
        None
    }

    fn put(&self, mut link: Box<Link>) {
        let now = Instant::now();
        if now.duration_since(link.born) > CONNECTION_AGE_MAX {
            return;
        }
        link.rest(now);
        let mut idle = self.idle();
        let oldest = if idle.len() >= IDLE_CONNECTIONS_MAX { idle.pop_front() } else { None };
        idle.push_back(link);
        drop(idle);
        drop(oldest);
    }

    /// Drops what has expired or was closed by the upstream; returns how many are left.
    fn sweep(&self, now: Instant) -> usize {
        let mut idle = self.idle();
        idle.retain_mut(|link| {
            now.duration_since(link.idle_since) <= self.keep_alive
                && now.duration_since(link.born) <= CONNECTION_AGE_MAX
                && link.is_open()
        });
        idle.len()
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Box<Link>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection out of the pool. Dropped, it is closed.
pub struct Lease {
    pub link: Box<Link>,
    pub home: Arc<Home>,
}

impl Lease {
    /// Gives the connection back if another request may be sent on it, else closes it.
    pub fn finish(mut self) {
        if self.link.is_reusable() {
            self.home.put(self.link);
        }
    }
}

/// A `TransportId` is a hash already.
#[derive(Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// All idle connections of one worker.
#[derive(Default)]
pub struct Pool {
    homes: Mutex<HashMap<TransportId, Arc<Home>, BuildHasherDefault<Identity>>>,
}

impl Pool {
    pub fn home(&self, transport: &Transport) -> Arc<Home> {
        let mut homes = self.homes();
        Arc::clone(homes.entry(transport.id).or_insert_with(|| Arc::new(Home::new(transport))))
    }

    /// Closes what is no longer good and forgets transports without connections, so that those of
    /// old generations do not pile up.
    pub fn sweep(&self, now: Instant) {
        self.homes().retain(|_, home| home.sweep(now) > 0 || Arc::strong_count(home) > 1);
    }

    /// Closes all idle connections; returns how many there were.
    pub fn clear(&self) -> usize {
        self.homes().values().map(|home| std::mem::take(&mut *home.idle()).len()).sum()
    }

    pub fn idle_connections(&self) -> usize {
        self.homes().values().map(|home| home.idle().len()).sum()
    }

    fn homes(&self) -> MutexGuard<'_, HashMap<TransportId, Arc<Home>, BuildHasherDefault<Identity>>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
