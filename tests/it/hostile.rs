//! Callers and upstreams of ill will: no spelling of a path gets where its canonical form does not, and
//! nothing travels that is not on a list.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{self, raw, status_of};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"up/m","messages":[]}"#;

fn gateway(upstream: &Upstream, rest: &str) -> Gateway {
    Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"], "limits": {{"header_timeout_seconds": 1, "body_timeout_seconds": 1}}}}, "observability": {{"access_log": false}}{rest}, "providers": {{"up": {{
           "custom_provider_config": {{"base_provider_type": "openai"}}, "network_config": {{"base_url": "{}"}},
           "keys": [{{"name": "one", "value": "sk-canary-up-00000000"}}]}}}}}}"#,
        upstream.base()
    ))
}

const DOORS: [&str; 5] =
    ["/api/config/status", "/v1/chat/completions", "/v1/models", "/passthrough/up/v1/models", "/metrics"];
/// Open to everybody.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/healthz", "/health"];

/// Ways of writing the doors that some reader on the way might take for them, or for open ones.
fn spellings() -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for door in DOORS {
        let inner = &door[1..];
        let first = inner.split('/').next().unwrap();
        let rest = inner.strip_prefix(first).unwrap_or("");
        for open in OPEN {
            for bridge in [
                "/..", "/%2e%2e", "/.%2e", "/%2E.", "/..;", "/..%2f", "%2f..", "/.", "//", "/%5c..", "\\..", "%00",
                ";", "%3b", "%23", "?", "%3f",
            ] {
                paths.push(format!("{open}{bridge}{door}"));
                paths.push(format!("{door}{bridge}{open}"));
            }
        }
        for before in [
            "/",
            "/./",
            "/../",
            "/%2e/",
            "/%2f",
            "/%5c",
            "/\\",
            "/x/../",
            "/x/%2e%2e/",
            "/;x=1/",
            "/%20",
            "/%00",
            "/%0a",
            "/%09",
        ] {
            paths.push(format!("{before}{inner}"));
        }
        for after in [
            "/",
            "/.",
            "/..",
            "/%2e",
            "%20",
            "%00",
            "%0d%0a",
            ";x",
            "%3bx",
            "#x",
            "?x",
            "??",
            "?x#y",
            "/%2e%2e/livez",
            "\\",
            "%5c",
            ".json",
            "%2f",
            "//",
        ] {
            paths.push(format!("{door}{after}"));
        }
        paths.push(door.to_uppercase());
        paths.push(format!("/%{:02x}{}{rest}", first.as_bytes()[0], &first[1..]));
        paths.push(format!("/%25{:02x}{}{rest}", first.as_bytes()[0], &first[1..]));
        paths.push(door.replace('/', "%2f"));
        paths.push(door.replacen('/', "/%2f", 1));
        paths.push(inner.to_owned());
    }
    // What ends in a query or a fragment is the open door itself.
    paths.retain(|path| !OPEN.contains(&path.split(['?', '#']).next().unwrap()));
    paths
}

/// No way of writing a path, a host or a target opens what its canonical form keeps closed.
#[tokio::test]
async fn no_spelling_opens_a_closed_door() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let (ops, ci) = ("ab".repeat(32), "cd".repeat(32));
    let closed = format!(
        r#", "management": {{"keys": [{{"name": "ops", "hash": "blake3:{ops}"}}]}}, "projects": [{{"id": "app", "keys": [{{"name": "ci", "hash": "blake3:{ci}"}}]}}]"#
    );
    let gateway = gateway(&upstream, &closed);
    let paths = spellings();
    let hosts = [
        "127.0.0.1",
        "x/#@127.0.0.1",
        "x/?",
        "127.0.0.1/livez",
        "127.0.0.1#",
        "a@127.0.0.1",
        "127.0.0.1, x",
        "[::1",
        "",
        "livez",
    ];
    let forged = [
        "",
        "x-original-url: /livez\r\n",
        "x-rewrite-url: /livez\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "forwarded: for=127.0.0.1;host=127.0.0.1\r\n",
        "x-http-method-override: GET\r\n",
        "authorization: Basic b3BzOm9wcw==\r\n",
        "x-api-key: undefined\r\n",
    ];
    let mut count = 0;
    let mut judge = |what: &str, status: u16, upstream: &Upstream| {
        count += 1;
        // 0: closed without a word, which is hyper's answer to some heads.
        assert!(status == 0 || (400..500).contains(&status), "{what:?} got {status}");
        assert!(upstream.seen().is_empty(), "{what:?} reached an upstream");
    };
    // Many on one connection: a refusal of ours leaves it open, one of the parser's closes it.
    for (index, path) in paths.iter().enumerate() {
        for (host, more) in [(hosts[0], ""), (hosts[index % hosts.len()], forged[index % forged.len()])] {
            for method in ["GET", "POST"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n"
                );
                let answer = raw(gateway.base(), &request).await;
                judge(&request, status_of(&answer), &upstream);
            }
        }
    }
    for door in DOORS {
        for target in [
            format!("http://127.0.0.1{door}"),
            format!("http://x{door}"),
            format!("http://127.0.0.1@x{door}"),
            format!("https://127.0.0.1{door}"),
            format!("http:{door}"),
            format!("ftp://127.0.0.1{door}"),
            format!("127.0.0.1:80{door}"),
            "*".to_owned(),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
            let answer = raw(gateway.base(), &request).await;
            judge(&request, status_of(&answer), &upstream);
        }
    }
    let count = count + over_http2(&gateway, &paths, &upstream).await;
    println!("{count} spellings of closed doors, none opened");
}

/// The same by the pseudo headers of HTTP/2, as far as its client lets them be written.
async fn over_http2(gateway: &Gateway, paths: &[String], upstream: &Upstream) -> usize {
    let socket = TcpStream::connect(gateway.base().strip_prefix("http://").unwrap()).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let driver = tokio::spawn(driver);
    let mut count = 0;
    for path in paths {
        let Ok(uri) = format!("http://127.0.0.1{path}").parse::<http::Uri>() else { continue };
        if uri.authority().is_none_or(|authority| authority.as_str() != "127.0.0.1") {
            continue;
        }
        let request = Request::builder().method(Method::POST).uri(uri).body(Full::<Bytes>::default()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert!(answer.status().is_client_error(), "{path} over HTTP/2: {}", answer.status());
        answer.into_body().collect().await.unwrap();
        count += 1;
    }
    assert!(upstream.seen().is_empty());
    driver.abort();
    count
}

/// What a caller may not send further.
const KEPT_BACK: [&str; 44] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    "x-amz-date",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "cookie",
    "cookie2",
    "set-cookie",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "keep-alive",
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "via",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-bf-vk",
    "x-bf-api-key-x",
    "x-keyway-key",
    "x-keyway-provider",
    "x-internal-token",
    "x-csrf-token",
    "origin",
    "sec-fetch-site",
    "dnt",
    "from",
    "x-envoy-original-path",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
];

/// What an upstream may not send back.
const NOT_RETURNED: [&str; 24] = [
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "proxy-authenticate",
    "authorization",
    "authentication-info",
    "x-api-key",
    "x-goog-api-key",
    "x-ms-authorization-auxiliary",
    "x-amzn-security-token",
    "openai-secret",
    "anthropic-api-key",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "alt-svc",
    "server",
    "via",
    "location",
    "refresh",
    "strict-transport-security",
    "access-control-allow-origin",
    "x-powered-by",
    "x-internal",
];

#[tokio::test]
async fn headers_travel_by_list_in_both_directions() {
    let upstream = Upstream::start(|_| {
        let answer =
            Answer::json(200, "{}").header("connection", "x-ms-named, keep-alive").header("x-ms-named", "canary");
        NOT_RETURNED.iter().fold(answer, |answer, name| answer.header(name, "canary-down"))
    });
    let gateway = gateway(&upstream, "");
    // On a loopback without projects, forwarding headers are refused outright; the rest stays here.
    let refused = ["forwarded", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-prefix"];
    let plain: Vec<&str> = KEPT_BACK.into_iter().filter(|name| !refused.contains(name)).collect();
    for name in &plain {
        upstream.forget();
        let headers = [
            ("content-type", "application/json"),
            (*name, "canary-up"),
            ("connection", "openai-named, keep-alive"),
            ("openai-named", "canary-up"),
        ];
        let reply = client::send(client::request(Method::POST, &gateway.url(CHAT), &headers, BODY)).await;
        // Some of them alone are enough to be refused (a foreign origin).
        if reply.status != 200 {
            assert!(upstream.seen().is_empty(), "{name}");
            continue;
        }
        let seen = upstream.only();
        let text = format!("{:?}", seen.headers);
        assert!(!text.contains("canary-up\""), "{name}: {text}");
        assert_eq!(seen.bearer(), "sk-canary-up-00000000");
        let back = format!("{:?}", reply.headers);
        assert!(!back.contains("canary"), "{back}");
    }
    println!("{} headers up, {} headers down", plain.len(), NOT_RETURNED.len() + 1);
}

/// What comes, and what statuses may become of it.
const JUNK: &[(&str, &[u8], &[u16])] = &[
    ("nothing", b"", &[502]),
    ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", &[502]),
    ("another version", b"HTTP/9.9 200 OK\r\ncontent-length: 2\r\n\r\n{}", &[502]),
    ("no status", b"HTTP/1.1 abc OK\r\ncontent-length: 2\r\n\r\n{}", &[502]),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\n{}", &[502]),
    ("HTTP/2 unasked", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[502]),
    ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}", &[502]),
    ("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\n{}", &[502]),
    ("a header without a name", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n{}", &[502]),
    ("a NUL", b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\n{}", &[502]),
    ("switching protocols", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{}", &[502]),
    ("a chunk that is none", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n", &[502]),
    ("one interim answer", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", &[200]),
    (
        "a redirect to the metadata of the machine",
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://169.254.169.254/latest\r\nx-goog-api-key: k\r\ncontent-length: 0\r\n\r\n",
        &[502],
    ),
    ("cookies and keys", b"HTTP/1.1 200 OK\r\nset-cookie: a=canary\r\nx-api-key: canary\r\ncontent-length: 2\r\n\r\n{}", &[200]),
    (
        "trailers with keys",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: authorization\r\n\r\n2\r\n{}\r\n0\r\nauthorization: canary\r\n\r\n",
        &[200],
    ),
];

/// What no upstream of good will would send.
#[tokio::test]
async fn junk_from_an_upstream_is_a_502() {
    let mut large = b"HTTP/1.1 200 OK\r\n".to_vec();
    for n in 0..3000 {
        large.extend_from_slice(format!("x-ratelimit-{n}: {}\r\n", "y".repeat(60)).as_bytes());
    }
    large.extend_from_slice(b"content-length: 2\r\n\r\n{}");
    let mut storm = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(200_000);
    storm.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let wire = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&wire);
    let upstream = Upstream::raw(move |mut socket, _| {
        let bytes: Vec<u8> = sent.lock().unwrap().clone();
        async move {
            let _ = socket.read(&mut [0; 8192]).await;
            let _ = socket.write_all(&bytes).await;
        }
    });
    let more: [(&str, &[u8], &[u16]); 2] =
        [("200 KB of headers", &large, &[502]), ("a storm of interim answers", &storm, &[200, 502])];
    let mut count = 0;
    for (what, bytes, statuses) in JUNK.iter().chain(&more) {
        *wire.lock().unwrap() = bytes.to_vec();
        // A gateway for each: what one of them did to its breaker is not the next one's affair.
        let gateway = gateway(&upstream, "");
        let before = upstream.connections();
        let answer = raw(
            gateway.base(),
            format!(
                "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{BODY}",
                BODY.len()
            ),
        )
        .await;
        assert!(statuses.contains(&status_of(&answer)), "{what}: {answer}");
        let lower = answer.to_lowercase();
        for word in ["canary", "169.254", "set-cookie", "x-api-key", "x-goog-api-key", "upgrade:", "trailer"] {
            assert!(!lower.contains(word), "{what}: {word} in {answer}");
        }
        assert_eq!(upstream.connections(), before + 1, "{what}: asked once");
        count += 1;
    }
    println!("{count} kinds of junk");
}
