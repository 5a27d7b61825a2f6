//! A hand that saves in the very moment in which an API write exchanges the files.
//!
//! strace holds the gateway before or after one `renameat2`, so that the hand is in time for sure.

use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::{PATIENCE, Reply, poll};
use crate::support::gateway::{Gateway, launch};
use crate::support::keys::{Keys, code};
use crate::support::strace::{Strace, Tracer};

const FILE: &str = r#"{
  "server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false},
  "providers": {"openai": {"keys": [
    {"id": "main", "name": "main", "value": "env.MAIN_KEY", "weight": 1},
    {"id": "hand", "name": "hand", "value": "env.MAIN_KEY", "weight": 1}
  ]}}
}
"#;
/// Long enough for a hand on a busy machine.
const HOLD: &str = "400ms";

fn text(main: u32, hand: u32) -> String {
    let weigh = |text: &str, id: &str, weight: u32| {
        let (before, after) = text.split_once(&format!("\"id\": \"{id}\"")).unwrap();
        format!("{before}\"id\": \"{id}\"{}", after.replacen("\"weight\": 1", &format!("\"weight\": {weight}"), 1))
    };
    weigh(&weigh(FILE, "main", main), "hand", hand)
}

/// A gateway, the write of weight 2 that is on its way, and who holds it.
struct Held {
    gateway: Gateway,
    write: tokio::task::JoinHandle<Result<Reply, String>>,
    tracer: Tracer,
}

impl Held {
    fn new(strace: &Strace, rule: &str) -> Self {
        let gateway = launch(FILE).env("MAIN_KEY", "sk-main-0123456789").start();
        let tracer = strace.attach(gateway.pid(), &[format!("renameat2:{rule}")]).unwrap();
        let keys = Keys::of(gateway.base(), "openai");
        let body = json!({"weight": 2});
        let write = tokio::spawn(async move { keys.call(Method::PUT, "main", None, &body).await });
        Self { gateway, write, tracer }
    }

    /// Until strace has printed so much.
    async fn reaches(mut self, what: &'static str) -> Self {
        self.tracer = tokio::task::spawn_blocking(move || self.tracer.wait_for(what)).await.unwrap();
        self
    }

    async fn answered(self) -> (Gateway, Reply) {
        let reply = self.write.await.unwrap().unwrap();
        self.tracer.detach();
        (self.gateway, reply)
    }
}

/// The file holds `expected`, runs, and nothing lies beside it.
async fn is(gateway: &Gateway, expected: &str, what: &str) {
    assert_eq!(gateway.config(), expected, "{what}");
    assert_eq!(gateway.strangers(), Vec::<String>::new(), "{what}");
    let hash = blake3::hash(expected.as_bytes()).to_hex().to_string();
    let runs = |status: &Value| status["running"]["hash"] == *hash && status["on_disk"]["drift"] == false;
    gateway.wait_status(what, runs).await;
}

#[tokio::test]
async fn before_the_exchange_it_is_merged() {
    let Some(strace) = Strace::find("a hand before an exchange") else { return };
    let note = "// a note\n";
    type Edit = fn(&Gateway, &str);
    let edits: [(&str, Edit, String, String); 3] = [
        ("renamed", |gateway, text| gateway.write_config(text), text(1, 5), text(2, 5)),
        ("overwritten", |gateway, text| gateway.overwrite_config(text), text(1, 5), text(2, 5)),
        ("appended", |gateway, text| gateway.overwrite_config(text), FILE.to_owned() + note, text(2, 1) + note),
    ];
    for (what, edit, by_hand, merged) in edits {
        let held = Held::new(&strace, &format!("delay_enter={HOLD}:when=1")).reaches("renameat2(").await;
        edit(&held.gateway, &by_hand);
        let (gateway, reply) = held.answered().await;
        assert_eq!((reply.status.as_u16(), &reply.json()["weight"]), (200, &json!(2)), "{what}: {}", reply.text());
        is(&gateway, &merged, what).await;
    }
}

#[tokio::test]
async fn what_is_removed_stays_removed() {
    let Some(strace) = Strace::find("a hand that removes the file") else { return };
    let held = Held::new(&strace, &format!("delay_enter={HOLD}:when=1")).reaches("renameat2(").await;
    std::fs::remove_file(held.gateway.config_path()).unwrap();
    let (gateway, reply) = held.answered().await;
    assert_eq!((reply.status.as_u16(), &*code(&reply)), (409, "config_on_disk_invalid"), "{}", reply.text());
    assert!(!gateway.config_path().exists() && gateway.strangers().is_empty());
    assert_eq!(gateway.generation().await, 1);
    gateway.write_config(&text(1, 7));
    is(&gateway, &text(1, 7), "back again").await;
}

#[tokio::test]
async fn after_the_exchange_it_is_newer() {
    let Some(strace) = Strace::find("a hand after an exchange") else { return };
    let held = Held::new(&strace, &format!("delay_exit={HOLD}:when=1")).reaches("DELAYED").await;
    assert_eq!(held.gateway.config(), text(2, 1));
    held.gateway.write_config(&text(1, 5));
    let (gateway, reply) = held.answered().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    is(&gateway, &text(1, 5), "the hand's text").await;
}

/// Killed before the gateway has seen what it had displaced: the next start puts it back.
#[tokio::test]
async fn a_displaced_edit_outlives_a_kill() {
    let Some(strace) = Strace::find("a kill after an exchange") else { return };
    let rule = format!("delay_enter={HOLD}:delay_exit={HOLD}:when=1");
    let held = Held::new(&strace, &rule).reaches("renameat2(").await;
    held.gateway.write_config(&text(1, 5));
    let Held { mut gateway, write, tracer } = held.reaches("DELAYED").await;
    assert_eq!(gateway.config(), text(2, 1));
    assert_eq!(gateway.strangers().len(), 1);
    // It ends with its tracer, which holds it.
    gateway.signal(Signal::KILL);
    drop(tracer);
    gateway.kill();
    assert!(write.await.unwrap().is_err());
    gateway.restart();
    is(&gateway, &text(1, 5), "put back").await;
}

/// A hand that saves before every exchange: the write gives up, and the last of its texts stands.
#[tokio::test]
async fn a_file_that_never_rests() {
    let Some(strace) = Strace::find("a hand before every exchange") else { return };
    // Each try is one exchange, which is held, and one that takes it back.
    let mut held = Held::new(&strace, &format!("delay_enter={HOLD}:when=1+2"));
    for weight in 11..=14 {
        held = held.reaches("renameat2(").await;
        held.gateway.write_config(&text(1, weight));
        held = held.reaches("renameat2(").await;
        let is_back = || held.gateway.config() == text(1, weight) && held.gateway.strangers().is_empty();
        poll(PATIENCE, "the way back", async || is_back().then_some(())).await;
    }
    let (gateway, reply) = held.answered().await;
    assert_eq!((reply.status.as_u16(), &*code(&reply)), (409, "config_changed"), "{}", reply.text());
    is(&gateway, &text(1, 14), "the last text").await;
}
