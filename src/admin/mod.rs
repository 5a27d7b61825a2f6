//! What is asked of the gateway itself: health, metrics, and the management routes.
//!
//! Answers come from atomics and from the running snapshot, never from a re-read of the file, and
//! no route here calls a provider. Who may ask was decided before (`project::authenticate`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::clock::Clock;
use crate::permit::Bound;
use crate::project::Caller;
use crate::router::{AdminRoute, StatusRoute};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::telemetry::Meters;

mod config;
mod live;
mod metrics;

/// What the routes read.
pub struct Admin {
    pub store: Arc<Store>,
    pub meters: Arc<Meters>,
    pub in_flight: Bound,
    pub connections: Bound,
    pub draining: Arc<AtomicBool>,
    pub clock: Clock,
    pub log_lines_dropped: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Admin {
    /// Health and metrics.
    pub fn status(
        &self,
        route: StatusRoute,
        caller: &Caller,
        snapshot: &Snapshot,
        query: Option<&str>,
    ) -> Response<Bytes> {
        // The caller's scope was checked with the route: what is verbose has been asked for by
        // somebody who may see inside.
        let may = matches!(caller, Caller::Management { .. } | Caller::Loopback);
        match route {
            StatusRoute::Livez => live::alive(),
            StatusRoute::Readyz | StatusRoute::Healthz | StatusRoute::Health => {
                live::ready(self, may && is_verbose(query))
            }
            StatusRoute::Metrics => metrics::answer(self, snapshot),
        }
    }

    /// Management routes; the caller's scope has been checked.
    pub fn answer(&self, route: AdminRoute, snapshot: &Snapshot) -> Response<Bytes> {
        match route {
            AdminRoute::ConfigStatus => json(StatusCode::OK, &config::status(self, snapshot)),
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Whether a health route is asked for its inside: `?verbose`, with or without a value.
pub fn is_verbose(query: Option<&str>) -> bool {
    query.is_some_and(|q| q.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Bytes> {
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
