//! Three deadlines, each with a name of its own, and none on a stream that moves.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::support::client::{self, open};
use crate::support::gateway::Gateway;
use crate::support::is_long;
use crate::support::upstream::{Answer, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Provider `up` with these deadlines, and `good`, which answers.
fn gateway(base: &str, good: &Upstream, network: &str) -> Gateway {
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{
          "up": {{"custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{base}", {network}}}}},
          "good": {{"custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
        good.base()
    ))
}

const SECOND: Duration = Duration::from_secs(1);

/// One second for each, so that what ended a request is told by its name and not by its time.
const ALL: &str =
    r#""connect_timeout_in_seconds": 1, "default_request_timeout_in_seconds": 1, "stream_idle_timeout_in_seconds": 1"#;

fn in_time(began: Instant, spans: u32) {
    let took = began.elapsed();
    assert!(took >= SECOND * spans - SECOND / 10 && took < SECOND * spans + SECOND * 3, "{took:?}");
}

/// Before the first byte: the name in the answer, or the next target of a chain.
#[tokio::test]
async fn before_the_first_byte() {
    let good = Upstream::start(|_| Answer::json(200, "{\"good\":1}"));
    // Accepts no handshake: its queue is full of those who came before.
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let mut queue = Vec::new();
    for _ in 0..4 {
        let address = full.local_addr().unwrap();
        if let Ok(Ok(socket)) = tokio::time::timeout(SECOND / 5, tokio::net::TcpStream::connect(address)).await {
            queue.push(socket);
        }
    }
    // Accepts, and says nothing to a TLS client.
    let silent = Upstream::raw(|socket, _| async move {
        std::future::pending::<()>().await;
        drop(socket);
    });
    let hangs = Upstream::start(|_| Answer::hang());
    let half_head = Upstream::raw(|mut socket, _| async move {
        let _ = socket.read(&mut [0; 4096]).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await;
        std::future::pending::<()>().await;
    });
    let head_alone = Upstream::start(|_| Answer::events([]).step(Step::Hang));
    let json_head_alone = Upstream::start(|_| Answer::json(200, "{\"a\":1}").step(Step::Hang));
    let full_base = format!("http://{}", full.local_addr().unwrap());
    let silent_base = silent.base().replace("http:", "https:");
    let cases = [
        ("a full queue", full_base, 502, "upstream_connect_timeout"),
        ("a silent handshake", silent_base, 502, "upstream_connect_timeout"),
        ("no head", hangs.base(), 504, "upstream_first_byte_timeout"),
        ("half a head", half_head.base(), 504, "upstream_first_byte_timeout"),
        ("a head and no event", head_alone.base(), 504, "upstream_first_byte_timeout"),
    ];
    let rounds = if is_long() { 100 } else { 1 };
    let mut count = 0;
    for (what, base, status, code) in &cases {
        for _ in 0..rounds {
            let gateway = gateway(base, &good, ALL);
            let url = gateway.url(CHAT);
            let began = Instant::now();
            let (alone, chained) = tokio::join!(
                client::post_json(&url, r#"{"model":"up/m","stream":true}"#),
                client::post_json(&url, r#"{"model":"up/m","stream":true,"fallbacks":["good/m"]}"#),
            );
            assert_eq!(alone.status.as_u16(), *status, "{what}: {}", alone.text());
            assert_eq!(alone.json()["error"]["code"], *code, "{what}");
            in_time(began, 1);
            assert_eq!(alone.header("x-should-retry"), "false", "{what}");
            assert_eq!((chained.status.as_u16(), chained.text().as_str()), (200, "{\"good\":1}"), "{what}");
            count += 2;
        }
    }
    // A body that began in time is under the idle deadline: it has gone out already.
    let gateway = gateway(&json_head_alone.base(), &good, ALL);
    let mut answer = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/m"}"#)).await;
    answer.until("{\"a\":1}").await;
    assert!(answer.chunk().await.is_err(), "aborted");
    println!("{} requests met a deadline before the first byte", count + 1);
}

#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let good = Upstream::start(|_| Answer::json(200, "{}"));
    let hangs = Upstream::start(|seen| match seen.path.as_str() {
        "/v1/responses" => Answer::events(["event: response.created\ndata: {}\n\n"]).step(Step::Hang),
        _ => Answer::events([EVENT]).step(Step::Pause(SECOND / 2)).step(Step::Send(EVENT.into())).step(Step::Hang),
    });
    let gateway = gateway(&hangs.base(), &good, ALL);
    for (path, shape) in [(CHAT, "data: {\"error\":"), ("/v1/responses", "event: error\ndata: {\"type\":\"error\"")] {
        let body = r#"{"model":"up/m","stream":true,"fallbacks":["good/m"]}"#;
        let mut answer = open(client::json_request(&gateway.url(path), body)).await;
        let seen = answer.until("\"upstream_idle_timeout\"").await;
        assert!(seen.contains(shape), "{seen}");
        assert!(seen.contains("stream_idle_timeout_in_seconds"), "named as in the config: {seen}");
        while let Ok(chunk) = answer.chunk().await {
            assert!(chunk.is_some(), "no clean end");
        }
    }
    let told = async || (hangs.left() == 2).then_some(());
    client::poll(client::PATIENCE, "the upstream to be told", told).await;
    assert_eq!(good.seen().len(), 0, "no second attempt after the first byte");
}

/// Four seconds in all, under deadlines of one.
#[tokio::test]
async fn a_stream_that_moves_is_not_bounded() {
    let good = Upstream::start(|_| Answer::json(200, "{}"));
    let drips = Upstream::start(|_| {
        let mut answer = Answer::events([EVENT]);
        for _ in 0..10 {
            answer = answer.step(Step::Pause(SECOND * 2 / 5)).step(Step::Send(EVENT.into()));
        }
        answer.step(Step::Send(DONE.into()))
    });
    let gateway = gateway(&drips.base(), &good, ALL);
    let began = Instant::now();
    let mut answer = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#)).await;
    let seen = answer.until(DONE).await;
    assert_eq!(seen.matches(EVENT).count(), 11);
    assert_eq!(answer.chunk().await.unwrap(), None);
    assert!(began.elapsed() >= SECOND * 4);
}
