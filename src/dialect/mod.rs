//! What callers and upstreams speak: dialects, their operations and paths, and the byte-level
//! readers that find what routing needs without parsing the rest.
//!
//! Sans-IO: bytes in, findings out. Knows no provider, no key and no socket.

pub mod anthropic;
pub mod bedrock;
pub mod frame;
pub mod gemini;
pub mod inband;
pub mod kept;
pub mod openai;
pub mod path;
pub mod repeated;
pub mod scan;
pub mod unasked;
pub mod usage;

use bytes::Bytes;

use crate::error::{Kind, Public};
use frame::document::Behind;
use frame::ending::Terminal;
use path::PathRow;

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
    /// How many tokens a request would take; nothing is generated.
    CountTokens,
    /// Bedrock's call in the model's own format, whatever the model does.
    Invoke,
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

impl Endpoint {
    /// Whether bodies of this endpoint name the path's model once more.
    pub fn repeats_model(self) -> bool {
        self.dialect == Dialect::Gemini && matches!(self.operation, Operation::Embedding | Operation::CountTokens)
    }
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
    /// Flows, whatever it is.
    Opaque,
}

/// A failure that a dialect puts into words.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    pub kind: Kind,
    /// HTTP status that it has, or would have had if it had come before the first byte.
    pub status: u16,
    pub public: &'a Public,
    /// Of the request.
    pub id: &'a str,
}

impl Dialect {
    pub const ALL: [Self; 5] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Bedrock, Self::Cohere];

    /// For people, as in "the … API".
    pub fn label(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
            Self::Gemini => "Gemini",
            Self::Bedrock => "Bedrock",
            Self::Cohere => "Cohere",
        }
    }

    /// The paths that mean something to routing, below the version prefix.
    pub fn paths(self) -> &'static [PathRow] {
        match self {
            Self::OpenAi => openai::PATHS,
            Self::Anthropic => anthropic::PATHS,
            Self::Gemini => gemini::PATHS,
            Self::Bedrock => bedrock::PATHS,
            Self::Cohere => &[],
        }
    }

    /// The body of an error answer.
    pub fn error_body(self, failure: &Failure<'_>) -> Bytes {
        match self {
            Self::Anthropic => anthropic::error_body(failure),
            Self::Gemini => gemini::error_body(failure),
            Self::Bedrock => bedrock::error_body(failure),
            Self::OpenAi | Self::Cohere => openai::error_body(failure.kind, failure.public),
        }
    }

    /// What ends a stream of server-sent events; `None` where its end must be believed.
    pub fn terminal(self, operation: Operation) -> Option<Terminal> {
        match self {
            Self::OpenAi => openai::terminal(operation),
            Self::Anthropic => anthropic::terminal(operation),
            Self::Gemini => gemini::terminal(operation),
            Self::Bedrock | Self::Cohere => None,
        }
    }

    /// A header that an error answer has beside its body.
    pub fn error_header(self, kind: Kind) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Bedrock => Some((bedrock::ERROR_TYPE, bedrock::error_type(kind))),
            Self::OpenAi | Self::Anthropic | Self::Gemini | Self::Cohere => None,
        }
    }

    /// What ends a broken stream in-band: an event, or Bedrock's frame.
    pub fn error_event(self, operation: Operation, failure: &Failure<'_>) -> Bytes {
        match self {
            Self::Anthropic => anthropic::error_event(failure),
            Self::Gemini => gemini::error_event(failure),
            Self::Bedrock => bedrock::error_frame(failure),
            Self::OpenAi | Self::Cohere => openai::error_event(operation, failure.kind, failure.public),
        }
    }

    /// Whether answers to this may be a JSON list that comes element by element.
    pub fn has_lists(self, operation: Operation) -> bool {
        self == Self::Gemini && operation == Operation::ChatCompletion
    }

    /// What ends a broken JSON list, where a further element may stand.
    pub fn error_element(self, failure: &Failure<'_>, behind: Behind) -> Bytes {
        let body = self.error_body(failure);
        match behind {
            Behind::Bracket => [&body[..], b"]"].concat().into(),
            Behind::Element => [b",", &body[..], b"]"].concat().into(),
        }
    }

    /// The header in which callers look for the id of their request, beside our own.
    pub fn request_id_header(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("request-id"),
            Self::Bedrock => Some("x-amzn-requestid"),
            Self::OpenAi | Self::Gemini | Self::Cohere => None,
        }
    }

    /// A header that an upstream insists on, sent where the caller did not.
    pub fn default_header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Anthropic => Some(anthropic::DEFAULT_VERSION),
            Self::OpenAi | Self::Gemini | Self::Bedrock | Self::Cohere => None,
        }
    }

    /// What stands before a model's name in an upstream's path, and the name, which is one segment there.
    pub fn split_model(self, name: &str) -> (&'static str, &str) {
        match self {
            Self::Gemini => gemini::split_model(name),
            Self::OpenAi | Self::Anthropic | Self::Bedrock | Self::Cohere => ("", name),
        }
    }

    /// The name that a caller means by what stands in a path, decoded.
    pub fn plain_name(self, name: &str) -> &str {
        match self {
            Self::Gemini => gemini::plain_name(name),
            Self::OpenAi | Self::Anthropic | Self::Bedrock | Self::Cohere => name,
        }
    }
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
            Self::CountTokens => "count_tokens",
            Self::Invoke => "invoke",
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
