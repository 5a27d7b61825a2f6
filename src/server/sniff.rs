//! HTTP/1.1 or HTTP/2, told by the first bytes.
//!
//! hyper-util's own detection waits without end for a peer who sends nothing, or only `P`. Here the
//! caller of [`sniff`] holds the deadline, and what was read is handed on, so hyper sees it all.

use std::io::Result;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::SNIFF_BYTES_MAX;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Http1,
    Http2,
}

/// What the bytes so far say; `None`: too few of them.
fn judge(bytes: &[u8]) -> Option<Protocol> {
    if bytes.is_empty() {
        return None;
    }
    if bytes.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    // A beginning of the preface is undecided; everything else is HTTP/1, broken or not.
    if PREFACE.starts_with(bytes) { None } else { Some(Protocol::Http1) }
}

/// Reads until the protocol is clear; `None` when the peer closed before.
pub async fn sniff<I: AsyncRead + Unpin>(io: &mut I) -> Result<Option<(Protocol, Bytes)>> {
    let mut read = BytesMut::with_capacity(SNIFF_BYTES_MAX);
    loop {
        if io.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
        if let Some(protocol) = judge(&read) {
            return Ok(Some((protocol, read.freeze())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn verdicts() {
        for cut in 0..PREFACE.len() {
            assert_eq!(judge(&PREFACE[..cut]), None, "{cut}");
        }
        assert_eq!(judge(PREFACE), Some(Protocol::Http2));
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"), Some(Protocol::Http2));
        for text in ["G", "POST / HTTP/1.1", "PUT", "PR ", "\r\n", "PRI * HTTP/2.0\r\n\r\nXX", "\x16\x03\x01"] {
            assert_eq!(judge(text.as_bytes()), Some(Protocol::Http1), "{text:?}");
        }
    }

    #[tokio::test]
    async fn byte_by_byte_and_closed() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let writer = async move {
            far.write_all(PREFACE).await.unwrap();
            far
        };
        let (found, far) = tokio::join!(sniff(&mut near), writer);
        let (protocol, read) = found.unwrap().unwrap();
        assert_eq!((protocol, &read[..]), (Protocol::Http2, PREFACE));
        drop(far);
        assert!(sniff(&mut near).await.unwrap().is_none());
    }
}
