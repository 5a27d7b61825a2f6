//! What a good config becomes: defaults, precedence of addresses, aliases, rules.

use std::time::Duration;

use super::*;
use crate::dialect::Operation;
use crate::hash::token_digest;
use crate::id::ModelName;
use crate::provider::UpstreamAuth;
use crate::snapshot::{
    Allow, AllowedRequests, ListenSpec, LogLevel, ProxyKind, Reach, Ready, Strategy, plaintext_literals,
};
use crate::weight::{Priority, Weight};

fn ready<'s>(snapshot: &'s Snapshot, provider: &str, name: &str) -> &'s Ready {
    key(snapshot, provider, name).ready.as_ref().expect("ready")
}

fn url(ready: &Ready) -> String {
    format!("{}://{}{}", ready.transport.scheme, ready.transport.authority, ready.base_path)
}

#[test]
fn nothing_at_all() {
    let snapshot = World::new().snapshot("{}");
    assert!(snapshot.providers.is_empty() && snapshot.routes.is_empty());
    assert!(snapshot.projects.is_none() && snapshot.management.keys.is_none() && snapshot.management.listen.is_none());
    assert_eq!(snapshot.server.listen, [ListenSpec::Tcp { host: "127.0.0.1".into(), port: 8080, tls: false }]);
    assert_eq!(snapshot.server.drain, Duration::from_secs(25));
    assert!(!snapshot.server.open_data_plane && snapshot.access_log && snapshot.log_level == LogLevel::Info);
    let limits = snapshot.server.limits;
    assert_eq!(limits.in_flight_max, 4096);
    assert_eq!(limits.request_body_bytes_max, 100 * 1024 * 1024);
    assert_eq!(limits.header_bytes_max, 32 * 1024);
    assert_eq!(limits.header_count_max, 100);
    assert_eq!((limits.header_timeout, limits.body_timeout), (Duration::from_secs(10), Duration::from_secs(60)));
    assert_eq!(limits.connections_max, 16384);
    let hash = ConfigHash::of_bytes(b"{}");
    assert_eq!(snapshot.mark.header, format!("7-{}", &hash.hex()[..8]).as_str());
}

#[test]
fn key_defaults() {
    let snapshot = World::new().snapshot(&provider("openai", "\"keys\": [{\"value\": \"env.KEY\"}]"));
    let key = key(&snapshot, "openai", "default");
    assert_eq!((key.weight, key.priority), (Weight::DEFAULT, Priority::DEFAULT));
    assert!(key.enabled && !key.for_batch);
    assert_eq!(key.rule.allow, Allow::All);
    assert_eq!(key.rule.deny, Allow::Set(vec![]));
    assert_eq!(key.pointer, "/providers/openai/keys/0");
    assert_eq!(key.timeouts.connect, Duration::from_secs(5));
    assert_eq!(key.timeouts.first_byte, Duration::from_secs(600));
    assert_eq!(key.timeouts.idle_gap, Duration::from_secs(60));
    let ready = key.ready.as_ref().expect("ready");
    assert_eq!(url(ready), "https://api.openai.com/v1");
    assert_eq!(&*ready.root_path, "");
    assert_eq!(ready.transport.keep_alive, Duration::from_secs(30));
    let UpstreamAuth::Header { name, value } = &ready.auth else { panic!("a header") };
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer sk-resolved-0123456789"));
    assert!(value.is_sensitive());
    assert_eq!(key.provider_header, "openai");
    assert_eq!(key.key_header, key.id.as_str());
}

#[test]
fn ids_are_derived_and_stable() {
    let text = provider(
        "openai",
        "\"keys\": [{\"value\": \"env.KEY\"}, {\"name\": \"b\", \"id\": \"own:1\", \"value\": \"env.KEY\"}]",
    );
    let snapshot = World::new().snapshot(&text);
    let derived = key(&snapshot, "openai", "default").id.as_str().to_owned();
    // Golden: pins in callers' code hold it.
    assert_eq!(derived, crate::snapshot::compile::key::derived_id("openai", "default"));
    assert_eq!(derived, "9a679402-27c8-848f-8bc7-3a3c46491d55");
    let shape: Vec<usize> = derived.split('-').map(str::len).collect();
    assert_eq!(shape, [8, 4, 4, 4, 12]);
    assert_eq!(&derived[14..15], "8");
    assert_eq!(key(&snapshot, "openai", "b").id.as_str(), "own:1");
    let ids = [("a", "bc"), ("ab", "c"), ("abc", ""), ("a", "b")]
        .map(|(provider, name)| crate::snapshot::compile::key::derived_id(provider, name));
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 4);
}

#[test]
fn where_a_key_goes() {
    let rows = [
        ("groq", "{}", "", "https://api.groq.com/openai/v1"),
        ("groq", "{}", "\"base_url\": \"http://p\"", "http://p/v1"),
        ("groq", "{}", "\"base_url\": \"http://p/v1/\"", "http://p/v1"),
        ("groq", "{\"base_url\": \"http://k/x\"}", "\"base_url\": \"http://p\"", "http://k/x/v1"),
        ("groq", "{\"base_url\": \"env.URL\"}", "", "https://llm.example/base/v1"),
        (
            "vllm",
            "{\"vllm_key_config\": {\"url\": \"http://k:8000\"}}",
            "\"base_url\": \"http://p\"",
            "http://k:8000/v1",
        ),
        ("vllm", "{\"base_url\": \"http://b\"}", "", "http://b/v1"),
        ("ollama", "{\"ollama_key_config\": {\"url\": \"http://k:1\"}}", "", "http://k:1/v1"),
        ("sgl", "{\"sgl_key_config\": {\"url\": \"env.URL\"}}", "", "https://llm.example/base/v1"),
        ("sgl", "{}", "\"base_url\": \"env.URL\"", "https://llm.example/base/v1"),
    ];
    let world = World::new();
    for (name, key, network, expected) in rows {
        let value = if key == "{}" { "\"value\": \"env.KEY\"}" } else { ", \"value\": \"env.KEY\"}" };
        let key = format!("{}{value}", &key[..key.len() - 1]);
        let text = provider(name, &format!("\"keys\": [{key}], \"network_config\": {{{network}}}"));
        assert_eq!(url(ready(&world.snapshot(&text), name, "default")), expected, "{text}");
    }
}

#[test]
fn keyless_providers() {
    let world = World::new();
    let mock = world.snapshot(&provider("mock", ""));
    let key = key(&mock, "mock", "default");
    assert!(key.enabled && key.for_batch && key.pointer.is_empty());
    let ready_key = key.ready.as_ref().expect("ready");
    assert!(ready_key.transport.in_process && matches!(ready_key.auth, UpstreamAuth::None));
    let custom = "\"custom_provider_config\": {\"base_provider_type\": \"openai\", \"is_key_less\": true}, \
        \"network_config\": {\"base_url\": \"http://127.0.0.1:8000\", \"extra_headers\": {\"authorization\": \"env.KEY\"}}";
    let custom = world.snapshot(&provider("my-vllm", custom));
    assert!(custom.providers[0].custom);
    let ready_key = ready(&custom, "my-vllm", "default");
    assert_eq!(url(ready_key), "http://127.0.0.1:8000/v1");
    assert!(matches!(ready_key.auth, UpstreamAuth::None));
    let (name, value) = &ready_key.extra_headers[0];
    assert!(name == "authorization" && value == "sk-resolved-0123456789" && value.is_sensitive());
    // A local server in the old spelling: its address at the provider, no keys.
    let old = world.snapshot(&provider("ollama", "\"network_config\": {\"base_url\": \"http://127.0.0.1:11434\"}"));
    assert_eq!(url(ready(&old, "ollama", "default")), "http://127.0.0.1:11434/v1");
    // A value is optional there.
    let bare = world.snapshot(&provider(
        "vllm",
        "\"keys\": [{\"vllm_key_config\": {\"url\": \"http://v\", \"model_name\": \"Org/M\"}}]",
    ));
    let bare = ready(&bare, "vllm", "default");
    assert!(matches!(bare.auth, UpstreamAuth::None));
    assert_eq!(bare.only_model.as_deref(), Some("org/m"));
}

#[test]
fn what_is_missing_makes_only_that_key_unready() {
    let mut world = World::new();
    world.put("run/good", "sk-file");
    let keys = [
        ("good", "\"value\": \"env.KEY\"", None),
        ("file", "\"value\": {\"file\": \"run/good\"}", None),
        ("unset", "\"value\": \"env.NOPE\"", Some(Unready::EnvMissing { name: "NOPE".into() })),
        ("empty", "\"value\": \"env.EMPTY\"", Some(Unready::EnvMissing { name: "EMPTY".into() })),
        ("lost", "\"value\": {\"file\": \"/run/x\"}", Some(Unready::FileUnreadable { path: "/run/x".into() })),
        ("sealed", "\"value\": \"sealed:v1:k:x\"", Some(Unready::SealedUnreadable { why: "no key file" })),
        (
            "dirty",
            "\"value\": \"env.BAD\"",
            Some(Unready::Incomplete {
                what: "the value holds blanks or characters that a header cannot carry".into(),
            }),
        ),
        (
            "where",
            "\"value\": \"env.KEY\", \"base_url\": \"env.NOPE\"",
            Some(Unready::EnvMissing { name: "NOPE".into() }),
        ),
    ];
    let list: Vec<String> = keys.iter().map(|(name, value, _)| format!("{{\"name\": \"{name}\", {value}}}")).collect();
    let (compiled, problems) = world.load(&provider("openai", &format!("\"keys\": [{}]", list.join(","))));
    let compiled = compiled.expect("compiles");
    assert_eq!(problems.0.len(), 6);
    for (name, _, expected) in keys {
        let key = key(&compiled.snapshot, "openai", name);
        assert_eq!(key.ready.as_ref().err(), expected.as_ref(), "{name}");
        assert_eq!(key.ineligible(Some("gpt-4o"), false).is_none(), expected.is_none(), "{name}");
    }
    assert_eq!(compiled.secret_files, [Path::new("/etc/keyway/run/good"), Path::new("/run/x")]);
}

#[test]
fn a_provider_whose_network_does_not_resolve_is_unready() {
    for network in [
        "\"base_url\": \"env.NOPE\"",
        "\"ca_cert_pem\": \"env.NOPE\"",
        "\"extra_headers\": {\"x-a\": \"env.NOPE\", \"x-b\": \"1\"}",
    ] {
        let text =
            provider("groq", &format!("\"keys\": [{{\"value\": \"env.KEY\"}}], \"network_config\": {{{network}}}"));
        let snapshot = World::new().snapshot(&text);
        let unready = key(&snapshot, "groq", "default").ready.as_ref().err();
        assert_eq!(unready, Some(&Unready::EnvMissing { name: "NOPE".into() }), "{network}");
    }
}

#[test]
fn network_settings_reach_the_transport() {
    let pem = rcgen::generate_simple_self_signed(vec!["h".to_owned()]).unwrap().cert.pem();
    let mut world = World::new();
    world.set("CA", &pem);
    let text = provider(
        "groq",
        "\"keys\": [{\"value\": \"env.KEY\"}, {\"name\": \"b\", \"value\": \"env.TOKEN\"}, {\"name\": \"c\", \"value\": \"env.KEY\", \"base_url\": \"http://c\"}], \
         \"network_config\": {\"connect_timeout_in_seconds\": 2, \"default_request_timeout_in_seconds\": \"1m30s\", \
         \"stream_idle_timeout_in_seconds\": \"500ms\", \"keep_alive_timeout_in_seconds\": 7, \"ca_cert_pem\": \"env.CA\"}",
    );
    let snapshot = world.snapshot(&text);
    let first = ready(&snapshot, "groq", "default");
    assert_eq!(first.transport.ca_pem.as_deref(), Some(pem.as_str()));
    assert_eq!(first.transport.keep_alive, Duration::from_secs(7));
    let timeouts = key(&snapshot, "groq", "b").timeouts;
    assert_eq!(timeouts.connect, Duration::from_secs(2));
    assert_eq!(timeouts.first_byte, Duration::from_secs(90));
    assert_eq!(timeouts.idle_gap, Duration::from_millis(500));
    // One transport for one destination, whatever the credentials.
    assert!(std::sync::Arc::ptr_eq(&first.transport, &ready(&snapshot, "groq", "b").transport));
    let origin = |name| &key(&snapshot, "groq", name).origin;
    assert!(std::sync::Arc::ptr_eq(origin("default"), origin("b")));
    assert!(!std::sync::Arc::ptr_eq(origin("default"), origin("c")));
    assert_ne!(first.transport.id, ready(&snapshot, "groq", "c").transport.id);
    for other in [text.replace("env.CA", "env.NOPE"), text.replace(": 7", ": 8")] {
        let other = world.snapshot(&other);
        if let Ok(other) = &key(&other, "groq", "default").ready {
            assert_ne!(first.transport.id, other.transport.id);
        }
    }
}

#[test]
fn proxies_and_bounds_reach_the_wire() {
    let mut world = World::new();
    world.set("HTTPS_PROXY", "http://us:pw@proxy.example:3128");
    world.set("ALL_PROXY", "socks5://socks.example");
    world.set("NO_PROXY", "internal.example");
    let wire = |world: &World, base: &str, members: &str| {
        let members = format!("\"keys\": [{{\"value\": \"env.KEY\", \"base_url\": \"{base}\"}}], {members}");
        let snapshot = world.snapshot(&provider("groq", &members));
        ready(&snapshot, "groq", "default").transport.clone()
    };
    let environment = "\"proxy_config\": {\"type\": \"environment\"}";
    for (base, expected) in [
        ("https://a.example", Some((ProxyKind::Http, "proxy.example", 3128, true))),
        ("http://a.example", Some((ProxyKind::Socks5, "socks.example", 1080, false))),
        ("https://a.internal.example", None),
    ] {
        let proxy = wire(&world, base, environment).wire.proxy.clone();
        let proxy = proxy.as_ref().map(|it| (it.kind, &*it.host, it.port, it.login.is_some()));
        assert_eq!(proxy, expected, "{base}");
    }
    let settings = "\"network_config\": {\"enforce_http2\": true, \"max_conns_per_host\": 3}, \
        \"proxy_config\": {\"type\": \"http\", \"url\": \"http://p\", \"username\": \"u\", \"password\": \"env.KEY\"}";
    let first = wire(&world, "https://a.example", settings);
    assert!(first.wire.http2 && first.wire.connections_max == Some(3) && first.wire.reach == Reach::Anywhere);
    // Any of them makes it another transport, whose connections are its own.
    let mut ids = vec![first.id];
    for (written, other) in [
        ("\"http://p\"", "\"http://q\""),
        ("\"u\"", "\"v\""),
        ("env.KEY\"}", "env.URL\"}"),
        (": 3", ": 4"),
        ("http2\": true", "http2\": false"),
        ("\"http://p\"", "\"https://p\""),
    ] {
        ids.push(wire(&world, "https://a.example", &settings.replace(written, other)).id);
    }
    ids.push(wire(&world, "https://a.example", "\"network_config\": {}").id);
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert_eq!(format!("{:?}", first.wire.proxy), "Some(ProxyServer(Http p:80))", "no login is printed");
}

/// `public_address_only` holds for the address beside it, unless the file admits that place.
#[test]
fn what_an_api_named_must_be_public() {
    let world = World::new();
    let mark = "\"public_address_only\": true";
    for (key, network, origins, expected) in [
        ("", "\"base_url\": \"http://h:1\"", "", Reach::Anywhere),
        ("", &*format!("\"base_url\": \"http://h:1\", {mark}"), "", Reach::Public),
        ("", &*format!("\"base_url\": \"http://h:1\", {mark}"), "\"http://h:1\"", Reach::Anywhere),
        ("", &*format!("\"base_url\": \"http://h:1\", {mark}"), "\"http://h:2\"", Reach::Public),
        ("", &*format!("\"base_url\": \"http://h:1\", {mark}, \"allow_private_network\": true"), "", Reach::Anywhere),
        // The key's own address is another matter than the provider's.
        (", \"base_url\": \"http://k\"", &*format!("\"base_url\": \"http://h:1\", {mark}"), "", Reach::Anywhere),
        (&*format!(", \"base_url\": \"http://k\", {mark}"), "\"base_url\": \"http://h:1\"", "", Reach::Public),
    ] {
        let text = format!(
            "{{\"management\": {{\"allowed_origins\": [{origins}]}}, \"providers\": {{\"groq\": {{\"keys\": [{{\"value\": \"env.KEY\"{key}}}], \
             \"network_config\": {{{network}}}}}}}}}"
        );
        let snapshot = world.snapshot(&text);
        assert_eq!(ready(&snapshot, "groq", "default").transport.wire.reach, expected, "{text}");
    }
}

#[test]
fn retries_and_their_defaults() {
    let ms = Duration::from_millis;
    for (members, expected) in [
        ("", (0, ms(500), ms(5000))),
        ("\"max_retries\": 3", (3, ms(500), ms(5000))),
        ("\"max_retries\": 1, \"retry_backoff_initial\": 20, \"retry_backoff_max\": \"1s\"", (1, ms(20), ms(1000))),
        // One of the two alone, on either side of the other's default.
        ("\"retry_backoff_initial\": \"9s\"", (0, ms(9000), ms(9000))),
        ("\"retry_backoff_max\": 100", (0, ms(100), ms(100))),
    ] {
        let text =
            provider("groq", &format!("\"keys\": [{{\"value\": \"env.KEY\"}}], \"network_config\": {{{members}}}"));
        let retry = World::new().snapshot(&text).providers[0].retry;
        assert_eq!((retry.max, retry.backoff_initial, retry.backoff_max), expected, "{members}");
    }
}

/// bifrost.md 11.3, through the file.
#[test]
fn model_rules() {
    for (members, ask, expected) in [
        ("\"models\": [\"*\"]", "gpt-4o", Some("gpt-4o")),
        ("\"models\": []", "gpt-4o", None),
        ("\"models\": [\"gpt-4o\"]", "GPT-4O", Some("GPT-4O")),
        ("\"models\": [\"gpt-4o\"], \"blacklisted_models\": [\"gpt-4o\"]", "gpt-4o", None),
        ("\"models\": [\"*\"], \"blacklisted_models\": [\"*\"]", "any", None),
        ("\"models\": [\"*\"], \"blacklisted_models\": [\"gpt-4o\"]", "gpt-4o-mini", Some("gpt-4o-mini")),
        ("\"models\": [\"fast\"], \"aliases\": {\"fast\": \"gpt-4o-mini\"}", "fast", Some("gpt-4o-mini")),
        ("\"models\": [\"gpt-4o-mini\"], \"aliases\": {\"fast\": \"gpt-4o-mini\"}", "fast", None),
        ("\"models\": [\"*\"], \"aliases\": {\"a\": \"b\", \"b\": \"c\"}", "a", Some("b")),
        (
            "\"models\": [\"fast\"], \"aliases\": {\"Fast\": {\"model_id\": \"gpt-4o-mini\"}}",
            "FAST",
            Some("gpt-4o-mini"),
        ),
        ("\"enabled\": false", "gpt-4o", None),
        ("\"weight\": 0", "gpt-4o", Some("gpt-4o")),
    ] {
        let snapshot = World::new().snapshot(&openai_key(members));
        let key = key(&snapshot, "openai", "k");
        let served = key.ineligible(Some(&ask.to_ascii_lowercase()), false).is_none();
        let upstream = key.upstream_model(&ModelName::from(ask));
        assert_eq!(served.then_some(upstream.as_str()), expected, "{members}");
    }
}

#[test]
fn routes_and_projects() {
    let text = "{\"providers\": {\"mock\": {}, \"groq\": {\"keys\": [{\"value\": \"env.KEY\"}]}}, \
        \"routes\": {\"@a\": {\"targets\": [\"groq/org/m\", {\"model\": \"mock/x\", \"weight\": 2}]}, \"@b\": {\"strategy\": \"weighted\", \"targets\": [\"mock/y\"]}}, \
        \"projects\": [{\"id\": \"app\", \"keys\": [{\"name\": \"ci\", \"value\": \"env.TOKEN\"}, {\"name\": \"off\", \"value\": \"env.NOPE\"}], \"models\": [\"GROQ/*\"], \"pin\": true}, {\"id\": \"b\", \"keys\": []}], \
        \"management\": {\"keys\": [{\"name\": \"ops\", \"value\": \"env.OPS\"}], \"listen\": [\"127.0.0.1:5100\"]}}";
    let mut world = World::new();
    world.set("OPS", OTHER_TOKEN);
    let snapshot = world.snapshot(text);
    let route = &snapshot.routes["@a"];
    assert_eq!(route.strategy, Strategy::Fallback);
    let targets: Vec<_> = route.targets.iter().map(|t| (t.provider, t.model.as_str(), t.weight.value())).collect();
    assert_eq!(targets, [(1, "org/m", 1.0), (0, "x", 2.0)]);
    assert_eq!(snapshot.routes["@b"].strategy, Strategy::Weighted);
    let projects = snapshot.projects.as_ref().expect("projects");
    assert_eq!(projects[0].keys[0].digest, Some(token_digest(TOKEN.as_bytes())));
    assert_eq!(projects[0].keys[1].digest, None);
    assert_eq!(*projects[0].models, [Box::from("groq/*")]);
    assert!(projects[0].pin && !projects[0].passthrough);
    assert_eq!(*projects[1].models, [Box::from("*")], "absent = all");
    let management = snapshot.management.keys.as_ref().expect("keys");
    assert_eq!(management[0].digest, Some(token_digest(OTHER_TOKEN.as_bytes())));
}

#[test]
fn listeners() {
    let tcp = |host: &str, port, tls| ListenSpec::Tcp { host: host.into(), port, tls };
    let unix = |path: &str, mode| ListenSpec::Unix { path: path.into(), mode };
    let rows = [
        ("127.0.0.1:0", tcp("127.0.0.1", 0, false)),
        ("localhost:80", tcp("localhost", 80, false)),
        ("http://[::1]:8080", tcp("::1", 8080, false)),
        ("unix:/run/k.sock", unix("/run/k.sock", 0o600)),
        ("unix:/run/k.sock?mode=0660", unix("/run/k.sock", 0o660)),
        ("unix:k.sock?mode=777", unix("/etc/keyway/k.sock", 0o777)),
    ];
    for (text, expected) in rows {
        let snapshot = World::new().snapshot(&format!("{{\"server\": {{\"listen\": [\"{text}\"]}}}}"));
        assert_eq!(snapshot.server.listen, [expected], "{text}");
    }
}

#[test]
fn allowed_requests() {
    let of = |config: &str| {
        let members = format!(
            "\"custom_provider_config\": {{\"base_provider_type\": \"openai\", \"is_key_less\": true{config}}}, \
             \"network_config\": {{\"base_url\": \"http://h\"}}"
        );
        World::new().snapshot(&provider("mine", &members))
    };
    assert_eq!(of("").providers[0].allowed, AllowedRequests::All);
    assert_eq!(of(", \"allowed_requests\": {}").providers[0].allowed, AllowedRequests::Only(vec![]));
    let some = of(
        ", \"allowed_requests\": {\"chat_completion\": true, \"chat_completion_stream\": false, \"file_upload\": true, \"ocr\": false}",
    );
    let allowed = &some.providers[0].allowed;
    assert!(allowed.permits(Operation::ChatCompletion, false) && !allowed.permits(Operation::ChatCompletion, true));
    assert!(allowed.permits(Operation::Files, false) && !allowed.permits(Operation::Embedding, false));
    let paths = of(
        ", \"request_path_overrides\": {\"chat_completion\": \"/v2/chat\", \"chat_completion_stream\": \"/v2/chat\"}",
    );
    assert_eq!(paths.providers[0].path_overrides[&Operation::ChatCompletion], Box::from("/v2/chat"));
}

#[test]
fn deployments_are_aliases() {
    let text = provider(
        "openai",
        "\"keys\": [{\"value\": \"env.KEY\", \"huggingface_key_config\": {\"deployments\": {\"fast\": \"org/m\"}}}]",
    );
    let snapshot = World::new().snapshot(&text);
    let model = key(&snapshot, "openai", "default").upstream_model(&ModelName::from("fast"));
    assert_eq!(model.as_str(), "org/m");
}

#[test]
fn literals_in_clear_are_listed() {
    let text = "{\"management\": {\"keys\": [{\"name\": \"a\", \"value\": \"literal\"}, {\"name\": \"b\", \"value\": \"env.X\"}], \"sealing_key\": \"literal\"}, \
        \"providers\": {\"openai\": {\"keys\": [{\"value\": \"literal\", \"base_url\": \"http://h\"}, {\"value\": {\"file\": \"x\"}}], \
        \"network_config\": {\"base_url\": \"http://h\", \"extra_headers\": {\"X-Api-Key\": \"literal\", \"x-team\": \"a\"}}}, \
        \"azure\": {\"keys\": [{\"azure_key_config\": {\"endpoint\": \"http://h\", \"client_secret\": \"literal\"}}]}, \
        \"bedrock\": {\"keys\": [{\"bedrock_key_config\": {\"region\": \"r\", \"access_key\": \"literal\", \"secret_key\": \"literal\", \"session_token\": \"env.T\"}}]}, \
        \"vertex\": {\"keys\": [{\"vertex_key_config\": {\"auth_credentials\": \"literal\"}}]}}, \
        \"projects\": [{\"keys\": [{\"value\": \"literal\"}, {\"hash\": \"blake3:0\"}]}], \"state\": {\"redis\": {\"url\": \"literal\"}}}";
    let (document, _) = crate::config::read(text);
    assert_eq!(
        plaintext_literals(&document.expect("reads").file),
        [
            "/management/keys/0/value",
            "/management/sealing_key",
            "/providers/openai/keys/0/value",
            "/providers/openai/network_config/extra_headers/X-Api-Key",
            "/providers/azure/keys/0/azure_key_config/client_secret",
            "/providers/bedrock/keys/0/bedrock_key_config/access_key",
            "/providers/bedrock/keys/0/bedrock_key_config/secret_key",
            "/providers/vertex/keys/0/vertex_key_config/auth_credentials",
            "/projects/0/keys/0/value",
            "/state/redis/url",
        ]
    );
}
