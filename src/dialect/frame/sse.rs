//! Server-sent events out of bytes, as WHATWG has them.
//!
//! Looks on while the bytes are relayed: it never changes, delays or owns them, and an event borrows
//! from the chunk wherever it lies in one. An event beyond `SSE_EVENT_BYTES_MAX` makes the reader
//! blind for the rest of the stream rather than large. Fields other than `event` and `data` are
//! passed over.

use crate::limits::SSE_EVENT_BYTES_MAX;

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// `event:`; empty when there was none.
    pub name: &'a [u8],
    /// The `data:` lines, joined by LF.
    pub data: &'a [u8],
}

/// What a stream is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    Event(Event<'a>),
    /// A line that begins with a colon: a sign of life.
    Comment,
}

/// Reads a stream pushed in pieces.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last chunk ended in CR: an LF that comes next belongs to it.
    after_cr: bool,
    begun: bool,
    blind: bool,
}

impl Splitter {
    pub fn new() -> Self {
        Self::default()
    }

    /// An event was too large; nothing more is reported.
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// Takes the next bytes and reports what became whole.
    pub fn push(&mut self, chunk: &[u8], mut visit: impl FnMut(Item<'_>)) {
        let mut rest = chunk;
        if self.blind || rest.is_empty() {
            return;
        }
        if std::mem::take(&mut self.after_cr)
            && let [b'\n', behind @ ..] = rest
        {
            rest = behind;
        }
        // A single data line not yet copied: the common event is reported from the chunk itself.
        let mut lone: Option<&[u8]> = None;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            let (line, behind) = rest.split_at(end);
            rest = match behind {
                [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
            if self.line.is_empty() {
                self.line(line, &mut lone, &mut visit);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                let mut held = None;
                self.line(&whole, &mut held, &mut visit);
                if let Some(data) = held {
                    self.add_data(data);
                }
                whole.clear();
                self.line = whole;
            }
        }
        if let Some(data) = lone {
            self.add_data(data);
        }
        self.line.extend_from_slice(rest);
        if self.line.len() + self.data.len() + self.name.len() > SSE_EVENT_BYTES_MAX {
            *self = Self { blind: true, ..Self::default() };
        }
    }

    /// The stream has ended: reports an event whose closing empty line never came. Returns whether
    /// the stream was cut inside an event.
    pub fn finish(mut self, mut visit: impl FnMut(Item<'_>)) -> bool {
        let mut lone = None;
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.line(&line, &mut lone, &mut visit);
        }
        let cut = self.has_data || lone.is_some();
        self.dispatch(&mut lone, &mut visit);
        cut
    }

    /// One line without its end.
    fn line<'a>(&mut self, line: &'a [u8], lone: &mut Option<&'a [u8]>, visit: &mut impl FnMut(Item<'_>)) {
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if line.is_empty() {
            return self.dispatch(lone, visit);
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(0) => return visit(Item::Comment),
            Some(colon) => {
                let (field, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match field {
            b"data" if !self.has_data && lone.is_none() => *lone = Some(value),
            b"data" => {
                if let Some(before) = lone.take() {
                    self.add_data(before);
                }
                self.add_data(value);
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
    }

    fn add_data(&mut self, value: &[u8]) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
    }

    /// The empty line: an event without data is none.
    fn dispatch(&mut self, lone: &mut Option<&[u8]>, visit: &mut impl FnMut(Item<'_>)) {
        match lone.take() {
            Some(data) => visit(Item::Event(Event { name: &self.name, data })),
            None if self.has_data => visit(Item::Event(Event { name: &self.name, data: &self.data })),
            None => {}
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Seen = Option<(String, String)>;

    fn own(item: Item<'_>) -> Seen {
        match item {
            Item::Event(event) => {
                Some((String::from_utf8_lossy(event.name).into(), String::from_utf8_lossy(event.data).into()))
            }
            Item::Comment => None,
        }
    }

    fn read(stream: &[u8], sizes: &[usize]) -> (Vec<Seen>, bool) {
        let mut splitter = Splitter::new();
        let mut seen = Vec::new();
        let mut rest = stream;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            splitter.push(chunk, |item| seen.push(own(item)));
            rest = behind;
        }
        let cut = splitter.finish(|item| seen.push(own(item)));
        (seen, cut)
    }

    fn event(name: &str, data: &str) -> Seen {
        Some((name.into(), data.into()))
    }

    #[test]
    fn streams() {
        let table: Vec<(&[u8], Vec<Seen>, bool)> = vec![
            (b"", vec![], false),
            (b"data: {\"a\":1}\n\ndata: [DONE]\n\n", vec![event("", "{\"a\":1}"), event("", "[DONE]")], false),
            (b"event: response.created\r\ndata: {}\r\n\r\n", vec![event("response.created", "{}")], false),
            (b"data: a\rdata: b\r\rdata:c\r\r", vec![event("", "a\nb"), event("", "c")], false),
            (b"\xef\xbb\xbfdata: a\n\n", vec![event("", "a")], false),
            (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", vec![], false),
            (b": OPENROUTER PROCESSING\n\ndata: a\n\n", vec![None, event("", "a")], false),
            (b"data: a\n: alive\ndata: b\n\n", vec![None, event("", "a\nb")], false),
            (b"data\n\n", vec![event("", "")], false),
            (b"data:  a \n\n", vec![event("", " a ")], false),
            (b"event: x\n\ndata: a\n\n", vec![event("", "a")], false),
            (b"data: a\nevent: x\nid: 7\nretry: 5\nother\n\n", vec![event("x", "a")], false),
            (b"data: a\nevent: x\nevent: y\n\n\n\n", vec![event("y", "a")], false),
            (b"dataa: x\n\n data: y\n\n", vec![], false),
            (b"data: [DONE]", vec![event("", "[DONE]")], true),
            (b"data: [DONE]\n", vec![event("", "[DONE]")], true),
            (b"data: a\n\nevent: x\n", vec![event("", "a")], false),
        ];
        for (stream, seen, cut) in &table {
            for size in [1, 2, 3, stream.len().max(1)] {
                let text = String::from_utf8_lossy(stream);
                assert_eq!(read(stream, &[size]), (seen.clone(), *cut), "{text} by {size}");
            }
        }
    }

    #[test]
    fn an_event_that_is_too_large_blinds_the_reader() {
        let mut splitter = Splitter::new();
        let mut events = 0;
        let chunk = [b'x'; 64 * 1024];
        splitter.push(b"data: a\n\ndata: ", |_| events += 1);
        for _ in 0..SSE_EVENT_BYTES_MAX / chunk.len() {
            assert!(!splitter.is_blind());
            splitter.push(&chunk, |_| events += 1);
        }
        assert!(splitter.is_blind());
        assert_eq!(splitter.line.capacity() + splitter.data.capacity(), 0);
        splitter.push(b"\n\ndata: b\n\n", |_| events += 1);
        assert!(!splitter.finish(|_| events += 1));
        assert_eq!(events, 1);
    }

    /// Line by line over the whole text.
    fn naive(stream: &str) -> Vec<Seen> {
        let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
        let unified = stream.replace("\r\n", "\n").replace('\r', "\n");
        let mut seen = Vec::new();
        let (mut name, mut data): (&str, Vec<&str>) = ("", Vec::new());
        let lines: Vec<&str> = unified.split('\n').collect();
        for (index, line) in lines.iter().enumerate() {
            let last = index + 1 == lines.len();
            if line.starts_with(':') {
                seen.push(None);
                if !last {
                    continue;
                }
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => data.push(value),
                "event" => name = value,
                _ => {}
            }
            if line.is_empty() || last {
                if !data.is_empty() {
                    seen.push(event(name, &data.join("\n")));
                }
                (name, data) = ("", Vec::new());
            }
        }
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_cut_reads_as_a_naive_reader_does(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "\n", "\r", "\r\n", "\n\n", "data", "data: ", "event: ", ":", ": alive", "x", "{\"a\":\"b:c\"}", "[DONE]", "é", " ", "\u{feff}",
            ]), 0..24),
            sizes in prop::collection::vec(1usize..12, 1..5),
        ) {
            let stream = pieces.concat();
            prop_assert_eq!(&read(stream.as_bytes(), &[stream.len().max(1)]).0, &naive(&stream));
            prop_assert_eq!(&read(stream.as_bytes(), &sizes).0, &naive(&stream));
        }
    }
}
