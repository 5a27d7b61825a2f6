//! The dialects beside OpenAI's, from outside: what reaches an upstream that speaks the same, what
//! comes back, and in whose words keyway refuses.

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{self, Reply, open, request, send};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const SERVER: &str = r#""server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false}"#;

/// The provider `anthropic` with one key, whose model `asked` is `told` upstream, and an `openai`.
fn anthropic(upstream: &Upstream) -> String {
    format!(
        r#"{{{SERVER}, "providers": {{
          "anthropic": {{
            "network_config": {{"base_url": "{base}"}},
            "keys": [{{"name": "one", "value": "sk-ant-upstream", "use_for_batch_api": true, "aliases": {{"asked": "told"}}}}]}},
          "openai": {{
            "network_config": {{"base_url": "{base}"}},
            "keys": [{{"name": "other", "value": "sk-openai-upstream"}}]}}}}}}"#,
        base = upstream.base()
    )
}

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers = [&[JSON], headers].concat();
    send(request(Method::POST, &gateway.url(path), &headers, body.to_owned())).await
}

#[tokio::test]
async fn messages_are_relayed_with_the_model_and_the_key_put_in() {
    let answer = "{ \"type\":\"message\",\"content\" : [ ] }";
    let upstream = Upstream::start(move |_| Answer::json(200, answer).header("request-id", "req_theirs"));
    let gateway = Gateway::start(anthropic(&upstream));
    for (path, model) in [
        ("/v1/messages", "asked"),
        ("/anthropic/v1/messages", "asked"),
        ("/v1/messages?beta=true", "anthropic/asked"),
        ("/v1/messages/count_tokens", "asked"),
        ("/anthropic/v1/messages/count_tokens", "anthropic/asked"),
    ] {
        upstream.forget();
        let body = format!("{{\"max_tokens\" : 5.0,\n \"model\":\"{model}\", \"new\":[1e400]}}");
        let headers = [
            ("authorization", "Bearer of-the-caller"),
            ("anthropic-version", "2026-10-21"),
            ("anthropic-beta", "a-1,b-2"),
            ("x-stainless-lang", "python"),
        ];
        let reply = post(&gateway, path, &headers, &body).await;
        assert_eq!((reply.status.as_u16(), &*reply.text()), (200, answer), "{path}");
        let seen = upstream.only();
        assert_eq!(seen.path, path.strip_prefix("/anthropic").unwrap_or(path));
        assert_eq!(seen.body, body.replace(model, "told"), "{path}");
        assert_eq!(seen.header("x-api-key"), "sk-ant-upstream");
        assert_eq!((seen.header("authorization"), seen.header("anthropic-beta")), ("", "a-1,b-2"));
        assert_eq!(seen.header("anthropic-version"), "2026-10-21", "the caller's version travels");
        assert_eq!(reply.header("x-keyway-model"), "told");
        // The id of this request is ours; theirs is told beside it.
        assert_eq!(reply.header("request-id"), reply.header("x-request-id"));
        assert_eq!(reply.header("x-upstream-request-id"), "req_theirs");
    }
}

#[tokio::test]
async fn an_upstream_always_gets_a_version() {
    let upstream = Upstream::start(|_| Answer::json(200, r#"{"data":[{"type":"model","id":"claude-listed"}]}"#));
    let gateway = Gateway::start(anthropic(&upstream));
    post(&gateway, "/v1/messages", &[("x-api-key", "k")], r#"{"model":"m"}"#).await;
    assert_eq!(upstream.only().header("anthropic-version"), "2023-06-01");
    assert_eq!(upstream.only().header("x-api-key"), "sk-ant-upstream");
    upstream.forget();
    let listed = client::get(&gateway.url("/anthropic/v1/models")).await.json();
    let seen = upstream.only();
    assert_eq!((&*seen.path, seen.header("anthropic-version")), ("/v1/models?limit=1000", "2023-06-01"));
    let data = listed["data"].as_array().unwrap();
    assert_eq!(data.iter().map(|m| m["id"].as_str().unwrap()).collect::<Vec<_>>(), ["asked", "claude-listed"]);
    assert_eq!(listed["has_more"], false);
    assert_eq!((&listed["first_id"], &listed["last_id"]), (&json!("asked"), &json!("claude-listed")));
    assert_eq!(data[0]["type"], "model");
}

/// `/v1/models` is two lists; who sends the version gets Anthropic's.
#[tokio::test]
async fn a_list_is_in_the_words_of_who_asks() {
    let upstream = Upstream::start(|_| Answer::json(404, "{}"));
    let gateway = Gateway::start(anthropic(&upstream));
    let ask = async |path: &str| {
        let call = request(Method::GET, &gateway.url(path), &[("anthropic-version", "2023-06-01")], "");
        send(call).await
    };
    let list = ask("/v1/models").await.json();
    assert_eq!(list["data"][0]["id"], "anthropic/asked");
    assert_eq!(list["data"][0]["type"], "model");
    assert_eq!(ask("/v1/models/asked").await.json()["type"], "model");
    let missing = ask("/v1/models/nothing").await;
    assert_eq!((missing.status.as_u16(), &missing.json()["error"]["type"]), (404, &json!("not_found_error")));
    let plain = client::get(&gateway.url("/v1/models")).await.json();
    assert_eq!(plain, json!({"object": "list", "data": []}), "nothing of Anthropic's can be had in OpenAI's words");
}

#[tokio::test]
async fn refusals_have_the_shape_of_the_dialect() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(anthropic(&upstream));
    let good = r#"{"model":"m"}"#;
    for (path, headers, body, status, kind) in [
        ("/v1/messages", &[][..], "{", 400, "invalid_request_error"),
        ("/v1/messages", &[], "{}", 400, "invalid_request_error"),
        ("/v1/messages", &[], r#"{"model":"@nothing"}"#, 404, "not_found_error"),
        ("/v1/messages", &[("x-api-key", "a"), ("authorization", "Bearer b")], good, 401, "authentication_error"),
        ("/v1/messages", &[("origin", "https://evil.example")], good, 403, "permission_error"),
        ("/v1/messages/batches%2Fx", &[], good, 400, "invalid_request_error"),
        ("/anthropic/nothing", &[], good, 404, "not_found_error"),
        ("/v1/models/x", &[("anthropic-version", "2023-06-01")], good, 405, "invalid_request_error"),
    ] {
        let reply = post(&gateway, path, headers, body).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {}", reply.text());
        let told = reply.json();
        assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!(kind)), "{path} {told}");
        assert!(told["error"]["message"].is_string());
        assert_eq!(told["request_id"], reply.header("request-id"));
        assert_eq!(reply.header("request-id"), reply.header("x-request-id"));
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn nothing_is_translated_yet_and_says_so() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(anthropic(&upstream));
    for (path, model, pointer) in [
        ("/v1/messages", "openai/gpt-x", "/error/message"),
        ("/v1/chat/completions", "anthropic/claude-x", "/error/message"),
        // A bare name of its family.
        ("/v1/chat/completions", "claude-x", "/error/message"),
    ] {
        let reply = post(&gateway, path, &[], &format!("{{\"model\":\"{model}\"}}")).await;
        let told = reply.json();
        let message = told.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(reply.status.as_u16(), 400, "{path} {model}");
        assert!(message.contains("translation between dialects is not there yet"), "{path} {told}");
    }
    assert!(upstream.seen().is_empty());
    // A chain goes on with the target that speaks the caller's dialect.
    let body = r#"{"model":"asked","fallbacks":["openai/x","anthropic/second"]}"#;
    assert_eq!(post(&gateway, "/v1/messages", &[], body).await.status, 200);
    assert_eq!(upstream.only().json(), json!({"model": "told"}));
}

#[tokio::test]
async fn errors_are_relayed_and_credentials_are_not() {
    let told = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"r"}"#;
    let upstream =
        Upstream::start(move |_| Answer::json(529, told).header("anthropic-ratelimit-tokens-remaining", "7"));
    let gateway = Gateway::start(anthropic(&upstream));
    let reply = post(&gateway, "/v1/messages", &[], r#"{"model":"m"}"#).await;
    assert_eq!((reply.status.as_u16(), &*reply.text()), (529, told));
    assert_eq!(reply.header("anthropic-ratelimit-tokens-remaining"), "7");
    let quoting = r#"{"type":"error","error":{"type":"authentication_error","message":"invalid sk-ant-upstream"}}"#;
    let upstream = Upstream::start(move |_| Answer::json(401, quoting));
    let gateway = Gateway::start(anthropic(&upstream));
    let reply = post(&gateway, "/v1/messages", &[], r#"{"model":"m"}"#).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["type"]), (502, &json!("api_error")));
    assert!(!reply.text().contains("sk-ant-upstream"));
}

#[tokio::test]
async fn a_cut_stream_ends_with_the_dialects_own_event() {
    let gate = Gate::new();
    let behind = gate.clone();
    let first = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n";
    let upstream = Upstream::start(move |_| Answer::events([first]).step(Step::Wait(behind.clone())).step(Step::Cut));
    let gateway = Gateway::start(anthropic(&upstream));
    let body = r#"{"model":"m","stream":true}"#;
    let mut stream = open(client::json_request(&gateway.url("/v1/messages"), body)).await;
    assert_eq!(stream.until("\n\n").await, first);
    gate.open();
    let seen = stream.until("\n\n").await;
    let data = seen.strip_prefix("event: error\ndata: ").unwrap_or_else(|| panic!("{seen}"));
    let told: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!("api_error")));
    let mut ended = stream.chunk().await;
    while let Ok(Some(_)) = ended {
        ended = stream.chunk().await;
    }
    assert!(ended.is_err(), "a cut stream must not end cleanly");
}

#[tokio::test]
async fn ids_without_a_model_go_to_the_vendor() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(anthropic(&upstream));
    let version = ("anthropic-version", "2023-06-01");
    for (method, path, sent) in [
        (Method::POST, "/v1/messages/batches", "/v1/messages/batches"),
        (Method::GET, "/v1/messages/batches/b1/results", "/v1/messages/batches/b1/results"),
        (Method::GET, "/v1/files?limit=5", "/v1/files?limit=5"),
        (Method::DELETE, "/anthropic/v1/files/f1", "/v1/files/f1"),
    ] {
        upstream.forget();
        let body = if method == Method::POST { r#"{"requests":[]}"# } else { "" };
        let reply = send(request(method, &gateway.url(path), &[JSON, version], body)).await;
        assert_eq!(reply.status, 200, "{path} {}", reply.text());
        assert_eq!((&*upstream.only().path, upstream.only().header("x-api-key")), (sent, "sk-ant-upstream"));
    }
}

/// Whatever a provider speaks, its own API is reached by passthrough.
#[tokio::test]
async fn passthrough_needs_no_dialect() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(anthropic(&upstream));
    let reply = post(&gateway, "/passthrough/anthropic/v1/any/thing", &[("anthropic-version", "x")], "{}").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = upstream.only();
    assert_eq!((&*seen.path, seen.header("x-api-key")), ("/v1/any/thing", "sk-ant-upstream"));
    assert_eq!(seen.header("anthropic-version"), "x");
}

/// The provider `gemini` with one key, whose model `asked` is `told` upstream, and an `openai`.
fn gemini(upstream: &Upstream) -> String {
    anthropic(upstream).replace("\"anthropic\"", "\"gemini\"").replace("sk-ant-upstream", "goog-upstream")
}

#[tokio::test]
async fn a_model_in_the_path_gives_way_to_the_upstreams_name() {
    let upstream = Upstream::start(|_| Answer::json(200, "{ }"));
    let gateway = Gateway::start(gemini(&upstream));
    let body = "{\"contents\":[ ],\n \"model\":\"untouched\",\"fallbacks\":[]}";
    for (path, sent) in [
        ("/v1beta/models/asked:generateContent", "/v1beta/models/told:generateContent"),
        ("/v1beta/models/gemini/asked:generateContent", "/v1beta/models/told:generateContent"),
        ("/v1beta/models/gemini%2Fasked:countTokens?key=k&x=1", "/v1beta/models/told:countTokens?x=1"),
        (
            "/genai/v1beta/models/asked:streamGenerateContent?alt=sse",
            "/v1beta/models/told:streamGenerateContent?alt=sse",
        ),
        // A name that is right is left as it was spelled; one that must be written is one segment.
        ("/v1beta/models/a%3Ab:generateContent", "/v1beta/models/a%3Ab:generateContent"),
        ("/v1beta/models/gemini/a%2Fb%3Ac:generateContent", "/v1beta/models/a%2Fb%3Ac:generateContent"),
        ("/v1beta/tunedModels/mine:generateContent", "/v1beta/tunedModels/mine:generateContent"),
        ("/v1beta/models/asked:someFutureVerb", "/v1beta/models/told:someFutureVerb"),
    ] {
        upstream.forget();
        let reply = post(&gateway, path, &[("x-goog-api-client", "sdk/1")], body).await;
        assert_eq!((reply.status.as_u16(), &*reply.text()), (200, "{ }"), "{path}");
        let seen = upstream.only();
        assert_eq!(seen.path, sent, "{path}");
        assert_eq!(seen.body, body.replace(",\"fallbacks\":[]", ""));
        assert_eq!((seen.header("x-goog-api-key"), seen.header("x-goog-api-client")), ("goog-upstream", "sdk/1"));
    }
    // Bodies that name the model once more.
    for (verb, body, sent) in [
        (
            "batchEmbedContents",
            r#"{"requests":[{"model":"models/asked","content":{"parts":[]}},{"model":"models/other"}]}"#,
            r#"{"requests":[{"model":"models/told","content":{"parts":[]}},{"model":"models/other"}]}"#,
        ),
        ("embedContent", r#"{"model": "asked", "n":1.0}"#, r#"{"model": "models/told", "n":1.0}"#),
    ] {
        upstream.forget();
        post(&gateway, &format!("/v1beta/models/asked:{verb}"), &[], body).await;
        assert_eq!(upstream.only().body, sent);
    }
}

#[tokio::test]
async fn gemini_refusals_lists_and_uploads() {
    let upstream = Upstream::start(|seen| match &*seen.path {
        "/v1beta/models?pageSize=1000" => {
            Answer::json(200, r#"{"models":[{"name":"models/listed"},{"name":"tunedModels/mine"}]}"#)
        }
        _ => Answer::json(200, "{}"),
    });
    let gateway = Gateway::start(gemini(&upstream));
    for (path, headers, body, status, word) in [
        ("/v1beta/models/m:generateContent", &[][..], "{", 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/m:generateContent", &[("origin", "https://evil.example")], "{}", 403, "PERMISSION_DENIED"),
        ("/v1beta/models/m:generateContent?key=a", &[("x-goog-api-key", "b")], "{}", 401, "UNAUTHENTICATED"),
        ("/v1beta/models/openai/m:generateContent", &[], "{}", 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/@nothing:generateContent", &[], "{}", 404, "NOT_FOUND"),
        ("/genai/nothing", &[], "{}", 404, "NOT_FOUND"),
        ("/v1beta/models/m", &[], "{}", 405, "INVALID_ARGUMENT"),
        ("/v1beta1/projects/p", &[], "{}", 400, "INVALID_ARGUMENT"),
    ] {
        let reply = post(&gateway, path, headers, body).await;
        let error = &reply.json()["error"];
        assert_eq!((reply.status.as_u16(), &error["status"]), (status, &json!(word)), "{path} {error}");
        assert_eq!(error["code"], status, "{path}");
    }
    assert!(upstream.seen().is_empty());
    let list = client::get(&gateway.url("/v1beta/models")).await.json();
    let names: Vec<_> = list["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["models/asked", "models/listed", "tunedModels/mine"]);
    // Before the version prefix, whatever it holds.
    upstream.forget();
    let headers = [JSON, ("x-goog-upload-command", "upload, finalize"), ("x-goog-upload-offset", "0")];
    let call = request(Method::POST, &gateway.url("/upload/v1beta/files?upload_id=7"), &headers, "{not\njson");
    assert_eq!(send(call).await.status, 200);
    let seen = upstream.only();
    assert_eq!((&*seen.path, seen.header("x-goog-upload-offset")), ("/upload/v1beta/files?upload_id=7", "0"));
    assert_eq!((&*seen.body, seen.header("x-goog-api-key")), (&b"{not\njson"[..], "goog-upstream"));
}

#[tokio::test]
async fn a_cut_gemini_stream_ends_with_an_error_event() {
    let gate = Gate::new();
    let behind = gate.clone();
    let first = "data: {\"candidates\":[]}\r\n\r\n";
    let upstream = Upstream::start(move |_| Answer::events([first]).step(Step::Wait(behind.clone())).step(Step::Cut));
    let gateway = Gateway::start(gemini(&upstream));
    let url = gateway.url("/v1beta/models/m:streamGenerateContent?alt=sse");
    let mut stream = open(client::json_request(&url, "{}")).await;
    assert_eq!(stream.until("\r\n\r\n").await, first);
    gate.open();
    let seen = stream.until("\n\n").await;
    let told: Value = serde_json::from_str(seen.strip_prefix("data: ").unwrap_or_else(|| panic!("{seen}"))).unwrap();
    assert_eq!((&told["error"]["code"], &told["error"]["status"]), (&json!(502), &json!("UNAVAILABLE")));
}

/// The provider `bedrock` with one key, whose model `asked` is `told` upstream, and an `openai`.
fn bedrock(upstream: &Upstream) -> String {
    anthropic(upstream)
        .replace("\"anthropic\"", "\"bedrock\"")
        .replace("sk-ant-upstream", "bedrock-upstream")
        .replace("\"told\"", "\"arn:aws:bedrock:us-east-1:1:inference-profile/told-v1:0\"")
}

const TOLD: &str = "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Ftold-v1%3A0";

#[tokio::test]
async fn a_bedrock_model_is_one_segment() {
    let upstream = Upstream::start(|_| Answer::json(200, "{ }").header("x-amzn-requestid", "theirs"));
    let gateway = Gateway::start(bedrock(&upstream));
    let body = "{\"messages\":[ ],\n \"model\":\"untouched\",\"stream\":false}";
    let signed =
        "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=00";
    for (path, sent) in [
        ("/model/asked/converse", format!("/model/{TOLD}/converse")),
        ("/model/bedrock%2Fasked/invoke", format!("/model/{TOLD}/invoke")),
        ("/bedrock/model/asked/converse-stream", format!("/model/{TOLD}/converse-stream")),
        ("/model/asked/some-future-word", format!("/model/{TOLD}/some-future-word")),
        // Spelled as it was where it is right.
        ("/model/anthropic.x:0/converse", "/model/anthropic.x:0/converse".to_owned()),
        ("/model/anthropic.x%3A0/converse", "/model/anthropic.x%3A0/converse".to_owned()),
    ] {
        upstream.forget();
        let headers =
            [("authorization", signed), ("x-amz-security-token", "secret"), ("x-amzn-bedrock-trace", "ENABLED")];
        let reply = post(&gateway, path, &headers, body).await;
        assert_eq!((reply.status.as_u16(), &*reply.text()), (200, "{ }"), "{path}");
        let seen = upstream.only();
        assert_eq!((&*seen.path, &seen.body[..]), (&*sent, body.as_bytes()), "{path}");
        assert_eq!((seen.bearer(), seen.header("x-amz-security-token")), ("bedrock-upstream", ""));
        assert_eq!(seen.header("x-amzn-bedrock-trace"), "ENABLED");
        assert_eq!(reply.header("x-amzn-requestid"), reply.header("x-request-id"));
        assert_eq!(reply.header("x-upstream-request-id"), "theirs");
    }
}

#[tokio::test]
async fn bedrock_refusals_name_themselves_in_the_head() {
    let upstream = Upstream::start(|_| {
        let throttled = Answer::json(429, "{\"message\":\"slow down\"}");
        throttled.header("x-amzn-errortype", "ThrottlingException:http://internal.amazon.com/")
    });
    let gateway = Gateway::start(bedrock(&upstream));
    for (path, headers, body, status, name) in [
        ("/model/m/converse", &[][..], "{", 400, "ValidationException"),
        ("/model/m/converse", &[("origin", "https://evil.example")], "{}", 403, "AccessDeniedException"),
        ("/model/m/converse", &[("x-api-key", "a"), ("api-key", "b")], "{}", 401, "UnrecognizedClientException"),
        ("/model/openai%2Fm/converse", &[], "{}", 400, "ValidationException"),
        ("/model/@nothing/converse", &[], "{}", 404, "ResourceNotFoundException"),
        ("/model/a/b/converse", &[], "{}", 404, "ResourceNotFoundException"),
    ] {
        let reply = post(&gateway, path, headers, body).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("x-amzn-errortype")),
            (status, name),
            "{path} {}",
            reply.text()
        );
        assert!(reply.json()["message"].is_string());
        assert_eq!(reply.header("x-amzn-requestid"), reply.header("x-request-id"));
    }
    assert!(upstream.seen().is_empty());
    // The upstream's own error comes as it is, and cools the key.
    let reply = post(&gateway, "/model/m/converse", &[], "{}").await;
    assert_eq!((reply.status.as_u16(), &*reply.text()), (429, "{\"message\":\"slow down\"}"));
    assert_eq!(reply.header("x-amzn-errortype"), "ThrottlingException:http://internal.amazon.com/");
    let again = post(&gateway, "/model/m/converse", &[], "{}").await;
    assert_eq!((again.status.as_u16(), again.header("x-amzn-errortype")), (429, "ThrottlingException"));
    assert_eq!(upstream.seen().len(), 1);
}

const KINDS: [&str; 4] = ["openai", "anthropic", "gemini", "bedrock"];

/// A custom provider of each kind, each with one key, on one upstream.
fn all(upstream: &Upstream) -> String {
    let provider = |kind: &str| {
        format!(
            r#""my-{kind}": {{"custom_provider_config": {{"base_provider_type": "{kind}"}}, "network_config": {{"base_url": "{}"}},
                "keys": [{{"name": "{kind}", "value": "sk-of-{kind}-000000"}}]}}"#,
            upstream.base()
        )
    };
    format!("{{{SERVER}, \"providers\": {{{}}}}}", KINDS.map(provider).join(","))
}

/// Callers of each dialect, models of providers that speak another: a 400 in the caller's words.
#[tokio::test]
async fn every_pair_of_dialects() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(all(&upstream));
    for spoken in KINDS {
        for meant in KINDS {
            upstream.forget();
            let (path, body) = match spoken {
                "openai" => ("/v1/chat/completions".to_owned(), format!(r#"{{"model":"my-{meant}/m"}}"#)),
                "anthropic" => ("/v1/messages".to_owned(), format!(r#"{{"model":"my-{meant}/m"}}"#)),
                "gemini" => (format!("/v1beta/models/my-{meant}%2Fm:generateContent"), "{}".to_owned()),
                _ => (format!("/model/my-{meant}%2Fm/converse"), "{}".to_owned()),
            };
            let reply = post(&gateway, &path, &[], &body).await;
            let (status, told) = (reply.status.as_u16(), reply.json());
            // Bedrock has an OpenAI-compatible endpoint as well.
            if spoken == meant || (spoken, meant) == ("openai", "bedrock") {
                assert_eq!((status, upstream.seen().len()), (200, 1), "{spoken}: {told}");
                continue;
            }
            assert!(upstream.seen().is_empty(), "{spoken} to {meant}");
            let (message, kind) = match spoken {
                "openai" => (&told["error"]["message"], &told["error"]["type"] == "invalid_request_error"),
                "anthropic" => (&told["error"]["message"], &told["error"]["type"] == "invalid_request_error"),
                "gemini" => (&told["error"]["message"], &told["error"]["status"] == "INVALID_ARGUMENT"),
                _ => (&told["message"], reply.header("x-amzn-errortype") == "ValidationException"),
            };
            let message = message.as_str().unwrap_or_default();
            assert!(status == 400 && kind, "{spoken} to {meant}: {status} {told}");
            assert!(message.contains("translation between dialects is not there yet"), "{spoken} to {meant}: {told}");
            assert!(message.contains(&format!("my-{meant}")), "{message}");
        }
    }
}

/// What an upstream says of a key can quote it: whatever status and name it has, it stays here.
#[tokio::test]
async fn what_is_said_of_a_key_stays_here() {
    let reason = r#"{"error":{"code":400,"message":"sk-of-gemini-000000 is bad","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
    for (spoken, path, body, status, name, told) in [
        (
            "anthropic",
            "/v1/messages",
            r#"{"model":"my-anthropic/m"}"#,
            401,
            "",
            r#"{"type":"error","error":{"type":"authentication_error","message":"sk-of-anthropic-000000 is bad"}}"#,
        ),
        ("gemini", "/v1beta/models/my-gemini%2Fm:generateContent", "{}", 400, "", reason),
        ("gemini", "/v1beta/models/my-gemini%2Fm:streamGenerateContent?alt=sse", "{}", 400, "", reason),
        (
            "bedrock",
            "/model/my-bedrock%2Fm/converse",
            "{}",
            403,
            "UnrecognizedClientException:http://internal.amazon.com/",
            r#"{"message":"The security token sk-of-bedrock-000000 is invalid."}"#,
        ),
        (
            "bedrock",
            "/bedrock/model/my-bedrock%2Fm/converse-stream",
            "{}",
            403,
            "InvalidSignatureException",
            r#"{"message":"The Canonical String should have been sk-of-bedrock-000000"}"#,
        ),
    ] {
        let upstream = Upstream::start(move |_| match name {
            "" => Answer::json(status, told),
            _ => Answer::json(status, told).header("x-amzn-errortype", name),
        });
        let gateway = Gateway::start(all(&upstream));
        let reply = post(&gateway, path, &[], body).await;
        let text = reply.text();
        assert_eq!((reply.status.as_u16(), upstream.seen().len()), (502, 1), "{path} {name}: {text}");
        assert!(!text.contains("sk-of-") && !text.contains("Canonical"), "{text}");
        let own = match spoken {
            "anthropic" => reply.json()["error"]["type"] == "api_error",
            "gemini" => reply.json()["error"]["details"][0]["reason"] == "UPSTREAM_CREDENTIALS_EXHAUSTED",
            _ => reply.header("x-amzn-errortype") == "InternalServerException",
        };
        assert!(own, "{path}: {text}");
    }
}
