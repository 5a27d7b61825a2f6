//! A caller's request as the proxy holds it: the body in the pieces in which it was read, and where
//! in it `model` and `fallbacks` stand.
//!
//! Reads within the bounds of the generation, scans each chunk while it is in cache, and never
//! builds a tree. What goes upstream is made by [`Inbound::body_for`]: the same bytes, spliced.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::ask;
use super::guard::BODY_BROKEN;
use crate::chunks::{Chunks, Edit};
use crate::dialect::scan::multipart::{Boundary, FormFault, FormScanner, FormState};
use crate::dialect::scan::{Field, Found, Scanner};
use crate::dialect::{BodyKind, gemini};
use crate::error::{BoxError, GatewayError, Kind};
use crate::id::{ModelName, UpstreamModel};
use crate::limits::{MULTIPART_MODEL_WITHIN_BYTES, OVERLOAD_RETRY_AFTER};
use crate::permit::{Room, Share};
use crate::server::{BodyError, Flowing, hold, read_held};
use crate::snapshot::ServerLimits;
use crate::upstream::UpstreamBody;

/// Head, body, and what routing and splicing need to know of them.
pub struct Inbound {
    pub parts: Parts,
    body: RequestBody,
    found: Scanned,
    head_taken: bool,
    /// Of the memory for bodies, as long as this one is held.
    share: Option<Share>,
    pub stream: bool,
    /// Asks for the usage of the stream.
    ask: Option<Edit>,
    pub fallbacks: SmallVec<[ModelName; 2]>,
}

enum RequestBody {
    Empty,
    /// Whole and replayable.
    Held(Chunks),
    /// Begun to be read; can be sent once.
    Flowing {
        head: Chunks,
        rest: Flowing<Incoming>,
        form: Option<Box<FormScanner>>,
    },
    /// A flowing body that was sent.
    Gone,
}

/// Within what a body is read.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    pub limits: &'a ServerLimits,
    pub room: &'a Room,
}

/// Whether another attempt may follow this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    Perhaps,
    No,
}

/// Where an upstream looks for the model.
#[derive(Clone, Copy, Debug)]
pub enum Model<'a> {
    /// Not in the body.
    Elsewhere,
    /// In the body's own member; put in where there is none.
    Member(&'a UpstreamModel),
    /// In the path; the body has this member in its place.
    Instead(&'a str),
    /// In the path, and again in a body that repeats it.
    Repeated { asked: &'a ModelName, upstream: &'a UpstreamModel },
}

/// What the scanners found in the body.
enum Scanned {
    Nothing,
    Json(Found),
    /// The `model` part of a form.
    Form(Field),
}

impl Inbound {
    /// Reads what `kind` asks for. Errors are the caller's, told before anything was sent.
    pub async fn read(
        parts: Parts,
        incoming: Incoming,
        kind: BodyKind,
        bounds: Bounds<'_>,
    ) -> Result<Self, GatewayError> {
        if kind != BodyKind::None && !is_identity(&parts) {
            return Err(GatewayError::caller(
                Kind::UnsupportedMediaType,
                "unsupported_content_encoding",
                "compressed request bodies are not read; send the body without content-encoding",
            ));
        }
        match kind {
            BodyKind::None => return Ok(Self::with(parts, RequestBody::Empty)),
            BodyKind::Json => return Self::read_json(parts, incoming, bounds, true).await,
            BodyKind::Opaque => return Self::flow(parts, incoming, bounds.limits),
            BodyKind::Form | BodyKind::ByContentType => {}
        }
        // Rare, and its future is large: it must not be carried by every other request.
        Box::pin(Self::read_by_content_type(parts, incoming, kind, bounds)).await
    }

    async fn read_by_content_type(
        parts: Parts,
        incoming: Incoming,
        kind: BodyKind,
        bounds: Bounds<'_>,
    ) -> Result<Self, GatewayError> {
        let content_type = content_type(&parts).into_owned();
        let is_json = content_type.starts_with("application/json");
        match kind {
            // Images are edited by a form or by JSON that names a file.
            BodyKind::Form if is_json => Self::read_json(parts, incoming, bounds, true).await,
            BodyKind::Form => Self::read_form(parts, incoming, bounds, &content_type).await,
            BodyKind::ByContentType if is_json => Self::read_json(parts, incoming, bounds, false).await,
            BodyKind::ByContentType if content_type.starts_with("multipart/form-data") => {
                Self::read_form(parts, incoming, bounds, &content_type).await
            }
            BodyKind::ByContentType | BodyKind::Opaque | BodyKind::None | BodyKind::Json => {
                Self::flow(parts, incoming, bounds.limits)
            }
        }
    }

    /// A body that is passed on unread.
    pub fn flow(parts: Parts, incoming: Incoming, limits: &ServerLimits) -> Result<Self, GatewayError> {
        if incoming.is_end_stream() {
            return Ok(Self::with(parts, RequestBody::Empty));
        }
        let rest = Flowing::new(incoming, limits.request_body_bytes_max, limits.body_timeout)
            .map_err(|error| body_error(error, limits))?;
        Ok(Self::with(parts, RequestBody::Flowing { head: Chunks::new(), rest, form: None }))
    }

    /// A body that is passed on unread, but whole: for an upstream that has it signed.
    pub async fn hold(
        parts: Parts,
        incoming: Incoming,
        Bounds { limits, room }: Bounds<'_>,
    ) -> Result<Self, GatewayError> {
        if incoming.is_end_stream() {
            return Ok(Self::with(parts, RequestBody::Empty));
        }
        let mut share = room.share();
        let read = read_held(incoming, limits.request_body_bytes_max, limits.body_timeout, &mut share, |_| ());
        let chunks = read.await.map_err(|error| body_error(error, limits))?;
        let mut inbound = Self::with(parts, RequestBody::Held(chunks));
        inbound.share = Some(share);
        Ok(inbound)
    }

    fn with(parts: Parts, body: RequestBody) -> Self {
        let fallbacks = SmallVec::new();
        let found = Scanned::Nothing;
        Self { parts, body, found, head_taken: false, share: None, stream: false, ask: None, fallbacks }
    }

    async fn read_json(
        parts: Parts,
        incoming: Incoming,
        Bounds { limits, room }: Bounds<'_>,
        required: bool,
    ) -> Result<Self, GatewayError> {
        let mut scanner = Scanner::new();
        let mut share = room.share();
        let (cap, pace) = (limits.request_body_bytes_max, limits.body_timeout);
        let read = read_held(incoming, cap, pace, &mut share, |chunk| scanner.push(chunk));
        let chunks = read.await.map_err(|error| body_error(error, limits))?;
        if chunks.is_empty() && !required {
            return Ok(Self::with(parts, RequestBody::Empty));
        }
        let mut found = scanner.finish()?;
        let mut inbound = Self::with(parts, RequestBody::Held(chunks));
        inbound.share = Some(share);
        inbound.stream = found.stream;
        if let Some(field) = &found.model {
            checked_model(&field.name)?;
        }
        for name in found.fallbacks.iter_mut().flat_map(|fallbacks| fallbacks.names.drain(..)) {
            checked_model(&name)?;
            inbound.fallbacks.push(ModelName::new(name));
        }
        inbound.found = Scanned::Json(found);
        Ok(inbound)
    }

    async fn read_form(
        parts: Parts,
        incoming: Incoming,
        Bounds { limits, room }: Bounds<'_>,
        content_type: &str,
    ) -> Result<Self, GatewayError> {
        let boundary = Boundary::from_content_type(content_type).map_err(form_error)?;
        let mut form = FormScanner::new(&boundary, MULTIPART_MODEL_WITHIN_BYTES);
        let mut rest = Flowing::new(incoming, limits.request_body_bytes_max, limits.body_timeout)
            .map_err(|error| body_error(error, limits))?;
        let (mut head, mut length, mut share) = (Chunks::new(), 0, room.share());
        loop {
            let Some(frame) = rest.frame().await else { break };
            let frame = frame.map_err(|error| body_error(error, limits))?;
            let Ok(chunk) = frame.into_data() else { continue };
            length += chunk.len() as u64;
            hold(&mut share, length).map_err(|error| body_error(error, limits))?;
            let state = form.push(&chunk);
            head.push(chunk);
            match state {
                FormState::Looking => {}
                FormState::Known => break,
                FormState::Refused(fault) => return Err(form_error(fault)),
            }
        }
        let stream = form.stream();
        let model = form.model().cloned();
        if let Some(field) = &model {
            checked_model(&field.name)?;
        }
        let body = if rest.is_end_stream() {
            // Came whole: it can be sent again, and its end is judged before anything goes out.
            form.finish().map_err(form_error)?;
            RequestBody::Held(head)
        } else {
            RequestBody::Flowing { head, rest, form: Some(Box::new(form)) }
        };
        let mut inbound = Self::with(parts, body);
        inbound.share = Some(share);
        inbound.stream = stream;
        inbound.found = model.map_or(Scanned::Nothing, Scanned::Form);
        Ok(inbound)
    }

    /// The model as the caller wrote it in the body.
    pub fn model(&self) -> Option<&str> {
        let field = match &self.found {
            Scanned::Nothing => None,
            Scanned::Json(found) => found.model.as_ref(),
            Scanned::Form(field) => Some(field),
        };
        field.map(|field| field.name.as_str())
    }

    /// The body, where it is held whole.
    pub fn held(&self) -> Option<&Chunks> {
        match &self.body {
            RequestBody::Held(chunks) => Some(chunks),
            RequestBody::Empty | RequestBody::Flowing { .. } | RequestBody::Gone => None,
        }
    }

    /// Has the upstream asked for the usage of its stream. Returns whether the caller had not done so.
    pub fn ask_for_usage(&mut self) -> bool {
        if let (Scanned::Json(found), RequestBody::Held(chunks)) = (&self.found, &self.body) {
            self.ask = ask::edit(found, chunks);
        }
        self.ask.is_some()
    }

    /// The caller's headers for one attempt: a copy where another may follow, else the map itself.
    pub fn head(&mut self, more: More) -> HeaderMap {
        match more {
            More::Perhaps => self.parts.headers.clone(),
            More::No => {
                self.head_taken = true;
                std::mem::take(&mut self.parts.headers)
            }
        }
    }

    /// Whether the request can be sent again.
    pub fn replayable(&self) -> bool {
        !self.head_taken && matches!(self.body, RequestBody::Empty | RequestBody::Held(_))
    }

    /// Bytes read so far: the whole body, or its head when it flows.
    pub fn bytes_read(&self) -> u64 {
        match &self.body {
            RequestBody::Held(chunks) | RequestBody::Flowing { head: chunks, .. } => chunks.len() as u64,
            RequestBody::Empty | RequestBody::Gone => 0,
        }
    }

    /// The body as this upstream gets it. `None` when a flowing body has already been sent.
    pub fn body_for(&mut self, model: Model<'_>) -> Option<UpstreamBody> {
        let edits = self.edits(model);
        match &mut self.body {
            RequestBody::Empty => Some(UpstreamBody::Empty),
            RequestBody::Held(chunks) if edits.is_empty() => Some(UpstreamBody::held(chunks.clone())),
            RequestBody::Held(chunks) => Some(UpstreamBody::held(chunks.splice(&edits))),
            RequestBody::Flowing { .. } => {
                let RequestBody::Flowing { head, rest, form } = std::mem::replace(&mut self.body, RequestBody::Gone)
                else {
                    return None;
                };
                let head = head.splice(&edits);
                Some(match form {
                    Some(form) => UpstreamBody::flowing(head, ScannedForm { rest, form }),
                    None => UpstreamBody::flowing(head, rest),
                })
            }
            RequestBody::Gone => None,
        }
    }

    /// What differs from the caller's bytes: the model's span, our own `fallbacks` cut out, and
    /// what asks for usage.
    fn edits(&self, model: Model<'_>) -> SmallVec<[Edit; 2]> {
        let member = match model {
            Model::Member(model) => Some(model.as_str()),
            Model::Elsewhere | Model::Instead(_) | Model::Repeated { .. } => None,
        };
        let mut edits = match &self.found {
            Scanned::Nothing => SmallVec::new(),
            Scanned::Json(found) => match model {
                Model::Instead(other) => found.edits_instead(other),
                Model::Elsewhere | Model::Member(_) | Model::Repeated { .. } => found.edits(member),
            },
            Scanned::Form(field) => member.and_then(|model| field.edit_form(model)).into_iter().collect(),
        };
        if let (Model::Repeated { asked, upstream }, RequestBody::Held(chunks)) = (model, &self.body)
            && asked.as_str() != upstream.as_str()
        {
            edits.extend(gemini::model_edits(chunks, asked.as_str(), upstream.as_str()));
        }
        if let Some(ask) = &self.ask {
            edits.push(ask.clone());
            edits.sort_by_key(|edit| edit.span.start);
        }
        edits
    }
}

/// The rest of a form on its way: read to its end, so that a second `model` part cannot slip past a
/// whitelist. A refusal breaks the upstream's request off before it is whole.
struct ScannedForm {
    rest: Flowing<Incoming>,
    form: Box<FormScanner>,
}

impl Body for ScannedForm {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let state = frame.data_ref().map(|chunk| self.form.push(chunk));
                match state {
                    Some(FormState::Refused(fault)) => Some(Err(fault.message().into())),
                    _ => Some(Ok(frame)),
                }
            }
            Some(Err(error)) => Some(Err(error.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}

/// A name that cannot break a form, a header or a log line.
fn checked_model(name: &str) -> Result<(), GatewayError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.chars().any(char::is_control) {
        "holds control characters"
    } else {
        return Ok(());
    };
    Err(GatewayError::caller(Kind::BadRequest, "invalid_model", format!("the model name {problem}")).param("model"))
}

fn is_identity(parts: &Parts) -> bool {
    parts.headers.get_all(header::CONTENT_ENCODING).iter().all(|v| v.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Media type and parameters; the type in lower case, the parameters as they are.
fn content_type(parts: &Parts) -> Cow<'_, str> {
    let Some(text) = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return Cow::Borrowed("");
    };
    let kind = text.split(';').next().unwrap_or("");
    if kind.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.replacen(kind, &kind.to_ascii_lowercase(), 1))
    } else {
        Cow::Borrowed(text)
    }
}

fn body_error(error: BodyError, limits: &ServerLimits) -> GatewayError {
    match error {
        BodyError::TooLarge => GatewayError::caller(
            Kind::BodyTooLarge,
            "request_too_large",
            format!(
                "the request body is larger than {} bytes (server.limits.request_body_mb_max)",
                limits.request_body_bytes_max
            ),
        ),
        BodyError::NeverRoom => GatewayError::caller(
            Kind::BodyTooLarge,
            "request_too_large",
            "the request body is larger than the memory that this process may use for bodies",
        ),
        BodyError::NoRoom => GatewayError::gateway(
            Kind::Overloaded,
            "overloaded",
            "the bodies of other requests fill the memory; come back in a moment",
        )
        .retry_after(OVERLOAD_RETRY_AFTER),
        BodyError::Timeout => GatewayError::caller(
            Kind::BodyTimeout,
            "request_timeout",
            "the request body stopped arriving (server.limits.body_timeout_seconds)",
        ),
        BodyError::Broken(source) => {
            GatewayError::caller(Kind::BadRequest, BODY_BROKEN, "the request body broke off").source(source)
        }
    }
}

fn form_error(fault: FormFault) -> GatewayError {
    GatewayError::caller(Kind::BadRequest, "invalid_form", fault.message())
}
