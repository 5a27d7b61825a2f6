//! One cost-free call with one key: does the upstream list its models?
//!
//! Made when a key is new, when it has changed and when somebody asks, never by a clock. What comes of
//! it is the key's `status`; it never benches a key, for an upstream may keep its list from a key that
//! serves well. Says one word of a failure: text, status and address of the upstream stay here.

use std::sync::Arc;

use super::models::vouch;
use super::{Proxy, list_models};
use crate::health::ListFault;
use crate::provider::Verify;
use crate::snapshot::Key;

/// What a probe found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probed {
    Models(Arc<[Box<str>]>),
    Unauthorized,
    Unreachable,
    Timeout,
    Unexpected,
    /// This provider has no list, or the key has nothing to ask with: nothing was sent.
    Unsupported,
}

/// What the cost-free call of a provider says of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verified {
    Good,
    Failed(ListFault),
    /// There is no such call: nothing was sent.
    Unsupported,
}

/// Asks once. Unlike a probe it takes no list for a yes that the upstream gives to anybody.
pub async fn verify(proxy: &Proxy, key: &Key) -> Verified {
    let asked = match key.row.verify {
        Verify::Models => list_models(proxy, key).await.map(drop),
        Verify::Path(path) => vouch(proxy, key, path).await,
        Verify::Nothing => return Verified::Unsupported,
    };
    asked.map_or_else(Verified::Failed, |()| Verified::Good)
}

/// Asks once, and remembers how it went.
pub async fn probe(proxy: &Proxy, key: &Key) -> Probed {
    if !key.row.lists_models || !key.enabled || key.ready.is_err() {
        return Probed::Unsupported;
    }
    let vouched = match key.row.verify {
        Verify::Path(path) => vouch(proxy, key, path).await,
        Verify::Models | Verify::Nothing => Ok(()),
    };
    let listed = match vouched {
        Ok(()) => list_models(proxy, key).await,
        Err(fault) => Err(fault),
    };
    key.health.listed(listed.as_ref().map(drop).map_err(|fault| *fault));
    match listed {
        Ok(models) => {
            key.health.vouched(proxy.clock.now());
            if !key.row.lists_more_than_it_serves {
                proxy.models.tell(&key.provider, &models);
            }
            Probed::Models(models)
        }
        Err(ListFault::Unauthorized) => Probed::Unauthorized,
        Err(ListFault::Unreachable) => Probed::Unreachable,
        Err(ListFault::Timeout) => Probed::Timeout,
        Err(ListFault::Unexpected) => Probed::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, SystemTime};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::net::TcpListener;
    use tracing::level_filters::LevelFilter;

    use super::super::ModelLists;
    use super::*;
    use crate::clock::Clock;
    use crate::dispatch::Dice;
    use crate::health::{Admission, Outcome, Standing, Why};
    use crate::identity::Identity;
    use crate::permit::Room;
    use crate::provider;
    use crate::snapshot::Transport;
    use crate::snapshot::fixture::key;
    use crate::telemetry::{Log, LogOptions, Meters, Recorder};
    use crate::upstream::{Caps, InProcess, Tls, Upstream};

    struct Nowhere;

    impl InProcess for Nowhere {
        fn connect(&self) -> DuplexStream {
            tokio::io::duplex(64).0
        }
    }

    fn proxy(log: &Log) -> Proxy {
        Proxy {
            upstream: Upstream::new(Tls::new(), Arc::new(Nowhere), Caps::default()),
            dice: Mutex::new(Dice::new(1)),
            clock: Clock::starting_now(),
            recorder: Recorder::new(&log.handle(), &Meters::new(1, SystemTime::UNIX_EPOCH), 0),
            access_log: AtomicBool::new(false),
            models: ModelLists::new(Arc::new(|_, _| {})),
            room: Room::new(u64::MAX),
            identity: Identity::new().0,
            running: None,
            state: None,
        }
    }

    fn key_at(port: u16) -> Key {
        let mut key = key("k");
        let ready = key.ready.as_mut().unwrap();
        let old = &ready.transport;
        ready.transport = Arc::new(Transport {
            id: old.id,
            scheme: old.scheme.clone(),
            authority: format!("127.0.0.1:{port}").parse().unwrap(),
            host: "127.0.0.1".into(),
            port,
            ca_pem: None,
            skip_verify: false,
            keep_alive: Duration::from_secs(30),
            in_process: false,
            wire: crate::snapshot::Wire::default(),
        });
        key
    }

    /// Takes one connection, reads its head, writes `answer` and closes; never answers to `None`.
    async fn serve_once(listener: TcpListener, answer: Option<&str>) {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(socket.read_buf(&mut head).await.unwrap() > 0);
        }
        assert!(head.starts_with(b"GET /v1/models HTTP/1.1\r\n"));
        match answer {
            Some(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
            None => std::future::pending().await,
        }
    }

    fn answer(status: u16, body: &str) -> Option<String> {
        Some(format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    }

    #[tokio::test]
    async fn one_word_for_each_end() {
        let log = Log::start(LogOptions::stderr(LevelFilter::OFF)).unwrap();
        let models = Probed::Models(Arc::from(["m".into()]));
        for (answer, expected) in [
            (answer(200, r#"{"data":[{"id":"m"}]}"#), models),
            (answer(401, r#"{"error":{"message":"bad key sk-1"}}"#), Probed::Unauthorized),
            (answer(402, ""), Probed::Unauthorized),
            (answer(403, "{}"), Probed::Unauthorized),
            (answer(429, "{}"), Probed::Unexpected),
            (answer(500, "{}"), Probed::Unexpected),
            (answer(404, "<html>"), Probed::Unexpected),
            (answer(200, "<html>"), Probed::Unexpected),
            (Some("not HTTP at all\r\n\r\n".to_owned()), Probed::Unexpected),
            (None, Probed::Timeout),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut key = key_at(listener.local_addr().unwrap().port());
            // Nobody waits here for a deadline that is meant for people.
            key.timeouts.first_byte = Duration::from_millis(100);
            let proxy = proxy(&log);
            let probed = tokio::select! {
                probed = probe(&proxy, &key) => probed,
                () = async { serve_once(listener, answer.as_deref()).await; std::future::pending().await } => unreachable!(),
            };
            assert_eq!(probed, expected, "{answer:?}");
            let now = proxy.clock.now();
            let is_good = matches!(expected, Probed::Models(_));
            assert_eq!(key.health.standing(now) == Standing::Good, is_good, "{answer:?}");
            assert_eq!(key.health.look(None, now), Admission::Free, "a probe benches nobody: {answer:?}");
        }
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let key = key_at(nobody);
        assert_eq!(probe(&proxy(&log), &key).await, Probed::Unreachable);
    }

    #[tokio::test]
    async fn a_list_lifts_a_bench_and_nothing_else() {
        let log = Log::start(LogOptions::stderr(LevelFilter::OFF)).unwrap();
        for (outcome, stays) in [(Outcome::Bench, None), (Outcome::Cool { until: None }, Some(Why::Cooling))] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let key = key_at(listener.local_addr().unwrap().port());
            let proxy = proxy(&log);
            key.health.record(None, outcome, proxy.clock.now());
            let list = answer(200, r#"{"data":[]}"#);
            tokio::join!(serve_once(listener, list.as_deref()), probe(&proxy, &key));
            let barred = match key.health.look(None, proxy.clock.now()) {
                Admission::Barred { why, .. } => Some(why),
                _ => None,
            };
            assert_eq!(barred, stays);
        }
    }

    #[tokio::test]
    async fn some_are_not_asked() {
        let log = Log::start(LogOptions::stderr(LevelFilter::OFF)).unwrap();
        let without_list = Key { row: provider::rows().iter().find(|row| !row.lists_models).unwrap(), ..key_at(1) };
        for key in [without_list, key_at(1).disabled(), key_at(1).unready()] {
            let proxy = proxy(&log);
            assert_eq!(probe(&proxy, &key).await, Probed::Unsupported);
            assert_eq!(key.health.standing(proxy.clock.now()), Standing::Unknown);
        }
    }
}
