//! The key that seals: what `management.sealing_key` says, else a file of our own.
//!
//! The file is made when a secret is first to be sealed, and never while the config holds values
//! that need another key: a new key would hide that the old one is lost. Nothing here writes over a
//! key file.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::resolve::without_newline;
use super::seal::{Place, SealFault, SealKey, Sealed};
use super::{Base, Disk as _, Refusal, Sealer, SystemDisk, state_dir};
use crate::base64url;
use crate::config::{ConfigFile, SecretRef};
use crate::limits::SECRET_FILE_BYTES_MAX;
use crate::secret::Secret;
use crate::snapshot::{SealingKey, Unready, secret_fields};

/// Said once, where the key file is made.
pub const KEY_FILE_NOTE: &str = "it protects the git history and backups of the config, and not the disk that both lie on; keep a copy of it where the config's backups are not";

const RANDOM_BYTES: usize = 32;
/// Stands in no config: what is kept elsewhere does not open there.
const KEPT_PLACE: &str = "/kept";

/// Seals with the key of the file that the secret goes into.
#[derive(Clone, Debug, Default)]
pub struct SystemSealer {
    made: Option<PathBuf>,
}

impl SystemSealer {
    /// The key file that was made on the way.
    pub fn made(&self) -> Option<&Path> {
        self.made.as_deref()
    }

    fn key(&mut self, base: &Base<'_>) -> Result<SealKey, String> {
        let file = match &base.snapshot.sealing_key {
            SealingKey::Given(Ok(secret)) => return SealKey::of(secret),
            SealingKey::Given(Err(why)) => return Err(no_given_key(why)),
            SealingKey::Own { file } => file,
        };
        if let Some((_, key)) = read(file)? {
            return Ok(key);
        }
        if sealed_fields(&base.document.file).next().is_some() {
            let file = file.display();
            return Err(format!("the key file {file} is gone and the config holds values that need it: put it back"));
        }
        let made = make(file).map_err(|error| format!("the key file {} cannot be made: {error}", file.display()))?;
        if made {
            let path = file.display().to_string();
            tracing::warn!(event = "sealing_key_made", path, "a sealing key was made: {KEY_FILE_NOTE}");
            self.made = Some(file.clone());
        }
        // Whoever made it: the one that stands there counts.
        let key = read(file)?.map(|(_, key)| key);
        key.ok_or_else(|| format!("the key file {} is gone again", file.display()))
    }
}

impl Sealer for SystemSealer {
    fn seal(&mut self, secret: &Secret, pointer: &str, base: &Base<'_>) -> Result<String, String> {
        self.key(base)?.seal(secret, &Place::of(pointer))
    }
}

/// Seals a text that is kept for a while outside of the config. `needs_old_key`: the config holds
/// values under a key, hence no new one is made.
pub fn seal_kept(key: &SealingKey, needs_old_key: bool, text: String) -> Result<String, String> {
    let key = match key {
        SealingKey::Given(Ok(secret)) => SealKey::of(secret)?,
        SealingKey::Given(Err(why)) => return Err(no_given_key(why)),
        SealingKey::Own { file } => {
            if read(file)?.is_none() && !needs_old_key {
                make(file).map_err(|error| format!("the key file {} cannot be made: {error}", file.display()))?;
            }
            let (_, key) = read(file)?.ok_or_else(|| format!("the key file {} is gone", file.display()))?;
            key
        }
    };
    key.seal(&Secret::new(text), &Place::of(KEPT_PLACE))
}

/// What [`seal_kept`] made a text of.
pub fn open_kept(key: &SealingKey, sealed: &str) -> Result<String, String> {
    let key = match key {
        SealingKey::Given(Ok(secret)) => SealKey::of(secret)?,
        SealingKey::Given(Err(why)) => return Err(no_given_key(why)),
        SealingKey::Own { file } => {
            let (_, key) = read(file)?.ok_or_else(|| format!("the key file {} is gone", file.display()))?;
            key
        }
    };
    let opened = open_with(sealed, &Place::of(KEPT_PLACE), std::iter::once(key)).map_err(SealFault::as_str)?;
    Ok(opened.expose().to_owned())
}

/// Why `management.sealing_key` cannot be used.
pub(super) fn no_given_key(why: &Unready) -> String {
    let why = match why {
        Unready::EnvMissing { name } => format!("the environment variable {name} is not set, or is empty"),
        Unready::FileUnreadable { path } => format!("the file {} cannot be read, or is empty", path.display()),
        Unready::SealedUnreadable { why } => (*why).to_owned(),
        Unready::Incomplete { what } => what.clone(),
    };
    format!("`management.sealing_key`: {why}")
}

/// Sealed values of a file and where they stand.
pub fn sealed_fields(file: &ConfigFile) -> impl Iterator<Item = (String, &str)> {
    secret_fields(file).into_iter().filter_map(|(pointer, reference)| match reference {
        SecretRef::Sealed(text) => Some((pointer, text.as_str())),
        SecretRef::Literal(_) | SecretRef::Env(_) | SecretRef::File(_) => None,
    })
}

/// Where the old key lies while values move to a new one.
pub(super) fn old_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// The key in a file, as text and ready to use; `None` when there is no file.
pub(super) fn read(file: &Path) -> Result<Option<(Secret, SealKey)>, String> {
    let unusable = |why: &str| format!("the key file {} cannot be used: {why}", file.display());
    let bytes = match SystemDisk.read(file, SECRET_FILE_BYTES_MAX) {
        Ok((_, bytes)) => bytes,
        Err(Refusal::Missing) => return Ok(None),
        Err(refusal) => return Err(unusable(&refusal.message())),
    };
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text"))?;
    let secret = Secret::new(without_newline(&text));
    let key = SealKey::of(&secret).map_err(|why| unusable(&why))?;
    Ok(Some((secret, key)))
}

/// A new key, in letters that a variable can hold as well.
pub(super) fn fresh() -> io::Result<Secret> {
    Ok(Secret::new(base64url::encode(&state_dir::random::<RANDOM_BYTES>()?)))
}

/// What a key file holds.
pub(super) fn content(key: &Secret) -> Vec<u8> {
    format!("{}\n", key.expose()).into_bytes()
}

/// `false`: somebody else was faster.
fn make(file: &Path) -> io::Result<bool> {
    let _held = state_dir::prepare(file.parent().unwrap_or(Path::new(".")))?;
    match state_dir::add(file, &content(&fresh()?)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether others than its owner may read or write a file.
pub(super) fn is_exposed(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

/// Opens one value with whichever of the keys is its own.
pub(super) fn open_with(text: &str, place: &Place, keys: impl Iterator<Item = SealKey>) -> Result<Secret, SealFault> {
    let sealed = Sealed::parse(text)?;
    let id = sealed.key_id;
    let mut keys = keys.filter(|key| key.id() == id);
    keys.next().ok_or(SealFault::OtherKey)?.open(sealed, place)
}
