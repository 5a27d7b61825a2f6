//! The form of a project or management token: a prefix that says what it is for, 37 random base62
//! characters, and 6 that are a checksum of all before them.
//!
//! The form tells a slip of the hand from a wrong token before anything is hashed; it proves nothing.
//! Knows no secret store and draws no random number: bytes come in as an argument.

use crate::limits::{TOKEN_BYTES_MAX, TOKEN_BYTES_MIN};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 220 bits: nobody guesses that.
const RANDOM_CHARS: usize = 37;
/// 32 bits: one slip in four thousand million goes unseen.
const CHECKSUM_CHARS: usize = 6;
/// The largest multiple of 62 that a byte holds: what is above would favour the first digits.
const UNBIASED_BELOW: u8 = 248;
const CHECKSUM_DOMAIN: &str = "keyway 2026 token checksum v1";

/// What a token opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// The data plane, as one project.
    Project,
    /// The management APIs.
    Management,
}

impl TokenKind {
    pub const ALL: [Self; 2] = [Self::Project, Self::Management];

    /// By which people, and scanners of repositories, recognise it.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Project => "mlx_sk_",
            Self::Management => "mlx_mk_",
        }
    }
}

/// A new token; `None` where `random`, which gives 32 bytes at a time, has none to give.
pub fn mint(prefix: &str, mut random: impl FnMut() -> Option<[u8; 32]>) -> Option<String> {
    let mut token = prefix.to_owned();
    let length = prefix.len() + RANDOM_CHARS;
    while token.len() < length {
        let digits = random()?.into_iter().filter(|byte| *byte < UNBIASED_BELOW).map(|byte| digit(u32::from(byte)));
        token.extend(digits.take(length - token.len()));
    }
    token.push_str(&checksum(&token));
    Some(token)
}

/// Whether a text can be a token at all: its length, its characters and, where its prefix is one of
/// ours, its checksum. What was written by hand has no form but the first two.
pub fn is_well_formed(token: &[u8]) -> bool {
    (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len())
        && token.iter().all(u8::is_ascii_graphic)
        && !is_torn(token)
}

/// Whether a text begins like a token of ours and does not end like one.
pub fn is_torn(token: &[u8]) -> bool {
    let ours = TokenKind::ALL.into_iter().any(|kind| token.starts_with(kind.prefix().as_bytes()));
    ours && !std::str::from_utf8(token).is_ok_and(is_whole)
}

/// Prefixes of ours have the same length.
fn is_whole(token: &str) -> bool {
    let prefix_chars = TokenKind::Project.prefix().len();
    let Some((signed, sum)) = token.split_at_checked(token.len().saturating_sub(CHECKSUM_CHARS)) else { return false };
    signed.len() == prefix_chars + RANDOM_CHARS
        && signed.bytes().skip(prefix_chars).all(|b| b.is_ascii_alphanumeric())
        && sum == checksum(signed)
}

fn checksum(text: &str) -> String {
    let mut bytes = [0; 4];
    blake3::Hasher::new_derive_key(CHECKSUM_DOMAIN).update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    let mut rest = u32::from_le_bytes(bytes);
    let mut digits = [0; CHECKSUM_CHARS].map(|_: u8| {
        let one = digit(rest);
        rest /= 62;
        one
    });
    digits.reverse();
    digits.into_iter().collect()
}

/// The last base62 digit of a number.
fn digit(number: u32) -> char {
    ALPHABET.get((number % 62) as usize).map_or('0', |byte| char::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minted(prefix: &str, seed: u8) -> String {
        let mut next = seed;
        let bytes = || {
            next = next.wrapping_mul(31).wrapping_add(7);
            Some([next; 32])
        };
        mint(prefix, bytes).unwrap()
    }

    #[test]
    fn form() {
        for kind in TokenKind::ALL {
            for seed in 0..=255 {
                let token = minted(kind.prefix(), seed);
                let body = token.strip_prefix(kind.prefix()).unwrap();
                assert_eq!(body.len(), 43, "{token}");
                assert!(body.bytes().all(|b| b.is_ascii_alphanumeric()), "{token}");
                assert!(is_well_formed(token.as_bytes()), "{token}");
            }
        }
        assert_eq!(minted("acme_", 1).len(), "acme_".len() + 43);
        assert!(mint("x", || None).is_none());
    }

    /// Stands in files and in callers' hands: a change would lock everybody out.
    #[test]
    fn golden() {
        let zeros = |kind: TokenKind| mint(kind.prefix(), || Some([0; 32])).unwrap();
        assert_eq!(zeros(TokenKind::Project), "mlx_sk_00000000000000000000000000000000000001LhBG1");
        assert_eq!(zeros(TokenKind::Management), "mlx_mk_00000000000000000000000000000000000002woz6J");
    }

    #[test]
    fn every_slip_is_seen() {
        let token = minted("mlx_sk_", 9);
        for at in "mlx_sk_".len()..token.len() {
            let mut slip = token.clone().into_bytes();
            slip[at] = if slip[at] == b'a' { b'b' } else { b'a' };
            assert!(!is_well_formed(&slip), "{at}");
            slip.remove(at);
            assert!(!is_well_formed(&slip), "{at}");
        }
        for other in [token.replace("mlx_sk_", "mlx_mk_"), format!("{token}0"), format!("{token} ")] {
            assert!(!is_well_formed(other.as_bytes()), "{other}");
        }
        assert!(!is_well_formed("mlx_sk_ключ-ключ-ключ-ключ".as_bytes()));
    }

    #[test]
    fn tokens_by_hand() {
        for (token, good) in [
            ("correct-horse-battery-staple-and-more!", true),
            ("sk-1234567890123456789012345678901234", true),
            ("mlx_xx_0000000000000000000000000000000", true),
            ("short", false),
            ("one two three four five six seven eight", false),
            ("línea-línea-línea-línea-línea-línea", false),
            ("mlx_sk_0000000000000000000000000000000000000000000", false),
            ("mlx_sk_", false),
        ] {
            assert_eq!(is_well_formed(token.as_bytes()), good, "{token}");
        }
        assert!(!is_well_formed(&[b'x'; TOKEN_BYTES_MAX + 1]));
        assert!(!is_torn(b"short"));
        assert!(is_torn(b"mlx_mk_x"));
    }

    /// Each digit as likely as any other, as far as eight thousand of them tell.
    #[test]
    fn digits_are_even() {
        let mut counts = std::collections::BTreeMap::new();
        for byte in 0..UNBIASED_BELOW {
            *counts.entry(digit(u32::from(byte))).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| *count == 4), "{counts:?}");
    }
}
