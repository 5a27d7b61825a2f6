//! Tables of paths, hosts and headers, and what an upstream that decodes once would see.

use super::*;
use proptest::prelude::*;

const GOOD: &[&str] = &[
    "/",
    "/v1/chat/completions",
    "/v1/models/gpt-4.1",
    "/v1/models/..a",
    "/v1/models/...",
    "/v1/models/openai%2Fgpt-4o",
    "/v1/models/openai%2fgpt-4o",
    "/v1/models/a%3Ab%40c%20d",
    "/v1/models/org/model:provider@2025",
    "/v1/models/m%C3%A9",
    "/v1/models/100%25",
    "/v1/models/a%252Fb",
    "/v1/models/x%7Ey",
    "/v1/files/a%2Fb/content",
    "/openai/v1/models/a%2Fb",
    "/openai/deployments/a%2Fb/chat/completions",
    "/openai/files/a%2Fb",
    "/passthrough/gemini/v1beta/models/a:generateContent",
    "/passthrough/replicate/v1/a%2Fb",
    "/v1beta/models/a%2Fb:generateContent",
    "/model/arn%3Aaws%3Abedrock%2Fx/converse",
    "/api/config/status",
];

const BAD: &[(&str, Refusal)] = {
    use Refusal::{
        Backslash, BadCharacter, BadEscape, BadTarget, DotSegment, EmptySegment, EncodedControl, EncodedSlash,
        NeedlessEscape,
    };
    &[
        ("", BadTarget),
        ("*", BadTarget),
        ("v1/models", BadTarget),
        ("//api", EmptySegment),
        ("//", EmptySegment),
        ("/v1//models", EmptySegment),
        ("/v1/models/", EmptySegment),
        ("/v1/models/%2F", EmptySegment),
        ("/v1/models/a%2F", EmptySegment),
        ("/v1/models/a%2F%2Fb", EmptySegment),
        ("/.", DotSegment),
        ("/v1/./models", DotSegment),
        ("/v1/../api/providers", DotSegment),
        ("/v1/models/..", DotSegment),
        ("/v1/models/a%2F..%2Fb", DotSegment),
        ("/v1/models/a%2F.", DotSegment),
        ("/v1/%2e%2e/api", DotSegment),
        ("/v1/.%2E/api", DotSegment),
        ("/v1/%2E/api", DotSegment),
        ("/v1\\models", Backslash),
        ("/v1/%5C..%5Capi", Backslash),
        ("/v1/models/a%5cb", Backslash),
        ("/v1/models/a%", BadEscape),
        ("/v1/models/a%2", BadEscape),
        ("/v1/models/a%zz", BadEscape),
        ("/v1/models/a%u0041", BadEscape),
        ("/v1/models/a%00b", EncodedControl),
        ("/v1/models/a%0d%0ab", EncodedControl),
        ("/v1/models/a%1Bb", EncodedControl),
        ("/v1/models/a%7f", EncodedControl),
        ("/v1/ch%61t/completions", NeedlessEscape),
        ("/%76%31/models", NeedlessEscape),
        ("/v1/models/gpt%2D4", NeedlessEscape),
        ("/v1/a%5Fb", NeedlessEscape),
        ("/v1/models;x=1", BadCharacter),
        ("/v1/models#a", BadCharacter),
        ("/v1/models?a", BadCharacter),
        ("/v1/models/a b", BadCharacter),
        ("/v1/models/\"a\"", BadCharacter),
        ("/v1/models/{id}", BadCharacter),
        ("/v1/models/a|b", BadCharacter),
        ("/v1/models/[a]", BadCharacter),
        ("/v1/models/a^b", BadCharacter),
        ("/v1/models/é", BadCharacter),
        ("/v1/models/a\u{7f}", BadCharacter),
        ("/v1/models/a\tb", BadCharacter),
        ("/v1%2Fmodels", EncodedSlash),
        ("/v1/chat%2Fcompletions", EncodedSlash),
        ("/v1/files%2Fa", EncodedSlash),
        ("/v1/providers%2Fa/x", EncodedSlash),
        ("/openai%2Fv1/models", EncodedSlash),
        ("/openai/v1%2Fmodels", EncodedSlash),
        ("/openai/v1/chat%2Fcompletions", EncodedSlash),
        ("/openai/files%2Fa", EncodedSlash),
        ("/openai/deployments/a/chat%2Fcompletions", EncodedSlash),
        ("/passthrough%2Fopenai/v1/models", EncodedSlash),
        ("/passthrough/openai%2Fv1/models", EncodedSlash),
        ("/api%2Fconfig/status", EncodedSlash),
        ("/api/config%2Fstatus", EncodedSlash),
        ("/manage/v1/providers%2Fa", EncodedSlash),
    ]
};

#[test]
fn paths() {
    for text in GOOD {
        assert_eq!(path(text).map(|path| path.as_str()), Ok(*text));
    }
    for (text, refusal) in BAD {
        assert_eq!(path(text), Err(*refusal), "{text}");
    }
    println!("{} paths", GOOD.len() + BAD.len());
}

fn judge(version: Version, target: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
    let mut request = Request::builder().version(version).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    canonical(&request.body(()).unwrap()).map(|path| assert_eq!(path.as_str(), "/v1/models"))
}

#[test]
fn hosts() {
    use Refusal::{AuthorityMismatch, BadHost, BadTarget, DoubleHost, MissingHost};
    let plain = |host: &str| judge(Version::HTTP_11, "/v1/models?x=../%2e", &[("host", host)]);
    for host in ["localhost", "127.0.0.1:8080", "[::1]:8080", "[::1]", "[::ffff:1.2.3.4]", "my_box.local:1", "a-b.C"] {
        assert_eq!(plain(host), Ok(()), "{host}");
    }
    for host in [
        "",
        " ",
        "x/?",
        "x/",
        "x?y",
        "x/#@y",
        "x#",
        "a@b",
        "a b",
        "a,b",
        "a:",
        "a:b",
        "a:123456",
        "a:1:2",
        "::1",
        "[::1",
        "[]",
        "[::1]x",
        "[::1]:",
        "[::1%25eth0]",
        "[x]",
        "x\\y",
        "http://x",
        ":80",
        "%61",
    ] {
        assert_eq!(plain(host), Err(BadHost), "{host:?}");
    }
    let http1 = |target: &str, hosts: &[(&str, &str)]| judge(Version::HTTP_11, target, hosts);
    assert_eq!(http1("/v1/models", &[]), Err(MissingHost));
    assert_eq!(judge(Version::HTTP_10, "/v1/models", &[]), Err(MissingHost));
    assert_eq!(http1("/v1/models", &[("host", "a"), ("host", "a")]), Err(DoubleHost));
    assert_eq!(http1("http://a/v1/models", &[("host", "A")]), Ok(()));
    assert_eq!(http1("http://a/v1/models", &[("host", "b")]), Err(AuthorityMismatch));
    assert_eq!(http1("http://a:80/v1/models", &[("host", "a")]), Err(AuthorityMismatch));
    assert_eq!(http1("http://u@a/v1/models", &[("host", "a")]), Err(AuthorityMismatch));
    assert_eq!(http1("http://a/v1/models", &[]), Err(MissingHost));
    assert_eq!(http1("ftp://a/v1/models", &[("host", "a")]), Err(BadTarget));
    assert_eq!(http1("a:80", &[("host", "a:80")]), Err(BadTarget));
    assert_eq!(http1("*", &[("host", "a")]), Err(BadTarget));
    let http2 = |hosts: &[(&str, &str)]| judge(Version::HTTP_2, "http://a:1/v1/models", hosts);
    assert_eq!(http2(&[]), Ok(()));
    assert_eq!(http2(&[("host", "a:1")]), Ok(()));
    assert_eq!(http2(&[("host", "a")]), Err(AuthorityMismatch));
    assert_eq!(judge(Version::HTTP_2, "/v1/models", &[]), Err(MissingHost));
    let connect = Request::builder().method("CONNECT").uri("a:80").header("host", "a:80").body(()).unwrap();
    assert_eq!(canonical(&connect), Err(BadTarget));
}

#[test]
fn headers() {
    use Refusal::{AmbiguousHeader, BadContentLength, BadTransferEncoding};
    let with = |headers: &[(&str, &str)]| {
        let headers: Vec<_> = [("host", "a")].iter().chain(headers).copied().collect();
        judge(Version::HTTP_11, "/v1/models", &headers)
    };
    assert_eq!(with(&[("transfer-encoding", "Chunked")]), Ok(()));
    assert_eq!(with(&[("content-length", "0")]), Ok(()));
    assert_eq!(with(&[("content-length", "1024"), ("x-trace_id", "1"), ("openai_beta", "x")]), Ok(()));
    for value in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "", "chunked;q=1"] {
        assert_eq!(with(&[("transfer-encoding", value)]), Err(BadTransferEncoding), "{value}");
    }
    let chunked = ("transfer-encoding", "chunked");
    assert_eq!(with(&[chunked, chunked]), Err(BadTransferEncoding));
    assert_eq!(with(&[chunked, ("content-length", "3")]), Err(BadTransferEncoding));
    for value in ["03", "+3", "-3", "0x3", "3,3", "3 ", "", "00"] {
        assert_eq!(with(&[("content-length", value)]), Err(BadContentLength), "{value}");
    }
    assert_eq!(with(&[("content-length", "3"), ("content-length", "3")]), Err(BadContentLength));
    for name in [
        "x_api_key",
        "X-Api_Key",
        "x_forwarded_for",
        "transfer_encoding",
        "x_bf_api_key",
        "content_length",
        "api_key",
        "x-goog_api_key",
        "proxy_authorization",
        "x_keyway_a",
    ] {
        assert_eq!(with(&[(name, "1")]), Err(AmbiguousHeader), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// What an upstream that decodes once would see has no empty and no dot segment either.
    #[test]
    fn an_accepted_path_stays_one_when_decoded(pieces in prop::collection::vec(prop::sample::select(vec![
        "/", "/", "v1", "a", ".", "..", "%2e", "%2F", "%2f", "%5c", "\\", "%25", "%", "%00", ";", "models", "openai", "é",
    ]), 0..10)) {
        let text = format!("/{}", pieces.concat());
        if path(&text).is_ok() && text != "/" {
            let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
            for segment in decoded.split('/').skip(1) {
                prop_assert!(!matches!(segment, "" | "." | ".."), "{}", text);
            }
            prop_assert!(!decoded.contains(['\\', '\0']));
        }
    }
}
