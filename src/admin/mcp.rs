//! `POST /mcp`: the Modelux face for agents, as tools of the Model Context Protocol over Streamable
//! HTTP (CONTRACT 4.4).
//!
//! One JSON object in, one out: no session, no stream, no process that is started. A management key is
//! always asked for, also where other routes trust this machine, and a page of another origin is turned
//! away. What a tool answers is what its route answers; a secret goes in and never comes out.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{Response, StatusCode};
use serde_json::{Map, Value as Json, json};

use super::error::ApiError;
use super::modelux::providers;
use super::{Admin, Asked, body, config, envelope, explain, json as answer};
use crate::project::Caller;
use crate::project::loopback::is_own_page;

/// Newest first; whoever asks for another is offered the first.
const VERSIONS: [&str; 3] = ["2025-06-18", "2025-03-26", "2024-11-05"];
static VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;

const INSTRUCTIONS: &str = "Credentials of LLM providers in a keyway gateway. Prefer references to secrets: pass \
    api_key as \"env.NAME\", the name of an environment variable of the gateway, instead of the secret itself. No \
    tool ever shows a secret. Ask before delete_provider.";

/// A tool, and what it does to the world.
struct Tool {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    effect: Effect,
    /// Arguments: name, whether it must be there, schema as JSON.
    arguments: &'static [(&'static str, bool, &'static str)],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
    Destroys,
}

const ID: (&str, bool, &str) = ("id", true, r#"{"type": "string", "description": "prov_…, from list_providers"}"#);
const API_KEY: &str = r#"{"type": "string", "description": "Prefer a reference: \"env.NAME\". A literal is sealed before it is written. Bedrock: ACCESS_KEY_ID::SECRET_ACCESS_KEY::REGION[::SESSION_TOKEN]"}"#;
const BASE_URL: &str = r#"{"type": ["string", "null"], "description": "Only where it is not the vendor's own; Azure: the resource endpoint"}"#;

const TOOLS: &[Tool] = &[
    Tool {
        name: "list_providers",
        title: "List providers",
        description: "All provider credentials with their status and health, in pages.",
        effect: Effect::Reads,
        arguments: &[
            ("limit", false, r#"{"type": "integer", "minimum": 1, "maximum": 200}"#),
            ("cursor", false, r#"{"type": "string", "description": "next_cursor of the page before"}"#),
        ],
    },
    Tool {
        name: "get_provider",
        title: "Get a provider",
        description: "One provider credential with its status and health. Never its secret.",
        effect: Effect::Reads,
        arguments: &[ID],
    },
    Tool {
        name: "add_provider",
        title: "Add a provider",
        description: "Adds a credential of a vendor. Prefer a reference (\"env.NAME\") to the secret itself.",
        effect: Effect::Writes,
        arguments: &[
            (
                "vendor",
                true,
                r#"{"type": "string", "description": "openai, anthropic, google, azure, bedrock, groq, …"}"#,
            ),
            ("name", true, r#"{"type": "string"}"#),
            ("api_key", false, API_KEY),
            ("base_url", false, BASE_URL),
        ],
    },
    Tool {
        name: "update_provider",
        title: "Update or rotate a provider",
        description: "Changes what is given. A new api_key is verified before it takes the old one's place; if that \
            fails, the old one stays. Prefer a reference (\"env.NAME\") to the secret itself.",
        effect: Effect::Writes,
        arguments: &[
            ID,
            ("name", false, r#"{"type": "string"}"#),
            ("api_key", false, API_KEY),
            ("base_url", false, BASE_URL),
            ("status", false, r#"{"enum": ["active", "disabled"]}"#),
        ],
    },
    Tool {
        name: "delete_provider",
        title: "Delete a provider",
        description: "Deletes a credential for good. Refused while a route would be left without one.",
        effect: Effect::Destroys,
        arguments: &[ID],
    },
    Tool {
        name: "get_provider_health",
        title: "Health of a provider",
        description: "Latency percentiles and success rate over a minute, five minutes and an hour of traffic.",
        effect: Effect::Reads,
        arguments: &[ID],
    },
    Tool {
        name: "explain",
        title: "Explain a model's routing",
        description: "Which credentials would serve a model, in which order and with which shares, and which not and why.",
        effect: Effect::Reads,
        arguments: &[
            ("model", true, r#"{"type": "string", "description": "A name, provider/model or @route"}"#),
            ("project", false, r#"{"type": "string"}"#),
        ],
    },
    Tool {
        name: "config_status",
        title: "Status of the configuration",
        description: "What runs, what is on disk, what went wrong last.",
        effect: Effect::Reads,
        arguments: &[],
    },
];

/// The tool that a message calls, where it writes: for the audit log.
pub fn writes(text: &str) -> Option<&'static str> {
    let message: Json = serde_json::from_str(text).ok()?;
    let named = message.get("params").filter(|_| message.get("method") == Some(&"tools/call".into()))?.get("name")?;
    TOOLS.iter().find(|tool| *named == tool.name && tool.effect != Effect::Reads).map(|tool| tool.name)
}

/// Answers one message.
pub async fn handle(admin: &Admin, asked: &Asked, text: &str) -> Result<Response<Bytes>, ApiError> {
    if !matches!(asked.caller, Caller::Management { .. }) {
        let message = "agents need a management key, also on this machine: set `management.keys`";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "missing_api_key", message));
    }
    may_ask(&asked.head)?;
    let refused = |code, message: &str| Ok(failure(StatusCode::BAD_REQUEST, &Json::Null, code, message));
    let Ok(message) = body::object(text).and_then(|_| serde_json::from_str::<Json>(text).map_err(unread)) else {
        return refused(PARSE_ERROR, "one JSON object is expected");
    };
    let method = message.get("method").and_then(Json::as_str);
    let id = message.get("id");
    let is_id = |id: &Json| id.is_string() || id.as_f64().is_some_and(|number| number.fract() == 0.0);
    let params = message.get("params");
    let sound = message.get("jsonrpc").and_then(Json::as_str) == Some("2.0")
        && id.is_none_or(is_id)
        && params.is_none_or(Json::is_object);
    let Some(method) = method.filter(|_| sound) else {
        return refused(INVALID_REQUEST, "not a JSON-RPC 2.0 request");
    };
    if asked.head.get(&VERSION).is_some_and(|version| !VERSIONS.iter().any(|known| version == known)) {
        return refused(INVALID_REQUEST, "this MCP-Protocol-Version is not spoken here");
    }
    let Some(id) = id else {
        // A notification: there is nothing to be told.
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::ACCEPTED;
        return Ok(response);
    };
    let none = Map::new();
    let params = params.and_then(Json::as_object).unwrap_or(&none);
    let result = match method {
        "initialize" => initialized(params),
        "ping" => json!({}),
        "tools/list" => json!({"tools": TOOLS.iter().map(described).collect::<Vec<_>>()}),
        "tools/call" => match called(admin, asked, params).await {
            Ok(result) => result,
            Err(why) => return Ok(failure(StatusCode::OK, id, INVALID_PARAMS, why)),
        },
        _ => return Ok(failure(StatusCode::OK, id, METHOD_NOT_FOUND, "there is no such method")),
    };
    Ok(answer(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": id, "result": result})))
}

/// A page in a browser may ask from this machine's own origin alone, whatever name led it here.
fn may_ask(head: &HeaderMap) -> Result<(), ApiError> {
    let own = is_own_page(head);
    let message = "pages of other origins may not ask";
    own.then_some(()).ok_or_else(|| ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", message).field("origin"))
}

fn unread(_: serde_json::Error) -> ApiError {
    ApiError::bad_request("invalid_json", "the body is not JSON")
}

fn failure(status: StatusCode, id: &Json, code: i32, message: &str) -> Response<Bytes> {
    answer(status, &json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}))
}

fn initialized(params: &Map<String, Json>) -> Json {
    let asked = params.get("protocolVersion").and_then(Json::as_str).unwrap_or_default();
    let [newest, ..] = VERSIONS;
    json!({
        "protocolVersion": VERSIONS.into_iter().find(|version| *version == asked).unwrap_or(newest),
        "capabilities": {"tools": {"listChanged": false}},
        "serverInfo": {"name": "keyway", "version": env!("CARGO_PKG_VERSION")},
        "instructions": INSTRUCTIONS,
    })
}

fn described(tool: &Tool) -> Json {
    let parsed = |schema: &str| serde_json::from_str::<Json>(schema).unwrap_or_default();
    let properties: Map<String, Json> =
        tool.arguments.iter().map(|(name, _, schema)| ((*name).to_owned(), parsed(schema))).collect();
    let required: Vec<&str> = tool.arguments.iter().filter(|(_, needed, _)| *needed).map(|(name, ..)| *name).collect();
    json!({
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": {
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        },
        "annotations": {
            "title": tool.title,
            "readOnlyHint": tool.effect == Effect::Reads,
            "destructiveHint": tool.effect == Effect::Destroys,
            "openWorldHint": false,
        },
    })
}

/// Runs a tool; the error is a call that is none.
async fn called(admin: &Admin, asked: &Asked, params: &Map<String, Json>) -> Result<Json, &'static str> {
    let name = params.get("name").and_then(Json::as_str).unwrap_or_default();
    let tool = TOOLS.iter().find(|tool| tool.name == name).ok_or("there is no such tool")?;
    let mut given = match params.get("arguments") {
        None => Map::new(),
        Some(Json::Object(given)) => given.clone(),
        Some(_) => return Err("`arguments` must be an object"),
    };
    if given.keys().any(|name| !tool.arguments.iter().any(|(known, ..)| known == name)) {
        return Err("an argument that this tool has not");
    }
    if tool.arguments.iter().any(|(name, needed, _)| *needed && !given.contains_key(*name)) {
        return Err("an argument is missing");
    }
    let needs_id = tool.arguments.iter().any(|(name, ..)| *name == "id");
    let id = match given.remove("id") {
        Some(Json::String(id)) => id,
        None if !needs_id => String::new(),
        _ => return Err("`id` must be a text"),
    };
    let (prober, snapshot) = (&*asked.prober, &*asked.snapshot);
    let result = match tool.name {
        "list_providers" => providers::list(admin, Some(&query(&given))),
        "get_provider" => providers::get(admin, &id),
        "add_provider" => providers::create(admin, prober, &Json::Object(given).to_string()).await,
        "update_provider" => providers::patch(admin, prober, &id, &Json::Object(given).to_string()).await,
        "delete_provider" => providers::delete(admin, &id).await,
        "get_provider_health" => providers::health(admin, &id),
        "explain" => explain::answer(admin, snapshot, Some(&query(&given))),
        _ => Ok(answer(StatusCode::OK, &config::status(admin, snapshot))),
    };
    let (response, is_error) = match result {
        Ok(response) => (response, false),
        Err(error) => (envelope::plain(&error), true),
    };
    let content: Json = serde_json::from_slice(response.body()).unwrap_or_default();
    Ok(json!({
        "content": [{"type": "text", "text": content.to_string()}],
        "structuredContent": content,
        "isError": is_error,
    }))
}

fn query(given: &Map<String, Json>) -> String {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = given.iter().map(|(name, value)| (name.as_str(), text(value)));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{HOST, ORIGIN};

    use super::*;

    #[test]
    fn every_schema_is_json() {
        for tool in TOOLS {
            let described = described(tool);
            for (name, ..) in tool.arguments {
                assert!(described["inputSchema"]["properties"][name].is_object(), "{} {name}", tool.name);
            }
        }
        assert!(!INSTRUCTIONS.contains("  ") && TOOLS.iter().all(|tool| !tool.description.contains("  ")));
    }

    #[test]
    fn what_writes() {
        let call = |name: &str| json!({"method": "tools/call", "params": {"name": name}}).to_string();
        assert_eq!(writes(&call("add_provider")), Some("add_provider"));
        assert_eq!(writes(&call("delete_provider")), Some("delete_provider"));
        for text in [call("get_provider"), call("nothing"), json!({"method": "tools/list"}).to_string(), "{".to_owned()]
        {
            assert_eq!(writes(&text), None, "{text}");
        }
    }

    #[test]
    fn origins() {
        let ask = |origin: &str, host: &str| {
            let mut head = HeaderMap::new();
            head.insert(HOST, HeaderValue::from_str(host).unwrap());
            if !origin.is_empty() {
                head.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            may_ask(&head).is_ok()
        };
        assert!(ask("", "gateway.example"));
        assert!(ask("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(ask("http://localhost:8080", "localhost:8080"));
        for origin in ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1.evil.example:8080"] {
            assert!(!ask(origin, "localhost:8080"), "{origin}");
        }
        // A name of somebody else's that leads here.
        assert!(!ask("http://evil.example:8080", "evil.example:8080"));
    }
}
