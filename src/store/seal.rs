//! Sealed values: `sealed:v1:<key id>:<base64url>`, a credential that one key opens at one place.
//!
//! AES-256-GCM with a random nonce. Provider and field go in as associated data, so that a value
//! that is moved to another provider does not open there; the index of a key in its list and its
//! name do not, because both may change without the secret going elsewhere. Says of a value that
//! does not open why, and nothing of what is in it.
//!
//! The bytes behind the key id: nonce (12), digest of the place (8), text filled up and encrypted
//! with its tag, checksum of all before (4). Place and checksum are there for the reason alone.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::base64url;
use crate::limits::{SEALED_PADDING_BYTES, SEALING_KEY_CHARS_MIN};
use crate::secret::Secret;

const ANY_VERSION: &str = "sealed:";
const PREFIX: &str = "sealed:v1:";

const KEY_DOMAIN: &str = "keyway 2026 sealing key v1";
const KEY_ID_DOMAIN: &str = "keyway 2026 sealing key id v1";
const PLACE_DOMAIN: &str = "keyway 2026 sealed place v1";
const CHECKSUM_DOMAIN: &str = "keyway 2026 sealed checksum v1";

const PLACE_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;
/// Stands in no UTF-8 text, hence marks where the secret ends.
const FILL: u8 = 0xff;

/// Why a value does not open, or is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealFault {
    /// `sealed:` with another version.
    UnknownVersion,
    /// Cut off, altered, or never a sealed value.
    Damaged,
    /// Another key sealed it.
    OtherKey,
    /// It was made for another provider or field.
    OtherPlace,
}

impl SealFault {
    /// For problems and descriptions: lower case, a part of a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownVersion => "it is sealed in a way that this release does not know",
            Self::Damaged => "it is cut off or altered",
            Self::OtherKey => "it was sealed under another key",
            Self::OtherPlace => "it was sealed for another provider or field",
        }
    }
}

/// Tells keys apart without telling anything of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SealKeyId([u8; 4]);

impl fmt::Display for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl SealKeyId {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = u32::from_str_radix(text, 16).ok().filter(|_| digits)?;
        Some(Self(number.to_be_bytes()))
    }
}

/// Where a secret stands: the provider that it belongs to, if any, and the field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    provider: Option<String>,
    field: String,
}

impl Place {
    /// Of a field of the file: `/providers/openai/keys/3/azure_key_config/client_secret` is
    /// `keys/azure_key_config/client_secret` of `openai`.
    pub fn of(pointer: &str) -> Self {
        let mut segments = pointer.split('/').skip(1).peekable();
        let in_provider = segments.next_if_eq(&"providers").is_some();
        let provider = if in_provider { segments.next().map(str::to_owned) } else { None };
        let mut field = Vec::new();
        while let Some(segment) = segments.next() {
            field.push(segment);
            // The lists of the format. A digit elsewhere is a name, for instance of a header.
            if matches!(segment, "keys" | "projects") {
                let is_index = |next: &&str| !next.is_empty() && next.bytes().all(|b| b.is_ascii_digit());
                segments.next_if(is_index);
            }
        }
        Self { provider, field: field.join("/") }
    }

    /// What is bound to the sealed text, together with the version.
    fn associated(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let provider = self.provider.as_deref();
        for part in [Some(PREFIX), provider, Some(self.field.as_str())] {
            bytes.push(u8::from(part.is_some()));
            let part = part.unwrap_or_default();
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// A sealed value, taken apart and found whole.
pub struct Sealed {
    pub key_id: SealKeyId,
    nonce: [u8; NONCE_LEN],
    place: [u8; PLACE_BYTES],
    encrypted: Vec<u8>,
}

impl Sealed {
    pub fn parse(text: &str) -> Result<Self, SealFault> {
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let is_other = text.starts_with(ANY_VERSION);
            return Err(if is_other { SealFault::UnknownVersion } else { SealFault::Damaged });
        };
        Self::of(rest).ok_or(SealFault::Damaged)
    }

    fn of(rest: &str) -> Option<Self> {
        let (id, bytes) = rest.split_once(':')?;
        let bytes = base64url::decode(bytes)?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if digest::<CHECKSUM_BYTES>(CHECKSUM_DOMAIN, content) != *sum {
            return None;
        }
        let (nonce, content) = content.split_first_chunk()?;
        let (place, encrypted) = content.split_first_chunk()?;
        Some(Self { key_id: SealKeyId::parse(id)?, nonce: *nonce, place: *place, encrypted: encrypted.to_vec() })
    }
}

/// A key that seals and opens.
pub struct SealKey {
    id: SealKeyId,
    cipher: RandomizedNonceKey,
}

impl SealKey {
    /// From what `management.sealing_key` or the key file says.
    pub fn of(secret: &Secret) -> Result<Self, String> {
        let text = secret.expose();
        if text.chars().count() < SEALING_KEY_CHARS_MIN {
            return Err(format!("a sealing key has {SEALING_KEY_CHARS_MIN} characters or more"));
        }
        let bytes = blake3::derive_key(KEY_DOMAIN, text.as_bytes());
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| "the cipher refuses the key")?;
        Ok(Self { id: SealKeyId(digest(KEY_ID_DOMAIN, &bytes)), cipher })
    }

    pub fn id(&self) -> SealKeyId {
        self.id
    }

    /// The text for the file.
    pub fn seal(&self, secret: &Secret, place: &Place) -> Result<String, String> {
        let associated = place.associated();
        let mut encrypted = secret.expose().as_bytes().to_vec();
        encrypted.resize(encrypted.len().next_multiple_of(SEALED_PADDING_BYTES), FILL);
        let nonce = self.cipher.seal_in_place_append_tag(Aad::from(&associated), &mut encrypted);
        let nonce = nonce.map_err(|_| "the cipher refuses the value")?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.extend_from_slice(&digest::<PLACE_BYTES>(PLACE_DOMAIN, &associated));
        bytes.append(&mut encrypted);
        bytes.extend_from_slice(&digest::<CHECKSUM_BYTES>(CHECKSUM_DOMAIN, &bytes));
        Ok(format!("{PREFIX}{}:{}", self.id, base64url::encode(&bytes)))
    }

    /// What was sealed for this place under this key.
    pub fn open(&self, sealed: Sealed, place: &Place) -> Result<Secret, SealFault> {
        if sealed.key_id != self.id {
            return Err(SealFault::OtherKey);
        }
        let associated = place.associated();
        if sealed.place != digest(PLACE_DOMAIN, &associated) {
            return Err(SealFault::OtherPlace);
        }
        let mut bytes = sealed.encrypted;
        let nonce = Nonce::assume_unique_for_key(sealed.nonce);
        let opened = self.cipher.open_in_place(nonce, Aad::from(&associated), &mut bytes);
        let opened = opened.map_err(|_| SealFault::Damaged)?;
        let end = opened.iter().rposition(|byte| *byte != FILL).map_or(0, |last| last + 1);
        let text = opened.get(..end).and_then(|text| std::str::from_utf8(text).ok());
        text.map(Secret::new).ok_or(SealFault::Damaged)
    }
}

fn digest<const N: usize>(domain: &str, bytes: &[u8]) -> [u8; N] {
    let mut digest = [0; N];
    blake3::Hasher::new_derive_key(domain).update(bytes).finalize_xof().fill(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUE: &str = "/providers/openai/keys/3/value";
    const GOLDEN: &str = "sealed:v1:cdc60447:3HtLpW39WEIHAbPua0cQCrYsadIr8fHpqYJYcH_NAjKkide8LLJdlEnehgojabNuSN3RJ8rNrC5pP5nKoaWlzik3VOQok5uO";

    fn key(text: &str) -> SealKey {
        SealKey::of(&Secret::new(text.repeat(SEALING_KEY_CHARS_MIN))).unwrap()
    }

    fn open(key: &SealKey, text: &str, pointer: &str) -> Result<Secret, SealFault> {
        key.open(Sealed::parse(text)?, &Place::of(pointer))
    }

    #[test]
    fn places() {
        for (pointer, provider, field) in [
            (VALUE, Some("openai"), "keys/value"),
            (
                "/providers/azure/keys/0/azure_key_config/client_secret",
                Some("azure"),
                "keys/azure_key_config/client_secret",
            ),
            ("/providers/keys/keys/10/value", Some("keys"), "keys/value"),
            ("/providers/a~1b/network_config/base_url", Some("a~1b"), "network_config/base_url"),
            ("/providers/x/network_config/extra_headers/7", Some("x"), "network_config/extra_headers/7"),
            ("/providers/x/network_config/extra_headers/keys", Some("x"), "network_config/extra_headers/keys"),
            ("/management/keys/1/value", None, "management/keys/value"),
            ("/projects/2/keys/1/value", None, "projects/keys/value"),
            ("/state/redis/url", None, "state/redis/url"),
        ] {
            let place = Place { provider: provider.map(str::to_owned), field: field.to_owned() };
            assert_eq!(Place::of(pointer), place, "{pointer}");
        }
    }

    /// A sealed text of this release: what stands in files must open in every later one.
    #[test]
    fn golden() {
        assert_eq!(open(&key("k"), GOLDEN, VALUE), Ok(Secret::new("sk-golden-0123456789")));
        assert!(GOLDEN.starts_with(&format!("sealed:v1:{}:", key("k").id())));
    }

    #[test]
    fn each_fault_has_its_reason() {
        let mine = key("k");
        let sealed = mine.seal(&Secret::new("sk-canary-0123456789"), &Place::of(VALUE)).unwrap();
        let other_id = sealed.replace(&mine.id().to_string(), &key("o").id().to_string());
        let (head, body) = sealed.rsplit_once(':').unwrap();
        for (text, pointer, expected) in [
            (sealed.clone(), VALUE, None),
            // Another index or another name of the same key.
            (sealed.clone(), "/providers/openai/keys/0/value", None),
            (sealed.clone(), "/providers/groq/keys/3/value", Some(SealFault::OtherPlace)),
            (sealed.clone(), "/providers/openai/keys/3/base_url", Some(SealFault::OtherPlace)),
            (sealed.clone(), "/management/keys/0/value", Some(SealFault::OtherPlace)),
            (sealed.replace(":v1:", ":v2:"), VALUE, Some(SealFault::UnknownVersion)),
            (other_id, VALUE, Some(SealFault::OtherKey)),
            (sealed[..sealed.len() - 1].to_owned(), VALUE, Some(SealFault::Damaged)),
            (sealed[..sealed.len() - 20].to_owned(), VALUE, Some(SealFault::Damaged)),
            (format!("{sealed}A"), VALUE, Some(SealFault::Damaged)),
            (format!("{head}:"), VALUE, Some(SealFault::Damaged)),
            (head.to_owned(), VALUE, Some(SealFault::Damaged)),
            (format!("sealed:v1:KEY:{body}"), VALUE, Some(SealFault::Damaged)),
            ("sk-canary".to_owned(), VALUE, Some(SealFault::Damaged)),
            (String::new(), VALUE, Some(SealFault::Damaged)),
        ] {
            let opened = open(&mine, &text, pointer);
            assert_eq!(opened.as_ref().err(), expected.as_ref(), "{text} {pointer}");
            assert!(!format!("{opened:?}").contains("canary"));
        }
        assert_eq!(open(&key("o"), &sealed, VALUE), Err(SealFault::OtherKey));
        let reasons = [SealFault::UnknownVersion, SealFault::Damaged, SealFault::OtherKey, SealFault::OtherPlace];
        let texts: std::collections::HashSet<_> = reasons.map(SealFault::as_str).into();
        assert_eq!(texts.len(), reasons.len());
    }

    /// A forger who gets place and checksum right still has no tag.
    #[test]
    fn a_forged_place_does_not_open() {
        let mine = key("k");
        let sealed = mine.seal(&Secret::new("sk-0123456789"), &Place::of(VALUE)).unwrap();
        let elsewhere = "/providers/evil/keys/0/value";
        let mut parts = Sealed::parse(&sealed).unwrap();
        parts.place = digest(PLACE_DOMAIN, &Place::of(elsewhere).associated());
        assert_eq!(mine.open(parts, &Place::of(elsewhere)), Err(SealFault::Damaged));
    }

    #[test]
    fn keys() {
        assert!(SealKey::of(&Secret::new("x".repeat(SEALING_KEY_CHARS_MIN - 1))).is_err());
        assert_eq!(key("k").id(), key("k").id());
        assert_ne!(key("k").id(), key("o").id());
        let id = key("k").id();
        assert_eq!(SealKeyId::parse(&id.to_string()), Some(id));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_shows_nothing(text in any::<String>(), provider in "[a-z]{1,8}", index in 0..100usize) {
            let mine = key("k");
            let place = format!("/providers/{provider}/keys/{index}/value");
            let sealed = mine.seal(&Secret::new(text.as_str()), &Place::of(&place)).unwrap();
            prop_assert!(text.len() < 4 || !sealed.contains(&text));
            prop_assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_".contains(&b)));
            prop_assert_eq!(open(&mine, &sealed, &place), Ok(Secret::new(text.as_str())));
            // Never twice the same, and no telling of how long it is.
            let again = mine.seal(&Secret::new(text.as_str()), &Place::of(&place)).unwrap();
            prop_assert_ne!(&sealed, &again);
            let padded = mine.seal(&Secret::new("x".repeat(text.len().next_multiple_of(SEALED_PADDING_BYTES))), &Place::of(&place)).unwrap();
            prop_assert_eq!(sealed.len(), padded.len());
        }

        #[test]
        fn no_altered_byte_opens(at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_:-]") {
            let mine = key("k");
            let sealed = mine.seal(&Secret::new("sk-0123456789"), &Place::of(VALUE)).unwrap();
            let at = at.index(sealed.len());
            let altered = format!("{}{letter}{}", &sealed[..at], &sealed[at + 1..]);
            prop_assert_eq!(open(&mine, &altered, VALUE).is_ok(), altered == sealed);
        }
    }
}
