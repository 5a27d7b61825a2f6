//! How a management request is conducted, whatever face it is for: counted against its key's limit,
//! carried out once where it has an `Idempotency-Key`, recorded where it writes.
//!
//! A write is carried to its end whether its caller waits or not: whoever lost the connection may ask
//! again and is told what came of it. Nothing here knows what a request is about.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::error::ApiError;
use super::{Admin, Prober, envelope, mcp, replay};
use crate::error::BoxError;
use crate::id::RequestId;
use crate::limits::{ADMIN_BODY_BYTES_MAX, ADMIN_IN_FLIGHT_MAX, ADMIN_RECORD_BYTES_MAX, AUDIT_TARGET_CHARS_MAX};
use crate::permit::Permit;
use crate::project::Caller;
use crate::rate::Tally;
use crate::router::{self, ADMIN, AdminMatch, AdminRoute, Face};
use crate::snapshot::Snapshot;
use crate::state::{Entry, Outcome};

/// Who writes where no management keys are configured.
const LOOPBACK: &str = "loopback";

/// A management request whose caller's scope has been checked.
pub struct Asked {
    pub matched: AdminMatch<'static>,
    pub method: Method,
    /// As it was matched, with its query.
    pub path: Box<str>,
    pub query: Option<Box<str>>,
    pub head: HeaderMap,
    pub snapshot: Arc<Snapshot>,
    pub caller: Caller,
    pub id: RequestId,
    pub prober: Arc<dyn Prober>,
}

impl Asked {
    /// Name of the management key.
    pub fn who(&self) -> &str {
        match &self.caller {
            Caller::Management { name } => name,
            Caller::Loopback | Caller::Open | Caller::Project { .. } => LOOPBACK,
        }
    }

    fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether what is asked for changes anything, here or in the file.
    fn is_write(&self, text: &str) -> bool {
        match self.matched.route {
            AdminRoute::ConfigCheck => false,
            AdminRoute::Mcp => mcp::writes(text).is_some(),
            _ => !self.is_read(),
        }
    }

    pub fn envelope(&self, error: &ApiError) -> Response<Bytes> {
        envelope::of(self.face(), error, &self.id, &self.matched.provider)
    }

    fn face(&self) -> Face {
        router::face(&self.path).unwrap_or(Face::Bifrost)
    }
}

/// What a write made, by name: goes from an answer into the audit log.
#[derive(Clone)]
pub struct Made(pub Box<str>);

/// Writes that are under way; they end with the process.
#[derive(Default)]
pub struct Errands(Mutex<JoinSet<()>>);

impl Errands {
    fn run(&self, errand: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.try_join_next().is_some() {}
        all.spawn(errand);
    }
}

impl Admin {
    /// Answers a management request.
    pub async fn answer<B>(self: &Arc<Self>, asked: Asked, body: B) -> Response<Bytes>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let Some(permit) = self.busy.take(ADMIN_IN_FLIGHT_MAX) else {
            let message = "too many management requests at the same time";
            return asked.envelope(&ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message));
        };
        match self.counted(&asked) {
            Ok(tally) => {
                let mut response = self.conduct(asked, body, permit).await;
                if let Some(tally) = tally {
                    tally.tell(response.headers_mut());
                }
                response
            }
            Err(tally) => {
                let message = "too many requests of this management key (management.rate_limit_per_minute)";
                let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message);
                let mut response = asked.envelope(&error);
                tally.tell(response.headers_mut());
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(tally.reset_seconds()));
                response
            }
        }
    }

    /// Takes one of the key's requests. Who watches must not use up what is there to act: reads of the
    /// status are not counted.
    fn counted(&self, asked: &Asked) -> Result<Option<Tally>, Tally> {
        let keys = asked.snapshot.management.keys.as_deref().unwrap_or_default();
        let key = match &asked.caller {
            Caller::Management { name } => keys.iter().find(|key| key.name == *name),
            Caller::Loopback | Caller::Open | Caller::Project { .. } => None,
        };
        let Some(key) = key.filter(|_| asked.matched.route != AdminRoute::ConfigStatus) else { return Ok(None) };
        let now = self.clock().wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        key.rate.take(key.rate_limit, u64::try_from(now.as_millis()).unwrap_or(u64::MAX)).map(Some)
    }

    async fn conduct<B>(self: &Arc<Self>, asked: Asked, body: B, permit: Permit) -> Response<Bytes>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let text = match self.text(&asked, body).await {
            Ok(text) => text,
            Err(error) => return asked.envelope(&error),
        };
        if asked.is_read() {
            return self.respond(&asked, text).await.unwrap_or_else(|error| asked.envelope(&error));
        }
        let (face, id, provider) = (asked.face(), asked.id.clone(), asked.matched.provider.clone());
        let (done, answer) = oneshot::channel();
        let admin = Arc::clone(self);
        self.errands.run(async move {
            let _permit = permit;
            // Nobody may be there any more to take it.
            let _ = done.send(admin.once(&asked, text).await);
        });
        answer.await.unwrap_or_else(|_| {
            self.meters.panicked();
            let message = "a bug in the gateway; its log says where";
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message);
            envelope::of(face, &error, &id, &provider)
        })
    }

    /// The body, where the route has one.
    async fn text<B>(&self, asked: &Asked, body: B) -> Result<String, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let route = asked.matched.route;
        if !route.takes_body() {
            return Ok(String::new());
        }
        let bytes_max = if route == AdminRoute::ConfigCheck { ADMIN_BODY_BYTES_MAX } else { ADMIN_RECORD_BYTES_MAX };
        super::body::text(&asked.head, body, bytes_max as u64, &asked.snapshot.server.limits, &self.room).await
    }

    /// Carries out what was not carried out before under the same `Idempotency-Key`.
    async fn once(&self, asked: &Asked, text: String) -> Response<Bytes> {
        match replay::begin(self, asked, &text).await {
            Ok(replay::Start::Go(promise)) => {
                let response = self.recorded(asked, text).await;
                if let Some(promise) = promise {
                    promise.keep(self, asked, &response).await;
                }
                response
            }
            Ok(replay::Start::Again(response)) => response,
            Err(error) => asked.envelope(&error),
        }
    }

    /// No write without its entry in the audit log; what comes of it completes the entry.
    async fn recorded(&self, asked: &Asked, text: String) -> Response<Bytes> {
        if !asked.is_write(&text) {
            return self.respond(asked, text).await.unwrap_or_else(|error| asked.envelope(&error));
        }
        let entry = entry(asked, &text, self.clock().wall());
        let action = entry.action.clone();
        let Ok(number) = self.state.intend(entry).await else {
            return asked.envelope(&ApiError::state_unavailable());
        };
        let (response, code) = match self.respond(asked, text).await {
            Ok(response) => (response, ""),
            Err(error) => (asked.envelope(&error), error.code),
        };
        let (status, generation) = (response.status().as_u16(), self.store.load().mark.number);
        let made = response.extensions().get().map(|Made(name)| name.clone());
        tracing::info!(
            event = "management_write",
            who = asked.who(),
            action = &*action,
            status,
            code,
            generation,
            request_id = asked.id.as_str(),
            "a management API was asked to write"
        );
        // The entry stands; that its outcome is missing shows in it.
        let _ = self.state.conclude(number, Outcome { status, code: code.into(), generation, made });
        response
    }
}

fn entry(asked: &Asked, text: &str, at: SystemTime) -> Entry {
    let row = ADMIN.iter().find(|row| row.route == asked.matched.route);
    let path = row.map_or("", |row| row.path);
    let named = [&*asked.matched.provider, &*asked.matched.key_id];
    let named: Vec<&str> = named.into_iter().filter(|name| !name.is_empty()).collect();
    Entry {
        at,
        who: asked.who().into(),
        action: match mcp::writes(text).filter(|_| asked.matched.route == AdminRoute::Mcp) {
            Some(tool) => format!("{} {path} {tool}", asked.method).into(),
            None => format!("{} {path}", asked.method).into(),
        },
        target: named.join("/").chars().take(AUDIT_TARGET_CHARS_MAX).collect::<String>().into(),
        request: asked.id.as_str().into(),
    }
}
