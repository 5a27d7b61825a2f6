//! Addresses that move, judged where they are dialled, and connections that are bounded or shared, with a
//! resolver that the test controls.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;

use super::*;
use crate::id::TransportId;
use crate::provider::{AddressPlace, place_of_address};
use crate::snapshot::{ProxyKind, ProxyServer, Reach, Wire};

struct Nowhere;

impl InProcess for Nowhere {
    fn connect(&self) -> DuplexStream {
        tokio::io::duplex(64).0
    }
}

fn resolving(names: Names) -> Upstream {
    Upstream::with(Dialler::new(Tls::new(), Arc::new(Nowhere), names), Caps::default(), UPSTREAM_BUFFER_BYTES_MAX)
}

fn transport(host: &str, port: u16, wire: Wire) -> Transport {
    Transport {
        id: TransportId(7),
        scheme: http::uri::Scheme::HTTP,
        authority: format!("{host}:{port}").parse().unwrap(),
        host: host.into(),
        port,
        ca_pem: None,
        skip_verify: false,
        keep_alive: Duration::from_secs(30),
        in_process: false,
        wire,
    }
}

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(400),
    first_byte: Duration::from_secs(5),
    idle_gap: Duration::from_secs(5),
};

fn get() -> Request<UpstreamBody> {
    Request::get("/").body(UpstreamBody::Empty).unwrap()
}

/// Answers and closes, and counts who came.
async fn door() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let came = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            came.fetch_add(1, SeqCst);
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    (port, count)
}

/// A name that means another address each time it is asked for.
fn flipping(addresses: Vec<IpAddr>) -> (Names, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let names = Names::asking(Arc::new(move |_, port| {
        let at = count.fetch_add(1, SeqCst);
        let address = addresses[at % addresses.len()];
        Box::pin(async move { Ok(Arc::from([SocketAddr::new(address, port)])) })
    }));
    (names, asked)
}

/// Spellings of this machine and of its neighbours; none is reached, however often the name moves.
#[tokio::test]
async fn a_name_that_moves_never_leads_inside() {
    let (port, came) = door().await;
    let mut inside: Vec<IpAddr> =
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "64:ff9b::7f00:1", "2002:7f00:1::"]
            .map(|ip| ip.parse().unwrap())
            .to_vec();
    let mut dice = fastrand::Rng::with_seed(41);
    for _ in 0..500 {
        let bytes: [u8; 3] = dice.u32(..).to_le_bytes()[..3].try_into().unwrap();
        let [a, b, c] = bytes;
        let v4 = match dice.u8(..5) {
            0 => [10, a, b, c],
            1 => [172, 16 + a % 16, b, c],
            2 => [192, 168, b, c],
            3 => [100, 64 + a % 64, b, c],
            _ => [127, a, b, c],
        };
        let v4 = std::net::Ipv4Addr::from(v4);
        inside.push(if dice.bool() { IpAddr::V6(v4.to_ipv6_mapped()) } else { IpAddr::V4(v4) });
    }
    assert!(inside.iter().all(|ip| place_of_address(*ip) != AddressPlace::Public));
    let (names, asked) = flipping(inside);
    let upstream = resolving(names);
    let target = transport("rebind.example", port, Wire { reach: Reach::Public, ..Wire::default() });
    let all = 10_000;
    for _ in 0..all {
        let error = upstream.send(&target, &TIMEOUTS, get()).await.unwrap_err();
        assert_eq!((error.what, error.sent), (SendFault::Connect, Sent::Never));
    }
    assert_eq!((came.load(SeqCst), asked.load(SeqCst)), (0, all), "asked anew for each dial, never dialled");
    // The same name, named by a hand.
    let (names, _) = flipping(vec!["127.0.0.1".parse().unwrap()]);
    let target = transport("rebind.example", port, Wire::default());
    assert_eq!(resolving(names).send(&target, &TIMEOUTS, get()).await.unwrap().parts.status, 200);
}

/// Of several addresses the public ones are tried and the others are not.
#[tokio::test]
async fn what_is_private_among_public_addresses_is_left_out() {
    let (port, came) = door().await;
    let names = Names::asking(Arc::new(|_, port| {
        let of = move |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        Box::pin(async move { Ok(Arc::from([of("127.0.0.1"), of("169.254.169.254"), of("::1")])) })
    }));
    let target = transport("mixed.example", port, Wire { reach: Reach::Public, ..Wire::default() });
    assert!(resolving(names).send(&target, &TIMEOUTS, get()).await.is_err());
    assert_eq!(came.load(SeqCst), 0);
}

/// What a proxy would look up is looked up here first, and a proxy that an API named is judged as well.
#[tokio::test]
async fn proxies_are_no_way_around() {
    let (port, came) = door().await;
    let proxy = |reach| {
        let host = "proxy.example".into();
        Arc::new(ProxyServer { kind: ProxyKind::Http, tls: false, host, port, ca_pem: None, login: None, reach })
    };
    for (of_proxy, of_target) in [(Reach::Anywhere, Reach::Public), (Reach::Public, Reach::Anywhere)] {
        let (names, _) = flipping(vec!["127.0.0.1".parse().unwrap()]);
        let wire = Wire { proxy: Some(proxy(of_proxy)), reach: of_target, ..Wire::default() };
        let error = resolving(names).send(&transport("h.example", port, wire), &TIMEOUTS, get()).await.unwrap_err();
        assert_eq!((error.what, error.sent), (SendFault::Connect, Sent::Never));
    }
    // The first of the two came as far as the proxy, and asked it for nothing.
    assert!(came.load(SeqCst) <= 1);
    let (names, _) = flipping(vec!["127.0.0.1".parse().unwrap()]);
    let wire = Wire { proxy: Some(proxy(Reach::Anywhere)), ..Wire::default() };
    assert!(resolving(names).send(&transport("h.example", port, wire), &TIMEOUTS, get()).await.is_ok());
}

/// Two workers, one bound: what idles with one of them gives way to the other.
#[tokio::test]
async fn an_idle_connection_of_another_worker_gives_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&open);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            count.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                while matches!(stream.read(&mut [0; 1024]).await, Ok(n) if n > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
                count.fetch_sub(1, SeqCst);
            });
        }
    });
    let caps = Caps::default();
    let worker = || {
        Upstream::with(
            Dialler::new(Tls::new(), Arc::new(Nowhere), Names::default()),
            caps.clone(),
            UPSTREAM_BUFFER_BYTES_MAX,
        )
    };
    let (first, second) = (worker(), worker());
    let target = transport("127.0.0.1", port, Wire { connections_max: Some(1), ..Wire::default() });
    for round in 0..20 {
        for worker in [&first, &second, &second] {
            let answer = worker.send(&target, &TIMEOUTS, get()).await.unwrap();
            answer.body.collect().await.unwrap();
            assert_eq!(first.idle_connections() + second.idle_connections(), 1, "round {round}");
        }
    }
    // While one is in use the other waits for it, and is told when that takes too long.
    let held = first.send(&target, &TIMEOUTS, get()).await.unwrap();
    let error = second.send(&target, &TIMEOUTS, get()).await.unwrap_err();
    assert_eq!((error.what, error.sent), (SendFault::Saturated, Sent::Never));
    let (late, ()) = tokio::join!(second.send(&target, &TIMEOUTS, get()), async {
        tokio::task::yield_now().await;
        drop(held);
    });
    assert_eq!(late.unwrap().parts.status, 200);
}

/// A shared connection: a caller who leaves takes nobody with him, and one that dies is replaced.
#[tokio::test]
async fn shared_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = count.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<hyper::body::Incoming>| async move {
                    if request.uri().path() == "/hang" {
                        std::future::pending::<()>().await;
                    }
                    let body = request.into_body().collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(http::Response::new(http_body_util::Full::new(body)))
                });
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let served = server.max_concurrent_streams(200).serve_connection(TokioIo::new(stream), service);
                // The first connection dies of old age.
                let age = if number == 0 { Duration::from_millis(300) } else { Duration::from_secs(60) };
                let _ = tokio::time::timeout(age, served).await;
            });
        }
    });
    let upstream = resolving(Names::default());
    let target = transport("127.0.0.1", port, Wire { http2: true, ..Wire::default() });
    let timeouts = Timeouts { first_byte: Duration::from_millis(100), ..TIMEOUTS };
    let hang = Request::get("/hang").body(UpstreamBody::Empty).unwrap();
    let late = upstream.send(&target, &timeouts, hang).await.unwrap_err();
    assert_eq!((late.what, late.sent), (SendFault::FirstByteTimeout, Sent::Maybe));
    let post = || {
        Request::post("/").body(UpstreamBody::held(crate::chunks::Chunks::from(bytes::Bytes::from("body")))).unwrap()
    };
    let answer = upstream.send(&target, &timeouts, post()).await.unwrap();
    assert!(answer.reused && answer.parts.version == http::Version::HTTP_2);
    assert_eq!(answer.body.collect().await.unwrap().to_bytes(), "body");
    assert_eq!(accepted.load(SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(350)).await;
    for _ in 0..3 {
        let answer = upstream.send(&target, &timeouts, post()).await.unwrap();
        assert_eq!(answer.body.collect().await.unwrap().to_bytes(), "body");
    }
    assert_eq!(accepted.load(SeqCst), 2, "one that died is replaced, and nobody notices");
}
