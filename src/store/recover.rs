//! At start: nothing is left of a write that was killed.
//!
//! The file itself is always whole, for it changes in one step. What can be left is the temporary
//! file: the new text, unfinished or not, or the displaced one. A displaced hand edit that nobody
//! came to put back is put back here. Touches no file whose name is not exactly ours.

use std::ffi::OsStr;
use std::path::Path;

use super::disk::{self, Disk};
use super::state_dir;
use super::temp_name::TempName;
use crate::config::Tree;
use crate::hash::ConfigHash;
use crate::limits::CONFIG_BYTES_MAX;
use crate::snapshot::SealingKey;

/// Clears the directory of the config, and that of the file that its links lead to.
pub(super) fn recover(disk: &dyn Disk, path: &Path) {
    let target = disk.follow(path).ok();
    if let Some(target) = &target {
        clear(disk, target, Place::OfFile);
    }
    if target.as_deref() != Some(path) {
        clear(disk, path, Place::OfLink);
    }
}

/// Clears the directory in which a sealing key of our own lies, or was about to.
pub(super) fn recover_key(key: &SealingKey) {
    if let SealingKey::Own { file } = key
        && let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty())
    {
        state_dir::clear(directory);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    OfFile,
    /// Nothing is ever exchanged here.
    OfLink,
}

fn clear(disk: &dyn Disk, path: &Path, place: Place) {
    let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else { return };
    let names = match disk.list(directory, &TempName::prefix(file)) {
        Ok(names) => names,
        Err(error) => return complain(directory, &error),
    };
    for name in names {
        let Some(parsed) = TempName::parse(&name, file) else { continue };
        let temp = directory.join(&name);
        if place == Place::OfFile && is_stranded(disk, &temp, &parsed) {
            put_back(disk, &temp, path, &parsed);
        }
        match disk.remove(&temp) {
            Ok(()) => log_removed(&name),
            Err(error) => complain(&temp, &error),
        }
    }
}

/// A whole config that is neither what was replaced nor what replaced it: somebody saved in the
/// very moment, and the write was killed before it had seen that.
fn is_stranded(disk: &dyn Disk, temp: &Path, name: &TempName) -> bool {
    let Ok((_, bytes)) = disk.read(temp, CONFIG_BYTES_MAX) else { return false };
    let hash = ConfigHash::of_bytes(&bytes);
    let is_whole = || std::str::from_utf8(&bytes).is_ok_and(|text| Tree::parse(text).is_ok());
    !name.is_old(hash) && !name.is_new(hash) && is_whole()
}

/// Unless the file has been edited since, which is newer.
fn put_back(disk: &dyn Disk, temp: &Path, target: &Path, name: &TempName) {
    let stands = disk::hash(disk, target, CONFIG_BYTES_MAX);
    if stands.is_ok_and(|hash| name.is_new(hash)) && disk.exchange(temp, target).is_ok() {
        tracing::warn!(event = "config_put_back", "an edit that a killed write had displaced is back in its place");
    }
}

fn log_removed(name: &OsStr) {
    let name = name.to_string_lossy();
    tracing::info!(event = "config_temp_removed", name = &*name, "removed what a killed write had left");
}

fn complain(path: &Path, error: &std::io::Error) {
    let path = path.display().to_string();
    tracing::warn!(event = "config_temp_left", path, error = %error, "temporary files of a killed write may be left");
}
