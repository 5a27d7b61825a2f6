//! Who may call: project keys, management keys, and the rules of a listener that is open because
//! nobody else can reach it.

use http::Method;
use http::Request;

use crate::support::client::{self, request, send};
use crate::support::gateway::{Gateway, launch};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"mock/gpt-mini","messages":[{"role":"user","content":"hi"}]}"#;
const PROJECT: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
const OTHER: &str = "mlx_sk_99999999999999999999999999999999999994LDCO9";
const MANAGER: &str = "mlx_mk_00000000000000000000000000000000000002woz6J";

fn config() -> String {
    r#"{"server": {"listen": ["127.0.0.1:0"]}, "observability": {"access_log": false},
        "management": {"keys": [{"name": "ops", "value": "env.KW_MANAGER"}]},
        "projects": [
          {"id": "app", "keys": [{"name": "ci", "value": "env.KW_PROJECT"}], "models": ["mock/gpt-*"]},
          {"id": "free", "keys": [{"name": "ci", "value": "env.KW_OTHER"}], "models": ["*"], "passthrough": true, "pin": true}],
        "providers": {"mock": {}}}"#
        .to_owned()
}

fn start() -> Gateway {
    launch(config()).env("KW_MANAGER", MANAGER).env("KW_PROJECT", PROJECT).env("KW_OTHER", OTHER).start()
}

async fn call(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> u16 {
    let all: Vec<(&str, &str)> =
        [("content-type", "application/json")].into_iter().chain(headers.iter().copied()).collect();
    send(request(Method::POST, &gateway.url(path), &all, BODY)).await.status.as_u16()
}

#[tokio::test]
async fn credentials_in_every_place_and_none() {
    let gateway = start();
    let bearer = format!("Bearer {PROJECT}");
    let manager = format!("Bearer {MANAGER}");
    let sigv4 = format!(
        "AWS4-HMAC-SHA256 Credential={PROJECT}/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=00"
    );
    for (headers, expected) in [
        (vec![], 401),
        (vec![("authorization", bearer.as_str())], 200),
        (vec![("x-api-key", PROJECT)], 200),
        (vec![("api-key", PROJECT)], 200),
        (vec![("x-goog-api-key", PROJECT)], 200),
        (vec![("authorization", sigv4.as_str())], 200),
        (vec![("authorization", bearer.as_str()), ("x-api-key", PROJECT)], 200),
        (vec![("authorization", bearer.as_str()), ("x-api-key", OTHER)], 401),
        (vec![("authorization", "Bearer wrong")], 401),
        (vec![("authorization", "Basic YTpi")], 401),
        (vec![("authorization", manager.as_str())], 403),
    ] {
        assert_eq!(call(&gateway, CHAT, &headers).await, expected, "{headers:?}");
    }
    assert_eq!(call(&gateway, &format!("{CHAT}?key={PROJECT}"), &[]).await, 200);
    // Nobody learns which paths exist.
    assert_eq!(call(&gateway, "/nothing/here", &[]).await, 401);
    assert!(!gateway.output().contains(PROJECT));
}

#[tokio::test]
async fn permissions_of_a_project() {
    let gateway = start();
    let key = [("authorization", format!("Bearer {PROJECT}"))];
    let free = [("authorization", format!("Bearer {OTHER}"))];
    let with = async |headers: &[(&str, String)], extra: &[(&str, &str)], path: &str, body: &str| {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers.iter().map(|(n, v)| (*n, v.as_str())));
        all.extend_from_slice(extra);
        send(request(Method::POST, &gateway.url(path), &all, body.to_owned())).await
    };
    let reply = with(&key, &[], CHAT, r#"{"model":"mock/o3","messages":[]}"#).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (403, Some("model_not_allowed")));
    assert_eq!(with(&free, &[], CHAT, r#"{"model":"mock/o3","messages":[]}"#).await.status, 200);
    let reply = with(&key, &[("x-bf-api-key", "default")], CHAT, BODY).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (403, Some("pin_not_allowed")));
    let reply = with(&key, &[], "/passthrough/mock/v1/chat/completions", BODY).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (403, Some("passthrough_not_allowed")));
    assert_eq!(with(&free, &[], "/passthrough/mock/v1/chat/completions", BODY).await.status, 200);
}

#[tokio::test]
async fn management_keys_open_the_inside_and_nothing_else_does() {
    let gateway = start();
    let get = async |path: &str, token: Option<&str>| {
        let mut call = Request::get(gateway.url(path));
        if let Some(token) = token {
            call = call.header("authorization", format!("Bearer {token}"));
        }
        send(call.body(Default::default()).unwrap()).await.status.as_u16()
    };
    for path in ["/metrics", "/readyz?verbose", "/api/config/status"] {
        assert_eq!(get(path, None).await, 401, "{path}");
        assert_eq!(get(path, Some("wrong-token-wrong-token-wrong-token-wrong")).await, 401, "{path}");
        assert_eq!(get(path, Some(PROJECT)).await, 403, "{path}");
        assert_eq!(get(path, Some(MANAGER)).await, 200, "{path}");
    }
    for path in ["/livez", "/readyz", "/healthz", "/health"] {
        assert_eq!(get(path, None).await, 200, "{path}");
    }
}

#[tokio::test]
async fn an_empty_list_of_projects_admits_nobody() {
    let gateway =
        Gateway::start(r#"{"server": {"listen": ["127.0.0.1:0"]}, "projects": [], "providers": {"mock": {}}}"#);
    assert_eq!(call(&gateway, CHAT, &[]).await, 401);
    assert_eq!(call(&gateway, CHAT, &[("authorization", "Bearer anything")]).await, 401);
}

#[tokio::test]
async fn an_open_listener_is_no_credential_for_a_web_page() {
    let gateway = Gateway::start(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#);
    assert_eq!(call(&gateway, CHAT, &[]).await, 200);
    for (name, value) in [
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "evil.example"),
    ] {
        assert_eq!(call(&gateway, CHAT, &[(name, value)]).await, 403, "{name}: {value}");
    }
    assert_eq!(call(&gateway, CHAT, &[("host", "localhost:1234")]).await, 200);
    // Another port of this machine is another program's page.
    assert_eq!(call(&gateway, CHAT, &[("origin", "http://localhost:3000")]).await, 403);
    assert_eq!(call(&gateway, CHAT, &[("origin", gateway.base())]).await, 200);
}

#[test]
fn beyond_loopback_needs_projects() {
    let (code, output) = launch(r#"{"server": {"listen": ["0.0.0.0:0"]}, "providers": {"mock": {}}}"#).refused();
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("/server/listen/0"), "{output}");
}

#[tokio::test]
async fn no_credential_of_a_caller_reaches_the_log() {
    let gateway = start();
    for path in [CHAT.to_owned(), format!("{CHAT}?key={PROJECT}")] {
        let _ = client::post_json(&gateway.url(&path), BODY).await;
    }
    assert!(!gateway.output().contains(PROJECT), "{}", gateway.output());
}
