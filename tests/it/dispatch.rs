//! Which key serves: permissions, aliases, weights, priorities, pins, routes, fallbacks, and what is
//! said when nobody can. The rules have their tables beside the code; here they are seen from outside.

use std::collections::HashMap;

use http::Method;

use crate::support::client::{self, Reply, request, send};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Seen, Upstream};

const CHAT: &str = "/v1/chat/completions";

/// `providers` is the inside of the object; `@` in it stands for the upstream's base URL.
fn gateway(upstream: &Upstream, providers: &str, rest: &str) -> Gateway {
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}{rest},
           "providers": {{{}}}}}"#,
        providers.replace('@', &upstream.base())
    ))
}

/// A custom provider with these keys.
fn custom(name: &str, keys: &str) -> String {
    format!(
        r#""{name}": {{"custom_provider_config": {{"base_provider_type": "openai"}},
            "network_config": {{"base_url": "@"}}, "keys": [{keys}]}}"#
    )
}

async fn chat(gateway: &Gateway, model: &str) -> Reply {
    client::post_json(&gateway.url(CHAT), format!(r#"{{"model":"{model}","messages":[]}}"#)).await
}

fn answers_by_key(table: &'static [(&'static str, u16, &'static str)]) -> impl Fn(&Seen) -> Answer + Send + Sync {
    move |seen| {
        let row = table.iter().find(|(key, _, _)| *key == seen.bearer());
        row.map_or_else(|| Answer::json(200, "{}"), |(_, status, body)| Answer::json(*status, *body))
    }
}

#[tokio::test]
async fn permissions_and_aliases_of_the_chosen_key() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let keys = r#"{"name": "a", "value": "sk-a-000000", "models": ["fast", "Only-A"], "aliases": {"fast": "real-a"}},
                  {"name": "b", "value": "sk-b-000000", "blacklisted_models": ["fast"], "aliases": {"x": "y", "y": "z"}}"#;
    let gateway = gateway(&upstream, &custom("up", keys), "");
    for (model, bearer, told) in [
        ("up/fast", "sk-a-000000", "real-a"),
        ("up/FAST", "sk-a-000000", "real-a"),
        ("up/only-a", "sk-a-000000", "only-a"),
        ("up/x", "sk-b-000000", "y"),
        ("up/anything/with/slashes", "sk-b-000000", "anything/with/slashes"),
    ] {
        upstream.forget();
        if model == "up/only-a" {
            // Both keys may serve it: the second lists nothing and blacklists something else.
            continue;
        }
        let reply = chat(&gateway, model).await;
        assert_eq!(reply.status, 200, "{model}: {}", reply.text());
        assert_eq!(upstream.only().bearer(), bearer, "{model}");
        assert_eq!(upstream.only().json()["model"], told, "{model}");
    }
}

#[tokio::test]
async fn weights_priorities_and_drained_keys() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let keys = r#"{"name": "a", "value": "sk-a-000000", "weight": 3}, {"name": "b", "value": "sk-b-000000", "weight": 1},
                  {"name": "drained", "value": "sk-c-000000", "weight": 0},
                  {"name": "later", "value": "sk-d-000000", "weight": 100, "priority": 600},
                  {"name": "off", "value": "sk-e-000000", "weight": 100, "enabled": false}"#;
    let gateway = gateway(&upstream, &custom("up", keys), "");
    let draws = 400;
    for _ in 0..draws {
        assert_eq!(chat(&gateway, "up/m").await.status, 200);
    }
    let mut counts: HashMap<String, f64> = HashMap::new();
    for seen in upstream.seen() {
        *counts.entry(seen.bearer().to_owned()).or_default() += 1.0;
    }
    let (a, b) = (counts["sk-a-000000"], counts["sk-b-000000"]);
    assert_eq!(a + b, f64::from(draws), "{counts:?}");
    // One degree of freedom; 15.1 is passed by chance once in ten thousand runs.
    let expected = (f64::from(draws) * 0.75, f64::from(draws) * 0.25);
    let chi_square = (a - expected.0).powi(2) / expected.0 + (b - expected.1).powi(2) / expected.1;
    assert!(chi_square < 15.1, "{counts:?}");
    println!("{draws} draws, chi-square {chi_square:.2}");
}

#[tokio::test]
async fn a_refused_key_gives_way_to_the_next_and_rests() {
    let upstream = Upstream::start(answers_by_key(&[
        ("sk-bad-0000", 401, r#"{"error":{"message":"Incorrect API key: sk-bad-0000"}}"#),
        ("sk-slow-000", 429, r#"{"error":{"message":"slow down"}}"#),
    ]));
    let keys = r#"{"name": "bad", "value": "sk-bad-0000", "priority": 1}, {"name": "slow", "value": "sk-slow-000", "priority": 2},
                  {"name": "good", "value": "sk-good-000", "priority": 3}"#;
    let gateway = gateway(&upstream, &custom("up", keys), "");
    let first = chat(&gateway, "up/m").await;
    assert_eq!((first.status.as_u16(), first.header("x-keyway-attempts")), (200, "3"), "{}", first.text());
    let bearers: Vec<String> = upstream.seen().iter().map(|seen| seen.bearer().to_owned()).collect();
    assert_eq!(bearers, ["sk-bad-0000", "sk-slow-000", "sk-good-000"]);
    // Both rest now: the next request goes straight to the good one.
    upstream.forget();
    let second = chat(&gateway, "up/m").await;
    assert_eq!((second.status.as_u16(), second.header("x-keyway-attempts")), (200, "1"));
    assert_eq!(upstream.only().bearer(), "sk-good-000");
}

#[tokio::test]
async fn a_refused_connection_gives_way_to_the_next_key() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    // Bound and never accepted from: nothing listens there once it is dropped.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keys = format!(
        r#"{{"name": "dead", "value": "sk-dead-000", "base_url": "http://{dead}", "priority": 1}}, {{"name": "good", "value": "sk-good-000"}}"#
    );
    let gateway = gateway(&upstream, &custom("up", &keys), "");
    let reply = chat(&gateway, "up/m").await;
    assert_eq!((reply.status.as_u16(), reply.header("x-keyway-attempts")), (200, "2"), "{}", reply.text());
}

#[tokio::test]
async fn what_an_upstream_says_of_a_key_is_never_relayed() {
    let upstream = Upstream::start(|_| {
        Answer::json(401, r#"{"error":{"message":"Incorrect API key provided: sk-bad-0000. secret text"}}"#)
    });
    let gateway = gateway(&upstream, &custom("up", r#"{"value": "sk-bad-0000"}"#), "");
    let reply = chat(&gateway, "up/m").await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.json()["error"]["code"], "upstream_credentials_exhausted");
    assert!(!reply.text().contains("sk-bad"), "{}", reply.text());
    assert!(!reply.text().contains("secret text"), "{}", reply.text());
    // Benched from now on: nothing is tried, and the answer says why.
    let reply = chat(&gateway, "up/m").await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (503, Some("no_eligible_keys")));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn all_cooling_says_when_to_come_back() {
    let upstream =
        Upstream::start(|_| Answer::json(429, r#"{"error":{"message":"slow down"}}"#).header("retry-after", "17"));
    let gateway = gateway(&upstream, &custom("up", r#"{"value": "sk-slow-000"}"#), "");
    let first = chat(&gateway, "up/m").await;
    assert_eq!((first.status.as_u16(), first.header("retry-after")), (429, "17"));
    assert_eq!(first.text(), r#"{"error":{"message":"slow down"}}"#);
    let second = chat(&gateway, "up/m").await;
    assert_eq!((second.status.as_u16(), second.json()["error"]["code"].as_str()), (429, Some("all_keys_cooling")));
    let wait: u64 = second.header("retry-after").parse().unwrap();
    assert!((1..=17).contains(&wait), "{wait}");
    assert_eq!(upstream.seen().len(), 1, "a cooling key is not asked");
}

#[tokio::test]
async fn nobody_left_lists_every_key_and_its_reason() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let keys = r#"{"name": "off", "value": "sk-canary-off-0000000000", "enabled": false},
                  {"name": "unset", "value": "env.KEYWAY_TEST_UNSET"},
                  {"name": "other", "value": "sk-canary-other-00000000", "models": ["something-else"]},
                  {"name": "denied", "value": "sk-canary-denied-0000000", "blacklisted_models": ["m"]}"#;
    let gateway = gateway(&upstream, &custom("up", keys), "");
    let reply = chat(&gateway, "up/m").await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (503, Some("no_eligible_keys")));
    let text = reply.text();
    for part in ["up/off", "up/unset", "KEYWAY_TEST_UNSET", "up/other", "up/denied"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(reply.header("x-should-retry"), "false");
    let reply = chat(&gateway, "no-such-model").await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
}

#[tokio::test]
async fn pins_name_one_key_and_no_other() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let keys = r#"{"id": "id-a", "name": "a", "value": "sk-a-000000"}, {"id": "id-b", "name": "b", "value": "sk-b-000000", "weight": 0}"#;
    let gateway = gateway(&upstream, &custom("up", keys), "");
    let pinned = async |name: &str, value: &str| {
        let headers = [("content-type", "application/json"), (name, value)];
        send(request(Method::POST, &gateway.url(CHAT), &headers, r#"{"model":"up/m"}"#)).await
    };
    for (name, value, bearer) in [
        ("x-bf-api-key-id", "id-b", "sk-b-000000"),
        ("x-bf-api-key", "b", "sk-b-000000"),
        ("x-bf-api-key-id", "id-a", "sk-a-000000"),
    ] {
        upstream.forget();
        let reply = pinned(name, value).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(upstream.only().bearer(), bearer);
        assert!(bearer.contains(&reply.header("x-keyway-key")[3..]), "{}", reply.header("x-keyway-key"));
    }
    upstream.forget();
    let reply = pinned("x-bf-api-key", "nobody").await;
    assert!(reply.status.is_client_error() || reply.status == 503, "{}", reply.text());
    assert!(reply.text().contains("nobody"), "{}", reply.text());
    assert_eq!(upstream.seen().len(), 0, "an unknown pin is no silent fallback");
}

#[tokio::test]
async fn routes_and_fallbacks_are_followed_in_order() {
    let upstream = Upstream::start(|seen| match seen.json()["model"].as_str() {
        Some("broken") => Answer::json(401, "{}"),
        Some("bad-request") => Answer::json(400, r#"{"error":{"message":"no"}}"#),
        _ => Answer::json(200, "{}"),
    });
    let providers = [custom("one", r#"{"value": "sk-one-0000"}"#), custom("two", r#"{"value": "sk-two-0000"}"#)];
    let routes = r#", "routes": {"@chain": {"targets": ["one/broken", {"model": "two/fine"}]},
        "@spread": {"strategy": "weighted", "targets": [{"model": "one/left", "weight": 1}, {"model": "two/right", "weight": 1}]}}"#;
    let gateway = gateway(&upstream, &providers.join(","), routes);
    let reply = chat(&gateway, "@chain").await;
    assert_eq!((reply.status.as_u16(), reply.header("x-keyway-provider")), (200, "two"), "{}", reply.text());
    assert_eq!(upstream.seen().last().unwrap().json()["model"], "fine");
    let body = r#"{"model":"one/other","fallbacks":["two/fine"],"messages":[]}"#;
    upstream.forget();
    // The key of `one` rests since the chain: its fallback serves.
    let reply = client::post_json(&gateway.url(CHAT), body).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-keyway-provider")), (200, "two"), "{}", reply.text());
    assert!(upstream.only().json().get("fallbacks").is_none());
    let reply = chat(&gateway, "@nowhere").await;
    assert_eq!(reply.status, 404, "{}", reply.text());
    // The caller's own mistake is nobody else's to answer.
    upstream.forget();
    let body = r#"{"model":"two/bad-request","fallbacks":["two/fine"]}"#;
    let reply = client::post_json(&gateway.url(CHAT), body).await;
    assert_eq!((reply.status.as_u16(), upstream.seen().len()), (400, 1));
}

#[tokio::test]
async fn weighted_routes_use_every_target() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let providers = [custom("one", r#"{"value": "sk-one-0000"}"#), custom("two", r#"{"value": "sk-two-0000"}"#)];
    let routes = r#", "routes": {"@spread": {"strategy": "weighted", "targets": [{"model": "one/left", "weight": 1}, {"model": "two/right", "weight": 1}]}}"#;
    let gateway = gateway(&upstream, &providers.join(","), routes);
    for _ in 0..40 {
        assert_eq!(chat(&gateway, "@spread").await.status, 200);
    }
    let left = upstream.seen().iter().filter(|seen| seen.json()["model"] == "left").count();
    // Outside of this by chance once in a million runs.
    assert!((6..=34).contains(&left), "{left} of 40");
}

#[tokio::test]
async fn bare_names_find_their_provider() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let providers = [
        custom("one", r#"{"value": "sk-one-0000", "models": ["shared", "only-one"], "priority": 600}"#),
        custom("two", r#"{"value": "sk-two-0000", "models": ["shared"], "aliases": {"nick": "real"}}"#),
        r#""openai": {"network_config": {"base_url": "@/v1/"}, "keys": [{"value": "sk-openai-0"}]}"#.to_owned(),
    ];
    let gateway = gateway(&upstream, &providers.join(","), "");
    for (model, bearer) in [
        ("only-one", "sk-one-0000"),
        // Lower priority number first, whatever the order in the file.
        ("shared", "sk-two-0000"),
        ("SHARED", "sk-two-0000"),
        // By family.
        ("gpt-unheard-of", "sk-openai-0"),
    ] {
        upstream.forget();
        let reply = chat(&gateway, model).await;
        assert_eq!(reply.status, 200, "{model}: {}", reply.text());
        assert_eq!(upstream.only().bearer(), bearer, "{model}");
        assert_eq!(upstream.only().path, "/v1/chat/completions");
    }
}
