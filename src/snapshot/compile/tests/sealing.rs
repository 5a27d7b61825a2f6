//! The key that seals, what it opens, and what an API body may name.

use super::*;
use crate::snapshot::{DryRun, SealingKey};

const LONG: &str = "0123456789abcdef0123456789abcdef";

fn management(members: &str) -> String {
    format!("{{\"management\": {{{members}}}}}")
}

#[test]
fn where_the_key_is() {
    let mut world = World::new();
    world.set("SEAL", LONG);
    let own = |text: &str| match world.snapshot(text).sealing_key {
        SealingKey::Own { file } => file,
        SealingKey::Given(_) => panic!("{text}: given"),
    };
    for (text, state_dir) in [
        ("{}", "/etc/keyway/.keyway"),
        ("{\"state\": {\"dir\": \"x/./y\"}}", "/etc/keyway/x/y"),
        ("{\"state\": {\"dir\": \"../state\"}}", "/etc/state"),
        ("{\"state\": {\"dir\": \"/var/lib/keyway\"}}", "/var/lib/keyway"),
    ] {
        assert_eq!(world.snapshot(text).state_dir, Path::new(state_dir), "{text}");
        assert_eq!(own(text), Path::new(state_dir).join("sealing.key"), "{text}");
    }
    for (reference, expected) in [
        ("\"env.SEAL\"", Ok(LONG)),
        ("\"env.NOPE\"", Err(Unready::EnvMissing { name: "NOPE".into() })),
        ("\"env.SHORT\"", Err(Unready::Incomplete { what: "a sealing key has 32 characters or more".into() })),
    ] {
        let snapshot = world.snapshot(&management(&format!("\"sealing_key\": {reference}")));
        let SealingKey::Given(found) = snapshot.sealing_key else { panic!("{reference}") };
        assert_eq!(found, expected.map(Secret::new), "{reference}");
    }
}

#[test]
fn problems() {
    let key = |reference: &str| management(&format!("\"sealing_key\": {reference}"));
    let long = format!("\"{LONG}\"");
    let mut table: Vec<(String, &[&str])> = vec![
        (key("\"env.KEY\""), &["W bad_value /management/sealing_key"]),
        (key("\"env.NOPE\""), &["W unresolved /management/sealing_key"]),
        (key("{\"file\": \"nope\"}"), &["W unresolved /management/sealing_key"]),
        (key("\"short\""), &["E bad_value /management/sealing_key", "W suspicious /management/sealing_key"]),
        (key(&long), &["W suspicious /management/sealing_key"]),
        (key("\"sealed:v1:KEY:x\""), &["E conflict /management/sealing_key"]),
    ];
    for dir in ["", ".", "..", "/", "/etc/keyway", "x/.."] {
        table.push((format!("{{\"state\": {{\"dir\": \"{dir}\"}}}}"), &["E bad_value /state/dir"]));
    }
    for origin in ["127.0.0.1:1", "http://127.0.0.1/x", "http://u@h", "ftp://h", "http://h?x", ""] {
        let text = management(&format!("\"allowed_origins\": [\"http://h\", \"{origin}\"]"));
        table.push((text, &["E bad_value /management/allowed_origins/1"]));
    }
    table.extend(own(&[
        ("{\"management\": {\"references\": {}}}", &[]),
        ("{\"management\": {\"references\": {\"env\": [], \"files\": []}}}", &[]),
        (
            "{\"management\": {\"references\": {\"env\": [\"*\", \"A_*\", \"\"]}}}",
            &["E bad_value /management/references/env/2"],
        ),
        ("{\"management\": {\"references\": {\"env\": [\"env.A\"]}}}", &["E bad_value /management/references/env/0"]),
        ("{\"management\": {\"references\": {\"files\": [\"/run/*\", \"a\"]}}}", &[]),
        (
            "{\"management\": {\"references\": {\"files\": [\"/run/../*\"]}}}",
            &["E bad_value /management/references/files/0"],
        ),
    ]));
    let many = vec!["\"A\""; crate::limits::REFERENCE_PATTERNS_MAX + 1].join(",");
    table.push((
        management(&format!("\"references\": {{\"env\": [{many}]}}")),
        &["E bad_value /management/references/env"],
    ));
    check(&table);
}

#[test]
fn what_an_api_body_may_name() {
    let world = World::new();
    let of = |members: &str| world.snapshot(&management(members)).management;
    let (bare, none) = (world.snapshot("{}").management, of("\"references\": {\"env\": []}"));
    assert_eq!(*bare.references.env, ["*_KEY", "*_TOKEN", "*_SECRET", "AWS_*", "AZURE_*", "GOOGLE_*"].map(Box::from));
    assert!(bare.references.files.is_empty() && none.references.env.is_empty() && none.references.files.is_empty());
    assert_eq!(of("\"references\": {\"files\": [\"x\"]}").references.env, bare.references.env);
    for management in [&bare, &none] {
        assert_eq!(management.references.dir, Path::new(DIR));
        assert_eq!(management.references.state_dir, Path::new("/etc/keyway/.keyway"));
    }
    let origins =
        of("\"allowed_origins\": [\"http://127.0.0.1:11434\", \"HTTPS://LLM.internal:443/\", \"http://[::1]:80\"]");
    assert_eq!(
        *origins.allowed_origins,
        ["http://127.0.0.1:11434", "https://llm.internal", "http://[::1]"].map(Box::from)
    );
}

#[test]
fn sealed_values_open_by_the_key_that_there_is() {
    let keys = "\"providers\": {\"openai\": {\"keys\": [{\"name\": \"a\", \"value\": \"sealed:v1:KEY:x\"}, {\"name\": \"b\", \"value\": {\"value\": \"sealed:v1:SHORT:x\"}}, \
        {\"name\": \"c\", \"value\": \"sealed:v1:EMPTY:x\"}], \"network_config\": {\"base_url\": \"sealed:v1:URL:x\"}}}";
    let plain = format!("{{{keys}}}");
    let given = format!("{{\"management\": {{\"sealing_key\": \"env.SEAL\"}}, {keys}}}");
    let mut world = World::new();
    let state = |world: &World, text: &str, name: &str| match &key(&world.snapshot(text), "openai", name).ready {
        Ok(_) => "ready",
        Err(Unready::SealedUnreadable { why }) => why,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(state(&world, &plain, "a"), "no key file");
    assert_eq!(state(&world, &given, "a"), "no key");
    assert!(world.snapshot(&plain).masks.is_empty());
    let lost = world.load(&plain).0.expect("compiles").fingerprint;
    world.put(".keyway/sealing.key", "any");
    // A key that is given and missing is not replaced by a file that lies about.
    assert_eq!(state(&world, &given, "a"), "no key");
    assert_eq!((state(&world, &plain, "a"), state(&world, &plain, "c")), ("ready", "it is empty"));
    let masks = world.snapshot(&plain).masks;
    let mask = |pointer: &str| masks.get(pointer).map(|shown| &*shown.mask);
    let stars = "*".repeat(24);
    assert_eq!(mask("/providers/openai/keys/0/value"), Some(&*format!("sk-r{stars}6789")));
    assert_eq!(mask("/providers/openai/keys/1/value"), Some("********"));
    assert_eq!(mask("/providers/openai/network_config/base_url"), Some(&*format!("http{stars}base")));
    assert_eq!(masks.len(), 3);
    // What a sealed value opens to is part of what a generation is.
    let found = world.load(&plain).0.expect("compiles").fingerprint;
    assert_ne!(found, lost);
    world.set("KEY", "sk-another-0123456789");
    assert_ne!(world.load(&plain).0.expect("compiles").fingerprint, found);
    world.set("SEAL", LONG);
    assert_eq!(state(&world, &given, "a"), "ready");
    // One that opens and is of no use is its author's mistake, as if it were written out.
    world.set("SHORT", "two words\n");
    assert_eq!(world.problems(&plain)[..1], ["E bad_value /providers/openai/keys/1/value"]);
}

#[test]
fn an_exposed_key_file_is_warned_about_where_it_is_needed() {
    let mut world = World::new();
    world.put(".keyway/sealing.key", "exposed");
    let sealed = provider("groq", "\"keys\": [{\"value\": \"sealed:v1:KEY:x\"}]");
    assert_eq!(world.problems(&sealed), ["W suspicious /state/dir"]);
    assert_eq!(world.problems("{}"), [""; 0]);
    world.put(".keyway/sealing.key", "any");
    assert_eq!(world.problems(&sealed), [""; 0]);
}

#[test]
fn a_dry_run_opens_nothing() {
    let text = "{\"management\": {\"sealing_key\": \"env.NOPE\"}, \"providers\": {\"groq\": {\"keys\": [{\"value\": \"sealed:v1:KEY:x\"}]}}}";
    let (compiled, problems) = World::new().load_by(&DryRun, text, &mut Registry::new());
    assert_eq!(lines(&problems), [""; 0]);
    let snapshot = compiled.expect("compiles").snapshot;
    assert!(matches!(snapshot.sealing_key, SealingKey::Given(Err(_))) && snapshot.masks.is_empty());
}
