//! Upstream connections that are kept: stale ones are nobody's trouble, nothing that may have arrived is
//! sent again, and none outlives the settings that it was made under.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client;
use crate::support::gateway::Gateway;
use crate::support::is_long;
use crate::support::upstream::Upstream;

const CHAT: &str = "/v1/chat/completions";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

fn gateway(base: &str, network: &str) -> Gateway {
    Gateway::start(config(base, network))
}

fn config(base: &str, network: &str) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{"up": {{
           "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{base}"{network}}}}}}}}}"#
    )
}

fn body(id: usize) -> String {
    format!(r#"{{"model":"up/m","messages":[],"user":"id-{id}-"}}"#)
}

/// Reads one request as far as it comes; notes its id when a byte of it could have been acted on.
async fn request(socket: &mut TcpStream, arrived: &Mutex<HashMap<usize, usize>>) -> bool {
    let mut read = Vec::new();
    loop {
        match socket.read_buf(&mut read).await {
            Ok(n) if n > 0 => {}
            _ => return false,
        }
        let text = String::from_utf8_lossy(&read);
        if let Some(id) = text.split("id-").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok()) {
            *arrived.lock().unwrap().entry(id).or_default() += 1;
            return true;
        }
    }
}

/// An upstream whose patience with idle connections is as long as the callers' pauses.
#[tokio::test]
async fn nothing_that_may_have_arrived_is_sent_again() {
    let arrived = Arc::new(Mutex::new(HashMap::new()));
    let seen = Arc::clone(&arrived);
    let upstream = Upstream::raw(move |mut socket, number| {
        let seen = Arc::clone(&seen);
        async move {
            let mut dice = fastrand::Rng::with_seed(number as u64);
            while request(&mut socket, &seen).await {
                if dice.u32(..100) < 4 {
                    // Taken, and closed without a word: the caller must be told, not served twice.
                    return;
                }
                if socket.write_all(OK).await.is_err() {
                    return;
                }
                let idle = Duration::from_micros(dice.u64(0..4000));
                let mut byte = [0; 1];
                if tokio::time::timeout(idle, socket.peek(&mut byte)).await.is_err() {
                    return;
                }
            }
        }
    });
    let gateway = gateway(&upstream.base(), "");
    let (lanes, each) = (8, if is_long() { 5000 } else { 150 });
    let mut tasks = JoinSet::new();
    for lane in 0..lanes {
        let url = gateway.url(CHAT);
        tasks.spawn(async move {
            let mut dice = fastrand::Rng::with_seed(1000 + lane as u64);
            let mut outcomes = Vec::new();
            for n in 0..each {
                let id = lane * each + n;
                let reply = client::post_json(&url, body(id)).await;
                outcomes.push((id, reply.status.as_u16(), reply.text()));
                tokio::time::sleep(Duration::from_micros(dice.u64(0..4000))).await;
            }
            outcomes
        });
    }
    let outcomes: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let arrived = arrived.lock().unwrap();
    let twice = arrived.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "requests that the upstream saw more than once");
    let (mut served, mut told, mut unseen, mut resting) = (0, 0, 0, 0);
    for (id, status, text) in &outcomes {
        match (status, arrived.contains_key(id)) {
            (200, true) => served += 1,
            // Seen, or lost in flight on a connection that closed in that moment: told either way.
            (502, seen) if text.contains("upstream_broken") => {
                told += 1;
                unseen += usize::from(!seen);
            }
            // The breaker rests after a few in a row.
            (503, false) => resting += 1,
            other => panic!("{id}: {other:?} {text}"),
        }
    }
    let all = lanes * each;
    assert!(served * 10 >= all * 5, "{served} of {all} served, {resting} not tried");
    println!(
        "{all} requests over {} connections: {served} served once, {told} told ({unseen} of them not seen upstream), {resting} not tried, 0 sent twice",
        upstream.connections()
    );
}

/// Closed between two requests, in every way that servers and balancers close: no caller notices.
#[tokio::test]
async fn stale_connections_are_not_seen_by_callers() {
    let words: [&[u8]; 4] = [b"", b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n", b"junk", b"\r\n\r\n"];
    let rounds = if is_long() { 2000 } else { 25 };
    let mut count = 0;
    for reset in [false, true] {
        for word in words {
            let closed = Arc::new(tokio::sync::Semaphore::new(0));
            let tell = Arc::clone(&closed);
            let upstream = Upstream::raw(move |mut socket, _| {
                let tell = Arc::clone(&tell);
                async move {
                    let _ = request(&mut socket, &Mutex::default()).await;
                    let _ = socket.write_all(OK).await;
                    // After the answer, as a balancer does whose patience has run out.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    let _ = socket.write_all(word).await;
                    if reset {
                        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                    drop(socket);
                    tell.add_permits(1);
                }
            });
            let gateway = gateway(&upstream.base(), "");
            for n in 0..rounds {
                let reply = client::post_json(&gateway.url(CHAT), body(n)).await;
                assert_eq!(reply.status, 200, "reset {reset}, {:?}: {}", String::from_utf8_lossy(word), reply.text());
                closed.acquire().await.unwrap().forget();
                count += 1;
            }
            assert_eq!(upstream.connections(), rounds);
        }
    }
    println!("{count} requests, each after a connection that had gone stale");
}

/// A connection that was made without checking a certificate is not used once it is to be checked.
#[tokio::test]
async fn no_connection_outlives_its_trust() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let upstream = Upstream::raw(move |socket, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(socket).await else { return };
            let mut buffer = [0; 4096];
            while matches!(stream.read(&mut buffer).await, Ok(n) if n > 0) {
                if stream.write_all(OK).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        }
    });
    let base = upstream.base().replace("http:", "https:");
    let (trusting, careful) = (r#", "insecure_skip_verify": true"#, "");
    let gateway = gateway(&base, trusting);
    let pem = serde_json::Value::from(signed.cert.pem()).to_string();
    let named = format!(r#", "ca_cert_pem": {pem}"#);
    let settings = [(careful, false), (trusting, true), (careful, false), (named.as_str(), true), (careful, false)];
    let ask = async || client::post_json(&gateway.url(CHAT), body(0)).await;
    for _ in 0..5 {
        assert_eq!(ask().await.status, 200);
    }
    for (at, (network, trusted)) in settings.iter().enumerate() {
        gateway.write_config(&config(&base, network));
        gateway.wait_generation(at as u64 + 2).await;
        for _ in 0..3 {
            let reply = ask().await;
            // 502, and 503 once the breaker has had enough of it.
            assert_eq!(reply.status == 200, *trusted, "{network}: {}", reply.text());
        }
    }
    println!("{} changes of trust, {} connections", settings.len(), upstream.connections());
}
