//! Names of the files that stand beside the config for the moment of a write.
//!
//! `.<file>.<pid>-<n>.keyway-tmp`. The number holds how the hashes of the old and the new text begin,
//! so that the next start can tell what a killed write has left behind. No other file is ever ours.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::hash::ConfigHash;

const SUFFIX: &str = ".keyway-tmp";
/// Of `ConfigHash::short`.
const HASH_DIGITS: usize = 8;

/// What the name of a temporary file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TempName {
    pid: u32,
    old: String,
    new: String,
    serial: u64,
}

impl TempName {
    pub fn new(old: ConfigHash, new: ConfigHash, serial: u64) -> Self {
        Self { pid: std::process::id(), old: old.short(), new: new.short(), serial }
    }

    /// The name for a file that is to take the place of `file`.
    pub fn beside(&self, file: &OsStr) -> OsString {
        let Self { pid, old, new, serial } = self;
        let mut name = Self::prefix(file);
        name.push(format!("{pid}-{old}{new}{serial:x}{SUFFIX}"));
        name
    }

    /// How all names beside `file` begin.
    pub fn prefix(file: &OsStr) -> OsString {
        let mut prefix = OsString::from(".");
        prefix.push(file);
        prefix.push(".");
        prefix
    }

    /// `None`: a file of somebody else.
    pub fn parse(name: &OsStr, file: &OsStr) -> Option<Self> {
        let rest = name.as_bytes().strip_prefix(Self::prefix(file).as_bytes())?;
        let (pid, number) = std::str::from_utf8(rest).ok()?.strip_suffix(SUFFIX)?.split_once('-')?;
        let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !pid.bytes().all(|b| b.is_ascii_digit()) || !is_hex(number) {
            return None;
        }
        let (old, rest) = number.split_at_checked(HASH_DIGITS)?;
        let (new, serial) = rest.split_at_checked(HASH_DIGITS)?;
        let serial = u64::from_str_radix(serial, 16).ok()?;
        Some(Self { pid: pid.parse().ok()?, old: old.to_owned(), new: new.to_owned(), serial })
    }

    pub fn is_old(&self, hash: ConfigHash) -> bool {
        hash.short() == self.old
    }

    pub fn is_new(&self, hash: ConfigHash) -> bool {
        hash.short() == self.new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let (old, new) = (ConfigHash::of_bytes(b"old"), ConfigHash::of_bytes(b"new"));
        for (file, serial) in [("config.json", 0), ("c", u64::MAX), (".a.b-c", 7), ("с", 1)] {
            let name = TempName::new(old, new, serial);
            let text = name.beside(OsStr::new(file));
            assert_eq!(TempName::parse(&text, OsStr::new(file)), Some(name.clone()), "{text:?}");
            assert!(name.is_old(old) && name.is_new(new) && !name.is_new(old));
            assert_eq!(TempName::parse(&text, OsStr::new("other.json")), None);
        }
    }

    #[test]
    fn what_is_not_ours() {
        let file = OsStr::new("config.json");
        let good = ".config.json.12-00112233445566770.keyway-tmp";
        assert!(TempName::parse(OsStr::new(good), file).is_some());
        for name in [
            "config.json",
            ".config.json.keyway-tmp",
            ".config.json.12.keyway-tmp",
            ".config.json.-00112233445566770.keyway-tmp",
            ".config.json.12-0011223344556677.keyway-tmp",
            ".config.json.12-001122334455667.keyway-tmp",
            ".config.json.12-0011223344556677G.keyway-tmp",
            ".config.json.+1-00112233445566770.keyway-tmp",
            ".config.json.12-00112233445566770.keyway-tmp~",
            ".config.json.12-00112233445566770.tmp",
            ".config.json.bak.12-00112233445566770.keyway-tmp",
            ".config.jsonx12-00112233445566770.keyway-tmp",
            "config.json.12-00112233445566770.keyway-tmp",
        ] {
            assert_eq!(TempName::parse(OsStr::new(name), file), None, "{name}");
        }
    }
}
