//! Reload seen from outside: under load, with streams, with a bad file, by signal.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;

use crate::support::client::{self, open};
use crate::support::gateway::Gateway;
use crate::support::is_long;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"up/m","messages":[{"role":"user","content":"hello"}]}"#;
/// Noticed within this, whatever way the file changes (CONTRACT 2.1).
const NOTICED: Duration = Duration::from_secs(2);
const REQUESTS: u64 = 100_000;
const SWAPS: u64 = 1_000;
/// With `KEYWAY_LONG=1`; a quarter of an hour.
const SWAPS_LONG: u64 = 10_000;
const CALLERS: usize = 8;

fn config(upstream: &Upstream, key: &str) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}},
        "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai"}},
          "network_config": {{"base_url": "{}"}}, "keys": [{{"name": "one", "value": "{key}"}}]}}}}}}"#,
        upstream.base()
    )
}

/// What `x-keyway-generation` says of the file: the first 8 hex digits of its hash.
fn short_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..8].to_owned()
}

/// Answers with the key that was used, so that the caller can compare it with the generation.
fn telltale() -> Upstream {
    Upstream::start(|seen| Answer::json(200, format!("{{\"key\":\"{}\"}}", seen.bearer())))
}

#[tokio::test]
async fn swaps_under_load_lose_nothing_and_mix_nothing() {
    let upstream = telltale();
    let first = config(&upstream, "sk-generation-00000");
    // Hash of a file to the key that this file holds.
    let keys = Arc::new(Mutex::new(HashMap::from([(short_hash(&first), "sk-generation-00000".to_owned())])));
    let gateway = Gateway::start(first);
    let served = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let address = gateway.base().strip_prefix("http://").unwrap().to_owned();
            let (served, stop, keys) = (Arc::clone(&served), Arc::clone(&stop), Arc::clone(&keys));
            tokio::spawn(async move { caller(&address, &served, &stop, &keys).await })
        })
        .collect();
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let swaps = if is_long() { SWAPS_LONG } else { SWAPS };
    let mut early = None;
    for swap in 1..=swaps {
        let key = format!("sk-generation-{swap:05}");
        let text = config(&upstream, &key);
        keys.lock().unwrap().insert(short_hash(&text), key);
        let written = Instant::now();
        if swap % 2 == 0 {
            gateway.write_config(&text)
        } else {
            gateway.overwrite_config(&text)
        }
        gateway.wait_generation(swap + 1).await;
        slowest = slowest.max(written.elapsed());
        if swap == 100 {
            early = Some(Footprint::of(gateway.pid()));
        }
    }
    // Under the same load as after the first hundred: what a swap leaves behind would show. The
    // health of retired keys is kept for an hour, at most 4 096 of them, and is all that may grow.
    let (early, late) = (early.unwrap(), Footprint::of(gateway.pid()));
    assert_eq!(late.threads, early.threads);
    // Descriptors of status requests come and go.
    assert!(late.descriptors <= early.descriptors + 4, "{early:?} after 100 swaps, {late:?} after {swaps}");
    assert!(late.resident_kib <= early.resident_kib + 4096, "{early:?} after 100 swaps, {late:?} after {swaps}");
    while served.load(Ordering::Relaxed) < REQUESTS {
        assert!(began.elapsed() < Duration::from_secs(600), "too slow: {} served", served.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut generations = std::collections::HashSet::new();
    for caller in callers {
        generations.extend(caller.await.unwrap());
    }
    let status = gateway.status().await;
    assert!(slowest < NOTICED, "slowest swap {slowest:?}");
    assert_eq!(status["snapshots_alive"], 1, "{status}");
    println!(
        "{} requests over {swaps} swaps in {:?}, {} generations seen by callers, slowest swap {slowest:?}, {early:?}, {late:?}",
        served.load(Ordering::Relaxed),
        began.elapsed(),
        generations.len()
    );
}

/// What the process holds.
#[derive(Debug)]
struct Footprint {
    resident_kib: u64,
    threads: u64,
    descriptors: usize,
}

impl Footprint {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { resident_kib: field("VmRSS:"), threads: field("Threads:"), descriptors }
    }
}

/// One connection that asks again and again; any answer but a right one is a panic.
async fn caller(
    address: &str,
    served: &AtomicU64,
    stop: &AtomicBool,
    keys: &Mutex<HashMap<String, String>>,
) -> Vec<String> {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut generations = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let request = Request::post(CHAT)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .unwrap();
        sender.ready().await.expect("the gateway closed a connection in use");
        let answer = sender.send_request(request).await.expect("a request failed");
        let generation = answer.headers()["x-keyway-generation"].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.expect("an answer broke off").to_bytes();
        let hash = generation.split_once('-').unwrap().1;
        let expected = keys.lock().unwrap()[hash].clone();
        assert_eq!(&body[..], format!("{{\"key\":\"{expected}\"}}").as_bytes(), "generation {generation}");
        if generations.last() != Some(&generation) {
            generations.push(generation);
        }
        served.fetch_add(1, Ordering::Relaxed);
    }
    drop(sender);
    let _ = driver.await;
    generations
}

#[tokio::test]
async fn a_stream_outlives_the_key_that_it_began_with() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::start(move |_| {
        Answer::events(["data: {\"n\":1}\n\n"])
            .step(Step::Wait(behind.clone()))
            .step(Step::Send("data: [DONE]\n\n".into()))
    });
    let gateway = Gateway::start(config(&upstream, "sk-first-000000000"));
    let body = r#"{"model":"up/m","stream":true}"#;
    let mut stream = open(client::json_request(&gateway.url(CHAT), body)).await;
    stream.until("\n\n").await;
    gateway.write_config(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#);
    let status = gateway.wait_generation(2).await;
    // The old generation serves one request, and its snapshot is gone all the same.
    assert_eq!(status["in_flight"][0]["generation"], 1, "{status}");
    assert_eq!(status["in_flight"][0]["requests"], 1, "{status}");
    assert_eq!(status["snapshots_alive"], 1, "{status}");
    assert_eq!(client::post_json(&gateway.url(CHAT), BODY).await.status, 404);
    gate.open();
    assert_eq!(stream.until("[DONE]\n\n").await, "data: [DONE]\n\n");
    assert_eq!(stream.chunk().await.unwrap(), None);
    drop(stream);
    gateway
        .wait_status("only the new generation", |s| s["in_flight"].as_array().is_some_and(|all| all.len() == 1))
        .await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_heals() {
    let upstream = telltale();
    let gateway = Gateway::start(config(&upstream, "sk-first-000000000"));
    let asks = async || client::post_json(&gateway.url(CHAT), BODY).await;
    let canary = "sk-canary-9f8e7d6c5b4a";
    for bad in [
        String::new(),
        "{".to_owned(),
        format!(r#"{{"providers": {{"up": {{"keys": [{{"valeu": "{canary}"}}]}}}}}}"#),
        format!(r#"{{"providers": {{"up": {{"keys": [{{"value": "x", "weight": "{canary}"}}]}}}}}}"#),
        format!(r#"{{"server": {{"listen": "{canary}"}}, "providers": {{}}}}"#),
    ] {
        gateway.write_config(&bad);
        let status = gateway.wait_refused().await;
        assert_eq!(status["running"]["generation"], 1, "{status}");
        let problem = &status["last_error"]["problems"][0];
        assert!(problem["message"].is_string() && problem["code"].is_string(), "{status}");
        assert!(!status.to_string().contains("9f8e7d6c"), "{status}");
        assert_eq!(asks().await.text(), r#"{"key":"sk-first-000000000"}"#);
        let ready = client::get(&gateway.url("/readyz?verbose")).await;
        assert_eq!(ready.status, 200, "a refused reload does not fail readiness");
        assert!(ready.json()["config"]["last_error"].is_object(), "{}", ready.text());
        // Back to what runs: healed, without a new generation.
        gateway.write_config(&config(&upstream, "sk-first-000000000"));
        gateway.wait_status("a healed file", |status| status["last_error"].is_null()).await;
    }
    std::fs::remove_file(gateway.config_path()).unwrap();
    gateway.wait_refused().await;
    assert_eq!(asks().await.status, 200);
    gateway.write_config(&config(&upstream, "sk-second-00000000"));
    gateway.wait_generation(2).await;
    assert_eq!(asks().await.text(), r#"{"key":"sk-second-00000000"}"#);
    assert!(!gateway.output().contains("9f8e7d6c"), "{}", gateway.output());
}

#[tokio::test]
async fn a_referenced_file_is_watched_and_sighup_resolves_anew() {
    let upstream = telltale();
    let text = config(&upstream, "@").replace("\"@\"", r#"{"file": "secret"}"#);
    let gateway = Gateway::start(text);
    let asks = async || client::post_json(&gateway.url(CHAT), BODY).await;
    // The file does not exist yet: the key is out, the gateway runs.
    assert_eq!(asks().await.status, 503);
    let write = |secret: &str| {
        let next = gateway.dir().join("next");
        std::fs::write(&next, secret).unwrap();
        std::fs::rename(next, gateway.dir().join("secret")).unwrap();
    };
    write("sk-from-file-00001\n");
    gateway.wait_generation(2).await;
    assert_eq!(asks().await.text(), r#"{"key":"sk-from-file-00001"}"#);
    write("sk-from-file-00002\n");
    gateway.wait_generation(3).await;
    assert_eq!(asks().await.text(), r#"{"key":"sk-from-file-00002"}"#);
    gateway.signal(Signal::HUP);
    gateway
        .wait_status("a reload by signal", |status| {
            status["reloads"]["last"].as_array().is_some_and(|all| all.iter().any(|r| r["result"] == "unchanged"))
        })
        .await;
    assert_eq!(gateway.generation().await, 3, "nothing changed, hence no generation");
}

#[tokio::test]
async fn listeners_move_without_a_gap() {
    let gateway = Gateway::start(r#"{"server": {"listen": ["127.0.0.1:0"]}, "providers": {"mock": {}}}"#);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap();
    gateway.write_config(&format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0", "{taken}"]}}, "providers": {{"mock": {{}}}}}}"#
    ));
    let status = gateway.wait_refused().await;
    assert_eq!(status["last_error"]["problems"][0]["code"], "bind", "{status}");
    assert_eq!(client::get(&gateway.url("/livez")).await.status, 200);
    // The port becomes free: the same bytes are tried again and taken.
    drop(busy);
    gateway.wait_generation(2).await;
    assert_eq!(client::get(&format!("http://{taken}/livez")).await.status, 200);
    assert_eq!(client::get(&gateway.url("/livez")).await.status, 200);
}

/// Streams that began under older and older generations end whole, and nothing of these generations is left
/// behind: the second of two equal crowds costs no more memory than the first, though the file changed all along.
#[tokio::test]
async fn streams_outlive_every_swap() {
    let (crowd, swaps) = if is_long() { (1000, 10_000) } else { (100, 50) };
    let gate = Arc::new(Mutex::new(Gate::new()));
    let behind = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let gate = behind.lock().unwrap().clone();
        Answer::events(["data: {\"n\":1}\n\n"]).step(Step::Wait(gate)).step(Step::Send("data: [DONE]\n\n".into()))
    });
    let text = |swap: usize| format!("// {swap}\n{}", config(&upstream, "sk-one-0000000000"));
    let gateway = Gateway::start(text(0));
    let mut after = Vec::new();
    for round in 0..2 {
        *gate.lock().unwrap() = Gate::new();
        let mut streams = Vec::new();
        for swap in 1..=swaps {
            if round == 1 {
                gateway.write_config(&text(swap));
                gateway.wait_generation(swap as u64 + 1).await;
            }
            while streams.len() * swaps < crowd * swap {
                let body = r#"{"model":"up/m","stream":true}"#;
                let mut stream = open(client::json_request(&gateway.url(CHAT), body)).await;
                assert_eq!(stream.status, 200);
                stream.until("\n\n").await;
                streams.push(stream);
            }
        }
        let status = gateway.status().await;
        assert_eq!(status["snapshots_alive"], 1, "streams hold no snapshot: {status}");
        gate.lock().unwrap().open();
        for stream in &mut streams {
            assert_eq!(stream.until("[DONE]\n\n").await, "data: [DONE]\n\n");
            assert_eq!(stream.chunk().await.unwrap(), None);
        }
        drop(streams);
        gateway.wait_status("one generation", |s| s["in_flight"].as_array().is_some_and(|all| all.len() <= 1)).await;
        let most = after.first().map_or(u64::MAX, |first| first + first / 20);
        let since = Instant::now();
        let now = loop {
            let now = Footprint::of(gateway.pid()).resident_kib;
            if now <= most || since.elapsed() > Duration::from_secs(60) {
                break now;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert!(now <= most, "{now} KiB after the swaps, {after:?} before");
        after.push(now);
    }
    println!("{crowd} streams over {swaps} swaps; {} KiB after as many without one, {} KiB after", after[0], after[1]);
}

/// Addresses come, cannot come, and go; whatever happens to the others, the first one serves all the time.
#[tokio::test]
async fn listeners_change_while_the_others_serve() {
    let text =
        |more: &str| format!(r#"{{"server": {{"listen": ["127.0.0.1:0"{more}]}}, "providers": {{"mock": {{}}}}}}"#);
    let gateway = Gateway::start(text(""));
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (url, until, count) = (gateway.url("/livez"), Arc::clone(&stop), Arc::clone(&served));
    let prober = tokio::spawn(async move {
        while !until.load(Ordering::Relaxed) {
            assert_eq!(client::get(&url).await.status, 200);
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let (rounds, mut generation) = (if is_long() { 200 } else { 8 }, 1);
    for _ in 0..rounds {
        // Somebody else's, of either kind where the machine has both.
        let busy: Vec<_> =
            ["127.0.0.1:0", "[::1]:0"].iter().filter_map(|address| std::net::TcpListener::bind(address).ok()).collect();
        let addresses: Vec<_> = busy.iter().map(|socket| socket.local_addr().unwrap()).collect();
        for impossible in &addresses {
            gateway.write_config(&text(&format!(r#", "{impossible}""#)));
            let status = gateway.wait_refused().await;
            assert_eq!(status["last_error"]["problems"][0]["code"], "bind", "{impossible}: {status}");
            assert_eq!(status["running"]["generation"], generation, "{status}");
            gateway.write_config(&text(""));
            gateway.wait_status("the file that runs", |status| status["last_error"].is_null()).await;
        }
        drop(busy);
        for free in addresses {
            gateway.write_config(&text(&format!(r#", "{free}""#)));
            generation += 1;
            gateway.wait_generation(generation).await;
            assert_eq!(client::get(&format!("http://{free}/livez")).await.status, 200);
            gateway.write_config(&text(""));
            generation += 1;
            gateway.wait_generation(generation).await;
            client::poll(client::PATIENCE, "the address to be closed", async || {
                tokio::net::TcpStream::connect(free).await.err().map(drop)
            })
            .await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    prober.await.unwrap();
    println!("{} changes of listeners, {} answers of the first one", generation - 1, served.load(Ordering::Relaxed));
}
