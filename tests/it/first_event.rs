//! The look before the commit point, and the word that ends a stream: what still gives way to the
//! next key, what is passed on, and what counts as the end.

use std::time::{Duration, Instant};

use crate::support::client::{self, open};
use crate::support::frames;
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Gate, Seen, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const GOOD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"good\"}}]}\n\ndata: [DONE]\n\n";

/// Two keys of one provider, the first before the second, and a fallback provider on the same upstream.
fn gateway(upstream: &Upstream) -> Gateway {
    speaking("openai", upstream)
}

fn speaking(base_type: &str, upstream: &Upstream) -> Gateway {
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{
          "up": {{"custom_provider_config": {{"base_provider_type": "{base_type}"}}, "network_config": {{"base_url": "{0}"}},
                  "keys": [{{"name": "first", "value": "sk-first-00", "priority": 1}}, {{"name": "second", "value": "sk-second-0"}}]}},
          "other": {{"custom_provider_config": {{"base_provider_type": "{base_type}"}}, "network_config": {{"base_url": "{0}"}},
                  "keys": [{{"name": "only", "value": "sk-other-00"}}]}}}}}}"#,
        upstream.base()
    ))
}

/// The first key gets `first`, everybody else a good stream.
fn upstream(first: impl Fn() -> Answer + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |seen: &Seen| if seen.bearer() == "sk-first-00" { first() } else { Answer::events([GOOD]) })
}

async fn stream(gateway: &Gateway, path: &str, body: &str) -> (u16, String, String, bool) {
    let mut answer = open(client::json_request(&gateway.url(path), body.to_owned())).await;
    let key = answer.headers.get("x-keyway-key").map_or("", |value| value.to_str().unwrap()).to_owned();
    let mut text = Vec::new();
    let clean = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    (answer.status.as_u16(), key, String::from_utf8(text).unwrap(), clean)
}

/// An answer of status 200 whose first event is an error is that error, whatever its status says.
#[tokio::test]
async fn an_error_in_the_first_event_moves_on_by_its_class() {
    const CAUSES: [(&str, bool); 8] = [
        ("data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}\n\n", true),
        (": processing\n\ndata: {\"error\":{\"code\":502,\"message\":\"m\"}}\n\n", true),
        ("data: {\"error\":{\"code\":\"rate_limit_exceeded\"}}\r\n\r\n", true),
        ("data: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n", true),
        ("data: {\"error\":{\"code\":\"invalid_api_key\",\"message\":\"bad sk-first-00\"}}\n\n", true),
        ("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n", true),
        // The caller's own mistake is nobody else's to answer.
        ("data: {\"error\":{\"code\":\"context_length_exceeded\"}}\n\n", false),
        ("data: {\"error\":{\"code\":400,\"message\":\"m\"}}\n\n", false),
    ];
    for (event, moves_on) in CAUSES {
        let upstream = upstream(move || Answer::events([event, "data: [DONE]\n\n"]));
        let gateway = gateway(&upstream);
        let (status, _, text, clean) = stream(&gateway, CHAT, r#"{"model":"up/m","stream":true}"#).await;
        assert_eq!(status, 200, "{event}: {text}");
        assert!(clean, "{event}");
        if moves_on {
            assert_eq!((text.as_str(), upstream.seen().len()), (GOOD, 2), "{event}");
        } else {
            assert!(text.starts_with(event), "as it is: {text}");
            assert_eq!(upstream.seen().len(), 1, "{event}");
        }
    }
    println!("{} first events judged", CAUSES.len());
}

#[tokio::test]
async fn what_a_first_event_says_of_a_key_is_never_relayed() {
    let event = "data: {\"error\":{\"code\":\"invalid_api_key\",\"message\":\"bad sk-first-00, secret text\"}}\n\n";
    let upstream = Upstream::start(move |_| Answer::events([event]));
    let gateway = gateway(&upstream);
    let reply = client::post_json(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#).await;
    assert_eq!((reply.status.as_u16(), upstream.seen().len()), (502, 2), "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "upstream_credentials_exhausted");
    assert!(!reply.text().contains("secret text"), "{}", reply.text());
}

/// Nothing has gone out when an upstream dies with a good head: the author of a chain chose the next.
#[tokio::test]
async fn a_death_before_the_first_event_moves_on_to_the_next_target() {
    type Make = fn() -> Answer;
    let answers: [(&str, Make); 5] = [
        ("a head and nothing", || Answer::events([])),
        ("a comment and the end", || Answer::events([": hello\n\n"])),
        ("half an event and the end", || Answer::events(["data: {\"choices\":"])),
        ("half an event and a break", || Answer::events(["data: {\"choices\":"]).step(Step::Cut)),
        ("a JSON head and a break", || Answer::json(200, "{\"a\":1}").first(Step::Cut)),
    ];
    for (what, answer) in answers {
        let upstream = upstream(answer);
        let gateway = gateway(&upstream);
        let body = r#"{"model":"up/m","stream":true,"fallbacks":["other/m"]}"#;
        let (status, _, text, clean) = stream(&gateway, CHAT, body).await;
        assert_eq!((status, text.as_str(), clean), (200, GOOD, true), "{what}");
        let bearers: Vec<String> = upstream.seen().iter().map(|seen| seen.bearer().to_owned()).collect();
        assert_eq!(bearers, ["sk-first-00", "sk-other-00"], "{what}: never the same target");
        // Without a chain the caller is told in words, not by a stream that says nothing.
        let gateway = self::gateway(&upstream);
        let reply = client::post_json(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#).await;
        assert_eq!(reply.status, 502, "{what}: {}", reply.text());
    }
}

#[tokio::test]
async fn the_first_event_is_not_held_back() {
    let (gate, first) = (Gate::new(), "data: {\"choices\":[]}\n\n");
    let behind = gate.clone();
    // Comments before it are held, within a bound; a first event beyond every bound is let through.
    let large: &'static str = Box::leak(format!("data: {{\"x\":\"{}", "y".repeat(20_000)).into_boxed_str());
    for (pieces, expected) in [(vec![first], first), (vec![": a\n\n", first], first), (vec![large], "yyy")] {
        let behind = behind.clone();
        let upstream = upstream(move || Answer::events(pieces.clone()).step(Step::Wait(behind.clone())));
        let gateway = gateway(&upstream);
        let began = Instant::now();
        let mut answer = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#)).await;
        answer.until(expected).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(upstream.seen().len(), 1);
    }
    // A comment alone does not hold a caller for longer than a moment.
    let behind = gate.clone();
    let upstream = upstream(move || Answer::events([": thinking\n\n"]).step(Step::Wait(behind.clone())));
    let gateway = gateway(&upstream);
    let began = Instant::now();
    let mut answer = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/m","stream":true}"#)).await;
    answer.until(": thinking\n\n").await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

/// What may end a stream, and what is a cut although the bytes ended well.
#[tokio::test]
async fn the_end_is_judged_by_the_last_event() {
    let delta = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n";
    let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\": \"stop\"}]}\n\n";
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n";
    let created = "event: response.created\ndata: {\"type\":\"response.created\"}\n\n";
    let failed = "data: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\n\n";
    const RESPONSES: &str = "/v1/responses";
    let cases: [(&str, Vec<&'static str>, bool); 11] = [
        (CHAT, vec![delta, "data: [DONE]\n\n"], true),
        (CHAT, vec![delta, "data: [DO", "NE]"], true),
        // Some servers leave [DONE] out: a reason to stop and an announced end will do.
        (CHAT, vec![delta, stop], true),
        (CHAT, vec![delta], false),
        (CHAT, vec![delta, "data: {\"choices\":[{\"delta\":{\"content\":\"[DONE]\"}}]}\n\n"], false),
        (CHAT, vec![delta, failed], true),
        (RESPONSES, vec![created, completed], true),
        (RESPONSES, vec![created, "event: response.incomplete\ndata: {}\n\n"], true),
        (RESPONSES, vec![created, "data: {\"type\":\"response.failed\",\"x\":1}\n\n"], true),
        (RESPONSES, vec![created, "event: response.completed\ndata: {\"type\""], false),
        // Nothing is known of this path's streams: their end is believed.
        ("/v1/threads/t/runs?provider=up", vec![created], true),
    ];
    for (path, pieces, whole) in &cases {
        let sent = pieces.concat();
        let answer = pieces.clone();
        let upstream = Upstream::start(move |_| Answer::events(answer.clone()));
        let gateway = gateway(&upstream);
        let (status, _, text, clean) = stream(&gateway, path, r#"{"model":"up/m","stream":true}"#).await;
        assert_eq!((status, clean), (200, *whole), "{path} {sent:?}: {text}");
        let behind = text.strip_prefix(&sent).unwrap_or_else(|| panic!("{text:?} is not {sent:?} and more"));
        assert_eq!(behind.contains("\"upstream_truncated\""), !whole, "{text}");
        assert!(!behind.contains("finish_reason") && !behind.contains("[DONE]"), "nothing is invented: {text}");
        assert_eq!(upstream.seen().len(), 1, "no second attempt after the first byte");
        let metrics = client::get(&gateway.url("/metrics")).await.text();
        let told = metrics.lines().any(|line| line.contains("truncated") && line.ends_with(" 1"));
        assert_eq!(told, !whole, "{path} {sent:?}");
    }
    println!("{} ends judged", cases.len());
}

const MESSAGES: &str = "/v1/messages";
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
const STOP: &str = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

#[tokio::test]
async fn first_events_of_messages() {
    let error = |kind: &str| {
        let text = format!(
            "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"m\"}}}}\n\n"
        );
        &*Box::leak(text.into_boxed_str())
    };
    for (kind, moves_on) in [
        ("overloaded_error", true),
        ("api_error", true),
        ("rate_limit_error", true),
        ("authentication_error", true),
        ("permission_error", true),
        ("invalid_request_error", false),
        ("request_too_large", false),
    ] {
        let event = error(kind);
        let upstream = Upstream::start(move |seen| match seen.header("x-api-key") {
            "sk-first-00" => Answer::events([event]),
            _ => Answer::events([START, STOP]),
        });
        let gateway = speaking("anthropic", &upstream);
        let (status, _, text, clean) = stream(&gateway, MESSAGES, r#"{"model":"up/m","stream":true}"#).await;
        let expected = if moves_on { [START, STOP].concat() } else { event.to_owned() };
        assert_eq!((status, &text, clean), (200, &expected, true), "{kind}");
        assert_eq!(upstream.seen().len(), if moves_on { 2 } else { 1 }, "{kind}");
    }
    // What is said of a key is not relayed, and the refusal is in the caller's words.
    let event = error("authentication_error");
    let upstream = Upstream::start(move |_| Answer::events([event]));
    let gateway = speaking("anthropic", &upstream);
    let reply = client::post_json(&gateway.url(MESSAGES), r#"{"model":"up/m","stream":true}"#).await;
    let told = reply.json();
    assert_eq!((reply.status.as_u16(), upstream.seen().len(), &told["type"]), (502, 2, &"error".into()), "{told}");
}

#[tokio::test]
async fn ends_of_messages() {
    let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"message_stop\"}}\n\n";
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    let failed = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    for (pieces, whole) in [
        (vec![START, delta, STOP], true),
        (vec![START, delta, STOP, ping], true),
        (vec![START, ping, failed], true),
        // Without its `event:` line, as some servers have it.
        (vec![START, "data: {\"type\": \"message_stop\"}\n\n"], true),
        (vec![START, delta], false),
        (vec![START, "event: message_stop\ndata: {\"type\""], false),
        (vec![START, "event: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n"], false),
    ] {
        let sent = pieces.concat();
        let upstream = Upstream::start(move |_| Answer::events(pieces.clone()));
        let gateway = speaking("anthropic", &upstream);
        let (status, _, text, clean) = stream(&gateway, MESSAGES, r#"{"model":"up/m","stream":true}"#).await;
        assert_eq!((status, clean), (200, whole), "{sent:?}: {text}");
        let behind = text.strip_prefix(&sent).unwrap_or_else(|| panic!("{text:?} is not {sent:?} and more"));
        assert_eq!(behind.starts_with("event: error\ndata: {\"type\":\"error\""), !whole, "{text}");
        assert_eq!(behind.is_empty(), whole, "{text}");
    }
}

const CONVERSE: &str = "/model/up%2Fm/converse-stream";

/// The first key gets `first`, everybody else a good stream.
fn converse(first: Vec<u8>) -> Upstream {
    Upstream::start(move |seen| {
        let bytes = if seen.bearer() == "sk-first-00" { first.clone() } else { good_frames() };
        let answer = Answer::new(200).header("content-type", "application/vnd.amazon.eventstream");
        answer.step(Step::Send(bytes.into())).step(Step::Pause(Duration::ZERO))
    })
}

fn good_frames() -> Vec<u8> {
    [frames::event("messageStart", "{}"), frames::event("messageStop", "{}"), frames::event("metadata", "{}")].concat()
}

async fn frames_of(gateway: &Gateway, body: &str) -> (u16, Vec<u8>, bool) {
    let mut answer = open(client::json_request(&gateway.url(CONVERSE), body.to_owned())).await;
    let mut bytes = Vec::new();
    let clean = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    (answer.status.as_u16(), bytes, clean)
}

#[tokio::test]
async fn first_frames_of_converse() {
    for (kind, moves_on) in [
        ("throttlingException", true),
        ("serviceUnavailableException", true),
        ("modelStreamErrorException", true),
        ("internalServerException", true),
        ("validationException", false),
    ] {
        let exception = frames::exception(kind, r#"{"message":"m"}"#);
        let upstream = converse(exception.clone());
        let (status, bytes, clean) = frames_of(&speaking("bedrock", &upstream), "{}").await;
        let expected = if moves_on { good_frames() } else { exception };
        assert_eq!((status, bytes, clean), (200, expected, true), "{kind}");
        assert_eq!(upstream.seen().len(), if moves_on { 2 } else { 1 }, "{kind}");
    }
    // A frame that is none is no answer, a wrong bit anywhere in the first one.
    let good = good_frames();
    for at in [2, 9, 20, frames::event("messageStart", "{}").len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        let upstream = converse(bytes);
        let (_, bytes, clean) = frames_of(&speaking("bedrock", &upstream), r#"{"fallbacks":["other/m"]}"#).await;
        assert_eq!((&bytes, clean, upstream.seen().len()), (&good, true, 2), "{at}");
    }
}

#[tokio::test]
async fn ends_of_converse() {
    let [start, stop, last] = ["messageStart", "messageStop", "metadata"].map(|kind| frames::event(kind, "{}"));
    let exception = frames::exception("throttlingException", "{}");
    let mut garbled = frames::event("contentBlockDelta", "{}");
    let end = garbled.len() - 1;
    garbled[end] ^= 1;
    for (pieces, whole, told) in [
        (vec![&start, &stop, &last], true, false),
        // Its end is announced, and the answer said why it stopped.
        (vec![&start, &stop], true, false),
        (vec![&start, &exception], true, false),
        (vec![&start], false, true),
        (vec![&start, &garbled, &stop, &last], false, false),
    ] {
        let sent: Vec<u8> = pieces.into_iter().flatten().copied().collect();
        let upstream = converse(sent.clone());
        let (status, bytes, clean) = frames_of(&speaking("bedrock", &upstream), "{}").await;
        assert_eq!((status, clean), (200, whole));
        let behind = bytes.strip_prefix(&*sent).unwrap();
        let exception = String::from_utf8_lossy(behind).contains("serviceUnavailableException");
        assert_eq!(frames::frames(behind).map(|frames| frames.len()), Some(usize::from(told)));
        assert_eq!((exception, upstream.seen().len()), (told, 1));
    }
}

const GENERATE: &str = "/v1beta/models/up%2Fm:streamGenerateContent";

#[tokio::test]
async fn first_events_of_gemini() {
    const GOOD: &str = "data: {\"candidates\": [{\"finishReason\": \"STOP\"}]}\r\n\r\n";
    for (event, moves_on) in [
        ("data: {\"error\":{\"code\":503,\"message\":\"m\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n", true),
        ("data: {\"error\": {\"code\": 429, \"status\": \"RESOURCE_EXHAUSTED\"}}\n\n", true),
        ("data: {\"error\":{\"code\":401,\"status\":\"UNAUTHENTICATED\"}}\n\n", true),
        ("data: {\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\"}}\n\n", true),
        ("data: {\"error\":{\"code\":400,\"status\":\"INVALID_ARGUMENT\"}}\n\n", false),
    ] {
        let upstream = Upstream::start(move |seen| match seen.header("x-goog-api-key") {
            "sk-first-00" => Answer::events([event]),
            _ => Answer::events([GOOD]),
        });
        let gateway = speaking("gemini", &upstream);
        let (status, _, text, clean) = stream(&gateway, &format!("{GENERATE}?alt=sse"), "{}").await;
        assert_eq!((status, &*text, clean), (200, if moves_on { GOOD } else { event }, true));
        assert_eq!(upstream.seen().len(), if moves_on { 2 } else { 1 }, "{event}");
    }
}

#[tokio::test]
async fn ends_of_gemini() {
    let text = "data: {\"candidates\": [{\"content\": {}}]}\n\n";
    let stop = "data: {\"candidates\": [{\"finishReason\": \"STOP\"}]}\n\n";
    let event = "data: {\"error\":{\"code\":502,";
    let sse = |pieces: Vec<&'static str>| Answer::events(pieces);
    let list = |pieces: Vec<&'static str>| {
        let answer = Answer::new(200).header("content-type", "application/json; charset=UTF-8");
        let sent = pieces.into_iter().fold(answer, |answer, piece| answer.step(Step::Send(piece.into())));
        // Sized otherwise, and then the connection tells.
        sent.step(Step::Pause(Duration::ZERO))
    };
    for (answer, sent, told) in [
        (sse(vec![text, stop]), [text, stop].concat(), None),
        (sse(vec![stop, text]), [stop, text].concat(), None),
        (sse(vec!["data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n"]), String::new(), None),
        (sse(vec![text]), text.to_owned(), Some(event)),
        (sse(vec![text, &stop[..40]]), [text, &stop[..40]].concat(), Some(event)),
        (list(vec!["[{\"a\":1}", ",\n{\"b\":2}", "]"]), "[{\"a\":1},\n{\"b\":2}]".to_owned(), None),
        (list(vec!["[]"]), "[]".to_owned(), None),
        (list(vec!["{\"candidates\":[]}"]), "{\"candidates\":[]}".to_owned(), None),
        (list(vec!["[{\"a\":1}\n"]), "[{\"a\":1}\n".to_owned(), Some(",{\"error\":{\"code\":502,")),
        (list(vec!["[{\"a\":1},"]), "[{\"a\":1},".to_owned(), Some("{\"error\":{\"code\":502,")),
        // There is no place for words of ours.
        (list(vec!["[{\"a\":"]), "[{\"a\":".to_owned(), Some("")),
    ] {
        let upstream = Upstream::start(move |_| answer.clone());
        let gateway = speaking("gemini", &upstream);
        let path = format!("{GENERATE}{}", if sent.starts_with(['[', '{']) { "" } else { "?alt=sse" });
        let (status, _, text, clean) = stream(&gateway, &path, "{}").await;
        assert_eq!((status, clean), (200, told.is_none()), "{sent:?}: {text}");
        let behind = text.strip_prefix(&sent).unwrap_or_else(|| panic!("{text:?} is not {sent:?} and more"));
        match told {
            Some("") => assert_eq!(behind, ""),
            Some(word) => assert!(behind.starts_with(word), "{text}"),
            None if sent.is_empty() => {}
            None => assert_eq!(behind, ""),
        }
        assert_eq!(upstream.seen().len(), 1);
    }
}
