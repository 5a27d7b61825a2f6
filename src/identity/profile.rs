//! AWS' profile files: sections of `name = value`.
//!
//! Reads static keys, roles with their source, and web identities. What would run a program
//! (`credential_process`) or needs a log-in (`sso_*`) is refused with its name.

use std::collections::HashMap;

use super::NoPass;
use crate::limits::PROFILE_HOPS_MAX;
use crate::provider::credential::AwsKeys;
use crate::secret::Secret;

/// All sections of both files; what the credentials file says wins.
pub struct Profiles(HashMap<String, HashMap<String, Secret>>);

/// What a profile comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Keys(AwsKeys),
    /// A role, and with which proof.
    Role {
        arn: Secret,
        external_id: Option<Secret>,
        session_name: Option<Secret>,
        by: Box<By>,
    },
}

/// Who assumes a role.
#[derive(Debug, PartialEq, Eq)]
pub enum By {
    Profile(Found),
    WebIdentity {
        file: Secret,
    },
    /// `Environment`, `EcsContainer`, `Ec2InstanceMetadata`.
    Source(Source),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Environment,
    Container,
    Instance,
}

impl Profiles {
    /// `config` names its sections `[profile x]`, `credentials` just `[x]`.
    pub fn parse(config: Option<&Secret>, credentials: Option<&Secret>) -> Self {
        let mut all: HashMap<String, HashMap<String, Secret>> = HashMap::new();
        for (text, prefixed) in [(config, true), (credentials, false)] {
            let mut section: Option<String> = None;
            for line in text.map(Secret::expose).unwrap_or_default().lines() {
                // Nested settings are indented, and none of them is of use here.
                if line.starts_with([' ', '\t', '#', ';']) {
                    continue;
                }
                if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                    section = section_name(name.trim(), prefixed);
                } else if let (Some(section), Some((name, value))) = (&section, line.split_once('=')) {
                    let value = value.split(" #").next().unwrap_or(value).trim();
                    let members = all.entry(section.clone()).or_default();
                    members.insert(name.trim().to_ascii_lowercase(), Secret::new(value));
                }
            }
        }
        Self(all)
    }

    /// `None`: there is no such profile, or nothing in it that is a credential.
    pub fn find(&self, name: &str) -> Result<Option<Found>, NoPass> {
        self.at(name, 0)
    }

    fn at(&self, name: &str, hops: usize) -> Result<Option<Found>, NoPass> {
        let Some(profile) = self.0.get(name) else { return Ok(None) };
        if hops > PROFILE_HOPS_MAX {
            return Err(NoPass::Unusable("the AWS profile leads from one source_profile to the next without end"));
        }
        let member = |name: &str| profile.get(name).filter(|value| !value.is_empty());
        if let Some(arn) = member("role_arn")
            && !(hops > 0 && member("aws_access_key_id").is_some())
        {
            let by = self.proof(name, profile, hops)?;
            let (external_id, session_name) = (member("external_id").cloned(), member("role_session_name").cloned());
            return Ok(Some(Found::Role { arn: arn.clone(), external_id, session_name, by: Box::new(by) }));
        }
        if let (Some(id), Some(secret)) = (member("aws_access_key_id"), member("aws_secret_access_key")) {
            let keys = AwsKeys::new(id, secret, member("aws_session_token"));
            return keys
                .map(|keys| Some(Found::Keys(keys)))
                .map_err(|_| NoPass::Unusable("the AWS profile holds no keys"));
        }
        if member("credential_process").is_some() {
            return Err(NoPass::Unusable("the AWS profile names a credential_process: no program is started"));
        }
        if profile.keys().any(|name| name.starts_with("sso_")) {
            return Err(NoPass::Unusable("the AWS profile needs a log-in (sso), which is not supported"));
        }
        Ok(None)
    }

    fn proof(&self, name: &str, profile: &HashMap<String, Secret>, hops: usize) -> Result<By, NoPass> {
        let member = |name: &str| profile.get(name).filter(|value| !value.is_empty());
        if let Some(file) = member("web_identity_token_file") {
            return Ok(By::WebIdentity { file: file.clone() });
        }
        if let Some(source) = member("credential_source") {
            return match source.expose() {
                "Environment" => Ok(By::Source(Source::Environment)),
                "EcsContainer" => Ok(By::Source(Source::Container)),
                "Ec2InstanceMetadata" => Ok(By::Source(Source::Instance)),
                _ => Err(NoPass::Unusable("the AWS profile names a credential_source that does not exist")),
            };
        }
        let Some(source) = member("source_profile") else {
            return Err(NoPass::Unusable("the AWS profile names a role and nobody who assumes it"));
        };
        // A profile may be its own source: the role is assumed with its keys.
        let hops = if source.expose() == name { hops.max(1) } else { hops };
        let found = self.at(source.expose(), hops + 1)?;
        found.map(By::Profile).ok_or(NoPass::Unusable("the source_profile of the AWS profile holds no keys"))
    }
}

fn section_name(name: &str, prefixed: bool) -> Option<String> {
    if !prefixed || name == "default" {
        return Some(name.to_owned());
    }
    name.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])).map(|rest| rest.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
# comment
[default]
region = us-east-1
[profile role]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = base
external_id = x-1
role_session_name = me
[profile own]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = own
aws_access_key_id = AKIDOWN
aws_secret_access_key = own
[profile web]
role_arn = arn:aws:iam::123456789012:role/w
web_identity_token_file = /var/token
[profile instance]
role_arn = arn:aws:iam::123456789012:role/i
credential_source = Ec2InstanceMetadata
[profile process]
credential_process = /bin/false
[profile sso]
sso_session = corp
[profile loop1]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = loop2
[profile loop2]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = loop1
[profile orphan]
role_arn = arn:aws:iam::123456789012:role/r
[profile empty]
region = x
s3 =
  aws_access_key_id = nested
[sso-session corp]
aws_access_key_id = AKIDNOT
";
    const CREDENTIALS: &str = "\
[default]
aws_access_key_id=AKIDDEFAULT
aws_secret_access_key = a/b+c=d  # not part of it
[base]
aws_access_key_id = AKIDBASE
aws_secret_access_key = base
aws_session_token = tok
";

    fn profiles() -> Profiles {
        Profiles::parse(Some(&Secret::new(CONFIG)), Some(&Secret::new(CREDENTIALS)))
    }

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Found {
        Found::Keys(AwsKeys::new(&Secret::new(id), &Secret::new(secret), token.map(Secret::new).as_ref()).unwrap())
    }

    #[test]
    fn what_profiles_come_to() {
        let profiles = profiles();
        assert!(profiles.find("default").unwrap() == Some(keys("AKIDDEFAULT", "a/b+c=d", None)));
        assert!(profiles.find("base").unwrap() == Some(keys("AKIDBASE", "base", Some("tok"))));
        let Some(Found::Role { arn, external_id, session_name, by }) = profiles.find("role").unwrap() else {
            panic!("a role");
        };
        assert_eq!(arn.expose(), "arn:aws:iam::123456789012:role/r");
        assert_eq!((external_id, session_name), (Some(Secret::new("x-1")), Some(Secret::new("me"))));
        assert!(*by == By::Profile(keys("AKIDBASE", "base", Some("tok"))));
        for (name, expected) in [
            ("own", By::Profile(keys("AKIDOWN", "own", None))),
            ("web", By::WebIdentity { file: Secret::new("/var/token") }),
            ("instance", By::Source(Source::Instance)),
        ] {
            let Some(Found::Role { by, .. }) = profiles.find(name).unwrap() else { panic!("{name}") };
            assert!(*by == expected, "{name}");
        }
        for name in ["empty", "absent", "corp"] {
            assert!(profiles.find(name).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (name, word) in
            [("process", "credential_process"), ("sso", "log-in"), ("loop1", "without end"), ("orphan", "nobody")]
        {
            let Err(NoPass::Unusable(why)) = profiles().find(name) else { panic!("{name}") };
            assert!(why.contains(word), "{name}: {why}");
        }
    }
}
