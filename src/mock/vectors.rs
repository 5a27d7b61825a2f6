//! `/embeddings`, `/moderations` and `/rerank`: small answers computed from the words of the input.

use serde_json::{Value, json};

use super::answer::{array, text_of, words};
use super::base64;
use super::call::Call;
use super::reply::Reply;
use crate::limits::MOCK_DIMENSIONS_MAX;

const DIMENSIONS: usize = 8;

pub fn embeddings(call: &Call, request: &Value) -> Reply {
    let inputs = inputs(request.get("input"));
    if inputs.is_empty() {
        return Reply::error(
            400,
            "invalid_request_error",
            "missing_required_parameter",
            "Missing required parameter: 'input'.",
        );
    }
    let asked = request.get("dimensions").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let dimensions = asked.unwrap_or(DIMENSIONS).clamp(1, MOCK_DIMENSIONS_MAX);
    let coded = request.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(input, dimensions);
        let embedding = if coded {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            json!(base64::encode(&bytes))
        } else {
            json!(vector)
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let tokens: u64 = inputs.iter().map(|input| words(input).max(1)).sum();
    Reply::json(&json!({
        "object": "list", "data": data.collect::<Vec<_>>(), "model": call.model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    }))
}

pub fn moderation(call: &Call, request: &Value) -> Reply {
    let results = inputs(request.get("input")).into_iter().map(|input| {
        let flagged = input.contains("flag");
        json!({
            "flagged": flagged, "categories": { "violence": flagged, "hate": false },
            "category_scores": { "violence": if flagged { 0.9 } else { 0.0 }, "hate": 0.0 },
            "category_applied_input_types": { "violence": ["text"], "hate": ["text"] },
        })
    });
    let results = results.collect::<Vec<_>>();
    Reply::json(&json!({ "id": format!("modr-{}", call.digest()), "model": call.model, "results": results }))
}

/// Scores by the share of the query's words that a document holds.
pub fn rerank(call: &Call, request: &Value) -> Reply {
    let query = text_of(request.get("query"));
    let mut scored: Vec<(usize, f64)> = array(request, "documents")
        .map(|document| document.as_str().map_or_else(|| text_of(document.get("text")), str::to_owned))
        .map(|text| {
            let held = query.split_whitespace().filter(|word| text.contains(word)).count();
            held as f64 / query.split_whitespace().count().max(1) as f64
        })
        .enumerate()
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let top = request.get("top_n").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let results = scored.iter().take(top).map(|(index, score)| json!({ "index": index, "relevance_score": score }));
    let results = results.collect::<Vec<_>>();
    let tokens = words(&query).max(1);
    Reply::json(&json!({
        "id": format!("rerank-{}", call.digest()), "model": call.model, "results": results,
        "usage": { "total_tokens": tokens },
    }))
}

/// One text, several, or tokens in place of either.
fn inputs(input: Option<&Value>) -> Vec<String> {
    match input {
        Some(Value::Array(items)) if items.iter().all(Value::is_number) => vec![Value::from(items.clone()).to_string()],
        Some(Value::Array(items)) => {
            let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            items.iter().map(text).collect()
        }
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Of length 1, the same for the same text. Eighths of a sign bit would do; bytes look better.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut bytes = vec![0u8; dimensions];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    let raw: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) - 127.5).collect();
    let length = raw.iter().map(|number| number * number).sum::<f32>().sqrt();
    raw.into_iter().map(|number| number / length).collect()
}
