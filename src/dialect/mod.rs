//! What callers and upstreams speak: dialects, their operations and paths, and the byte-level
//! readers that find what routing needs without parsing the rest.
//!
//! Sans-IO: bytes in, findings out. Knows no provider, no key and no socket.

pub mod frame;
pub mod openai;
pub mod scan;

/// A family of wire formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
    Bedrock,
    Cohere,
}

/// What a call does. One operation per row of the provider × operation table in the docs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Operation {
    ChatCompletion,
    TextCompletion,
    Responses,
    /// `/responses/{id}` and what lies below it.
    ResponsesItem,
    Embedding,
    Moderation,
    Rerank,
    ImageGeneration,
    ImageEdit,
    ImageVariation,
    Speech,
    Transcription,
    Translation,
    ListModels,
    /// `/models/{id}`.
    Model,
    /// `/files` and below.
    Files,
    /// `/batches` and below.
    Batches,
    /// Any other path of the dialect: relayed as it is.
    Other,
}

/// A dialect and an operation: what the router makes of method and path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Endpoint {
    pub dialect: Dialect,
    pub operation: Operation,
}

/// How the body of an operation is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BodyKind {
    /// Nothing is expected and nothing is sent.
    None,
    /// Held whole, scanned for `model`, `stream` and `fallbacks`.
    Json,
    /// `multipart/form-data` with a `model` part; flows. A caller who sends JSON instead is read as
    /// [`BodyKind::Json`].
    Form,
    /// JSON is held and scanned, anything else flows.
    ByContentType,
}

impl Operation {
    /// Name as in `allowed_requests` and `request_path_overrides` (bifrost.md 5.3), in logs and in
    /// metrics. A streamed call appends `_stream` in `allowed_requests` only.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletion => "chat_completion",
            Self::TextCompletion => "text_completion",
            Self::Responses => "responses",
            Self::ResponsesItem => "responses_item",
            Self::Embedding => "embedding",
            Self::Moderation => "moderation",
            Self::Rerank => "rerank",
            Self::ImageGeneration => "image_generation",
            Self::ImageEdit => "image_edit",
            Self::ImageVariation => "image_variation",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Translation => "translation",
            Self::ListModels => "list_models",
            Self::Model => "model",
            Self::Files => "files",
            Self::Batches => "batches",
            Self::Other => "other",
        }
    }

    /// Only keys with `use_for_batch_api` serve these (CONTRACT 2.3).
    pub fn is_batch(self) -> bool {
        matches!(self, Self::Files | Self::Batches)
    }
}
