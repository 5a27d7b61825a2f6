//! Google: service accounts and authorised users, as their JSON files have them.
//!
//! Takes the two kinds whose secret is in the file and whose token comes from Google. What would run
//! a program or ask an address of the file's choice (`external_account` and its kin) is refused.

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::provider::place::check;
use crate::secret::Secret;

/// What a token of Google is asked for with.
#[derive(Clone, Debug)]
pub enum Google {
    ServiceAccount(Box<ServiceAccount>),
    AuthorizedUser(Box<AuthorizedUser>),
    /// The machine's own: the file that the environment names, gcloud's, the metadata server.
    Ambient,
}

#[derive(Clone, Debug)]
pub struct ServiceAccount {
    pub client_email: Box<str>,
    pub private_key_id: Option<Box<str>>,
    /// PEM.
    pub private_key: Secret,
    pub project_id: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub struct AuthorizedUser {
    pub client_id: Box<str>,
    pub client_secret: Secret,
    pub refresh_token: Secret,
    pub quota_project_id: Option<Box<str>>,
}

/// Hosts of Google's APIs.
pub(super) const DOMAINS: &[&str] = &["googleapis.com"];

/// Where both kinds are exchanged, and the audience of what a service account signs.
pub const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// Spellings of it that files have had.
const TOKEN_URLS: [&str; 4] = [
    TOKEN_URL,
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://www.googleapis.com/oauth2/v3/token",
];

/// What every token is asked for.
pub const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

impl Google {
    /// JSON, or base64 of it.
    pub fn parse(value: &Secret) -> Result<Self, &'static str> {
        let text = value.expose().trim();
        if text.starts_with('{') {
            return Self::of_json(text);
        }
        let bytes = base64(text).ok_or("is neither JSON nor base64 of it")?;
        let text = String::from_utf8(bytes).map_err(|_| "is base64 of something that is no text")?;
        Self::of_json(text.trim())
    }

    fn of_json(text: &str) -> Result<Self, &'static str> {
        let file: Value = serde_json::from_str(text).map_err(|_| "is not JSON")?;
        let member = |name: &str| file.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if member("universe_domain").is_some_and(|domain| domain != "googleapis.com") {
            return Err("belongs to another universe than googleapis.com, which is not served");
        }
        if member("token_uri").is_some_and(|url| !TOKEN_URLS.contains(&url)) {
            return Err("has a token_uri that is not Google's");
        }
        match member("type") {
            Some("service_account") => {
                let pem = member("private_key").ok_or("has no private_key")?;
                PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "has a private_key that is not PEM")?;
                let project_id = member("project_id").filter(|id| check::project(id).is_ok());
                Ok(Self::ServiceAccount(Box::new(ServiceAccount {
                    client_email: plain(member("client_email").ok_or("has no client_email")?)?,
                    private_key_id: member("private_key_id").map(plain).transpose()?,
                    private_key: Secret::new(pem),
                    project_id: project_id.map(Box::from),
                })))
            }
            Some("authorized_user") => Ok(Self::AuthorizedUser(Box::new(AuthorizedUser {
                client_id: plain(member("client_id").ok_or("has no client_id")?)?,
                client_secret: Secret::new(member("client_secret").ok_or("has no client_secret")?),
                refresh_token: Secret::new(member("refresh_token").ok_or("has no refresh_token")?),
                quota_project_id: member("quota_project_id").filter(|id| check::project(id).is_ok()).map(Box::from),
            }))),
            Some("external_account" | "external_account_authorized_user") => {
                Err("is an external account, whose file names programs and addresses of its own: not taken")
            }
            Some("impersonated_service_account") => {
                Err("impersonates a service account, which is not supported: use a key of that account")
            }
            Some(_) => Err("is of a type other than service_account and authorized_user"),
            None => Err("has no type: a service account's file says service_account"),
        }
    }

    /// The project that the file itself is of.
    pub fn project_id(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(account) => account.project_id.as_deref(),
            Self::AuthorizedUser(_) | Self::Ambient => None,
        }
    }

    /// The project that is billed for the calls of a user, who has none of his own.
    pub fn quota_project(&self) -> Option<&str> {
        match self {
            Self::AuthorizedUser(user) => user.quota_project_id.as_deref(),
            Self::ServiceAccount(_) | Self::Ambient => None,
        }
    }
}

fn plain(text: &str) -> Result<Box<str>, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic()) && text.len() <= 512;
    if plain { Ok(text.into()) } else { Err("has an id with blanks in it") }
}

pub fn region(value: &Secret) -> Result<Box<str>, &'static str> {
    check::region(value.expose()).map(|()| value.expose().into())
}

pub fn project(value: &Secret) -> Result<Box<str>, &'static str> {
    check::project(value.expose()).map(|()| value.expose().into())
}

pub fn project_number(value: &Secret) -> Result<Box<str>, &'static str> {
    check::project_number(value.expose()).map(|()| value.expose().into())
}

/// Host that serves a location.
pub fn host(location: &str) -> String {
    match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        // The two that are more than one region.
        "us" | "eu" => format!("aiplatform.{location}.rep.googleapis.com"),
        region => format!("{region}-aiplatform.googleapis.com"),
    }
}

/// Standard alphabet or the one of URLs; padding and line breaks as they come.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count) = (0u32, 0u32);
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    (count < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not a key: only its form is looked at here.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n";

    fn account(more: &str) -> String {
        format!(
            r#"{{"type":"service_account","project_id":"acme","private_key_id":"k1","private_key":"{PEM}","client_email":"a@acme.iam.gserviceaccount.com"{more}}}"#
        )
    }

    fn refused(text: &str) -> &'static str {
        Google::parse(&Secret::new(text)).map(drop).unwrap_err()
    }

    #[test]
    fn service_accounts() {
        let plain = account("");
        let coded = {
            // By the alphabet of the standard, in lines.
            let mut out = String::new();
            for group in plain.as_bytes().chunks(3) {
                let byte = |at: usize| group.get(at).copied().map_or(0, u32::from);
                let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
                for place in 0..=group.len() {
                    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                    out.push(char::from(alphabet[(bits >> (18 - 6 * place) & 63) as usize]));
                }
                if out.len() % 76 < 4 {
                    out.push('\n');
                }
            }
            out
        };
        for text in [
            plain.clone(),
            format!("\n{plain}\n"),
            coded,
            account(r#","token_uri":"https://oauth2.googleapis.com/token","universe_domain":"googleapis.com""#),
        ] {
            let Google::ServiceAccount(found) = Google::parse(&Secret::new(text)).unwrap() else {
                panic!("an account")
            };
            assert_eq!(&*found.client_email, "a@acme.iam.gserviceaccount.com");
            assert_eq!(found.project_id.as_deref(), Some("acme"));
            assert!(found.private_key.expose().starts_with("-----BEGIN PRIVATE KEY-----\n"));
            assert!(!format!("{found:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            ("", "no type"),
            ("{", "is not JSON"),
            ("!!", "neither JSON nor base64"),
            (r#"{"type":"external_account"}"#, "external account"),
            (r#"{"type":"external_account_authorized_user"}"#, "external account"),
            (r#"{"type":"impersonated_service_account"}"#, "impersonates"),
            (r#"{"type":"gdch_service_account"}"#, "of a type other"),
            (r#"{"type":"service_account","client_email":"a@b"}"#, "no private_key"),
            (r#"{"type":"service_account","client_email":"a@b","private_key":"x"}"#, "not PEM"),
            (r#"{"type":"authorized_user","client_id":"a","client_secret":"b"}"#, "no refresh_token"),
        ] {
            let error = refused(text);
            assert!(error.contains(why) || text.is_empty(), "{text}: {error}");
        }
        for url in [
            "https://oauth2.googleapis.com.evil.example/token",
            "http://oauth2.googleapis.com/token",
            "https://evil.example/token",
            "https://oauth2.googleapis.com/token#",
        ] {
            assert!(refused(&account(&format!(r#","token_uri":"{url}""#))).contains("token_uri"), "{url}");
        }
        assert!(refused(&account(r#","universe_domain":"example.com""#)).contains("universe"));
        assert!(refused(&account("").replace("a@acme", "a @acme")).contains("blanks"));
    }

    #[test]
    fn hosts() {
        for (location, host) in [
            ("global", "aiplatform.googleapis.com"),
            ("us", "aiplatform.us.rep.googleapis.com"),
            ("eu", "aiplatform.eu.rep.googleapis.com"),
            ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ] {
            assert_eq!(super::host(location), host);
        }
    }
}
