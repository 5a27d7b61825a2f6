//! `/livez`, `/readyz`, `/healthz`, `/health`. A rejected reload does not fail readiness: the last
//! good generation serves.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::{Admin, config, json as answer};

/// The process runs and its workers answer.
pub fn alive() -> Response<Bytes> {
    answer(StatusCode::OK, &json!({"status": "ok"}))
}

/// Whether new requests are welcome: yes until the drain begins.
pub fn ready(admin: &Admin, verbose: bool) -> Response<Bytes> {
    let draining = admin.is_draining();
    let (status, word) = if draining { (StatusCode::SERVICE_UNAVAILABLE, "draining") } else { (StatusCode::OK, "ok") };
    let mut body = json!({"status": word});
    if verbose && let Some(members) = body.as_object_mut() {
        members.insert("config".to_owned(), config::verbose(admin));
        members.insert("in_flight".to_owned(), json!(admin.in_flight.taken()));
        members.insert("connections".to_owned(), json!(admin.connections.taken()));
        members.insert("uptime_seconds".to_owned(), json!(admin.lens.clock.since_start().as_secs()));
        members.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    }
    answer(status, &body)
}
