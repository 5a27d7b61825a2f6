//! Images and audio: the smallest that is one.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};

use super::base64;
use super::call::Call;
use super::openai::CREATED;
use super::reply::{Reply, event};
use crate::limits::MOCK_CHOICES_MAX;

/// One transparent pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\nIDATx\x9cc\0\x01\0\0\x05\0\x01\r\n-\xb4\0\0\0\0IEND\xaeB`\x82";

/// Generations take JSON, edits and variations a form: `request` is null there.
pub fn image(call: &Call, request: &Value) -> Reply {
    let text = |name: &str| request.get(name).and_then(Value::as_str).map(str::to_owned).or_else(|| call.field(name));
    let asked = request.get("n").and_then(Value::as_u64).or_else(|| call.field("n")?.parse().ok()).unwrap_or(1);
    let count = usize::try_from(asked).unwrap_or(usize::MAX).clamp(1, MOCK_CHOICES_MAX);
    let image = if text("response_format").as_deref() == Some("url") {
        json!({ "url": format!("https://mock.invalid/{}.png", call.digest()), "revised_prompt": text("prompt") })
    } else {
        json!({ "b64_json": base64::encode(PNG), "revised_prompt": text("prompt") })
    };
    Reply::json(&json!({
        "created": CREATED, "data": vec![image; count],
        "usage": { "input_tokens": 1, "output_tokens": count, "total_tokens": 1 + count },
    }))
}

/// Not sound, but bytes of the right type that say what they were made of.
pub fn speech(_: &Call, request: &Value) -> Reply {
    let input = request.get("input").and_then(Value::as_str).unwrap_or_default();
    let content_type = match request.get("response_format").and_then(Value::as_str) {
        Some("wav") => "audio/wav",
        Some("opus") => "audio/opus",
        Some("aac") => "audio/aac",
        Some("flac") => "audio/flac",
        Some("pcm") => "audio/pcm",
        _ => "audio/mpeg",
    };
    Reply::bytes(content_type, format!("ID3mock speech: {input}").into())
}

/// Tells name and length of the file.
pub fn transcription(call: &Call) -> Reply {
    let file = call.file("file");
    let name = file.and_then(|file| file.filename.clone()).unwrap_or_default();
    let text = format!("mock: {name} of {} bytes", file.map_or(0, |file| file.content.len()));
    if call.stream {
        let delta = json!({ "type": "transcript.text.delta", "delta": text });
        let done = json!({ "type": "transcript.text.done", "text": text });
        return Reply::events(vec![event(None, &delta), event(None, &done), Bytes::from_static(b"data: [DONE]\n\n")]);
    }
    match call.field("response_format").as_deref() {
        Some("text" | "srt" | "vtt") => Reply::bytes("text/plain; charset=utf-8", format!("{text}\n").into())
            .header(http::header::CONTENT_LANGUAGE, HeaderValue::from_static("en")),
        Some("verbose_json") => Reply::json(&json!({
            "task": "transcribe", "language": "english", "duration": 1.0, "text": text,
            "segments": [{ "id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": text, "tokens": [], "temperature": 0.0,
                "avg_logprob": 0.0, "compression_ratio": 1.0, "no_speech_prob": 0.0 }],
        })),
        _ => Reply::json(&json!({ "text": text, "usage": { "type": "duration", "seconds": 1 } })),
    }
}
