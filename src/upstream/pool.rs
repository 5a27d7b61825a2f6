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

use super::cap::{Cap, Caps, Turn};
use super::link::Link;
use super::mux::{Mux, Ride};
use super::tunnel;
use crate::id::TransportId;
use crate::limits::{CONNECTION_AGE_MAX, IDLE_CONNECTIONS_MAX};
use crate::snapshot::{ProxyKind, Reach, Transport};

/// What all connections of one transport share.
pub struct Home {
    idle: Mutex<VecDeque<Box<Link>>>,
    /// Shared connections, where HTTP/2 is spoken.
    muxes: Mutex<Vec<Mux>>,
    /// One dials at a time where the next can ride along.
    pub dialling: tokio::sync::Mutex<()>,
    /// `max_conns_per_host`.
    pub cap: Option<Arc<Cap>>,
    keep_alive: Duration,
    /// The `Host` header.
    pub host: Option<HeaderValue>,
    /// Built when the first connection is dialled.
    pub tls: OnceLock<Arc<ClientConfig>>,
    /// The same for the proxy.
    pub proxy_tls: OnceLock<Arc<ClientConfig>>,
    /// Plain HTTP through an HTTP proxy: requests are in absolute form, with this login.
    pub through_proxy: Option<Option<HeaderValue>>,
}

impl Home {
    fn new(transport: &Transport, caps: &Caps) -> Self {
        Self {
            idle: Mutex::default(),
            muxes: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
            cap: transport.wire.connections_max.map(|max| caps.of(transport.id, max)),
            through_proxy: needs_absolute_form(transport)
                .then(|| transport.wire.proxy.as_deref().and_then(tunnel::authorization)),
            proxy_tls: OnceLock::new(),
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

    /// The right to a connection, within `bound`; `None` where there is no bound on them.
    pub async fn turn(&self, bound: Duration) -> Result<Option<Turn>, Saturated> {
        let Some(cap) = &self.cap else { return Ok(None) };
        match tokio::time::timeout(bound, cap.turn()).await {
            Ok(Some(turn)) => Ok(Some(turn)),
            Ok(None) | Err(_) => Err(Saturated),
        }
    }

    /// Closes the connection that has been idle for longest; false if there is none.
    pub fn close_oldest(&self) -> bool {
        let oldest = self.idle().pop_front();
        oldest.is_some()
    }

    /// A seat on a shared connection that has one, the fullest first, so that others run empty.
    pub fn board(&self, now: Instant) -> Option<(Mux, Ride)> {
        let mut muxes = self.muxes();
        muxes.sort_by_key(|mux| std::cmp::Reverse(mux.riders()));
        muxes.iter().find_map(|mux| Some((mux.clone(), mux.board(now)?)))
    }

    /// A seat on the emptiest, when no further connection may be made.
    pub fn squeeze_in(&self) -> Option<(Mux, Ride)> {
        let muxes = self.muxes();
        let mux = muxes.iter().filter(|mux| !mux.is_closed()).min_by_key(|mux| mux.riders())?;
        Some((mux.clone(), mux.squeeze_in()))
    }

    pub fn keep(&self, mux: Mux) {
        self.muxes().push(mux);
    }

    fn muxes(&self) -> MutexGuard<'_, Vec<Mux>> {
        self.muxes.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut muxes = self.muxes();
        muxes.retain(|mux| mux.is_good(now, self.keep_alive));
        let shared = muxes.len();
        drop(muxes);
        let mut idle = self.idle();
        idle.retain_mut(|link| {
            now.duration_since(link.idle_since) <= self.keep_alive
                && now.duration_since(link.born) <= CONNECTION_AGE_MAX
                && link.is_open()
        });
        shared + idle.len()
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Box<Link>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every connection of a bounded transport stayed in use.
#[derive(Debug)]
pub struct Saturated;

/// What an HTTP proxy forwards itself, without a tunnel. An address that must be public is looked up
/// here, hence tunnelled to.
fn needs_absolute_form(transport: &Transport) -> bool {
    let wire = &transport.wire;
    let plain = transport.scheme == http::uri::Scheme::HTTP && !wire.http2 && wire.reach == Reach::Anywhere;
    plain && wire.proxy.as_ref().is_some_and(|proxy| proxy.kind == ProxyKind::Http)
}

/// A connection out of the pool. Dropped, it is closed.
pub struct Lease {
    pub link: Box<Link>,
    pub home: Arc<Home>,
    /// Given to the next who waits when the connection is idle again or closed: it comes last.
    pub _turn: Option<Turn>,
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
    pub fn home(&self, transport: &Transport, caps: &Caps) -> Arc<Home> {
        let mut homes = self.homes();
        Arc::clone(homes.entry(transport.id).or_insert_with(|| {
            let home = Arc::new(Home::new(transport, caps));
            if let Some(cap) = &home.cap {
                cap.joined_by(&home);
            }
            home
        }))
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
