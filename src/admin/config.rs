//! `GET /api/config/status`: what runs, what is on disk, what went wrong last. Everything comes from
//! the store's published state, nothing from a re-read of the file.

use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Admin;
use crate::hash::ConfigHash;
use crate::snapshot::{RedisAddress, Snapshot};
use crate::state::Standing;
use crate::store::{Failure, ReloadOutcome, ReloadResult, Status};

/// The whole state.
pub fn status(admin: &Admin, snapshot: &Snapshot) -> Value {
    let status = admin.store.status();
    json!({
        "running": {
            "generation": status.generation,
            "hash": status.hash.hex(),
            "applied_at": rfc3339(status.applied_at),
            "providers": snapshot.providers.len(),
            "keys": snapshot.providers.iter().map(|p| p.keys.len()).sum::<usize>(),
            "warnings": status.warnings.to_json(),
        },
        "on_disk": {
            "hash": status.on_disk_hash.map(|hash: ConfigHash| hash.hex()),
            "drift": status.drift,
            "stale_since": status.stale_since.map(rfc3339),
        },
        "last_error": status.last_error.as_ref().map(failure),
        "watch_mode": status.watch_mode.as_str(),
        "write_mode": status.write_mode.as_str(),
        "restart_pending": restart_pending(admin, snapshot, &status),
        "state": state(admin),
        "in_flight": status.in_flight().into_iter().map(|(number, requests)| json!({
            "generation": number,
            "requests": requests,
        })).collect::<Vec<_>>(),
        "snapshots_alive": status.snapshots_alive(),
        "reloads": {
            "applied": status.reloads_ok,
            "failed": status.reloads_failed,
            "last": status.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        },
    })
}

/// What the file asks for and only a restart brings: the directory of the state among it.
fn restart_pending(admin: &Admin, snapshot: &Snapshot, status: &Status) -> Vec<String> {
    let mut pending = status.restart_pending.clone();
    if snapshot.state_dir != admin.state.dir() {
        pending.push("/state/dir".to_owned());
    }
    let asked = snapshot.redis.as_ref().map(|found| found.as_ref().map_or_else(|_| String::new(), RedisAddress::shown));
    if asked.as_deref() != admin.state.redis().map(|(address, _)| address) {
        pending.push("/state/redis".to_owned());
    }
    pending
}

/// Where lasting state is kept, and why not where it should be.
fn state(admin: &Admin) -> Value {
    let redis = admin.state.redis().map(|(address, in_reach)| json!({"address": address, "in_reach": in_reach}));
    match admin.state.standing() {
        Standing::Opening => json!({"kept_in": "opening", "redis": redis}),
        Standing::File { path } => json!({"kept_in": "file", "path": path, "redis": redis}),
        Standing::Memory { path, why } => json!({"kept_in": "memory", "path": path, "why": why, "redis": redis}),
    }
}

/// The part that `/readyz?verbose` shows.
pub fn verbose(admin: &Admin) -> Value {
    let status: &Status = &admin.store.status();
    json!({
        "generation": status.generation,
        "hash": status.hash.hex(),
        "drift": status.drift,
        "last_error": status.last_error.as_ref().map(failure),
        "watch_mode": status.watch_mode.as_str(),
        "state": state(admin),
    })
}

fn failure(failure: &Failure) -> Value {
    json!({
        "at": rfc3339(failure.at),
        "hash": failure.hash.map(|hash: ConfigHash| hash.hex()),
        "problems": failure.problems.to_json(),
    })
}

/// How one reload ended.
pub fn outcome(outcome: &ReloadOutcome) -> Value {
    let result = match outcome.result {
        ReloadResult::Applied => "applied",
        ReloadResult::Unchanged => "unchanged",
        ReloadResult::Refused => "refused",
    };
    json!({
        "at": rfc3339(outcome.at),
        "result": result,
        "generation": outcome.generation,
        "hash": outcome.hash.map(|hash: ConfigHash| hash.hex()),
        "problems": outcome.problems.0.len(),
        "took_ms": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
    })
}

/// A time before 1970 or after 9999 does not occur; it would be shown as the epoch.
fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}
