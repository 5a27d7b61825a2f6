//! Replacements that would lose or move a secret: a mask that is not the stored one's, a reference
//! that a body may not name, a new place for what is kept.

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{Reply, request, send};
use crate::support::gateway::{Gateway, launch};

async fn call(gateway: &Gateway, method: Method, path: &str, body: &str) -> Reply {
    let url = gateway.url(&format!("/api/providers{path}"));
    send(request(method, &url, &[("content-type", "application/json")], body.to_owned())).await
}

const FILE: &str = r#"{
  "server": {"listen": ["127.0.0.1:0"]},
  "management": {"references": {"env": ["*"]}},
  "providers": {
    "openai": {"keys": [
      {"id": "long", "name": "long", "value": "sk-long-0123456789abcdef"},
      {"id": "other", "name": "other", "value": "sk-oth-0123456789ghijklm"},
      {"id": "short", "name": "short", "value": "sk-short"},
      {"id": "env", "name": "env", "value": "env.A_KEY"},
      {"id": "file", "name": "file", "value": {"file": "secret.txt"}}
    ]},
    "vllm": {"keys": [{"id": "box", "name": "box", "value": "sk-box-0123456789abcdef", "vllm_key_config": {"url": "https://box.example"}}]},
    "up": {"custom_provider_config": {"base_provider_type": "openai"},
      "network_config": {"base_url": "https://up.example", "extra_headers": {"x-token": "sk-header-0123456789abcdef"}},
      "keys": [{"id": "up", "name": "up", "value": "env.A_KEY"}]}
  }
}
"#;

fn stars(head: &str, count: usize, tail: &str) -> String {
    format!("{head}{}{tail}", "*".repeat(count))
}

struct Scene {
    gateway: Gateway,
    count: usize,
}

impl Scene {
    fn start() -> Self {
        let env = [("A_KEY", "sk-a-0123456789"), ("B_KEY", "sk-b-0123456789"), ("KEYWAY_KEY", "sk-own-0123456789")];
        let gateway = env.into_iter().fold(launch(FILE), |launch, (name, value)| launch.env(name, value)).start();
        std::fs::write(gateway.dir().join("secret.txt"), "sk-in-a-file-0123456789").unwrap();
        Self { gateway, count: 0 }
    }

    /// Taken or refused: the file stays as it is.
    async fn check(&mut self, path: &str, body: Value, expected: Result<(), &str>) {
        let reply = call(&self.gateway, Method::PUT, path, &body.to_string()).await;
        let code = reply.json()["error"]["code"].as_str().map_or(Ok(()), |code| Err(code.to_owned()));
        assert_eq!(code, expected.map_err(str::to_owned), "{path} {body}: {}", reply.text());
        assert_eq!(reply.status, if expected.is_ok() { 200 } else { 400 }, "{path} {body}");
        assert!(std::fs::read_to_string(self.gateway.config_path()).unwrap() == FILE, "{path} {body}");
        self.count += 1;
    }
}

/// The forms in which a client may send a mask back.
fn forms(mask: &str) -> [Value; 4] {
    [
        json!(mask),
        json!({"value": mask}),
        json!({"value": mask, "env_var": "", "from_env": false}),
        json!({"value": mask, "type": "plain_text"}),
    ]
}

#[tokio::test]
async fn the_exact_mask_keeps_and_no_other_does() {
    let mut scene = Scene::start();
    let (long, other, short) = (stars("sk-l", 24, "cdef"), stars("sk-o", 24, "jklm"), stars("", 8, ""));
    for (id, kept) in [("long", &*long), ("other", &other), ("short", &short)] {
        let path = format!("/openai/keys/{id}");
        for value in forms(kept) {
            scene.check(&path, json!({"name": id, "value": value}), Ok(())).await;
        }
        scene.check(&path, json!({"name": id}), Ok(())).await;
        scene.check(&path, json!({"name": id, "value": ""}), Ok(())).await;
        let cut = [
            stars("sk-l", 23, "cdef"),
            stars("sk-l", 25, "cdef"),
            stars("k-l", 24, "cdef"),
            stars("sk-l", 24, ""),
            stars("", 24, "cdef"),
        ];
        let foreign = [
            stars("", 4, ""),
            stars("", 9, ""),
            stars("", 32, ""),
            stars("sk-x", 24, "cdef"),
            "<REDACTED>".into(),
            "[redacted]".into(),
        ];
        let all = [long.clone(), other.clone(), short.clone()].into_iter().chain(cut).chain(foreign);
        for mask in all.filter(|mask| mask != kept) {
            for value in forms(&mask) {
                scene.check(&path, json!({"name": id, "value": value}), Err("mask_mismatch")).await;
            }
        }
    }
    for id in ["env", "file"] {
        for mask in [&long, &short] {
            scene.check(&format!("/openai/keys/{id}"), json!({"name": id, "value": mask}), Err("mask_mismatch")).await;
        }
    }
    println!("{} replacements", scene.count);
}

#[tokio::test]
async fn references_stay_and_what_guards_the_gateway_is_nobodys() {
    let mut scene = Scene::start();
    for value in [
        json!("env.A_KEY"),
        json!({"env_var": "A_KEY"}),
        json!({"value": "", "env_var": "env.A_KEY", "from_env": true}),
        json!({"value": "********", "env_var": "env.A_KEY", "from_env": true}),
    ] {
        scene.check("/openai/keys/env", json!({"name": "env", "value": value}), Ok(())).await;
    }
    scene
        .check(
            "/openai/keys/file",
            json!({"name": "file", "value": {"value": "", "env_var": "", "from_env": false, "file": "secret.txt"}}),
            Ok(()),
        )
        .await;
    for name in ["KEYWAY_KEY", "KEYWAY_SEALING_KEY", "KEYWAY_"] {
        for value in [
            json!(format!("env.{name}")),
            json!({"env_var": name}),
            json!({"ref": name, "type": "env"}),
            json!({"value": format!("env.{name}")}),
        ] {
            scene
                .check("/openai/keys/long", json!({"name": "long", "value": value}), Err("reference_not_allowed"))
                .await;
        }
    }
    for file in ["/etc/passwd", "config.json", ".keyway/sealing.key", "../secret.txt", "./x/../secret.txt"] {
        scene
            .check("/openai/keys/long", json!({"name": "long", "value": {"file": file}}), Err("reference_not_allowed"))
            .await;
    }
    println!("{} replacements", scene.count);
}

/// What is kept by absence, by its mask, or by the reference that stands there.
#[tokio::test]
async fn a_new_place_needs_the_secret_anew() {
    let mut scene = Scene::start();
    let (long, short) = (stars("sk-l", 24, "cdef"), stars("", 8, ""));
    let required = Err("secret_required_for_new_destination");
    for (id, value) in [
        ("long", Value::Null),
        ("long", json!(long)),
        ("short", json!(short)),
        ("env", json!("env.A_KEY")),
        ("env", json!({"value": "", "env_var": "env.A_KEY", "from_env": true})),
    ] {
        let mut body = json!({"name": id, "base_url": "https://elsewhere.example"});
        if !value.is_null() {
            body["value"] = value;
        }
        scene.check(&format!("/openai/keys/{id}"), body, required).await;
    }
    for url in
        ["https://elsewhere.example", "http://box.example", "https://box.example:8443", "https://box.example/other"]
    {
        scene.check("/vllm/keys/box", json!({"name": "box", "vllm_key_config": {"url": url}}), required).await;
        scene.check("/vllm/keys/box", json!({"name": "box", "base_url": url, "vllm_key_config": null}), required).await;
    }
    let up = |network: Value, custom: Value| json!({"network_config": network, "custom_provider_config": custom});
    let custom = json!({"base_provider_type": "openai"});
    let ca = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap().cert.pem();
    for (network, custom) in [
        (json!({"base_url": "https://elsewhere.example"}), custom.clone()),
        (json!({"base_url": "https://up.example/v2"}), custom.clone()),
        (json!({"base_url": "https://up.example", "insecure_skip_verify": true}), custom.clone()),
        (json!({"base_url": "https://up.example", "ca_cert_pem": ca}), custom.clone()),
        (json!({"base_url": "https://up.example"}), json!({"base_provider_type": "groq"})),
        (
            json!({"base_url": "https://up.example"}),
            json!({"base_provider_type": "openai", "request_path_overrides": {"chat_completion": "https://elsewhere.example/chat"}}),
        ),
        (
            json!({"base_url": "https://up.example"}),
            json!({"base_provider_type": "openai", "request_path_overrides": {"chat_completion": "/other"}}),
        ),
    ] {
        scene.check("/up", up(network, custom), required).await;
    }
    println!("{} replacements", scene.count);
}

/// Without `management.references` and with a list of their own.
#[tokio::test]
async fn what_a_body_may_refer_to() {
    let names = ["A_KEY", "OTHER_TOKEN", "AWS_PROFILE", "HOME_DIR", "KEYWAY_KEY", "LISTED"];
    let mut count = 0;
    for (rules, allowed) in [
        ("", &["A_KEY", "OTHER_TOKEN", "AWS_PROFILE"][..]),
        (r#""management": {"references": {"env": []}},"#, &[]),
        (r#""management": {"references": {"env": ["LISTED", "KEYWAY_*", "KEYWAY_KEY"]}},"#, &["LISTED"]),
        (
            r#""management": {"references": {"env": ["*"]}},"#,
            &["A_KEY", "OTHER_TOKEN", "AWS_PROFILE", "HOME_DIR", "LISTED"],
        ),
    ] {
        let config = format!(r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, {rules} "providers": {{"openai": {{}}}}}}"#);
        let gateway = names.iter().fold(launch(&*config), |launch, name| launch.env(name, "sk-0123456789")).start();
        for name in names {
            for value in [json!(format!("env.{name}")), json!({"env_var": name, "from_env": true})] {
                let body = json!({"name": format!("{name}-{count}"), "value": value}).to_string();
                let reply = call(&gateway, Method::POST, "/openai/keys", &body).await;
                let code = reply.json()["error"]["code"].as_str().unwrap_or("taken").to_owned();
                // What was taken stands in the file now: taken again is no news.
                let expected = if allowed.contains(&name) { "taken" } else { "reference_not_allowed" };
                assert_eq!(code, expected, "{rules} {body}");
                count += 1;
            }
        }
    }
    println!("{count} references");
}
