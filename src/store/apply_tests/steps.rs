//! Between any two operations of a write: a hand edit, or the end of the process.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn the_order_of_operations() {
    let expected = [
        "read",
        "follow",
        "create",
        "resemble",
        "write",
        "sync",
        "follow",
        "read",
        "exchange",
        "read",
        "sync directory",
        "remove",
    ];
    assert_eq!(operations(), expected);
}

/// Somebody changes another key at each place, in what stands there: both edits are in the file.
#[test]
fn a_hand_edit_between_any_two_operations_is_merged() {
    let (steps, mut cases) = (operations().len(), 0);
    for at in 0..=steps {
        paused(|| async {
            let scene = Scene::new(&text_of(&[("a", 1), ("b", 1)])).await;
            scene.disk.follow_script(Box::new(move |step, _, files| {
                if step == at {
                    edit_by_hand(files, "b", 7);
                }
                Fate::Go
            }));
            let written = scene.apply(KeyChange::weight("a", 3)).await.unwrap();
            assert!(has(&weights(&written.generation.document), "a", 3), "step {at}");
            // The last place is behind the write: the next look is the operation there.
            scene.pass(3_000).await;
            scene.disk.end_script();
            assert_eq!(scene.text(), text_of(&[("a", 3), ("b", 7)]), "step {at}");
            scene.at_rest(&format!("step {at}"));
            scene.end().await;
        });
        cases += 1;
    }
    println!("hand edits merged: {cases}");
}

/// Two people, at any two places, also while the edit of the first is being put back.
#[test]
fn two_hand_edits_are_merged() {
    // Two tries more than one write has, since each edit may cost one.
    let (steps, mut cases) = (operations().len() * 3, 0);
    let exchange = operations().iter().position(|name| *name == "exchange").unwrap();
    for (first, second) in (0..steps).flat_map(|first| (first..steps).map(move |second| (first, second))) {
        paused(|| async {
            let scene = Scene::new(&text_of(&[("a", 1), ("b", 1), ("c", 1)])).await;
            scene.disk.follow_script(Box::new(move |step, _, files| {
                for (at, name, weight) in [(first, "b", 7), (second, "c", 8)] {
                    if step == at {
                        edit_by_hand(files, name, weight);
                    }
                }
                Fate::Go
            }));
            let answer = scene.apply(KeyChange::weight("a", 3)).await;
            // Later places are behind the write: in the next looks.
            scene.pass(60_000).await;
            scene.disk.end_script();
            let context = format!("{first}, {second}: {}", short(&answer));
            assert!(answer.is_ok(), "{context}");
            // Only who edits what the exchange has put there, before it is taken back, has not seen the
            // edit that the exchange displaced: his is the last word.
            let unseen = first == exchange && (first + 1..=first + 2).contains(&second);
            let b = if unseen { 1 } else { 7 };
            assert_eq!(scene.text(), text_of(&[("a", 3), ("b", b), ("c", 8)]), "{context}");
            scene.at_rest(&context);
            scene.end().await;
        });
        cases += 1;
    }
    println!("two hand edits merged: {cases}");
}

/// Somebody saves a text that he has had open for long: it is never overwritten, whatever it is.
#[test]
fn a_saved_text_is_never_overwritten() {
    let ends: [(&str, Option<&str>); 4] = [
        ("good", Some("")),
        ("also mine", Some("{\"providers\": {\"openai\": {\"keys\": [{\"name\": \"z\", \"value\": \"env.Z\"}]}}}\n")),
        ("broken", Some("{\"providers\": ")),
        ("gone", None),
    ];
    let mut cases = 0;
    for at in 0..operations().len() {
        for (what, text) in ends {
            paused(|| async {
                let scene = Scene::new(&text_of(&[("a", 1), ("b", 1)])).await;
                let saved =
                    text.map(|text| if text.is_empty() { text_of(&[("a", 1), ("b", 9)]) } else { text.to_owned() });
                let save = saved.clone();
                scene.disk.follow_script(Box::new(move |step, _, files| {
                    if step == at {
                        match &save {
                            Some(text) => files.insert(CONFIG.into(), text.clone().into_bytes()),
                            None => files.remove(Path::new(CONFIG)),
                        };
                    }
                    Fate::Go
                }));
                let answer = scene.apply(KeyChange::weight("a", 3)).await;
                scene.disk.end_script();
                scene.pass(3_000).await;
                let context = format!("{what}, step {at}: {}", short(&answer));
                let temps = scene.disk.names().iter().filter(|name| *name != CONFIG).count();
                assert_eq!(temps, 0, "{context}");
                match saved {
                    None => assert!(!scene.disk.names().iter().any(|name| name == CONFIG), "{context}"),
                    // Merged, or standing as it was saved.
                    Some(saved) => {
                        let merged = with_weight(&saved, "a", 3);
                        assert!([&saved, &merged].contains(&&scene.text()), "{context}\n{}", scene.text());
                    }
                }
                scene.end().await;
            });
            cases += 1;
        }
    }
    println!("saved texts: {cases}");
}

#[test]
fn who_never_stops_editing_wins() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1), ("b", 1)])).await;
        let mut weight = 10;
        scene.disk.follow_script(Box::new(move |_, name, files| {
            if name == "follow" {
                weight += 1;
                edit_by_hand(files, "b", weight);
            }
            Fate::Go
        }));
        let answer = scene.apply(KeyChange::weight("a", 3)).await;
        assert!(matches!(answer, Err(ApplyError::ConfigChanged)), "{answer:?}");
        let creates = scene.disk.end_script().iter().filter(|name| **name == "create").count();
        assert_eq!(creates, crate::limits::APPLY_ATTEMPTS_MAX + 1);
        assert!(has(&weights_in(&scene.text()), "a", 1));
        scene.pass(2_000).await;
        scene.at_rest("afterwards");
        scene.end().await;
    });
}

/// An edit before every single operation, also while another one is being put back: the last one
/// stands, and the file is never without one.
#[test]
fn edits_at_every_operation() {
    for first in 0..operations().len() {
        paused(|| async {
            let scene = Scene::new(&text_of(&[("a", 1), ("b", 1)])).await;
            let last = Arc::new(AtomicUsize::new(1));
            let told = last.clone();
            scene.disk.follow_script(Box::new(move |step, _, files| {
                if step >= first && step < first + 40 {
                    told.fetch_add(1, Ordering::Relaxed);
                    let weight = u32::try_from(told.load(Ordering::Relaxed)).unwrap();
                    files.insert(CONFIG.into(), text_of(&[("a", 1), ("b", weight)]).into_bytes());
                }
                Fate::Go
            }));
            let answer = scene.apply(KeyChange::weight("a", 3)).await;
            scene.pass(10_000).await;
            scene.disk.end_script();
            scene.pass(2_000).await;
            let weight = u32::try_from(last.load(Ordering::Relaxed)).unwrap();
            assert!(has(&weights_in(&scene.text()), "b", weight), "from {first}: {}\n{}", short(&answer), scene.text());
            scene.at_rest(&format!("from {first}"));
            scene.end().await;
        });
    }
    println!("edits at every operation: {}", operations().len());
}

/// The process ends before each operation, with and without a hand edit at each earlier place.
#[test]
fn killed_between_any_two_operations() {
    let steps = operations().len();
    let edits = std::iter::once(None).chain((0..steps).map(Some));
    let mut kills = 0;
    for (edit_at, die_at) in edits.flat_map(|edit| (0..=steps + 8).map(move |die| (edit, die))) {
        if edit_at.is_some_and(|edit| edit > die_at) {
            continue;
        }
        paused(|| async {
            let (before, after) = (text_of(&[("a", 1), ("b", 1)]), text_of(&[("a", 3), ("b", 1)]));
            let scene = Scene::new(&before).await;
            scene.disk.follow_script(Box::new(move |step, _, files| {
                if edit_at == Some(step) {
                    edit_by_hand(files, "b", 7);
                }
                if step == die_at { Fate::Die } else { Fate::Go }
            }));
            let answer = scene.apply(KeyChange::weight("a", 3)).await;
            let context = format!("edit {edit_at:?}, end {die_at}: {}", short(&answer));
            let after_power = scene.disk.restarted();
            scene.end().await;

            let scene = Scene::on(&after_power).await;
            let found = scene.text();
            let (edited, both) = (text_of(&[("a", 1), ("b", 7)]), text_of(&[("a", 3), ("b", 7)]));
            let expected = match (edit_at, answer.is_ok()) {
                (None, false) => vec![before, after],
                (None, true) => vec![after],
                (Some(_), false) => vec![edited, both],
                (Some(_), true) => vec![both],
            };
            assert!(expected.contains(&found), "{context}\n{found}");
            scene.at_rest(&context);
            scene.apply(KeyChange::weight("a", 5)).await.unwrap();
            scene.at_rest(&context);
            scene.end().await;
        });
        kills += 1;
    }
    println!("kills: {kills}");
}
