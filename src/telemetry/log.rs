//! The log thread: takes finished lines out of buffers and writes them.
//!
//! Whoever logs appends to a buffer in memory and goes on. A log that nobody reads stalls this
//! thread alone; lines beyond the bounds are dropped and counted, never waited for. Formats no
//! line itself (access.rs, event.rs) and reads no environment.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Instant, SystemTime};

use tracing::level_filters::LevelFilter;

use super::event::{Events, SharedLevel};
use super::line::{push_time, push_time_of_day, push_u64};
use crate::limits::{LOG_BUFFER_BYTES_MAX, LOG_EXIT_WAIT, LOG_FLUSH_BYTES, LOG_FLUSH_INTERVAL, LOG_QUEUE_MAX};

/// Empty looks in a row before the thread sleeps until somebody wakes it.
const IDLE_LOOKS: u32 = 10;

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Where the log goes and how.
pub struct LogOptions {
    pub format: Format,
    pub level: LevelFilter,
    pub out: Box<dyn Write + Send>,
}

impl LogOptions {
    /// To standard output: text on a terminal, JSON lines otherwise.
    pub fn stdout(level: LevelFilter) -> Self {
        let out = io::stdout();
        let format = if out.is_terminal() { Format::Text } else { Format::Json };
        Self { format, level, out: Box::new(out) }
    }

    /// To standard error, for commands whose standard output is their result.
    pub fn stderr(level: LevelFilter) -> Self {
        let out = io::stderr();
        let format = if out.is_terminal() { Format::Text } else { Format::Json };
        Self { format, level, out: Box::new(out) }
    }
}

/// Owner of the log thread: dropping it writes what is left.
pub struct Log {
    handle: LogHandle,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    pub fn start(options: LogOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let buffer = Arc::new(LineBuffer::new(options.format, Arc::clone(&shared)));
        lock(&shared.buffers).push(Arc::clone(&buffer));
        let level = Arc::new(SharedLevel::new(options.level));
        let dispatch = tracing::Dispatch::new(Events { buffer, level: Arc::clone(&level) });
        let handle = LogHandle { shared: Arc::clone(&shared), level, dispatch, format: options.format };
        let writer = LogWriter { shared, out: options.out, format: options.format, reported: 0 };
        let thread = thread::Builder::new().name("log".into()).spawn(move || writer.run())?;
        // `set` fails only where it was set before, and this is the one place that does.
        let _ = handle.shared.thread.set(thread.thread().clone());
        Ok(Self { handle, thread: Some(thread) })
    }

    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }

    /// Makes this the log of the whole process. For the binary alone: two gateways in one process
    /// use [`LogHandle::dispatch`] each on their own threads. False where there is one already.
    pub fn install(&self) -> bool {
        tracing::dispatcher::set_global_default(self.handle.dispatch.clone()).is_ok()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.handle.shared.stopping.store(true, Ordering::Release);
        // A thread that is stuck in a write to a full pipe is left behind with it.
        if self.handle.flush()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// What the rest of the process needs of the log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    shared: Arc<Shared>,
    level: Arc<SharedLevel>,
    dispatch: tracing::Dispatch,
    format: Format,
}

impl LogHandle {
    /// A buffer for lines that are written by hand; one per worker.
    pub fn buffer(&self) -> Arc<LineBuffer> {
        let buffer = Arc::new(LineBuffer::new(self.format, Arc::clone(&self.shared)));
        lock(&self.shared.buffers).push(Arc::clone(&buffer));
        buffer
    }

    /// Takes events of the thread that makes it its default dispatcher.
    pub fn dispatch(&self) -> tracing::Dispatch {
        self.dispatch.clone()
    }

    pub fn set_level(&self, level: LevelFilter) {
        // While there is one dispatcher in the process, call sites ask the one of the current thread
        // what to remember: it must be this one, or they would remember that nobody listens.
        tracing::dispatcher::with_default(&self.dispatch, || self.level.set(level));
    }

    /// Lines that were dropped because the log could not keep up.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all that was logged before has been written, for at most [`LOG_EXIT_WAIT`].
    /// False where it has not.
    pub fn flush(&self) -> bool {
        let deadline = Instant::now() + LOG_EXIT_WAIT;
        let mut flushes = lock(&self.shared.flushes);
        flushes.asked += 1;
        let ticket = flushes.asked;
        self.shared.knock();
        while flushes.done < ticket {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            flushes = self.shared.flushed.wait_timeout(flushes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

#[derive(Debug, Default)]
struct Shared {
    buffers: Mutex<Vec<Arc<LineBuffer>>>,
    dropped: AtomicU64,
    stopping: AtomicBool,
    /// The thread waits without a time-out.
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
    flushes: Mutex<Flushes>,
    flushed: Condvar,
}

#[derive(Debug, Default)]
struct Flushes {
    asked: u64,
    done: u64,
}

impl Shared {
    fn knock(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Finished lines on their way to the log thread.
#[derive(Debug)]
pub struct LineBuffer {
    lines: Mutex<Lines>,
    format: Format,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    count: usize,
}

impl LineBuffer {
    fn new(format: Format, shared: Arc<Shared>) -> Self {
        Self { lines: Mutex::default(), format, shared }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Appends one line: `write` writes it, end included. Never waits for the log.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = lock(&self.lines);
        let before = lines.bytes.len();
        if lines.count >= LOG_QUEUE_MAX || before >= LOG_BUFFER_BYTES_MAX {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(&mut lines.bytes);
        lines.count += 1;
        let full = before < LOG_FLUSH_BYTES && lines.bytes.len() >= LOG_FLUSH_BYTES;
        drop(lines);
        // The sleeper sets `asleep` before its last look under our lock: either it saw this line,
        // or we see the flag.
        if full || self.shared.asleep.load(Ordering::Relaxed) {
            self.shared.knock();
        }
    }

    /// Swaps the lines for an empty buffer; false where there are none.
    fn take(&self, into: &mut Vec<u8>) -> bool {
        into.clear();
        let mut lines = lock(&self.lines);
        std::mem::swap(&mut lines.bytes, into);
        lines.count = 0;
        !into.is_empty()
    }
}

struct LogWriter {
    shared: Arc<Shared>,
    out: Box<dyn Write + Send>,
    format: Format,
    /// Dropped lines that the log itself has told of.
    reported: u64,
}

impl LogWriter {
    fn run(mut self) {
        let mut spare = Vec::new();
        let mut idle = 0;
        loop {
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            let asked = lock(&self.shared.flushes).asked;
            if self.drain(&mut spare) {
                idle = 0;
            } else {
                idle += 1;
            }
            self.answer_flush(if stopping { u64::MAX } else { asked });
            if stopping {
                // Buffers point back at what holds them.
                lock(&self.shared.buffers).clear();
                return;
            }
            if idle < IDLE_LOOKS {
                self.shared.asleep.store(false, Ordering::Relaxed);
                thread::park_timeout(LOG_FLUSH_INTERVAL);
            } else if self.shared.asleep.swap(true, Ordering::Relaxed) {
                // The look after raising the flag found nothing either.
                thread::park();
                idle = 0;
            }
        }
    }

    /// Writes all that waits. True where there was something.
    fn drain(&mut self, spare: &mut Vec<u8>) -> bool {
        let buffers = lock(&self.shared.buffers).clone();
        let mut any = false;
        for buffer in &buffers {
            if buffer.take(spare) {
                any = true;
                self.write(spare);
            }
        }
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.reported {
            any = true;
            self.tell_dropped(dropped - self.reported, spare);
            self.reported = dropped;
        }
        if any {
            // A log that cannot be written has nowhere to say so; `dropped` counts it.
            let _ = self.out.flush();
        }
        spare.shrink_to(4 * LOG_FLUSH_BYTES);
        any
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.out.write_all(bytes).is_err() {
            let lines = memchr::memchr_iter(b'\n', bytes).count();
            self.shared.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.reported = self.shared.dropped.load(Ordering::Relaxed);
        }
    }

    fn tell_dropped(&mut self, count: u64, line: &mut Vec<u8>) {
        line.clear();
        match self.format {
            Format::Json => {
                line.extend_from_slice(b"{\"time\":\"");
                push_time(line, SystemTime::now());
                line.extend_from_slice(b"\",\"level\":\"warn\",\"target\":\"keyway::telemetry\",");
                line.extend_from_slice(b"\"message\":\"log lines dropped\",\"lines\":");
                push_u64(line, count);
                line.extend_from_slice(b"}\n");
            }
            Format::Text => {
                push_time_of_day(line, SystemTime::now());
                line.extend_from_slice(b"  WARN log lines dropped lines=");
                push_u64(line, count);
                line.push(b'\n');
            }
        }
        self.write(line);
    }

    fn answer_flush(&self, asked: u64) {
        let mut flushes = lock(&self.shared.flushes);
        if flushes.done < asked {
            flushes.done = asked;
            drop(flushes);
            self.shared.flushed.notify_all();
        }
    }
}

/// A panic under one of these locks leaves whole lines behind, so poison means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use serde_json::Value;

    use super::*;

    /// What the log wrote.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(lock(&self.0).clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Call sites remember, for the whole process, what the dispatchers alive at the time wanted:
    /// two tests that change levels side by side would see each other's.
    fn alone() -> MutexGuard<'static, ()> {
        static TESTS: Mutex<()> = Mutex::new(());
        lock(&TESTS)
    }

    fn start(format: Format, level: LevelFilter) -> (Log, Written) {
        let written = Written::default();
        let log = Log::start(LogOptions { format, level, out: Box::new(written.clone()) }).unwrap();
        (log, written)
    }

    #[derive(Debug)]
    struct Outer(io::Error);

    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("cannot read config")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn events_as_json() {
        let _alone = alone();
        let (log, written) = start(Format::Json, LevelFilter::INFO);
        tracing::dispatcher::with_default(&log.handle().dispatch(), || {
            let error = Outer(io::Error::other("disk\ngone"));
            let cause: &dyn std::error::Error = &error;
            tracing::warn!(error = cause, count = 3, ratio = 0.5, good = false, odd = ?"a\u{1b}", "reload\nfailed");
            tracing::debug!("not shown");
        });
        drop(log);
        let lines = written.lines();
        assert_eq!(lines.len(), 1);
        let value: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["target"], "keyway::telemetry::log::tests");
        assert_eq!(value["message"], "reload\nfailed");
        assert_eq!(value["error"], "cannot read config: disk\ngone");
        assert_eq!((&value["count"], &value["ratio"], &value["good"]), (&3.into(), &0.5.into(), &false.into()));
    }

    #[test]
    fn events_as_text() {
        let _alone = alone();
        let (log, written) = start(Format::Text, LevelFilter::INFO);
        tracing::dispatcher::with_default(&log.handle().dispatch(), || {
            tracing::info!(address = "127.0.0.1:8080", "listening");
            tracing::error!(path = "a b", "\u{1b}[2Jgone");
        });
        drop(log);
        let lines = written.lines();
        let tail = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        assert_eq!(tail(&lines[0]), " listening address=127.0.0.1:8080");
        assert_eq!(tail(&lines[1]), " ERROR \\u001b[2Jgone path=\"a b\"");
    }

    #[test]
    fn the_level_changes_and_others_stay_quiet() {
        let _alone = alone();
        let (log, written) = start(Format::Text, LevelFilter::WARN);
        let say = || {
            tracing::dispatcher::with_default(&log.handle().dispatch(), || {
                tracing::trace!("ours trace");
                tracing::info!("ours info");
                tracing::trace!(target: "hyper::proto", "authorization: secret");
                tracing::debug!(target: "keywayward", "not ours");
                tracing::warn!(target: "hyper::proto", "theirs warn");
            });
        };
        for (level, expected) in [
            (LevelFilter::WARN, vec!["theirs warn"]),
            (LevelFilter::TRACE, vec!["ours trace", "ours info", "theirs warn"]),
            (LevelFilter::INFO, vec!["ours info", "theirs warn"]),
            (LevelFilter::OFF, vec![]),
        ] {
            log.handle().set_level(level);
            say();
            assert!(log.handle().flush());
            let lines = std::mem::take(&mut *lock(&written.0));
            let text = String::from_utf8(lines).unwrap();
            let shown: Vec<_> = text.lines().collect();
            assert_eq!(shown.len(), expected.len(), "{level}: {text}");
            assert!(shown.iter().zip(&expected).all(|(line, end)| line.ends_with(end)), "{level}: {text}");
        }
    }

    #[test]
    fn lines_of_many_threads_come_whole_and_all() {
        let _alone = alone();
        let (log, written) = start(Format::Json, LevelFilter::INFO);
        let handle = log.handle();
        thread::scope(|scope| {
            for worker in 0..4 {
                let buffer = handle.buffer();
                scope.spawn(move || {
                    for i in 0..1_000 {
                        buffer.push(|out| out.extend_from_slice(format!("{worker} {i}\n").as_bytes()));
                    }
                });
            }
        });
        drop(log);
        let lines = written.lines();
        assert_eq!(lines.len(), 4_000);
        for worker in 0..4 {
            let own: Vec<_> = lines.iter().filter(|l| l.starts_with(&format!("{worker} "))).cloned().collect();
            let expected: Vec<_> = (0..1_000).map(|i| format!("{worker} {i}")).collect();
            assert_eq!(own, expected, "in order");
        }
    }

    /// A reader that has stopped reading: the first write waits until told to go on.
    struct Stuck {
        entered: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
        rest: Written,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.entered.send(()).unwrap();
            let _ = self.go.recv();
            self.rest.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_drops_and_counts() {
        let (entered, was_entered) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let written = Written::default();
        let out = Box::new(Stuck { entered, go: gone, rest: written.clone() });
        let _alone = alone();
        let log = Log::start(LogOptions { format: Format::Json, level: LevelFilter::INFO, out }).unwrap();
        let buffer = log.handle().buffer();
        buffer.push(|out| out.extend_from_slice(b"first\n"));
        was_entered.recv().unwrap();
        // The thread is inside the write; nobody here waits for it.
        for _ in 0..LOG_QUEUE_MAX + 10 {
            buffer.push(|out| out.extend_from_slice(b"more\n"));
        }
        assert_eq!(log.handle().dropped(), 10);
        assert!(!log.handle().flush(), "bounded wait");
        drop(go);
        drop(log);
        let lines = written.lines();
        assert_eq!(lines.iter().filter(|line| *line == "more").count(), LOG_QUEUE_MAX);
        let told = lines.iter().find(|line| line.contains("dropped")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(told).unwrap()["lines"], 10);
    }

    #[test]
    fn a_log_that_cannot_be_written_counts_its_lines() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let options = LogOptions { format: Format::Json, level: LevelFilter::INFO, out: Box::new(Broken) };
        let _alone = alone();
        let log = Log::start(options).unwrap();
        let handle = log.handle();
        handle.buffer().push(|out| out.extend_from_slice(b"one\n"));
        drop(log);
        assert_eq!(handle.dropped(), 1);
    }

    #[test]
    fn a_line_wakes_a_sleeping_log() {
        let _alone = alone();
        let (log, written) = start(Format::Json, LevelFilter::INFO);
        let handle = log.handle();
        while !handle.shared.asleep.load(Ordering::Relaxed) {
            thread::park_timeout(LOG_FLUSH_INTERVAL);
        }
        handle.buffer().push(|out| out.extend_from_slice(b"up\n"));
        let deadline = Instant::now() + 50 * LOG_FLUSH_INTERVAL;
        while written.lines().is_empty() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(written.lines(), ["up"]);
    }
}
