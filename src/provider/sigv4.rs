//! AWS Signature Version 4 over a head and the hash of a body.
//!
//! The signature itself is `aws-sigv4`'s; here stands what is signed. Only what AWS reads and nobody
//! on the way changes: host, content type, and AWS' own headers. Reads no clock: the time is an
//! argument.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_lc_rs::digest::{Context, SHA256};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_request};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::credential::AwsKeys;

/// What a signature is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub region: &'a str,
    /// `bedrock` for both of its endpoints, `sts`.
    pub service: &'a str,
    pub time: SystemTime,
}

/// The request line and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub method: &'a str,
    /// As in `Host`, port included where it stands there.
    pub authority: &'a str,
    /// As on the wire.
    pub path_and_query: &'a str,
}

/// Nothing was signed: the request is not one that can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsignable;

/// Lower-case hex SHA-256 of a body in pieces.
pub fn body_hash<'a>(pieces: impl Iterator<Item = &'a Bytes>) -> String {
    let mut context = Context::new(&SHA256);
    pieces.for_each(|piece| context.update(piece));
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs; puts `authorization`, `x-amz-date` and the token of temporary keys into `headers`.
pub fn sign(
    keys: &AwsKeys,
    scope: &Scope<'_>,
    line: &Line<'_>,
    headers: &mut HeaderMap,
    body_hash: String,
) -> Result<(), Unsignable> {
    // Whatever stood there was for somebody else.
    for name in ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"] {
        headers.remove(name);
    }
    let token = keys.session_token.as_ref().map(|token| token.expose().to_owned());
    let identity = Credentials::new(keys.access_key.expose(), keys.secret_key.expose(), token, None, "keyway").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| Unsignable)?
        .into();
    let signed = {
        let signed_names = headers.iter().filter(|(name, _)| is_signed(name));
        let texts: Option<Vec<_>> =
            signed_names.map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        // The scheme is not signed.
        let uri = format!("https://{}{}", line.authority, line.path_and_query);
        let body = SignableBody::Precomputed(body_hash);
        let request = SignableRequest::new(line.method, uri, texts.ok_or(Unsignable)?.into_iter(), body)
            .map_err(|_| Unsignable)?;
        sign_request(request, &params).map_err(|_| Unsignable)?
    };
    let (instructions, _) = signed.into_parts();
    for (name, text) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|_| Unsignable)?;
        let mut value = HeaderValue::try_from(text).map_err(|_| Unsignable)?;
        value.set_sensitive(name == AUTHORIZATION || name.as_str() == "x-amz-security-token");
        headers.insert(name, value);
    }
    Ok(())
}

/// Hop by hop headers and those that proxies write are left out; so are the caller's, which mean
/// nothing to AWS.
fn is_signed(name: &HeaderName) -> bool {
    name == CONTENT_TYPE || (name.as_str().starts_with("x-amz") && name.as_str() != "x-amzn-trace-id")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::Secret;

    fn keys(token: Option<&str>) -> AwsKeys {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        AwsKeys::new(&Secret::new("AKIDEXAMPLE"), &secret, token.map(Secret::new).as_ref()).unwrap()
    }

    #[test]
    fn bodies_in_pieces() {
        let whole = body_hash([Bytes::from_static(b"abc")].iter());
        assert_eq!(whole, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(body_hash([Bytes::from_static(b"a"), Bytes::from_static(b"bc")].iter()), whole);
        assert_eq!(body_hash([].iter()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    /// "get-vanilla" of AWS' own test suite.
    #[test]
    fn vector_of_aws() {
        let mut headers = HeaderMap::new();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let scope = Scope { region: "us-east-1", service: "service", time };
        let line = Line { method: "GET", authority: "example.amazonaws.com", path_and_query: "/" };
        sign(&keys(None), &scope, &line, &mut headers, body_hash([].iter())).unwrap();
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(
            headers["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        assert!(headers["authorization"].is_sensitive());
    }

    #[test]
    fn what_is_signed_and_what_gives_way() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer caller"),
            ("x-amz-security-token", "caller"),
            ("x-amz-date", "then"),
            ("user-agent", "x"),
            ("accept-encoding", "identity"),
            ("content-type", "application/json"),
            ("x-amzn-bedrock-trace", "ENABLED"),
            ("x-amzn-trace-id", "t"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let scope = Scope { region: "us-east-1", service: "bedrock", time: SystemTime::UNIX_EPOCH };
        let line = Line { method: "POST", authority: "h:8080", path_and_query: "/model/a%3A0/converse" };
        sign(&keys(Some("tok")), &scope, &line, &mut headers, body_hash([].iter())).unwrap();
        let text = headers["authorization"].to_str().unwrap();
        let names = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amzn-bedrock-trace,";
        assert!(text.contains(names), "{text}");
        assert_eq!(headers["x-amz-security-token"], "tok");
        assert_eq!(headers["x-amz-date"], "19700101T000000Z");
        assert_eq!(headers.get_all("authorization").iter().count(), 1);
    }
}
