//! The state against real files: what a killed process leaves, what a file that is not there or not
//! ours does.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::hash::ConfigHash;
use crate::id::{ProjectId, ProviderName};

fn place(dir: &Path, run: u8) -> Place {
    let made = dir.to_owned();
    Place {
        dir: dir.to_owned(),
        prepare: Box::new(move || std::fs::create_dir_all(&made)),
        run: [run; 16],
        redis: None,
    }
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn now() -> SystemTime {
    from_seconds(seconds(SystemTime::now()))
}

fn answer(body: &str) -> Kept {
    Kept { status: 200, head: "content-type: application/json".to_owned(), body: body.into() }
}

fn owner(key: &str) -> Owner {
    Owner { provider: ProviderName::new("openai"), key: KeyId::new(key), project: Some(ProjectId::new("app")) }
}

#[tokio::test]
async fn a_request_is_carried_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let (state, thread) = State::start(place(dir.path(), 1)).unwrap();
    let (scope, body, other) = ([1; 32], [2; 32], [3; 32]);
    assert_eq!(state.begin(scope, body, now()).await, Ok(Begun::Fresh));
    assert_eq!(state.begin(scope, body, now()).await, Ok(Begun::Running));
    assert_eq!(state.begin(scope, other, now()).await, Ok(Begun::OtherBody));
    state.finish(scope, Some(answer("one"))).await.unwrap();
    assert_eq!(state.begin(scope, other, now()).await, Ok(Begun::OtherBody));
    assert_eq!(state.begin(scope, body, now()).await, Ok(Begun::Answered(answer("one"))));
    thread.close();

    // Another process: what was answered stays, what was cut off is done again.
    let (state, thread) = State::start(place(dir.path(), 2)).unwrap();
    assert_eq!(state.begin(scope, body, now()).await, Ok(Begun::Answered(answer("one"))));
    assert_eq!(state.begin([9; 32], body, now()).await, Ok(Begun::Fresh));
    thread.close();
    let (state, thread) = State::start(place(dir.path(), 3)).unwrap();
    assert_eq!(state.begin([9; 32], body, now()).await, Ok(Begun::Fresh));
    state.finish([9; 32], None).await.unwrap();
    assert_eq!(state.begin([9; 32], other, now()).await, Ok(Begun::Fresh), "as if it had never come");

    // A day later it is a new request.
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600 + 60);
    assert_eq!(state.begin(scope, other, tomorrow).await, Ok(Begun::Fresh));
    thread.close();
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (state, thread) = State::start(place(dir.path(), 1)).unwrap();
    state.begin([1; 32], [2; 32], now()).await.unwrap();
    state.finish([1; 32], Some(answer("kept"))).await.unwrap();
    state.remember("file-1", owner("k"), now()).unwrap();
    assert_eq!(state.owner("file-1").await, Ok(Some(owner("k"))));
    // The files as a killed process leaves them: its journal beside, nothing closed.
    let left = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), left.path().join(entry.file_name())).unwrap();
        }
    }
    thread.close();
    let (state, thread) = State::start(place(left.path(), 2)).unwrap();
    assert_eq!(state.begin([1; 32], [2; 32], now()).await, Ok(Begun::Answered(answer("kept"))));
    assert_eq!(state.owner("file-1").await, Ok(Some(owner("k"))));
    thread.close();
}

#[tokio::test]
async fn the_log_and_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (state, thread) = State::start(place(dir.path(), 1)).unwrap();
    let entry = |target: &str| Entry {
        at: at(1_700_000_000),
        who: "ops".into(),
        action: "PUT /api/providers/{provider}".into(),
        target: target.into(),
        request: "req".into(),
    };
    let first = state.intend(entry("openai")).await.unwrap();
    let second = state.intend(entry("groq")).await.unwrap();
    let outcome = Outcome { status: 409, code: "config_locked".into(), generation: 7, made: None };
    state.conclude(second, outcome.clone()).unwrap();
    let sight = Sight { hash: ConfigHash::of_bytes(b"x"), first: at(5), changed: at(6) };
    state.seen(vec![(KeyId::new("a"), sight)]).unwrap();
    assert_eq!(state.all_seen().await.unwrap(), [(KeyId::new("a"), sight)]);
    state.remember("f", owner("k"), now()).unwrap();
    state.remember("g", owner("l"), now()).unwrap();
    state.forget("g").unwrap();
    state.remember(&"x".repeat(1_000), owner("k"), now()).unwrap();
    let asked = vec!["g".into(), "f".into(), "x".repeat(1_000).into()];
    assert_eq!(state.owners(asked).await.unwrap(), [None, Some(owner("k")), None]);

    // Read beside the process that writes.
    let log = read_log(dir.path(), 10).unwrap();
    assert_eq!(
        log,
        [
            Recorded { number: first, entry: entry("openai"), outcome: None },
            Recorded { number: second, entry: entry("groq"), outcome: Some(outcome) },
        ]
    );
    assert_eq!(read_log(dir.path(), 1).unwrap().len(), 1);
    thread.close();
    assert!(read_log(&dir.path().join("absent"), 1).is_err());
}

#[tokio::test]
async fn a_file_that_cannot_be_had() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    std::fs::write(&path, "not a database at all, and long enough to be looked at as one".repeat(100)).unwrap();
    let (state, thread) = State::start(place(dir.path(), 1)).unwrap();
    assert_eq!(state.begin([1; 32], [2; 32], now()).await, Ok(Begun::Fresh));
    assert_eq!(state.begin([1; 32], [2; 32], now()).await, Ok(Begun::Running), "remembered in memory");
    let Standing::Memory { path: named, why } = state.standing() else { panic!("{:?}", state.standing()) };
    assert_eq!(named, path);
    assert!(why.contains("not a database"), "{why}");
    thread.close();
    let held = std::fs::read(&path).unwrap();
    assert!(held.starts_with(b"not a database"), "left as it was");

    std::fs::remove_file(&path).unwrap();
    let (state, thread) = State::start(place(dir.path(), 1)).unwrap();
    state.all_seen().await.unwrap();
    assert_eq!(state.standing(), Standing::File { path: path.clone() });
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    thread.close();

    let refuses = Place { prepare: Box::new(|| Err(io::Error::other("read-only"))), ..place(dir.path(), 1) };
    let (state, thread) = State::start(refuses).unwrap();
    state.all_seen().await.unwrap();
    assert_eq!(state.standing(), Standing::Memory { path, why: "read-only".to_owned() });
    thread.close();
}

#[tokio::test]
async fn a_locked_file_is_waited_for_in_memory_and_gets_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (state, thread) = State::start(place(dir.path(), 1)).unwrap();
    state.begin([1; 32], [1; 32], now()).await.unwrap();
    state.finish([1; 32], Some(answer("before"))).await.unwrap();
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let entry = Entry { at: at(1), who: "ops".into(), action: "a".into(), target: "t".into(), request: "r".into() };
    assert_eq!(state.intend(entry).await, Ok(1));
    assert!(matches!(state.standing(), Standing::Memory { .. }));
    assert_eq!(state.begin([1; 32], [1; 32], now()).await, Ok(Begun::Answered(answer("before"))), "taken along");
    state.begin([2; 32], [2; 32], now()).await.unwrap();
    state.finish([2; 32], Some(answer("meanwhile"))).await.unwrap();
    holder.execute_batch("ROLLBACK").unwrap();
    thread.close();

    // What the thread does when its time has come.
    let mut memory = file::in_memory(3).unwrap();
    replay::begin(&memory, &[1; 16], (&[3; 32], &[3; 32]), now()).unwrap();
    replay::finish(&memory, &[3; 32], Some(&answer("memory"))).unwrap();
    let entry = Entry { at: at(1), who: "ops".into(), action: "a".into(), target: "t".into(), request: "r".into() };
    assert_eq!(audit::intend(&memory, &entry).unwrap(), 4);
    file::bring_back(&mut memory, dir.path(), &[1; 16]).unwrap();
    let (state, thread) = State::start(place(dir.path(), 2)).unwrap();
    assert_eq!(state.begin([3; 32], [3; 32], now()).await, Ok(Begun::Answered(answer("memory"))));
    thread.close();
    assert_eq!(read_log(dir.path(), 9).unwrap().len(), 1);
}

#[test]
fn tables_are_bounded() {
    let memory = file::in_memory(0).unwrap();
    for n in 0..20u8 {
        let when = now() - Duration::from_secs(u64::from(n));
        replay::begin(&memory, &[1; 16], (&[n; 32], &[0; 32]), when).unwrap();
        ids::put(&memory, &format!("id-{n}"), &owner("k"), when).unwrap();
        let sight = Sight { hash: ConfigHash::of_bytes(b""), first: when, changed: when };
        seen::put(&memory, &[(KeyId::new(format!("k{n}")), sight)]).unwrap();
        let entry = Entry { at: when, who: "o".into(), action: "a".into(), target: "t".into(), request: "r".into() };
        audit::intend(&memory, &entry).unwrap();
    }
    replay::trim(&memory, SystemTime::now(), 5).unwrap();
    ids::trim(&memory, 5).unwrap();
    seen::trim(&memory, 5).unwrap();
    audit::trim(&memory, 5).unwrap();
    for table in ["replay", "ids", "seen", "audit"] {
        let rows: i64 = memory.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 5, "{table}");
    }
    assert!(ids::owner(&memory, "id-0").unwrap().is_some(), "the newest stays");
    assert!(ids::owner(&memory, "id-19").unwrap().is_none());
    assert_eq!(audit::newest(&memory, 99).unwrap().first().map(|it| it.number), Some(16));
}
