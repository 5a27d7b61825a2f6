//! Credentials that are not their own value: tokens that are fetched, requests that are signed.
//!
//! What a config says, parsed and checked once, at compile; identity/ does the fetching. Holds no
//! token and no clock. Errors never quote a value.

pub mod aws;
pub mod azure;
pub mod google;

use std::fmt;

pub use aws::{Aws, AwsKeys, AwsRole, AwsSource};
pub use azure::{Cloud, Entra, EntraApp};
pub use google::{AuthorizedUser, Google, ServiceAccount};

use crate::hash::Fingerprint;

/// What a token is fetched with.
#[derive(Clone)]
pub struct Credential {
    /// Over all that is below: two with the same one share a token, over reloads too.
    pub fingerprint: Fingerprint,
    /// Whose it is, for the log: `provider/key`.
    pub holder: Box<str>,
    pub source: Source,
}

#[derive(Clone, Debug)]
pub enum Source {
    Entra(Entra),
    Google(Google),
    Aws(Aws),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// Whether a host is of one of these domains.
fn is_of(host: &str, domains: &[&str]) -> bool {
    domains.iter().any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

impl Source {
    /// Whether it is the machine's own: no secret of the file stands behind it, hence the file alone
    /// does not show that somebody may use it.
    pub fn is_ambient(&self) -> bool {
        match self {
            Self::Entra(entra) => matches!(entra.app, EntraApp::Ambient { .. }),
            Self::Google(google) => matches!(google, Google::Ambient),
            Self::Aws(aws) => matches!(aws.keys, AwsSource::Ambient),
        }
    }

    /// Whether the machine's own identity may be shown to a host: to its cloud, and to this machine.
    /// A base URL that somebody else chose must not collect the token of the instance.
    pub fn may_be_shown_to(&self, host: &str) -> bool {
        let own = match self {
            Self::Entra(_) => is_of(host, azure::DOMAINS),
            Self::Google(_) => is_of(host, google::DOMAINS),
            Self::Aws(_) => is_of(host, aws::DOMAINS),
        };
        let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        !self.is_ambient() || own || loopback
    }
}
