//! What a caller gets when an upstream breaks: at every byte, in every framing, by every kind of end.
//!
//! The rule under test: a whole answer, or another upstream's, or what came so far with an error event
//! and an aborted body. Never a clean end of something that is not whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::client::{self, open};
use crate::support::frames;
use crate::support::gateway::Gateway;
use crate::support::impair::{Fault, Framing, Impair, Recording};
use crate::support::is_long;
use crate::support::upstream::{Answer, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
/// Requests under way at once.
const AT_ONCE: usize = 12;

const CHAT_STREAM: &str = ": warming up\n\ndata: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"},\"finish_reason\":null}]}\n\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"péché ☃ 𝄞\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"total_tokens\":9}}\n\n\
    data: [DONE]\n\n";

const RESPONSES_STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"error\":null}}\n\n\
    event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"né response.completed\"}\n\n\
    event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[]}}\n\n";

const MESSAGES: &str = "/v1/messages";

const MESSAGES_STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[]}}\n\n\
    event: ping\ndata: {\"type\": \"ping\"}\n\n\
    event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"né message_stop\"}}\n\n\
    event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const GENERATE: &str = "/v1beta/models/{model}:streamGenerateContent?alt=sse";
const GENERATE_LIST: &str = "/v1beta/models/{model}:streamGenerateContent";

const GENERATE_STREAM: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"né \\\"finishReason\\\"\"}]}}]}\r\n\r\n\
    data: {\"candidates\": [{\"content\": {\"parts\": []},\"finishReason\": \"STOP\"}],\"usageMetadata\": {}}\r\n\r\n";

const GENERATE_ITEMS: &str = "[{\n  \"candidates\": [{\"content\": \"né }, ]\"}]\n}\n,\r\n{\"candidates\": [{\"finishReason\": \"STOP\"}]\n}\n]\n";

const CHAT_JSON: &str =
    "{\"id\":\"c\",\"choices\":[{\"message\":{\"content\":\"a } \\\" ] é\"},\"finish_reason\":\"stop\"}]}\n";

const CONVERSE: &str = "/bedrock/model/{model}/converse-stream";

fn converse() -> Vec<Vec<u8>> {
    vec![
        frames::event("messageStart", r#"{"p":"abc","role":"assistant"}"#),
        frames::event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"né messageStop"}}"#),
        frames::event("messageStop", r#"{"stopReason":"end_turn"}"#),
        frames::event("metadata", r#"{"usage":{"totalTokens":9}}"#),
    ]
}

fn recordings() -> Vec<Recording> {
    let done = |body: &str| body.find("[DONE]").unwrap() + "[DONE]".len();
    let crlf = CHAT_STREAM.replace('\n', "\r\n");
    let mut all = vec![
        Recording::events("chat", CHAT, CHAT_STREAM, done(CHAT_STREAM)),
        // The event is whole with its empty line.
        Recording::events("responses", RESPONSES, RESPONSES_STREAM, RESPONSES_STREAM.len()),
        Recording::json("json", CHAT, CHAT_JSON),
        Recording::events("messages", MESSAGES, MESSAGES_STREAM, MESSAGES_STREAM.len()).of("anthropic"),
        // The last LF is not waited for.
        Recording::events("generate", GENERATE, GENERATE_STREAM, GENERATE_STREAM.len() - 1).of("gemini"),
        Recording::json("generate, a list", GENERATE_LIST, GENERATE_ITEMS).of("gemini"),
        Recording::frames("converse", CONVERSE, &converse()),
        Recording::events("chat, CRLF", CHAT, &crlf, done(&crlf)),
    ];
    // A comment alone is no event.
    for recording in all.iter_mut().filter(|recording| recording.body.starts_with(b":")) {
        let body = String::from_utf8(recording.body.clone()).unwrap();
        let comment = body.find("data:").unwrap();
        let rest = Recording::events("", "", &body[comment..], 0);
        recording.first_event = comment + rest.first_event;
    }
    all
}

/// What all recordings speak, each once.
fn spoken(impair: &Impair) -> BTreeSet<&'static str> {
    impair.recordings().iter().map(|recording| recording.speaks).collect()
}

/// `up`: a key and an origin for each lane. `good`: an upstream that answers.
fn gateway(impair: &Impair, good: &Upstream, speaks: &str, lanes: usize) -> Gateway {
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{
          "up": {{"custom_provider_config": {{"base_provider_type": "{speaks}"}},
                  "network_config": {{"base_url": "{}", "stream_idle_timeout_in_seconds": 1}}, "keys": [{}]}},
          "good": {{"custom_provider_config": {{"base_provider_type": "{speaks}"}},
                    "network_config": {{"base_url": "{}"}}, "keys": [{{"name": "k", "value": "sk-good-000000"}}]}}}}}}"#,
        impair.base(0),
        impair.keys(lanes),
        good.base()
    ))
}

fn good() -> Upstream {
    Upstream::start(|seen| match seen.json()["stream"].as_bool() {
        Some(true) if seen.path.contains("/converse-stream") => {
            let frames = [frames::event("messageStop", r#"{"good":1}"#), frames::event("metadata", "{}")];
            let answer = Answer::new(200).header("content-type", "application/vnd.amazon.eventstream");
            answer.step(Step::Send(frames.concat().into()))
        }
        Some(true) if seen.path.contains("alt=sse") => {
            Answer::events(["data: {\"candidates\":[{\"finishReason\":\"good\"}]}\n\n"])
        }
        Some(true) if seen.path == MESSAGES => Answer::events(["event: message_stop\ndata: {\"good\":1}\n\n"]),
        Some(true) => Answer::events(["event: response.completed\ndata: {\"good\":1}\n\ndata: [DONE]\n\n"]),
        _ => Answer::json(200, "{\"good\":1}"),
    })
}

/// What one caller got.
struct Got {
    status: u16,
    provider: String,
    body: Vec<u8>,
    /// The body came to its proper end.
    clean: bool,
}

async fn ask(url: String, lane: usize, stream: bool, what: &str) -> Got {
    let model = match url.contains("{model}") {
        true => String::new(),
        false => format!(r#""model":"up/m{lane}","#),
    };
    let body =
        format!(r#"{{{model}"fallbacks":["good/m"],"stream":{stream},"user":"{what}","messages":[],"input":"x"}}"#);
    let url = url.replace("{model}", &format!("up%2Fm{lane}"));
    let mut answer = open(client::json_request(&url, body)).await;
    let provider = answer.headers.get("x-keyway-provider").map_or("", |value| value.to_str().unwrap()).to_owned();
    let mut body = Vec::new();
    let clean = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    Got { status: answer.status.as_u16(), provider, body, clean }
}

/// What must be true of an answer of which `held` bytes of the body reached the gateway. `all`: the
/// connection brought everything, its own end included.
fn judge(recording: &Recording, framing: Framing, held: usize, all: bool, got: &Got) -> Result<&'static str, String> {
    let body = &recording.body;
    let text = String::from_utf8_lossy(&got.body);
    let fail =
        |why: &str| Err(format!("{why}; status {}, from {:?}, clean {}: {text}", got.status, got.provider, got.clean));
    if got.status != 200 {
        return fail("not answered");
    }
    if held < recording.first_event {
        let retried = got.provider == "good" && got.clean && text.contains("good");
        return if retried { Ok("retried") } else { fail("nothing had gone out: another upstream answers") };
    }
    if got.provider != "up" {
        return fail("a second attempt after the first byte");
    }
    // Gemini's streams have no last word, Bedrock's are framed twice: where the connection tells of
    // their end, it is believed.
    let tells = recording.is_events() && recording.speaks != "gemini";
    let whole = if tells || framing == Framing::Close { held >= recording.whole } else { all };
    if whole {
        return if got.clean && got.body == body[..held] {
            Ok("whole")
        } else {
            fail("whole, and not passed on as such")
        };
    }
    if got.clean {
        return fail("a cut answer ended cleanly");
    }
    let Some(behind) = got.body.strip_prefix(&body[..held]) else { return fail("other bytes than those that came") };
    if recording.speaks == "bedrock" {
        let between = frames::frames(&body[..held]).is_some();
        let told = String::from_utf8_lossy(behind).contains("serviceUnavailableException");
        return match (between, frames::frames(behind).map(|frames| frames.len())) {
            (true, Some(1)) if told => Ok("exception"),
            (false, Some(0)) => Ok("aborted"),
            _ => fail("an exception belongs between two frames"),
        };
    }
    let event = String::from_utf8_lossy(behind);
    let told = event.ends_with("\n\n")
        && match recording.speaks {
            "gemini" => event.starts_with("data: {\"error\":{\"code\":502,") && event.contains("\"UPSTREAM_"),
            "anthropic" => {
                event.starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"")
            }
            _ => event.contains("\"error\"") && event.contains("upstream_"),
        };
    match (recording.is_events(), told) {
        (true, true) => Ok("error event"),
        (false, _) if framing != Framing::Length && takes_element(&body[..held]) => {
            let list = serde_json::from_slice::<serde_json::Value>(&got.body).unwrap_or_default();
            let told = list.as_array().and_then(|list| list.last()).map(|last| &last["error"]["code"]);
            if told == Some(&502.into()) { Ok("error element") } else { fail("the list does not end with the error") }
        }
        (false, _) if behind.is_empty() => Ok("aborted"),
        _ => fail("the caller was not told in his dialect"),
    }
}

/// Whether an element more makes a list of it.
fn takes_element(text: &[u8]) -> bool {
    let is_list = |end: &[u8]| serde_json::from_slice::<Vec<serde_json::Value>>(&[text, end].concat()).is_ok();
    is_list(b"{}]") || is_list(b",{}]")
}

/// Runs `cases` side by side: recording, framing, fault, lane. Prints how often each end was seen.
async fn run(name: &str, gateway: &Gateway, impair: &Impair, cases: Vec<(usize, Framing, Fault)>) {
    let (at_once, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    let recordings: Arc<Vec<Recording>> = Arc::new(impair.recordings().to_vec());
    let count = cases.len();
    for (lane, (index, framing, fault)) in cases.into_iter().enumerate() {
        let permit = Arc::clone(&at_once).acquire_owned().await.unwrap();
        let recordings = Arc::clone(&recordings);
        let url = gateway.url(recordings[index].path);
        tasks.spawn(async move {
            let recording = &recordings[index];
            let lane = lane % LANES;
            let got = ask(url, lane, recording.is_stream(), &Impair::asks(index, framing, fault)).await;
            drop(permit);
            let wire = recording.wire(framing).len();
            let verdict = match fault {
                Fault::Cut(at) | Fault::Stall(at) => {
                    judge(recording, framing, recording.body_within(framing, at), at == wire, &got)
                }
                Fault::Nothing | Fault::Drip(_) => judge(recording, framing, recording.body.len(), true, &got),
                // A reset may overtake what was sent before it: any prefix may have arrived.
                Fault::Reset(at) => (0..=at)
                    .rev()
                    .flat_map(|at| {
                        let held = recording.body_within(framing, at);
                        // Nor is it an end: what only the connection could end is then broken.
                        let broken = judge(recording, Framing::Chunked(1), held, false, &got);
                        [judge(recording, framing, held, at == wire, &got), broken]
                    })
                    .find(Result::is_ok)
                    // Nothing tells a document that ended from one that was reset behind its last bracket.
                    .or_else(|| {
                        let cut = !got.clean && recording.body.starts_with(&got.body);
                        (cut && !recording.is_stream()).then_some(Ok("aborted"))
                    })
                    .unwrap_or_else(|| Err(format!("nothing explains {:?}", String::from_utf8_lossy(&got.body)))),
            };
            verdict.map_err(|why| format!("{} {framing:?} {fault:?}: {why}", recording.name))
        });
    }
    let (mut ends, mut wrong) = (BTreeMap::<&str, usize>::new(), Vec::new());
    while let Some(verdict) = tasks.join_next().await {
        match verdict.unwrap() {
            Ok(end) => *ends.entry(end).or_default() += 1,
            Err(why) => wrong.push(why),
        }
    }
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    println!("{name}: {count} answers, {ends:?}");
}

/// More lanes than a health window has failures for; every try of a round has one of its own.
const LANES: usize = 1500;

#[tokio::test]
async fn cut_after_every_byte() {
    let (impair, good) = (Impair::start(recordings()), good());
    let framings = [Framing::Length, Framing::Chunked(40), Framing::Close, Framing::Chunked(7)];
    let framings = if is_long() { &framings[..] } else { &framings[..3] };
    for (index, recording) in impair.recordings().iter().enumerate() {
        if recording.name.contains("CRLF") && !is_long() {
            continue;
        }
        for framing in framings {
            // A gateway of its own: no lane is used twice.
            let gateway = gateway(&impair, &good, recording.speaks, LANES);
            let wire = recording.wire(*framing).len();
            assert!(wire < LANES, "{wire}");
            let cases = (0..=wire).map(|at| (index, *framing, Fault::Cut(at))).collect();
            run(&format!("{} {framing:?}, cut", recording.name), &gateway, &impair, cases).await;
            if is_long() {
                let gateway = self::gateway(&impair, &good, recording.speaks, LANES);
                let cases = (0..=wire).map(|at| (index, *framing, Fault::Reset(at))).collect();
                run(&format!("{} {framing:?}, reset", recording.name), &gateway, &impair, cases).await;
            }
        }
    }
}

#[tokio::test]
async fn reset_stalled_dripped() {
    let (impair, good) = (Impair::start(recordings()), good());
    let step = if is_long() { 1 } else { 29 };
    for speaks in spoken(&impair) {
        let gateway = gateway(&impair, &good, speaks, LANES);
        run(&format!("{speaks}, reset, stalled, dripped"), &gateway, &impair, faults(&impair, speaks, step)).await;
    }
}

/// The faults but for cuts, of all that is spoken so.
fn faults(impair: &Impair, speaks: &str, step: usize) -> Vec<(usize, Framing, Fault)> {
    let mut cases = Vec::new();
    for (index, recording) in impair.recordings().iter().enumerate().filter(|(_, recording)| recording.speaks == speaks)
    {
        for framing in [Framing::Length, Framing::Chunked(11), Framing::Close] {
            let wire = recording.wire(framing);
            cases.extend((0..wire.len()).step_by(step).map(|at| (index, framing, Fault::Reset(at))));
            // Every way of splitting characters, line ends and chunk heads is among these.
            cases.extend([1, 2, 3, 7].map(|size| (index, framing, Fault::Drip(size))));
            cases.push((index, framing, Fault::Nothing));
        }
        // In the head a stall is the first-byte deadline's, of ten minutes; behind it each takes a second.
        let head = recording.wire(Framing::Length).len() - recording.body.len();
        let after = [recording.first_event, recording.first_event + 1, recording.body.len() - 20];
        cases.extend(after.map(|at| (index, Framing::Length, Fault::Stall(head + at))));
    }
    cases.truncate(LANES);
    cases
}
