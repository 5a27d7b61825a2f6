//! A suite in another language: whether its tools are here, and a run of it to its end.
//!
//! Tools are installed by `make tools` into ./.cache; where they are missing the test says so and
//! passes, unless KEYWAY_REQUIRE_ALL=1.

use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::needs::not_run;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// False when `file` or the stamp of its installation is not there, which only KEYWAY_REQUIRE_ALL=1
/// makes a failure.
#[track_caller]
pub fn installed(what: &str, file: &Path, stamp: &str, needs: &str) -> bool {
    if file.exists() && Path::new(ROOT).join(stamp).exists() {
        return true;
    }
    not_run(&format!("{what}: not run: needs {needs} and `make tools`"));
    false
}

/// Runs it from the root of the checkout: whether it passed, and what it printed.
pub fn finish(command: &mut Command, at_most: Duration) -> (bool, String) {
    let mut output = tempfile::tempfile().unwrap();
    command.current_dir(ROOT);
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let started = Instant::now();
    let ok = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.success();
        }
        if started.elapsed() > at_most {
            let _ = child.kill();
            let _ = child.wait();
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    (ok, text)
}

/// The number before `word`, 0 when it is not there.
pub fn number_before(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}
