//! The built-in upstream: answers in the OpenAI, Anthropic, Gemini and Bedrock wire formats without a model behind it.
//!
//! Deterministic: the same request gets the same answer. What it does instead of answering well is
//! asked for by model name or bearer value (fault.rs). It knows no snapshot, no key of ours and no
//! provider; keyway talks to it as to any upstream, in process or over a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;

use crate::dialect::Dialect;
use crate::error::BoxError;

mod answer;
mod anthropic;
mod base64;
mod bedrock;
mod body;
mod call;
mod chat;
mod echo;
mod fault;
mod form;
mod gemini;
mod issuer;
mod keep;
mod media;
mod messages;
mod openai;
mod pipe;
mod record;
mod reply;
mod responses;
mod vectors;
mod verify;

pub use body::MockBody;
pub use fault::Behaviour;
pub use pipe::{InMemory, serve};

use body::Open;
use call::Call;
use record::{Recorder, Seen};
use reply::Reply;

/// Whether the mock remembers what it saw and answers `/__mock/…`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recording {
    On,
    Off,
}

/// One mock upstream.
#[derive(Debug)]
pub struct Mock {
    recorder: Option<Recorder>,
    open: Arc<AtomicU64>,
    served: AtomicU64,
    kept: keep::Kept,
    anthropic: keep::Kept,
    gemini: keep::Kept,
    issuers: issuer::Issuers,
    bench: Bytes,
}

impl Mock {
    pub fn new(recording: Recording) -> Self {
        Self {
            recorder: (recording == Recording::On).then(Recorder::new),
            open: Arc::default(),
            served: AtomicU64::new(0),
            kept: keep::Kept::default(),
            anthropic: keep::Kept::default(),
            gemini: keep::Kept::default(),
            issuers: issuer::Issuers::default(),
            bench: chat::canned(fault::BENCH_BYTES),
        }
    }

    /// Requests that have not been answered to their end.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    pub async fn handle<B>(&self, request: Request<B>) -> Response<MockBody>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        if let Some(told) = self.told(request.uri()) {
            return told;
        }
        let open = Open::new(&self.open);
        let number = self.served.fetch_add(1, Ordering::Relaxed);
        let call = match Call::read(request).await {
            Ok(call) => call,
            Err(reply) => return reply.plain(open),
        };
        if let Some(recorder) = &self.recorder {
            recorder.note(Seen {
                method: call.method.to_string(),
                path: call.path().to_owned(),
                key: call.key.clone().or_else(|| verify::access_key(&call)),
                model: call.model.clone(),
                stream: call.stream,
                bytes: call.body.len(),
            });
        }
        let now = SystemTime::now();
        if let Some(reply) = self.issuers.answer(&call, now).or_else(|| verify::refusal(&call, now)) {
            return reply.plain(open);
        }
        let behaviour = match call.key.as_deref().map_or(Behaviour::Answer, Behaviour::of_key) {
            Behaviour::Answer => call.model.as_deref().map_or(Behaviour::Answer, Behaviour::of_model),
            of_key => of_key,
        };
        let mut response = self.behave(&call, behaviour, open).await;
        // Digits are always a valid header value.
        if let Ok(id) = HeaderValue::from_str(&format!("req_mock_{number}")) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }

    async fn behave(&self, call: &Call, behaviour: Behaviour, open: Open) -> Response<MockBody> {
        let behaviour = match behaviour {
            // Canned answers are chat completions; the other dialects give an ordinary one.
            Behaviour::Bench { .. } if call.dialect() != Dialect::OpenAi => Behaviour::Answer,
            Behaviour::BenchStream { every, .. } if call.dialect() != Dialect::OpenAi => Behaviour::Drip(every),
            behaviour => behaviour,
        };
        match behaviour {
            Behaviour::Status { status, retry_after } => reply::fault(call, status, retry_after).plain(open),
            Behaviour::Quota => reply::quota(call.dialect()).plain(open),
            Behaviour::Echo => echo::echo(call).plain(open),
            Behaviour::Bench { bytes: fault::BENCH_BYTES } => Reply::json_bytes(self.bench.clone()).plain(open),
            Behaviour::Bench { bytes } => Reply::json_bytes(chat::canned(bytes)).plain(open),
            Behaviour::BenchStream { events, every } => chat::paced(events, every, open),
            Behaviour::Hang => {
                tokio::time::sleep(crate::limits::MOCK_WAIT_MAX).await;
                reply::fault(call, 504, None).plain(open)
            }
            Behaviour::Slow(span) => {
                tokio::time::sleep(span).await;
                self.answer(call).plain(open)
            }
            Behaviour::Answer
            | Behaviour::HangAfterHead
            | Behaviour::HeadThenWait(_)
            | Behaviour::Drip(_)
            | Behaviour::Cut(_)
            | Behaviour::ErrorFirst
            | Behaviour::ErrorMid
            | Behaviour::Garbage => self.answer(call).shaped(call.dialect(), behaviour, open),
        }
    }

    fn answer(&self, call: &Call) -> Reply {
        match call.dialect() {
            Dialect::Anthropic => anthropic::answer(self, call),
            Dialect::Gemini => gemini::answer(self, call),
            Dialect::Bedrock => bedrock::answer(call),
            Dialect::OpenAi | Dialect::Cohere => openai::answer(self, call),
        }
    }

    /// `/__mock/requests`, `/__mock/open` and the account that signs, where recording is on.
    fn told(&self, uri: &http::Uri) -> Option<Response<MockBody>> {
        let recorder = self.recorder.as_ref()?;
        let value = match uri.path() {
            "/__mock/open" => serde_json::json!({ "open": self.open() }),
            "/__mock/google-service-account.json" => self.issuers.account_file()?,
            "/__mock/requests" => {
                let query = uri.query().unwrap_or_default().as_bytes();
                let mut pairs = form_urlencoded::parse(query);
                let after = pairs.find(|(name, _)| name == "after").and_then(|(_, value)| value.parse().ok());
                recorder.after(after.unwrap_or(0))
            }
            _ => return None,
        };
        let mut response = Response::new(MockBody::whole(value.to_string().into()));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Some(response)
    }
}

#[cfg(test)]
mod tests;
