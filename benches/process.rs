//! The gateways as processes: started on their own core, their CPU time read from `/proc`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

use crate::cases;

/// `/proc/PID/stat` counts in these; the kernel's USER_HZ is 100 wherever Linux runs.
const TICKS_PER_SECOND: u32 = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bare,
    Keyway,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Keyway => "keyway",
        }
    }
}

/// A gateway under test; killed when it is dropped.
pub struct Gateway {
    pub kind: Kind,
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    _dir: TempDir,
}

/// Binds the calling thread, and what it starts, to one core.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("pinning to a core");
}

/// User and system time of a whole process, all threads, those that ended too.
pub fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is alive");
    // The second field is the name in parentheses and may hold anything.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).map(|field| field.parse::<u32>().unwrap()).sum();
    Duration::from_secs(1) * ticks / TICKS_PER_SECOND
}

impl Gateway {
    pub fn start(kind: Kind, upstream: SocketAddr) -> Self {
        // Its log goes to memory: default logging is part of what is measured, the disk is not.
        let shared = PathBuf::from("/dev/shm");
        let root = if shared.is_dir() { shared } else { std::env::temp_dir() };
        let dir = TempDir::with_prefix_in("keyway-bench-", root).unwrap();
        let log = dir.path().join("log");
        let output = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = match kind {
            Kind::Bare => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["bare", &upstream.to_string()]);
                command
            }
            Kind::Keyway => {
                let config = dir.path().join("config.json");
                std::fs::File::create(&config).unwrap().write_all(cases::config(upstream).as_bytes()).unwrap();
                let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
                command.arg("serve").arg("--config").arg(config);
                command
            }
        };
        command.env_clear().current_dir(dir.path()).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        // A child inherits the core of the thread that starts it.
        pin(crate::GATEWAY_CORE);
        let child = command.spawn().expect("starting a gateway");
        pin(crate::LOAD_CORE);
        let mut gateway = Self { kind, child, address: ([127, 0, 0, 1], 0).into(), log, _dir: dir };
        gateway.address = gateway.announced();
        gateway
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// Keeps the memory that the log takes bounded.
    pub fn forget_log(&self) {
        std::fs::File::options().write(true).open(&self.log).unwrap().set_len(0).unwrap();
    }

    fn announced(&mut self) -> SocketAddr {
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap();
            if let Some((_, rest)) = log.split_once("listening on http://") {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:[]".contains(c)));
                if let Some(address) = end.and_then(|end| rest[..end].parse().ok()) {
                    return address;
                }
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < Duration::from_secs(10),
                "{} did not start ({ended:?}):\n{log}",
                self.kind.name()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
