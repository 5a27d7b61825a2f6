//! A Redis of a test's own, on a port of its own: `make tools` unpacks one where the machine has none.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::needs::not_run;

pub struct Redis {
    program: PathBuf,
    libraries: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    password: &'static str,
    child: Option<Child>,
}

impl Redis {
    /// Started; `None` where there is none to start.
    pub fn start(test: &str, password: &'static str) -> Option<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/redis/usr");
        let is_own = own.join("bin/redis-server").exists();
        let program = if is_own { own.join("bin/redis-server") } else { PathBuf::from("redis-server") };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let libraries = own.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH));
        let dir = tempfile::tempdir().unwrap();
        let mut redis = Self { program, libraries, dir, port, password, child: None };
        if redis.command().arg("--version").stdout(Stdio::null()).status().is_err() {
            not_run(&format!("not run: {test} needs redis: `make tools`"));
            return None;
        }
        redis.resume();
        Some(redis)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LD_LIBRARY_PATH", &self.libraries).current_dir(self.dir.path());
        command
    }

    /// Starts it, with nothing in it.
    pub fn resume(&mut self) {
        let port = self.port.to_string();
        let mut command = self.command();
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        if !self.password.is_empty() {
            command.args(["--requirepass", self.password]);
        }
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "redis does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn url(&self) -> String {
        match self.password {
            "" => format!("redis://127.0.0.1:{}/0", self.port),
            password => format!("redis://:{password}@127.0.0.1:{}/2", self.port),
        }
    }

    /// What a project has spent, of all gateways and hours.
    pub fn tokens(&self, project: &str) -> u64 {
        let names = self.ask(&format!("KEYS keyway/spend/{project}/*"));
        let names = names.lines().filter(|line| line.starts_with("keyway/"));
        let values = names.map(|name| self.ask(&format!("HVALS {name}")));
        let tokens =
            |text: String| -> u64 { text.lines().filter_map(|line| line.split_once(' ')?.1.parse::<u64>().ok()).sum() };
        values.map(tokens).sum()
    }

    /// What it answers to a line.
    pub fn ask(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
