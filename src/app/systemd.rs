//! Notification and socket activation, as systemd wants them; silent when it is not there.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use sd_notify::NotifyState;

/// Serving.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// A reload begins; [`ready`] tells its end.
pub fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now().ok());
    let _ = sd_notify::notify(&states);
}

/// The drain begins.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Sockets that were opened for us.
#[derive(Debug, Default)]
pub struct Inherited {
    pub tcp: Vec<TcpListener>,
    pub unix: Vec<UnixListener>,
}

/// Takes over what the environment announces. Descriptors that are not listening stream sockets are
/// left alone.
pub fn inherited() -> Inherited {
    let mut fds = listenfd::ListenFd::from_env();
    let mut all = Inherited::default();
    for index in 0..fds.len() {
        if let Ok(Some(listener)) = fds.take_tcp_listener(index) {
            all.tcp.push(listener);
        } else if let Ok(Some(listener)) = fds.take_unix_listener(index) {
            all.unix.push(listener);
        }
    }
    all
}
