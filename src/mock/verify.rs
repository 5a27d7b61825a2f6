//! What the mock checks of a request to one of the large clouds, and how each says no.
//!
//! Recomputes instead of believing: the signature from the raw request, by code of its own. Every
//! credential that the mock takes is told by its public part, so that nothing has to be agreed
//! beforehand: the secret of `AKIDX` is `secret-of-AKIDX`.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use http::HeaderName;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::call::Call;
use super::reply::Reply;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What AWS leaves between its clock and the caller's.
const SKEW_MAX: Duration = Duration::from_secs(300);
const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Headers by which one may identify oneself.
const CREDENTIALS: [HeaderName; 5] = [
    AUTHORIZATION,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("xi-api-key"),
];

/// The answer to a request that a cloud would not take; `None` where it is none of a cloud's or good.
pub fn refusal(call: &Call, now: SystemTime) -> Option<Reply> {
    let path = call.path();
    let authorization = call.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if authorization.starts_with(ALGORITHM) {
        return aws(call, authorization, now).err().map(|(name, message)| aws_error(403, name, message));
    }
    if path.starts_with("/openai/deployments/") {
        return azure(call, authorization);
    }
    if path.starts_with("/v1/projects/") || path.starts_with("/v1beta1/projects/") {
        return google(call, authorization);
    }
    None
}

/// More than one credential, or one in the query: somebody else's came along.
fn lone_credential(call: &Call) -> bool {
    let count: usize = CREDENTIALS.iter().map(|name| call.headers.get_all(name).iter().count()).sum();
    let query = call.uri.query().unwrap_or_default();
    count == 1 && !query.split('&').any(|pair| pair.starts_with("key="))
}

fn azure(call: &Call, authorization: &str) -> Option<Reply> {
    let mut query = form_urlencoded::parse(call.uri.query().unwrap_or_default().as_bytes());
    let version = query.find(|(name, _)| name == "api-version").map(|(_, value)| value);
    if version.is_none_or(|version| version.is_empty()) {
        let body = json!({ "error": { "code": "404", "message": "Resource not found" } });
        return Some(Reply::json(&body).status(404));
    }
    let token = authorization.strip_prefix("Bearer ").is_some_and(|token| token.starts_with(super::issuer::ENTRA));
    let key = call.headers.get("api-key").is_some_and(|key| !key.is_empty());
    if lone_credential(call) && (token || key) {
        return None;
    }
    let message = "Access denied due to invalid subscription key or wrong API endpoint.";
    Some(Reply::json(&json!({ "error": { "code": "401", "message": message } })).status(401))
}

fn google(call: &Call, authorization: &str) -> Option<Reply> {
    let token = authorization.strip_prefix("Bearer ").is_some_and(|token| token.starts_with(super::issuer::GOOGLE));
    (!token || !lone_credential(call)).then(|| {
        let message = "Request had invalid authentication credentials.";
        let error = json!({ "error": { "code": 401, "message": message, "status": "UNAUTHENTICATED" } });
        Reply::json(&error).status(401)
    })
}

/// In the manner of AWS' JSON services.
pub fn aws_error(status: u16, name: &'static str, message: &str) -> Reply {
    let reply = Reply::json(&json!({ "message": message })).status(status);
    reply.header(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(name))
}

/// Who signed, by what he says.
pub fn access_key(call: &Call) -> Option<String> {
    let authorization = call.headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix(ALGORITHM)?;
    let (_, rest) = authorization.split_once("Credential=")?;
    rest.split('/').next().map(str::to_owned)
}

type Wrong = (&'static str, &'static str);

/// Signature Version 4, from what arrived.
pub fn aws(call: &Call, authorization: &str, now: SystemTime) -> Result<String, Wrong> {
    const INCOMPLETE: Wrong = ("IncompleteSignatureException", "The authorization header is not one.");
    const MISMATCH: Wrong =
        ("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.");
    let member = |name: &str| {
        let fields = authorization.strip_prefix(ALGORITHM)?.split(',');
        fields.map(str::trim).find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let credential = member("Credential").ok_or(INCOMPLETE)?;
    let names = member("SignedHeaders").ok_or(INCOMPLETE)?;
    let signature = member("Signature").ok_or(INCOMPLETE)?;
    let [id, day, region, service, "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..] else {
        return Err(INCOMPLETE);
    };
    let text = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    let date = text("x-amz-date").ok_or(INCOMPLETE)?;
    let signed = PrimitiveDateTime::parse(date, DATE).map_err(|_| INCOMPLETE)?.assume_utc();
    let off = (OffsetDateTime::from(now) - signed).unsigned_abs();
    if off > SKEW_MAX {
        return Err(("InvalidSignatureException", "Signature expired: it is not of this time."));
    }
    let listed: Vec<&str> = names.split(';').collect();
    let mut must = vec!["host", "x-amz-date"];
    must.extend(call.headers.contains_key("content-type").then_some("content-type"));
    if id.starts_with("ASIA") {
        must.push("x-amz-security-token");
        if text("x-amz-security-token") != Some(format!("token-of-{id}").as_str()) {
            return Err(("UnrecognizedClientException", "The security token included in the request is invalid."));
        }
    }
    if !date.starts_with(day) || must.iter().any(|name| !listed.contains(name)) || !listed.is_sorted() {
        return Err(MISMATCH);
    }
    let canonical = canonical(call, &listed).ok_or(INCOMPLETE)?;
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(digest(&SHA256, canonical.as_bytes()).as_ref()));
    let steps = [day, region, service, "aws4_request", &to_sign];
    let first = format!("AWS4secret-of-{id}").into_bytes();
    let expected = steps.iter().fold(first, |key, step| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::sign(&key, step.as_bytes()).as_ref().to_vec()
    });
    if hex(&expected) == signature { Ok(id.to_owned()) } else { Err(MISMATCH) }
}

/// The canonical request: every segment of the path as it is on the wire, encoded once more.
fn canonical(call: &Call, names: &[&str]) -> Option<String> {
    let path: Vec<String> =
        call.path().split('/').map(|segment| utf8_percent_encode(segment, UNRESERVED).to_string()).collect();
    let mut query: Vec<String> = Vec::new();
    for pair in call.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let again = |text: &str| {
            let plain = percent_decode_str(text).decode_utf8_lossy().into_owned();
            utf8_percent_encode(&plain, UNRESERVED).to_string()
        };
        query.push(format!("{}={}", again(name), again(value)));
    }
    query.sort();
    let mut text = format!("{}\n{}\n{}\n", call.method, path.join("/"), query.join("&"));
    for name in names {
        let values: Option<Vec<&str>> = if *name == HOST.as_str() {
            call.headers.get(HOST).map(|host| host.to_str().ok()).into_iter().collect()
        } else {
            call.headers.get_all(*name).iter().map(|value| value.to_str().ok()).collect()
        };
        let values = values.filter(|values| !values.is_empty())?;
        text.push_str(&format!("{name}:{}\n", values.join(",").split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    text.push_str(&format!("\n{}\n{}", names.join(";"), hex(digest(&SHA256, &call.body).as_ref())));
    Some(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;

    use super::*;
    use crate::provider::credential::AwsKeys;
    use crate::provider::sigv4::{Line, Scope, body_hash, sign};
    use crate::secret::Secret;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    async fn call(id: &str, change: impl FnOnce(&mut Request<Full<Bytes>>)) -> Call {
        let token = id.starts_with("ASIA").then(|| Secret::new(format!("token-of-{id}")));
        let keys = AwsKeys::new(&Secret::new(id), &Secret::new(format!("secret-of-{id}")), token.as_ref()).unwrap();
        let body = Bytes::from_static(b"{\"a\":1}");
        let path = "/model/arn%3Aaws%3Ax%2Fy/converse?b=%20&a";
        let mut request = Request::post(path).header("content-type", "application/json").body(()).unwrap();
        let line = Line { method: "POST", authority: "127.0.0.1:8081", path_and_query: path };
        let scope = Scope { region: "us-east-1", service: "bedrock", time: NOW };
        sign(&keys, &scope, &line, request.headers_mut(), body_hash([&body].into_iter())).unwrap();
        request.headers_mut().insert(HOST, HeaderValue::from_static("127.0.0.1:8081"));
        let mut request = request.map(|()| Full::new(body));
        change(&mut request);
        Call::read(request).await.unwrap()
    }

    fn wrong(call: &Call) -> Option<&'static str> {
        let authorization = call.headers[AUTHORIZATION].to_str().unwrap();
        aws(call, authorization, NOW).err().map(|(name, _)| name)
    }

    #[tokio::test]
    async fn signatures() {
        for id in ["AKIDMOCK", "ASIAMOCK"] {
            assert_eq!(wrong(&call(id, |_| {}).await), None, "{id}");
        }
        type Change = fn(&mut Request<Full<Bytes>>);
        let set = |name: &'static str, value: &'static str| {
            move |request: &mut Request<Full<Bytes>>| {
                request.headers_mut().insert(name, HeaderValue::from_static(value));
            }
        };
        let changes: [Change; 4] = [
            |r| *r.body_mut() = Full::new(Bytes::from_static(b"{\"a\":2}")),
            |r| *r.uri_mut() = "/model/other/converse".parse().unwrap(),
            |r| *r.uri_mut() = "/model/arn%3Aaws%3Ax%2Fy/converse?b=%20".parse().unwrap(),
            |r| *r.method_mut() = http::Method::PUT,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(wrong(&call("AKIDMOCK", change).await), Some("InvalidSignatureException"), "{index}");
        }
        let other_host = call("AKIDMOCK", set("host", "evil")).await;
        assert_eq!(wrong(&other_host), Some("InvalidSignatureException"));
        let late = call("AKIDMOCK", set("x-amz-date", "19700101T001000Z")).await;
        assert_eq!(wrong(&late), Some("InvalidSignatureException"));
        let untokened = call("ASIAMOCK", |r| drop(r.headers_mut().remove("x-amz-security-token"))).await;
        assert_eq!(wrong(&untokened), Some("UnrecognizedClientException"));
        let garbled = call("AKIDMOCK", set("authorization", "AWS4-HMAC-SHA256 Credential=x")).await;
        assert_eq!(wrong(&garbled), Some("IncompleteSignatureException"));
    }
}
