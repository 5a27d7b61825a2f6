//! Changes of management APIs, against the real compiler: on a disk that steps on command, and on
//! the real one. Each test prints how many it ran.

mod answers;
mod failures;
mod kill;
mod model;
mod real_disk;
mod step_disk;
mod steps;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::step_disk::{Fate, Files, StepDisk};
use super::reload_tests::fake::{FakeListeners, Told};
use super::*;
use crate::config::Problems;
use crate::config::edit::{Edit, NewValue};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::limits::WRITER_QUEUE_MAX;
use crate::secret::Secret;
use crate::snapshot::{CompileInput, Compiled, Resolve, SealingKey, Unready, Unresolved, load};
use crate::ticks::Ticks;

const CONFIG: &str = "/etc/config.json";
const KEYS: &str = "/providers/openai/keys";

/// The compiler that the process has.
#[derive(Default)]
struct RealCompile(Registry);

struct Through<'a>(&'a Resolver<'a>);

impl Resolve for Through<'_> {
    fn env(&self, name: &str) -> Result<Secret, Unresolved> {
        Ok(self.0.env(name)?)
    }

    fn file(&self, path: &Path) -> Result<Secret, Unresolved> {
        Ok(self.0.file(path)?)
    }

    fn unseal(&self, sealed: &str, _pointer: &str, _key: &SealingKey) -> Result<Secret, Unresolved> {
        // What `BackwardsSealer` makes.
        match sealed.strip_prefix("sealed:v1:test:") {
            Some(text) => Ok(Secret::new(text.chars().rev().collect::<String>())),
            None => Err(Unready::SealedUnreadable { why: "not made by the test" }.into()),
        }
    }
}

impl Compile for RealCompile {
    fn compile(&mut self, source: &Source<'_>) -> (Option<Compiled>, Problems) {
        let input = CompileInput {
            number: source.number,
            hash: source.hash,
            dir: source.directory,
            resolve: &Through(source.resolve),
            fingerprint_key: source.fingerprint_key,
            strict_env: source.strict_env,
        };
        load(source.text, &input, &mut self.0)
    }

    fn listed(&mut self, _provider: &ProviderName, _models: Arc<[Box<str>]>) -> bool {
        false
    }

    fn swapped(&mut self, running: &Snapshot, now: Ticks) {
        self.0.prune(running.providers.iter().map(|provider| &provider.name), now);
    }
}

/// Turns secrets around, so that a test can tell them from what was sent.
struct BackwardsSealer;

impl Sealer for BackwardsSealer {
    fn seal(&mut self, secret: &Secret, pointer: &str, _base: &Base<'_>) -> Result<String, String> {
        assert!(pointer.starts_with("/providers/openai/keys/") && pointer.ends_with("/value"), "{pointer}");
        Ok(format!("sealed:v1:test:{}", secret.expose().chars().rev().collect::<String>()))
    }
}

fn options(path: &Path, disk: Arc<dyn Disk>, told: &Told) -> WriterOptions {
    WriterOptions {
        disk,
        events: Box::new(NoEvents),
        env: Arc::new(|name| (name != "UNSET").then(|| format!("value-of-{name}"))),
        sealer: Box::new(BackwardsSealer),
        ..WriterOptions::new(
            path.to_owned(),
            FingerprintKey::new([7; 32]),
            Box::<RealCompile>::default(),
            Box::new(FakeListeners::new(told)),
            Arc::new(SystemClock::new()),
        )
    }
}

/// A writer at work, on a runtime whose time is ours.
struct Scene {
    disk: StepDisk,
    store: Arc<Store>,
    told: Told,
    commands: mpsc::Sender<Command>,
    writer: tokio::task::JoinHandle<()>,
}

impl Scene {
    async fn on(disk: &StepDisk) -> Self {
        let told = Told::default();
        let (writer, store) = Writer::start(options(Path::new(CONFIG), Arc::new(disk.clone()), &told)).unwrap();
        let (commands, receiver) = mpsc::channel(WRITER_QUEUE_MAX);
        let writer = tokio::spawn(writer.run(receiver));
        let scene = Self { disk: disk.clone(), store, told, commands, writer };
        // The first look of the loop is over; the next one is a second away.
        scene.pass(1).await;
        scene
    }

    async fn new(text: &str) -> Self {
        Self::on(&StepDisk::with(CONFIG, text)).await
    }

    async fn ask(&self, change: impl Change + 'static) -> oneshot::Receiver<Result<Written, ApplyError>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Apply { change: Box::new(change), reply }).await.unwrap();
        answer
    }

    async fn apply(&self, change: impl Change + 'static) -> Result<Written, ApplyError> {
        self.ask(change).await.await.unwrap()
    }

    async fn pass(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn text(&self) -> String {
        self.disk.text(CONFIG)
    }

    /// Weights by name, of what runs.
    fn running(&self) -> Vec<(String, f64)> {
        weights(&self.store.generation().document)
    }

    fn generation(&self) -> u64 {
        self.store.snapshot().mark.number
    }

    /// What runs is what is in the file, and nothing else lies there.
    fn at_rest(&self, context: &str) {
        let running = self.store.generation();
        assert_eq!(self.text(), running.document.tree.text(), "{context}");
        assert_eq!(running.snapshot.mark.hash, ConfigHash::of_bytes(self.text().as_bytes()), "{context}");
        let status = self.store.status();
        assert_eq!(status.on_disk_hash, Some(status.hash), "{context}");
        assert_eq!(status.generation, running.snapshot.mark.number, "{context}");
        assert!(!status.drift && status.last_error.is_none(), "{context}: {status:#?}");
        assert_eq!(self.disk.names(), [CONFIG], "{context}");
    }

    async fn end(self) {
        self.commands.send(Command::Shutdown).await.unwrap();
        self.writer.await.unwrap();
    }
}

fn paused<F: Future>(scene: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { scene().await })
}

/// A file with these keys, as a person would have written it.
fn text_of(keys: &[(&str, u32)]) -> String {
    let mut text = String::from("{\n  // mine\n  \"providers\": {\"openai\": {\"keys\": [\n");
    for (i, (name, weight)) in keys.iter().enumerate() {
        let comma = if i + 1 == keys.len() { "" } else { "," };
        text.push_str(&format!(
            "    {{\"name\": \"{name}\", \"value\": \"env.KEY\", \"weight\": {weight}}}{comma} // {name}\n"
        ));
    }
    text + "  ]}}\n}\n"
}

fn weights(document: &Document) -> Vec<(String, f64)> {
    let keys = document.file.providers.iter().flatten().flat_map(|(_, provider)| provider.keys.iter().flatten());
    keys.map(|key| (key.name.clone().unwrap(), key.weight.map_or(1.0, |weight| weight.value()))).collect()
}

fn weights_in(text: &str) -> Vec<(String, f64)> {
    let (document, problems) = crate::config::read(text);
    assert!(!problems.has_errors(), "{text}\n{problems:?}");
    weights(&document.unwrap())
}

/// What somebody does with `sed -i`, on what stands there at that moment.
fn edit_by_hand(files: &mut Files, name: &str, weight: u32) {
    let Some(bytes) = files.get(Path::new(CONFIG)) else { return };
    let text = with_weight(std::str::from_utf8(bytes).unwrap(), name, weight);
    files.insert(CONFIG.into(), text.into_bytes());
}

fn with_weight(text: &str, name: &str, weight: u32) -> String {
    let edited = text.lines().map(|line| match line.split_once("\"weight\": ") {
        Some((head, tail)) if head.contains(&format!("\"name\": \"{name}\"")) => {
            let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{head}\"weight\": {weight}{rest}\n")
        }
        _ => format!("{line}\n"),
    });
    edited.collect()
}

/// A change of one key, as a management API plans it.
#[derive(Clone, Debug)]
enum KeyChange {
    Weight { name: String, weight: u32, if_match: Option<ConfigHash> },
    Add { name: String, secret: Option<&'static str> },
    Delete { name: String },
}

impl KeyChange {
    fn weight(name: &str, weight: u32) -> Self {
        Self::Weight { name: name.to_owned(), weight, if_match: None }
    }

    fn add(name: &str) -> Self {
        Self::Add { name: name.to_owned(), secret: None }
    }

    fn delete(name: &str) -> Self {
        Self::Delete { name: name.to_owned() }
    }
}

fn place_of(document: &Document, name: &str) -> Option<(usize, ConfigHash)> {
    let (_, provider) = document.file.providers.iter().flatten().next()?;
    let mut keys = provider.keys.iter().flatten().enumerate();
    keys.find(|(_, key)| key.name.as_deref() == Some(name)).map(|(at, key)| (at, key.hash))
}

impl Change for KeyChange {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        assert_eq!(base.hash, ConfigHash::of_bytes(base.document.tree.text().as_bytes()));
        let (Self::Weight { name, .. } | Self::Add { name, .. } | Self::Delete { name }) = self;
        let place = place_of(base.document, name);
        let found = place.ok_or(Refused::NotFound { what: "key" });
        let edit = match self {
            Self::Add { .. } if place.is_some() => {
                return Err(Refused::Conflict { code: "exists", message: "there is one".to_owned() });
            }
            Self::Add { secret, .. } => {
                let text = |text: &str| NewValue::text(text);
                let value = secret.map_or_else(|| text("env.KEY"), |secret| NewValue::Secret(Secret::new(secret)));
                let members = [("name", text(name)), ("value", value), ("weight", NewValue::Number("1".to_owned()))];
                let value = NewValue::Object(members.map(|(name, value)| (name.to_owned(), value)).into());
                Edit::Append { pointer: KEYS.to_owned(), value }
            }
            Self::Delete { .. } => Edit::Remove { pointer: format!("{KEYS}/{}", found?.0) },
            Self::Weight { weight, if_match, .. } => {
                let (at, hash) = found?;
                if if_match.is_some_and(|if_match| if_match != hash) {
                    return Err(Refused::Stale);
                }
                Edit::Set { pointer: format!("{KEYS}/{at}/weight"), value: NewValue::Number(weight.to_string()) }
            }
        };
        Ok(Plan { edits: vec![edit], renewed: Vec::new() })
    }
}

/// Any plan at all.
struct Planned<F>(F);

impl<F: Fn(&Base<'_>) -> Result<Plan, Refused> + Send> Change for Planned<F> {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        (self.0)(base)
    }
}

/// How many operations one write has, by doing one.
fn operations() -> Vec<&'static str> {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1), ("b", 1)])).await;
        scene.disk.follow_script(Box::new(|_, _, _| Fate::Go));
        scene.apply(KeyChange::weight("a", 3)).await.unwrap();
        let told = scene.disk.end_script();
        scene.end().await;
        told
    })
}

/// The answer in short.
fn short(answer: &Result<Written, ApplyError>) -> String {
    match answer {
        Ok(written) => format!("generation {}", written.generation.snapshot.mark.number),
        Err(error) => format!("{error:?}"),
    }
}

fn has(weights: &[(String, f64)], name: &str, weight: u32) -> bool {
    weights.iter().any(|(known, is)| known == name && *is == f64::from(weight))
}
