//! What is on disk now, as far as the config is concerned: the file and its secret files.
//!
//! Content decides, not time stamps: up to a size everything is read and hashed at every look;
//! a larger file is read when its stat moved or its last hash has grown old. Judges nothing.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, FileStat, Refusal};
use super::resolve::{Files, read_secret};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::limits::{CONFIG_BYTES_MAX, POLL_HASH_BYTES_MAX, POLL_LARGE_HASH_INTERVAL};
use crate::ticks::Ticks;

/// What a look saw, small enough to keep and to compare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct View {
    pub config: Result<ConfigHash, Refusal>,
    pub files: Files,
}

impl View {
    /// Nothing that `known` was made of has changed; other files do not matter.
    pub fn agrees_with(&self, known: &Self) -> bool {
        self.config == known.config && known.files.iter().all(|(path, held)| self.files.get(path) == Some(held))
    }

    /// There is a text, and no secret file that `running` was made of has lost its content: such a
    /// view may be half-written.
    pub fn is_whole(&self, running: &Self) -> bool {
        let lost = |path: &PathBuf| matches!(self.files.get(path), Some(None));
        self.config.is_ok() && !running.files.iter().any(|(path, held)| held.is_some() && lost(path))
    }
}

/// A look with the bytes that it saw; no bytes where `view.config` is an error.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub view: View,
    pub bytes: Arc<[u8]>,
}

/// How sure a look has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Care {
    /// A large file whose stat stands still may be believed unchanged for a while.
    Poll,
    /// Every byte is read.
    Full,
}

/// Looks at one config file.
pub(super) struct Eye {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    key: FingerprintKey,
    last: Option<Remembered>,
}

struct Remembered {
    stat: FileStat,
    hash: ConfigHash,
    bytes: Arc<[u8]>,
    at: Ticks,
}

impl Eye {
    pub fn new(path: PathBuf, disk: Arc<dyn Disk>, key: FingerprintKey) -> Self {
        Self { path, disk, key, last: None }
    }

    /// The config and each of `files`.
    pub fn look(&mut self, files: impl IntoIterator<Item = PathBuf>, care: Care, now: Ticks) -> Seen {
        let config = self.config(care, now);
        let files = files.into_iter().map(|path| {
            let held = read_secret(&*self.disk, &path, &self.key).map(|(_, fingerprint)| fingerprint);
            (path, held)
        });
        let files = files.collect();
        match config {
            Ok((hash, bytes)) => Seen { view: View { config: Ok(hash), files }, bytes },
            Err(refusal) => Seen { view: View { config: Err(refusal), files }, bytes: Arc::default() },
        }
    }

    fn config(&mut self, care: Care, now: Ticks) -> Result<(ConfigHash, Arc<[u8]>), Refusal> {
        if care == Care::Poll
            && let Some(last) = &self.last
            && last.stat.size > POLL_HASH_BYTES_MAX
            && now.since(last.at) < POLL_LARGE_HASH_INTERVAL
            && self.disk.stat(&self.path)? == last.stat
        {
            return Ok((last.hash, last.bytes.clone()));
        }
        self.last = None;
        let (stat, bytes) = self.disk.read(&self.path, CONFIG_BYTES_MAX)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Refusal::Empty);
        }
        let hash = ConfigHash::of_bytes(&bytes);
        let bytes: Arc<[u8]> = bytes.into();
        self.last = Some(Remembered { stat, hash, bytes: bytes.clone(), at: now });
        Ok((hash, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Fingerprint;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Fake {
        content: Mutex<Vec<u8>>,
        stat: Mutex<FileStat>,
        reads: AtomicUsize,
    }

    impl Disk for Fake {
        fn read(&self, path: &Path, _cap: u64) -> Result<(FileStat, Vec<u8>), Refusal> {
            if path != Path::new("/config.json") {
                return Err(Refusal::Missing);
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
            Ok((*self.stat.lock().unwrap(), self.content.lock().unwrap().clone()))
        }

        fn stat(&self, _path: &Path) -> Result<FileStat, Refusal> {
            Ok(*self.stat.lock().unwrap())
        }
    }

    fn eye(disk: &Arc<Fake>) -> Eye {
        Eye::new("/config.json".into(), disk.clone(), FingerprintKey::new([1; 32]))
    }

    /// What is read how often: (size, polls one second apart, reads).
    #[test]
    fn small_files_are_read_at_each_poll_and_large_ones_every_ten_seconds() {
        for (size, polls, reads) in
            [(POLL_HASH_BYTES_MAX, 30, 30), (POLL_HASH_BYTES_MAX + 1, 30, 3), (POLL_HASH_BYTES_MAX + 1, 31, 4)]
        {
            let disk = Arc::new(Fake::default());
            *disk.content.lock().unwrap() = b"{}".to_vec();
            disk.stat.lock().unwrap().size = size;
            let mut eye = eye(&disk);
            for second in 0..polls {
                assert!(eye.look([], Care::Poll, Ticks(second * 1000)).view.config.is_ok());
            }
            assert_eq!(disk.reads.load(Ordering::Relaxed), reads, "{size} {polls}");
        }
    }

    #[test]
    fn stat_or_care_makes_a_large_file_be_read() {
        let disk = Arc::new(Fake::default());
        *disk.content.lock().unwrap() = b"{}".to_vec();
        disk.stat.lock().unwrap().size = POLL_HASH_BYTES_MAX * 2;
        let mut eye = eye(&disk);
        let first = eye.look([], Care::Poll, Ticks(0)).view;
        *disk.content.lock().unwrap() = b"{ }".to_vec();
        assert_eq!(eye.look([], Care::Poll, Ticks(1)).view, first);
        assert_ne!(eye.look([], Care::Full, Ticks(1)).view, first);
        *disk.content.lock().unwrap() = b"{}".to_vec();
        disk.stat.lock().unwrap().changed = (0, 1);
        assert_eq!(eye.look([], Care::Poll, Ticks(2)).view, first);
    }

    #[test]
    fn blank_is_empty() {
        let disk = Arc::new(Fake::default());
        for text in ["", " ", "\n\n\t"] {
            *disk.content.lock().unwrap() = text.into();
            assert_eq!(eye(&disk).look([], Care::Full, Ticks(0)).view.config, Err(Refusal::Empty), "{text:?}");
        }
    }

    #[test]
    fn views() {
        let held = Some(Fingerprint::of(&FingerprintKey::new([1; 32]), [Some("a")]));
        let view = |text: &str, files: &[(&str, Option<Fingerprint>)]| View {
            config: Ok(ConfigHash::of_bytes(text.as_bytes())),
            files: files.iter().map(|(path, held)| (PathBuf::from(path), *held)).collect(),
        };
        let running = view("x", &[("/a", held)]);
        for (seen, agrees, whole) in [
            (view("x", &[("/a", held)]), true, true),
            (view("x", &[("/a", held), ("/b", None)]), true, true),
            (view("y", &[("/a", held)]), false, true),
            (view("x", &[("/a", None)]), false, false),
            (View { config: Err(Refusal::Missing), files: running.files.clone() }, false, false),
        ] {
            assert_eq!(seen.agrees_with(&running), agrees, "{seen:?}");
            assert_eq!(seen.is_whole(&running), whole, "{seen:?}");
        }
    }
}
