//! Request ids: the caller's own where it is fit to be repeated, else a number that no two requests
//! of any two workers share.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName};

use crate::id::RequestId;

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Hex digits of the count: enough for a million requests a second for nine years.
const COUNT_DIGITS: usize = 12;

/// One per worker. Ids are `req_<8 hex of the process><2 hex of the worker><12 hex counted>`: unique,
/// sortable inside a worker, and cheaper than a random number.
pub struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new(process: u32, worker: u8) -> Self {
        Self { prefix: format!("req_{process:08x}{worker:02x}"), next: AtomicU64::new(1) }
    }

    pub fn of(&self, head: &HeaderMap) -> RequestId {
        let given = head.get(&X_REQUEST_ID).and_then(|v| v.to_str().ok()).and_then(RequestId::from_caller);
        given.unwrap_or_else(|| {
            let count = self.next.fetch_add(1, Ordering::Relaxed);
            let mut id = String::with_capacity(self.prefix.len() + COUNT_DIGITS);
            id.push_str(&self.prefix);
            // By hand: the machinery of `format!` costs more than all the rest of the id.
            let digits = (0..COUNT_DIGITS).rev().map(|at| (count >> (4 * at) & 0xf) as u32);
            id.extend(digits.map(|digit| char::from_digit(digit, 16).unwrap_or('0')));
            RequestId::new(id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn unique_unless_given() {
        let ids = RequestIds::new(0xfeed, 3);
        let mut head = HeaderMap::new();
        assert_eq!(ids.of(&head).as_str(), "req_0000feed03000000000001");
        assert_ne!(ids.of(&head), ids.of(&head));
        head.insert("x-request-id", HeaderValue::from_static("my-id-1"));
        assert_eq!(ids.of(&head).as_str(), "my-id-1");
        head.insert("x-request-id", HeaderValue::from_static("bad \"id\""));
        assert!(ids.of(&head).as_str().starts_with("req_"));
    }
}
