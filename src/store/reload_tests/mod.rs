//! Every way in which a file changes or breaks, against the real disk: noticed in time, the last
//! good generation stays, and it heals without a restart. Each test prints how many it ran.

mod breakage;
mod edits;
pub(super) mod fake;
mod virtual_time;

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use self::fake::{FakeCompile, FakeListeners, Told};
use super::*;
use crate::hash::FingerprintKey;
use crate::limits::{POLL_INTERVAL, WRITER_QUEUE_MAX};

/// CONTRACT 2.1, p99.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// A change that is not noticed by now never will be.
const GIVE_UP: Duration = Duration::from_secs(20);

/// A writer on a thread of its own, as in the process, and a directory to play in.
struct Rig {
    dir: tempfile::TempDir,
    path: PathBuf,
    store: Arc<Store>,
    told: Told,
    commands: mpsc::Sender<Command>,
    thread: Option<std::thread::JoinHandle<()>>,
    took: Vec<Duration>,
}

impl Rig {
    /// With `set_up` making the file in a fresh directory; it says where the config is.
    fn with(events: Box<dyn Events>, set_up: impl FnOnce(&Path) -> PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = set_up(dir.path());
        let told = Told::default();
        let (ready, started) = std::sync::mpsc::channel();
        let (commands, receiver) = mpsc::channel(WRITER_QUEUE_MAX);
        let thread = std::thread::spawn({
            let (path, told) = (path.clone(), told.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    let (writer, store) = Writer::start(options(path, &told, events)).unwrap();
                    ready.send(store).unwrap();
                    writer.run(receiver).await;
                });
            }
        });
        let store = started.recv().unwrap();
        Self { dir, path, store, told, commands, thread: Some(thread), took: Vec::new() }
    }

    /// `config.json` with value 0, system events.
    fn plain() -> Self {
        Self::with(Box::new(SystemEvents), plain_file)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn value(&self) -> u64 {
        fake::value(&self.store.snapshot())
    }

    fn generation(&self) -> u64 {
        self.store.snapshot().mark.number
    }

    /// Waits until `holds`, and books how long that took.
    fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < GIVE_UP, "{what}: not noticed; {:#?}", self.store.status());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.took.push(start.elapsed());
    }

    /// Waits until `value` serves and the books are in order.
    fn wait_value(&mut self, value: u64) {
        self.wait(&format!("value {value}"), |rig| rig.value() == value);
        // Published right after the swap.
        let start = Instant::now();
        while self.store.status().generation != self.generation() {
            assert!(start.elapsed() < GIVE_UP);
            std::thread::yield_now();
        }
        let status = self.store.status();
        assert!(status.last_error.is_none(), "{status:#?}");
    }

    fn reload(&self) -> ReloadOutcome {
        let (reply, answer) = oneshot::channel();
        self.commands.blocking_send(Command::Reload { reply: Some(reply) }).unwrap();
        answer.blocking_recv().unwrap()
    }

    /// Nothing that was refused on the way: for ways of writing that are never half done for long.
    fn nothing_refused(&self) {
        let status = self.store.status();
        assert_eq!(status.reloads_failed, 0, "{status:#?}");
    }

    /// Prints the count and checks the times of what was booked since the last report.
    fn report(&mut self, name: &str) {
        report(name, std::mem::take(&mut self.took));
    }

    /// The same for changes that must have been heard: the poll alone would be slower.
    fn report_heard(&mut self, name: &str) {
        let mut took = std::mem::take(&mut self.took);
        took.sort();
        let median = took[took.len() / 2];
        assert!(median < POLL_INTERVAL / 2, "{name}: {median:?}, as if nothing had been heard");
        report(name, took);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ended = self.commands.try_send(Command::Shutdown);
        if let Some(Err(panic)) = self.thread.take().map(std::thread::JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One change in a hundred, or one in all, may be late.
fn report(name: &str, mut took: Vec<Duration>) {
    took.sort();
    let late = took.iter().filter(|took| **took > NOTICED_WITHIN).count();
    let (median, last) = (took[took.len() / 2].as_millis(), took[took.len() - 1].as_millis());
    println!("{name}: {} changes, median {median} ms, slowest {last} ms", took.len());
    assert!(late <= (took.len() / 100).max(1), "{late} of {} later than {NOTICED_WITHIN:?}", took.len());
}

fn options(path: PathBuf, told: &Told, events: Box<dyn Events>) -> WriterOptions {
    WriterOptions {
        events,
        ..WriterOptions::new(
            path,
            FingerprintKey::new([7; 32]),
            Box::new(FakeCompile::new(told)),
            Box::new(FakeListeners::new(told)),
            Arc::new(SystemClock::new()),
        )
    }
}

fn plain_file(dir: &Path) -> PathBuf {
    let path = dir.join("config.json");
    std::fs::write(&path, text(0)).unwrap();
    path
}

/// A config that the fake compile reads as `value`.
fn text(value: u64) -> String {
    format!("{{\"value\": {value}}}\n")
}

/// The same with `bytes` of padding: no prefix of it is whole.
fn long_text(value: u64, bytes: usize) -> String {
    format!("{{\"padding\": \"{}\", \"value\": {value}}}\n", "x".repeat(bytes))
}

/// A new file that takes the place of `path`: how most editors, git and deploy tools save.
fn rename_over(path: &Path, text: &str) {
    let temp = path.with_extension("temp");
    std::fs::write(&temp, text).unwrap();
    std::fs::rename(&temp, path).unwrap();
}

fn shell(dir: &Path, script: &str) {
    let output = Process::new("sh").arg("-ec").arg(script).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
