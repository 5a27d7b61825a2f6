//! Which part of the mock answers which path of the Bedrock API: Converse, and Invoke with bodies of
//! Claude and of Titan's embeddings; whole and as frames.
//!
//! Refuses what the real one refuses: an id that is not one segment, a credential of another kind,
//! and for Claude a body without `anthropic_version` or with a `model`.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::answer::{Prompt, Said};
use super::call::Call;
use super::reply::Reply;
use super::{base64, messages, vectors};
use crate::dialect::frame::eventstream;

const DIMENSIONS: usize = 8;
/// Every event has a member of random length; real clients must pass it over.
const PADDING: &str = "abcdefghij";

pub fn answer(call: &Call) -> Reply {
    let segments: Vec<&str> = call.path().split('/').skip(1).collect();
    let foreign = ["x-api-key", "api-key", "x-goog-api-key"].iter().any(|name| call.headers.contains_key(*name));
    let ["model", id, word] = segments.as_slice() else { return error(404, "UnknownOperationException") };
    if foreign || id.is_empty() {
        return error(400, "the request holds what Bedrock's clients do not send");
    }
    let request = match call.json() {
        Ok(request) => request,
        Err(_) => return error(400, "The request body is not valid JSON."),
    };
    match *word {
        "converse" => Reply::json(&converse(call, &request)),
        "converse-stream" => Reply::frames(converse_frames(call, &request)),
        "invoke" => invoke(call, &request),
        "invoke-with-response-stream" => invoke_frames(call, &request),
        "count-tokens" => {
            let inner = request.pointer("/input/converse").unwrap_or(&Value::Null);
            Reply::json(&json!({ "inputTokens": Prompt::of_converse(inner).words }))
        }
        _ => error(404, "UnknownOperationException"),
    }
}

fn converse(call: &Call, request: &Value) -> Value {
    let said = Prompt::of_converse(request).answer();
    let content = match tool_use(call, &said) {
        Some((mut tool, input)) => {
            if let Some(members) = tool.as_object_mut() {
                members.insert("input".into(), input);
            }
            json!({ "toolUse": tool })
        }
        None => json!({ "text": said.text }),
    };
    json!({
        "output": { "message": { "role": "assistant", "content": [content] } },
        "stopReason": stop_reason(&said), "usage": usage(&said), "metrics": { "latencyMs": 1 },
    })
}

fn converse_frames(call: &Call, request: &Value) -> Vec<Bytes> {
    let said = Prompt::of_converse(request).answer();
    let mut frames = Vec::new();
    let mut push = |kind: &str, mut event: Value| {
        if let Some(members) = event.as_object_mut() {
            members.insert("p".into(), PADDING.into());
        }
        frames.push(eventstream::event(kind, event.to_string().as_bytes()));
    };
    push("messageStart", json!({ "role": "assistant" }));
    match tool_use(call, &said) {
        Some((tool, input)) => {
            push("contentBlockStart", json!({ "contentBlockIndex": 0, "start": { "toolUse": tool } }));
            let delta = json!({ "toolUse": { "input": input.to_string() } });
            push("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": delta }));
        }
        None => {
            for piece in said.pieces() {
                push("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": { "text": piece } }));
            }
        }
    }
    push("contentBlockStop", json!({ "contentBlockIndex": 0 }));
    push("messageStop", json!({ "stopReason": stop_reason(&said) }));
    push("metadata", json!({ "usage": usage(&said), "metrics": { "latencyMs": 1 } }));
    frames
}

/// Claude's body is that of Messages but for two members.
fn claude(request: &Value) -> Result<&Value, Reply> {
    let has = |name: &str| request.get(name).is_some();
    match has("anthropic_version") && !has("model") && !has("stream") {
        true => Ok(request),
        false => Err(error(400, "anthropic_version: Field required; model, stream: Extra inputs are not permitted")),
    }
}

fn invoke(call: &Call, request: &Value) -> Reply {
    if let Some(text) = request.get("inputText").and_then(Value::as_str) {
        let count = super::answer::words(text);
        return Reply::json(&json!({
            "embedding": vectors::vector(text, DIMENSIONS), "inputTextTokenCount": count,
        }));
    }
    match claude(request) {
        Ok(request) => Reply::json(&messages::message(call, request)),
        Err(refusal) => refusal,
    }
}

fn invoke_frames(call: &Call, request: &Value) -> Reply {
    let request = match claude(request) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let frames = messages::told(call, request).into_iter().map(|event| {
        let chunk = json!({ "bytes": base64::encode(event.to_string().as_bytes()), "p": PADDING });
        eventstream::event("chunk", chunk.to_string().as_bytes())
    });
    Reply::frames(frames.collect())
}

/// Id and name, and the input.
fn tool_use(call: &Call, said: &Said) -> Option<(Value, Value)> {
    let (name, arguments) = said.call.as_ref()?;
    let tool = json!({ "toolUseId": format!("tooluse_{}", call.digest()), "name": name });
    Some((tool, serde_json::from_str(arguments).unwrap_or_default()))
}

fn stop_reason(said: &Said) -> &'static str {
    match (&said.call, said.cut) {
        (Some(_), _) => "tool_use",
        (None, true) => "max_tokens",
        (None, false) => "end_turn",
    }
}

fn usage(said: &Said) -> Value {
    let (input, output) = (said.words_in, said.words_out);
    json!({ "inputTokens": input, "outputTokens": output, "totalTokens": input + output })
}

/// With the name of the error in the head, as AWS has it: behind it an address.
pub fn error(status: u16, message: &str) -> Reply {
    let kind = match status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        400..500 => "ValidationException",
        _ => "InternalServerException",
    };
    let value = format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/");
    let reply = Reply::json(&json!({ "message": message })).status(status);
    match HeaderValue::from_str(&value) {
        Ok(value) => reply.header(HeaderName::from_static("x-amzn-errortype"), value),
        Err(_) => reply,
    }
}

/// An error inside of a stream.
pub fn error_frame(message: &str) -> Bytes {
    eventstream::exception("modelStreamErrorException", json!({ "message": message }).to_string().as_bytes())
}
