//! A new text in the place of the old file, whole or not at all (CONTRACT 2.4).
//!
//! The new file is made beside the old one, made to last, and exchanged with it in one step; what
//! was displaced is then looked at, and goes back where it is not the text that the new one was made
//! of: a hand edit is never overwritten. Where the file system cannot exchange, a plain rename does,
//! with a gap of microseconds in which a hand edit is lost. Knows nothing of config.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::disk::{Disk, Refusal};
use super::temp_name::TempName;
use super::{WriteMode, disk};
use crate::hash::ConfigHash;
use crate::limits::{CONFIG_BYTES_MAX, PUT_BACKS_MAX};

/// One replacement of one file.
pub(super) struct Replacement<'a> {
    pub disk: &'a dyn Disk,
    /// As given; symbolic links are followed, and stay.
    pub path: &'a Path,
    pub old: &'a [u8],
    pub new: &'a [u8],
    /// Tells this replacement's new file from those of others.
    pub serial: u64,
}

/// The new text is in its place.
pub(super) struct Replaced {
    pub mode: WriteMode,
    /// The displaced file could not be removed, and still lies there.
    pub left_over: Option<io::Error>,
}

/// The old file is in its place.
#[derive(Debug)]
pub(super) enum NotReplaced {
    /// It was not, or not any more, the old text.
    Changed,
    Failed(io::Error),
}

impl From<io::Error> for NotReplaced {
    fn from(error: io::Error) -> Self {
        // What was there has gone: somebody else's doing.
        if error.kind() == io::ErrorKind::NotFound { Self::Changed } else { Self::Failed(error) }
    }
}

/// What stands at a name: its hash, or why it has none.
type Content = Result<ConfigHash, Refusal>;

/// The names and contents that the steps are about.
struct Places<'a> {
    disk: &'a dyn Disk,
    target: PathBuf,
    temp: PathBuf,
    directory: PathBuf,
    old: ConfigHash,
    new: ConfigHash,
}

impl Replacement<'_> {
    pub fn run(&self) -> Result<Replaced, NotReplaced> {
        let target = self.disk.follow(self.path)?;
        let (Some(directory), Some(file)) = (target.parent(), target.file_name()) else {
            return Err(NotReplaced::Changed);
        };
        let (old, new) = (ConfigHash::of_bytes(self.old), ConfigHash::of_bytes(self.new));
        let temp = directory.join(TempName::new(old, new, self.serial).beside(file));
        let places = Places { disk: self.disk, directory: directory.to_owned(), temp, old, new, target };
        places.fill(self.new)?;
        let replaced = places.still(self.path).and_then(|()| match self.disk.exchange(&places.temp, &places.target) {
            Ok(()) => places.exchanged(),
            Err(error) if cannot_exchange(&error) => places.renamed(self.old),
            Err(error) => Err(error.into()),
        });
        match replaced {
            Ok(mode) => Ok(Replaced { mode, left_over: places.clear().err() }),
            Err(Undone { why, may_clear }) => {
                if may_clear && let Err(error) = places.clear() {
                    tracing::warn!(event = "config_temp_left", error = %error, "a temporary file could not be removed");
                }
                Err(why)
            }
        }
    }
}

/// Nothing came of it. The temporary file may be the only place of somebody's text.
struct Undone {
    why: NotReplaced,
    may_clear: bool,
}

impl<E: Into<NotReplaced>> From<E> for Undone {
    fn from(why: E) -> Self {
        Self { why: why.into(), may_clear: true }
    }
}

impl Places<'_> {
    /// The new file beside the old one, with its owner and permissions, on the disk for good.
    fn fill(&self, bytes: &[u8]) -> Result<(), NotReplaced> {
        let mut file = self.disk.create(&self.temp)?;
        let filled = file.resemble(&self.target).and_then(|()| file.write(bytes)).and_then(|()| file.sync());
        drop(file);
        filled.map_err(|error| {
            // The failure that is told is the first one.
            let _ = self.clear();
            error.into()
        })
    }

    /// Last look before the exchange: the same file, and in it what the change was planned on.
    fn still(&self, path: &Path) -> Result<(), Undone> {
        if self.disk.follow(path)? != self.target {
            return Err(NotReplaced::Changed.into());
        }
        match self.content(&self.target) {
            Ok(hash) if hash == self.old => Ok(()),
            Err(Refusal::Failed(number)) => Err(io::Error::from_raw_os_error(number).into()),
            _ => Err(NotReplaced::Changed.into()),
        }
    }

    /// The new file stands in its place, the displaced one at the temporary name.
    fn exchanged(&self) -> Result<WriteMode, Undone> {
        let displaced = self.content(&self.temp);
        let is_old = match &displaced {
            Ok(hash) => *hash == self.old,
            // A start beside us takes such files for left over. It was the old text a moment ago.
            Err(refusal) => *refusal == Refusal::Missing,
        };
        let why = match &displaced {
            // Before the displaced file is removed: until then everything can be undone.
            _ if is_old => match self.disk.sync_directory(&self.directory) {
                Ok(()) => return Ok(WriteMode::Exchange),
                Err(error) => NotReplaced::Failed(error),
            },
            Err(Refusal::Failed(number)) => NotReplaced::Failed(io::Error::from_raw_os_error(*number)),
            _ => NotReplaced::Changed,
        };
        Err(Undone { why, may_clear: self.put_back(displaced) })
    }

    /// Exchanges again until what comes out is what we had put in: who has edited the file meanwhile
    /// has edited the newest. Says whether the temporary file is ours to remove.
    fn put_back(&self, mut displaced: Content) -> bool {
        let mut placed = Ok(self.new);
        for _ in 0..PUT_BACKS_MAX {
            match self.disk.exchange(&self.temp, &self.target) {
                Ok(()) => {}
                // The file has been removed by hand, which is newer than what was displaced.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
                Err(_) => return self.rename_back(),
            }
            let out = self.content(&self.temp);
            if out == placed || out == Err(Refusal::Missing) {
                // As well as can be: the file itself is right.
                let _ = self.disk.sync_directory(&self.directory);
                return true;
            }
            placed = std::mem::replace(&mut displaced, out);
        }
        // The newest that has been seen.
        self.rename_back()
    }

    /// Where an exchange, which worked a moment ago, does not work any more.
    fn rename_back(&self) -> bool {
        if self.disk.rename(&self.temp, &self.target).is_ok() {
            let _ = self.disk.sync_directory(&self.directory);
            return true;
        }
        let at = self.temp.display().to_string();
        tracing::error!(event = "config_stranded", at, "the config that was there before could not be put back");
        false
    }

    /// For file systems that cannot exchange.
    fn renamed(&self, old: &[u8]) -> Result<WriteMode, Undone> {
        self.disk.rename(&self.temp, &self.target)?;
        let Err(error) = self.disk.sync_directory(&self.directory) else { return Ok(WriteMode::Rename) };
        // The old file is gone; its text is not.
        if self.content(&self.target) == Ok(self.new) && self.fill(old).is_ok() {
            return Err(Undone { why: NotReplaced::Failed(error), may_clear: self.rename_back() });
        }
        Err(NotReplaced::Failed(error).into())
    }

    /// Nothing at the temporary name any more.
    fn clear(&self) -> io::Result<()> {
        match self.disk.remove(&self.temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn content(&self, path: &Path) -> Content {
        disk::hash(self.disk, path, CONFIG_BYTES_MAX)
    }
}

/// The file system does not know the operation; what else is wrong a rename would meet as well.
fn cannot_exchange(error: &io::Error) -> bool {
    let unknown = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP];
    unknown.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
