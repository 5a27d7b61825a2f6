//! `network_config` and `proxy_config` from outside: what goes through a proxy and what never past it,
//! HTTP/2 upstreams, bounds on connections, and addresses that an API has named.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::support::client;
use crate::support::gateway::{Gateway, Mock, launch};
use crate::support::proxies::{self, Proxy};
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"up/m","messages":[]}"#;
const LOGIN: &str = "Basic dXM6cHctY2FuYXJ5LTAxMjM0NTY3ODk=";

fn config(base: &str, network: &str, provider: &str) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"up": {{
            "custom_provider_config": {{"base_provider_type": "openai"}},
            "keys": [{{"value": "sk-canary-0123456789abcdef", "base_url": "{base}"}}],
            "network_config": {{"connect_timeout_in_seconds": 5{network}}}{provider}}}}}}}"#
    )
}

fn gateway(base: &str, network: &str, provider: &str) -> Gateway {
    launch(config(base, network, provider)).env("PROXY_PASSWORD", "pw-canary-0123456789").start()
}

fn proxy(kind: &str, url: &str, rest: &str) -> String {
    format!(r#", "proxy_config": {{"type": "{kind}", "url": "{url}"{rest}}}"#)
}

fn quoted(pem: &str) -> String {
    serde_json::Value::from(pem).to_string()
}

async fn ask(gateway: &Gateway) -> (u16, String) {
    let reply = client::post_json(&gateway.url(CHAT), BODY).await;
    (reply.status.as_u16(), reply.text())
}

fn named(upstream: &Upstream, scheme: &str) -> String {
    format!("{scheme}://up.example:{}", upstream.address().port())
}

fn ok() -> Upstream {
    Upstream::start(|_| Answer::json(200, "{}"))
}

const WITH_LOGIN: &str = r#", "username": "us", "password": "env.PROXY_PASSWORD""#;

#[tokio::test]
async fn plain_http_goes_through_in_absolute_form() {
    let (upstream, way) = (ok(), Proxy::http(Some(LOGIN)));
    let base = named(&upstream, "http");
    let gateway = gateway(&base, "", &proxy("http", &way.url("http"), WITH_LOGIN));
    for _ in 0..6 {
        assert_eq!(ask(&gateway).await, (200, "{}".to_owned()));
    }
    // The name is the proxy's to look up; here nobody knows it.
    only(&way, &format!("POST {base}/v1/chat/completions"));
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[0].header("proxy-authorization")), (6, ""));
    assert_eq!(seen[0].header("host"), format!("up.example:{}", upstream.address().port()));
    assert_eq!(seen[0].bearer(), "sk-canary-0123456789abcdef");
}

/// TLS is between the gateway and the upstream, whatever lies in between.
async fn over_tls(way: &Proxy, proxy: &str, asked: &str) {
    let (pem, acceptor) = proxies::tls(&["up.example"], &[]);
    let upstream = tls_upstream(acceptor, "{}");
    let network = format!(r#", "ca_cert_pem": {}"#, quoted(&pem));
    let base = named(&upstream, "https");
    let gateway = gateway(&base, &network, proxy);
    for _ in 0..6 {
        let answer = ask(&gateway).await;
        assert_eq!(answer, (200, "{}".to_owned()), "{}", gateway.output());
    }
    only(way, &format!("{asked} up.example:{}", upstream.address().port()));
}

/// Connections are kept: a proxy is asked once by each worker at most, and for nothing else.
#[track_caller]
fn only(way: &Proxy, asked: &str) {
    let workers = std::thread::available_parallelism().unwrap().get();
    let all = way.asked();
    assert!((1..=workers).contains(&all.len()) && all.iter().all(|line| line == asked), "{all:?}");
}

fn tls_upstream(acceptor: tokio_rustls::TlsAcceptor, body: &'static str) -> Upstream {
    Upstream::raw(move |socket, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let _ = request.into_body().collect().await;
                let answer = Response::builder().header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap())
            });
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        }
    })
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let way = Proxy::http(Some(LOGIN));
    over_tls(&way, &proxy("http", &way.url("http"), WITH_LOGIN), "CONNECT").await;
}

/// Azure by a token: who gives it out is reached as the provider is, and as nobody else would be.
#[tokio::test]
async fn issuers_of_tokens_are_reached_by_the_same_way() {
    let (pem, acceptor) = proxies::tls(&["up.example", "login.example"], &[]);
    let (_, stranger) = proxies::tls(&["login.example"], &[]);
    let token = r#"{"access_token": "t-0123456789", "expires_in": 3600}"#;
    let upstream = tls_upstream(acceptor.clone(), "{}");
    for (issuer, status) in [(tls_upstream(acceptor, token), 200), (tls_upstream(stranger, token), 502)] {
        let (way, port) = (Proxy::http(Some(LOGIN)), issuer.address().port());
        let config = format!(
            r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"azure": {{
                "keys": [{{"azure_key_config": {{"endpoint": "{}", "tenant_id": "t", "client_id": "c",
                    "client_secret": "canary-0123456789", "api_version": "v1"}}}}],
                "network_config": {{"ca_cert_pem": {}}}{}}}}}}}"#,
            named(&upstream, "https"),
            quoted(&pem),
            proxy("http", &way.url("http"), WITH_LOGIN),
        );
        let authority = format!("https://login.example:{port}");
        let gateway = launch(config)
            .env("PROXY_PASSWORD", "pw-canary-0123456789")
            .env("AZURE_AUTHORITY_HOST", &authority)
            .start();
        let reply = client::post_json(&gateway.url(CHAT), r#"{"model":"azure/m","messages":[]}"#).await;
        assert_eq!(reply.status.as_u16(), status, "{} {}", reply.text(), gateway.output());
        let mut expected = vec![format!("CONNECT login.example:{port}")];
        if status == 200 {
            expected.push(format!("CONNECT up.example:{}", upstream.address().port()));
        }
        assert_eq!(way.asked(), expected);
    }
}

/// The machine's own services are no business of a proxy.
#[tokio::test]
async fn metadata_services_are_asked_directly() {
    let (mock, way) = (Mock::start(), Proxy::http(None));
    let config = format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"azure": {{
            "keys": [{{"azure_key_config": {{"endpoint": "{}", "api_version": "2024-10-21"}}}}]{}}}}}}}"#,
        mock.base(),
        proxy("http", &way.url("http"), ""),
    );
    let gateway = launch(config).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", mock.base()).start();
    let body = r#"{"model":"azure/m","messages":[{"role":"user","content":"hi"}]}"#;
    let reply = client::post_json(&gateway.url(CHAT), body).await;
    assert_eq!(reply.status, 200, "{} {}", reply.text(), gateway.output());
    let asked = way.asked();
    assert!(asked.len() == 1 && asked[0].contains("/chat/completions"), "{asked:?}");
}

#[tokio::test]
async fn https_goes_through_a_tunnel_in_tls() {
    let (pem, acceptor) = proxies::tls(&["localhost"], &[]);
    let way = Proxy::https(acceptor);
    let url = format!("https://localhost:{}", way.port());
    over_tls(&way, &proxy("http", &url, &format!(r#", "ca_cert_pem": {}"#, quoted(&pem))), "CONNECT").await;
}

#[tokio::test]
async fn https_goes_through_socks() {
    let way = Proxy::socks(Some(("us", "pw-canary-0123456789")));
    over_tls(&way, &proxy("socks5", &way.url("socks5"), WITH_LOGIN), "SOCKS").await;
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_not_gone_past() {
    let upstream = ok();
    let base = upstream.base();
    let nobody = Proxy::http(None).url("http");
    let (strict, socks) = (Proxy::http(Some("Basic other")), Proxy::socks(Some(("us", "other"))));
    for way in [
        proxy("http", &nobody, ""),
        proxy("socks5", &nobody.replace("http", "socks5"), ""),
        proxy("http", &strict.url("http"), WITH_LOGIN),
        proxy("socks5", &socks.url("socks5"), WITH_LOGIN),
        proxy("http", "env.NOT_SET", ""),
    ] {
        let gateway = gateway(&base, "", &way);
        let (status, text) = ask(&gateway).await;
        assert!(matches!(status, 407 | 502 | 503), "{way}: {status} {text}");
        for (place, text) in [("answer", text), ("log", gateway.output())] {
            assert!(!text.contains("canary"), "{place}: {text}");
        }
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn the_environment_names_a_proxy() {
    let (upstream, way) = (ok(), Proxy::http(None));
    let through = r#", "proxy_config": {"type": "environment"}"#;
    let far = launch(config(&named(&upstream, "http"), "", through)).env("http_proxy", &way.url("http")).start();
    assert_eq!(ask(&far).await.0, 200);
    assert_eq!(way.asked().len(), 1);
    let near = launch(config(&upstream.base(), "", through))
        .env("http_proxy", &way.url("http"))
        .env("NO_PROXY", "localhost,127.0.0.0/8")
        .start();
    assert_eq!(ask(&near).await.0, 200);
    assert_eq!((way.asked().len(), upstream.seen().len()), (1, 2), "exempt");
}

/// Connections that were made another way are not used once the way has changed.
#[tokio::test]
async fn a_new_way_is_taken_at_once() {
    let (upstream, first, second) = (ok(), Proxy::socks(None), Proxy::http(None));
    let base = upstream.base();
    let ways = [
        String::new(),
        proxy("socks5", &first.url("socks5"), ""),
        proxy("http", &second.url("http"), ""),
        String::new(),
    ];
    let gateway = gateway(&base, "", &ways[0]);
    assert_eq!(ask(&gateway).await.0, 200);
    for (at, way) in ways.iter().enumerate().skip(1) {
        gateway.write_config(&config(&base, "", way));
        gateway.wait_generation(at as u64 + 1).await;
        assert_eq!(ask(&gateway).await.0, 200);
        let expected = [(0, 0), (1, 0), (1, 1), (1, 1)][at];
        assert_eq!((first.asked().len(), second.asked().len()), expected, "{way}");
    }
}

/// An upstream that speaks HTTP/2 alone, in clear; counts connections by `Upstream`, requests here.
fn http2(count: Arc<AtomicUsize>, gate: Gate) -> Upstream {
    Upstream::raw(move |socket, _| {
        let (count, gate) = (Arc::clone(&count), gate.clone());
        async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (count, gate) = (Arc::clone(&count), gate.clone());
                async move {
                    let (host, version) = (request.uri().to_string(), request.version());
                    let _ = request.into_body().collect().await;
                    count.fetch_add(1, Ordering::SeqCst);
                    gate.opened().await;
                    let text = format!(r#"{{"uri":"{host}","version":"{version:?}"}}"#);
                    let answer = Response::builder().header("content-type", "application/json");
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(text))).unwrap())
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        }
    })
}

#[tokio::test]
async fn http2_carries_many_requests_on_one_connection() {
    let (count, gate) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let upstream = http2(Arc::clone(&count), gate.clone());
    let gateway = gateway(&upstream.base(), r#", "enforce_http2": true"#, "");
    let mut tasks = JoinSet::new();
    let all = 40;
    for _ in 0..all {
        let url = gateway.url(CHAT);
        tasks.spawn(async move { client::post_json(&url, BODY).await });
    }
    client::poll(client::PATIENCE, "all requests at the upstream", async || {
        (count.load(Ordering::SeqCst) == all).then_some(())
    })
    .await;
    gate.open();
    for reply in tasks.join_all().await {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let uri = format!("{}/v1/chat/completions", upstream.base());
        assert_eq!(reply.json(), serde_json::json!({"uri": uri, "version": "HTTP/2.0"}));
    }
    let workers = std::thread::available_parallelism().unwrap().get();
    assert!(upstream.connections() <= workers, "{} connections", upstream.connections());
}

#[tokio::test]
async fn http2_is_spoken_or_nothing() {
    for (protocols, good) in [(&[&b"h2"[..]][..], true), (&[b"http/1.1"], false), (&[], false)] {
        let (pem, acceptor) = proxies::tls(&["localhost"], protocols);
        let upstream = tls_upstream(acceptor, "{}");
        let network = format!(r#", "enforce_http2": true, "ca_cert_pem": {}"#, quoted(&pem));
        let gateway = gateway(&format!("https://localhost:{}", upstream.address().port()), &network, "");
        let (status, text) = ask(&gateway).await;
        assert_eq!(status, if good { 200 } else { 502 }, "{protocols:?}: {text}");
    }
}

/// Over all workers together; who waits is served when his turn comes.
#[tokio::test]
async fn connections_are_bounded() {
    let (most, current) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let upstream = Upstream::raw(move |socket, _| {
        let (seen, current) = (Arc::clone(&seen), Arc::clone(&current));
        async move {
            seen.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let _ = request.into_body().collect().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
            current.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let text = config(&upstream.base(), r#", "max_conns_per_host": 2"#, "").replace("seconds\": 5", "seconds\": 60");
    let gateway = launch(text).start();
    let mut tasks = JoinSet::new();
    let all = 60;
    for _ in 0..all {
        let url = gateway.url(CHAT);
        tasks.spawn(async move { client::post_json(&url, BODY).await.status.as_u16() });
    }
    let good = tasks.join_all().await.into_iter().filter(|status| *status == 200).count();
    // A connection that gave way closes a moment after the next one has opened.
    let most = most.load(Ordering::SeqCst);
    assert!(good == all && (1..=4).contains(&most), "{good} of {all} served over {most} connections at a time");
    println!("{all} requests, at most {most} connections at a time, {} in all", upstream.connections());
}

#[tokio::test]
async fn who_gets_no_connection_is_told_when_to_come_back() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |_| Answer::json(200, "{}").first(Step::Wait(held.clone())));
    let text = config(&upstream.base(), r#", "max_conns_per_host": 1"#, "").replace("seconds\": 5", "seconds\": 1");
    let gateway = launch(text).start();
    let url = gateway.url(CHAT);
    let first = tokio::spawn(async move { client::post_json(&url, BODY).await.status });
    upstream.wait_seen(1).await;
    let late = client::post_json(&gateway.url(CHAT), BODY).await;
    assert_eq!((late.status.as_u16(), late.header("retry-after").is_empty()), (503, false), "{}", late.text());
    assert!(late.text().contains("max_conns_per_host"), "{}", late.text());
    gate.open();
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(ask(&gateway).await.0, 200);
    assert_eq!(upstream.seen().len(), 2);
}

/// A place that an API named is judged where it is dialled, and the file alone can make an exception.
#[tokio::test]
async fn a_public_name_that_leads_inside_leads_nowhere() {
    let upstream = ok();
    let port = upstream.address().port();
    let of = |extra: &str, management: &str| {
        format!(
            r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, {management} "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}},
                "network_config": {{"base_url": "http://localhost:{port}"{extra}}}}}}}}}"#
        )
    };
    let marked = r#", "public_address_only": true"#;
    let allowed = format!(r#""management": {{"allowed_origins": ["http://localhost:{port}"]}},"#);
    let through = Proxy::http(None);
    let proxied = of(marked, "").replace(
        r#""network_config""#,
        &format!(r#""proxy_config": {{"type": "http", "url": "{}"}}, "network_config""#, through.url("http")),
    );
    for (text, good) in [
        (of("", ""), true),
        (of(marked, ""), false),
        (of(marked, &allowed), true),
        (of(&format!(r#"{marked}, "allow_private_network": true"#), ""), true),
        (proxied, false),
    ] {
        upstream.forget();
        let gateway = Gateway::start(text.clone());
        let (status, answer) = ask(&gateway).await;
        assert_eq!(status, if good { 200 } else { 502 }, "{text}: {answer}");
        assert_eq!(upstream.seen().len(), usize::from(good), "{text}");
        assert!(!answer.contains("127.0.0.1"), "{answer}");
    }
    assert!(through.asked().is_empty());
}

/// The mark is written with the address, and stays.
#[tokio::test]
async fn an_address_of_an_api_is_marked_in_the_file() {
    let before = r#"{
  "server": {"listen": ["127.0.0.1:0"]},
  "providers": {
    // ours
    "groq": {"keys": [{"name": "a", "value": "env.GROQ_KEY"}]},
  },
}
"#;
    let gateway = launch(before).env("GROQ_KEY", "gsk-0123456789").start();
    let put = async |body: &str| {
        let request = client::request(
            Method::PUT,
            &gateway.url("/api/providers/groq"),
            &[("content-type", "application/json")],
            body.to_owned(),
        );
        let reply = client::send(request).await;
        (reply.status.as_u16(), reply.text())
    };
    let mark = "\"public_address_only\": true";
    // A key that is stored does not travel along; without one there is nothing that could.
    let make = client::post_json(
        &gateway.url("/api/providers"),
        r#"{"provider": "mine", "custom_provider_config": {"base_provider_type": "openai", "is_key_less": true}, "network_config": {"base_url": "https://llm.example.net"}}"#,
    )
    .await;
    assert_eq!(make.status, 200, "{}", make.text());
    assert_eq!(gateway.config().matches(mark).count(), 1, "{}", gateway.config());
    assert!(gateway.config().contains("// ours"));
    let (status, text) = put(r#"{"network_config": {"allow_private_network": true}}"#).await;
    assert_eq!(status, 400, "{text}");
    let same = gateway.config();
    let again = client::send(client::request(
        Method::PUT,
        &gateway.url("/api/providers/mine"),
        &[("content-type", "application/json")],
        r#"{"custom_provider_config": {"base_provider_type": "openai", "is_key_less": true}, "network_config": {"base_url": "https://llm.example.net"}}"#,
    ))
    .await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(gateway.config(), same, "nothing new, nothing written");
    let off = client::send(client::request(
        Method::PUT,
        &gateway.url("/api/providers/mine"),
        &[("content-type", "application/json")],
        r#"{"network_config": {"base_url": "https://llm.example.net", "public_address_only": false}}"#,
    ))
    .await;
    assert_eq!(off.status, 400, "{}", off.text());
    assert_eq!(gateway.config(), same);
}
