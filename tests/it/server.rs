//! The server seen from outside: what is refused before anything is matched, limits at n-1, n and
//! n+1, every kind of listener, and how it ends.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::client::{self, Raw, open, raw, request, send, status_of};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const MOCK: &str =
    r#"{"server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false}, "providers": {"mock": {}}}"#;
const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"mock/gpt-mini","messages":[]}"#;

#[tokio::test]
async fn heads_that_can_be_read_in_two_ways_are_refused() {
    let gateway = Gateway::start(MOCK);
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    let host = "host: 127.0.0.1\r\n";
    let cases = [
        // No or double host, hosts that are none, targets that disagree.
        (get("/livez", ""), 400),
        (get("/livez", "host: 127.0.0.1\r\nhost: 127.0.0.1\r\n"), 400),
        (get("/livez", "host: x/?\r\n"), 400),
        (get("/livez", "host: a@b\r\n"), 400),
        (get("http://other.example/livez", host), 400),
        (get("ftp://127.0.0.1/livez", host), 400),
        // Paths: empty and dot segments, raw and decoded, backslash, bad escapes, encoded controls.
        (get("//livez", host), 400),
        (get("/v1//models", host), 400),
        (get("/v1/../livez", host), 400),
        (get("/v1/./models", host), 400),
        (get("/v1/%2e%2e/livez", host), 400),
        (get("/v1/%2E/models", host), 400),
        (get("/v1\\models", host), 400),
        (get("/v1/models/%00", host), 400),
        (get("/v1/models/%", host), 400),
        (get("/v1/models/%zz", host), 400),
        // Framing.
        (get("/livez", &format!("{host}transfer-encoding: gzip, chunked\r\n")), 400),
        (get("/livez", &format!("{host}content-length: 1\r\ncontent-length: 2\r\n")), 400),
        (get("/livez", &format!("{host}content-length: +1\r\n")), 400),
        // And what is fine.
        (get("/livez", host), 200),
        (get("/v1/models/mock%2Fmock-small", host), 200),
        (get("/v1/models/mock%3Anothing", host), 404),
    ];
    for (head, expected) in &cases {
        let answer = raw(gateway.base(), head).await;
        assert_eq!(status_of(&answer), *expected, "{head}\n{answer}");
    }
    println!("{} heads judged", cases.len());
}

#[tokio::test]
async fn routes_that_do_not_exist() {
    let gateway = Gateway::start(MOCK);
    for (method, path, expected) in [
        (Method::GET, "/", 404),
        (Method::GET, "/nothing", 404),
        (Method::POST, "/livez", 405),
        (Method::GET, "/v1/providersx", 404),
        (Method::POST, "/v1/providers/catalog", 405),
        (Method::POST, "/v1/providers/openai/keys", 404),
        (Method::POST, "/api/nothing", 404),
        (Method::POST, "/v1/messages", 400),
        (Method::POST, "/v1beta/models/gemini-x:generateContent", 400),
        (Method::POST, "/v1beta1/projects/p", 400),
    ] {
        let reply = send(request(method.clone(), &gateway.url(path), &[], "")).await;
        assert_eq!(reply.status.as_u16(), expected, "{method} {path}: {}", reply.text());
        assert!(reply.json()["error"]["message"].is_string(), "{path}");
        assert!(!reply.header("x-request-id").is_empty() && !reply.header("x-keyway-generation").is_empty());
    }
}

#[tokio::test]
async fn bodies_at_their_limit() {
    let gateway =
        Gateway::start(MOCK.replace(
            r#""listen": ["127.0.0.1:0"]"#,
            r#""listen": ["127.0.0.1:0"], "limits": {"request_body_mb_max": 1}"#,
        ));
    let body = |length: usize| {
        let (head, tail) = (r#"{"model":"mock/gpt-mini","messages":[],"x":""#, r#""}"#);
        format!("{head}{}{tail}", "x".repeat(length - head.len() - tail.len()))
    };
    let limit = 1024 * 1024;
    for (length, expected) in [(limit - 1, 200), (limit, 200), (limit + 1, 413)] {
        let reply = client::post_json(&gateway.url(CHAT), body(length)).await;
        assert_eq!(reply.status.as_u16(), expected, "{length} bytes announced");
        // The same without saying so in advance.
        let mut chunked = Raw::connect(gateway.base()).await;
        chunked
            .send("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let text = body(length);
        let _ = chunked.send(format!("{length:x}\r\n{text}\r\n0\r\n\r\n")).await;
        let (answer, _) = chunked.until_closed(client::PATIENCE).await;
        assert_eq!(status_of(&answer), expected, "{length} bytes chunked");
    }
    let headers = [("content-encoding", "gzip"), ("content-type", "application/json")];
    let reply = send(request(Method::POST, &gateway.url(CHAT), &headers, BODY)).await;
    assert_eq!(reply.status, 415, "{}", reply.text());
}

/// The target counts with its head, trailers are bounded by themselves, and what is over a bound is not kept.
#[tokio::test]
async fn targets_and_trailers_at_their_limit() {
    let gateway = Gateway::start(MOCK);
    let (kib, mut count) = (1024, 0);
    for (length, expected) in [(32 * kib - 1, 200), (32 * kib, 200), (32 * kib + 1, 431), (1024 * kib, 431)] {
        let rest =
            format!(" HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", BODY.len());
        let begin = format!("POST {CHAT}?x=");
        let target = "a".repeat(length - begin.len() - rest.len());
        let answer = client::raw(gateway.base(), format!("{begin}{target}{rest}{BODY}")).await;
        assert_eq!(status_of(&answer), expected, "{length} bytes of head, most of it the target");
        count += 1;
    }
    let before = gateway.rss_kib();
    for (lines, bytes, taken) in
        [(1, 100, true), (90, 50, true), (1, 64 * kib, false), (5000, 50, false), (1, 16 << 20, false)]
    {
        let trailers = format!("x: {}\r\n", "a".repeat(bytes)).repeat(lines);
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        let text = format!("{head}{:x}\r\n{BODY}\r\n0\r\n{trailers}\r\n", BODY.len());
        let answer = client::raw(gateway.base(), text).await;
        let status = status_of(&answer);
        assert!(if taken { status == 200 } else { matches!(status, 0 | 400..500) }, "{lines} of {bytes}: {answer}");
        count += 1;
    }
    let grown = gateway.rss_kib().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB");
    println!("{count} targets and trailers");
}

#[tokio::test]
async fn requests_in_flight_at_their_limit() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |_| Answer::json(200, "{}").first(Step::Wait(behind.clone())));
    let gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"], "limits": {{"in_flight_max": 2}}}}, "providers": {{"up": {{
            "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    ));
    let ask = || client::json_request(&gateway.url(CHAT), r#"{"model":"up/m"}"#);
    let (first, second) = (tokio::spawn(send(ask())), tokio::spawn(send(ask())));
    upstream.wait_seen(2).await;
    let third = send(ask()).await;
    assert_eq!((third.status.as_u16(), third.header("retry-after")), (503, "1"), "{}", third.text());
    assert_eq!(client::get(&gateway.url("/livez")).await.status, 200, "health is not shed");
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(second.await.unwrap().status, 200);
    assert_eq!(send(ask()).await.status, 200);
}

#[tokio::test]
async fn http1_and_cleartext_http2_on_one_port() {
    let gateway = Gateway::start(MOCK);
    assert_eq!(client::post_json(&gateway.url(CHAT), BODY).await.status, 200);
    let address = gateway.base().strip_prefix("http://").unwrap();
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let driver = tokio::spawn(connection);
    for _ in 0..3 {
        let call = Request::post(gateway.url(CHAT))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .unwrap();
        let answer = sender.send_request(call).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["choices"].is_array());
    }
    drop(sender);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_unix_socket_with_its_mode() {
    let dir = tempfile::TempDir::with_prefix("keyway-unix-").unwrap();
    let path = dir.path().join("k.sock");
    let config = MOCK.replace("127.0.0.1:0", &format!("unix:{}?mode=0600", path.display()));
    let _gateway = launch(config).start();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut socket = tokio::net::UnixStream::connect(&path).await.unwrap();
    let call = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: anything\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    socket.write_all(call.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status_of(&answer), 200, "{answer}");
}

#[tokio::test]
async fn tls_with_a_certificate_of_the_config() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::TempDir::with_prefix("keyway-tls-").unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let tls = format!(
        r#""listen": ["https://127.0.0.1:0"], "tls": {{"cert_file": "{}", "key_file": "{}"}}"#,
        cert.display(),
        key.display()
    );
    let gateway = Gateway::start(MOCK.replace(r#""listen": ["127.0.0.1:0"]"#, &tls));
    let address = gateway.base().strip_prefix("https://").unwrap().to_owned();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for (offered, spoken) in [(vec![b"http/1.1".to_vec()], None), (vec![b"h2".to_vec()], Some(b"h2".to_vec()))] {
        config.alpn_protocols = offered;
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config.clone()));
        let socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        if let Some(protocol) = spoken {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&protocol[..]));
            continue;
        }
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(status_of(&String::from_utf8_lossy(&answer)), 200);
    }
}

/// With Nagle's algorithm on either side, an event behind a head waits for an acknowledgement that
/// the other side delays by 40 ms.
#[tokio::test]
async fn small_events_are_not_held_back() {
    let events = 20;
    let upstream = Upstream::start(move |_| {
        let mut answer = Answer::events(["data: {\"n\":0}\n\n"]);
        for _ in 1..events {
            answer = answer.step(Step::Pause(Duration::from_millis(5))).step(Step::Send("data: {\"n\":1}\n\n".into()));
        }
        answer.step(Step::Send("data: [DONE]\n\n".into()))
    });
    let gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"up": {{
            "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    ));
    let began = std::time::Instant::now();
    let mut stream = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#)).await;
    let mut seen = 0;
    while let Some(chunk) = stream.chunk().await.unwrap() {
        seen += String::from_utf8_lossy(&chunk).matches("data:").count();
    }
    let took = began.elapsed();
    assert_eq!(seen, events + 1);
    // 19 pauses of 5 ms; 40 ms for each would be 760 ms.
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_drain_lets_streams_finish() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |_| {
        Answer::events(["data: {\"n\":1}\n\n"])
            .step(Step::Wait(behind.clone()))
            .step(Step::Send("data: [DONE]\n\n".into()))
    });
    let mut gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"up": {{
            "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    ));
    let mut stream = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#)).await;
    stream.until("\n\n").await;
    gateway.signal(Signal::TERM);
    let address = gateway.base().strip_prefix("http://").unwrap().to_owned();
    client::poll(client::PATIENCE, "new connections to be refused", async || {
        tokio::net::TcpStream::connect(&address).await.err().map(|_| ())
    })
    .await;
    gate.open();
    assert_eq!(stream.until("[DONE]\n\n").await, "data: [DONE]\n\n");
    assert_eq!(stream.chunk().await.unwrap(), None);
    drop(stream);
    assert_eq!(gateway.wait_exit(), 0, "{}", gateway.output());
}

#[tokio::test]
async fn a_drain_is_bounded_and_a_second_signal_ends_it() {
    let upstream = Upstream::start(|_| Answer::events(["data: {\"n\":1}\n\n"]).step(Step::Hang));
    let config = |drain: u32| {
        format!(
            r#"{{"server": {{"listen": ["127.0.0.1:0"], "drain_seconds": {drain}}}, "providers": {{"up": {{
                "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
            upstream.base()
        )
    };
    for (drain, signals, expected) in [
        (1, vec![Signal::TERM], 0),
        (30, vec![Signal::TERM, Signal::TERM], 143),
        (30, vec![Signal::INT, Signal::INT], 130),
    ] {
        let mut gateway = Gateway::start(config(drain));
        let mut stream = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#)).await;
        stream.until("\n\n").await;
        let began = std::time::Instant::now();
        for (at, signal) in signals.into_iter().enumerate() {
            if at > 0 {
                client::poll(client::PATIENCE, "the drain to begin", async || {
                    gateway.output().contains("draining").then_some(())
                })
                .await;
            }
            gateway.signal(signal);
        }
        assert_eq!(gateway.wait_exit(), expected, "{}", gateway.output());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
