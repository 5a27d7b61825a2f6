//! The command line: what each command prints and with which code it ends.

use std::path::Path;

use crate::support::gateway::{Gateway, Mock, run};

fn dir() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix("keyway-cli-").unwrap()
}

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("config.json");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn no_config_says_what_writes_one() {
    let dir = dir();
    let (code, _, stderr) = run(&["serve"], &[], dir.path());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("config.json") && stderr.contains("hint"), "{stderr}");
}

#[test]
fn check_shows_every_problem_with_its_place_and_no_value() {
    let dir = dir();
    let path = write(
        dir.path(),
        "{\n  \"providers\": {\n    \"openai\": {\"keys\": [{\"valeu\": \"sk-canary-1234567890\", \"weight\": -1}]},\n    \"opnai\": {}\n  },\n  \"sever\": {}\n}\n",
    );
    let (code, stdout, stderr) = run(&["check", &path], &[], dir.path());
    assert_eq!(code, 1, "{stdout}{stderr}");
    for part in ["value", ":3:", "weight", "opnai", "sever", "server", "errors"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    assert!(!stdout.contains("canary") && !stderr.contains("canary"), "{stdout}{stderr}");
    let (code, stdout, _) = run(&["check", "--format", "json", &path], &[], dir.path());
    assert_eq!(code, 1);
    let problems: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let first = &problems[0];
    for member in ["severity", "code", "pointer", "line", "column", "message"] {
        assert!(!first[member].is_null(), "{member} in {first}");
    }
    assert!(problems.as_array().unwrap().len() >= 4, "{problems}");
}

#[test]
fn check_of_good_and_of_unreadable_input() {
    let dir = dir();
    let path = write(dir.path(), "{\"providers\": {\"openai\": {\"keys\": [{\"value\": \"env.KW_UNSET\"}]}}}");
    let (code, stdout, _) = run(&["check", &path], &[], dir.path());
    assert_eq!(code, 0, "{stdout}");
    assert!(stdout.contains("warning") && stdout.contains("KW_UNSET"), "{stdout}");
    let (code, stdout, _) = run(&["check", "--strict-env", &path], &[], dir.path());
    assert_eq!(code, 1, "{stdout}");
    let (code, stdout, _) = run(&["check", &path], &[("KW_UNSET", "sk-test-000000000000")], dir.path());
    assert_eq!((code, stdout.contains("good")), (0, true), "{stdout}");
    let (code, _, stderr) = run(&["check", "nothing.json"], &[], dir.path());
    assert_eq!(code, 2, "{stderr}");
    let (code, _, _) = run(&["check", "--no-such-flag"], &[], dir.path());
    assert_eq!(code, 2);
}

#[test]
fn the_schema_is_printed_and_written() {
    let dir = dir();
    let path = write(dir.path(), "{}");
    let (code, stdout, _) = run(&["schema"], &[], dir.path());
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let members = &schema["$defs"]["Config"]["properties"];
    assert!(schema["$schema"].is_string() && members["providers"].is_object(), "{}", &stdout[..200]);
    let (code, _, stderr) = run(&["schema", "--write", "--config", &path], &[], dir.path());
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(std::fs::read_to_string(dir.path().join("config.schema.json")).unwrap(), stdout);
}

#[test]
fn healthcheck_tells_ready_from_not() {
    let dir = dir();
    let gateway = Gateway::start(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#);
    let url = gateway.url("/readyz");
    assert_eq!(run(&["healthcheck", "--url", &url], &[], dir.path()).0, 0);
    assert_eq!(run(&["healthcheck", "--url", &gateway.url("/nothing")], &[], dir.path()).0, 1);
    drop(gateway);
    assert_eq!(run(&["healthcheck", "--url", &url], &[], dir.path()).0, 1);
    assert_eq!(run(&["healthcheck", "--url", "https://127.0.0.1:1/"], &[], dir.path()).0, 1);
}

#[tokio::test]
async fn the_mock_is_an_upstream_over_tcp() {
    let mock = Mock::start();
    let gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"openai": {{
            "network_config": {{"base_url": "{}"}}, "keys": [{{"value": "sk-test-000000000000"}}]}}}}}}"#,
        mock.base()
    ));
    let body = r#"{"model":"openai/gpt-mini","messages":[{"role":"user","content":"hi"}]}"#;
    let reply = crate::support::client::post_json(&gateway.url("/v1/chat/completions"), body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["object"], "chat.completion");
}

#[test]
fn a_missing_file_on_the_command_line_is_named() {
    let dir = dir();
    let (code, _, stderr) = run(&["serve", "--config", "not-there.json"], &[], dir.path());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("not-there.json"), "{stderr}");
}
