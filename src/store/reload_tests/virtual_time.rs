//! The writer on a disk and a clock that are under control: every order of things, no waiting.

use std::collections::HashMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::hash::ConfigHash;

/// A disk in memory.
#[derive(Clone, Default)]
struct FakeDisk(Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>);

impl FakeDisk {
    fn put(&self, path: &str, text: &str) {
        self.0.lock().unwrap().insert(path.into(), text.into());
    }

    fn remove(&self, path: &str) {
        self.0.lock().unwrap().remove(Path::new(path));
    }
}

impl Disk for FakeDisk {
    fn read(&self, path: &Path, cap: u64) -> Result<(FileStat, Vec<u8>), Refusal> {
        let files = self.0.lock().unwrap();
        let bytes = files.get(path).ok_or(Refusal::Missing)?.clone();
        if bytes.len() as u64 > cap { Err(Refusal::TooLarge { cap }) } else { Ok((FileStat::default(), bytes)) }
    }

    fn stat(&self, path: &Path) -> Result<FileStat, Refusal> {
        self.read(path, u64::MAX).map(|(stat, _)| stat)
    }
}

const CONFIG: &str = "/etc/config.json";
const SECRET: &str = "/etc/secret";

struct Scene {
    disk: FakeDisk,
    told: Told,
    store: Arc<Store>,
    commands: mpsc::Sender<Command>,
    writer: tokio::task::JoinHandle<()>,
}

impl Scene {
    fn new(text: &str, strict_env: bool) -> Self {
        let disk = FakeDisk::default();
        disk.put(CONFIG, text);
        let told = Told::default();
        let mut options = options(CONFIG.into(), &told, Box::new(NoEvents));
        options.disk = Arc::new(disk.clone());
        options.strict_env = strict_env;
        let (writer, store) = Writer::start(options).unwrap();
        let (commands, receiver) = mpsc::channel(WRITER_QUEUE_MAX);
        let writer = tokio::spawn(writer.run(receiver));
        Self { disk, told, store, commands, writer }
    }

    fn value(&self) -> u64 {
        fake::value(&self.store.snapshot())
    }

    async fn knock(&self) {
        self.commands.send(Command::FileMayHaveChanged).await.unwrap();
    }

    async fn pass(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
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

#[test]
fn what_failed_for_an_outer_reason_heals_by_itself() {
    paused(|| async {
        let scene = Scene::new(&text(1), false);
        scene.told.with(|told| told.taken = Some(5));
        scene.disk.put(CONFIG, "{\"value\": 2, \"port\": 5}");
        scene.pass(60_000).await;
        let status = scene.store.status();
        assert_eq!(scene.value(), 1);
        assert_eq!(status.outcomes.len(), 1, "told once");
        // At 1, 2, 4, 8, 16 and 30 s from each other.
        assert!((6..9).contains(&status.reloads_failed), "{}", status.reloads_failed);
        scene.told.with(|told| told.taken = None);
        scene.pass(31_000).await;
        assert_eq!(scene.value(), 2);
        assert!(scene.store.status().last_error.is_none());
        scene.end().await;
    });
    println!("outer reason: 1");
}

#[test]
fn nobody_sees_half_a_swap() {
    paused(|| async {
        let scene = Scene::new(&text(1), false);
        scene.told.with(|told| told.store = Some(scene.store.clone()));
        scene.disk.put(CONFIG, &text(2));
        scene.pass(5_000).await;
        let seen = scene.told.with(|told| told.at_commit.pop()).unwrap();
        assert_eq!((seen.generation, seen.on_disk_hash), (2, Some(seen.hash)));
        assert_eq!((seen.drift, seen.stale_since), (false, None));
        scene.end().await;
    });
}

#[test]
fn a_refused_file_heals_when_the_secret_that_it_names_comes() {
    paused(|| async {
        let scene = Scene::new(&text(1), true);
        scene.disk.put(CONFIG, "{\"value\": 2, \"file\": \"secret\"}");
        scene.pass(100_000).await;
        assert_eq!(scene.value(), 1);
        // With back-off: at 1, 2, 4, 8, 16 and 30 s from each other.
        assert!(scene.store.status().reloads_failed < 10, "{}", scene.store.status().reloads_failed);
        // Far less than the 30 s that the next retry would take.
        scene.disk.put(SECRET, "token");
        scene.pass(1_200).await;
        assert_eq!(scene.value(), 2);
        scene.disk.remove(SECRET);
        scene.pass(5_000).await;
        assert_eq!(scene.value(), 2);
        assert!(scene.store.status().last_error.is_some() && fake::has_secret(&scene.store.snapshot()));
        scene.disk.put(SECRET, "token");
        scene.pass(1_200).await;
        assert!(scene.store.status().last_error.is_none());
        assert_eq!(scene.store.status().generation, 2);
        scene.end().await;
    });
    println!("secret that comes late: 2");
}

/// Memory and books after 10 000 swaps are those after 100; what is held stays, what is not goes.
#[test]
fn ten_thousand_swaps() {
    paused(|| async {
        let scene = Scene::new(&text(0), false);
        let mut swaps = 0;
        for round in 1..=10_000 {
            scene.disk.put(CONFIG, &text(round));
            scene.knock().await;
            scene.pass(150).await;
            assert_eq!(scene.value(), round);
            swaps += 1;
            if round == 100 || round == 10_000 {
                scene.pass(1_100).await;
                let status = scene.store.status();
                assert_eq!((status.alive.len(), status.snapshots_alive()), (1, 1));
                assert_eq!(status.generation, round + 1);
                assert_eq!(status.outcomes.len(), 10);
            }
        }
        // A stream holds the mark, not the snapshot.
        let old = scene.store.snapshot();
        let mark = old.mark.clone();
        mark.in_flight.store(3, std::sync::atomic::Ordering::Relaxed);
        scene.disk.put(CONFIG, &text(1));
        scene.pass(1_200).await;
        assert_eq!(scene.store.status().snapshots_alive(), 2);
        drop(old);
        scene.pass(1_200).await;
        let status = scene.store.status();
        assert_eq!(status.snapshots_alive(), 1);
        assert_eq!(status.in_flight(), [(10_001, 3), (10_002, 0)]);
        drop(mark);
        scene.pass(1_200).await;
        assert_eq!(scene.store.status().in_flight(), [(10_002, 0)]);
        println!("swaps: {swaps}");
        scene.end().await;
    });
}

/// What somebody does to the disk.
#[derive(Clone, Debug)]
enum Act {
    Good(u64),
    WithSecret(u64),
    Bad,
    Torn,
    Gone,
    Secret(u8),
    SecretGone,
    Knock,
    Reload,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u64..5).prop_map(Act::Good),
        4 => (1u64..5).prop_map(Act::WithSecret),
        2 => Just(Act::Bad),
        2 => Just(Act::Torn),
        2 => Just(Act::Gone),
        2 => (0u8..3).prop_map(Act::Secret),
        1 => Just(Act::SecretGone),
        3 => Just(Act::Knock),
        1 => Just(Act::Reload),
    ]
}

async fn perform(scene: &Scene, act: &Act) {
    match act {
        Act::Good(value) => scene.disk.put(CONFIG, &text(*value)),
        Act::WithSecret(value) => scene.disk.put(CONFIG, &format!("{{\"value\": {value}, \"file\": \"secret\"}}")),
        Act::Bad => scene.disk.put(CONFIG, "{\"value\": null}"),
        Act::Torn => scene.disk.put(CONFIG, "{\"val"),
        Act::Gone => scene.disk.remove(CONFIG),
        Act::Secret(which) => scene.disk.put(SECRET, &format!("token-{which}")),
        Act::SecretGone => scene.disk.remove(SECRET),
        Act::Knock => scene.knock().await,
        Act::Reload => scene.commands.send(Command::Reload { reply: None }).await.unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens to the disk in whatever rhythm: what runs was once written whole, the
    /// books say so, and two seconds after the last act memory and disk agree, if they can.
    #[test]
    fn disk_and_memory_agree_in_the_end(acts in proptest::collection::vec((act(), 0u64..400), 1..60)) {
        paused(|| async {
            let scene = Scene::new(&text(0), false);
            let mut written = vec![ConfigHash::of_bytes(text(0).as_bytes())];
            for (act, pause) in &acts {
                perform(&scene, act).await;
                if let Act::Good(_) | Act::WithSecret(_) = act {
                    let files = scene.disk.0.lock().unwrap();
                    written.push(ConfigHash::of_bytes(&files[Path::new(CONFIG)]));
                }
                scene.pass(*pause).await;
                let running = scene.store.snapshot();
                assert!(written.contains(&running.mark.hash));
            }
            scene.pass(2_200).await;
            let on_disk = scene.disk.read(Path::new(CONFIG), u64::MAX).ok().map(|(_, bytes)| bytes);
            let status = scene.store.status();
            let running = scene.store.snapshot();
            assert_eq!(status.generation, running.mark.number);
            assert_eq!(status.hash, running.mark.hash);
            assert_eq!(status.on_disk_hash, on_disk.as_ref().map(|bytes| ConfigHash::of_bytes(bytes)));
            let good = on_disk.as_ref().is_some_and(|bytes| written.contains(&ConfigHash::of_bytes(bytes)));
            assert_eq!(status.drift, !good, "{status:#?}");
            assert_eq!(status.last_error.is_some(), !good, "{status:#?}");
            assert_eq!(status.stale_since.is_some(), !good);
            if good {
                let text = String::from_utf8(on_disk.unwrap()).unwrap();
                let has_secret = text.contains("file") && scene.disk.0.lock().unwrap().contains_key(Path::new(SECRET));
                assert_eq!(Some(running.mark.hash), status.on_disk_hash);
                assert_eq!(fake::has_secret(&running), has_secret);
            }
            assert_eq!(status.snapshots_alive(), 1);
            scene.end().await;
        });
    }
}
