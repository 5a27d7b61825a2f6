//! Whether an event stream has said its last word: a look at how its lines begin.
//!
//! The end of the bytes says nothing: an answer without a length that is cut ends like a whole one.
//! So the relay asks here which event came last. No event is put together and nothing is allocated;
//! a line that lies in one chunk is looked at where it lies, and of one that does not only its
//! beginning is kept. Once the last word has been said, nothing more is read.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::limits::{ENDING_LINE_BYTES, ENDING_REASON_BYTES};

/// By what a stream is known to be whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// `data: [DONE]`, after a choice that said why it stopped.
    Done,
    /// An event of one of these types; `[DONE]` will do as well.
    Typed(&'static [&'static str]),
    /// Gemini has no last word: a candidate has said why it stopped, or a prompt was blocked.
    Reason,
}

/// What the end of the bytes means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The last word has come.
    Whole,
    /// It has not, but a choice has said why it stopped: some servers leave it at that, and no event
    /// is open.
    Stopped,
    Cut,
}

/// What a chunk brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    Nothing,
    /// The upstream itself has told the caller of an error, for the first time.
    Error,
}

/// What the event that is being read began like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    Plain,
    Last,
    Error,
}

type Names = LazyLock<Vec<Finder<'static>>>;

static OPENAI_REASON: Names = LazyLock::new(|| vec![Finder::new(b"\"finish_reason\"")]);
static GEMINI_REASONS: Names = LazyLock::new(|| [&b"\"finishReason\""[..], b"\"blockReason\""].map(Finder::new).into());

impl Terminal {
    /// The members that say why an answer stopped, where that counts for anything.
    fn reasons(self) -> &'static [Finder<'static>] {
        match self {
            Self::Done => &OPENAI_REASON,
            Self::Reason => &GEMINI_REASONS,
            Self::Typed(_) => &[],
        }
    }
}

/// Looks on while one stream passes.
#[derive(Debug)]
pub struct Ending {
    terminal: Terminal,
    mark: Mark,
    has_data: bool,
    /// `[DONE]`, a last event or an error has come.
    said: bool,
    /// A choice has said why it stopped.
    stopped: bool,
    /// The last chunk ended in CR: an LF that comes next belongs to it.
    after_cr: bool,
    /// Beginning of a line whose end has not come.
    line: Kept<ENDING_LINE_BYTES>,
    /// What may be the first half of a reason.
    reason: Kept<ENDING_REASON_BYTES>,
}

impl Ending {
    pub fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            mark: Mark::Plain,
            has_data: false,
            said: false,
            stopped: false,
            after_cr: false,
            line: Kept::default(),
            reason: Kept::default(),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) -> Heard {
        if self.said {
            return Heard::Nothing;
        }
        if !self.stopped {
            self.look_for_reason(chunk);
        }
        let mut heard = Heard::Nothing;
        let mut rest = chunk;
        if !rest.is_empty()
            && std::mem::take(&mut self.after_cr)
            && let [b'\n', behind @ ..] = rest
        {
            rest = behind;
        }
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
            let ended = if self.line.is_empty() {
                self.line(line)
            } else {
                self.line.fill(line);
                let whole = std::mem::take(&mut self.line);
                self.line(whole.bytes())
            };
            if ended == Heard::Error {
                heard = Heard::Error;
            }
            if self.said {
                return heard;
            }
        }
        self.line.fill(rest);
        heard
    }

    /// What it means that the bytes end here.
    pub fn verdict(&self) -> Verdict {
        let is_open = self.has_data || !self.line.is_empty();
        if self.said || is_done(self.line.bytes()) {
            Verdict::Whole
        } else if self.stopped && !(self.terminal == Terminal::Reason && is_open) {
            Verdict::Stopped
        } else {
            Verdict::Cut
        }
    }

    /// One line, of which at least the beginning is there.
    fn line(&mut self, line: &[u8]) -> Heard {
        match line {
            [] => return self.dispatch(),
            [b'd', ..] => {
                let Some(data) = field(line, b"data") else { return Heard::Nothing };
                let first = !std::mem::replace(&mut self.has_data, true);
                match data {
                    // Nothing follows it: whether its event is closed does not matter.
                    [b'[', ..] if first && data.starts_with(b"[DONE]") => self.said = true,
                    [b'{', members @ ..] if first && self.mark == Mark::Plain => self.mark = self.of_object(members),
                    _ => {}
                }
            }
            [b'e', ..] => {
                if let Some(name) = field(line, b"event") {
                    self.mark = self.of_type(name);
                }
            }
            _ => {}
        }
        Heard::Nothing
    }

    /// The empty line: an event without data is none.
    fn dispatch(&mut self) -> Heard {
        let mark = std::mem::replace(&mut self.mark, Mark::Plain);
        if !std::mem::take(&mut self.has_data) {
            return Heard::Nothing;
        }
        self.said = mark != Mark::Plain;
        if mark == Mark::Error { Heard::Error } else { Heard::Nothing }
    }

    fn of_type(&self, name: &[u8]) -> Mark {
        if name == b"error" {
            return Mark::Error;
        }
        match self.terminal {
            Terminal::Typed(last) if last.iter().any(|last| last.as_bytes() == name) => Mark::Last,
            Terminal::Typed(_) | Terminal::Done | Terminal::Reason => Mark::Plain,
        }
    }

    /// By the first member of the event's object: `type`, or an `error` that says something.
    fn of_object(&self, members: &[u8]) -> Mark {
        let Some((name, value)) = member(members.trim_ascii_start()) else { return Mark::Plain };
        match (name, value) {
            (b"type", [b'"', text @ ..]) => memchr::memchr(b'"', text)
                .and_then(|end| text.get(..end))
                .map_or(Mark::Plain, |kind| self.of_type(kind)),
            (b"error", [b'{', inside @ ..]) if !inside.trim_ascii_start().starts_with(b"}") => Mark::Error,
            (b"error", [b'"', inside @ ..]) if !inside.starts_with(b"\"") => Mark::Error,
            _ => Mark::Plain,
        }
    }

    fn look_for_reason(&mut self, chunk: &[u8]) {
        let names = self.terminal.reasons();
        if names.is_empty() {
            return;
        }
        if !self.reason.is_empty() {
            let mut seam = Kept::<{ 2 * ENDING_REASON_BYTES }>::default();
            seam.fill(self.reason.bytes());
            seam.fill(chunk);
            self.stopped = is_named(names, seam.bytes());
        }
        self.stopped = self.stopped || is_named(names, chunk);
        if chunk.ends_with(b"\n") {
            self.reason.clear();
        } else {
            self.reason.slide(chunk);
        }
    }
}

/// The value of `field` without the space before it.
fn field<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(field)?.strip_prefix(b":")?;
    Some(if field == b"data" { value.trim_ascii_start() } else { value.strip_prefix(b" ").unwrap_or(value) })
}

fn is_done(line: &[u8]) -> bool {
    field(line, b"data").is_some_and(|data| data.starts_with(b"[DONE]"))
}

/// Name and the beginning of the value of the member that stands first.
fn member(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let (name, behind) = text.split_at_checked(memchr::memchr(b'"', text)?)?;
    let value = behind.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
    Some((name, value.trim_ascii_start()))
}

/// Whether one of these members has a text for its value. Inside a string its quotes would be escaped.
fn is_named(members: &[Finder<'_>], text: &[u8]) -> bool {
    let is_text = |behind: Option<&[u8]>| {
        let value = behind.unwrap_or_default().trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
        matches!(value, [b'"', first, ..] if *first != b'"')
    };
    members.iter().any(|name| name.find_iter(text).any(|at| is_text(text.get(at + name.needle().len()..))))
}

/// A few bytes that outlive their chunk.
#[derive(Clone, Debug)]
struct Kept<const MAX: usize> {
    bytes: [u8; MAX],
    length: usize,
}

impl<const MAX: usize> Default for Kept<MAX> {
    fn default() -> Self {
        Self { bytes: [0; MAX], length: 0 }
    }
}

impl<const MAX: usize> Kept<MAX> {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends what there is room for.
    fn fill(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let taken = more.len().min(room.len());
        for (to, from) in room.iter_mut().zip(more) {
            *to = *from;
        }
        self.length += taken;
    }

    /// Appends, and forgets as much of the beginning as must give way.
    fn slide(&mut self, more: &[u8]) {
        let more = more.get(more.len().saturating_sub(MAX)..).unwrap_or_default();
        let gone = (self.length + more.len()).saturating_sub(MAX);
        self.bytes.copy_within(gone..self.length.max(gone), 0);
        self.length = self.length.saturating_sub(gone);
        self.fill(more);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sse::{Item, Splitter};
    use super::*;
    use crate::dialect::{Operation, gemini, openai};
    use proptest::prelude::*;

    fn read(operation: Operation, stream: &[u8], sizes: &[usize]) -> (Verdict, usize) {
        read_by(openai::terminal(operation).unwrap(), stream, sizes)
    }

    fn read_by(terminal: Terminal, stream: &[u8], sizes: &[usize]) -> (Verdict, usize) {
        let mut ending = Ending::new(terminal);
        let (mut rest, mut errors) = (stream, 0);
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            errors += usize::from(ending.push(chunk) == Heard::Error);
            rest = behind;
        }
        (ending.verdict(), errors)
    }

    #[test]
    fn ends() {
        use Operation::{ChatCompletion as Chat, Responses};
        use Verdict::{Cut, Stopped, Whole};
        let table: &[(Operation, &str, Verdict)] = &[
            (Chat, "", Cut),
            (Chat, "data: {\"choices\":[]}\n\n", Cut),
            (Chat, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n", Whole),
            (Chat, "data: [DONE]", Whole),
            (Chat, "data: [DONE]\n", Whole),
            (Chat, "data: [DONE]\r", Whole),
            (Chat, "data:[DONE]\r\n\r\n", Whole),
            (Chat, "data: [DONE]\n\n: bye\n\n", Whole),
            (Chat, "data: [DON", Cut),
            (Chat, "data: {\"x\":\"data: [DONE]\"}\n\n", Cut),
            (Chat, "data: {\"x\":\"\\ndata: [DONE]\\n\"}\n\n", Cut),
            (Chat, "data: {\"choices\":[{\"finish_reason\":null}]}\n\n", Cut),
            (Chat, "data: {\"choices\":[{\"finish_reason\":\"\"}]}\n\n", Cut),
            (Chat, "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", Stopped),
            (Chat, "data: {\"choices\": [{\"finish_reason\": \"length\"}]}\n\ndata: {\"usage\":{}}\n\n", Stopped),
            (Chat, "data: {\"delta\":\"\\\"finish_reason\\\":\\\"stop\\\"\"}\n\n", Cut),
            (Chat, "data: {\"error\":{\"message\":\"m\"}}\n\n", Whole),
            (Chat, "data: {\"error\":null}\n\n", Cut),
            (Chat, "data: {\"error\":{}}\n\n", Cut),
            (Chat, "event: error\ndata: no\n\n", Whole),
            (Chat, "event: error\n\n", Cut),
            (Responses, "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n", Whole),
            (Responses, "event: response.completed\ndata: {\"type\":\"response.completed\"}\n", Cut),
            (Responses, "event: response.completed\ndata: {\"type\":\"resp", Cut),
            (Responses, "event: response.completed\n\n", Cut),
            (Responses, "event: response.completed.not\ndata: {}\n\n", Cut),
            (Responses, "data: {\"type\": \"response.incomplete\", \"x\": 1}\r\n\r\n", Whole),
            (Responses, "data: {\"type\":\"response.output_text.delta\",\"delta\":\"response.failed\"}\n\n", Cut),
            (Responses, "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", Cut),
            (Responses, "data: [DONE]\n\n", Whole),
        ];
        for (operation, stream, expected) in table {
            for size in [1, 2, 3, 7, stream.len().max(1)] {
                assert_eq!(read(*operation, stream.as_bytes(), &[size]).0, *expected, "{stream} by {size}");
            }
        }
    }

    #[test]
    fn ends_without_a_last_word() {
        use Verdict::{Cut, Stopped, Whole};
        for (stream, expected) in [
            ("", Cut),
            ("data: {\"candidates\": [{\"content\": {}}]}\r\n\r\n", Cut),
            ("data: {\"candidates\": [{\"finishReason\": \"STOP\"}]}\r\n\r\n", Stopped),
            ("data: {\"candidates\": [{\"finishReason\": \"STOP\"}],\"usageMetadata\":{}}", Cut),
            ("data: {\"candidates\": [{\"finishReason\": \"STOP\"}]}\n\ndata: {\"usageMetadata\":{}}\n\n", Stopped),
            ("data: {\"candidates\": [{\"finishReason\": \"STOP\"}]}\n\ndata: {\"usageMeta", Cut),
            ("data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n", Stopped),
            ("data: {\"text\":\"\\\"finishReason\\\":\\\"STOP\\\"\"}\n\n", Cut),
            ("data: {\"candidates\":[{\"finish_reason\":\"stop\"}]}\n\n", Cut),
            ("data: {\"error\": {\"code\": 503}}\n\n", Whole),
        ] {
            for size in [1, 2, 3, 7, stream.len().max(1)] {
                let terminal = gemini::terminal(Operation::ChatCompletion).unwrap();
                assert_eq!(read_by(terminal, stream.as_bytes(), &[size]).0, expected, "{stream} by {size}");
            }
        }
    }

    #[test]
    fn an_error_is_told_once() {
        for operation in [Operation::ChatCompletion, Operation::Responses] {
            let stream = "data: {}\n\nevent: error\ndata: {\"error\":{\"code\":1}}\n\ndata: {\"error\":\"again\"}\n\n";
            for size in [1, 5, stream.len()] {
                assert_eq!(read(operation, stream.as_bytes(), &[size]), (Verdict::Whole, 1));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Against the reader of whole events, however the stream was cut and wherever it stopped.
        #[test]
        fn every_cut_is_judged_as_by_events(
            blocks in prop::collection::vec(prop::sample::select(vec![
                ": alive\n\n", "\n", "event: response.completed\n\n", "data: [DONE]\n\n", "data: x\n\n",
                "event: x\ndata: {}\n\n", "event: response.completed\ndata: {\"a\":1}\n\n", "retry: 3\n\n",
                "data:{\"type\" : \"response.failed\",\"b\":2}\n\n", "data: {\"delta\":\"[DONE]\"}\n\n",
                "data: {\"type\":\"error\",\"code\":null}\n\n", "data: {\"error\":{\"code\":\"c\"}}\n\n",
                "data: {\"error\":null}\n\n", "event: error\nid: 7\ndata: broken\n\n",
            ]), 0..8),
            crlf in any::<bool>(),
            kept in 0.0..=1.0,
            sizes in prop::collection::vec(1usize..12, 1..5),
        ) {
            let stream = if crlf { blocks.concat().replace('\n', "\r\n") } else { blocks.concat() };
            let stream = stream.split_at((stream.len() as f64 * kept) as usize).0;
            let mut whole = false;
            Splitter::new().push(stream.as_bytes(), |item| {
                whole |= matches!(item, Item::Event(event) if openai::is_terminal(&event));
            });
            whole |= stream.lines().any(|line| is_done(line.as_bytes()));
            let (verdict, _) = read(Operation::Responses, stream.as_bytes(), &sizes);
            prop_assert_eq!(verdict == Verdict::Whole, whole, "{:?}", stream);
        }
    }
}
