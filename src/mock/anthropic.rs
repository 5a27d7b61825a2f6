//! Which part of the mock answers which path of the Anthropic API, and what it asks of a head.
//!
//! Refuses what the real one refuses: no version, an unknown one, sampling members under the newest,
//! and a credential beside the one that counts, which only a gateway could have left there.

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::call::Call;
use super::reply::Reply;
use super::{Mock, keep, messages};

/// Versions of the API that the mock knows.
const VERSIONS: [&str; 3] = ["2023-01-01", "2023-06-01", "2026-10-21"];
/// Under this version the members below are refused, whatever their value.
const WITHOUT_SAMPLING: &str = "2026-10-21";
const SAMPLING: [&str; 3] = ["temperature", "top_p", "top_k"];

const MODELS: [&str; 2] = ["mock-small", "mock-large"];
/// The first second of 2026, as in the other dialects.
pub const CREATED_AT: &str = "2026-01-01T00:00:00Z";

pub fn answer(mock: &Mock, call: &Call) -> Reply {
    if let Err(refusal) = head(call) {
        return refusal;
    }
    let segments = call.segments();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let reply = match (&call.method, path.as_slice()) {
        (&Method::POST, ["messages"]) => json_call(call, messages::create),
        (&Method::POST, ["messages", "count_tokens"]) => json_call(call, messages::count_tokens),
        (&Method::POST, ["messages", "batches"]) => match call.json() {
            Ok(request) => add_batch(mock, call, &request),
            Err(refusal) => refusal,
        },
        (_, ["messages", "batches", rest @ ..]) => batches(mock, call, rest),
        (&Method::GET, ["models"]) => Reply::json(&list(MODELS.map(model).to_vec())),
        (&Method::GET, ["models", id]) => Reply::json(&model(id)),
        (&Method::POST, ["files"]) if call.file("file").is_some() => add_file(mock, call),
        (_, ["files", rest @ ..]) => files(mock, call, rest),
        _ => error(404, &format!("Not found: {} {}", call.method, call.path())),
    };
    // The prefix tells it apart from the id that a gateway gives.
    let id = format!("req_mock_{}", call.digest());
    match HeaderValue::from_str(&id) {
        Ok(id) => reply.header(HeaderName::from_static("request-id"), id),
        Err(_) => reply,
    }
}

/// `error.type` by status.
pub fn error(status: u16, message: &str) -> Reply {
    Reply::json(&error_value(status, message)).status(status)
}

pub fn error_value(status: u16, message: &str) -> Value {
    let kind = match status {
        400 | 422 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_mock" })
}

fn head(call: &Call) -> Result<(), Reply> {
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    if call.headers.contains_key("x-api-key") && call.headers.contains_key(AUTHORIZATION) {
        return Err(error(400, "two credentials: x-api-key and authorization"));
    }
    match header("anthropic-version") {
        None => Err(error(400, "anthropic-version: header is required")),
        Some(version) if !VERSIONS.contains(&version) => {
            Err(error(400, &format!("anthropic-version: \"{version}\" is not a valid version")))
        }
        Some(_) => Ok(()),
    }
}

/// A call with a JSON body that must name a model.
fn json_call(call: &Call, answer: impl FnOnce(&Call, &Value) -> Reply) -> Reply {
    let request = match call.json() {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    for name in ["model", "messages"] {
        if request.get(name).is_none() {
            return error(400, &format!("{name}: Field required"));
        }
    }
    let newest = call.headers.get("anthropic-version").is_some_and(|version| version == WITHOUT_SAMPLING);
    if let Some(name) = SAMPLING.iter().find(|name| newest && request.get(**name).is_some()) {
        return error(400, &format!("{name}: Extra inputs are not permitted"));
    }
    answer(call, &request)
}

fn list(data: Vec<Value>) -> Value {
    let id = |object: Option<&Value>| object.and_then(|object| object.get("id")).cloned();
    json!({ "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false, "data": data })
}

fn model(id: &str) -> Value {
    json!({ "type": "model", "id": id, "display_name": id, "created_at": CREATED_AT })
}

/// Done the moment it is made: each request is answered as if it had come alone.
fn add_batch(mock: &Mock, call: &Call, request: &Value) -> Reply {
    let Some(requests) = request.get("requests").and_then(Value::as_array) else {
        return error(400, "requests: Field required");
    };
    let id = mock.anthropic.next("msgbatch");
    let host = call.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let object = json!({
        "id": id, "type": "message_batch", "processing_status": "ended",
        "request_counts": { "processing": 0, "succeeded": requests.len(), "errored": 0, "canceled": 0, "expired": 0 },
        "created_at": CREATED_AT, "ended_at": CREATED_AT, "expires_at": CREATED_AT, "archived_at": null,
        "cancel_initiated_at": null, "results_url": format!("http://{host}/v1/messages/batches/{id}/results"),
    });
    let results: String = requests
        .iter()
        .map(|request| {
            let message = messages::message(call, request.get("params").unwrap_or(&Value::Null));
            let result = json!({ "type": "succeeded", "message": message });
            json!({ "custom_id": request.get("custom_id"), "result": result }).to_string() + "\n"
        })
        .collect();
    mock.anthropic.batches.put(&id, object.clone());
    mock.anthropic.results.put(&id, results.into());
    Reply::json(&object)
}

fn batches(mock: &Mock, call: &Call, path: &[&str]) -> Reply {
    let kept = &mock.anthropic;
    let missing = |id: &str| error(404, &format!("No such message batch: {id}"));
    match (&call.method, path) {
        (&Method::GET, []) => Reply::json(&list(kept.batches.all())),
        (&Method::GET, [id]) => kept.batches.get(id).map_or_else(|| missing(id), |batch| Reply::json(&batch)),
        (&Method::GET, [id, "results"]) => match kept.results.get(id) {
            Some(results) => Reply::bytes("application/x-jsonl", results),
            None => missing(id),
        },
        (&Method::POST, [id, "cancel"]) => {
            kept.batches.get(id).map_or_else(|| missing(id), |batch| Reply::json(&batch))
        }
        (&Method::DELETE, [id]) if kept.batches.remove(id) => {
            Reply::json(&json!({ "id": id, "type": "message_batch_deleted" }))
        }
        (_, [id, ..]) => missing(id),
        (_, []) => error(405, "Method Not Allowed"),
    }
}

fn add_file(mock: &Mock, call: &Call) -> Reply {
    let Some(file) = call.file("file") else { return error(400, "file: Field required") };
    let id = mock.anthropic.next("file");
    let object = json!({
        "id": id, "type": "file", "filename": file.filename, "mime_type": "application/octet-stream",
        "size_bytes": file.content.len(), "created_at": CREATED_AT, "downloadable": true,
    });
    mock.anthropic.files.put(&id, (object.clone(), keep::bounded(&file.content)));
    Reply::json(&object)
}

fn files(mock: &Mock, call: &Call, path: &[&str]) -> Reply {
    let kept = &mock.anthropic;
    let missing = |id: &str| error(404, &format!("File not found: {id}"));
    match (&call.method, path) {
        (&Method::GET, []) => Reply::json(&list(kept.files.all().into_iter().map(|(object, _)| object).collect())),
        (&Method::GET, [id]) => kept.files.get(id).map_or_else(|| missing(id), |(object, _)| Reply::json(&object)),
        (&Method::GET, [id, "content"]) => match kept.files.get(id) {
            Some((_, content)) => Reply::bytes("application/octet-stream", content),
            None => missing(id),
        },
        (&Method::DELETE, [id]) if kept.files.remove(id) => Reply::json(&json!({ "id": id, "type": "file_deleted" })),
        (_, [id, ..]) => missing(id),
        (_, []) => error(400, "file: Field required"),
    }
}
