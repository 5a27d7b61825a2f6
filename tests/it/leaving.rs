//! Callers who leave: in every phase, in every way. The upstream hears of it within a second, it is
//! counted as the caller's doing, no key is held responsible, nothing stays taken.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::client::{self, Raw};
use crate::support::gateway::Gateway;
use crate::support::is_long;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";
/// The upstream must know by then.
const AT_MOST: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Half of the request body has come.
    Sending,
    /// The upstream thinks.
    Waiting,
    /// It has sent a head, and no event yet.
    Begun,
    MidStream,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Fin,
    Reset,
    HalfClose,
    /// RST_STREAM of HTTP/2; the connection lives on.
    StreamReset,
}

fn gateway(upstream: &Upstream, network: &str) -> Gateway {
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{
          "up": {{"custom_provider_config": {{"base_provider_type": "openai"}}, "network_config": {{"base_url": "{}"{network}}},
                  "keys": [{{"name": "one", "value": "sk-one-0000"}}]}}}}}}"#,
        upstream.base()
    ))
}

/// By the model: `waiting` never begins, `begun` gives a head, `midstream` an event, all others end.
fn upstream() -> Upstream {
    Upstream::start(|seen| match seen.json()["model"].as_str() {
        Some("waiting") => Answer::hang(),
        Some("begun") => Answer::events([]).step(Step::Hang),
        Some("midstream") => Answer::events([EVENT]).step(Step::Hang),
        _ => Answer::json(200, "{}"),
    })
}

fn body(phase: Phase) -> String {
    let model = format!("{phase:?}").to_lowercase();
    format!(r#"{{"model":"up/{model}","stream":true,"messages":[]}}"#)
}

fn head(length: usize) -> String {
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// A caller in the middle of `phase`.
async fn caller(gateway: &Gateway, upstream: &Upstream, phase: Phase) -> Raw {
    let before = upstream.seen().len();
    let body = body(phase);
    let mut raw = Raw::connect(gateway.base()).await;
    let sent = if phase == Phase::Sending { &body[..10] } else { &body[..] };
    raw.send(head(body.len())).await.unwrap();
    raw.send(sent).await.unwrap();
    match phase {
        Phase::Sending => wait_in_flight(gateway, 1).await,
        Phase::Waiting | Phase::Begun => drop(upstream.wait_seen(before + 1).await),
        Phase::MidStream => drop(raw.until(EVENT).await),
    }
    raw
}

async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = client::get(&gateway.url("/metrics")).await.text();
    let values = page.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

async fn wait_in_flight(gateway: &Gateway, count: u64) {
    client::poll(client::PATIENCE, &format!("{count} requests in flight"), async || {
        let status: Value = gateway.status().await;
        let rows = status["in_flight"].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum();
        (sum == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn in_every_phase_and_every_way() {
    let upstream = upstream();
    let gateway = gateway(&upstream, "");
    let rounds = if is_long() { 500 } else { 6 };
    let (mut count, mut slowest) = (0, Duration::ZERO);
    for phase in [Phase::Sending, Phase::Waiting, Phase::Begun, Phase::MidStream] {
        for way in [Way::Fin, Way::Reset, Way::HalfClose] {
            for _ in 0..rounds {
                let before = upstream.left();
                let mut raw = caller(&gateway, &upstream, phase).await;
                let left = Instant::now();
                let kept = match way {
                    Way::HalfClose => {
                        raw.half_close().await;
                        Some(raw)
                    }
                    Way::Reset => {
                        raw.reset();
                        None
                    }
                    Way::Fin | Way::StreamReset => {
                        drop(raw);
                        None
                    }
                };
                if phase != Phase::Sending {
                    let noticed = upstream.wait_left(before + 1, AT_MOST).await;
                    slowest = slowest.max(noticed.saturating_duration_since(left));
                }
                wait_in_flight(&gateway, 0).await;
                drop(kept);
                count += 1;
            }
        }
    }
    settled(&gateway, &upstream, count).await;
    println!("{count} callers left, the upstream knew after {slowest:?} at most");
}

#[tokio::test]
async fn by_resetting_a_stream_of_http2() {
    let upstream = upstream();
    let gateway = gateway(&upstream, "");
    let socket = TcpStream::connect(gateway.base().strip_prefix("http://").unwrap()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let driver = tokio::spawn(connection);
    let ask = |phase: Phase| {
        let request = Request::post(gateway.url(CHAT)).header("content-type", "application/json");
        sender.clone().send_request(request.body(Full::new(Bytes::from(body(phase)))).unwrap())
    };
    let rounds = if is_long() { 1000 } else { 10 };
    for round in 0..rounds {
        for phase in [Phase::Waiting, Phase::Begun, Phase::MidStream] {
            let (seen, left) = (upstream.seen().len(), upstream.left());
            if phase == Phase::MidStream {
                let mut answer = ask(phase).await.unwrap();
                assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), EVENT);
                drop(answer);
            } else {
                let waiting = tokio::spawn(ask(phase));
                upstream.wait_seen(seen + 1).await;
                waiting.abort();
            }
            upstream.wait_left(left + 1, AT_MOST).await;
        }
        let answer = ask(Phase::Sending).await.unwrap();
        assert_eq!(answer.status(), 200, "the connection lives on, round {round}");
        answer.into_body().collect().await.unwrap();
    }
    wait_in_flight(&gateway, 0).await;
    settled(&gateway, &upstream, 3 * rounds).await;
    println!("{} streams of HTTP/2 reset ({:?})", 3 * rounds, Way::StreamReset);
    driver.abort();
}

/// Bytes behind a request hide a caller's leaving from an HTTP/1 server that has not read them; the
/// deadlines end what nobody waits for.
#[tokio::test]
async fn with_a_follower_in_the_pipe() {
    let upstream = upstream();
    let gateway =
        gateway(&upstream, r#", "default_request_timeout_in_seconds": 1, "stream_idle_timeout_in_seconds": 1"#);
    let rounds = if is_long() { 50 } else { 1 };
    for phase in [Phase::Waiting, Phase::Begun, Phase::MidStream] {
        for _ in 0..rounds {
            let before = upstream.left();
            let mut raw = caller(&gateway, &upstream, phase).await;
            raw.send("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.unwrap();
            drop(raw);
            upstream.wait_left(before + 1, Duration::from_secs(1) + AT_MOST).await;
            wait_in_flight(&gateway, 0).await;
            // To the gateway it was a deadline, and five in a row would rest the key.
            assert_eq!(client::post_json(&gateway.url(CHAT), r#"{"model":"up/fine"}"#).await.status, 200);
        }
    }
    println!("{} callers left with a follower in the pipe", 3 * rounds);
}

/// The work is given up, not only forgotten: an upstream that never notices keeps no permit here.
#[tokio::test]
async fn a_slot_is_free_at_once() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |_| Answer::json(200, "{}").first(Step::Wait(behind.clone())));
    let config = |max: u32| {
        format!(
            r#"{{"server": {{"listen": ["127.0.0.1:0"], "limits": {{"in_flight_max": {max}}}}}, "providers": {{"up": {{
               "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
            upstream.base()
        )
    };
    let gateway = Gateway::start(config(3));
    for _ in 0..20 {
        let mut callers = Vec::new();
        for _ in 0..3 {
            callers.push(caller(&gateway, &upstream, Phase::Waiting).await);
        }
        assert_eq!(client::post_json(&gateway.url(CHAT), body(Phase::Waiting)).await.status, 503);
        drop(callers);
        wait_in_flight(&gateway, 0).await;
    }
    gate.open();
    assert_eq!(client::post_json(&gateway.url(CHAT), body(Phase::Waiting)).await.status, 200);
    println!("60 slots taken and given back");
}

/// After all of it: counted as the callers' doing, the key as good as ever, nothing left open.
async fn settled(gateway: &Gateway, upstream: &Upstream, callers: usize) {
    let counted = metric(gateway, "keyway_callers_left_total").await;
    assert_eq!(counted as usize, callers, "counted as the callers' doing");
    let page = client::get(&gateway.url("/metrics")).await.text();
    let tries: Vec<&str> = page.lines().filter(|line| line.starts_with("keyway_attempts_total")).collect();
    assert!(tries.iter().all(|line| line.contains("\"caller_left\"") || line.contains("\"ok\"")), "{tries:?}");
    let page = client::get(&gateway.url("/metrics")).await.text();
    let up = page.lines().find(|line| line.starts_with("keyway_key_up{")).unwrap();
    assert!(up.ends_with(" 1"), "{up}");
    let healthy = ["unknown", "success"].iter().any(|state| up.contains(&format!("state=\"{state}\"")));
    assert!(healthy, "health untouched: {up}");
    assert_eq!(client::post_json(&gateway.url(CHAT), r#"{"model":"up/fine"}"#).await.status, 200);
    client::poll(client::PATIENCE, "the upstream's connections to close", async || {
        (upstream.connections_open() <= 2 && upstream.answering() == 0).then_some(())
    })
    .await;
}
