//! What was read and is sent back changes no byte: over keys and providers in every shape that a
//! hand may have given them.

use http::Method;

use crate::support::client::{Reply, request, send};
use crate::support::gateway::{Gateway, launch, run};
use crate::support::is_long;

const KEYS: usize = 40;
const ROUNDS: usize = 6;
/// With `KEYWAY_LONG=1`.
const ROUNDS_LONG: usize = 200;

async fn call(gateway: &Gateway, method: Method, path: &str, body: &str) -> Reply {
    let url = gateway.url(&format!("/api/providers{path}"));
    send(request(method, &url, &[("content-type", "application/json")], body.to_owned())).await
}

fn file(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.config_path()).unwrap()
}

fn one_of<'a>(choices: &[&'a str]) -> &'a str {
    choices[fastrand::usize(..choices.len())]
}

/// A secret in one of the forms that the file takes.
fn secret(n: usize) -> String {
    let text = match fastrand::u8(..6) {
        0 => format!("s{n}"),
        1 => format!("nineteen-chars-{n:04}"),
        2 => format!("twenty-characters-{n:02}"),
        3 => format!("quote-\\\"-back-\\\\-slash-\\/-{n}"),
        4 => format!("sk-\\u0061bc-0123456789-{n}"),
        _ => format!("sk-live-0123456789abcdef-{n}"),
    };
    match fastrand::u8(..12) {
        0 => "\"env.A_KEY\"".to_owned(),
        1 => "{\"env_var\": \"A_KEY\", \"from_env\": true}".to_owned(),
        2 => "{\"value\":\"stale\",\"env_var\":\"env.A_KEY\",\"from_env\":true}".to_owned(),
        3 => "{\"ref\": \"env.A_KEY\", \"type\": \"env\"}".to_owned(),
        4 => "{\"file\": \"secret.txt\"}".to_owned(),
        5 => "\"env.NOT_SET\"".to_owned(),
        6 => format!("{{\"value\": \"{text}\"}}"),
        7 => format!("{{ \"value\" : \"{text}\", \"env_var\" : \"\", \"from_env\":false }}"),
        8 => format!("{{\"value\": \"{text}\", \"type\": \"plain_text\", \"ref\": null}}"),
        _ => format!("\"{text}\""),
    }
}

/// A key as somebody may have written it; `of` is its provider.
fn key(of: &str, n: usize) -> String {
    let mut members = vec![
        format!("\"name\": \"key {n} \\u00fc\""),
        format!("\"value\"{}{}", one_of(&[": ", ":", " : "]), secret(n)),
    ];
    let optional = [
        format!("\"id\": \"id-{n}\""),
        format!("\"weight\": {}", one_of(&["1", "1.0", "0", "0.250", "1e2", "2.50E-1", "null"])),
        format!("\"priority\": {}", one_of(&["0", "500", "7", "1000", "5e2", "null"])),
        format!("\"models\": {}", one_of(&["[]", "[\"*\"]", "[\"gpt-4o\", \"o3\"]", "[ \"b\",\"a\" ]"])),
        format!("\"blacklisted_models\": {}", one_of(&["[]", "[\"gpt-3\"]"])),
        format!("\"enabled\": {}", one_of(&["true", "false", "null"])),
        format!("\"use_for_batch_api\": {}", one_of(&["true", "false"])),
        format!(
            "\"aliases\": {}",
            one_of(&["{}", "{\"fast\": \"gpt-4o\"}", "{\"fast\": {\"model_id\": \"gpt-4o\", \"description\": null}}"])
        ),
        format!("\"created_at\": \"{}\"", one_of(&["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+02:00"])),
        "\"updated_at\": \"2026-02-03T04:05:06Z\"".to_owned(),
        format!("\"status\": {}", one_of(&["\"success\"", "null"])),
        "\"config_hash\": \"an old one\"".to_owned(),
        "\"description\": \"\"".to_owned(),
    ];
    members.extend(optional.into_iter().filter(|_| fastrand::u8(..3) == 0));
    match of {
        "vllm" | "ollama" | "sgl" => {
            let url = one_of(&["\"http://127.0.0.1:1\"", "{\"value\": \"http://10.0.0.1:80/v1\"}", "\"env.A_URL\""]);
            match fastrand::u8(..3) {
                0 => members.push(format!("\"base_url\": {url}")),
                1 => members.push(format!("\"{of}_key_config\": {{\"url\":{url}}}")),
                _ => members.push(format!(
                    "\"{of}_key_config\": {{ \"url\": {url}{} }}",
                    if of == "vllm" { ", \"model_name\": \"m\"" } else { "" }
                )),
            }
        }
        "huggingface" => members.push("\"huggingface_key_config\": {\"deployments\": {\"old\": \"new\"}}".to_owned()),
        _ => members.extend((fastrand::u8(..3) == 0).then(|| "\"base_url\": \"https://eu.example/v1\"".to_owned())),
    }
    fastrand::shuffle(&mut members);
    match fastrand::u8(..4) {
        0 => format!("{{{}}}", members.join(", ")),
        1 => format!("{{ {} }} // {n}", members.join(" , ")),
        2 => format!("{{\n\t\t\t{},\n\t\t}}", members.join(",\n\t\t\t")),
        _ => format!("{{ /* {n} */\n        {}\n      }}", members.join(",\n        // next\n        ")),
    }
}

/// A provider's own members, as somebody may have written them.
fn settings(of: &str) -> String {
    let mut network = Vec::new();
    let optional = [
        "\"extra_headers\": {\"x-token\": \"sk-header-0123456789abcdef\", \"x-team\": {\"value\": \"a\"}, \"x-e\": \"env.A_KEY\"}",
        "\"connect_timeout_in_seconds\": \"3s\"",
        "\"default_request_timeout_in_seconds\": 30",
        "\"max_retries\": 0",
        "\"insecure_skip_verify\": false",
        "\"retry_backoff_initial\": \"500ms\"",
        "\"beta_header_overrides\": {}",
    ];
    network.extend(optional.into_iter().filter(|_| fastrand::bool()));
    let url = match of {
        "up" => one_of(&[
            "\"http://127.0.0.1:1\"",
            "{\"value\": \"https://up.example/v1\", \"env_var\": \"\", \"from_env\": false}",
        ]),
        _ => "\"https://host.example\"",
    };
    let url = format!("\"base_url\": {url}");
    if of == "up" || fastrand::bool() {
        network.push(&url);
    }
    let mut members = Vec::new();
    if !network.is_empty() || fastrand::bool() {
        members.push(format!("\"network_config\": {{ {} }}", network.join(", ")));
    }
    if of == "up" {
        members.push("\"custom_provider_config\": {\"base_provider_type\": \"openai\", \"is_key_less\": false, \"allowed_requests\": {\"chat_completion\": true}}".to_owned());
    }
    let optional = [
        "\"send_back_raw_request\": false",
        "\"proxy_config\": {\"type\": \"none\"}",
        "\"openai_config\": {\"disable_store\": false}",
    ];
    members.extend(optional.into_iter().filter(|_| fastrand::u8(..3) == 0).map(str::to_owned));
    members.join(",\n    ")
}

const PROVIDERS: [&str; 8] = ["openai", "up", "groq", "vllm", "ollama", "sgl", "huggingface", "mistral"];

fn whole() -> String {
    let mut providers = Vec::new();
    let mut count = 0;
    for of in PROVIDERS {
        let mut keys = Vec::new();
        for _ in 0..KEYS / PROVIDERS.len() + 1 {
            keys.push(key(of, count));
            count += 1;
        }
        let settings = settings(of);
        let gap = if settings.is_empty() { "" } else { ",\n    " };
        // A comment behind an item stands behind its comma.
        let keys: String = keys
            .iter()
            .map(|key| match key.split_once("} // ") {
                Some((key, comment)) => format!("      {key}}}, // {comment}\n"),
                None => format!("      {key},\n"),
            })
            .collect();
        providers.push(format!("    \"{of}\": {{{settings}{gap}\"keys\": [\n{keys}    ]}}"));
    }
    let text = format!(
        "// made by dice\n{{\n  \"server\": {{\"listen\": [\"127.0.0.1:0\"]}}, \"observability\": {{\"access_log\": false}},\n  \"providers\": {{\n{}\n  }},\n}}\n",
        providers.join(",\n")
    );
    match fastrand::u8(..3) {
        0 => text.replace('\n', "\r\n"),
        1 => format!("\u{feff}{text}"),
        _ => text,
    }
}

#[tokio::test]
async fn what_was_read_and_is_sent_back_changes_no_byte() {
    let rounds = if is_long() { ROUNDS_LONG } else { ROUNDS };
    let seed =
        std::env::var("KEYWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    println!("KEYWAY_SEED={seed}");
    let (mut keys, mut providers) = (0, 0);
    for round in 0..rounds {
        let dir = tempfile::TempDir::with_prefix("keyway-trip-").unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, whole()).unwrap();
        let seals = round % 2 == 1;
        if seals {
            let (code, stdout, stderr) = run(&["seal", path.to_str().unwrap()], &[], dir.path());
            assert_eq!(code, 0, "{stdout}{stderr}");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let gateway = launch(&*text).env("A_KEY", "sk-in-a-variable-0123").env("A_URL", "http://127.0.0.1:1").start();
        if seals {
            std::fs::create_dir_all(gateway.dir().join(".keyway")).unwrap();
            std::fs::copy(dir.path().join(".keyway/sealing.key"), gateway.dir().join(".keyway/sealing.key")).unwrap();
            let url = gateway.url("/api/config/reload");
            let reload = send(request(Method::POST, &url, &[], "")).await.json();
            assert_ne!(reload["result"], "refused", "{reload}");
        }
        let before = gateway.generation().await;
        for of in PROVIDERS {
            let read = call(&gateway, Method::GET, &format!("/{of}"), "").await;
            let sent = call(&gateway, Method::PUT, &format!("/{of}"), &read.text()).await;
            same(&gateway, &read, &sent, &text, of);
            providers += 1;
            let list = call(&gateway, Method::GET, &format!("/{of}/keys"), "").await.json();
            for shown in list["keys"].as_array().unwrap() {
                let path = format!("/{of}/keys/{}", shown["id"].as_str().unwrap());
                let read = call(&gateway, Method::GET, &path, "").await;
                assert_eq!(read.json(), *shown);
                // As it is, without what others make up, and with the secret left out.
                for leave_out in
                    [&[][..], &["status", "description", "config_hash", "created_at", "updated_at", "id"], &["value"]]
                {
                    let mut body = read.json();
                    leave_out.iter().for_each(|member| drop(body.as_object_mut().unwrap().remove(*member)));
                    let sent = call(&gateway, Method::PUT, &path, &body.to_string()).await;
                    same(&gateway, &read, &sent, &text, &path);
                }
                keys += 1;
            }
        }
        assert_eq!(gateway.generation().await, before, "a write that changes nothing makes no generation");
    }
    println!("{keys} keys, {providers} providers");
    assert!(keys >= rounds * KEYS);
}

#[track_caller]
fn same(gateway: &Gateway, read: &Reply, sent: &Reply, text: &str, what: &str) {
    assert_eq!((read.status.as_u16(), sent.status.as_u16()), (200, 200), "{what}: {} {}", read.text(), sent.text());
    assert_eq!((sent.json(), sent.header("etag")), (read.json(), read.header("etag")), "{what}");
    assert!(file(gateway) == text, "{what}: the file has changed\n{}", read.text());
}
