//! Bytes that two readers could read in two ways, from both sides: one request in is one request out or
//! none, no spelling of a path gets where its canonical form does not, and nothing travels that is not
//! on a list.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{self, Raw, raw, status_of};
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

#[tokio::test]
async fn one_request_in_is_one_request_out() {
    use Expect::{Out, Refused};
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = gateway(&upstream, "");
    let length = BODY.len();
    let chunk = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let sized = |headers: &str| (format!("content-length: {length}\r\n{headers}"), BODY.to_owned());
    let chunked = |headers: &str, body: &str| (format!("{headers}transfer-encoding: chunked\r\n"), body.to_owned());
    let head = |headers: &str, body: &str| (headers.to_owned(), body.to_owned());
    let cases: Vec<((String, String), Expect)> = vec![
        (sized(""), Out(1)),
        (chunked("", &chunk), Out(1)),
        // Both lengths at once, in both orders and with both bodies.
        (head(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), BODY), Refused),
        // RFC 9112 6.1: the chunks are read, and what follows on that connection is nobody's request.
        (
            head(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"), &format!("{chunk}{HIDDEN}")),
            Out(1),
        ),
        (chunked("", &format!("{chunk}{HIDDEN}")), Out(2)),
        (head(&format!("content-length: 6\r\ntransfer-encoding: chunked\r\n"), &format!("0\r\n\r\n{HIDDEN}")), Refused),
        (head("content-length: 0\r\ntransfer-encoding: chunked\r\n", &format!("{chunk}{HIDDEN}")), Out(1)),
        // Lengths that are none, or several.
        (head("content-length: 5\r\ncontent-length: 6\r\n", BODY), Refused),
        // The same length twice has one meaning (RFC 9110 8.6).
        (head(&format!("content-length: {length}\r\ncontent-length: {length}\r\n"), BODY), Out(1)),
        (head(&format!("content-length: {length}, {length}\r\n"), BODY), Refused),
        (head(&format!("content-length: +{length}\r\n"), BODY), Refused),
        (head(&format!("content-length: -{length}\r\n"), BODY), Refused),
        (head(&format!("content-length: 0{length}\r\n"), BODY), Refused),
        (head(&format!("content-length: 0x{length:x}\r\n"), BODY), Refused),
        (head(&format!("content-length: {length}.0\r\n"), BODY), Refused),
        (head(&format!("content-length: {length} 1\r\n"), BODY), Refused),
        (head("content-length: \r\n", BODY), Refused),
        (head("content-length: 18446744073709551616\r\n", BODY), Refused),
        (head("content-length: 99999999999999999999999\r\n", BODY), Refused),
        (head(&format!("content-length : {length}\r\n"), BODY), Refused),
        (head(&format!("content-length\t: {length}\r\n"), BODY), Refused),
        (head(&format!(" content-length: {length}\r\n"), BODY), Refused),
        (head(&format!("x: y\r\n content-length: {length}\r\n"), BODY), Refused),
        (head(&format!("content_length: {length}\r\n"), BODY), Refused),
        // Codings that are not the one.
        (head("transfer-encoding: gzip, chunked\r\n", &chunk), Refused),
        (head("transfer-encoding: chunked, gzip\r\n", &chunk), Refused),
        (head("transfer-encoding: chunked, chunked\r\n", &chunk), Refused),
        (head("transfer-encoding: identity\r\n", &chunk), Refused),
        (head("transfer-encoding: xchunked\r\n", &chunk), Refused),
        (head("transfer-encoding: chunkedx\r\n", &chunk), Refused),
        (head("transfer-encoding: \"chunked\"\r\n", &chunk), Refused),
        (head("transfer-encoding: chunked;q=1\r\n", &chunk), Refused),
        (head("transfer-encoding: \x0bchunked\r\n", &chunk), Refused),
        (head("transfer-encoding:\r\n", &chunk), Refused),
        (head("transfer-encoding : chunked\r\n", &chunk), Refused),
        (head("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", &chunk), Refused),
        (head("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", &chunk), Refused),
        (head("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n", &chunk), Refused),
        (head("transfer-encoding:\r\n chunked\r\n", &chunk), Refused),
        (head("x: y\r\n transfer-encoding: chunked\r\n", &chunk), Refused),
        (head("transfer_encoding: chunked\r\n", &chunk), Refused),
        (head("Transfer-Encoding: Chunked\r\n", &chunk), Out(1)),
        // Chunks that are not well made.
        (chunked("", &format!("{length:x};a=b\r\n{BODY}\r\n0\r\n\r\n")), Out(1)),
        (chunked("", &format!("0{length:x}\r\n{BODY}\r\n0\r\n\r\n")), Out(1)),
        (chunked("", &format!("0x{length:x}\r\n{BODY}\r\n0\r\n\r\n")), Refused),
        (chunked("", &format!("+{length:x}\r\n{BODY}\r\n0\r\n\r\n")), Refused),
        (chunked("", &format!("-{length:x}\r\n{BODY}\r\n0\r\n\r\n")), Refused),
        (chunked("", &format!("{length:x}\r\n{BODY}xx0\r\n\r\n")), Refused),
        (chunked("", &format!("{length:x}\r\n{BODY}\r\nzz\r\n\r\n")), Refused),
        (chunked("", "fffffffffffffffff\r\n"), Refused),
        (chunked("", &format!("{length:x}\n{BODY}\r\n0\r\n\r\n")), Refused),
        (chunked("", &format!("{length:x}\r{BODY}\r\n0\r\n\r\n")), Refused),
        (chunked("", &format!("{length:x}\r\n{BODY}\r\n0\r\nx-api-key: trailer\r\n\r\n")), Out(1)),
        // What stands behind a whole request is the next one, and read as such: here it is known.
        (head(&format!("content-length: {length}\r\n"), &format!("{BODY}{HIDDEN}")), Out(2)),
        // Heads with odd ends and odd letters.
        (head(&format!("content-length: {length}\r\nx: a\rb\r\n"), BODY), Refused),
        (head(&format!("content-length: {length}\r\nx: a\0b\r\n"), BODY), Refused),
        (head(&format!("content-length: {length}\r\nx\0: a\r\n"), BODY), Refused),
        (head(&format!("content-length: {length}\r\nx\r\n"), BODY), Refused),
        (head(&format!("content-length: {length}\r\n: y\r\n"), BODY), Refused),
        (head(&format!("content-length: {length}\r\nhost: other\r\n"), BODY), Refused),
        (head(&format!("content-length: {length}\r\nconnection: upgrade\r\nupgrade: h2c\r\n"), BODY), Out(1)),
        (head(&format!("content-length: {length}\r\nexpect: 100-continue\r\n"), BODY), Out(1)),
        (head(&format!("content-length: {length}\r\ncontent-encoding: chunked\r\n"), BODY), Refused),
    ];
    let mut wrong = Vec::new();
    for ((headers, body), expect) in &cases {
        upstream.forget();
        let request =
            format!("POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}\r\n{body}");
        let mut connection = Raw::connect(gateway.base()).await;
        let _ = connection.send(&request).await;
        let answer = connection.head_or_end().await;
        if *expect == Out(2) {
            upstream.wait_seen(2).await;
        }
        // What is hidden behind the first would follow at once.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let seen = upstream.seen();
        let out = seen.iter().filter(|seen| seen.path == CHAT).count();
        let (held, why) = match expect {
            Refused => (seen.is_empty() && matches!(status_of(&answer), 0 | 400..500), "refused, and nothing goes out"),
            Out(count) => (
                (out, seen.len()) == (1, *count)
                    && seen[0].body == BODY.replace("up/", "")
                    // Trailers stay here.
                    && seen[0].header("x-api-key").is_empty(),
                "read in one way",
            ),
        };
        if !held {
            wrong.push(format!("{request:?}: not {why}: {answer}{seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    println!("{} framings judged", cases.len());
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
    let doors = ["/api/config/status", "/v1/chat/completions", "/v1/models", "/passthrough/up/v1/models", "/metrics"];
    let mut paths: Vec<String> = Vec::new();
    for door in doors {
        let inner = &door[1..];
        let first = inner.split('/').next().unwrap();
        let rest = inner.strip_prefix(first).unwrap_or("");
        for open in ["livez", "readyz", "healthz", "health"] {
            for bridge in [
                "/..", "/%2e%2e", "/.%2e", "/%2E.", "/..;", "/..%2f", "%2f..", "/.", "//", "/%5c..", "\\..", "%00",
                ";", "%3b", "%23", "?", "%3f",
            ] {
                paths.push(format!("/{open}{bridge}{door}"));
                paths.push(format!("{door}{bridge}/{open}"));
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
                // What ends in a query or a fragment is the open door itself.
                let cut = path.split(['?', '#']).next().unwrap();
                if ["/livez", "/readyz", "/healthz", "/health"].contains(&cut) {
                    continue;
                }
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n"
                );
                let answer = raw(gateway.base(), &request).await;
                judge(&request, status_of(&answer), &upstream);
            }
        }
    }
    for door in doors {
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
        let cut = path.split(['?', '#']).next().unwrap();
        let open = ["/livez", "/readyz", "/healthz", "/health"].contains(&cut);
        let Ok(uri) = format!("http://127.0.0.1{path}").parse::<http::Uri>() else { continue };
        if open || uri.authority().is_none_or(|authority| authority.as_str() != "127.0.0.1") {
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

#[tokio::test]
async fn headers_travel_by_list_in_both_directions() {
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

/// What no upstream of good will would send.
#[tokio::test]
async fn junk_from_an_upstream_is_a_502() {
    let answers: &[(&str, &[u8], &[u16])] = &[
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
            &[307, 502],
        ),
        ("cookies and keys", b"HTTP/1.1 200 OK\r\nset-cookie: a=canary\r\nx-api-key: canary\r\ncontent-length: 2\r\n\r\n{}", &[200]),
        (
            "trailers with keys",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: authorization\r\n\r\n2\r\n{}\r\n0\r\nauthorization: canary\r\n\r\n",
            &[200],
        ),
    ];
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
    for (what, bytes, statuses) in answers.iter().chain(&more) {
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
