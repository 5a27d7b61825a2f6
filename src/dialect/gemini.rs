//! The Gemini wire: its paths, which hold the model, and its error shape.
//!
//! Bodies and answers are relayed. Some bodies repeat the path's model, and the upstream refuses
//! those that differ; [`model_edits`] finds them by span. Error texts come from
//! [`Public`](crate::error::Public) alone.

use bytes::Bytes;

use super::frame::ending::Terminal;
use super::path::{PathRow, Pattern, row};
use super::repeated::models;
use super::scan::{json_string, write_json_string};
use super::{Failure, Operation};
use crate::chunks::{Chunks, Edit};
use crate::error::{FaultClass, Kind};
use crate::limits::MODEL_EDITS_MAX;

/// The paths that mean something to routing.
pub const PATHS: &[PathRow] = {
    use super::BodyKind::{ByContentType, Json, None};
    use Pattern::{AnyVerb, Below, Exact, Part, Resource, Verb};
    &[
        row("POST", Verb("generateContent"), Operation::ChatCompletion, Json),
        row("POST", Verb("streamGenerateContent"), Operation::ChatCompletion, Json).streamed(),
        row("POST", Verb("countTokens"), Operation::CountTokens, Json),
        row("POST", Verb("embedContent"), Operation::Embedding, Json),
        row("POST", Verb("batchEmbedContents"), Operation::Embedding, Json),
        row("POST", Verb("predict"), Operation::ImageGeneration, Json),
        row("POST", Verb("batchGenerateContent"), Operation::Batches, Json),
        row("POST", Verb("asyncBatchEmbedContent"), Operation::Batches, Json),
        row("POST", AnyVerb, Operation::Other, ByContentType),
        row("GET", Exact("/models"), Operation::ListModels, None),
        // How far a long-running prediction has come.
        row("GET", Part("operations"), Operation::Other, None),
        row("GET", Resource, Operation::Model, None),
        row("PATCH", Resource, Operation::Other, Json),
        row("DELETE", Resource, Operation::Other, None),
        row("POST", Exact("/files"), Operation::Files, ByContentType),
        row("GET", Exact("/files"), Operation::Files, None),
        row("GET", Below("/files"), Operation::Files, None),
        row("DELETE", Below("/files"), Operation::Files, None),
        row("GET", Exact("/batches"), Operation::Batches, None),
        row("GET", Below("/batches"), Operation::Batches, None),
        row("POST", Below("/batches"), Operation::Batches, ByContentType),
        row("DELETE", Below("/batches"), Operation::Batches, None),
    ]
};

/// What ends a stream of this operation.
pub fn terminal(operation: Operation) -> Option<Terminal> {
    (operation == Operation::ChatCompletion).then_some(Terminal::Reason)
}

/// What stands before a model's name in a path and in bodies, and is no part of what people call it.
const MODELS: &str = "models/";
/// A tuned model's kind stays with its name: without it, it would be another.
const TUNED: &str = "tunedModels/";

/// What a caller means by the name of a path or a body.
pub fn plain_name(name: &str) -> &str {
    name.strip_prefix(MODELS).unwrap_or(name)
}

/// Kind with its slash, and the name without.
pub fn split_model(name: &str) -> (&'static str, &str) {
    match name.strip_prefix(TUNED) {
        Some(tuned) => (TUNED, tuned),
        None => (MODELS, plain_name(name)),
    }
}

/// The edits that make every `model` of a body the upstream's where it was the caller's; in the order
/// of the body. One of another name, and one beyond the bound, is left to the upstream to judge.
pub fn model_edits(body: &Chunks, asked: &str, upstream: &str) -> Vec<Edit> {
    let (kind, name) = split_model(upstream);
    let with = json_string(&format!("{kind}{name}"));
    let mut edits = Vec::new();
    models(body, |name, span| {
        if plain_name(name) == plain_name(asked) && edits.len() < MODEL_EDITS_MAX {
            edits.push(Edit { span, with: with.clone() });
        }
    });
    edits
}

/// `error.status` of a failure.
pub fn error_status(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest
        | Kind::MethodNotAllowed
        | Kind::BodyTooLarge
        | Kind::HeadTooLarge
        | Kind::UnsupportedMediaType
        | Kind::Unsupported => "INVALID_ARGUMENT",
        Kind::Unauthorized => "UNAUTHENTICATED",
        Kind::Forbidden => "PERMISSION_DENIED",
        Kind::NotFound | Kind::ModelNotFound => "NOT_FOUND",
        Kind::AllCooling | Kind::RateLimited | Kind::BudgetExceeded | Kind::Answer(FaultClass::Rate) => {
            "RESOURCE_EXHAUSTED"
        }
        Kind::BodyTimeout | Kind::FirstByteTimeout => "DEADLINE_EXCEEDED",
        Kind::Overloaded | Kind::NoEligibleKey | Kind::Connect | Kind::Broken => "UNAVAILABLE",
        Kind::Answer(_) | Kind::CredentialsExhausted | Kind::Internal => "INTERNAL",
    }
}

/// `{"error":{"code","message","status","details"}}`; the details say our own code, and when to come
/// back.
pub fn error_body(failure: &Failure<'_>) -> Bytes {
    let mut out = Vec::with_capacity(256 + failure.public.message.len());
    write_error(failure, &mut out);
    Bytes::from(out)
}

/// The event that ends a broken stream.
pub fn error_event(failure: &Failure<'_>) -> Bytes {
    let mut out = Vec::with_capacity(288 + failure.public.message.len());
    out.extend_from_slice(b"data: ");
    write_error(failure, &mut out);
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}

fn write_error(failure: &Failure<'_>, out: &mut Vec<u8>) {
    let Failure { kind, status, public, .. } = failure;
    out.extend_from_slice(format!("{{\"error\":{{\"code\":{status},\"message\":").as_bytes());
    write_json_string(&public.message, out);
    out.extend_from_slice(b",\"status\":");
    write_json_string(error_status(*kind), out);
    out.extend_from_slice(b",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":");
    write_json_string(&public.code.to_ascii_uppercase(), out);
    out.extend_from_slice(b",\"domain\":\"keyway\"}");
    if let Some(wait) = public.retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        out.extend_from_slice(b",{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"");
        out.extend_from_slice(seconds.to_string().as_bytes());
        out.extend_from_slice(b"s\"}");
    }
    out.extend_from_slice(b"]}}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Public;
    use serde_json::{Value, json};

    #[test]
    fn names_in_paths() {
        for (name, split) in [
            ("gemini-x", ("models/", "gemini-x")),
            ("models/gemini-x", ("models/", "gemini-x")),
            ("tunedModels/mine-1", ("tunedModels/", "mine-1")),
            ("tunedModels/../x", ("tunedModels/", "../x")),
            ("a/../../files", ("models/", "a/../../files")),
        ] {
            assert_eq!(split_model(name), split, "{name}");
        }
    }

    #[test]
    fn names_in_bodies() {
        let edit = |body: &str| {
            let chunks = Chunks::from(Bytes::copy_from_slice(body.as_bytes()));
            let edits = model_edits(&chunks, "gemini/e", "emb-1");
            String::from_utf8(chunks.splice(&edits).flatten().to_vec()).unwrap()
        };
        for (body, expected) in [
            (
                r#"{"requests":[ {"model":"models/gemini/e","content":{}}, {"content":{"model":"models/gemini/e"},"model" : "gemini\/e"}]}"#,
                r#"{"requests":[ {"model":"models/emb-1","content":{}}, {"content":{"model":"models/gemini/e"},"model" : "models/emb-1"}]}"#,
            ),
            (r#"{"model":"models/gemini/e","x":1.50}"#, r#"{"model":"models/emb-1","x":1.50}"#),
            (
                r#"{"generateContentRequest":{"model":"models/gemini/e","contents":[]}}"#,
                r#"{"generateContentRequest":{"model":"models/emb-1","contents":[]}}"#,
            ),
        ] {
            assert_eq!(edit(body), expected);
        }
        for left in [
            r#"{"requests":[{"model":"models/other"}]}"#,
            r#"{"contents":[{"model":"models/gemini/e"}]}"#,
            r#"{"requests":{"model":"models/gemini/e"}}"#,
            r#"{"model":7}"#,
            r#"{"model":null,"requests":[]}"#,
            "[]",
            "",
        ] {
            assert_eq!(edit(left), left);
        }
        let many = format!("{{\"requests\":[{}{{}}]}}", r#"{"model":"a"},"#.repeat(MODEL_EDITS_MAX + 9));
        assert_eq!(model_edits(&Bytes::from(many).into(), "a", "b").len(), MODEL_EDITS_MAX);
        let tuned = model_edits(&Bytes::from_static(br#"{"model":"a"}"#).into(), "a", "tunedModels/b");
        assert_eq!(tuned[0].with, "\"tunedModels/b\"");
    }

    #[test]
    fn errors() {
        let public = Public {
            code: "all_keys_cooling",
            message: "come \"back\"\n".into(),
            retry_after: Some(Duration::from_millis(1500)),
            ..Public::default()
        };
        let failure = Failure { kind: Kind::AllCooling, status: 429, public: &public, id: "r" };
        let body: Value = serde_json::from_slice(&error_body(&failure)).unwrap();
        let error = &body["error"];
        assert_eq!((&error["code"], &error["status"]), (&json!(429), &json!("RESOURCE_EXHAUSTED")));
        assert_eq!(error["message"], public.message);
        assert_eq!(error["details"][0]["reason"], "ALL_KEYS_COOLING");
        assert_eq!(error["details"][1]["retryDelay"], "2s");
        let event = error_event(&failure);
        let data = event.strip_prefix(b"data: ").and_then(|rest| rest.strip_suffix(b"\n\n")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(data).unwrap(), body);
    }
}
