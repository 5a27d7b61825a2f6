//! Answers of the mock before they become bodies, and the ways in which they go wrong.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::anthropic;
use super::bedrock;
use super::body::{MockBody, Open, Step};
use super::call::Call;
use super::fault::Behaviour;
use super::gemini;
use crate::dialect::Dialect;
use crate::dialect::frame::eventstream;
use crate::limits::MOCK_WAIT_MAX;

/// Pieces in which a whole answer is sent where it is sent in pieces.
const PIECE_BYTES: usize = 32;

#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    content_type: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    Whole(Bytes),
    Events(Vec<Bytes>),
    /// Sent piece by piece, and only whole together.
    Pieces(Vec<Bytes>),
}

impl Reply {
    pub fn json(value: &Value) -> Self {
        Self::json_bytes(value.to_string().into())
    }

    pub fn json_bytes(bytes: Bytes) -> Self {
        Self::bytes("application/json", bytes)
    }

    pub fn bytes(content_type: &'static str, bytes: Bytes) -> Self {
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), payload: Payload::Whole(bytes) }
    }

    /// Server-sent events, each whole with its empty line.
    pub fn events(events: Vec<Bytes>) -> Self {
        let payload = Payload::Events(events);
        Self { status: StatusCode::OK, content_type: "text/event-stream", headers: Vec::new(), payload }
    }

    /// Frames of an AWS event stream.
    pub fn frames(frames: Vec<Bytes>) -> Self {
        Self { content_type: eventstream::CONTENT_TYPE, ..Self::events(frames) }
    }

    /// One document that comes piece by piece.
    pub fn pieces(content_type: &'static str, pieces: Vec<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), payload: Payload::Pieces(pieces) }
    }

    pub fn error(status: u16, kind: &str, code: &str, message: &str) -> Self {
        let code = if code.is_empty() { Value::Null } else { code.into() };
        let body = json!({ "error": { "message": message, "type": kind, "param": null, "code": code } });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, ..Self::json(&body) }
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As it is.
    pub fn plain(self, open: Open) -> Response<MockBody> {
        let steps: Vec<Step> = match self.payload {
            Payload::Whole(bytes) => vec![Step::Send(bytes)],
            Payload::Events(pieces) | Payload::Pieces(pieces) => pieces.into_iter().map(Step::Send).collect(),
        };
        let body = MockBody::steps(steps, Some(open));
        respond(self.status, self.content_type, self.headers, body)
    }

    /// The head of this with another body.
    pub fn with_body(self, body: MockBody) -> Response<MockBody> {
        respond(self.status, self.content_type, self.headers, body)
    }

    /// With a fault in its body; an error is left as it is.
    pub fn shaped(self, dialect: Dialect, behaviour: Behaviour, open: Open) -> Response<MockBody> {
        if self.status != StatusCode::OK {
            return self.plain(open);
        }
        let streamed = matches!(self.payload, Payload::Events(_));
        let whole = matches!(self.payload, Payload::Whole(_));
        let pieces = match self.payload {
            Payload::Events(pieces) | Payload::Pieces(pieces) => pieces,
            Payload::Whole(bytes) => (0..bytes.len())
                .step_by(PIECE_BYTES)
                .map(|at| bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))
                .collect(),
        };
        let half = pieces.len() / 2;
        let failure = if streamed { failed_event(dialect, pieces.first()) } else { failed_body(dialect) };
        let send = |pieces: Vec<Bytes>| pieces.into_iter().map(Step::Send).collect::<Vec<_>>();
        let steps = match behaviour {
            Behaviour::HangAfterHead => vec![Step::Wait(MOCK_WAIT_MAX), Step::Abort],
            Behaviour::HeadThenWait(span) => [vec![Step::Wait(span)], send(pieces)].concat(),
            Behaviour::Drip(span) => {
                pieces.into_iter().flat_map(|piece| [Step::Send(piece), Step::Wait(span)]).collect()
            }
            Behaviour::Cut(count) => {
                let kept = pieces.into_iter().take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
                [send(kept), vec![Step::Flush, Step::Abort]].concat()
            }
            Behaviour::ErrorFirst => vec![Step::Send(failure)],
            Behaviour::ErrorMid if streamed => {
                [send(pieces.into_iter().take(half).collect()), vec![Step::Flush, Step::Send(failure)]].concat()
            }
            Behaviour::ErrorMid => {
                [send(pieces.into_iter().take(half).collect()), vec![Step::Flush, Step::Abort]].concat()
            }
            Behaviour::Garbage => vec![Step::Send(Bytes::from_static(b"\x00\xff<html>this is not what you asked for"))],
            // One piece and a known length where nothing is to go wrong.
            _ if whole => vec![Step::Send(pieces.concat().into())],
            _ => send(pieces),
        };
        respond(self.status, self.content_type, self.headers, MockBody::steps(steps, Some(open)))
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: MockBody,
) -> Response<MockBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    response
}

/// An error by status, worded as the real ones are. The 401 quotes the key: whoever relays it
/// shows a secret, and a test can see that.
pub fn fault(call: &Call, status: u16, retry_after: Option<u64>) -> Reply {
    let key = call.key.as_deref().unwrap_or_default();
    let model = call.model.as_deref().unwrap_or_default();
    let (kind, code, message) = match status {
        401 => ("invalid_request_error", "invalid_api_key", format!("Incorrect API key provided: {key}.")),
        403 => {
            let message = format!("The project of key {key} does not have access to model `{model}`.");
            ("invalid_request_error", "model_not_found", message)
        }
        404 => {
            let message = format!("The model `{model}` does not exist or you do not have access to it.");
            ("invalid_request_error", "model_not_found", message)
        }
        429 => ("requests", "rate_limit_exceeded", "Rate limit reached for requests.".to_owned()),
        503 | 529 => ("overloaded_error", "", "The engine is currently overloaded.".to_owned()),
        400..500 => ("invalid_request_error", "", format!("status {status}, as asked")),
        _ => ("server_error", "", "The server had an error while processing your request.".to_owned()),
    };
    let reply = match call.dialect() {
        Dialect::Anthropic => anthropic::error(status, &message),
        Dialect::Gemini => gemini::error(status, &message),
        Dialect::Bedrock => bedrock::error(status, &message),
        Dialect::OpenAi | Dialect::Cohere => Reply::error(status, kind, code, &message),
    };
    match retry_after {
        Some(seconds) => reply.header(RETRY_AFTER, HeaderValue::from(seconds)),
        None => reply,
    }
}

pub fn quota(dialect: Dialect) -> Reply {
    let message = "You exceeded your current quota, please check your plan and billing details.";
    match dialect {
        Dialect::Anthropic => anthropic::error(402, message),
        Dialect::Gemini => gemini::error(429, message),
        Dialect::Bedrock => bedrock::error(429, message),
        Dialect::OpenAi | Dialect::Cohere => Reply::error(429, "insufficient_quota", "insufficient_quota", message),
    }
}

/// One server-sent event.
pub fn event(name: Option<&str>, data: &Value) -> Bytes {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n").into(),
        None => format!("data: {data}\n\n").into(),
    }
}

/// An error in the manner of the stream that it stands in: named events are of the Responses API.
fn failed_event(dialect: Dialect, first: Option<&Bytes>) -> Bytes {
    let message = "The server had an error while processing your request.";
    match dialect {
        Dialect::Anthropic => return event(Some("error"), &anthropic::error_value(529, message)),
        Dialect::Gemini => return event(None, &gemini::error_value(503, message)),
        Dialect::Bedrock => return bedrock::error_frame(message),
        Dialect::OpenAi | Dialect::Cohere => {}
    }
    if first.is_some_and(|event| event.starts_with(b"event:")) {
        let data =
            json!({ "type": "error", "code": "server_error", "message": message, "param": null, "sequence_number": 0 });
        return event(Some("error"), &data);
    }
    event(
        None,
        &json!({ "error": { "message": message, "type": "server_error", "param": null, "code": "server_error" } }),
    )
}

fn failed_body(dialect: Dialect) -> Bytes {
    let message = "The server had an error while processing your request.";
    match dialect {
        Dialect::Anthropic => return anthropic::error_value(529, message).to_string().into(),
        Dialect::Gemini => return gemini::error_value(503, message).to_string().into(),
        Dialect::OpenAi | Dialect::Bedrock | Dialect::Cohere => {}
    }
    json!({ "error": { "message": message, "type": "server_error", "param": null, "code": 500 } }).to_string().into()
}
