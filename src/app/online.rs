//! `keyway check --online`: each key that is ready makes its provider's cost-free call, once.
//!
//! Says one of four words of a failure, never an upstream's text, status or address. A key whose provider
//! has no such call is named, so that nobody takes silence for a yes.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream;
use rustls::crypto::aws_lc_rs;
use tracing::level_filters::LevelFilter;

use super::check::{Unreadable, check, compile_file};
use super::run::{bare_runtime, embedded, random};
use super::world::Machine;
use crate::clock::Clock;
use crate::config::{Code, Problems};
use crate::dispatch::Dice;
use crate::hash::FingerprintKey;
use crate::health::ListFault;
use crate::identity::{Identity, Inbox, Keeper};
use crate::limits::PROBES_AT_ONCE_MAX;
use crate::permit::Room;
use crate::proxy::{ModelLists, Proxy, Verified, verify};
use crate::snapshot::{Key, Snapshot};
use crate::telemetry::{Log, LogOptions, Meters, Recorder};
use crate::upstream::{Caps, Tls, Upstream};

/// Every problem that the file has here, and every key that its upstream does not take.
pub fn check_online(path: &Path, strict_env: bool) -> Result<Problems, Unreadable> {
    let mut problems = check(path, strict_env)?;
    if problems.has_errors() {
        return Ok(problems);
    }
    let (Some(compiled), _) = compile_file(path)? else { return Ok(problems) };
    let cannot = |what: String| Unreadable(format!("nothing can be asked from here: {what}"));
    // Fails only where it was installed before, with the same provider.
    let _ = aws_lc_rs::default_provider().install_default();
    let runtime = bare_runtime().map_err(|error| cannot(error.to_string()))?;
    let log = Log::start(LogOptions::stderr(LevelFilter::OFF)).map_err(|error| cannot(error.to_string()))?;
    let random = random().ok_or_else(|| cannot("no random numbers".to_owned()))?;
    let clock = Clock::starting_now();
    let (identity, inbox) = Identity::new();
    let proxy = Proxy {
        upstream: Upstream::new(Tls::new(), embedded(), Caps::default()),
        dice: Mutex::new(Dice::new(1)),
        clock,
        recorder: Recorder::new(&log.handle(), &Meters::new(1, SystemTime::UNIX_EPOCH), 0),
        access_log: AtomicBool::new(false),
        models: ModelLists::new(Arc::new(|_, _| {})),
        room: Room::new(u64::MAX),
        identity,
        state: None,
        running: None,
    };
    let machine = Machine::new(clock, FingerprintKey::new(random));
    for (pointer, verified) in runtime.block_on(all(&compiled.snapshot, &proxy, inbox, machine)) {
        report(&mut problems, pointer, verified);
    }
    problems.locate(&compiled.document.tree);
    Ok(problems)
}

async fn all(snapshot: &Snapshot, proxy: &Proxy, inbox: Inbox, machine: Machine) -> Vec<(String, Verified)> {
    let keeper = Keeper::new(inbox, Upstream::new(Tls::new(), embedded(), Caps::default()), Arc::new(machine));
    let keys = snapshot.providers.iter().flat_map(|provider| provider.keys.iter().map(|key| (&provider.name, key)));
    let usable = keys.filter(|(_, key)| key.enabled && key.ready.is_ok() && !key.row.in_process);
    let asked = stream::iter(usable).map(|(name, key)| async move {
        let key: &Key = key;
        let pointer = if key.pointer.is_empty() { format!("/providers/{name}") } else { key.pointer.clone() };
        (pointer, verify(proxy, key).await)
    });
    tokio::select! {
        verified = asked.buffered(PROBES_AT_ONCE_MAX).collect() => verified,
        // Fetches tokens for as long as somebody asks.
        _ = keeper.run() => Vec::new(),
    }
}

fn report(problems: &mut Problems, pointer: String, verified: Verified) {
    let (what, hint) = match verified {
        Verified::Good => return,
        Verified::Unsupported => {
            let text = "not verified: this provider has no call that is free of cost and needs a key";
            problems.warning(Code::Unverified, pointer, text);
            return;
        }
        Verified::Failed(ListFault::Unauthorized) => {
            ("unauthorized: the upstream does not take this key", "is it whole, and of this account?")
        }
        Verified::Failed(ListFault::Unreachable) => {
            ("unreachable: there is no connection to the upstream", "see base_url, proxy_config and the certificates")
        }
        Verified::Failed(ListFault::Timeout) => {
            ("timeout: the upstream did not answer in time", "see connect_timeout_in_seconds")
        }
        Verified::Failed(ListFault::Unexpected) => {
            ("unexpected: the upstream answered something else than was asked for", "see base_url")
        }
    };
    problems.error(Code::Unverified, pointer, what).hint(hint);
}
