//! Takes out of a stream what its caller did not ask for: the usage that we asked for in his place.
//!
//! The chunk that carries nothing but usage goes, and `"usage":null` goes out of all others. Every
//! other byte stays as it was; an event that is too large to be held is passed on as it is, and so is
//! the rest of its stream.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::limits::SSE_EVENT_BYTES_MAX;

/// Filters one stream of server-sent events.
#[derive(Debug, Default)]
pub struct Unasked {
    /// The beginning of an event whose end has not come.
    held: BytesMut,
    blind: bool,
}

impl Unasked {
    /// Takes the next bytes and gives what of them may go on.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.blind {
            return chunk;
        }
        // The common chunk is whole events without a word of usage.
        if self.held.is_empty() && is_end(&chunk) && memchr::memmem::find(&chunk, USAGE).is_none() {
            return chunk;
        }
        self.held.extend_from_slice(&chunk);
        let mut out = BytesMut::new();
        while let Some(end) = event_end(&self.held) {
            let event = self.held.split_to(end);
            pass(&event, &mut out);
        }
        if self.held.len() > SSE_EVENT_BYTES_MAX {
            self.blind = true;
            out.extend_from_slice(&self.held.split());
        }
        out.freeze()
    }

    /// What is left when the stream has ended.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.held.split();
        let mut out = BytesMut::new();
        pass(&rest, &mut out);
        out.freeze()
    }
}

const USAGE: &[u8] = b"\"usage\"";

fn is_end(chunk: &[u8]) -> bool {
    chunk.ends_with(b"\n\n") || chunk.ends_with(b"\r\n\r\n")
}

/// Where the first event ends, its empty line included. A lone CR as an end of line, which nobody
/// sends, is not looked for: such a stream is passed on at its end.
fn event_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', bytes.get(from..)?) {
        let behind = from + at + 1;
        match bytes.get(behind..)? {
            [b'\n', ..] => return Some(behind + 1),
            [b'\r', b'\n', ..] => return Some(behind + 2),
            _ => from = behind,
        }
    }
    None
}

fn pass(event: &[u8], out: &mut BytesMut) {
    match judged(event) {
        Judged::Stays => out.extend_from_slice(event),
        Judged::Goes => {}
        Judged::Cut(span) => {
            out.extend_from_slice(event.get(..span.start).unwrap_or_default());
            out.extend_from_slice(event.get(span.end..).unwrap_or_default());
        }
    }
}

enum Judged {
    Stays,
    Goes,
    Cut(Range<usize>),
}

fn judged(event: &[u8]) -> Judged {
    if memchr::memmem::find(event, USAGE).is_none() {
        return Judged::Stays;
    }
    let Some(data) = only_data(event) else { return Judged::Stays };
    let text = event.get(data.clone()).unwrap_or_default();
    let Some(members) = members(text) else { return Judged::Stays };
    let value = |name: &[u8]| members.iter().position(|member| text.get(member.name.clone()) == Some(name));
    let of = |at: usize| members.get(at).and_then(|member| text.get(member.value.clone())).unwrap_or_default();
    let Some(usage) = value(USAGE) else { return Judged::Stays };
    let is_null = of(usage) == b"null";
    let has_no_choice = value(b"\"choices\"").is_some_and(|at| {
        of(at)
            .strip_prefix(b"[")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .is_some_and(|rest| rest.trim_ascii().is_empty())
    });
    if !is_null {
        return if has_no_choice { Judged::Goes } else { Judged::Stays };
    }
    // With one of the two commas beside it.
    let span = match (usage.checked_sub(1).and_then(|at| members.get(at)), members.get(usage), members.get(usage + 1)) {
        (Some(before), Some(member), _) => before.value.end..member.value.end,
        (None, Some(member), Some(after)) => member.name.start..after.name.start,
        (None, Some(member), None) => member.name.start..member.value.end,
        (_, None, _) => return Judged::Stays,
    };
    Judged::Cut(data.start + span.start..data.start + span.end)
}

/// Where the value of the only `data` line stands; `None` where there are several or none.
fn only_data(event: &[u8]) -> Option<Range<usize>> {
    let (mut found, mut start) = (None, 0);
    for line in event.split_inclusive(|byte| *byte == b'\n') {
        if let Some(value) = line.strip_prefix(b"data:") {
            if found.is_some() {
                return None;
            }
            let end = value.trim_ascii_end().len();
            let begin = end - value.trim_ascii_end().trim_ascii_start().len();
            found = Some(start + 5 + begin..start + 5 + end);
        }
        start += line.len();
    }
    found
}

struct Member {
    /// With its quotes.
    name: Range<usize>,
    value: Range<usize>,
}

/// The members of an object, in order; `None` where the text is none.
fn members(text: &[u8]) -> Option<Vec<Member>> {
    let mut at = space(text, 0);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    let mut found = Vec::new();
    at = space(text, at + 1);
    loop {
        match text.get(at)? {
            b'}' => return Some(found),
            b',' => at = space(text, at + 1),
            b'"' => {
                let name = at..string_end(text, at)?;
                at = space(text, name.end);
                if text.get(at) != Some(&b':') {
                    return None;
                }
                let start = space(text, at + 1);
                let end = value_end(text, start)?;
                found.push(Member { name, value: start..end });
                at = space(text, end);
            }
            _ => return None,
        }
    }
}

fn space(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + (rest.len() - rest.trim_ascii_start().len())
}

/// Behind the closing quote of the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn value_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' if depth == 0 => return Some(at),
            byte if depth == 0 && byte.is_ascii_whitespace() => return Some(at),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filtered(text: &[u8], size: usize) -> String {
        let mut filter = Unasked::default();
        let mut out = Vec::new();
        for chunk in text.chunks(size.max(1)) {
            out.extend_from_slice(&filter.push(Bytes::copy_from_slice(chunk)));
        }
        out.extend_from_slice(&filter.finish());
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        for size in [text.len(), 1, 2, 3, 7, 19, 64] {
            assert_eq!(filtered(text.as_bytes(), size), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn usage_that_nobody_asked_for_goes() {
        check(
            "data: {\"id\":\"a\",\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\": null\"}}],\"usage\":null}\n\n\
             : alive\n\ndata: {\"usage\": null, \"choices\":[{}]}\n\ndata:{\"usage\":null}\n\n\
             data: {\"choices\": [ ],\"usage\":{\"prompt_tokens\":1}}\r\n\r\ndata: [DONE]\n\n",
            "data: {\"id\":\"a\",\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\": null\"}}]}\n\n\
             : alive\n\ndata: {\"choices\":[{}]}\n\ndata:{}\n\ndata: [DONE]\n\n",
        );
    }

    #[test]
    fn all_else_stays() {
        for text in [
            "",
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"error\":{\"usage\":null}}\n\ndata: {\"a\":\"usage\"}\n\n",
            "data: {\"usage\":null\ndata: }\n\n",
            "data: {\"usage\":null\n\n",
            "event: x\nid: 1\ndata: [\"usage\",null]\n\n",
            "data: \"usage\"\n\ndata: {\"choices\":[],\"us",
        ] {
            check(text, text);
        }
    }

    proptest! {
        /// Whatever is sent, and however it is cut: it does not depend on the pieces.
        #[test]
        fn pieces_change_nothing(text in "(data: |\\{|\\}|\"usage\"|:|null|,|\\[\\]|\"choices\"|\n|\r\n| |x|\\\\){0,60}", size in 1usize..20) {
            prop_assert_eq!(filtered(text.as_bytes(), size), filtered(text.as_bytes(), text.len()));
        }
    }
}
