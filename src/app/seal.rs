//! `keyway seal`: credentials in clear become sealed ones, and sealed ones change their key.
//!
//! A minimal diff of the file, made only of a config that is good, and only when every value that
//! is written has been opened again. Touches nothing but the file and the key's directory, and says
//! names, never values.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::check::{SEALING_KEY, Unreadable, compile_here, in_git_work_tree, read_text};
use crate::config::edit::{self, Edit, NewValue};
use crate::config::syntax::Kind;
use crate::config::{ConfigFile, Document, Problems, SecretRef, Tree};
use crate::hash::FingerprintKey;
use crate::limits::{CONFIG_BYTES_MAX, NEIGHBOURS_MAX};
use crate::secret::Secret;
use crate::snapshot::{Compiled, SealingKey, sealable_literals, secret_fields};
use crate::store::{
    Base, Disk as _, KEY_FILE_NOTE, Place, Rekey, Resolver, SealKeyId, Sealed, Sealer as _, SystemDisk, SystemSealer,
    replace_file, sealed_fields, system_env,
};

/// What was done.
#[derive(Debug, Default)]
pub struct Resealed {
    /// What is sealed now and was not before, by name.
    pub names: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug)]
pub enum NotSealed {
    Unreadable(Unreadable),
    /// The config is no good as it stands.
    Problems(Problems),
    /// In words.
    Failed(String),
}

impl From<Unreadable> for NotSealed {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

impl From<String> for NotSealed {
    fn from(what: String) -> Self {
        Self::Failed(what)
    }
}

/// A config as it stands on disk.
struct Work {
    path: PathBuf,
    directory: PathBuf,
    text: String,
    compiled: Compiled,
}

impl Work {
    fn open(path: &Path) -> Result<Self, NotSealed> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let text = read_text(&path)?;
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let (compiled, problems) = compile_here(&text, &directory, false);
        let compiled = compiled.ok_or(NotSealed::Problems(problems))?;
        Ok(Self { path, directory, text, compiled })
    }

    fn document(&self) -> &Document {
        &self.compiled.document
    }

    fn sealing_key(&self) -> &SealingKey {
        &self.compiled.snapshot.sealing_key
    }

    /// Writes the file with `changes`: field, what it is to hold, and what that must open to.
    fn write(&self, changes: &[(String, String, Secret)]) -> Result<(), NotSealed> {
        let tree = &self.document().tree;
        let edits: Vec<Edit> = changes.iter().map(|(pointer, sealed, _)| set(tree, pointer, sealed)).collect();
        let text = edit::apply(tree, &edits).map_err(|error| error.to_string())?;
        let (document, problems) = crate::config::read(&text);
        let document =
            document.filter(|_| !problems.has_errors()).ok_or("the result could not be read again".to_owned())?;
        let fields = secret_fields(&document.file);
        let (env, key) = (system_env(), FingerprintKey::new([0; 32]));
        let resolver = Resolver::new(&self.directory, &SystemDisk, &env, &key);
        for (pointer, _, secret) in changes {
            let written = fields.iter().find(|(at, _)| at == pointer).map(|(_, reference)| *reference);
            let opens = match written {
                Some(SecretRef::Sealed(text)) => resolver.unseal(text, pointer, self.sealing_key()).ok(),
                _ => None,
            };
            if opens.as_ref() != Some(secret) {
                return Err(NotSealed::Failed(format!("{pointer}: what was sealed does not open again")));
            }
        }
        let failed = |error| NotSealed::Failed(format!("{} cannot be written: {error}", self.path.display()));
        replace_file(&self.path, self.text.as_bytes(), text.as_bytes()).map_err(failed)
    }
}

/// The object form for a bare literal, as the management APIs write it; an object keeps its members.
fn set(tree: &Tree, pointer: &str, sealed: &str) -> Edit {
    let text = NewValue::text(sealed);
    match tree.find(pointer).map(|value| &value.kind) {
        Some(Kind::Object(_)) => Edit::Set { pointer: format!("{pointer}/value"), value: text },
        Some(Kind::Text(held)) if held.starts_with("sealed:") => Edit::Set { pointer: pointer.to_owned(), value: text },
        _ => Edit::Set { pointer: pointer.to_owned(), value: NewValue::Object(vec![("value".to_owned(), text)]) },
    }
}

/// Seals every credential that stands in clear in the file.
pub fn seal(path: &Path) -> Result<Resealed, NotSealed> {
    let work = Work::open(path)?;
    let document = work.document();
    let clear = sealable_literals(&document.file);
    let mut done = Resealed::default();
    if clear.iter().any(|pointer| pointer == SEALING_KEY) {
        done.notes
            .push("`management.sealing_key` stands in clear beside what it seals: refer to it instead".to_owned());
    }
    let base = Base { document, snapshot: &work.compiled.snapshot, hash: work.compiled.snapshot.mark.hash };
    let mut sealer = SystemSealer::default();
    let mut changes = Vec::new();
    for (pointer, reference) in secret_fields(&document.file) {
        let SecretRef::Literal(secret) = reference else { continue };
        if pointer == SEALING_KEY || !clear.contains(&pointer) {
            continue;
        }
        let sealed = sealer.seal(secret, &pointer, &base)?;
        done.names.push(name_of(&document.file, &pointer));
        changes.push((pointer, sealed, secret.clone()));
    }
    if changes.is_empty() {
        return Ok(done);
    }
    work.write(&changes)?;
    if let Some(file) = sealer.made() {
        done.notes.push(format!("a sealing key was made: {}; {KEY_FILE_NOTE}", file.display()));
    }
    if in_git_work_tree(&work.directory) {
        done.notes.push("what was committed in clear is still in git's history: replace such credentials".to_owned());
    }
    Ok(done)
}

/// Seals every sealed value anew, under a new key. `old_key`: a variable with the old one, where it
/// stands nowhere else.
pub fn reseal(path: &Path, old_key: Option<&str>) -> Result<Resealed, NotSealed> {
    let given = match old_key {
        Some(name) => {
            let value = system_env()(name).filter(|value| !value.is_empty());
            Some(Secret::new(value.ok_or(format!("the environment variable {name} is not set, or is empty"))?))
        }
        None => None,
    };
    let work = Work::open(path)?;
    let file = &work.document().file;
    let mut used = BTreeSet::new();
    for (pointer, text) in sealed_fields(file) {
        let sealed = Sealed::parse(text).map_err(|fault| format!("{}: {}", name_of(file, &pointer), fault.as_str()))?;
        used.insert(sealed.key_id);
    }
    let mut done = Resealed::default();
    if used.is_empty() {
        return Ok(done);
    }
    let mut rekey = Rekey::plan(work.sealing_key(), given, &used, &work.compiled.snapshot.state_dir)?;
    let mut changes = Vec::new();
    for (pointer, text) in sealed_fields(file) {
        let place = Place::of(&pointer);
        if rekey.open_new(text, &place).is_ok() {
            continue;
        }
        let name = name_of(file, &pointer);
        let secret = rekey.open(text, &place).map_err(|fault| format!("{name}: {}", fault.as_str()))?;
        let sealed = rekey.seal(&secret, &place)?;
        done.names.push(name);
        changes.push((pointer, sealed, secret));
    }
    if !changes.is_empty() {
        rekey.put_keys().map_err(|error| format!("the new key cannot be written: {error}"))?;
        work.write(&changes)?;
    }
    match rekey.old_key() {
        Some((file, id)) if is_needed_beside(&work.path, id) => {
            done.notes.push(format!("{} stays: another config beside this one needs it", file.display()));
        }
        Some((file, _)) => {
            let kept = |error| format!("{} is not needed any more and cannot be removed: {error}", file.display());
            rekey.finish().unwrap_or_else(|error| done.notes.push(kept(error)));
        }
        None => {}
    }
    Ok(done)
}

/// Whether another config of the directory, which has the same key file, holds values of this key.
fn is_needed_beside(config: &Path, id: SealKeyId) -> bool {
    let needle = format!("sealed:v1:{id}:");
    let is_config = |path: &Path| path.extension().is_some_and(|end| end == "json" || end == "jsonc") && path != config;
    let entries = config.parent().and_then(|dir| std::fs::read_dir(dir).ok());
    let paths = entries.into_iter().flatten().take(NEIGHBOURS_MAX).filter_map(|entry| Some(entry.ok()?.path()));
    let mut configs = paths.filter(|path| is_config(path));
    configs.any(|path| {
        let bytes = SystemDisk.read(&path, CONFIG_BYTES_MAX).map(|(_, bytes)| bytes).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(&needle)
    })
}

/// What people call the field: `openai/main: value`.
fn name_of(file: &ConfigFile, pointer: &str) -> String {
    let plain = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
    let segments: Vec<String> = pointer.split('/').skip(1).map(plain).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let at = |index: &str| index.parse::<usize>().ok();
    match segments.as_slice() {
        ["providers", provider, "keys", index, field @ ..] => {
            let known = file.providers.iter().flatten().find(|(name, _)| name == provider);
            let key = known.and_then(|(_, file)| file.keys.as_ref()?.get(at(index)?)?.name.as_deref());
            format!("{provider}/{}: {}", key.unwrap_or("default"), field.join("."))
        }
        ["providers", provider, field @ ..] => format!("{provider}: {}", field.join(".")),
        ["management", "keys", index, ..] => {
            let keys = file.management.as_ref().and_then(|management| management.keys.as_ref());
            let name = keys.and_then(|keys| keys.get(at(index)?)?.name.as_deref());
            format!("management key {}", name.unwrap_or(index))
        }
        ["projects", index, "keys", key, ..] => {
            let project = file.projects.as_ref().and_then(|projects| projects.get(at(index)?));
            let id = project.and_then(|project| project.id.as_deref());
            let name = project.and_then(|project| project.keys.as_ref()?.get(at(key)?)?.name.as_deref());
            format!("project {}: key {}", id.unwrap_or(index), name.unwrap_or(key))
        }
        other => other.join("."),
    }
}
