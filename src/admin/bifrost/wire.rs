//! Bodies and errors of the Bifrost face, in the words of its clients.
//!
//! A body is read by the same records that read the file, so that a member is known here iff it is
//! known there. Secrets are looked at apart and never shown.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};

use crate::admin::error::ApiError;
use crate::admin::merge::{invalid, well_formed, without_secrets};
use crate::admin::shape::{self, Record};
use crate::config::file::{KeyFile, ProviderFile};
use crate::config::read::{FromConfig, Node};
use crate::config::syntax::{Kind, Value};
use crate::config::{Problem, Problems, Severity, Tree};
use crate::id::RequestId;
use crate::store::Refused;

/// Problems of a body that its refusal names at most.
const PROBLEMS_SHOWN: usize = 5;

/// Members that a provider's body may have beside those of the file; all but the name are ignored,
/// for they are what a client got and sends back.
const BESIDE_PROVIDER: [&str; 6] = ["name", "provider", "provider_status", "status", "description", "config_hash"];

/// A key as a client sent it: known members of the right types.
#[derive(Clone)]
pub struct KeyBody(Arc<Tree>);

impl KeyBody {
    pub fn read(tree: Arc<Tree>) -> Result<Self, ApiError> {
        key_shape(tree.root(), "")?;
        Ok(Self(tree))
    }

    pub fn value(&self) -> &Value {
        self.0.root()
    }
}

/// A provider as a client sent it.
#[derive(Clone)]
pub struct ProviderBody {
    /// Without the members beside the file's, and without `keys`.
    pub value: Value,
    /// `provider`, or `name`.
    pub name: Option<String>,
    /// `keys`, where there are any.
    pub keys: Option<Vec<Value>>,
}

impl ProviderBody {
    pub fn read(tree: &Tree) -> Result<Self, ApiError> {
        let root = tree.root();
        let name = match (text(root, "provider")?, text(root, "name")?) {
            (Some(provider), Some(name)) if provider != name => {
                return Err(invalid("invalid_value", "name", "`provider` and `name` differ").into());
            }
            (provider, name) => provider.or(name).map(str::to_owned),
        };
        let keys = match root.member("keys").map(|member| &member.value.kind) {
            None | Some(Kind::Null) => None,
            Some(Kind::List(keys)) => Some(keys.clone()),
            Some(_) => return Err(invalid("wrong_type", "keys", "expected a list").into()),
        };
        for (at, key) in keys.iter().flatten().enumerate() {
            key_shape(key, &format!("keys.{at}"))?;
        }
        let mut value = root.clone();
        if let Kind::Object(members) = &mut value.kind {
            members.retain(|m| &*m.name != "keys" && !BESIDE_PROVIDER.contains(&&*m.name));
        }
        well_formed(&shape::PROVIDER, &value, "")?;
        read_as::<ProviderFile>(&shape::PROVIDER, &value, "")?;
        Ok(Self { value, name, keys })
    }
}

fn key_shape(key: &Value, field: &str) -> Result<(), ApiError> {
    well_formed(&shape::KEY, key, field)?;
    read_as::<KeyFile>(&shape::KEY, key, field)
}

fn text<'v>(value: &'v Value, name: &str) -> Result<Option<&'v str>, ApiError> {
    match value.member(name).map(|member| &member.value.kind) {
        None | Some(Kind::Null) => Ok(None),
        Some(Kind::Text(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(invalid("wrong_type", name, "expected a name").into()),
    }
}

/// What the file's own reader has to say.
fn read_as<T: FromConfig>(record: &Record, value: &Value, field: &str) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    let _ = T::read(Node::root(&without_secrets(record, value, None)), &mut problems);
    refusal(&problems, field).map_or(Ok(()), |refused| Err(refused.into()))
}

/// The errors of a list as one refusal that names the first field.
pub fn refusal(problems: &Problems, field: &str) -> Option<Refused> {
    let errors: Vec<&Problem> = problems.0.iter().filter(|p| p.severity == Severity::Error).collect();
    let first = errors.first()?;
    let named = |problem: &Problem| {
        let below = dotted(&problem.pointer);
        match (field, below.as_str()) {
            ("", below) => below.to_owned(),
            (field, "") => field.to_owned(),
            (field, below) => format!("{field}.{below}"),
        }
    };
    let mut message = String::new();
    for problem in errors.iter().take(PROBLEMS_SHOWN) {
        let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let place = named(problem);
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        let gap = if message.is_empty() { "" } else { "; " };
        message.push_str(&format!("{gap}{place}{}{hint}", problem.message));
    }
    Some(Refused::Invalid { code: first.code.as_str(), field: named(first), message })
}

/// A JSON pointer as the dotted path that clients of these APIs know.
fn dotted(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"));
    segments.collect::<Vec<_>>().join(".")
}

/// The error envelope (bifrost.md 3.7), filled.
pub fn envelope(error: &ApiError, id: &RequestId, provider: &str) -> Response<Bytes> {
    let mut extra = json!({"provider": provider, "model_requested": "", "request_type": ""});
    if let (Some(problems), Some(extra)) = (&error.problems, extra.as_object_mut()) {
        extra.insert("problems".to_owned(), problems.to_json());
    }
    let body: Json = json!({
        "event_id": id.as_str(),
        "type": error.kind(),
        // Not an answer of a provider, and not one of the gateway's way there: the caller's matter.
        "is_bifrost_error": false,
        "status_code": error.status.as_u16(),
        "error": {
            "type": error.kind(),
            "code": error.code,
            "message": error.message,
            "param": error.field.as_deref().unwrap_or_default(),
            "event_id": id.as_str(),
        },
        "extra_fields": extra,
    });
    let mut response = crate::admin::json(error.status, &body);
    let head = response.headers_mut();
    if error.status == StatusCode::UNAUTHORIZED {
        head.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(allow) = error.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        head.insert(header::ALLOW, allow);
    }
    if matches!(error.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
        // What is left of the body is not read: the connection cannot be used again.
        head.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if error.status == StatusCode::SERVICE_UNAVAILABLE {
        head.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
