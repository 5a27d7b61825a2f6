//! Secrets that are made to be looked for: each is random and its own, and every eight bytes of it
//! are known in each form in which a leak could show them.
//!
//! Holds what leaked by name alone: a failing test must not print them either.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest file that is read; nothing of a test is longer.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Bytes by which a window is looked up.
const HEAD: usize = 8;

/// All canaries of a test, and where they were found.
#[derive(Default)]
pub struct Canaries {
    names: Vec<String>,
    /// By the first eight bytes.
    windows: HashMap<u64, Vec<Window>>,
    leaks: Mutex<BTreeSet<String>>,
    looked: AtomicUsize,
}

/// So many bytes of a canary in one of its forms that nothing else looks like them.
struct Window {
    bytes: Vec<u8>,
    canary: usize,
    form: &'static str,
}

impl Canaries {
    /// A fresh secret of 40 characters for `what`; every fourth one has characters that JSON, URLs
    /// and base64 write in ways of their own.
    pub fn make(&mut self, what: impl Into<String>) -> String {
        let index = self.names.len();
        self.names.push(what.into());
        let mut secret: String = (0..40).map(|_| fastrand::alphanumeric()).collect();
        if index % 4 == 3 {
            for (at, odd) in [(6, "/"), (11, "\""), (17, "+"), (22, "\\"), (28, "%"), (33, "&")] {
                secret.replace_range(at..=at, odd);
            }
        }
        for (form, text, length) in forms(&secret) {
            for window in text.as_bytes().windows(length) {
                let known = self.windows.entry(head_of(window)).or_default();
                known.push(Window { bytes: window.to_vec(), canary: index, form });
            }
        }
        secret
    }

    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Bytes that were looked at.
    pub fn looked(&self) -> usize {
        self.looked.load(Ordering::Relaxed)
    }

    /// Notes every canary that shows in `bytes`.
    pub fn look(&self, place: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.looked.fetch_add(bytes.len(), Ordering::Relaxed);
        for at in 0..(bytes.len() + 1).saturating_sub(HEAD) {
            let Some(known) = self.windows.get(&head_of(&bytes[at..])) else { continue };
            for Window { bytes: window, canary, form } in known {
                if bytes[at..].starts_with(window) {
                    let name = &self.names[*canary];
                    self.leaks.lock().unwrap().insert(format!("{name}, {form}, in {place}"));
                }
            }
        }
    }

    /// Looks at every file below `dir`.
    pub fn look_at_files(&self, dir: &Path, except: &[&str]) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            self.look("a file's name", name.as_bytes());
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                self.look_at_files(&path, except);
            } else if !except.contains(&&*name) && about.len() <= FILE_BYTES_MAX {
                // It may be gone: temporary files are what this is about.
                self.look(&format!("the file {name}"), std::fs::read(&path).unwrap_or_default());
            }
        }
    }

    #[track_caller]
    pub fn assert_none(&self) {
        let leaks = self.leaks.lock().unwrap();
        assert!(leaks.is_empty(), "{} leaks: {leaks:#?}", leaks.len());
    }
}

fn head_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<HEAD>().map_or(0, |head| u64::from_le_bytes(*head))
}

/// How a leak may be spelled, and how many characters hold eight bytes of it. Hexadecimal windows
/// hold as much: four bytes would be found in any hash by chance.
fn forms(secret: &str) -> Vec<(&'static str, String, usize)> {
    let hex = |upper: bool, before: &str| -> String {
        let byte = |b: u8| if upper { format!("{before}{b:02X}") } else { format!("{before}{b:02x}") };
        secret.bytes().map(byte).collect()
    };
    let mut forms = vec![
        ("plain", secret.to_owned(), 8),
        ("reversed", secret.chars().rev().collect(), 8),
        ("hexadecimal", hex(false, ""), 16),
        ("hexadecimal, upper case", hex(true, ""), 16),
        ("percent-encoded whole", hex(false, "%"), 24),
        ("percent-encoded whole, upper case", hex(true, "%"), 24),
        ("JSON-escaped whole", hex(false, "\\u00"), 48),
        ("JSON-escaped whole, upper case", hex(true, "\\u00"), 48),
        ("JSON", serde_json::to_string(secret).unwrap().trim_matches('"').to_owned(), 10),
        (
            "percent-encoded",
            percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string(),
            10,
        ),
    ];
    for (alphabet, name) in [(&STANDARD, "base64"), (&URL_SAFE, "base64 for URLs")] {
        for before in 0..3 {
            let padded = [&b"\0\0"[..before], secret.as_bytes()].concat();
            let text = base64(&padded, alphabet);
            // The ends hold bits of the neighbours.
            forms.push((name, text[4..text.len() - 4].to_owned(), 12));
        }
    }
    forms
}

const STANDARD: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Without padding.
pub fn base64_of(bytes: &[u8]) -> String {
    base64(bytes, &STANDARD)
}

fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let whole = three.iter().fold(0u32, |whole, byte| whole << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..=three.len() {
            text.push(char::from(alphabet[(whole >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

mod tests {
    use super::*;

    #[test]
    fn every_form_is_found_and_a_mask_is_not() {
        let mut canaries = Canaries::default();
        let secrets: Vec<String> = (0..8).map(|i| canaries.make(format!("secret {i}"))).collect();
        for secret in &secrets {
            let head: String = secret.chars().take(4).collect();
            let tail: String = secret.chars().skip(36).collect();
            canaries.look("a mask", format!("{head}{}{tail}", "*".repeat(24)));
            canaries.look("seven bytes", &secret.as_bytes()[10..17]);
        }
        canaries.assert_none();
        let mut found = 0;
        for secret in &secrets {
            let bytes = secret.as_bytes();
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            for text in [
                secret.clone(),
                secret[9..17].to_owned(),
                secret.chars().rev().collect(),
                serde_json::to_string(secret).unwrap(),
                hex[3..40].to_owned(),
                hex.to_uppercase(),
                bytes.iter().map(|b| format!("%{b:02X}")).collect(),
                bytes.iter().map(|b| format!("\\u00{b:02x}")).collect(),
                base64_of(format!("user:{secret}").as_bytes()),
                base64_of(format!("users:{secret}").as_bytes()),
                base64_of(format!("a:{secret}").as_bytes()),
            ] {
                canaries.look("here", format!("x{text}y"));
                found += 1;
                assert!(!std::mem::take(&mut *canaries.leaks.lock().unwrap()).is_empty(), "{text}");
            }
        }
        println!("{found} forms");
    }
}
