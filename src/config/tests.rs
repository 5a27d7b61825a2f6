//! Files whole: fixtures with golden problems, the hash of every member, and what no file may do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::file::{ConfigFile, KeyFile, ProviderFile, StrategyFile};
use super::*;
use crate::config::file::key::UNHASHED;
use crate::hash::ConfigHash;
use crate::limits::{CONFIG_DEPTH_MAX, PROBLEMS_MAX};
use crate::weight::Weight;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example() -> String {
    std::fs::read_to_string(repository().join("config.example.json")).unwrap()
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join("tests/fixtures/config").join(folder)).unwrap();
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().unwrap() == "json").collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn check(text: &str) -> (Option<Document>, Problems) {
    let (document, mut problems) = read(text);
    if let Some(document) = &document {
        problems.locate(&document.tree);
    }
    (document, problems)
}

fn file(text: &str) -> ConfigFile {
    let (document, problems) = check(text);
    assert_eq!(problems, Problems::default());
    document.unwrap().file
}

/// Every file gives the problems beside it; `KEYWAY_GOLDEN=1` rewrites those.
#[test]
fn golden_problems() {
    let rewrite = std::env::var_os("KEYWAY_GOLDEN").is_some();
    let mut count = 0;
    for (folder, good) in [("good", true), ("bad", false)] {
        for path in fixtures(folder) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let (document, problems) = check(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(!problems.has_errors(), good, "{name}:\n{}", problems.render(name));
            assert!(document.is_some() || !good, "{name}");
            for problem in &problems.0 {
                assert!(problem.line > 0 || problem.code == Code::TooMany, "{name}: {problem:?}");
            }
            let golden = path.with_extension("problems");
            let rendered = problems.render(name);
            if rewrite {
                std::fs::write(&golden, &rendered).unwrap();
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(rendered, expected, "{name}");
            assert!(!rendered.contains("do-not-show") && !rendered.contains("sk-"), "{name} shows a secret");
            count += 1;
        }
    }
    println!("{count} fixtures");
}

#[test]
fn the_example_has_no_problem() {
    let example = file(&example());
    let providers = example.providers.unwrap();
    assert!(providers.iter().any(|(name, p)| name == "mock" && p.keys.is_none()));
    for (name, provider) in &providers {
        for key in provider.keys.iter().flatten() {
            assert!(matches!(key.value, Some(SecretRef::Env(_))), "{name}");
        }
    }
    let (route, targets) = &example.routes.unwrap()[0];
    assert_eq!(route, "@fast");
    for target in targets.targets.as_ref().unwrap() {
        let (provider, _) = target.model.split_once('/').unwrap();
        assert!(providers.iter().any(|(name, _)| name == provider), "{provider}");
    }
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let path = repository().join("schemas/config.schema.json");
    let generated = format!("{:#}\n", schema());
    if std::env::var_os("KEYWAY_GOLDEN").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "stale: run `make schema`");
}

#[test]
fn every_member_is_described() {
    let schema = schema();
    for (record, body) in schema["$defs"].as_object().unwrap() {
        let object = if body["anyOf"].is_array() { &body["anyOf"][1] } else { body };
        for (member, property) in object["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{record}.{member}");
        }
    }
}

#[test]
fn what_the_contract_sketches_is_read() {
    let text = std::fs::read_to_string(repository().join("tests/fixtures/config/good/contract.json")).unwrap();
    let file = file(&text);
    let server = file.server.unwrap();
    assert_eq!(server.drain_seconds, Some(Duration::from_secs(25)));
    assert_eq!(server.limits.unwrap().header_timeout_seconds, Some(Duration::from_secs(10)));
    assert_eq!(file.management.unwrap().sealing_key, Some(SecretRef::Env("KEYWAY_SEALING_KEY".into())));
    let (_, route) = &file.routes.as_ref().unwrap()[0];
    assert_eq!(route.strategy, Some(StrategyFile::Fallback));
    let targets = route.targets.as_ref().unwrap();
    assert_eq!((targets[0].model.as_str(), targets[0].weight), ("groq/llama-3.3-70b", None));
    assert_eq!((targets[1].model.as_str(), targets[1].weight), ("openai/gpt-mini", Weight::new(1.0)));
    assert_eq!(file.projects.unwrap()[0].budgets.as_ref().unwrap()[0].limit_usd, Some(50.0));
    assert_eq!(file.observability.unwrap().otlp_endpoint, None);
}

/// What comes with errors is only good for finding more of them, at the right places.
#[test]
fn a_bad_item_moves_no_other() {
    let (document, problems) = check(r#"{"projects": [{"id": "a"}, 7, {"id": "c", "pin": 1}]}"#);
    let pointers: Vec<_> = problems.0.iter().map(|p| p.pointer.as_str()).collect();
    assert_eq!(pointers, ["/projects/1", "/projects/2/pin"]);
    assert_eq!(document.unwrap().file.projects.unwrap().len(), 1);
}

#[test]
fn deployments_fold_into_aliases() {
    let text = std::fs::read_to_string(repository().join("tests/fixtures/config/good/keys_old.json")).unwrap();
    let (document, problems) = check(&text);
    let providers = document.unwrap().file.providers.unwrap();
    let aliases = |provider: &ProviderFile| -> Vec<(String, String)> {
        let key = &provider.keys.as_ref().unwrap()[0];
        key.aliases.iter().flatten().map(|(name, alias)| (name.clone(), alias.model_id.clone())).collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(aliases(&providers[0].1), [pair("GPT-4o", "kept"), pair("o3", "d-o3")]);
    for (name, provider) in &providers[1..] {
        assert_eq!(aliases(provider), [pair("a", "b")], "{name}");
    }
    assert_eq!(problems.0.len(), 5);
    assert!(problems.0.iter().all(|p| p.code == Code::Deprecated && p.severity == Severity::Warning));
}

// --- Hash of a key -------------------------------------------------------------------------------

fn key(json: &Json) -> KeyFile {
    let file = file(&json!({"providers": {"p": {"keys": [json]}}}).to_string());
    file.providers.unwrap().remove(0).1.keys.unwrap().remove(0)
}

fn hash(json: &Json) -> ConfigHash {
    // Old members are read with a warning, which `key` does not want.
    let (document, _) = read(&json!({"providers": {"p": {"keys": [json]}}}).to_string());
    document.unwrap().file.providers.unwrap().remove(0).1.keys.unwrap().remove(0).hash
}

/// For every place in a schema two values that differ there alone.
fn pairs(schema: &Json, root: &Json) -> Vec<(String, Json, Json)> {
    let first = |schema: &Json| pairs(schema, root)[0].1.clone();
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/$defs/");
        if name == "Secret" {
            // The object forms are other spellings of these.
            let file = |name: &str| json!({"file": name});
            return vec![
                (String::new(), json!("env.A"), json!("env.B")),
                (String::new(), json!("literal a"), json!("literal b")),
                (String::new(), file("a"), file("b")),
                (String::new(), json!("sealed:v1:a"), json!("sealed:v1:b")),
            ];
        }
        return pairs(&root["$defs"][name], root);
    }
    if let Some(branches) = schema["anyOf"].as_array() {
        return branches.iter().flat_map(|branch| pairs(branch, root)).collect();
    }
    if let Some(words) = schema["enum"].as_array() {
        return vec![(String::new(), words[0].clone(), words[1].clone())];
    }
    match schema["type"].as_str().unwrap() {
        "boolean" => vec![(String::new(), json!(true), json!(false))],
        "string" => vec![(String::new(), json!("a"), json!("b"))],
        "number" | "integer" => vec![(String::new(), json!(1), json!(2))],
        "array" => {
            let items = pairs(&schema["items"], root).into_iter();
            items.map(|(at, a, b)| (format!("[]{at}"), json!([a]), json!([b]))).collect()
        }
        "object" => {
            let mut all = Vec::new();
            if schema["additionalProperties"].is_object() {
                let values = pairs(&schema["additionalProperties"], root);
                all.push(("{name}".to_owned(), json!({"x": values[0].1}), json!({"y": values[0].1})));
                all.extend(
                    values.into_iter().map(|(at, a, b)| (format!("{{}}{at}"), json!({"x": a}), json!({"x": b}))),
                );
            }
            for (name, member) in schema["properties"].as_object().into_iter().flatten() {
                let mut base = json!({});
                for needed in schema["required"].as_array().into_iter().flatten() {
                    let needed = needed.as_str().unwrap();
                    base[needed] = first(&schema["properties"][needed]);
                }
                for (at, a, b) in pairs(member, root) {
                    let (mut with_a, mut with_b) = (base.clone(), base.clone());
                    with_a[name] = a;
                    with_b[name] = b;
                    all.push((format!(".{name}{at}"), with_a, with_b));
                }
            }
            all
        }
        other => panic!("{other}"),
    }
}

/// A member that the hash forgets would keep health and pools of a key that is another one now.
#[test]
fn the_hash_moves_with_every_member() {
    let schema = schema();
    let bare = hash(&json!({}));
    let all = pairs(&schema["$defs"]["Key"], &schema);
    let mut seen = BTreeSet::new();
    for (at, a, b) in &all {
        let member = at.trim_start_matches('.').split(['.', '[', '{']).next().unwrap();
        seen.insert(member.to_owned());
        let excluded = UNHASHED.contains(&member);
        assert_eq!(hash(a) != hash(b), !excluded, "{at}");
        assert_eq!(hash(a) != bare, !excluded, "{at}");
    }
    assert_eq!(seen.len(), KeyFile::MEMBERS.len(), "every member was walked");
    println!("{} places in {} members", all.len(), seen.len());
}

#[test]
fn the_hash_of_one_meaning_is_one() {
    for (a, b) in [
        (json!({"models": ["a", "b"]}), json!({"models": ["b", "a"]})),
        (json!({"blacklisted_models": ["a", "b"]}), json!({"blacklisted_models": ["b", "a"]})),
        (json!({"azure_key_config": {"scopes": ["a", "b"]}}), json!({"azure_key_config": {"scopes": ["b", "a"]}})),
        (json!({"value": "env.A"}), json!({"value": {"env_var": "env.A", "from_env": true}})),
        (json!({"value": "env.A"}), json!({"value": {"value": "stale", "env_var": "A", "from_env": true}})),
        (json!({"value": "sk"}), json!({"value": {"value": "sk"}})),
        (json!({"aliases": {"a": "b"}}), json!({"aliases": {"a": {"model_id": "b"}}})),
        (json!({"aliases": {"a": "b", "c": "d"}}), json!({"aliases": {"c": "d", "a": "b"}})),
        (json!({"weight": 1}), json!({"weight": 1.0})),
        (json!({"enabled": null, "base_url": ""}), json!({})),
        (json!({"id": "a", "status": "success", "description": "x", "config_hash": "y"}), json!({})),
    ] {
        assert_eq!(hash(&a), hash(&b), "{a} {b}");
    }
    let buckets = |names: [&str; 2]| {
        let buckets = names.map(|name| json!({"bucket_name": name}));
        hash(&json!({"bedrock_key_config": {"batch_s3_config": {"buckets": buckets}}}))
    };
    assert_eq!(buckets(["a", "b"]), buckets(["b", "a"]));
    assert_ne!(hash(&json!({"value": "env.A"})), hash(&json!({"value": "A"})));
    // An alias that is called like a member of a secret is still an alias.
    let aliases = |name: &str| hash(&json!({"aliases": {"env_var": "m", "value": name}}));
    assert_ne!(aliases("a"), aliases("b"));
}

/// Stable over releases and platforms: ETags and health follow it.
#[test]
fn golden_hash() {
    let key = key(&json!({"name": "main", "value": "env.A", "models": ["*"], "weight": 0.5, "aliases": {"a": "b"}}));
    assert_eq!(key.hash.hex(), "a7b1c1d76363370ab6f46e7181f7dba91ac6498c473c223fac44911d988c9415");
}

// --- What no file may do -------------------------------------------------------------------------

/// A file that is being written is every prefix of itself for a moment.
#[test]
fn a_torn_file_is_never_a_config() {
    let text = example();
    let end = text.rfind('}').unwrap();
    let mut count = 0;
    for (at, _) in text.char_indices().take_while(|(at, _)| *at <= end) {
        let (document, problems) = read(&text[..at]);
        assert!(document.is_none() && problems.has_errors(), "first {at} bytes");
        count += 1;
    }
    println!("{count} prefixes");
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let has_syntax = |text: &str| Tree::parse(text).is_err_and(|p| p.0.iter().any(|p| p.code == Code::Syntax));
    assert!(!has_syntax(&nested(CONFIG_DEPTH_MAX + 1)));
    assert!(has_syntax(&nested(CONFIG_DEPTH_MAX + 2)));
    assert!(has_syntax(&nested(100_000)));
    assert!(has_syntax(&"{\"a\":".repeat(100_000)));
}

#[test]
fn pointers_find_their_values() {
    let tree = Tree::parse(r#"{"a/b": {"m~n": [1, {"": 2}]}}"#).unwrap();
    let text = |pointer: &str| tree.find(pointer).map(|v| &tree.text()[v.span.clone()]);
    assert_eq!(text("/a~1b/m~0n/0"), Some("1"));
    assert_eq!(text("/a~1b/m~0n/1/"), Some("2"));
    assert_eq!(text("/a~1b/m~0n/1"), Some(r#"{"": 2}"#));
    for absent in ["/a", "/a~1b/m~0n/2", "/a~1b/m~0n/x", "/a~1b/m~0n/0/x"] {
        assert_eq!(text(absent), None, "{absent}");
    }
}

/// Every name that the schema knows, and two that it does not.
fn names() -> Vec<String> {
    fn collect(schema: &Json, names: &mut BTreeSet<String>) {
        match schema {
            Json::Object(members) => {
                names.extend(
                    members.get("properties").and_then(Json::as_object).into_iter().flatten().map(|(n, _)| n.clone()),
                );
                members.values().for_each(|v| collect(v, names));
            }
            Json::Array(items) => items.iter().for_each(|v| collect(v, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::from(["openai".to_owned(), "@fast".to_owned()]);
    collect(&schema(), &mut names);
    names.into_iter().collect()
}

const MARK: &str = "zqx";
const MARK_NUMBER: i64 = 918_273_645;

/// Any JSON of known names whose every value can be recognised.
fn marked() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        "[ -~]{0,12}".prop_map(|tail| json!(format!("{MARK}{tail}"))),
        "(env\\.|sealed:|vault\\.|\\*{8})[ -~]{0,4}".prop_map(|head| json!(format!("{head} {MARK}"))),
        (0..9_i64).prop_map(|n| json!(MARK_NUMBER * 10 + n)),
        Just(json!(-MARK_NUMBER)),
        any::<bool>().prop_map(|b| json!(b)),
        Just(Json::Null),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let name = prop::sample::select(names());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((name, inner), 0..6).prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// The parts of a config, with one replaced by something else: reaches deep into the readers.
fn replaced() -> impl Strategy<Value = Json> {
    let parts = [
        "/server",
        "/server/limits",
        "/management",
        "/management/keys/0",
        "/providers/openai",
        "/providers/openai/keys/0",
        "/providers/openai/keys/0/value",
        "/providers/openai/network_config",
        "/routes/@fast",
        "/routes/@fast/targets/1",
        "/projects/0",
        "/projects/0/budgets/0",
        "/prices/gpt-mini",
        "/state",
        "/observability",
    ];
    (prop::sample::select(parts.to_vec()), marked()).prop_map(|(part, value)| {
        let text = include_str!("../../tests/fixtures/config/good/contract.json");
        let mut whole = json_of(Tree::parse(text).unwrap().root());
        *whole.pointer_mut(part).unwrap() = value;
        whole
    })
}

fn json_of(value: &syntax::Value) -> Json {
    match &value.kind {
        syntax::Kind::Null => Json::Null,
        syntax::Kind::Bool(value) => json!(value),
        syntax::Kind::Number(text) => serde_json::from_str(text).unwrap(),
        syntax::Kind::Text(text) => json!(text),
        syntax::Kind::List(items) => items.iter().map(json_of).collect(),
        syntax::Kind::Object(members) => {
            Json::Object(members.iter().map(|m| (m.name.to_string(), json_of(&m.value))).collect())
        }
    }
}

fn shows_no_value(text: &str) -> Result<(), TestCaseError> {
    let (document, problems) = check(text);
    prop_assert!(problems.0.len() <= PROBLEMS_MAX + 1);
    let shown = format!("{}{}{problems:?}", problems.render("config.json"), problems.to_json());
    prop_assert!(!shown.contains(MARK), "{shown}");
    prop_assert!(!shown.contains(&MARK_NUMBER.to_string()), "{shown}");
    // What is shown of the document itself is its shape.
    let tree = format!("{:?}", document.map(|d| d.tree));
    prop_assert!(!tree.contains(MARK));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn no_value_is_ever_shown(json in prop_oneof![marked(), replaced()]) {
        shows_no_value(&json.to_string())?;
    }

    #[test]
    fn no_value_of_a_torn_file_is_shown(json in replaced(), cut in 0.0..1.0_f64, noise in "[\\[\\]{},:\"'\\\\/* \n]{0,3}") {
        let text = json.to_string();
        let at = text.floor_char_boundary((text.len() as f64 * cut) as usize);
        shows_no_value(&format!("{}{noise}{}", &text[..at], &text[at..]))?;
        shows_no_value(&format!("{}{noise}", &text[..at]))?;
    }

    #[test]
    fn nothing_panics(text in prop_oneof!["\\PC{0,40}", "[\\[\\]{},:\"'\\\\/*0-9eE+.xu \n\t\u{feff}\u{a0}a-f-]{0,60}"]) {
        let (_, problems) = check(&text);
        let _ = problems.render("config.json");
        let (_, problems) = check(&format!("{{\"providers\": {text}"));
        let _ = problems.to_json();
    }

    #[test]
    fn bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, problems) = check(&String::from_utf8_lossy(&bytes));
        let _ = problems.render("config.json");
    }

    /// Where our parser takes a text without comments and trailing commas, so does serde_json, and
    /// the two see the same.
    #[test]
    fn the_tree_is_what_serde_json_sees(json in marked()) {
        let text = format!("{json:#}");
        prop_assert_eq!(json_of(Tree::parse(&text).unwrap().root()), json);
    }

    /// Comments and trailing commas are all that we take beyond JSON.
    #[test]
    fn what_is_no_json_is_refused(tokens in prop::collection::vec(prop::sample::select(TOKENS.to_vec()), 0..9)) {
        let text = tokens.concat();
        let ours = Tree::parse(&text).is_ok();
        let strict = serde_json::from_str::<Json>(&text).is_ok();
        let packed: String = text.split_whitespace().collect();
        let trailing = packed.contains(",]") || packed.contains(",}");
        let doubled = text.matches("\"a\"").count() > 1;
        prop_assert!(ours == strict || ours && trailing || strict && doubled, "{text:?}: {ours}, serde_json {strict}");
    }
}

const TOKENS: [&str; 18] = [
    "[", "]", "{", "}", ",", ":", "\"a\"", "\"\\n\"", "\"\\v\"", "0", "1", "-", ".", "e1", "true", "null", " ",
    "\u{a0}",
];
