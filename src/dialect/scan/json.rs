//! The push scanner over a JSON object.
//!
//! A pushdown automaton over the whole grammar, a byte at a time; `fast.rs` takes it over strings and
//! over what lies below the top level. It refuses what is not JSON, for a lenient upstream must not see another object than
//! we do. Two things it leaves to the upstream, since neither moves a member: raw control characters
//! and broken UTF-8 inside strings that it does not read.

use smallvec::SmallVec;

use super::fast::{self, Below, Next};
use super::number::Digits;
use super::token::{MODEL_TOKEN_BYTES_MAX, NAME_TOKEN_BYTES_MAX, decode, spelled_like_model, which};
use super::{Fallbacks, Field, Found, Member, ScanError, ScanFault};
use crate::limits::{BODY_DEPTH_MAX, FALLBACKS_MAX};

/// One bit per level says object or array.
const _: () = assert!(BODY_DEPTH_MAX <= u128::BITS as usize);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before the object.
    Start,
    /// Behind `{`: a name or `}`.
    FirstName,
    /// Behind `,` in an object: a name.
    Name,
    Colon,
    Value,
    /// Behind `[`: a value or `]`.
    FirstItem,
    /// Behind a value: `,` or the closing bracket.
    After,
    Text,
    /// Behind a backslash.
    Escape,
    /// Inside `\uXXXX`, so many digits to come.
    Hex(u8),
    Number(Digits),
    /// Inside `true`, `false` or `null`: what must still come.
    Word(&'static [u8]),
    /// Behind the object.
    Done,
    Failed,
}

/// What the string being read is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// Name of a top-level member.
    TopName,
    Model,
    Fallback,
    /// Name of a member further down.
    Name,
    Plain,
}

/// Reads a body pushed in pieces. Top-level members only; always to the end.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    error: Option<ScanError>,
    /// Bytes in the chunks before this one.
    base: usize,
    depth: usize,
    /// Bit n: level n+1 is an object.
    objects: u128,
    role: Role,
    /// Where the string token began.
    text_start: usize,
    /// Its raw bytes, where they are wanted.
    token: SmallVec<[u8; 64]>,
    /// The top-level member whose value comes or is read.
    member: Option<Member>,
    members: usize,
    /// Where its name began.
    name_start: usize,
    /// The comma before it.
    comma: Option<usize>,
    /// `fallbacks` came first: the comma behind it goes too.
    cut_next_comma: bool,
    /// The value of `stream_options` comes or is read.
    options_open: bool,
    model_seen: bool,
    stream_seen: bool,
    found: Found,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    pub fn new() -> Self {
        let found = Found {
            model: None,
            model_start: 0,
            stream: false,
            fallbacks: None,
            stream_options: None,
            object_start: 0,
            empty_object: true,
        };
        Self {
            state: State::Start,
            error: None,
            base: 0,
            depth: 0,
            objects: 0,
            role: Role::Plain,
            text_start: 0,
            token: SmallVec::new(),
            member: None,
            members: 0,
            name_start: 0,
            comma: None,
            cut_next_comma: false,
            options_open: false,
            model_seen: false,
            stream_seen: false,
            found,
        }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            at = match self.state {
                State::Text => self.text(chunk, at),
                State::Number(digits) => self.number(chunk, at, digits),
                State::Failed => break,
                State::Escape | State::Hex(_) => {
                    self.escape(byte, at);
                    at + 1
                }
                State::Word(rest) => {
                    self.word(byte, at, rest);
                    at + 1
                }
                _ if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') => at + 1,
                State::FirstName | State::Name if byte == b'"' && self.depth == 1 => self.top_name(chunk, at),
                _ => match self.below(chunk, at) {
                    seen if seen > at => seen,
                    _ => {
                        self.structure(byte, at);
                        at + 1
                    }
                },
            };
        }
        self.base += chunk.len();
    }

    /// The body is known to be refused; reading on changes nothing.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// The body has ended.
    pub fn finish(mut self) -> Result<Found, ScanError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let fault = match self.state {
            State::Done => {
                let ours = usize::from(self.found.fallbacks.is_some());
                self.found.empty_object = self.members == ours;
                return Ok(self.found);
            }
            State::Start => ScanFault::NotAnObject,
            _ => ScanFault::Truncated,
        };
        Err(ScanError { fault, at: self.base })
    }

    fn fail(&mut self, fault: ScanFault, at: usize) {
        self.state = State::Failed;
        self.error = Some(ScanError { fault, at: self.base + at });
    }

    /// The quick way through what lies below the top level; returns where it stopped. Not for
    /// `fallbacks`, whose strings are wanted.
    fn below(&mut self, chunk: &[u8], at: usize) -> usize {
        if self.depth < 2 || self.member.is_some() {
            return at;
        }
        let next = match self.state {
            State::FirstName => Next::FirstName,
            State::Name => Next::Name,
            State::Colon => Next::Colon,
            State::Value => Next::Value,
            State::FirstItem => Next::FirstItem,
            State::After => Next::After,
            _ => return at,
        };
        let mut below = Below { next, depth: self.depth, objects: self.objects };
        let end = below.run(chunk, at, BODY_DEPTH_MAX);
        self.depth = below.depth;
        self.objects = below.objects;
        self.state = match below.next {
            Next::FirstName => State::FirstName,
            Next::Name => State::Name,
            Next::Colon => State::Colon,
            Next::Value => State::Value,
            Next::FirstItem => State::FirstItem,
            Next::After => State::After,
        };
        end
    }

    /// One byte outside of strings, numbers and words.
    fn structure(&mut self, byte: u8, at: usize) {
        match (self.state, byte) {
            (State::Value | State::FirstItem, b'"') => self.value_text(at),
            (State::FirstName | State::Name, b'"') => self.begin_text(Role::Name, at),
            (State::Colon, b':') => self.state = State::Value,
            (State::After, b',') => self.comma(at),
            (State::After, b'}') | (State::FirstName, b'}') if self.in_object() => self.close(at),
            (State::After, b']') if !self.in_object() => self.close(at),
            (State::FirstItem, b']') => self.close(at),
            (State::Value | State::FirstItem, _) => self.value(byte, at),
            (State::Start, b'{') => {
                self.open(true, at);
                self.found.object_start = self.base + at + 1;
            }
            (State::Start, _) => self.fail(ScanFault::NotAnObject, at),
            (State::Done, _) => self.fail(ScanFault::TrailingBytes, at),
            _ => self.fail(ScanFault::Syntax, at),
        }
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn open(&mut self, object: bool, at: usize) {
        if self.depth == BODY_DEPTH_MAX {
            return self.fail(ScanFault::TooDeep, at);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.state = if object { State::FirstName } else { State::FirstItem };
    }

    fn close(&mut self, at: usize) {
        self.depth -= 1;
        self.objects >>= 1;
        if self.depth == 0 {
            self.state = State::Done;
        } else {
            self.value_end(at + 1);
        }
    }

    fn comma(&mut self, at: usize) {
        self.state = if self.in_object() { State::Name } else { State::Value };
        if self.depth == 1 {
            self.comma = Some(self.base + at);
            if std::mem::take(&mut self.cut_next_comma)
                && let Some(fallbacks) = &mut self.found.fallbacks
            {
                fallbacks.cut.end = self.base + at + 1;
            }
        }
    }

    /// A value is complete; `end` is just behind it.
    fn value_end(&mut self, end: usize) {
        self.state = State::After;
        if self.depth == 1
            && std::mem::take(&mut self.options_open)
            && let Some(options) = &mut self.found.stream_options
        {
            options.end = self.base + end;
        }
        if self.depth == 1
            && self.member.take() == Some(Member::Fallbacks)
            && let Some(fallbacks) = &mut self.found.fallbacks
        {
            fallbacks.cut.end = self.base + end;
        }
    }

    fn value_begins(&mut self, at: usize) {
        if self.depth == 1 && self.options_open && self.found.stream_options.is_none() {
            let start = self.base + at;
            self.found.stream_options = Some(start..start);
        }
    }

    /// The first byte of a value that is no string.
    fn value(&mut self, byte: u8, at: usize) {
        self.value_begins(at);
        if let Some(fault) = self.unwanted(byte) {
            return self.fail(fault, at);
        }
        match byte {
            b'{' => self.open(true, at),
            b'[' => self.open(false, at),
            b't' => {
                if self.depth == 1 && self.member == Some(Member::Stream) {
                    self.found.stream = true;
                }
                self.state = State::Word(b"rue");
            }
            b'f' => self.state = State::Word(b"alse"),
            b'n' => self.state = State::Word(b"ull"),
            _ => match Digits::first(byte) {
                Some(digits) => self.state = State::Number(digits),
                None => self.fail(ScanFault::Syntax, at),
            },
        }
    }

    /// What is wrong with a value that begins like this, where one of our members stands.
    fn unwanted(&self, first: u8) -> Option<ScanFault> {
        let member = self.member?;
        let fits = match (self.depth, member) {
            (1, Member::Model) => first == b'"',
            (1, Member::Stream) => matches!(first, b't' | b'f' | b'n'),
            (1, Member::Fallbacks) => matches!(first, b'[' | b'n'),
            (_, Member::Fallbacks) => first == b'"',
            _ => true,
        };
        (!fits).then_some(ScanFault::WrongType(member))
    }

    /// A value that is a string.
    fn value_text(&mut self, at: usize) {
        self.value_begins(at);
        if let Some(fault) = self.unwanted(b'"') {
            return self.fail(fault, at);
        }
        let role = match (self.depth, self.member) {
            (1, Some(Member::Model)) => Role::Model,
            (2, Some(Member::Fallbacks)) => Role::Fallback,
            _ => Role::Plain,
        };
        self.begin_text(role, at);
    }

    fn begin_text(&mut self, role: Role, at: usize) {
        self.state = State::Text;
        self.role = role;
        if self.keeps() {
            self.text_start = self.base + at;
            self.token.clear();
            self.token.push(b'"');
        }
    }

    /// The name of a top-level member begins at `at`: read in one go where it is plain and whole.
    fn top_name(&mut self, chunk: &[u8], at: usize) -> usize {
        self.name_start = self.base + at;
        let behind = chunk.get(at + 1..).unwrap_or_default();
        let end = fast::special(behind).map_or(chunk.len(), |length| at + 1 + length);
        match chunk.get(at..=end) {
            Some(token) if token.ends_with(b"\"") => {
                self.name_end(token, end);
                end + 1
            }
            _ => {
                self.begin_text(Role::TopName, at);
                at + 1
            }
        }
    }

    /// Whether the string being read is one that we look at.
    fn keeps(&self) -> bool {
        matches!(self.role, Role::TopName | Role::Model | Role::Fallback)
    }

    /// Inside a string, up to its end, an escape or the end of the chunk.
    fn text(&mut self, chunk: &[u8], at: usize) -> usize {
        let stop = match self.keeps() {
            true => fast::special(chunk.get(at..).unwrap_or_default()).map_or(chunk.len(), |length| at + length),
            false => match fast::text(chunk, at) {
                fast::Text::End(end) | fast::Text::More(end) => end,
            },
        };
        if self.keeps() {
            self.keep(chunk.get(at..stop).unwrap_or_default());
        }
        match chunk.get(stop) {
            None => return stop,
            Some(b'"') => self.text_end(stop),
            Some(_) => {
                self.keep_byte(b'\\');
                self.state = State::Escape;
            }
        }
        stop + 1
    }

    /// Adds to the token; one that is too long stays too long and is judged at its end.
    fn keep(&mut self, bytes: &[u8]) {
        let bound = if self.role == Role::TopName { NAME_TOKEN_BYTES_MAX } else { MODEL_TOKEN_BYTES_MAX };
        let room = (bound + 1).saturating_sub(self.token.len());
        self.token.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn keep_byte(&mut self, byte: u8) {
        if self.keeps() {
            self.keep(&[byte]);
        }
    }

    fn escape(&mut self, byte: u8, at: usize) {
        self.state = match (self.state, byte) {
            (State::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => State::Text,
            (State::Escape, b'u') => State::Hex(4),
            (State::Hex(1), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => State::Text,
            (State::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => State::Hex(left - 1),
            _ => return self.fail(ScanFault::Syntax, at),
        };
        self.keep_byte(byte);
    }

    /// The closing quote stands at `at`.
    fn text_end(&mut self, at: usize) {
        self.keep_byte(b'"');
        match self.role {
            Role::Name => self.state = State::Colon,
            Role::TopName => {
                let token = std::mem::take(&mut self.token);
                self.name_end(&token, at);
            }
            Role::Plain => self.value_end(at + 1),
            Role::Model => {
                let span = self.text_start..self.base + at + 1;
                match decode(&self.token) {
                    Some(name) => {
                        self.found.model = Some(Field { span, name });
                        self.found.model_start = self.name_start;
                    }
                    None => return self.fail(ScanFault::BadText(Member::Model), at),
                }
                self.value_end(at + 1);
            }
            Role::Fallback => self.fallback_end(at),
        }
    }

    fn fallback_end(&mut self, at: usize) {
        let Some(name) = decode(&self.token) else {
            return self.fail(ScanFault::BadText(Member::Fallbacks), at);
        };
        let Some(fallbacks) = &mut self.found.fallbacks else { return self.fail(ScanFault::Syntax, at) };
        if fallbacks.names.len() == FALLBACKS_MAX {
            return self.fail(ScanFault::TooManyFallbacks, at);
        }
        fallbacks.names.push(name);
        self.value_end(at + 1);
    }

    /// The name of a top-level member is complete.
    fn name_end(&mut self, token: &[u8], at: usize) {
        self.state = State::Colon;
        self.members += 1;
        self.member = which(token);
        self.options_open = token == b"\"stream_options\"" && self.found.stream_options.is_none();
        let twice = match self.member {
            None if spelled_like_model(token) => Some(Member::Model),
            None => None,
            Some(Member::Model) => std::mem::replace(&mut self.model_seen, true).then_some(Member::Model),
            Some(Member::Stream) => std::mem::replace(&mut self.stream_seen, true).then_some(Member::Stream),
            Some(Member::Fallbacks) => {
                let start = self.comma.unwrap_or(self.name_start);
                let fallbacks = Fallbacks { cut: start..start, names: Vec::new() };
                self.cut_next_comma = self.comma.is_none();
                self.found.fallbacks.replace(fallbacks).map(|_| Member::Fallbacks)
            }
        };
        if let Some(member) = twice {
            self.fail(ScanFault::Duplicate(member), at);
        }
    }

    fn word(&mut self, byte: u8, at: usize, rest: &'static [u8]) {
        match rest.split_first() {
            Some((want, [])) if *want == byte => self.value_end(at + 1),
            Some((want, rest)) if *want == byte => self.state = State::Word(rest),
            _ => self.fail(ScanFault::Syntax, at),
        }
    }

    /// Inside a number, up to its end or the end of the chunk.
    fn number(&mut self, chunk: &[u8], mut at: usize, mut digits: Digits) -> usize {
        while let Some(&byte) = chunk.get(at) {
            match digits.next(byte) {
                Some(next) => digits = next,
                None if digits.complete() => {
                    // The byte belongs to what follows.
                    self.value_end(at);
                    return at;
                }
                None => {
                    self.fail(ScanFault::Syntax, at);
                    return at;
                }
            }
            at += 1;
        }
        self.state = State::Number(digits);
        at
    }
}
