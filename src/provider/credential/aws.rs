//! AWS: whose access keys, and which role they are exchanged for.

use std::fmt;

use crate::provider::place::check;
use crate::secret::Secret;

/// What requests are signed with.
#[derive(Clone, Debug)]
pub struct Aws {
    pub keys: AwsSource,
    /// Assumed with these keys.
    pub role: Option<AwsRole>,
    pub region: Box<str>,
}

#[derive(Clone, Debug)]
pub enum AwsSource {
    Static(AwsKeys),
    /// The machine's own: environment, profile, web identity, container, instance.
    Ambient,
}

/// Access keys, temporary ones with their token.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsKeys {
    pub access_key: Secret,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwsRole {
    pub arn: Box<str>,
    pub external_id: Option<Box<str>>,
    pub session_name: Box<str>,
}

/// What a signature is made out to: the same for calls to models and for what is asked about them.
pub const SERVICE: &str = "bedrock";
/// Of a session that the config does not name.
pub const SESSION_NAME: &str = "keyway";

/// Hosts of AWS.
pub(super) const DOMAINS: &[&str] = &["amazonaws.com", "amazonaws.com.cn", "api.aws"];

impl fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsKeys(…)")
    }
}

impl AwsKeys {
    /// Checked so that they can stand in a header.
    pub fn new(
        access_key: &Secret,
        secret_key: &Secret,
        session_token: Option<&Secret>,
    ) -> Result<Self, (Member, &'static str)> {
        let (id, secret) = (access_key.expose(), secret_key.expose());
        if !id.bytes().all(|b| b.is_ascii_alphanumeric()) || !(4..=128).contains(&id.len()) {
            return Err((Member::AccessKey, "is not the id of an access key"));
        }
        let graphic = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !graphic(secret) {
            return Err((Member::SecretKey, "holds blanks or characters that no secret access key has"));
        }
        if session_token.is_some_and(|token| !graphic(token.expose())) {
            return Err((Member::SessionToken, "holds blanks or characters that a header cannot carry"));
        }
        Ok(Self {
            access_key: access_key.clone(),
            secret_key: secret_key.clone(),
            session_token: session_token.cloned(),
        })
    }
}

/// Which of them is no good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    AccessKey,
    SecretKey,
    SessionToken,
}

pub fn region(value: &Secret) -> Result<Box<str>, &'static str> {
    check::region(value.expose()).map(|()| value.expose().into())
}

pub fn role_arn(value: &Secret) -> Result<Box<str>, &'static str> {
    check::role_arn(value.expose()).map(|()| value.expose().into())
}

pub fn arn(value: &Secret) -> Result<Box<str>, &'static str> {
    // A prefix may be written with the slash that follows it.
    let text = value.expose().trim_end_matches('/');
    check::arn(text).map(|()| text.into())
}

pub fn session_name(value: &Secret) -> Result<Box<str>, &'static str> {
    check::session_name(value.expose()).map(|()| value.expose().into())
}

pub fn external_id(value: &Secret) -> Result<Box<str>, &'static str> {
    check::external_id(value.expose()).map(|()| value.expose().into())
}

/// Domain of the AWS partition that a region lies in.
pub fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let of = |id: &str, secret: &str, token: Option<&str>| {
            AwsKeys::new(&Secret::new(id), &Secret::new(secret), token.map(Secret::new).as_ref()).map(drop)
        };
        assert_eq!(of("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None), Ok(()));
        assert_eq!(of("ASIAEXAMPLE", "s", Some("a/b+c==")), Ok(()));
        for (id, secret, token, member) in [
            ("AKID EXAMPLE", "s", None, Member::AccessKey),
            ("", "s", None, Member::AccessKey),
            ("AKID/x", "s", None, Member::AccessKey),
            ("AKIDEXAMPLE", "a\nb", None, Member::SecretKey),
            ("AKIDEXAMPLE", "", None, Member::SecretKey),
            ("AKIDEXAMPLE", "s", Some("a b"), Member::SessionToken),
        ] {
            assert_eq!(of(id, secret, token).unwrap_err().0, member);
        }
        let keys = AwsKeys::new(&Secret::new("AKIDEXAMPLE"), &Secret::new("topsecret"), None).unwrap();
        assert!(!format!("{keys:?}").contains("topsecret"));
    }

    #[test]
    fn prefixes() {
        let profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile";
        assert_eq!(arn(&Secret::new(format!("{profile}/"))).as_deref(), Ok(profile));
        assert_eq!((domain("cn-north-1"), domain("us-gov-west-1")), ("amazonaws.com.cn", "amazonaws.com"));
    }
}
