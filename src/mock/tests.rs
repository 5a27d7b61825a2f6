//! The mock as its callers see it: every path, every fault, over calls, pipes and sockets.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

fn request(method: Method, path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, content_type);
    request.header(AUTHORIZATION, "Bearer sk-test").body(Full::new(body.into())).unwrap()
}

fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    request(Method::POST, path, "application/json", body.to_string())
}

fn get(path: &str) -> Request<Full<Bytes>> {
    request(Method::GET, path, "application/json", "")
}

fn form(path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut body = String::new();
    for (name, value) in fields {
        let file = if ["file", "image"].contains(name) { "; filename=\"a.bin\"" } else { "" };
        body += &format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n");
    }
    request(Method::POST, path, "multipart/form-data; boundary=b", body + "--b--\r\n")
}

async fn read(response: Response<MockBody>) -> (u16, Bytes) {
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

async fn ask(mock: &Mock, request: Request<Full<Bytes>>) -> (u16, Value) {
    let (status, bytes) = read(mock.handle(request).await).await;
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()))
}

/// The `data:` of each event, `[DONE]` as a string.
async fn events(mock: &Mock, request: Request<Full<Bytes>>) -> Vec<Value> {
    let response = mock.handle(request).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let (_, bytes) = read(response).await;
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let blocks = text.split_terminator("\n\n");
    let data = blocks.map(|block| block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned());
    data.map(|data| serde_json::from_str(&data).unwrap_or(Value::String(data))).collect()
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello big world"}]})
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

fn with_key(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    request.headers_mut().insert("api-key", HeaderValue::from_static("k"));
    // Two are one too many.
    request.headers_mut().remove(AUTHORIZATION);
    request
}

#[tokio::test]
async fn every_path_answers() {
    let mock = Mock::new(Recording::Off);
    for (request, pointer, expected) in [
        (post("/v1/chat/completions", &chat("m")), "/choices/0/message/content", json!("mock: hello big world")),
        (post("/openai/v1/chat/completions", &chat("m")), "/object", json!("chat.completion")),
        (post("/chat/completions", &chat("m")), "/usage/total_tokens", json!(7)),
        (
            with_key(post("/openai/deployments/dep/chat/completions?api-version=1", &json!({"messages": []}))),
            "/model",
            json!("dep"),
        ),
        (post("/v1/completions", &json!({"model": "m", "prompt": "hi"})), "/choices/0/text", json!("mock: hi")),
        (post("/v1/responses", &json!({"model": "m", "input": "hi"})), "/output/0/content/0/text", json!("mock: hi")),
        (post("/v1/embeddings", &json!({"model": "m", "input": ["a", "b"]})), "/data/1/index", json!(1)),
        (post("/v1/embeddings", &json!({"model": "m", "input": [1, 2]})), "/data/1", Value::Null),
        (post("/v1/moderations", &json!({"model": "m", "input": "flag me"})), "/results/0/flagged", json!(true)),
        (
            post("/v1/images/generations", &json!({"model": "m", "prompt": "x", "n": 2})),
            "/data/1/revised_prompt",
            json!("x"),
        ),
        (
            form("/v1/images/edits", &[("model", "m"), ("image", "PNG"), ("prompt", "y")]),
            "/data/0/revised_prompt",
            json!("y"),
        ),
        (
            form("/v1/audio/transcriptions", &[("model", "m"), ("file", "abc")]),
            "/text",
            json!("mock: a.bin of 3 bytes"),
        ),
        (
            post("/v1/rerank", &json!({"model": "m", "query": "a b", "documents": ["x", "a", "b a"]})),
            "/results/0/index",
            json!(2),
        ),
        (get("/v1/models"), "/data/0/id", json!("mock-small")),
        (get("/v1/models/org%2Fmodel"), "/id", json!("org/model")),
    ] {
        let path = request.uri().to_string();
        let (status, body) = ask(&mock, request).await;
        assert_eq!((status, body.pointer(pointer).cloned().unwrap_or_default()), (200, expected), "{path} {body}");
    }
    let speech = post("/v1/audio/speech", &json!({"model": "m", "input": "hi", "response_format": "wav"}));
    let response = mock.handle(speech).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "audio/wav");
    assert_eq!(mock.open(), 1, "until its body is gone");
    drop(response);
    assert_eq!(mock.open(), 0);
}

#[tokio::test]
async fn what_it_refuses() {
    let mock = Mock::new(Recording::Off);
    for (request, status, code) in [
        (get("/v1/nothing"), 404, "unknown_url"),
        (request(Method::PUT, "/v1/files", "application/json", ""), 404, "unknown_url"),
        (request(Method::POST, "/v1/chat/completions", "application/json", "{\"model\":"), 400, "invalid_json"),
        (post("/v1/chat/completions", &json!({"model": "m"})), 400, "missing_required_parameter"),
        (post("/v1/responses", &json!({"model": "m"})), 400, "missing_required_parameter"),
        (form("/v1/audio/transcriptions", &[("model", "m")]), 400, "missing_required_parameter"),
        (request(Method::POST, "/v1/files", "multipart/form-data; boundary=b", "--b\r\n"), 400, "invalid_form"),
        (get("/v1/files/file-x"), 404, "not_found"),
        (get("/__mock/requests"), 404, "unknown_url"),
    ] {
        let path = request.uri().to_string();
        let (have, body) = ask(&mock, request).await;
        assert_eq!((have, &body["error"]["code"]), (status, &code.into()), "{path} {body}");
        assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string());
    }
}

#[tokio::test]
async fn chat_streams() {
    let mock = Mock::new(Recording::Off);
    let mut body = streamed(chat("m"));
    let plain = events(&mock, post("/v1/chat/completions", &body)).await;
    assert_eq!(plain[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = plain.iter().filter_map(|e| e.pointer("/choices/0/delta/content")?.as_str()).collect();
    assert_eq!(text, "mock: hello big world");
    assert!(plain.iter().all(|event| event.get("usage").is_none()));
    let [.., last, done] = plain.as_slice() else { panic!("{plain:?}") };
    assert_eq!((&last["choices"][0]["finish_reason"], done), (&json!("stop"), &json!("[DONE]")));

    body["stream_options"] = json!({"include_usage": true});
    let counted = events(&mock, post("/v1/chat/completions", &body)).await;
    let [first, .., usage, _] = counted.as_slice() else { panic!("{counted:?}") };
    assert_eq!(first["usage"], Value::Null);
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(7)));

    body["tools"] = json!([{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}]);
    let called = events(&mock, post("/v1/chat/completions", &body)).await;
    let call = &called[0]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!((&call["function"]["name"], &call["index"]), (&json!("f"), &json!(0)));
    let arguments: String =
        called.iter().filter_map(|e| e.pointer("/choices/0/delta/tool_calls/0/function/arguments")?.as_str()).collect();
    assert_eq!(arguments, "{\"a\":\"mock\"}");
    assert_eq!(called[2]["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn responses_stream_numbered_and_are_kept() {
    let mock = Mock::new(Recording::Off);
    let body = json!({"model": "m", "input": "hi you", "stream": true});
    let events = events(&mock, post("/v1/responses", &body)).await;
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds[..4],
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    );
    assert_eq!(kinds.last(), Some(&"response.completed"));
    let done = &events.last().unwrap()["response"];
    let text: String = events
        .iter()
        .filter(|e| e["type"] == "response.output_text.delta")
        .filter_map(|e| e["delta"].as_str())
        .collect();
    assert_eq!(Some(text.as_str()), done.pointer("/output/0/content/0/text").and_then(Value::as_str));
    let path = format!("/v1/responses/{}", done["id"].as_str().unwrap());
    assert_eq!(ask(&mock, get(&path)).await, (200, done.clone()));
    assert_eq!(ask(&mock, request(Method::DELETE, &path, "text/plain", "")).await.0, 200);
    assert_eq!(ask(&mock, get(&path)).await.0, 404);
}

#[tokio::test]
async fn files_and_batches() {
    let mock = Mock::new(Recording::Off);
    let (_, file) = ask(&mock, form("/v1/files", &[("purpose", "batch"), ("file", "{}\n{}\n")])).await;
    assert_eq!((&file["bytes"], &file["purpose"], &file["filename"]), (&json!(6), &json!("batch"), &json!("a.bin")));
    let id = file["id"].as_str().unwrap();
    assert_eq!(ask(&mock, get("/v1/files")).await.1["data"], json!([file]));
    assert_eq!(read(mock.handle(get(&format!("/v1/files/{id}/content"))).await).await.1, "{}\n{}\n");
    let asked = json!({"input_file_id": id, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let (status, batch) = ask(&mock, post("/v1/batches", &asked)).await;
    assert_eq!((status, &batch["request_counts"]["total"]), (200, &json!(2)));
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    assert_eq!(ask(&mock, get(&path)).await.1, batch);
    assert_eq!(ask(&mock, post(&format!("{path}/cancel"), &json!({}))).await.1["status"], "cancelled");
}

#[tokio::test]
async fn embeddings_in_base64_are_the_same_numbers() {
    let mock = Mock::new(Recording::Off);
    let mut body = json!({"model": "m", "input": "text", "dimensions": 3});
    let floats = ask(&mock, post("/v1/embeddings", &body)).await.1;
    body["encoding_format"] = "base64".into();
    let coded = ask(&mock, post("/v1/embeddings", &body)).await.1;
    let numbers: Vec<f32> = serde_json::from_value(floats["data"][0]["embedding"].clone()).unwrap();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(coded["data"][0]["embedding"], base64::encode(&bytes));
    assert_eq!(numbers.len(), 3);
    assert!((numbers.iter().map(|n| n * n).sum::<f32>() - 1.0).abs() < 1e-5);
}

#[tokio::test]
async fn faults_by_model_and_by_key() {
    let mock = Mock::new(Recording::Off);
    for (model, status, code) in [
        ("mock-401", 401, json!("invalid_api_key")),
        ("mock-403", 403, json!("model_not_found")),
        ("mock-404", 404, json!("model_not_found")),
        ("mock-429", 429, json!("rate_limit_exceeded")),
        ("mock-quota", 429, json!("insufficient_quota")),
        ("mock-500", 500, Value::Null),
        ("mock-503", 503, Value::Null),
        ("mock-529", 529, Value::Null),
    ] {
        let (have, body) = ask(&mock, post("/v1/chat/completions", &chat(model))).await;
        assert_eq!((have, &body["error"]["code"]), (status, &code), "{model}");
    }
    let mut request = post("/v1/chat/completions", &chat("m"));
    request.headers_mut().insert(AUTHORIZATION, "Bearer mock-key-429-after-5.b".parse().unwrap());
    let response = mock.handle(request).await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"5".parse().unwrap()));
    let (_, refused) = ask(&mock, post("/v1/chat/completions", &chat("mock-401"))).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("sk-test"), "quotes the key as real ones may");
    let (status, told) = ask(&mock, form("/v1/audio/transcriptions", &[("model", "mock-429"), ("file", "x")])).await;
    assert_eq!(status, 429, "{told}");
    let (status, _) = ask(&mock, get("/v1/models/mock-503")).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn echo_tells_what_was_sent() {
    let mock = Mock::new(Recording::Off);
    let body = b"{ \"model\" : \"mock-echo\",\"n\":1.0 }".as_slice();
    let mut request = request(Method::POST, "/v1/anything?a=b%20c", "application/json", body);
    request.headers_mut().append("x-two", "1".parse().unwrap());
    request.headers_mut().append("x-two", "2".parse().unwrap());
    let response = mock.handle(request).await;
    assert_eq!(response.headers()["set-cookie"], "mock=1");
    let told: Value = serde_json::from_slice(&read(response).await.1).unwrap();
    assert_eq!(told["body"].as_str().unwrap().as_bytes(), body);
    assert_eq!(told["body_base64"], base64::encode(body));
    assert_eq!(
        (&told["method"], &told["path"], &told["query"]),
        (&json!("POST"), &json!("/v1/anything"), &json!("a=b%20c"))
    );
    let two: Vec<_> = told["headers"].as_array().unwrap().iter().filter(|pair| pair[0] == "x-two").collect();
    assert_eq!(two, [&json!(["x-two", "1"]), &json!(["x-two", "2"])]);
}

#[tokio::test]
async fn streams_that_go_wrong() {
    let mock = Mock::new(Recording::Off);
    let ask_for = |model: &str| post("/v1/chat/completions", &streamed(chat(model)));
    let first = events(&mock, ask_for("mock-error-first-event")).await;
    assert_eq!((first.len(), first[0]["error"]["code"].as_str()), (1, Some("server_error")));
    let mid = events(&mock, ask_for("mock-error-mid-stream")).await;
    assert!(mid.len() > 2 && mid[0].get("error").is_none() && mid.last().unwrap().get("error").is_some());
    let named = post("/v1/responses", &json!({"model": "mock-error-mid-stream", "input": "x", "stream": true}));
    assert_eq!(events(&mock, named).await.last().unwrap()["type"], "error");
    let mut body = mock.handle(ask_for("mock-cut-3")).await.into_body();
    let mut whole = 0;
    let broken = loop {
        match body.frame().await {
            Some(Ok(_)) => whole += 1,
            end => break end,
        }
    };
    assert!(matches!(broken, Some(Err(_))), "not a clean end");
    assert_eq!(whole, 3);
    let (status, garbage) = read(mock.handle(ask_for("mock-garbage")).await).await;
    assert!(status == 200 && serde_json::from_slice::<Value>(&garbage).is_err());
}

/// Time runs by itself where everybody waits, so these waits cost nothing and are exact.
#[tokio::test(start_paused = true)]
async fn waits() {
    let mock = Mock::new(Recording::Off);
    let begin = Instant::now();
    let _ = ask(&mock, post("/v1/chat/completions", &chat("mock-slow-250"))).await;
    assert_eq!(begin.elapsed().as_millis() / 10, 25);

    let begin = Instant::now();
    let response = mock.handle(post("/v1/chat/completions", &streamed(chat("mock-headers-then-wait-500")))).await;
    assert_eq!(begin.elapsed(), Duration::ZERO, "the head comes at once");
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(begin.elapsed().as_millis() / 10, 50);

    let begin = Instant::now();
    let dripped = events(&mock, post("/v1/chat/completions", &streamed(chat("mock-drip-100")))).await;
    assert_eq!(begin.elapsed().as_millis() / 100, dripped.len() as u128);

    let hang = mock.handle(post("/v1/chat/completions", &chat("mock-hang")));
    assert!(timeout(Duration::from_secs(600), hang).await.is_err());
    let response = mock.handle(post("/v1/chat/completions", &chat("mock-hang-after-headers"))).await;
    assert_eq!(response.status(), 200);
    let mut stuck = response.into_body();
    assert!(timeout(Duration::from_secs(600), stuck.frame()).await.is_err());
    drop((body, stuck));
    assert_eq!(mock.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn bench_answers() {
    let mock = Mock::new(Recording::Off);
    let (_, bytes) = read(mock.handle(post("/v1/chat/completions", &chat("mock-bench"))).await).await;
    assert_eq!(bytes.len(), 600);
    let begin = Instant::now();
    let paced = events(&mock, post("/v1/chat/completions", &streamed(chat("mock-bench-stream-20-10")))).await;
    assert_eq!((paced.len(), begin.elapsed().as_millis() / 10), (21, 20), "on its schedule");
    let burst = events(&mock, post("/v1/chat/completions", &streamed(chat("mock-bench-stream-1000-0")))).await;
    assert_eq!(burst.len(), 1001);
}

async fn connect<S>(stream: S) -> (http1::SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

#[tokio::test]
async fn through_a_pipe() {
    let in_memory = InMemory::new(Arc::new(Mock::new(Recording::Off)));
    let (mut sender, connection) = connect(in_memory.connect()).await;
    for _ in 0..3 {
        sender.ready().await.unwrap();
        let response = sender.send_request(post("/v1/chat/completions", &streamed(chat("m")))).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.ends_with(b"data: [DONE]\n\n"), "one connection, several answers");
    }
    drop(in_memory);
    let _ = connection.await.unwrap();
    assert!(sender.is_closed());
}

#[tokio::test]
async fn over_a_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mock = Arc::new(Mock::new(Recording::On));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, Arc::clone(&mock), async {
        let _ = stopped.await;
    }));
    let (mut sender, _) = connect(TcpStream::connect(address).await.unwrap()).await;
    let mut tell = async |path: &str| {
        sender.ready().await.unwrap();
        let bytes = sender.send_request(get(path)).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    assert_eq!(tell("/__mock/requests").await, json!({"last": 0, "requests": []}));

    // Cut off after three events: chunks, and no clean end.
    let mut cut = TcpStream::connect(address).await.unwrap();
    let body = streamed(chat("mock-cut-3")).to_string();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    cut.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    cut.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.matches("data: ").count() == 3 && !answer.ends_with("0\r\n\r\n")
    );

    // A caller who leaves while the mock hangs is noticed.
    let (mut hung, _) = connect(TcpStream::connect(address).await.unwrap()).await;
    let pending =
        tokio::spawn(async move { hung.send_request(post("/v1/chat/completions", &chat("mock-hang"))).await });
    while tell("/__mock/open").await["open"] != 1 {}
    pending.abort();
    let _ = pending.await;
    while tell("/__mock/open").await["open"] != 0 {}

    let seen = tell("/__mock/requests?after=1").await;
    assert_eq!((&seen["last"], seen["requests"].as_array().unwrap().len()), (&json!(2), 1));
    let last = &seen["requests"][0];
    assert_eq!(
        (&last["key"], &last["model"], &last["stream"]),
        (&json!("sk-test"), &json!("mock-hang"), &json!(false))
    );
    stop.send(()).unwrap();
    server.await.unwrap();
}
