//! The same for secrets that stand in the file, in variables and in secret files: what is wrong
//! around them is told without them, by the running gateway and by every command.

use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::attack::{Wrong, private_key, spellings};
use super::{CHAT, Watched, contains, parrot};
use crate::support::canaries::Canaries;
use crate::support::gateway::{launch, run};
use crate::support::is_long;
use crate::support::upstream::Upstream;

/// What the config refers to; the rest is written out.
struct Around {
    env: Vec<(&'static str, String)>,
    secret_file: String,
}

/// A config that is good, with a secret wherever one can stand.
fn whole(canaries: &mut Canaries, base: &str) -> (Value, Around, Vec<String>) {
    let mut secret = |what: &str| canaries.make(what);
    let sent = vec![secret("up: literal"), secret("up: in a variable"), secret("up: in a file"), secret("up: header")];
    let whole = json!({
        "server": {"listen": ["127.0.0.1:0"]},
        "observability": {"log_level": "trace"},
        "management": {"keys": [{"name": "ops", "value": "env.KW_MANAGER"}, {"name": "spare", "value": secret("management")}], "rate_limit_per_minute": 1_000_000},
        "projects": [{"id": "app", "keys": [{"name": "ci", "value": "env.KW_PROJECT"}, {"name": "spare", "value": secret("project")}], "pin": true}],
        "providers": {
            "up": {
                "custom_provider_config": {"base_provider_type": "openai"},
                "network_config": {"base_url": base, "extra_headers": {"x-team-token": sent[3]}},
                "keys": [
                    {"id": "literal", "name": "a", "value": sent[0]},
                    {"id": "variable", "name": "b", "value": "env.KW_UP"},
                    {"id": "file", "name": "c", "value": {"file": "secret.txt"}},
                    {"id": "broken", "name": "d", "value": "env.KW_BROKEN"},
                ],
            },
            "openai": {"network_config": {"base_url": base}, "keys": [{"value": {"value": secret("openai"), "env_var": "", "from_env": false}}]},
            "groq": {"network_config": {"base_url": "env.KW_URL"}, "keys": [{"value": secret("groq")}]},
        },
    });
    let env = vec![
        ("KW_MANAGER", secret("management, in a variable")),
        ("KW_PROJECT", secret("project, in a variable")),
        ("KW_UP", sent[1].clone()),
        ("KW_BROKEN", format!("{}\r\nx: y", secret("with a line end, in a variable"))),
        ("KW_URL", format!("https://user:{}@host.example", secret("URL in a variable"))),
    ];
    (whole, Around { env, secret_file: format!("{}\n", sent[2]) }, sent)
}

/// A member of the config with something else in it; what is not there is made.
fn with(whole: &Value, pointer: &str, value: Value) -> String {
    let mut whole = whole.clone();
    let mut place = &mut whole;
    for name in pointer.split('/').skip(1) {
        place = match name.parse::<usize>() {
            Ok(at) => &mut place[at],
            Err(_) => {
                if !place.is_object() {
                    *place = json!({});
                }
                &mut place[name]
            }
        };
    }
    *place = value;
    format!("{whole:#}\n")
}

/// Members with a secret where something else belongs, or beside it.
const MEMBERS: [Wrong<Value>; 42] = [
    ("/management/keys/1", |s| json!({"name": "x", "hash": s})),
    ("/management/keys/1", |s| json!({"name": "x", "hash": "blake3:00", "value": s})),
    ("/management/keys/1", |s| json!({"name": "x", "value": format!("mlx_mk_{s}")})),
    ("/management/keys/1", |s| json!({"name": "x", "value": &s[..20]})),
    ("/management/keys/1", |s| json!({"name": "x", "value": [s]})),
    ("/management/keys/1", |s| json!({"name": "x", "token": s})),
    ("/management/keys/1", |s| json!(s)),
    ("/management/sealing_key", |s| json!(&s[..20])),
    ("/management/sealing_key", |s| json!({"value": [s]})),
    ("/management/allowed_origins", |s| json!([format!("http://user:{s}@10.0.0.1")])),
    ("/management/listen", |s| json!([format!("https://user:{s}@0.0.0.0:1")])),
    ("/management/rate_limit_per_minute", |s| json!(s)),
    ("/projects/0/keys/1", |s| json!({"name": "x", "hash": s})),
    ("/projects/0/keys/1", |s| json!({"name": "x", "value": format!("mlx_sk_{s}")})),
    ("/projects/0/keys/1", |s| json!({"name": "x", "value": s, "rate_limit_per_minute": s})),
    ("/projects/0/on_state_outage", |s| json!(s)),
    ("/projects/0/models", |s| json!(s)),
    ("/state", |s| json!({"redis": {"url": format!("redis://:{s}@host.example")}})),
    ("/state", |s| json!({"redis": s})),
    ("/observability/log_level", |s| json!(s)),
    ("/observability/otlp_endpoint", |s| json!(format!("https://user:{s}@host.example"))),
    ("/server/listen", |s| json!([format!("https://user:{s}@0.0.0.0:1")])),
    ("/server/listen", |s| json!(s)),
    ("/server/drain_seconds", |s| json!(s)),
    ("/server/limits", |s| json!({"in_flight_max": s})),
    ("/routes", |s| json!({"@r": {"strategy": s, "targets": ["up/m"]}})),
    ("/prices", |s| json!({"m": {"input_usd_per_mtok": s}})),
    ("/providers/up/keys/0/weight", |s| json!(s)),
    ("/providers/up/keys/0/created_at", |s| json!(s)),
    ("/providers/up/keys/0", |s| json!(s)),
    ("/providers/up/keys", |s| json!(s)),
    ("/providers/up/api_key", |s| json!(s)),
    ("/providers/up/custom_provider_config/base_provider_type", |s| json!(s)),
    ("/providers/up/network_config/base_url", |s| json!(format!("https://user:{s}@host.example"))),
    ("/providers/up/network_config/base_url", |s| json!(format!("https://host.example?key={s}"))),
    ("/providers/up/network_config/base_url", |s| json!(s)),
    ("/providers/up/network_config/ca_cert_pem", |s| json!(s)),
    ("/providers/up/network_config/ca_cert_pem", |s| json!(private_key(s))),
    ("/providers/up/proxy_config", |s| json!({"type": "http", "url": "http://p.example", "password": s})),
    ("/providers/azure", |s| json!({"keys": [{"value": s, "azure_key_config": {"client_secret": s}}]})),
    ("/providers/vertex", |s| json!({"keys": [{"vertex_key_config": {"auth_credentials": s, "extra": 1}}]})),
    (
        "/providers/bedrock",
        |s| json!({"keys": [{"bedrock_key_config": {"access_key": s, "secret_key": s, "session_token": s, "external_id": s}}]}),
    ),
];

/// Texts that are no config.
const TEXTS: [Wrong<String>; 12] = [
    ("nothing but a secret", str::to_owned),
    ("a string", |s| json!(s).to_string()),
    ("no quotes", |s| format!("{{\"providers\": {{\"up\": {{\"keys\": [{{\"value\": {s}}}]}}}}}}")),
    ("cut off", |s| format!("{{\"providers\": {{\"up\": {{\"keys\": [{{\"value\": \"{s}")),
    ("no comma", |s| format!("{{\"providers\": {{\"up\": {{\"keys\": [{{\"value\": {} \"a\": 1}}]}}}}}}", json!(s))),
    ("twice", |s| {
        format!("{{\"providers\": {{\"up\": {{\"keys\": [{{\"value\": {}, \"value\": {}}}]}}}}}}", json!(s), json!(s))
    }),
    ("an open comment", |s| format!("{{}} /* {s}")),
    ("a text behind", |s| format!("{{}} {s}")),
    ("a bad escape", |s| format!("{{\"providers\": \"\\x{s}\"}}")),
    ("a control character", |s| format!("{{\"providers\": \"{s}\u{1}\"}}")),
    ("a merge conflict", |s| format!("{{\n<<<<<<< HEAD\n\"value\": {}\n=======\n}}\n", json!(s))),
    ("a shell's variable", |s| format!("{{\"providers\": {{\"up\": ${{{s}}}}}}}")),
];

/// Texts with a fault and a secret beside it, or in the middle of it.
fn faults(canaries: &mut Canaries, whole: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    // A name is shown wherever a name stands.
    let names = ["as a variable's name", "as a file's name", "behind env."];
    for pointer in [
        "/providers/up/keys/0/value",
        "/providers/openai/keys/0/value",
        "/providers/up/network_config/extra_headers/x-team-token",
    ] {
        for (how, spelling) in spellings().into_iter().filter(|(how, _)| !names.contains(how)) {
            let what = format!("{pointer} {how}");
            let value = spelling(&canaries.make(&*what));
            all.push((what, with(whole, pointer, value)));
        }
    }
    for (at, (pointer, value)) in MEMBERS.into_iter().enumerate() {
        let what = format!("{pointer}, fault {at}");
        let value = value(&canaries.make(&*what));
        all.push((what, with(whole, pointer, value)));
    }
    for (what, text) in TEXTS {
        all.push((what.to_owned(), text(&canaries.make(what))));
    }
    all
}

/// Every command that reads a config; what it prints is looked at.
fn commands(canaries: &Canaries, around: &Around, good: &Path, bad: &Path, turn: usize) -> usize {
    let (good, bad, dir) = (good.to_str().unwrap(), bad.to_str().unwrap(), bad.parent().unwrap());
    let env: Vec<(&str, &str)> = around.env.iter().map(|(name, value)| (*name, &**value)).collect();
    let check: [&[&str]; 2] = [&["check", bad], &["check", "--format", "json", bad]];
    let others: [&[&str]; 6] = [
        &["diff", good, bad],
        &["diff", bad, good],
        &["route", "up/m", "--config", bad],
        &["import", "bifrost", bad],
        &["import", "litellm", bad],
        &["seal", bad],
    ];
    let mut count = 0;
    for arguments in [check[turn % 2], others[turn % 6]] {
        let (code, stdout, stderr) = run(arguments, &env, dir);
        let command = arguments[..2.min(arguments.len() - 1)].join(" ");
        assert!((0..=2).contains(&code), "{command}: {code}");
        canaries.look(&format!("stderr of {command}"), stderr);
        // What an import prints is the config itself.
        if arguments[0] != "import" {
            canaries.look(&format!("stdout of {command}"), stdout);
        }
        count += 1;
    }
    count
}

/// All commands on all faults, and the whole file sealed: how many they were, the file, its key.
fn all_commands(
    canaries: &Canaries,
    around: &Around,
    faults: &[(String, String)],
    text: &str,
) -> (usize, String, Vec<u8>) {
    let dir = tempfile::TempDir::with_prefix("keyway-canary-").unwrap();
    let (good, bad) = (dir.path().join("good.json"), dir.path().join("bad.json"));
    std::fs::write(dir.path().join("secret.txt"), &around.secret_file).unwrap();
    std::fs::write(&good, text).unwrap();
    let mut count = 0;
    for (turn, (_, fault)) in faults.iter().enumerate() {
        std::fs::write(&bad, fault).unwrap();
        count += commands(canaries, around, &good, &bad, turn);
    }
    let sealed = dir.path().join("sealed.json");
    std::fs::copy(&good, &sealed).unwrap();
    let (code, _, stderr) = run(&["seal", sealed.to_str().unwrap()], &[], dir.path());
    assert_eq!(code, 0, "{stderr}");
    canaries.look_at_files(dir.path(), &["good.json", "bad.json", "secret.txt"]);
    (count, std::fs::read_to_string(sealed).unwrap(), std::fs::read(dir.path().join(".keyway/sealing.key")).unwrap())
}

#[tokio::test]
async fn what_stands_in_the_file_stays_there() {
    let mut canaries = Canaries::default();
    let upstream = parrot();
    let (whole, around, sent) = whole(&mut canaries, &upstream.base());
    let faults = faults(&mut canaries, &whole);
    let text = format!("{whole:#}\n");
    let canaries = Arc::new(canaries);

    // Commands on files of their own, while the gateway is attacked with the same texts.
    let commands = std::thread::spawn({
        let (canaries, faults, text) = (Arc::clone(&canaries), faults.clone(), text.clone());
        let around = Around { env: around.env.clone(), secret_file: around.secret_file.clone() };
        move || all_commands(&canaries, &around, &faults, &text)
    });

    let mut start = launch(text.clone());
    for (name, value) in &around.env {
        start = start.env(name, value);
    }
    let gateway = start.start();
    std::fs::write(gateway.dir().join("secret.txt"), &around.secret_file).unwrap();
    let manager = around.env[0].1.clone();
    let mut watched = Watched { gateway, canaries, manager, requests: 0 };
    reload(&mut watched).await;
    arrive(&mut watched, &around, &upstream, &sent, &["literal", "variable", "file"]).await;
    let (refused, taken) = loaded(&mut watched, &faults).await;
    let (commands, sealed, key) = commands.join().unwrap();
    std::fs::create_dir_all(watched.gateway.dir().join(".keyway")).unwrap();
    let key_file = watched.gateway.dir().join(".keyway/sealing.key");
    std::fs::write(&key_file, key).unwrap();
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    watched.gateway.write_config(&sealed);
    assert_eq!(reload(&mut watched).await, "applied");
    // The others are out of service since their upstream refused them.
    arrive(&mut watched, &around, &upstream, &sent, &["literal"]).await;
    watched.look_around(&["secret.txt"]).await;
    println!("{refused} configs refused, {taken} taken, {commands} commands");
    watched.report("by file");
}

/// Each fault checked, and some loaded: how many were refused, and how many were none.
async fn loaded(watched: &mut Watched, faults: &[(String, String)]) -> (usize, usize) {
    let (mut refused, mut taken) = (0, 0);
    let every = if is_long() { 1 } else { 4 };
    for (turn, (what, fault)) in faults.iter().enumerate() {
        let checked = watched.call(Method::POST, "/api/config/check", &[], fault.as_bytes()).await;
        assert_eq!(checked.status, 200, "{what}");
        // The gateway waits until a file has settled, which takes its time.
        if turn % every != 0 {
            continue;
        }
        watched.gateway.write_config(fault);
        match reload(watched).await.as_str() {
            "refused" => {
                refused += 1;
                assert_eq!(checked.json()["valid"], false, "{what}: refused when loaded, and no problem in a dry run");
                for path in ["/api/config/status", "/readyz?verbose"] {
                    watched.call(Method::GET, path, &[], "").await;
                }
                let write = watched.call(Method::DELETE, "/api/providers/groq", &[], "").await;
                assert_eq!(write.status, 409, "{what}: {}", write.text());
            }
            _ => taken += 1,
        }
    }
    assert!(refused * every > 60, "{refused} refused, {taken} taken");
    (refused, taken)
}

async fn reload(watched: &mut Watched) -> String {
    let reply = watched.call(Method::POST, "/api/config/reload", &[], "").await;
    assert_eq!(reply.status, 200);
    reply.json()["result"].as_str().unwrap().to_owned()
}

/// Each secret of the provider reaches its upstream, which repeats it.
async fn arrive(watched: &mut Watched, around: &Around, upstream: &Upstream, sent: &[String], ids: &[&str]) {
    let bearer = format!("Bearer {}", around.env[1].1);
    for (at, id) in ids.iter().enumerate() {
        upstream.forget();
        for status in [200, 401] {
            let body = json!({"model": format!("up/m-{status}"), "messages": []}).to_string();
            let headers = [("authorization", &*bearer), ("x-bf-api-key-id", id)];
            watched.call(Method::POST, CHAT, &headers, body).await;
        }
        let seen = upstream.seen();
        let arrived =
            |secret: &str| seen.iter().any(|one| one.headers.values().any(|v| contains(v.as_bytes(), secret)));
        assert!(arrived(&sent[at]) && arrived(&sent[3]), "{id} did not arrive");
    }
}
