//! Ways in which the file breaks: the last good generation stays, the reason is told, it heals.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;
use crate::config::Code;

/// Puts something bad in the place of the config.
type Break = fn(&Path);

/// And what is said of it.
const BREAKAGES: [(&str, Break, Code); 17] = [
    ("empty", |path| std::fs::write(path, "").unwrap(), Code::Syntax),
    ("blank", |path| std::fs::write(path, " \n\n").unwrap(), Code::Syntax),
    ("torn", |path| std::fs::write(path, &long_text(9, 5000)[..3000]).unwrap(), Code::Syntax),
    ("not JSON", |path| std::fs::write(path, "value = 9").unwrap(), Code::Syntax),
    ("not UTF-8", |path| std::fs::write(path, b"{\"value\": \"\xff\"}").unwrap(), Code::Syntax),
    ("NUL bytes after a crash", |path| std::fs::write(path, [0; 64]).unwrap(), Code::Syntax),
    ("invalid", |path| std::fs::write(path, "{\"value\": -1}").unwrap(), Code::MissingMember),
    ("compile panics", |path| std::fs::write(path, "{\"value\": 9, \"panic\": 1}").unwrap(), Code::BadValue),
    ("port taken", |path| std::fs::write(path, "{\"value\": 9, \"port\": 77}").unwrap(), Code::Bind),
    ("1 GiB", |path| std::fs::File::create(path).unwrap().set_len(1 << 30).unwrap(), Code::Unreadable),
    ("missing", |path| std::fs::remove_file(path).unwrap(), Code::Unreadable),
    (
        "directory",
        |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        },
        Code::Unreadable,
    ),
    ("FIFO", |path| shell(path.parent().unwrap(), "rm config.json && mkfifo config.json"), Code::Unreadable),
    (
        "socket",
        |path| {
            std::fs::remove_file(path).unwrap();
            UnixListener::bind(path).unwrap();
        },
        Code::Unreadable,
    ),
    (
        "device",
        |path| {
            std::fs::remove_file(path).unwrap();
            symlink("/dev/zero", path).unwrap();
        },
        Code::Unreadable,
    ),
    (
        "dangling link",
        |path| {
            std::fs::remove_file(path).unwrap();
            symlink("nowhere", path).unwrap();
        },
        Code::Unreadable,
    ),
    (
        "link to itself",
        |path| {
            std::fs::remove_file(path).unwrap();
            symlink("config.json", path).unwrap();
        },
        Code::Unreadable,
    ),
];

/// Takes away whatever stands at `path` and puts a good text there.
fn mend(path: &Path, value: u64) {
    if path.is_dir() {
        std::fs::remove_dir(path).unwrap();
    }
    rename_over(path, &text(value));
}

fn check_breakage(events: Box<dyn Events>, (what, break_it, code): (&str, Break, Code)) -> Vec<Duration> {
    let mut rig = Rig::with(events, plain_file);
    rig.told.with(|told| told.taken = Some(77));
    for round in 1..=3 {
        let before = (rig.generation(), rig.value());
        break_it(&rig.path);
        rig.wait(what, |rig| rig.store.status().last_error.is_some());
        // Telling of a failure takes the settle window on top of the notice.
        let told_after = rig.took.pop().unwrap();
        assert!(told_after < NOTICED_WITHIN + Duration::from_secs(2), "{what}: {told_after:?}");

        let status = rig.store.status();
        let failure = status.last_error.clone().unwrap();
        assert_eq!(failure.problems.0[0].code, code, "{what}: {failure:?}");
        assert_eq!((rig.generation(), rig.value()), before, "{what}: the last good stays");
        assert!(status.drift && status.stale_since.is_some(), "{what}");
        let has_content = code != Code::Unreadable && !["empty", "blank"].contains(&what);
        assert_eq!((status.on_disk_hash.is_some(), failure.hash.is_some()), (has_content, has_content), "{what}");
        let refused = status.outcomes.iter().filter(|one| one.result == ReloadResult::Refused).count();
        assert_eq!(refused, round as usize, "{what}: told once, however often it is tried");

        // Round by round: back to what ran, something new.
        if round == 2 {
            mend(&rig.path, before.1);
            rig.wait(what, |rig| rig.store.status().last_error.is_none());
            assert_eq!(rig.generation(), before.0, "{what}: what runs needs no new generation");
        } else {
            mend(&rig.path, before.1 + 1);
            rig.wait_value(before.1 + 1);
            assert_eq!(rig.generation(), before.0 + 1, "{what}");
        }
        rig.wait(what, |rig| !rig.store.status().drift);
        rig.took.pop();
        assert!(rig.store.status().stale_since.is_none(), "{what}");
    }
    std::mem::take(&mut rig.took)
}

#[test]
fn everything_bad_in_place_of_the_file() {
    // Side by side: most of the time is the settle window.
    let start = |events: fn() -> Box<dyn Events>| {
        BREAKAGES.map(|breakage| std::thread::spawn(move || check_breakage(events(), breakage)))
    };
    let heard = start(|| Box::new(SystemEvents));
    let polled = start(|| Box::new(NoEvents));
    for (name, all) in [("mended, events", heard), ("mended, no events", polled)] {
        let took = all.into_iter().flat_map(|one| one.join().unwrap()).collect();
        println!("{name}: {} breakages, three times each", BREAKAGES.len());
        report(name, took);
    }
}

#[test]
fn start_needs_a_good_file() {
    let mut count = 0;
    for (what, break_it, code) in BREAKAGES {
        let dir = tempfile::tempdir().unwrap();
        let path = plain_file(dir.path());
        break_it(&path);
        let told = Told::default();
        told.with(|told| told.taken = Some(77));
        let started = Writer::start(options(path, &told, Box::new(NoEvents)));
        let problems = started.map(|_| ()).unwrap_err().problems;
        assert_eq!(problems.0[0].code, code, "{what}");
        assert_eq!(told.with(|told| told.swaps), 0, "{what}");
        count += 1;
    }
    println!("start refused: {count}");
}

#[test]
fn new_listeners_are_bound_before_the_swap_and_old_closed_after() {
    let mut rig = Rig::plain();
    rename_over(&rig.path, "{\"value\": 1, \"port\": 5}");
    rig.wait("commit", |rig| rig.told.with(|told| told.listeners.len()) == 6);
    assert_eq!(
        rig.told.with(|told| told.listeners.clone()),
        ["bind 0", "swap 1", "commit 0", "bind 5", "swap 2", "commit 5"]
    );
    println!("listeners: 1 change");
}
