//! The last step before a request leaves: the credential that is no ready header. A token is put in,
//! or head and body are signed.
//!
//! Comes last because a signature covers what is sent. Fetches nothing itself: identity/ does, ahead
//! of time. What goes wrong here is the key's affair: the next one is tried.

use std::time::SystemTime;

use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, Request, response};

use super::Proxy;
use crate::error::{FaultClass, GatewayError, Kind, Sent};
use crate::identity::{NoPass, Pass};
use crate::provider::sigv4::{Line, Scope, Unsignable, body_hash, sign};
use crate::provider::{UpstreamAuth, classify};
use crate::snapshot::{Key, Ready};
use crate::upstream::UpstreamBody;

/// Where AWS puts the name of an error.
const ERROR_TYPE: &str = "x-amzn-errortype";

/// Whether the body has to be there before the head can be sent.
pub fn needs_whole_body(ready: &Ready) -> bool {
    matches!(ready.auth, UpstreamAuth::Signed { .. })
}

/// A request as it leaves.
pub struct Identified {
    pub request: Request<UpstreamBody>,
    pub shown: Option<Shown>,
}

/// What of a credential went with a request.
pub struct Shown {
    pass: Pass,
    /// As of when it is signed, if it is.
    at: SystemTime,
}

/// What an upstream that refuses was shown.
pub struct Showing<'a> {
    pub what: Option<&'a Shown>,
    /// It was made anew for this request already.
    pub again: bool,
}

/// Puts the credential onto an assembled request.
pub async fn put(proxy: &Proxy, ready: &Ready, mut request: Request<UpstreamBody>) -> Result<Identified, GatewayError> {
    let Some(credential) = ready.auth.credential() else { return Ok(Identified { request, shown: None }) };
    let clock = proxy.clock;
    let at = proxy.identity.aws_time(clock.wall());
    let pass = proxy.identity.pass(credential, &ready.issuers, || clock.now()).await.map_err(no_pass)?;
    match (&ready.auth, &pass) {
        (UpstreamAuth::Token(_), Pass::Bearer(value)) => {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        (UpstreamAuth::Signed { region, service, .. }, Pass::Keys(keys)) => {
            let hash = match request.body() {
                UpstreamBody::Empty => body_hash([].iter()),
                UpstreamBody::Held { chunks, .. } => body_hash(chunks.iter()),
                UpstreamBody::Flowing { .. } => return Err(unsignable()),
            };
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let scope = Scope { region, service, time: at };
            let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
            let line = Line { method: method.as_str(), authority: ready.transport.authority.as_str(), path_and_query };
            sign(keys, &scope, &line, request.headers_mut(), hash).map_err(|Unsignable| unsignable())?;
        }
        // A source gives one kind of pass.
        (_, Pass::Bearer(_) | Pass::Keys(_)) => return Err(no_pass(NoPass::Unexpected)),
    }
    Ok(Identified { request, shown: Some(Shown { pass, at }) })
}

fn unsignable() -> GatewayError {
    let message = "requests to this upstream are signed over their body, which must come whole, as JSON";
    GatewayError::caller(Kind::Unsupported, "body_not_signable", message)
}

/// No token: judged as if the upstream itself had said what its issuer said.
fn no_pass(why: NoPass) -> GatewayError {
    let error = match &why {
        NoPass::Refused(_) | NoPass::Unusable(_) => GatewayError::upstream(
            Kind::Answer(FaultClass::Credential),
            Sent::Never,
            "upstream_credentials_exhausted",
            "every key that could serve this request was refused by the upstream",
        ),
        NoPass::Unreachable | NoPass::Unexpected | NoPass::Late => GatewayError::upstream(
            Kind::Answer(FaultClass::Server),
            Sent::Never,
            "upstream_token_unavailable",
            "the upstream's issuer of tokens gave none",
        ),
    };
    error.source(why)
}

/// The class of an upstream's error, looked at again with what was shown: AWS names errors in a header
/// and gives a wrong signature and a wrong clock one name. A token that was fetched and is refused may
/// have been withdrawn, so the request is asked again with a new one, as it is with a new signature.
pub fn judged(proxy: &Proxy, key: &Key, class: FaultClass, parts: &response::Parts, shown: &Showing<'_>) -> FaultClass {
    let class = named(&parts.headers).map_or(class, |name| classify(key.row, parts.status.as_u16(), name));
    if !matches!(class, FaultClass::Credential | FaultClass::ClockSkew) {
        return class;
    }
    let ready = key.ready.as_ref().ok().and_then(|ready| Some((ready.auth.credential()?, &ready.issuers)));
    let Some(((credential, way), Shown { pass, at })) = ready.zip(shown.what) else {
        // The key is its own value, and nothing was signed.
        return FaultClass::Credential;
    };
    if class == FaultClass::ClockSkew {
        let theirs = parts.headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        if theirs.is_some_and(|theirs| proxy.identity.learn_skew(theirs, *at, proxy.clock.wall())) {
            return FaultClass::ClockSkew;
        }
    }
    let renewable = proxy.identity.refused(credential, way, pass);
    if renewable && !shown.again { FaultClass::ClockSkew } else { FaultClass::Credential }
}

/// The name of an error in the head. One that names nothing does not hide what the body says.
fn named(headers: &HeaderMap) -> Option<&str> {
    let name = error_name(headers.get(ERROR_TYPE)?.to_str().ok()?);
    (!name.is_empty()).then_some(name)
}

/// `Name` of `namespace#Name:http://…`.
fn error_name(text: &str) -> &str {
    let name = text.split(':').next().unwrap_or(text);
    name.rsplit('#').next().unwrap_or(name).trim()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn names_of_errors() {
        for (text, name) in [
            ("ThrottlingException", "ThrottlingException"),
            ("ValidationException:http://internal.amazon.com/coral/x/", "ValidationException"),
            ("com.amazon.coral.service#AccessDeniedException", "AccessDeniedException"),
            ("", ""),
        ] {
            assert_eq!(error_name(text), name);
            let headers = HeaderMap::from_iter([(HeaderName::from_static(ERROR_TYPE), text.parse().unwrap())]);
            assert_eq!(named(&headers), Some(name).filter(|name| !name.is_empty()));
        }
    }

    #[test]
    fn a_head_that_names_no_error_leaves_the_body_its_say() {
        assert_eq!(named(&HeaderMap::new()), None);
        for text in
            [&b""[..], b" ", b"\t", b":http://internal.amazon.com/coral/x/", b"com.amazon#", b"#", b":", b"\xff"]
        {
            let value = HeaderValue::from_bytes(text).unwrap();
            assert_eq!(named(&HeaderMap::from_iter([(HeaderName::from_static(ERROR_TYPE), value)])), None, "{text:?}");
        }
    }
}
