//! The config under git: what an API write changes there, and what git changes under the gateway.
//!
//! The lines of `git diff -U0` are compared as they are, for a diff that nobody would have typed is
//! a fault even where the config that comes out is right.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use crate::support::gateway::{Gateway, launch};
use crate::support::keys::{Keys, code};

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let identity =
        ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false"];
    let mut command = Command::new("git");
    // What the developer has configured is none of it.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(identity).args(arguments).current_dir(dir);
    command
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = command(dir, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Lines that go and lines that come, each with its sign; line ends made visible.
fn diff(dir: &Path) -> Vec<String> {
    let text = git(dir, &["diff", "-U0", "--no-color"]);
    let body = text
        .split('\n')
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"));
    body.map(|line| line.replace('\r', "<CR>")).collect()
}

/// `added removed` of `git diff --numstat`, for the whole work tree.
fn numstat(dir: &Path) -> String {
    git(dir, &["diff", "--numstat"]).replace('\t', " ")
}

/// Spaces, one-line keys, a comma after none.
const PLAIN: &str = r#"{
  // Who may be asked.
  "server": {"listen": ["127.0.0.1:0"]},
  "providers": {
    "openai": {
      "keys": [
        {"id": "a", "name": "first", "value": "env.FIRST_KEY", "weight": 1.50}, // half as much again
        {"id": "b", "name": "second", "value": "env.SECOND_KEY"} /* the last */
      ]
    }
  }
}
"#;

/// Tabs, a member per line, a comma after all.
const TALL: &str = r#"// Tabs.
{
	"server": { "listen": ["127.0.0.1:0"] },
	"providers": {
		"openai": {
			"keys": [
				{
					"id": "a",
					"name": "first", // by hand
					"value": "env.FIRST_KEY",
					"weight": 1e0,
				},
				{
					"id": "b",
					"name": "second",
					"value": "env.SECOND_KEY",
				},
			],
		},
	},
}
"#;

/// All on one line, as a machine would write it.
const FLAT: &str = r#"{"server":{"listen":["127.0.0.1:0"]},"providers":{"openai":{"keys":[{"id":"a","name":"first","value":"env.FIRST_KEY"},{"id":"b","name":"second","value":"env.SECOND_KEY"}]}}}
"#;

const ENV: [(&str, &str); 3] =
    [("FIRST_KEY", "sk-first-00000000"), ("SECOND_KEY", "sk-second-0000000"), ("THIRD_KEY", "sk-third-00000000")];

/// A gateway on a repository with one commit.
fn committed(text: &str, furnish: impl FnOnce(&Path)) -> Gateway {
    let dir = tempfile::TempDir::with_prefix("keyway-it-").unwrap();
    furnish(dir.path());
    let config = dir.path().join("config.json");
    if !config.exists() {
        std::fs::write(&config, text).unwrap();
    }
    git(dir.path(), &["init", "-q"]);
    commit(dir.path(), "by hand");
    ENV.iter().fold(launch(""), |launch, (name, value)| launch.env(name, value)).start_in(dir)
}

fn commit(dir: &Path, message: &str) {
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-qm", message]);
}

/// One write, the lines that it may touch, and the commit of it.
struct Step {
    method: Method,
    id: &'static str,
    body: Value,
    lines: Vec<String>,
}

fn step(method: Method, id: &'static str, body: Value, lines: &[&str]) -> Step {
    Step { method, id, body, lines: lines.iter().map(|&line| line.to_owned()).collect() }
}

/// Makes the steps, each on a clean work tree. `<now>` stands for a time.
async fn walk(gateway: &Gateway, steps: Vec<Step>) -> usize {
    let (dir, keys) = (gateway.dir(), Keys::of(gateway.base(), "openai"));
    let count = steps.len();
    for (number, step) in steps.into_iter().enumerate() {
        let what = format!("step {number}: {} {}", step.method, step.body);
        let path = if step.method == Method::POST { "" } else { step.id };
        let reply = keys.call(step.method, path, None, &step.body).await.unwrap();
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        let lines: Vec<String> = diff(dir).iter().map(|line| without_times(line)).collect();
        assert_eq!(lines, step.lines, "{what}");
        let (added, removed) = (count_of('+', &lines), count_of('-', &lines));
        let expected = if lines.is_empty() { String::new() } else { format!("{added} {removed} config.json\n") };
        assert_eq!(numstat(dir), expected, "{what}");
        assert_eq!(git(dir, &["status", "--short", "-uall"]).lines().count(), usize::from(!lines.is_empty()), "{what}");
        if !lines.is_empty() {
            commit(dir, &what);
        }
    }
    count
}

fn count_of(sign: char, lines: &[String]) -> usize {
    lines.iter().filter(|line| line.starts_with(sign)).count()
}

/// What stands after `_at": "` becomes `<now>`.
fn without_times(line: &str) -> String {
    let mut parts = line.split("_at\":");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (space, rest) = part.split_once('"').unwrap();
        let (time, rest) = rest.split_once('"').unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{line}");
        text.push_str(&format!("_at\":{space}\"<now>\"{rest}"));
    }
    text
}

#[tokio::test]
async fn one_line_keys() {
    let gateway = committed(PLAIN, |_| {});
    let new = json!({"id": "c", "name": "third", "value": "env.THIRD_KEY"});
    let steps = vec![
        // What is there already changes nothing.
        step(Method::PUT, "a", json!({"weight": 1.5}), &[]),
        step(
            Method::PUT,
            "a",
            json!({"weight": 2}),
            &[
                r#"-        {"id": "a", "name": "first", "value": "env.FIRST_KEY", "weight": 1.50}, // half as much again"#,
                r#"+        {"id": "a", "name": "first", "value": "env.FIRST_KEY", "weight": 2}, // half as much again"#,
            ],
        ),
        step(
            Method::POST,
            "c",
            new,
            &[
                r#"-        {"id": "b", "name": "second", "value": "env.SECOND_KEY"} /* the last */"#,
                r#"+        {"id": "b", "name": "second", "value": "env.SECOND_KEY"}, /* the last */"#,
                r#"+        {"id": "c", "name": "third", "value": "env.THIRD_KEY", "created_at": "<now>", "updated_at": "<now>"}"#,
            ],
        ),
        step(
            Method::PUT,
            "b",
            json!({"name": "other", "models": ["gpt-4o", "o3"]}),
            &[
                r#"-        {"id": "b", "name": "second", "value": "env.SECOND_KEY"}, /* the last */"#,
                r#"+        {"id": "b", "name": "other", "value": "env.SECOND_KEY", "models": ["gpt-4o", "o3"]}, /* the last */"#,
            ],
        ),
        step(
            Method::DELETE,
            "c",
            Value::Null,
            &[
                r#"-        {"id": "b", "name": "other", "value": "env.SECOND_KEY", "models": ["gpt-4o", "o3"]}, /* the last */"#,
                r#"-        {"id": "c", "name": "third", "value": "env.THIRD_KEY", "created_at": "<now>", "updated_at": "<now>"}"#,
                r#"+        {"id": "b", "name": "other", "value": "env.SECOND_KEY", "models": ["gpt-4o", "o3"]} /* the last */"#,
            ],
        ),
    ];
    println!("git, one-line keys: {} writes", walk(&gateway, steps).await);
}

#[tokio::test]
async fn a_member_per_line_and_both_line_ends() {
    let mut count = 0;
    for end in ["\n", "\r\n"] {
        let gateway = committed(&TALL.replace('\n', end), |_| {});
        let cr = if end == "\n" { "" } else { "<CR>" };
        let with = |method, id, body, lines: &[&str]| Step {
            lines: lines.iter().map(|line| format!("{line}{cr}")).collect(),
            ..step(method, id, body, &[])
        };
        let steps = vec![
            with(Method::PUT, "a", json!({"weight": 1}), &[]),
            with(Method::PUT, "a", json!({"weight": 7}), &["-\t\t\t\t\t\"weight\": 1e0,", "+\t\t\t\t\t\"weight\": 7,"]),
            with(Method::PUT, "b", json!({"enabled": false}), &["+\t\t\t\t\t\"enabled\": false,"]),
            with(
                Method::POST,
                "c",
                json!({"id": "c", "name": "third", "value": "env.THIRD_KEY", "weight": 0.25}),
                &[
                    "+\t\t\t\t{",
                    "+\t\t\t\t\t\"id\": \"c\",",
                    "+\t\t\t\t\t\"name\": \"third\",",
                    "+\t\t\t\t\t\"value\": \"env.THIRD_KEY\",",
                    "+\t\t\t\t\t\"weight\": 0.25,",
                    "+\t\t\t\t\t\"created_at\": \"<now>\",",
                    "+\t\t\t\t\t\"updated_at\": \"<now>\",",
                    "+\t\t\t\t},",
                ],
            ),
            with(
                Method::DELETE,
                "b",
                Value::Null,
                &[
                    "-\t\t\t\t{",
                    "-\t\t\t\t\t\"id\": \"b\",",
                    "-\t\t\t\t\t\"name\": \"second\",",
                    "-\t\t\t\t\t\"value\": \"env.SECOND_KEY\",",
                    "-\t\t\t\t\t\"enabled\": false,",
                    "-\t\t\t\t},",
                ],
            ),
        ];
        count += walk(&gateway, steps).await;
        assert_eq!(gateway.config().matches('\r').count() > 0, end == "\r\n");
    }
    println!("git, a member per line: {count} writes");
}

#[tokio::test]
async fn one_line_for_all() {
    let gateway = committed(FLAT, |_| {});
    let line = |sign: &str, inside: &str| {
        format!("{sign}{}", FLAT.trim_end().replace(r#""name":"first","value":"env.FIRST_KEY""#, inside))
    };
    let first = r#""name":"first","value":"env.FIRST_KEY""#;
    let second = r#""name":"first","value":"env.THIRD_KEY""#;
    let steps = vec![Step {
        lines: vec![line("-", first), line("+", second)],
        ..step(Method::PUT, "a", json!({"value": "env.THIRD_KEY"}), &[])
    }];
    walk(&gateway, steps).await;
}

/// Mode and links stay, and the state directory is none of git's business.
#[tokio::test]
async fn behind_a_link_with_a_mode() {
    let furnish = |dir: &Path| {
        std::fs::create_dir(dir.join("deep")).unwrap();
        std::fs::write(dir.join("deep/real.json"), PLAIN).unwrap();
        std::fs::set_permissions(dir.join("deep/real.json"), PermissionsExt::from_mode(0o640)).unwrap();
        symlink("deep/real.json", dir.join("config.json")).unwrap();
    };
    let gateway = committed("", furnish);
    let (dir, real) = (gateway.dir(), gateway.dir().join("deep/real.json"));
    let keys = Keys::of(gateway.base(), "openai");
    let before = std::fs::metadata(&real).unwrap();
    assert_eq!(keys.create(&json!({"id": "c", "name": "third", "value": "sk-literal-0123456789"})).await.status, 200);
    assert_eq!(keys.put("a", &json!({"weight": 3})).await.status, 200);
    let after = std::fs::metadata(&real).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!(std::fs::read_link(dir.join("config.json")).unwrap(), Path::new("deep/real.json"));
    assert!(dir.join(".keyway/sealing.key").exists());
    assert_eq!(git(dir, &["status", "--short", "-uall"]), " M deep/real.json\n");
    assert_eq!(numstat(dir), "3 2 deep/real.json\n");
    assert!(!git(dir, &["diff"]).contains("sk-literal"));
}

/// Each state that git puts in place runs as the next generation, and API writes go on from there.
#[tokio::test]
async fn git_takes_back_and_brings_again() {
    let gateway = committed(PLAIN, |_| {});
    let (dir, keys) = (gateway.dir(), Keys::of(gateway.base(), "openai"));
    let mut texts = vec![PLAIN.to_owned()];
    for weight in 2..=5 {
        assert_eq!(keys.put("a", &json!({"weight": weight})).await.status, 200);
        texts.push(gateway.config());
        commit(dir, &format!("weight {weight}"));
    }
    let mut generation = gateway.generation().await;
    let mut runs = async |text: &str, what: &str| {
        generation += 1;
        let status = gateway.wait_generation(generation).await;
        assert_eq!(status["running"]["hash"], blake3::hash(text.as_bytes()).to_hex().as_str(), "{what}");
        assert_eq!((gateway.config().as_str(), &status["running"]["generation"]), (text, &json!(generation)), "{what}");
    };
    let weight = async || keys.get("a").await.json()["weight"].clone();
    git(dir, &["checkout", "-q", "HEAD~2", "--", "config.json"]);
    runs(&texts[2], "checkout of a file").await;
    assert_eq!(weight().await, 3);
    git(dir, &["stash", "-q"]);
    runs(&texts[4], "stash").await;
    git(dir, &["stash", "pop", "-q"]);
    runs(&texts[2], "stash pop").await;
    git(dir, &["reset", "-q", "--hard"]);
    runs(&texts[4], "reset --hard").await;
    git(dir, &["checkout", "-q", "HEAD~4"]);
    runs(PLAIN, "checkout of a commit").await;
    assert_eq!(weight().await, 1.5);
    // A write on top of what git has brought.
    assert_eq!(keys.put("b", &json!({"weight": 9})).await.status, 200);
    let written = PLAIN.replace("env.SECOND_KEY\"", "env.SECOND_KEY\", \"weight\": 9");
    runs(&written, "a write").await;
    git(dir, &["stash", "-q"]);
    runs(PLAIN, "stash of a write").await;
    let branch = git(dir, &["branch", "--format=%(refname:short)"]);
    git(dir, &["checkout", "-q", branch.lines().last().unwrap()]);
    runs(&texts[4], "checkout of a branch").await;
    git(dir, &["revert", "--no-edit", "HEAD"]);
    runs(&texts[3], "revert").await;
    // The stashed write meets another state: a conflict is no config, and nobody writes into it.
    assert!(!command(dir, &["stash", "pop", "-q"]).output().unwrap().status.success());
    let conflict = gateway.config();
    assert!(conflict.contains("<<<<<<<"), "{conflict}");
    let status = gateway.wait_refused().await;
    assert_eq!(status["running"]["generation"], generation, "{status}");
    let reply = keys.put("a", &json!({"weight": 7})).await;
    assert_eq!((reply.status.as_u16(), &*code(&reply)), (409, "config_on_disk_invalid"), "{}", reply.text());
    assert_eq!(gateway.config(), conflict);
    git(dir, &["reset", "-q", "--hard"]);
    let status = gateway.wait_status("a healed file", |status| status["last_error"].is_null()).await;
    assert_eq!(status["running"]["generation"], generation, "{status}");
    println!("git: {generation} generations, each by one command or write");
}
