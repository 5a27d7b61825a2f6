//! Events of the file system, used as a knock on the door and as nothing else.
//!
//! Directories are watched, never files: an editor puts a new inode in place of the old one. Every
//! symbolic link on the way is followed anew after each change, so a swapped link or a replaced
//! directory is found. What breaks here costs a second: the poll in `writer.rs` is the truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};

use super::WatchMode;
use super::disk::Identity;
use super::hops::directories;
use crate::limits::WATCH_RETRY;
use crate::ticks::Ticks;

/// Wakes the writer. Any number of knocks before it looks are one.
#[derive(Clone, Debug, Default)]
pub struct Knock(Arc<Door>);

#[derive(Debug, Default)]
struct Door {
    bell: tokio::sync::Notify,
    broken: AtomicBool,
}

impl Knock {
    /// Something may have changed.
    pub fn knock(&self) {
        self.0.bell.notify_one();
    }

    /// Events may have been lost: look, and open the watcher anew.
    pub fn rebuild(&self) {
        self.0.broken.store(true, Ordering::Release);
        self.knock();
    }

    pub(super) async fn heard(&self) {
        self.0.bell.notified().await;
    }

    fn take_broken(&self) -> bool {
        self.0.broken.swap(false, Ordering::AcqRel)
    }
}

/// A source of directory events.
pub trait Events: Send {
    fn open(&mut self, knock: Knock) -> Result<Box<dyn Directories>, String>;
}

/// An open watcher. Dropped: closed.
pub trait Directories: Send {
    fn add(&mut self, directory: &Path) -> Result<(), String>;
    fn remove(&mut self, directory: &Path);
}

/// The system's own: inotify on Linux.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEvents;

/// None at all: the poll alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl Events for NoEvents {
    fn open(&mut self, _knock: Knock) -> Result<Box<dyn Directories>, String> {
        Err("events are switched off".to_owned())
    }
}

impl Events for SystemEvents {
    fn open(&mut self, knock: Knock) -> Result<Box<dyn Directories>, String> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.need_rescan() => knock.rebuild(),
            // Our own reading opens and closes the file: to hear that would be to never rest.
            Ok(event) => match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => knock.knock(),
                EventKind::Access(_) => {}
                _ => knock.knock(),
            },
            Err(_) => knock.rebuild(),
        });
        let watcher = watcher.map_err(|error| error.to_string())?;
        Ok(Box::new(watcher))
    }
}

impl Directories for notify::RecommendedWatcher {
    fn add(&mut self, directory: &Path) -> Result<(), String> {
        self.watch(directory, RecursiveMode::NonRecursive).map_err(|error| error.to_string())
    }

    fn remove(&mut self, directory: &Path) {
        // Fails when the directory is gone, and then there is nothing to remove.
        let _gone = self.unwatch(directory);
    }
}

/// The watched directories, kept in step with the links.
pub(super) struct Watch {
    events: Box<dyn Events>,
    knock: Knock,
    open: Option<Box<dyn Directories>>,
    /// What is watched, and which directory it was: a new one may stand at the same path.
    watched: BTreeMap<PathBuf, Identity>,
    retry_at: Ticks,
    mode: WatchMode,
}

impl Watch {
    pub fn new(events: Box<dyn Events>) -> Self {
        Self {
            events,
            knock: Knock::default(),
            open: None,
            watched: BTreeMap::new(),
            retry_at: Ticks(0),
            mode: WatchMode::Events,
        }
    }

    pub fn knock(&self) -> Knock {
        self.knock.clone()
    }

    pub fn mode(&self) -> WatchMode {
        self.mode
    }

    /// Watches the directories that lead to `files` now, and no others. `true` when a directory
    /// was added: what happened in it before went unheard, so one more look is due.
    pub fn follow<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>, now: Ticks) -> bool {
        if self.knock.take_broken() {
            tracing::warn!(event = "config_watcher_rebuilt", "file events were lost or failed");
            self.close();
            self.retry_at = now;
        }
        let fresh = self.open.is_none();
        if fresh && !self.reopen(now) {
            return false;
        }
        let wanted = directories(files);
        let mut added = false;
        let mut failed = None;
        if let Some(open) = &mut self.open {
            self.watched.retain(|path, identity| {
                let kept = wanted.get(path) == Some(identity);
                if !kept {
                    open.remove(path);
                }
                kept
            });
            for (path, identity) in wanted {
                if self.watched.contains_key(&path) {
                    continue;
                }
                match open.add(&path) {
                    Ok(()) => {
                        added = true;
                        self.watched.insert(path, identity);
                    }
                    Err(error) => failed = Some(error),
                }
            }
        }
        match failed {
            Some(error) => self.degrade(&error),
            None => self.recover(),
        }
        added && !fresh
    }

    fn reopen(&mut self, now: Ticks) -> bool {
        if now < self.retry_at {
            return false;
        }
        match self.events.open(self.knock.clone()) {
            Ok(open) => {
                self.open = Some(open);
                true
            }
            Err(error) => {
                self.retry_at = now.after(WATCH_RETRY);
                self.degrade(&error);
                false
            }
        }
    }

    fn close(&mut self) {
        self.open = None;
        self.watched.clear();
    }

    fn degrade(&mut self, error: &str) {
        if self.mode != WatchMode::Poll {
            tracing::warn!(event = "config_watch_mode", mode = "poll", error, "no file events, polling");
            self.mode = WatchMode::Poll;
        }
    }

    fn recover(&mut self) {
        if self.mode != WatchMode::Events {
            tracing::info!(event = "config_watch_mode", mode = "inotify", "file events again");
            self.mode = WatchMode::Events;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::Mutex;

    /// Remembers what it is asked, and fails on demand.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<FakeState>>);

    #[derive(Default)]
    struct FakeState {
        refuse_open: bool,
        refuse_add: bool,
        opened: usize,
        log: Vec<String>,
    }

    impl Events for Fake {
        fn open(&mut self, _knock: Knock) -> Result<Box<dyn Directories>, String> {
            let mut state = self.0.lock().unwrap();
            state.opened += 1;
            if state.refuse_open { Err("limit reached".to_owned()) } else { Ok(Box::new(self.clone())) }
        }
    }

    impl Directories for Fake {
        fn add(&mut self, directory: &Path) -> Result<(), String> {
            let mut state = self.0.lock().unwrap();
            state.log.push(format!("+{}", directory.file_name().unwrap().display()));
            if state.refuse_add { Err("limit reached".to_owned()) } else { Ok(()) }
        }

        fn remove(&mut self, directory: &Path) {
            self.0.lock().unwrap().log.push(format!("-{}", directory.file_name().unwrap().display()));
        }
    }

    fn log(fake: &Fake) -> Vec<String> {
        std::mem::take(&mut fake.0.lock().unwrap().log)
    }

    #[test]
    fn follows_links_and_replaced_directories() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for dir in ["etc", "one", "two"] {
            std::fs::create_dir(root.join(dir)).unwrap();
        }
        let file = root.join("etc/c");
        symlink(root.join("one/c"), &file).unwrap();
        let fake = Fake::default();
        let mut watch = Watch::new(Box::new(fake.clone()));
        assert!(!watch.follow([file.as_path()], Ticks(0)), "everything is new at first");
        assert_eq!(log(&fake), ["+etc", "+one"]);
        assert!(!watch.follow([file.as_path()], Ticks(1)));
        assert!(log(&fake).is_empty());

        std::fs::remove_file(&file).unwrap();
        symlink(root.join("two/c"), &file).unwrap();
        assert!(watch.follow([file.as_path()], Ticks(2)));
        assert_eq!(log(&fake), ["-one", "+two"]);

        std::fs::rename(root.join("two"), root.join("old")).unwrap();
        std::fs::create_dir(root.join("two")).unwrap();
        assert!(watch.follow([file.as_path()], Ticks(3)));
        assert_eq!(log(&fake), ["-two", "+two"]);

        std::fs::remove_dir(root.join("two")).unwrap();
        assert!(!watch.follow([file.as_path()], Ticks(4)));
        assert_eq!(log(&fake), ["-two"]);
        assert_eq!(watch.mode(), WatchMode::Events, "a missing directory is no broken watcher");
    }

    #[test]
    fn unavailable_is_retried_and_lost_is_rebuilt() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("c");
        let fake = Fake::default();
        fake.0.lock().unwrap().refuse_open = true;
        let mut watch = Watch::new(Box::new(fake.clone()));
        for millis in [0, 1000, 29_999] {
            watch.follow([file.as_path()], Ticks(millis));
            assert_eq!(watch.mode(), WatchMode::Poll);
            assert_eq!(fake.0.lock().unwrap().opened, 1, "tried again too soon");
        }
        fake.0.lock().unwrap().refuse_open = false;
        watch.follow([file.as_path()], Ticks(30_000));
        assert_eq!(watch.mode(), WatchMode::Events);
        assert_eq!(fake.0.lock().unwrap().opened, 2);

        watch.knock().rebuild();
        log(&fake);
        watch.follow([file.as_path()], Ticks(30_001));
        assert_eq!(fake.0.lock().unwrap().opened, 3);
        assert_eq!(log(&fake).len(), 1, "directories are added anew");

        fake.0.lock().unwrap().refuse_add = true;
        watch.knock().rebuild();
        watch.follow([file.as_path()], Ticks(30_002));
        assert_eq!(watch.mode(), WatchMode::Poll);
        fake.0.lock().unwrap().refuse_add = false;
        watch.follow([file.as_path()], Ticks(30_003));
        assert_eq!(watch.mode(), WatchMode::Events);
    }
}
