//! From names to addresses: the system's resolver, believed for a while.
//!
//! Judges no address; whoever dials does, each time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::limits::{DNS_ENTRIES_MAX, DNS_TTL};

/// Whoever knows names.
pub type Lookup =
    Arc<dyn Fn(Box<str>, u16) -> Pin<Box<dyn Future<Output = io::Result<Arc<[SocketAddr]>>> + Send>> + Send + Sync>;

struct Known {
    addresses: Arc<[SocketAddr]>,
    until: Instant,
}

/// Answers of a resolver, believed for a while.
pub struct Names {
    known: Mutex<HashMap<(Box<str>, u16), Known>>,
    lookup: Lookup,
}

impl Default for Names {
    fn default() -> Self {
        Self::asking(Arc::new(|host, port| {
            Box::pin(async move { Ok(tokio::net::lookup_host((&*host, port)).await?.collect()) })
        }))
    }
}

impl Names {
    pub fn asking(lookup: Lookup) -> Self {
        Self { known: Mutex::default(), lookup }
    }

    /// The addresses of a host, which may be one itself.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Arc<[SocketAddr]>> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(ip, port)]));
        }
        let key = (Box::from(bare), port);
        let now = Instant::now();
        if let Some(known) = self.known().get(&key)
            && now < known.until
        {
            return Ok(Arc::clone(&known.addresses));
        }
        let addresses: Arc<[SocketAddr]> = (self.lookup)(bare.into(), port).await?;
        let mut known = self.known();
        if known.len() >= DNS_ENTRIES_MAX {
            known.clear();
        }
        known.insert(key, Known { addresses: Arc::clone(&addresses), until: now + DNS_TTL });
        Ok(addresses)
    }

    /// The next one who asks gets a new answer.
    pub fn forget(&self, host: &str, port: u16) {
        self.known().remove(&(Box::from(host), port));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(Box<str>, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn names_are_remembered_and_forgotten() {
        let names = Names::default();
        assert_eq!(&names.resolve("[::1]", 5).await.unwrap()[..], &["[::1]:5".parse().unwrap()]);
        assert!(names.known().is_empty(), "literals need no memory");
        let first = names.resolve("localhost", 1).await.unwrap();
        let second = names.resolve("localhost", 1).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        names.forget("localhost", 1);
        assert!(names.known().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_moved_is_followed() {
        let names = Names::default();
        let first = names.resolve("localhost", 1).await.unwrap();
        tokio::time::advance(DNS_TTL - Duration::from_secs(1)).await;
        assert!(Arc::ptr_eq(&first, &names.resolve("localhost", 1).await.unwrap()));
        // As if it had meant another machine.
        let old: Arc<[SocketAddr]> = Arc::new(["127.9.9.9:1".parse().unwrap()]);
        let until = names.known().values().next().unwrap().until;
        names.known().insert((Box::from("localhost"), 1), Known { addresses: old, until });
        tokio::time::advance(Duration::from_secs(2)).await;
        let now = names.resolve("localhost", 1).await.unwrap();
        assert!(now.iter().all(|address| address.ip().is_loopback() && address.to_string() != "127.9.9.9:1"));
    }
}
