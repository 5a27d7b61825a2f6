//! `POST /mcp`: the protocol as its clients speak it, the tools, and who is turned away.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{Reply, request, send};
use crate::support::gateway::{Gateway, launch, run};
use crate::support::suite::{ROOT, finish, installed};
use crate::support::upstream::{Answer, Upstream};

const MANAGER: &str = "mlx_mk_00000000000000000000000000000000000002woz6J";
const SECRET: &str = "sk-canary-0123456789abcdef";

struct Agent {
    gateway: Gateway,
    upstream: Upstream,
}

impl Agent {
    fn start() -> Self {
        let upstream = Upstream::start(|_| Answer::json(200, r#"{"data": [{"id": "m"}]}"#));
        let config = format!(
            r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}},
            "management": {{"keys": [{{"name": "ops", "value": "env.OPS"}}]}},
            "providers": {{"openai": {{"network_config": {{"base_url": "{}"}}, "keys": []}}}}}}"#,
            upstream.base()
        );
        let gateway = launch(config).env("OPS", MANAGER).env("A_KEY", SECRET).start();
        Self { gateway, upstream }
    }

    async fn send(&self, headers: &[(&str, &str)], body: &str) -> Reply {
        let bearer = format!("Bearer {MANAGER}");
        let mut all = vec![
            ("authorization", &*bearer),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        all.extend_from_slice(headers);
        let reply = send(request(Method::POST, &self.gateway.url("/mcp"), &all, body.to_owned())).await;
        assert!(!reply.text().contains("canary"), "{}", reply.text());
        reply
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": "q-1", "method": method, "params": params});
        let reply = self.send(&[("mcp-protocol-version", "2025-06-18")], &body.to_string()).await;
        let answer = reply.json();
        assert_eq!((reply.status.as_u16(), &answer["jsonrpc"], &answer["id"]), (200, &json!("2.0"), &json!("q-1")));
        answer
    }

    /// What a tool answers, and whether that is a failure.
    async fn call(&self, tool: &str, arguments: Value) -> (Value, bool) {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await;
        let result = &answer["result"];
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, result["structuredContent"], "both say the same");
        (text, result["isError"].as_bool().unwrap())
    }
}

#[tokio::test]
async fn a_session_of_an_agent() {
    let agent = Agent::start();
    let hello =
        json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = agent.ask("initialize", hello).await["result"].clone();
    assert_eq!((&hello["protocolVersion"], &hello["serverInfo"]["name"]), (&json!("2025-03-26"), &json!("keyway")));
    assert_eq!(
        agent.ask("initialize", json!({"protocolVersion": "1999"})).await["result"]["protocolVersion"],
        "2025-06-18"
    );
    let told = agent.send(&[], r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#).await;
    assert_eq!((told.status.as_u16(), told.body.len()), (202, 0));
    let tools = agent.ask("tools/list", json!({})).await["result"]["tools"].clone();
    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    let documented =
        ["list_providers", "get_provider", "add_provider", "update_provider", "delete_provider", "get_provider_health"];
    assert_eq!((&names[..6], &names[6..]), (&documented[..], &["explain", "config_status"][..]));
    let destructive: Vec<_> =
        tools.as_array().unwrap().iter().filter(|tool| tool["annotations"]["destructiveHint"] == true).collect();
    assert!(destructive.len() == 1 && destructive[0]["name"] == "delete_provider", "{tools}");

    let (made, failed) =
        agent.call("add_provider", json!({"vendor": "openai", "name": "one", "api_key": "env.A_KEY"})).await;
    assert!(!failed && made["name"] == "one", "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(agent.call("list_providers", json!({"limit": 1})).await.0["data"], json!([made]));
    assert_eq!(agent.call("get_provider", json!({"id": id})).await, (made, false));
    let (health, _) = agent.call("get_provider_health", json!({"id": id})).await;
    assert_eq!(health["state"], "unknown");
    let (rotated, failed) = agent.call("update_provider", json!({"id": id, "api_key": SECRET, "name": "two"})).await;
    assert!(!failed && rotated["verification"] == "verified" && rotated["name"] == "two", "{rotated}");
    assert_eq!(agent.upstream.seen().last().unwrap().bearer(), SECRET);
    let (explained, _) = agent.call("explain", json!({"model": "openai/m"})).await;
    assert_eq!(explained["keys"][0]["key"], "two");
    assert_eq!(agent.call("config_status", json!({})).await.0["running"]["keys"], 1);
    assert_eq!(agent.call("delete_provider", json!({"id": id})).await, (json!({"id": id, "deleted": true}), false));
    let (gone, failed) = agent.call("get_provider", json!({"id": id})).await;
    assert!(failed && gone["error"]["code"] == "provider_not_found", "{gone}");

    // Writes stand in the audit log by the tool's name, reads do not.
    let path = agent.gateway.config_path().to_str().unwrap().to_owned();
    let (_, log, _) = run(&["audit", "--config", &path], &[], agent.gateway.dir());
    let tools = ["add_provider", "update_provider", "delete_provider"];
    assert!(tools.iter().all(|tool| log.contains(&format!("POST /mcp {tool}"))), "{log}");
    assert!(!log.contains("get_provider") && !log.contains("tools/list") && !log.contains("canary"), "{log}");
}

#[tokio::test]
async fn what_is_no_call() {
    let agent = Agent::start();
    for (body, status, code) in [
        ("", 400, -32700),
        ("[]", 400, -32700),
        (r#"[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]"#, 400, -32700),
        ("{}", 400, -32600),
        (r#"{"jsonrpc": "1.0", "id": 1, "method": "ping"}"#, 400, -32600),
        (r#"{"jsonrpc": "2.0", "id": null, "method": "ping"}"#, 400, -32600),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}"#, 400, -32600),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": "resources/list"}"#, 200, -32601),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "rm"}}"#, 200, -32602),
        (r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_provider"}}"#, 200, -32602),
        (
            r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_provider", "arguments": {"id": 1}}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "config_status", "arguments": {"x": 1}}}"#,
            200,
            -32602,
        ),
    ] {
        let reply = agent.send(&[], body).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["error"]["code"]),
            (status, &json!(code)),
            "{body}: {}",
            reply.text()
        );
    }
    let ping = r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#;
    assert_eq!(agent.send(&[], ping).await.json(), json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(agent.send(&[("mcp-protocol-version", "1999-01-01")], ping).await.status, 400);
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(agent.send(&[(name, value)], ping).await.status, 403, "{name}: {value}");
    }
    let rebound = [("origin", "http://evil.example"), ("host", "evil.example")];
    assert_eq!(agent.send(&rebound, ping).await.status, 403);
    let own = agent.gateway.base().to_owned();
    assert_eq!(agent.send(&[("origin", &own)], ping).await.status, 200);
    // No key, also where this machine is trusted otherwise.
    let open = Gateway::start(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#);
    let headers = [("content-type", "application/json")];
    assert_eq!(send(request(Method::POST, &open.url("/mcp"), &headers, ping)).await.status, 401);
    assert_eq!(send(request(Method::GET, &agent.gateway.url("/mcp"), &[], "")).await.status, 401);
}

/// The official client's own session, in Python.
#[test]
fn the_official_client() {
    let python = Path::new(ROOT).join(".cache/contract/bin/python");
    if !installed("mcp", &python, ".cache/contract/.installed", "python3") {
        return;
    }
    let agent = Agent::start();
    let mut client = Command::new(python);
    client.args(["tests/contract/mcp_session.py", agent.gateway.base()]);
    client.env("KEYWAY_MANAGEMENT_TOKEN", MANAGER).env("PYTHONDONTWRITEBYTECODE", "1");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        client.env_remove(name);
    }
    let (ok, output) = finish(&mut client, Duration::from_secs(120));
    assert!(ok && output.contains("8 tools called"), "{output}\n{}", agent.gateway.output());
}
