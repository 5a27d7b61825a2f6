//! From one generation to the next: what is carried over, what counts as changed.

use std::sync::Arc;

use super::*;
use crate::health::{Admission, Outcome};
use crate::snapshot::resolve::DryRun;
use crate::snapshot::{Change, diff};
use crate::ticks::Ticks;

const TWO: &str = "{\"providers\": {\"openai\": {\"keys\": [{\"name\": \"a\", \"value\": \"env.KEY\"}, {\"name\": \"b\", \"value\": \"env.TOKEN\"}]}}}";

fn compiled(world: &World, text: &str, registry: &mut Registry) -> Compiled {
    let (compiled, problems) = world.load_with(text, registry);
    compiled.unwrap_or_else(|| panic!("{}", problems.render("config.json")))
}

#[test]
fn health_follows_the_key_and_not_the_file() {
    let mut world = World::new();
    let mut registry = Registry::new();
    let first = compiled(&world, TWO, &mut registry).snapshot;
    key(&first, "openai", "a").health.record(None, Outcome::Bench, Ticks(1));
    let benched = &key(&first, "openai", "a").health;
    let same = |snapshot: &Snapshot| Arc::ptr_eq(benched, &key(snapshot, "openai", "a").health);

    // Order, spacing, other keys, description: the same key.
    let moved = "{ \"providers\": { \"openai\": {\"keys\": [{\"value\": \"env.KEY\", \"name\": \"a\", \"description\": \"x\"}]}, \"mock\": {} } }";
    assert!(same(&compiled(&world, moved, &mut registry).snapshot));
    // Another weight, another address of the provider, another secret: another key.
    let weight = TWO.replace("\"env.KEY\"", "\"env.KEY\", \"weight\": 2");
    assert!(!same(&compiled(&world, &weight, &mut registry).snapshot));
    let address = TWO.replace("\"keys\"", "\"network_config\": {\"base_url\": \"http://h\"}, \"keys\"");
    assert!(!same(&compiled(&world, &address, &mut registry).snapshot));
    let header = TWO.replace("\"keys\"", "\"network_config\": {\"extra_headers\": {\"x-a\": \"1\"}}, \"keys\"");
    assert!(!same(&compiled(&world, &header, &mut registry).snapshot));
    world.set("KEY", "sk-rotated");
    assert!(!same(&compiled(&world, TWO, &mut registry).snapshot));
    world.set("KEY", "sk-resolved-0123456789");
    assert!(same(&compiled(&world, TWO, &mut registry).snapshot), "and back again");
}

/// What is edited, the file after, the names of the keys then, whether each is still benched.
type Edit = (&'static str, String, [(&'static str, bool); 2]);

/// Which edits leave a benched key benched and a failing origin failing, and which begin afresh.
#[test]
fn health_through_every_edit() {
    let file = |keys: &str| format!("{{\"providers\": {{\"openai\": {{\"keys\": [{keys}]}}}}}}");
    let a = "{\"id\": \"1\", \"name\": \"a\", \"value\": \"env.KEY\", \"models\": [\"x\", \"y\"]}";
    let b = "{\"name\": \"b\", \"value\": \"env.TOKEN\"}";
    let before = file(&format!("{a}, {b}"));
    let table: Vec<Edit> = vec![
        ("the same", before.clone(), [("a", true), ("b", true)]),
        ("the other order", file(&format!("{b}, {a}")), [("a", true), ("b", true)]),
        (
            "a key in front",
            file(&format!("{{\"name\": \"c\", \"value\": \"env.URL\"}}, {a}, {b}")),
            [("a", true), ("b", true)],
        ),
        ("lists in another order", before.replace("\"x\", \"y\"", "\"y\", \"x\""), [("a", true), ("b", true)]),
        (
            "a description",
            before.replace("\"name\": \"a\"", "\"name\": \"a\", \"description\": \"d\""),
            [("a", true), ("b", true)],
        ),
        (
            "a status that somebody wrote",
            before.replace("\"name\": \"a\"", "\"name\": \"a\", \"status\": \"success\""),
            [("a", true), ("b", true)],
        ),
        // The written form of a key is what its hash covers, its name included.
        ("a renamed key", before.replace("\"a\"", "\"z\""), [("z", false), ("b", true)]),
        ("another renamed key", before.replace("\"b\"", "\"z\""), [("a", true), ("z", false)]),
        (
            "names that change places",
            before.replace("\"b\"", "\"t\"").replace("\"a\"", "\"b\"").replace("\"t\"", "\"a\""),
            [("a", false), ("b", false)],
        ),
        ("a changed model list", before.replace(", \"y\"", ""), [("a", false), ("b", true)]),
        ("a changed reference", before.replace("env.TOKEN", "env.URL"), [("a", true), ("b", false)]),
        ("another id", before.replace("\"1\"", "\"2\""), [("a", false), ("b", true)]),
        (
            "another address",
            before.replace("\"name\": \"b\"", "\"name\": \"b\", \"base_url\": \"http://h\""),
            [("a", true), ("b", false)],
        ),
    ];
    let count = table.len();
    for (what, after, expected) in table {
        let (world, mut registry) = (World::new(), Registry::new());
        let first = compiled(&world, &before, &mut registry).snapshot;
        let now = Ticks(1000);
        for key in &first.providers[0].keys {
            key.health.record(None, Outcome::Bench, now);
        }
        (0..5).for_each(|_| first.providers[0].keys[0].origin.breaker.record(None, Outcome::Failure, now));
        let second = compiled(&world, &after, &mut registry).snapshot;
        for (name, is_benched) in expected {
            let key = key(&second, "openai", name);
            assert_eq!(key.health.look(None, now) != Admission::Free, is_benched, "{what}: {name}");
            // An origin is what it is, whoever goes there.
            let elsewhere = after.contains("http://h") && name == "b";
            assert_eq!(key.origin.breaker.look(None, now) == Admission::Free, elsewhere, "{what}: {name}");
        }
    }
    println!("{count} edits");
}

#[test]
fn a_rotated_secret_begins_afresh_and_its_neighbours_do_not() {
    let (mut world, mut registry) = (World::new(), Registry::new());
    world.put("secret", "one");
    let text = TWO.replace("\"env.TOKEN\"", "{\"file\": \"secret\"}");
    let first = compiled(&world, &text, &mut registry).snapshot;
    for key in &first.providers[0].keys {
        key.health.record(None, Outcome::Bench, Ticks(1));
    }
    world.put("secret", "two");
    let second = compiled(&world, &text, &mut registry).snapshot;
    assert_eq!(key(&second, "openai", "b").health.look(None, Ticks(2)), Admission::Free);
    assert_ne!(key(&second, "openai", "a").health.look(None, Ticks(2)), Admission::Free);
}

#[test]
fn a_refused_config_leaves_the_registry_alone() {
    let world = World::new();
    let mut registry = Registry::new();
    let first = compiled(&world, TWO, &mut registry);
    let before = registry.sizes();
    let bad = TWO.replace("\"a\"", "\"c\"").replace("{\"providers\"", "{\"server\": {\"listen\": []}, \"providers\"");
    let (refused, _) = world.load_with(&bad, &mut registry);
    assert!(refused.is_none());
    assert_eq!(registry.sizes(), before);
    drop(first);
}

#[test]
fn fingerprint_of_what_references_resolve_to() {
    let mut world = World::new();
    world.put("f", "one");
    let text = provider(
        "openai",
        "\"keys\": [{\"value\": {\"file\": \"f\"}}, {\"name\": \"b\", \"value\": \"literal\"}, {\"name\": \"c\", \"value\": \"env.LATER\"}]",
    );
    let fingerprint = |world: &World| compiled(world, &text, &mut Registry::new()).fingerprint;
    let first = fingerprint(&world);
    assert_eq!(first, fingerprint(&world));
    world.put("f", "two");
    let second = fingerprint(&world);
    assert_ne!(first, second);
    world.set("LATER", "set");
    assert_ne!(second, fingerprint(&world));
    world.set("UNRELATED", "x");
    world.put("f", "one");
    world.env.remove("LATER");
    assert_eq!(first, fingerprint(&world));
}

#[test]
fn a_dry_run_resolves_nothing_and_complains_of_nothing() {
    let text = "{\"server\": {\"listen\": [\"https://127.0.0.1:1\"], \"tls\": {\"cert_file\": \"c\", \"key_file\": \"k\"}}, \
        \"management\": {\"keys\": [{\"name\": \"ops\", \"value\": \"env.NOPE\"}]}, \
        \"providers\": {\"openai\": {\"keys\": [{\"value\": \"env.NOPE\"}, {\"name\": \"s\", \"value\": \"sealed:v1:k:x\"}], \
        \"network_config\": {\"base_url\": {\"file\": \"x\"}, \"ca_cert_pem\": \"env.NOPE\", \"extra_headers\": {\"x-a\": \"env.NOPE\"}}}}}";
    let (compiled, problems) = World::new().load_by(&DryRun, text, &mut Registry::new());
    assert_eq!(lines(&problems), [""; 0]);
    let snapshot = compiled.expect("compiles").snapshot;
    assert!(key(&snapshot, "openai", "default").ready.is_err());
    assert!(snapshot.management.keys.expect("keys")[0].digest.is_none());
}

#[test]
fn differences_by_name() {
    let world = World::new();
    let of = |text: &str| world.snapshot(text);
    let base = "{\"providers\": {\"groq\": {\"keys\": [{\"name\": \"a\", \"value\": \"env.KEY\"}]}, \"mock\": {}}, \"routes\": {\"@r\": {\"targets\": [\"mock/x\"]}}}";
    let changes = |new: &str| -> Vec<String> {
        let line = |Change { path, kind }: Change| format!("{} {path}", kind.as_str());
        diff(&of(base), &of(new)).into_iter().map(line).collect()
    };
    assert_eq!(changes(base), [""; 0]);
    assert_eq!(changes(&base.replace("\"mock\": {}", "\"mock\" : {}")), [""; 0]);
    for (from, to, expected) in [
        ("\"env.KEY\"", "\"env.TOKEN\"", vec!["changed keys/groq/a"]),
        ("\"env.KEY\"", "\"env.KEY\", \"weight\": 2", vec!["changed keys/groq/a"]),
        ("\"name\": \"a\"", "\"name\": \"b\"", vec!["removed keys/groq/a", "added keys/groq/b"]),
        (
            "\"groq\": {",
            "\"groq\": {\"network_config\": {\"connect_timeout_in_seconds\": 1}, ",
            vec!["changed providers/groq"],
        ),
        ("\"groq\": {", "\"groq\": {\"network_config\": {\"base_url\": \"http://h\"}, ", vec!["changed keys/groq/a"]),
        ("mock/x", "mock/y", vec!["changed routes/@r"]),
        ("{\"targets\"", "{\"strategy\": \"weighted\", \"targets\"", vec!["changed routes/@r"]),
        ("@r", "@s", vec!["removed routes/@r", "added routes/@s"]),
        ("{\"providers\"", "{\"server\": {\"drain_seconds\": 1}, \"providers\"", vec!["changed server"]),
        (
            "{\"providers\"",
            "{\"observability\": {\"log_level\": \"debug\"}, \"providers\"",
            vec!["changed observability"],
        ),
        (
            "{\"providers\"",
            "{\"management\": {\"listen\": [\"127.0.0.1:1\"]}, \"providers\"",
            vec!["changed management"],
        ),
        ("{\"providers\"", "{\"projects\": [], \"providers\"", vec!["added projects"]),
        (
            "{\"providers\"",
            "{\"projects\": [{\"id\": \"p\", \"keys\": []}], \"providers\"",
            vec!["added projects", "added projects/p"],
        ),
        (
            "\"groq\": {\"keys\": [{\"name\": \"a\", \"value\": \"env.KEY\"}]}, ",
            "",
            vec!["removed keys/groq/a", "removed providers/groq"],
        ),
    ] {
        assert_eq!(changes(&base.replace(from, to)), expected, "{to}");
    }
}

#[test]
fn a_rotated_tls_key_is_a_change_of_the_server() {
    let text =
        "{\"server\": {\"listen\": [\"https://127.0.0.1:1\"], \"tls\": {\"cert_file\": \"c\", \"key_file\": \"k\"}}}";
    let pair = || rcgen::generate_simple_self_signed(vec!["h".to_owned()]).unwrap();
    let (first, second) = (pair(), pair());
    let mut world = World::new();
    world.put("c", &first.cert.pem());
    world.put("k", &first.signing_key.serialize_pem());
    let old = world.snapshot(text);
    assert_eq!(diff(&old, &world.snapshot(text)), []);
    world.put("k", &second.signing_key.serialize_pem());
    let changed = diff(&old, &world.snapshot(text));
    assert_eq!(changed.iter().map(|c| (c.path.as_str(), c.kind.as_str())).collect::<Vec<_>>(), [("server", "changed")]);
}
