//! Whether a JSON text has come to its end: brackets and strings counted, nothing parsed.
//!
//! Asked only of answers that end with their connection: there a cut looks like an end. What is not
//! JSON after all is not called cut.

/// Looks on while one text passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Document {
    depth: u32,
    /// Inside a string, and behind its backslash.
    in_string: bool,
    escaped: bool,
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
        for whole in ["", "12", "null", "{}\n", "]", "plain text"] {
            let mut document = Document::default();
            document.push(whole.as_bytes());
            assert!(!document.is_open(), "{whole}");
        }
    }
}
