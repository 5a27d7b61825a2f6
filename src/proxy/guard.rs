//! What must happen when a request ends, however it ends: written once, run on drop.
//!
//! [`AttemptGuard`] settles one upstream try with the health of its key and counts it; dropped without
//! a word the caller left, and health stays as it was. [`RequestGuard`] gives back the permit, counts the
//! generation down, feeds the meters and writes the access line.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};

use super::shape::Shape;
use super::{Proxy, headers};
use crate::dialect::{Dialect, Endpoint, Operation};
use crate::dispatch::verdict::{succeeded, untold};
use crate::dispatch::{Pick, Verdict};
use crate::error::{Blame, FaultClass, GatewayError, Kind};
use crate::id::{RequestId, UpstreamModel};
use crate::permit::Permit;
use crate::project::Charge;
use crate::rate::Tally;
use crate::snapshot::{GenerationMark, Key};
use crate::telemetry::access::STATUS_CALLER_LEFT;
use crate::telemetry::{AccessLine, AttemptOutcome, Outcome};
use crate::ticks::Ticks;

/// Code of a request whose body broke off: there is nobody left to be refused.
pub const BODY_BROKEN: &str = "broken_request";

/// One upstream try: told to the health of its key as soon as that can be said, counted once, when it
/// has ended.
pub struct AttemptGuard {
    key: Arc<Key>,
    model: Option<UpstreamModel>,
    proxy: Arc<Proxy>,
    told: bool,
    counted: bool,
    /// What it counts as when its answer goes out whole.
    whole: AttemptOutcome,
    began: Ticks,
    /// From there to the first byte of a good answer, or of an error that tells nothing of the key.
    latency: Option<Duration>,
}

impl AttemptGuard {
    pub fn new(pick: &Pick, proxy: &Arc<Proxy>) -> Self {
        let (key, model, proxy) = (Arc::clone(&pick.key), pick.model.clone(), Arc::clone(proxy));
        let began = proxy.clock.now();
        Self { key, model, proxy, told: false, counted: false, whole: AttemptOutcome::Ok, began, latency: None }
    }

    /// A good answer began: the key works, whatever becomes of the stream.
    pub fn succeeded(&mut self) {
        self.told = true;
        let now = self.proxy.clock.now();
        self.latency = Some(now.since(self.began));
        succeeded(&self.key, self.model.as_ref(), now);
    }

    /// An error is passed on of which the key learns nothing.
    pub fn passes_on(&mut self, class: FaultClass) {
        self.whole = outcome_of(Kind::Answer(class));
        self.latency = Some(self.proxy.clock.now().since(self.began));
    }

    /// The answer has ended, and not for a fault of the upstream's.
    pub fn ended(mut self) {
        self.count(self.whole);
    }

    /// The attempt failed, before or after the first byte. `until` is the deadline that the upstream
    /// named.
    pub fn failed(mut self, verdict: &Verdict, until: Option<Ticks>, kind: Kind) {
        self.told = true;
        verdict.record(&self.key, self.model.as_ref(), until, self.proxy.clock.now());
        self.count(outcome_of(kind));
    }

    /// Nothing was sent, so there is nothing to count.
    pub fn not_made(mut self) {
        self.counted = true;
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    fn count(&mut self, outcome: AttemptOutcome) {
        self.counted = true;
        let now = self.proxy.clock.now();
        match outcome {
            AttemptOutcome::Ok | AttemptOutcome::Caller | AttemptOutcome::CallerLeft => {
                let answered =
                    self.latency.or_else(|| (outcome == AttemptOutcome::Caller).then(|| now.since(self.began)));
                if answered.is_some() {
                    self.key.health.attempted(answered, now);
                }
            }
            AttemptOutcome::Credential
            | AttemptOutcome::ModelAccess
            | AttemptOutcome::Rate
            | AttemptOutcome::Server
            | AttemptOutcome::Connect
            | AttemptOutcome::Timeout
            | AttemptOutcome::Broken => self.key.health.attempted(None, now),
        }
        self.proxy.recorder.attempt(self.key.provider.as_str(), self.key.id.as_str(), outcome);
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if !self.told {
            untold(&self.key, self.model.as_ref(), self.proxy.clock.now());
        }
        // A panic of ours is counted elsewhere, and is nobody's leaving.
        if !self.counted && !std::thread::panicking() {
            self.count(AttemptOutcome::CallerLeft);
        }
    }
}

/// What a failed attempt counts as.
fn outcome_of(kind: Kind) -> AttemptOutcome {
    match kind {
        Kind::Answer(FaultClass::Credential) => AttemptOutcome::Credential,
        Kind::Answer(FaultClass::ModelAccess) => AttemptOutcome::ModelAccess,
        Kind::Answer(FaultClass::Rate) => AttemptOutcome::Rate,
        Kind::Answer(FaultClass::Content | FaultClass::Caller) => AttemptOutcome::Caller,
        Kind::Answer(FaultClass::Server | FaultClass::ClockSkew) => AttemptOutcome::Server,
        // Overloaded: there was no descriptor for a connection.
        Kind::Connect | Kind::Overloaded => AttemptOutcome::Connect,
        Kind::FirstByteTimeout => AttemptOutcome::Timeout,
        // A body that cannot be signed.
        Kind::Unsupported => AttemptOutcome::Caller,
        // The caller stopped sending his body.
        Kind::BadRequest | Kind::BodyTimeout | Kind::BodyTooLarge => AttemptOutcome::CallerLeft,
        _ => AttemptOutcome::Broken,
    }
}

/// The whole request.
pub struct RequestGuard {
    proxy: Arc<Proxy>,
    _permit: Permit,
    generation: Arc<GenerationMark>,
    pub id: RequestId,
    /// What the caller speaks.
    pub dialect: Dialect,
    pub operation: Operation,
    /// What is known so far; written when the guard is dropped.
    pub line: AccessLine,
    started: Instant,
    first_byte: Option<Instant>,
    /// Time spent waiting for upstreams before the first byte: what lies outside of it is ours.
    waited: Duration,
    /// What the request costs its project; settled when this is dropped.
    pub charge: Option<Box<Charge>>,
    /// What is left of the limit of the caller's key.
    pub tally: Option<Tally>,
    /// The upstream was asked for the usage of its stream, and the caller does not want it.
    pub asked_for_usage: bool,
    /// How it ended has been said.
    ended: bool,
}

impl RequestGuard {
    pub fn new(
        proxy: Arc<Proxy>,
        permit: Permit,
        generation: Arc<GenerationMark>,
        id: RequestId,
        method: Method,
        Endpoint { dialect, operation }: Endpoint,
    ) -> Box<Self> {
        generation.in_flight.fetch_add(1, Ordering::AcqRel);
        let mut line = AccessLine::new(proxy.clock.wall(), method);
        line.request_id = Some(id.clone());
        line.route = operation.as_str();
        line.generation = Some(generation.header.clone());
        line.logged = proxy.access_log.load(Ordering::Relaxed);
        // Boxed where it is made: it goes through several hands, and into the body at last.
        Box::new(Self {
            proxy,
            _permit: permit,
            generation,
            id,
            dialect,
            operation,
            line,
            started: Instant::now(),
            first_byte: None,
            waited: Duration::ZERO,
            charge: None,
            tally: None,
            asked_for_usage: false,
            ended: false,
        })
    }

    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    pub fn generation(&self) -> &GenerationMark {
        &self.generation
    }

    /// A key is being tried.
    pub fn tries(&mut self, pick: &Pick) {
        self.line.attempts += 1;
        self.line.provider = Some(pick.key.provider.clone());
        self.line.key = Some(pick.key.id.clone());
        self.line.upstream_model.clone_from(&pick.model);
    }

    /// The head of every answer: whose it is, and what is left to its caller.
    pub fn sign(&self, head: &mut HeaderMap) {
        headers::identify(head, self.dialect, &self.id, &self.generation);
        if let Some(tally) = &self.tally {
            tally.tell(head);
        }
    }

    /// A good answer begins, of this shape.
    pub fn listens(&mut self, head: &HeaderMap, shape: Shape) {
        let bytes_in = self.line.bytes_in;
        if let Some(charge) = &mut self.charge {
            charge.listens(shape.tap(head), shape.is_stream(), bytes_in);
        }
    }

    /// The next bytes of the answer, as the upstream sent them.
    pub fn hear(&mut self, chunk: &[u8]) {
        if let Some(charge) = &mut self.charge {
            charge.hear(chunk);
        }
    }

    /// Time that an upstream took.
    pub fn waited(&mut self, span: Duration) {
        self.waited += span;
    }

    /// A piece of the answer was handed to the connection.
    pub fn sent(&mut self, bytes: usize) {
        if self.first_byte.is_none() {
            self.first_byte = Some(Instant::now());
        }
        self.line.bytes_out += bytes as u64;
    }

    /// The answer went out whole.
    pub fn complete(&mut self) {
        self.ended = true;
    }

    /// The upstream broke off or fell silent after the first byte.
    pub fn truncated(&mut self, code: &'static str) {
        self.ended = true;
        self.line.outcome = Outcome::Truncated;
        self.line.error = code;
    }

    /// The upstream's own error goes to the caller.
    pub fn upstream_error(&mut self) {
        self.line.outcome = Outcome::UpstreamError;
        self.line.error = "upstream_error";
    }

    /// Refused or failed before the first byte.
    pub fn failed(&mut self, error: &GatewayError) {
        self.line.error = error.public.code;
        self.line.outcome = match error.blame {
            Blame::Caller if error.public.code == BODY_BROKEN => Outcome::CallerLeft,
            Blame::Caller => Outcome::Refused,
            Blame::Upstream => Outcome::UpstreamError,
            Blame::Gateway if error.kind == Kind::Internal => Outcome::GatewayError,
            Blame::Gateway => Outcome::Refused,
        };
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.generation.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.line.duration = self.started.elapsed();
        self.line.first_byte = self.first_byte.map(|at| at - self.started);
        self.line.overhead = self.line.first_byte.map(|span| span.saturating_sub(self.waited));
        if !self.ended && std::thread::panicking() {
            self.line.outcome = Outcome::GatewayError;
            self.line.error = "internal_error";
            self.line.status = 500;
        } else if !self.ended {
            self.line.outcome = Outcome::CallerLeft;
            if self.line.status == 0 {
                self.line.status = STATUS_CALLER_LEFT;
            }
        }
        self.proxy.recorder.finish(&self.line);
    }
}
