//! Fidelity: what the upstream gets and what the caller gets, byte for byte.

use bytes::Bytes;
use http::Method;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::support::client::{self, Raw, open, request, send};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

/// One custom provider `up` with one key, whose model `asked` is `told` upstream.
fn config(upstream: &Upstream) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}},
        "providers": {{"up": {{
          "custom_provider_config": {{"base_provider_type": "openai"}},
          "network_config": {{"base_url": "{}"}},
          "keys": [{{"name": "one", "value": "sk-upstream-1", "aliases": {{"asked": "told"}}}}]}}}}}}"#,
        upstream.base()
    )
}

const CHAT: &str = "/v1/chat/completions";

/// Bodies whose model is `up/asked`, and the same with the model that the upstream is told. The
/// middle part is what stands around the model; `@` marks its place.
const BODIES: [&str; 16] = [
    r#"{"model":@,"messages":[]}"#,
    r#"{"messages":[{"role":"user","content":"x"}],"model":@}"#,
    "{ \"messages\" : [ ] ,\n\t\"model\"\r\n:\t@ , \"n\" : 1.0 }",
    r#"{"temperature":1.50,"seed":12345678901234567890123,"x":1e400,"model":@,"y":-0.0}"#,
    r#"{"a":"\"model\":\"no\"","b":"\\","model":@,"c":"\u006dodel"}"#,
    r#"{"nested":{"model":"inner","stream":true},"list":[{"model":"inner"}],"model":@}"#,
    r#"{"mod\u0065l":@,"messages":[]}"#,
    r#"{"model":@}"#,
    "  \n{\"model\":@}  \n",
    r#"{"text":"päivää ☃ 𝄞 \ud834\udd1e","model":@}"#,
    r#"{"model":@,"stream":false,"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]}"#,
    r#"{"models":"other","model_id":"other","model":@}"#,
    r#"{"":"","model":@," ":null}"#,
    r#"{"a":[[[[[[[[]]]]]]]],"model":@,"b":{"c":{"d":{}}}}"#,
    r#"{"unknown_future_field":{"deep":[1,2,3]},"model":@,"stream_options":{"include_usage":false}}"#,
    r#"{"model":@,"fallback":["not ours"],"x_fallbacks":1}"#,
];

#[tokio::test]
async fn every_byte_but_the_model_in_every_chunking() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(config(&upstream));
    let mut runner = TestRunner::deterministic();
    let mut count = 0;
    for body in BODIES {
        let sent = body.replace('@', r#""up/asked""#);
        let expected = body.replace('@', r#""told""#);
        for _ in 0..6 {
            let cuts = proptest::collection::vec(1usize..40, 0..12).new_tree(&mut runner).unwrap().current();
            upstream.forget();
            let mut raw = Raw::connect(gateway.base()).await;
            raw.send(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
                 transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            )
            .await
            .unwrap();
            let mut rest = sent.as_bytes();
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                if !piece.is_empty() {
                    raw.send(format!("{:x}\r\n", piece.len())).await.unwrap();
                    raw.send(piece).await.unwrap();
                    raw.send("\r\n").await.unwrap();
                }
                rest = more;
            }
            if !rest.is_empty() {
                raw.send(format!("{:x}\r\n", rest.len())).await.unwrap();
                raw.send(rest).await.unwrap();
                raw.send("\r\n").await.unwrap();
            }
            raw.send("0\r\n\r\n").await.unwrap();
            let (answer, _) = raw.until_closed(client::PATIENCE).await;
            assert_eq!(client::status_of(&answer), 200, "{sent}\n{answer}");
            assert_eq!(String::from_utf8_lossy(&upstream.only().body), expected);
            assert_eq!(upstream.only().header("content-length"), expected.len().to_string());
            count += 1;
        }
    }
    println!("{count} bodies compared");
}

#[tokio::test]
async fn our_own_fallbacks_member_is_cut_out() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(config(&upstream));
    for (sent, expected) in [
        (r#"{"fallbacks":["up/b"],"model":"up/asked","n":1}"#, r#"{"model":"told","n":1}"#),
        (r#"{"model":"up/asked","fallbacks":["up/b"]}"#, r#"{"model":"told"}"#),
        (r#"{"model":"up/asked", "fallbacks" : [ ] , "n":1}"#, r#"{"model":"told", "n":1}"#),
    ] {
        upstream.forget();
        let reply = client::post_json(&gateway.url(CHAT), sent).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen: serde_json::Value = upstream.only().json();
        assert_eq!(seen, serde_json::from_str::<serde_json::Value>(expected).unwrap(), "{sent}");
    }
}

#[tokio::test]
async fn bodies_that_two_parsers_could_read_in_two_ways_are_refused() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(config(&upstream));
    for body in [
        r#"{"messages":[]}"#,
        r#"{"model":1}"#,
        r#"{"model":null}"#,
        r#"{"model":["up/asked"]}"#,
        r#"{"model":"up/asked","model":"up/other"}"#,
        r#"{"model":"up/asked","mod\u0065l":"up/other"}"#,
        // What parsers that ignore case take for the same member.
        r#"{"model":"up/asked","Model":"up/other"}"#,
        r#"{"model":"up/asked"} {}"#,
        r#"{"model":"up/asked""#,
        r#"[{"model":"up/asked"}]"#,
        r#"{"model":""}"#,
        r#"{"model":"up/as\nked"}"#,
        "",
        "null",
    ] {
        let reply = client::post_json(&gateway.url(CHAT), body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert!(reply.json()["error"]["message"].is_string(), "{body}");
        assert!(reply.json()["error"]["type"] == "invalid_request_error", "{body}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn events_are_passed_on_as_they_come() {
    let gate = Gate::new();
    let (first, second) = ("data: {\"a\":1}\r\n\r\n", ": comment\n\ndata: [DONE]\n\n");
    let answer = {
        let gate = gate.clone();
        move || Answer::events([first]).step(Step::Wait(gate.clone())).step(Step::Send(second.into()))
    };
    let upstream = Upstream::start(move |_| answer());
    let gateway = Gateway::start(config(&upstream));
    let body = r#"{"model":"up/asked","stream":true}"#;
    let mut stream = open(client::json_request(&gateway.url(CHAT), body)).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    // The second half is still behind the gate: what came, came at once.
    assert_eq!(stream.until("\r\n\r\n").await, first);
    gate.open();
    assert_eq!(stream.until("[DONE]\n\n").await, second);
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_cut_stream_ends_with_an_error_event_and_an_abort() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |_| {
        Answer::events(["data: {\"choices\":[]}\n\n"]).step(Step::Wait(behind.clone())).step(Step::Cut)
    });
    let gateway = Gateway::start(config(&upstream));
    let body = r#"{"model":"up/asked","stream":true}"#;
    let mut stream = open(client::json_request(&gateway.url(CHAT), body)).await;
    assert_eq!(stream.until("\n\n").await, "data: {\"choices\":[]}\n\n");
    gate.open();
    let seen = stream.until("\"upstream_broken\"").await;
    assert!(seen.starts_with("data: {\"error\":"), "{seen}");
    let mut ended = stream.chunk().await;
    while let Ok(Some(_)) = ended {
        ended = stream.chunk().await;
    }
    assert!(ended.is_err(), "a cut stream must not end cleanly");
}

#[tokio::test]
async fn an_error_is_relayed_as_it_is() {
    let body = "{ \"error\" : {\"message\":\"bad\\u0020thing\",\"code\":null, \"more\":[1.0]} }";
    let upstream = Upstream::start(move |_| Answer::json(422, body).header("x-ratelimit-remaining-tokens", "7"));
    let gateway = Gateway::start(config(&upstream));
    let reply = client::post_json(&gateway.url(CHAT), r#"{"model":"up/asked"}"#).await;
    assert_eq!(reply.status, 422);
    assert_eq!(reply.text(), body);
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), "7");
    assert_eq!(upstream.seen().len(), 1, "a caller's mistake is not tried again");
}

#[tokio::test]
async fn headers_travel_by_allow_list() {
    let upstream = Upstream::start(|_| {
        Answer::json(200, "{}")
            .header("set-cookie", "a=b")
            .header("x-goog-api-key", "leak")
            .header("authorization", "leak")
            .header("openai-processing-ms", "3")
            .header("x-request-id", "theirs")
            .header("x-internal", "no")
            .header("retry-after", "1")
    });
    let gateway = Gateway::start(config(&upstream));
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer caller-secret"),
        ("cookie", "session=1"),
        ("openai-beta", "assistants=v2"),
        ("openai-organization", "org-1"),
        ("user-agent", "sdk/1"),
        ("x-stainless-lang", "python"),
        ("x-bf-vk", "sk-bf-1"),
        ("x-unknown", "1"),
        ("accept-encoding", "gzip"),
        ("connection", "keep-alive, x-stainless-arch"),
        ("x-stainless-arch", "x64"),
        ("x-request-id", "caller-id-1"),
    ];
    let call = request(Method::POST, &gateway.url(CHAT), &headers, r#"{"model":"up/asked"}"#);
    let reply = send(call).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = upstream.only();
    assert_eq!(seen.bearer(), "sk-upstream-1");
    for (name, value) in [
        ("openai-beta", "assistants=v2"),
        ("openai-organization", "org-1"),
        ("user-agent", "sdk/1"),
        ("x-stainless-lang", "python"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    for name in ["cookie", "x-bf-vk", "x-unknown", "x-stainless-arch", "connection", "x-forwarded-for"] {
        assert_eq!(seen.header(name), "", "{name}");
    }
    for name in ["set-cookie", "x-goog-api-key", "authorization", "x-internal"] {
        assert_eq!(reply.header(name), "", "{name}");
    }
    assert_eq!(reply.header("openai-processing-ms"), "3");
    assert_eq!(reply.header("x-request-id"), "caller-id-1");
    assert_eq!(reply.header("x-upstream-request-id"), "theirs");
    assert_eq!(reply.header("x-keyway-provider"), "up");
    assert_eq!(reply.header("x-keyway-model"), "told");
    assert_eq!(reply.header("x-keyway-attempts"), "1");
    assert!(reply.header("x-keyway-generation").starts_with("1-"));
}

#[tokio::test]
async fn forms_keep_every_byte_but_the_model() {
    let upstream = Upstream::start(|_| Answer::json(200, "{\"text\":\"hi\"}"));
    let gateway = Gateway::start(config(&upstream));
    let audio: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect();
    for model_first in [true, false] {
        let model = |name: &str| format!("--XyZ\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n");
        let file_head = "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
        let size = if model_first { audio.len() } else { 20_000 };
        let form = |name: &str| {
            let file = [file_head.as_bytes(), &audio[..size], b"\r\n"].concat();
            let parts = if model_first { [model(name).into_bytes(), file] } else { [file, model(name).into_bytes()] };
            [parts.concat(), b"--XyZ--\r\n".to_vec()].concat()
        };
        upstream.forget();
        let headers = [("content-type", "multipart/form-data; boundary=XyZ")];
        let call = request(Method::POST, &gateway.url("/v1/audio/transcriptions"), &headers, form("up/asked"));
        let reply = send(call).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(upstream.only().body, Bytes::from(form("told")));
        assert_eq!(upstream.only().header("content-type"), "multipart/form-data; boundary=XyZ");
    }
}

#[tokio::test]
async fn paths_of_the_api_and_of_no_api() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(config(&upstream));
    let base = "/v1";
    for (path, body, expected) in [
        ("/v1/chat/completions", r#"{"model":"up/m"}"#, "/v1/chat/completions"),
        ("/v1/responses?x=1&key=secret", r#"{"model":"up/m"}"#, "/v1/responses?x=1"),
        ("/v1/embeddings", r#"{"model":"up/m"}"#, "/v1/embeddings"),
        ("/v1/moderations?provider=up", "{}", "/v1/moderations"),
        ("/v1/vector_stores?provider=up", "{}", "/v1/vector_stores"),
        ("/v1/threads/t%2Fx/messages?provider=up&limit=2", "{}", "/v1/threads/t%2Fx/messages?limit=2"),
        ("/openai/v1/completions", r#"{"model":"up/m"}"#, "/v1/completions"),
    ] {
        upstream.forget();
        let reply = client::post_json(&gateway.url(path), body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert_eq!(upstream.only().path, expected, "{path} under {base}");
    }
    // Azure's style: the deployment is the model, put in where the body names none.
    upstream.forget();
    let path = "/openai/deployments/up%2Fasked/chat/completions?api-version=2024-10-21";
    let reply = client::post_json(&gateway.url(path), r#"{ "messages":[]}"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(upstream.only().path, "/v1/chat/completions");
    assert_eq!(upstream.only().json(), serde_json::json!({"model": "told", "messages": []}));
}

#[tokio::test]
async fn passthrough_reaches_any_path_with_the_key_put_in() {
    let upstream = Upstream::start(|_| Answer::json(201, "{\"ok\":true}").header("location", "/v1/jobs/1"));
    let gateway = Gateway::start(config(&upstream));
    let body = vec![b'z'; 300_000];
    let headers = [("content-type", "application/octet-stream"), ("authorization", "Bearer k")];
    let call = request(Method::PUT, &gateway.url("/passthrough/up/v2/any%2Fthing?a=1&key=k"), &headers, body.clone());
    let reply = send(call).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.header("location"), "/v1/jobs/1");
    let seen = upstream.only();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("PUT", "/v2/any%2Fthing?a=1"));
    assert_eq!(seen.bearer(), "sk-upstream-1");
    assert_eq!(seen.body, body);
    let reply = client::get(&gateway.url("/passthrough/nobody/v1/models")).await;
    assert_eq!(reply.status, 404, "{}", reply.text());
}

#[tokio::test]
async fn model_lists_are_merged_from_config_and_upstreams() {
    let upstream = Upstream::start(|seen| match seen.path.as_str() {
        "/v1/models" => Answer::json(200, r#"{"object":"list","data":[{"id":"listed-one"},{"id":"secret-two"}]}"#),
        _ => Answer::json(200, "{}"),
    });
    let config = config(&upstream).replace("\"aliases\"", "\"blacklisted_models\": [\"secret-two\"], \"aliases\"");
    let gateway = Gateway::start(config);
    let reply = client::get(&gateway.url("/v1/models")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let list = reply.json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["up/asked", "up/listed-one"]);
    let reply = client::get(&gateway.url("/v1/models/up%2Flisted-one")).await;
    assert_eq!((reply.status.as_u16(), reply.json()["id"].as_str()), (200, Some("up/listed-one")));
    let reply = client::get(&gateway.url("/v1/models/nothing")).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
    // What was listed is a bare name from now on; the list reaches the snapshot without a new generation.
    let found = client::poll(client::PATIENCE, "the listed model to be routed", async || {
        let reply = client::post_json(&gateway.url(CHAT), r#"{"model":"listed-one"}"#).await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert!(found.header("x-keyway-generation").starts_with("1-"));
}
