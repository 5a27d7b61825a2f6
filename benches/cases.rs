//! What is measured: requests, answers, how they are sent, and what was promised for them.

use std::time::Duration;

/// One row of the table.
pub struct Case {
    pub name: &'static str,
    /// What one of the counted things is called.
    pub unit: &'static str,
    pub request: Vec<u8>,
    pub answer: Answer,
    pub pace: Pace,
    /// keyway's CPU over bare's that must be reached now.
    pub reach: f64,
    pub by_default: bool,
}

/// What the upstream answers with.
#[derive(Clone)]
pub enum Answer {
    /// Bytes on the wire, head included.
    Whole(Vec<u8>),
    /// A head, then this event at each interval until the caller leaves.
    Events { head: Vec<u8>, event: Vec<u8>, every: Duration },
}

/// How requests are sent.
pub enum Pace {
    /// Each connection sends its next request when it has the answer.
    Closed { connections: usize },
    /// Requests fall due at a fixed rate, whether answers came or not.
    Open { connections: usize, per_second: u64 },
    /// Streams that stay open; the upstream sets the pace.
    Streams { count: usize, every: Duration },
}

impl Case {
    pub fn closed_loop(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

    pub fn paced_requests(&self) -> bool {
        matches!(self.pace, Pace::Open { .. })
    }

    /// How many have to come in a window, 0 where the gateway decides.
    pub fn expected(&self, length: Duration) -> u64 {
        match self.pace {
            Pace::Closed { .. } => 0,
            Pace::Open { per_second, .. } => per_second * length.as_secs(),
            Pace::Streams { count, every } => {
                u64::try_from(count).unwrap() * u64::try_from(length.as_micros() / every.as_micros()).unwrap()
            }
        }
    }
}

pub fn all() -> Vec<Case> {
    let small = || request(&conversation(900, "gpt-bench", false));
    let large = |model| request(&conversation(100 * 1024, model, false));
    let every = Duration::from_millis(20);
    vec![
        Case {
            name: "0.9 KB chat in, 600 B out",
            unit: "requests",
            request: small(),
            answer: whole(600),
            pace: Pace::Closed { connections: 64 },
            reach: 1.35,
            by_default: true,
        },
        Case {
            name: "100 KB conversation in",
            unit: "requests",
            request: large("gpt-bench"),
            answer: whole(600),
            pace: Pace::Closed { connections: 32 },
            reach: 1.75,
            by_default: true,
        },
        Case {
            name: "stream events, paced",
            unit: "events",
            request: request(&conversation(900, "gpt-bench", true)),
            answer: events(every),
            pace: Pace::Streams { count: 200, every },
            reach: 1.10,
            by_default: true,
        },
        Case {
            name: "0.9 KB at 1 000 a second",
            unit: "requests",
            request: small(),
            answer: whole(600),
            pace: Pace::Open { connections: 50, per_second: 1000 },
            reach: 1.35,
            by_default: true,
        },
        Case {
            name: "100 KB in, with an alias",
            unit: "requests",
            request: large("gpt-alias"),
            answer: whole(600),
            pace: Pace::Closed { connections: 32 },
            reach: 1.85,
            by_default: false,
        },
        Case {
            name: "0.9 KB chat in, 10 KB out",
            unit: "requests",
            request: small(),
            answer: whole(10 * 1024),
            pace: Pace::Closed { connections: 64 },
            reach: 1.35,
            by_default: false,
        },
    ]
}

/// keyway's config for the cases: one provider, one key, the defaults for all else.
pub fn config(upstream: std::net::SocketAddr) -> String {
    format!(
        r#"{{
  "server": {{"listen": ["127.0.0.1:0"]}},
  "providers": {{
    "openai": {{
      "keys": [{{"name": "bench", "value": "sk-bench-0123456789abcdef", "models": ["gpt-bench", "gpt-alias"],
                "aliases": {{"gpt-alias": "gpt-bench-2026-11-01"}}}}],
      "network_config": {{"base_url": "http://{upstream}"}}
    }}
  }}
}}
"#
    )
}

/// A chat body of about `bytes` with the model last, as the official Python client writes it: turns of
/// about 2 KB, prose with a quoted word and a new paragraph every few sentences.
fn conversation(bytes: usize, model: &str, stream: bool) -> String {
    let sentence = "The gateway reads what it is sent, finds the one word that it needs, and passes on all the rest. ";
    let paragraph = format!(r#"{}It says \"done\" at the end.\n\n"#, sentence.repeat(4));
    let tail =
        format!(r#"{{"role":"user","content":"Go on."}}],"temperature":0.7,"stream":{stream},"model":"{model}"}}"#);
    let mut body = String::from(r#"{"messages":["#);
    for role in ["user", "assistant"].iter().cycle() {
        let Some(room) = bytes.checked_sub(body.len() + tail.len() + 64).filter(|room| *room > paragraph.len()) else {
            break;
        };
        let content = paragraph.repeat((room / paragraph.len()).min(5));
        body.push_str(&format!(r#"{{"role":"{role}","content":"{content}"}},"#));
    }
    // The same length whatever the turns left over: one more string, which no scanner can skip.
    let filling = bytes.saturating_sub(body.len() + tail.len() + 32);
    body.push_str(&format!(r#"{{"role":"user","content":"{}"}},"#, "x".repeat(filling)));
    body.push_str(&tail);
    body
}

/// With the headers that the official Python client sends.
fn request(body: &str) -> Vec<u8> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\n\
         Host: 127.0.0.1\r\n\
         Accept-Encoding: gzip, deflate\r\n\
         Connection: keep-alive\r\n\
         Accept: application/json\r\n\
         Content-Type: application/json\r\n\
         User-Agent: OpenAI/Python 3.52.0\r\n\
         X-Stainless-Lang: python\r\n\
         X-Stainless-Package-Version: 3.52.0\r\n\
         X-Stainless-OS: Linux\r\n\
         X-Stainless-Arch: x64\r\n\
         X-Stainless-Runtime: CPython\r\n\
         X-Stainless-Runtime-Version: 3.11.7\r\n\
         x-stainless-retry-count: 0\r\n\
         Authorization: Bearer sk-of-the-caller\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

/// A chat completion of exactly `bytes`.
fn whole(bytes: usize) -> Answer {
    let before = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1790000000,"model":"gpt-bench","choices":[{"index":0,"message":{"role":"assistant","content":""#;
    let after =
        r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":40,"total_tokens":160}}"#;
    let filling = "word ".repeat(bytes / 5 + 1);
    let body = format!("{before}{}{after}", &filling[..bytes - before.len() - after.len()]);
    assert_eq!(body.len(), bytes);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: Fri, 20 Nov 2026 23:30:00 GMT\r\n\
         x-request-id: req_bench\r\nopenai-processing-ms: 12\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Answer::Whole((head + &body).into_bytes())
}

/// Chunks of a chat completion, one to a transfer chunk.
fn events(every: Duration) -> Answer {
    let event = "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\
                 \"model\":\"gpt-bench\",\"system_fingerprint\":\"fp_bench\",\"choices\":[{\"index\":0,\
                 \"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                date: Fri, 20 Nov 2026 23:30:00 GMT\r\nx-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = format!("{:x}\r\n{event}\r\n", event.len());
    Answer::Events { head: head.as_bytes().to_vec(), event: event.into_bytes(), every }
}
