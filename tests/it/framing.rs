//! Framing that two readers could read in two ways: one request in is one request out, or none.

use std::collections::HashMap;
use std::time::Duration;

use Expect::{Out, Refused};
use tokio::task::JoinSet;

use crate::support::client::{Raw, status_of};
use crate::support::gateway::Gateway;
use crate::support::is_long;
use crate::support::upstream::{Answer, Seen, Upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"up/m","messages":[]}"#;

/// What the gateway may make of a request whose framing is odd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    /// Refused; nothing goes out.
    Refused,
    /// Read in one way; so many requests go out, none of them the hidden one.
    Out(usize),
}

/// A second request in the body of the first: whoever reads the framing in another way serves it.
const HIDDEN: &str = "POST /v1/hidden?provider=up HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n";

/// Header lines, body, and what is made of them. `@length`, `@hex`: of the body, in both spellings;
/// `@chunked`: the body in one chunk; `@hidden`: a second request.
const FRAMINGS: [(&str, &str, Expect); 63] = [
    ("content-length: @length\r\n", "@body", Out(1)),
    ("transfer-encoding: chunked\r\n", "@chunked", Out(1)),
    // Both lengths at once, in both orders and with both bodies.
    ("content-length: @length\r\ntransfer-encoding: chunked\r\n", "@body", Refused),
    // RFC 9112 6.1: the chunks are read, and what follows on that connection is nobody's request.
    ("transfer-encoding: chunked\r\ncontent-length: @length\r\n", "@chunked@hidden", Out(1)),
    ("transfer-encoding: chunked\r\n", "@chunked@hidden", Out(2)),
    ("content-length: 6\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n@hidden", Refused),
    ("content-length: 0\r\ntransfer-encoding: chunked\r\n", "@chunked@hidden", Out(1)),
    // Lengths that are none, or several.
    ("content-length: 5\r\ncontent-length: 6\r\n", "@body", Refused),
    // The same length twice has one meaning (RFC 9110 8.6).
    ("content-length: @length\r\ncontent-length: @length\r\n", "@body", Out(1)),
    ("content-length: @length, @length\r\n", "@body", Refused),
    ("content-length: +@length\r\n", "@body", Refused),
    ("content-length: -@length\r\n", "@body", Refused),
    ("content-length: 0@length\r\n", "@body", Refused),
    ("content-length: 0x@hex\r\n", "@body", Refused),
    ("content-length: @length.0\r\n", "@body", Refused),
    ("content-length: @length 1\r\n", "@body", Refused),
    ("content-length: \r\n", "@body", Refused),
    ("content-length: 18446744073709551616\r\n", "@body", Refused),
    ("content-length: 99999999999999999999999\r\n", "@body", Refused),
    ("content-length : @length\r\n", "@body", Refused),
    ("content-length\t: @length\r\n", "@body", Refused),
    (" content-length: @length\r\n", "@body", Refused),
    ("x: y\r\n content-length: @length\r\n", "@body", Refused),
    ("content_length: @length\r\n", "@body", Refused),
    // Codings that are not the one.
    ("transfer-encoding: gzip, chunked\r\n", "@chunked", Refused),
    ("transfer-encoding: chunked, gzip\r\n", "@chunked", Refused),
    ("transfer-encoding: chunked, chunked\r\n", "@chunked", Refused),
    ("transfer-encoding: identity\r\n", "@chunked", Refused),
    ("transfer-encoding: xchunked\r\n", "@chunked", Refused),
    ("transfer-encoding: chunkedx\r\n", "@chunked", Refused),
    ("transfer-encoding: \"chunked\"\r\n", "@chunked", Refused),
    ("transfer-encoding: chunked;q=1\r\n", "@chunked", Refused),
    ("transfer-encoding: \x0bchunked\r\n", "@chunked", Refused),
    ("transfer-encoding:\r\n", "@chunked", Refused),
    ("transfer-encoding : chunked\r\n", "@chunked", Refused),
    ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "@chunked", Refused),
    ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "@chunked", Refused),
    ("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n", "@chunked", Refused),
    ("transfer-encoding:\r\n chunked\r\n", "@chunked", Refused),
    ("x: y\r\n transfer-encoding: chunked\r\n", "@chunked", Refused),
    ("transfer_encoding: chunked\r\n", "@chunked", Refused),
    ("Transfer-Encoding: Chunked\r\n", "@chunked", Out(1)),
    // Chunks that are not well made.
    ("transfer-encoding: chunked\r\n", "@hex;a=b\r\n@body\r\n0\r\n\r\n", Out(1)),
    ("transfer-encoding: chunked\r\n", "0@hex\r\n@body\r\n0\r\n\r\n", Out(1)),
    ("transfer-encoding: chunked\r\n", "0x@hex\r\n@body\r\n0\r\n\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "+@hex\r\n@body\r\n0\r\n\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "-@hex\r\n@body\r\n0\r\n\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "@hex\r\n@bodyxx0\r\n\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "@hex\r\n@body\r\nzz\r\n\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "@hex\n@body\r\n0\r\n\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "@hex\r@body\r\n0\r\n\r\n", Refused),
    ("transfer-encoding: chunked\r\n", "@hex\r\n@body\r\n0\r\nx-api-key: trailer\r\n\r\n", Out(1)),
    // What stands behind a whole request is the next one, and read as such: here it is known.
    ("content-length: @length\r\n", "@body@hidden", Out(2)),
    // Heads with odd ends and odd letters.
    ("content-length: @length\r\nx: a\rb\r\n", "@body", Refused),
    ("content-length: @length\r\nx: a\0b\r\n", "@body", Refused),
    ("content-length: @length\r\nx\0: a\r\n", "@body", Refused),
    ("content-length: @length\r\nx\r\n", "@body", Refused),
    ("content-length: @length\r\n: y\r\n", "@body", Refused),
    ("content-length: @length\r\nhost: other\r\n", "@body", Refused),
    ("content-length: @length\r\nconnection: upgrade\r\nupgrade: h2c\r\n", "@body", Out(1)),
    ("content-length: @length\r\nexpect: 100-continue\r\n", "@body", Out(1)),
    ("content-length: @length\r\ncontent-encoding: chunked\r\n", "@body", Refused),
];

fn gateway(upstream: &Upstream) -> Gateway {
    // A body that never comes to its end is not waited for.
    let limits = r#""limits": {"header_timeout_seconds": 1, "body_timeout_seconds": 1}"#;
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"], {limits}}}, "observability": {{"access_log": false}}, "providers": {{"up": {{
           "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}"}}}}}}}}"#,
        upstream.base()
    ))
}

#[tokio::test]
async fn one_request_in_is_one_request_out() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = gateway(&upstream);
    let (length, hex) = (BODY.len().to_string(), format!("{:x}", BODY.len()));
    let fill = |text: &str| {
        let chunked = format!("{hex}\r\n{BODY}\r\n0\r\n\r\n");
        let text = text.replace("@length", &length).replace("@hex", &hex).replace("@body", BODY);
        text.replace("@chunked", &chunked).replace("@hidden", HIDDEN)
    };
    let mut wrong = Vec::new();
    for (headers, body, expect) in FRAMINGS {
        upstream.forget();
        let lines = format!("host: 127.0.0.1\r\ncontent-type: application/json\r\n{}", fill(headers));
        let request = format!("POST {CHAT} HTTP/1.1\r\n{lines}\r\n{}", fill(body));
        let mut connection = Raw::connect(gateway.base()).await;
        let _ = connection.send(&request).await;
        let answer = connection.head_or_end().await;
        if expect == Out(2) {
            upstream.wait_seen(2).await;
        }
        // What is hidden behind the first would follow at once.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let seen = upstream.seen();
        let out = seen.iter().filter(|seen| seen.path == CHAT).count();
        let held = match expect {
            Refused => seen.is_empty() && matches!(status_of(&answer), 0 | 400..500),
            Out(count) => {
                (out, seen.len()) == (1, count)
                    && seen[0].body == BODY.replace("up/", "")
                    // Trailers stay here.
                    && seen[0].header("x-api-key").is_empty()
            }
        };
        if !held {
            wrong.push(format!("{request:?}: not {expect:?}: {answer}{seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    println!("{} framings judged", FRAMINGS.len());
}

/// Header lines of which one, two or three are put together by chance, and bodies that go with some of them.
const LINES: [&str; 14] = [
    "content-length: @length\r\n",
    "content-length: @length\r\n",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\n",
    "content-length: 0\r\n",
    "content-length: 7\r\n",
    "content-length: 000@length\r\n",
    "Content-Length: @length \r\n",
    "content-length:\t@length\r\n",
    "transfer-encoding: chunked,\r\n",
    "transfer-encoding: identity, chunked\r\n",
    "Transfer-Encoding:\tCHUNKED\r\n",
    "connection: keep-alive, content-length\r\n",
    "x-length: @length\r\n",
];
const BODIES: [&str; 8] = [
    "@body",
    "@body@hidden",
    "@chunked",
    "@chunked@hidden",
    "0\r\n\r\n@hidden",
    "@hidden",
    "@hex\r\n@body\r\n0\r\n@hidden",
    "",
];

/// One caller of the many: what he sends stands in `number`, and so does all that may come of it.
async fn by_chance(address: String, number: usize, seed: u64) -> (usize, String, usize) {
    let (length, hex) = (BODY.len().to_string(), format!("{:x}", BODY.len()));
    let mut state = seed;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let lines: String = (0..=below(3)).map(|_| LINES[below(LINES.len())]).collect();
    let text = format!(
        "POST {CHAT}?n={number} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{lines}\r\n{}",
        BODIES[below(BODIES.len())]
    );
    let hidden = HIDDEN.replace("?provider=up", &format!("?provider=up&n={number}"));
    let text = text.replace("@chunked", "@hex\r\n@body\r\n0\r\n\r\n").replace("@length", &length).replace("@hex", &hex);
    let text = text.replace("@body", BODY).replace("@hidden", &hidden);
    let mut connection = Raw::connect(&address).await;
    let _ = connection.send(&text).await;
    // One head, and a second one where there is one: its answer would follow at once.
    let mut answers = connection.head_or_end().await;
    if let Ok(second) = tokio::time::timeout(Duration::from_millis(200), connection.head_or_end()).await {
        answers.push_str(&second);
    }
    let good = answers.matches("HTTP/1.1 200 OK\r\n").count();
    (number, text, good)
}

/// Whatever comes in: as many requests go out as are answered, each whole, and none that was hidden in a
/// body whose length two readers could see differently.
#[tokio::test]
async fn any_pair_of_framings() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = gateway(&upstream);
    let count = if is_long() { 100_000 } else { 600 };
    let (mut tasks, mut callers) = (JoinSet::new(), HashMap::new());
    let mut keep = |outcome: Result<(usize, String, usize), _>| {
        let (number, text, good) = outcome.unwrap();
        callers.insert(number, (text, good));
    };
    for number in 0..count {
        if tasks.len() >= 64 {
            keep(tasks.join_next().await.unwrap());
        }
        tasks.spawn(by_chance(gateway.base().to_owned(), number, number as u64 * 7919 + 1));
    }
    while let Some(outcome) = tasks.join_next().await {
        keep(outcome);
    }
    let mut out: HashMap<usize, Vec<Seen>> = HashMap::new();
    for seen in upstream.seen() {
        out.entry(seen.path.rsplit("n=").next().unwrap().parse().unwrap()).or_default().push(seen);
    }
    let (mut whole, mut two, mut none) = (0, 0, 0);
    for (number, (text, good)) in &callers {
        let seen = out.remove(number).unwrap_or_default();
        // What was answered may have reached him too late, never the other way round.
        assert!(*good <= seen.len(), "{good} answers to {} requests: {text:?}", seen.len());
        let hidden = seen.iter().filter(|seen| seen.path.starts_with("/v1/hidden")).count();
        let chat: Vec<_> = seen.iter().filter(|seen| seen.path.starts_with(CHAT)).collect();
        assert!(chat.len() <= 1 && hidden <= 1, "{text:?}: {seen:?}");
        assert!(chat.iter().all(|seen| seen.body == BODY.replace("up/", "")), "{text:?}: {seen:?}");
        let head = text.split("\r\n\r\n").next().unwrap().to_lowercase();
        let framings =
            head.lines().filter(|line| line.starts_with("content-length") || line.starts_with("transfer-encoding"));
        let framings: Vec<&str> = framings.collect();
        // One reading alone: equal lengths, or chunks; no length at all is a body of none. Of two lengths that are
        // the same number hyper keeps the first, so that zeros before the second are not seen.
        let plain =
            |line: &str| line.split(':').map(|part| part.trim().trim_start_matches('0').to_owned()).collect::<Vec<_>>();
        let sure = framings.windows(2).all(|pair| plain(pair[0]) == plain(pair[1]));
        assert!(hidden == 0 || sure, "{text:?}: {seen:?}");
        match (chat.len(), hidden) {
            (1, 0) => whole += 1,
            (1, _) => two += 1,
            _ => none += 1,
        }
    }
    assert!(out.is_empty() && whole > 0 && two > 0 && none > 0, "{whole} {two} {none} {out:?}");
    println!("{count} framings by chance: {whole} of one request, {two} of two, {none} refused");
}
