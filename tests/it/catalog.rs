//! The catalogue as its readers see it: what each provider is sent, head and body, one file for each
//! (tests/fixtures/providers), and the tables in docs/providers.md, which are made of the rows.
//! `KEYWAY_GOLDEN=1` rewrites both, to be read in the diff.

use std::fmt::Write as _;
use std::path::Path;

use http::Method;
use keyway::dialect::{Dialect, Endpoint, Operation};
use keyway::provider::{AuthKind, ProviderRow, RateScope, rows};
use serde_json::{Value, json};

use crate::support::client::{request, send};
use crate::support::gateway::{Gateway, Mock, launch};
use crate::support::upstream::{Answer, Seen, Upstream};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FIXTURES: &str = "tests/fixtures/providers";

/// A caller's request; `@` stands for the model with its provider, `~` for the same in a path, `#` for
/// the provider.
struct Call {
    of: Of,
    name: &'static str,
    method: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: &'static str,
}

/// Who is asked so.
enum Of {
    /// Whoever is known to do this of the OpenAI API.
    OpenAi(Operation),
    /// Whoever does this in this dialect.
    Dialect(Dialect, Operation),
    /// Whoever speaks the OpenAI API, or none at all.
    Own,
    Everybody,
}

const fn json_call(operation: Operation, name: &'static str, path: &'static str, body: &'static str) -> Call {
    Call { of: Of::OpenAi(operation), name, method: "POST", path, content_type: "application/json", body }
}

const fn dialect_call(of: (Dialect, Operation), name: &'static str, path: &'static str, body: &'static str) -> Call {
    Call { of: Of::Dialect(of.0, of.1), name, method: "POST", path, content_type: "application/json", body }
}

const fn form_call(operation: Operation, name: &'static str, path: &'static str) -> Call {
    let body = "--XyZ\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n@\r\n--XyZ\r\ncontent-disposition: \
                form-data; name=\"file\"; filename=\"a\"\r\n\r\nbytes\r\n--XyZ--\r\n";
    Call {
        of: Of::OpenAi(operation),
        name,
        method: "POST",
        path,
        content_type: "multipart/form-data; boundary=XyZ",
        body,
    }
}

const CALLS: &[Call] = &[
    json_call(Operation::ChatCompletion, "chat_completion", "/v1/chat/completions", r#"{"model":"@","messages":[]}"#),
    json_call(
        Operation::ChatCompletion,
        "chat_completion_stream",
        "/v1/chat/completions",
        r#"{"model":"@","messages":[],"stream":true}"#,
    ),
    json_call(Operation::TextCompletion, "text_completion", "/v1/completions", r#"{"model":"@","prompt":"x"}"#),
    json_call(Operation::Responses, "responses", "/v1/responses", r#"{"model":"@","input":"x"}"#),
    Call {
        of: Of::OpenAi(Operation::ResponsesItem),
        name: "responses_item",
        method: "GET",
        path: "/v1/responses/resp_1?provider=#",
        content_type: "",
        body: "",
    },
    json_call(Operation::Embedding, "embedding", "/v1/embeddings", r#"{"model":"@","input":"x"}"#),
    json_call(Operation::Moderation, "moderation", "/v1/moderations", r#"{"model":"@","input":"x"}"#),
    json_call(Operation::Rerank, "rerank", "/v1/rerank", r#"{"model":"@","query":"x","documents":["y"]}"#),
    json_call(
        Operation::ImageGeneration,
        "image_generation",
        "/v1/images/generations",
        r#"{"model":"@","prompt":"x"}"#,
    ),
    form_call(Operation::ImageEdit, "image_edit", "/v1/images/edits"),
    form_call(Operation::ImageVariation, "image_variation", "/v1/images/variations"),
    json_call(Operation::Speech, "speech", "/v1/audio/speech", r#"{"model":"@","input":"x","voice":"v"}"#),
    form_call(Operation::Transcription, "transcription", "/v1/audio/transcriptions"),
    form_call(Operation::Translation, "translation", "/v1/audio/translations"),
    Call {
        of: Of::OpenAi(Operation::Files),
        name: "files",
        method: "GET",
        path: "/v1/files?provider=#&limit=2",
        content_type: "",
        body: "",
    },
    json_call(Operation::Batches, "batches", "/v1/batches?provider=#", r#"{"input_file_id":"f","endpoint":"/v1/x"}"#),
    dialect_call(
        (Dialect::Anthropic, Operation::ChatCompletion),
        "messages",
        "/anthropic/v1/messages",
        r#"{"model":"@","max_tokens":1,"messages":[]}"#,
    ),
    dialect_call(
        (Dialect::Anthropic, Operation::ChatCompletion),
        "messages_stream",
        "/anthropic/v1/messages",
        r#"{"model":"@","max_tokens":1,"messages":[],"stream":true}"#,
    ),
    dialect_call(
        (Dialect::Anthropic, Operation::CountTokens),
        "count_tokens",
        "/anthropic/v1/messages/count_tokens",
        r#"{"model":"@","messages":[]}"#,
    ),
    dialect_call(
        (Dialect::Anthropic, Operation::Batches),
        "message_batches",
        "/anthropic/v1/messages/batches?provider=#",
        r#"{"requests":[]}"#,
    ),
    dialect_call(
        (Dialect::Gemini, Operation::ChatCompletion),
        "generate_content",
        "/v1beta/models/~:generateContent",
        r#"{"contents":[]}"#,
    ),
    dialect_call(
        (Dialect::Gemini, Operation::ChatCompletion),
        "stream_generate_content",
        "/v1beta/models/~:streamGenerateContent?alt=sse",
        r#"{"contents":[]}"#,
    ),
    dialect_call(
        (Dialect::Gemini, Operation::CountTokens),
        "count_tokens_of_contents",
        "/v1beta/models/~:countTokens",
        r#"{"contents":[]}"#,
    ),
    dialect_call((Dialect::Bedrock, Operation::ChatCompletion), "converse", "/model/~/converse", r#"{"messages":[]}"#),
    dialect_call(
        (Dialect::Bedrock, Operation::ChatCompletion),
        "converse_stream",
        "/model/~/converse-stream",
        r#"{"messages":[]}"#,
    ),
    dialect_call((Dialect::Bedrock, Operation::Invoke), "invoke", "/model/~/invoke", r#"{"max_tokens":1}"#),
    Call {
        of: Of::Own,
        name: "a path of its own",
        method: "POST",
        path: "/v1/models/owner/name/predictions?provider=#&a=b",
        content_type: "application/json",
        body: r#"{"input":{}}"#,
    },
    Call {
        of: Of::Everybody,
        name: "passthrough",
        method: "POST",
        path: "/passthrough/#/own/path%2Fx?a=b",
        content_type: "application/json",
        body: "{}",
    },
];

/// One key for each row, with what its provider asks for; the model has an alias that must be encoded
/// where it goes into a path.
fn key(row: &ProviderRow) -> Value {
    let mut key = json!({"name": "k", "use_for_batch_api": true, "aliases": {"m": "vendor/m:1"}});
    let mut set = |config: Value| key[format!("{}_key_config", row.id)] = config;
    match row.auth {
        AuthKind::Azure => set(json!({"api_version": "2024-10-21"})),
        AuthKind::AwsSigV4 => {
            set(json!({"region": "us-east-1", "access_key": "AKIDX", "secret_key": "secret-of-AKIDX"}));
            return key;
        }
        AuthKind::GoogleOAuth => {
            set(json!({"region": "global", "project_id": "p"}));
            return key;
        }
        AuthKind::Bearer if row.id == "replicate" => set(json!({"use_deployments_endpoint": true})),
        AuthKind::None | AuthKind::Bearer | AuthKind::Header(_) => {}
    }
    key["value"] = json!(format!("key-of-{}", row.id));
    key
}

/// All providers that go over a socket, each below the upstream where its own path begins.
fn gateway(upstream: &Upstream, mock: &Mock) -> Gateway {
    let provider = |row: &ProviderRow| {
        let path = row.base_url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, it)| it);
        let base = format!("{}/{path}", upstream.base());
        (row.id.to_owned(), json!({"network_config": {"base_url": base}, "keys": [key(row)]}))
    };
    let providers: serde_json::Map<String, Value> = over_sockets().map(provider).collect();
    let config = json!({"server": {"listen": ["127.0.0.1:0"]}, "providers": providers});
    let metadata = mock.base().strip_prefix("http://").unwrap().to_owned();
    launch(config.to_string()).env("GCE_METADATA_HOST", &metadata).start()
}

fn over_sockets() -> impl Iterator<Item = &'static ProviderRow> {
    rows().iter().filter(|row| !row.in_process)
}

fn has(row: &ProviderRow, call: &Call) -> bool {
    match call.of {
        Of::OpenAi(operation) => row.operations.contains(&operation),
        Of::Dialect(dialect, operation) => row.serves(Endpoint { dialect, operation }),
        Of::Own => row.speaks(Dialect::OpenAi) || row.speaks.is_empty(),
        Of::Everybody => true,
    }
}

#[tokio::test]
async fn what_each_provider_is_sent() {
    let (mock, upstream) = (Mock::start(), Upstream::start(|_| Answer::json(200, "{}")));
    let gateway = gateway(&upstream, &mock);
    let mut recorded = 0;
    for row in over_sockets() {
        let mut text = String::new();
        for call in CALLS.iter().filter(|call| has(row, call)) {
            let headers = [
                ("authorization", "Bearer sk-of-the-caller"),
                ("accept", "*/*"),
                ("user-agent", "caller/1"),
                ("content-type", call.content_type),
            ];
            let headers = &headers[..headers.len() - usize::from(call.content_type.is_empty())];
            let body = call.body.replace('@', &format!("{}/m", row.id));
            let url = gateway.url(&call.path.replace('#', row.id).replace('~', &format!("{}%2Fm", row.id)));
            upstream.forget();
            let reply = send(request(call.method.parse::<Method>().unwrap(), &url, headers, body)).await;
            assert_eq!(reply.status, 200, "{} {}: {}", row.id, call.name, reply.text());
            let seen = upstream.only();
            assert!(!format!("{:?}", seen.headers).contains("sk-of-the-caller"), "{} {}", row.id, call.name);
            writeln!(text, "=== {}\n{}", call.name, shown(&seen)).unwrap();
            recorded += 1;
        }
        golden(&format!("{FIXTURES}/{}.http", row.id), &text);
    }
    println!("{recorded} requests recorded");
    let known: Vec<String> = over_sockets().map(|row| format!("{}.http", row.id)).collect();
    for entry in std::fs::read_dir(Path::new(ROOT).join(FIXTURES)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "{FIXTURES}/{name} is of no provider");
    }
}

/// A request as it arrived, but for what a clock, a port or a counter has a part in.
fn shown(seen: &Seen) -> String {
    let mut text = format!("{} {}\n", seen.method, seen.path);
    for (name, value) in &seen.headers {
        let value = value.to_str().unwrap();
        let value = match name.as_str() {
            "host" => "<host>".to_owned(),
            "x-amz-date" => "<date>".to_owned(),
            "authorization" => authorization(value),
            _ => value.to_owned(),
        };
        writeln!(text, "{name}: {value}").unwrap();
    }
    let body = String::from_utf8_lossy(&seen.body).replace("\r\n", "\n");
    format!("{text}\n{body}").trim_end().to_owned() + "\n"
}

/// Signatures are compared with botocore's elsewhere; here is seen what is signed.
fn authorization(value: &str) -> String {
    if let Some((signer, rest)) = value.split_once("/20") {
        let (_, scope) = rest.split_once('/').unwrap();
        let (scope, _) = scope.split_once("Signature=").unwrap();
        return format!("{signer}/<day>/{scope}Signature=<signature>");
    }
    match value.strip_prefix("Bearer ya29.") {
        Some(token) => format!("Bearer ya29.{}<number>", token.trim_end_matches(|c: char| c.is_ascii_digit())),
        None => value.to_owned(),
    }
}

#[track_caller]
fn golden(path: &str, got: &str) {
    let path = Path::new(ROOT).join(path);
    if std::env::var_os("KEYWAY_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == got, "{} is stale (KEYWAY_GOLDEN=1 rewrites it):\n{got}", path.display());
}

const BEGIN: &str = "<!-- made of src/provider/catalog.rs: from here -->\n";
const END: &str = "<!-- to here -->\n";

#[test]
fn the_tables_in_the_docs() {
    let path = "docs/providers.md";
    let text = std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the tables");
    let (_, behind) = rest.split_once(END).expect("the mark behind the tables");
    golden(path, &format!("{before}{BEGIN}{}\n{}\n{}{END}{behind}", identities(), operations(), others()));
}

fn identities() -> String {
    let mut text = String::from(
        "| name | provider | address | speaks | a key is | a 429 rests | besides |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows() {
        let names = row.also.iter().chain([&row.id]).map(|name| format!("`{name}`")).rev();
        let speaks = match row.speaks {
            [] => "an API of its own".to_owned(),
            speaks => speaks.iter().map(|dialect| format!("{dialect:?}")).collect::<Vec<_>>().join(", "),
        };
        let cells = [
            names.collect::<Vec<_>>().join(", "),
            row.label.to_owned(),
            address(row),
            speaks,
            credential(row),
            if row.rate_scope == RateScope::Account { "the key" } else { "the model" }.to_owned(),
            besides(row),
        ];
        writeln!(text, "| {} |", cells.join(" | ")).unwrap();
    }
    text
}

/// Head and operation of each column.
const COLUMNS: [(&str, Operation); 15] = [
    ("chat", Operation::ChatCompletion),
    ("text", Operation::TextCompletion),
    ("responses", Operation::Responses),
    ("stored", Operation::ResponsesItem),
    ("embed", Operation::Embedding),
    ("moderate", Operation::Moderation),
    ("rerank", Operation::Rerank),
    ("image", Operation::ImageGeneration),
    ("edit", Operation::ImageEdit),
    ("vary", Operation::ImageVariation),
    ("speak", Operation::Speech),
    ("transcribe", Operation::Transcription),
    ("translate", Operation::Translation),
    ("files", Operation::Files),
    ("batches", Operation::Batches),
];

fn operations() -> String {
    let heads: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
    let mut text =
        format!("| OpenAI API | {} | list | shown by |\n|---|{}---|---|\n", heads.join(" | "), "---|".repeat(15));
    for row in rows().iter().filter(|row| row.speaks(Dialect::OpenAi)) {
        let tick = |is_there: bool| if is_there { "✓" } else { "–" };
        let cells: Vec<&str> = COLUMNS.iter().map(|(_, operation)| tick(row.operations.contains(operation))).collect();
        let list = tick(row.lists_models);
        writeln!(text, "| {} | {} | {list} | {} |", row.id, cells.join(" | "), tests(row)).unwrap();
    }
    text
}

/// What is not of the OpenAI API.
fn others() -> String {
    let mut text = String::from("| other APIs | what is served | shown by |\n|---|---|---|\n");
    for row in rows() {
        for dialect in row.speaks.iter().filter(|dialect| **dialect != Dialect::OpenAi) {
            let label = dialect.label();
            let part = row.parts.iter().find(|(of, _)| of == dialect).map(|(_, operations)| {
                let names: Vec<&str> = operations.iter().map(|operation| operation.as_str()).collect();
                format!("{} of", names.join(", "))
            });
            let part = part.unwrap_or_else(|| "all of".to_owned());
            let shown = tests(row);
            writeln!(text, "| {} | {part} the {label} API, see [dialects](dialects.md) | {shown}, [dialects](../tests/it/dialects.rs) |", row.id)
                .unwrap();
        }
        if row.speaks.is_empty() {
            writeln!(text, "| {} | its own paths | {} |", row.id, tests(row)).unwrap();
        }
    }
    text
}

/// Where what the table says can be seen to hold.
fn tests(row: &ProviderRow) -> String {
    if row.in_process {
        return "[sdk](../tests/sdk)".to_owned();
    }
    let more = match row.auth {
        AuthKind::Azure => Some("azure"),
        AuthKind::AwsSigV4 => Some("aws"),
        AuthKind::GoogleOAuth => Some("vertex"),
        AuthKind::None | AuthKind::Bearer | AuthKind::Header(_) => None,
    };
    let more = more.map(|name| format!(", [{name}](../tests/it/{name}.rs)")).unwrap_or_default();
    let sdk = if ["openai", "azure", "anthropic", "gemini", "bedrock"].contains(&row.id) {
        ", [sdk](../tests/sdk)"
    } else {
        ""
    };
    format!("[requests](../{FIXTURES}/{}.http){more}{sdk}", row.id)
}

fn address(row: &ProviderRow) -> String {
    match row.auth {
        _ if row.in_process => "none: inside the process".to_owned(),
        AuthKind::AwsSigV4 => "of the key's region".to_owned(),
        AuthKind::GoogleOAuth => "of the key's location".to_owned(),
        _ if row.needs_endpoint => "named by each key".to_owned(),
        _ if row.speaks.is_empty() => format!("`{}`", row.base_url),
        _ => format!("`{}{}`", row.base_url, row.version_prefix),
    }
}

fn credential(row: &ProviderRow) -> String {
    let text = match row.auth {
        AuthKind::None => "none".to_owned(),
        AuthKind::Bearer => "a bearer".to_owned(),
        AuthKind::Header(name) => format!("`{name}`"),
        AuthKind::Azure => "`api-key`, or a token of Entra".to_owned(),
        AuthKind::AwsSigV4 => "a bearer, or signs (SigV4)".to_owned(),
        AuthKind::GoogleOAuth => "a token of Google".to_owned(),
    };
    if row.value_optional && row.auth == AuthKind::Bearer { format!("{text}, or none") } else { text }
}

/// Statuses that mean something else here, and paths that lie elsewhere.
fn besides(row: &ProviderRow) -> String {
    let faults = row.faults.iter().map(|(status, code, class)| {
        let code = if code.is_empty() { String::new() } else { format!(" `{code}`") };
        format!("{status}{code}: {}", format!("{class:?}").to_lowercase())
    });
    let paths = row.elsewhere.iter().map(|(operation, path)| format!("{}: `{path}`", operation.as_str()));
    faults.chain(paths).collect::<Vec<_>>().join("; ")
}

/// Every row has something to show, and the columns leave nothing out.
#[test]
fn the_tables_are_whole() {
    for row in over_sockets() {
        for operation in row.operations {
            assert!(COLUMNS.iter().any(|(_, it)| it == operation), "{} {operation:?}", row.id);
            let shows = |call: &Call| matches!(call.of, Of::OpenAi(of) if of == *operation);
            assert!(CALLS.iter().any(shows), "{} {operation:?}", row.id);
        }
        for dialect in row.speaks.iter().filter(|dialect| **dialect != Dialect::OpenAi) {
            let shows = |call: &Call| matches!(call.of, Of::Dialect(of, _) if of == *dialect);
            assert!(CALLS.iter().any(shows), "{} {dialect:?}", row.id);
        }
    }
}
