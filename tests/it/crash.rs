//! kill -9 in the midst of API writes: what was answered is there after the next start, what was not
//! is there whole or not at all, and nothing else lies around.
//!
//! Any moment of a busy gateway, then each system call of a single write. `KEYWAY_LONG=1` kills
//! 2 000 times.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::{PATIENCE, within};
use crate::support::gateway::{Gateway, launch, run};
use crate::support::keys::Keys;
use crate::support::needs::is_long;
use crate::support::strace::Strace;

const KILLS: u32 = 40;
const KILLS_LONG: u32 = 2_000;
/// Longest life of a gateway after its first answer, in microseconds.
const LIFE_MAX: u64 = 50_000;
/// Each has keys of its own, in one of the providers.
const CLIENTS: usize = 4;
const PROVIDERS: [&str; 2] = ["openai", "groq"];
/// Beyond which a client deletes more than it makes.
const KEYS_PER_CLIENT: usize = 4;

const ENV: [(&str, &str); 3] =
    [("HAND_KEY", "sk-of-the-hand-000"), ("FIRST_KEY", "sk-first-00000000"), ("SECOND_KEY", "sk-second-0000000")];

const FILE: &str = r#"// Four clients write here.
{
	"server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false},
	"providers": {
		"openai": {
			"keys": [
				{"name": "hand", "value": "env.HAND_KEY", "weight": 1.50}, // stays where it is
			],
		},
		"groq": {"keys": [
			{"name": "hand", "value": "env.HAND_KEY", "weight": 2e0},
		]}, /* the end */
	},
}
"#;

fn start() -> Gateway {
    ENV.iter().fold(launch(FILE), |launch, (name, value)| launch.env(name, value)).start()
}

/// What a key is to be, as far as its client says so.
#[derive(Clone, Debug)]
struct Wanted {
    name: String,
    weight: u32,
    /// `env.NAME`, or a secret.
    value: String,
}

impl Wanted {
    fn any(name: String) -> Self {
        let value = match fastrand::u8(0..4) {
            0 => "env.FIRST_KEY".to_owned(),
            1 => "env.SECOND_KEY".to_owned(),
            _ => format!("sk-literal-{:032x}", fastrand::u128(..)),
        };
        Self { name, weight: fastrand::u32(1..1000), value }
    }

    fn body(&self) -> Value {
        json!({"name": self.name, "weight": self.weight, "value": self.value})
    }

    /// The secret is known by its mask, which needs the right key to be opened.
    fn is(&self, shown: &Value) -> bool {
        let value = if self.value.starts_with("env.") {
            json!({"value": "", "env_var": self.value, "from_env": true})
        } else {
            let mask = format!("{}{}{}", &self.value[..4], "*".repeat(24), &self.value[self.value.len() - 4..]);
            json!({"value": mask, "env_var": "", "from_env": false})
        };
        shown["name"] == *self.name && shown["weight"] == self.weight && shown["value"] == value
    }
}

/// What one client knows.
#[derive(Default)]
struct Ledger {
    /// By id: as answered, without what is not in the file.
    answered: BTreeMap<String, Value>,
    /// Sent, and not answered: the id, and what the key is to be. `None`: gone.
    flight: Option<(String, Option<Wanted>)>,
    made: u32,
    writes: u32,
}

impl Ledger {
    fn id(client: usize, number: u32) -> String {
        format!("00000000-0000-4000-8000-{client:04x}{number:08x}")
    }

    /// The next request, now in flight.
    fn take_off(&mut self, client: usize) -> (Method, String, Value) {
        let known: Vec<&String> = self.answered.keys().collect();
        let some = (!known.is_empty()).then(|| known[fastrand::usize(..known.len())].clone());
        let full = known.len() >= KEYS_PER_CLIENT;
        let (method, id, wanted) = match (some, fastrand::u8(0..10)) {
            (Some(id), 0..5) => {
                let wanted = Wanted::any(self.answered[&id]["name"].as_str().unwrap().to_owned());
                (Method::PUT, id, Some(wanted))
            }
            (Some(id), turn) if turn == 5 || full => (Method::DELETE, id, None),
            _ => {
                self.made += 1;
                let id = Self::id(client, self.made);
                (Method::POST, id, Some(Wanted::any(format!("client-{client}-{}", self.made))))
            }
        };
        let mut body = wanted.as_ref().map_or(Value::Null, Wanted::body);
        if method == Method::POST {
            body["id"] = json!(id);
        }
        self.flight = Some((id.clone(), wanted));
        (method, id, body)
    }

    fn landed(&mut self, shown: Value) {
        let (id, wanted) = self.flight.take().unwrap();
        self.writes += 1;
        match wanted {
            Some(wanted) => {
                assert!(wanted.is(&shown), "{wanted:?} was answered with {shown}");
                self.answered.insert(id, lasting(shown));
            }
            None => {
                self.answered.remove(&id);
            }
        }
    }

    /// Compares with the keys of this client as the next gateway shows them; what was in flight is
    /// settled by what is there. Says whether it had arrived.
    fn settle(&mut self, mut found: BTreeMap<String, Value>) -> bool {
        let mut arrived = false;
        if let Some((id, wanted)) = self.flight.take() {
            let (before, after) = (self.answered.get(&id), found.get(&id));
            arrived = before != after;
            match (after, &wanted) {
                (Some(shown), Some(wanted)) if arrived => assert!(wanted.is(shown), "{wanted:?} became {shown}"),
                (None, None) => {}
                _ => assert!(!arrived, "in flight {wanted:?} before {before:?} after {after:?}"),
            }
            match found.remove(&id) {
                Some(shown) => self.answered.insert(id.clone(), shown),
                None => self.answered.remove(&id),
            };
            found.extend(self.answered.get_key_value(&id).map(|(id, shown)| (id.clone(), shown.clone())));
        }
        assert_eq!(found, self.answered, "an answered write is not as it was answered");
        arrived
    }
}

/// A key as it is shown, without what stands in no file.
fn lasting(mut shown: Value) -> Value {
    let members = shown.as_object_mut().unwrap();
    members.retain(|name, _| name != "status" && name != "description");
    shown
}

/// Writes until nobody answers.
async fn client(base: String, number: usize, ledger: Arc<Mutex<Ledger>>, answered: Arc<Notify>) {
    let keys = Keys::of(&base, PROVIDERS[number % PROVIDERS.len()]);
    loop {
        let (method, id, body) = ledger.lock().unwrap().take_off(number);
        let path = if method == Method::POST { "" } else { &*id };
        let Ok(reply) = keys.call(method, path, None, &body).await else { return };
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
        ledger.lock().unwrap().landed(reply.json());
        answered.notify_one();
    }
}

/// Looks at a gateway that was started on what a killed one left; returns how many writes had
/// arrived without an answer.
async fn look(gateway: &Gateway, ledgers: &[Arc<Mutex<Ledger>>], lines: &mut BTreeMap<String, (Value, String)>) -> u32 {
    let text = gateway.config();
    assert_eq!(gateway.strangers(), Vec::<String>::new(), "after a start");
    assert!(!text.contains("sk-literal"), "a secret in clear\n{text}");
    check(gateway.config_path(), gateway.dir());
    let mut found = vec![BTreeMap::new(); CLIENTS];
    for provider in PROVIDERS {
        for key in Keys::of(gateway.base(), provider).list().await {
            let id = key["id"].as_str().unwrap().to_owned();
            if key["name"] != "hand" {
                let client = usize::from_str_radix(&id[24..28], 16).unwrap();
                found[client].insert(id, lasting(key));
            }
        }
    }
    // Byte by byte: the lines of the file that stay, and one line for each key.
    let all: BTreeMap<String, Value> = found.iter().flatten().map(|(id, key)| (id.clone(), key.clone())).collect();
    let id_in = |line: &str| all.keys().find(|id| line.contains(id.as_str())).cloned();
    let rest: String = text.split_inclusive('\n').filter(|line| id_in(line).is_none()).collect();
    assert_eq!(rest, FILE);
    let here: BTreeMap<String, String> =
        text.lines().filter_map(|line| Some((id_in(line)?, line.to_owned()))).collect();
    assert_eq!(here.len(), all.len(), "{text}");
    for (id, line) in here {
        let shown = &all[&id];
        if let Some((known, old)) = lines.get(&id).filter(|(known, _)| known == shown) {
            assert_eq!(*old, line, "{known} was not written");
        }
        lines.insert(id, (shown.clone(), line));
    }
    let arrived = ledgers.iter().zip(found).map(|(ledger, found)| u32::from(ledger.lock().unwrap().settle(found)));
    arrived.sum()
}

/// As an operator would see it.
#[track_caller]
fn check(config: &Path, dir: &Path) {
    let (code, stdout, stderr) = run(&["check", "--strict-env", config.to_str().unwrap()], &ENV, dir);
    assert!(code == 0 && stdout.ends_with(": good\n"), "{stdout}{stderr}");
}

#[tokio::test]
async fn killed_at_any_moment() {
    let kills = if is_long() { KILLS_LONG } else { KILLS };
    let ledgers: Vec<Arc<Mutex<Ledger>>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    let mut lines = BTreeMap::new();
    let (mut arrived, mut left, mut in_flight) = (0, 0, 0);
    let mut gateway = start();
    for _ in 0..kills {
        let answered = Arc::new(Notify::new());
        let clients = ledgers.iter().enumerate().map(|(number, ledger)| {
            tokio::spawn(client(gateway.base().to_owned(), number, Arc::clone(ledger), Arc::clone(&answered)))
        });
        let clients: Vec<_> = clients.collect();
        // From here on there is always a write in flight.
        within(PATIENCE, "a first answer", answered.notified()).await;
        // The time is the dice here, not an order that is waited for.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..LIFE_MAX))).await;
        gateway.kill();
        for client in clients {
            client.await.unwrap();
        }
        left += gateway.strangers().len();
        in_flight += ledgers.iter().filter(|ledger| ledger.lock().unwrap().flight.is_some()).count();
        let killed = gateway.config();
        gateway.restart();
        assert_eq!(gateway.config(), killed, "a start changes nothing");
        arrived += look(&gateway, &ledgers, &mut lines).await;
    }
    for (number, ledger) in ledgers.iter().enumerate() {
        let keys = Keys::of(gateway.base(), PROVIDERS[number % PROVIDERS.len()]);
        let ids: Vec<String> = ledger.lock().unwrap().answered.keys().cloned().collect();
        for id in ids {
            assert_eq!(keys.delete(&id).await.status, 200);
        }
    }
    assert_eq!(gateway.config(), FILE, "without its keys the file is what it was");
    let writes: u32 = ledgers.iter().map(|ledger| ledger.lock().unwrap().writes).sum();
    assert!(writes >= kills, "{writes} writes");
    println!(
        "kill -9: {kills} gateways, {writes} answered writes and none lost, {in_flight} in flight, of which {arrived} had arrived, \
         {left} temporary files left and removed"
    );
}

/// Calls of a write, in their order. What else the thread does with them is killed as well.
const CALLS: [&str; 9] = [
    "?open,openat",
    "fchmod",
    "pwrite64",
    "write",
    "fsync",
    "renameat2",
    "?unlink,?unlinkat",
    "linkat",
    "?mkdir,?mkdirat",
];
/// Of one call in one write.
const OCCURRENCES_MAX: u32 = 20;

#[tokio::test]
async fn killed_at_each_system_call() {
    let Some(strace) = Strace::find("a kill at each system call") else { return };
    let (mut kills, mut left) = (0, 0);
    // The first literal makes the sealing key too, and a gateway that has one writes the file alone.
    for first in [true, false] {
        for call in CALLS {
            for when in 1..=OCCURRENCES_MAX {
                let mut gateway = start();
                if !first {
                    let seed = json!({"name": "seed", "value": "sk-literal-00000000000000000000"});
                    assert_eq!(Keys::of(gateway.base(), "groq").create(&seed).await.status, 200);
                }
                let before = gateway.config();
                let tracer = strace.attach(gateway.pid(), &[format!("{call}:signal=SIGKILL:when={when}")]).unwrap();
                let body = json!({"id": "new", "name": "new", "value": "sk-literal-11111111111111111111"});
                let reply = Keys::of(gateway.base(), "openai").call(Method::POST, "", None, &body).await;
                drop(tracer);
                let alive = reply.as_ref().is_ok_and(|reply| reply.status == 200);
                gateway.kill();
                left += gateway.strangers().len();
                gateway.restart();
                assert_eq!(gateway.strangers(), Vec::<String>::new(), "{call} {when}");
                check(gateway.config_path(), gateway.dir());
                let keys = Keys::of(gateway.base(), "openai");
                let there = keys.get("new").await.status == 200;
                assert!(there || !alive, "{call} {when}: an answered write is lost");
                assert!(there || gateway.config() == before, "{call} {when}");
                // And the next write works.
                let next = if there { keys.delete("new").await } else { keys.create(&body).await };
                assert_eq!(next.status, 200, "{call} {when}: {}", next.text());
                if there {
                    assert_eq!(gateway.config(), before, "{call} {when}");
                }
                if alive {
                    break;
                }
                kills += 1;
            }
        }
    }
    assert!(kills >= 12, "{kills} kills");
    println!("kill -9 before a system call: {kills} gateways, {left} temporary files left and removed");
}
