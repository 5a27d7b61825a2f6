//! `/passthrough/{provider}/{path}`: the provider's own API with the key put in.
//!
//! Both bodies flow, nothing is scanned, peeked or counted, hence one attempt. The answer comes back
//! as the upstream encoded it.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::credential::Showing;
use super::guard::AttemptGuard;
use super::headers::{self, Encoding};
use super::nobody::no_eligible_key;
use super::peek::Opened;
use super::relay::{Relay, ReplyBody};
use super::request::{Bounds, Inbound, Model, More};
use super::shape::Shape;
use super::{RequestGuard, attempt, credential, refuse, upstream_query};
use crate::dialect::{Dialect, Endpoint, Operation};
use crate::dispatch::{ModelRequest, Pick, plan};
use crate::error::{GatewayError, Kind};
use crate::id::ProviderName;
use crate::project::{Caller, Grant};
use crate::provider::{classify, path_and_query};
use crate::snapshot::{Ready, ServerLimits, Snapshot};
use crate::upstream::UpstreamBody;

/// What the router found.
pub struct Through<'a> {
    pub snapshot: &'a Snapshot,
    pub caller: &'a Caller,
    pub provider: &'a str,
    /// With its leading slash, still encoded as the caller wrote it.
    pub path: &'a str,
    pub query: Option<&'a str>,
}

pub async fn handle(
    through: Through<'_>,
    request: Request<Incoming>,
    mut guard: Box<RequestGuard>,
) -> Response<ReplyBody> {
    match send(&through, request, &mut guard).await {
        Ok(good) => {
            let attempt::Good { parts, body, attempt } = *good;
            let mut head = headers::to_caller(parts.headers, true);
            headers::stamp(&mut head, attempt.key(), None, guard.line.attempts);
            guard.sign(&mut head);
            guard.line.status = parts.status.as_u16();
            let relay = Relay::new(body, attempt, Shape::Opaque, guard);
            let mut response = Response::new(ReplyBody::Relay(Box::new(relay)));
            *response.status_mut() = parts.status;
            *response.headers_mut() = head;
            response
        }
        Err(error) => refuse(&error, guard),
    }
}

async fn send(
    through: &Through<'_>,
    request: Request<Incoming>,
    guard: &mut RequestGuard,
) -> Result<Box<attempt::Good>, GatewayError> {
    Grant::of(through.caller, through.snapshot).passthrough()?;
    if through.caller.project(through.snapshot).is_some_and(|project| !project.budgets.is_empty()) {
        let message = "what passes through is not read, hence not counted: a project with budgets may not use it";
        return Err(GatewayError::caller(Kind::Forbidden, "passthrough_not_counted", message));
    }
    let pick = pick(through, guard)?;
    let proxy = Arc::clone(guard.proxy());
    // From here on the key is asked: whatever comes of it, its health is told.
    let mut attempt = AttemptGuard::new(&pick, &proxy);
    let (ready, outgoing) = match assembled(through, request, &pick, guard).await {
        Ok(assembled) => assembled,
        Err(error) => {
            attempt.not_made();
            return Err(error);
        }
    };
    let outgoing = match Box::pin(credential::put(&proxy, ready, outgoing)).await {
        Ok(outgoing) => outgoing,
        Err(error) => return Err(attempt::unmade(attempt, &pick, error)),
    };
    let shown = outgoing.shown;
    let began = Instant::now();
    let sent = proxy.upstream.send(&ready.transport, &pick.key.timeouts, outgoing.request).await;
    guard.waited(began.elapsed());
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => return Err(attempt::unsent(attempt, &pick, error)),
    };
    if attempt::is_error(answer.parts.status) {
        let mut class = classify(pick.key.row, answer.parts.status.as_u16(), "");
        if answer.parts.status.is_client_error() {
            let shown = Showing { what: shown.as_ref(), again: false };
            class = credential::judged(&proxy, &pick.key, class, &answer.parts, &shown);
            if attempt::tells_of_key(Kind::Answer(class)) {
                return Err(attempt::credential_refused(attempt, &pick, class));
            }
        }
        // An error is the caller's affair: nothing is learnt of the key from it.
        attempt.passes_on(class);
    } else {
        attempt.succeeded();
    }
    Ok(Box::new(attempt::Good { parts: answer.parts, body: Opened::unread(answer.body), attempt }))
}

/// What goes to the provider, but for a credential that is made for each request.
async fn assembled<'k>(
    through: &Through<'_>,
    request: Request<Incoming>,
    pick: &'k Pick,
    guard: &RequestGuard,
) -> Result<(&'k Ready, Request<UpstreamBody>), GatewayError> {
    let (parts, incoming) = request.into_parts();
    let Ok(ready) = &pick.key.ready else {
        return Err(GatewayError::gateway(Kind::Internal, "internal_error", "a key without a credential was chosen"));
    };
    let limits = &through.snapshot.server.limits;
    let mut inbound = match credential::needs_whole_body(ready) {
        true => Inbound::hold(parts, incoming, Bounds { limits, room: &guard.proxy().room }).await?,
        // Nothing of it is held, hence it may be of any size.
        false => Inbound::flow(parts, incoming, &ServerLimits { request_body_bytes_max: u64::MAX, ..*limits })?,
    };
    let query = upstream_query(through.query, false);
    let uri = path_and_query(&ready.root_path, through.path, query.as_deref())
        .map(Uri::from)
        .map_err(|_| GatewayError::caller(Kind::BadRequest, "bad_path", "the path cannot be sent upstream"))?;
    let Some(body) = inbound.body_for(Model::Elsewhere) else {
        return Err(GatewayError::gateway(Kind::Internal, "internal_error", "the request body was already sent"));
    };
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = inbound.parts.method.clone();
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers::to_upstream(inbound.head(More::No), ready, Encoding::AsCaller);
    Ok((ready, outgoing))
}

fn pick(through: &Through<'_>, guard: &mut RequestGuard) -> Result<Pick, GatewayError> {
    let unknown = || {
        let message = format!("no provider named '{}' is configured", through.provider);
        GatewayError::caller(Kind::NotFound, "provider_not_found", message)
    };
    let provider =
        through.snapshot.providers.iter().find(|p| p.name.as_str() == through.provider).ok_or_else(unknown)?;
    let dialect = provider.row.speaks.first().copied().unwrap_or(Dialect::OpenAi);
    let request = ModelRequest {
        endpoint: Endpoint { dialect, operation: Operation::Other },
        stream: false,
        model: None,
        provider: Some(ProviderName::new(through.provider)),
        native: &[],
        fallbacks: SmallVec::new(),
        pin: None,
    };
    let mut plan = plan(through.snapshot, &request).map_err(|_| unknown())?;
    let proxy = Arc::clone(guard.proxy());
    let now = proxy.clock.now();
    let picked = plan.next(through.snapshot, now, &mut proxy.dice());
    let pick = picked.ok().and_then(|pick| proxy.current(pick));
    let pick = pick.ok_or_else(|| no_eligible_key(through.snapshot, &request, through.caller, now))?;
    guard.tries(&pick);
    Ok(pick)
}
