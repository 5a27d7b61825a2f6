//! Signals in the middle of streams: readiness first, new connections refused, streams whole or ended
//! with an error event, the exit code as promised.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::support::client::{self, Open, Raw, open};
use crate::support::frames;
use crate::support::gateway::Gateway;
use crate::support::is_long;
use crate::support::upstream::{Answer, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn config(upstream: &Upstream, drain_seconds: u32) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"], "drain_seconds": {drain_seconds}}}, "observability": {{"access_log": false}}, "providers": {{"up": {{
           "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    )
}

/// By the model: `endless` never stops, `waiting` never begins, all others end after half a second.
fn upstream() -> Upstream {
    Upstream::start(|seen| match seen.json()["model"].as_str() {
        Some("waiting") => Answer::hang(),
        Some("endless") => Answer::events([EVENT]).step(Step::Hang),
        _ => {
            let mut answer = Answer::events([EVENT]);
            for _ in 0..25 {
                answer = answer.step(Step::Pause(Duration::from_millis(20))).step(Step::Send(EVENT.into()));
            }
            answer.step(Step::Send(DONE.into()))
        }
    })
}

async fn stream(gateway: &Gateway, model: &str) -> Open {
    let body = format!(r#"{{"model":"up/{model}","stream":true,"messages":[]}}"#);
    let mut answer = open(client::json_request(&gateway.url(CHAT), body)).await;
    answer.until(EVENT).await;
    answer
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Whole,
    Told,
    /// Neither, which only a second signal excuses.
    Cut,
}

async fn end(mut answer: Open) -> End {
    let mut seen = Vec::new();
    let clean = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => seen.extend_from_slice(&chunk),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let seen = String::from_utf8(seen).unwrap();
    match (clean, seen.ends_with(DONE), seen.contains("\"gateway_stopping\"")) {
        (true, true, false) => End::Whole,
        (false, false, true) => End::Told,
        (false, ..) => End::Cut,
        other => panic!("{other:?}: {seen}"),
    }
}

#[tokio::test]
async fn in_the_middle_of_streams() {
    let upstream = upstream();
    let rounds = if is_long() { 250 } else { 3 };
    // Seconds to drain, signals, exit code, what may become of those that would end and of those that would not.
    let cases = [
        (5, vec![Signal::TERM], 0, vec![End::Whole], None),
        (5, vec![Signal::HUP, Signal::INT], 0, vec![End::Whole], None),
        // SIGPIPE is nobody's business: a caller who leaves must not end the process.
        (3, vec![Signal::PIPE, Signal::TERM], 0, vec![End::Whole], Some(vec![End::Told])),
        (30, vec![Signal::TERM, Signal::TERM], 143, vec![End::Whole, End::Cut], Some(vec![End::Cut])),
        (30, vec![Signal::INT, Signal::INT], 130, vec![End::Whole, End::Cut], Some(vec![End::Cut])),
    ];
    let (mut ended, mut count) = (std::collections::BTreeMap::<End, usize>::new(), 0);
    for round in 0..rounds {
        for (drain, signals, code, may, endless) in &cases {
            let mut gateway = Gateway::start(config(&upstream, *drain));
            let mut streams = JoinSet::new();
            for _ in 0..4 {
                let answer = stream(&gateway, "ends").await;
                streams.spawn(async move { (true, end(answer).await) });
            }
            if endless.is_some() {
                let answer = stream(&gateway, "endless").await;
                streams.spawn(async move { (false, end(answer).await) });
            }
            tokio::time::sleep(Duration::from_millis(10 * (round % 30))).await;
            for (at, signal) in signals.iter().enumerate() {
                if at > 0 && signals[at - 1] == *signal {
                    client::poll(client::PATIENCE, "the drain to begin", async || {
                        gateway.output().contains("draining").then_some(())
                    })
                    .await;
                }
                gateway.signal(*signal);
            }
            let began = Instant::now();
            while let Some(outcome) = streams.join_next().await {
                let (would_end, how) = outcome.unwrap();
                let allowed = if would_end { may } else { endless.as_ref().unwrap() };
                assert!(allowed.contains(&how), "{signals:?}: {how:?}\n{}", gateway.output());
                *ended.entry(how).or_default() += 1;
            }
            assert_eq!(gateway.wait_exit(), *code, "{signals:?}\n{}", gateway.output());
            assert!(began.elapsed() < Duration::from_secs(6), "{signals:?}: {:?}", began.elapsed());
            count += 1;
        }
    }
    println!("{count} processes ended in the middle of streams: {ended:?}");
}

/// Who asks on a connection that is open learns that the process is going; who comes anew is refused;
/// who waits for an upstream is answered at the bound.
#[tokio::test]
async fn readiness_first_then_the_listeners() {
    let upstream = upstream();
    let mut gateway = Gateway::start(config(&upstream, 1));
    let ready = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    // A head that is half sent when the drain begins is served; it was there first.
    let mut early = Raw::connect(gateway.base()).await;
    early.send(ready).await.unwrap();
    assert!(early.until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    early.send(&ready[..20]).await.unwrap();
    let body = r#"{"model":"up/waiting","messages":[]}"#;
    let waiting = tokio::spawn(client::send(client::json_request(&gateway.url(CHAT), body)));
    upstream.wait_seen(1).await;
    let answer = stream(&gateway, "endless").await;
    gateway.signal(Signal::TERM);
    let address = gateway.base().strip_prefix("http://").unwrap().to_owned();
    client::poll(client::PATIENCE, "new connections to be refused", async || {
        tokio::net::TcpStream::connect(&address).await.err().map(|_| ())
    })
    .await;
    let _ = early.send(&ready[20..]).await;
    let (told, _) = early.until_closed(client::PATIENCE).await;
    assert!(told.is_empty() || told.contains("HTTP/1.1 503"), "not ready any more: {told}");
    assert_eq!(end(answer).await, End::Told);
    let reply = waiting.await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (503, Some("gateway_stopping")));
    assert_eq!(gateway.wait_exit(), 0, "{}", gateway.output());
}

/// What each dialect is asked with: a model that waits, or one that streams.
fn call(spoken: &str, model: &str) -> (String, String) {
    let stream = model == "endless";
    match spoken {
        "openai" => (CHAT.to_owned(), format!(r#"{{"model":"my-openai/{model}","stream":{stream}}}"#)),
        "anthropic" => ("/v1/messages".to_owned(), format!(r#"{{"model":"my-anthropic/{model}","stream":{stream}}}"#)),
        "gemini" if stream => {
            ("/v1beta/models/my-gemini%2Fendless:streamGenerateContent?alt=sse".to_owned(), "{}".to_owned())
        }
        "gemini" => (format!("/v1beta/models/my-gemini%2F{model}:generateContent"), "{}".to_owned()),
        _ if stream => ("/model/my-bedrock%2Fendless/converse-stream".to_owned(), "{}".to_owned()),
        _ => (format!("/model/my-bedrock%2F{model}/converse"), "{}".to_owned()),
    }
}

/// Who waits and who reads when the process ends is told in the words of his dialect.
#[tokio::test]
async fn each_in_his_own_words() {
    const SPOKEN: [&str; 4] = ["openai", "anthropic", "gemini", "bedrock"];
    let upstream = Upstream::start(|seen| {
        let text = format!("{} {}", seen.path, String::from_utf8_lossy(&seen.body));
        let begun = frames::event("messageStart", "{}");
        match text.contains("endless") {
            true if text.starts_with("/model/") => {
                let answer = Answer::new(200).header("content-type", "application/vnd.amazon.eventstream");
                answer.step(Step::Send(begun.into())).step(Step::Hang)
            }
            true => Answer::events(["event: some\ndata: {}\n\n"]).step(Step::Hang),
            false => Answer::hang(),
        }
    });
    let provider = |kind: &str| {
        format!(
            r#""my-{kind}": {{"custom_provider_config": {{"base_provider_type": "{kind}"}}, "network_config": {{"base_url": "{}"}},
                "keys": [{{"name": "{kind}", "value": "sk-of-{kind}-000000"}}]}}"#,
            upstream.base()
        )
    };
    let mut gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"], "drain_seconds": 1}}, "providers": {{{}}}}}"#,
        SPOKEN.map(provider).join(",")
    ));
    let (mut waiting, mut reading) = (Vec::new(), Vec::new());
    for spoken in SPOKEN {
        let (path, body) = call(spoken, "waiting");
        waiting.push(tokio::spawn(client::send(client::json_request(&gateway.url(&path), body))));
        let (path, body) = call(spoken, "endless");
        reading.push(open(client::json_request(&gateway.url(&path), body)).await);
    }
    upstream.wait_seen(2 * SPOKEN.len()).await;
    gateway.signal(Signal::TERM);
    for (spoken, mut answer) in SPOKEN.into_iter().zip(reading) {
        let mut seen = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            seen.extend_from_slice(&chunk);
        }
        let seen = String::from_utf8_lossy(&seen).into_owned();
        let word = match spoken {
            "openai" => "\ndata: {\"error\":{\"message\":\"the gateway is being stopped\"",
            "anthropic" => "\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"",
            "gemini" => "\ndata: {\"error\":{\"code\":503,",
            _ => "serviceUnavailableException",
        };
        assert!(seen.contains(word), "{spoken}: {seen}");
    }
    for (spoken, reply) in SPOKEN.into_iter().zip(waiting) {
        let reply = reply.await.unwrap();
        let told = reply.json();
        let good = match spoken {
            "openai" => told["error"]["code"] == "gateway_stopping",
            "anthropic" => told["type"] == "error" && told["error"]["type"] == "overloaded_error",
            "gemini" => told["error"]["status"] == "UNAVAILABLE" && told["error"]["code"] == 503,
            _ => reply.header("x-amzn-errortype") == "ServiceUnavailableException" && told["message"].is_string(),
        };
        assert!(reply.status == 503 && good, "{spoken}: {} {told}", reply.status);
    }
    assert_eq!(gateway.wait_exit(), 0, "{}", gateway.output());
}
