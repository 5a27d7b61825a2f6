//! One request as the mock sees it: read whole, with what steers the answer taken out.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::form::{self, Part};
use super::reply::Reply;
use crate::dialect::Dialect;
use crate::error::BoxError;
use crate::limits::MOCK_BODY_BYTES_MAX;

#[derive(Debug)]
pub struct Call {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Bearer value, else `x-api-key`, `api-key` or `x-goog-api-key`.
    pub key: Option<String>,
    /// From the body, a form's `model` part, or the path.
    pub model: Option<String>,
    pub stream: bool,
    pub include_usage: bool,
    pub form: Option<Vec<Part>>,
}

const KEYS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

/// The few members that are read of every body; the rest only where an answer is made of it.
#[derive(Debug, Default, Deserialize)]
struct Peek {
    model: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Call {
    pub async fn read<B>(request: Request<B>) -> Result<Self, Reply>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, MOCK_BODY_BYTES_MAX).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Reply::error(413, "invalid_request_error", "body_too_large", "the body is too large"));
            }
            Err(_) => return Err(Reply::error(400, "invalid_request_error", "body_broken", "the body broke off")),
        };
        let header = |name: &http::HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let form = header(&CONTENT_TYPE).and_then(|kind| form::parse(kind, &body));
        let peek: Peek = match &form {
            Some(_) => Peek::default(),
            None => serde_json::from_slice(&body).unwrap_or_default(),
        };
        let bearer = header(&AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let key = bearer.or_else(|| KEYS.iter().find_map(|name| parts.headers.get(*name)?.to_str().ok()));
        let mut call = Self {
            key: key.map(str::to_owned),
            model: peek.model,
            stream: peek.stream.unwrap_or(false),
            include_usage: peek.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body,
            form,
        };
        call.model = match call.dialect() {
            Dialect::Gemini => call.model_in_path(),
            Dialect::Bedrock => call.raw_segments().nth(1),
            _ => call.model.take().or_else(|| call.field("model")).or_else(|| call.model_in_path()),
        };
        let asked = call.path().contains(":stream") || call.path().ends_with("-stream");
        call.stream |= asked || call.field("stream").as_deref() == Some("true");
        Ok(call)
    }

    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Which API is called: by the path, and where two share one by what Anthropic's clients send.
    pub fn dialect(&self) -> Dialect {
        if self.raw_segments().any(|segment| segment == "v1beta") {
            return Dialect::Gemini;
        }
        if self.path().starts_with("/model/") {
            return Dialect::Bedrock;
        }
        let first = self.segments().into_iter().next();
        match first.as_deref() {
            Some("messages" | "complete") => Dialect::Anthropic,
            Some("models" | "files") if self.headers.contains_key("anthropic-version") => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Segments of the operation: what follows the version, a deployment, or `openai`; decoded.
    pub fn segments(&self) -> Vec<String> {
        let all: Vec<String> = self.raw_segments().collect();
        let after = |name: &str, skip: usize| all.iter().position(|segment| segment == name).map(|at| at + skip);
        if let Some(from) = after("v1beta", 1) {
            // An upload has its word before the version.
            let upload = all.first().filter(|first| *first == "upload").cloned();
            return upload.into_iter().chain(all.into_iter().skip(from)).collect();
        }
        // Google's OpenAI-compatible endpoint has no version of its own.
        let from = after("openapi", 1)
            .or_else(|| after("v1", 1))
            .or_else(|| after("deployments", 2))
            .or_else(|| after("openai", 1))
            .unwrap_or(0);
        all.into_iter().skip(from).collect()
    }

    /// A text field of the form.
    pub fn field(&self, name: &str) -> Option<String> {
        let part = self.form.as_ref()?.iter().find(|part| part.name == name)?;
        std::str::from_utf8(&part.content).ok().map(str::to_owned)
    }

    pub fn file(&self, name: &str) -> Option<&Part> {
        self.form.as_ref()?.iter().find(|part| part.name == name)
    }

    /// The body as JSON, or the answer that says that it is none.
    pub fn json(&self) -> Result<Value, Reply> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}");
            Reply::error(400, "invalid_request_error", "invalid_json", &message)
        })
    }

    /// A few hex digits that stand for this request: equal requests, equal ids.
    pub fn digest(&self) -> String {
        let mut text = blake3::Hasher::new();
        text.update(self.path().as_bytes()).update(&self.body);
        text.finalize().to_hex().chars().take(24).collect()
    }

    fn raw_segments(&self) -> impl Iterator<Item = String> {
        let segments = self.path().split('/').filter(|segment| !segment.is_empty());
        segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
    }

    /// `/models/{id}`, `/models/{id}:{verb}` and `/deployments/{id}/…`.
    fn model_in_path(&self) -> Option<String> {
        const KINDS: [&str; 3] = ["models", "tunedModels", "deployments"];
        let mut segments = self.raw_segments().skip_while(|segment| !KINDS.contains(&segment.as_str()));
        let kind = segments.next()?;
        let rest: Vec<String> = segments.collect();
        match kind.as_str() {
            "deployments" => rest.into_iter().next(),
            _ if rest.is_empty() => None,
            _ => {
                // An id may hold slashes that nobody escaped; a verb of Gemini's is none of it.
                let name = rest.join("/");
                let verb = name.rsplit_once(':').filter(|_| self.path().contains("/v1beta/"));
                Some(verb.map_or(name.as_str(), |(before, _)| before).to_owned())
            }
        }
    }
}
