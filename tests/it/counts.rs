//! Each upstream try is counted once, as what it was when it had ended: not as good because it began well,
//! and not as the upstream's fault because its caller left.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::client::{self, Raw};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Two keys, asked in turn; `dead` has an address at which nobody listens.
fn gateway(upstream: &Upstream) -> Gateway {
    let keys = r#"[{"name": "one", "value": "sk-one-0000", "priority": 1}, {"name": "two", "value": "sk-two-0000"}]"#;
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{
          "up": {{"custom_provider_config": {{"base_provider_type": "openai"}}, "keys": {keys}, "network_config": {{"base_url": "{}",
                 "default_request_timeout_in_seconds": 1, "stream_idle_timeout_in_seconds": 1}}}},
          "dead": {{"custom_provider_config": {{"base_provider_type": "openai"}}, "keys": {keys}, "network_config": {{"base_url": "http://127.0.0.1:1"}}}}}}}}"#,
        upstream.base()
    ))
}

/// By the model: the first key gets the status that it names, the second one a good answer.
fn upstream() -> Upstream {
    Upstream::start(|seen| {
        let second = seen.bearer() == "sk-two-0000";
        let model = if seen.path.starts_with("/v1/") {
            seen.json()["model"].as_str().unwrap().to_owned()
        } else {
            seen.path[1..].to_owned()
        };
        match model.as_str() {
            "stream" => Answer::events([EVENT, DONE]),
            "cut" => Answer::events([EVENT]).step(Step::Pause(Duration::from_millis(20))).step(Step::Cut),
            "unfinished" => Answer::events([EVENT]),
            "silent" => Answer::events([EVENT]).step(Step::Hang),
            "failing" => Answer::events([EVENT, "data: {\"error\":{\"type\":\"server_error\"}}\n\n"]),
            "limited" => Answer::events([EVENT, "data: {\"error\":{\"code\":\"rate_limit_exceeded\"}}\n\n"]),
            "late" => Answer::hang(),
            "close" => Answer::close(),
            status if !second => match status.parse() {
                Ok(status) => Answer::json(status, "{}").header("location", "http://127.0.0.1:1/"),
                Err(_) => Answer::json(200, "{}"),
            },
            _ => Answer::json(200, "{}"),
        }
    })
}

async fn counted(gateway: &Gateway) -> BTreeMap<String, u64> {
    let page = client::get(&gateway.url("/metrics")).await.text();
    let mut sums = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("keyway_attempts_total{")) {
        let outcome = line.split("outcome=\"").nth(1).unwrap().split('"').next().unwrap();
        *sums.entry(outcome.to_owned()).or_default() += line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64;
    }
    sums
}

fn body(model: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"messages":[]}}"#)
}

#[tokio::test]
async fn each_try_once_and_by_its_end() {
    let upstream = upstream();
    let cases: &[(&str, &[(&str, u64)])] = &[
        ("up/fine", &[("ok", 1)]),
        ("up/stream", &[("ok", 1)]),
        ("up/cut", &[("broken", 1)]),
        ("up/unfinished", &[("broken", 1)]),
        ("up/silent", &[("broken", 1)]),
        ("up/failing", &[("server", 1)]),
        ("up/limited", &[("rate", 1)]),
        ("up/late", &[("timeout", 1)]),
        ("up/close", &[("broken", 1)]),
        ("up/500", &[("ok", 1), ("server", 1)]),
        ("up/401", &[("credential", 1), ("ok", 1)]),
        ("up/403", &[("model_access", 1), ("ok", 1)]),
        ("up/429", &[("ok", 1), ("rate", 1)]),
        ("up/400", &[("caller", 1)]),
        ("up/302", &[("ok", 1), ("server", 1)]),
        ("dead/m", &[("connect", 2)]),
        ("/passthrough/up/fine", &[("ok", 1)]),
        ("/passthrough/up/500", &[("server", 1)]),
        ("/passthrough/up/404", &[("caller", 1)]),
        ("/passthrough/up/401", &[("credential", 1)]),
        ("/passthrough/up/302", &[("ok", 1)]),
        ("/passthrough/up/late", &[("timeout", 1)]),
        ("/passthrough/dead/x", &[("connect", 1)]),
    ];
    for (what, expected) in cases {
        // Of its own: what one of them did to its key is not the next one's affair.
        let gateway = gateway(&upstream);
        let path = if what.starts_with('/') { what } else { CHAT };
        // Some are cut off on purpose.
        let _ = client::try_send(client::json_request(&gateway.url(path), body(what))).await;
        let expected: BTreeMap<String, u64> =
            expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(counted(&gateway).await, expected, "{what}\n{}", gateway.output());
    }
    println!("{} ends counted", cases.len());
}

/// Waiting for a head, or in the middle of a stream that had begun well.
#[tokio::test]
async fn who_leaves_is_counted_as_such_and_as_nothing_else() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    for (number, model) in ["up/late", "up/silent"].into_iter().cycle().take(20).enumerate() {
        let mut raw = Raw::connect(gateway.base()).await;
        let body = body(model);
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        raw.send(head).await.unwrap();
        upstream.wait_seen(number + 1).await;
        if model == "up/silent" {
            raw.until(EVENT).await;
        }
        drop(raw);
        client::poll(client::PATIENCE, "one more to be counted", async || {
            let counted = counted(&gateway).await;
            assert!(counted.keys().all(|name| name == "caller_left"), "{counted:?}");
            (counted.get("caller_left") == Some(&(number as u64 + 1))).then_some(())
        })
        .await;
    }
    println!("20 callers left");
}

/// A redirect is never followed. Where the path is the gateway's own it is said in words; on passthrough,
/// where the path is the upstream's, the caller sees it as it is.
#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let beyond = Upstream::start(|_| Answer::json(200, "{}"));
    let target = format!("{}/v1/chat/completions", beyond.base());
    for status in [300, 301, 302, 303, 307, 308] {
        let target = target.clone();
        let upstream = Upstream::start(move |_| Answer::json(status, "moved").header("location", &target));
        let gateway = gateway(&upstream);
        let reply = client::post_json(&gateway.url(CHAT), body("up/m")).await;
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status.as_u16(), error["code"].as_str()), (502, Some("upstream_redirect")), "{status}");
        assert!(error["message"].as_str().unwrap().contains(&format!("answered {status}")), "{error}");
        assert!(reply.header("location").is_empty() && reply.header("x-should-retry") == "false", "{reply:?}");
        let reply = client::post_json(&gateway.url("/passthrough/up/v1/x"), "{}").await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("location")),
            (status, format!("{}/v1/chat/completions", beyond.base()).as_str())
        );
    }
    // An answer to a caller who asked whether something has changed is no redirect.
    let upstream = Upstream::start(|_| Answer::new(304).header("etag", "\"1\""));
    let gateway = gateway(&upstream);
    let request = client::request(
        http::Method::GET,
        &gateway.url("/v1/threads/t?provider=up"),
        &[("if-none-match", "\"1\"")],
        "",
    );
    assert_eq!(client::send(request).await.status, 304);
    assert_eq!(beyond.seen().len(), 0);
}

/// Five connections that fail open the breaker of their origin, whichever way they were asked for.
#[tokio::test]
async fn passthrough_learns_that_nobody_is_there() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let mut codes = Vec::new();
    for _ in 0..7 {
        let reply = client::post_json(&gateway.url("/passthrough/dead/x"), "{}").await;
        codes.push((reply.status.as_u16(), reply.json()["error"]["code"].as_str().unwrap().to_owned()));
    }
    assert!(codes[..5].iter().all(|(status, code)| *status == 502 && code == "upstream_connect_failed"), "{codes:?}");
    assert!(codes[5..].iter().all(|(status, _)| *status == 503), "{codes:?}");
    assert_eq!(
        client::post_json(&gateway.url(CHAT), body("dead/m")).await.status,
        503,
        "of the origin, not of the path"
    );
}
