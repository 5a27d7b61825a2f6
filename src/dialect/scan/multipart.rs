//! The `model` part of a `multipart/form-data` body (RFC 7578), found while the bytes flow.
//!
//! Pushed like the JSON scanner and, like it, read to the end: a second `model` part is refused even
//! though the bytes before it have gone out, so that the upstream never gets a whole form that it may
//! read differently. Refuses every form that parsers are known to read in different ways: text before
//! the first delimiter, delimiters after a bare CR or LF, extended or repeated names, encoded values.

use bytes::Bytes;
use memchr::memmem::Finder;

use super::Field;
pub use super::boundary::Boundary;
use super::boundary::parameter;
use crate::chunks::Edit;
use crate::error::{GatewayError, Kind};
use crate::limits::{MODEL_NAME_BYTES_MAX, PART_HEADER_BYTES_MAX};

/// Why a form is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormFault {
    /// The content type is not `multipart/form-data` with one good boundary.
    ContentType,
    /// The bytes are not a form, or one that can be read in two ways.
    Malformed,
    /// The form ends before its last delimiter.
    Truncated,
    /// Header lines of a part beyond `PART_HEADER_BYTES_MAX`.
    PartHeader,
    /// Two parts named `model`.
    Duplicate,
    /// The `model` part is a file, is encoded, is not text or is too long.
    BadModel,
    /// The `model` part did not begin within the bytes in which it was looked for.
    ModelTooLate,
}

impl FormFault {
    /// For the caller; holds nothing of the body.
    pub fn message(self) -> &'static str {
        match self {
            Self::ContentType => "the content type is not multipart/form-data with a boundary",
            Self::Malformed => "the body is not a well-formed multipart form",
            Self::Truncated => "the form ends before its last delimiter",
            Self::PartHeader => "the header of a form part is too long",
            Self::Duplicate => "the form has two `model` parts",
            Self::BadModel => "the `model` part is not a short text",
            Self::ModelTooLate => "the `model` part must stand near the start of the form",
        }
    }
}

impl From<FormFault> for GatewayError {
    fn from(fault: FormFault) -> Self {
        let refusal = Self::caller(Kind::BadRequest, "invalid_form", fault.message());
        match fault {
            FormFault::Duplicate | FormFault::BadModel | FormFault::ModelTooLate => refusal.param("model"),
            FormFault::ContentType | FormFault::Malformed | FormFault::Truncated | FormFault::PartHeader => refusal,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The first delimiter must come now.
    Start,
    /// In the header lines of a part.
    Header,
    /// In the value of a part.
    Value,
    /// Behind the last delimiter.
    Done,
    Failed(FormFault),
}

/// What a part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Model,
    Stream,
    Other,
}

/// Where reading stands after a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormState {
    /// The `model` part has not come yet: hold what was pushed.
    Looking,
    /// It has: [`FormScanner::model`] says where. What was held may go out.
    Known,
    /// The form is refused; what has not gone out must not.
    Refused(FormFault),
}

/// Reads a form pushed in pieces.
#[derive(Debug)]
pub struct FormScanner {
    state: State,
    /// `--boundary`.
    dash: Finder<'static>,
    /// Bytes not yet judged: a header in the making, a short value, what may begin a delimiter.
    tail: Vec<u8>,
    /// Position of the first byte of `tail`.
    base: usize,
    part: Part,
    /// Where the value of the part began.
    value_start: usize,
    model_within: usize,
    model: Option<Field>,
    stream: bool,
}

impl Field {
    /// The edit that puts the upstream's model name in the place of the caller's in a form.
    pub fn edit_form(&self, model: &str) -> Option<Edit> {
        if self.name == model {
            return None;
        }
        // A line break would end the value and begin a part of somebody's choice.
        let with = if model.contains(['\r', '\n']) { Bytes::new() } else { Bytes::copy_from_slice(model.as_bytes()) };
        Some(Edit { span: self.span.clone(), with })
    }
}

impl FormScanner {
    /// `model_within`: bytes in which the value of the `model` part must begin.
    pub fn new(boundary: &Boundary, model_within: usize) -> Self {
        let dash = format!("--{}", boundary.as_str());
        Self {
            state: State::Start,
            dash: Finder::new(dash.as_bytes()).into_owned(),
            tail: Vec::new(),
            base: 0,
            part: Part::Other,
            value_start: 0,
            model_within,
            model: None,
            stream: false,
        }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, chunk: &[u8]) -> FormState {
        if !matches!(self.state, State::Failed(_)) {
            self.tail.extend_from_slice(chunk);
            while self.step() {}
            // A `model` part that has begun is bounded by itself, so that the cut of the chunks decides nothing.
            let reading = self.state == State::Value && self.part == Part::Model;
            if self.model.is_none() && !reading && self.base + self.tail.len() > self.model_within {
                self.fail_unless_failed(FormFault::ModelTooLate);
            }
        }
        match self.state {
            State::Failed(fault) => FormState::Refused(fault),
            _ if self.model.is_some() => FormState::Known,
            _ => FormState::Looking,
        }
    }

    /// The `model` part: span of its value in the body, and the value.
    pub fn model(&self) -> Option<&Field> {
        self.model.as_ref()
    }

    /// A `stream` part that said `true` has passed.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The body has ended.
    pub fn finish(mut self) -> Result<Option<Field>, FormFault> {
        match self.state {
            State::Failed(fault) => Err(fault),
            State::Done => Ok(self.model.take()),
            State::Start | State::Header | State::Value => Err(FormFault::Truncated),
        }
    }

    fn fail_unless_failed(&mut self, fault: FormFault) {
        if !matches!(self.state, State::Failed(_)) {
            self.fail(fault);
        }
    }

    fn fail(&mut self, fault: FormFault) {
        self.state = State::Failed(fault);
        self.tail = Vec::new();
    }

    /// Forgets the first `count` bytes of the tail.
    fn consume(&mut self, count: usize) {
        self.tail.drain(..count.min(self.tail.len()));
        self.base += count;
    }

    /// One step forward; false when more bytes are needed.
    fn step(&mut self) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Header => self.header(),
            State::Value => self.value(),
            State::Done => self.epilogue(),
            State::Failed(_) => false,
        }
    }

    /// The first delimiter; clients that put an empty line before it are let through.
    fn start(&mut self) -> bool {
        let blank = if self.tail.starts_with(b"\r\n") { 2 } else { 0 };
        let rest = self.tail.get(blank..).unwrap_or_default();
        let dash = self.dash.needle();
        let common = rest.len().min(dash.len());
        if rest.get(..common) != dash.get(..common) {
            if self.tail.as_slice() != b"\r" {
                self.fail(FormFault::Malformed);
            }
            return false;
        }
        common == dash.len() && self.delimiter(blank + common)
    }

    /// What stands behind `--boundary`, which ends at `at` in the tail: `--`, or blanks and CRLF.
    fn delimiter(&mut self, at: usize) -> bool {
        let rest = self.tail.get(at..).unwrap_or_default();
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match (blanks, rest.get(blanks..).unwrap_or_default()) {
            (0, [b'-', b'-', ..]) => {
                self.state = State::Done;
                self.consume(at + 2);
                true
            }
            (_, [b'\r', b'\n', ..]) => {
                self.state = State::Header;
                self.consume(at + blanks + 2);
                true
            }
            (0, [b'-']) | (_, [b'\r'] | []) if blanks <= PART_HEADER_BYTES_MAX => false,
            _ => {
                self.fail(FormFault::Malformed);
                false
            }
        }
    }

    /// The header lines, once they are whole.
    fn header(&mut self) -> bool {
        let end = match self.tail.as_slice() {
            [b'\r', b'\n', ..] => Some(0),
            tail => memchr::memmem::find(tail, b"\r\n\r\n").map(|end| end + 2),
        };
        if end.unwrap_or(self.tail.len().saturating_sub(2)) > PART_HEADER_BYTES_MAX {
            self.fail(FormFault::PartHeader);
            return false;
        }
        let Some(end) = end else { return false };
        match part(self.tail.get(..end).unwrap_or_default()) {
            Ok(Part::Model) if self.model.is_some() => self.fail(FormFault::Duplicate),
            Ok(Part::Model) if self.base + end + 2 > self.model_within => self.fail(FormFault::ModelTooLate),
            Ok(part) => {
                self.part = part;
                self.state = State::Value;
                self.consume(end + 2);
                self.value_start = self.base;
            }
            Err(fault) => self.fail(fault),
        }
        true
    }

    /// The value, up to the next delimiter.
    fn value(&mut self) -> bool {
        let Some(at) = self.dash.find(&self.tail) else {
            let read = self.base + self.tail.len() - self.value_start;
            match self.part {
                Part::Other => self.keep_last(),
                Part::Model if read > MODEL_NAME_BYTES_MAX + self.dash.needle().len() + 2 => {
                    self.fail(FormFault::BadModel);
                }
                // A long value that is not `true` need not be kept.
                Part::Stream if read > MODEL_NAME_BYTES_MAX => self.part = Part::Other,
                Part::Model | Part::Stream => {}
            }
            return false;
        };
        let before = at.checked_sub(2).and_then(|start| self.tail.get(start..at));
        let last = at.checked_sub(1).and_then(|index| self.tail.get(index));
        match (before, last) {
            (Some(b"\r\n"), _) => {}
            // Some parsers end a part here, others do not.
            (_, None | Some(b'\r' | b'\n')) => {
                self.fail(FormFault::Malformed);
                return false;
            }
            _ => {
                // The dashes stand inside a line: they are data.
                if self.part == Part::Model {
                    self.fail(FormFault::BadModel);
                    return false;
                }
                self.part = Part::Other;
                self.consume(at + 1);
                return true;
            }
        }
        let needle = self.dash.needle().len();
        if self.delimiter_is_whole(at + needle) {
            self.value_end(at - 2);
        }
        !matches!(self.state, State::Failed(_)) && self.delimiter(at + needle)
    }

    /// Enough bytes are there to judge the delimiter, so that a value ends once only.
    fn delimiter_is_whole(&self, at: usize) -> bool {
        let rest = self.tail.get(at..).unwrap_or_default();
        rest.starts_with(b"--") || memchr::memchr(b'\n', rest).is_some()
    }

    /// Keeps what may be the beginning of a delimiter, with the line break before it.
    fn keep_last(&mut self) {
        let keep = self.dash.needle().len() + 1;
        let count = self.tail.len().saturating_sub(keep);
        self.consume(count);
    }

    /// The value is the first `length` bytes of the tail, for the parts that we look at.
    fn value_end(&mut self, length: usize) {
        let value = self.tail.get(..length).unwrap_or_default();
        match self.part {
            Part::Other => {}
            Part::Stream => self.stream |= value.eq_ignore_ascii_case(b"true"),
            Part::Model => match std::str::from_utf8(value) {
                Ok(name) if name.len() <= MODEL_NAME_BYTES_MAX && !name.contains(char::is_control) => {
                    let span = self.value_start..self.value_start + length;
                    self.model = Some(Field { span, name: name.to_owned() });
                }
                _ => self.fail(FormFault::BadModel),
            },
        }
    }

    /// Behind the last delimiter nothing may look like another one.
    fn epilogue(&mut self) -> bool {
        if self.dash.find(&self.tail).is_some() {
            self.fail(FormFault::Malformed);
        } else {
            self.keep_last();
        }
        false
    }
}

/// Which part the header lines announce.
fn part(header: &[u8]) -> Result<Part, FormFault> {
    let text = std::str::from_utf8(header).map_err(|_| FormFault::Malformed)?;
    let mut disposition = None;
    let mut encoded = false;
    for line in text.split_terminator("\r\n") {
        if line.contains(['\r', '\n', '\0']) {
            return Err(FormFault::Malformed);
        }
        let (name, value) = line.split_once(':').ok_or(FormFault::Malformed)?;
        if name.eq_ignore_ascii_case("content-disposition") {
            if disposition.replace(value).is_some() {
                return Err(FormFault::Malformed);
            }
        } else if name.eq_ignore_ascii_case("content-transfer-encoding") {
            encoded = !["binary", "8bit", "7bit"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain));
        } else if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            // Also a folded line, which could carry on a name.
            return Err(FormFault::Malformed);
        }
    }
    let (kind, mut rest) = disposition.and_then(|value| value.split_once(';')).ok_or(FormFault::Malformed)?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(FormFault::Malformed);
    }
    let (mut part_name, mut file) = (None, false);
    while !rest.trim().is_empty() {
        let (name, value, behind) = parameter(rest).ok_or(FormFault::Malformed)?;
        rest = behind;
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "name" if part_name.replace(value).is_some() => return Err(FormFault::Malformed),
            "name" => {}
            // `name*`, `name*0`: RFC 7578 forbids them, some parsers follow them.
            _ if lower.starts_with("name*") => return Err(FormFault::Malformed),
            _ => file |= lower.starts_with("filename"),
        }
    }
    match part_name.as_deref() {
        Some("model") if file || encoded => Err(FormFault::BadModel),
        Some("model") => Ok(Part::Model),
        Some("stream") if !file => Ok(Part::Stream),
        Some(_) => Ok(Part::Other),
        None => Err(FormFault::Malformed),
    }
}

#[cfg(test)]
mod tests;
