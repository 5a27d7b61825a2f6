//! Shapes of what the management routes answer, as schemas. A route that answers with something else
//! than its shape says is a bug of the route.

use serde_json::{Value, json};

use super::reference;

/// By name of the component.
pub(super) fn answers() -> [(&'static str, Value); 33] {
    [
        ("Object", json!({"type": "object"})),
        ("Document", json!({"description": "A config.json; comments and trailing commas are accepted."})),
        ("SecretView", secret_view()),
        ("KeyView", key_view()),
        ("Keys", object(&["keys", "total"], json!({"keys": list("KeyView"), "total": whole()}))),
        ("KeyEntry", key_entry()),
        ("KeyEntries", list("KeyEntry")),
        ("ProviderView", provider_view()),
        ("Providers", object(&["providers", "total"], json!({"providers": list("ProviderView"), "total": whole()}))),
        ("Named", object(&["name"], json!({"name": text()}))),
        ("Probe", probe()),
        (
            "Probes",
            object(
                &["provider", "keys", "total"],
                json!({"provider": text(), "keys": list("Probe"), "total": whole()}),
            ),
        ),
        ("Problem", problem()),
        (
            "Check",
            object(
                &["valid", "hash", "problems"],
                json!({"valid": {"type": "boolean"}, "hash": text(), "problems": list("Problem")}),
            ),
        ),
        ("Reload", reload()),
        ("Explained", explained()),
        (
            "Explanation",
            object(
                &["model", "project", "generation", "keys"],
                json!({
                    "model": text(), "project": {"type": ["string", "null"]}, "generation": whole(),
                    "keys": list("Explained"),
                }),
            ),
        ),
        ("Error", error()),
        ("PlainError", plain_error()),
        ("Ok", object(&["ok"], json!({"ok": {"const": true}}))),
        ("CatalogueEntry", catalogue_entry()),
        ("Catalogue", object(&["data"], json!({"data": list("CatalogueEntry")}))),
        ("Connection", connection()),
        ("Connections", object(&["data"], json!({"data": list("Connection")}))),
        ("NewConnection", connection_body(&["provider", "api_key"])),
        ("ConnectionChange", connection_body(&[])),
        ("Credential", credential()),
        ("Credentials", page("Credential")),
        ("CredentialHealth", credential_health()),
        ("NewCredential", credential_body(&["vendor", "name"])),
        ("CredentialChange", credential_body(&[])),
        (
            "RpcMessage",
            object(
                &["jsonrpc", "method"],
                json!({
                    "jsonrpc": {"const": "2.0"}, "id": {"type": ["string", "integer"]}, "method": text(),
                    "params": {"type": "object"},
                }),
            ),
        ),
        ("Deleted", object(&["id", "deleted"], json!({"id": text(), "deleted": {"const": true}}))),
    ]
}

fn text() -> Value {
    json!({"type": "string"})
}

fn texts() -> Value {
    json!({"type": "array", "items": text()})
}

fn whole() -> Value {
    json!({"type": "integer"})
}

fn list(name: &str) -> Value {
    json!({"type": "array", "items": reference(name)})
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

/// An object with no other members.
fn closed(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

fn status() -> Value {
    json!({"enum": [
        "unknown", "success", "list_models_failed", "env_missing", "file_unreadable", "sealed_unreadable", "incomplete",
        "unauthorized", "cooling", "disabled",
    ]})
}

fn secret_view() -> Value {
    object(
        &["value", "env_var", "from_env"],
        json!({
            "value": {"type": "string", "description": "A mask, or empty for a reference."},
            "env_var": text(), "from_env": {"type": "boolean"}, "file": text(),
        }),
    )
}

fn key_view() -> Value {
    object(
        &[
            "id",
            "name",
            "value",
            "models",
            "blacklisted_models",
            "weight",
            "priority",
            "aliases",
            "enabled",
            "use_for_batch_api",
            "config_hash",
            "status",
            "description",
            "created_at",
            "updated_at",
        ],
        json!({
            "id": text(), "name": text(), "value": reference("SecretView"), "base_url": reference("SecretView"),
            "models": texts(), "blacklisted_models": texts(),
            "weight": {"type": "number", "minimum": 0}, "priority": {"type": "integer", "minimum": 0, "maximum": 1000},
            "aliases": {"type": "object"}, "enabled": {"type": "boolean"}, "use_for_batch_api": {"type": "boolean"},
            "config_hash": text(), "status": status(), "description": text(),
            "created_at": {"type": "string", "format": "date-time"},
            "updated_at": {"type": "string", "format": "date-time"},
        }),
    )
}

fn key_entry() -> Value {
    object(
        &["key_id", "name", "provider", "models", "blacklisted_models", "weight", "priority", "enabled", "config_hash"],
        json!({
            "key_id": text(), "name": text(), "provider": text(), "models": texts(), "blacklisted_models": texts(),
            "weight": {"type": "number"}, "priority": whole(), "enabled": {"type": "boolean"}, "config_hash": text(),
        }),
    )
}

fn provider_view() -> Value {
    object(
        &["name", "provider_status", "status", "description", "config_hash"],
        json!({
            "name": text(), "provider_status": {"enum": ["active", "error"]}, "status": status(),
            "description": text(), "config_hash": text(),
        }),
    )
}

fn probe() -> Value {
    object(
        &["provider", "key_id", "key", "status", "description", "error", "models", "total"],
        json!({
            "provider": text(), "key_id": text(), "key": text(), "status": status(), "description": text(),
            "error": {"enum": ["unauthorized", "unreachable", "timeout", "unexpected", null]},
            "models": texts(), "total": whole(),
        }),
    )
}

fn problem() -> Value {
    object(
        &["severity", "code", "pointer", "line", "column", "message", "hint"],
        json!({
            "severity": {"enum": ["error", "warning"]}, "code": text(), "pointer": text(), "line": whole(),
            "column": whole(), "message": text(), "hint": {"type": ["string", "null"]},
        }),
    )
}

fn reload() -> Value {
    object(
        &["at", "result", "generation", "hash", "problems", "took_ms"],
        json!({
            "at": text(), "result": {"enum": ["applied", "unchanged", "refused"]}, "generation": whole(),
            "hash": {"type": ["string", "null"]}, "problems": list("Problem"), "took_ms": whole(),
        }),
    )
}

fn explained() -> Value {
    object(
        &["provider", "key_id", "key", "priority", "model", "upstream_model", "eligible", "share", "reason", "detail"],
        json!({
            "provider": text(), "key_id": text(), "key": text(), "priority": whole(),
            "model": {"type": ["string", "null"]}, "upstream_model": {"type": ["string", "null"]},
            "eligible": {"type": "boolean"}, "share": {"type": "number", "minimum": 0, "maximum": 1},
            "reason": text(), "detail": text(),
        }),
    )
}

fn error() -> Value {
    let inner = json!({"type": text(), "code": text(), "message": text(), "param": text(), "event_id": text()});
    object(
        &["event_id", "type", "is_bifrost_error", "status_code", "error", "extra_fields"],
        json!({
            "event_id": {"type": "string", "description": "Equal to the header x-request-id."},
            "type": text(), "is_bifrost_error": {"type": "boolean"}, "status_code": whole(),
            "error": object(&["type", "code", "message", "param", "event_id"], inner),
            "extra_fields": {"type": "object"},
        }),
    )
}

fn plain_error() -> Value {
    let inner = json!({
        "type": text(), "code": text(), "message": text(), "param": text(), "resource": text(), "id": text(),
        "problems": {"type": "array"},
    });
    object(&["error"], json!({"error": object(&["type", "code", "message"], inner)}))
}

fn catalogue_entry() -> Value {
    object(
        &["id", "label", "credentialKind", "supportsEndpoint"],
        json!({
            "id": text(), "label": text(), "supportsEndpoint": {"type": "boolean"},
            "credentialKind": {"enum": ["api_key", "aws_credentials", "service_account"]},
        }),
    )
}

fn connection() -> Value {
    object(
        &["provider", "label", "priority", "key_prefix", "updated_at"],
        json!({
            "provider": text(), "label": text(), "priority": priority(),
            "key_prefix": {"type": "string", "maxLength": 12, "description": "Empty for a reference."},
            "updated_at": {"type": "string", "format": "date-time"},
            "endpoint": {"type": ["string", "null"]},
        }),
    )
}

fn priority() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 1000})
}

/// A body; what must be there cannot be null.
fn connection_body(required: &[&str]) -> Value {
    let some = json!({"type": "string", "minLength": 1});
    let api_key = if required.contains(&"api_key") { some.clone() } else { or_null(some.clone()) };
    let mut members = json!({
        "api_key": api_key,
        "priority": or_null(priority()),
        "label": or_null(json!({"type": "string", "minLength": 1, "maxLength": 64})),
        "endpoint": or_null(some.clone()),
    });
    if required.contains(&"provider")
        && let Some(members) = members.as_object_mut()
    {
        members.insert("provider".to_owned(), some);
    }
    closed(required, members)
}

fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// A list in pages.
fn page(name: &str) -> Value {
    object(
        &["data", "next_cursor", "has_more"],
        json!({"data": list(name), "next_cursor": {"type": ["string", "null"]}, "has_more": {"type": "boolean"}}),
    )
}

fn health_state() -> Value {
    json!({"enum": ["healthy", "degraded", "down", "unknown"]})
}

fn credential() -> Value {
    let health = object(
        &["state", "p50_latency_ms", "last_check_at"],
        json!({
            "state": health_state(), "p50_latency_ms": {"type": ["integer", "null"]},
            "last_check_at": {"type": ["string", "null"]},
        }),
    );
    object(
        &["id", "vendor", "name", "base_url", "status", "health", "created_at"],
        json!({
            "id": text(), "vendor": text(), "name": text(), "base_url": {"type": ["string", "null"]},
            "status": {"enum": ["active", "disabled", "error"]}, "health": health,
            "created_at": {"type": "string", "format": "date-time"},
            "verification": {"enum": ["verified", "unsupported"], "description": "Where a new api_key came."},
        }),
    )
}

fn credential_health() -> Value {
    let latency = json!({"type": ["integer", "null"]});
    let window = object(
        &["requests", "errors", "success_rate", "latency_ms"],
        json!({
            "requests": whole(), "errors": whole(), "success_rate": {"type": ["number", "null"]},
            "latency_ms": object(
                &["p50", "p90", "p95", "p99"],
                json!({"p50": latency, "p90": latency, "p95": latency, "p99": latency}),
            ),
        }),
    );
    object(
        &["id", "state", "reason", "last_check_at", "windows"],
        json!({
            "id": text(), "state": health_state(), "reason": text(), "last_check_at": {"type": ["string", "null"]},
            "windows": object(&["1m", "5m", "1h"], json!({"1m": window, "5m": window, "1h": window})),
        }),
    )
}

fn credential_body(required: &[&str]) -> Value {
    let some = json!({"type": "string", "minLength": 1});
    let mut members = json!({"api_key": or_null(some.clone()), "base_url": or_null(some.clone())});
    if let Some(members) = members.as_object_mut() {
        if required.contains(&"vendor") {
            members.insert("vendor".to_owned(), some.clone());
            members.insert("name".to_owned(), some);
        } else {
            members.insert("name".to_owned(), or_null(some));
            members.insert("status".to_owned(), json!({"enum": ["active", "disabled", null]}));
        }
    }
    closed(required, members)
}
