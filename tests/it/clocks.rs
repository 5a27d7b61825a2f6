//! A wall clock that jumps by years, forwards and back: nothing that waits looks at it.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::client::{self, open};
use crate::support::gateway::{Gateway, launch};
use crate::support::is_long;
use crate::support::needs::not_run;
use crate::support::upstream::{Answer, Gate, Step, Upstream};

const CHAT: &str = "/v1/chat/completions";
const EVENT: &str = "data: {\"choices\":[]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const YEAR: i64 = 365 * 24 * 3600;

/// Builds the clock; false where the machine has no compiler.
fn built(into: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/shifted_clock.c");
    let done = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(into).arg(source).status();
    done.is_ok_and(|status| status.success())
}

/// A secret of its own for each jump: so many models of one key are barred at a time, and no more.
fn config(upstream: &Upstream, jump: u64) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"], "drain_seconds": 5}},
           "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai"}},
           "network_config": {{"base_url": "{}", "retry_backoff_max": 1, "stream_idle_timeout_in_seconds": 3600}}, "keys": [{{"name": "one", "value": "sk-one-{jump:04}"}}]}}}}}}"#,
        upstream.base()
    )
}

async fn status_of(gateway: &Gateway, model: &str) -> (u16, String) {
    let reply = client::post_json(&gateway.url(CHAT), format!(r#"{{"model":"up/{model}"}}"#)).await;
    (reply.status.as_u16(), reply.header("retry-after").to_owned())
}

#[tokio::test]
async fn the_wall_clock_jumps_and_nothing_else_does() {
    let folder = tempfile::TempDir::new().unwrap();
    let (library, shift) = (folder.path().join("clock.so"), folder.path().join("shift"));
    std::fs::write(&shift, 0i64.to_ne_bytes()).unwrap();
    if !built(&library) {
        not_run("not run: needs a C compiler, for a clock that jumps");
        return;
    }
    let file = std::fs::OpenOptions::new().write(true).open(&shift).unwrap();
    let jump = |seconds: i64| file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    let gate = Gate::new();
    let behind = gate.clone();
    // By the model: `stream` waits, `for-…` is limited for two seconds, `date-…` until a date long past or far away.
    let upstream = Upstream::start(move |seen| {
        let model = seen.json()["model"].as_str().unwrap().to_owned();
        let limited = || Answer::json(429, "{}");
        match model.split('-').next() {
            Some("stream") => Answer::events([EVENT]).step(Step::Wait(behind.clone())).step(Step::Send(DONE.into())),
            Some("for") => limited().header("retry-after", "2"),
            Some("past") => limited().header("retry-after", "Thu, 01 Jan 2015 00:00:00 GMT"),
            Some("future") => limited().header("retry-after", "Wed, 01 Jan 2070 00:00:00 GMT"),
            _ => Answer::json(200, "{}"),
        }
    });
    let mut gateway = launch(config(&upstream, 0))
        .env("LD_PRELOAD", library.to_str().unwrap())
        .env("SHIFTED_CLOCK", shift.to_str().unwrap())
        .start();
    let mut stream = open(client::json_request(&gateway.url(CHAT), r#"{"model":"up/stream","stream":true}"#)).await;
    stream.until(EVENT).await;
    let jumps = if is_long() { 100 } else { 8 };
    for number in 1..=jumps {
        let model = format!("for-{number}");
        jump(0);
        let began = Instant::now();
        let (status, named) = status_of(&gateway, &model).await;
        assert_eq!((status, named.as_str()), (429, "2"));
        // Back and forth by ten years, by the hour of a summer's end, and to before 1970.
        jump([10 * YEAR, -10 * YEAR, 3600, -3600, 40 * YEAR, -70 * YEAR][number as usize % 6]);
        let asked = upstream.seen().len();
        while began.elapsed() < Duration::from_millis(1800) {
            assert_eq!(status_of(&gateway, &model).await.0, 429, "it cools by the clock that does not jump");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(upstream.seen().len(), asked, "nobody is asked before his time");
        tokio::time::sleep(Duration::from_millis(2200).saturating_sub(began.elapsed())).await;
        status_of(&gateway, &model).await;
        assert_eq!(upstream.seen().len(), asked + 1, "nor later than that");
        // A date is the one thing that is read by the wall clock: it is bounded, whatever the clock says.
        for word in ["past", "future"] {
            let model = format!("{word}-{number}");
            status_of(&gateway, &model).await;
            let (status, named) = status_of(&gateway, &model).await;
            match named.parse::<u64>() {
                Ok(seconds) => assert!((1..=3600).contains(&seconds), "{word}: {seconds} s"),
                // A slow machine comes back when the second is over, and meets the upstream's own words.
                Err(_) => assert!(word == "past", "{word}: {status} {named:?}"),
            }
        }
        // Reload, status, metrics and log go on.
        gateway.write_config(&config(&upstream, number));
        gateway.wait_generation(number + 1).await;
        assert_eq!(client::get(&gateway.url("/metrics")).await.status, 200);
        assert_eq!(status_of(&gateway, "fine").await.0, 200);
    }
    gate.open();
    assert_eq!(stream.until(DONE).await, DONE, "the stream that was there first has lived through all of it");
    let output = gateway.output();
    assert_eq!(gateway.stop(), 0, "{output}");
    assert!(!output.contains("panic"), "{output}");
    println!("{jumps} jumps of the wall clock");
}
