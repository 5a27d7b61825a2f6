//! Keys of AWS: those of the config, else what the machine has — environment, profile, web identity,
//! container, instance, in this order — and the role that is assumed with them.
//!
//! Addresses can be moved by the variables of AWS' own SDKs (`AWS_CONTAINER_CREDENTIALS_FULL_URI`,
//! `AWS_EC2_METADATA_SERVICE_ENDPOINT`, `AWS_ENDPOINT_URL_STS`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Method;
use serde_json::Value;

use super::cell::Fetched;
use super::exchange::{Exchange, Issuer, Told, header, is_loopback};
use super::profile::{By, Found, Profiles, Source};
use super::sts::{self, Role};
use super::{NoPass, Pass};
use crate::provider::credential::{Aws, AwsKeys, AwsSource, aws};
use crate::secret::Secret;

const CONTAINER: &str = "http://169.254.170.2";
/// Addresses of the container services of ECS and EKS, besides this machine's.
const CONTAINER_HOSTS: [&str; 4] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23", "fd00:ec2::2"];
const INSTANCE: &str = "http://169.254.169.254";
const INSTANCE_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const INSTANCE_TOKEN_SECONDS: &str = "21600";
/// Keys that say nothing of an end: looked up anew so often, since the file or environment may change.
const STATIC_LIFE: Duration = Duration::from_secs(15 * 60);

pub async fn fetch(exchange: &Exchange, aws: &Aws) -> Result<Fetched, NoPass> {
    let found = match &aws.keys {
        AwsSource::Static(keys) => fixed(keys.clone()),
        AwsSource::Ambient => ambient(exchange, &aws.region).await?,
    };
    let Some(role) = &aws.role else { return Ok(found) };
    let Pass::Keys(keys) = &found.pass else { return Err(NoPass::Unexpected) };
    let role = Role { arn: &role.arn, session_name: &role.session_name, external_id: role.external_id.as_deref() };
    sts::assume(exchange, &aws.region, keys, &role).await
}

fn fixed(keys: AwsKeys) -> Fetched {
    Fetched { pass: Pass::Keys(keys), life: STATIC_LIFE }
}

async fn ambient(exchange: &Exchange, region: &str) -> Result<Fetched, NoPass> {
    if let Some(keys) = of_environment(exchange)? {
        return Ok(fixed(keys));
    }
    if let Some(found) = of_profile(exchange)? {
        return resolved(exchange, region, found).await;
    }
    if let (Some(file), Some(arn)) = (exchange.env("AWS_WEB_IDENTITY_TOKEN_FILE"), exchange.env("AWS_ROLE_ARN")) {
        let session = exchange.env("AWS_ROLE_SESSION_NAME");
        return of_web_identity(exchange, region, &file, &arn, session.as_ref()).await;
    }
    if let Some(found) = of_container(exchange).await? {
        return Ok(found);
    }
    of_instance(exchange).await
}

fn of_environment(exchange: &Exchange) -> Result<Option<AwsKeys>, NoPass> {
    let pair = exchange.env("AWS_ACCESS_KEY_ID").zip(exchange.env("AWS_SECRET_ACCESS_KEY"));
    let Some((id, secret)) = pair else { return Ok(None) };
    let keys = AwsKeys::new(&id, &secret, exchange.env("AWS_SESSION_TOKEN").as_ref());
    keys.map(Some).map_err(|_| NoPass::Unusable("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are no keys"))
}

fn of_profile(exchange: &Exchange) -> Result<Option<Found>, NoPass> {
    let file = |variable: &str, usual: &str| {
        let path = match exchange.env(variable) {
            Some(path) => PathBuf::from(path.expose()),
            None => Path::new(exchange.env("HOME")?.expose()).join(usual),
        };
        exchange.world.file(&path)
    };
    let config = file("AWS_CONFIG_FILE", ".aws/config");
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    let named = exchange.env("AWS_PROFILE");
    let name = named.as_ref().map_or("default", Secret::expose);
    match Profiles::parse(config.as_ref(), credentials.as_ref()).find(name)? {
        None if named.is_some() => Err(NoPass::Unusable("there is no AWS profile of the name in AWS_PROFILE")),
        found => Ok(found),
    }
}

/// A profile that leads to another is followed to the one with keys.
async fn resolved(exchange: &Exchange, region: &str, found: Found) -> Result<Fetched, NoPass> {
    // From the outermost role to whoever has keys; a profile has few of them.
    let mut roles = Vec::new();
    let mut next = found;
    let mut keys = loop {
        match next {
            Found::Keys(keys) => break fixed(keys),
            Found::Role { arn, external_id, session_name, by } => match *by {
                By::Profile(source) => {
                    roles.push((arn, external_id, session_name));
                    next = source;
                }
                By::WebIdentity { file } => {
                    break of_web_identity(exchange, region, &file, &arn, session_name.as_ref()).await?;
                }
                By::Source(source) => {
                    roles.push((arn, external_id, session_name));
                    break of_source(exchange, source).await?;
                }
            },
        }
    };
    for (arn, external_id, session_name) in roles.iter().rev() {
        let Pass::Keys(of) = &keys.pass else { return Err(NoPass::Unexpected) };
        keys = sts::assume(exchange, region, of, &role(arn, session_name.as_ref(), external_id.as_ref())?).await?;
    }
    Ok(keys)
}

async fn of_source(exchange: &Exchange, source: Source) -> Result<Fetched, NoPass> {
    match source {
        Source::Environment => {
            let keys = of_environment(exchange)?;
            keys.map(fixed).ok_or(NoPass::Unusable("the AWS profile asks for keys in the environment: there are none"))
        }
        Source::Container => {
            let found = of_container(exchange).await?;
            found.ok_or(NoPass::Unusable("the AWS profile asks for the role of a container: this is none"))
        }
        Source::Instance => of_instance(exchange).await,
    }
}

fn role<'a>(
    arn: &'a Secret,
    session_name: Option<&'a Secret>,
    external_id: Option<&'a Secret>,
) -> Result<Role<'a>, NoPass> {
    let wrong = |_| NoPass::Unusable("the role of this machine's AWS profile or environment is none");
    aws::role_arn(arn).map_err(wrong)?;
    session_name.map(aws::session_name).transpose().map_err(wrong)?;
    external_id.map(aws::external_id).transpose().map_err(wrong)?;
    let session_name = session_name.map_or(aws::SESSION_NAME, Secret::expose);
    Ok(Role { arn: arn.expose(), session_name, external_id: external_id.map(Secret::expose) })
}

async fn of_web_identity(
    exchange: &Exchange,
    region: &str,
    file: &Secret,
    arn: &Secret,
    session_name: Option<&Secret>,
) -> Result<Fetched, NoPass> {
    // Read each time: the cluster puts a new one there long before the old one ends.
    let token = exchange.world.file(Path::new(file.expose()));
    let token = token.ok_or(NoPass::Unusable("the file of the web identity token cannot be read"))?;
    sts::assume_with_token(exchange, region, &token, &role(arn, session_name, None)?).await
}

/// ECS and EKS. `None`: this is no container of theirs.
async fn of_container(exchange: &Exchange) -> Result<Option<Fetched>, NoPass> {
    let relative = exchange.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = exchange.env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let url = match (&relative, &full) {
        (Some(path), _) => format!("{CONTAINER}{}", path.expose()),
        (None, Some(url)) => url.expose().to_owned(),
        (None, None) => return Ok(None),
    };
    let (base, query) = url.split_once('?').unwrap_or((&url, ""));
    let issuer = Issuer::metadata(base)?;
    let known = is_loopback(issuer.host()) || CONTAINER_HOSTS.contains(&issuer.host()) || base.starts_with("https://");
    if !known {
        return Err(NoPass::Unusable("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor a container service's"));
    }
    let token = match exchange.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(
            exchange
                .world
                .file(Path::new(file.expose()))
                .ok_or(NoPass::Unusable("the file of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read"))?,
        ),
        None => exchange.env("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let headers = match &token {
        Some(token) => header("authorization", token.expose().trim())?,
        None => HeaderMap::new(),
    };
    let path = if query.is_empty() { String::new() } else { format!("?{query}") };
    keys_of(exchange, &exchange.get(&issuer, &path, headers).await?).map(Some)
}

/// The instance's role, by IMDSv2.
async fn of_instance(exchange: &Exchange) -> Result<Fetched, NoPass> {
    const NONE: NoPass = NoPass::Unusable(
        "no credential: neither access_key and secret_key, nor environment, profile, web identity, container or instance role",
    );
    if exchange.env("AWS_EC2_METADATA_DISABLED").is_some_and(|it| it.expose().eq_ignore_ascii_case("true")) {
        return Err(NONE);
    }
    let moved = exchange.env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let issuer = Issuer::metadata(moved.as_ref().map_or(INSTANCE, Secret::expose))?;
    let ttl = header("x-aws-ec2-metadata-token-ttl-seconds", INSTANCE_TOKEN_SECONDS)?;
    let path = issuer.path_and_query("/latest/api/token")?;
    let told = match exchange.call(&issuer, Method::PUT, &path, ttl, Bytes::new()).await {
        // No such service: this is no machine of AWS'.
        Err(NoPass::Unreachable) => return Err(NONE),
        told => told?,
    };
    let token = text(&told)?;
    let with_token = || header("x-aws-ec2-metadata-token", &token);
    let role = text(&exchange.get(&issuer, INSTANCE_PATH, with_token()?).await?)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    let role = role.lines().next().filter(|role| !role.is_empty() && role.bytes().all(plain)).ok_or(NONE)?;
    keys_of(exchange, &exchange.get(&issuer, &format!("{INSTANCE_PATH}{role}"), with_token()?).await?)
}

fn text(told: &Told) -> Result<String, NoPass> {
    if !told.status.is_success() {
        return Err(told.fault(""));
    }
    std::str::from_utf8(&told.body).map(|text| text.trim().to_owned()).map_err(|_| NoPass::Unexpected)
}

/// The JSON that container and instance services give.
fn keys_of(exchange: &Exchange, told: &Told) -> Result<Fetched, NoPass> {
    let value = told.json()?;
    let secret = |name: &str| value.get(name).and_then(Value::as_str).map(Secret::new).ok_or(NoPass::Unexpected);
    let token = secret("Token")?;
    let keys = AwsKeys::new(&secret("AccessKeyId")?, &secret("SecretAccessKey")?, Some(&token));
    let expiration = value.get("Expiration").and_then(Value::as_str).ok_or(NoPass::Unexpected)?;
    let life = sts::until(expiration, told.time(exchange.world.wall()))?;
    Ok(Fetched { pass: Pass::Keys(keys.map_err(|_| NoPass::Unexpected)?), life })
}
