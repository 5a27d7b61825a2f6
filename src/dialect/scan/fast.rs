//! The quick way through what routing does not read: whole strings, and all that lies below the top
//! level, with the automaton's state in registers.
//!
//! Never decides anything. Where a token does not end in the chunk, or is not one, it stops in front
//! of it and leaves the byte to the automaton in `json.rs`, which is complete and slower.

/// Words of eight bytes looked at before memchr: strings in requests are short, or very long.
const NEAR_WORDS: usize = 4;

/// Where a string goes on.
pub(super) enum Text {
    /// The closing quote stands here.
    End(usize),
    /// The string is not over: the automaton reads on from here, at an escape or behind the chunk.
    More(usize),
}

/// Reads a string from `at`, behind its opening quote or wherever no escape is under way.
pub(super) fn text(chunk: &[u8], mut at: usize) -> Text {
    loop {
        let rest = chunk.get(at..).unwrap_or_default();
        let Some(length) = special(rest) else { return Text::More(chunk.len()) };
        at += length;
        match rest.get(length..) {
            Some([b'"', ..]) => return Text::End(at),
            Some([_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..]) => at += 2,
            Some([_, b'u', a, b, c, d, ..]) if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => at += 6,
            _ => return Text::More(at),
        }
    }
}

/// Position of the first quote or backslash.
pub(super) fn special(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words.iter().take(NEAR_WORDS) {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ repeat(b'"')) | zeros(word ^ repeat(b'\\'));
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', bytes.get(at..)?).map(|index| at + index)
}

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of each byte that is zero; bits above the lowest one set may be wrong.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
}

/// What comes next below the top level.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    FirstName,
    Name,
    Colon,
    Value,
    FirstItem,
    After,
}

/// The automaton's state below the top level.
pub(super) struct Below {
    pub next: Next,
    pub depth: usize,
    /// Lowest bit: the innermost level is an object.
    pub objects: u128,
}

impl Below {
    /// Reads on while levels below the top stay open, and returns where it stopped.
    pub(super) fn run(&mut self, chunk: &[u8], mut at: usize, depth_max: usize) -> usize {
        while let Some(&byte) = chunk.get(at) {
            match (byte, self.next) {
                (b' ' | b'\n' | b'\r' | b'\t', _) => at += 1,
                (b'"', next @ (Next::FirstName | Next::Name | Next::Value | Next::FirstItem)) => {
                    let Text::End(end) = text(chunk, at + 1) else { return at };
                    let name = matches!(next, Next::FirstName | Next::Name);
                    self.next = if name { Next::Colon } else { Next::After };
                    at = end + 1;
                }
                (b':', Next::Colon) => {
                    self.next = Next::Value;
                    at += 1;
                }
                (b',', Next::After) => {
                    self.next = if self.in_object() { Next::Name } else { Next::Value };
                    at += 1;
                }
                (b'{' | b'[', Next::Value | Next::FirstItem) if self.depth < depth_max => {
                    let object = byte == b'{';
                    self.depth += 1;
                    self.objects = self.objects << 1 | u128::from(object);
                    self.next = if object { Next::FirstName } else { Next::FirstItem };
                    at += 1;
                }
                // The bracket that leads back to the top level is not ours.
                (b'}', Next::After | Next::FirstName) if self.in_object() && self.depth > 2 => at = self.close(at),
                (b']', Next::After | Next::FirstItem) if !self.in_object() && self.depth > 2 => at = self.close(at),
                (_, Next::Value | Next::FirstItem) => {
                    let Some(end) = scalar(chunk, at) else { return at };
                    self.next = Next::After;
                    at = end;
                }
                _ => return at,
            }
        }
        at
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn close(&mut self, at: usize) -> usize {
        self.depth -= 1;
        self.objects >>= 1;
        self.next = Next::After;
        at + 1
    }
}

/// The end of the number or word that begins at `at`, if it ends in this chunk.
fn scalar(chunk: &[u8], at: usize) -> Option<usize> {
    let rest = chunk.get(at..)?;
    match rest {
        [b't', b'r', b'u', b'e', ..] | [b'n', b'u', b'l', b'l', ..] => Some(at + 4),
        [b'f', b'a', b'l', b's', b'e', ..] => Some(at + 5),
        _ => number(rest).map(|length| at + length),
    }
}

/// Length of the number that begins here, if it ends in these bytes.
fn number(bytes: &[u8]) -> Option<usize> {
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at = match bytes.get(at)? {
        b'0' => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(at)? == &b'.' {
        at = digits(bytes, at + 1)?;
    }
    if matches!(bytes.get(at)?, b'e' | b'E') {
        let sign = usize::from(matches!(bytes.get(at + 1)?, b'+' | b'-'));
        at = digits(bytes, at + 1 + sign)?;
    }
    Some(at)
}

/// Behind one or more digits, if something stands there.
fn digits(bytes: &[u8], from: usize) -> Option<usize> {
    let length = bytes.get(from..)?.iter().position(|byte| !byte.is_ascii_digit())?;
    (length > 0).then_some(from + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
            #[test]
            fn special_finds_the_first(
                before in prop::collection::vec(any::<u8>().prop_filter("plain", |b| !matches!(b, b'"' | b'\\')), 0..80),
                rest in prop::collection::vec(prop::sample::select(b"\"\\ !#[]\xa2\xdc".to_vec()), 0..20),
            ) {
                let bytes = [before, rest].concat();
                prop_assert_eq!(special(&bytes), bytes.iter().position(|b| matches!(b, b'"' | b'\\')));
            }

            #[test]
            fn a_number_ends_where_the_grammar_ends(text in "-?[0-9.eE+-]{0,8}", behind in prop::sample::select(vec![",", "]", " ", "x"])) {
                let bytes = format!("{text}{behind}");
                let good = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok_and(|value| value.get() == text);
                prop_assert_eq!(number(bytes.as_bytes()) == Some(text.len()), good);
    // One that may go on in the next chunk is left alone.
                prop_assert!(number(text.as_bytes()).is_none_or(|end| end < text.len()));
            }
        }
}
