//! References to values: the only reader of the environment and of secret files.
//!
//! Remembers which files it read and what they held (as keyed fingerprints), so that the writer
//! compares the disk with what the running generation was really made of. Resolves one step only:
//! a value that looks like a reference stays a value.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::seal::{Place, SealFault, SealKey, Sealed};
use super::{Disk, sealing_key};
use crate::hash::{Fingerprint, FingerprintKey};
use crate::limits::SECRET_FILE_BYTES_MAX;
use crate::secret::Secret;
use crate::snapshot::{SealingKey, Unready};

/// How environment variables are asked for; tests bring their own.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The environment of the process. A variable that is not UTF-8 counts as unset.
#[expect(clippy::disallowed_methods, reason = "the only reader of the environment for references")]
pub fn system_env() -> Env {
    Arc::new(|name| {
        // An empty name, `=` or NUL inside is a question that the system call may not be asked.
        let askable = !name.is_empty() && !name.contains(['=', '\0']);
        if askable { std::env::var(name).ok() } else { None }
    })
}

/// Resolves the references of one compile.
pub struct Resolver<'a> {
    directory: &'a Path,
    disk: &'a dyn Disk,
    env: &'a Env,
    key: &'a FingerprintKey,
    /// Every file that was asked for: its fingerprint, or `None` where it gave no secret.
    files: RefCell<Files>,
}

const KEY_UNUSABLE: Unready = Unready::SealedUnreadable { why: "its key is too short to be one" };

/// Secret files by absolute path, and what they held.
pub(super) type Files = BTreeMap<PathBuf, Option<Fingerprint>>;

impl<'a> Resolver<'a> {
    pub fn new(directory: &'a Path, disk: &'a dyn Disk, env: &'a Env, key: &'a FingerprintKey) -> Self {
        Self { directory, disk, env, key, files: RefCell::default() }
    }

    /// A variable that is unset or empty is missing (CONTRACT 2.2).
    pub fn env(&self, name: &str) -> Result<Secret, Unready> {
        match (self.env)(name) {
            Some(value) if !value.is_empty() => Ok(Secret::new(value)),
            _ => Err(Unready::EnvMissing { name: name.to_owned() }),
        }
    }

    /// Content of a secret file without one trailing newline. Relative paths count from the
    /// config's directory.
    pub fn file(&self, path: &Path) -> Result<Secret, Unready> {
        let absolute = self.directory.join(path);
        let read = read_secret(self.disk, &absolute, self.key);
        self.files.borrow_mut().insert(absolute, read.as_ref().map(|(_, fingerprint)| *fingerprint));
        read.map(|(secret, _)| secret).ok_or_else(|| Unready::FileUnreadable { path: path.to_owned() })
    }

    /// What was sealed for the field at `pointer`. A key file counts as a file that was asked for:
    /// when it comes back, the value does.
    pub fn unseal(&self, sealed: &str, pointer: &str, key: &SealingKey) -> Result<Secret, Unready> {
        let fault = |fault: SealFault| Unready::SealedUnreadable { why: fault.as_str() };
        let sealed = Sealed::parse(sealed).map_err(fault)?;
        let key = match key {
            SealingKey::Given(Ok(secret)) => SealKey::of(secret).map_err(|_| KEY_UNUSABLE)?,
            SealingKey::Given(Err(_)) => {
                return Err(Unready::SealedUnreadable { why: "`management.sealing_key` gives no key" });
            }
            SealingKey::Own { file } => self.own_key(file, &sealed)?,
        };
        key.open(sealed, &Place::of(pointer)).map_err(fault)
    }

    /// The key in the file; while values move to a new key, the old one where that is the right one.
    fn own_key(&self, file: &Path, sealed: &Sealed) -> Result<SealKey, Unready> {
        let read = |file: &Path| {
            let lost = |_| Unready::SealedUnreadable { why: "its key file is missing or cannot be read" };
            self.file(file).map_err(lost).and_then(|secret| SealKey::of(&secret).map_err(|_| KEY_UNUSABLE))
        };
        let key = read(file);
        if key.as_ref().is_ok_and(|key| key.id() == sealed.key_id) {
            return key;
        }
        match read(&sealing_key::old_file(file)) {
            Ok(old) if old.id() == sealed.key_id => Ok(old),
            _ => key,
        }
    }

    /// Whether others than its owner may read or write a file.
    pub fn is_exposed(&self, path: &Path) -> bool {
        sealing_key::is_exposed(path)
    }

    /// Every file that was asked for, and what it held.
    pub(super) fn into_files(self) -> Files {
        self.files.into_inner()
    }
}

/// The secret in a file and its fingerprint; `None` when there is none to be had.
pub(super) fn read_secret(disk: &dyn Disk, path: &Path, key: &FingerprintKey) -> Option<(Secret, Fingerprint)> {
    let (_, bytes) = disk.read(path, SECRET_FILE_BYTES_MAX).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let text = without_newline(&text);
    if text.is_empty() {
        return None;
    }
    let fingerprint = Fingerprint::of(key, [Some(text)]);
    Some((Secret::new(text), fingerprint))
}

/// Editors and `echo` end a file with a newline that is no part of the secret.
pub(super) fn without_newline(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SystemDisk;

    #[test]
    fn env_forms() {
        let env: Env = Arc::new(|name| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("env.SET".to_owned()),
            _ => None,
        });
        let key = FingerprintKey::new([1; 32]);
        let resolver = Resolver::new(Path::new("/"), &SystemDisk, &env, &key);
        let missing = |name: &str| Err(Unready::EnvMissing { name: name.to_owned() });
        assert_eq!(resolver.env("SET"), Ok(Secret::new("value")));
        assert_eq!(resolver.env("NESTED"), Ok(Secret::new("env.SET")), "never recursive");
        assert_eq!(resolver.env("EMPTY"), missing("EMPTY"));
        assert_eq!(resolver.env("UNSET"), missing("UNSET"));
        assert!(resolver.into_files().is_empty());
    }

    #[test]
    fn odd_names_are_unset() {
        let env = system_env();
        for name in ["", "A=B", "A\0B", "=", "KEYWAY_TEST_SURELY_UNSET"] {
            assert_eq!(env(name), None, "{name:?}");
        }
        assert!(env("PATH").is_some());
    }

    #[test]
    fn files_lose_one_newline() {
        let dir = tempfile::tempdir().unwrap();
        let key = FingerprintKey::new([1; 32]);
        let env = system_env();
        let resolver = Resolver::new(dir.path(), &SystemDisk, &env, &key);
        let cases: [(&str, &[u8], Option<&str>); 8] = [
            ("plain", b"token", Some("token")),
            ("unix", b"token\n", Some("token")),
            ("windows", b"token\r\n", Some("token")),
            ("two", b"token\n\n", Some("token\n")),
            ("spaces", b" token ", Some(" token ")),
            ("empty", b"", None),
            ("newline", b"\n", None),
            ("binary", b"\xff\xfe", None),
        ];
        for (name, bytes, expected) in cases {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            let unreadable = Unready::FileUnreadable { path: name.into() };
            assert_eq!(resolver.file(Path::new(name)), expected.map(Secret::new).ok_or(unreadable), "{name}");
        }
        assert!(resolver.file(Path::new("absent")).is_err());
        assert!(resolver.file(Path::new(".")).is_err());
        let files = resolver.into_files();
        assert_eq!(files.len(), 10);
        assert_eq!(files[&dir.path().join("plain")], files[&dir.path().join("unix")]);
        assert_ne!(files[&dir.path().join("plain")], files[&dir.path().join("two")]);
        assert_eq!(files[&dir.path().join("absent")], None);
    }
}
