//! Reads an upstream's answer whole, within a bound, so that it can be judged. Deadlines are the body's own.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

/// The body was longer than the bound, broke off, or stopped arriving; its connection is closed.
#[derive(Debug)]
pub struct Unreadable;

/// Up to `max` bytes.
pub async fn read(mut body: impl Body<Data = Bytes> + Unpin, max: usize) -> Result<Bytes, Unreadable> {
    let mut whole: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    loop {
        let frame = match body.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Err(Unreadable),
            None => break,
        };
        let Ok(piece) = frame.into_data() else { continue };
        if joined.len() + whole.as_ref().map_or(0, Bytes::len) + piece.len() > max {
            return Err(Unreadable);
        }
        match whole.take() {
            None if joined.is_empty() => whole = Some(piece),
            None => joined.extend_from_slice(&piece),
            Some(first) => {
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&piece);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| joined.freeze()))
}
