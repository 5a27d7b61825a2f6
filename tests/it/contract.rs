//! The served OpenAPI document, held against the gateway that serves it: the document by a
//! validator, the gateway by requests that schemathesis makes of the document, valid ones and
//! invalid ones, with every check that it has.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::client::{request, send};
use crate::support::gateway::{Gateway, launch};
use crate::support::is_long;
use crate::support::needs::say;
use crate::support::suite::{ROOT, finish, installed, number_before};

const SUITE_MAX: Duration = Duration::from_secs(900);
const MANAGER: &str = "mlx_mk_00000000000000000000000000000000000002woz6J";
const CONFIG: &str = r#"{
  // Put back by tests/contract/hooks.py when a request has deleted from it.
  "server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false},
  "management": {"keys": [{"name": "ops", "value": "env.KW_MANAGER"}], "rate_limit_per_minute": 1000000, "allowed_origins": ["http://127.0.0.1:1"]},
  "providers": {
    "openai": {"network_config": {"base_url": "http://127.0.0.1:1"}, "keys": [
      {"id": "main", "name": "main", "value": "env.OPENAI_API_KEY"}, {"id": "spare", "name": "spare", "value": "env.OPENAI_API_KEY"}]},
    "box": {"custom_provider_config": {"base_provider_type": "openai"}, "network_config": {"base_url": "http://127.0.0.1:1"},
      "keys": [{"id": "lit", "value": "sk-literal-0123456789abcdef", "aliases": {"a": "b"}}]},
    "mock": {}
  }
}
"#;

/// A provider that the example creates must not be asked for its models: it is a real one.
const NEVER_CALLED: &str = r#"
[[operations]]
include-path-regex = "refresh-models$"
parameters = {"path.provider" = ["openai", "box", "mock"]}
"#;

/// Half of all requests, for the longest of all bodies: with `KEYWAY_LONG=1`.
const SHORT: &str = r#"
[[operations]]
include-name = "POST /api/providers"
phases.coverage.enabled = false
"#;

fn start() -> Gateway {
    let env = [("KW_MANAGER", MANAGER), ("OPENAI_API_KEY", "sk-0123456789"), ("VLLM_API_KEY", "sk-9876543210")];
    let gateway = env.into_iter().fold(launch(CONFIG), |launch, (name, value)| launch.env(name, value)).start();
    std::fs::write(gateway.config_path().with_extension("json.kept"), CONFIG).unwrap();
    gateway
}

fn tool(name: &str) -> Option<Command> {
    let path = Path::new(ROOT).join(".cache/contract/bin").join(name);
    installed("contract", &path, ".cache/contract/.installed", "python3").then(|| Command::new(path))
}

#[tokio::test]
async fn the_document_is_one_and_is_the_committed_one() {
    let gateway = start();
    let headers = [("authorization", &*format!("Bearer {MANAGER}"))];
    let served = send(request(http::Method::GET, &gateway.url("/api/openapi.json"), &headers, "")).await;
    assert_eq!((served.status.as_u16(), served.header("content-type")), (200, "application/json"));
    let committed = std::fs::read_to_string(Path::new(ROOT).join("schemas/openapi.json")).unwrap();
    assert!(served.json() == serde_json::from_str::<serde_json::Value>(&committed).unwrap(), "run `make schema`");
    let Some(mut python) = tool("python") else { return };
    let path = gateway.dir().join("openapi.json");
    std::fs::write(&path, &served.body).unwrap();
    let (ok, output) = finish(python.args(["-m", "openapi_spec_validator"]).arg(&path), SUITE_MAX);
    assert!(ok, "{output}");
}

#[test]
fn every_answer_is_one_that_the_document_names() {
    let Some(mut schemathesis) = tool("schemathesis") else { return };
    let gateway = start();
    let settings = gateway.dir().join("schemathesis.toml");
    let common = std::fs::read_to_string(Path::new(ROOT).join("tests/contract/schemathesis.toml")).unwrap();
    std::fs::write(&settings, format!("{common}{NEVER_CALLED}{}", if is_long() { "" } else { SHORT })).unwrap();
    schemathesis.arg("--config-file").arg(&settings);
    schemathesis.args(["run", "--checks", "all", "--no-shrink", "--workers", "1"]);
    schemathesis.args(["--max-examples", if is_long() { "300" } else { "5" }]);
    schemathesis.arg("--header").arg(format!("Authorization: Bearer {MANAGER}"));
    schemathesis.arg(gateway.url("/api/openapi.json"));
    schemathesis.env("KEYWAY_CONFIG_PATH", gateway.config_path()).env("KEYWAY_MANAGEMENT_TOKEN", MANAGER);
    schemathesis.env("PYTHONDONTWRITEBYTECODE", "1");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        schemathesis.env_remove(name);
    }
    let (ok, output) = finish(&mut schemathesis, SUITE_MAX);
    // "  6907 generated, 6907 passed, 32 skipped"
    let summary = output.lines().rev().find(|line| line.contains(" generated, ")).unwrap_or_default();
    let passed = number_before(summary, "passed");
    say(&format!("contract: {passed} requests passed"));
    assert!(ok && !gateway.output().contains("panicked"), "{output}\n{}", gateway.output());
    assert!(passed > 3000 && passed == number_before(summary, "generated"), "{output}");
    let selected = output.lines().find(|line| line.contains("Selected:")).unwrap_or_default();
    // All but the document itself, which has been read.
    assert!(selected.ends_with(&format!("{0}/{0}", keyway::router::ADMIN.len() - 1)), "{selected}");
}
