//! What an upstream says a request has cost in tokens, found while its answer passes.
//!
//! Looks for one member, `usage`: at the top of an answer or of an event, or one level down in the
//! `response` or `message` that an event wraps. Keeps the member's bytes and nothing else, joins no
//! chunks, changes nothing. Spellings of OpenAI (both APIs), Anthropic and those who copy them.

use serde::Deserialize;

use super::frame::sse::{Item, Splitter};
use crate::budget::Usage;
use crate::limits::USAGE_BYTES_MAX;

/// Listens to one answer.
#[derive(Debug)]
pub struct Tap {
    form: Form,
    usage: Option<Usage>,
    /// Events that carried something: about as many tokens, where nothing better is known.
    events: u64,
}

#[derive(Debug)]
enum Form {
    Text(Box<Seeker>),
    Events(Box<Splitter>),
    Frames(Box<Frames>),
}

impl Tap {
    /// For a JSON text.
    pub fn text() -> Self {
        Self { form: Form::Text(Box::default()), usage: None, events: 0 }
    }

    /// For an event stream.
    pub fn events() -> Self {
        Self { form: Form::Events(Box::default()), usage: None, events: 0 }
    }

    /// For frames of an AWS event stream.
    pub fn frames() -> Self {
        Self { form: Form::Frames(Box::default()), usage: None, events: 0 }
    }

    /// Takes the next bytes of the answer.
    pub fn push(&mut self, chunk: &[u8]) {
        match &mut self.form {
            Form::Text(seeker) => {
                seeker.push(chunk);
                self.usage = seeker.found;
            }
            Form::Events(splitter) => splitter.push(chunk, |item| {
                let Item::Event(event) = item else { return };
                self.events += 1;
                if memchr::memmem::find(event.data, b"\"usage").is_none() {
                    return;
                }
                let mut seeker = Seeker::default();
                seeker.push(event.data);
                if let Some(found) = seeker.found {
                    self.usage = Some(self.usage.unwrap_or_default().or_more(found));
                }
            }),
            Form::Frames(frames) => {
                frames.push(chunk);
                (self.usage, self.events) = (frames.found, frames.count);
            }
        }
    }

    /// What the upstream has said so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    pub fn events_seen(&self) -> u64 {
        self.events
    }
}

/// Finds the payloads of frames and looks into each. Judges no checksum: whoever relays them does.
#[derive(Debug, Default)]
struct Frames {
    /// The lengths of the next frame and their checksum, as far as they have come.
    prelude: Vec<u8>,
    /// Bytes to come: of headers, of the payload, of the checksum behind it.
    ahead: [usize; 3],
    seeker: Seeker,
    lost: bool,
    count: u64,
    found: Option<Usage>,
}

impl Frames {
    const PRELUDE: usize = 12;
    const CHECKSUM: usize = 4;
    /// Place of the payload in `ahead`.
    const PAYLOAD: usize = 1;

    fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() && !self.lost {
            let Some(part) = self.ahead.iter().position(|left| *left > 0) else {
                let (taken, behind) = rest.split_at(rest.len().min(Self::PRELUDE - self.prelude.len()));
                self.prelude.extend_from_slice(taken);
                rest = behind;
                if self.prelude.len() == Self::PRELUDE {
                    self.begin();
                }
                continue;
            };
            let Some(left) = self.ahead.get_mut(part) else { return };
            let (taken, behind) = rest.split_at(rest.len().min(*left));
            *left -= taken.len();
            rest = behind;
            if part == Self::PAYLOAD {
                self.seeker.push(taken);
            }
            if self.ahead == [0; 3] {
                self.count += 1;
                if let Some(found) = std::mem::take(&mut self.seeker).found {
                    self.found = Some(self.found.unwrap_or_default().or_more(found));
                }
            }
        }
    }

    /// The lengths are known. Those of no frame mean that nothing can be found any more.
    fn begin(&mut self) {
        let prelude = std::mem::take(&mut self.prelude);
        let length = |at: usize| {
            let bytes = prelude.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize)
        };
        let (total, headers) = (length(0), length(4));
        match total.checked_sub(Self::PRELUDE + Self::CHECKSUM).and_then(|rest| rest.checked_sub(headers)) {
            Some(payload) => self.ahead = [headers, payload, Self::CHECKSUM],
            None => self.lost = true,
        }
    }
}

/// The name of the member whose value is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Name {
    #[default]
    Other,
    Usage,
    /// What an event wraps.
    Holder,
}

/// Finds `usage` in one JSON text pushed in pieces. Judges no syntax: what is not JSON has no usage.
#[derive(Debug, Default)]
struct Seeker {
    depth: usize,
    /// The text is a list of answers: all stands one level further down.
    is_list: bool,
    /// The second level is the object of a holder.
    in_holder: bool,
    in_text: bool,
    escaped: bool,
    /// A string that comes now is a name.
    name_next: bool,
    /// The string being read is such a name, of a level that is looked at.
    reads_name: bool,
    token: Vec<u8>,
    name: Name,
    /// The bytes of a `usage` object, and the depth at which it stands.
    taken: Option<(Vec<u8>, usize)>,
    found: Option<Usage>,
}

impl Seeker {
    fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some((&byte, behind)) = rest.split_first() {
            // Texts are long, and none of them is looked at but names.
            if self.in_text && !self.escaped && !self.reads_name && self.taken.is_none() {
                let Some(stop) = memchr::memchr2(b'"', b'\\', rest) else { return };
                if stop > 0 {
                    rest = rest.get(stop..).unwrap_or_default();
                    continue;
                }
            }
            self.byte(byte);
            rest = behind;
        }
    }

    fn byte(&mut self, byte: u8) {
        if let Some((bytes, _)) = &mut self.taken {
            bytes.push(byte);
            if bytes.len() > USAGE_BYTES_MAX {
                self.taken = None;
            }
        }
        if self.in_text {
            return self.text(byte);
        }
        match byte {
            b'"' => {
                self.in_text = true;
                self.reads_name = self.name_next && self.is_looked_at();
                self.token.clear();
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(),
            b',' => {
                self.name = Name::Other;
                self.name_next = true;
            }
            b':' => self.name_next = false,
            _ => {}
        }
    }

    fn is_looked_at(&self) -> bool {
        let depth = self.depth - usize::from(self.is_list && self.depth > 0);
        depth == 1 || depth == 2 && self.in_holder
    }

    fn text(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_text = false;
            if std::mem::take(&mut self.reads_name) {
                self.name = match &*self.token {
                    b"usage" | b"usageMetadata" => Name::Usage,
                    b"response" | b"message" if !self.in_holder => Name::Holder,
                    _ => Name::Other,
                };
            }
            return;
        }
        // A longer one, or one with an escape in it, is another name.
        if self.reads_name && self.token.len() <= b"usageMetadata".len() {
            self.token.push(byte);
        }
    }

    fn open(&mut self, byte: u8) {
        let is_object = byte == b'{';
        self.is_list |= self.depth == 0 && !is_object;
        if self.is_looked_at() && self.taken.is_none() {
            match self.name {
                Name::Usage if is_object => self.taken = Some((vec![byte], self.depth)),
                Name::Holder if is_object => self.in_holder = true,
                _ => {}
            }
        }
        self.depth += 1;
        self.name_next = is_object;
        self.name = Name::Other;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth <= 1 + usize::from(self.is_list) {
            self.in_holder = false;
        }
        self.name_next = false;
        self.name = Name::Other;
        if let Some((bytes, _)) = self.taken.take_if(|(_, depth)| *depth == self.depth)
            && let Some(usage) = read(&bytes)
        {
            self.found = Some(self.found.unwrap_or_default().or_more(usage));
        }
    }
}

/// A `usage` object in the spellings that are known.
#[derive(Deserialize)]
struct Wire {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    #[serde(alias = "input_tokens_details")]
    prompt_tokens_details: Option<Details>,
    #[serde(alias = "output_tokens_details")]
    completion_tokens_details: Option<Details>,
    /// DeepSeek.
    prompt_cache_hit_tokens: Option<u64>,
    /// Anthropic: beside the input, not in it.
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    /// Bedrock: likewise beside it.
    #[serde(rename = "inputTokens")]
    bedrock_input: Option<u64>,
    #[serde(rename = "outputTokens")]
    bedrock_output: Option<u64>,
    #[serde(rename = "cacheReadInputTokens")]
    bedrock_cache_read: Option<u64>,
    #[serde(rename = "cacheWriteInputTokens")]
    bedrock_cache_written: Option<u64>,
    /// Gemini: thoughts beside the output, what tools were asked beside the input.
    #[serde(rename = "promptTokenCount")]
    gemini_input: Option<u64>,
    #[serde(rename = "toolUsePromptTokenCount")]
    gemini_tools: Option<u64>,
    #[serde(rename = "cachedContentTokenCount")]
    gemini_cached: Option<u64>,
    #[serde(rename = "candidatesTokenCount")]
    gemini_output: Option<u64>,
    #[serde(rename = "thoughtsTokenCount")]
    gemini_thoughts: Option<u64>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

/// `None`: nothing in it is a count of tokens.
fn read(object: &[u8]) -> Option<Usage> {
    let wire: Wire = serde_json::from_slice(object).ok()?;
    let sum = |parts: &[Option<u64>]| parts.iter().flatten().fold(0u64, |sum, part| sum.saturating_add(*part));
    if wire.gemini_input.or(wire.gemini_output).is_some() {
        return Some(Usage {
            input: sum(&[wire.gemini_input, wire.gemini_tools]),
            input_cached: sum(&[wire.gemini_cached]),
            input_cache_written: 0,
            output: sum(&[wire.gemini_output, wire.gemini_thoughts]),
            output_reasoning: sum(&[wire.gemini_thoughts]),
        });
    }
    let (prompt, completion) =
        (wire.prompt_tokens.or(wire.bedrock_input), wire.completion_tokens.or(wire.bedrock_output));
    let read = wire.cache_read_input_tokens.or(wire.bedrock_cache_read);
    let written = wire.cache_creation_input_tokens.or(wire.bedrock_cache_written);
    let within = wire.prompt_tokens_details.and_then(|details| details.cached_tokens).or(wire.prompt_cache_hit_tokens);
    let output = completion.unwrap_or_default();
    let input = match (prompt, completion, wire.total_tokens) {
        (None, None, None) => return None,
        (Some(input), ..) => input,
        (None, _, total) => total.unwrap_or_default().saturating_sub(output),
    };
    Some(Usage {
        input: sum(&[Some(input), read, written]),
        input_cached: sum(&[within, read]),
        input_cache_written: sum(&[written]),
        output,
        output_reasoning: wire.completion_tokens_details.and_then(|it| it.reasoning_tokens).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::frame::eventstream;

    fn usage(input: u64, input_cached: u64, written: u64, output: u64, output_reasoning: u64) -> Option<Usage> {
        Some(Usage { input, input_cached, input_cache_written: written, output, output_reasoning })
    }

    /// Whole, byte by byte, and in odd pieces: always the same.
    fn tapped(tap: impl Fn() -> Tap, text: &str) -> Option<Usage> {
        let of = |size: usize| {
            let mut tap = tap();
            text.as_bytes().chunks(size).for_each(|chunk| tap.push(chunk));
            tap.usage()
        };
        let whole = of(text.len().max(1));
        for size in [1, 2, 3, 7, 16, 61] {
            assert_eq!(of(size), whole, "in pieces of {size}: {text}");
        }
        whole
    }

    #[test]
    fn texts() {
        for (text, expected) in [
            (
                r#"{"id":"x","usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#,
                usage(9, 0, 0, 12, 0),
            ),
            (
                r#"{"usage": {"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens":12,
                    "completion_tokens_details":{"reasoning_tokens":5,"audio_tokens":0}}, "choices":[]}"#,
                usage(9, 4, 0, 12, 5),
            ),
            (
                r#"{"object":"response","usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":2},
                    "output_tokens":3,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":10},"user":null}"#,
                usage(7, 2, 0, 3, 1),
            ),
            (
                r#"{"type":"message","usage":{"input_tokens":10,"cache_creation_input_tokens":20,
                    "cache_read_input_tokens":30,"output_tokens":4}}"#,
                usage(60, 30, 20, 4, 0),
            ),
            (
                r#"{"data":[{"embedding":[0.1,-2e3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
                usage(8, 0, 0, 0, 0),
            ),
            (r#"{"usage":{"total_tokens":8}}"#, usage(8, 0, 0, 0, 0)),
            (r#"{"usage":{"type":"duration","seconds":1}}"#, None),
            (r#"{"usage":null}"#, None),
            (r#"{"usage":[{"prompt_tokens":1}]}"#, None),
            (r#"{"usage":{"prompt_tokens":-1}}"#, None),
            (r#"{"a":{"usage":{"prompt_tokens":1}}}"#, None),
            (r#"{"response":[{"usage":{"prompt_tokens":1}}]}"#, None),
            (r#"{"content":"\"usage\":{\"prompt_tokens\":1}","x":"usage"}"#, None),
            (r#"{"x":"usage","y":{"prompt_tokens":1}}"#, None),
            (r#"["usage",{"prompt_tokens":1}]"#, None),
            (
                r#"[{"candidates":[{"usage":1}],"usageMetadata":{"promptTokenCount":5}},
                    {"usageMetadata":{"promptTokenCount":5,"cachedContentTokenCount":2,"candidatesTokenCount":6,
                    "thoughtsTokenCount":3,"toolUsePromptTokenCount":1,"totalTokenCount":15}}]"#,
                usage(6, 2, 0, 9, 3),
            ),
            (
                r#"{"output":{"message":{"usage":{"inputTokens":99}}},"usage":{"inputTokens":4,"outputTokens":5,
                    "totalTokens":12,"cacheReadInputTokens":1,"cacheWriteInputTokens":2}}"#,
                usage(7, 1, 2, 5, 0),
            ),
            (r#"{"\\":"}\"","usage":{"prompt_tokens":3}}"#, usage(3, 0, 0, 0, 0)),
            ("", None),
            ("}}{\"usage\":{\"prompt_tokens\":3}}", usage(3, 0, 0, 0, 0)),
        ] {
            assert_eq!(tapped(Tap::text, text), expected, "{text}");
        }
        let long = format!(r#"{{"usage":{{"x":"{}","prompt_tokens":1}}}}"#, "y".repeat(USAGE_BYTES_MAX));
        assert_eq!(tapped(Tap::text, &long), None);
    }

    #[test]
    fn streams() {
        for (text, expected) in [
            (
                "data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\n\
                 data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12}}\n\ndata: [DONE]\n\n",
                usage(9, 0, 0, 12, 0),
            ),
            (
                "event: response.completed\r\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\
                 \"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\r\n\r\n",
                usage(1, 0, 0, 2, 0),
            ),
            (
                "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":6,\
                 \"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":40}}\n\n",
                usage(11, 6, 0, 40, 0),
            ),
            ("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", None),
            ("", None),
        ] {
            assert_eq!(tapped(Tap::events, text), expected, "{text}");
        }
        let frames = [
            eventstream::event("contentBlockDelta", b"{\"delta\":{\"text\":\"{[\\\"\"}}"),
            eventstream::event("messageStop", b"{}"),
            eventstream::event("metadata", b"{\"usage\":{\"inputTokens\":3,\"outputTokens\":4}}"),
        ]
        .concat();
        for size in [1, 2, 5, 11, 64, frames.len()] {
            let mut tap = Tap::frames();
            frames.chunks(size).for_each(|chunk| tap.push(chunk));
            assert_eq!((tap.usage(), tap.events_seen()), (usage(3, 0, 0, 4, 0), 3), "in pieces of {size}");
        }
        let mut tap = Tap::frames();
        tap.push(&[0; 100]);
        assert_eq!(tap.usage(), None);
        let mut tap = Tap::events();
        tap.push(b"data: 1\n\n: alive\n\ndata: 2\n\n");
        assert_eq!(tap.events_seen(), 2);
    }
}
