//! A process that writes, and is killed in the midst of it: kill -9, on the disk of the machine.
//!
//! The process is this test binary, asked for one test. `KEYWAY_LONG=1` kills 2 000 times.

use std::io::{BufRead as _, BufReader};
use std::process::{Command as Process, Stdio};

use super::*;

const KILLS: u32 = 40;
const KILLS_LONG: u32 = 2_000;
/// Longest life of a process after its first write, in microseconds.
const LIFE_MAX: u64 = 20_000;
/// Where the child finds its config.
const DIRECTORY: &str = "KEYWAY_TEST_KILL_DIRECTORY";
/// A child that nobody kills ends by itself.
const WRITES_MAX: u32 = 20_000;

fn text(weight: u32) -> String {
    // Long enough that a write is no single moment.
    let padding: String =
        (0..400).map(|line| format!("// line {line} of a comment that stays where it is\n")).collect();
    text_of(&[("a", weight)]) + &padding
}

/// Writes one weight after the other, and says so. No test of its own.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let path = Path::new(&directory).join("config.json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (mut writer, store) = Writer::start(options(&path, Arc::new(SystemDisk), &Told::default())).unwrap();
        let (_, weight) = weights(&store.generation().document)[0].clone();
        let first = format!("{weight}").parse::<u32>().unwrap() + 1;
        for weight in first..first + WRITES_MAX {
            writer.apply(Box::new(KeyChange::weight("a", weight))).await.unwrap();
            println!("wrote {weight}.");
        }
    });
}

#[test]
fn killed_at_any_moment() {
    let kills = if std::env::var_os("KEYWAY_LONG").is_some() { KILLS_LONG } else { KILLS };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, text(1)).unwrap();
    let (mut answered, mut left, mut ahead) = (1, 0, 0);
    for _ in 0..kills {
        let mut process = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::apply_tests::kill::child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let number = |line: &str| line.split_once("wrote ")?.1.strip_suffix('.')?.parse::<u32>().ok();
        answered = lines.find_map(|line| number(&line)).expect("the child writes");
        // Not for order: any moment is as good as any other.
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..LIFE_MAX)));
        process.kill().unwrap();
        process.wait().unwrap();
        answered = lines.filter_map(|line| number(&line)).last().unwrap_or(answered);

        let found = std::fs::read_to_string(&path).unwrap();
        let next = text(answered + 1);
        assert!(found == text(answered) || found == next, "answered {answered}\n{found}");
        ahead += u32::from(found == next);
        left += names(dir.path()).len() - 1;
        let started = Writer::start(options(&path, Arc::new(SystemDisk), &Told::default()));
        assert_eq!(started.unwrap().1.generation().document.tree.text(), found);
        assert_eq!(names(dir.path()), ["config.json"]);
    }
    println!(
        "kill -9: {kills}, {answered} writes, {left} temporary files left and removed, {ahead} written and not answered"
    );
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
