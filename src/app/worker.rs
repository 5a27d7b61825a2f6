//! What a worker does with each request before either side sees it: snapshot, canonical path,
//! route, caller. The order is the security of the gateway: nothing is answered that was not first
//! matched, and nothing is matched that was not first made canonical.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;

use super::ids::RequestIds;
use super::prober::WorkerProber;
use crate::admin::{self, Admin, Asked};
use crate::dialect::{Dialect, Endpoint, Operation};
use crate::error::{GatewayError, Kind};
use crate::id::RequestId;
use crate::limits::OVERLOAD_RETRY_AFTER;
use crate::permit::Bound;
use crate::project::{self, Caller, Charge, Peer, Scope, Visit};
use crate::proxy::{self, Call, Proxy, ReplyBody, RequestGuard, Through};
use crate::rate::Tally;
use crate::router::{self, Face, Head, Matched, Side, StatusRoute, Tongue};
use crate::server::{ConnInfo, Handler, Interrupt, PeerKind, Unserved};
use crate::snapshot::Snapshot;
use crate::store::Store;

/// One worker: everything here is shared by its requests and by nobody else, but for what lies
/// behind the `Arc`s.
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    proxy: Arc<Proxy>,
    admin: Arc<Admin>,
    prober: Arc<WorkerProber>,
    overload: Overload,
    ids: RequestIds,
    own_uid: u32,
}

/// In whose words an answer is given, and under which id.
pub struct Asker {
    id: RequestId,
    dialect: Dialect,
}

/// What says that no more can be taken.
pub struct Overload {
    pub in_flight: Bound,
    /// Requests that may be in flight as far as the memory in use goes.
    pub memory_room: Arc<AtomicU64>,
}

impl Worker {
    pub fn new(store: Arc<Store>, proxy: Arc<Proxy>, admin: Arc<Admin>, overload: Overload, ids: RequestIds) -> Self {
        let own_uid = rustix::process::getuid().as_raw();
        let prober = Arc::new(WorkerProber::new(Arc::clone(&proxy)));
        Self { inner: Arc::new(Inner { store, proxy, admin, prober, overload, ids, own_uid }) }
    }
}

impl Handler for Worker {
    type Body = ReplyBody;
    type Asker = Asker;

    fn asker(&self, request: &Request<Incoming>) -> Asker {
        let dialect = router::dialect_of(request.uri().path(), Tongue::of(request.headers()));
        Asker { id: self.inner.ids.of(request.headers()), dialect }
    }

    async fn call(&self, request: Request<Incoming>, asker: &Asker, conn: Arc<ConnInfo>) -> Response<ReplyBody> {
        let inner = &*self.inner;
        let snapshot = inner.store.snapshot();
        let Asker { id, dialect } = asker;
        inner.proxy.access_log.store(snapshot.access_log, Ordering::Relaxed);
        let face = router::face(request.uri().path());
        match inner.route(&snapshot, id, request, &conn).await {
            Ok(response) => response,
            Err(refusal) => {
                let mut response = refusal.render(face, *dialect, id).map(ReplyBody::whole);
                proxy::identify(response.headers_mut(), *dialect, id, &snapshot.mark);
                response
            }
        }
    }

    fn unserved(&self, why: Unserved, asker: &Asker) -> Response<ReplyBody> {
        let (kind, code, message) = match why {
            Unserved::Panicked => (Kind::Internal, "internal_error", "a bug in the gateway; its log says where"),
            Unserved::Stopping => (Kind::Overloaded, "gateway_stopping", "the gateway is being stopped"),
        };
        proxy::render(&GatewayError::gateway(kind, code, message), asker.dialect, &asker.id).map(ReplyBody::whole)
    }

    fn panicked(&self) {
        self.inner.admin.meters.panicked();
    }
}

impl Interrupt for ReplyBody {
    fn interrupt(&mut self) {
        self.stop();
    }
}

/// An answer of the worker itself. These are counted, not logged line by line: whoever floods us
/// with refusals must not fill the disk too.
struct Refusal {
    error: Box<GatewayError>,
    /// For 405.
    allow: Option<String>,
    /// Who refuses a head that can be read in two ways does not know where the next one begins.
    close: bool,
    /// For 429 and whatever else a limit stands behind.
    tally: Option<Tally>,
}

impl From<GatewayError> for Refusal {
    fn from(error: GatewayError) -> Self {
        Self { error: Box::new(error), allow: None, close: false, tally: None }
    }
}

impl From<router::Refusal> for Refusal {
    fn from(refusal: router::Refusal) -> Self {
        Self { close: true, ..GatewayError::from(refusal).into() }
    }
}

impl Refusal {
    /// In the shape that clients of the path know.
    fn render(self, face: Option<Face>, dialect: Dialect, id: &RequestId) -> Response<Bytes> {
        let mut response = match face {
            Some(face) => admin::refusal(face, &self.error, self.allow.clone(), id),
            None => proxy::render(&self.error, dialect, id),
        };
        if self.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        if let Some(tally) = &self.tally {
            tally.tell(response.headers_mut());
        }
        response
    }
}

impl Inner {
    async fn route(
        &self,
        snapshot: &Arc<Snapshot>,
        id: &RequestId,
        request: Request<Incoming>,
        conn: &ConnInfo,
    ) -> Result<Response<ReplyBody>, Refusal> {
        // Cheap: method, target and headers of the original are needed while the request itself moves.
        let (parts, body) = request.into_parts();
        let uri = parts.uri.clone();
        let method = parts.method.clone();
        let path = {
            let head = Head { version: parts.version, method: &method, uri: &uri, headers: &parts.headers };
            router::canonical(head)?
        };
        let matched = on_this_listener(router::find(&method, &path, Tongue::of(&parts.headers)), snapshot, conn);
        let visit = Visit::of(&parts, peer(conn), self.own_uid);
        let scope = scope(&matched, uri.query());
        let caller = project::authenticate(snapshot, &visit, scope).map_err(GatewayError::from)?;
        let request = Request::from_parts(parts, body);
        match matched {
            Matched::Status(route) => {
                Ok(self.admin.status(route, &caller, snapshot, uri.query()).map(ReplyBody::whole))
            }
            Matched::Admin(matched) => {
                let (parts, body) = request.into_parts();
                let asked = Asked {
                    matched: matched.into_owned(),
                    method,
                    path: uri.path_and_query().map_or("", |it| it.as_str()).into(),
                    query: uri.query().map(Box::from),
                    head: parts.headers,
                    snapshot: Arc::clone(snapshot),
                    caller,
                    id: id.clone(),
                    prober: self.prober.clone(),
                };
                // Rare, and its future is large: it must not be carried by every other request.
                let mut response = Box::pin(self.admin.answer(asked, body)).await;
                // Of the generation that runs now: a write is answered when it serves.
                proxy::identify(response.headers_mut(), Dialect::OpenAi, id, &self.store.load().mark);
                Ok(response.map(ReplyBody::whole))
            }
            Matched::Data(found) => {
                let guard = self.guard(snapshot, id, &method, found.endpoint, &caller)?;
                let call = Call { snapshot, caller: &caller, matched: found, query: uri.query() };
                Ok(proxy::handle(call, request, guard).await)
            }
            Matched::Passthrough { provider, path } => {
                let endpoint = Endpoint { dialect: Dialect::OpenAi, operation: Operation::Other };
                let guard = self.guard(snapshot, id, &method, endpoint, &caller)?;
                let through = Through { snapshot, caller: &caller, provider: &provider, path, query: uri.query() };
                Ok(proxy::handle_passthrough(through, request, guard).await)
            }
            Matched::NotServed { dialect } => Err(not_served(dialect).into()),
            Matched::MethodNotAllowed { allow, .. } => Err(method_not_allowed(allow)),
            Matched::NotFound { side } => Err(not_found(side).into()),
        }
    }

    /// The in-flight permit, or the refusal at once: nobody waits in front of an overloaded process.
    fn guard(
        &self,
        snapshot: &Snapshot,
        id: &RequestId,
        method: &Method,
        endpoint: Endpoint,
        caller: &Caller,
    ) -> Result<Box<RequestGuard>, Refusal> {
        let configured = snapshot.server.limits.in_flight_max;
        let memory = self.overload.memory_room.load(Ordering::Relaxed);
        let Some(permit) = self.overload.in_flight.take(configured.min(memory)) else {
            let message = if memory < configured {
                "the process nears its memory limit"
            } else {
                "too many requests in flight (server.limits.in_flight_max)"
            };
            return Err(GatewayError::gateway(Kind::Overloaded, "overloaded", message)
                .retry_after(OVERLOAD_RETRY_AFTER)
                .into());
        };
        let costs = !matches!(*method, Method::GET | Method::HEAD | Method::DELETE);
        let tally = project::admit(caller, snapshot, costs, self.proxy.clock.wall())
            .map_err(|over| Refusal { tally: Some(over.tally), ..Refusal::from(over.error) })?;
        let mark = Arc::clone(&snapshot.mark);
        let mut guard = RequestGuard::new(Arc::clone(&self.proxy), permit, mark, id.clone(), method.clone(), endpoint);
        guard.line.project = caller.project(snapshot).map(|project| project.id.clone());
        guard.charge = Charge::of(caller, snapshot);
        guard.tally = tally;
        Ok(guard)
    }
}

/// With `management.listen`, management is served there alone and the data plane is not.
fn on_this_listener<'p>(matched: Matched<'p>, snapshot: &Snapshot, conn: &ConnInfo) -> Matched<'p> {
    if snapshot.management.listen.is_none() {
        return matched;
    }
    match matched {
        Matched::Admin(_) | Matched::MethodNotAllowed { side: Side::Admin, .. } if !conn.management => {
            Matched::NotFound { side: Side::Admin }
        }
        Matched::Data(_) | Matched::Passthrough { .. } if conn.management => Matched::NotFound { side: Side::Admin },
        _ => matched,
    }
}

/// What the route asks of its caller. Who may not call anything learns nothing about which paths
/// exist: an unknown path asks for the same credentials as its neighbours.
fn scope(matched: &Matched<'_>, query: Option<&str>) -> Scope {
    match matched {
        Matched::Status(StatusRoute::Metrics) => Scope::Status,
        Matched::Status(StatusRoute::Livez) => Scope::Open,
        Matched::Status(_) if admin::is_verbose(query) => Scope::Status,
        Matched::Status(_) => Scope::Open,
        Matched::Admin(admin) => admin.scope,
        Matched::NotFound { side: Side::Admin } | Matched::MethodNotAllowed { side: Side::Admin, .. } => {
            Scope::Management
        }
        Matched::Data(_)
        | Matched::Passthrough { .. }
        | Matched::NotServed { .. }
        | Matched::MethodNotAllowed { side: Side::Data, .. }
        | Matched::NotFound { side: Side::Data } => Scope::Data,
    }
}

fn peer(conn: &ConnInfo) -> Peer {
    match conn.peer {
        PeerKind::Loopback => Peer::Loopback,
        PeerKind::Unix { uid } => Peer::Unix { uid },
        PeerKind::Remote => Peer::Remote,
    }
}

fn not_found(side: Side) -> GatewayError {
    let message = match side {
        Side::Admin => "no such management route",
        Side::Data => "no such route; the OpenAI API lives under /v1, the Anthropic API under /anthropic/v1",
    };
    GatewayError::caller(Kind::NotFound, "not_found", message)
}

fn not_served(dialect: Dialect) -> GatewayError {
    let message = format!("this release does not serve the {} API; the OpenAI API lives under /v1", dialect.label());
    GatewayError::caller(Kind::Unsupported, "dialect_not_supported", message)
}

fn method_not_allowed(allow: Cow<'static, str>) -> Refusal {
    let error = GatewayError::caller(Kind::MethodNotAllowed, "method_not_allowed", format!("this route takes {allow}"));
    Refusal { allow: Some(allow.into_owned()), ..Refusal::from(error) }
}
