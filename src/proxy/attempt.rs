//! The loop over picks: send, judge, move on.
//!
//! Everything here happens before the commit point: nothing has gone to the caller yet, so a fault
//! may lead to the next key. What a fault means stands in `dispatch/verdict.rs`; this file only does
//! what the verdict says.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, response};

use super::credential::{Showing, Shown};
use super::guard::{AttemptGuard, BODY_BROKEN, RequestGuard};
use super::headers::{self, Encoding};
use super::nobody::no_eligible_key;
use super::peek::{self, Lost, Opened, Sight};
use super::relay::fault_told;
use super::request::{Inbound, Model, More};
use super::shape::Shape;
use super::{Call, Proxy, credential};
use crate::dialect::Endpoint;
use crate::dispatch::{ModelRequest, Next, NobodyLeft, Pick, Plan, Policy, judge};
use crate::error::{FaultClass, GatewayError, Kind, Sent};
use crate::id::UpstreamModel;
use crate::limits::{ERROR_BYTES_MAX, OVERLOAD_RETRY_AFTER};
use crate::project::is_countable;
use crate::provider::{
    Place, ProviderRow, Spot, classify, error_code, path_and_query, retry_after, retry_after_header,
};
use crate::router::DataMatch;
use crate::snapshot::{Key, Ready, Snapshot};
use crate::ticks::Ticks;
use crate::upstream::{Answer, SendError, SendFault, UpstreamBody};

/// Which version of the Anthropic API a caller means.
const VERSION: &str = "anthropic-version";

/// A good answer, its head read, its body begun and still flowing.
pub struct Good {
    pub parts: response::Parts,
    pub body: Opened,
    pub attempt: AttemptGuard,
}

/// An upstream's error answer, read as far as judging needs.
pub struct Refused {
    pub parts: response::Parts,
    pub body: Bytes,
    pub key: Arc<Key>,
    /// As the key's upstream was asked for it.
    pub model: Option<UpstreamModel>,
}

/// How the loop ended.
pub enum Reply {
    Good(Box<Good>),
    /// The upstream's own last word, relayed as it is.
    Refused(Box<Refused>),
}

/// Where on the upstream the call goes.
pub struct Destination<'a> {
    pub method: Method,
    pub matched: &'a DataMatch<'a>,
    pub query: Option<&'a str>,
}

impl Destination<'_> {
    /// After the version prefix: `/chat/completions`. A model in it gives way to the upstream's name
    /// for it; one that is already right is left as it was spelled.
    fn suffix(&self, model: Option<&UpstreamModel>, place: &Place) -> Cow<'_, str> {
        let DataMatch { endpoint, suffix, model: asked, model_at, .. } = self.matched;
        let spliced = || {
            let (model, at) = (model?.as_str(), model_at.clone()?);
            if asked.as_ref().is_some_and(|asked| asked.as_str() == model) && !matches!(place, Place::Profile { .. }) {
                return None;
            }
            let (before, behind) = (suffix.get(..at.start)?, suffix.get(at.end..)?);
            let (kind, name) = endpoint.dialect.split_model(model);
            Some(format!("{before}{kind}{}{behind}", place.model_segment(name)))
        };
        spliced().map_or(Cow::Borrowed(suffix), Cow::Owned)
    }

    /// What of the model goes into the body.
    fn body_model<'m>(&'m self, model: Option<&'m UpstreamModel>, instead: Option<&'m str>) -> Model<'m> {
        let DataMatch { endpoint, model: asked, model_at, .. } = self.matched;
        if let Some(member) = instead {
            return Model::Instead(member);
        }
        match (model, asked, model_at) {
            (Some(model), _, None) => Model::Member(model),
            (Some(upstream), Some(asked), Some(_)) if endpoint.repeats_model() => Model::Repeated { asked, upstream },
            _ => Model::Elsewhere,
        }
    }
}

/// Tries keys until one answers, the verdict says stop, or nobody is left.
pub async fn run(
    call: &Call<'_>,
    request: &ModelRequest,
    inbound: &mut Inbound,
    destination: &Destination<'_>,
    mut plan: Plan,
    guard: &mut RequestGuard,
) -> Result<Reply, GatewayError> {
    let proxy = Arc::clone(guard.proxy());
    let mut last: Option<Fault> = None;
    let mut signed_anew: Option<Pick> = None;
    loop {
        let now = proxy.clock.now();
        let signed_again = signed_anew.is_some();
        let next = match signed_anew.take() {
            Some(pick) => Ok(pick),
            None => plan.next(call.snapshot, now, &mut proxy.dice()),
        };
        let pick = match next {
            Ok(pick) => pick,
            Err(nobody) => return spent(last, nobody, now, call, request),
        };
        if !pick.wait.is_zero() {
            back_off(&pick, guard).await;
        }
        let Some(pick) = still(pick, &proxy) else { continue };
        guard.tries(&pick);
        priced(call, &pick, guard)?;
        let mut attempt = AttemptGuard::new(&pick, &proxy);
        let more = if plan.has_others(call.snapshot) { More::Perhaps } else { More::No };
        let (answer, shown) = match once(&proxy, inbound, destination, &pick, more, call.snapshot, guard).await {
            Ok(Ok(Answered { answer, shown })) => (Ok(answer), shown),
            Ok(Err(error)) => (Err(error), None),
            Err(error) => {
                attempt.not_made();
                return Err(error);
            }
        };
        let mut fault = match answer {
            Ok(answer) if is_redirect(answer.parts.status) => redirected(answer.parts.status),
            Ok(answer) if !is_error(answer.parts.status) => {
                match begun(answer, &pick, call.snapshot, &proxy, guard).await {
                    Ok((parts, body)) => {
                        attempt.succeeded();
                        return Ok(Reply::Good(Box::new(Good { parts, body, attempt })));
                    }
                    Err(fault) => fault,
                }
            }
            Ok(answer) => refused(answer, &pick, call.snapshot, &proxy).await,
            Err(error) => Fault { error, refused: None, until: None },
        };
        if let (Kind::Answer(class), Some(refused)) = (fault.error.kind, &fault.refused) {
            let shown = Showing { what: shown.as_ref(), again: signed_again };
            fault.error.kind = Kind::Answer(credential::judged(&proxy, &pick.key, class, &refused.parts, &shown));
        }
        let policy = Policy { rate_scope: pick.key.row.rate_scope, signed_again };
        let verdict = judge(fault.error.kind, fault.error.sent, &policy);
        attempt.failed(&verdict, fault.until, fault.error.kind);
        let named = fault.error.public.retry_after;
        let now = proxy.clock.now();
        if verdict.request == Next::GiveUp {
            return end(fault);
        }
        let fault = telling(last.take(), fault);
        if !inbound.replayable() || !plan.refused(call.snapshot, &pick, &verdict, named, now) {
            return end(fault);
        }
        signed_anew = (verdict.request == Next::SameKey).then_some(pick);
        last = Some(fault);
    }
}

/// What the pick will cost, where that must be known.
fn priced(call: &Call<'_>, pick: &Pick, guard: &mut RequestGuard) -> Result<(), GatewayError> {
    let (Some(charge), Some(model)) = (&mut guard.charge, &pick.model) else { return Ok(()) };
    let (provider, prices) = (pick.key.provider.as_str(), &call.snapshot.prices);
    charge.priced(prices, provider, model.as_str());
    let countable =
        call.caller.project(call.snapshot).is_none_or(|it| is_countable(it, prices, provider, model.as_str()));
    if countable { Ok(()) } else { Err(super::uncountable(model.as_str())) }
}

/// The pick as it may be used by now: what was waited for may have been stopped, a key rotated.
fn still(pick: Pick, proxy: &Proxy) -> Option<Pick> {
    let stopped = !pick.wait.is_zero() && pick.is_stopped(proxy.clock.now());
    if stopped { None } else { proxy.current(pick) }
}

/// Waits before the same key is asked again. A caller who leaves meanwhile ends the wait: nothing is
/// held but his own place.
async fn back_off(pick: &Pick, guard: &mut RequestGuard) {
    tokio::time::sleep(pick.wait).await;
    // The upstream's time, not ours.
    guard.waited(pick.wait);
}

/// Which of two faults the caller is told of: the later one, but what an upstream said rather than
/// that another could not be reached, and anything rather than what was said of a key.
fn telling(earlier: Option<Fault>, later: Fault) -> Fault {
    let rank = |fault: &Fault| match fault.error.kind {
        Kind::Answer(FaultClass::Credential) => 0,
        Kind::Connect => 1,
        _ => 2,
    };
    match earlier {
        Some(earlier) if rank(&earlier) > rank(&later) => earlier,
        _ => later,
    }
}

/// One failed try: the error as data, and the upstream's answer when there was one.
struct Fault {
    error: GatewayError,
    refused: Option<Box<Refused>>,
    /// Deadline that the upstream named.
    until: Option<Ticks>,
}

/// An answer, and what was asked with.
struct Answered {
    answer: Answer,
    shown: Option<Shown>,
}

/// Sends the request to one key. The outer error is ours, the inner one the key's or the connection's.
async fn once(
    proxy: &Proxy,
    inbound: &mut Inbound,
    destination: &Destination<'_>,
    pick: &Pick,
    more: More,
    snapshot: &Snapshot,
    guard: &mut RequestGuard,
) -> Result<Result<Answered, GatewayError>, GatewayError> {
    let Ok(ready) = &pick.key.ready else {
        return Err(GatewayError::gateway(Kind::Internal, "internal_error", "a key without a credential was chosen"));
    };
    let provider = snapshot.providers.get(pick.provider as usize);
    let over = provider.and_then(|p| p.path_overrides.get(&guard.operation)).map(|path| &**path);
    let over = over.or_else(|| pick.key.row.elsewhere(destination.matched.endpoint));
    let uri = uri(ready, pick, destination, over, guard)?;
    // Where the path names the model, the body does not, or by the same name.
    let model = pick.model.as_ref();
    let member = model.filter(|_| destination.matched.model_at.is_none());
    let renamed = member
        .and_then(|model| ready.place.model_in_body(destination.matched.endpoint, model.as_str()))
        .map(UpstreamModel::new);
    let version = inbound.parts.headers.get(VERSION).and_then(|version| version.to_str().ok());
    let instead = ready.place.instead_of_model(destination.matched.endpoint, version);
    let model = destination.body_model(renamed.as_ref().or(model), instead.as_deref());
    let Some(body) = inbound.body_for(model) else {
        return Err(GatewayError::gateway(Kind::Internal, "internal_error", "the request body was already sent"));
    };
    let mut shown = None;
    let mut request = assemble(inbound.head(more), pick.key.row, ready, destination, uri, body);
    if ready.auth.credential().is_some() {
        // Rare, and its future is large: it must not be carried by every other request.
        match Box::pin(credential::put(proxy, ready, request)).await {
            Ok(identified) => (request, shown) = (identified.request, identified.shown),
            Err(error) => return Ok(Err(error)),
        }
    }
    let began = Instant::now();
    let sent = proxy.upstream.send(&ready.transport, &pick.key.timeouts, request).await;
    guard.waited(began.elapsed());
    Ok(sent.map(|answer| Answered { answer, shown }).map_err(send_error))
}

fn assemble(
    head: HeaderMap,
    row: &ProviderRow,
    ready: &Ready,
    destination: &Destination<'_>,
    uri: Uri,
    body: UpstreamBody,
) -> Request<UpstreamBody> {
    let mut head = headers::to_upstream(head, ready, Encoding::Identity);
    if let Some(name) = row.key_header(destination.matched.endpoint.dialect) {
        headers::rename_key(&mut head, ready, name);
    }
    headers::complete(&mut head, destination.matched.endpoint.dialect);
    let mut request = Request::new(body);
    *request.method_mut() = destination.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = head;
    request
}

fn uri(
    ready: &Ready,
    pick: &Pick,
    destination: &Destination<'_>,
    over: Option<&str>,
    guard: &RequestGuard,
) -> Result<Uri, GatewayError> {
    let path = match over {
        Some(path) => path_and_query(&ready.root_path, path, destination.query),
        None if destination.matched.rooted => {
            path_and_query(&ready.root_path, &destination.suffix(None, &ready.place), destination.query)
        }
        None => {
            let (row, suffix) = (pick.key.row, destination.suffix(pick.model.as_ref(), &ready.place));
            let prefix = row.prefix(destination.matched.endpoint.dialect);
            let (base_path, suffix) = match prefix == row.version_prefix {
                true => (&ready.base_path, suffix),
                false => (&ready.root_path, format!("{prefix}{suffix}").into()),
            };
            ready.place.path_and_query(&Spot {
                root_path: &ready.root_path,
                base_path,
                endpoint: Endpoint { operation: guard.operation, ..destination.matched.endpoint },
                stream: guard.line.stream,
                suffix: &suffix,
                model: pick.model.as_ref().map(UpstreamModel::as_str),
                query: destination.query,
            })
        }
    };
    path.map(Uri::from)
        .map_err(|_| GatewayError::caller(Kind::BadRequest, "bad_path", "the path cannot be sent upstream"))
}

pub fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// 304 is an answer: to a caller who asked whether something has changed.
fn is_redirect(status: StatusCode) -> bool {
    status.is_redirection() && status != StatusCode::NOT_MODIFIED
}

/// A redirect names an upstream that nobody configured. It is not followed, for the key would go there
/// too, and without its `location` it would tell a caller nothing.
fn redirected(status: StatusCode) -> Fault {
    let message = format!(
        "the upstream answered {} and a redirect is not followed; its base_url may be wrong (/passthrough shows where it points)",
        status.as_u16()
    );
    let sent = Sent::Answered { status: status.as_u16() };
    let error = GatewayError::upstream(Kind::Answer(FaultClass::Server), sent, "upstream_redirect", message);
    Fault { error, refused: None, until: None }
}

/// A good head is a good answer when its body begins well.
async fn begun(
    answer: Answer,
    pick: &Pick,
    snapshot: &Snapshot,
    proxy: &Proxy,
    guard: &mut RequestGuard,
) -> Result<(response::Parts, Opened), Fault> {
    let Answer { parts, body, .. } = answer;
    let shape = Shape::of(&parts, guard.dialect, guard.operation);
    let began = Instant::now();
    let sight = peek::look(body, shape).await;
    guard.waited(began.elapsed());
    let lost = |kind, code, message| {
        let error = GatewayError::upstream(kind, Sent::Maybe, code, message);
        Fault { error, refused: None, until: None }
    };
    match sight {
        Sight::Good(body) => Ok((parts, body)),
        Sight::Lost(Lost::Fault(fault)) => {
            let (kind, code, message) = fault_told(&fault);
            Err(lost(kind, code, message))
        }
        Sight::Lost(Lost::Cut) => {
            Err(lost(Kind::Broken, "upstream_truncated", "the upstream ended its answer before it began"))
        }
        Sight::Error(held, told) => {
            let status = told.status.unwrap_or(parts.status.as_u16());
            Err(answered_with(parts, held.flatten(), (status, &told.code), pick, snapshot, proxy))
        }
    }
}

/// Reads an error answer and says what class it is of.
async fn refused(answer: Answer, pick: &Pick, snapshot: &Snapshot, proxy: &Proxy) -> Fault {
    let Answer { parts, body, .. } = answer;
    let status = parts.status.as_u16();
    // A truncated error is still an error of that status; what was read of it is not shown.
    let bytes = super::error_body::read(body, ERROR_BYTES_MAX).await.unwrap_or_default();
    let code = error_code(&bytes).unwrap_or_default();
    answered_with(parts, bytes, (status, &code), pick, snapshot, proxy)
}

/// An upstream's own error, of this status and code.
fn answered_with(
    parts: response::Parts,
    bytes: Bytes,
    (status, code): (u16, &str),
    pick: &Pick,
    snapshot: &Snapshot,
    proxy: &Proxy,
) -> Fault {
    let class = classify(pick.key.row, status, code);
    let wall = proxy.clock.wall();
    let wait = match class {
        FaultClass::Rate => retry_after(&parts.headers, &bytes, wall),
        FaultClass::Server => retry_after_header(&parts.headers, wall),
        _ => None,
    };
    let message = format!("the upstream answered {status}");
    let mut error = GatewayError::upstream(Kind::Answer(class), Sent::Answered { status }, "upstream_error", message);
    error.public.retry_after = wait;
    // A failure rests the key only for longer than a request would wait for it.
    let patience = snapshot.providers.get(pick.provider as usize).map(|provider| provider.retry.backoff_max);
    let rests = |span: &Duration| class == FaultClass::Rate || patience.is_some_and(|patience| *span > patience);
    let until = wait.filter(rests).map(|span| proxy.clock.now().after(span));
    let refused = Refused { parts, body: bytes, key: Arc::clone(&pick.key), model: pick.model.clone() };
    Fault { error, refused: Some(Box::new(refused)), until }
}

fn send_error(error: SendError) -> GatewayError {
    let (kind, code, message) = match error.what {
        SendFault::Connect => (Kind::Connect, "upstream_connect_failed", "no connection to the upstream"),
        SendFault::ConnectTimeout => (
            Kind::Connect,
            "upstream_connect_timeout",
            "the upstream did not accept a connection within connect_timeout_in_seconds",
        ),
        SendFault::FirstByteTimeout => (
            Kind::FirstByteTimeout,
            "upstream_first_byte_timeout",
            "the upstream did not begin to answer within default_request_timeout_in_seconds",
        ),
        SendFault::Broken => (Kind::Broken, "upstream_broken", "the upstream closed the connection before it answered"),
        SendFault::NoDescriptor => {
            let message = "the gateway has no descriptor left for a connection to the upstream";
            let refusal = GatewayError::gateway(Kind::Overloaded, "overloaded", message);
            return GatewayError { source: error.source, ..refusal.retry_after(OVERLOAD_RETRY_AFTER) };
        }
        SendFault::Saturated => {
            let message = "every connection that max_conns_per_host admits stayed in use";
            let refusal = GatewayError::gateway(Kind::Overloaded, "upstream_saturated", message);
            return GatewayError { source: error.source, ..refusal.retry_after(OVERLOAD_RETRY_AFTER) };
        }
        SendFault::RequestBody => {
            let refusal = GatewayError::caller(Kind::BadRequest, BODY_BROKEN, "the request body broke off");
            return GatewayError { sent: error.sent, source: error.source, ..refusal };
        }
    };
    GatewayError { source: error.source, ..GatewayError::upstream(kind, error.sent, code, message) }
}

/// Whether an upstream's text of this class can quote the key, or the request that was signed with it.
pub fn tells_of_key(kind: Kind) -> bool {
    matches!(kind, Kind::Answer(FaultClass::Credential | FaultClass::ClockSkew))
}

/// The end after a verdict of "give up".
fn end(fault: Fault) -> Result<Reply, GatewayError> {
    match fault.refused {
        // Its text can quote the key.
        Some(_) if tells_of_key(fault.error.kind) => Err(exhausted()),
        Some(refused) => Ok(Reply::Refused(refused)),
        None => Err(fault.error),
    }
}

/// The end when nobody is left to try: the last upstream's word, or why nobody was tried.
fn spent(
    last: Option<Fault>,
    nobody: NobodyLeft,
    now: Ticks,
    call: &Call<'_>,
    request: &ModelRequest,
) -> Result<Reply, GatewayError> {
    if let Some(fault) = last {
        return end(fault);
    }
    Err(match nobody {
        NobodyLeft::Cooling { until } => GatewayError::gateway(
            Kind::AllCooling,
            "all_keys_cooling",
            "every key for this model is cooling down after a rate limit",
        )
        .retry_after(until.remaining(now)),
        NobodyLeft::Recovering { until } => {
            no_eligible_key(call.snapshot, request, call.caller, now).retry_after(until.remaining(now))
        }
        NobodyLeft::NotEligible | NobodyLeft::Exhausted => no_eligible_key(call.snapshot, request, call.caller, now),
    })
}

/// A passthrough call got no answer.
pub fn unsent(attempt: AttemptGuard, pick: &Pick, error: SendError) -> GatewayError {
    unmade(attempt, pick, send_error(error))
}

/// A passthrough call was not answered, or could not even be made for want of a token.
pub fn unmade(attempt: AttemptGuard, pick: &Pick, error: GatewayError) -> GatewayError {
    let policy = Policy { rate_scope: pick.key.row.rate_scope, signed_again: false };
    attempt.failed(&judge(error.kind, error.sent, &policy), None, error.kind);
    error
}

/// The key of a passthrough call was refused: it is benched, and the text that can quote it stays
/// here.
pub fn credential_refused(attempt: AttemptGuard, pick: &Pick, class: FaultClass) -> GatewayError {
    let policy = Policy { rate_scope: pick.key.row.rate_scope, signed_again: false };
    let kind = Kind::Answer(class);
    attempt.failed(&judge(kind, Sent::Maybe, &policy), None, kind);
    exhausted()
}

fn exhausted() -> GatewayError {
    GatewayError::upstream(
        Kind::CredentialsExhausted,
        Sent::Maybe,
        "upstream_credentials_exhausted",
        "every key that could serve this request was refused by the upstream",
    )
}
