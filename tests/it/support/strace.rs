//! System calls that fail, or kill, where a test wants them to: `strace` on a running gateway.
//!
//! Attached to the control thread alone, which is the one that reads and writes the config; what
//! the workers and the log do goes on.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::needs::not_run;

/// The program, where it is there and the machine lets it work.
pub struct Strace {
    program: PathBuf,
    /// Beside a program of our own.
    libraries: PathBuf,
}

impl Strace {
    /// `None` when not, which has been said then.
    #[track_caller]
    pub fn find(test: &str) -> Option<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/strace/usr");
        let program = if own.exists() { own.join("bin/strace") } else { PathBuf::from("strace") };
        let strace = Self { program, libraries: own.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH)) };
        let found = strace.command().arg("-V").stdin(Stdio::null()).output();
        if !found.is_ok_and(|found| found.status.success()) {
            not_run(&format!("not run: {test} needs strace: `make tools`"));
            return None;
        }
        // Not a child of the tracer, as the gateway will not be one.
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let attached = strace.attach(sleeper.id(), &[]);
        let _ = sleeper.kill();
        let _ = sleeper.wait();
        if let Err(why) = attached {
            not_run(&format!("not run: {test} needs ptrace (root, or kernel.yama.ptrace_scope 0): {why}"));
            return None;
        }
        Some(strace)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if self.libraries.exists() {
            command.env("LD_LIBRARY_PATH", &self.libraries);
        }
        command
    }

    /// From here on until [`Tracer::detach`] the calls of one thread meet what `inject` says, in
    /// strace's words: `fsync:error=EIO:when=1`.
    pub fn attach(&self, thread: u32, inject: &[String]) -> Result<Tracer, String> {
        let mut command = self.command();
        let calls: Vec<&str> = inject.iter().filter_map(|rule| rule.split(':').next()).collect();
        let calls = if calls.is_empty() { "none".to_owned() } else { calls.join(",") };
        command.args(["-p", &thread.to_string(), "-e", &format!("trace={calls}")]);
        for rule in inject {
            command.args(["-e", &format!("inject={rule}")]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let read = lines.read_line(&mut line);
        let tracer = Tracer { child, lines };
        if read.is_ok() && line.contains(" attached") { Ok(tracer) } else { Err(line.trim().to_owned()) }
    }
}

/// One strace at work.
pub struct Tracer {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Tracer {
    /// Lets go of the thread; says how many calls were tampered with.
    pub fn detach(mut self) -> usize {
        self.interrupt();
        let lines = self.lines.by_ref().lines().map_while(Result::ok);
        lines.filter(|line| line.contains("(INJECTED)")).count()
    }

    /// Until strace has printed `text`: `fsync(` when the call begins, `DELAYED` when it has ended and
    /// the thread is held.
    pub fn wait_for(mut self, text: &str) -> Self {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(text.as_bytes()) {
            let read = self.lines.read(&mut byte).unwrap();
            assert!(read > 0, "strace ended before {text:?}, after {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        self
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may have ended with the one that it watched.
        let _ = kill_process(pid, Signal::INT);
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.interrupt();
        let _ = self.child.wait();
    }
}
