//! Ways in which a good file becomes another good file.

use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::fake::{CountingDisk, NoInstances, NoWatches, Silent};
use super::*;
use crate::limits::SETTLE_WINDOW;

/// How one editor or tool puts a text into a file.
type Save = fn(&Path, u64);

const SAVES: [(&str, Save); 7] = [
    ("in place", |path, value| std::fs::write(path, text(value)).unwrap()),
    ("truncate, then slices", |path, value| {
        let text = long_text(value, 64 * 1024);
        let mut file = std::fs::File::create(path).unwrap();
        for (at, slice) in text.as_bytes().chunks(8 * 1024).enumerate() {
            // A slow writer; the pauses are what is tested.
            std::thread::sleep(Duration::from_millis(7 * at as u64));
            file.write_all(slice).unwrap();
        }
    }),
    ("rename over", |path, value| rename_over(path, &text(value))),
    ("sed -i", |path, value| {
        let script = format!("sed -i 's/\"value\": [0-9]*/\"value\": {value}/' {}", path.display());
        shell(path.parent().unwrap(), &script);
    }),
    ("backup, write, remove backup", |path, value| {
        let backup = path.with_extension("json~");
        std::fs::rename(path, &backup).unwrap();
        std::fs::write(path, text(value)).unwrap();
        std::fs::remove_file(&backup).unwrap();
    }),
    ("remove, then write", |path, value| {
        std::fs::remove_file(path).unwrap();
        std::thread::sleep(Duration::from_millis(value % 7 * 20));
        std::fs::write(path, text(value)).unwrap();
    }),
    ("same length, old time stamp", |path, value| {
        let digits = format!("{{\"value\": {value:>9}}}");
        std::fs::write(path, digits).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }),
];

/// Each way of saving `rounds` times, on the config that `rig` looks at.
fn check_saves(name: &str, rig: &mut Rig, target: &Path, rounds: u64) {
    let mut value = 0;
    for (way, save) in SAVES {
        let mut slow = false;
        for _ in 0..rounds {
            value += 1;
            let start = Instant::now();
            save(target, value);
            slow |= start.elapsed() > SETTLE_WINDOW / 2;
            rig.wait_value(value);
        }
        // On an overloaded machine a save may be half done for longer than anybody waits.
        if !slow {
            rig.nothing_refused();
        }
        rig.report(&format!("{name}: {way}"));
    }
    // One generation per change: neither half-written nor equal content made one.
    assert_eq!(rig.generation(), 1 + value);
}

#[test]
fn every_way_of_saving() {
    let mut rig = Rig::plain();
    let path = rig.path.clone();
    check_saves("events", &mut rig, &path, 20);
    assert_eq!(rig.store.status().watch_mode, WatchMode::Events);
}

#[test]
fn without_events_the_poll_sees_it() {
    type Open = fn() -> Box<dyn Events>;
    let modes: [(&str, Open, WatchMode); 4] = [
        ("file system without events", || Box::new(Silent), WatchMode::Events),
        ("events switched off", || Box::new(NoEvents), WatchMode::Poll),
        ("inotify unavailable", || Box::new(NoInstances), WatchMode::Poll),
        ("inotify exhausted", || Box::new(NoWatches), WatchMode::Poll),
    ];
    // Side by side: most of the time is the poll interval.
    let all = modes.map(|(name, events, mode)| {
        std::thread::spawn(move || {
            let mut rig = Rig::with(events(), plain_file);
            assert_eq!(rig.store.status().watch_mode, mode, "{name}");
            let path = rig.path.clone();
            check_saves(name, &mut rig, &path, 2);
        })
    });
    for one in all {
        one.join().unwrap();
    }
}

#[test]
fn our_own_reading_is_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(CountingDisk::default());
    let mut options = options(plain_file(dir.path()), &Told::default(), Box::new(SystemEvents));
    options.disk = disk.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (_commands, receiver) = mpsc::channel(1);
    runtime.block_on(async {
        let (writer, store) = Writer::start(options).unwrap();
        assert_eq!(store.status().watch_mode, WatchMode::Events);
        // Ends by the timeout: nothing else happens.
        let _idle = tokio::time::timeout(POLL_INTERVAL * 5 / 2, writer.run(receiver)).await;
    });
    // At the start, when the loop begins, and at two polls; a few for events of the set-up.
    let reads = disk.0.load(std::sync::atomic::Ordering::Relaxed);
    assert!((3..=6).contains(&reads), "{reads}");
    println!("idle: {reads} reads in 2.5 s");
}

#[test]
fn target_of_a_link_in_another_directory() {
    let mut rig = Rig::with(Box::new(SystemEvents), |dir| {
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::fs::write(dir.join("real/c.json"), text(0)).unwrap();
        symlink("../real/c.json", dir.join("etc/config.json")).unwrap();
        dir.join("etc/config.json")
    });
    let target = rig.at("real/c.json");
    check_saves("link target", &mut rig, &target, 3);
}

#[test]
fn link_that_is_pointed_elsewhere() {
    let mut rig = Rig::with(Box::new(SystemEvents), |dir| {
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        plain_file(dir);
        symlink(dir.join("config.json"), dir.join("etc/config.json")).unwrap();
        dir.join("etc/config.json")
    });
    for value in 1..=20 {
        let home = rig.at(&format!("release-{value}"));
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("c.json"), text(value * 2 - 1)).unwrap();
        let fresh = rig.at("etc/fresh");
        symlink(home.join("c.json"), &fresh).unwrap();
        std::fs::rename(&fresh, &rig.path).unwrap();
        rig.wait_value(value * 2 - 1);
        // And the new target is watched from now on.
        rename_over(&home.join("c.json"), &text(value * 2));
        rig.wait_value(value * 2);
    }
    rig.nothing_refused();
    rig.report_heard("link pointed elsewhere");
}

/// As the kubelet writes a ConfigMap: a new directory, `..data` swapped, the old one removed.
#[test]
fn kubernetes_data_swap() {
    let publish = |dir: &Path, value: u64| {
        let home = format!("..2026_11_20_{value}");
        std::fs::create_dir(dir.join(&home)).unwrap();
        std::fs::write(dir.join(&home).join("config.json"), text(value)).unwrap();
        let old = std::fs::read_link(dir.join("..data")).ok();
        symlink(&home, dir.join("..data_tmp")).unwrap();
        std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if let Some(old) = old {
            std::fs::remove_dir_all(dir.join(old)).unwrap();
        }
    };
    for (mode, rounds) in [(Box::new(SystemEvents) as Box<dyn Events>, 40), (Box::new(NoEvents), 2)] {
        let mut rig = Rig::with(mode, |dir| {
            publish(dir, 0);
            symlink("..data/config.json", dir.join("config.json")).unwrap();
            dir.join("config.json")
        });
        for value in 1..=rounds {
            publish(rig.dir.path(), value);
            rig.wait_value(value);
        }
        rig.nothing_refused();
        if rig.store.status().watch_mode == WatchMode::Events {
            rig.report_heard("kubernetes ..data swap");
        } else {
            rig.report("kubernetes ..data swap, no events");
        }
    }
}

#[test]
fn git_checkout_rebase_and_stash() {
    let mut rig = Rig::with(Box::new(SystemEvents), |dir| {
        let path = plain_file(dir);
        // Nothing of the machine's own git settings.
        shell(
            dir,
            "git init -q -b main . && git config user.name t && git config user.email t@t && git add -A && git commit -qm 0",
        );
        for value in 1..=5 {
            let switch = if value == 1 { "git checkout -q -b side" } else { "true" };
            shell(
                dir,
                &format!("{switch} && printf '{{\"value\": {value}}}\\n' > config.json && git commit -qam {value}"),
            );
        }
        // main gets another commit, so that the rebase has something to do.
        shell(dir, "git checkout -q main && echo other > other && git add other && git commit -qm other");
        path
    });
    let mut count = 0;
    for _ in 0..5 {
        for (switch, value) in [("git checkout -q side", 5), ("git checkout -q side~2", 3), ("git checkout -q main", 0)]
        {
            shell(rig.dir.path(), switch);
            rig.wait_value(value);
            count += 1;
        }
    }
    rig.nothing_refused();
    rig.report("git checkout");

    // The rebase walks through every commit of `side` and ends at the last.
    shell(rig.dir.path(), "git checkout -q side && git rebase -q main");
    rig.wait_value(5);
    for round in 0..5 {
        shell(rig.dir.path(), "git checkout -q side && git commit -q --amend -m again && git checkout -q main");
        rig.wait_value(0);
        shell(rig.dir.path(), &format!("echo {round} >> other && git commit -qam other && git rebase -q main side"));
        rig.wait_value(5);
    }
    rig.nothing_refused();
    rig.report("git rebase");

    for value in 10..15 {
        std::fs::write(&rig.path, text(value)).unwrap();
        rig.wait_value(value);
        shell(rig.dir.path(), "git stash -q");
        rig.wait_value(5);
        shell(rig.dir.path(), "git stash pop -q");
        rig.wait_value(value);
        shell(rig.dir.path(), "git checkout -q config.json");
        rig.wait_value(5);
    }
    rig.nothing_refused();
    rig.report("git stash");
    assert_eq!(count, 15);
}

#[test]
fn directory_replaced() {
    let mut rig = Rig::with(Box::new(SystemEvents), |dir| {
        std::fs::create_dir(dir.join("etc")).unwrap();
        plain_file(&dir.join("etc"))
    });
    let mut arrived = Vec::new();
    for round in 1..=8 {
        std::fs::create_dir(rig.at("next")).unwrap();
        std::fs::write(rig.at("next/config.json"), text(round * 2 - 1)).unwrap();
        std::fs::rename(rig.at("etc"), rig.at(&format!("old-{round}"))).unwrap();
        std::fs::rename(rig.at("next"), rig.at("etc")).unwrap();
        rig.wait_value(round * 2 - 1);
        arrived.extend(rig.took.pop());
        // The second change, in the directory that has come: heard, not only polled.
        std::fs::write(&rig.path, text(round * 2)).unwrap();
        rig.wait_value(round * 2);
    }
    rig.nothing_refused();
    report("directory replaced", arrived);
    rig.report_heard("change in a replaced directory");
}

#[test]
fn two_hundred_writes_in_a_second() {
    for (way, save) in [SAVES[0], SAVES[2]] {
        let mut rig = Rig::plain();
        for round in 0..3 {
            let start = Instant::now();
            let mut last = 0;
            for write in 0..200 {
                last = round * 1000 + write + 1;
                save(&rig.path, last);
                // Paced, so that all of them fill the second.
                let next = start + Duration::from_millis(5 * (write + 1));
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            rig.wait_value(last);
        }
        // Few enough that nobody pays for a hasty writer, and the last one is never lost.
        assert!(rig.generation() < 40, "{}", rig.generation());
        rig.report(&format!("200 writes in a second, {way} ({} generations)", rig.generation()));
    }
}

#[test]
fn equal_content_is_no_change() {
    let mut rig = Rig::plain();
    for round in 0..20 {
        match round % 4 {
            0 => std::fs::write(&rig.path, text(0)).unwrap(),
            1 => rename_over(&rig.path, &text(0)),
            2 => shell(rig.dir.path(), "touch config.json && chmod 600 config.json"),
            _ => std::fs::write(rig.at("neighbour"), "x").unwrap(),
        }
        rig.commands.blocking_send(Command::FileMayHaveChanged).unwrap();
    }
    rename_over(&rig.path, &text(1));
    rig.wait_value(1);
    assert_eq!(rig.generation(), 2);
    assert_eq!(rig.told.with(|told| told.compiles), 2);
    println!("equal content: 20 rewrites, no generation");
}

#[test]
fn secret_files() {
    let mut rig = Rig::with(Box::new(SystemEvents), |dir| {
        let path = dir.join("etc/config.json");
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::create_dir_all(dir.join("run")).unwrap();
        std::fs::write(&path, "{\"value\": 1, \"file\": \"../run/secret\"}").unwrap();
        path
    });
    let ready = |rig: &Rig| fake::has_secret(&rig.store.snapshot());
    assert!(!ready(&rig), "a missing secret does not stop the start");
    assert_eq!(rig.store.status().warnings.0.len(), 1);
    let secret = rig.at("run/secret");
    let mut generation = rig.generation();
    for round in 0..10 {
        for save in [
            |path: &Path, text: &str| std::fs::write(path, text).unwrap(),
            |path: &Path, text: &str| rename_over(path, text),
        ] {
            save(&secret, &format!("token-{round}-{generation}\n"));
            generation += 1;
            rig.wait("new secret", |rig| rig.generation() == generation);
            assert!(ready(&rig));
        }
    }
    rig.nothing_refused();
    rig.report("secret file rewritten");

    // The same secret with and without a newline is the same secret.
    let held = std::fs::read_to_string(&secret).unwrap();
    std::fs::write(&secret, held.trim()).unwrap();
    assert_eq!(rig.reload().result, ReloadResult::Unchanged);

    for _ in 0..3 {
        std::fs::remove_file(&secret).unwrap();
        rig.wait("secret gone", |rig| !ready(rig));
        std::fs::write(&secret, "back").unwrap();
        rig.wait("secret back", ready);
    }
    rig.report("secret file removed and back");
    assert_eq!(fake::value(&rig.store.snapshot()), 1);
}

#[test]
fn reload_answers() {
    let mut rig = Rig::plain();
    assert_eq!(rig.reload().result, ReloadResult::Unchanged);
    std::fs::write(&rig.path, text(1)).unwrap();
    let outcome = rig.reload();
    assert_eq!((outcome.generation, rig.value()), (2, 1));
    std::fs::write(&rig.path, "{\"value\": \"x\"}").unwrap();
    let outcome = rig.reload();
    assert_eq!((outcome.result, outcome.generation), (ReloadResult::Refused, 2));
    assert_eq!(outcome.problems.0[0].code, crate::config::Code::MissingMember);
    std::fs::write(&rig.path, text(1)).unwrap();
    assert_eq!(rig.reload().result, ReloadResult::Unchanged);
    assert!(rig.store.status().last_error.is_none());
    // Whoever was answered asks for the status next, and is told the same.
    for round in 0..30 {
        let good = round % 3 == 0;
        let content = if good { text(round) } else { format!("{{\"value\": \"{round}\"}}") };
        std::fs::write(&rig.path, content).unwrap();
        let (outcome, status) = (rig.reload(), rig.store.status());
        let expected = if good { ReloadResult::Applied } else { ReloadResult::Refused };
        assert_eq!((outcome.result, status.generation), (expected, outcome.generation));
        assert_eq!((status.on_disk_hash, status.drift), (outcome.hash, !good));
        assert_eq!(status.last_error.as_ref().and_then(|last| last.hash), outcome.hash.filter(|_| !good));
    }
    assert_eq!(rig.store.status().outcomes.len(), crate::limits::RELOAD_OUTCOMES_KEPT);
    rename_over(&rig.path, &text(2));
    rig.wait_value(2);
    println!("reload answers: 34 reloads");
}

#[test]
fn model_lists_are_compiled_under_the_same_generation() {
    let mut rig = Rig::plain();
    let before = rig.store.snapshot();
    let list = |models: usize| Command::ModelsListed {
        provider: "up".into(),
        models: (0..models).map(|model| model.to_string().into()).collect(),
    };
    rig.commands.blocking_send(list(3)).unwrap();
    rig.wait("recompiled", |rig| rig.told.with(|told| told.swaps) == 2);
    let after = rig.store.snapshot();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&before.mark, &after.mark));
    // The same list again changes nothing.
    rig.commands.blocking_send(list(3)).unwrap();
    assert_eq!(rig.reload().result, ReloadResult::Unchanged);
    assert_eq!(rig.told.with(|told| told.swaps), 2);
    assert_eq!(rig.store.status().generation, 1);
    println!("model lists: 2");
}
