//! What is asked of the gateway itself: health, metrics, and the management routes.
//!
//! Reads are answered from atomics and from the running generation, never from a re-read of the
//! file; writes go through the one writer. Only a probe calls a provider: `refresh-models`, and once for each
//! key that was written. Who may ask was
//! decided before (`project::authenticate`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::error::GatewayError;
use crate::id::RequestId;
use crate::permit::{Bound, Room};
use crate::project::Caller;
use crate::router::{AdminRoute, Face, StatusRoute};
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::store::{Command, Generation, Store};
use crate::telemetry::Meters;

mod bifrost;
mod body;
mod check;
mod conduct;
mod config;
mod credential;
mod envelope;
mod error;
mod etag;
mod explain;
mod fields;
mod first_seen;
mod keys;
mod live;
mod mcp;
mod merge;
mod metrics;
mod modelux;
pub mod openapi;
mod origin;
mod providers;
mod record;
mod redeo;
mod refresh;
mod reload;
mod replace;
mod replay;
mod shape;
mod standing;
mod view;
mod write;

pub use conduct::{Asked, Errands, Made};
pub use first_seen::FirstSeen;
pub use refresh::{Listing, Models, Prober, Verifying};
pub use replay::ShowsSecret;
pub use view::Lens;

use error::ApiError;

/// What the routes read, and where they write.
pub struct Admin {
    pub store: Arc<Store>,
    pub commands: mpsc::Sender<Command>,
    pub state: State,
    pub meters: Arc<Meters>,
    pub in_flight: Bound,
    pub connections: Bound,
    pub draining: Arc<AtomicBool>,
    pub lens: Lens,
    pub log_lines_dropped: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Management requests that are being answered.
    pub busy: Bound,
    /// Of the bodies that are held.
    pub room: Room,
    pub errands: Errands,
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

    /// What a route does.
    async fn respond(&self, asked: &Asked, text: String) -> Result<Response<Bytes>, ApiError> {
        let Asked { matched, snapshot, head, query, prober, .. } = asked;
        let (provider, key_id, prober) = (&*matched.provider, &*matched.key_id, &**prober);
        self.lens.first_seen.recall(&self.state).await;
        match matched.route {
            AdminRoute::ConfigStatus => Ok(json(StatusCode::OK, &config::status(self, snapshot))),
            AdminRoute::ConfigReload => reload::answer(self).await,
            AdminRoute::ConfigCheck => check::answer(text).await,
            AdminRoute::Explain => explain::answer(self, snapshot, query.as_deref()),
            AdminRoute::OpenApi => Ok(openapi::answer()),
            AdminRoute::AllKeys => bifrost::all_keys(self, head),
            AdminRoute::Providers => bifrost::providers(self, head),
            AdminRoute::ProviderCreate => bifrost::create_provider(self, prober, &*body::object(&text)?).await,
            AdminRoute::Provider => bifrost::provider(self, head, provider),
            AdminRoute::ProviderPut => {
                bifrost::put_provider(self, prober, head, provider, &*body::object(&text)?).await
            }
            AdminRoute::ProviderDelete => bifrost::delete_provider(self, head, provider).await,
            AdminRoute::ProviderRefresh => refresh::provider(self, prober, provider).await,
            AdminRoute::Keys => bifrost::keys(self, head, provider),
            AdminRoute::KeyCreate => bifrost::create_key(self, prober, head, provider, &*body::object(&text)?).await,
            AdminRoute::Key => bifrost::key(self, head, provider, key_id),
            AdminRoute::KeyPut => {
                bifrost::put_key(self, prober, head, (provider, key_id), &*body::object(&text)?).await
            }
            AdminRoute::KeyDelete => bifrost::delete_key(self, head, provider, key_id).await,
            AdminRoute::KeyRefresh => refresh::key(self, prober, provider, key_id).await,
            AdminRoute::Catalogue => Ok(redeo::catalogue()),
            AdminRoute::Connections => Ok(redeo::connections(self)),
            AdminRoute::ConnectionPut => redeo::put(self, prober, &text).await,
            AdminRoute::ConnectionPatch => redeo::patch(self, prober, provider, query.as_deref(), &text).await,
            AdminRoute::ConnectionDelete => redeo::delete(self, provider, query.as_deref()).await,
            AdminRoute::Credentials => modelux::providers::list(self, query.as_deref()),
            AdminRoute::CredentialCreate => modelux::providers::create(self, prober, &text).await,
            AdminRoute::Credential => modelux::providers::get(self, key_id),
            AdminRoute::CredentialPatch => modelux::providers::patch(self, prober, key_id, &text).await,
            AdminRoute::CredentialDelete => modelux::providers::delete(self, key_id).await,
            AdminRoute::Mcp => mcp::handle(self, asked, &text).await,
            AdminRoute::CredentialHealth => modelux::providers::health(self, key_id),
        }
    }

    /// The running generation, its keys remembered as seen.
    fn generation(&self) -> Arc<Generation> {
        self.looked_at(self.store.generation())
    }

    fn looked_at(&self, generation: Arc<Generation>) -> Arc<Generation> {
        let news = self.lens.first_seen.look(&generation.snapshot, self.store.status().applied_at);
        if !news.is_empty() && self.state.seen(news).is_err() {
            tracing::debug!("when keys were first seen is not kept this time");
        }
        generation
    }

    fn clock(&self) -> &Clock {
        &self.lens.clock
    }

    /// Now, as the file and the APIs spell it.
    fn time(&self) -> String {
        first_seen::rfc3339(self.clock().wall())
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// A refusal of router or authentication on a path of these APIs, in their shape.
pub fn refusal(face: Face, error: &GatewayError, allow: Option<String>, id: &RequestId) -> Response<Bytes> {
    envelope::of(face, &ApiError { allow, ..ApiError::from(error) }, id, "")
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
