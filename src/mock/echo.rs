//! `mock-echo`: tells every byte of what was sent, so that a test can see what arrived.

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::base64;
use super::call::Call;
use super::reply::Reply;

/// Headers that no gateway may hand on to its caller, and some that it should.
const HEADERS: [(&str, &str); 7] = [
    ("set-cookie", "mock=1"),
    ("www-authenticate", "Bearer"),
    ("x-internal", "1"),
    ("openai-version", "2020-10-01"),
    ("openai-processing-ms", "1"),
    ("x-ratelimit-remaining-requests", "99"),
    ("retry-after-ms", "10"),
];

pub fn echo(call: &Call) -> Reply {
    let headers: Vec<Value> = call
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let told = json!({
        "object": "mock.echo",
        "method": call.method.as_str(),
        "path": call.path(),
        "query": call.uri.query(),
        "version": format!("{:?}", call.version),
        "headers": headers,
        "body": std::str::from_utf8(&call.body).ok(),
        "body_base64": base64::encode(&call.body),
    });
    HEADERS.iter().fold(Reply::json(&told), |reply, (name, value)| {
        reply.header(HeaderName::from_static(name), HeaderValue::from_static(value))
    })
}
