//! The real binary as a child process: a config of its own in a temporary folder, ports chosen by
//! the kernel, everything it prints kept for the message of a failing test.
//!
//! Sees the gateway as an operator does: files, signals, exit codes and `/api/config/status`. Waits
//! by asking that status, never by sleeping a guessed time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::client;
pub use super::process::BINARY;
use super::process::{Process, Recipe, START_MAX, command, exit_code};

/// Of `/proc/*/stat`; Linux has had no other value in user space for twenty years.
const TICKS_PER_SECOND: u64 = 100;

/// How a gateway is to be started.
pub struct Launch {
    config: String,
    file_name: String,
    recipe: Recipe,
    listeners: usize,
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

    /// A command of the shell that is run first, in the same process: `ulimit -n 64`.
    pub fn under(mut self, command: &str) -> Self {
        self.recipe.through =
            ["/bin/sh", "-c", &format!("{command} && exec \"$0\" \"$@\"")].map(str::to_owned).to_vec();
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
        self.process.id()
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
        let ours = |name: &String| matches!(&**name, ".gitignore" | "sealing.key") || name.starts_with("state.sqlite");
        all.extend(state.into_iter().filter(|name| !ours(name)));
        all
    }

    /// Memory in use, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Time on the processor since the start.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
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
