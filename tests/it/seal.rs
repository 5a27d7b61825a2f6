//! `keyway seal` on real files, and a gateway that serves what it made.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::client;
use crate::support::gateway::{BINARY, Gateway, launch, run};
use crate::support::upstream::{Answer, Upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"up/m","messages":[]}"#;
const SECRET: &str = "sk-canary-0123456789abcdef";
const KEY_A: &str = "a-sealing-key-of-more-than-32-characters";
const KEY_B: &str = "another-sealing-key-of-over-32-characters";

/// Comments, tabs, one-line objects, line ends and commas as people write them.
const FILE: &str = r#"// our gateway
{
	"providers": {
		"openai": { "keys": [ {"name":"main","value":"sk-canary-openai-0123456789"} , // the first
			{"name": "second", "value": {"value": "sk-canary-second-0123456789", "env_var": "", "from_env": false}, "weight": 1.50},
			{"name": "third", "value": "env.THIRD_KEY"},
		]},
		"groq": {
			"keys": [{"value": "sk-canary-groq-0123456789"}], /* no name */
			"network_config": {"base_url": "https://groq.example", "extra_headers": {"X-Api-Key": "canary-header", "x-team": "canary-team"}},
		},
	},
	"management": {"keys": [{"name": "ops", "value": "canary-management-0123456789012345"}]},
}
"#;

fn dir() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix("keyway-seal-").unwrap()
}

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("config.json");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"];
    let output = Command::new("git").args(identity).args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_diff_is_the_sealed_lines_and_the_key_stays_out_of_git() {
    for text in [FILE.to_owned(), FILE.replace('\n', "\r\n")] {
        let dir = dir();
        let path = write(dir.path(), &text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        git(dir.path(), &["init", "-q"]);
        git(dir.path(), &["add", "-A"]);
        git(dir.path(), &["commit", "-qm", "in clear"]);
        let (_, stdout, _) = run(&["check", &path], &[], dir.path());
        assert!(stdout.contains("keyway seal"), "{stdout}");

        let (code, stdout, stderr) = run(&["seal", &path], &[], dir.path());
        assert_eq!(code, 0, "{stdout}{stderr}");
        assert!(!stdout.contains("canary") && !stderr.contains("canary"), "{stdout}{stderr}");
        for name in [
            "sealed 6 credentials",
            "openai/main: value",
            "openai/second: value",
            "groq/default: value",
            "management key ops",
        ] {
            assert!(stdout.contains(name), "{name} in {stdout}");
        }
        assert!(stdout.contains("groq: network_config.extra_headers.X-Api-Key"), "{stdout}");
        assert!(
            stderr.contains("sealing.key") && stderr.contains("not the disk") && stderr.contains("history"),
            "{stderr}"
        );

        // Only the lines that held a literal, each with nothing else changed.
        let after = read(&path);
        assert!(!after.contains("canary"), "{after}");
        let changed: Vec<(&str, &str)> = text.lines().zip(after.lines()).filter(|(old, new)| old != new).collect();
        assert_eq!((changed.len(), text.lines().count()), (5, after.lines().count()), "{after}");
        for (old, new) in changed {
            let (head, _) = old.split_once("canary").unwrap();
            let head = head.rsplit_once('"').unwrap().0;
            assert!(new.starts_with(head), "{new}");
        }
        assert!(after.contains(r#", "env_var": "", "from_env": false}, "weight": 1.50}"#), "{after}");
        assert!(after.contains(r#""value": {"value": "sealed:v1:"#), "{after}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(git(dir.path(), &["status", "--short", "-uall"]), " M config.json\n");
        assert!(git(dir.path(), &["diff", "--stat"]).contains("5 insertions(+), 5 deletions(-)"));

        // A second time there is nothing to do; what is sealed is no problem.
        let (code, stdout, _) = run(&["seal", &path], &[], dir.path());
        assert_eq!((code, stdout.contains("nothing to seal")), (0, true), "{stdout}");
        assert_eq!(read(&path), after);
        let (code, stdout, _) = run(&["check", &path], &[("THIRD_KEY", "sk-third")], dir.path());
        assert_eq!((code, stdout.trim_end()), (0, &*format!("{path}: good")), "{stdout}");
    }
}

#[test]
fn exit_codes() {
    let dir = dir();
    let (code, _, stderr) = run(&["seal", "nothing.json"], &[], dir.path());
    assert_eq!(code, 2, "{stderr}");
    assert_eq!(run(&["seal", "--old-key-env", "X"], &[], dir.path()).0, 2);
    let good = r#"{"providers": {"openai": {"keys": [{"value": "env.A"}]}}}"#;
    let path = write(dir.path(), good);
    let (code, stdout, _) = run(&["seal", &path], &[], dir.path());
    assert_eq!((code, read(&path), dir.path().join(".keyway").exists()), (0, good.to_owned(), false), "{stdout}");
    assert_eq!(run(&["seal", "--rekey", &path], &[], dir.path()).0, 0);
    assert!(!dir.path().join(".keyway").exists());

    // A config that is no good is not touched.
    let bad = r#"{"providers": {"openai": {"keys": [{"value": "sk-canary-1", "wieght": 1}]}}}"#;
    let path = write(dir.path(), bad);
    let (code, stdout, stderr) = run(&["seal", &path], &[], dir.path());
    assert_eq!((code, read(&path)), (1, bad.to_owned()));
    assert!(stdout.contains("wieght") && !stdout.contains("canary") && !stderr.contains("canary"), "{stdout}{stderr}");

    // A key that is set and missing: no other key steps in.
    let given =
        r#"{"management": {"sealing_key": "env.SEAL"}, "providers": {"openai": {"keys": [{"value": "sk-canary-1"}]}}}"#;
    let path = write(dir.path(), given);
    let (code, _, stderr) = run(&["seal", &path], &[], dir.path());
    assert_eq!((code, read(&path)), (1, given.to_owned()));
    assert!(stderr.contains("management.sealing_key") && stderr.contains("SEAL"), "{stderr}");
    let (code, _, stderr) = run(&["seal", &path], &[("SEAL", "too short")], dir.path());
    assert!(code == 1 && stderr.contains("32 characters"), "{stderr}");
    assert!(!dir.path().join(".keyway").exists());
    assert_eq!(run(&["seal", &path], &[("SEAL", KEY_A)], dir.path()).0, 0);
    assert!(!read(&path).contains("canary"));
}

#[test]
fn check_says_why_a_value_does_not_open() {
    let dir = dir();
    let path = write(
        dir.path(),
        r#"{"providers": {"openai": {"keys": [{"value": "sk-canary-0123456789"}]}, "groq": {"keys": [{"value": "env.A"}]}}}"#,
    );
    assert_eq!(run(&["seal", &path], &[], dir.path()).0, 0);
    let sealed = read(&path);
    let key = dir.path().join(".keyway/sealing.key");
    let says = |text: &str, reason: &str| {
        std::fs::write(&path, text).unwrap();
        let (code, stdout, stderr) = run(&["check", &path], &[("A", "sk-1234567890")], dir.path());
        assert!(code == 0 && stdout.contains("warning") && stdout.contains(reason), "{reason}: {stdout}{stderr}");
        assert_eq!(
            run(&["check", "--strict-env", &path], &[("A", "sk-1234567890")], dir.path()).0,
            if reason == "`chmod 600`" { 0 } else { 1 }
        );
        assert_eq!(read(&path), text);
    };
    let at = sealed.find("\"sealed:v1:").unwrap();
    let value = &sealed[at..sealed[at + 1..].find('"').unwrap() + at + 2];
    says(&sealed.replace("\"env.A\"", value), "another provider or field");
    says(&sealed.replace(value, &format!("{}\"", &value[..value.len() - 5])), "cut off or altered");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    says(&sealed, "`chmod 600`");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let kept = std::fs::read(&key).unwrap();
    std::fs::write(&key, KEY_A).unwrap();
    says(&sealed, "under another key");
    std::fs::remove_file(&key).unwrap();
    says(&sealed, "key file is missing");
    // Nothing new is sealed while the key is gone, and no key is made.
    let more = sealed.replace("\"env.A\"", "\"sk-canary-9876543210\"");
    std::fs::write(&path, &more).unwrap();
    let (code, _, stderr) = run(&["seal", &path], &[], dir.path());
    assert!(code == 1 && stderr.contains("put it back") && !stderr.contains("canary"), "{stderr}");
    assert!(read(&path) == more && !key.exists());
    std::fs::write(&key, kept).unwrap();
    assert_eq!(run(&["seal", &path], &[], dir.path()).0, 0);
    // Another version is an error of the file, not of the key.
    std::fs::write(&path, sealed.replace("sealed:v1:", "sealed:v9:")).unwrap();
    assert_eq!(run(&["check", &path], &[], dir.path()).0, 1);
}

#[test]
fn two_processes_that_race_end_with_one_key() {
    let dir = dir();
    let paths: Vec<_> = (0..6).map(|i| dir.path().join(format!("{i}.json"))).collect();
    for path in &paths {
        std::fs::write(path, r#"{"providers": {"openai": {"keys": [{"value": "sk-canary-0123456789"}]}}}"#).unwrap();
    }
    let start = |path| Command::new(BINARY).arg("seal").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let all: Vec<Child> = paths.iter().map(|path| start(path).unwrap()).collect();
    for mut one in all {
        assert!(one.wait().unwrap().success());
    }
    for path in &paths {
        let (code, stdout, _) = run(&["check", path.to_str().unwrap()], &[], dir.path());
        assert!(code == 0 && stdout.ends_with("good\n"), "{stdout}");
    }
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path().join(".keyway")).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".gitignore", "sealing.key"]);
}

#[test]
fn a_new_key_for_all_values() {
    let dir = dir();
    let path = write(dir.path(), FILE);
    let env = [("THIRD_KEY", "sk-third"), ("A", KEY_A), ("B", KEY_B)];
    let command = |arguments: &[&str]| run(&[arguments, &[&*path]].concat(), &env, dir.path());
    let good = || {
        let (code, stdout, stderr) = command(&["check", "--strict-env"]);
        assert!(code == 0 && stdout.ends_with(": good\n"), "{stdout}{stderr}");
    };
    let state = dir.path().join(".keyway");
    let key = || std::fs::read(state.join("sealing.key")).unwrap();
    assert_eq!(command(&["seal"]).0, 0);
    let (first, sealed) = (key(), read(&path));
    let (code, stdout, stderr) = command(&["seal", "--rekey"]);
    assert!(code == 0 && stdout.contains("sealed 6 credentials"), "{stdout}{stderr}");
    assert!(key() != first && read(&path) != sealed && !state.join("sealing.key.old").exists());
    assert_eq!(read(&path).len(), sealed.len());
    good();
    // Cut off with the keys in place: the next run takes up there.
    let second = key();
    std::fs::write(state.join("sealing.key.old"), &second).unwrap();
    std::fs::write(state.join("sealing.key"), &first).unwrap();
    good();
    assert_eq!(command(&["seal", "--rekey"]).0, 0);
    assert!(key() == first && !state.join("sealing.key.old").exists());
    good();
    // Another config beside still needs the old key.
    let other = dir.path().join("other.json");
    std::fs::copy(&path, &other).unwrap();
    let (code, _, stderr) = command(&["seal", "--rekey"]);
    assert!(code == 0 && stderr.contains("another config"), "{stderr}");
    let (_, stdout, _) = run(&["check", other.to_str().unwrap()], &env, dir.path());
    assert!(stdout.ends_with(": good\n"), "{stdout}");
    assert_eq!(run(&["seal", "--rekey", other.to_str().unwrap()], &env, dir.path()).0, 0);
    assert!(!state.join("sealing.key.old").exists());
    good();
    // To a key from a variable, and from there to another one.
    let with = |name: &str| {
        read(&path).replacen(
            "{\"keys\": [{\"name\": \"ops\"",
            &format!("{{\"sealing_key\": \"env.{name}\", \"keys\": [{{\"name\": \"ops\""),
            1,
        )
    };
    std::fs::write(&path, with("A")).unwrap();
    assert_eq!(command(&["check", "--strict-env"]).0, 1);
    assert_eq!(command(&["seal", "--rekey"]).0, 0);
    good();
    let under_a = read(&path).replace("env.A", "env.B");
    std::fs::write(&path, &under_a).unwrap();
    let (code, _, stderr) = command(&["seal", "--rekey"]);
    assert!(code == 1 && stderr.contains("another key") && read(&path) == under_a, "{stderr}");
    assert_eq!(command(&["seal", "--rekey", "--old-key-env", "NOPE"]).0, 1);
    assert_eq!(command(&["seal", "--rekey", "--old-key-env", "A"]).0, 0);
    good();
}

/// Killed anywhere: every value opens at every moment, and the next run ends the work.
#[test]
fn a_killed_rekey_loses_nothing() {
    let rounds: u64 = if std::env::var_os("KEYWAY_LONG").is_some() { 500 } else { 40 };
    let dir = dir();
    let path = write(dir.path(), FILE);
    let env = [("THIRD_KEY", "sk-third")];
    assert_eq!(run(&["seal", &path], &env, dir.path()).0, 0);
    let started = Instant::now();
    assert_eq!(run(&["seal", "--rekey", &path], &env, dir.path()).0, 0);
    let whole = u64::try_from(started.elapsed().as_micros()).unwrap();
    let mut killed = 0;
    for round in 0..rounds {
        let mut child = Command::new(BINARY)
            .args(["seal", "--rekey", &path])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The time is the dice here, not an order that is waited for.
        std::thread::sleep(Duration::from_micros(fastrand::u64(whole / 4..whole * 5 / 4)));
        let _ = child.kill();
        killed += u64::from(!child.wait().unwrap().success());
        let (code, stdout, stderr) = run(&["check", "--strict-env", &path], &env, dir.path());
        assert!(code == 0 && stdout.ends_with(": good\n"), "round {round}: {stdout}{stderr}");
    }
    assert_eq!(run(&["seal", "--rekey", &path], &env, dir.path()).0, 0);
    assert!(!dir.path().join(".keyway/sealing.key.old").exists());
    let (_, stdout, _) = run(&["check", "--strict-env", &path], &env, dir.path());
    assert!(stdout.ends_with(": good\n"), "{stdout}");
    println!("{killed} of {rounds} killed");
}

#[tokio::test]
async fn a_gateway_serves_sealed_keys_and_heals_with_the_key_file() {
    let upstream = Upstream::start(|seen| Answer::json(200, format!("{{\"key\":\"{}\"}}", seen.bearer())));
    let gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}},
        "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai"}},
          "network_config": {{"base_url": "{}"}}, "keys": [{{"name": "one", "value": "{SECRET}"}}]}}}}}}"#,
        upstream.base()
    ));
    let ask = async || client::post_json(&gateway.url(CHAT), BODY).await;
    let right = format!("{{\"key\":\"{SECRET}\"}}");
    assert_eq!(ask().await.text(), right);
    let path = gateway.config_path().to_str().unwrap().to_owned();
    // Under a running gateway: the same key goes on, sealed, then under another key.
    assert_eq!(run(&["seal", &path], &[], gateway.dir()).0, 0);
    gateway.wait_generation(2).await;
    assert_eq!(ask().await.text(), right);
    assert_eq!(run(&["seal", "--rekey", &path], &[], gateway.dir()).0, 0);
    let text = read(&path);
    assert!(!text.contains("canary"));
    let short = blake3::hash(text.as_bytes()).to_hex()[..8].to_owned();
    gateway
        .wait_status("the new key", |status| {
            status["running"]["hash"].as_str().is_some_and(|it| it.starts_with(&short))
        })
        .await;
    assert_eq!(ask().await.text(), right);

    // The key file goes and comes back.
    let (key, aside) = (gateway.dir().join(".keyway/sealing.key"), gateway.dir().join("aside"));
    let before = gateway.generation().await;
    std::fs::rename(&key, &aside).unwrap();
    gateway.wait_generation(before + 1).await;
    let refused = ask().await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("sealed") && !refused.text().contains("canary"), "{}", refused.text());
    let metrics = client::get(&gateway.url("/metrics")).await.text();
    assert!(metrics.contains("sealed_unreadable"), "{metrics}");
    std::fs::rename(&aside, &key).unwrap();
    gateway.wait_generation(before + 2).await;
    assert_eq!(ask().await.text(), right);
    assert!(!gateway.output().contains("canary"), "{}", gateway.output());
}

#[tokio::test]
async fn a_given_key_opens_what_it_sealed() {
    let upstream = Upstream::start(|seen| Answer::json(200, format!("{{\"key\":\"{}\"}}", seen.bearer())));
    let dir = dir();
    let path = write(
        dir.path(),
        &format!(
            r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "management": {{"sealing_key": "env.SEAL"}},
        "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai"}},
          "network_config": {{"base_url": "{}"}}, "keys": [{{"value": "{SECRET}"}}]}}}}}}"#,
            upstream.base()
        ),
    );
    assert_eq!(run(&["seal", &path], &[("SEAL", KEY_A)], dir.path()).0, 0);
    let sealed = read(&path);
    for (key, status) in [(Some(KEY_A), 200), (Some(KEY_B), 503), (None, 503)] {
        let mut start = launch(sealed.clone());
        if let Some(key) = key {
            start = start.env("SEAL", key);
        }
        let gateway = start.start();
        let reply = client::post_json(&gateway.url(CHAT), BODY).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(reply.text().contains(SECRET), status == 200);
        assert_eq!(std::fs::read_to_string(gateway.config_path()).unwrap(), sealed);
    }
}
