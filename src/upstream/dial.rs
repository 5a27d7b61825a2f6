//! A new connection to an upstream: name, address, TCP, proxy, TLS.
//!
//! Where an API named the place, every address that it leads to is judged here, at the moment when it
//! is dialled: a name that leads somewhere else the second time leads nowhere. Link-local addresses are
//! refused after resolution, whatever the name looked like: they are where clouds keep the credentials
//! of the machine, which identity/ alone asks for. Redirects are not known here at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::InProcess;
use super::io::Io;
use super::names::Names;
use super::pool::Home;
use super::tls::{ALPN_HTTP2, Tls, server_name};
use super::tunnel::{self, Target};
use crate::error::BoxError;
use crate::limits::{CONNECT_TRY_MIN, TCP_KEEPALIVE};
use crate::provider::{AddressPlace, is_never_dialled, place_of_address};
use crate::snapshot::{ProxyServer, Reach, Transport};

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
        if is_never_dialled(self.0) {
            write!(f, "{} is a link-local or metadata address and never dialled", self.0)
        } else {
            write!(f, "{} is not public, and an API named the place (management.allowed_origins)", self.0)
        }
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
    pub fn new(tls: Tls, in_process: Arc<dyn InProcess>, names: Names) -> Self {
        Self { tls, in_process, names }
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
        let Some(proxy) = transport.wire.proxy.as_deref() else {
            let stream = self.tcp(&transport.host, transport.port, transport.wire.reach, until).await?;
            return if is_https(transport) {
                Ok(Io::Tls(Box::new(TokioIo::new(self.secured(transport, home, stream).await?))))
            } else {
                Ok(Io::Tcp(TokioIo::new(stream)))
            };
        };
        let mut stream = self.tcp(&proxy.host, proxy.port, proxy.reach, until).await?;
        let target = self.target(transport).await?;
        if !proxy.tls {
            if home.through_proxy.is_none() {
                tunnel::open(&mut stream, proxy, target).await?;
            }
            return if is_https(transport) {
                Ok(Io::Tls(Box::new(TokioIo::new(self.secured(transport, home, stream).await?))))
            } else {
                Ok(Io::Tcp(TokioIo::new(stream)))
            };
        }
        let mut stream = self.as_far_as(proxy, home, stream).await?;
        if home.through_proxy.is_none() {
            tunnel::open(&mut stream, proxy, target).await?;
        }
        if is_https(transport) {
            Ok(Io::TlsInTls(Box::new(TokioIo::new(self.secured(transport, home, stream).await?))))
        } else {
            Ok(Io::Tls(Box::new(TokioIo::new(stream))))
        }
    }

    async fn tcp(&self, host: &str, port: u16, reach: Reach, until: Instant) -> Result<TcpStream, DialError> {
        let addresses = self.names.resolve(host, port).await?;
        match first_of(&addresses, reach, until).await {
            Ok(stream) => Ok(stream),
            Err(error @ DialError::NoDescriptor) => Err(error),
            Err(error) => {
                // The name may have moved; the next dial asks anew.
                self.names.forget(host, port);
                Err(error)
            }
        }
    }

    /// What a proxy is asked for. Where the address has to be judged it is looked up here and given to
    /// the proxy as such, so that what was judged is what is dialled.
    async fn target<'t>(&self, transport: &'t Transport) -> Result<Target<'t>, DialError> {
        let (host, port) = (&*transport.host, transport.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return if is_refused(ip, transport.wire.reach) {
                Err(Refused(ip).into())
            } else {
                Ok(Target::Address(ip, port))
            };
        }
        if transport.wire.reach != Reach::Public {
            return Ok(Target::Name(host, port));
        }
        let addresses = self.names.resolve(host, port).await?;
        match addresses.iter().map(SocketAddr::ip).find(|ip| !is_refused(*ip, Reach::Public)) {
            Some(ip) => Ok(Target::Address(ip, port)),
            None => {
                self.names.forget(host, port);
                let refused = addresses.first().map(|address| Refused(address.ip()).into());
                Err(refused.unwrap_or_else(|| "the name has no address".into()))
            }
        }
    }

    /// TLS with the upstream itself, over whatever leads there.
    async fn secured<S>(&self, transport: &Transport, home: &Home, stream: S) -> Result<TlsStream<S>, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = match home.tls.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = self.tls.config(transport.into()).await.map_err(DialError::Failed)?;
                Arc::clone(home.tls.get_or_init(|| config))
            }
        };
        let name = server_name(&transport.host).map_err(DialError::Failed)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        if transport.wire.http2 && stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
            return Err("the upstream does not speak HTTP/2 (network_config.enforce_http2)".into());
        }
        Ok(stream)
    }

    /// TLS with a proxy.
    async fn as_far_as(
        &self,
        proxy: &ProxyServer,
        home: &Home,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let config = match home.proxy_tls.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = self.tls.config(proxy.into()).await.map_err(DialError::Failed)?;
                Arc::clone(home.proxy_tls.get_or_init(|| config))
            }
        };
        let name = server_name(&proxy.host).map_err(DialError::Failed)?;
        Ok(TlsConnector::from(config).connect(name, stream).await?)
    }
}

fn is_https(transport: &Transport) -> bool {
    transport.scheme == http::uri::Scheme::HTTPS
}

/// Tries the addresses in the resolver's order; each but the last gets its share of the time left,
/// so that one that swallows packets does not take it all.
async fn first_of(addresses: &[SocketAddr], reach: Reach, until: Instant) -> Result<TcpStream, DialError> {
    let mut last = DialError::Failed("the name has no address".into());
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = (until.saturating_duration_since(Instant::now()) / left).max(CONNECT_TRY_MIN);
        if is_refused(address.ip(), reach) {
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

fn is_refused(ip: IpAddr, reach: Reach) -> bool {
    match reach {
        Reach::Metadata => false,
        Reach::Anywhere => is_never_dialled(ip),
        Reach::Public => place_of_address(ip) != AddressPlace::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_addresses() {
        for (ip, anywhere, public) in [
            ("8.8.8.8", true, true),
            ("2606:4700::1111", true, true),
            ("64:ff9b::808:808", true, true),
            ("127.0.0.1", true, false),
            ("0.0.0.0", true, false),
            ("10.0.0.1", true, false),
            ("100.64.0.1", true, false),
            ("192.168.1.1", true, false),
            ("::1", true, false),
            ("::", true, false),
            ("fd00::1", true, false),
            ("::ffff:10.0.0.1", true, false),
            ("64:ff9b::a00:1", true, false),
            ("64:ff9b:1::808:808", true, false),
            ("2002:a00:1::1", true, false),
            ("2001::1", true, false),
            ("169.254.169.254", false, false),
            ("169.254.0.1", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("2002:a9fe:a9fe::1", false, false),
            ("100.100.100.200", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!((!is_refused(ip, Reach::Anywhere), !is_refused(ip, Reach::Public)), (anywhere, public), "{ip}");
        }
    }
}
