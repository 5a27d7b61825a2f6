//! Which part of the mock answers which path of the OpenAI API.

use http::Method;
use serde_json::{Value, json};

use super::call::Call;
use super::reply::Reply;
use super::{Mock, chat, keep, media, responses, vectors};

/// `created` of everything: the first second of 2026, for answers must not change with the time.
pub const CREATED: u64 = 1_767_225_600;

/// What the mock lists; it answers to any other name as well.
const MODELS: [&str; 5] = ["mock-small", "mock-large", "mock-embedding", "mock-image", "mock-audio"];

pub fn answer(mock: &Mock, call: &Call) -> Reply {
    let segments = call.segments();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    if call.method == Method::GET {
        return get(mock, call, &path);
    }
    if call.method == Method::DELETE {
        return keep::delete(mock, &path).unwrap_or_else(|| unknown(call));
    }
    if call.method != Method::POST {
        return unknown(call);
    }
    match path.as_slice() {
        ["chat", "completions"] => json_call(call, chat::completion),
        ["completions"] => json_call(call, chat::text_completion),
        ["responses"] => json_call(call, |call, request| responses::create(mock, call, request)),
        ["embeddings"] => json_call(call, vectors::embeddings),
        ["moderations"] => json_call(call, vectors::moderation),
        ["rerank"] => json_call(call, vectors::rerank),
        ["images", "generations"] => json_call(call, media::image),
        ["images", "edits" | "variations"] => {
            form_call(call, &["image", "image[]"], |call| media::image(call, &Value::Null))
        }
        ["audio", "speech"] => json_call(call, media::speech),
        ["audio", "transcriptions" | "translations"] => form_call(call, &["file"], media::transcription),
        ["files"] => form_call(call, &["file"], |call| keep::add_file(mock, call)),
        ["batches"] => json_call(call, |call, request| keep::add_batch(mock, call, request)),
        ["batches", id, "cancel"] => keep::cancel_batch(mock, id),
        _ => unknown(call),
    }
}

fn get(mock: &Mock, call: &Call, path: &[&str]) -> Reply {
    match path {
        ["models"] => Reply::json(&json!({ "object": "list", "data": MODELS.map(model) })),
        ["models", rest @ ..] => Reply::json(&model(&rest.join("/"))),
        _ => keep::get(mock, path).unwrap_or_else(|| unknown(call)),
    }
}

fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": CREATED, "owned_by": "mock" })
}

/// A call with a JSON body that names a model; batches name none.
fn json_call(call: &Call, answer: impl FnOnce(&Call, &Value) -> Reply) -> Reply {
    let request = match call.json() {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    if call.model.is_none() && !call.path().ends_with("/batches") {
        return Reply::error(400, "invalid_request_error", "", "you must provide a model parameter");
    }
    answer(call, &request)
}

/// A call with a form that holds one of `files`.
fn form_call(call: &Call, files: &[&str], answer: impl FnOnce(&Call) -> Reply) -> Reply {
    if call.form.is_none() {
        return Reply::error(400, "invalid_request_error", "invalid_form", "the body is not a whole multipart form");
    }
    if !files.iter().any(|name| call.file(name).is_some()) {
        let missing = files.first().copied().unwrap_or_default();
        let message = format!("Missing required parameter: '{missing}'.");
        return Reply::error(400, "invalid_request_error", "missing_required_parameter", &message);
    }
    answer(call)
}

fn unknown(call: &Call) -> Reply {
    let message = format!("Unknown request URL: {} {}.", call.method, call.path());
    Reply::error(404, "invalid_request_error", "unknown_url", &message)
}
