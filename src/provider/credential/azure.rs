//! Entra: which application asks which authority for a token of which scope.

use crate::provider::place::check;
use crate::secret::Secret;

/// What a token of Entra is asked for with.
#[derive(Clone, Debug)]
pub struct Entra {
    pub app: EntraApp,
    /// Separated by blanks, as the token endpoint takes them.
    pub scope: Box<str>,
    pub cloud: Cloud,
}

#[derive(Clone, Debug)]
pub enum EntraApp {
    /// Client credentials.
    Secret { tenant: Box<str>, client_id: Box<str>, client_secret: Secret },
    /// The machine's own: workload identity, else managed identity; these where they are told apart.
    Ambient { tenant: Option<Box<str>>, client_id: Option<Box<str>> },
}

/// Azure is three clouds that share nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cloud {
    Public,
    UsGovernment,
    China,
}

/// Hosts of Azure's own resources. Not `azure-api.net`: what stands there may be anybody's.
pub(super) const DOMAINS: &[&str] = &[
    "openai.azure.com",
    "cognitiveservices.azure.com",
    "services.ai.azure.com",
    "openai.azure.us",
    "cognitiveservices.azure.us",
    "services.ai.azure.us",
    "openai.azure.cn",
    "cognitiveservices.azure.cn",
];

impl Cloud {
    /// By the host of a resource.
    pub fn of_host(host: &str) -> Self {
        if host.ends_with(".azure.us") {
            Self::UsGovernment
        } else if host.ends_with(".azure.cn") {
            Self::China
        } else {
            Self::Public
        }
    }

    /// Where its applications get their tokens.
    pub fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::China => "https://login.chinacloudapi.cn",
        }
    }

    pub fn scope(self) -> &'static str {
        match self {
            Self::Public => "https://cognitiveservices.azure.com/.default",
            Self::UsGovernment => "https://cognitiveservices.azure.us/.default",
            Self::China => "https://cognitiveservices.azure.cn/.default",
        }
    }
}

/// Joined as the token endpoint takes them; an empty list means the cloud's own.
pub fn scope(scopes: &[String], cloud: Cloud) -> Result<Box<str>, &'static str> {
    let plain = |scope: &String| (1..=256).contains(&scope.len()) && scope.bytes().all(|b| b.is_ascii_graphic());
    match scopes {
        [] => Ok(cloud.scope().into()),
        // A token has one audience; more than a handful is a mistake.
        _ if scopes.len() <= 8 && scopes.iter().all(plain) => Ok(scopes.join(" ").into()),
        _ => Err("is not a list of scopes"),
    }
}

pub fn tenant(value: &Secret) -> Result<Box<str>, &'static str> {
    check::tenant(value.expose()).map(|()| value.expose().into())
}

/// A GUID; other clouds of it have had other forms.
pub fn client_id(value: &Secret) -> Result<Box<str>, &'static str> {
    let text = value.expose();
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/".contains(&b));
    if plain && (1..=256).contains(&text.len()) { Ok(text.into()) } else { Err("is not the id of an application") }
}

/// Sent in a form, so it may hold anything that is text.
pub fn client_secret(value: &Secret) -> Result<Secret, &'static str> {
    let text = value.expose();
    let clean = !text.chars().any(char::is_control) && text.trim() == text;
    if clean { Ok(value.clone()) } else { Err("holds control characters, or blanks at its ends") }
}

pub fn api_version(value: &Secret) -> Result<Box<str>, &'static str> {
    check::api_version(value.expose()).map(|()| value.expose().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds() {
        for (host, cloud) in [
            ("acme.openai.azure.com", Cloud::Public),
            ("acme.openai.azure.us", Cloud::UsGovernment),
            ("acme.openai.azure.cn", Cloud::China),
            ("127.0.0.1", Cloud::Public),
            ("azure.us", Cloud::Public),
        ] {
            assert_eq!(Cloud::of_host(host), cloud, "{host}");
        }
    }

    #[test]
    fn scopes() {
        let of = |scopes: &[&str]| scope(&scopes.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), Cloud::China);
        assert_eq!(of(&[]).as_deref(), Ok("https://cognitiveservices.azure.cn/.default"));
        assert_eq!(of(&["https://ai.azure.com/.default", "b"]).as_deref(), Ok("https://ai.azure.com/.default b"));
        for bad in [&["a b"][..], &[""], &["a\n"], &["a"; 9]] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn members() {
        assert!(client_id(&Secret::new("11111111-2222-3333-4444-555555555555")).is_ok());
        for bad in ["", "a b", "a&b", "a\n"] {
            assert!(client_id(&Secret::new(bad)).is_err(), "{bad:?}");
        }
        assert!(client_secret(&Secret::new("a~b+c/d=&é")).is_ok());
        for bad in ["a\n", " a", "a\0b"] {
            assert!(client_secret(&Secret::new(bad)).is_err(), "{bad:?}");
        }
    }
}
