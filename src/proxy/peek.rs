//! The last look before the commit point: how the body of a good head begins.
//!
//! Nothing has gone to the caller yet, so an answer that breaks before its first byte, or a stream
//! whose first event is an error, can still give way to the next key. A stream is read up to its
//! first event, within [`PEEK_BYTES_MAX`] and [`PEEK_HOLD_MAX`]; of every other answer the first piece
//! is waited for and not read. What was taken is passed on as it came: nothing is joined or copied.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::shape::Shape;
use crate::chunks::Chunks;
use crate::dialect::frame::ending::{Ending, Terminal, Verdict};
use crate::dialect::frame::eventstream::{Follower, Kind};
use crate::dialect::frame::sse::{Item, Splitter};
use crate::dialect::inband::{StreamError, error_in};
use crate::limits::{PEEK_BYTES_MAX, PEEK_HOLD_MAX};
use crate::upstream::{AnswerBody, AnswerFault};

/// What the first bytes of an answer show.
pub enum Sight {
    /// Nothing that speaks against it.
    Good(Opened),
    /// The first event is an error; these are the bytes up to its end, and perhaps some more.
    Error(Chunks, StreamError),
    /// It ended before it said anything.
    Lost(Lost),
}

/// How an answer was lost.
#[derive(Debug)]
pub enum Lost {
    Fault(AnswerFault),
    /// The bytes ended well, the stream did not.
    Cut,
}

/// An answer's body, of which the beginning may have been taken already.
pub struct Opened {
    held: Chunks,
    next: usize,
    body: AnswerBody,
}

impl Opened {
    /// Nothing of it was looked at.
    pub fn unread(body: AnswerBody) -> Self {
        Self { held: Chunks::new(), next: 0, body }
    }
}

/// Waits for the beginning of an answer's body.
pub async fn look(body: AnswerBody, shape: Shape) -> Sight {
    match shape {
        // Streams are few beside what one of them costs, and the future is large.
        Shape::Events { terminal, .. } => Box::pin(first_event(body, terminal)).await,
        Shape::Frames { .. } => Box::pin(first_frame(body)).await,
        Shape::Document { framed } => first_piece(body, !framed).await,
        Shape::Opaque => first_piece(body, false).await,
    }
}

/// `owed`: an answer without one byte is none.
async fn first_piece(mut body: AnswerBody, owed: bool) -> Sight {
    let mut held = Chunks::new();
    while held.is_empty() && !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(frame)) => held.push(frame.into_data().unwrap_or_default()),
            Some(Err(fault)) => return Sight::Lost(Lost::Fault(fault)),
            None if owed => return Sight::Lost(Lost::Cut),
            None => break,
        }
    }
    Sight::Good(Opened { held, next: 0, body })
}

async fn first_frame(mut body: AnswerBody) -> Sight {
    let (mut held, mut follower, mut first) = (Chunks::new(), Follower::default(), None);
    while first.is_none() && held.len() <= PEEK_BYTES_MAX {
        let chunk = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(fault)) => return Sight::Lost(Lost::Fault(fault)),
            None => return Sight::Lost(Lost::Cut),
        };
        follower.push(&chunk, |kind| {
            first.get_or_insert_with(|| match kind {
                Kind::Exception(code) => Some(StreamError { status: None, code: code.to_owned() }),
                Kind::Event(_) | Kind::Other => None,
            });
        });
        held.push(chunk);
        if first.is_none() && follower.is_lost() {
            return Sight::Lost(Lost::Cut);
        }
    }
    match first {
        Some(Some(error)) => Sight::Error(held, error),
        Some(None) | None => Sight::Good(Opened { held, next: 0, body }),
    }
}

async fn first_event(mut body: AnswerBody, terminal: Option<Terminal>) -> Sight {
    let mut held = Chunks::new();
    let mut splitter = Splitter::new();
    let mut until = None;
    loop {
        let frame = match until {
            None => body.frame().await,
            Some(until) => match timeout_at(until, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => break,
            },
        };
        let chunk = match frame {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(fault)) => return Sight::Lost(Lost::Fault(fault)),
            None if is_cut(&held, terminal) => return Sight::Lost(Lost::Cut),
            None => break,
        };
        let mut first = None;
        splitter.push(&chunk, |item| {
            if let (Item::Event(event), None) = (item, &first) {
                first = Some(error_in(&event));
            }
        });
        held.push(chunk);
        match first {
            Some(Some(error)) => return Sight::Error(held, error),
            Some(None) => break,
            None if held.len() > PEEK_BYTES_MAX => break,
            None => {}
        }
        until = until.or_else(|| Some(Instant::now() + PEEK_HOLD_MAX));
    }
    Sight::Good(Opened { held, next: 0, body })
}

/// Whether a stream that ended without one event was cut.
fn is_cut(held: &Chunks, terminal: Option<Terminal>) -> bool {
    terminal.is_some_and(|terminal| {
        let mut ending = Ending::new(terminal);
        for chunk in held.iter() {
            ending.push(chunk);
        }
        ending.verdict() == Verdict::Cut
    })
}

impl Body for Opened {
    type Data = Bytes;
    type Error = AnswerFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerFault>>> {
        let opened = self.get_mut();
        if let Some(chunk) = opened.held.get(opened.next) {
            let frame = Frame::data(chunk.clone());
            opened.next += 1;
            if opened.held.get(opened.next).is_none() {
                // Not kept for as long as the stream flows.
                opened.held = Chunks::new();
                opened.next = 0;
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        Pin::new(&mut opened.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held: u64 = self.held.iter().skip(self.next).map(|chunk| chunk.len() as u64).sum();
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(held.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(held.saturating_add(upper));
        }
        hint
    }
}
