//! What is answered, and what of it is seen: refusals, broken files, order, equal changes.

use super::*;
use crate::config::Code;

fn codes(answer: &Result<Written, ApplyError>) -> Vec<Code> {
    match answer {
        Err(ApplyError::Problems(problems) | ApplyError::ConfigOnDiskInvalid(problems)) => {
            problems.0.iter().map(|problem| problem.code).collect()
        }
        _ => panic!("{answer:?}"),
    }
}

fn refused(answer: Result<Written, ApplyError>) -> Refused {
    match answer {
        Err(ApplyError::Refused(refused)) => refused,
        _ => panic!("{answer:?}"),
    }
}

#[test]
fn a_change_serves_when_it_is_answered() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1)])).await;
        let written = scene.apply(KeyChange::add("b")).await.unwrap();
        assert!(written.changed);
        assert_eq!(scene.generation(), 2);
        assert!(Arc::ptr_eq(&written.generation, &scene.store.generation()));
        scene.at_rest("added");
        assert_eq!(scene.store.status().outcomes.last().unwrap().result, ReloadResult::Applied);
        scene.apply(KeyChange::weight("b", 7)).await.unwrap();
        assert_eq!(scene.text(), text_of(&[("a", 1), ("b", 7)]).replace(" // b", ""));
        scene.apply(KeyChange::delete("b")).await.unwrap();
        assert_eq!(scene.text(), text_of(&[("a", 1)]));
        assert_eq!(scene.generation(), 4);
        // Our own writes are no foreign changes.
        scene.pass(30_000).await;
        assert_eq!((scene.generation(), scene.store.status().reloads_ok), (4, 4));
        scene.at_rest("later");
        scene.end().await;
    });
}

#[test]
fn an_equal_change_writes_nothing() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1), ("b", 2)])).await;
        scene.disk.follow_script(Box::new(|_, _, _| Fate::Go));
        let written = scene.apply(KeyChange::weight("b", 2)).await.unwrap();
        assert!(!written.changed && Arc::ptr_eq(&written.generation, &scene.store.generation()));
        assert_eq!(scene.disk.end_script(), ["read"]);
        assert_eq!(scene.generation(), 1);
        // On a hand edit that does not run yet: it runs now, and nothing is written.
        scene.disk.put(CONFIG, &text_of(&[("a", 1), ("b", 9)]));
        scene.disk.follow_script(Box::new(|_, _, _| Fate::Go));
        let written = scene.apply(KeyChange::weight("b", 9)).await.unwrap();
        assert!(!written.changed);
        assert!(scene.disk.end_script().iter().all(|name| *name == "read"));
        assert_eq!(written.generation.snapshot.mark.number, 2);
        scene.at_rest("hand edit");
        scene.end().await;
    });
}

#[test]
fn changes_are_served_one_at_a_time() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1)])).await;
        let mut answers = Vec::new();
        for i in 0..60 {
            answers.push(scene.ask(KeyChange::add(&format!("k{i}"))).await);
            answers.push(scene.ask(KeyChange::weight(&format!("k{i}"), i)).await);
        }
        let mut numbers = Vec::new();
        for answer in answers {
            numbers.push(answer.await.unwrap().unwrap().generation.snapshot.mark.number);
        }
        // k1 has weight 1 already: it is in the generation of its making.
        let expected: Vec<u64> = (2..=121).map(|number| if number > 4 { number - 1 } else { number }).collect();
        assert_eq!(numbers, expected);
        assert_eq!(scene.running().len(), 61);
        scene.at_rest("all");
        println!("concurrent changes: {}", numbers.len());
        scene.end().await;
    });
}

#[test]
fn a_broken_file_is_not_written_to() {
    let broken = [
        ("", Code::Syntax),
        ("{\"providers\": {", Code::Syntax),
        ("{\"providers\": {\"openai\": {\"keyz\": []}}}", Code::UnknownMember),
        ("{\"providers\": {\"openia\": {}}}", Code::UnknownReference),
    ];
    for (text, code) in broken {
        paused(|| async {
            let scene = Scene::new(&text_of(&[("a", 1)])).await;
            scene.disk.put(CONFIG, text);
            for _ in 0..2 {
                let answer = scene.apply(KeyChange::weight("a", 3)).await;
                assert!(matches!(answer, Err(ApplyError::ConfigOnDiskInvalid(_))), "{answer:?}");
                assert!(codes(&answer).contains(&code), "{answer:?}");
                assert_eq!((scene.text().as_str(), scene.generation()), (text, 1));
                scene.pass(3_000).await;
            }
            assert!(scene.store.status().last_error.is_some());
            // Known to be broken: nobody waits for it.
            let start = tokio::time::Instant::now();
            scene.apply(KeyChange::weight("a", 3)).await.unwrap_err();
            assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
            scene.disk.put(CONFIG, &text_of(&[("a", 1), ("b", 5)]));
            scene.apply(KeyChange::weight("a", 3)).await.unwrap();
            assert_eq!(scene.text(), text_of(&[("a", 3), ("b", 5)]));
            scene.at_rest(text);
            scene.end().await;
        });
    }
    println!("broken files: {}", broken.len());
}

#[test]
fn a_missing_file_is_not_made_anew() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1)])).await;
        scene.disk.remove_by_hand(CONFIG);
        let answer = scene.apply(KeyChange::weight("a", 3)).await;
        assert_eq!(codes(&answer), [Code::Unreadable]);
        assert!(scene.disk.names().is_empty());
        scene.end().await;
    });
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1)])).await;
        let whole = text_of(&[("a", 1), ("b", 5)]);
        scene.disk.put(CONFIG, &whole[..whole.len() / 2]);
        let answer = scene.ask(KeyChange::weight("a", 3)).await;
        scene.pass(300).await;
        scene.disk.put(CONFIG, &whole);
        answer.await.unwrap().unwrap();
        assert_eq!(scene.text(), text_of(&[("a", 3), ("b", 5)]));
        scene.at_rest("merged");
        scene.end().await;
    });
}

#[test]
fn a_reload_that_waits_is_answered_by_the_write() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1)])).await;
        let (reply, reloaded) = oneshot::channel();
        scene.commands.send(Command::Reload { reply: Some(reply) }).await.unwrap();
        scene.apply(KeyChange::weight("a", 3)).await.unwrap();
        let outcome = reloaded.await.unwrap();
        assert!(matches!(outcome.result, ReloadResult::Applied | ReloadResult::Unchanged), "{outcome:?}");
        scene.at_rest("both");
        scene.end().await;
    });
}

#[test]
fn what_would_not_compile_or_not_bind_is_not_written() {
    paused(|| async {
        let text = text_of(&[("a", 1), ("b", 1)]);
        let scene = Scene::new(&text).await;
        let set = |pointer: &str, value: NewValue| {
            let edits = vec![Edit::Set { pointer: pointer.to_owned(), value }];
            Planned(move |_: &Base<'_>| Ok(Plan { edits: edits.clone(), renewed: Vec::new() }))
        };
        let answer = scene.apply(set("/providers/openai/keys/1/name", NewValue::text("a"))).await;
        assert_eq!(codes(&answer), [Code::Duplicate; 2], "by name, and by the id that is made of it");
        let answer = scene.apply(set("/nonsense", NewValue::Null)).await;
        assert_eq!(codes(&answer), [Code::UnknownMember]);
        let answer = scene.apply(set("/providers/openai/keys/7", NewValue::Null)).await;
        assert!(matches!(refused(answer), Refused::Invalid { code: "invalid_edit", .. }));
        let answer = scene.apply(set("/observability", NewValue::Number("1e".to_owned()))).await;
        assert!(matches!(refused(answer), Refused::Invalid { code: "invalid_edit", .. }));
        let answer = scene.apply(Planned(|_: &Base<'_>| panic!("a planner with a bug"))).await;
        assert_eq!(codes(&answer), [Code::BadValue]);
        // The fake has the size of bodies for a port.
        scene.told.with(|told| told.taken = Some(7 << 20));
        let limits = NewValue::Object(vec![(
            "limits".to_owned(),
            NewValue::Object(vec![("request_body_mb_max".to_owned(), NewValue::Number("7".to_owned()))]),
        )]);
        let answer = scene.apply(set("/server", limits)).await;
        assert_eq!(codes(&answer), [Code::Bind]);
        assert_eq!((scene.text(), scene.generation()), (text, 1));
        scene.at_rest("refused");
        scene.apply(KeyChange::weight("a", 3)).await.unwrap();
        scene.end().await;
    });
}

#[test]
fn refusals_of_the_plan_come_through() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1)])).await;
        assert_eq!(refused(scene.apply(KeyChange::weight("x", 1)).await), Refused::NotFound { what: "key" });
        assert!(matches!(refused(scene.apply(KeyChange::add("a")).await), Refused::Conflict { code: "exists", .. }));
        let if_match = Some(ConfigHash::of_bytes(b"another state"));
        let stale = KeyChange::Weight { name: "a".to_owned(), weight: 2, if_match };
        assert_eq!(refused(scene.apply(stale).await), Refused::Stale);
        scene.at_rest("refused");
        scene.end().await;
    });
}

#[test]
fn a_locked_file_is_the_hand_s_alone() {
    let locked =
        |is: bool| text_of(&[("a", 1)]).replacen('{', &format!("{{\n  \"management\": {{\"locked\": {is}}},"), 1);
    paused(|| async {
        let scene = Scene::new(&locked(true)).await;
        assert!(scene.store.snapshot().management.locked);
        let is_locked = |answer| matches!(answer, Err(ApplyError::Locked { path }) if path == Path::new(CONFIG));
        assert!(is_locked(scene.apply(KeyChange::weight("a", 3)).await));
        scene.disk.put(CONFIG, &locked(false));
        scene.pass(2_000).await;
        scene.apply(KeyChange::weight("a", 3)).await.unwrap();
        // Locked by hand a moment ago: that counts, though it does not run yet.
        scene.disk.put(CONFIG, &locked(true));
        assert!(is_locked(scene.apply(KeyChange::weight("a", 4)).await));
        assert_eq!(scene.text(), locked(true));
        scene.end().await;
    });
}

#[test]
fn a_stored_secret_does_not_travel() {
    paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1)])).await;
        let move_it = |renewed: &'static [&'static str], with_secret: bool| {
            Planned(move |base: &Base<'_>| {
                let id = base.snapshot.providers[0].keys[0].id.as_str().to_owned();
                let at = |member: &str| format!("{KEYS}/0/{member}");
                let url = NewValue::text("https://other.example");
                let mut edits = vec![Edit::Set { pointer: at("base_url"), value: url }];
                if with_secret {
                    let value = NewValue::Secret(Secret::new("sk-anew"));
                    edits.push(Edit::Set { pointer: at("value"), value });
                }
                let renewed = renewed.iter().map(|it| if *it == "a" { id.clone() } else { (*it).to_owned() });
                Ok(Plan { edits, renewed: renewed.collect() })
            })
        };
        let required = Refused::SecretRequired { field: "base_url".to_owned() };
        assert_eq!(refused(scene.apply(move_it(&[], false)).await), required);
        assert_eq!(refused(scene.apply(move_it(&["b"], true)).await), required);
        scene.at_rest("refused");
        scene.apply(move_it(&["a"], true)).await.unwrap();
        assert!(scene.text().contains("\"value\": {\"value\": \"sealed:v1:test:wena-ks\"}"), "{}", scene.text());
        scene.at_rest("moved");
        scene.end().await;
    });
}

#[test]
fn a_route_keeps_a_key_and_says_which() {
    let text = r#"{
  "providers": {"openai": {"keys": [{"name": "a", "value": "env.A"}]}, "groq": {"keys": [{"value": "env.G"}]}},
  "routes": {"@fast": {"targets": ["openai/gpt-mini", "groq/x"]}}
}
"#;
    paused(|| async {
        let scene = Scene::new(text).await;
        let remove = |pointer: &'static str| {
            Planned(move |_: &Base<'_>| {
                Ok(Plan { edits: vec![Edit::Remove { pointer: pointer.to_owned() }], renewed: Vec::new() })
            })
        };
        for pointer in ["/providers/openai/keys/0", "/providers/openai", "/providers/groq", "/providers/groq/keys"] {
            match refused(scene.apply(remove(pointer)).await) {
                Refused::Conflict { code: "route_needs_key", message } => {
                    assert!(message.contains("@fast"), "{message}")
                }
                other => panic!("{pointer}: {other:?}"),
            }
        }
        scene.at_rest("refused");
        scene.apply(remove("/routes")).await.unwrap();
        scene.apply(remove("/providers/openai")).await.unwrap();
        scene.at_rest("removed");
        scene.end().await;
    });
}

/// Sealing comes after the check of destinations and before the file: who is refused leaves no key file.
#[test]
fn nothing_is_sealed_for_nothing() {
    struct Unable;
    impl Sealer for Unable {
        fn seal(&mut self, _: &Secret, _: &str, _: &Base<'_>) -> Result<String, String> {
            Err("the sealing key is not set".to_owned())
        }
    }
    paused(|| async {
        let disk = StepDisk::with(CONFIG, &text_of(&[("a", 1)]));
        let mut options = options(Path::new(CONFIG), Arc::new(disk.clone()), &Told::default());
        options.sealer = Box::new(Unable);
        let (mut writer, _store) = Writer::start(options).unwrap();
        let add = |name: &str| Box::new(KeyChange::Add { name: name.to_owned(), secret: Some("sk-1") });
        disk.follow_script(Box::new(|_, _, _| Fate::Go));
        let answer = writer.apply(add("b")).await;
        assert!(matches!(answer, Err(ApplyError::Sealing { reason }) if reason == "the sealing key is not set"));
        assert_eq!(disk.end_script(), ["read"]);
        // Refused for another reason before anything is sealed.
        let at = |member: &str| format!("{KEYS}/0/{member}");
        let moving = vec![
            Edit::Set { pointer: at("base_url"), value: NewValue::text("https://other.example") },
            Edit::Set { pointer: at("value"), value: NewValue::Secret(Secret::new("sk-1")) },
        ];
        let moving = Planned(move |_: &Base<'_>| Ok(Plan { edits: moving.clone(), renewed: Vec::new() }));
        let answer = writer.apply(Box::new(moving)).await;
        assert!(matches!(answer, Err(ApplyError::Refused(Refused::SecretRequired { .. }))), "{answer:?}");
        assert!(matches!(writer.apply(add("a")).await, Err(ApplyError::Refused(Refused::Conflict { .. }))));
        let answer = writer.apply(add("\n")).await;
        assert!(matches!(answer, Err(ApplyError::Sealing { .. } | ApplyError::Problems(_))), "{answer:?}");
        // What needs no seal is written.
        writer.apply(Box::new(KeyChange::add("b"))).await.unwrap();
    });
}
