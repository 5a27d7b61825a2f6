//! Hand edits, API writes, reloads and kills in any order, against a model: a map of weights.
//!
//! No update is lost, whoever makes it; what was answered is read at once; a write on a stale state
//! is refused. `KEYWAY_LONG=1` runs 20 000 cases.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<String, u32>;

const CASES: u32 = 400;
const CASES_LONG: u32 = 20_000;
/// Names that come and go; `base` always stays.
const NAMES: [&str; 4] = ["base", "a", "b", "c"];

#[derive(Clone, Debug)]
enum Act {
    /// A hand edit of a key, if it is there.
    Edit(usize, u32),
    /// A write, with a hand edit and the end of the process before these operations, if it has so many.
    Api {
        what: What,
        edit: Option<(usize, usize, u32)>,
        die: Option<usize>,
    },
    /// A write that names the state it was planned on: the one that runs.
    IfMatch(usize, u32),
    Reload,
    Kill,
    Pass(u64),
}

#[derive(Clone, Debug)]
enum What {
    Weight(usize, u32),
    Add(usize),
    Delete(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let weight = || 2u32..9;
    let what = prop_oneof![
        4 => (0..4usize, weight()).prop_map(|(name, weight)| What::Weight(name, weight)),
        3 => (1..4usize).prop_map(What::Add),
        2 => (1..4usize).prop_map(What::Delete),
    ];
    let edit = proptest::option::weighted(0.4, (0..14usize, 0..4usize, weight()));
    let die = proptest::option::weighted(0.2, 0..16usize);
    prop_oneof![
        3 => (0..4usize, weight()).prop_map(|(name, weight)| Act::Edit(name, weight)),
        8 => (what, edit, die).prop_map(|(what, edit, die)| Act::Api { what, edit, die }),
        2 => (0..4usize, weight()).prop_map(|(name, weight)| Act::IfMatch(name, weight)),
        1 => Just(Act::Reload),
        1 => Just(Act::Kill),
        2 => (0u64..1500).prop_map(Act::Pass),
    ]
}

fn of_weights(weights: &[(String, f64)]) -> Model {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the test wrote small numbers")]
    weights.iter().map(|(name, weight)| (name.clone(), *weight as u32)).collect()
}

fn set(model: &mut Model, name: &str, weight: u32) {
    if let Some(known) = model.get_mut(name) {
        *known = weight;
    }
}

impl What {
    fn change(&self) -> KeyChange {
        match self {
            Self::Weight(name, weight) => KeyChange::weight(NAMES[*name], *weight),
            Self::Add(name) => KeyChange::add(NAMES[*name]),
            Self::Delete(name) => KeyChange::delete(NAMES[*name]),
        }
    }

    /// What it makes of the model, if it can be done.
    fn on(&self, model: &Model) -> Option<Model> {
        let mut after = model.clone();
        match self {
            Self::Weight(name, weight) => {
                *after.get_mut(NAMES[*name])? = *weight;
            }
            Self::Add(name) => {
                if after.insert(NAMES[*name].to_owned(), 1).is_some() {
                    return None;
                }
            }
            Self::Delete(name) => {
                after.remove(NAMES[*name])?;
            }
        }
        Some(after)
    }
}

struct Run {
    scene: Scene,
    model: Model,
    writes: usize,
    kills: usize,
}

impl Run {
    async fn new() -> Self {
        let scene = Scene::new(&text_of(&[("base", 1), ("a", 1)])).await;
        let model = of_weights(&scene.running());
        Self { scene, model, writes: 0, kills: 0 }
    }

    fn on_disk(&self) -> Model {
        of_weights(&weights_in(&self.scene.text()))
    }

    async fn perform(&mut self, act: &Act) {
        match act {
            Act::Edit(name, weight) => {
                let text = with_weight(&self.scene.text(), NAMES[*name], *weight);
                self.scene.disk.put(CONFIG, &text);
                set(&mut self.model, NAMES[*name], *weight);
            }
            Act::Api { what, edit, die } => self.write(what, *edit, *die).await,
            Act::IfMatch(name, weight) => self.write_if_match(NAMES[*name], *weight).await,
            Act::Reload => self.scene.commands.send(Command::Reload { reply: None }).await.unwrap(),
            Act::Kill => self.kill().await,
            Act::Pass(millis) => self.scene.pass(*millis).await,
        }
        assert_eq!(self.on_disk(), self.model, "{act:?}");
    }

    async fn write(&mut self, what: &What, edit: Option<(usize, usize, u32)>, die: Option<usize>) {
        // Whether the hand edit has been made, and what the key was at that moment.
        let made = Arc::new(AtomicUsize::new(0));
        let making = made.clone();
        self.scene.disk.follow_script(Box::new(move |step, _, files| {
            if let Some((at, name, weight)) = edit
                && step == at
            {
                edit_by_hand(files, NAMES[name], weight);
                making.store(1, Ordering::Relaxed);
            }
            if die == Some(step) { Fate::Die } else { Fate::Go }
        }));
        let answer = self.scene.apply(what.change()).await;
        self.scene.disk.end_script();
        let edited = |model: &Model| {
            let mut after = model.clone();
            if let Some((_, name, weight)) = edit.filter(|_| made.load(Ordering::Relaxed) == 1) {
                set(&mut after, NAMES[name], weight);
            }
            after
        };
        // The hand came before the write or after it; both keep what the other did.
        let hand_first = what.on(&edited(&self.model));
        let hand_last = what.on(&self.model).map(|model| edited(&model));
        let without = edited(&self.model);
        let died = self.scene.disk.is_off();
        if died {
            self.kill().await;
        }
        let found = self.on_disk();
        match &answer {
            Ok(written) => {
                self.writes += 1;
                assert!([&hand_first, &hand_last].contains(&&Some(found.clone())), "{what:?} {edit:?} {found:?}");
                // Read-your-write, hand edits that came before included.
                let served = of_weights(&weights(&written.generation.document));
                let alone = what.on(&self.model);
                assert!([&hand_first, &hand_last, &alone].contains(&&Some(served.clone())), "{served:?}");
                if !died {
                    assert_eq!(of_weights(&self.scene.running()), served);
                }
            }
            Err(ApplyError::Refused(Refused::NotFound { .. } | Refused::Conflict { .. })) => {
                assert!(hand_first.is_none() && found == without, "{what:?} {edit:?} {found:?}");
            }
            Err(_) => {
                assert!(died, "{answer:?}");
                let possible = [&hand_first, &hand_last, &Some(without)];
                assert!(possible.contains(&&Some(found.clone())), "{what:?} {edit:?} {die:?} {found:?}");
            }
        }
        self.model = found;
    }

    async fn write_if_match(&mut self, name: &str, weight: u32) {
        let running = place_of(&self.scene.store.generation().document, name);
        let on_disk = place_of(&crate::config::read(&self.scene.text()).0.unwrap(), name);
        let if_match = Some(running.map_or(ConfigHash::of_bytes(b"none"), |(_, hash)| hash));
        let answer = self.scene.apply(KeyChange::Weight { name: name.to_owned(), weight, if_match }).await;
        match (running, on_disk) {
            (_, None) => assert!(matches!(answer, Err(ApplyError::Refused(Refused::NotFound { .. })))),
            (Some((_, seen)), Some((_, is))) if seen == is => {
                answer.unwrap();
                self.writes += 1;
                set(&mut self.model, name, weight);
            }
            _ => assert!(matches!(answer, Err(ApplyError::Refused(Refused::Stale))), "{answer:?}"),
        }
    }

    /// The process ends here and is started again.
    async fn kill(&mut self) {
        self.kills += 1;
        let disk = self.scene.disk.restarted();
        let after = Scene::on(&disk).await;
        std::mem::replace(&mut self.scene, after).end().await;
        self.scene.at_rest("after a start");
    }
}

#[test]
fn no_update_is_lost() {
    let cases = if std::env::var_os("KEYWAY_LONG").is_some() { CASES_LONG } else { CASES };
    let (writes, kills) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases, ..ProptestConfig::default() });
    let all = proptest::collection::vec(act(), 1..25);
    let result = runner.run(&all, |acts| {
        paused(|| async {
            let mut run = Run::new().await;
            for act in &acts {
                run.perform(act).await;
            }
            run.scene.pass(2_500).await;
            assert_eq!(of_weights(&run.scene.running()), run.model);
            run.scene.at_rest("when it is quiet");
            writes.fetch_add(run.writes, Ordering::Relaxed);
            kills.fetch_add(run.kills, Ordering::Relaxed);
            run.scene.end().await;
        });
        Ok(())
    });
    println!("model: {cases} cases, {writes:?} writes answered, {kills:?} kills");
    result.unwrap();
}
