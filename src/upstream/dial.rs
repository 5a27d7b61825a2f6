//! A new connection to an upstream: name, address, TCP, TLS.
//!
//! Link-local addresses are refused after resolution, whatever the name looked like: they are where
//! clouds keep the credentials of the machine, which identity/ alone asks for. Redirects are not known
//! here at all.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::InProcess;
use super::io::Io;
use super::pool::Home;
use super::tls::{Tls, server_name};
use crate::error::BoxError;
use crate::limits::{CONNECT_TRY_MIN, DNS_ENTRIES_MAX, DNS_TTL, TCP_KEEPALIVE};
use crate::snapshot::Transport;

/// Why there is no connection.
#[derive(Debug)]
pub enum DialError {
    Timeout,
    /// The process or the machine has no descriptor left.
    NoDescriptor,
    Failed(BoxError),
}

impl<E: Into<BoxError>> From<E> for DialError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The address is one that we never connect to.
#[derive(Debug)]
struct Refused(IpAddr);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is a link-local address and never dialled", self.0)
    }
}

impl std::error::Error for Refused {}

/// Opens connections for one worker.
pub struct Dialler {
    tls: Tls,
    in_process: Arc<dyn InProcess>,
    names: Names,
}

impl Dialler {
    pub fn new(tls: Tls, in_process: Arc<dyn InProcess>) -> Self {
        Self { tls, in_process, names: Names::default() }
    }

    /// A byte stream to `transport` within `bound`, TLS handshake included.
    pub async fn dial(&self, transport: &Transport, home: &Home, bound: Duration) -> Result<Io, DialError> {
        if transport.in_process {
            return Ok(Io::Memory(TokioIo::new(self.in_process.connect())));
        }
        match timeout(bound, self.connect(transport, home, Instant::now() + bound)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialError::Timeout),
        }
    }

    async fn connect(&self, transport: &Transport, home: &Home, until: Instant) -> Result<Io, DialError> {
        let addresses = self.names.resolve(&transport.host, transport.port).await?;
        let stream = match first_of(&addresses, transport, until).await {
            Ok(stream) => stream,
            Err(error @ DialError::NoDescriptor) => return Err(error),
            Err(error) => {
                // The name may have moved; the next dial asks anew.
                self.names.forget(&transport.host, transport.port);
                return Err(error);
            }
        };
        if transport.scheme != http::uri::Scheme::HTTPS {
            return Ok(Io::Tcp(TokioIo::new(stream)));
        }
        let config = match home.tls.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = self.tls.config(transport).await.map_err(DialError::Failed)?;
                Arc::clone(home.tls.get_or_init(|| config))
            }
        };
        let name = server_name(&transport.host).map_err(DialError::Failed)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Io::Tls(Box::new(TokioIo::new(stream))))
    }
}

/// Tries the addresses in the resolver's order; each but the last gets its share of the time left,
/// so that one that swallows packets does not take it all.
async fn first_of(addresses: &[SocketAddr], transport: &Transport, until: Instant) -> Result<TcpStream, DialError> {
    let mut last = DialError::Failed("the name has no address".into());
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = (until.saturating_duration_since(Instant::now()) / left).max(CONNECT_TRY_MIN);
        if is_refused(address.ip()) && !transport.metadata {
            last = Refused(address.ip()).into();
            continue;
        }
        match timeout(share, TcpStream::connect(*address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
                // An upstream may think for ten minutes; without this a NAT in between forgets us.
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                return Ok(stream);
            }
            Ok(Err(error)) if lacks_descriptor(&error) => return Err(DialError::NoDescriptor),
            Ok(Err(error)) => last = error.into(),
            Err(_) => last = DialError::Timeout,
        }
    }
    Err(last)
}

fn lacks_descriptor(error: &std::io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].iter().any(|errno| code == Some(errno.raw_os_error()))
}

fn is_refused(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || is_metadata(&v6),
    }
}

/// The IPv6 address of AWS' instance metadata, which is unique-local by its bits.
fn is_metadata(ip: &Ipv6Addr) -> bool {
    ip.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
}

struct Known {
    addresses: Arc<[SocketAddr]>,
    until: Instant,
}

/// Answers of the system's resolver, believed for a while.
#[derive(Default)]
struct Names {
    known: Mutex<HashMap<(Box<str>, u16), Known>>,
}

impl Names {
    async fn resolve(&self, host: &str, port: u16) -> Result<Arc<[SocketAddr]>, DialError> {
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
        let addresses: Arc<[SocketAddr]> = tokio::net::lookup_host((bare, port)).await?.collect();
        let mut known = self.known();
        if known.len() >= DNS_ENTRIES_MAX {
            known.clear();
        }
        known.insert(key, Known { addresses: Arc::clone(&addresses), until: now + DNS_TTL });
        Ok(addresses)
    }

    fn forget(&self, host: &str, port: u16) {
        self.known().remove(&(Box::from(host), port));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(Box<str>, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_addresses() {
        for (ip, refused) in [
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("8.8.8.8", false),
            ("::1", false),
            ("fd00::1", false),
            ("169.254.169.254", true),
            ("169.254.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
        ] {
            assert_eq!(is_refused(ip.parse().unwrap()), refused, "{ip}");
        }
    }

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
