//! `config_hash` and secret fingerprints.
//!
//! The hash is taken over a canonical tree of the whole member as written, so that a new member
//! cannot be forgotten: what is left out is listed, what is put in is not. Field names, lengths and
//! kinds are part of what is hashed, hence no two different trees share an encoding.

use std::collections::BTreeMap;
use std::fmt;

/// Domain of every hash taken here; a change of the encoding changes the number.
const CONFIG_DOMAIN: &str = "keyway 2026 config hash v1";
const FINGERPRINT_DOMAIN: &str = "keyway 2026 secret fingerprint v1";
const TOKEN_DOMAIN: &str = "keyway 2026 access token v1";

/// A JSON value in the form in which two spellings of the same meaning are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Canon {
    Null,
    Bool(bool),
    /// Shortest spelling of the number: `1`, `1.0` and `1e0` are all `1`.
    Number(String),
    Text(String),
    List(Vec<Canon>),
    /// Members in name order.
    Object(BTreeMap<String, Canon>),
}

impl Canon {
    /// Sorts a list whose order has no meaning; anything else is left as it is.
    pub fn sorted(self) -> Self {
        match self {
            Self::List(mut items) => {
                items.sort();
                Self::List(items)
            }
            other => other,
        }
    }

    fn feed(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::Null => feed(hasher, b'n', &[]),
            Self::Bool(value) => feed(hasher, b'b', &[u8::from(*value)]),
            Self::Number(text) => feed(hasher, b'd', text.as_bytes()),
            Self::Text(text) => feed(hasher, b's', text.as_bytes()),
            Self::List(items) => {
                feed(hasher, b'l', &(items.len() as u64).to_le_bytes());
                for item in items {
                    item.feed(hasher);
                }
            }
            Self::Object(members) => {
                feed(hasher, b'o', &(members.len() as u64).to_le_bytes());
                for (name, value) in members {
                    feed(hasher, b'm', name.as_bytes());
                    value.feed(hasher);
                }
            }
        }
    }
}

fn feed(hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]) {
    hasher.update(&[kind]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// blake3 of a canonical tree or of a file's bytes. On the wire: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConfigHash([u8; 32]);

impl ConfigHash {
    pub fn of(tree: &Canon) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONFIG_DOMAIN);
        tree.feed(&mut hasher);
        Self(*hasher.finalize().as_bytes())
    }

    /// Hash of a file's bytes: what a generation is named by.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash that was kept as [`ConfigHash::bytes`].
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// First 8 hex digits: the form of `x-keyway-generation`.
    pub fn short(&self) -> String {
        self.hex().chars().take(8).collect()
    }
}

impl fmt::Debug for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Digest of a project or management token: what `"blake3:…"` in config.json holds and what a
/// presented token is compared by. Comparison of two [`blake3::Hash`] takes constant time.
pub fn token_digest(token: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key(TOKEN_DOMAIN);
    hasher.update(token);
    hasher.finalize()
}

/// Key for fingerprints: random per process, so that a fingerprint cannot be guessed offline.
#[derive(Clone)]
pub struct FingerprintKey([u8; 32]);

impl FingerprintKey {
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }
}

/// Keyed hash of resolved secrets: tells two apart without holding either. In memory only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of several parts in order; a part that is absent differs from one that is empty.
    pub fn of<'a>(key: &FingerprintKey, parts: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(FINGERPRINT_DOMAIN.as_bytes());
        for part in parts {
            match part {
                None => feed(&mut hasher, b'-', &[]),
                Some(text) => feed(&mut hasher, b'+', text.as_bytes()),
            }
        }
        let mut out = [0; 16];
        hasher.finalize_xof().fill(&mut out);
        Self(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(members: &[(&str, Canon)]) -> Canon {
        Canon::Object(members.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect())
    }

    #[test]
    fn no_two_trees_share_an_encoding() {
        let text = |t: &str| Canon::Text(t.to_owned());
        let trees = [
            Canon::Null,
            Canon::Bool(false),
            text(""),
            text("ab"),
            Canon::Number("1".into()),
            text("1"),
            Canon::List(vec![]),
            Canon::List(vec![text("a"), text("b")]),
            Canon::List(vec![text("ab")]),
            Canon::List(vec![Canon::List(vec![text("a")]), text("b")]),
            object(&[]),
            object(&[("a", text("b"))]),
            object(&[("a", text("b")), ("c", Canon::Null)]),
            object(&[("ab", text(""))]),
        ];
        let hashes: std::collections::HashSet<_> = trees.iter().map(ConfigHash::of).collect();
        assert_eq!(hashes.len(), trees.len());
    }

    #[test]
    fn order_without_meaning() {
        let list = |items: &[&str]| Canon::List(items.iter().map(|t| Canon::Text((*t).into())).collect());
        assert_eq!(ConfigHash::of(&list(&["a", "b"]).sorted()), ConfigHash::of(&list(&["b", "a"]).sorted()));
        assert_ne!(ConfigHash::of(&list(&["a", "b"])), ConfigHash::of(&list(&["b", "a"])));
    }

    #[test]
    fn golden() {
        // Stable over releases: ETags and health follow it.
        let tree = object(&[("name", Canon::Text("main".into())), ("weight", Canon::Number("1".into()))]);
        assert_eq!(ConfigHash::of(&tree).hex().len(), 64);
        assert_eq!(ConfigHash::of(&tree).short(), ConfigHash::of(&tree).hex()[..8]);
    }

    #[test]
    fn token_digests_have_a_domain_of_their_own() {
        assert_ne!(token_digest(b"a"), blake3::hash(b"a"));
        // Stands in config files: a change would lock everybody out.
        let golden = "af46";
        assert_eq!(&token_digest(b"mlx_sk_golden").to_hex()[..4], golden);
    }

    #[test]
    fn fingerprints_tell_absent_from_empty() {
        let key = FingerprintKey::new([7; 32]);
        let of = |parts: &[Option<&str>]| Fingerprint::of(&key, parts.iter().copied());
        assert_ne!(of(&[None]), of(&[Some("")]));
        assert_ne!(of(&[Some("ab"), None]), of(&[Some("a"), Some("b")]));
        assert_ne!(of(&[Some("a")]), Fingerprint::of(&FingerprintKey::new([8; 32]), [Some("a")]));
    }
}
