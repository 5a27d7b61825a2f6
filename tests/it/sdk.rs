//! The official SDKs, unmodified, against the real binary: tests/sdk/{python,node}.
//!
//! Each language has gateways and a mock of its own, so that what one leaves open at the upstream is
//! not counted by the other. The clients are installed by `make tools` into ./.cache; where they are
//! missing the test says so and passes, unless KEYWAY_REQUIRE_ALL=1.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::gateway::{Gateway, Mock};
use crate::support::needs::{not_run, say};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A suite takes seconds; what hangs is ended and shown.
const SUITE_MAX: Duration = Duration::from_secs(240);

/// Opens the gateway with projects.
const PROJECT_KEY: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";

#[test]
fn python() {
    let interpreter = Path::new(ROOT).join(".cache/venv/bin/python");
    if !installed("python", &interpreter, ".cache/venv/.installed", "python3") {
        return;
    }
    let mut command = Command::new(interpreter);
    command.args(["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "tests/sdk/python"]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let (ok, output) = Stage::start().run(&mut command);
    // "3 failed, 40 passed in 4.51s"
    let summary = output.lines().rev().find(|line| line.contains(" in ")).unwrap_or_default();
    report("python", ok, number_before(summary, "passed"), number_before(summary, "failed"), &output);
}

#[test]
fn node() {
    let installation = Path::new(ROOT).join(".cache/node/node_modules");
    if !installed("node", &installation, ".cache/node/.installed", "node and npm") {
        return;
    }
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=tap", "--test-concurrency=1"]);
    command.args(["tests/sdk/node/openai.test.mjs", "tests/sdk/node/vercel.test.mjs"]);
    let (ok, output) = Stage::start().run(&mut command);
    // "# pass 31"
    let count = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(&format!("# {name} ")));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    report("node", ok, count("pass"), count("fail"), &output);
}

/// An upstream, a gateway before it, one with the upstream inside, one that asks for a key.
struct Stage {
    mock: Mock,
    tcp: Gateway,
    embedded: Gateway,
    project: Gateway,
}

impl Stage {
    fn start() -> Self {
        let mock = Mock::start();
        let providers = format!(
            r#""providers": {{
                "openai": {{
                    "keys": [{{"name": "main", "value": "sk-upstream-0123456789abcdef", "use_for_batch_api": true}}],
                    "network_config": {{"base_url": "{base}"}}
                }},
                "spare": {{
                    "keys": [{{"name": "refused", "value": "sk-upstream-refused-0123456789"}}],
                    "custom_provider_config": {{"base_provider_type": "openai"}},
                    "network_config": {{"base_url": "{base}"}}
                }}
            }}"#,
            base = mock.base()
        );
        let server = r#""server": {"listen": ["127.0.0.1:0"]}"#;
        let projects =
            format!(r#""projects": [{{"id": "app", "keys": [{{"name": "ci", "value": "{PROJECT_KEY}"}}]}}]"#);
        Self {
            tcp: Gateway::start(format!("{{{server}, {providers}}}")),
            embedded: Gateway::start(format!("{{{server}, \"providers\": {{\"mock\": {{}}}}}}")),
            project: Gateway::start(format!("{{{server}, {providers}, {projects}}}")),
            mock,
        }
    }

    /// Runs a suite to its end: whether it passed, and what it printed.
    fn run(&self, command: &mut Command) -> (bool, String) {
        command.current_dir(ROOT);
        command.env("KEYWAY_TCP_URL", self.tcp.base());
        command.env("KEYWAY_EMBEDDED_URL", self.embedded.base());
        command.env("KEYWAY_PROJECT_URL", self.project.base());
        command.env("KEYWAY_PROJECT_KEY", PROJECT_KEY);
        command.env("KEYWAY_MOCK_URL", self.mock.base());
        // The clients must find neither a developer's key nor his proxy.
        for name in ["OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        let mut output = tempfile::tempfile().unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let started = Instant::now();
        let ok = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.success();
            }
            if started.elapsed() > SUITE_MAX {
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut text = String::new();
        std::io::Seek::rewind(&mut output).unwrap();
        std::io::Read::read_to_string(&mut output, &mut text).unwrap();
        (ok, text)
    }
}

/// False when the clients are not there, which only KEYWAY_REQUIRE_ALL=1 makes a failure.
#[track_caller]
fn installed(language: &str, file: &Path, stamp: &str, needs: &str) -> bool {
    if file.exists() && Path::new(ROOT).join(stamp).exists() {
        return true;
    }
    not_run(&format!("sdk {language}: not run: needs {needs} and `make tools`"));
    false
}

#[track_caller]
fn report(language: &str, ok: bool, passed: usize, failed: usize, output: &str) {
    say(&format!("sdk {language}: {passed} passed, {failed} failed"));
    assert!(ok && failed == 0, "the {language} suite failed:\n{output}");
    assert!(passed > 20, "the {language} suite ran {passed} tests:\n{output}");
}

/// The number before `word`, 0 when it is not there.
fn number_before(line: &str, word: &str) -> usize {
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}
