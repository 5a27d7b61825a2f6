//! The commands beside `serve`: what they print, on which stream, and with which code they end.

use std::path::Path;

use http::Method;
use serde_json::Value;

use crate::support::client::{request, send};
use crate::support::gateway::{Gateway, run};

fn dir() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix("keyway-tools-").unwrap()
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The token and the record that `token new` printed.
fn token(arguments: &[&str]) -> (String, String, Value) {
    let dir = dir();
    let (code, stdout, stderr) = run(&[&["token", "new"], arguments].concat(), &[], dir.path());
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    let [token, record] = lines[..] else { panic!("{stdout}") };
    assert!(!stderr.contains(token), "{stderr}");
    (token.to_owned(), record.to_owned(), serde_json::from_str(record).unwrap())
}

#[tokio::test]
async fn a_new_token_opens_the_door_that_its_record_stands_at() {
    let (project, project_record, record) = token(&["project", "--name", "ci"]);
    assert!(project.starts_with("mlx_sk_") && project.len() == 7 + 43, "{project}");
    assert_eq!(record["name"], "ci");
    let (management, management_record, record) = token(&["management"]);
    assert!(management.starts_with("mlx_mk_") && management.len() == 7 + 43, "{management}");
    assert!(record["name"].as_str().unwrap().starts_with("management-"), "{record}");
    let (own, own_record, _) = token(&["project", "--prefix", "acme_"]);
    assert!(own.starts_with("acme_") && own.len() == 5 + 43, "{own}");

    let by_hand = "correct-horse-battery-staple-and-more!";
    let gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"mock": {{}}}},
            "management": {{"keys": [{management_record}]}},
            "projects": [{{"id": "app", "keys": [{project_record}, {own_record}, {{"name": "hand", "value": "{by_hand}"}}]}}]}}"#
    ));
    let status = async |path: &str, token: &str| {
        let headers = [("authorization", &*format!("Bearer {token}")), ("content-type", "application/json")];
        let (method, body) = match path {
            "/metrics" => (Method::GET, ""),
            _ => (Method::POST, r#"{"model": "mock/m", "messages": []}"#),
        };
        send(request(method, &gateway.url(path), &headers, body)).await.status.as_u16()
    };
    let chat = "/v1/chat/completions";
    for token in [&*project, &own, by_hand] {
        assert_eq!(status(chat, token).await, 200, "{token}");
    }
    assert_eq!(status("/metrics", &management).await, 200);
    assert_eq!(status(chat, &management).await, 403);
    let slip = format!("{}{}", &project[..project.len() - 1], if project.ends_with('0') { '1' } else { '0' });
    assert_eq!(status(chat, &slip).await, 401);
}

#[test]
fn tokens_differ_and_bad_wishes_are_refused() {
    assert_ne!(token(&["project"]).0, token(&["project"]).0);
    let dir = dir();
    for wish in [
        &["project", "--prefix", ""][..],
        &["project", "--prefix", "with space"],
        &["project", "--prefix", "seventeen_letters"],
        &["project", "--prefix", "mlx_mk_"],
        &["management", "--prefix", "mlx_sk_x"],
        &["project", "--name", ""],
        &["project", "--name", "a\tb"],
        &["guest"],
        &[],
    ] {
        let (code, stdout, stderr) = run(&[&["token", "new"], wish].concat(), &[], dir.path());
        assert_eq!((code, stdout.as_str()), (2, ""), "{wish:?} {stderr}");
    }
    let (code, stdout, _) = run(&["token", "new", "project", "--prefix", "mlx_sk_"], &[], dir.path());
    assert_eq!(code, 0, "{stdout}");
}

#[test]
fn completions_for_every_shell() {
    let dir = dir();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, stdout, stderr) = run(&["completions", shell], &[], dir.path());
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        assert!(stdout.contains("healthcheck") && stdout.contains("token"), "{shell}: {stdout}");
    }
    assert_eq!(run(&["completions", "dos"], &[], dir.path()).0, 2);
}

const OLD: &str = r#"{
  // Comments and order are no difference.
  "providers": {
    "openai": {"keys": [{"name": "main", "value": "sk-canary-old-0000000000", "weight": 1}, {"name": "gone", "value": "env.KW_B"}]},
    "groq": {"keys": [{"value": "env.KW_GROQ"}], "network_config": {"default_request_timeout_in_seconds": 10}}
  },
  "routes": {"@fast": {"targets": ["groq/a"]}}
}"#;
const NEW: &str = r#"{
  "routes": {"@fast": {"targets": ["groq/b"]}},
  "providers": {
    "openai": {"keys": [{"name": "main", "value": "sk-canary-new-0000000000", "weight": 1.0, "priority": 9}]},
    "groq": {"network_config": {"default_request_timeout_in_seconds": "20s"}, "keys": [{"value": {"env_var": "KW_GROQ"}}]}
  }
}"#;

#[test]
fn diff_names_what_differs_and_shows_no_value() {
    let dir = dir();
    let (old, new) = (write(dir.path(), "old.json", OLD), write(dir.path(), "new.json", NEW));
    let (code, stdout, stderr) = run(&["diff", &old, &new], &[], dir.path());
    assert_eq!(code, 1, "{stderr}");
    assert_eq!(
        stdout,
        "removed  keys/openai/gone\n\
         added    keys/openai/main: priority\n\
         changed  keys/openai/main: value\n\
         changed  providers/groq: network_config/default_request_timeout_in_seconds\n\
         changed  routes/@fast: targets\n"
    );
    let (code, stdout, _) = run(&["diff", "--format", "json", &old, &new], &[], dir.path());
    assert!(!stdout.contains("canary"), "{stdout}");
    let differences: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, differences.as_array().unwrap().len()), (1, 5));
    assert_eq!(differences[0], serde_json::json!({"kind": "removed", "owner": "keys/openai/gone", "field": null}));
    assert_eq!(differences[2]["field"], "value");
}

#[test]
fn diff_of_equal_and_of_unreadable_files() {
    let dir = dir();
    let old = write(dir.path(), "old.json", OLD);
    let same = write(
        dir.path(),
        "same.json",
        &OLD.replace("\"weight\": 1}", "\"weight\": 1.00}").replace("no difference", "none"),
    );
    assert_eq!(run(&["diff", &old, &same], &[], dir.path()), (0, String::new(), String::new()));
    assert_eq!(run(&["diff", "--format", "json", &old, &same], &[], dir.path()).1, "[]\n");
    // Neither variables nor files are looked at, so that any machine can compare.
    let bad =
        write(dir.path(), "bad.json", r#"{"providers": {"openai": {"keys": [{"valeu": "sk-canary-0000000000000"}]}}}"#);
    for (one, other) in [(&old, &bad), (&bad, &old), (&old, &"nothing.json".to_owned())] {
        let (code, stdout, stderr) = run(&["diff", one, other], &[], dir.path());
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains("bad.json:1:") || stderr.contains("nothing.json"), "{stderr}");
        assert!(!stderr.contains("canary"), "{stderr}");
    }
    assert_eq!(run(&["diff", &old], &[], dir.path()).0, 2);
}

const ROUTED: &str = r#"{
  "providers": {
    "openai": {"keys": [
      {"name": "a", "value": "env.KW_A", "weight": 3, "models": ["gpt-mini", "smart"], "aliases": {"smart": "gpt-large"}},
      {"name": "b", "value": "env.KW_A", "models": ["gpt-mini"]},
      {"name": "reserve", "value": "env.KW_A", "priority": 900, "models": ["gpt-mini"]},
      {"name": "unset", "value": "env.KW_UNSET", "models": ["gpt-mini"]},
      {"name": "off", "value": "env.KW_A", "enabled": false, "models": ["gpt-mini"]}]},
    "groq": {"keys": [{"value": "env.KW_UNSET"}]}
  },
  "routes": {"@both": {"targets": ["groq/x", "openai/smart"]}},
  "projects": [{"id": "app", "models": ["groq/*", "gpt-*"], "keys": [{"name": "ci", "value": "env.KW_TOKEN"}]}]
}"#;

#[test]
fn route_explains_shares_order_and_reasons() {
    let dir = dir();
    let path = write(dir.path(), "config.json", ROUTED);
    let env = [("KW_A", "sk-canary-000000000000")];
    let route = |arguments: &[&str]| run(&[&["route"], arguments, &["--config", &path]].concat(), &env, dir.path());
    let (code, stdout, stderr) = route(&["gpt-mini"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stdout,
        "75.0 %  openai/a        gpt-mini  drawn by weight for the first attempt\n\
         25.0 %  openai/b        gpt-mini  drawn by weight for the first attempt\n    \
         no  openai/unset    gpt-mini  environment variable KW_UNSET is not set\n    \
         no  openai/off      gpt-mini  disabled in the config\n \
         later  openai/reserve  gpt-mini  used when those before it are exhausted\n"
    );
    let (code, stdout, _) = route(&["@both", "--format", "json"]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &answer["served"]), (0, &Value::Bool(true)));
    let keys = answer["keys"].as_array().unwrap();
    assert_eq!((&keys[0]["provider"], &keys[0]["reason"]), (&"groq".into(), &"env_missing".into()));
    let first = keys.iter().find(|key| key["share"] == 1.0).unwrap();
    assert_eq!(
        (&first["key"], &first["upstream_model"], &first["model"]),
        (&"a".into(), &"gpt-large".into(), &"smart".into())
    );
    assert!(!stdout.contains("canary"), "{stdout}");
}

#[test]
fn route_says_when_there_is_nobody() {
    let dir = dir();
    let path = write(dir.path(), "config.json", ROUTED);
    let env = [("KW_A", "sk-test-000000000000")];
    let route = |arguments: &[&str]| run(&[&["route"], arguments].concat(), &env, dir.path());
    for (arguments, code, part) in [
        (&["groq/x"][..], 1, "KW_UNSET is not set"),
        (&["no-such-model"], 1, "no provider serves a model named"),
        (&["@nothing"], 1, "no route named"),
        (&["gpt-mini", "--project", "app"], 0, "openai/a"),
        (&["openai/smart", "--project", "app"], 1, "the project may not use that model"),
        (&["@both", "--project", "app"], 1, "1 of 2 targets"),
        (&["gpt-mini", "--project", "nobody"], 2, "no project of that id"),
        (&["gpt-mini", "--config", "nothing.json"], 2, "nothing.json"),
        (&[], 2, "MODEL"),
    ] {
        let (got, stdout, stderr) = route(arguments);
        assert_eq!(got, code, "{arguments:?} {stdout}{stderr}");
        assert!(stdout.contains(part) || stderr.contains(part), "{arguments:?} {stdout}{stderr}");
    }
    let (_, stdout, _) = route(&["no-such-model", "--format", "json"]);
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&answer["served"], &answer["code"]), (&Value::Bool(false), &"model_not_found".into()));
    std::fs::write(path, "{").unwrap();
    let (code, _, stderr) = route(&["gpt-mini"]);
    assert!(code == 2 && stderr.contains("config.json:1:"), "{code} {stderr}");
}

#[test]
fn check_gives_what_annotations_need() {
    let dir = dir();
    let text =
        "{\n  \"providers\": {\n    \"openai\": {\"keys\": [{\"value\": \"env.KW_UNSET\", \"wieght\": 1}]}\n  }\n}\n";
    let path = write(dir.path(), "config.json", text);
    let (code, stdout, stderr) = run(&["check", "--format", "json", &path], &[], dir.path());
    assert_eq!((code, stderr.as_str()), (1, ""));
    let problems: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        problems,
        serde_json::json!([
            {"severity": "warning", "code": "unresolved", "pointer": "/providers/openai/keys/0/value", "line": 3, "column": 35,
             "message": "the environment variable KW_UNSET is not set, or is empty",
             "hint": "set it and restart, or refer to a file, which is watched"},
            {"severity": "error", "code": "unknown_member", "pointer": "/providers/openai/keys/0/wieght", "line": 3, "column": 51,
             "message": "there is no member of this name here", "hint": "did you mean `weight`?"},
        ])
    );
    std::fs::write(&path, "{}").unwrap();
    assert_eq!(run(&["check", "--format", "json", &path], &[], dir.path()), (0, "[]\n".to_owned(), String::new()));
    std::fs::write(&path, "{").unwrap();
    let (code, stdout, _) = run(&["check", "--format", "json", &path], &[], dir.path());
    let problems: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &problems[0]["code"], &problems[0]["line"]), (1, &"syntax".into(), &1.into()));
}
