//! One request of a connection: its handler, its answer's body, and what ends them early.
//!
//! A panic costs its own caller and nobody else: it is caught where the handler or the body is
//! polled. At the end of a drain a handler that still waits is answered for, and a body is told to
//! say its last words.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::drain::Drain;
use super::io::Active;
use super::sniff::Protocol;
use super::{ConnInfo, Handler, Interrupt, Unserved};
use crate::error::BoxError;

/// What all requests of a connection share.
pub struct Terms {
    pub info: Arc<ConnInfo>,
    pub protocol: Protocol,
    pub header_count_max: usize,
    pub drain: Drain,
}

/// Answers one request.
pub async fn answer<H: Handler>(
    request: Request<Incoming>,
    handler: H,
    terms: Arc<Terms>,
    active: Active,
) -> Result<Response<Served<H>>, Infallible> {
    let info = Arc::clone(&terms.info);
    let mut over = Over::new(terms);
    // hyper counts for HTTP/1; for HTTP/2 only the bytes.
    let response = if request.headers().len() > over.terms.header_count_max {
        let mut refusal = Response::new(None);
        *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        refusal
    } else {
        let asker = handler.asker(&request);
        let mut call = pin!(handler.call(request, &asker, info));
        let answered = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(Poll::Pending) if over.is_reached(cx) => Poll::Ready(handler.unserved(Unserved::Stopping, &asker)),
            Ok(polled) => polled,
            Err(_) => {
                handler.panicked();
                Poll::Ready(handler.unserved(Unserved::Panicked, &asker))
            }
        });
        answered.await.map(Some)
    };
    Ok(response.map(|body| Served { body, over, interrupted: false, handler, _active: active }))
}

/// Whether draining is over, and the wake-up for it.
struct Over {
    terms: Arc<Terms>,
    /// A stream of HTTP/2 is a task of its own, which the connection does not wake.
    wake: Option<Wake>,
}

enum Wake {
    Unset,
    Set(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Over {
    fn new(terms: Arc<Terms>) -> Self {
        let wake = match terms.protocol {
            Protocol::Http1 => None,
            Protocol::Http2 => Some(Wake::Unset),
        };
        Self { terms, wake }
    }

    /// To be asked whenever there is nothing else to do.
    fn is_reached(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(wake @ Wake::Unset) = &mut self.wake {
            *wake = Wake::Set(Box::pin(self.terms.drain.over()));
        }
        match &mut self.wake {
            Some(Wake::Set(wake)) if !self.terms.drain.is_over() => wake.as_mut().poll(cx).is_ready(),
            _ => self.terms.drain.is_over(),
        }
    }
}

/// An answer's body that counts as being served until hyper lets go of it.
pub struct Served<H: Handler> {
    /// `None`: empty.
    body: Option<H::Body>,
    over: Over,
    interrupted: bool,
    handler: H,
    _active: Active,
}

impl<H: Handler + Unpin> Body for Served<H> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { body: Some(body), over, interrupted, handler, .. } = self.get_mut() else {
            return Poll::Ready(None);
        };
        let mut polled = poll_caught(body, cx, handler);
        if polled.is_pending() && !*interrupted && over.is_reached(cx) {
            *interrupted = true;
            body.interrupt();
            polled = poll_caught(body, cx, handler);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn poll_caught<H: Handler>(
    body: &mut H::Body,
    cx: &mut Context<'_>,
    handler: &H,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *body).poll_frame(cx))) {
        Ok(polled) => polled.map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        Err(_) => {
            handler.panicked();
            Poll::Ready(Some(Err("the answer's body panicked".into())))
        }
    }
}
