//! Files of our own: made whole or not at all, readable by us alone.
//!
//! Each is written beside its place under a name of its own, made to last, and moved there in one
//! step; what a killed process leaves at such a name goes at the next start. The state directory
//! ignores all that is in it, so that no `git add` ever takes a key along. Never changes the mode of
//! what is already there.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, RenameFlags};

use super::disk_write::list;
use crate::limits::{LOCK_PAUSE, LOCK_TRIES};

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const TEMP_SUFFIX: &str = ".new";
const IGNORE_NAME: &str = ".gitignore";
const IGNORE_ALL: &[u8] = b"*\n";

/// The directory, with its `.gitignore`. While what is returned lives, nobody clears it.
pub(super) fn prepare(dir: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    let held = File::open(dir)?;
    // Whoever holds it alone clears for a moment only, and where there are no locks nobody does: what
    // comes of the race is an error, and that it is done again.
    let _ = rustix::fs::flock(&held, FlockOperation::NonBlockingLockShared);
    match add(&dir.join(IGNORE_NAME), IGNORE_ALL) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(held),
    }
}

/// Makes the state directory, for files that are not the store's own.
pub fn make_state_dir(dir: &Path) -> io::Result<()> {
    prepare(dir).map(drop)
}

/// One process at a time in this directory, until what is returned is dropped.
pub(super) fn lock(dir: &Path) -> io::Result<File> {
    let lock = File::open(dir)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// As [`lock`], but waits a moment for it. A process that is being started from this one holds all
/// that this one holds, from its fork to its exec: a lock just let go of can seem to be taken.
pub(super) fn lock_soon(dir: &Path) -> io::Result<File> {
    let mut left = LOCK_TRIES;
    loop {
        match lock(dir) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && left > 0 => left -= 1,
            done => return done,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Removes what a killed process has left of files that it was making. Nothing is urgent about it:
/// where another process is at work, or the system refuses, the next start does it.
pub(super) fn clear(dir: &Path) {
    let Ok(_alone) = lock(dir) else { return };
    for name in list(dir, OsStr::new(".")).unwrap_or_default().iter().filter(|name| Temp::is_name(name)) {
        if std::fs::remove_file(dir.join(name)).is_ok() {
            let name = name.to_string_lossy();
            tracing::info!(event = "state_temp_removed", name = &*name, "removed what a killed process had left");
        }
    }
}

/// A file that must not be there yet; of several that race, one wins and the others are told.
pub(super) fn add(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = Temp::filled(path, bytes, None)?;
    // Not every file system has links, and not every one can rename without replacing.
    match rustix::fs::linkat(CWD, &temp.path, CWD, path, AtFlags::empty()).map_err(io::Error::from) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => rustix::fs::renameat_with(CWD, &temp.path, CWD, path, RenameFlags::NOREPLACE)?,
    }
    temp.settle()
}

/// A file of ours, whatever stood there before.
pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = Temp::filled(path, bytes, None)?;
    std::fs::rename(&temp.path, path)?;
    temp.settle()
}

/// Removes a file for good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    sync_parent(path)
}

/// Puts `new` in the place of a file that still holds `old`; mode, owner and symbolic links stay.
pub fn replace_file(path: &Path, old: &[u8], new: &[u8]) -> io::Result<()> {
    let target = path.canonicalize()?;
    let temp = Temp::filled(&target, new, Some(&std::fs::metadata(&target)?))?;
    if std::fs::read(&target)? != old {
        return Err(io::Error::other("it was changed by somebody else at the same time"));
    }
    std::fs::rename(&temp.path, &target)?;
    temp.settle()
}

/// A new file beside the place where it is to stand; gone again when it does not get there.
struct Temp {
    path: PathBuf,
}

impl Temp {
    /// Holds `bytes`, on disk. With the mode and owner of `like`, else ours alone.
    fn filled(target: &Path, bytes: &[u8], like: Option<&std::fs::Metadata>) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{:016x}{TEMP_SUFFIX}", u64::from_be_bytes(random()?)));
        let path = target.with_file_name(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        let temp = Self { path };
        if let Some(like) = like {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
                fchown(&file, Some(like.uid()), Some(like.gid()))?;
            }
            file.set_permissions(std::fs::Permissions::from_mode(like.mode() & 0o7777))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temp)
    }

    /// `.<file>.<16 hex digits>.new`.
    fn is_name(name: &OsStr) -> bool {
        let name = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(TEMP_SUFFIX)?.rsplit_once('.'));
        name.is_some_and(|(file, number)| {
            let is_hex = number.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            !file.is_empty() && number.len() == 16 && is_hex
        })
    }

    /// It is in its place: makes that last.
    fn settle(self) -> io::Result<()> {
        sync_parent(&self.path)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // After a rename it is not there any more.
        let _gone = std::fs::remove_file(&self.path);
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// From the kernel, by way of the crypto library.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_directory_is_ours_and_ignored() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        prepare(&dir).unwrap();
        prepare(&dir).unwrap();
        assert_eq!((mode(&dir), mode(&root.path().join("a"))), (0o700, 0o700));
        assert_eq!(std::fs::read(dir.join(IGNORE_NAME)).unwrap(), IGNORE_ALL);
        // What a hand made stays.
        let own = root.path().join("own");
        std::fs::create_dir(&own).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o750)).unwrap();
        std::fs::write(own.join(IGNORE_NAME), "*.key\n").unwrap();
        prepare(&own).unwrap();
        assert_eq!(mode(&own), 0o750);
        assert_eq!(std::fs::read(own.join(IGNORE_NAME)).unwrap(), b"*.key\n");
        assert_eq!(names(&own), [IGNORE_NAME]);
    }

    #[test]
    fn one_of_many_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let added: Vec<bool> = std::thread::scope(|scope| {
            let path = &path;
            let all: Vec<_> = (0..16).map(|i| scope.spawn(move || add(path, &[i; 100]).is_ok())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(added.iter().filter(|it| **it).count(), 1);
        let winner = added.iter().position(|it| *it).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [u8::try_from(winner).unwrap(); 100]);
        assert_eq!(mode(&path), 0o600);
        put(&path, b"new").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), 0o600));
        assert_eq!(names(dir.path()), ["key"]);
        remove(&path).unwrap();
        assert!(remove(&path).is_err());
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).is_err());
        drop(held);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn what_was_left_is_cleared_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("state");
        clear(&dir);
        let held = prepare(&dir).unwrap();
        let others = [
            "key",
            ".key.0123456789abcdef",
            ".key.0123456789abcde.new",
            ".key.0123456789abcdeG.new",
            "a.0123456789abcdef.new",
        ];
        for name in others.into_iter().chain([".key.0123456789abcdef.new", "..gitignore.00000000000000ff.new"]) {
            std::fs::write(dir.join(name), name).unwrap();
        }
        clear(&dir);
        assert_eq!(names(&dir).len(), 8, "somebody is at work there");
        drop(held);
        // A child of another test holds what is open here until its exec.
        let cleared = (0..1_000).any(|_| {
            clear(&dir);
            std::thread::yield_now();
            names(&dir).len() == 6
        });
        assert!(cleared);
        let mut left = others.map(str::to_owned).to_vec();
        left.push(IGNORE_NAME.to_owned());
        left.sort();
        assert_eq!(names(&dir), left);
    }

    #[test]
    fn replacing_keeps_mode_and_link() {
        let root = tempfile::tempdir().unwrap();
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        replace_file(&link, b"old", b"new").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"new".to_vec(), 0o640));
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        // A hand was faster.
        assert!(replace_file(&link, b"old", b"newer").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(replace_file(&root.path().join("absent"), b"", b"x").is_err());
        assert_eq!(names(root.path()), ["file", "link"]);
    }
}
