//! Files before and after, and the field by which a stored secret would have travelled.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::secret::Secret;
use crate::snapshot::{CompileInput, Compiled, Resolve, SealingKey, Unready, Unresolved, load};

/// Variables are set to their own name in lower case, but for `UNSET`; every seal opens.
struct World;

impl Resolve for World {
    fn env(&self, name: &str) -> Result<Secret, Unresolved> {
        match name {
            "UNSET" => Err(Unready::EnvMissing { name: name.to_owned() }.into()),
            "URL" | "SAME_URL" => Ok(Secret::new("https://env.example/v1")),
            _ => Ok(Secret::new(name.to_ascii_lowercase())),
        }
    }

    fn file(&self, path: &Path) -> Result<Secret, Unresolved> {
        Err(Unready::FileUnreadable { path: path.to_owned() }.into())
    }

    fn unseal(&self, sealed: &str, _pointer: &str, _key: &SealingKey) -> Result<Secret, Unresolved> {
        Ok(Secret::new(sealed))
    }
}

pub fn document(text: &str) -> Arc<Document> {
    let (document, problems) = crate::config::read(text);
    assert!(!problems.has_errors(), "{text}\n{problems:?}");
    Arc::new(document.unwrap())
}

fn compiled(text: &str) -> (Option<Compiled>, crate::config::Problems) {
    let key = FingerprintKey::new([1; 32]);
    let hash = ConfigHash::of_bytes(text.as_bytes());
    let dir = Path::new("/etc/keyway");
    let input = CompileInput { number: 1, hash, dir, resolve: &World, fingerprint_key: &key, strict_env: false };
    load(text, &input, &mut Registry::new())
}

pub fn snapshot(text: &str) -> Snapshot {
    let (compiled, problems) = compiled(text);
    compiled.unwrap_or_else(|| panic!("{text}\n{}", problems.render("config.json"))).snapshot
}

fn providers(providers: &str) -> String {
    format!("{{\"providers\": {{{providers}}}}}")
}

/// One provider with one key, from their members.
fn one(provider: &str, key: &str) -> String {
    let (provider, key) = (provider.trim(), key.trim());
    let comma = if provider.is_empty() { "" } else { ", " };
    providers(&format!("\"openai\": {{\"keys\": [{{\"id\": \"k\", {key}}}]{comma}{provider}}}"))
}

/// What both sides of the check say, which must agree where both files compile.
fn verdict(before: &str, after: &str, renewed: &[&str]) -> Option<String> {
    let renewed: Vec<String> = renewed.iter().map(|id| (*id).to_owned()).collect();
    let written = moved(&document(before), &document(after), &renewed);
    if let ((Some(before), _), (Some(after), _)) = (compiled(before), compiled(after)) {
        let resolved = moved_when_resolved(&before.snapshot, &after.snapshot, &renewed);
        assert!(resolved.is_none() || written.is_some(), "only seen when resolved: {resolved:?}");
    }
    written
}

const VALUE: &str = r#""value": "env.KEY""#;

/// Members of the provider and of its key before, the same after, and what moves the key.
type Move = ([&'static str; 2], [&'static str; 2], Option<&'static str>);

const PROVIDER: Option<&str> = Some("network_config.base_url");
const A: &str = r#""network_config": {"base_url": "https://a.example"}"#;
const B: &str = r#""network_config": {"base_url": "https://b.example"}"#;
const OWN: &str = r#""base_url": "https://own.example""#;

const ADDRESSES: &[Move] = &[
    (["", ""], [B, ""], PROVIDER),
    ([A, ""], [B, ""], PROVIDER),
    ([A, ""], ["", ""], PROVIDER),
    ([A, ""], [r#""network_config": {"base_url": "http://a.example"}"#, ""], PROVIDER),
    ([A, ""], [r#""network_config": {"base_url": "https://a.example/p"}"#, ""], PROVIDER),
    ([A, ""], [r#""network_config": {"base_url": "https://a.example:8443"}"#, ""], PROVIDER),
    // Another spelling of the same.
    ([A, ""], [r#""network_config": {"base_url": "https://A.example:443/v1/"}"#, ""], None),
    (["", ""], [r#""network_config": {"base_url": "https://api.openai.com"}"#, ""], None),
    // References, which may mean something else tomorrow.
    ([r#""network_config": {"base_url": "env.URL"}"#, ""], [r#""network_config": {"base_url": "env.URL"}"#, ""], None),
    (
        [r#""network_config": {"base_url": "env.URL"}"#, ""],
        [r#""network_config": {"base_url": "env.SAME_URL"}"#, ""],
        PROVIDER,
    ),
    (
        [r#""network_config": {"base_url": "env.URL"}"#, ""],
        [r#""network_config": {"base_url": "https://env.example"}"#, ""],
        PROVIDER,
    ),
    // The key's own address wins.
    (["", ""], ["", OWN], Some("base_url")),
    (["", OWN], ["", ""], Some("base_url")),
    ([A, OWN], [B, OWN], None),
    ([A, ""], ["", OWN], Some("base_url")),
    (["", ""], ["", r#""sgl_key_config": {"url": "http://h:1"}"#], Some("sgl_key_config.url")),
];

const CA_A: &str = r#""network_config": {"ca_cert_pem": "env.CA"}"#;
const CA_B: &str = r#""network_config": {"ca_cert_pem": "env.CB"}"#;

const TRUST_AND_WAY: &[Move] = &[
    (["", ""], [r#""network_config": {"insecure_skip_verify": true}"#, ""], Some(SKIP_VERIFY)),
    (["", ""], [r#""network_config": {"insecure_skip_verify": false}"#, ""], None),
    (["", ""], [CA_A, ""], Some(CA)),
    ([CA_A, ""], [CA_B, ""], Some(CA)),
    ([CA_A, ""], ["", ""], Some(CA)),
    (["", ""], [r#""proxy_config": {"type": "http", "url": "http://p:1"}"#, ""], Some(PROXY)),
    (["", ""], [r#""proxy_config": {"type": "none", "url": "http://p:1"}"#, ""], None),
    (
        ["", r#""azure_key_config": {"endpoint": "https://a.example"}"#],
        ["", r#""azure_key_config": {"endpoint": "https://b.example"}"#],
        Some("azure_key_config.endpoint"),
    ),
    (
        ["", r#""azure_key_config": {"tenant_id": "one"}"#],
        ["", r#""azure_key_config": {"tenant_id": "two"}"#],
        Some("azure_key_config.tenant_id"),
    ),
    (
        ["", r#""bedrock_key_config": {"region": "eu-west-1"}"#],
        ["", r#""bedrock_key_config": {"region": "us-east-1"}"#],
        Some("bedrock_key_config.region"),
    ),
    (["", ""], ["", r#""vertex_key_config": {"region": "eu"}"#], Some("vertex_key_config.region")),
    // What moves nothing.
    ([A, ""], [r#""network_config": {"base_url": "https://a.example", "keep_alive_timeout_in_seconds": 7}"#, ""], None),
    (["", ""], ["", r#""weight": 3, "models": ["m"], "enabled": false"#], None),
];

#[test]
fn what_moves_a_key() {
    let file = |[provider, key]: &[&str; 2]| {
        let comma = if key.is_empty() { "" } else { ", " };
        one(provider, &format!("{VALUE}{comma}{key}"))
    };
    for (before, after, expected) in ADDRESSES.iter().chain(TRUST_AND_WAY) {
        let (before, after) = (file(before), file(after));
        assert_eq!(verdict(&before, &after, &[]).as_deref(), *expected, "{before}\n{after}");
        assert_eq!(verdict(&before, &after, &["k"]), None, "renewed\n{before}\n{after}");
        assert_eq!(verdict(&before, &before, &[]), None);
        assert_eq!(verdict(&after, &after, &[]), None);
    }
}

#[test]
fn what_a_custom_provider_speaks_and_where_its_paths_lead() {
    let custom = |members: &str| {
        let key = r#"{"id": "k", "value": "env.KEY"}"#;
        providers(&format!("\"mine\": {{\"keys\": [{key}], {A}, \"custom_provider_config\": {{{members}}}}}"))
    };
    let plain = custom(r#""base_provider_type": "openai""#);
    let paths = r#""base_provider_type": "openai", "request_path_overrides": {"embedding": "/e"}"#;
    let other = paths.replace("/e", "/f");
    let groq = custom(r#""base_provider_type": "groq""#);
    assert_eq!(verdict(&plain, &custom(paths), &[]).as_deref(), Some(PATHS));
    assert_eq!(verdict(&custom(paths), &custom(&other), &[]).as_deref(), Some(PATHS));
    assert_eq!(verdict(&custom(paths), &plain, &[]).as_deref(), Some(PATHS));
    assert_eq!(verdict(&custom(paths), &custom(paths), &[]), None);
    assert_eq!(verdict(&plain, &groq, &[]).as_deref(), Some("custom_provider_config.base_provider_type"));
    assert_eq!(verdict(&plain, &custom(paths), &["k"]), None);
}

#[test]
fn another_value_in_the_same_place_is_no_move() {
    assert_eq!(verdict(&one("", VALUE), &one("", r#""value": "env.OTHER""#), &[]), None);
}

#[test]
fn a_key_that_is_not_ready_counts_by_what_is_written() {
    let before = one("", r#""value": "env.UNSET""#);
    let after = one("", r#""value": "env.UNSET", "base_url": "https://b.example""#);
    assert_eq!(verdict(&before, &after, &[]).as_deref(), Some("base_url"));
}

#[test]
fn who_holds_nothing_may_go_anywhere() {
    let bare = |url: &str| {
        let members = format!(
            "\"custom_provider_config\": {{\"base_provider_type\": \"openai\"}}, \"network_config\": {{\"base_url\": \"{url}\"}}"
        );
        providers(&format!("\"mine\": {{\"keys\": [{{\"id\": \"k\", \"models\": [\"m\"]}}], {members}}}"))
    };
    assert_eq!(moved(&document(&bare("http://a:1")), &document(&bare("http://b:1")), &[]), None);
    // A key that is new brings its secret along.
    let (before, after) =
        (providers("\"openai\": {}"), one("\"network_config\": {\"base_url\": \"http://b:1\"}", VALUE));
    assert_eq!(verdict(&before, &after, &[]), None);
}

#[test]
fn a_key_follows_its_id_and_not_its_place_in_the_list() {
    let keys = |keys: &str| providers(&format!("\"openai\": {{\"keys\": [{keys}]}}"));
    let a = r#"{"name": "a", "value": "env.A"}"#;
    let b = r#"{"name": "b", "value": "env.B", "base_url": "https://b.example"}"#;
    let turned = keys(&format!("{b}, {a}"));
    assert_eq!(verdict(&keys(&format!("{a}, {b}")), &turned, &[]), None);
    assert_eq!(verdict(&keys(&format!("{a}, {b}")), &keys(b), &[]), None);
    // Derived ids: the same name is the same key.
    let moved = keys(r#"{"name": "a", "value": "env.A", "base_url": "https://b.example"}"#);
    assert_eq!(verdict(&keys(a), &moved, &[]).as_deref(), Some("base_url"));
    // ... and under another provider of the catalogue it is not where it was.
    let kept_id =
        |provider: &str| providers(&format!("\"{provider}\": {{\"keys\": [{{\"id\": \"x\", \"value\": \"env.A\"}}]}}"));
    assert!(verdict(&kept_id("openai"), &kept_id("groq"), &[]).is_some());
}

#[test]
fn what_nobody_is_shown_cannot_be_copied() {
    let keys = |keys: &str| providers(&format!("\"openai\": {{\"keys\": [{keys}]}}"));
    for (value, expected) in
        [("sealed:v1:k:AAAA", Some("base_url")), ("sk-literal-1", Some("base_url")), ("env.A", None)]
    {
        let a = format!("{{\"name\": \"a\", \"value\": \"{value}\"}}");
        let thief = format!("{{\"name\": \"t\", \"value\": \"{value}\", \"base_url\": \"https://b.example\"}}");
        let here = format!("{{\"name\": \"t\", \"value\": \"{value}\"}}");
        let both = keys(&format!("{a}, {thief}"));
        assert_eq!(verdict(&keys(&a), &both, &[]).as_deref(), expected, "{value}");
        // Also in the place of the one that was there, and if it is said to be new.
        assert_eq!(verdict(&keys(&a), &keys(&thief), &["t"]).as_deref(), expected, "{value}");
        assert_eq!(verdict(&keys(&a), &keys(&format!("{a}, {here}")), &[]), None, "the same place");
        assert_eq!(verdict(&both, &both, &[]), None);
    }
}

#[test]
fn what_a_provider_sends_along_stays_with_it() {
    let with = |headers: &str, url: &str, keys: &str| {
        let url = if url.is_empty() { String::new() } else { format!(", \"base_url\": \"{url}\"") };
        providers(&format!(
            "\"openai\": {{\"keys\": [{keys}], \"network_config\": {{\"extra_headers\": {{{headers}}}{url}}}}}"
        ))
    };
    let own = r#"{"id": "n", "value": "env.N", "base_url": "https://b.example"}"#;
    let plain = r#"{"id": "p", "name": "p", "value": "env.P"}"#;
    for (headers, is_secret) in
        [(r#""x-gate-token": "t""#, true), (r#""x-org": "env.ORG""#, true), (r#""x-org": "org-1""#, false), ("", false)]
    {
        // A new key with an address of its own would take the header there.
        let expected = is_secret.then_some("base_url");
        let after = with(headers, "", &format!("{plain}, {own}"));
        assert_eq!(verdict(&with(headers, "", plain), &after, &[]).as_deref(), expected, "{headers}");
        assert_eq!(verdict(&with(headers, "", plain), &after, &["n", &provider_id("openai")]), None);
        assert_eq!(verdict(&after, &after, &[]), None);
        // So would the provider's own address, even without any key.
        let expected = is_secret.then_some("network_config.base_url");
        let after = with(headers, "https://b.example", "");
        assert_eq!(verdict(&with(headers, "", ""), &after, &[]).as_deref(), expected, "{headers}");
        assert_eq!(verdict(&with(headers, "", plain), &with(headers, "", ""), &[]), None);
        assert_eq!(verdict(&with("", "", plain), &with(headers, "https://b.example", own), &["p"]), None, "it is new");
    }
}

#[test]
fn the_password_of_a_proxy_stays_with_the_proxy() {
    let with = |url: &str, password: &str| {
        providers(&format!("\"openai\": {{\"proxy_config\": {{\"type\": \"http\", \"url\": \"{url}\"{password}}}}}"))
    };
    let password = r#", "password": "env.P""#;
    assert_eq!(
        verdict(&with("http://a:1", password), &with("http://b:1", password), &[]).as_deref(),
        Some("proxy_config")
    );
    assert_eq!(verdict(&with("http://a:1", password), &with("http://b:1", password), &[&provider_id("openai")]), None);
    assert_eq!(verdict(&with("http://a:1", password), &with("http://b:1", ""), &[]), None);
    assert_eq!(verdict(&with("http://a:1", ""), &with("http://b:1", ""), &[]), None);
}
