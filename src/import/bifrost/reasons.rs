//! Why a member of Bifrost's has no place here: one line each.

/// Members and reasons.
pub(super) type Table = &'static [(&'static str, &'static str)];

/// The reason of a member, or that there is none in particular.
pub(super) fn of(table: Table, member: &str) -> &'static str {
    table.iter().find(|(name, _)| *name == member).map_or("there is nothing like it here", |(_, why)| *why)
}

pub(super) const SECTIONS: Table = &[
    ("$schema", "names another schema; `keyway schema --write` writes the one of this file"),
    ("source_of_truth", "the file is the only truth here"),
    ("encryption_key", "there is no database to encrypt"),
    ("config_store", "there is no database: the file is all there is"),
    ("logs_store", "requests are not stored; one access-log line each goes to standard output"),
    ("vector_store", "there is no semantic cache"),
    ("plugins", "there are no plugins"),
    ("mcp", "tools are the application's; no tool is called from here"),
    ("auth_config", "management takes tokens: `keyway token new management`"),
    ("framework", "no price list is fetched"),
    ("websocket", "there are no realtime sessions"),
    ("env_label", "there is no user interface"),
    ("cluster_config", "gateways do not talk to each other; each reads its own file"),
    ("guardrails_config", "contents are not judged"),
];

pub(super) const GOVERNANCE: Table = &[
    ("virtual_keys", "make a project for each, with a key of its own: `keyway token new project`"),
    ("budgets", "write `budgets` at a project"),
    ("rate_limits", "write `rate_limit_per_minute` at a project's key"),
    ("customers", "projects are not grouped"),
    ("teams", "projects are not grouped"),
    ("routing_rules", "write a route: `routes.@name` with its targets"),
    ("auth_config", "management takes tokens: `keyway token new management`"),
    ("model_configs", "limits are those of projects, not of models"),
    ("providers", "limits are those of projects, not of providers"),
    ("pricing_overrides", "write `prices`"),
];

pub(super) const CLIENT: Table = &[
    ("initial_pool_size", "memory is not pooled ahead"),
    ("drop_excess_requests", "requests wait in no queue: over `server.limits.in_flight_max` they are answered at once"),
    ("enable_logging", "requests are not stored; see `observability.access_log`"),
    ("log_retention_days", "requests are not stored"),
    ("allowed_origins", "no browser is spoken to across origins"),
    ("enforce_auth_on_inference", "with `projects`, every call needs a key; without, only this machine may call"),
    ("enforce_governance_header", "with `projects`, every call needs a key; without, only this machine may call"),
    ("allow_direct_keys", "callers cannot bring a provider's key"),
    ("prometheus_labels", "labels of metrics are fixed"),
    ("header_filter_config", "which headers travel is fixed"),
    ("compat", "requests are not rewritten"),
];

pub(super) const PROVIDER: Table = &[
    ("concurrency_and_buffer_size", "requests wait in no queue; `server.limits.in_flight_max` bounds them all"),
    ("prompt_cache", "requests are not rewritten"),
    ("pricing_overrides", "write `prices`"),
    ("status", "given by an API, not configured"),
    ("description", "given by an API, not configured"),
    ("config_hash", "given by an API, not configured"),
];

pub(super) const KEY: Table = &[
    ("config_hash", "given by an API, not configured"),
    ("status", "given by an API, not configured"),
    ("description", "given by an API, not configured"),
    ("bedrock_mantle_key_config", "this provider is not known here"),
];
