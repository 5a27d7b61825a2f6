//! `keyway check --online`: which keys their upstreams take, in words, and never a value.

use crate::support::gateway::run;
use crate::support::upstream::{Answer, Seen, Upstream};

#[test]
fn every_key_is_asked_for_once() {
    let upstream = Upstream::start(|seen: &Seen| match (seen.path.as_str(), seen.bearer()) {
        (_, "sk-good") => Answer::json(200, r#"{"data": [{"id": "m"}]}"#),
        // Its list is given to anybody.
        ("/v1/models", "sk-router") => Answer::json(200, r#"{"data": [{"id": "m"}]}"#),
        (_, "sk-strange") => Answer::json(200, "<html>"),
        (_, key) => Answer::json(401, format!(r#"{{"error": {{"message": "no such key {key}"}}}}"#)),
    });
    let base = upstream.base();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let nobody = Upstream::start(|_| Answer::new(200)).base();
    let text = format!(
        r#"{{"providers": {{
  "groq": {{"keys": [
    {{"name": "good", "value": "sk-good", "base_url": "{base}"}},
    {{"name": "bad", "value": "sk-bad", "base_url": "{base}"}},
    {{"name": "strange", "value": "sk-strange", "base_url": "{base}"}},
    {{"name": "nobody", "value": "sk-good", "base_url": "{nobody}"}},
    {{"name": "off", "value": "sk-bad", "base_url": "{base}", "enabled": false}},
    {{"name": "unset", "value": "env.NOT_SET", "base_url": "{base}"}}]}},
  "openrouter": {{"keys": [{{"value": "sk-router", "base_url": "{base}"}}]}},
  "perplexity": {{"keys": [{{"value": "sk-good", "base_url": "{base}"}}]}},
  "mock": {{}}
}}}}"#
    );
    std::fs::write(&path, &text).unwrap();
    let file = path.to_str().unwrap();
    let (code, plain, _) = run(&["check", file], &[], dir.path());
    assert_eq!(code, 0, "{plain}");
    assert!(upstream.seen().is_empty(), "nobody is asked unasked");
    let (code, stdout, stderr) = run(&["check", "--online", file, "--format", "json"], &[], dir.path());
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(!stdout.contains("sk-") && !stdout.contains("127.0.0.1"), "{stdout}");
    let problems: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let mut found: Vec<(String, String)> = Vec::new();
    for problem in problems.as_array().unwrap().iter().filter(|problem| problem["code"] == "unverified") {
        assert!(problem["line"].as_u64().unwrap() > 1, "{problem}");
        let word = problem["message"].as_str().unwrap().split(':').next().unwrap().to_owned();
        found.push((problem["pointer"].as_str().unwrap().to_owned(), word));
    }
    found.sort();
    let expected = [
        ("/providers/groq/keys/1", "unauthorized"),
        ("/providers/groq/keys/2", "unexpected"),
        ("/providers/groq/keys/3", "unreachable"),
        ("/providers/openrouter/keys/0", "unauthorized"),
        ("/providers/perplexity/keys/0", "not verified"),
    ];
    assert_eq!(found, expected.map(|(pointer, word)| (pointer.to_owned(), word.to_owned())));
    let mut asked: Vec<_> = upstream.seen().iter().map(|seen| seen.path.clone()).collect();
    asked.sort();
    assert_eq!(asked, ["/v1/key", "/v1/models", "/v1/models", "/v1/models"]);
}
