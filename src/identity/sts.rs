//! AWS' security token service: a role for access keys, a role for a web identity.
//!
//! Its regional endpoints, which `AWS_ENDPOINT_URL_STS` can move. Of its XML only the few elements are
//! read that hold keys or a code.

use std::time::{Duration, SystemTime};

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use memchr::memmem;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cell::Fetched;
use super::exchange::{Exchange, Issuer, Told, form};
use super::{NoPass, Pass, are_apart};
use crate::provider::credential::{AwsKeys, aws};
use crate::provider::sigv4::{Line, Scope, body_hash, sign};
use crate::secret::Secret;

const VERSION: (&str, &str) = ("Version", "2011-06-15");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
const XML: HeaderValue = HeaderValue::from_static("text/xml");

/// A role that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    pub arn: &'a str,
    pub session_name: &'a str,
    pub external_id: Option<&'a str>,
}

/// `AssumeRole`, signed with `keys`; once more by the clock of the service where ours is off.
pub async fn assume(exchange: &Exchange, region: &str, keys: &AwsKeys, role: &Role<'_>) -> Result<Fetched, NoPass> {
    let ours = exchange.world.wall();
    let mut told = ask(exchange, region, keys, role, ours).await?;
    let theirs = told.time(ours);
    if !told.status.is_success() && are_apart(theirs, ours) {
        told = ask(exchange, region, keys, role, theirs).await?;
    }
    keys_of(&told, ours)
}

async fn ask(
    exchange: &Exchange,
    region: &str,
    keys: &AwsKeys,
    role: &Role<'_>,
    time: SystemTime,
) -> Result<Told, NoPass> {
    let mut fields =
        vec![("Action", "AssumeRole"), VERSION, ("RoleArn", role.arn), ("RoleSessionName", role.session_name)];
    fields.extend(role.external_id.map(|id| ("ExternalId", id)));
    let (issuer, body) = (issuer(exchange, region)?, form(&fields));
    let path = issuer.path_and_query("")?;
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, FORM), (ACCEPT, XML)]);
    let scope = Scope { region, service: "sts", time };
    let line = Line { method: "POST", authority: issuer.authority(), path_and_query: path.as_str() };
    sign(keys, &scope, &line, &mut headers, body_hash([&body].into_iter())).map_err(|_| NoPass::Unexpected)?;
    exchange.call(&issuer, Method::POST, &path, headers, body).await
}

/// `AssumeRoleWithWebIdentity`: the token is the proof, nothing is signed.
pub async fn assume_with_token(
    exchange: &Exchange,
    region: &str,
    token: &Secret,
    role: &Role<'_>,
) -> Result<Fetched, NoPass> {
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        VERSION,
        ("RoleArn", role.arn),
        ("RoleSessionName", role.session_name),
        ("WebIdentityToken", token.expose().trim()),
    ];
    let issuer = issuer(exchange, region)?;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, FORM), (ACCEPT, XML)]);
    let path = issuer.path_and_query("")?;
    keys_of(&exchange.call(&issuer, Method::POST, &path, headers, form(&fields)).await?, exchange.world.wall())
}

fn issuer(exchange: &Exchange, region: &str) -> Result<Issuer, NoPass> {
    match exchange.env("AWS_ENDPOINT_URL_STS") {
        Some(moved) => Issuer::public(moved.expose()),
        None => Issuer::public(&format!("https://sts.{region}.{}", aws::domain(region))),
    }
}

fn keys_of(told: &Told, wall: SystemTime) -> Result<Fetched, NoPass> {
    if !told.status.is_success() {
        return Err(told.fault(&element(&told.body, "Code").unwrap_or_default()));
    }
    let secret = |name: &str| element(&told.body, name).map(Secret::new).ok_or(NoPass::Unexpected);
    let token = secret("SessionToken")?;
    let keys = AwsKeys::new(&secret("AccessKeyId")?, &secret("SecretAccessKey")?, Some(&token));
    let expiration = element(&told.body, "Expiration").ok_or(NoPass::Unexpected)?;
    Ok(Fetched { pass: Pass::Keys(keys.map_err(|_| NoPass::Unexpected)?), life: until(&expiration, told.time(wall))? })
}

/// How long it is until a date in RFC 3339 form.
pub fn until(date: &str, wall: SystemTime) -> Result<Duration, NoPass> {
    let date = OffsetDateTime::parse(date, &Rfc3339).map_err(|_| NoPass::Unexpected)?;
    // What has ended is as good as nothing, and is fetched again at once.
    Ok(SystemTime::from(date).duration_since(wall).unwrap_or_default())
}

/// Text of the first element of this name. Keys, tokens, dates and codes are plain; an entity in one
/// means that it is something else.
fn element(xml: &[u8], name: &str) -> Option<String> {
    let start = memmem::find(xml, format!("<{name}>").as_bytes())? + name.len() + 2;
    let rest = xml.get(start..)?;
    let text = rest.get(..memmem::find(rest, format!("</{name}>").as_bytes())?)?;
    let text = std::str::from_utf8(text).ok()?.trim();
    (!text.contains(['<', '&'])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;

    fn told(status: u16, body: &'static str) -> Told {
        Told {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn answers() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let good = "<AssumeRoleResponse><AssumeRoleResult><Credentials>\n<AccessKeyId>ASIAX</AccessKeyId>\
                    <SecretAccessKey>s/e+c</SecretAccessKey><SessionToken> tok== </SessionToken>\
                    <Expiration>2026-01-01T01:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let Fetched { pass, life } = keys_of(&told(200, good), wall).unwrap();
        let Pass::Keys(keys) = pass else { panic!("keys") };
        assert_eq!((keys.access_key.expose(), keys.secret_key.expose()), ("ASIAX", "s/e+c"));
        assert_eq!(keys.session_token.unwrap().expose(), "tok==");
        assert_eq!(life.as_secs(), 3600);
        for (status, body, why) in [
            (
                403,
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>secret</Message></Error></ErrorResponse>",
                NoPass::Refused("AccessDenied".into()),
            ),
            (400, "<Code>a&lt;b</Code>", NoPass::Refused("".into())),
            (400, "", NoPass::Refused("".into())),
            (503, "", NoPass::Unreachable),
            (200, "", NoPass::Unexpected),
            (200, "<AccessKeyId>ASIAX</AccessKeyId>", NoPass::Unexpected),
        ] {
            assert_eq!(keys_of(&told(status, body), wall).map(drop).unwrap_err(), why, "{body}");
        }
        assert_eq!(until("2025-01-01T00:00:00Z", wall), Ok(Duration::ZERO));
        assert_eq!(until("soon", wall), Err(NoPass::Unexpected));
    }
}
