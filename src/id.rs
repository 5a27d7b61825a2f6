//! Names and identifiers, one type per role, so that two of them cannot be swapped unseen.
//!
//! Each is a cheap clone of shared text. None of them checks anything: what a name may contain is
//! decided where it enters (config, router), never here.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text itself, for a name in another role.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        /// Lets a map keyed by this type be asked with a plain `&str`.
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// Stable handle of a key: what the management APIs, pins and response headers use.
    KeyId
}
name! {
    /// Name of a key, unique inside its provider.
    KeyName
}
name! {
    /// Name of a configured provider: the member name under `providers`.
    ProviderName
}
name! {
    /// A model as the caller named it, after a `provider/` prefix has been taken off.
    ModelName
}
name! {
    /// A model as the upstream knows it: after the alias of the chosen key. Only
    /// `snapshot/index.rs` makes one from a [`ModelName`].
    UpstreamModel
}
name! {
    /// `projects[].id`.
    ProjectId
}

impl ModelName {
    /// The form in which model names are compared everywhere: ASCII lower case (CONTRACT 2.3).
    pub fn folded(&self) -> String {
        self.as_str().to_ascii_lowercase()
    }
}

/// Where and over what trust bytes travel: scheme, authority, TLS settings, proxy, resolver rule.
/// Two keys with the same `TransportId` may share connections, whatever their credentials.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TransportId(pub u64);

/// Identity of one request, for logs and the `x-request-id` header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Longest id that is taken over from a caller; a longer one is replaced.
    pub const CALLER_CHARS_MAX: usize = 128;

    /// Takes the caller's id over when it is short and made of visible ASCII, so that it can stand
    /// in a header and in one log line.
    pub fn from_caller(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= Self::CALLER_CHARS_MAX;
        let clean = text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        (fits && clean).then(|| Self(text.into()))
    }

    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
