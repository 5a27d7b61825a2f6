//! From an old sealing key to a new one, so that at each step all values open with one of the two.
//!
//! Order: the old key is put aside, the new one takes its place, the config is written, the old key
//! goes. A run that was cut off is taken up where it ended, because the values say which key they
//! need; a key that some value needs is never written over.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::seal::{Place, SealFault, SealKey, SealKeyId, Sealed};
use super::sealing_key::{content, fresh, no_given_key, old_file, open_with, read};
use super::state_dir;
use crate::secret::Secret;
use crate::snapshot::SealingKey;

/// One change of the key. Holds the state directory's lock while it lives.
pub struct Rekey {
    target: SealKey,
    /// Others that values may need, as texts: a key is made of one when it is asked.
    others: Vec<Secret>,
    own: Option<Own>,
}

/// Key files of our own.
struct Own {
    file: PathBuf,
    /// What is to stand in it; `None` where it stands there already.
    fresh: Option<Secret>,
    /// What stands in it now.
    current: Option<Secret>,
    _lock: File,
}

impl Rekey {
    /// `used`: the keys that values of the file need; `given_old`: one that stands nowhere any more.
    /// Writes nothing.
    pub fn plan(
        key: &SealingKey,
        given_old: Option<Secret>,
        used: &BTreeSet<SealKeyId>,
        state_dir: &Path,
    ) -> Result<Self, String> {
        let mut others: Vec<Secret> = given_old.into_iter().collect();
        let file = match key {
            SealingKey::Given(Err(why)) => return Err(no_given_key(why)),
            SealingKey::Given(Ok(secret)) => {
                let own = SealingKey::file_in(state_dir);
                // A key file from before, if there is one that can be read.
                for file in [own.clone(), old_file(&own)] {
                    others.extend(read(&file).ok().flatten().map(|(secret, _)| secret));
                }
                return Ok(Self { target: SealKey::of(secret)?, others, own: None });
            }
            SealingKey::Own { file } => file.clone(),
        };
        let dir = file.parent().unwrap_or(Path::new("."));
        let of_dir = |error: io::Error| format!("{}: {error}", dir.display());
        drop(state_dir::prepare(dir).map_err(of_dir)?);
        let lock = state_dir::lock_soon(dir)
            .map_err(|error| format!("{}: another run holds the lock: {error}", dir.display()))?;
        let (current, old) = (read(&file)?, read(&old_file(&file))?);
        let current_id = current.as_ref().map(|(_, key)| key.id());
        let old_id = old.as_ref().map(|(_, key)| key.id());
        // Cut off before: the new key is there already, and what it takes over from may lie aside.
        let takes_over = old_id.is_some_and(|old| used.contains(&old) && current_id != Some(old));
        let is_there = takes_over || current_id.is_some_and(|current| !used.contains(&current));
        others.extend(old.map(|(secret, _)| secret));
        let current = current.map(|(secret, _)| secret);
        others.extend(current.clone());
        let (target, fresh) = match &current {
            Some(current) if is_there => (SealKey::of(current)?, None),
            _ => {
                let secret = fresh().map_err(of_dir)?;
                (SealKey::of(&secret)?, Some(secret))
            }
        };
        Ok(Self { target, others, own: Some(Own { file, fresh, current, _lock: lock }) })
    }

    /// Of the new key.
    pub fn id(&self) -> SealKeyId {
        self.target.id()
    }

    /// With the new key or any of the old ones.
    pub fn open(&self, text: &str, place: &Place) -> Result<Secret, SealFault> {
        match self.open_new(text, place) {
            Err(SealFault::OtherKey) => {
                open_with(text, place, self.others.iter().filter_map(|it| SealKey::of(it).ok()))
            }
            opened => opened,
        }
    }

    /// With the new key alone.
    pub fn open_new(&self, text: &str, place: &Place) -> Result<Secret, SealFault> {
        self.target.open(Sealed::parse(text)?, place)
    }

    /// Under the new key.
    pub fn seal(&self, secret: &Secret, place: &Place) -> Result<String, String> {
        self.target.seal(secret, place)
    }

    /// Puts the old key aside and the new one in its place. The config may be written after this.
    pub fn put_keys(&mut self) -> io::Result<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let Some(new) = own.fresh.take() else { return Ok(()) };
        match &own.current {
            Some(current) => {
                state_dir::put(&old_file(&own.file), &content(current))?;
                state_dir::put(&own.file, &content(&new))
            }
            None => state_dir::add(&own.file, &content(&new)),
        }
    }

    /// The old key that lies aside.
    pub fn old_key(&self) -> Option<(PathBuf, SealKeyId)> {
        let file = old_file(&self.own.as_ref()?.file);
        let (_, key) = read(&file).ok().flatten()?;
        Some((file, key.id()))
    }

    /// Removes the old key, which nothing needs any more.
    pub fn finish(self) -> io::Result<()> {
        match &self.own {
            Some(own) if old_file(&own.file).exists() => state_dir::remove(&old_file(&own.file)),
            _ => Ok(()),
        }
    }
}
