//! What outlives the process, seen from outside: after a kill, without a disk, beside another process.

use serde_json::Value;

use crate::support::client::{PATIENCE, get, poll};
use crate::support::gateway::{Gateway, launch};

const FILE: &str =
    r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"openai": {"keys": [{"value": "env.A_KEY"}]}}}"#;

async fn key(gateway: &Gateway) -> Value {
    get(&gateway.url("/api/providers/openai/keys")).await.json()["keys"][0].clone()
}

#[tokio::test]
async fn first_sight_of_a_key_outlives_a_kill() {
    let mut gateway = launch(FILE).env("A_KEY", "sk-a-0123456789").start();
    let before = key(&gateway).await;
    assert_eq!(
        gateway.wait_status("kept", |status| status["state"]["kept_in"] != "opening").await["state"]["kept_in"],
        "file"
    );
    // Another second, so that times made anew would differ.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    gateway.kill();
    gateway.restart();
    assert_eq!(key(&gateway).await, before);
    assert_eq!(gateway.strangers(), Vec::<String>::new());

    let changed = FILE.replace("\"env.A_KEY\"", "\"env.A_KEY\", \"weight\": 2");
    gateway.write_config(&changed);
    gateway.wait_generation(2).await;
    let after = key(&gateway).await;
    assert_eq!(after["created_at"], before["created_at"]);
    assert_ne!(after["updated_at"], before["updated_at"]);
}

#[tokio::test]
async fn without_a_place_for_it_the_gateway_serves_from_memory() {
    // A file where the directory would be: so it is for root too.
    let text = FILE.replacen('{', r#"{"state": {"dir": "config.json"}, "#, 1);
    let gateway = launch(&*text).env("A_KEY", "sk-a-0123456789").start();
    assert!(key(&gateway).await["created_at"].is_string());
    let status = gateway.wait_status("kept", |status| status["state"]["kept_in"] != "opening").await;
    assert_eq!(status["state"]["kept_in"], "memory", "{status}");
    assert!(status["state"]["why"].as_str().is_some_and(|why| !why.is_empty()), "{status}");
    poll(PATIENCE, "a warning", async || gateway.output().contains("state_in_memory").then_some(())).await;

    gateway.write_config(FILE);
    let status = gateway.wait_generation(2).await;
    assert_eq!(status["restart_pending"], serde_json::json!(["/state/dir"]));
}
