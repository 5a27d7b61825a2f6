//! Whether a JSON text has come to its end: brackets and strings counted, nothing parsed.
//!
//! Asked of answers that end with their connection, where a cut looks like an end, and of lists that
//! come piece by piece. What is not JSON after all is not called cut.

/// Looks on while one text passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Document {
    depth: u32,
    /// Inside a string, and behind its backslash.
    in_string: bool,
    escaped: bool,
    /// The first and the last byte that are no space.
    first: Option<u8>,
    last: Option<u8>,
}

/// What a further element of a list would follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// `[` or a comma.
    Bracket,
    Element,
}

impl Document {
    pub fn push(&mut self, chunk: &[u8]) {
        for byte in chunk {
            match (self.in_string, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_string = !self.in_string,
                (false, b'{' | b'[') => self.depth = self.depth.saturating_add(1),
                (false, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        let is_seen = |byte: &&u8| !byte.is_ascii_whitespace();
        self.first = self.first.or_else(|| chunk.iter().find(is_seen).copied());
        self.last = chunk.iter().rev().find(is_seen).copied().or(self.last);
    }

    /// It began with a bracket; `None` while nothing has come.
    pub fn is_list(&self) -> Option<bool> {
        self.first.map(|first| first == b'[')
    }

    /// Where an element may follow: in an open list of objects, none of which is open.
    pub fn takes_element(&self) -> Option<Behind> {
        match (self.first?, self.depth, self.last?) {
            (b'[', 1, b'[' | b',') if !self.in_string => Some(Behind::Bracket),
            (b'[', 1, b'}') if !self.in_string => Some(Behind::Element),
            _ => None,
        }
    }

    /// Something was opened that is not closed.
    pub fn is_open(&self) -> bool {
        self.in_string || self.depth > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_text_is_open() {
        for text in [r#"{"a":"}","b":["]\"\\",{"c":[]}],"d":{}}"#, r#"[[],{"é":"\\\\"},"]"]"#, r#""a string alone""#] {
            for at in 1..text.len() {
                let mut document = Document::default();
                document.push(&text.as_bytes()[..at]);
                assert!(document.is_open(), "{text} at {at}");
                document.push(&text.as_bytes()[at..]);
                assert!(!document.is_open(), "{text} at {at}");
            }
        }
        for (text, place) in [
            ("[", Some(Behind::Bracket)),
            (" [\n", Some(Behind::Bracket)),
            ("[{\"a\":[{}", None),
            ("[{\"a\":\"}", None),
            ("[{\"a\":\"}\"}\r\n", Some(Behind::Element)),
            ("[{},\n", Some(Behind::Bracket)),
            ("[{},{}", Some(Behind::Element)),
            ("[{},\"", None),
            ("[{}]", None),
            ("{\"a\":{}", None),
            ("", None),
        ] {
            for size in 1..=text.len().max(1) {
                let mut document = Document::default();
                text.as_bytes().chunks(size).for_each(|chunk| document.push(chunk));
                assert_eq!(document.takes_element(), place, "{text} by {size}");
            }
        }
        for whole in ["", "12", "null", "{}\n", "]", "plain text"] {
            let mut document = Document::default();
            document.push(whole.as_bytes());
            assert!(!document.is_open(), "{whole}");
        }
    }
}
