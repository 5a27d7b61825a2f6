//! The official SDKs, unmodified, against the real binary: tests/sdk/{python,node}.
//!
//! Each language has gateways and a mock of its own, so that what one leaves open at the upstream is
//! not counted by the other. The clients are installed by `make tools` into ./.cache; where they are
//! missing the test says so and passes, unless KEYWAY_REQUIRE_ALL=1.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::gateway::{Gateway, Mock};
use crate::support::needs::say;
use crate::support::suite::{ROOT, finish, installed, number_before};

/// A suite takes seconds; what hangs is ended and shown.
const SUITE_MAX: Duration = Duration::from_secs(240);

/// Opens the gateway with projects.
const PROJECT_KEY: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";

#[test]
fn python() {
    let interpreter = Path::new(ROOT).join(".cache/venv/bin/python");
    if !installed("sdk python", &interpreter, ".cache/venv/.installed", "python3") {
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
    if !installed("sdk node", &installation, ".cache/node/.installed", "node and npm") {
        return;
    }
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=tap", "--test-concurrency=1"]);
    for suite in ["openai", "vercel", "anthropic", "gemini", "bedrock"] {
        command.arg(format!("tests/sdk/node/{suite}.test.mjs"));
    }
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
                "anthropic": {{
                    "keys": [{{"name": "claude", "value": "sk-ant-upstream-0123456789", "use_for_batch_api": true}}],
                    "network_config": {{"base_url": "{base}"}}
                }},
                "claude-spare": {{
                    "keys": [{{"name": "refused", "value": "sk-ant-refused-0123456789"}}],
                    "custom_provider_config": {{"base_provider_type": "anthropic"}},
                    "network_config": {{"base_url": "{base}"}}
                }},
                "gemini": {{
                    "keys": [{{"name": "goog", "value": "goog-upstream-0123456789", "use_for_batch_api": true}}],
                    "network_config": {{"base_url": "{base}"}}
                }},
                "gemini-spare": {{
                    "keys": [{{"name": "refused", "value": "goog-refused-0123456789"}}],
                    "custom_provider_config": {{"base_provider_type": "gemini"}},
                    "network_config": {{"base_url": "{base}"}}
                }},
                "bedrock": {{
                    "keys": [{{"name": "aws", "bedrock_key_config": {{
                        "region": "us-east-1", "access_key": "AKIDUPSTREAM", "secret_key": "secret-of-AKIDUPSTREAM"
                    }}}}],
                    "network_config": {{"base_url": "{base}"}}
                }},
                "bedrock-spare": {{
                    "keys": [{{"name": "refused", "value": "bedrock-refused-0123456789"}}],
                    "custom_provider_config": {{"base_provider_type": "bedrock"}},
                    "network_config": {{"base_url": "{base}"}}
                }},
                "azure": {{
                    "keys": [{{"name": "main", "value": "azure-upstream-0123456789", "use_for_batch_api": true,
                        "azure_key_config": {{"endpoint": "{base}", "api_version": "2024-10-21"}}}}]
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
        command.env("KEYWAY_TCP_URL", self.tcp.base());
        command.env("KEYWAY_EMBEDDED_URL", self.embedded.base());
        command.env("KEYWAY_PROJECT_URL", self.project.base());
        command.env("KEYWAY_PROJECT_KEY", PROJECT_KEY);
        command.env("KEYWAY_MOCK_URL", self.mock.base());
        // The clients must find neither a developer's key nor his proxy.
        for name in [
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        finish(command, SUITE_MAX)
    }
}

#[track_caller]
fn report(language: &str, ok: bool, passed: usize, failed: usize, output: &str) {
    say(&format!("sdk {language}: {passed} passed, {failed} failed"));
    assert!(ok && failed == 0, "the {language} suite failed:\n{output}");
    assert!(passed > 20, "the {language} suite ran {passed} tests:\n{output}");
}
