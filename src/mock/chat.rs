//! `/chat/completions` and `/completions`, whole and streamed, and the canned answers of benches.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::answer::{Prompt, Said};
use super::body::{MockBody, Open, Step};
use super::call::Call;
use super::openai::CREATED;
use super::reply::{Reply, event};
use crate::limits::MOCK_CHOICES_MAX;

const DONE: &[u8] = b"data: [DONE]\n\n";

pub fn completion(call: &Call, request: &Value) -> Reply {
    if !request.get("messages").is_some_and(Value::is_array) {
        return Reply::error(
            400,
            "invalid_request_error",
            "missing_required_parameter",
            "Missing required parameter: 'messages'.",
        );
    }
    let said = Prompt::of_chat(request).answer();
    let choices = choices_of(request);
    if call.stream { streamed(call, &said, choices) } else { whole(call, &said, choices) }
}

fn whole(call: &Call, said: &Said, choices: usize) -> Reply {
    let choice = |index| {
        let message = match calls(call, said) {
            Some(calls) => json!({ "role": "assistant", "content": null, "refusal": null, "tool_calls": [calls] }),
            None => json!({ "role": "assistant", "content": said.text, "refusal": null }),
        };
        json!({ "index": index, "message": message, "logprobs": null, "finish_reason": finish(said) })
    };
    Reply::json(&json!({
        "id": format!("chatcmpl-{}", call.digest()), "object": "chat.completion", "created": CREATED, "model": call.model,
        "choices": (0..choices).map(choice).collect::<Vec<_>>(), "usage": usage(said, choices),
        "service_tier": "default", "system_fingerprint": "fp_mock",
    }))
}

fn streamed(call: &Call, said: &Said, choices: usize) -> Reply {
    let id = format!("chatcmpl-{}", call.digest());
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": CREATED, "model": call.model,
            "system_fingerprint": "fp_mock", "choices": choices,
        });
        if let Some(members) = chunk.as_object_mut().filter(|_| call.include_usage) {
            members.insert("usage".into(), usage);
        }
        event(None, &chunk)
    };
    let mut events = Vec::new();
    let mut push = |index: usize, delta: Value, finish: Value| {
        let choice = json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]);
        events.push(chunk(choice, Value::Null));
    };
    for index in 0..choices {
        if let Some(mut tool) = calls(call, said) {
            let arguments = tool.pointer_mut("/function/arguments").map(Value::take).unwrap_or_default();
            if let Some(slot) = tool.pointer_mut("/function/arguments") {
                *slot = json!("");
            }
            if let Some(members) = tool.as_object_mut() {
                members.insert("index".into(), json!(0));
            }
            push(index, json!({ "role": "assistant", "content": null, "tool_calls": [tool] }), Value::Null);
            push(index, json!({ "tool_calls": [{ "index": 0, "function": { "arguments": arguments } }] }), Value::Null);
        } else {
            push(index, json!({ "role": "assistant", "content": "", "refusal": null }), Value::Null);
            for piece in said.pieces() {
                push(index, json!({ "content": piece }), Value::Null);
            }
        }
        push(index, json!({}), json!(finish(said)));
    }
    if call.include_usage {
        events.push(chunk(json!([]), usage(said, choices)));
    }
    events.push(Bytes::from_static(DONE));
    Reply::events(events)
}

/// The older text completions.
pub fn text_completion(call: &Call, request: &Value) -> Reply {
    let said = Prompt::of_text(request.get("prompt"), request.get("max_tokens").and_then(Value::as_u64)).answer();
    let object = |text: &str, finish: Value, usage: Value| {
        json!({
            "id": format!("cmpl-{}", call.digest()), "object": "text_completion", "created": CREATED, "model": call.model,
            "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }], "usage": usage,
        })
    };
    if !call.stream {
        return Reply::json(&object(&said.text, json!(finish(&said)), usage(&said, 1)));
    }
    let mut events: Vec<Bytes> =
        said.pieces().map(|piece| event(None, &object(piece, Value::Null, Value::Null))).collect();
    let counted = if call.include_usage { usage(&said, 1) } else { Value::Null };
    events.push(event(None, &object("", json!(finish(&said)), counted)));
    events.push(Bytes::from_static(DONE));
    Reply::events(events)
}

/// The answer to `mock-bench…`: a chat completion padded to `bytes`, or as small as one can be.
pub fn canned(bytes: usize) -> Bytes {
    let build = |content: &str| {
        json!({
            "id": "chatcmpl-mock-bench", "object": "chat.completion", "created": CREATED, "model": "mock-bench",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": content, "refusal": null },
                "logprobs": null, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250 },
        })
        .to_string()
    };
    let least = build("").len();
    build(&"lorem ipsum ".chars().cycle().take(bytes.saturating_sub(least)).collect::<String>()).into()
}

/// `events` equal chunks at the distance `every`.
pub fn paced(events: u32, every: Duration, open: Open) -> Response<MockBody> {
    let chunk = json!({
        "id": "chatcmpl-mock-bench", "object": "chat.completion.chunk", "created": CREATED, "model": "mock-bench",
        "choices": [{ "index": 0, "delta": { "content": "lorem ipsum " }, "logprobs": null, "finish_reason": null }],
    });
    let piece = event(None, &chunk);
    let steps = [Step::Repeat { piece, left: events, every }, Step::Send(Bytes::from_static(DONE))];
    Reply::events(Vec::new()).with_body(MockBody::steps(steps, Some(open)))
}

fn choices_of(request: &Value) -> usize {
    let asked = request.get("n").and_then(Value::as_u64).unwrap_or(1);
    usize::try_from(asked).unwrap_or(usize::MAX).clamp(1, MOCK_CHOICES_MAX)
}

fn calls(call: &Call, said: &Said) -> Option<Value> {
    let (name, arguments) = said.call.as_ref()?;
    Some(json!({
        "id": format!("call_{}", call.digest()), "type": "function", "function": { "name": name, "arguments": arguments },
    }))
}

fn finish(said: &Said) -> &'static str {
    match (&said.call, said.cut) {
        (Some(_), _) => "tool_calls",
        (None, true) => "length",
        (None, false) => "stop",
    }
}

fn usage(said: &Said, choices: usize) -> Value {
    let output = said.words_out * u64::try_from(choices).unwrap_or(1);
    json!({
        "prompt_tokens": said.words_in, "completion_tokens": output, "total_tokens": said.words_in + output,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canned_answers_have_their_size() {
        for bytes in [600, 10_000] {
            let answer = canned(bytes);
            assert_eq!(answer.len(), bytes);
            assert!(serde_json::from_slice::<Value>(&answer).is_ok());
        }
    }
}
