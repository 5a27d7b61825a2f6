//! `/metrics`: the core series of the telemetry, and what only the snapshot and the store know.
//! Labels are names from the config, hence bounded; no model of a caller becomes a label here.

use std::collections::HashMap;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};

use super::{Admin, standing};
use crate::snapshot::{Key, Provider, Snapshot};
use crate::store::ReloadResult;
use crate::telemetry::Observed;
use crate::telemetry::metrics::text::{Exposition, Kind};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn answer(admin: &Admin, snapshot: &Snapshot) -> Response<Bytes> {
    let status = admin.store.status();
    let hash = status.hash.short();
    let generations = status.in_flight();
    let observed = Observed {
        generation: status.generation,
        hash: &hash,
        last_success: status.applied_at,
        last_reload_ok: status.outcomes.last().is_none_or(|last| last.result != ReloadResult::Refused),
        reloads_ok: status.reloads_ok,
        reloads_failed: status.reloads_failed,
        watch_mode: status.watch_mode.as_str(),
        generations: &generations,
        snapshots_alive: status.snapshots_alive() as u64,
        connections: admin.connections.taken(),
        log_lines_dropped: (admin.log_lines_dropped)(),
        body_bytes: admin.room.held(),
        body_bytes_max: admin.room.bytes_max(),
    };
    let mut page = Exposition::new();
    admin.meters.write(&observed, &mut page);
    keys(admin, snapshot, &mut page);
    shares(admin, snapshot, &mut page);
    let mut response = Response::new(Bytes::from(page.finish()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    response
}

/// 1 where a key could serve now.
fn keys(admin: &Admin, snapshot: &Snapshot, page: &mut Exposition) {
    let now = admin.lens.clock.now();
    let mut up = page.family("keyway_key_up", Kind::Gauge, "Whether the key could serve now; the label says why not.");
    for (provider, key) in all(snapshot) {
        let state = standing::status(key, now);
        let good = matches!(state, "unknown" | "success");
        let labels = [("provider", provider.name.as_str()), ("key", key.name.as_str()), ("state", state)];
        up.sample(&labels, u64::from(good));
    }
}

/// Expected against observed share of each key inside its provider and priority.
fn shares(admin: &Admin, snapshot: &Snapshot, page: &mut Exposition) {
    let mut rows = Vec::new();
    for provider in &snapshot.providers {
        let mut tiers: HashMap<_, Vec<&Key>> = HashMap::new();
        for key in provider.keys.iter().filter(|key| key.enabled && key.ready.is_ok()) {
            tiers.entry(key.priority).or_default().push(key);
        }
        for keys in tiers.into_values() {
            let weight: f64 = keys.iter().map(|key| key.weight.value()).sum();
            let tries: Vec<u64> =
                keys.iter().map(|key| admin.meters.key_attempts(provider.name.as_str(), key.id.as_str())).collect();
            let total: u64 = tries.iter().sum();
            for (key, tried) in keys.iter().zip(tries) {
                let expected = if weight > 0.0 { key.weight.value() / weight } else { 1.0 / keys.len() as f64 };
                let observed = if total > 0 { tried as f64 / total as f64 } else { 0.0 };
                rows.push((provider, *key, expected, observed));
            }
        }
    }
    let labels = |provider: &'_ Provider, key: &'_ Key| [provider.name.to_string(), key.name.to_string()];
    for (name, help, which) in [
        ("keyway_key_share_expected", "Share of its priority that the key's weight asks for.", 0),
        ("keyway_key_share_observed", "Share of its priority's attempts that the key got.", 1),
    ] {
        let mut family = page.family(name, Kind::Gauge, help);
        for (provider, key, expected, observed) in &rows {
            let [provider, key] = labels(provider, key);
            let value = if which == 0 { *expected } else { *observed };
            family.sample_f64(&[("provider", &provider), ("key", &key)], value);
        }
    }
}

fn all(snapshot: &Snapshot) -> impl Iterator<Item = (&Provider, &Key)> {
    snapshot.providers.iter().flat_map(|provider| provider.keys.iter().map(move |key| (&**provider, &**key)))
}
