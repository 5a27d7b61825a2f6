//! One call to an issuer of tokens: sent, read within bounds, told apart by status.
//!
//! Follows no redirect and shows nothing of an answer but a code of plain letters. Speaks http only to
//! this machine and to its metadata service.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::cell::Fetched;
use super::{NoPass, Pass, World};
use crate::chunks::Chunks;
use crate::id::TransportId;
use crate::limits::{
    IDENTITY_ANSWER_BYTES_MAX, IDENTITY_ANSWER_TIMEOUT, IDENTITY_CONNECT_TIMEOUT, METADATA_CONNECT_TIMEOUT,
    TOKEN_FETCHED_BYTES_MAX,
};
use crate::provider::BaseUrl;
use crate::secret::Secret;
use crate::snapshot::{IssuerWay, Reach, Timeouts, Transport, Wire};
use crate::upstream::{Upstream, UpstreamBody};

/// Kept between two calls only as long as a flight of several takes.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const TRANSPORT_DOMAIN: &str = "keyway 2026 identity transport v1";
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Of an issuer's code: it goes into the log.
const CODE_CHARS_MAX: usize = 64;

/// Where a call goes, and over what trust.
#[derive(Clone, Debug)]
pub struct Issuer {
    base: BaseUrl,
    metadata: bool,
}

impl Issuer {
    /// An issuer on the network: over TLS, or on this machine.
    pub fn public(url: &str) -> Result<Self, NoPass> {
        let base = parse(url)?;
        if base.scheme != Scheme::HTTPS && !is_loopback(&base.host) {
            return Err(NoPass::Unusable("the address of the issuer of tokens is neither https nor on this machine"));
        }
        Ok(Self { base, metadata: false })
    }

    /// The machine's own metadata service, which speaks http on a link-local address.
    pub fn metadata(url: &str) -> Result<Self, NoPass> {
        Ok(Self { base: parse(url)?, metadata: true })
    }

    pub fn host(&self) -> &str {
        &self.base.host
    }

    /// As in `Host`.
    pub fn authority(&self) -> &str {
        self.base.authority.as_str()
    }

    /// `path` below the issuer's own; with its query.
    pub fn path_and_query(&self, path: &str) -> Result<PathAndQuery, NoPass> {
        let text = format!("{}{path}", self.base.base_path);
        // A request line has a path, also where nobody wrote one.
        let text = if text.is_empty() || text.starts_with('?') { format!("/{text}") } else { text };
        PathAndQuery::try_from(text).map_err(|_| NoPass::Unusable("the address of the issuer of tokens is none"))
    }

    /// `way` does not hold for the machine's own services: they are nobody's but this machine's.
    fn transport(&self, way: &IssuerWay) -> Transport {
        let (proxy, ca_pem) = match self.metadata {
            true => (None, None),
            false => (way.through.towards(&self.base), way.ca_pem.clone()),
        };
        let BaseUrl { scheme, authority, host, port, .. } = self.base.clone();
        let mut hasher = blake3::Hasher::new_derive_key(TRANSPORT_DOMAIN);
        hasher
            .update(&[u8::from(self.metadata), u8::from(proxy.is_some())])
            .update(&if self.metadata { 0 } else { way.id }.to_le_bytes())
            .update(scheme.as_str().as_bytes())
            .update(authority.as_str().as_bytes());
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        let reach = if self.metadata { Reach::Metadata } else { Reach::Anywhere };
        Transport {
            id: TransportId(u64::from_le_bytes(number)),
            scheme,
            authority,
            host,
            port,
            ca_pem,
            skip_verify: false,
            keep_alive: KEEP_ALIVE,
            in_process: false,
            wire: Wire { reach, proxy, ..Wire::default() },
        }
    }

    fn timeouts(&self) -> Timeouts {
        let connect = if self.metadata { METADATA_CONNECT_TIMEOUT } else { IDENTITY_CONNECT_TIMEOUT };
        Timeouts { connect, first_byte: IDENTITY_ANSWER_TIMEOUT, idle_gap: IDENTITY_ANSWER_TIMEOUT }
    }
}

fn parse(url: &str) -> Result<BaseUrl, NoPass> {
    BaseUrl::parse(url, "").map_err(|_| NoPass::Unusable("the address of the issuer of tokens is none"))
}

pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What an issuer answered.
pub struct Told {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The way to all issuers of one flight.
pub struct Exchange {
    upstream: Upstream,
    pub world: Arc<dyn World>,
    way: Arc<IssuerWay>,
}

impl Exchange {
    pub fn new(upstream: Upstream, world: Arc<dyn World>, way: Arc<IssuerWay>) -> Self {
        Self { upstream, world, way }
    }

    /// `headers` besides those that every call has.
    pub async fn call(
        &self,
        issuer: &Issuer,
        method: Method,
        path: &PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Told, NoPass> {
        let body = UpstreamBody::held(Chunks::from(body));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(path.clone());
        *request.headers_mut() = headers;
        let head = request.headers_mut();
        head.entry(ACCEPT).or_insert(JSON);
        head.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("keyway/", env!("CARGO_PKG_VERSION"))));
        let sent = self.upstream.send(&issuer.transport(&self.way), &issuer.timeouts(), request).await;
        let answer = sent.map_err(|_| NoPass::Unreachable)?;
        let body = Limited::new(answer.body, IDENTITY_ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| NoPass::Unreachable)?.to_bytes();
        Ok(Told { status: answer.parts.status, headers: answer.parts.headers, body })
    }

    pub async fn get(&self, issuer: &Issuer, path: &str, headers: HeaderMap) -> Result<Told, NoPass> {
        self.call(issuer, Method::GET, &issuer.path_and_query(path)?, headers, Bytes::new()).await
    }

    pub async fn post_form(&self, issuer: &Issuer, path: &str, fields: &[(&str, &str)]) -> Result<Told, NoPass> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, FORM)]);
        self.call(issuer, Method::POST, &issuer.path_and_query(path)?, headers, form(fields)).await
    }

    /// A variable as plain text, for what is no secret.
    pub fn env(&self, name: &str) -> Option<Secret> {
        self.world.env(name)
    }
}

/// Fields as a form has them.
pub fn form(fields: &[(&str, &str)]) -> Bytes {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into()
}

/// One header of a call.
pub fn header(name: &'static str, value: &str) -> Result<HeaderMap, NoPass> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| NoPass::Unusable("a token of this machine holds characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(HeaderName::from_static(name), value)]))
}

impl Told {
    /// When it was told, by the issuer's clock: dates in the body are of that one.
    pub fn time(&self, wall: SystemTime) -> SystemTime {
        let date = self.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        date.unwrap_or(wall)
    }

    /// The body of a good answer; else whose fault it is.
    pub fn json(&self) -> Result<Value, NoPass> {
        let value: Option<Value> = serde_json::from_slice(&self.body).ok();
        if self.status.is_success() {
            return value.ok_or(NoPass::Unexpected);
        }
        let error = value.as_ref().and_then(|value| value.get("error")?.as_str());
        Err(self.fault(error.unwrap_or_default()))
    }

    /// What an answer that is no success means. A redirect is not followed.
    pub fn fault(&self, code: &str) -> NoPass {
        match self.status.as_u16() {
            408 | 425 | 429 | 500.. => NoPass::Unreachable,
            400..500 => NoPass::Refused(plain(code)),
            _ => NoPass::Unexpected,
        }
    }

    /// `access_token` with its life in `expires_in`, as OAuth has it; some write the number as text.
    pub fn bearer(&self) -> Result<Fetched, NoPass> {
        let value = self.json()?;
        let token = value.get("access_token").and_then(Value::as_str).ok_or(NoPass::Unexpected)?;
        let life = value.get("expires_in").and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
        let life = Duration::from_secs(life.ok_or(NoPass::Unexpected)?);
        Ok(Fetched { pass: bearer(token)?, life })
    }
}

fn bearer(token: &str) -> Result<Pass, NoPass> {
    let clean = token.bytes().all(|b| b.is_ascii_graphic());
    let bounded = (1..=TOKEN_FETCHED_BYTES_MAX).contains(&token.len());
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.ok().filter(|_| clean && bounded).ok_or(NoPass::Unexpected)?;
    value.set_sensitive(true);
    Ok(Pass::Bearer(value))
}

/// A code that may be shown; what is none is left out.
pub fn plain(code: &str) -> Box<str> {
    let fits = code.len() <= CODE_CHARS_MAX && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fits { code.into() } else { "".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &'static str) -> Told {
        Told {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn tokens() {
        for body in [
            r#"{"access_token":"abc","expires_in":3599,"token_type":"Bearer"}"#,
            r#"{"access_token":"abc","expires_in":"3599"}"#,
        ] {
            let Fetched { pass, life } = told(200, body).bearer().unwrap();
            let Pass::Bearer(value) = pass else { panic!("a bearer") };
            assert_eq!((value.to_str().unwrap(), life.as_secs()), ("Bearer abc", 3599));
            assert!(value.is_sensitive());
        }
        for (status, body, why) in [
            (200, r#"{"access_token":"a b","expires_in":1}"#, NoPass::Unexpected),
            (200, r#"{"access_token":"","expires_in":1}"#, NoPass::Unexpected),
            (200, r#"{"access_token":"a\n","expires_in":1}"#, NoPass::Unexpected),
            (200, r#"{"access_token":"abc"}"#, NoPass::Unexpected),
            (200, r#"{"access_token":"abc","expires_in":-1}"#, NoPass::Unexpected),
            (200, "<html>", NoPass::Unexpected),
            (302, "", NoPass::Unexpected),
            (400, r#"{"error":"invalid_grant"}"#, NoPass::Refused("invalid_grant".into())),
            (
                401,
                r#"{"error":"invalid_client","error_description":"secret xyz"}"#,
                NoPass::Refused("invalid_client".into()),
            ),
            (400, r#"{"error":"quotes: the secret"}"#, NoPass::Refused("".into())),
            (403, "no", NoPass::Refused("".into())),
            (429, "{}", NoPass::Unreachable),
            (500, "{}", NoPass::Unreachable),
        ] {
            assert_eq!(told(status, body).bearer().map(drop).unwrap_err(), why, "{status} {body}");
        }
    }

    #[test]
    fn issuers() {
        for (url, public) in [
            ("https://login.microsoftonline.com", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://login.microsoftonline.com", false),
            ("http://169.254.169.254", false),
            ("ftp://h", false),
            ("https://u@h", false),
        ] {
            assert_eq!(Issuer::public(url).is_ok(), public, "{url}");
        }
        let way = IssuerWay { id: 1, ca_pem: Some("pem".into()), ..IssuerWay::default() };
        let public = Issuer::public("https://h").unwrap();
        assert_eq!(public.transport(&way).ca_pem.as_deref(), Some("pem"));
        assert_ne!(public.transport(&way).id, public.transport(&IssuerWay::default()).id);
        let own = Issuer::metadata("http://169.254.169.254").unwrap();
        assert_eq!((own.transport(&way).ca_pem, own.transport(&way).wire.proxy), (None, None));
        assert_eq!(own.transport(&way).id, own.transport(&IssuerWay::default()).id);
        assert_eq!(Issuer::metadata("http://169.254.169.254").unwrap().transport(&way).wire.reach, Reach::Metadata);
        assert_ne!(
            Issuer::metadata("http://127.0.0.1").unwrap().transport(&way).id,
            Issuer::public("http://127.0.0.1").unwrap().transport(&way).id
        );
        let issuer = Issuer::public("https://h/below").unwrap();
        assert_eq!(issuer.path_and_query("/a?b=c").unwrap().as_str(), "/below/a?b=c");
        let issuer = Issuer::public("https://h").unwrap();
        assert_eq!(issuer.path_and_query("").unwrap().as_str(), "/");
        assert_eq!(issuer.path_and_query("?a=b").unwrap().as_str(), "/?a=b");
        assert!(issuer.path_and_query("/a b").is_err());
    }
}
