//! AWS event streams: frames with a checksum over their lengths and one over the whole.
//!
//! Writes frames, and follows those of an upstream while they pass: where they begin and end, since a
//! last word can only stand between two, whether their checksums are right, and what each one says
//! that it is. Holds a frame's headers and no payload; behind a frame that is none, nothing is read.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADERS_BYTES_MAX};

/// `content-type` of such a stream.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Two lengths and their checksum.
const PRELUDE: usize = 12;
/// Behind headers and payload, of all before it.
const CHECKSUM: usize = 4;
/// A header's value that is text.
const TEXT: u8 = 7;

/// A frame of these text headers, in the order given.
pub fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let headers_length: usize = headers.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
    let total = PRELUDE + headers_length + payload.len() + 4;
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(headers_length).unwrap_or(u32::MAX));
    out.put_u32(crc32(&out));
    for (name, value) in headers {
        out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.put_slice(name.as_bytes());
        out.put_u8(TEXT);
        out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32(&out));
    out.freeze()
}

/// A JSON event.
pub fn event(kind: &str, payload: &[u8]) -> Bytes {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, payload)
}

/// What a client raises as an error.
pub fn exception(kind: &str, payload: &[u8]) -> Bytes {
    let headers = [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
    frame(&headers, payload)
}

/// What a frame says that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind<'a> {
    Event(&'a str),
    /// The name of an exception, or the code of an error.
    Exception(&'a str),
    /// Its headers say nothing that is known.
    Other,
}

/// Follows the frames of a stream pushed in pieces.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    /// Prelude and headers of the frame that is open, as far as they have come.
    head: Vec<u8>,
    /// Of that frame: its length, where its headers end, how much of it has come. A length of 0 is
    /// not known yet.
    total: usize,
    headers_end: usize,
    have: usize,
    crc: Crc,
    /// The checksum at its end.
    told: u32,
    lost: bool,
}

impl Follower {
    /// Takes the next bytes, and reports each frame whose end has come and whose checksums are right.
    pub fn push(&mut self, mut chunk: &[u8], mut visit: impl FnMut(Kind<'_>)) {
        while !chunk.is_empty() && !self.lost {
            let until = match self.have {
                _ if self.total == 0 => PRELUDE,
                have if have < self.headers_end => self.headers_end,
                have if have < self.total - CHECKSUM => self.total - CHECKSUM,
                _ => self.total,
            };
            let (taken, behind) = chunk.split_at(chunk.len().min(until - self.have));
            chunk = behind;
            self.take(taken);
            if self.total == 0 && self.have == PRELUDE {
                self.begin();
            }
            if self.total != 0 && self.have == self.total {
                self.end(&mut visit);
            }
        }
    }

    /// A frame may follow here: none is open, and all before were good.
    pub fn is_between(&self) -> bool {
        !self.lost && self.have == 0
    }

    /// Something came that is no frame: a checksum is wrong, or a length cannot be.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Bytes that lie on one side of every seam of a frame.
    fn take(&mut self, bytes: &[u8]) {
        self.have += bytes.len();
        if self.total != 0 && self.have > self.total - CHECKSUM {
            self.told = bytes.iter().fold(self.told, |told, byte| told << 8 | u32::from(*byte));
            return;
        }
        self.crc.push(bytes);
        if self.total == 0 || self.have <= self.headers_end {
            self.head.extend_from_slice(bytes);
        }
    }

    /// The prelude is there.
    fn begin(&mut self) {
        let word = |at: usize| {
            let bytes = self.head.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        let (total, headers) = (word(0) as usize, word(4) as usize);
        let lengths = crc32(self.head.get(..8).unwrap_or_default());
        let fits = total <= FRAME_BYTES_MAX
            && headers <= FRAME_HEADERS_BYTES_MAX
            && PRELUDE + headers + CHECKSUM <= total
            && word(8) == lengths;
        if fits {
            (self.total, self.headers_end) = (total, PRELUDE + headers);
        } else {
            self.lost = true;
            self.head = Vec::new();
        }
    }

    fn end(&mut self, visit: &mut impl FnMut(Kind<'_>)) {
        if self.crc.value() == self.told {
            visit(kind_of(self.head.get(PRELUDE..).unwrap_or_default()));
        } else {
            self.lost = true;
        }
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        *self = Self { head, lost: self.lost, ..Self::default() };
    }
}

/// By the headers of a frame. Those of other types than text are passed over.
fn kind_of(mut headers: &[u8]) -> Kind<'_> {
    let (mut message, mut event, mut exception) = ("", None, None);
    while let Some((name, value, rest)) = header(headers) {
        match (name, value) {
            (b":message-type", Some(value)) => message = value,
            (b":event-type", Some(value)) => event = Some(value),
            (b":exception-type" | b":error-code", Some(value)) => exception = Some(value),
            _ => {}
        }
        headers = rest;
    }
    match (message, event, exception) {
        ("event", Some(event), _) => Kind::Event(event),
        ("exception" | "error", _, exception) => Kind::Exception(exception.unwrap_or_default()),
        _ => Kind::Other,
    }
}

/// The first header: name, value where it is text, and what follows.
fn header(bytes: &[u8]) -> Option<(&[u8], Option<&str>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let (length, rest) = match *kind {
        0 | 1 => (0, rest),
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        5 | 8 => (8, rest),
        6 | TEXT => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    let text = (*kind == TEXT).then(|| std::str::from_utf8(value).ok()).flatten();
    Some((name, text, rest))
}

/// A checksum that grows with what it is of.
#[derive(Clone, Copy, Debug)]
struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc {
    fn push(&mut self, bytes: &[u8]) {
        let step = |crc: u32, byte: &u8| {
            let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
            (crc >> 8) ^ TABLE.get(usize::from(low)).copied().unwrap_or_default()
        };
        self.0 = bytes.iter().fold(self.0, step);
    }

    fn value(self) -> u32 {
        !self.0
    }
}

/// CRC-32 of IEEE 802.3, as in gzip.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::default();
    crc.push(bytes);
    crc.value()
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "at < 256")]
        {
            let mut value = at as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
        }
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn checksums() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// The vector of the format's own tests: no headers, no payload.
    #[test]
    fn the_smallest_frame() {
        assert_eq!(frame(&[], b"")[..], [0, 0, 0, 16, 0, 0, 0, 0, 5, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff]);
        let payload = frame(&[], b"{'foo':'bar'}");
        assert_eq!(payload[..12], [0, 0, 0, 29, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a]);
        assert_eq!(payload[25..], [0xc3, 0x65, 0x39, 0x36]);
    }

    #[test]
    fn headers_are_text() {
        let frame = frame(&[("a", "bc")], b"!");
        assert_eq!(
            frame[12..],
            [&[1, b'a', 7, 0, 2, b'b', b'c', b'!'][..], &crc32(&frame[..20]).to_be_bytes()].concat()
        );
    }

    fn read(stream: &[u8], sizes: &[usize]) -> (Vec<String>, Follower) {
        let (mut follower, mut seen) = (Follower::default(), Vec::new());
        let (mut rest, mut sizes) = (stream, sizes.iter().cycle());
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            follower.push(chunk, |kind| seen.push(format!("{kind:?}")));
            rest = behind;
        }
        (seen, follower)
    }

    #[test]
    fn what_frames_say() {
        let error = [(":message-type", "error"), (":error-code", "InternalError"), (":error-message", "m")];
        for (frame, kind) in [
            (event("messageStop", b"{}"), Kind::Event("messageStop")),
            (exception("throttlingException", b"{}"), Kind::Exception("throttlingException")),
            (frame(&error, b""), Kind::Exception("InternalError")),
            (frame(&[(":message-type", "exception")], b""), Kind::Exception("")),
            (frame(&[(":event-type", "x")], b""), Kind::Other),
            (frame(&[], b"payload"), Kind::Other),
        ] {
            for size in [1, 5, 16, frame.len()] {
                let (seen, follower) = read(&frame, &[size]);
                assert_eq!(seen, [format!("{kind:?}")], "by {size}");
                assert!(follower.is_between());
            }
        }
        // A header of every type before the one that counts.
        let mut headers = Vec::new();
        for (kind, length) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
            headers.extend([&[1, b'h', kind][..], &vec![7; length]].concat());
        }
        headers.extend([1, b'h', 6, 0, 3, 1, 2, 3]);
        headers.extend_from_slice(b"\x0d:message-type\x07\x00\x05event\x0b:event-type\x07\x00\x01e");
        assert_eq!(kind_of(&headers), Kind::Event("e"));
        for cut in 0..headers.len() {
            kind_of(&headers[..cut]);
        }
    }

    #[test]
    fn every_wrong_bit_is_seen() {
        let good = event("messageStop", b"{\"a\":1}");
        for byte in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.to_vec();
                bytes[byte] ^= 1 << bit;
                let (seen, follower) = read(&[&bytes[..], &good].concat(), &[7]);
                assert!(follower.is_lost() && seen.is_empty(), "{byte} {bit}");
                assert!(!follower.is_between());
            }
        }
        // Lengths that cannot be, under a right checksum.
        for (total, headers) in [(15, 0), (20, 5), (FRAME_BYTES_MAX + 1, 0), (u32::MAX as usize, u32::MAX as usize)] {
            let mut prelude = [(total as u32).to_be_bytes(), (headers as u32).to_be_bytes()].concat();
            prelude.extend(crc32(&prelude).to_be_bytes());
            assert!(read(&prelude, &[5]).1.is_lost(), "{total} {headers}");
        }
    }

    proptest! {
        #[test]
        fn every_cut_is_between_frames_or_not(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5),
            sizes in prop::collection::vec(1usize..20, 1..5),
            kept in 0.0..=1.0,
        ) {
            let frames: Vec<Bytes> = payloads.iter().map(|payload| event("chunk", payload)).collect();
            let mut ends = vec![0];
            for frame in &frames {
                ends.push(ends[ends.len() - 1] + frame.len());
            }
            let stream = frames.concat();
            let stream = &stream[..(stream.len() as f64 * kept) as usize];
            let (seen, follower) = read(stream, &sizes);
            prop_assert_eq!(follower.is_between(), ends.contains(&stream.len()));
            prop_assert_eq!(seen.len(), ends.iter().filter(|end| **end <= stream.len()).count() - 1);
            prop_assert!(!follower.is_lost());
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..40) {
            read(&bytes, &[size]);
            kind_of(&bytes);
        }
    }
}
