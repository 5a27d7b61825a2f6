//! How connections to an upstream are made beyond where it is: through which proxy, in which version
//! of HTTP, how many, and whether its address must be public. Part of what tells transports apart.

use std::fmt;
use std::sync::Arc;

use crate::provider::{BaseUrl, is_exempt};
use crate::secret::Secret;

/// The default: straight there, HTTP/1.1, as many as there are requests, wherever the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    pub proxy: Option<Arc<ProxyServer>>,
    /// HTTP/2 and nothing else: by ALPN over TLS, by prior knowledge without.
    pub http2: bool,
    /// Connections at a time, of all workers together.
    pub connections_max: Option<usize>,
    pub reach: Reach,
}

/// Which addresses may be dialled. Link-local ones never are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Reach {
    /// Whoever edits the file by hand may name any.
    #[default]
    Anywhere,
    /// An API named the place: every address that it leads to must be public.
    Public,
    /// The metadata service of this machine: the one place that may be link-local. No config makes one.
    Metadata,
}

/// A proxy on the way to an upstream.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyServer {
    pub kind: ProxyKind,
    /// TLS as far as the proxy.
    pub tls: bool,
    pub host: Box<str>,
    pub port: u16,
    /// PEM of the roots that vouch for the proxy instead of the system's.
    pub ca_pem: Option<Arc<str>>,
    /// Name and password.
    pub login: Option<(Secret, Secret)>,
    pub reach: Reach,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ProxyKind {
    /// `CONNECT` for https, the absolute form for http.
    Http,
    /// RFC 1928; names are resolved by the proxy.
    Socks5,
}

/// Without its login: that a text of a secret is not printed must not hang on its type alone.
impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyServer({:?} {}:{})", self.kind, self.host, self.port)
    }
}

/// What a provider's keys go through.
#[derive(Clone, Debug, Default)]
pub enum Through {
    #[default]
    Nothing,
    Server(Arc<ProxyServer>),
    /// By the upstream's scheme and host.
    Environment(Box<ProxyEnvironment>),
}

/// `HTTPS_PROXY` and its kin, as they were when the generation was made.
#[derive(Clone, Debug)]
pub struct ProxyEnvironment {
    pub https: Option<Arc<ProxyServer>>,
    pub http: Option<Arc<ProxyServer>>,
    pub exempt: Box<str>,
}

impl Through {
    pub fn towards(&self, base: &BaseUrl) -> Option<Arc<ProxyServer>> {
        match self {
            Self::Nothing => None,
            Self::Server(server) => Some(Arc::clone(server)),
            Self::Environment(env) if is_exempt(&env.exempt, &base.host, base.port) => None,
            Self::Environment(env) if base.scheme == http::uri::Scheme::HTTPS => env.https.clone(),
            Self::Environment(env) => env.http.clone(),
        }
    }
}

/// How the issuers of a provider's tokens are reached: as the provider itself is.
#[derive(Clone, Debug, Default)]
pub struct IssuerWay {
    /// Over all that is below; 0 where there is nothing of it. Tokens that came by different ways are
    /// kept apart, so that one way that is blocked stops nobody else.
    pub id: u64,
    pub through: Through,
    /// PEM of the roots to trust instead of the system's.
    pub ca_pem: Option<Arc<str>>,
}
