//! The one table that says what a fault does to the key, to its origin and to the request
//! (CONTRACT 3.5). The class of an upstream's error comes from the provider's row; nothing here
//! looks at a status.

use crate::error::{FaultClass, Kind, Sent};
use crate::health::Outcome;
use crate::id::UpstreamModel;
use crate::provider::RateScope;
use crate::snapshot::Key;
use crate::ticks::Ticks;

/// What the table needs to know beside the fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// From the provider's row.
    pub rate_scope: RateScope,
    /// This attempt was already signed anew.
    pub signed_again: bool,
}

/// What follows from a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    key: Outcome,
    scope: Scope,
    origin: Outcome,
    pub request: Next,
}

/// What the request does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Another key of the target; with none left, the next target.
    NextKey,
    /// The same pick once more, signed anew.
    SameKey,
    /// Nothing more of this target, for the upstream may be at work on the request; the author of a
    /// chain chose to go on to the next one.
    NextTarget,
    /// To the caller as it is.
    GiveUp,
}

/// What of a key an outcome holds for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Key,
    /// The model; for a call without one nothing can be said.
    Model,
    /// The model, unless the row counts by account, or there is none.
    Rate,
}

/// A row's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Answer(FaultClass),
    /// Nothing was sent.
    Unreached,
    /// Sent, and no answer came.
    Unanswered,
    /// Ours or the caller's: no upstream had a part in it.
    Local,
}

const UNTOLD: Outcome = Outcome::Untold;
const COOL: Outcome = Outcome::Cool { until: None };

/// Fault, what the key gets and for what, what its origin gets, what the request does.
///
/// An origin that answers is one that can be reached, whatever it says: its breaker counts broken
/// connections alone. Else five keys that answer 500 would hide the sixth that works.
const TABLE: [(Fault, Outcome, Scope, Outcome, Next); 10] = [
    (Fault::Answer(FaultClass::Credential), Outcome::Bench, Scope::Key, Outcome::Success, Next::NextKey),
    (Fault::Answer(FaultClass::ModelAccess), Outcome::Bench, Scope::Model, Outcome::Success, Next::NextKey),
    (Fault::Answer(FaultClass::Rate), COOL, Scope::Rate, Outcome::Success, Next::NextKey),
    (Fault::Answer(FaultClass::Content), UNTOLD, Scope::Key, Outcome::Success, Next::GiveUp),
    (Fault::Answer(FaultClass::Caller), UNTOLD, Scope::Key, Outcome::Success, Next::GiveUp),
    (Fault::Answer(FaultClass::Server), Outcome::Failure, Scope::Key, Outcome::Success, Next::NextKey),
    (Fault::Answer(FaultClass::ClockSkew), UNTOLD, Scope::Key, Outcome::Success, Next::SameKey),
    (Fault::Unreached, UNTOLD, Scope::Key, Outcome::Failure, Next::NextKey),
    (Fault::Unanswered, Outcome::Failure, Scope::Key, Outcome::Failure, Next::NextTarget),
    (Fault::Local, UNTOLD, Scope::Key, UNTOLD, Next::GiveUp),
];

/// Judges one failed attempt.
pub fn judge(kind: Kind, sent: Sent, policy: &Policy) -> Verdict {
    let fault = fault(kind, sent);
    let row = TABLE.iter().find(|(of, ..)| *of == fault);
    let (_, key, mut scope, origin, mut request) =
        row.copied().unwrap_or((fault, UNTOLD, Scope::Key, UNTOLD, Next::GiveUp));
    if scope == Scope::Rate && policy.rate_scope == RateScope::Account {
        scope = Scope::Key;
    }
    if request == Next::SameKey && policy.signed_again {
        request = Next::GiveUp;
    }
    Verdict { key, scope, origin, request }
}

fn fault(kind: Kind, sent: Sent) -> Fault {
    match (kind, sent) {
        (Kind::Answer(class), _) => Fault::Answer(class),
        (Kind::Connect, _) | (Kind::FirstByteTimeout | Kind::Broken, Sent::Never) => Fault::Unreached,
        (Kind::FirstByteTimeout | Kind::Broken, Sent::Maybe | Sent::Answered { .. }) => Fault::Unanswered,
        (
            Kind::BadRequest
            | Kind::Unauthorized
            | Kind::Forbidden
            | Kind::NotFound
            | Kind::MethodNotAllowed
            | Kind::ModelNotFound
            | Kind::BodyTooLarge
            | Kind::HeadTooLarge
            | Kind::BodyTimeout
            | Kind::UnsupportedMediaType
            | Kind::Unsupported
            | Kind::Overloaded
            | Kind::NoEligibleKey
            | Kind::AllCooling
            | Kind::CredentialsExhausted
            | Kind::Internal,
            _,
        ) => Fault::Local,
    }
}

impl Verdict {
    /// Writes the verdict into the cells of the key and of its origin. `until` is the deadline that
    /// the upstream named.
    pub fn record(&self, key: &Key, model: Option<&UpstreamModel>, until: Option<Ticks>, now: Ticks) {
        key.origin.record(None, self.origin, now);
        let outcome = match self.key {
            Outcome::Cool { .. } => Outcome::Cool { until },
            other => other,
        };
        match (self.scope, model) {
            (Scope::Model, None) => key.health.record(None, Outcome::Untold, now),
            (Scope::Model | Scope::Rate, Some(_)) => key.health.record(model, outcome, now),
            // Gives back a probe of the model before the whole key is judged.
            (Scope::Key, Some(_)) if outcome != UNTOLD => {
                key.health.record(model, Outcome::Untold, now);
                key.health.record(None, outcome, now);
            }
            (Scope::Key, Some(_)) => key.health.record(model, outcome, now),
            (Scope::Key | Scope::Rate, None) => key.health.record(None, outcome, now),
        }
    }

    /// No connection was made.
    pub(super) fn unreached(&self) -> bool {
        self.origin == Outcome::Failure && self.request == Next::NextKey
    }
}

/// A good answer began.
pub fn succeeded(key: &Key, model: Option<&UpstreamModel>, now: Ticks) {
    key.origin.record(None, Outcome::Success, now);
    key.health.record(model, Outcome::Success, now);
}

/// The attempt ended without telling anything: the caller left.
pub fn untold(key: &Key, model: Option<&UpstreamModel>, now: Ticks) {
    key.origin.record(None, Outcome::Untold, now);
    key.health.record(model, Outcome::Untold, now);
}
