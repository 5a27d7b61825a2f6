//! Request bodies, read within a cap and at a pace.
//!
//! [`read_held`] keeps the chunks as they came and shows each to the caller while it is in cache;
//! [`Flowing`] hands them on. Both refuse a body that is too large as early as its length is known,
//! and one that trickles: each `pace` must bring BODY_PROGRESS_BYTES or the end.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep};

use crate::chunks::Chunks;
use crate::error::BoxError;
use crate::limits::BODY_PROGRESS_BYTES;
use crate::permit::Share;

/// Why a request body could not be read to its end.
#[derive(Debug)]
pub enum BodyError {
    /// More than the cap, by its own word or in fact.
    TooLarge,
    /// More than there is room for beside the bodies that are held already.
    NoRoom,
    /// More than there can ever be room for.
    NeverRoom,
    /// The caller sends too slowly or stopped.
    Timeout,
    /// The caller left or broke the protocol.
    Broken(BoxError),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request body is too large",
            Self::NoRoom => "there is no memory for the request body now",
            Self::NeverRoom => "the request body is larger than the memory for bodies",
            Self::Timeout => "the request body did not arrive in time",
            Self::Broken(_) => "the request body broke off",
        })
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(&**error as &(dyn std::error::Error + 'static)),
            Self::TooLarge | Self::NoRoom | Self::NeverRoom | Self::Timeout => None,
        }
    }
}

/// Reads `body` to its end: at most `cap` bytes, at least BODY_PROGRESS_BYTES within each `pace`, and
/// within its share of the memory. `on_chunk` sees every chunk as it arrives.
pub async fn read_held<B, F>(
    body: B,
    cap: u64,
    pace: Duration,
    share: &mut Share,
    mut on_chunk: F,
) -> Result<Chunks, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    F: FnMut(&Bytes),
{
    let mut body = Flowing::new(body, cap, pace)?;
    if !share.could_grow(body.size_hint().lower()) {
        return Err(BodyError::NeverRoom);
    }
    let mut chunks = Chunks::new();
    let mut length = 0;
    if body.is_end_stream() {
        return Ok(chunks);
    }
    loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(frame)) => {
                // Trailers of a request carry nothing that we would act on.
                if let Ok(chunk) = frame.into_data() {
                    length += chunk.len() as u64;
                    hold(share, length)?;
                    on_chunk(&chunk);
                    chunks.push(chunk);
                }
                if body.is_end_stream() {
                    return Ok(chunks);
                }
            }
            Some(Err(error)) => return Err(error),
            None => return Ok(chunks),
        }
    }
}

/// Makes room for a body that is held and has grown to `length`.
pub fn hold(share: &mut Share, length: u64) -> Result<(), BodyError> {
    match share.grow(length) {
        true => Ok(()),
        false if share.could_grow(length) => Err(BodyError::NoRoom),
        false => Err(BodyError::NeverRoom),
    }
}

/// A body on its way through, under the same bounds.
#[derive(Debug)]
pub struct Flowing<B> {
    body: B,
    left: u64,
    pace: Pace,
}

impl<B: Body> Flowing<B> {
    /// Refuses a body whose announced length is over `cap`.
    pub fn new(body: B, cap: u64, pace: Duration) -> Result<Self, BodyError> {
        if body.size_hint().lower() > cap {
            return Err(BodyError::TooLarge);
        }
        Ok(Self { body, left: cap, pace: Pace { span: pace, timer: None, fresh: 0, moved: false } })
    }
}

impl<B> Body for Flowing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let flowing = self.get_mut();
        let Poll::Ready(next) = Pin::new(&mut flowing.body).poll_frame(cx) else {
            ready!(flowing.pace.poll_over(cx));
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        Poll::Ready(match next {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match flowing.left.checked_sub(length as u64) {
                    Some(left) => {
                        flowing.left = left;
                        flowing.pace.progressed(length);
                        Some(Ok(frame))
                    }
                    None => Some(Err(BodyError::TooLarge)),
                }
            }
            Some(Err(error)) => Some(Err(BodyError::Broken(error.into()))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A deadline that moves on with enough progress. Its timer is made at the first wait, so a body
/// that came along with its head costs none.
#[derive(Debug)]
struct Pace {
    span: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes since the deadline last moved.
    fresh: usize,
    /// Enough came to move the deadline at the next wait.
    moved: bool,
}

impl Pace {
    fn progressed(&mut self, bytes: usize) {
        self.fresh += bytes;
        if self.fresh >= BODY_PROGRESS_BYTES {
            self.fresh = 0;
            self.moved = true;
        }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            None => self.timer.insert(Box::pin(sleep(self.span))),
            Some(timer) => {
                if self.moved {
                    timer.as_mut().reset(Instant::now() + self.span);
                }
                timer
            }
        };
        self.moved = false;
        pin!(unconstrained(timer.as_mut())).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BODY_SHARE_STEP_BYTES, BODY_UNCOUNTED_BYTES};
    use crate::permit::Room;
    use http_body_util::{BodyExt, Full};
    use tokio::sync::mpsc;

    const PACE: Duration = Duration::from_secs(60);

    fn roomy() -> Share {
        Room::new(u64::MAX).share()
    }

    fn full(bytes: usize) -> Full<Bytes> {
        Full::new(Bytes::from(vec![b'x'; bytes]))
    }

    /// A body of unknown length that yields what is sent to it.
    struct Piped(mpsc::UnboundedReceiver<Result<Bytes, BoxError>>);

    impl Body for Piped {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.poll_recv(cx).map(|next| next.map(|chunk| chunk.map(Frame::data)))
        }
    }

    fn pipe() -> (mpsc::UnboundedSender<Result<Bytes, BoxError>>, Piped) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Piped(receiver))
    }

    #[tokio::test]
    async fn cap_by_word_and_in_fact() {
        for (length, fits) in [(0, true), (9, true), (10, true), (11, false)] {
            let mut seen = 0;
            let outcome = read_held(full(length), 10, PACE, &mut roomy(), |chunk| seen += chunk.len()).await;
            assert_eq!(outcome.map(|chunks| chunks.len()).ok(), fits.then_some(length));
            assert_eq!(seen, if fits { length } else { 0 }, "refused unread");

            let (sender, body) = pipe();
            for _ in 0..length {
                sender.send(Ok(Bytes::from_static(b"x"))).unwrap();
            }
            drop(sender);
            let outcome = read_held(body, 10, PACE, &mut roomy(), |_| ()).await;
            assert_eq!(outcome.map(|chunks| chunks.len()).ok(), fits.then_some(length), "of unknown length");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_cut_and_a_slow_upload_is_not() {
        for (chunk, passes) in [(1, false), (BODY_PROGRESS_BYTES / 2 + 1, true)] {
            let (sender, body) = pipe();
            let writer = async move {
                for _ in 0..6 {
                    tokio::time::sleep(PACE / 3).await;
                    if sender.send(Ok(Bytes::from(vec![0; chunk]))).is_err() {
                        return;
                    }
                }
            };
            let start = Instant::now();
            let mut share = roomy();
            let (outcome, ()) = tokio::join!(read_held(body, u64::MAX, PACE, &mut share, |_| ()), writer);
            match outcome {
                Ok(chunks) => assert!(passes && chunks.len() == 6 * chunk),
                Err(error) => {
                    assert!(matches!(error, BodyError::Timeout) && !passes, "{error}");
                    assert!(start.elapsed() < PACE + PACE / 2);
                }
            }
        }
    }

    /// Together they may hold two steps; the second comes when the first holds one already.
    #[tokio::test]
    async fn room_is_taken_and_given_back() {
        let room = Room::new(2 * BODY_SHARE_STEP_BYTES);
        let step = usize::try_from(BODY_SHARE_STEP_BYTES).unwrap();
        let small = usize::try_from(BODY_UNCOUNTED_BYTES).unwrap();
        let mut first = room.share();
        let held = read_held(full(step), u64::MAX, PACE, &mut first, |_| ()).await.unwrap();
        assert_eq!((held.len(), room.held()), (step, BODY_SHARE_STEP_BYTES));
        for (length, expected) in [(small, "ok"), (step, "ok"), (step + 1, "NoRoom"), (2 * step + 1, "NeverRoom")] {
            let mut share = room.share();
            let outcome = read_held(full(length), u64::MAX, PACE, &mut share, |_| ()).await;
            let told = outcome.map_or_else(|error| format!("{error:?}"), |_| "ok".to_owned());
            assert_eq!(told, expected, "{length}");
        }
        // Of unknown length: found out on the way.
        let (sender, body) = pipe();
        for _ in 0..3 {
            sender.send(Ok(Bytes::from(vec![0; step]))).unwrap();
        }
        let mut share = room.share();
        let outcome = read_held(body, u64::MAX, PACE, &mut share, |_| ()).await;
        assert!(matches!(outcome, Err(BodyError::NoRoom)), "{outcome:?}");
        drop((first, share));
        assert_eq!(room.held(), 0);
    }

    #[tokio::test]
    async fn a_break_is_told() {
        let (sender, body) = pipe();
        sender.send(Ok(Bytes::from_static(b"half"))).unwrap();
        sender.send(Err("gone".into())).unwrap();
        assert!(matches!(read_held(body, 10, PACE, &mut roomy(), |_| ()).await, Err(BodyError::Broken(_))));
    }

    #[tokio::test]
    async fn flowing_passes_frames_and_length() {
        let mut body = Flowing::new(full(5), 5, PACE).unwrap();
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 5);
        assert!(body.is_end_stream());
        assert!(Flowing::new(full(6), 5, PACE).is_err());
    }
}
