//! Every kind of path, and that no spelling of one path reaches another's handler.

use http::Request;
use proptest::prelude::*;

use super::*;

fn route(method: &str, path: &str) -> String {
    route_in(Tongue::Unsaid, method, path)
}

/// Judges and matches a path in one go, as one line: what, or why not.
fn route_in(tongue: Tongue, method: &str, path: &str) -> String {
    let Ok(request) = Request::builder().method(method).uri(path).header("host", "a").body(()) else {
        return "400".into();
    };
    let path = match canonical(&request) {
        Ok(path) => path,
        Err(_) => return "400".into(),
    };
    match find(request.method(), &path, tongue) {
        Matched::Data(data) => {
            let model = data.model.as_ref().map_or("-", |model| model.as_str());
            let azure = if data.azure_style { " azure" } else { "" };
            let operation = data.endpoint.operation.as_str();
            let said = data.model_at.clone().map(|at| percent_decode_str(&data.suffix[at]).decode_utf8_lossy());
            assert!(said.is_none_or(|said| data.endpoint.dialect.plain_name(&said) == model), "{path:?}");
            let dialect = match data.endpoint.dialect {
                Dialect::OpenAi => String::new(),
                dialect => format!("{dialect:?} "),
            };
            let stream = if data.streams { " stream" } else { "" };
            let stream = if data.rooted { " rooted" } else { stream };
            format!(
                "{dialect}{operation} {:?} {} {:?} {model}{azure}{stream}",
                data.body,
                data.suffix,
                data.native.join("+")
            )
        }
        Matched::Passthrough { provider, path } => format!("passthrough {provider} {path}"),
        Matched::Status(route) => format!("{route:?}"),
        Matched::Admin(admin) => {
            let AdminMatch { route, provider, key_id, .. } = admin;
            format!("{route:?} {provider} {key_id}").trim_end().to_owned()
        }
        Matched::NotServed { dialect } => format!("not served {dialect:?}"),
        Matched::MethodNotAllowed { side, allow } => format!("405 {side:?} {allow}"),
        Matched::NotFound { side } => format!("404 {side:?}"),
    }
}

/// Method, path, and what they mean.
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/v1/chat/completions", r#"chat_completion Json /chat/completions "" -"#),
    ("POST", "/v1/chat/completions?x=/../", r#"chat_completion Json /chat/completions "" -"#),
    ("GET", "/v1/chat/completions", r#"other None /chat/completions "" -"#),
    ("GET", "/v1/chat/completions/c1/messages", r#"other None /chat/completions/c1/messages "" -"#),
    ("PUT", "/v1/chat/completions", "405 Data GET, HEAD, POST"),
    ("POST", "/v1/completions", r#"text_completion Json /completions "" -"#),
    ("POST", "/v1/responses", r#"responses Json /responses "" -"#),
    ("GET", "/v1/responses", "405 Data POST"),
    ("GET", "/v1/responses/r1/input_items", r#"responses_item None /responses/r1/input_items "" -"#),
    ("POST", "/v1/responses/r1/cancel", r#"responses_item ByContentType /responses/r1/cancel "" -"#),
    ("POST", "/v1/responses/compact", r#"other ByContentType /responses/compact "" -"#),
    ("PUT", "/v1/responses/r1", "405 Data GET, HEAD, POST, DELETE"),
    ("POST", "/v1/embeddings", r#"embedding Json /embeddings "" -"#),
    ("GET", "/v1/embeddings", "405 Data POST"),
    ("OPTIONS", "/v1/embeddings", "405 Data POST"),
    ("post", "/v1/embeddings", "405 Data POST"),
    ("POST", "/v1/images/edits", r#"image_edit Form /images/edits "" -"#),
    ("POST", "/v1/audio/transcriptions", r#"transcription Form /audio/transcriptions "" -"#),
    ("GET", "/v1/models", r#"list_models None /models "" -"#),
    ("HEAD", "/v1/models", r#"list_models None /models "" -"#),
    ("GET", "/v1/models/gpt-x", r#"model None /models/gpt-x "" gpt-x"#),
    ("GET", "/v1/models/openai%2Fgpt-x", r#"model None /models/openai%2Fgpt-x "" openai/gpt-x"#),
    ("GET", "/v1/models/meta/llama%3Afree", r#"model None /models/meta/llama%3Afree "" meta/llama:free"#),
    ("GET", "/v1/models/a%252Fb", r#"model None /models/a%252Fb "" a%2Fb"#),
    ("GET", "/v1/models/a%FF", "404 Data"),
    // Below models others have paths of their own.
    ("POST", "/v1/models/x/y/predictions", r#"other ByContentType /models/x/y/predictions "" -"#),
    ("PUT", "/v1/models/x", "405 Data GET, HEAD, DELETE"),
    ("DELETE", "/v1/models/ft:x", r#"other None /models/ft:x "" ft:x"#),
    ("POST", "/v1/files", r#"files ByContentType /files "" -"#),
    ("GET", "/v1/files/f1/content", r#"files None /files/f1/content "" -"#),
    ("POST", "/v1/batches", r#"batches Json /batches "" -"#),
    ("POST", "/v1/batches/b1/cancel", r#"batches ByContentType /batches/b1/cancel "" -"#),
    ("POST", "/v1/fine_tuning/jobs", r#"other ByContentType /fine_tuning/jobs "" -"#),
    ("GET", "/v1/vector_stores/a%2Fb", r#"other None /vector_stores/a%2Fb "" -"#),
    ("DELETE", "/v1/assistants/a", r#"other ByContentType /assistants/a "" -"#),
    ("OPTIONS", "/v1/assistants", "405 Data GET, HEAD, POST, PUT, PATCH, DELETE"),
    ("TRACE", "/v1/assistants", "405 Data GET, HEAD, POST, PUT, PATCH, DELETE"),
    ("POST", "/v1/Chat/Completions", "404 Data"),
    ("GET", "/v1/FILES/f1", "404 Data"),
    ("GET", "/V1/models", "404 Data"),
    ("GET", "/v1", "404 Data"),
    ("GET", "/v1x/models", "404 Data"),
    ("GET", "/", "404 Data"),
    ("POST", "/openai/v1/chat/completions", r#"chat_completion Json /chat/completions "openai" -"#),
    ("GET", "/openai/v1/models/a%2Fb", r#"model None /models/a%2Fb "openai" a/b"#),
    (
        "POST",
        "/openai/deployments/my%2Fgpt/chat/completions",
        r#"chat_completion Json /chat/completions "azure+openai" my/gpt azure"#,
    ),
    (
        "POST",
        "/openai/deployments/d/audio/transcriptions",
        r#"transcription Form /audio/transcriptions "azure+openai" d azure"#,
    ),
    ("POST", "/openai/deployments/d/extensions/x", r#"other ByContentType /extensions/x "azure+openai" d azure"#),
    ("GET", "/openai/deployments/d/chat/completions", r#"other None /chat/completions "azure+openai" d azure"#),
    ("GET", "/openai/deployments/d/embeddings", "405 Data POST"),
    ("GET", "/openai/deployments/d", "404 Data"),
    ("GET", "/openai/deployments", "404 Data"),
    ("POST", "/openai/responses?api-version=2026-01-01", r#"responses Json /responses "azure+openai" - azure"#),
    ("GET", "/openai/models", r#"list_models None /models "azure+openai" - azure"#),
    ("GET", "/openai/models/m", r#"model None /models/m "azure+openai" m azure"#),
    ("GET", "/openai/files/f", r#"files None /files/f "azure+openai" - azure"#),
    ("GET", "/openai/batches", r#"batches None /batches "azure+openai" - azure"#),
    ("POST", "/openai/chat/completions", "404 Data"),
    ("GET", "/openai/modelsx", "404 Data"),
    ("GET", "/v1/providers", "Connections"),
    ("POST", "/v1/providers", "ConnectionPut"),
    ("PUT", "/v1/providers", "405 Admin GET, HEAD, POST"),
    ("GET", "/v1/providers/catalog", "Catalogue"),
    ("POST", "/v1/providers/catalog", "405 Admin GET, HEAD"),
    ("PATCH", "/v1/providers/openai", "ConnectionPatch openai"),
    ("DELETE", "/v1/providers/catalog", "ConnectionDelete catalog"),
    ("GET", "/v1/providers/openai/keys", "404 Admin"),
    ("GET", "/v1/providersx", "404 Admin"),
    ("GET", "/v1/Providers/x", "404 Admin"),
    ("POST", "/v1/messages", r#"Anthropic chat_completion Json /messages "anthropic" -"#),
    ("GET", "/v1/messages", "405 Data POST"),
    ("POST", "/v1/messages/count_tokens", r#"Anthropic count_tokens Json /messages/count_tokens "anthropic" -"#),
    ("POST", "/v1/messages/batches", r#"Anthropic batches Json /messages/batches "anthropic" -"#),
    ("GET", "/v1/messages/batches/b/results", r#"Anthropic batches None /messages/batches/b/results "anthropic" -"#),
    ("PUT", "/v1/messages/batches/b", "405 Data GET, HEAD, POST, DELETE"),
    ("POST", "/v1/messages/other", r#"Anthropic other ByContentType /messages/other "anthropic" -"#),
    ("POST", "/v1/messages/Batches", "404 Data"),
    ("POST", "/v1/messages%2Fbatches", "400"),
    ("POST", "/v1/messages/batches%2Fb", "400"),
    ("POST", "/v1/complete", r#"Anthropic text_completion Json /complete "anthropic" -"#),
    ("POST", "/anthropic/v1/messages", r#"Anthropic chat_completion Json /messages "anthropic" -"#),
    ("GET", "/anthropic/v1/models", r#"Anthropic list_models None /models "anthropic" -"#),
    ("GET", "/anthropic/v1/models/a%2Fb", r#"Anthropic model None /models/a%2Fb "anthropic" a/b"#),
    ("POST", "/anthropic/v1/files", r#"Anthropic files ByContentType /files "anthropic" -"#),
    ("GET", "/anthropic/v1/skills", r#"Anthropic other None /skills "anthropic" -"#),
    ("POST", "/anthropic/v1/messages%2Fbatches", "400"),
    ("POST", "/anthropic/v1/messages/batches%2Fb", "400"),
    ("GET", "/anthropic/v1", "404 Data"),
    ("GET", "/anthropic/models", "404 Data"),
    ("GET", "/anthropic", "404 Data"),
    ("POST", "/v1beta/models/g:generateContent", r#"Gemini chat_completion Json /models/g:generateContent "gemini" g"#),
    (
        "POST",
        "/genai/v1beta/models/p/g%3A1:streamGenerateContent?alt=sse",
        r#"Gemini chat_completion Json /models/p/g%3A1:streamGenerateContent "gemini" p/g:1 stream"#,
    ),
    (
        "POST",
        "/v1beta/tunedModels/t:generateContent",
        r#"Gemini chat_completion Json /tunedModels/t:generateContent "gemini" tunedModels/t"#,
    ),
    ("POST", "/v1beta/models/g:batchEmbedContents", r#"Gemini embedding Json /models/g:batchEmbedContents "gemini" g"#),
    ("POST", "/v1beta/models/g:countTokens", r#"Gemini count_tokens Json /models/g:countTokens "gemini" g"#),
    // A verb of no row: its model counts all the same.
    ("POST", "/v1beta/models/g:future", r#"Gemini other ByContentType /models/g:future "gemini" g"#),
    ("GET", "/v1beta/models/g:generateContent", "405 Data POST"),
    ("POST", "/v1beta/models/g", "405 Data GET, HEAD, PATCH, DELETE"),
    ("GET", "/v1beta/models", r#"Gemini list_models None /models "gemini" -"#),
    ("GET", "/v1beta/models/g", r#"Gemini model None /models/g "gemini" g"#),
    ("GET", "/v1beta/models/g/operations/o", r#"Gemini other None /models/g/operations/o "gemini" g"#),
    ("PATCH", "/v1beta/tunedModels/t", r#"Gemini other Json /tunedModels/t "gemini" tunedModels/t"#),
    ("DELETE", "/v1beta/files/f", r#"Gemini files None /files/f "gemini" -"#),
    ("POST", "/upload/v1beta/files?upload_id=1", r#"Gemini files Opaque /upload/v1beta/files "gemini" - rooted"#),
    ("POST", "/genai/upload/v1beta/files", r#"Gemini files Opaque /upload/v1beta/files "gemini" - rooted"#),
    ("GET", "/upload/v1beta/files", "405 Data POST, PUT"),
    ("POST", "/upload/v1beta/other", "404 Data"),
    ("POST", "/v1beta/interactions", r#"Gemini other ByContentType /interactions "gemini" -"#),
    ("POST", "/v1beta/Models/g:generateContent", "404 Data"),
    ("POST", "/v1beta/tunedmodels/g:generateContent", "404 Data"),
    ("POST", "/v1beta%2Fmodels/g:generateContent", "400"),
    ("POST", "/v1beta/models%2Fg:generateContent", "400"),
    ("POST", "/v1beta1/publishers/google/models/g:generateContent", "not served Gemini"),
    ("GET", "/genai/models", "404 Data"),
    ("GET", "/v1beta", "404 Data"),
    ("POST", "/model/a%3A0/converse", r#"Bedrock chat_completion Json /model/a%3A0/converse "bedrock" a:0"#),
    (
        "POST",
        "/bedrock/model/arn%3Aaws%3Abedrock%3A%3A1%3Ainference-profile%2Fx/converse-stream",
        r#"Bedrock chat_completion Json /model/arn%3Aaws%3Abedrock%3A%3A1%3Ainference-profile%2Fx/converse-stream "bedrock" arn:aws:bedrock::1:inference-profile/x stream"#,
    ),
    ("POST", "/bedrock/model/a/invoke", r#"Bedrock invoke Json /model/a/invoke "bedrock" a"#),
    (
        "POST",
        "/model/a/invoke-with-response-stream",
        r#"Bedrock invoke Json /model/a/invoke-with-response-stream "bedrock" a stream"#,
    ),
    ("POST", "/model/a/count-tokens", r#"Bedrock count_tokens Json /model/a/count-tokens "bedrock" a"#),
    ("POST", "/model/a/some-word", r#"Bedrock other Json /model/a/some-word "bedrock" a"#),
    ("GET", "/model/a/converse", "405 Data POST"),
    // Two segments are no id, and a call without a known model is none.
    ("POST", "/model/a/b/converse", "404 Data"),
    ("POST", "/model/a/converse%2Fx", "400"),
    ("POST", "/model/a", "404 Data"),
    ("POST", "/bedrock/Model/a/converse", "404 Data"),
    ("GET", "/model", "404 Data"),
    ("POST", "/bedrock/model-invocation-job", r#"Bedrock batches Json /model-invocation-job "bedrock" -"#),
    ("GET", "/bedrock/guardrail/g/version/1", r#"Bedrock other None /guardrail/g/version/1 "bedrock" -"#),
    ("GET", "/bedrock", "404 Data"),
    ("GET", "/models/x", "404 Data"),
    ("POST", "/passthrough/openai/v1/chat/completions?a=b", "passthrough openai /v1/chat/completions"),
    ("GET", "/passthrough/my%20own/x", "passthrough my own /x"),
    ("GET", "/passthrough/openai", "404 Data"),
    ("GET", "/passthrough", "404 Data"),
    ("GET", "/livez", "Livez"),
    ("HEAD", "/readyz?verbose", "Readyz"),
    ("GET", "/healthz", "Healthz"),
    ("GET", "/health", "Health"),
    ("GET", "/metrics", "Metrics"),
    ("POST", "/metrics", "405 Data GET, HEAD"),
    ("GET", "/healthz/x", "404 Data"),
    ("GET", "/api/config/status", "ConfigStatus"),
    ("POST", "/api/config/status", "405 Admin GET, HEAD"),
    ("HEAD", "/api/config/status", "ConfigStatus"),
    ("GET", "/api/providers", "Providers"),
    ("PATCH", "/api/providers", "405 Admin GET, HEAD, POST"),
    ("PUT", "/api/providers/my%20own", "ProviderPut my own"),
    ("GET", "/api/providers/a%252Fb/keys", "Keys a%2Fb"),
    ("GET", "/api/providers/keys/keys/keys", "Key keys keys"),
    ("DELETE", "/api/providers/openai/keys/k%3A1", "KeyDelete openai k:1"),
    ("PATCH", "/api/providers/openai/keys/k", "405 Admin GET, HEAD, PUT, DELETE"),
    ("POST", "/api/providers/openai/keys/k/refresh-models", "KeyRefresh openai k"),
    ("GET", "/api/providers/openai/keys/k/refresh-models", "405 Admin POST"),
    ("GET", "/api/providers/openai/keys/k/other", "404 Admin"),
    ("GET", "/api/providers/a%FF", "404 Admin"),
    ("GET", "/API/providers", "404 Data"),
    ("GET", "/api/Providers", "404 Admin"),
    ("GET", "/api", "404 Admin"),
    ("GET", "/manage/v1/providers", "Credentials"),
    ("GET", "/manage/v1/providers/prov_1/health", "CredentialHealth  prov_1"),
    ("PUT", "/manage/v1/providers/prov_1", "405 Admin GET, HEAD, PATCH, DELETE"),
    ("GET", "/manage/v1/nothing", "404 Admin"),
    ("POST", "/mcp", "Mcp"),
    ("GET", "/mcp", "405 Admin POST"),
    ("POST", "/mcp/x", "404 Admin"),
    ("GET", "/apix", "404 Data"),
    ("GET", "/v1/../api/providers", "400"),
    ("GET", "//v1/models", "400"),
    ("POST", "/v1/chat%2Fcompletions", "400"),
];

#[test]
fn routes() {
    for (method, path, expected) in ROUTES {
        assert_eq!(route(method, path), *expected, "{method} {path}");
    }
    println!("{} routes", ROUTES.len());
}

/// What is Anthropic's where its clients say so, and nobody else's.
#[test]
fn paths_of_two_dialects() {
    for (method, path, said, unsaid) in [
        ("GET", "/v1/models", r#"Anthropic list_models None /models "" -"#, r#"list_models None /models "" -"#),
        ("GET", "/v1/models/x", r#"Anthropic model None /models/x "" x"#, r#"model None /models/x "" x"#),
        (
            "POST",
            "/v1/files",
            r#"Anthropic files ByContentType /files "anthropic" -"#,
            r#"files ByContentType /files "" -"#,
        ),
        ("POST", "/v1/batches", r#"batches Json /batches "" -"#, r#"batches Json /batches "" -"#),
        (
            "GET",
            "/openai/v1/models",
            r#"list_models None /models "openai" -"#,
            r#"list_models None /models "openai" -"#,
        ),
        ("GET", "/v1/modelsx", r#"other None /modelsx "" -"#, r#"other None /modelsx "" -"#),
        ("GET", "/v1/providers", "Connections", "Connections"),
    ] {
        assert_eq!(route_in(Tongue::Anthropic, method, path), said, "{method} {path}");
        assert_eq!(route_in(Tongue::Unsaid, method, path), unsaid, "{method} {path}");
    }
}

#[test]
fn every_row_is_reached_and_none_is_a_management_path() {
    for (dialect, prefixes) in [
        (Dialect::OpenAi, &["/v1", "/openai/v1", "/openai/deployments/d"][..]),
        (Dialect::Anthropic, &["/anthropic/v1"]),
        (Dialect::Gemini, &["/v1beta", "/genai/v1beta"]),
        (Dialect::Bedrock, &["/bedrock"]),
    ] {
        for row in dialect.paths() {
            let path = row.pattern.example();
            let begin = format!("{} {:?} ", row.operation.as_str(), row.body);
            for prefix in prefixes {
                let found = route(row.method, &format!("{prefix}{path}"));
                let found = found.strip_prefix(&format!("{dialect:?} ")).unwrap_or(&found);
                assert!(found.starts_with(&begin), "{} {prefix}{path}: {found}", row.method);
                assert_eq!(dialect_of(&format!("{prefix}{path}"), Tongue::Unsaid), dialect);
                assert!(!ADMIN.iter().any(|admin| admin.path.starts_with(&format!("{prefix}{path}"))));
            }
        }
    }
    for row in ADMIN {
        let path = row.path.replace("{provider}", "openai").replace("{key_id}", "k");
        let found = route(row.method, &path);
        assert_eq!(found.split(' ').next(), Some(&*format!("{:?}", row.route)), "{} {path}", row.method);
    }
}

fn known_path() -> impl Strategy<Value = String> {
    let paths = [
        "/v1/chat/completions",
        "/v1/files",
        "/v1/files/f1/content",
        "/v1/batches",
        "/v1/models",
        "/v1/responses",
        "/v1/providers/x",
        "/v1/messages",
        "/v1/messages/batches/b",
        "/anthropic/v1/messages/count_tokens",
        "/v1beta/models/g:generateContent",
        "/genai/v1beta/batches/b",
        "/model/a/converse",
        "/bedrock/model/a/invoke",
        "/openai/v1/chat/completions",
        "/openai/deployments/d/embeddings",
        "/openai/files/f",
        "/api/config/status",
        "/metrics",
        "/passthrough/openai/v1/files",
    ];
    prop::sample::select(paths.to_vec()).prop_map(str::to_owned)
}

/// What routing would make of it if it were sent in clear: operation or side, without the spelling.
fn meaning(path: &str) -> String {
    route("GET", path).split(' ').take(2).collect::<Vec<_>>().join(" ")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A server that decodes the path before it matches must come to the route that we came to.
    #[test]
    fn no_spelling_of_a_path_takes_another_way(
        path in known_path(), places in prop::collection::vec((any::<prop::sample::Index>(), 0u8..5), 1..4),
    ) {
        let mut bytes = path.clone().into_bytes();
        for (place, how) in places {
            let at = place.index(bytes.len());
            let byte = bytes[at];
            match how {
                0 => drop(bytes.splice(at..=at, format!("%{byte:02x}").bytes())),
                1 => drop(bytes.splice(at..=at, format!("%{byte:02X}").bytes())),
                2 => bytes[at] = byte.to_ascii_uppercase(),
                3 => bytes.insert(at, b'/'),
                _ => drop(bytes.splice(at..at, *b"/x/..")),
            }
        }
        let spelled = String::from_utf8(bytes).unwrap();
        let ours = meaning(&spelled);
        if ours != "400" && !ours.starts_with("404") {
            let decoded = percent_decode_str(&spelled).decode_utf8_lossy().into_owned();
            // Escaped twice: a name with a percent sign in it to whoever decodes once.
            prop_assume!(!decoded.contains('%'));
            prop_assert_eq!(ours, meaning(&decoded), "{} for {}", spelled, path);
        }
    }

    #[test]
    fn random_paths_never_panic(path in "/[ -~]{0,40}") {
        let _ = route("GET", &path);
    }
}
