//! The real binary as a child process: a config of its own in a temporary folder, ports chosen by
//! the kernel, everything it prints kept for the message of a failing test.
//!
//! Sees the gateway as an operator does: files, signals, exit codes and `/api/config/status`. Waits
//! by asking that status, never by sleeping a guessed time.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client;

/// The binary that cargo built for these tests.
pub const BINARY: &str = env!("CARGO_BIN_EXE_keyway");

/// Start-up of a debug build on a busy machine.
const START_MAX: Duration = Duration::from_secs(20);

/// How a gateway is to be started.
pub struct Launch {
    config: String,
    file_name: String,
    recipe: Recipe,
    listeners: usize,
}

/// The same again, after a kill.
#[derive(Default)]
struct Recipe {
    arguments: Vec<String>,
    env: Vec<(String, String)>,
    /// A command that ends by becoming the gateway.
    through: Vec<String>,
}

/// `config` is the text of config.json; give it `"listen": ["127.0.0.1:0"]`.
pub fn launch(config: impl Into<String>) -> Launch {
    Launch { config: config.into(), file_name: "config.json".to_owned(), recipe: Recipe::default(), listeners: 1 }
}

impl Launch {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.recipe.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Of the config, from the gateway's folder.
    pub fn file_name(mut self, name: &str) -> Self {
        self.file_name = name.to_owned();
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.recipe.arguments.push(argument.to_owned());
        self
    }

    /// Starts it as the last arguments of another command, which is expected to `exec` them.
    pub fn through(mut self, command: &[&str]) -> Self {
        self.recipe.through = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// How many addresses will be announced before the gateway counts as started.
    pub fn listeners(mut self, count: usize) -> Self {
        self.listeners = count;
        self
    }

    /// Starts and waits until every listener is announced.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let dir = TempDir::with_prefix("keyway-it-").unwrap();
        self.start_in(dir)
    }

    /// Starts a gateway that is expected to refuse; returns its exit code and what it printed.
    #[track_caller]
    pub fn refused(self) -> (i32, String) {
        let mut gateway = self.spawn_in(TempDir::with_prefix("keyway-it-").unwrap());
        let code = gateway.process.wait(START_MAX);
        (code, gateway.process.output())
    }

    /// In a folder that the caller has furnished; the config is written where it is not there yet and can be.
    #[track_caller]
    pub fn start_in(self, dir: TempDir) -> Gateway {
        let mut gateway = self.spawn_in(dir);
        gateway.wait_listening();
        gateway
    }

    fn spawn_in(self, dir: TempDir) -> Gateway {
        let config = dir.path().join(&self.file_name);
        if !config.exists() && config.parent().is_some_and(Path::exists) {
            std::fs::write(&config, &self.config).unwrap();
        }
        let mut recipe = self.recipe;
        recipe.arguments.splice(0..0, ["serve", "--config", config.to_str().unwrap()].map(str::to_owned));
        let process = Process::spawn(&recipe, dir.path());
        Gateway { process, dir, config, recipe, listeners: self.listeners, urls: Vec::new() }
    }
}

/// A running gateway; killed when it is dropped.
pub struct Gateway {
    process: Process,
    dir: TempDir,
    config: PathBuf,
    recipe: Recipe,
    listeners: usize,
    urls: Vec<String>,
}

impl Gateway {
    #[track_caller]
    pub fn start(config: impl Into<String>) -> Self {
        launch(config).start()
    }

    #[track_caller]
    fn wait_listening(&mut self) {
        if let Err(why) = self.process.announced(self.listeners) {
            panic!("keyway serve: {why}\n{}", self.process.output());
        }
        self.urls = self.process.addresses();
    }

    /// kill -9, and the end of the process.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait(START_MAX);
    }

    /// The same command in the same folder once more; the one before has ended. Its ports are others.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process = Process::spawn(&self.recipe, self.dir.path());
        self.wait_listening();
    }

    /// `http://127.0.0.1:PORT` of the first listener.
    pub fn base(&self) -> &str {
        &self.urls[0]
    }

    /// All addresses as announced.
    pub fn addresses(&self) -> &[String] {
        &self.urls
    }

    /// A URL of the first listener; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base())
    }

    /// The folder of the config, for files that it refers to.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_path(&self) -> &Path {
        &self.config
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The file as it stands.
    #[track_caller]
    pub fn config(&self) -> String {
        std::fs::read_to_string(&self.config).unwrap()
    }

    /// What stands in the folder of the config, and in its state directory, without the two.
    pub fn strangers(&self) -> Vec<String> {
        let folder = self.config.parent().unwrap();
        let names = |of: &Path| {
            let entries = std::fs::read_dir(of).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let mut all = names(folder);
        all.retain(|name| name.contains(".keyway-tmp") || name.ends_with(".new"));
        let state = names(&folder.join(".keyway"));
        all.extend(state.into_iter().filter(|name| !matches!(&**name, ".gitignore" | "sealing.key")));
        all
    }

    /// Puts another config in place by rename, the way careful editors write.
    pub fn write_config(&self, text: &str) {
        let beside = self.dir.path().join(".config.json.next");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &self.config).unwrap();
    }

    /// Puts another config in place by truncating and writing, the way careless ones do.
    pub fn overwrite_config(&self, text: &str) {
        std::fs::write(&self.config, text).unwrap();
    }

    /// `GET /api/config/status`.
    pub async fn status(&self) -> Value {
        let reply = client::get(&self.url("/api/config/status")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// The number of the generation that serves now.
    pub async fn generation(&self) -> u64 {
        let status = self.status().await;
        status["running"]["generation"].as_u64().unwrap_or_else(|| panic!("no running.generation in {status}"))
    }

    /// Waits until generation `at_least` serves; returns the status that said so.
    pub async fn wait_generation(&self, at_least: u64) -> Value {
        self.wait_status(&format!("generation {at_least}"), |status| {
            status["running"]["generation"].as_u64().is_some_and(|number| number >= at_least)
        })
        .await
    }

    /// Waits until the last look at the file is reported as a failure; returns the status.
    pub async fn wait_refused(&self) -> Value {
        self.wait_status("a refused config", |status| !status["last_error"].is_null()).await
    }

    pub async fn wait_status(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = tokio::time::timeout(client::PATIENCE, async {
            client::poll(client::PATIENCE * 2, what, async || {
                last = self.status().await;
                is_it(&last).then_some(())
            })
            .await;
        })
        .await;
        assert!(found.is_ok(), "waited for {what}; status {last}\n{}", self.process.output());
        last
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGTERM; returns the exit code (128 + number when a signal ended it).
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> i32 {
        self.process.wait(Duration::from_secs(40))
    }

    /// What it printed so far, stdout and stderr as they came.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// `keyway mock` as a process of its own: an upstream over TCP.
pub struct Mock {
    process: Process,
    url: String,
    _dir: TempDir,
}

impl Mock {
    #[track_caller]
    pub fn start() -> Self {
        let dir = TempDir::with_prefix("keyway-it-").unwrap();
        let arguments = ["mock", "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
        let process = Process::spawn(&Recipe { arguments, ..Recipe::default() }, dir.path());
        if let Err(why) = process.announced(1) {
            panic!("keyway mock: {why}\n{}", process.output());
        }
        let url = process.addresses().remove(0);
        Self { process, url, _dir: dir }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.url
    }

    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Runs a command of the binary to its end: exit code, stdout, stderr.
pub fn run(arguments: &[&str], env: &[(&str, &str)], dir: &Path) -> (i32, String, String) {
    let output = command(&[], env.iter().copied(), dir).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (exit_code(output.status), text(&output.stdout), text(&output.stderr))
}

/// The environment of the developer must not reach a gateway under test: a provider key in it would
/// make a test call the world.
fn command<'a>(through: &[String], env: impl Iterator<Item = (&'a str, &'a str)>, dir: &Path) -> Command {
    let words: Vec<&str> = through.iter().map(String::as_str).chain([BINARY]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env).current_dir(dir).stdin(Stdio::null());
    command
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(-1)
}

/// A child whose output is collected by two threads.
struct Process {
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
    fn spawn(recipe: &Recipe, dir: &Path) -> Self {
        let env = recipe.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut command = command(&recipe.through, env, dir);
        let mut child = command.args(&recipe.arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let printed = Arc::new(Printed::default());
        Printed::collect(&printed, child.stdout.take().unwrap());
        Printed::collect(&printed, child.stderr.take().unwrap());
        Self { child, printed }
    }

    /// Waits for `count` lines that announce an address.
    fn announced(&self, count: usize) -> Result<(), String> {
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

    fn addresses(&self) -> Vec<String> {
        self.printed.state.lock().unwrap().addresses.clone()
    }

    fn output(&self) -> String {
        self.printed.state.lock().unwrap().text.clone()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // It may be gone already, which the caller will see by its exit code.
        let _ = kill_process(pid, signal);
    }

    #[track_caller]
    fn wait(&mut self, at_most: Duration) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
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
