//! What the system refuses in the midst of a write: answered in words, and nothing has changed.

use std::sync::Mutex;

use rustix::io::Errno;

use super::*;

const ERRNOS: [Errno; 14] = [
    Errno::ROFS,
    Errno::ACCESS,
    Errno::PERM,
    Errno::BUSY,
    Errno::XDEV,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::IO,
    Errno::INVAL,
    Errno::NOSYS,
    Errno::NOTSUP,
    Errno::NOENT,
    Errno::MFILE,
    Errno::INTR,
];

/// Each operation fails once in each way: the write is done all the same, or nothing has changed, and
/// the next one works.
#[test]
fn every_failure_of_every_operation() {
    let names = operations();
    let mut cases = 0;
    for (at, errno) in (0..names.len()).flat_map(|at| ERRNOS.map(|errno| (at, errno))) {
        let name = names[at];
        paused(|| async {
            let before = text_of(&[("a", 1), ("b", 1)]);
            let scene = Scene::new(&before).await;
            scene.disk.follow_script(Box::new(move |step, _, _| if step == at { Fate::Fail(errno) } else { Fate::Go }));
            let answer = scene.apply(KeyChange::weight("a", 3)).await;
            let context = format!("{name} ({at}), {errno:?}: {}", short(&answer));
            let left_over = name == "remove";
            check_answer(name, at, errno, &answer, &context);
            match &answer {
                Ok(written) => {
                    assert_eq!((scene.generation(), written.generation.snapshot.mark.number), (2, 2), "{context}");
                    assert_eq!(scene.text(), text_of(&[("a", 3), ("b", 1)]), "{context}");
                }
                Err(_) => {
                    assert_eq!(scene.generation(), 1, "{context}");
                    assert_eq!(scene.text(), before, "{context}");
                    assert_eq!(
                        scene.told.with(|told| told.listeners.iter().filter(|told| told.starts_with("commit")).count()),
                        1
                    );
                }
            }
            assert_eq!(scene.disk.names().len(), if left_over { 2 } else { 1 }, "{context}");
            scene.disk.end_script();
            scene.apply(KeyChange::weight("b", 4)).await.unwrap();
            assert!(has(&scene.running(), "b", 4), "{context}");
            let disk = scene.disk.restarted();
            scene.end().await;
            let scene = Scene::on(&disk).await;
            scene.at_rest(&context);
            scene.end().await;
        });
        cases += 1;
    }
    println!("failures: {cases}");
}

fn check_answer(name: &str, at: usize, errno: Errno, answer: &Result<Written, ApplyError>, context: &str) {
    let cannot_exchange = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP].contains(&errno);
    let is_read_only = [Errno::ROFS, Errno::ACCESS, Errno::PERM, Errno::BUSY, Errno::XDEV].contains(&errno);
    // Nothing to be read, or something gone, is looked at again; that a file cannot be exchanged or
    // removed ends nothing.
    let gone = errno == Errno::NOENT && name != "sync directory";
    let looked_again = at == 0 || gone || (name == "read" && matches!(errno, Errno::ACCESS | Errno::PERM));
    if looked_again || name == "remove" || (name == "exchange" && cannot_exchange) {
        assert!(answer.is_ok(), "{context}");
        return;
    }
    match answer {
        Err(ApplyError::ReadOnly { path, fix }) => {
            assert!(is_read_only && path == Path::new(CONFIG) && !fix.is_empty(), "{context}");
        }
        Err(ApplyError::Io { path, reason }) => {
            assert!(!is_read_only && path == Path::new(CONFIG) && !reason.is_empty(), "{context}");
        }
        _ => panic!("{context}"),
    }
}

/// The undoing fails as well. What is there then is the old text, the new one, or told in the log;
/// never a torn one, and the file is never gone.
#[test]
fn two_failures_in_one_write() {
    let mut cases = 0;
    let steps = operations().len() + 6;
    for (first, second) in (0..steps).flat_map(|first| (first + 1..steps).map(move |second| (first, second))) {
        paused(|| async {
            let (before, after) = (text_of(&[("a", 1), ("b", 1)]), text_of(&[("a", 3), ("b", 1)]));
            let scene = Scene::new(&before).await;
            scene.disk.follow_script(Box::new(move |step, _, _| {
                if step == first || step == second { Fate::Fail(Errno::IO) } else { Fate::Go }
            }));
            let answer = scene.apply(KeyChange::weight("a", 3)).await;
            scene.disk.end_script();
            let context = format!("{first}, {second}: {}", short(&answer));
            assert!([&before, &after].contains(&&scene.text()), "{context}");
            scene.pass(3_000).await;
            let disk = scene.disk.restarted();
            scene.end().await;
            let scene = Scene::on(&disk).await;
            assert!([&before, &after].contains(&&scene.text()), "{context}");
            scene.at_rest(&context);
            scene.end().await;
        });
        cases += 1;
    }
    println!("double failures: {cases}");
}

/// Without an exchange: the same answers, and status says how it was written.
#[test]
fn a_file_system_that_cannot_exchange() {
    let refuse = |name: &str| if name == "exchange" { Fate::Fail(Errno::INVAL) } else { Fate::Go };
    let names = paused(|| async {
        let scene = Scene::new(&text_of(&[("a", 1), ("b", 1)])).await;
        assert_eq!(scene.store.status().write_mode, WriteMode::Unknown);
        scene.apply(KeyChange::weight("a", 2)).await.unwrap();
        assert_eq!(scene.store.status().write_mode, WriteMode::Exchange);
        scene.disk.follow_script(Box::new(move |_, name, _| refuse(name)));
        scene.apply(KeyChange::weight("a", 3)).await.unwrap();
        assert_eq!(scene.store.status().write_mode, WriteMode::Rename);
        scene.at_rest("renamed");
        let told = scene.disk.end_script();
        scene.end().await;
        told
    });
    assert_eq!(names[8..], ["exchange", "rename", "sync directory", "remove"]);
    let mut cases = 0;
    for (at, die) in (0..names.len()).flat_map(|at| [(at, true), (at, false)]) {
        paused(|| async {
            let (before, after) = (text_of(&[("a", 1), ("b", 1)]), text_of(&[("a", 3), ("b", 1)]));
            let scene = Scene::new(&before).await;
            scene.disk.follow_script(Box::new(move |step, name, _| match (step == at, die) {
                (true, true) => Fate::Die,
                (true, false) => Fate::Fail(Errno::NOSPC),
                (false, _) => refuse(name),
            }));
            let answer = scene.apply(KeyChange::weight("a", 3)).await;
            let context = format!("{at} {die}: {}", short(&answer));
            if !die {
                let expected = if answer.is_ok() { &after } else { &before };
                assert_eq!(scene.text(), *expected, "{context}");
                assert_eq!(scene.generation(), 1 + u64::from(answer.is_ok()), "{context}");
            }
            let disk = scene.disk.restarted();
            scene.end().await;
            let scene = Scene::on(&disk).await;
            assert!([&before, &after].contains(&&scene.text()), "{context}");
            assert!(answer.is_err() || scene.text() == after, "{context}");
            scene.at_rest(&context);
            scene.end().await;
        });
        cases += 1;
    }
    println!("without exchange: {cases}");
}

/// No secret in clear is ever on the disk, not even in a temporary file, at no operation.
#[test]
fn a_secret_is_sealed_before_it_touches_the_disk() {
    const SECRET: &str = "sk-canary-0123456789-abcdefgh";
    let sealed: String = SECRET.chars().rev().collect();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut cases = 0;
    for at in 0..=operations().len() {
        paused(|| async {
            let scene = Scene::new(&text_of(&[("a", 1), ("b", 1)])).await;
            scene
                .disk
                .follow_script(Box::new(move |step, _, _| if step == at { Fate::Fail(Errno::IO) } else { Fate::Go }));
            let change = KeyChange::Add { name: "new".to_owned(), secret: Some(SECRET) };
            let answer = scene.apply(change).await;
            for content in scene.disk.ever() {
                assert!(!String::from_utf8_lossy(&content).contains(SECRET), "step {at}");
            }
            answers.lock().unwrap().push(format!("{answer:?}"));
            if answer.is_ok() {
                let line = format!(
                    "{{\"name\": \"new\", \"value\": {{\"value\": \"sealed:v1:test:{sealed}\"}}, \"weight\": 1}}"
                );
                assert!(scene.text().contains(&line), "{}", scene.text());
                let snapshot = scene.store.snapshot();
                assert!(snapshot.providers[0].keys.iter().all(|key| key.ready.is_ok()));
            }
            scene.end().await;
        });
        cases += 1;
    }
    assert!(answers.lock().unwrap().iter().all(|answer| !answer.contains(SECRET)));
    println!("sealed: {cases}");
}
