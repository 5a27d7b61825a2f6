//! AWS event streams, written and read a second time: the gateway's own code is what is tested.

use std::ops::Range;

/// A frame with text headers.
pub fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut written = Vec::new();
    for (name, value) in headers {
        written.push(name.len() as u8);
        written.extend_from_slice(name.as_bytes());
        written.push(7);
        written.extend((value.len() as u16).to_be_bytes());
        written.extend_from_slice(value.as_bytes());
    }
    let total = 12 + written.len() + payload.len() + 4;
    let mut frame = [(total as u32).to_be_bytes(), (written.len() as u32).to_be_bytes()].concat();
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(written);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

pub fn event(kind: &str, payload: &str) -> Vec<u8> {
    frame(&[(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")], payload)
}

pub fn exception(kind: &str, payload: &str) -> Vec<u8> {
    frame(&[(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")], payload)
}

/// Where the frames lie; `None` where the bytes are not whole frames with right checksums.
pub fn frames(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let (mut at, mut found) = (0, Vec::new());
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    while at < bytes.len() {
        let end = at + word(at)? as usize;
        if word(at + 8)? != crc32(&bytes[at..at + 8]) || word(end - 4)? != crc32(&bytes[at..end - 4]) {
            return None;
        }
        found.push(at..end);
        at = end;
    }
    Some(found)
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}
