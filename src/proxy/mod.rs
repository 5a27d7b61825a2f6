//! The way of a request: from a matched route to an answer on the wire.
//!
//! [`handle`] is the spine; each step is a file. Same dialect in and out is relayed byte for byte.
//! Nothing here knows a provider's name, touches a file, or spawns a task.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use smallvec::SmallVec;

use crate::clock::Clock;
use crate::dialect::Operation;
use crate::dialect::kept::Spot;
use crate::dispatch::{Dice, ModelRequest, Pick, Pin, Plan, plan};
use crate::error::{Blame, GatewayError, Kind};
use crate::id::{ModelName, ProviderName, UpstreamModel};
use crate::identity::Identity;
use crate::permit::Room;
use crate::project::{Caller, Grant, is_countable};
use crate::router::DataMatch;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::telemetry::Recorder;
use crate::upstream::Upstream;

mod affinity;
mod ask;
mod attempt;
mod credential;
mod ear;
mod error_body;
mod error_response;
mod guard;
mod headers;
mod models;
mod nobody;
mod passthrough;
mod peek;
mod probe;
mod relay;
mod request;
mod shape;

pub use error_response::render;
pub use guard::RequestGuard;
pub use headers::identify;
use models::list_models;
pub use models::{ModelLists, ModelsListed};
pub use passthrough::{Through, handle as handle_passthrough};
pub use probe::{Probed, Verified, probe, verify};
pub use relay::{ReplyBody, StreamBroken};

use affinity::{Kept, Learner};
use attempt::{Destination, Good, Refused, Reply};
use relay::Relay;
use request::{Bounds, Inbound};
use shape::Shape;

static PIN_BY_ID: HeaderName = HeaderName::from_static("x-bf-api-key-id");
static PIN_BY_NAME: HeaderName = HeaderName::from_static("x-bf-api-key");
/// Where upstreams put their own id of a request.
static REQUEST_IDS: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("apim-request-id"),
    HeaderName::from_static("x-amzn-requestid"),
];

/// Looks up the generation that runs now.
pub type Running = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// What one worker lends to all its requests.
pub struct Proxy {
    pub upstream: Upstream,
    pub dice: Mutex<Dice>,
    pub clock: Clock,
    /// The worker's own ends of access log and metrics.
    pub recorder: Recorder,
    /// `observability.access_log` of the generation that served last.
    pub access_log: AtomicBool,
    pub models: ModelLists,
    /// For the bodies that are held, of all workers.
    pub room: Room,
    pub identity: Identity,
    /// Who made what upstreams keep; `None` where nothing is kept either.
    pub state: Option<State>,
    /// The generation that runs now, for requests of older ones whose key was rotated; `None` where no
    /// other follows.
    pub running: Option<Running>,
}

impl Proxy {
    /// The pick as it may be used: a key that an API has given another secret meanwhile gives way to
    /// what stands in its place now. `None`: nothing does.
    fn current(&self, mut pick: Pick) -> Option<Pick> {
        if pick.key.health.is_rotated() {
            let running = self.running.as_ref()?();
            let keys = running.providers.iter().filter(|it| it.name == pick.key.provider).flat_map(|it| &it.keys);
            pick.key = Arc::clone(keys.into_iter().find(|key| key.id == pick.key.id && key.enabled)?);
        }
        Some(pick)
    }

    /// Uncontended: a worker has one thread. Poison means that a draw panicked, and a generator of
    /// dice has no state that could be torn.
    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the router and the worker found out before the proxy is asked.
pub struct Call<'a> {
    pub snapshot: &'a Snapshot,
    pub caller: &'a Caller,
    pub matched: DataMatch<'a>,
    /// Raw query of the request, credentials still in it.
    pub query: Option<&'a str>,
}

/// Answers one data-plane call.
pub async fn handle(call: Call<'_>, request: Request<Incoming>, mut guard: Box<RequestGuard>) -> Response<ReplyBody> {
    match respond(&call, request, &mut guard).await {
        Ok(Outgoing::Whole(response)) => finish_whole(response, guard),
        Ok(Outgoing::Stream(good, learner)) => finish_stream(*good, learner, guard),
        Err(error) => refuse(&error, guard),
    }
}

/// An answer before the request's guard is put into its body.
enum Outgoing {
    Whole(Response<Bytes>),
    Stream(Box<Good>, Option<Box<Learner>>),
}

async fn respond(
    call: &Call<'_>,
    request: Request<Incoming>,
    guard: &mut RequestGuard,
) -> Result<Outgoing, GatewayError> {
    let (parts, incoming) = request.into_parts();
    let matched = &call.matched;
    if matches!(matched.endpoint.operation, Operation::ListModels | Operation::Model) && parts.method == Method::GET {
        // Rare, and its future is large: it must not be carried by every other request.
        return Box::pin(models::answer(call, guard)).await.map(Outgoing::Whole);
    }
    let limits = call.snapshot.server.limits;
    let method = parts.method.clone();
    let bounds = Bounds { limits: &limits, room: &guard.proxy().room };
    let mut inbound = Inbound::read(parts, incoming, matched.body, bounds).await?;
    inbound.stream |= matched.streams;
    guard.line.bytes_in = inbound.bytes_read();
    guard.line.stream = inbound.stream;
    let mut request = model_request(call, &inbound)?;
    guard.line.model.clone_from(&request.model);
    let kept = match Spot::of(&matched.suffix) {
        None => match inbound.held().filter(|held| affinity::may_name_files(call, held)) {
            None => Kept::default(),
            Some(held) => {
                let proxy = Arc::clone(guard.proxy());
                Box::pin(affinity::settle_content(call, held, &mut request, &proxy)).await?
            }
        },
        // Rare, and its future is large: it must not be carried by every other request.
        Some(spot) => {
            let (held, proxy) = (inbound.held(), Arc::clone(guard.proxy()));
            Box::pin(affinity::settle(call, spot, &method, held, &mut request, &proxy)).await?
        }
    };
    let plan = match planned(call, &request) {
        // The model that is asked for now is none of that key's.
        Err(_) if kept.led && request.model.is_some() => {
            request.pin = None;
            planned(call, &request)?
        }
        planned => planned?,
    };
    let limited = guard.charge.as_ref().is_some_and(|charge| charge.is_limited);
    if limited && inbound.stream && ask::must_be_asked(guard.dialect, guard.operation) {
        guard.asked_for_usage = inbound.ask_for_usage();
    }
    let query = upstream_query(call.query, matched.azure_style);
    let destination = Destination { method, matched, query: query.as_deref() };
    match attempt::run(call, &request, &mut inbound, &destination, plan, guard).await? {
        Reply::Good(good) if kept.is_filtered() => Box::pin(own_things(*good, &kept, guard)).await.map(Outgoing::Whole),
        Reply::Good(good) => {
            let learner = Learner::of(&kept, &good.parts.headers, good.attempt.key(), guard.proxy());
            Ok(Outgoing::Stream(good, learner))
        }
        Reply::Refused(refused) => Ok(Outgoing::Whole(relayed_error(*refused, guard))),
    }
}

/// What routing needs: the model from the path or the body, fallbacks, pins.
fn model_request(call: &Call<'_>, inbound: &Inbound) -> Result<ModelRequest, GatewayError> {
    let matched = &call.matched;
    let model = match (&matched.model, inbound.model()) {
        (Some(from_path), _) => Some(from_path.clone()),
        (None, Some(from_body)) => Some(ModelName::new(from_body)),
        (None, None) if needs_model(matched.endpoint.operation) => {
            return Err(GatewayError::caller(
                Kind::BadRequest,
                "missing_model",
                "the request names no model; add a \"model\" member such as \"openai/gpt-mini\"",
            )
            .param("model"));
        }
        (None, None) => None,
    };
    let provider = match &model {
        Some(_) => None,
        None => query_value(call.query, "provider").map(|name| ProviderName::new(name.as_str())),
    };
    Ok(ModelRequest {
        endpoint: matched.endpoint,
        stream: inbound.stream,
        model,
        provider,
        native: matched.native,
        fallbacks: inbound.fallbacks.clone(),
        pin: pin(&inbound.parts.headers, call)?,
    })
}

/// Operations whose body must say which model.
fn needs_model(operation: Operation) -> bool {
    match operation {
        Operation::ChatCompletion
        | Operation::TextCompletion
        | Operation::Responses
        | Operation::Embedding
        | Operation::CountTokens
        | Operation::Invoke
        | Operation::Rerank
        | Operation::Speech
        | Operation::Transcription
        | Operation::Translation => true,
        // OpenAI has defaults for these; the rest works on ids.
        Operation::Moderation
        | Operation::ImageGeneration
        | Operation::ImageEdit
        | Operation::ImageVariation
        | Operation::ResponsesItem
        | Operation::ListModels
        | Operation::Model
        | Operation::Files
        | Operation::Batches
        | Operation::Other => false,
    }
}

/// `x-bf-api-key-id`, else `x-bf-api-key`; under projects only where the project may pin.
fn pin(head: &HeaderMap, call: &Call<'_>) -> Result<Option<Pin>, GatewayError> {
    let text = |name: &HeaderName| head.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let pin = text(&PIN_BY_ID).map(Pin::Id).or_else(|| text(&PIN_BY_NAME).map(Pin::Name));
    if pin.is_some() {
        Grant::of(call.caller, call.snapshot).pin()?;
    }
    Ok(pin)
}

/// The plan, cut to what the caller's project may use.
fn planned(call: &Call<'_>, request: &ModelRequest) -> Result<Plan, GatewayError> {
    let mut plan = plan(call.snapshot, request).map_err(|error| error.to_error())?;
    let grant = Grant::of(call.caller, call.snapshot);
    if matches!(grant, Grant::All) {
        return Ok(plan);
    }
    let any = plan.keep(|target, route| {
        let provider = call.snapshot.providers.get(target.provider as usize);
        let model = target.model.as_ref().map_or("", ModelName::as_str);
        provider.is_some_and(|p| grant.admits(p.name.as_str(), model, route.map(ModelName::as_str)))
    });
    if any {
        return countable(call, request, plan);
    }
    let model = request.model.as_ref().map_or("without a model", ModelName::as_str);
    let message = format!("this project may not use '{model}' (projects[].models)");
    Err(GatewayError::caller(Kind::Forbidden, "model_not_allowed", message).param("model"))
}

/// The plan without the targets that a project under a budget of dollars cannot be charged for.
fn countable(call: &Call<'_>, request: &ModelRequest, mut plan: Plan) -> Result<Plan, GatewayError> {
    let Some(project) = call.caller.project(call.snapshot).filter(|project| project.counts_usd()) else {
        return Ok(plan);
    };
    let any = plan.keep(|target, _| {
        let Some(model) = &target.model else { return true };
        // Which key answers, and under which name it knows the model, is not known yet: one will do.
        call.snapshot.providers.get(target.provider as usize).is_some_and(|provider| {
            provider.keys.iter().any(|key| {
                let upstream = key.upstream_model(model);
                is_countable(project, &call.snapshot.prices, provider.name.as_str(), upstream.as_str())
            })
        })
    });
    if any { Ok(plan) } else { Err(uncountable(request.model.as_ref().map_or("", ModelName::as_str))) }
}

/// A model without a price, under a budget of dollars.
fn uncountable(model: &str) -> GatewayError {
    let message = format!("'{model}' has no price in `prices`, and this project has a budget in dollars");
    GatewayError::caller(Kind::Forbidden, "model_without_price", message).param("model")
}

/// The query as the upstream gets it: without the caller's credential, without our own `provider`,
/// and without the `api-version` of an Azure-style path, which other providers do not know.
fn upstream_query(query: Option<&str>, azure_style: bool) -> Option<String> {
    let query = query.filter(|q| !q.is_empty())?;
    let kept: SmallVec<[&str; 8]> = query
        .split('&')
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or("");
            !(name == "key" || name == "provider" || azure_style && name == "api-version")
        })
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

/// An upstream's own error, its text untouched.
fn relayed_error(refused: Refused, guard: &mut RequestGuard) -> Response<Bytes> {
    let mut response = Response::new(refused.body);
    *response.status_mut() = refused.parts.status;
    guard.line.upstream_request_id = upstream_request_id(&refused.parts.headers);
    let mut head = headers::to_caller(refused.parts.headers, false);
    head.remove(http::header::CONTENT_LENGTH);
    let model = refused.model.as_ref().map(UpstreamModel::as_str);
    headers::stamp(&mut head, &refused.key, model, guard.line.attempts);
    let would_retry = refused.parts.status.is_server_error() || refused.parts.status == StatusCode::TOO_MANY_REQUESTS;
    if would_retry && !head.contains_key(http::header::RETRY_AFTER) {
        head.insert(headers::X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    *response.headers_mut() = head;
    guard.upstream_error();
    response
}

/// A list of what upstreams keep, cut to what the caller's project made.
async fn own_things(good: Good, kept: &Kept, guard: &mut RequestGuard) -> Result<Response<Bytes>, GatewayError> {
    let Good { parts, body, attempt } = good;
    let proxy = Arc::clone(guard.proxy());
    let list = affinity::filtered(body, kept, &proxy).await?;
    guard.line.upstream_request_id = upstream_request_id(&parts.headers);
    let mut head = headers::to_caller(parts.headers, false);
    head.remove(CONTENT_LENGTH);
    headers::stamp(&mut head, attempt.key(), None, guard.line.attempts);
    let mut response = Response::new(list);
    *response.status_mut() = parts.status;
    *response.headers_mut() = head;
    Ok(response)
}

/// Commit point: from here on there is no second attempt.
fn finish_stream(good: Good, learner: Option<Box<Learner>>, mut guard: Box<RequestGuard>) -> Response<ReplyBody> {
    let Good { parts, body, attempt } = good;
    let shape = Shape::of(&parts, guard.dialect, guard.operation);
    guard.line.status = parts.status.as_u16();
    guard.line.upstream_request_id = upstream_request_id(&parts.headers);
    let mut head = headers::to_caller(parts.headers, false);
    if shape.is_stream() {
        head.remove(CONTENT_LENGTH);
    }
    let model = guard.line.upstream_model.as_ref().map(UpstreamModel::as_str);
    headers::stamp(&mut head, attempt.key(), model, guard.line.attempts);
    guard.sign(&mut head);
    guard.listens(&head, shape);
    let relay = Relay::new(body, attempt, shape, guard).learning(learner);
    let mut response = Response::new(ReplyBody::Relay(Box::new(relay)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = head;
    response
}

fn finish_whole(response: Response<Bytes>, mut guard: Box<RequestGuard>) -> Response<ReplyBody> {
    let (mut parts, bytes) = response.into_parts();
    guard.sign(&mut parts.headers);
    guard.line.status = parts.status.as_u16();
    guard.sent(bytes.len());
    Response::from_parts(parts, ReplyBody::guarded(bytes, guard))
}

/// Our own refusal, in the caller's dialect.
pub fn refuse(error: &GatewayError, mut guard: Box<RequestGuard>) -> Response<ReplyBody> {
    if error.source.is_some() && error.blame != Blame::Caller {
        tracing::debug!(request_id = guard.id.as_str(), code = error.public.code, error = ?error.source, "request failed");
    }
    let mut response = error_response::render(error, guard.dialect, &guard.id);
    if guard.line.attempts > 0 {
        response.headers_mut().insert(headers::X_KEYWAY_ATTEMPTS, HeaderValue::from(guard.line.attempts));
    }
    guard.failed(error);
    finish_whole(response, guard)
}

fn upstream_request_id(head: &HeaderMap) -> Option<HeaderValue> {
    REQUEST_IDS.iter().find_map(|name| head.get(name)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_of_the_query_goes_upstream() {
        for (query, azure, expected) in [
            (None, false, None),
            (Some(""), false, None),
            (Some("key=secret"), false, None),
            (Some("key=secret&a=1"), false, Some("a=1")),
            (Some("a=1&provider=openai&b=%2F"), false, Some("a=1&b=%2F")),
            (Some("api-version=2024-10-21&a=1"), true, Some("a=1")),
            (Some("api-version=2024-10-21"), false, Some("api-version=2024-10-21")),
            (Some("keyed=1&x"), false, Some("keyed=1&x")),
        ] {
            assert_eq!(upstream_query(query, azure).as_deref(), expected, "{query:?}");
        }
    }
}
