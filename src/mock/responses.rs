//! `/responses`, whole and as numbered events.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Mock;
use super::answer::{Prompt, Said};
use super::call::Call;
use super::openai::CREATED;
use super::reply::{Reply, event};

pub fn create(mock: &Mock, call: &Call, request: &Value) -> Reply {
    if request.get("input").is_none_or(Value::is_null) {
        return Reply::error(
            400,
            "invalid_request_error",
            "missing_required_parameter",
            "Missing required parameter: 'input'.",
        );
    }
    let said = Prompt::of_responses(request).answer();
    let done = object(call, request, &said, "completed", &[item(call, &said, "completed")]);
    if request.get("store") != Some(&Value::Bool(false)) {
        mock.kept.responses.put(&id(call), done.clone());
    }
    if call.stream { Reply::events(events(call, request, &said, &done)) } else { Reply::json(&done) }
}

fn id(call: &Call) -> String {
    format!("resp_{}", call.digest())
}

fn object(call: &Call, request: &Value, said: &Said, status: &str, output: &[Value]) -> Value {
    let or = |member: &str, default: Value| request.get(member).cloned().unwrap_or(default);
    let usage = json!({
        "input_tokens": said.words_in, "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": said.words_out, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": said.words_in + said.words_out,
    });
    json!({
        "id": id(call), "object": "response", "created_at": CREATED, "status": status, "model": call.model,
        "output": output, "error": null, "incomplete_details": null, "background": false,
        "usage": if status == "completed" { usage } else { Value::Null },
        "instructions": or("instructions", Value::Null), "metadata": or("metadata", json!({})),
        "max_output_tokens": or("max_output_tokens", Value::Null),
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "previous_response_id": or("previous_response_id", Value::Null),
        "reasoning": or("reasoning", json!({ "effort": null, "summary": null })), "store": or("store", json!(true)),
        "temperature": or("temperature", json!(1.0)), "text": or("text", json!({ "format": { "type": "text" } })),
        "tool_choice": or("tool_choice", json!("auto")), "tools": or("tools", json!([])), "top_p": or("top_p", json!(1.0)),
        "truncation": or("truncation", json!("disabled")), "user": or("user", Value::Null),
    })
}

/// The message or the call; not filled yet where `status` says that it is under way.
fn item(call: &Call, said: &Said, status: &str) -> Value {
    let filled = status == "completed";
    match &said.call {
        Some((name, arguments)) => json!({
            "type": "function_call", "id": format!("fc_{}", call.digest()), "call_id": format!("call_{}", call.digest()),
            "name": name, "arguments": if filled { arguments.as_str() } else { "" }, "status": status,
        }),
        None => json!({
            "type": "message", "id": format!("msg_{}", call.digest()), "role": "assistant", "status": status,
            "content": if filled { json!([text_part(&said.text)]) } else { json!([]) },
        }),
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn events(call: &Call, request: &Value, said: &Said, done: &Value) -> Vec<Bytes> {
    let mut events = Vec::new();
    let mut push = |kind: &str, mut data: Value| {
        if let Some(members) = data.as_object_mut() {
            members.insert("type".into(), kind.into());
            members.insert("sequence_number".into(), events.len().into());
        }
        events.push(event(Some(kind), &data));
    };
    let begun = object(call, request, said, "in_progress", &[]);
    push("response.created", json!({ "response": begun }));
    push("response.in_progress", json!({ "response": begun }));
    push("response.output_item.added", json!({ "output_index": 0, "item": item(call, said, "in_progress") }));
    let finished = item(call, said, "completed");
    let item_id = finished.get("id").cloned().unwrap_or_default();
    if let Some((name, arguments)) = &said.call {
        let delta = json!({ "item_id": item_id, "output_index": 0, "delta": arguments });
        push("response.function_call_arguments.delta", delta);
        let whole = json!({ "item_id": item_id, "output_index": 0, "name": name, "arguments": arguments });
        push("response.function_call_arguments.done", whole);
    } else {
        let place = |mut data: Value| {
            if let Some(members) = data.as_object_mut() {
                members.insert("item_id".into(), item_id.clone());
                members.insert("output_index".into(), 0.into());
                members.insert("content_index".into(), 0.into());
            }
            data
        };
        push("response.content_part.added", place(json!({ "part": text_part("") })));
        for piece in said.pieces() {
            push("response.output_text.delta", place(json!({ "delta": piece, "logprobs": [] })));
        }
        push("response.output_text.done", place(json!({ "text": said.text, "logprobs": [] })));
        push("response.content_part.done", place(json!({ "part": text_part(&said.text) })));
    }
    push("response.output_item.done", json!({ "output_index": 0, "item": finished }));
    push("response.completed", json!({ "response": done }));
    events
}
