//! A memory limit that is real, and everything at once that takes memory: the process sheds, what was
//! begun is served on, and it is not killed.
//!
//! The limit is `ulimit -d`, beyond which an allocation fails and ends the process; it needs no rights.
//! Where `KEYWAY_CGROUP` names a memory cgroup in which groups may be made, a group's limit as well.
//! No group is made unasked: whoever runs the tests may keep account of his groups himself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::client::{self, Raw, open};
use crate::support::gateway::{Gateway, launch};
use crate::support::is_long;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
/// Who never read.
const DEAF: usize = 1000;

/// A group of our own; gone when it is dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where none is named, or there is no right to it.
    fn limited(bytes: u64) -> Option<Self> {
        let parent = PathBuf::from(std::env::var_os("KEYWAY_CGROUP")?);
        let path = parent.join(format!("keyway-test-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let group = Self(path);
        // v2 and v1. A group that has neither file is of another kind.
        let limit = ["memory.max", "memory.limit_in_bytes"].map(|name| group.0.join(name));
        let limit = limit.into_iter().find(|file| file.exists())?;
        std::fs::write(limit, bytes.to_string()).ok()?;
        Some(group)
    }

    /// For the shell that becomes the gateway.
    fn enter(&self) -> String {
        format!("echo $$ > {}", self.0.join("cgroup.procs").display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel needs a moment to see that the process has gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// To `deaf` 3 MB and never an end, to `held` an event and the end behind the gate.
fn upstream(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    let piece: &'static str = Box::leak(format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(8000)).into_boxed_str());
    Upstream::start(move |seen| match seen.json()["model"].as_str() {
        Some("deaf") => Answer::events([piece; 400]).step(Step::Hang),
        Some("held") => Answer::events([EVENT]).step(Step::Wait(gate.clone())).step(Step::Send(DONE.into())),
        _ => Answer::json(200, "{}"),
    })
}

fn config(upstream: &Upstream) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, "providers": {{"up": {{
           "custom_provider_config": {{"base_provider_type": "openai", "is_key_less": true}}, "network_config": {{"base_url": "{}", "stream_idle_timeout_in_seconds": 3600}}}}}}}}"#,
        upstream.base()
    )
}

async fn ask(gateway: &Gateway) -> u16 {
    client::post_json(&gateway.url(CHAT), r#"{"model":"up/fine"}"#).await.status.as_u16()
}

#[tokio::test]
async fn by_a_limit_of_the_process() {
    // What is reserved and not used counts here as well, so 64 MiB would be less than a container of 64 MiB.
    for mib in [128, 192] {
        besieged(&format!("ulimit -d {mib} MiB"), &format!("ulimit -d {}", mib * 1024)).await;
    }
}

#[tokio::test]
async fn by_a_limit_of_its_group() {
    for mib in [64u64, 128] {
        match Group::limited(mib << 20) {
            Some(group) => besieged(&format!("cgroup of {mib} MiB"), &group.enter()).await,
            // The same rule was shown by the other test; this is another way to set the limit.
            None => println!("no cgroup: KEYWAY_CGROUP names none in which groups may be made"),
        }
    }
}

/// A thousand callers who do not read and eight bodies of 32 MiB meet a gateway that is limited by `under`.
async fn besieged(limit: &str, under: &str) {
    let gate = Gate::new();
    let upstream = upstream(&gate);
    let gateway = launch(config(&upstream)).under(under).start();
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/held","stream":true}"#)).await;
        stream.until(EVENT).await;
        streams.push(stream);
    }
    let body = r#"{"model":"up/deaf","stream":true}"#;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        let mut raw = Raw::connect(gateway.base()).await;
        // Over the bound on connections it may be closed already.
        let _ = raw.send(&head).await;
        deaf.push(raw);
    }
    let mut uploads = JoinSet::new();
    let large = bytes::Bytes::from(format!(r#"{{"model":"up/fine","x":"{}"}}"#, "x".repeat(32 << 20)));
    for _ in 0..8 {
        let request = client::json_request(&gateway.url(CHAT), large.clone());
        uploads.spawn(async move { client::try_open(request).await.map_or(0, |answer| answer.status.as_u16()) });
    }
    let (mut by_status, mut peak, began) = (BTreeMap::<u16, usize>::new(), 0, Instant::now());
    while began.elapsed() < Duration::from_secs(if is_long() { 600 } else { 3 }) {
        *by_status.entry(ask(&gateway).await).or_default() += 1;
        assert_eq!(client::get(&gateway.url("/livez")).await.status, 200);
        peak = peak.max(gateway.rss_kib());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(by_status.keys().all(|status| [200, 503].contains(status)), "{limit}: {by_status:?}\n{}", gateway.output());
    assert!(by_status.contains_key(&503), "{limit} was never near: {by_status:?}, {peak} KiB");
    for status in uploads.join_all().await {
        assert!([0, 200, 413, 503].contains(&status), "{limit}: {status}");
    }
    gate.open();
    for stream in &mut streams {
        assert!(stream.until(DONE).await.ends_with(DONE), "{limit}: a stream in flight lives");
    }
    drop(deaf);
    client::poll(client::PATIENCE * 2, "requests to be served again", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        (ask(&gateway).await == 200).then_some(())
    })
    .await;
    println!("{limit}: {DEAF} who do not read, answers {by_status:?}, {peak} KiB at most, {} after", gateway.rss_kib());
}
