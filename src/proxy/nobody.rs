//! "Nobody can serve this": the 503 that says why.
//!
//! An operator and a caller on an open loopback see every key and its reason; a project sees counts
//! per reason. Never a secret, for reasons name variables and files, not values.

use std::fmt::Write;

use crate::dispatch::ModelRequest;
use crate::dispatch::explain::{counts, explain};
use crate::error::{GatewayError, Kind};
use crate::project::Caller;
use crate::snapshot::Snapshot;
use crate::ticks::Ticks;

/// Keys that one message lists; the rest is counted.
const LISTED_MAX: usize = 20;

pub fn no_eligible_key(snapshot: &Snapshot, request: &ModelRequest, caller: &Caller, now: Ticks) -> GatewayError {
    let reasons = explain(snapshot, request, now).unwrap_or_default();
    let model = request.model.as_ref().map_or_else(|| "this call".to_owned(), |m| format!("model '{m}'"));
    let mut message = format!("no eligible key for {model}");
    let mut separator = ": ";
    if matches!(caller, Caller::Project { .. }) {
        for (reason, count) in counts(&reasons) {
            let _ = write!(message, "{separator}{count} {reason}");
            separator = ", ";
        }
    } else {
        for key in reasons.iter().take(LISTED_MAX) {
            let _ = write!(message, "{separator}{}/{} {}", key.provider, key.name, key.reason.text());
            separator = "; ";
        }
        if reasons.len() > LISTED_MAX {
            let _ = write!(message, "; and {} more", reasons.len() - LISTED_MAX);
        }
    }
    GatewayError::gateway(Kind::NoEligibleKey, "no_eligible_keys", message)
}
