//! Plans on a text: what a body does to the file, and what is refused. No writer and no disk.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};

use crate::admin::body::object;
use crate::admin::error::ApiError;
use crate::admin::etag::IfMatch;
use crate::admin::first_seen::FirstSeen;
use crate::admin::keys::{CreateKey, DeleteKey, ReplaceKey};
use crate::admin::merge::Ground;
use crate::admin::providers::{CreateProvider, DeleteProvider, PutProvider};
use crate::admin::record::{KeyBody, ProviderBody};
use crate::admin::view::{Lens, keys_hash};
use crate::clock::Clock;
use crate::config::edit::{Edit, NewValue, apply};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::secret::Secret;
use crate::snapshot::{CompileInput, Compiled, Resolve, SealingKey, Unready, Unresolved, load};
use crate::store::{Base, Change};

const NOW: &str = "2026-03-04T05:06:07Z";

/// An environment in which everything but `KW_MISSING` is set, and to the same.
struct World;

impl Resolve for World {
    fn env(&self, name: &str) -> Result<Secret, Unresolved> {
        match name {
            "KW_MISSING_KEY" => Err(Unready::EnvMissing { name: name.to_owned() }.into()),
            _ => Ok(Secret::new("sk-env-0123456789abcdef")),
        }
    }

    fn file(&self, path: &Path) -> Result<Secret, Unresolved> {
        Err(Unready::FileUnreadable { path: path.to_owned() }.into())
    }

    fn unseal(&self, _sealed: &str, _pointer: &str, _key: &SealingKey) -> Result<Secret, Unresolved> {
        Err(Unready::SealedUnreadable { why: "not made by the test" }.into())
    }
}

#[track_caller]
fn compiled(text: &str) -> Compiled {
    let input = CompileInput {
        number: 1,
        hash: ConfigHash::of_bytes(text.as_bytes()),
        dir: Path::new("/"),
        resolve: &World,
        fingerprint_key: &FingerprintKey::new([1; 32]),
        strict_env: false,
    };
    let (compiled, problems) = load(text, &input, &mut Registry::new());
    compiled.unwrap_or_else(|| panic!("{}\n{text}", problems.render("config.json")))
}

fn lens() -> Lens {
    Lens { first_seen: Arc::new(FirstSeen::default()), clock: Clock::starting_now() }
}

/// Secrets as the writer would seal them: enough to see where one stands.
fn seal(value: &mut NewValue) {
    match value {
        NewValue::Secret(_) => *value = NewValue::Object(vec![("value".into(), NewValue::text("sealed:v1:k:AAAA"))]),
        NewValue::List(items) => items.iter_mut().for_each(seal),
        NewValue::Object(members) => members.iter_mut().for_each(|(_, member)| seal(member)),
        NewValue::Null | NewValue::Bool(_) | NewValue::Number(_) | NewValue::Text(_) => {}
    }
}

/// A change made on a text: the next text and whose secrets came anew, or the refusal as a client
/// sees it.
fn make(text: &str, change: &dyn Change) -> Result<(String, Vec<String>), ApiError> {
    let before = compiled(text);
    let base = Base { document: &before.document, snapshot: &before.snapshot, hash: before.snapshot.mark.hash };
    let mut plan = change.plan(&base)?;
    for edit in &mut plan.edits {
        if let Edit::Set { value, .. } | Edit::Append { value, .. } = edit {
            seal(value);
        }
    }
    let next = apply(&before.document.tree, &plan.edits).unwrap();
    change.accept(&compiled(&next).snapshot)?;
    Ok((next, plan.renewed))
}

fn create(body: &str) -> Result<CreateKey, ApiError> {
    let body = KeyBody::read(object(body)?.root().clone())?;
    let id = match body.value().member("id") {
        Some(_) => super::id_of(body.value()),
        None => "fresh".to_owned(),
    };
    Ok(CreateKey { provider: "openai".into(), body, id, now: NOW.into(), if_match: IfMatch::None })
}

fn replace(id: &str, body: &str) -> Result<ReplaceKey, ApiError> {
    let body = KeyBody::read(object(body)?.root().clone())?;
    Ok(ReplaceKey { provider: "openai".into(), key_id: id.into(), body, now: NOW.into(), if_match: IfMatch::None })
}

fn post(text: &str, body: &str) -> Result<String, ApiError> {
    make(text, &create(body)?).map(|(text, _)| text)
}

fn put(text: &str, id: &str, body: &str) -> Result<String, ApiError> {
    make(text, &replace(id, body)?).map(|(text, _)| text)
}

/// What a client gets of the key at a place.
fn shown(text: &str, provider: &str, at: usize) -> Json {
    let compiled = compiled(text);
    let ground = Ground { document: &compiled.document, snapshot: &compiled.snapshot };
    let provider = compiled.snapshot.providers.iter().find(|it| it.name.as_str() == provider).unwrap();
    lens().key(&provider.keys[at], ground).unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, status: u16, code: &str, field: &str) {
    let error = result.unwrap_err();
    let got = (error.status.as_u16(), error.code, error.field.as_deref().unwrap_or_default());
    assert_eq!(got, (status, code, field), "{}", error.message);
    assert!(!error.message.contains("sk-"), "{}", error.message);
}

const FILE: &str = r#"{
  // ours
  "providers": {
    "openai": {
      "keys": [
        {"name": "main", "value": "env.OPENAI_KEY", "weight": 2.0}, // the first
        {"name": "spare", "id": "k-spare", "value": "sk-proj-abcdefghijklmnop", "models": ["gpt-4o"],
         "created_at": "2026-01-01T00:00:00Z"},
      ],
    },
    "ollama": {"keys": [{"name": "box", "ollama_key_config": {"url": "http://127.0.0.1:11434"}}]},
    "nokey": {"custom_provider_config": {"base_provider_type": "openai", "is_key_less": true},
              "network_config": {"base_url": "http://127.0.0.1:1", "extra_headers": {"x-token": "sk-header-0123456789abcdef"}}},
  },
  "routes": {"@fast": {"strategy": "fallback", "targets": ["openai/gpt-4o", "ollama/llama"]}},
}
"#;

#[test]
fn a_new_key_is_one_line_in_the_manner_of_its_siblings() {
    let text = post(FILE, r#"{"name": "new", "value": "env.NEW_KEY", "weight": 1, "enabled": true, "models": ["*"]}"#);
    let text = text.unwrap();
    let added: Vec<&str> = text.lines().filter(|line| !FILE.contains(line)).collect();
    assert_eq!(text.lines().filter(|line| FILE.contains(line)).collect::<Vec<_>>(), FILE.lines().collect::<Vec<_>>());
    let joined = added.concat();
    for part in
        ["\"id\": \"fresh\"", "\"name\": \"new\"", "\"value\": \"env.NEW_KEY\"", "\"created_at\"", "\"updated_at\""]
    {
        assert!(joined.contains(part), "{joined}");
    }
    // What is the default is not written.
    for part in ["weight", "enabled", "models"] {
        assert!(!joined.contains(part), "{joined}");
    }
}

#[test]
fn a_literal_is_sealed_and_an_address_stands_in_clear() {
    let text = post(
        FILE,
        r#"{"id": "mine", "name": "new", "value": {"value": "sk-canary-0123456789", "env_var": "", "from_env": false},
            "base_url": "https://eu.api.example.com/v1", "azure_key_config": null, "vertex_key_config": null,
            "aliases": {"fast": "gpt-4o"}, "status": "success", "config_hash": "x", "description": "y"}"#,
    )
    .unwrap();
    let added = shown(&text, "openai", 2);
    assert!(text.contains("sealed:v1:") && !text.contains("canary"), "{text}");
    assert_eq!(added["id"], "mine");
    assert_eq!(added["value"], json!({"value": "********", "env_var": "", "from_env": false}));
    assert_eq!(added["base_url"]["value"], "https://eu.api.example.com/v1");
    assert_eq!(added["aliases"], json!({"fast": "gpt-4o"}));
    assert_eq!((&added["weight"], &added["priority"], &added["enabled"]), (&json!(1), &json!(500), &json!(true)));
    for member in ["status", "description", "config_hash"] {
        assert!(!text.contains(&format!("\"{member}\"")), "{text}");
    }
}

/// bifrost.md 3.3 in its order: each body fails at one check and would fail at later ones too.
#[test]
fn creates_that_are_refused() {
    let at = |provider: &str, body: &str| make(FILE, &CreateKey { provider: provider.into(), ..create(body)? });
    let taken = r#""name": "main", "id": "k-spare""#;
    refused(post(FILE, "{"), 400, "invalid_json", "");
    refused(post(FILE, "{\"valeu\": 1, \"name\": \"main\"}"), 400, "unknown_member", "valeu");
    refused(post(FILE, "{\"weight\": -1}"), 400, "bad_value", "weight");
    refused(post(FILE, "{\"models\": \"x\"}"), 400, "wrong_type", "models");
    refused(post(FILE, "{\"value\": 7}"), 400, "invalid_value", "value");
    refused(post(FILE, "{\"value\": {\"valeu\": \"sk-1\"}}"), 400, "invalid_value", "value");
    refused(at("absent", "{}"), 404, "provider_not_found", "");
    refused(at("nokey", "{}"), 400, "provider_is_keyless", "provider");
    for empty in ["", "null", "{\"value\":\"\",\"env_var\":\"\",\"from_env\":false}"] {
        let value = if empty.is_empty() { String::new() } else { format!(", \"value\": {empty}") };
        refused(post(FILE, &format!("{{{taken}{value}}}")), 400, "value_required", "value");
    }
    refused(at("ollama", "{\"name\": \"box\"}"), 400, "url_required", "ollama_key_config.url");
    refused(at("ollama", "{\"ollama_key_config\": {\"url\": \"\"}}"), 400, "url_required", "ollama_key_config.url");
    let with = |rest: &str| format!("{{{taken}, \"value\": \"sk-1\", {rest}}}");
    refused(post(FILE, &with("\"blacklisted_models\": [\"*\", \"a\"]")), 400, "conflict", "blacklisted_models.0");
    refused(post(FILE, &with("\"aliases\": {\"\": \"x\"}")), 400, "bad_value", "aliases.");
    refused(post(FILE, &with("\"aliases\": {\"a\": \"x\", \"A\": \"y\"}")), 400, "duplicate", "aliases.A");
    refused(
        post(FILE, &with("\"vllm_key_config\": {\"url\": \"https://a.example\"}")),
        400,
        "conflict",
        "vllm_key_config",
    );
    refused(post(FILE, &with("\"base_url\": \"http://10.0.0.1\"")), 400, "address_not_allowed", "base_url");
    refused(post(FILE, &format!("{{{taken}, \"value\": \"env.PATH\"}}")), 400, "reference_not_allowed", "value");
    refused(
        post(FILE, &format!("{{{taken}, \"value\": \"env.KEYWAY_SEALING_KEY\"}}")),
        400,
        "reference_not_allowed",
        "value",
    );
    refused(post(FILE, "{\"value\": {\"file\": \"/etc/passwd\"}}"), 400, "reference_not_allowed", "value");
    refused(post(FILE, "{\"value\": \"sealed:v1:k:AAAA\"}"), 400, "invalid_value", "value");
    refused(post(FILE, "{\"value\": \"********\"}"), 400, "invalid_value", "value");
    refused(post(FILE, &with("\"weight\": 1")), 409, "duplicate_key_name", "");
    refused(post(FILE, "{\"value\": \"sk-1\", \"id\": \"k-spare\"}"), 409, "duplicate_key_id", "");
    refused(post(FILE, "{\"value\": \"env.KW_MISSING_KEY\"}"), 400, "unresolved_reference", "value");
    // A key of another provider may have the same name.
    assert!(at("ollama", "{\"name\": \"main\", \"ollama_key_config\": {\"url\": \"https://a.example\"}}").is_ok());
}

#[test]
fn what_was_read_and_is_sent_back_changes_no_byte() {
    let old = r#"{"providers": {
      "openai": {"keys": [
        {"value": {"env_var": "OPENAI_KEY", "from_env": true}, "weight": 1.50, "models": ["b", "a"], "aliases": {"x": {"model_id": "y"}}},
        {"name": "lit", "id": "l", "value": "sk-proj-abcdefghijklmnop", "base_url": "http://10.0.0.1/v1", "priority": 5e0},
        {"name": "file", "value": {"file": "secrets/x"}, "enabled": false, "use_for_batch_api": true, "blacklisted_models": []},
        {"name": "sealed", "value": {"value": "sealed:v1:k:BBBB"}, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
         "aliases": {"A": "b"}, "huggingface_key_config": {"deployments": {"a": "c", "d": "e"}}}
      ]},
      "vllm": {"keys": [{"name": "v", "vllm_key_config": {"url": "env.VLLM_URL", "model_name": "m"}}]}}}"#;
    for at in 0..4 {
        let body = shown(old, "openai", at);
        let id = body["id"].as_str().unwrap().to_owned();
        assert_eq!(put(old, &id, &body.to_string()).unwrap(), old, "{body}");
        // Also without what was only shown for completeness.
        let mut bare = body.clone();
        for member in ["status", "description", "config_hash", "created_at", "updated_at", "id", "base_url", "value"] {
            bare.as_object_mut().unwrap().remove(member);
        }
        assert_eq!(put(old, &id, &bare.to_string()).unwrap(), old, "{bare}");
    }
    let body = shown(old, "vllm", 0);
    let change =
        ReplaceKey { provider: "vllm".into(), ..replace(body["id"].as_str().unwrap(), &body.to_string()).unwrap() };
    assert_eq!(make(old, &change).unwrap().0, old);
}

#[test]
fn a_replacement_touches_what_differs() {
    let mut body = shown(FILE, "openai", 0);
    let id = body["id"].as_str().unwrap().to_owned();
    body["weight"] = json!(5);
    assert_eq!(put(FILE, &id, &body.to_string()).unwrap(), FILE.replace("2.0", "5"));

    body["weight"] = json!(2);
    body["value"] = json!("env.OTHER_KEY");
    assert_eq!(put(FILE, &id, &body.to_string()).unwrap(), FILE.replace("OPENAI_KEY", "OTHER_KEY"));

    // Absent means the default, and a default that nobody wrote is not written.
    let sent = r#"{"value": "env.OPENAI_KEY", "models": ["*"], "enabled": true}"#;
    assert_eq!(put(FILE, &id, sent).unwrap(), FILE.replace(", \"weight\": 2.0", ""));

    // A derived id is written before the name that it came from goes.
    body["value"] = json!("env.OPENAI_KEY");
    body["name"] = json!("first");
    let text = put(FILE, &id, &body.to_string()).unwrap();
    assert_eq!(
        text,
        FILE.replace("\"name\": \"main\"", "\"name\": \"first\"").replace("2.0}", &format!("2.0, \"id\": \"{id}\"}}"))
    );
    assert_eq!(shown(&text, "openai", 0)["id"], json!(id));

    // A key with times of its own has them kept.
    let mut body = shown(FILE, "openai", 1);
    body["priority"] = json!(1);
    let text = put(FILE, "k-spare", &body.to_string()).unwrap();
    assert!(text.contains(&format!("\"updated_at\": \"{NOW}\"")) && text.contains("\"priority\": 1"), "{text}");
    assert!(text.contains("sk-proj-abcdefghijklmnop"), "{text}");
}

#[test]
fn secrets_of_a_replacement() {
    let mask = format!("sk-p{}mnop", "*".repeat(24));
    let other = format!("sk-p{}xxxx", "*".repeat(24));
    let with = |value: &str| put(FILE, "k-spare", &format!("{{\"models\": [\"gpt-4o\"], \"value\": {value}}}"));
    for keeps in [
        format!("\"{mask}\""),
        format!("{{\"value\": \"{mask}\", \"env_var\": \"\", \"from_env\": false}}"),
        "\"\"".into(),
        "{}".into(),
        "\"sk-proj-abcdefghijklmnop\"".into(),
    ] {
        assert_eq!(with(&keeps).unwrap(), FILE, "{keeps}");
    }
    for bad in
        [format!("\"{other}\""), "\"********\"".into(), "\"<REDACTED>\"".into(), format!("{{\"value\": \"{other}\"}}")]
    {
        refused(with(&bad), 400, "mask_mismatch", "value");
    }
    refused(with("null"), 400, "missing_member", "value");
    refused(with(&format!("{{\"value\": \"{mask}\", \"url\": \"x\"}}")), 400, "invalid_value", "value");
    let text = with("\"sk-new-0123456789abcdef\"").unwrap();
    assert!(text.contains("sealed:v1:k:AAAA") && !text.contains("sk-proj") && !text.contains("sk-new"), "{text}");
    assert!(with("\"env.NEW_KEY\"").unwrap().contains("\"value\": \"env.NEW_KEY\""));
    // A reference beside a stale value counts, whatever the value looks like.
    assert!(
        with("{\"value\": \"********\", \"env_var\": \"env.NEW_KEY\", \"from_env\": true}")
            .unwrap()
            .contains("env.NEW_KEY")
    );

    let renewed = |body: &str| make(FILE, &replace("k-spare", body).unwrap()).unwrap().1;
    assert!(renewed("{\"base_url\": \"https://a.example\"}").is_empty());
    assert!(renewed(&format!("{{\"value\": \"{mask}\", \"base_url\": \"https://a.example\"}}")).is_empty());
    assert_eq!(renewed("{\"value\": \"sk-1\", \"base_url\": \"https://a.example\"}"), ["k-spare"]);
}

#[test]
fn replacements_that_are_refused() {
    refused(put(FILE, "absent", "{}"), 404, "key_not_found", "");
    refused(put(FILE, "k-spare", "{\"name\": \"main\"}"), 409, "duplicate_key_name", "");
    refused(put(FILE, "k-spare", "{\"nmae\": \"main\"}"), 400, "unknown_member", "nmae");
    refused(put(FILE, "k-spare", "{\"base_url\": \"http://169.254.169.254\"}"), 400, "address_not_allowed", "base_url");
    let stale = ReplaceKey { if_match: IfMatch::Tags(vec!["\"old\"".into()]), ..replace("k-spare", "{}").unwrap() };
    refused(make(FILE, &stale), 412, "precondition_failed", "if-match");
    let hash = compiled(FILE).snapshot.providers[0].keys[1].hash;
    let fresh = IfMatch::Tags(vec![format!("\"{}\"", hash.hex())]);
    assert!(make(FILE, &ReplaceKey { if_match: fresh, ..replace("k-spare", "{}").unwrap() }).is_ok());
    let hash = keys_hash(&compiled(FILE).snapshot.providers[0]);
    let list = IfMatch::Tags(vec![format!("\"{}\"", hash.hex())]);
    assert!(make(FILE, &CreateKey { if_match: list, ..create("{\"value\": \"sk-1\"}").unwrap() }).is_ok());
}

#[test]
fn old_deployments_become_aliases_when_they_change() {
    let old = r#"{"providers": {"openai": {"keys": [
        {"name": "a", "value": "env.A_KEY", "huggingface_key_config": {"deployments": {"x": "y"}}}]}}}"#;
    let mut body = shown(old, "openai", 0);
    assert_eq!(body["aliases"], json!({"x": "y"}));
    assert!(body.get("huggingface_key_config").is_none());
    body["aliases"]["z"] = json!("w");
    let id = body["id"].as_str().unwrap().to_owned();
    let text = put(old, &id, &body.to_string()).unwrap();
    assert!(!text.contains("deployments") && !text.contains("huggingface"), "{text}");
    assert_eq!(shown(&text, "openai", 0)["aliases"], json!({"x": "y", "z": "w"}));
    // And in a new key they are never written in the old way.
    let text = post(FILE, r#"{"value": "sk-1", "huggingface_key_config": {"deployments": {"x": "y"}}}"#).unwrap();
    assert!(!text.contains("deployments") && text.contains("\"aliases\": {\"x\": \"y\"}"), "{text}");
}

fn delete(provider: &str, id: &str) -> (DeleteKey, Arc<Mutex<Option<Json>>>) {
    let shown = Arc::new(Mutex::new(None));
    let change = DeleteKey {
        provider: provider.into(),
        key_id: id.into(),
        if_match: IfMatch::None,
        lens: lens(),
        shown: Arc::clone(&shown),
    };
    (change, shown)
}

#[test]
fn deletes() {
    let (change, seen) = delete("openai", "k-spare");
    let (text, _) = make(FILE, &change).unwrap();
    assert!(!text.contains("k-spare") && text.contains("\"main\"") && text.contains("// the first"), "{text}");
    assert_eq!(seen.lock().unwrap().as_ref().unwrap()["name"], "spare");
    refused(make(&text, &change), 404, "key_not_found", "");
    refused(make(FILE, &delete("absent", "x").0), 404, "provider_not_found", "");
    refused(make(FILE, &delete("nokey", "x").0), 400, "provider_is_keyless", "provider");
    refused(make(FILE, &delete("openai", "absent").0), 404, "key_not_found", "");
    let stale = DeleteKey { if_match: IfMatch::Tags(vec!["\"x\"".into()]), ..delete("openai", "k-spare").0 };
    refused(make(FILE, &stale), 412, "precondition_failed", "if-match");
}

fn provider_body(body: &str) -> Result<ProviderBody, ApiError> {
    ProviderBody::read(&*object(body)?)
}

fn add(name: &str, body: &str, ids: &[&str]) -> Result<String, ApiError> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let change = CreateProvider { name: name.into(), body: provider_body(body)?, ids, now: NOW.into() };
    make(FILE, &change).map(|(text, _)| text)
}

fn set(name: &str, body: &str) -> Result<String, ApiError> {
    let change = PutProvider { name: name.into(), body: provider_body(body)?, if_match: IfMatch::None };
    make(FILE, &change).map(|(text, _)| text)
}

#[test]
fn providers_come_change_and_go() {
    let text = add("groq", r#"{"provider": "groq", "keys": [{"name": "a", "value": "sk-canary-1"}]}"#, &["g"]).unwrap();
    assert!(text.contains("\"groq\"") && !text.contains("canary"), "{text}");
    assert_eq!(shown(&text, "groq", 0)["id"], "g");
    refused(add("openai", "{\"provider\": \"openai\"}", &[]), 409, "duplicate_provider", "");
    refused(add("groq", "{\"keys\": [{\"valeu\": 1}]}", &["g"]), 400, "unknown_member", "keys.0.valeu");
    refused(
        add("groq", "{\"keys\": [{\"value\": \"env.KW_MISSING_KEY\"}]}", &["g"]),
        400,
        "unresolved_reference",
        "value",
    );
    refused(
        add("groq", "{\"network_config\": {\"base_url\": \"http://localhost\"}}", &[]),
        400,
        "address_not_allowed",
        "network_config.base_url",
    );
    refused(add("groq", "{\"nonsense\": 1}", &[]), 400, "unknown_member", "nonsense");
    refused(add("groq", "{\"name\": \"a\", \"provider\": \"b\"}", &[]), 400, "invalid_value", "name");

    let put = set("groq", "{\"network_config\": {\"connect_timeout_in_seconds\": 3}}").unwrap();
    assert!(put.contains("\"groq\": {\"network_config\": {\"connect_timeout_in_seconds\": 3}}"), "{put}");
    let text = set("openai", "{\"network_config\": {\"stream_idle_timeout_in_seconds\": \"30s\"}}").unwrap();
    assert!(text.contains("\"stream_idle_timeout_in_seconds\": \"30s\"") && text.contains("k-spare"), "{text}");

    let delete = |name: &str| make(FILE, &DeleteProvider { name: name.into(), if_match: IfMatch::None });
    refused(delete("absent"), 404, "provider_not_found", "");
    assert!(!delete("nokey").unwrap().0.contains("nokey"));
}

#[test]
fn a_provider_that_was_read_and_is_sent_back_changes_no_byte() {
    let before = compiled(FILE);
    let ground = Ground { document: &before.document, snapshot: &before.snapshot };
    for provider in &before.snapshot.providers {
        let body = lens().provider(provider, ground).unwrap();
        assert_eq!(set(provider.name.as_str(), &body.to_string()).unwrap(), FILE, "{body}");
        assert!(!body.to_string().contains("sk-header-0"), "{body}");
    }
    let mut body = lens().provider(&before.snapshot.providers[2], ground).unwrap();
    body["network_config"]["extra_headers"]["x-token"] = json!("********");
    refused(set("nokey", &body.to_string()), 400, "mask_mismatch", "network_config.extra_headers.x-token");
    body["network_config"]["extra_headers"]["x-token"] = json!("sk-other-0123456789abcdef");
    let text = set("nokey", &body.to_string()).unwrap();
    assert!(!text.contains("sk-header") && !text.contains("sk-other") && text.contains("sealed:v1:"), "{text}");
}

#[test]
fn views_show_no_secret() {
    let text = r#"{"providers": {"openai": {"keys": [
        {"name": "a", "value": "sk-canary-abcdefghijklmnop"}, {"name": "b", "value": "short"},
        {"name": "c", "value": "env.C_KEY"}, {"name": "d", "value": {"file": "run/d"}},
        {"name": "e", "value": {"value": "sealed:v1:k:canary"}}]}}}"#;
    let long = format!("sk-c{}mnop", "*".repeat(24));
    for (at, value, status) in [
        (0, json!({"value": long, "env_var": "", "from_env": false}), "unknown"),
        (1, json!({"value": "********", "env_var": "", "from_env": false}), "unknown"),
        (2, json!({"value": "", "env_var": "env.C_KEY", "from_env": true}), "unknown"),
        (3, json!({"value": "", "env_var": "", "from_env": false, "file": "run/d"}), "file_unreadable"),
        (4, json!({"value": "********", "env_var": "", "from_env": false}), "sealed_unreadable"),
    ] {
        let shown = shown(text, "openai", at);
        assert_eq!((&shown["value"], &shown["status"]), (&value, &json!(status)));
        assert!(!shown.to_string().contains("canary"), "{shown}");
        assert!(shown["created_at"].is_string() && shown["updated_at"].is_string());
    }
}
