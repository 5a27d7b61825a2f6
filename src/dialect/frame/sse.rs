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
