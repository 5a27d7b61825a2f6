//! Listening sockets: bound once, then cloned for each worker.
//!
//! All workers accept on duplicates of the same descriptor, so that an idle one takes the next
//! caller; that serves TCP, Unix sockets and inherited descriptors alike. A socket file is replaced
//! only if nobody answers behind it, and anything that is not a socket is never touched.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, chmod, lstat, unlink};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::limits::ACCEPT_QUEUE;
use crate::snapshot::ListenSpec;

/// A listener that is open. The socket file of a Unix listener goes with the last clone.
#[derive(Debug)]
pub struct Bound {
    pub spec: ListenSpec,
    /// Where it listens, as it is printed: `http://127.0.0.1:8080`, `unix:/run/keyway.sock`.
    pub local: Arc<str>,
    pub(super) socket: Socket,
    file: Option<Arc<SocketFile>>,
}

/// The socket itself, not blocking.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    pub spec: ListenSpec,
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spec {
            ListenSpec::Tcp { host, port, .. } => write!(f, "cannot listen on {host}:{port}: {}", self.source),
            ListenSpec::Unix { path, .. } => write!(f, "cannot listen on unix:{}: {}", path.display(), self.source),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Bound {
    /// Opens a listener. Resolves a host name, hence not for workers.
    pub fn bind(spec: &ListenSpec) -> Result<Self, BindError> {
        let opened = match spec {
            ListenSpec::Tcp { host, port, .. } => tcp(host, *port).map(|listener| (Socket::Tcp(listener), None)),
            ListenSpec::Unix { path, mode } => {
                unix(path, *mode).map(|(listener, file)| (Socket::Unix(listener), Some(Arc::new(file))))
            }
        };
        opened
            .and_then(|(socket, file)| Self::over(spec.clone(), socket, file))
            .map_err(|source| BindError { spec: spec.clone(), source })
    }

    /// Takes over a socket that somebody else opened (socket activation). Its file stays theirs.
    pub fn inherited(spec: ListenSpec, socket: Socket) -> io::Result<Self> {
        match &socket {
            Socket::Tcp(listener) => listener.set_nonblocking(true)?,
            Socket::Unix(listener) => listener.set_nonblocking(true)?,
        }
        Self::over(spec, socket, None)
    }

    /// The same listener once more, for another worker.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(listener) => Socket::Tcp(listener.try_clone()?),
            Socket::Unix(listener) => Socket::Unix(listener.try_clone()?),
        };
        Ok(Self { spec: self.spec.clone(), local: Arc::clone(&self.local), socket, file: self.file.clone() })
    }

    /// The address with the port that port 0 became; `None` for Unix sockets.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    fn over(spec: ListenSpec, socket: Socket, file: Option<Arc<SocketFile>>) -> io::Result<Self> {
        let local = match (&spec, &socket) {
            (ListenSpec::Unix { path, .. }, _) => format!("unix:{}", path.display()),
            (ListenSpec::Tcp { tls, .. }, Socket::Tcp(listener)) => {
                format!("{}://{}", if *tls { "https" } else { "http" }, listener.local_addr()?)
            }
            (ListenSpec::Tcp { .. }, Socket::Unix(_)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket stands for a TCP listener"));
            }
        };
        Ok(Self { spec, local: Arc::from(local), socket, file })
    }
}

/// The first address of the name that can be bound, IPv4 first: `localhost` means 127.0.0.1.
fn tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let mut addresses: Vec<SocketAddr> = (bare, port).to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tcp_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tcp_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the process before to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(ACCEPT_QUEUE)?;
    Ok(socket.into())
}

fn unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    // Nobody can connect before listen(), so there is no moment with the wrong mode.
    chmod(path, Mode::from_raw_mode(mode))?;
    socket.listen(ACCEPT_QUEUE)?;
    Ok((socket.into(), file))
}

/// Removes a socket file behind which nobody answers.
fn remove_stale(path: &Path) -> io::Result<()> {
    let stat = match lstat(path) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody is listening there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(unlink(path)?),
        Err(error) => Err(error),
    }
}

/// Removes its file when dropped, unless another file stands there by now.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let stat = lstat(path)?;
        Ok(Self { path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = lstat(&self.path).is_ok_and(|stat| stat.st_dev == self.device && stat.st_ino == self.inode);
        if ours {
            let _ = unlink(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn spec(host: &str, tls: bool) -> ListenSpec {
        ListenSpec::Tcp { host: host.into(), port: 0, tls }
    }

    #[test]
    fn tcp_addresses() {
        for (host, tls, prefix) in [
            ("127.0.0.1", false, "http://127.0.0.1:"),
            ("localhost", true, "https://127.0.0.1:"),
            ("[::1]", false, "http://[::1]:"),
            ("::1", false, "http://[::1]:"),
        ] {
            let bound = Bound::bind(&spec(host, tls)).unwrap();
            assert!(bound.local.starts_with(prefix), "{}", bound.local);
            let port = bound.address().unwrap().port();
            assert!(port > 0 && bound.local.ends_with(&port.to_string()));
            let clone = bound.try_clone().unwrap();
            assert_eq!(clone.address(), bound.address());
        }
    }

    #[test]
    fn a_taken_port_is_refused() {
        let bound = Bound::bind(&spec("127.0.0.1", false)).unwrap();
        let port = bound.address().unwrap().port();
        let again = Bound::bind(&ListenSpec::Tcp { host: "127.0.0.1".into(), port, tls: false }).unwrap_err();
        assert_eq!(again.source.kind(), io::ErrorKind::AddrInUse);
        assert!(again.to_string().starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")));
    }

    #[test]
    fn unix_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyway.sock");
        let spec = ListenSpec::Unix { path: path.clone(), mode: 0o640 };

        let bound = Bound::bind(&spec).unwrap();
        assert_eq!(&*bound.local, format!("unix:{}", path.display()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        let error = Bound::bind(&spec).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse, "somebody answers");

        let clone = bound.try_clone().unwrap();
        drop(bound);
        assert!(path.exists());
        drop(clone);
        assert!(!path.exists(), "gone with the last clone");

        drop(UnixListener::bind(&path).unwrap());
        let replaced = Bound::bind(&spec).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = Bound::bind(&spec).unwrap();
        drop(replaced);
        assert!(path.exists(), "the file of another is left alone");
        drop(other);

        std::fs::write(&path, "precious").unwrap();
        let error = Bound::bind(&spec).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn inherited_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bound = Bound::inherited(spec("127.0.0.1", false), Socket::Tcp(listener)).unwrap();
        assert_eq!(bound.address(), Some(address));
    }
}
