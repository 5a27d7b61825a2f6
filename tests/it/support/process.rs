//! The binary as a child process: started without the developer's environment, what it prints kept,
//! killed when it is dropped.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The binary that cargo built for these tests.
pub const BINARY: &str = env!("CARGO_BIN_EXE_keyway");

/// Start-up of a debug build on a busy machine.
pub const START_MAX: Duration = Duration::from_secs(20);

/// What is started, and with what.
#[derive(Default)]
pub struct Recipe {
    pub arguments: Vec<String>,
    pub env: Vec<(String, String)>,
    /// A command that ends by becoming the binary.
    pub through: Vec<String>,
}

/// The environment of the developer must not reach a gateway under test: a provider key in it would
/// make a test call the world.
pub fn command<'a>(through: &[String], env: impl Iterator<Item = (&'a str, &'a str)>, dir: &Path) -> Command {
    let words: Vec<&str> = through.iter().map(String::as_str).chain([BINARY]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env).current_dir(dir).stdin(Stdio::null());
    command
}

pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(-1)
}

/// A child whose output is collected by two threads.
pub struct Process {
    child: Child,
    printed: Arc<Printed>,
}

#[derive(Default)]
struct Printed {
    state: Mutex<PrintedState>,
    more: Condvar,
}

#[derive(Default)]
struct PrintedState {
    text: String,
    addresses: Vec<String>,
    closed: u8,
}

impl Process {
    pub fn spawn(recipe: &Recipe, dir: &Path) -> Self {
        let env = recipe.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut command = command(&recipe.through, env, dir);
        let mut child = command.args(&recipe.arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let printed = Arc::new(Printed::default());
        Printed::collect(&printed, child.stdout.take().unwrap());
        Printed::collect(&printed, child.stderr.take().unwrap());
        Self { child, printed }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for `count` lines that announce an address.
    pub fn announced(&self, count: usize) -> Result<(), String> {
        let state = self.printed.state.lock().unwrap();
        let waiting = |state: &mut PrintedState| state.addresses.len() < count && state.closed < 2;
        let (state, waited) = self.printed.more.wait_timeout_while(state, START_MAX, waiting).unwrap();
        if state.addresses.len() >= count {
            return Ok(());
        }
        let found = state.addresses.len();
        Err(if waited.timed_out() {
            format!("announced {found} of {count} addresses in {START_MAX:?}")
        } else {
            format!("ended after announcing {found} of {count} addresses")
        })
    }

    pub fn addresses(&self) -> Vec<String> {
        self.printed.state.lock().unwrap().addresses.clone()
    }

    pub fn output(&self) -> String {
        self.printed.state.lock().unwrap().text.clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may be gone already, which the caller will see by its exit code.
        let _ = kill_process(pid, signal);
    }

    #[track_caller]
    pub fn wait(&mut self, at_most: Duration) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.printed.wait_closed();
                return exit_code(status);
            }
            assert!(started.elapsed() < at_most, "did not end within {at_most:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the process under test printed:\n{}", self.output());
        }
    }
}

impl Printed {
    /// Until the last line of a process that has ended is read; whom it left behind may hold on to its
    /// pipes.
    fn wait_closed(&self) {
        let state = self.state.lock().unwrap();
        drop(self.more.wait_timeout_while(state, Duration::from_secs(2), |state| state.closed < 2).unwrap());
    }

    fn collect(printed: &Arc<Self>, from: impl Read + Send + 'static) {
        let printed = Arc::clone(printed);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&line);
                let mut state = printed.state.lock().unwrap();
                state.addresses.extend(address_in(&text));
                state.text.push_str(&text);
                line.clear();
                drop(state);
                printed.more.notify_all();
            }
            printed.state.lock().unwrap().closed += 1;
            printed.more.notify_all();
        });
    }
}

/// The address in a line that says `listening on …`, in text or inside a JSON log line.
fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on ")?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | ',')).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

mod tests {
    use super::address_in;

    #[test]
    fn addresses_are_read_from_text_and_json() {
        let cases = [
            ("listening on http://127.0.0.1:4711\n", Some("http://127.0.0.1:4711")),
            ("{\"message\":\"listening on http://[::1]:80\",\"x\":1}", Some("http://[::1]:80")),
            ("listening on unix:/run/k.sock", Some("unix:/run/k.sock")),
            ("nothing", None),
        ];
        for (line, want) in cases {
            assert_eq!(address_in(line).as_deref(), want, "{line}");
        }
    }
}
