//! What a test needs of the machine, and how it says that the machine does not have it.

use std::io::Write as _;

/// Says so and lets the test pass, which KEYWAY_REQUIRE_ALL=1 does not. `line` holds `not run: `,
/// by which `make test` counts it.
#[track_caller]
pub fn not_run(line: &str) {
    say(line);
    let all = std::env::var_os("KEYWAY_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!all, "KEYWAY_REQUIRE_ALL=1 and {line}");
}

/// To the terminal, past the harness that keeps the output of passing tests to itself.
pub fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// `KEYWAY_LONG` makes the tests of chance long ones.
pub fn is_long() -> bool {
    std::env::var_os("KEYWAY_LONG").is_some()
}
