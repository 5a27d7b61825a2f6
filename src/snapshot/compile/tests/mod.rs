//! Configs in, problems or snapshots out. One harness; the tables stand in the files below.

mod access;
mod bad;
mod cloud;
mod good;
mod properties;
mod sealing;
mod swap;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{CompileInput, load};
use crate::config::{Problems, Severity};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::secret::Secret;
use crate::snapshot::resolve::{Resolve, Unresolved};
use crate::snapshot::{Compiled, Key, SealingKey, Snapshot, Unready};

/// Directory of the config in these tests.
const DIR: &str = "/etc/keyway";
/// Long enough to be a token.
const TOKEN: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const OTHER_TOKEN: &str = "mlx_mk_111111111111111111111111111111111111139CTMT";

/// An environment and a disk for one test.
#[derive(Clone, Default)]
struct World {
    env: HashMap<String, String>,
    files: HashMap<PathBuf, String>,
    strict: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.set("KEY", "sk-resolved-0123456789");
        world.set("TOKEN", TOKEN);
        world.set("SHORT", "short");
        world.set("EMPTY", "");
        world.set("URL", "https://llm.example/base");
        world.set("BAD", "not a url\n");
        world
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    fn put(&mut self, path: &str, text: &str) {
        self.files.insert(Path::new(DIR).join(path), text.to_owned());
    }

    fn load(&self, text: &str) -> (Option<Compiled>, Problems) {
        self.load_with(text, &mut Registry::new())
    }

    fn load_with(&self, text: &str, registry: &mut Registry) -> (Option<Compiled>, Problems) {
        self.load_by(self, text, registry)
    }

    fn load_by(&self, resolve: &dyn Resolve, text: &str, registry: &mut Registry) -> (Option<Compiled>, Problems) {
        let key = FingerprintKey::new([3; 32]);
        let input = CompileInput {
            number: 7,
            hash: ConfigHash::of_bytes(text.as_bytes()),
            dir: Path::new(DIR),
            resolve,
            fingerprint_key: &key,
            strict_env: self.strict,
        };
        load(text, &input, registry)
    }

    /// A good config; warnings are allowed.
    fn snapshot(&self, text: &str) -> Snapshot {
        let (compiled, problems) = self.load(text);
        compiled.unwrap_or_else(|| panic!("{text}\n{}", problems.render("config.json"))).snapshot
    }

    /// `E code pointer` or `W code pointer` of each problem, sorted by place.
    fn problems(&self, text: &str) -> Vec<String> {
        let (compiled, problems) = self.load(text);
        assert_eq!(compiled.is_some(), !problems.has_errors(), "{text}");
        lines(&problems)
    }
}

fn lines(problems: &Problems) -> Vec<String> {
    let severity = |severity| if severity == Severity::Error { 'E' } else { 'W' };
    problems.0.iter().map(|p| format!("{} {} {}", severity(p.severity), p.code.as_str(), p.pointer)).collect()
}

impl Resolve for World {
    fn env(&self, name: &str) -> Result<Secret, Unresolved> {
        let found = self.env.get(name).map(|value| Secret::new(value.as_str()));
        found.ok_or_else(|| Unready::EnvMissing { name: name.to_owned() }.into())
    }

    fn file(&self, path: &Path) -> Result<Secret, Unresolved> {
        assert!(path.is_absolute());
        let found = self.files.get(path).map(|text| Secret::new(text.as_str()));
        found.ok_or_else(|| Unready::FileUnreadable { path: path.to_owned() }.into())
    }

    /// `sealed:v1:<name>:` opens to the variable of that name, with the key file `sealing.key` or any
    /// key that is given.
    fn unseal(&self, sealed: &str, _pointer: &str, key: &SealingKey) -> Result<Secret, Unresolved> {
        let why = match key {
            SealingKey::Own { file } if !self.files.contains_key(file) => "no key file",
            SealingKey::Given(Err(_)) => "no key",
            SealingKey::Own { .. } | SealingKey::Given(Ok(_)) => "of another key",
        };
        let name = sealed.split(':').nth(2).filter(|_| why == "of another key");
        let value = name.and_then(|name| self.env.get(name));
        value.map(|value| Secret::new(value.as_str())).ok_or_else(|| Unready::SealedUnreadable { why }.into())
    }

    fn is_exposed(&self, path: &Path) -> bool {
        self.files.get(path).is_some_and(|text| text == "exposed")
    }
}

fn key<'s>(snapshot: &'s Snapshot, provider: &str, name: &str) -> &'s Key {
    let provider = snapshot.providers.iter().find(|it| it.name.as_str() == provider).expect("provider");
    provider.keys.iter().find(|it| it.name.as_str() == name).expect("key")
}

/// The whole file around the members of one provider.
fn provider(name: &str, members: &str) -> String {
    format!("{{\"providers\": {{\"{name}\": {{{members}}}}}}}")
}

/// The whole file around one key of `openai` that is good but for these members.
fn openai_key(members: &str) -> String {
    provider("openai", &format!("\"keys\": [{{\"name\": \"k\", \"value\": \"env.KEY\", {members}}}]"))
}

/// Each: a config and all of its problems.
fn check(table: &[(String, &[&str])]) {
    let world = World::new();
    for (text, expected) in table {
        assert_eq!(world.problems(text), *expected, "{text}");
    }
    println!("{} configs", table.len());
}

fn own(rows: &[(&str, &'static [&'static str])]) -> Vec<(String, &'static [&'static str])> {
    rows.iter().map(|(text, problems)| ((*text).to_owned(), *problems)).collect()
}
