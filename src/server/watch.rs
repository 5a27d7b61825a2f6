//! The deadlines of a caller's connection, kept by one timer.
//!
//! Four things end a connection from our side: a head that takes too long (the first one counted
//! from accept, handshake included), a socket that stays full, long idling, and draining, which is
//! not known here. The timer is armed once per `header_timeout`, not once per request: it always
//! goes off before the earliest deadline that can have begun, and then reads the [`Pulse`].

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::io::Pulse;
use super::sniff::Protocol;
use crate::limits::{CALLER_IDLE_TIMEOUT, CALLER_STALL_MAX};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Fine,
    /// Close in an orderly way: nothing is being served.
    Finish,
    /// Close at once.
    Close,
}

/// The deadlines of one connection.
pub struct Watch {
    pulse: Arc<Pulse>,
    protocol: Protocol,
    header_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// When the head that is being read began.
    head_since: Option<Instant>,
    /// When nothing was found being served, and how many requests there had been.
    idle_since: Option<(Instant, u32)>,
    /// When the socket was found full, and how many writes there had been.
    stalled_since: Option<(Instant, u32)>,
}

impl Watch {
    pub fn new(pulse: Arc<Pulse>, protocol: Protocol, header_timeout: Duration, since: Instant) -> Self {
        Self {
            pulse,
            protocol,
            header_timeout,
            timer: Box::pin(sleep_until(since + header_timeout)),
            head_since: Some(since),
            idle_since: None,
            stalled_since: None,
        }
    }

    /// Sets the timer so that it goes off before any deadline that could begin now.
    pub fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        let at = self.head_since.unwrap_or(now) + self.header_timeout;
        self.timer.as_mut().reset(at);
        // Outside the task's budget: a poll refused for lack of it would leave the timer unset.
        let _ = pin!(unconstrained(self.timer.as_mut())).poll(cx);
    }

    /// After every poll of the connection, hence cheap: two loads unless a head is half read.
    pub fn look(&mut self, cx: &mut Context<'_>) -> Verdict {
        if self.pulse.in_head() && self.heads_count() {
            self.head_since.get_or_insert_with(Instant::now);
        } else {
            self.head_since = None;
        }
        if self.timer.is_elapsed() { self.judge(cx) } else { Verdict::Fine }
    }

    /// HTTP/2 sends frames of its own while idle; there only the first request is waited for.
    fn heads_count(&self) -> bool {
        self.protocol == Protocol::Http1 || self.pulse.requests() == 0
    }

    fn judge(&mut self, cx: &mut Context<'_>) -> Verdict {
        let now = Instant::now();
        if self.head_since.is_some_and(|since| now >= since + self.header_timeout) {
            return Verdict::Close;
        }
        let stalled = self.pulse.stalled_at();
        if lasts(&mut self.stalled_since, stalled, now) >= CALLER_STALL_MAX {
            return Verdict::Close;
        }
        let idle = (self.pulse.active() == 0).then(|| self.pulse.requests());
        let verdict = if lasts(&mut self.idle_since, idle, now) >= CALLER_IDLE_TIMEOUT {
            self.idle_since = None;
            Verdict::Finish
        } else {
            Verdict::Fine
        };
        self.arm(cx, now);
        verdict
    }
}

/// For how long `mark` has been seen without a change.
fn lasts(since: &mut Option<(Instant, u32)>, mark: Option<u32>, now: Instant) -> Duration {
    match (*since, mark) {
        (Some((start, before)), Some(mark)) if before == mark => now.duration_since(start),
        (_, Some(mark)) => {
            *since = Some((now, mark));
            Duration::ZERO
        }
        (_, None) => {
            *since = None;
            Duration::ZERO
        }
    }
}
