//! `/messages`, whole and streamed, and `/messages/count_tokens`.

use serde_json::{Value, json};

use super::answer::{Prompt, Said};
use super::call::Call;
use super::reply::{Reply, event};

/// Stands for what a model signed.
const SIGNATURE: &str = "bW9jaw==";

pub fn create(call: &Call, request: &Value) -> Reply {
    if request.get("max_tokens").is_none() {
        return super::anthropic::error(400, "max_tokens: Field required");
    }
    if !call.stream {
        return Reply::json(&message(call, request));
    }
    let named = |data: &Value| event(data.get("type").and_then(Value::as_str), data);
    Reply::events(told(call, request).iter().map(named).collect())
}

pub fn count_tokens(_: &Call, request: &Value) -> Reply {
    Reply::json(&json!({ "input_tokens": Prompt::of_messages(request).words }))
}

/// The answer as one object.
pub fn message(call: &Call, request: &Value) -> Value {
    let said = Prompt::of_messages(request).answer();
    let mut message = envelope(call, request, &said);
    if let Some(members) = message.as_object_mut() {
        members.insert("content".into(), blocks(call, request, &said).into());
        members.insert("stop_reason".into(), stop_reason(&said).into());
        members.insert("usage".into(), usage(&said, said.words_out));
    }
    message
}

fn envelope(call: &Call, request: &Value, said: &Said) -> Value {
    // Bedrock has it in the path.
    let model = request.get("model").cloned().unwrap_or_else(|| json!(call.model));
    json!({
        "id": format!("msg_{}", call.digest()), "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(said, 1),
    })
}

fn blocks(call: &Call, request: &Value, said: &Said) -> Vec<Value> {
    let mut blocks = Vec::new();
    if thinks(request) {
        blocks.push(json!({ "type": "thinking", "thinking": "what would a mock say", "signature": SIGNATURE }));
    }
    blocks.push(match &said.call {
        Some((name, arguments)) => {
            let input: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({ "type": "tool_use", "id": format!("toolu_{}", call.digest()), "name": name, "input": input })
        }
        None => json!({ "type": "text", "text": said.text }),
    });
    blocks
}

/// The answer as the data of events.
pub fn told(call: &Call, request: &Value) -> Vec<Value> {
    let said = &Prompt::of_messages(request).answer();
    let mut events = Vec::new();
    let mut push = |kind: &str, mut data: Value| {
        if let Some(members) = data.as_object_mut() {
            members.insert("type".into(), kind.into());
        }
        events.push(data);
    };
    push("message_start", json!({ "message": envelope(call, request, said) }));
    for (index, block) in blocks(call, request, said).into_iter().enumerate() {
        let (empty, deltas) = in_deltas(block, said);
        push("content_block_start", json!({ "index": index, "content_block": empty }));
        if index == 0 {
            push("ping", json!({}));
        }
        for delta in deltas {
            push("content_block_delta", json!({ "index": index, "delta": delta }));
        }
        push("content_block_stop", json!({ "index": index }));
    }
    let delta = json!({ "stop_reason": stop_reason(said), "stop_sequence": null });
    push("message_delta", json!({ "delta": delta, "usage": { "output_tokens": said.words_out } }));
    push("message_stop", json!({}));
    events
}

/// A block as it begins, and what is added to it piece by piece.
fn in_deltas(mut block: Value, said: &Said) -> (Value, Vec<Value>) {
    let mut take = |name: &str, empty: Value| block.get_mut(name).map(|slot| std::mem::replace(slot, empty));
    if let Some(input) = take("input", json!({})) {
        let text = input.to_string();
        let (head, tail) = text.split_at(text.len() / 2);
        let delta = |piece: &str| json!({ "type": "input_json_delta", "partial_json": piece });
        return (block, vec![delta(head), delta(tail)]);
    }
    if let Some(thinking) = take("thinking", json!("")) {
        let signature = take("signature", json!(""));
        let deltas = vec![
            json!({ "type": "thinking_delta", "thinking": thinking }),
            json!({ "type": "signature_delta", "signature": signature }),
        ];
        return (block, deltas);
    }
    take("text", json!(""));
    let deltas = said.pieces().map(|piece| json!({ "type": "text_delta", "text": piece })).collect();
    (block, deltas)
}

fn thinks(request: &Value) -> bool {
    let kind = request.pointer("/thinking/type").and_then(Value::as_str);
    kind.is_some_and(|kind| kind != "disabled")
}

fn stop_reason(said: &Said) -> &'static str {
    match (&said.call, said.cut) {
        (Some(_), _) => "tool_use",
        (None, true) => "max_tokens",
        (None, false) => "end_turn",
    }
}

fn usage(said: &Said, output: u64) -> Value {
    json!({
        "input_tokens": said.words_in, "output_tokens": output, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0, "service_tier": "standard",
    })
}
