//! `general_settings`, `router_settings`, `litellm_settings` and the other sections.

use super::deployment::secret;
use crate::import::findings::Findings;
use crate::import::out::{Out, OutKind};
use crate::import::source::At;

/// Members and reasons.
type Table = &'static [(&'static str, &'static str)];

const NONE: &str = "there is nothing like it here";

/// Members that are taken, here or in `routes` and `deployment`.
const TAKEN: [&str; 6] = ["fallbacks", "num_retries", "timeout", "request_timeout", "model_group_alias", "master_key"];

const SECTIONS: Table = &[
    ("environment_variables", "set them in the environment; nothing is exported from a config"),
    ("include", "import each of these files by itself"),
    ("guardrails", "contents are not judged"),
    ("prompts", "requests are sent as the caller wrote them"),
    ("mcp_servers", "tools are the application's; no tool is called from here"),
    ("vector_store_registry", "there are no vector stores"),
    ("callback_settings", "nobody is called back; see `/metrics` and the access log"),
];

const ROUTER: Table = &[
    ("routing_strategy", "keys share by weight; one that fails or is limited rests"),
    ("routing_strategy_args", "keys share by weight; one that fails or is limited rests"),
    ("allowed_fails", "when a key rests, and for how long, follows from the answer"),
    ("cooldown_time", "when a key rests, and for how long, follows from the answer"),
    ("retry_after", "the provider's own Retry-After is kept"),
    ("retry_policy", "what is tried again follows from the answer"),
    ("redis_host", "each gateway keeps its own counts"),
    ("redis_port", "each gateway keeps its own counts"),
    ("redis_password", "each gateway keeps its own counts"),
    ("redis_url", "each gateway keeps its own counts"),
    ("context_window_fallbacks", "an answer that blames the request goes to the caller"),
    ("content_policy_fallbacks", "an answer that blames the request goes to the caller"),
    ("default_fallbacks", "name them in each route: `routes.@name`"),
    ("enable_pre_call_checks", "requests are not looked into"),
    ("stream_timeout", "write `stream_idle_timeout_in_seconds` in `network_config`"),
    ("drop_params", "requests are sent as the caller wrote them"),
    ("modify_params", "requests are sent as the caller wrote them"),
    ("cache", "answers are not cached"),
    ("cache_params", "answers are not cached"),
    ("success_callback", "nobody is called back; see `/metrics` and the access log"),
    ("failure_callback", "nobody is called back; see `/metrics` and the access log"),
    ("callbacks", "nobody is called back; see `/metrics` and the access log"),
    ("set_verbose", "see `observability.log_level`"),
    ("json_logs", "logs are JSON wherever they do not go to a terminal"),
    ("ssl_verify", "trust is a provider's: `ca_cert_pem` or `insecure_skip_verify` in `network_config`"),
    ("max_budget", "budgets are a project's"),
    ("budget_duration", "budgets are a project's"),
];

const GENERAL: Table = &[
    ("database_url", "there is no database: the file is all there is"),
    ("store_model_in_db", "there is no database: the file is all there is"),
    ("alerting", "nobody is alerted; see `/metrics`"),
    ("max_parallel_requests", "see `server.limits.in_flight_max`"),
    ("global_max_parallel_requests", "see `server.limits.in_flight_max`"),
    ("max_request_size_mb", "see `server.limits.request_body_mb_max`"),
    ("ui_access_mode", "there is no user interface"),
    ("salt_key", "there is no database to encrypt"),
];

/// `master_key` opened everything; here it opens management, and callers get keys of their own.
pub(super) fn management(root: &At<'_>, out: &mut Out, findings: &mut Findings) {
    let Some(at) = root.get("general_settings").and_then(|it| it.get("master_key")) else { return };
    let Some(value) = secret(&at) else { return };
    findings.changed(&at, "opens management alone; callers need a key of a project: `keyway token new project`");
    let mut key = Out::object(&at);
    key.set("name", Out::text("master", &at));
    key.set("value", value);
    let mut management = Out::object(&at);
    management.set("keys", Out::list(vec![key], &at));
    out.set("management", management);
}

/// What is said once for all deployments is said at each provider.
pub(super) fn network(root: &At<'_>, mut providers: Out, findings: &mut Findings) -> Out {
    let find = |names: &[(&str, &str)]| names.iter().find_map(|(section, name)| root.get(section)?.get(name));
    let timeout = find(&[("router_settings", "timeout"), ("litellm_settings", "request_timeout")]);
    let retries = find(&[("router_settings", "num_retries"), ("litellm_settings", "num_retries")]);
    let seconds = timeout.as_ref().and_then(|at| at.number()).filter(|seconds| *seconds > 0.0);
    let count = retries.as_ref().and_then(|at| at.number()).filter(|count| *count > 0.0);
    if let Some(at) = timeout.as_ref().filter(|_| seconds.is_some()) {
        findings
            .changed(at, "now `network_config.default_request_timeout_in_seconds`; bounds the time to the first byte");
    }
    let OutKind::Object(members) = &mut providers.kind else { return providers };
    for (_, provider) in members {
        let mut set = |name: &str, at: &Option<At<'_>>, number: Option<f64>| {
            if let (Some(at), Some(number)) = (at, number)
                && let Some(network) = provider.entry("network_config", at)
            {
                network.set(name, Out::new(OutKind::Number(format!("{:.0}", number.ceil())), at));
            }
        };
        set("default_request_timeout_in_seconds", &timeout, seconds);
        set("max_retries", &retries, count);
    }
    providers
}

/// Everything that has no place here.
pub(super) fn report(root: &At<'_>, findings: &mut Findings) {
    for (name, at) in root.members().into_iter().filter(|(_, at)| !at.is_empty()) {
        match name {
            "model_list" | "credential_list" => {}
            "router_settings" | "litellm_settings" => members(&at, ROUTER, findings),
            "general_settings" => members(&at, GENERAL, findings),
            _ => findings.dropped(&at, reason(SECTIONS, name)),
        }
    }
}

fn members(section: &At<'_>, table: Table, findings: &mut Findings) {
    for (name, at) in section.members() {
        let asks_for_nothing = at.is_empty() || at.flag() == Some(false);
        // The strategy that there is.
        let is_ours = name == "routing_strategy" && at.text() == Some("simple-shuffle");
        if !TAKEN.contains(&name) && !asks_for_nothing && !is_ours {
            findings.dropped(&at, reason(table, name));
        }
    }
}

fn reason(table: Table, name: &str) -> &'static str {
    table.iter().find(|(member, _)| *member == name).map_or(NONE, |(_, why)| *why)
}
