//! The OpenAPI document of all management routes, made of the router's table and of the schemas of
//! the records that read bodies and file alike. Served, printed by `keyway schema --openapi`, and
//! committed; a test fails when the committed one is stale.

mod answers;
mod operations;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use self::answers::answers;
use self::operations::{Operation, Tagged, operation};
use super::json as answer_json;
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::project::Scope;
use crate::router::{ADMIN, AdminRoute, AdminRow, Face, face};

/// `GET /api/openapi.json`.
pub fn answer() -> Response<Bytes> {
    answer_json(StatusCode::OK, &document())
}

/// The whole document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for row in ADMIN {
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(row.method.to_ascii_lowercase(), described(row));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "keyway management",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every write is a minimal diff of config.json and is answered when it serves. A management key has 60 requests a minute unless set; x-ratelimit-limit, -remaining and -reset tell what is left.",
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "/"}],
        "security": [{"managementKey": []}],
        "tags": [{"name": "Providers"}, {"name": "Keys"}, {"name": "Config"}, {"name": "Connections"}, {"name": "Credentials"}, {"name": "Agents"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"managementKey": {
                "type": "http", "scheme": "bearer",
                "description": "A key of `management.keys`. Without that member the routes answer on this machine alone.",
            }},
            "schemas": schemas(),
        },
    })
}

fn described(row: &AdminRow) -> Value {
    let Operation { id, tag, summary, body, answer, query, tagged } = operation(row.route);
    let captures: Vec<&str> = row.path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).collect();
    let mut parameters: Vec<Value> = captures
        .iter()
        .map(|name| {
            let (pattern, example) = match *name {
                "provider" => ("^[A-Za-z0-9._-]{1,64}$", first_provider()),
                _ => ("^[A-Za-z0-9._:@-]{1,128}$", "main"),
            };
            let schema = json!({"type": "string", "pattern": pattern});
            json!({"name": name, "in": "path", "required": true, "schema": schema, "example": example})
        })
        .collect();
    parameters.extend(query.iter().map(|(name, required, text)| {
        let schema = json!({"type": "string", "minLength": u8::from(*required)});
        json!({"name": name, "in": "query", "required": required, "description": text, "schema": schema})
    }));
    let condition = match tagged {
        Tagged::No => None,
        Tagged::IfNoneMatch => Some(("If-None-Match", "304 where the state is still this one")),
        Tagged::IfMatch => Some(("If-Match", "412 where the state is no longer this one")),
    };
    parameters.extend(condition.map(|(name, text)| {
        json!({"name": name, "in": "header", "required": false, "description": text, "schema": {"type": "string"}})
    }));
    if row.method != "GET" {
        let text = "The same key, path and body within 24 hours: the answer that was given first";
        let schema = json!({"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES_MAX});
        let parameter = json!({
            "name": "Idempotency-Key", "in": "header", "required": false, "description": text, "schema": schema,
        });
        parameters.push(parameter);
    }
    let mut described = json!({
        "operationId": id, "tags": [tag], "summary": summary,
        "responses": responses(row, answer, tagged, body.is_some() || !query.is_empty(), !captures.is_empty()),
    });
    if let Some(members) = described.as_object_mut() {
        if row.scope == Scope::Open {
            members.insert("security".to_owned(), json!([]));
        }
        if !parameters.is_empty() {
            members.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(name) = body {
            let content = json!({"application/json": {"schema": reference(name), "example": example(name)}});
            members.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
        }
    }
    described
}

fn responses(row: &AdminRow, answer: &str, tagged: Tagged, has_input: bool, has_captures: bool) -> Value {
    let shape = error_of(row);
    let error =
        |text: &str| json!({"description": text, "content": {"application/json": {"schema": reference(shape)}}});
    let content = json!({"application/json": {"schema": reference(answer)}});
    let good = if tagged == Tagged::No || answer == "Named" || row.method == "DELETE" {
        json!({"description": "Done", "content": content})
    } else {
        let tag = json!({"description": "The config_hash, in quotes", "schema": {"type": "string"}});
        json!({"description": "Done", "headers": {"ETag": tag}, "content": content})
    };
    let on_table = matches!(face(row.path), Some(Face::Modelux | Face::Redeo)) && row.method != "GET";
    let writes = tagged == Tagged::IfMatch || row.route == AdminRoute::ProviderCreate || on_table;
    let rows = [
        ("304", tagged == Tagged::IfNoneMatch, None),
        (
            "400",
            has_input || has_captures || row.method != "GET",
            Some("The request is wrong; error.param names the member"),
        ),
        ("401", true, Some("No management key, or a wrong one")),
        ("403", true, Some("A project's key, or a caller from elsewhere where no keys are configured")),
        ("404", has_captures || !row.path.starts_with("/api/config"), Some("There is no such thing")),
        ("409", writes || row.method != "GET", Some("In the way of another, or the file cannot be written now")),
        ("412", tagged == Tagged::IfMatch, Some("The state is not the expected one")),
        ("413", has_input, Some("The body is too large")),
        ("415", has_input, Some("Not application/json")),
        (
            "422",
            row.method != "GET",
            Some("The Idempotency-Key was used for another body, or, by some faces, a value will not do"),
        ),
        (
            "429",
            row.route != AdminRoute::ConfigStatus,
            Some("The key's requests of this minute are used up; see Retry-After"),
        ),
        ("500", writes, Some("The disk failed; nothing has changed")),
        ("502", row.route == AdminRoute::CredentialPatch, Some("The upstream could not be asked about the new key")),
        ("504", row.route == AdminRoute::CredentialPatch, Some("The upstream did not answer in time")),
        ("503", true, Some("Too many requests at the same time, or the process is ending")),
        ("507", writes, Some("The disk is full; nothing has changed")),
    ];
    let mut responses = Map::from_iter([("200".to_owned(), good)]);
    if row.route == AdminRoute::Mcp {
        responses.insert("202".to_owned(), json!({"description": "A notification; there is nothing to be told"}));
        // Errors of the protocol have its own shape.
        responses.insert("400".to_owned(), json!({"description": "Not a message", "content": content_of("Object")}));
    }
    for (status, wanted, text) in rows {
        if wanted && !responses.contains_key(status) {
            let response = text.map_or_else(|| json!({"description": "Known already"}), error);
            responses.insert(status.to_owned(), response);
        }
    }
    responses.into()
}

fn content_of(name: &str) -> Value {
    json!({"application/json": {"schema": reference(name)}})
}

/// Errors have the shape of the path's face.
fn error_of(row: &AdminRow) -> &'static str {
    match face(row.path) {
        Some(Face::Modelux | Face::Redeo) => "PlainError",
        Some(Face::Bifrost) | None => "Error",
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A body as a client may send it.
fn example(name: &str) -> Value {
    match name {
        "Key" => json!({"name": "team-a", "value": "env.OPENAI_API_KEY", "models": ["*"], "weight": 1}),
        "NewProvider" => json!({
            "provider": "my-vllm",
            "custom_provider_config": {"base_provider_type": first_provider()},
            "network_config": {"base_url": "https://vllm.example"},
            "keys": [{"name": "team-a", "value": "env.VLLM_API_KEY"}],
        }),
        "NewConnection" => json!({
            "provider": first_provider(), "api_key": "env.OPENAI_API_KEY", "priority": 500, "label": "main",
        }),
        "ConnectionChange" => json!({"priority": 100}),
        "NewCredential" => json!({
            "vendor": first_provider(), "name": "Production", "api_key": "env.OPENAI_API_KEY", "base_url": null,
        }),
        "RpcMessage" => json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        "CredentialChange" => json!({"name": "Production"}),
        "ProviderSettings" => json!({"network_config": {"connect_timeout_in_seconds": 5}}),
        _ => json!({"providers": {first_provider(): {"keys": [{"value": "env.OPENAI_API_KEY"}]}}}),
    }
}

/// The one that everybody knows: the catalogue begins with it.
fn first_provider() -> &'static str {
    crate::provider::rows().first().map_or("", |row| row.id)
}

/// Components: those of the file's schema that bodies use, and the shapes of answers.
fn schemas() -> Value {
    let mut file = crate::config::schema();
    let mut all = Map::new();
    if let Some(Value::Object(definitions)) = file.get_mut("$defs").map(Value::take) {
        for (name, mut definition) in definitions {
            adapt(&mut definition);
            all.insert(name, definition);
        }
    }
    let provider = all.remove("Provider").unwrap_or_default();
    all.insert("NewProvider".to_owned(), settings(&provider, &["name", "provider"]));
    let mut put = settings(&provider, &["name"]);
    if let Some(members) = put.pointer_mut("/properties").and_then(Value::as_object_mut) {
        members.remove("keys");
    }
    all.insert("ProviderSettings".to_owned(), put);
    all.extend(answers().map(|(name, schema)| (name.to_owned(), schema)));
    let used = used(&all);
    all.retain(|name, _| used.contains(name));
    all.into()
}

/// A body's provider: what a client got and sends back may stand beside the file's members.
fn settings(provider: &Value, names: &[&str]) -> Value {
    let mut settings = provider.clone();
    if let Some(members) = settings.pointer_mut("/properties").and_then(Value::as_object_mut) {
        for name in names {
            let text = json!({"type": ["string", "null"], "minLength": 1, "description": "Name of the provider."});
            members.insert((*name).to_owned(), text);
        }
        for name in ["provider_status", "status", "description", "config_hash"] {
            members.insert(name.to_owned(), json!({"description": "Ignored."}));
        }
    }
    settings
}

/// References into components, and `null` for what may be left out: clients in typed languages send
/// it. Not for lists: which of "all" and "none" was meant must not be guessed.
fn adapt(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(adapt),
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref") {
                *target = target.replace("#/$defs/", "#/components/schemas/");
            }
            members.values_mut().for_each(adapt);
            let required = members.get("required").cloned().unwrap_or_default();
            let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|it| it == name));
            for (name, property) in members.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
                if !is_required(name) && property.get("type").and_then(Value::as_str) != Some("array") {
                    *property = json!({"anyOf": [property.take(), {"type": "null"}]});
                }
            }
        }
        _ => {}
    }
}

/// Names of the components that some route leads to.
fn used(all: &Map<String, Value>) -> std::collections::BTreeSet<String> {
    fn visit(schema: &Value, all: &Map<String, Value>, found: &mut std::collections::BTreeSet<String>) {
        match schema {
            Value::Array(items) => items.iter().for_each(|item| visit(item, all, found)),
            Value::Object(members) => {
                if let Some(name) = members.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next())
                    && found.insert(name.to_owned())
                    && let Some(target) = all.get(name)
                {
                    visit(target, all, found);
                }
                members.values().for_each(|member| visit(member, all, found));
            }
            _ => {}
        }
    }
    let mut found = std::collections::BTreeSet::new();
    for row in ADMIN {
        let Operation { body, answer, .. } = operation(row.route);
        for name in body.into_iter().chain([answer, error_of(row)]) {
            visit(&reference(name), all, &mut found);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_document_is_fresh() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == format!("{:#}\n", document()), "stale: run `make schema`");
    }

    #[test]
    fn every_route_is_described_once_and_every_reference_leads_somewhere() {
        let document = document();
        let mut ids = BTreeSet::new();
        for row in ADMIN {
            let described = &document["paths"][row.path][row.method.to_ascii_lowercase()];
            let id = described["operationId"].as_str().unwrap();
            assert!(!id.is_empty() && ids.insert(id.to_owned()), "{} {}", row.method, row.path);
            assert!(described["responses"]["401"].is_object() && !described["summary"].as_str().unwrap().is_empty());
        }
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        assert!(!text.contains("$defs"), "a reference into the file's schema");
        assert!(document["components"]["schemas"]["Server"].is_null(), "a component that no route uses");
    }
}
