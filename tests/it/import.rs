//! `keyway import` over configs as people write them. What is printed is compared with what is
//! committed beside each; `KEYWAY_GOLDEN=1` writes it anew, to be read in the diff.

use std::path::{Path, PathBuf};

use crate::support::gateway::run;

struct Fixture {
    kind: &'static str,
    file: PathBuf,
}

fn fixtures() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    let mut found = Vec::new();
    for (kind, extension) in [("bifrost", "json"), ("litellm", "yaml")] {
        for entry in std::fs::read_dir(folder.join(kind)).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|it| it == extension) && !file.to_str().unwrap().ends_with(".expected.json")
            {
                found.push(Fixture { kind, file });
            }
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    assert!(found.len() >= 14, "{}", found.len());
    found
}

impl Fixture {
    fn name(&self) -> &str {
        self.file.file_name().unwrap().to_str().unwrap()
    }

    /// From its own folder, so that the report names the file and no place of this machine.
    fn import(&self) -> (i32, String, String) {
        run(&["import", self.kind, self.name()], &[], self.file.parent().unwrap())
    }

    #[track_caller]
    fn golden(&self, extension: &str, got: &str) {
        let path = self.file.with_extension(extension);
        if std::env::var_os("KEYWAY_GOLDEN").is_some() {
            std::fs::write(&path, got).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(expected == got, "{}:\n{got}", path.display());
    }
}

#[test]
fn every_fixture_gives_what_is_committed() {
    for fixture in fixtures() {
        let (code, config, report) = fixture.import();
        assert_eq!(code == 1, fixture.name().starts_with("nothing_usable"), "{}: {report}", fixture.name());
        fixture.golden("expected.json", &config);
        fixture.golden("report", &report);
    }
}

#[test]
fn every_result_passes_check_and_holds_no_error_anywhere() {
    let dir = tempfile::TempDir::with_prefix("keyway-import-").unwrap();
    for fixture in fixtures().iter().filter(|it| !it.name().starts_with("nothing_usable")) {
        let (code, config, _) = fixture.import();
        assert_eq!(code, 0, "{}", fixture.name());
        let (compiled, problems) = keyway::app::dry_run(&config);
        assert!(compiled.is_some(), "{}: {}", fixture.name(), problems.render("config.json"));
        let path = dir.path().join("config.json");
        std::fs::write(&path, &config).unwrap();
        let (code, stdout, _) = run(&["check", path.to_str().unwrap()], &[], dir.path());
        assert_eq!(code, 0, "{}: {stdout}", fixture.name());
    }
}

#[test]
fn reports_hold_no_value() {
    for fixture in fixtures() {
        let (_, config, report) = fixture.import();
        assert!(!report.contains("canary"), "{}: {report}", fixture.name());
        // A literal of a key is kept, anything else of that kind is not.
        for word in ["password", "member-name", "virtual", "langfuse", "header-value", "private"] {
            assert!(!config.contains(&format!("canary-{word}")), "{}: {config}", fixture.name());
        }
    }
}

/// The point of an import: what callers asked for before still finds a key.
#[test]
fn requests_by_the_old_names_are_served() {
    let dir = tempfile::TempDir::with_prefix("keyway-import-").unwrap();
    let path = dir.path().join("config.json");
    for (fixture, names) in [
        ("quick_start.yaml", &["gpt-large", "small", "embeddings"][..]),
        ("load_balancing.yaml", &["gpt-mini", "chat", "@gpt-mini", "@chat"]),
        ("fallbacks.yaml", &["smart", "fast", "local", "gpt-4", "hidden-one", "@smart", "@fast"]),
        ("self_hosted.yaml", &["llama", "qwen", "keyless", "studio", "nim"]),
        ("wildcards.yaml", &["openai/gpt-x", "openrouter/any/thing", "groq/llama", "team/slashed"]),
        ("clouds.yaml", &["cheap"]),
        ("credentials.yaml", &["a", "b", "c"]),
        ("first_generation.json", &["openai/gpt-mini", "gpt-mini", "ollama/llama3"]),
        ("deployments.json", &["huggingface/small", "large", "groq/anything"]),
        ("current.json", &["openai/fast", "tuned", "gpt-mini"]),
        ("custom_providers.json", &["my-vllm/x", "vllm/llama", "vllm/qwen", "sgl/x"]),
        ("literals.json", &["openai/gpt-mini"]),
    ] {
        let it = fixtures().into_iter().find(|it| it.name() == fixture).unwrap();
        std::fs::write(&path, it.import().1).unwrap();
        let env: Vec<(String, &str)> =
            variables(&it.import().1).into_iter().map(|name| (name, "http://127.0.0.1:9/v1")).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        for name in names {
            let (code, stdout, stderr) = run(&["route", name], &env, dir.path());
            assert_eq!(code, 0, "{fixture} {name}: {stdout}{stderr}");
        }
    }
}

/// Variables that a config refers to. A URL is good for a credential too.
fn variables(config: &str) -> Vec<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    config.split("\"env.").skip(1).map(word).collect()
}

#[test]
fn what_cannot_be_read() {
    let dir = tempfile::TempDir::with_prefix("keyway-import-").unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("torn.json", "{\"providers\": {\"openai\": {\"keys\": [{\"value\": \"sk-canary-0000000000000000\"");
    write("twice.json", "{\"providers\": {}, \"providers\": {}}");
    write("list.json", "[]");
    write("torn.yaml", "model_list: [a\nb: sk-canary-0000000000000000\n");
    write("two.yaml", "a: 1\n---\nb: 2\n");
    write("word.yaml", "sk-canary-0000000000000000\n");
    for (kind, name, place) in [
        ("bifrost", "torn.json", "torn.json:1:"),
        ("bifrost", "twice.json", "twice.json:1:19"),
        ("bifrost", "list.json", "list.json:1:1"),
        ("bifrost", "nothing.json", "nothing.json: the file does not exist"),
        ("litellm", "torn.yaml", "torn.yaml:2:"),
        ("litellm", "two.yaml", "two.yaml:2:"),
        ("litellm", "word.yaml", "word.yaml:1:1"),
        ("litellm", "nothing.yaml", "nothing.yaml: the file does not exist"),
    ] {
        let (code, stdout, stderr) = run(&["import", kind, name], &[], dir.path());
        assert_eq!((code, stdout.as_str()), (2, ""), "{name}: {stderr}");
        assert!(stderr.contains(place) && !stderr.contains("canary"), "{name}: {stderr}");
    }
    assert_eq!(run(&["import", "nginx", "x"], &[], dir.path()).0, 2);
    write("empty.json", "{}");
    write("empty.yaml", "model_list: []\n");
    for (kind, name) in [("bifrost", "empty.json"), ("litellm", "empty.yaml")] {
        let (code, stdout, stderr) = run(&["import", kind, name], &[], dir.path());
        assert_eq!((code, stdout.as_str()), (1, ""), "{name}: {stderr}");
    }
}
