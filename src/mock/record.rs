//! What a mock that stands alone remembers of the requests it saw, for tests to ask.
//!
//! Bounded: the oldest give way. Off in the mock that is served inside a gateway, for it keeps
//! bearer values.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::limits::MOCK_RECORD_MAX;

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub key: Option<String>,
    pub model: Option<String>,
    pub stream: bool,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Number of the last request; they count from 1.
    last: u64,
    seen: VecDeque<(u64, u128, Seen)>,
}

impl Recorder {
    pub fn new() -> Self {
        Self { started: Instant::now(), inner: Mutex::default() }
    }

    pub fn note(&self, seen: Seen) {
        let after_ms = self.started.elapsed().as_millis();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        let number = inner.last;
        inner.seen.push_back((number, after_ms, seen));
        if inner.seen.len() > MOCK_RECORD_MAX {
            inner.seen.pop_front();
        }
    }

    /// `GET /__mock/requests?after=N`: what came after request N, oldest first.
    pub fn after(&self, number: u64) -> Value {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = inner.seen.iter().filter(|(n, ..)| *n > number).map(|(n, after_ms, seen)| {
            json!({
                "n": n, "after_ms": u64::try_from(*after_ms).unwrap_or(u64::MAX), "method": seen.method,
                "path": seen.path, "key": seen.key, "model": seen.model, "stream": seen.stream, "bytes": seen.bytes,
            })
        });
        json!({ "last": inner.last, "requests": requests.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way() {
        let recorder = Recorder::new();
        for i in 0..MOCK_RECORD_MAX + 5 {
            let (method, path) = ("POST".to_owned(), format!("/{i}"));
            recorder.note(Seen { method, path, key: None, model: None, stream: false, bytes: 0 });
        }
        let all = recorder.after(0);
        assert_eq!(all["requests"].as_array().unwrap().len(), MOCK_RECORD_MAX);
        assert_eq!(all["requests"][0]["n"], 6);
        let last = recorder.after(MOCK_RECORD_MAX as u64 + 4);
        assert_eq!(last["requests"].as_array().unwrap().len(), 1);
        assert_eq!(last["requests"][0]["path"], format!("/{}", MOCK_RECORD_MAX + 4));
    }
}
