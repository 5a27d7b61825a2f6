//! Who a caller is and what they may do: keys of projects and of management, and the rules of a
//! listener that is open because nobody else can reach it.
//!
//! Pure: a head and a snapshot in, a [`Caller`] or an [`AuthError`] out. Fails closed: a key that is
//! configured but not resolved admits nobody, and what is not allowed here is refused.

pub mod admit;
pub mod authenticate;
pub mod charge;
pub mod credential;
pub mod limit;
pub mod loopback;

pub use admit::Grant;
pub use authenticate::{AuthError, authenticate};
pub use charge::{Charge, is_countable};
pub use limit::{Over, admit};

use http::HeaderMap;
use http::request::Parts;

use crate::snapshot::{Project, Snapshot};

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Peer {
    /// 127.0.0.0/8 or ::1.
    Loopback,
    /// A Unix socket, with the user at the other end.
    Unix {
        uid: u32,
    },
    Remote,
}

/// What a route asks of its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Scope {
    /// Nothing: liveness and readiness.
    Open,
    /// The data plane.
    Data,
    /// The management APIs.
    Management,
    /// `/metrics` and verbose health: a management key or a keyless loopback.
    Status,
}

/// Who was let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Nobody in particular: an open data plane or an open route.
    Open,
    /// Indices into `Snapshot::projects` and `Project::keys`.
    Project { project: usize, key: usize },
    /// A management key, by its name.
    Management { name: Box<str> },
    /// An operator on this machine, where no management keys are configured.
    Loopback,
}

impl Caller {
    /// The caller's project.
    pub fn project<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Project> {
        match self {
            Self::Project { project, .. } => snapshot.projects.as_ref()?.get(*project),
            Self::Open | Self::Management { .. } | Self::Loopback => None,
        }
    }
}

/// What authentication sees of a request.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    pub headers: &'a HeaderMap,
    /// `:authority` or the authority of an absolute-form target.
    pub authority: Option<&'a str>,
    /// Without the `?`.
    pub query: Option<&'a str>,
    pub peer: Peer,
    /// User that this process runs as.
    pub own_uid: u32,
}

impl<'a> Visit<'a> {
    pub fn of(head: &'a Parts, peer: Peer, own_uid: u32) -> Self {
        Self {
            headers: &head.headers,
            authority: head.uri.authority().map(http::uri::Authority::as_str),
            query: head.uri.query(),
            peer,
            own_uid,
        }
    }
}
