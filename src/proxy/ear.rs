//! What is listened for while an answer passes: its last word, errors that the upstream puts into it,
//! and whether words of our own have a place in it.
//!
//! Hears and judges; it never holds, changes or delays a byte.

use bytes::Bytes;

use super::shape::Shape;
use crate::dialect::frame::document::Document;
use crate::dialect::frame::ending::{Ending, Heard, Terminal, Verdict};
use crate::dialect::frame::eventstream::{Follower, Kind};
use crate::dialect::frame::sse::{Item, Splitter};
use crate::dialect::inband::{StreamError, error_in};
use crate::dialect::{Dialect, Failure, Operation, bedrock};

/// How one answer is listened to.
#[derive(Debug)]
pub enum Ear {
    /// The connection tells its end.
    Deaf,
    /// Server-sent events, and their last one where that is known. `believed`: a reason to stop and the
    /// end of the bytes will do.
    Events { ending: Option<Ending>, believed: bool },
    /// The closing bracket of an answer. `framed`: the upstream also says where it ends.
    Document { document: Document, framed: bool },
    /// Frames of an AWS event stream.
    Frames { follower: Follower, said: Verdict, framed: bool },
}

impl Ear {
    pub fn of(shape: Shape, operation: Operation) -> Self {
        match shape {
            // Where no last word exists none is waited for.
            Shape::Events { terminal, framed } => Self::Events {
                ending: terminal.map(Ending::new),
                believed: framed || terminal == Some(Terminal::Reason),
            },
            Shape::Frames { framed } => {
                Self::Frames { follower: Follower::default(), said: bedrock::owed(operation), framed }
            }
            Shape::Document { framed } => Self::Document { document: Document::default(), framed },
            Shape::Opaque => Self::Deaf,
        }
    }

    /// Takes the next bytes. Returns the error that the upstream told in them, for the first time.
    pub fn push(&mut self, chunk: &[u8], operation: Operation) -> Option<StreamError> {
        match self {
            Self::Deaf | Self::Events { ending: None, .. } => None,
            Self::Document { document, framed } => {
                document.push(chunk);
                if *framed && document.is_list() == Some(false) {
                    *self = Self::Deaf;
                }
                None
            }
            Self::Events { ending: Some(ending), .. } => {
                (ending.push(chunk) == Heard::Error).then(|| first_error(chunk).unwrap_or_default())
            }
            Self::Frames { follower, said, .. } => {
                let mut error = None;
                follower.push(chunk, |kind| match kind {
                    Kind::Event(event) => *said = bedrock::verdict(operation, event).unwrap_or(*said),
                    Kind::Exception(code) => {
                        *said = Verdict::Whole;
                        error = error.take().or_else(|| Some(StreamError { status: None, code: code.to_owned() }));
                    }
                    Kind::Other => {}
                });
                error
            }
        }
    }

    /// The last word has passed: what the connection does behind it changes nothing.
    pub fn has_said_all(&self) -> bool {
        match self {
            Self::Events { ending: Some(ending), .. } => ending.verdict() == Verdict::Whole,
            // What a model says in its own format has no last word: only the connection tells.
            Self::Deaf | Self::Events { ending: None, .. } | Self::Document { .. } | Self::Frames { .. } => false,
        }
    }

    /// Whether the bytes may end here. Where an upstream leaves `[DONE]` out, a choice that said why
    /// it stopped and an end that was announced will do; an end that could be a cut will not.
    pub fn is_whole(&self) -> bool {
        let (verdict, believed) = match self {
            Self::Deaf | Self::Events { ending: None, .. } => return true,
            Self::Document { document, .. } => return !document.is_open(),
            Self::Frames { follower, .. } if !follower.is_between() => return false,
            Self::Frames { said, framed, .. } => (*said, *framed),
            Self::Events { ending: Some(ending), believed } => (ending.verdict(), *believed),
        };
        match verdict {
            Verdict::Whole => true,
            Verdict::Stopped => believed,
            Verdict::Cut => false,
        }
    }

    /// What came is not what it says to be.
    pub fn is_garbled(&self) -> bool {
        matches!(self, Self::Frames { follower, .. } if follower.is_lost())
    }

    /// What tells the caller in-band of a failure, where his dialect has a form for it and there is a
    /// place.
    pub fn last_word(&self, dialect: Dialect, operation: Operation, failure: &Failure<'_>) -> Option<Bytes> {
        match self {
            Self::Events { .. } => Some(dialect.error_event(operation, failure)),
            Self::Frames { follower, .. } => follower.is_between().then(|| bedrock::error_frame(failure)),
            Self::Document { document, .. } if dialect.has_lists(operation) => {
                document.takes_element().map(|behind| dialect.error_element(failure, behind))
            }
            Self::Deaf | Self::Document { .. } => None,
        }
    }
}

/// In the chunk alone: an error that lies across two of them is of no known class.
fn first_error(chunk: &[u8]) -> Option<StreamError> {
    let mut error = None;
    Splitter::new().push(chunk, |item| {
        if let Item::Event(event) = item {
            error = error.take().or_else(|| error_in(&event));
        }
    });
    error
}
