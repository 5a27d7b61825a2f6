//! Which directories lead to a file: its own, and those of every symbolic link on the way.
//!
//! Reads links and nothing else, and follows them anew at each call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::disk::{Identity, identity};
use crate::limits::{SYMLINK_HOPS_MAX, WATCHED_DIRECTORIES_MAX};

/// The directories in which a change can change what `files` lead to. One that does not exist is
/// left out: the poll sees it come.
pub(super) fn directories<'a>(files: impl IntoIterator<Item = &'a Path>) -> BTreeMap<PathBuf, Identity> {
    let mut paths = BTreeSet::new();
    for file in files {
        hops(file, &mut paths);
    }
    let existing = paths.into_iter().filter_map(|path| identity(&path).map(|identity| (path, identity)));
    existing.take(WATCHED_DIRECTORIES_MAX).collect()
}

/// Parent of `file` as given, and parent of every symbolic link on the way and of what it leads to.
fn hops(file: &Path, parents: &mut BTreeSet<PathBuf>) {
    parents.extend(file.parent().map(Path::to_owned));
    // What is left to walk, last component first; links put their target on top.
    let mut ahead: Vec<PathBuf> = pieces(file);
    let mut walked = PathBuf::from("/");
    let mut links = 0;
    while let Some(piece) = ahead.pop() {
        if piece.as_os_str() == ".." {
            walked.pop();
            continue;
        }
        let here = walked.join(&piece);
        let Ok(target) = std::fs::read_link(&here) else {
            walked = here;
            continue;
        };
        links += 1;
        if links > SYMLINK_HOPS_MAX {
            return;
        }
        parents.insert(walked.clone());
        if target.is_absolute() {
            walked = PathBuf::from("/");
        }
        ahead.extend(pieces(&target));
    }
    if links > 0 {
        parents.extend(walked.parent().map(Path::to_owned));
    }
}

/// Components in reverse, without the root.
fn pieces(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter(|piece| matches!(piece, Component::Normal(_) | Component::ParentDir));
    let mut pieces: Vec<PathBuf> = named.map(|piece| PathBuf::from(piece.as_os_str())).collect();
    pieces.reverse();
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn parents_of(file: &Path) -> Vec<PathBuf> {
        let mut parents = BTreeSet::new();
        hops(file, &mut parents);
        parents.into_iter().collect()
    }

    #[test]
    fn every_hop_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        for dir in ["plain", "k8s/..v1", "etc", "releases/1", "loop"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        for file in ["plain/c", "k8s/..v1/c", "releases/1/c"] {
            std::fs::write(at(file), "{}").unwrap();
        }
        symlink("..v1", at("k8s/..data")).unwrap();
        symlink("..data/c", at("k8s/c")).unwrap();
        symlink("../plain/c", at("etc/relative")).unwrap();
        symlink(at("plain/c"), at("etc/absolute")).unwrap();
        symlink("gone/c", at("etc/dangling")).unwrap();
        symlink("releases/1", at("current")).unwrap();
        symlink("c", at("loop/c")).unwrap();
        for (file, expected) in [
            ("plain/c", vec!["plain"]),
            ("plain/absent", vec!["plain"]),
            ("k8s/c", vec!["k8s", "k8s/..v1"]),
            ("etc/relative", vec!["etc", "plain"]),
            ("etc/absolute", vec!["etc", "plain"]),
            ("etc/dangling", vec!["etc", "etc/gone"]),
            ("current/c", vec!["", "current", "releases/1"]),
            ("loop/c", vec!["loop"]),
        ] {
            let expected: Vec<PathBuf> =
                expected.into_iter().map(|dir| root.join(dir).components().collect()).collect();
            assert_eq!(parents_of(&at(file)), expected, "{file}");
        }
    }
}
