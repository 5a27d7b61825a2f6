//! The one type that holds a secret in clear.
//!
//! It refuses everything by which a secret leaks by accident: no `Display`, no content in `Debug`,
//! no `Serialize`, no `Deref`. The only door is [`Secret::expose`], and `tests/it/architecture.rs`
//! holds the list of files that may open it.

use std::fmt;
use std::sync::Arc;

use crate::limits::{MASK_EDGE_CHARS, MASK_FILL_CHARS, MASK_LONG_MIN_CHARS, MASK_SHORT_CHARS, PREFIX_CHARS_MAX};

/// A credential in clear, shared by reference count and never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The content. Every caller stands in the list of the architecture test.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What may be shown instead (CONTRACT 2.2): 20 characters and more → first 4, 24 `*`, last 4;
    /// shorter → eight `*`, so that the length of a short secret stays unknown; empty → empty.
    pub fn mask(&self) -> String {
        let chars = self.0.chars().count();
        if chars == 0 {
            return String::new();
        }
        if chars < MASK_LONG_MIN_CHARS {
            return "*".repeat(MASK_SHORT_CHARS);
        }
        let head = self.0.chars().take(MASK_EDGE_CHARS);
        let tail = self.0.chars().skip(chars - MASK_EDGE_CHARS);
        head.chain(std::iter::repeat_n('*', MASK_FILL_CHARS)).chain(tail).collect()
    }

    /// How it begins, for lists in which a person must tell keys apart: 12 characters at most and never
    /// more than a quarter; nothing of one that is too short to be masked in part.
    pub fn prefix(&self) -> String {
        let chars = self.0.chars().count();
        let shown = if chars < MASK_LONG_MIN_CHARS { 0 } else { PREFIX_CHARS_MAX.min(chars / 4) };
        self.0.chars().take(shown).collect()
    }

    /// Equality whose time does not depend on where the texts differ: both sides are hashed, and
    /// blake3's own comparison of hashes is constant-time.
    pub fn eq_constant_time(&self, other: &str) -> bool {
        blake3::hash(self.0.as_bytes()) == blake3::hash(other.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether a text has the shape that a mask of ours or of Bifrost's has: such a text is never a
/// secret that somebody meant (CONTRACT 2.2).
pub fn is_mask_shaped(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    if chars.is_empty() {
        return false;
    }
    let all_stars = chars.iter().all(|c| *c == '*');
    if all_stars {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    if lower == "<redacted>" || lower == "[redacted]" {
        return true;
    }
    // A mask that lost an end on its way through a clipboard or a form is one still.
    chars.split(|c| *c != '*').any(|stars| stars.len() >= MASK_SHORT_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// bifrost.md 11.2, as decided for keyway.
    #[test]
    fn masks() {
        for (secret, mask) in [
            ("", String::new()),
            ("abc", "*".repeat(8)),
            ("12345678", "*".repeat(8)),
            ("123456789", "*".repeat(8)),
            ("1234567890123456789", "*".repeat(8)),
            ("sk-proj-abcdefghijklmnop", format!("sk-p{}mnop", "*".repeat(24))),
            ("ключ-ключ-ключ-ключ-ключ", format!("ключ{}ключ", "*".repeat(24))),
        ] {
            assert_eq!(Secret::new(secret).mask(), mask);
            if !secret.is_empty() {
                assert!(is_mask_shaped(&mask), "{mask}");
                assert!(!is_mask_shaped(secret), "{secret}");
            }
        }
    }

    #[test]
    fn prefixes() {
        for (chars, prefix) in [(0, ""), (8, ""), (19, ""), (20, "sk-pr"), (40, "sk-proj-ab"), (400, "sk-proj-abcx")] {
            let text: String = "sk-proj-abc".chars().chain(std::iter::repeat('x')).take(chars).collect();
            assert_eq!(Secret::new(text).prefix(), prefix, "{chars}");
        }
    }

    #[test]
    fn foreign_masks_are_recognised() {
        for text in ["*", "****", "<REDACTED>", "<redacted>", "[REDACTED]"] {
            assert!(is_mask_shaped(text), "{text}");
        }
        for (head, stars, tail) in [(4, 24, 4), (3, 24, 4), (4, 24, 0), (0, 24, 4), (4, 20, 4), (4, 8, 4), (12, 8, 0)] {
            let text = format!("{}{}{}", "a".repeat(head), "*".repeat(stars), "z".repeat(tail));
            assert!(is_mask_shaped(&text), "{text}");
        }
        for text in ["", "sk-****", "a*", "redacted", "a*******z*******"] {
            assert!(!is_mask_shaped(text), "{text}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("sk-live-1")), "Secret(…)");
    }

    #[test]
    fn comparison() {
        assert!(Secret::new("a").eq_constant_time("a"));
        assert!(!Secret::new("a").eq_constant_time("b"));
    }
}
