//! Hands and management APIs in one file, by a random script against a model of what must come out.
//!
//! The model is the text: which keys, which weights, which notes. A hand's edit that has ended is
//! in the file, whatever comes next; a write that was answered is there until a hand that had not
//! seen it writes over it, which a hand may. `KEYWAY_SEED` repeats a script, `KEYWAY_LONG=1` makes
//! it a long one.

mod text;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use self::text::{Hand, State, Write, append, at_once, by_hand, exchange, hash};
use crate::support::client::{self, Reply};
use crate::support::gateway::{Gateway, launch};
use crate::support::keys::{Keys, code};
use crate::support::needs::is_long;

const STEPS: u32 = 250;
const STEPS_LONG: u32 = 20_000;
/// Beyond which keys are deleted rather than made.
const KEYS_MAX: usize = 8;
/// Longest life of a gateway after the writes that it is killed in were sent, in microseconds.
const LIFE_MAX: u64 = 40_000;

const FILE: &str = r#"{
  "server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false},
  "providers": {"openai": {"keys": [
    {"id": "hand", "name": "hand", "value": "env.FIRST_KEY", "weight": 1}, // by hand
  ]}},
}
"#;

#[derive(Default, Debug)]
struct Counts {
    steps: u32,
    writes: u32,
    stale: u32,
    hand_edits: u32,
    bundles: u32,
    kills: u32,
    overwritten: u32,
    notes_lost: u32,
}

struct Script {
    rng: Rng,
    gateway: Gateway,
    model: State,
    commits: Vec<(String, State)>,
    /// Tags that were right once.
    tags: Vec<String>,
    number: u32,
    counts: Counts,
}

impl Script {
    fn new(seed: u64) -> Self {
        let gateway = launch(FILE).env("FIRST_KEY", "sk-first-0123456789").start();
        let mut script = Self {
            rng: Rng::with_seed(seed),
            model: State::of(FILE),
            commits: Vec::new(),
            tags: vec!["\"0000\"".to_owned()],
            number: 1,
            counts: Counts::default(),
            gateway,
        };
        script.git(&["init", "-q"]);
        script.commit();
        script
    }

    fn keys(&self) -> Keys {
        Keys::of(self.gateway.base(), "openai")
    }

    fn state(&self) -> State {
        State::of(&self.gateway.config())
    }

    /// Each is used once, so that every edit can be told from every other.
    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn some_key(&mut self) -> String {
        let at = self.rng.usize(..self.model.keys.len());
        self.model.keys.keys().nth(at).unwrap().clone()
    }

    async fn step(&mut self) {
        self.counts.steps += 1;
        match self.rng.u8(..20) {
            0 => self.sed(),
            1 => self.overwrite(),
            2 => self.append(),
            3 => self.commit(),
            4 => self.check_out(),
            5 => self.reload().await,
            6 => self.gateway.signal(Signal::HUP),
            7 => self.quiet().await,
            8 => self.kill_idle().await,
            9..=11 => self.bundle().await,
            12 => self.duel().await,
            13 => self.stale_after_a_hand().await,
            _ => self.write().await,
        }
        assert_eq!(self.state(), self.model);
    }

    // --- hands ---------------------------------------------------------------------------------

    fn sed(&mut self) {
        let weight = self.next();
        let program = format!(r#"s/("id": "hand".*"weight": )[0-9]+/\1{weight}/"#);
        let done = Command::new("sed").args(["-i", "-E", &program]).arg(self.gateway.config_path()).status();
        assert!(done.unwrap().success());
        self.hand(weight);
    }

    fn overwrite(&mut self) {
        let weight = self.next();
        self.gateway.overwrite_config(&by_hand(&self.gateway.config(), weight));
        self.hand(weight);
    }

    fn hand(&mut self, weight: u32) {
        self.model.keys.insert("hand".to_owned(), weight);
        self.counts.hand_edits += 1;
    }

    fn append(&mut self) {
        let note = self.next();
        append(self.gateway.config_path(), note);
        self.model.notes.push(note);
        self.counts.hand_edits += 1;
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"]).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.current_dir(self.gateway.dir()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&mut self) {
        self.git(&["add", "config.json"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "by somebody"]);
        self.commits.push((self.git(&["rev-parse", "HEAD"]), self.model.clone()));
    }

    fn check_out(&mut self) {
        let (commit, state) = self.commits[self.rng.usize(..self.commits.len())].clone();
        self.git(&["checkout", "-q", &commit, "--", "config.json"]);
        self.model = state;
        self.counts.hand_edits += 1;
    }

    // --- one after the other -------------------------------------------------------------------

    /// Any write, with a tag that is right, wrong or not there.
    async fn write(&mut self) {
        let mut write = self.any_write(&[]);
        let shown = self.keys().get(&write.id).await;
        // A hand's edit may be news to the gateway: then what it shows is stale already.
        let shows = (shown.status == 200).then(|| u32::try_from(shown.json()["weight"].as_u64().unwrap()).unwrap());
        let tag = shown.header("etag").to_owned();
        let stale = match self.rng.u8(..4) {
            _ if write.old.is_none() => false,
            0 => {
                let old = self.tags[self.rng.usize(..self.tags.len())].clone();
                // Content that comes back brings its tag back.
                let is_stale = shows == write.old && old != tag;
                write.tag = is_stale.then_some(old);
                is_stale
            }
            1 if shows.is_some() => {
                write.tag = Some(tag.clone());
                shows != write.old
            }
            _ => false,
        };
        if shows.is_some() && self.tags.len() < 200 {
            self.tags.push(tag);
        }
        let reply = write.send(&self.keys()).await.unwrap();
        if stale {
            self.counts.stale += 1;
            assert_eq!(
                (reply.status.as_u16(), &*code(&reply)),
                (412, "precondition_failed"),
                "{write:?}: {}",
                reply.text()
            );
            return;
        }
        assert_eq!(reply.status, 200, "{write:?}: {}", reply.text());
        write.is_seen(&self.keys(), &reply).await;
        self.landed(&write);
    }

    fn landed(&mut self, write: &Write) {
        self.counts.writes += 1;
        match write.new {
            Some(weight) => self.model.keys.insert(write.id.clone(), weight),
            None => self.model.keys.remove(&write.id),
        };
    }

    /// Of a key that none of the others is about.
    fn any_write(&mut self, others: &[Write]) -> Write {
        let number = self.next();
        let id = self.some_key();
        let taken = others.iter().any(|other| other.id == id);
        let old = self.model.weight(&id);
        let full = self.model.keys.len() >= KEYS_MAX;
        match self.rng.u8(..10) {
            0..5 if !taken => Write { id, old, new: Some(number), tag: None },
            turn if (turn == 5 || full) && !taken && id != "hand" => Write { id, old, new: None, tag: None },
            _ => Write { id: format!("k{number}"), old: None, new: Some(number), tag: None },
        }
    }

    /// A hand changes a key, and at once somebody writes it who had read it before.
    async fn stale_after_a_hand(&mut self) {
        self.quiet().await;
        let tag = self.keys().get("hand").await.header("etag").to_owned();
        self.sed();
        let write = Write { id: "hand".to_owned(), old: None, new: Some(self.next()), tag: Some(tag) };
        let write = Write { old: self.model.weight("hand"), ..write };
        let reply = write.send(&self.keys()).await.unwrap();
        assert_eq!(reply.status, 412, "{}", reply.text());
        self.counts.stale += 1;
    }

    async fn reload(&mut self) {
        let reply = client::post_json(&self.gateway.url("/api/config/reload"), "").await;
        let result = reply.json()["result"].clone();
        assert!(result == "applied" || result == "unchanged", "{}", reply.text());
        let status = self.gateway.status().await;
        assert_eq!(status["running"]["hash"], hash(&self.gateway.config()), "{status}");
    }

    /// What runs is what stands in the file, and everybody says so.
    async fn quiet(&mut self) {
        let expected = hash(&self.gateway.config());
        self.gateway
            .wait_status("the file to run", |status| {
                status["running"]["hash"] == expected && status["on_disk"]["hash"] == expected
            })
            .await;
        let status = self.gateway.status().await;
        assert!(status["last_error"].is_null() && status["on_disk"]["drift"] == false, "{status}");
        let shown: BTreeMap<String, u32> = self
            .keys()
            .list()
            .await
            .iter()
            .map(|key| {
                (key["id"].as_str().unwrap().to_owned(), u32::try_from(key["weight"].as_u64().unwrap()).unwrap())
            })
            .collect();
        assert_eq!(shown, self.model.keys);
        assert_eq!(self.gateway.strangers(), Vec::<String>::new());
    }

    async fn kill_idle(&mut self) {
        self.counts.kills += 1;
        self.gateway.kill();
        self.gateway.restart();
        self.quiet().await;
    }

    // --- at the same time ----------------------------------------------------------------------

    /// Three who have read the same: one of them writes, the others are told.
    async fn duel(&mut self) {
        self.quiet().await;
        let id = self.some_key();
        let tag = Some(self.keys().get(&id).await.header("etag").to_owned());
        let old = self.model.weight(&id);
        let writes: Vec<Write> =
            (0..3).map(|_| Write { id: id.clone(), old, new: Some(self.next()), tag: tag.clone() }).collect();
        let replies = at_once(&writes, &self.keys(), false).await;
        let replies: Vec<Reply> = replies.into_iter().map(Result::unwrap).collect();
        let won: Vec<usize> = (0..3).filter(|&at| replies[at].status == 200).collect();
        let lost = replies.iter().filter(|reply| reply.status == 412).count();
        assert_eq!((won.len(), lost), (1, 2), "{:?}", replies.iter().map(Reply::text).collect::<Vec<_>>());
        self.counts.stale += 2;
        self.landed(&writes[won[0]]);
    }

    /// Writes of different keys, and it may be a hand, a reload and a kill, all at the same time.
    async fn bundle(&mut self) {
        self.counts.bundles += 1;
        let mut writes = Vec::new();
        for _ in 0..self.rng.u32(1..=3) {
            let write = self.any_write(&writes);
            writes.push(write);
        }
        let (turn, note) = (self.rng.u8(..4), self.next());
        // The hand's own key is left to the hand.
        if turn < 2 {
            writes.retain(|write| write.id != "hand");
        }
        let pause = Duration::from_micros(self.rng.u64(..LIFE_MAX));
        let path = self.gateway.config_path().to_owned();
        let hand = tokio::task::spawn_blocking(move || {
            std::thread::sleep(pause / 4);
            match turn {
                0 => exchange(&path, note, pause / 4),
                1 => Hand::Noted { note, displaced: append(&path, note) },
                _ => Hand::Nothing,
            }
        });
        if self.rng.u8(..4) == 0 {
            self.gateway.signal(Signal::HUP);
        }
        let (sent, keys, alone) = (writes.clone(), self.keys(), turn > 1);
        let killed = self.rng.u8(..4) == 0;
        let replies = tokio::spawn(async move { at_once(&sent, &keys, alone && !killed).await });
        if killed {
            self.counts.kills += 1;
            // The time is the dice here, not an order that is waited for.
            tokio::time::sleep(pause).await;
            self.gateway.kill();
        }
        let (hand, replies) = (hand.await.unwrap(), replies.await.unwrap());
        if killed {
            self.gateway.restart();
        }
        self.settle(&writes, &replies, &hand);
        self.quiet().await;
    }

    /// Compares what came out with what may come out, and goes on from there.
    fn settle(&mut self, writes: &[Write], replies: &[Result<Reply, String>], hand: &Hand) {
        let mut expected = self.model.clone();
        let found = self.state();
        match hand {
            Hand::Nothing => {}
            Hand::Replaced { after, .. } => {
                self.counts.hand_edits += 1;
                expected.keys.insert("hand".to_owned(), after.weight("hand").unwrap());
            }
            Hand::Noted { note, displaced } => {
                self.counts.hand_edits += 1;
                if *displaced && !found.notes.contains(note) {
                    // Written into a file that had no name any more: nobody can know of that.
                    self.counts.notes_lost += 1;
                } else {
                    expected.notes.push(*note);
                }
            }
        }
        for (write, reply) in writes.iter().zip(replies) {
            let is = found.weight(&write.id);
            let came = match reply {
                Ok(reply) => {
                    assert_eq!(reply.status, 200, "{write:?}: {}", reply.text());
                    self.counts.writes += 1;
                    // A hand that had read the file before the write puts its text over it.
                    let is_over = matches!(hand, Hand::Replaced { before, displaced, .. }
                        if before.weight(&write.id) == write.old && displaced.weight(&write.id) == write.new);
                    self.counts.overwritten += u32::from(is_over && is != write.new);
                    is == write.new || !is_over
                }
                // Killed before it could answer.
                Err(_) => is == write.new,
            };
            if came {
                match write.new {
                    Some(weight) => expected.keys.insert(write.id.clone(), weight),
                    None => expected.keys.remove(&write.id),
                };
            }
        }
        assert_eq!(
            found,
            expected,
            "after {writes:?} {:?}",
            replies.iter().map(|it| it.as_ref().map(|it| it.status)).collect::<Vec<_>>()
        );
        self.model = found;
    }
}

#[tokio::test]
async fn hands_and_apis_lose_nothing_of_each_other() {
    let seed =
        std::env::var("KEYWAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("KEYWAY_SEED={seed}");
    let mut script = Script::new(seed);
    for _ in 0..if is_long() { STEPS_LONG } else { STEPS } {
        script.step().await;
    }
    script.quiet().await;
    let counts = &script.counts;
    println!("{counts:?}");
    assert!(counts.writes > counts.steps / 3 && counts.stale > 0 && counts.hand_edits > 0 && counts.kills > 0);
    assert!(counts.notes_lost <= 1 + counts.steps / 100, "{counts:?}");
}
