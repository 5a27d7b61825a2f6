//! How a key is put onto a request head.
//!
//! The only place where a key's value becomes header bytes. Refuses a value that a header cannot
//! carry, and says so without showing it. Tokens are fetched by identity/, signatures made by sigv4.rs.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::AuthKind;
use super::credential::Credential;
use crate::secret::Secret;

/// A credential compiled into what goes onto a request head.
#[derive(Clone, Debug)]
pub enum UpstreamAuth {
    None,
    /// The value is marked sensitive.
    Header {
        name: HeaderName,
        value: HeaderValue,
    },
    /// A token that is fetched, sent as a bearer.
    Token(Arc<Credential>),
    /// The request is signed (AWS SigV4).
    Signed {
        credential: Arc<Credential>,
        region: Box<str>,
        service: &'static str,
    },
}

/// Azure's own spelling of an API key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

impl UpstreamAuth {
    /// An empty value sends nothing: a local server without a token. The error never quotes it.
    pub fn for_value(kind: AuthKind, value: &Secret) -> Result<Self, &'static str> {
        if value.is_empty() {
            return Ok(Self::None);
        }
        match kind {
            AuthKind::None => Ok(Self::None),
            // AWS takes a Bedrock API key as a bearer token; signing is another way in.
            AuthKind::Bearer | AuthKind::AwsSigV4 => Self::header(AUTHORIZATION, "Bearer ", value),
            AuthKind::Header(name) => Self::header(HeaderName::from_static(name), "", value),
            AuthKind::Azure => Self::header(API_KEY, "", value),
            AuthKind::GoogleOAuth => Err("is not a token: this provider exchanges a service account for one"),
        }
    }

    fn header(name: HeaderName, scheme: &str, secret: &Secret) -> Result<Self, &'static str> {
        // Visible ASCII only. `HeaderValue` would also take blanks, tabs and bytes above 127: no
        // provider puts them into a key, and a blank is a copy-and-paste accident.
        let clean = secret.expose().bytes().all(|b| b.is_ascii_graphic());
        let mut value = HeaderValue::try_from(format!("{scheme}{}", secret.expose()))
            .ok()
            .filter(|_| clean)
            .ok_or("holds blanks or characters that a header cannot carry")?;
        value.set_sensitive(true);
        Ok(Self::Header { name, value })
    }

    /// The header that [`Self::apply`] sets.
    pub fn header_name(&self) -> Option<&HeaderName> {
        match self {
            Self::None | Self::Token(_) | Self::Signed { .. } => None,
            Self::Header { name, .. } => Some(name),
        }
    }

    /// What has to be fetched or computed for each request; `None` where the header is ready.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        match self {
            Self::None | Self::Header { .. } => None,
            Self::Token(credential) | Self::Signed { credential, .. } => Some(credential),
        }
    }

    /// Puts the credential in place of whatever stood under its name.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if let Self::Header { name, value } = self {
            headers.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: AuthKind, value: &str) -> Result<HeaderMap, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert("x-other", HeaderValue::from_static("stays"));
        UpstreamAuth::for_value(kind, &Secret::new(value))?.apply(&mut headers);
        Ok(headers)
    }

    #[test]
    fn each_kind() {
        for (kind, name, sent) in [
            (AuthKind::Bearer, "authorization", "Bearer sk-1"),
            (AuthKind::AwsSigV4, "authorization", "Bearer sk-1"),
            (AuthKind::Header("x-api-key"), "x-api-key", "sk-1"),
            (AuthKind::Azure, "api-key", "sk-1"),
        ] {
            let headers = of(kind, "sk-1").unwrap();
            assert_eq!(headers[name], sent);
            assert!(headers[name].is_sensitive());
            assert_eq!(headers.len(), 2);
            assert_eq!(of(kind, "").unwrap().len(), 1, "an empty value sends nothing");
        }
        assert_eq!(of(AuthKind::None, "sk-1").unwrap().len(), 1);
        assert!(of(AuthKind::GoogleOAuth, "sk-1").is_err());
    }

    #[test]
    fn replaces_what_stood_there() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer caller"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer second"));
        UpstreamAuth::for_value(AuthKind::Bearer, &Secret::new("ours")).unwrap().apply(&mut headers);
        assert_eq!(headers.get_all(AUTHORIZATION).iter().collect::<Vec<_>>(), ["Bearer ours"]);
    }

    #[test]
    fn what_a_header_cannot_carry() {
        for bad in ["sk-1\n", "sk\r\nx: y", "sk\0", "sk-é", " sk", "sk ", "s k", "sk\t1", "\u{7f}"] {
            for kind in [AuthKind::Bearer, AuthKind::Header("x-api-key")] {
                let error = of(kind, bad).unwrap_err();
                assert!(!error.contains("sk"), "{error}");
            }
        }
        let shown = format!("{:?}", UpstreamAuth::for_value(AuthKind::Bearer, &Secret::new("topsecret")).unwrap());
        assert!(!shown.contains("topsecret"), "{shown}");
    }
}
