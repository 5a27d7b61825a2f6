//! Bodies that carry a secret: those that must be taken, and all the ways to send it wrongly.

use http::Method;
use keyway::dialect::Dialect;
use keyway::provider::{AuthKind, ProviderRow, rows};
use serde_json::{Value, json};

use crate::support::canaries::Canaries;

/// One request.
pub struct Attack {
    /// For messages; holds no secret.
    pub what: String,
    pub method: Method,
    pub path: String,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Attack {
    fn json(what: impl Into<String>, method: Method, path: impl Into<String>, body: &Value) -> Self {
        Self::text(what, method, path, body.to_string())
    }

    fn text(what: impl Into<String>, method: Method, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let (what, path) = (what.into(), path.into());
        Self { what, method, path, content_type: "application/json", body: body.into() }
    }
}

/// A value that holds the secret it is given.
pub type Form = fn(&str) -> Value;
/// A text that does, with what is wrong about it.
pub type Wrong<T> = (&'static str, fn(&str) -> T);

/// Whoever is asked for a chat with nothing but a value.
fn served() -> impl Iterator<Item = &'static ProviderRow> {
    let by_value = |row: &&ProviderRow| row.speaks(Dialect::OpenAi) && row.auth != AuthKind::GoogleOAuth;
    rows().iter().filter(|row| !row.in_process).filter(by_value)
}

/// Each of these providers at `base` and with one key that `first-…` names.
pub fn config(base: &str) -> String {
    let mut providers = serde_json::Map::new();
    let provider = |id: &str| json!({"network_config": {"base_url": base}, "keys": [{"id": format!("first-{id}"), "name": "first", "value": "env.FIRST_KEY"}]});
    providers.extend(served().map(|row| (row.id.to_owned(), provider(row.id))));
    let mut up = provider("up");
    up["custom_provider_config"] = json!({"base_provider_type": "openai"});
    providers.insert("up".to_owned(), up);
    let whole = json!({
        "server": {"listen": ["127.0.0.1:0"]},
        "observability": {"log_level": "trace"},
        "management": {"keys": [{"name": "ops", "value": "env.KW_MANAGER"}], "rate_limit_per_minute": 1_000_000, "allowed_origins": [base]},
        "projects": [{"id": "app", "keys": [{"name": "ci", "value": "env.KW_PROJECT"}], "pin": true, "passthrough": true}],
        "providers": providers,
    });
    format!("{whole:#}\n")
}

fn keys_of(provider: &str) -> String {
    format!("/api/providers/{provider}/keys")
}

/// Bodies that are taken, each with the secret that has to arrive upstream.
pub fn good(canaries: &mut Canaries, base: &str) -> Vec<(Attack, String)> {
    let mut all = Vec::new();
    let mut add = |what: String, method: Method, path: String, body: &dyn Fn(&str) -> Value| {
        let secret = canaries.make(&*what);
        all.push((Attack::json(what, method, path, &body(&secret)), secret));
    };
    for id in served().map(|row| row.id).chain(["up"]) {
        let create = |spelling: &str| format!("{id}: a new key, {spelling}");
        add(create("as text"), Method::POST, keys_of(id), &|s| json!({"name": "a", "value": s}));
        add(create("as an object"), Method::POST, keys_of(id), &|s| json!({"name": "b", "value": {"value": s}}));
        add(
            create("as it is shown"),
            Method::POST,
            keys_of(id),
            &|s| json!({"name": "c", "value": {"value": s, "env_var": "", "from_env": false}, "models": ["*"]}),
        );
        let path = format!("{}/first-{id}", keys_of(id));
        add(format!("{id}: another value"), Method::PUT, path, &|s| json!({"name": "first", "value": s}));
    }
    let custom = json!({"base_provider_type": "openai"});
    let keyless = json!({"base_provider_type": "openai", "is_key_less": true});
    let network = |s: &str| json!({"base_url": base, "extra_headers": {"x-team": s, "x-plain": "a"}});
    add("a provider with keys".into(), Method::POST, "/api/providers".into(), &|s| {
        json!({"provider": "old-form", "custom_provider_config": custom, "network_config": {"base_url": base},
            "keys": [{"name": "a", "value": s}]})
    });
    add(
        "a provider with a header".into(),
        Method::POST,
        "/api/providers".into(),
        &|s| json!({"provider": "with-header", "custom_provider_config": keyless, "network_config": network(s)}),
    );
    add(
        "a provider that PUT makes".into(),
        Method::PUT,
        "/api/providers/put-made".into(),
        &|s| json!({"custom_provider_config": keyless, "network_config": network(s)}),
    );
    add(
        "a header for a provider".into(),
        Method::PUT,
        "/api/providers/up".into(),
        &|s| json!({"custom_provider_config": custom, "network_config": network(s)}),
    );
    add(
        "another header for a provider".into(),
        Method::PUT,
        "/api/providers/up".into(),
        &|s| json!({"custom_provider_config": custom, "network_config": network(s)}),
    );
    all
}

/// Places of credentials in a key.
fn credentials(row: &ProviderRow) -> Vec<&'static str> {
    let mut fields = vec!["/value"];
    match row.id {
        "azure" => fields.push("/azure_key_config/client_secret"),
        "vertex" => fields.push("/vertex_key_config/auth_credentials"),
        "bedrock" => fields.extend([
            "/bedrock_key_config/access_key",
            "/bedrock_key_config/secret_key",
            "/bedrock_key_config/session_token",
            "/bedrock_key_config/external_id",
        ]),
        // Of another provider: refused, and not seen either.
        "openai" => fields.extend(["/azure_key_config/client_secret", "/vertex_key_config/auth_credentials"]),
        _ => {}
    }
    fields
}

/// An object that holds `value` at a pointer.
fn at(pointer: &str, value: Value) -> Value {
    pointer.rsplit('/').filter(|name| !name.is_empty()).fold(value, |inner, name| json!({name: inner}))
}

/// Forms of a secret that are none.
pub fn spellings() -> Vec<Wrong<Value>> {
    vec![
        ("in a list", |s| json!([s])),
        ("in a list as value", |s| json!({"value": [s]})),
        ("twice wrapped", |s| json!({"value": {"value": s}})),
        ("misspelt", |s| json!({"valeu": s})),
        ("beside an unknown member", |s| json!({"value": s, "extra": s})),
        ("beside a wrong type", |s| json!({"value": s, "from_env": "yes"})),
        ("as a reference", |s| json!({"ref": s})),
        ("as a vault's", |s| json!({"ref": s, "type": "vault"})),
        ("as a type", |s| json!({"value": "x", "type": s})),
        ("as a variable's name", |s| json!({"env_var": s, "from_env": true})),
        ("as a file's name", |s| json!({"file": s})),
        ("said to be a variable", |s| json!({"value": s, "from_env": true})),
        ("stale beside a variable", |s| json!({"value": s, "env_var": "env.NOT_LISTED", "from_env": true})),
        ("beside a file", |s| json!({"value": s, "file": "/etc/passwd"})),
        ("behind env.", |s| json!(format!("env.{s}"))),
        ("behind vault.", |s| json!(format!("vault.{s}"))),
        ("behind sealed:", |s| json!(format!("sealed:v1:{s}"))),
        ("behind another sealed:", |s| json!(format!("sealed:v7:{s}"))),
        ("with a line end", |s| json!(format!("{s}\r\nx-evil: 1"))),
        ("with a zero", |s| json!(format!("{s}\u{0}"))),
        ("with a letter that no header has", |s| json!(format!("{s}\u{44f}"))),
        ("beside a wrong number", |s| json!({"value": s, "env_var": 7})),
    ]
}

/// Texts that look like an address and hold a secret.
fn addresses() -> Vec<Wrong<String>> {
    vec![
        ("user information", |s| format!("https://user:{s}@host.example/v1")),
        ("a user", |s| format!("https://{s}@host.example")),
        ("a query", |s| format!("https://host.example/v1?key={s}")),
        ("a fragment", |s| format!("https://host.example/v1#{s}")),
        ("no URL", str::to_owned),
        ("another scheme", |s| format!("ftp://{s}")),
        ("a port", |s| format!("https://host.example:{s}")),
        ("a private address", |s| format!("http://user:{s}@10.0.0.1")),
    ]
}

/// Bodies that are refused.
pub fn bad(canaries: &mut Canaries, base: &str) -> Vec<Attack> {
    let mut all = Vec::new();
    credentials_in_wrong_forms(canaries, &mut all);
    addresses_with_secrets(canaries, base, &mut all);
    wrong_members(canaries, base, &mut all);
    broken_texts(canaries, &mut all);
    all
}

fn credentials_in_wrong_forms(canaries: &mut Canaries, all: &mut Vec<Attack>) {
    for row in rows().iter().filter(|row| !row.id.is_empty()) {
        for field in credentials(row) {
            for (how, spelling) in spellings() {
                let what = format!("{}{field} {how}", row.id);
                let mut key = at(field, spelling(&canaries.make(&*what)));
                key["name"] = json!("wrong");
                all.push(Attack::json(&*what, Method::POST, keys_of(row.id), &key));
                if row.id == "openai" {
                    let path = format!("{}/first-{}", keys_of(row.id), row.id);
                    all.push(Attack::json(format!("PUT {what}"), Method::PUT, path, &key));
                    let provider = json!({"provider": "xai2", "keys": [key]});
                    all.push(Attack::json(format!("old form: {what}"), Method::POST, "/api/providers", &provider));
                }
            }
        }
    }
}

fn addresses_with_secrets(canaries: &mut Canaries, base: &str, all: &mut Vec<Attack>) {
    for (how, spelling) in addresses() {
        let mut add = |field: &str, method: Method, path: &str, body: &dyn Fn(&str) -> Value| {
            let what = format!("{path} {field} with {how}");
            let text = spelling(&canaries.make(&*what));
            all.push(Attack::json(what, method, path, &body(&text)));
        };
        let with = |config: &str, field: &str, text: &str| {
            let mut key = json!({"name": "wrong", "value": "sk-0123456789"});
            key[config] = json!({field: text});
            key
        };
        for value in [|t: &str| json!(t), |t: &str| json!({"value": t})] {
            add(
                "base_url",
                Method::POST,
                "/api/providers/openai/keys",
                &|t| json!({"name": "wrong", "value": "sk-0123456789", "base_url": value(t)}),
            );
        }
        for id in ["vllm", "ollama", "sgl"] {
            add("url", Method::POST, &keys_of(id), &|t| with(&format!("{id}_key_config"), "url", t));
        }
        add("endpoint", Method::POST, "/api/providers/azure/keys", &|t| with("azure_key_config", "endpoint", t));
        add(
            "alias",
            Method::POST,
            "/api/providers/openai/keys",
            &|t| json!({"name": "wrong", "value": "sk-0123456789", "aliases": {"a": {"model_id": "b", "endpoint": t}}}),
        );
        for (method, path) in [(Method::POST, "/api/providers"), (Method::PUT, "/api/providers/fresh")] {
            let provider = |member: &str, value: Value| {
                let mut provider = json!({"name": "fresh", "custom_provider_config": {"base_provider_type": "openai"}});
                provider["network_config"] = json!({"base_url": base});
                provider[member] = value;
                provider
            };
            add("base_url", method.clone(), path, &|t| provider("network_config", json!({"base_url": t})));
            add("proxy", method.clone(), path, &|t| provider("proxy_config", json!({"type": "http", "url": t})));
            if how != "no URL" {
                add("path", method.clone(), path, &|t| {
                    let paths = json!({"chat_completion": t});
                    let custom = json!({"base_provider_type": "openai", "request_path_overrides": paths});
                    provider("custom_provider_config", custom)
                });
            }
        }
    }
}

fn wrong_members(canaries: &mut Canaries, base: &str, all: &mut Vec<Attack>) {
    for (i, body) in wrong_keys().into_iter().enumerate() {
        let what = format!("a key with a wrong member, {i}");
        let mut body = body(&canaries.make(&*what));
        if body["name"].is_null() {
            body["name"] = json!("wrong");
        }
        all.push(Attack::json(&*what, Method::POST, keys_of("up"), &body));
        all.push(Attack::json(what, Method::POST, "/api/providers", &json!({"provider": "xai2", "keys": [body]})));
    }
    for (i, body) in wrong_providers().into_iter().enumerate() {
        for (method, path) in [(Method::POST, "/api/providers"), (Method::PUT, "/api/providers/up")] {
            let what = format!("{method} a provider with a wrong member, {i}");
            let mut body = body(&canaries.make(&*what));
            if method == Method::POST {
                body["provider"] = json!("fresh");
            }
            if body["custom_provider_config"].is_null() {
                body["custom_provider_config"] = json!({"base_provider_type": "openai"});
            }
            if body["network_config"].is_object() || body["network_config"].is_null() {
                body["network_config"]["base_url"] = json!(base);
            }
            all.push(Attack::json(what, method, path, &body));
        }
    }
}

fn wrong_keys() -> [Form; 16] {
    [
        |s| json!({"value": s, "unknown": 1}),
        |s| json!({"value": s, "secret": s}),
        |s| json!({"value": s, "weight": "1"}),
        |s| json!({"value": s, "weight": -1}),
        |s| json!({"value": s, "models": s}),
        |s| json!({"value": s, "priority": s}),
        |s| json!({"value": s, "enabled": s}),
        |s| json!({"value": s, "aliases": s}),
        |s| json!({"value": s, "aliases": {"a": [s]}}),
        |s| json!({"value": s, "azure_key_config": s}),
        |s| json!({"value": s, "bedrock_key_config": {"batch_s3_config": {"buckets": [s]}}}),
        |s| json!({"value": s, "created_at": [s]}),
        |s| json!({"value": s, "name": [s]}),
        |s| json!({"value": s, "name": "first"}),
        |s| json!({"value": s, "id": "first-up"}),
        |s| json!({"value": s, "id": "not an id"}),
    ]
}

fn wrong_providers() -> [Form; 25] {
    [
        |s| json!({"network_config": s}),
        |s| json!({"network_config": {"extra_headers": s}}),
        |s| json!({"network_config": {"extra_headers": {"x-a": [s]}}}),
        |s| json!({"network_config": {"extra_headers": {"authorization": s}}}),
        |s| json!({"network_config": {"extra_headers": {"content-length": s}}}),
        |s| json!({"network_config": {"extra_headers": {"not a name": s}}}),
        |s| json!({"network_config": {"extra_headers": {"x-a": s, "X-A": s}}}),
        |s| json!({"network_config": {"extra_headers": {"x-a": format!("{s}\n")}}}),
        |s| json!({"network_config": {"extra_headers": {"x-a": s}, "max_conns_per_host": s}}),
        |s| json!({"network_config": {"extra_headers": {"x-a": s}, "max_retries": s}}),
        |s| json!({"network_config": {"ca_cert_pem": s}}),
        |s| json!({"network_config": {"ca_cert_pem": private_key(s)}}),
        |s| json!({"network_config": {"ca_cert_pem": combined(s)}}),
        |s| json!({"proxy_config": {"type": "http", "url": format!("http://{s}@p.example"), "username": s, "password": s}}),
        |s| json!({"proxy_config": {"type": s, "password": s}}),
        |s| json!({"proxy_config": s}),
        |s| json!({"custom_provider_config": {"base_provider_type": s}}),
        |s| json!({"custom_provider_config": {"is_key_less": s}}),
        |s| json!({"concurrency_and_buffer_size": {"concurrency": s}}),
        |s| json!({"openai_config": {"disable_store": s}}),
        |s| json!({"keys": s}),
        |s| json!({"keys": {"value": s}}),
        |s| json!({"keys": [s]}),
        |s| json!({"keys": [{"value": s, "name": "a"}, {"value": s, "name": "a"}]}),
        |s| json!({"api_key": s}),
    ]
}

/// A certificate that is one, and a key behind it.
fn combined(secret: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
    made.cert.pem() + &private_key(secret)
}

/// More than a body may have, and less than what a socket holds: it is refused unread.
const LONG: usize = keyway::limits::ADMIN_RECORD_BYTES_MAX + 1;

/// What somebody copies together with his certificate.
pub fn private_key(secret: &str) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n")
}

fn broken_texts(canaries: &mut Canaries, all: &mut Vec<Attack>) {
    let mut add = |what: &str, content_type: &'static str, body: &dyn Fn(&str) -> Vec<u8>| {
        for (method, path) in [
            (Method::POST, "/api/providers"),
            (Method::POST, "/api/providers/up/keys"),
            (Method::PUT, "/api/providers/up/keys/first-up"),
            (Method::PUT, "/api/providers/up"),
        ] {
            let what = format!("{method} {path}: {what}");
            let body = body(&canaries.make(&*what));
            all.push(Attack { content_type, ..Attack::text(what, method, path, body) });
        }
    };
    const JSON: &str = "application/json";
    let whole = |s: &str| json!({"name": "wrong", "value": s}).to_string();
    for cut in [2, 20, 24, 30, 45] {
        add("cut off", JSON, &|s| whole(s).into_bytes()[..cut].to_vec());
    }
    let texts: [Wrong<String>; 12] = [
        ("nothing but a secret", |s| s.to_owned()),
        ("a string", |s| json!(s).to_string()),
        ("a list", |s| json!([s]).to_string()),
        ("without quotes", |s| format!("{{\"value\": {s}}}")),
        ("single quotes", |s| format!("{{'value': '{s}'}}")),
        ("a comma too many", |s| format!("{{\"value\": {},}}", json!(s))),
        ("a comment", |s| format!("{{\"value\": {}}} // {s}", json!(s))),
        ("two texts", |s| format!("{{\"value\": {}}} {{\"value\": {}}}", json!(s), json!(s))),
        ("no comma", |s| format!("{{\"value\": {} \"name\": \"x\"}}", json!(s))),
        ("twice", |s| format!("{{\"value\": {}, \"value\": {}}}", json!(s), json!(s))),
        ("a bad escape", |s| format!("{{\"value\": \"\\x{s}\"}}")),
        ("a control character", |s| format!("{{\"value\": \"\t{s}\n\"}}")),
    ];
    for (what, text) in texts {
        add(what, JSON, &|s| text(s).into_bytes());
    }
    add("not UTF-8", JSON, &|s| [whole(s).as_bytes(), b"\xff\xfe"].concat());
    add("UTF-16", JSON, &|s| whole(s).encode_utf16().flat_map(u16::to_le_bytes).collect());
    add("a byte order mark", JSON, &|s| [b"\xef\xbb\xbf", whole(s).as_bytes()].concat());
    add("too deep", JSON, &|s| format!("{}{}{}", "[".repeat(600), json!(s), "]".repeat(600)).into_bytes());
    add("too long", JSON, &|s| format!("{{\"value\": {}, \"name\": \"{}\"}}", json!(s), "n".repeat(LONG)).into_bytes());
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp"]
    {
        add(content_type, content_type, &|s| whole(s).into_bytes());
    }
}
