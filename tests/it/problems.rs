//! One list of problems, whoever asks for it: `keyway check`, a dry run of a posted document, and a
//! reload of the same text.

use serde_json::Value;

use crate::support::client;
use crate::support::gateway::{Gateway, run};
use crate::support::is_long;

const GOOD: &str = r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#;

/// The inside of a config that is good but for it.
fn with(members: &str) -> String {
    format!("{{\"server\": {{\"listen\": [\"127.0.0.1:0\"]}},\n  {members}\n}}\n")
}

fn provider(members: &str) -> String {
    with(&format!("\"providers\": {{\"openai\": {{{members}}}}}"))
}

fn key(members: &str) -> String {
    provider(&format!("\"keys\": [{{\"value\": \"sk-0123456789\"}},\n    {{\"name\": \"b\", {members}}}]"))
}

fn documents() -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        " \n\t\r\n",
        "\u{feff}",
        "null",
        "[]",
        "7",
        "\"x\"",
        "{",
        "}",
        "{]",
        "{\"a\"",
        "{\"a\":}",
        "{\"a\" 1}",
        "{a: 1}",
        "{'a': 1}",
        "{}}",
        "{} {}",
        "/*",
        "{ // x",
        "{\"a\": 01}",
        "{\"a\": +1}",
        "{\"a\": .5}",
        "{\"a\": NaN}",
        "{\"a\": \"\\x\"}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\t\"}",
        "{,}",
        "{\"providers\": {\"mock\": {}, \"mock\": {}}}",
        "{\"providers\": {}, \"providers\": {}}",
        "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n",
        "{\r\n\t\"sever\": {},\r\n\t\"providers\": {\"opnai\": {}}\r\n}",
        "{\"clé\": 1,\n \"ключ\": {\"ж\": 2}}",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push(format!("{}{}", "[".repeat(400), "]".repeat(400)));
    all.extend(
        [
            "\"sever\": {}",
            "\"providers\": []",
            "\"providers\": {\"opnai\": {}}",
            "\"providers\": {\"azure\": {}}",
            "\"providers\": {\"a b\": {}}",
            "\"providers\": {\"OpenAI\": {}, \"openai\": {}}",
            "\"routes\": {\"fast\": {}}",
            "\"routes\": {\"@r\": {\"strategy\": \"weigthed\", \"targets\": [\"openai/x\"]}}",
            "\"routes\": {\"@r\": {\"strategy\": \"fallback\", \"targets\": [\"@r\", \"nobody/x\"]}}",
            "\"projects\": [{}]",
            "\"projects\": [{\"id\": \"a\", \"keys\": [{\"name\": \"k\"}]}, {\"id\": \"a\"}]",
            "\"projects\": [{\"id\": \"a\", \"budgets\": [{\"id\": \"m\", \"limit_usd\": 5, \"period\": \"month\"}]}]",
            "\"management\": {\"keys\": [{\"name\": \"a\", \"hash\": \"blake3:00\"}]}",
            "\"management\": {\"listen\": [\"0.0.0.0:0\"]}",
            "\"management\": {\"rate_limit_per_minute\": -5}",
            "\"management\": {\"allowed_origins\": [\"127.0.0.1:1\"], \"references\": {\"env\": [\"env.A\"]}}",
            "\"prices\": {\"m\": {\"input_usd_per_mtok\": -1}}",
            "\"state\": {\"dir\": \"..\"}",
            "\"state\": {\"redis\": {\"url\": \"rediss://a\"}}",
            "\"observability\": {\"log_level\": \"loud\", \"otlp_endpoint\": \"http://a\"}",
        ]
        .map(with),
    );
    all.extend(["", "\"keys\": {}", "\"keys\": [1, \"a\", null]", "\"keys\": [{}, {}]", "\"keys\": [{\"value\": \"\"}]", "\"api_key\": \"x\"", "\"network_config\": {\"base_url\": \"ftp://a\"}",
        "\"network_config\": {\"extra_headers\": {\"Host\": \"a\", \"b c\": \"d\"}, \"max_retries\": 2, \"max_conns_per_host\": 1}", "\"proxy_config\": {\"type\": \"http\"}",
        "\"network_config\": {\"ca_cert_pem\": \"x\", \"insecure_skip_verify\": true}", "\"custom_provider_config\": {\"base_provider_type\": \"opnai\"}", "\"concurrency_and_buffer_size\": {}",
        "\"network_config\": {\"connect_timeout_in_seconds\": \"a while\", \"retry_backoff_initial\": 9, \"retry_backoff_max\": 1}",
    ].map(provider));
    all.extend(
        [
            "\"valeu\": \"sk-1\"",
            "\"value\": 7",
            "\"value\": \"\"",
            "\"value\": \"********\"",
            "\"value\": \"vault.a/b\"",
            "\"value\": \"sealed:v9:x\"",
            "\"value\": {\"ref\": \"A\"}",
            "\"value\": \"sk-1\", \"weight\": -1",
            "\"value\": \"sk-1\", \"weight\": \"1\", \"priority\": 1001",
            "\"value\": \"sk-1\", \"models\": \"*\"",
            "\"value\": \"sk-1\", \"models\": [], \"blacklisted_models\": [\"*\"]",
            "\"value\": \"sk-1\", \"id\": \"a b\"",
            "\"value\": \"sk-1\", \"created_at\": \"today\"",
            "\"value\": \"sk-1\", \"azure_key_config\": {}",
            "\"value\": \"sk-1\", \"base_url\": \"http://u:p@a\"",
            "\"value\": \"sk-1\", \"aliases\": {\"a\": 1, \"b\": {\"model\": \"c\"}, \"A\": \"d\"}",
            "\"value\": \"sk-1\", \"aliases\": {\"a\": \"b\"}, \"models\": [\"c\"]",
            "\"value\": \"two words\"",
        ]
        .map(key),
    );
    // More of them than are shown.
    let many: Vec<String> = (0..400).map(|i| format!("\"member {i}\": {i}")).collect();
    all.push(with(&many.join(",\n  ")));
    all
}

#[tokio::test]
async fn whoever_asks_is_told_the_same() {
    let documents = documents();
    let gateway = Gateway::start(GOOD);
    let (mut problems, mut bad) = (0, 0);
    // `check` runs in a folder like the gateway's, on a file of its own.
    let dir = tempfile::TempDir::with_prefix("keyway-problems-").unwrap();
    let path = dir.path().join("config.json");
    for (turn, text) in documents.iter().enumerate() {
        std::fs::write(&path, text).unwrap();
        let (code, stdout, stderr) = run(&["check", "--format", "json", path.to_str().unwrap()], &[], dir.path());
        let checked: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{text}: {error}: {stderr}"));
        let has_errors = checked.as_array().unwrap().iter().any(|problem| problem["severity"] == "error");
        assert_eq!(code, i32::from(has_errors), "{text}: {stdout}");

        let posted = client::post_json(&gateway.url("/api/config/check"), text.clone()).await;
        assert_eq!(posted.status, 200, "{text}: {}", posted.text());
        let posted = posted.json();
        assert_eq!((&posted["problems"], &posted["valid"]), (&checked, &Value::Bool(!has_errors)), "{text}");

        for problem in checked.as_array().unwrap() {
            assert!(
                problem["line"].as_u64().is_some_and(|line| line > 0 || problem["code"] == "too_many"),
                "{problem} in {text}"
            );
            problems += 1;
        }
        // The gateway waits until a file has settled, which takes its time.
        let every = if is_long() { 1 } else { 3 };
        if !has_errors || (turn > 3 && turn % every != 0) {
            continue;
        }
        bad += 1;
        gateway.write_config(text);
        let reload = client::post_json(&gateway.url("/api/config/reload"), "").await.json();
        assert_eq!((&reload["result"], &reload["problems"]), (&"refused".into(), &checked), "{text}");
        let status = gateway.status().await;
        assert_eq!(status["last_error"]["problems"], checked, "{text}");
        assert_eq!(status["running"]["generation"], 1);
    }
    println!("{} documents, {bad} reloaded, {problems} problems", documents.len());
}
