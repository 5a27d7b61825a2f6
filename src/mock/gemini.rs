//! Which part of the mock answers which path of the Gemini API: content, tokens, embeddings, lists
//! and files.
//!
//! Refuses what the real one refuses: a credential in another place than `x-goog-api-key`, and a body
//! whose model is not the path's.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::answer::{Prompt, Said, array, text_of};
use super::call::Call;
use super::reply::{Reply, event};
use super::{Mock, keep, vectors};

const MODELS: [&str; 2] = ["mock-small", "mock-embedding"];
const DIMENSIONS: usize = 8;
/// The first second of 2026, as in the other dialects.
const CREATED_AT: &str = "2026-01-01T00:00:00Z";

pub fn answer(mock: &Mock, call: &Call) -> Reply {
    if call.headers.contains_key(AUTHORIZATION) || call.uri.query().is_some_and(|query| query.contains("key=")) {
        return error(400, "the key belongs into x-goog-api-key alone");
    }
    let segments = call.segments();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (&call.method, path.as_slice()) {
        (&Method::POST, ["models" | "tunedModels", rest @ ..]) => match rest.join("/").rsplit_once(':') {
            Some((_, verb)) => called(call, verb),
            None => unknown(call),
        },
        (&Method::GET, ["models"]) => Reply::json(&json!({ "models": MODELS.map(model) })),
        (&Method::GET, ["models", rest @ ..]) => Reply::json(&model(&rest.join("/"))),
        (&Method::POST, ["upload", .., "files"]) => upload(mock, call),
        (_, ["files", rest @ ..]) => files(mock, call, rest),
        _ => unknown(call),
    }
}

fn called(call: &Call, verb: &str) -> Reply {
    let request = match call.json() {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    match verb {
        "generateContent" => Reply::json(&content(call, &Prompt::of_contents(&request).answer(), thinks(&request))),
        "streamGenerateContent" => streamed(call, &request),
        "countTokens" => {
            let inner = request.get("generateContentRequest").unwrap_or(&request);
            match is_of_path(call, inner) {
                true => Reply::json(&json!({ "totalTokens": Prompt::of_contents(inner).words })),
                false => error(400, "the model of the request is not the path's"),
            }
        }
        "embedContent" if is_of_path(call, &request) => Reply::json(&json!({ "embedding": embedding(&request) })),
        "batchEmbedContents" if array(&request, "requests").all(|one| is_of_path(call, one)) => {
            Reply::json(&json!({ "embeddings": array(&request, "requests").map(embedding).collect::<Vec<_>>() }))
        }
        "embedContent" | "batchEmbedContents" => error(400, "the model of a request is not the path's"),
        _ => unknown(call),
    }
}

/// Names no model, or the one of the path.
fn is_of_path(call: &Call, request: &Value) -> bool {
    let path = call.model.as_deref().unwrap_or_default();
    let named = request.get("model").and_then(Value::as_str);
    named.is_none_or(|named| named.strip_prefix("models/") == Some(path))
}

fn embedding(request: &Value) -> Value {
    let text = text_of(request.pointer("/content/parts"));
    json!({ "values": vectors::vector(&text, DIMENSIONS) })
}

fn thinks(request: &Value) -> bool {
    // Both spellings are proto3 JSON; clients send either.
    let config = request.pointer("/generationConfig/thinkingConfig");
    let said = |name: &str| config.and_then(|config| config.get(name)) == Some(&json!(true));
    said("includeThoughts") || said("include_thoughts")
}

fn content(call: &Call, said: &Said, thinks: bool) -> Value {
    let mut parts = Vec::new();
    if thinks {
        parts.push(json!({ "text": "what would a mock say", "thought": true }));
    }
    parts.push(match &said.call {
        Some((name, arguments)) => {
            let args: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({ "functionCall": { "name": name, "args": args }, "thoughtSignature": "bW9jaw==" })
        }
        None => json!({ "text": said.text }),
    });
    response(call, said, parts, Some(finish(said)))
}

fn response(call: &Call, said: &Said, parts: Vec<Value>, finish: Option<&str>) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if let (Some(members), Some(finish)) = (candidate.as_object_mut(), finish) {
        members.insert("finishReason".into(), finish.into());
    }
    json!({
        "candidates": [candidate], "modelVersion": call.model, "responseId": call.digest(),
        "usageMetadata": {
            "promptTokenCount": said.words_in, "candidatesTokenCount": said.words_out,
            "totalTokenCount": said.words_in + said.words_out,
        },
    })
}

/// Events with `alt=sse`, else the pieces of one JSON list.
fn streamed(call: &Call, request: &Value) -> Reply {
    let said = Prompt::of_contents(request).answer();
    let mut chunks = Vec::new();
    match &said.call {
        Some(_) => chunks.push(content(call, &said, thinks(request))),
        None => {
            let pieces: Vec<&str> = said.pieces().collect();
            for (at, piece) in pieces.iter().enumerate() {
                let last = (at + 1 == pieces.len()).then(|| finish(&said));
                chunks.push(response(call, &said, vec![json!({ "text": piece })], last));
            }
        }
    }
    if call.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse")) {
        return Reply::events(chunks.iter().map(|chunk| event(None, chunk)).collect());
    }
    let count = chunks.len();
    let pieces = chunks.iter().enumerate().map(|(at, chunk)| {
        let (begin, end) = (if at == 0 { "[" } else { ",\r\n" }, if at + 1 == count { "]" } else { "" });
        Bytes::from(format!("{begin}{chunk}{end}"))
    });
    Reply::pieces("application/json; charset=UTF-8", pieces.collect())
}

fn finish(said: &Said) -> &'static str {
    if said.cut { "MAX_TOKENS" } else { "STOP" }
}

fn model(id: &str) -> Value {
    json!({
        "name": format!("models/{id}"), "displayName": id, "inputTokenLimit": 1_000_000, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
    })
}

/// In two steps: the first is answered with an address, the bytes come there.
fn upload(mock: &Mock, call: &Call) -> Reply {
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let status = HeaderName::from_static("x-goog-upload-status");
    if header("x-goog-upload-command") == "start" {
        let request = call.json().unwrap_or_default();
        let id = mock.gemini.next("file");
        mock.gemini.files.put(&id, (file(&id, &request, 0), Bytes::new()));
        let address = format!("http://{}{}?upload_id={id}", header("host"), call.path());
        let Ok(address) = HeaderValue::from_str(&address) else { return error(400, "no host") };
        let reply = Reply::json(&json!({})).header(HeaderName::from_static("x-goog-upload-url"), address);
        return reply.header(status, HeaderValue::from_static("active"));
    }
    let id = call.uri.query().and_then(|query| query.strip_prefix("upload_id=")).unwrap_or_default();
    let Some((begun, _)) = mock.gemini.files.get(id) else { return error(404, "no such upload") };
    let done = file(id, &json!({ "file": begun }), call.body.len());
    mock.gemini.files.put(id, (done.clone(), keep::bounded(&call.body)));
    Reply::json(&json!({ "file": done })).header(status, HeaderValue::from_static("final"))
}

fn file(id: &str, request: &Value, bytes: usize) -> Value {
    let member = |name: &str, other: &str| {
        let file = request.get("file");
        file.and_then(|file| file.get(name).or_else(|| file.get(other))).cloned().unwrap_or_default()
    };
    json!({
        "name": format!("files/{id}"), "displayName": member("displayName", "display_name"),
        "mimeType": member("mimeType", "mime_type"),
        "sizeBytes": bytes.to_string(), "createTime": CREATED_AT, "updateTime": CREATED_AT,
        "uri": format!("https://mock.invalid/v1beta/files/{id}"), "state": "ACTIVE",
    })
}

fn files(mock: &Mock, call: &Call, path: &[&str]) -> Reply {
    let kept = &mock.gemini.files;
    match (&call.method, path) {
        (&Method::GET, []) => {
            Reply::json(&json!({ "files": kept.all().into_iter().map(|(file, _)| file).collect::<Vec<_>>() }))
        }
        (&Method::GET, [id]) => match kept.get(id) {
            Some((file, _)) => Reply::json(&file),
            None => error(404, "no such file"),
        },
        (&Method::DELETE, [id]) if kept.remove(id) => Reply::json(&json!({})),
        (_, [_]) => error(404, "no such file"),
        _ => unknown(call),
    }
}

fn unknown(call: &Call) -> Reply {
    error(404, &format!("unknown path: {} {}", call.method, call.path()))
}

pub fn error(status: u16, message: &str) -> Reply {
    Reply::json(&error_value(status, message)).status(status)
}

/// `error.status` by status; a bad key is a 400 of its own reason.
pub fn error_value(status: u16, message: &str) -> Value {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..500 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    };
    json!({ "error": { "code": status, "message": message, "status": word } })
}
