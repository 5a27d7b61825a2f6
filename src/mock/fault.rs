//! What a model name or a bearer value asks the mock to do instead of answering well.
//!
//! `mock-401`, `mock-429-after-7`, `mock-slow-200`; keys say the same behind `mock-key-`. What
//! follows a dot is ignored, so that two keys can differ and fail alike (`mock-key-401.second`).
//! A name that is not understood asks for nothing.

use std::time::Duration;

use crate::limits::{MOCK_ANSWER_BYTES_MAX, MOCK_EVENTS_MAX, MOCK_WAIT_MAX};

/// One way to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// As asked.
    Answer,
    /// An error of this status, with `retry-after` in seconds where given.
    Status { status: u16, retry_after: Option<u64> },
    /// 429 `insufficient_quota`: no money left, which waiting does not cure.
    Quota,
    /// Never begins to answer.
    Hang,
    /// Sends the head and nothing else.
    HangAfterHead,
    /// Waits before the head.
    Slow(Duration),
    /// Waits between head and body.
    HeadThenWait(Duration),
    /// Waits after each event.
    Drip(Duration),
    /// Breaks the connection after this many events.
    Cut(u32),
    /// 200, and the first event (or the body) is an error.
    ErrorFirst,
    /// 200, and an error event in the middle.
    ErrorMid,
    /// 200, and a body that is no JSON and no event.
    Garbage,
    /// Tells what was sent.
    Echo,
    /// A canned answer of this size, made once.
    Bench { bytes: usize },
    /// So many equal events at this distance; zero = as fast as they are taken.
    BenchStream { events: u32, every: Duration },
}

/// Of the answer to `mock-bench`: a usual small chat completion.
pub const BENCH_BYTES: usize = 600;

impl Behaviour {
    pub fn of_model(model: &str) -> Self {
        model.strip_prefix("mock-").and_then(Self::parse).unwrap_or(Self::Answer)
    }

    pub fn of_key(key: &str) -> Self {
        key.strip_prefix("mock-key-").and_then(Self::parse).unwrap_or(Self::Answer)
    }

    fn parse(name: &str) -> Option<Self> {
        let name = name.split('.').next().unwrap_or(name);
        let mut words = name.split('-');
        let head = words.next()?;
        let rest: Vec<&str> = words.collect();
        Some(match (head, rest.as_slice()) {
            ("quota", []) => Self::Quota,
            ("hang", []) => Self::Hang,
            ("hang", ["after", "headers"]) => Self::HangAfterHead,
            ("slow", [ms]) => Self::Slow(millis(ms)?),
            ("headers", ["then", "wait", ms]) => Self::HeadThenWait(millis(ms)?),
            ("drip", [ms]) => Self::Drip(millis(ms)?),
            ("cut", [events]) => Self::Cut(events.parse().ok()?),
            ("error", ["first", "event"]) => Self::ErrorFirst,
            ("error", ["mid", "stream"]) => Self::ErrorMid,
            ("garbage", []) => Self::Garbage,
            ("echo", []) => Self::Echo,
            ("bench", []) => Self::Bench { bytes: BENCH_BYTES },
            ("bench", ["size", bytes]) => {
                Self::Bench { bytes: bytes.parse::<usize>().ok()?.min(MOCK_ANSWER_BYTES_MAX) }
            }
            ("bench", ["stream", events, ms]) => {
                let events = events.parse::<u32>().ok()?.min(MOCK_EVENTS_MAX);
                Self::BenchStream { events, every: millis(ms)? }
            }
            (status, []) => Self::Status { status: error_status(status)?, retry_after: None },
            (status, ["after", seconds]) => {
                Self::Status { status: error_status(status)?, retry_after: Some(seconds.parse().ok()?) }
            }
            _ => return None,
        })
    }
}

fn millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(|ms| Duration::from_millis(ms).min(MOCK_WAIT_MAX))
}

fn error_status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (400..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let status = |status, retry_after| Behaviour::Status { status, retry_after };
        let ms = Duration::from_millis;
        for (name, expected) in [
            ("mock-small", Behaviour::Answer),
            ("gpt-4o", Behaviour::Answer),
            ("mock-401", status(401, None)),
            ("mock-429-after-7", status(429, Some(7))),
            ("mock-529", status(529, None)),
            ("mock-200", Behaviour::Answer),
            ("mock-600", Behaviour::Answer),
            ("mock-quota", Behaviour::Quota),
            ("mock-hang", Behaviour::Hang),
            ("mock-hang-after-headers", Behaviour::HangAfterHead),
            ("mock-slow-200", Behaviour::Slow(ms(200))),
            ("mock-slow-99999999999", Behaviour::Slow(MOCK_WAIT_MAX)),
            ("mock-slow-x", Behaviour::Answer),
            ("mock-headers-then-wait-50", Behaviour::HeadThenWait(ms(50))),
            ("mock-drip-5", Behaviour::Drip(ms(5))),
            ("mock-cut-3", Behaviour::Cut(3)),
            ("mock-error-first-event", Behaviour::ErrorFirst),
            ("mock-error-mid-stream", Behaviour::ErrorMid),
            ("mock-garbage", Behaviour::Garbage),
            ("mock-echo", Behaviour::Echo),
            ("mock-bench", Behaviour::Bench { bytes: 600 }),
            ("mock-bench-size-10000", Behaviour::Bench { bytes: 10_000 }),
            ("mock-bench-stream-100-5", Behaviour::BenchStream { events: 100, every: ms(5) }),
            ("mock-bench-stream-4000000000-0", Behaviour::BenchStream { events: MOCK_EVENTS_MAX, every: ms(0) }),
        ] {
            assert_eq!(Behaviour::of_model(name), expected, "{name}");
        }
        assert_eq!(Behaviour::of_key("mock-key-401.second"), status(401, None));
        assert_eq!(Behaviour::of_key("mock-key-429-after-5"), status(429, Some(5)));
        assert_eq!(Behaviour::of_key("mock-key-good"), Behaviour::Answer);
        assert_eq!(Behaviour::of_key("mock-401"), Behaviour::Answer, "a key is not a model");
    }
}
