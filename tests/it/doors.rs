//! Who may manage: every route, asked for something that would leave a trace, by everybody who may
//! not. The walk with other credentials is in management.rs.

use keyway::project::Scope;
use keyway::router::{ADMIN, AdminRow};
use serde_json::json;

use crate::support::client::{Reply, raw, request, send, status_of};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Upstream};

const MANAGER: &str = "mlx_mk_00000000000000000000000000000000000002woz6J";
const PROJECT: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const JSON: (&str, &str) = ("content-type", "application/json");

/// A gateway, and an upstream that nobody must reach.
struct House {
    gateway: Gateway,
    upstream: Upstream,
    text: String,
    count: usize,
}

impl House {
    fn start(doors: &str) -> Self {
        let upstream = Upstream::scripted([Answer::json(200, "{\"data\": []}")]);
        let base = upstream.base();
        let text = format!(
            r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, {doors}
  "providers": {{
    "openai": {{"network_config": {{"base_url": "{base}"}}, "keys": [{{"id": "main", "name": "main", "value": "env.A_KEY"}}]}},
    "up": {{"custom_provider_config": {{"base_provider_type": "openai"}}, "network_config": {{"base_url": "{base}"}}, "keys": [{{"id": "spare", "value": "env.A_KEY"}}]}}
  }}
}}
"#
        );
        let launch = launch(&*text).env("A_KEY", "sk-a-0123456789").env("B_KEY", "sk-b-0123456789");
        let gateway = launch.env("KW_MANAGER", MANAGER).env("KW_PROJECT", PROJECT).start();
        Self { gateway, upstream, text, count: 0 }
    }

    fn with_keys() -> Self {
        Self::start(
            r#""management": {"keys": [{"name": "ops", "value": "env.KW_MANAGER"}, {"name": "lost", "value": "env.KW_LOST"}], "rate_limit_per_minute": 1000000},
  "projects": [{"id": "app", "keys": [{"name": "ci", "value": "env.KW_PROJECT"}]}],"#,
        )
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.count += 1;
        send(request(method.parse().unwrap(), &self.gateway.url(path), headers, body.to_owned())).await
    }

    /// Nothing has come of it: not in the file, not in memory, not at a provider.
    #[track_caller]
    fn is_untouched(&self, what: &str) {
        assert!(
            std::fs::read_to_string(self.gateway.config_path()).unwrap() == self.text,
            "{what}: the file has changed"
        );
        assert!(self.upstream.seen().is_empty(), "{what}: the upstream was asked");
        let mut names: Vec<_> =
            std::fs::read_dir(self.gateway.dir()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.retain(|name| name != ".keyway");
        assert_eq!(names, ["config.json"], "{what}");
    }
}

/// A path and a body of a row that change something.
fn effective(row: &AdminRow) -> (String, String) {
    let (provider, key) = if row.method == "DELETE" { ("up", "spare") } else { ("openai", "main") };
    // The same two keys by the ids that the Modelux face has for them.
    let key = match (row.path.starts_with("/manage/"), key) {
        (true, "main") => "prov_0FHKA8J7MRWZX7A3V1CR8MTS93",
        (true, _) => "prov_2Z99D8YC9KFV647J3VKAZBJ1BH",
        (false, key) => key,
    };
    let path = row.path.replace("{provider}", provider).replace("{key_id}", key);
    let path = if row.path == "/api/explain" { format!("{path}?model=openai/m") } else { path };
    let body = match (row.method, row.path.rsplit('/').next()) {
        ("POST", Some("providers")) if row.path.starts_with("/v1/") => {
            json!({"provider": "groq", "api_key": "env.B_KEY"})
        }
        ("POST", Some("providers")) if row.path.starts_with("/manage/") => {
            json!({"vendor": "groq", "name": "new", "api_key": "env.B_KEY"})
        }
        ("POST", Some("mcp")) => json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "add_provider", "arguments": {"vendor": "groq", "name": "new", "api_key": "env.B_KEY"}}}),
        ("PATCH", Some("{key_id}")) => json!({"name": "renamed"}),
        ("PATCH", _) => json!({"priority": 7}),
        ("POST", Some("providers")) => json!({"provider": "groq"}),
        ("POST", Some("keys")) => json!({"name": "new", "value": "env.B_KEY"}),
        ("PUT", Some("{provider}")) => json!({"network_config": {"connect_timeout_in_seconds": 3}}),
        ("PUT", Some("{key_id}")) => json!({"name": "main", "value": "env.B_KEY"}),
        ("POST", _) => json!({}),
        _ => return (path, String::new()),
    };
    (path, body.to_string())
}

fn writes() -> impl Iterator<Item = &'static AdminRow> {
    ADMIN.iter().filter(|row| row.method != "GET")
}

/// All that is not open to everybody.
fn guarded() -> impl Iterator<Item = &'static AdminRow> {
    ADMIN.iter().filter(|row| row.scope == Scope::Management)
}

fn has_body(row: &AdminRow) -> bool {
    !effective(row).1.is_empty() && !row.path.ends_with("/reload") && !row.path.ends_with("/refresh-models")
}

/// Everything that is not a management key in its place, and what it is answered with.
fn others() -> Vec<(Vec<(String, String)>, u16)> {
    let bearer = |token: &str| format!("Bearer {token}");
    let (own, project) = (bearer(MANAGER), bearer(PROJECT));
    let long = bearer(&"m".repeat(20 * 1024));
    let torn = bearer(&MANAGER[..MANAGER.len() - 1]);
    let altered = bearer(&MANAGER.replace("2woz6J", "2woz6K"));
    let upper = bearer(&MANAGER.to_uppercase());
    let other = bearer("mlx_mk_99999999999999999999999999999999999994LDCO9");
    let jwt = bearer("eyJhbGciOiJub25lIn0.eyJleHAiOjF9.");
    let (twice, spaced) = (format!("{own}, {own}"), format!("Bearer {MANAGER} {MANAGER}"));
    let session = format!("session={MANAGER}; token={MANAGER}");
    let named = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
    let mut table: Vec<(Vec<(String, String)>, u16)> = vec![
        (vec![], 401),
        (named(&project), 403),
        (named(&long), 401),
        (named(&torn), 401),
        (named(&altered), 401),
        (named(&upper), 401),
        (named(&other), 401),
        (named(&jwt), 401),
        (named(&twice), 401),
        (named(&spaced), 401),
        (named(&format!("Bearer \"{MANAGER}\"")), 401),
        (named(&format!("Bearer:{MANAGER}")), 401),
        (named(&format!("Token {MANAGER}")), 401),
        (named(&format!("ApiKey {MANAGER}")), 401),
        (named(&format!("AWS4-HMAC-SHA256 Credential={MANAGER}/20260101/a/b/aws4_request, Signature=0")), 401),
    ];
    for (name, value) in [
        ("x-api-key", MANAGER),
        ("api-key", MANAGER),
        ("x-goog-api-key", MANAGER),
        ("proxy-authorization", &own),
        ("x-authorization", &own),
        ("x-management-key", MANAGER),
        ("x-bf-vk", MANAGER),
        ("cookie", &session),
        ("authorization", "Basic OnB3"),
    ] {
        table.push((vec![(name.to_owned(), value.to_owned())], 401));
    }
    for second in [
        ("x-api-key", PROJECT),
        ("x-api-key", "x"),
        ("api-key", PROJECT),
        ("authorization", &project),
        ("authorization", &other),
    ] {
        let mut both = named(&own);
        both.push((second.0.to_owned(), second.1.to_owned()));
        table.push((both, 401));
    }
    table
}

#[tokio::test]
async fn no_other_credential_moves_anything() {
    let mut house = House::with_keys();
    let table = others();
    for row in guarded() {
        let (path, body) = effective(row);
        for (headers, expected) in &table {
            let mut all = vec![JSON];
            all.extend(headers.iter().map(|(name, value)| (&**name, &**value)));
            let reply = house.ask(row.method, &path, &all, &body).await;
            assert_eq!(reply.status.as_u16(), *expected, "{} {path} {headers:?}", row.method);
            assert!(!reply.text().contains("main") && reply.json()["error"]["code"].is_string(), "{}", reply.text());
        }
        let gap = if path.contains('?') { '&' } else { '?' };
        for query in ["key", "api_key", "token", "access_token"] {
            let reply = house.ask(row.method, &format!("{path}{gap}{query}={MANAGER}"), &[JSON], &body).await;
            assert_eq!(reply.status, 401, "{} {path} {query}", row.method);
        }
        // Bytes that no library would send, and more of them than a head may have.
        let address = house.gateway.base().to_owned();
        for (token, expected) in
            [(b"Bearer \xff\xfe\xfd".to_vec(), &[400, 401][..]), (vec![b'm'; 64 * 1024], &[401, 431])]
        {
            let head = format!(
                "{} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\nauthorization: ",
                row.method
            );
            let answer = raw(&address, [head.as_bytes(), &token, b"\r\n\r\n"].concat()).await;
            assert!(expected.contains(&status_of(&answer)), "{} {path}: {answer}", row.method);
            house.count += 1;
        }
        house.is_untouched(row.path);
    }
    println!("{} requests refused", house.count);
}

#[tokio::test]
async fn a_management_key_opens_management_alone() {
    let mut house = House::with_keys();
    let own = format!("Bearer {MANAGER}");
    // The scheme's case says nothing (RFC 9110), the method and the rest do.
    for scheme in ["bearer", "BEARER", "Bearer  "] {
        let reply = house.ask("GET", "/api/keys", &[("authorization", &format!("{scheme} {MANAGER}"))], "").await;
        assert_eq!(reply.status, 200, "{scheme}");
    }
    for path in ["/v1/chat/completions", "/v1/models", "/openai/v1/models", "/passthrough/openai/v1/models"] {
        for (name, value) in
            [("authorization", &*own), ("x-api-key", MANAGER), ("api-key", MANAGER), ("x-goog-api-key", MANAGER)]
        {
            let method = if path.ends_with("models") { "GET" } else { "POST" };
            let reply =
                house.ask(method, path, &[JSON, (name, value)], "{\"model\": \"openai/m\", \"messages\": []}").await;
            assert_eq!(reply.status, 403, "{path} {name}");
        }
    }
    house.is_untouched("the data plane");
}

#[tokio::test]
async fn no_web_page_and_no_proxy_moves_anything_where_no_keys_are() {
    let mut house = House::start("");
    let port = house.gateway.base().rsplit(':').next().unwrap().to_owned();
    let origins = [
        "null".to_owned(),
        "https://evil.example".to_owned(),
        format!("http://evil.example:{port}"),
        format!("http://127.0.0.1.evil.example:{port}"),
        format!("http://localhost.:{port}"),
        format!("http://user@127.0.0.1:{port}"),
        "http://127.0.0.1".to_owned(),
        "http://127.0.0.1:1".to_owned(),
        "http://localhost".to_owned(),
        "http://[::1]".to_owned(),
        "chrome-extension://abcdefghijklmnop".to_owned(),
        "file://".to_owned(),
        String::new(),
    ];
    let hosts = [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "[::]",
        "2130706433",
        "127.1",
        "0x7f.1",
        "metadata",
    ];
    let mut table: Vec<(&str, String)> = origins.into_iter().map(|origin| ("origin", origin)).collect();
    table.extend(hosts.map(|host| ("host", format!("{host}:{port}"))));
    table.extend(["cross-site", "same-site", "", "CROSS-SITE"].map(|site| ("sec-fetch-site", site.to_owned())));
    table.extend(["10.0.0.1", "127.0.0.1", "unknown", ""].map(|from| ("x-forwarded-for", from.to_owned())));
    for (name, value) in [
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-", "1"),
    ] {
        table.push((name, value.to_owned()));
    }
    for row in guarded() {
        let (path, body) = effective(row);
        for (name, value) in &table {
            let reply = house.ask(row.method, &path, &[JSON, (name, value)], &body).await;
            assert_eq!(reply.status, 403, "{} {path} {name}: {value}: {}", row.method, reply.text());
            assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
        }
        house.is_untouched(row.path);
    }
    // What a page of this very origin, or a tool, sends.
    let own = house.gateway.base().to_owned();
    for headers in [
        vec![],
        vec![("origin", own.as_str())],
        vec![("sec-fetch-site", "same-origin")],
        vec![("sec-fetch-site", "none")],
    ] {
        assert_eq!(house.ask("GET", "/api/keys", &headers, "").await.status, 200, "{headers:?}");
    }
    println!("{} requests refused", house.count);
}

/// What a form, a beacon or a method in disguise can send.
#[tokio::test]
async fn only_json_by_the_method_itself_writes() {
    for mut house in [House::with_keys(), House::start("")] {
        let bearer = format!("Bearer {MANAGER}");
        let own = ("authorization", &*bearer);
        for row in writes().filter(|row| has_body(row)) {
            let (path, body) = effective(row);
            for content_type in [
                "text/plain",
                "text/plain;charset=UTF-8",
                "text/json",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "application/octet-stream",
                "application/jsonp",
                "application/json5",
                "application/json, text/plain",
                "application/vnd.api+json",
                "text/plain; application/json",
                "",
            ] {
                let reply = house.ask(row.method, &path, &[own, ("content-type", content_type)], &body).await;
                assert_eq!(reply.status, 415, "{} {path} {content_type}", row.method);
            }
            assert_eq!(house.ask(row.method, &path, &[own], &body).await.status, 415, "no content type");
            for encoding in ["gzip", "br", "identity, gzip"] {
                let reply = house.ask(row.method, &path, &[own, JSON, ("content-encoding", encoding)], &body).await;
                assert_eq!(reply.status, 415, "{} {path} {encoding}", row.method);
            }
            house.is_untouched(&path);
        }
        for row in writes() {
            let (path, body) = effective(row);
            let read = ADMIN.iter().any(|other| other.method == "GET" && other.path == row.path);
            for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
                let is_row = |method: &str| ADMIN.iter().any(|it| it.path == row.path && it.method == method);
                let others = ["GET", "HEAD", "OPTIONS", "PATCH", "TRACE"].into_iter();
                for method in others.filter(|method| *method != "PATCH" || !is_row(method)) {
                    let expected = if read && matches!(method, "GET" | "HEAD") { 200 } else { 405 };
                    let reply = house.ask(method, &path, &[own, JSON, (name, row.method)], &body).await;
                    assert_eq!(reply.status, expected, "{method} {path} as {}", row.method);
                    assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
                }
            }
            for query in ["_method", "method"] {
                let _ = house.ask("GET", &format!("{path}?{query}={}", row.method), &[own, JSON], &body).await;
            }
            house.is_untouched(&path);
        }
        let head = house.ask("HEAD", "/api/keys", &[own], "").await;
        let get = house.ask("GET", "/api/keys", &[own], "").await;
        assert_eq!((head.status, head.body.len(), head.header("etag")), (get.status, 0, get.header("etag")));
        println!("{} requests refused", house.count);
    }
}

/// What was refused above is not refused for its own sake.
#[tokio::test]
async fn with_the_right_key_the_same_requests_leave_a_trace() {
    let own = ("authorization", &*format!("Bearer {MANAGER}"));
    for row in writes() {
        let mut house = House::with_keys();
        let (path, body) = effective(row);
        let reply = house.ask(row.method, &path, &[own, JSON], &body).await;
        assert_eq!(reply.status, 200, "{} {path}: {}", row.method, reply.text());
        let file = std::fs::read_to_string(house.gateway.config_path()).unwrap();
        let is_question = path.starts_with("/api/config");
        let trace =
            if path.ends_with("/refresh-models") { !house.upstream.seen().is_empty() } else { file != house.text };
        assert_eq!(trace, !is_question, "{} {path}", row.method);
    }
}

/// The addresses of a body, end to end; all spellings are in the table beside the check.
#[tokio::test]
async fn a_body_names_public_addresses_alone() {
    let mut house = House::start(r#""management": {"allowed_origins": ["http://127.0.0.1:11434"]},"#);
    let cases = [
        "http://127.0.0.1",
        "http://127.0.0.1:11435",
        "https://127.0.0.1:11434",
        "http://127.1:11434",
        "http://2130706433:11434",
        "http://0x7f.1:11434",
        "http://localhost:11434",
        "http://[::1]:11434",
        "http://[::ffff:127.0.0.1]:11434",
        "http://[64:ff9b::7f00:1]",
        "http://[2002:7f00:1::]",
        "http://10.0.0.1",
        "http://100.64.0.1",
        "http://169.254.169.254",
        "http://168.63.129.16",
        "http://metadata.google.internal",
        "http://[fd00:ec2::254]",
        "http://127.0.0.1.:11434",
        "http://127.0.0.256",
        "http://user@127.0.0.1:11434",
        "http://１２７.0.0.1:11434",
        "http://ollama:11434",
        "http://models.svc",
    ];
    let custom = json!({"base_provider_type": "openai"});
    for url in cases {
        for (method, path, body) in [
            ("POST", "/api/providers/openai/keys", json!({"name": "new", "value": "sk-0123456789", "base_url": url})),
            (
                "PUT",
                "/api/providers/openai/keys/main",
                json!({"name": "main", "value": "sk-0123456789", "base_url": {"value": url}}),
            ),
            (
                "POST",
                "/api/providers",
                json!({"provider": "x", "custom_provider_config": custom, "network_config": {"base_url": url}}),
            ),
            ("PUT", "/api/providers/y", json!({"custom_provider_config": custom, "network_config": {"base_url": url}})),
            (
                "POST",
                "/api/providers",
                json!({"provider": "z", "custom_provider_config": {"base_provider_type": "openai", "request_path_overrides": {"chat_completion": url}}, "network_config": {"base_url": "https://a.example"}}),
            ),
            ("POST", "/api/providers", json!({"provider": "vllm", "keys": [{"vllm_key_config": {"url": url}}]})),
        ] {
            let reply = house.ask(method, path, &[JSON], &body.to_string()).await;
            assert_eq!(
                (reply.status.as_u16(), &reply.json()["error"]["code"]),
                (400, &json!("address_not_allowed")),
                "{body}: {}",
                reply.text()
            );
        }
        house.is_untouched(url);
    }
    let body = json!({"name": "new", "value": "env.B_KEY", "base_url": "http://127.0.0.1:11434/v1"}).to_string();
    assert_eq!(house.ask("POST", "/api/providers/openai/keys", &[JSON], &body).await.status, 200);
    println!("{} requests", house.count);
}
