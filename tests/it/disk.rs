//! A disk that refuses, under a running gateway: what an API write answers then, and that file and
//! memory stay as they were.
//!
//! Single system calls fail by strace. A read-only directory, mounts and a full file system are
//! real ones, in a mount namespace of the gateway's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::gateway::{Gateway, Launch, launch};
use crate::support::keys::{Keys, code};
use crate::support::needs::not_run;
use crate::support::strace::Strace;

const FILE: &str = r#"{
  "server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false},
  "providers": {"openai": {"keys": [
    {"id": "main", "name": "main", "value": "env.MAIN_KEY", "weight": 1} // by hand
  ]}}
}
"#;
const SECRET: &str = "sk-literal-0123456789abcdef";

fn gateway() -> Launch {
    launch(FILE).env("MAIN_KEY", "sk-main-0123456789")
}

fn keys(gateway: &Gateway) -> Keys {
    Keys::of(gateway.base(), "openai")
}

fn weighing(weight: u32) -> Value {
    json!({"name": "main", "value": "env.MAIN_KEY", "weight": weight})
}

fn with_weight(weight: u32) -> String {
    FILE.replace("\"weight\": 1", &format!("\"weight\": {weight}"))
}

const WRITE_FAILED: &str = "config_write_failed";
const READ_ONLY: &str = "config_read_only";

/// What a failing call comes to: refused so, unless the write gets around it.
fn refusal(errno: &str) -> (u16, &'static str) {
    match errno {
        "ENOSPC" | "EDQUOT" => (507, WRITE_FAILED),
        "EROFS" | "EBUSY" | "EACCES" | "EPERM" | "EXDEV" => (409, READ_ONLY),
        _ => (500, WRITE_FAILED),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// At one of its occurrences at least.
    Refused,
    Written,
}
use Outcome::{Refused, Written};

/// Each call of a write, and what may be wrong with it.
const CALLS: [(&str, &[&str], Outcome); 9] = [
    (OPEN, &["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES"], Refused),
    ("fchmod", &["EPERM", "EROFS", "EIO"], Refused),
    (WRITE, &["ENOSPC", "EDQUOT", "EIO"], Refused),
    (WRITE, &["EINTR"], Written),
    ("fsync", &["ENOSPC", "EDQUOT", "EIO", "EROFS"], Refused),
    ("renameat2", &["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EBUSY", "EXDEV"], Refused),
    // File systems that cannot exchange.
    ("renameat2", &["EINVAL", "ENOSYS", "EOPNOTSUPP"], Written),
    (RENAME, &["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EBUSY"], Refused),
    ("?unlink,?unlinkat", &["EIO", "EROFS", "EACCES", "EBUSY"], Written),
];
const OPEN: &str = "?open,openat";
const WRITE: &str = "pwrite64";
/// Used where renameat2 is not there.
const RENAME: &str = "?rename,?renameat";
/// Of one call in one write.
const OCCURRENCES_MAX: u32 = 20;

/// One gateway, and a weight that goes up with each write.
struct Stand {
    gateway: Gateway,
    weight: u32,
}

impl Stand {
    /// A write under what was attached; then all that must hold, whatever came of it.
    async fn write(&mut self, what: &str) -> Reply {
        let (keys, old) = (keys(&self.gateway), self.weight);
        let (before, generation) = (self.gateway.config(), self.gateway.generation().await);
        let reply = keys.put("main", &weighing(old + 1)).await;
        let (text, shown) = (self.gateway.config(), keys.get("main").await.json());
        if reply.status == 200 {
            self.weight += 1;
            assert_eq!((text, &shown["weight"]), (with_weight(old + 1), &json!(old + 1)), "{what}");
        } else {
            assert_eq!((&text, &shown["weight"]), (&before, &json!(old)), "{what}: {}", reply.text());
            assert_eq!(self.gateway.generation().await, generation, "{what}");
            let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
            let names_the_file = message.contains(self.gateway.config_path().to_str().unwrap());
            assert!(names_the_file || code(&reply) == "config_on_disk_invalid", "{what}: {message}");
        }
        reply
    }

    /// Nothing is left, nothing is said to be wrong, and the next write works.
    async fn is_well(&mut self, what: &str) {
        assert_eq!(self.gateway.strangers(), Vec::<String>::new(), "{what}");
        self.is_quiet().await;
        assert_eq!(self.write(what).await.status, 200, "the write after {what}");
    }

    async fn is_quiet(&self) {
        let well = |status: &Value| status["last_error"].is_null() && status["on_disk"]["drift"] == false;
        self.gateway.wait_status("a healthy config", well).await;
    }
}

#[tokio::test]
async fn system_calls_fail_one_by_one() {
    let Some(strace) = Strace::find("failing system calls") else { return };
    let mut stand = Stand { gateway: gateway().start(), weight: 1 };
    let (mut cases, mut refused_cases) = (0, 0);
    for (call, errnos, outcome) in CALLS {
        for errno in errnos {
            let (mut hit, mut refused) = (0, 0);
            let mut when = 1;
            while when <= OCCURRENCES_MAX {
                let what = format!("{call} {errno} {when}");
                let mut rules = vec![format!("{call}:error={errno}:when={when}")];
                if call == RENAME {
                    rules.push("renameat2:error=ENOSYS".to_owned());
                }
                let tracer = strace.attach(stand.gateway.pid(), &rules).unwrap();
                let reply = stand.write(&what).await;
                let tampered = tracer.detach();
                if reply.status != 200 {
                    let got = (reply.status.as_u16(), code(&reply));
                    // A first look that fails is about the file on disk.
                    let unread = call == OPEN && got == (409, "config_on_disk_invalid".to_owned());
                    let expected = refusal(errno);
                    assert!(unread || got == (expected.0, expected.1.to_owned()), "{what}: {}", reply.text());
                    refused += u32::from(!unread);
                }
                let met = tampered > usize::from(call == RENAME);
                if met && call.contains("unlink") {
                    // Left lying, and gone with the next start.
                    assert_eq!(stand.gateway.strangers().len(), 1, "{what}");
                    stand.gateway.kill();
                    stand.gateway.restart();
                }
                stand.is_well(&what).await;
                if !met {
                    break;
                }
                (hit, cases, when) = (hit + 1, cases + 1, when + 1);
            }
            assert!(hit > 0, "{call} does not occur");
            assert_eq!(refused > 0, outcome == Refused, "{call} {errno}");
            refused_cases += refused;
        }
    }
    println!("failing system calls: {cases} cases, {refused_cases} refused, {} writes", stand.weight - 1);
}

/// What comes after the exchange fails, and the way back is not easy either.
#[tokio::test]
async fn the_way_back_fails_too() {
    let Some(strace) = Strace::find("failing system calls on the way back") else { return };
    let mut stand = Stand { gateway: gateway().start(), weight: 1 };
    let rules = ["fsync:error=EIO:when=2+", "renameat2:error=EIO:when=2+"].map(str::to_owned);
    let tracer = strace.attach(stand.gateway.pid(), &rules).unwrap();
    let reply = stand.write("no second exchange").await;
    assert_eq!((reply.status.as_u16(), &*code(&reply)), (500, WRITE_FAILED), "{}", reply.text());
    assert!(tracer.detach() > 1);
    stand.is_well("no second exchange").await;
    // By rename there is no displaced file: the old text is written anew.
    let rules = ["fsync:error=EIO:when=2", "renameat2:error=EINVAL"].map(str::to_owned);
    let tracer = strace.attach(stand.gateway.pid(), &rules).unwrap();
    let reply = stand.write("no exchange").await;
    assert_eq!((reply.status.as_u16(), &*code(&reply)), (500, WRITE_FAILED), "{}", reply.text());
    assert!(tracer.detach() > 1);
    stand.is_well("no exchange").await;
    let status = stand.gateway.status().await;
    assert_eq!(status["write_mode"], "exchange", "{status}");
}

/// The sealing key is made with the first literal: where that fails, nothing is written.
#[tokio::test]
async fn a_sealing_key_that_cannot_be_made() {
    let Some(strace) = Strace::find("failing system calls of the sealing key") else { return };
    let gateway = gateway().start();
    let (keys, state) = (keys(&gateway), gateway.dir().join(".keyway"));
    let body = json!({"id": "new", "name": "new", "value": SECRET});
    let (mut cases, mut refused) = (0, 0);
    for call in ["?mkdir,?mkdirat", OPEN, "fsync", "linkat"] {
        for errno in ["ENOSPC", "EIO", "EROFS", "EACCES"] {
            for when in 1..=OCCURRENCES_MAX {
                let what = format!("{call} {errno} {when}");
                let tracer = strace.attach(gateway.pid(), &[format!("{call}:error={errno}:when={when}")]).unwrap();
                let reply = keys.create(&body).await;
                let met = tracer.detach() > 0;
                assert!(!reply.text().contains("literal"), "{}", reply.text());
                if reply.status != 200 {
                    let code = code(&reply);
                    let known = [WRITE_FAILED, READ_ONLY, "sealing_unavailable", "config_on_disk_invalid"];
                    assert!(known.contains(&&*code), "{what}: {}", reply.text());
                    assert_eq!(gateway.config(), FILE, "{what}");
                    assert_eq!(gateway.strangers(), Vec::<String>::new(), "{what}");
                    refused += u32::from(code == "sealing_unavailable");
                    let well = |status: &Value| status["last_error"].is_null() && status["on_disk"]["drift"] == false;
                    gateway.wait_status("a healthy config", well).await;
                    let reply = keys.create(&body).await;
                    assert_eq!(reply.status, 200, "after {what}: {}", reply.text());
                }
                assert!(!gateway.config().contains(SECRET), "{what}");
                assert_eq!(keys.delete("new").await.status, 200, "{what}");
                assert_eq!(gateway.config(), FILE, "{what}");
                std::fs::remove_dir_all(&state).unwrap();
                if !met {
                    break;
                }
                cases += 1;
            }
        }
    }
    assert!(refused > 20, "{refused} of {cases}");
    assert!(!gateway.output().contains(SECRET));
    println!("sealing key: {cases} failing calls, {refused} refused");
}

/// 409 `config_read_only` that names the file and says `fix`; old state, nothing left.
async fn is_read_only(gateway: &Gateway, fix: &str) {
    let reply = keys(gateway).put("main", &weighing(2)).await;
    assert_eq!((reply.status.as_u16(), &*code(&reply)), (409, READ_ONLY), "{}", reply.text());
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(gateway.config_path().to_str().unwrap()) && message.contains(fix), "{message}");
    assert_eq!((gateway.config().as_str(), gateway.strangers()), (FILE, vec![]));
    assert_eq!(keys(gateway).get("main").await.json()["weight"], 1);
    // A literal needs a sealing key, for which there is no place either.
    let reply = keys(gateway).create(&json!({"name": "new", "value": SECRET})).await;
    assert_eq!(reply.status, 409, "{}", reply.text());
    assert!(["sealing_unavailable", READ_ONLY].contains(&&*code(&reply)), "{}", reply.text());
    assert!(!reply.text().contains(SECRET) && !gateway.config().contains(SECRET));
    assert_eq!(gateway.generation().await, 1);
}

#[tokio::test]
async fn a_directory_without_write_permission() {
    let mut launch = gateway();
    if rustix::process::getuid().is_root() {
        // Root may write anywhere, unless it gives that up.
        let command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"];
        let probe = Command::new(command[0]).args(&command[1..]).arg("true").output();
        if !probe.is_ok_and(|it| it.status.success()) {
            return not_run("not run: a directory without write permission needs setpriv of util-linux");
        }
        launch = launch.through(&command);
    }
    let gateway = launch.start();
    let set = |mode| std::fs::set_permissions(gateway.dir(), PermissionsExt::from_mode(mode)).unwrap();
    set(0o555);
    is_read_only(&gateway, "write to its directory").await;
    set(0o755);
    assert_eq!(keys(&gateway).put("main", &weighing(2)).await.status, 200);
    assert_eq!(gateway.config(), with_weight(2));
}

/// A gateway behind `script`, which may mount what it likes; it runs in the gateway's folder.
#[track_caller]
fn behind(script: &str, test: &str) -> Option<Launch> {
    let ways = [["unshare", "--mount"].as_slice(), &["unshare", "--map-root-user", "--mount"]];
    // A mount must be allowed too, not just a namespace.
    let works = |way: &&[&str]| {
        let probe = ["sh", "-c", "mount -t tmpfs none /tmp"];
        Command::new(way[0]).args(&way[1..]).args(probe).output().is_ok_and(|it| it.status.success())
    };
    let Some(way) = ways.into_iter().find(works) else {
        not_run(&format!("not run: {test} needs a mount namespace (root, or user namespaces)"));
        return None;
    };
    let script = format!("set -e; {script}; exec \"$@\"");
    Some(gateway().through(&[way, &["sh", "-c", &script, "sh"]].concat()))
}

#[tokio::test]
async fn a_file_that_is_a_mount_of_its_own() {
    let script = "mount --bind config.json config.json";
    let Some(launch) = behind(script, "a bind-mounted file") else { return };
    let gateway = launch.start();
    let reply = keys(&gateway).put("main", &weighing(2)).await;
    assert_eq!((reply.status.as_u16(), &*code(&reply)), (409, READ_ONLY), "{}", reply.text());
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("mount its directory instead"), "{message}");
    assert!(message.contains(gateway.config_path().to_str().unwrap()), "{message}");
    assert_eq!((gateway.config().as_str(), gateway.strangers()), (FILE, vec![]));
    // What a hand writes into it is seen.
    gateway.overwrite_config(&with_weight(3));
    gateway.wait_generation(2).await;
    assert_eq!(keys(&gateway).get("main").await.json()["weight"], 3);
}

#[tokio::test]
async fn a_read_only_mount() {
    let script = "mount --bind . . && mount -o remount,bind,ro .";
    let Some(launch) = behind(script, "a read-only mount") else { return };
    is_read_only(&launch.start(), "mount the directory of the file writable").await;
}

#[tokio::test]
async fn a_full_file_system() {
    let script = "mkdir full; mount -t tmpfs -o size=64k none full; cp seed full/config.json";
    let Some(launch) = behind(script, "a full file system") else { return };
    let dir = tempfile::TempDir::with_prefix("keyway-it-").unwrap();
    std::fs::write(dir.path().join("seed"), FILE).unwrap();
    let gateway = launch.file_name("full/config.json").start_in(dir);
    // What the gateway sees there.
    let full: PathBuf = Path::new("/proc").join(gateway.pid().to_string()).join("root");
    let full = full.join(gateway.dir().strip_prefix("/").unwrap()).join("full");
    let config = || std::fs::read_to_string(full.join("config.json")).unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let keys = keys(&gateway);
    assert_eq!(keys.put("main", &weighing(2)).await.status, 200, "there is room");
    let filler = full.join("filler");
    assert!(std::fs::write(&filler, vec![b'x'; 64 * 1024]).is_err(), "it does not fit");
    for (body, status, codes) in [
        (weighing(3), 507, &[WRITE_FAILED][..]),
        (json!({"name": "main", "value": SECRET}), 409, &["sealing_unavailable"]),
    ] {
        let reply = keys.put("main", &body).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(codes.contains(&&*code(&reply)), "{}", reply.text());
        assert!(reply.text().contains("No space left on device") && !reply.text().contains(SECRET), "{}", reply.text());
        assert_eq!(config(), with_weight(2));
        assert_eq!(keys.get("main").await.json()["weight"], 2);
    }
    let left: Vec<_> = names().into_iter().filter(|name| name != ".keyway").collect();
    assert_eq!(left, ["config.json", "filler"]);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(keys.put("main", &weighing(3)).await.status, 200);
    assert_eq!(keys.put("main", &json!({"name": "main", "value": SECRET})).await.status, 200);
    assert!(config().contains("sealed:v1:"), "{}", config());
}
