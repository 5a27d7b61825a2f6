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
    again: Again,
    load: Load,
}

/// Whether the same key may be asked again by the same request, within `max_retries`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    Never,
    /// When every other key of the target has had its turn.
    AfterOthers,
}

/// What another attempt means to the origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Load {
    /// It did no work, or is about to refuse the next key as cheaply: not counted.
    Free,
    /// One more of what it just failed at: counted by its retry budget.
    Counted,
}

/// What the request does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Another key of the target; with none left, the next target.
    NextKey,
    /// The same pick once more, signed anew.
    SameKey,
    /// Nothing more of this target but for `max_retries`, for the upstream may be at work on the
    /// request; the author of a chain chose to go on to the next one.
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

/// One row: fault, what the key gets and for what, what its origin gets, what the request does, and
/// at what price.
type Row = (Fault, Outcome, Scope, Outcome, Next, Again, Load);

/// The rows of CONTRACT 3.5.
///
/// An origin that answers is one that can be reached, whatever it says, and one that took a request
/// and did not answer was reached: its breaker counts failed connections alone. Else one key that
/// fails or hangs five times would hide its neighbour that works.
const TABLE: [Row; 10] = {
    use Again::{AfterOthers, Never};
    use Fault::{Answer, Local, Unanswered, Unreached};
    use FaultClass::{Caller, ClockSkew, Content, Credential, ModelAccess, Rate, Server};
    use Load::{Counted, Free};
    use Next::{GiveUp, NextKey, NextTarget, SameKey};
    use Outcome::{Bench, Failure, Success};
    use Scope::{Key, Model};
    [
        (Answer(Credential), Bench, Key, Success, NextKey, Never, Free),
        (Answer(ModelAccess), Bench, Model, Success, NextKey, Never, Free),
        (Answer(Rate), COOL, Scope::Rate, Success, NextKey, AfterOthers, Free),
        (Answer(Content), UNTOLD, Key, Success, GiveUp, Never, Free),
        (Answer(Caller), UNTOLD, Key, Success, GiveUp, Never, Free),
        (Answer(Server), Failure, Key, Success, NextKey, AfterOthers, Counted),
        (Answer(ClockSkew), UNTOLD, Key, Success, SameKey, Never, Free),
        (Unreached, UNTOLD, Key, Failure, NextKey, AfterOthers, Free),
        (Unanswered, Failure, Key, UNTOLD, NextTarget, AfterOthers, Counted),
        (Local, UNTOLD, Key, UNTOLD, GiveUp, Never, Free),
    ]
};
const NOTHING: Row = (Fault::Local, UNTOLD, Scope::Key, UNTOLD, Next::GiveUp, Again::Never, Load::Free);

/// Judges one failed attempt.
pub fn judge(kind: Kind, sent: Sent, policy: &Policy) -> Verdict {
    let fault = fault(kind, sent);
    let row = TABLE.iter().find(|(of, ..)| *of == fault);
    let (_, key, mut scope, origin, mut request, again, load) = *row.unwrap_or(&NOTHING);
    if scope == Scope::Rate && policy.rate_scope == RateScope::Account {
        scope = Scope::Key;
    }
    if request == Next::SameKey && policy.signed_again {
        request = Next::GiveUp;
    }
    Verdict { key, scope, origin, request, again, load }
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
            | Kind::RateLimited
            | Kind::BudgetExceeded
            | Kind::CredentialsExhausted
            | Kind::Internal,
            _,
        ) => Fault::Local,
    }
}

impl Verdict {
    /// Writes the verdict into the cells of the key and of its origin. `until` is the deadline that
    /// the upstream named; beside a failure it is one that no request will wait for, hence the key
    /// cools besides.
    pub fn record(&self, key: &Key, model: Option<&UpstreamModel>, until: Option<Ticks>, now: Ticks) {
        key.origin.breaker.record(None, self.origin, now);
        if self.key == Outcome::Failure && until.is_some() {
            key.health.record(model, Outcome::Cool { until }, now);
        }
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
        self.origin == Outcome::Failure
    }

    pub(super) fn again(&self) -> Again {
        self.again
    }

    pub(super) fn load(&self) -> Load {
        self.load
    }
}

/// A good answer began.
pub fn succeeded(key: &Key, model: Option<&UpstreamModel>, now: Ticks) {
    key.origin.breaker.record(None, Outcome::Success, now);
    key.health.record(model, Outcome::Success, now);
}

/// The attempt ended without telling anything: the caller left.
pub fn untold(key: &Key, model: Option<&UpstreamModel>, now: Ticks) {
    key.origin.breaker.record(None, Outcome::Untold, now);
    key.health.record(model, Outcome::Untold, now);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::health::{Admission, Why};
    use crate::snapshot::fixture::key;

    const ANSWERED: Sent = Sent::Answered { status: 400 };

    fn at(seconds: u64) -> Ticks {
        Ticks::default().after(Duration::from_secs(1000 + seconds))
    }

    fn why(admission: Admission) -> Option<Why> {
        match admission {
            Admission::Barred { why, .. } => Some(why),
            _ => None,
        }
    }

    /// CONTRACT 3.5: what is barred after one fault (this model, other models) and what comes next.
    #[test]
    fn the_table() {
        let by_model = Policy { rate_scope: RateScope::Model, signed_again: false };
        let by_account = Policy { rate_scope: RateScope::Account, signed_again: false };
        let again = Policy { rate_scope: RateScope::Model, signed_again: true };
        let answer = |class| (Kind::Answer(class), ANSWERED);
        for ((kind, sent), policy, this, others, next) in [
            (answer(FaultClass::Credential), by_model, Some(Why::Unauthorized), Some(Why::Unauthorized), Next::NextKey),
            (answer(FaultClass::ModelAccess), by_model, Some(Why::ModelAccess), None, Next::NextKey),
            (answer(FaultClass::Rate), by_model, Some(Why::Cooling), None, Next::NextKey),
            (answer(FaultClass::Rate), by_account, Some(Why::Cooling), Some(Why::Cooling), Next::NextKey),
            (answer(FaultClass::Content), by_model, None, None, Next::GiveUp),
            (answer(FaultClass::Caller), by_model, None, None, Next::GiveUp),
            (answer(FaultClass::Server), by_model, None, None, Next::NextKey),
            (answer(FaultClass::ClockSkew), by_model, None, None, Next::SameKey),
            (answer(FaultClass::ClockSkew), again, None, None, Next::GiveUp),
            ((Kind::Connect, Sent::Never), by_model, None, None, Next::NextKey),
            ((Kind::Broken, Sent::Never), by_model, None, None, Next::NextKey),
            ((Kind::Broken, Sent::Maybe), by_model, None, None, Next::NextTarget),
            ((Kind::FirstByteTimeout, Sent::Maybe), by_model, None, None, Next::NextTarget),
            ((Kind::BodyTimeout, Sent::Maybe), by_model, None, None, Next::GiveUp),
            ((Kind::Internal, Sent::Never), by_model, None, None, Next::GiveUp),
        ] {
            let key = key("k");
            let model = UpstreamModel::new("m");
            let verdict = judge(kind, sent, &policy);
            let until = (kind == Kind::Answer(FaultClass::Rate)).then(|| at(20));
            verdict.record(&key, Some(&model), until, at(0));
            assert_eq!(verdict.request, next, "{kind:?} {sent:?}");
            assert_eq!(why(key.health.look(Some(&model), at(1))), this, "{kind:?}");
            assert_eq!(why(key.health.look(Some(&UpstreamModel::new("other")), at(1))), others, "{kind:?}");
            assert_eq!(key.origin.breaker.look(None, at(1)), Admission::Free, "{kind:?}");
        }
    }

    #[test]
    fn each_fault_has_one_row() {
        let faults: HashSet<String> = TABLE.iter().map(|(fault, ..)| format!("{fault:?}")).collect();
        assert_eq!(faults.len(), TABLE.len());
        for class in [
            FaultClass::Credential,
            FaultClass::ModelAccess,
            FaultClass::Rate,
            FaultClass::Content,
            FaultClass::Caller,
            FaultClass::Server,
            FaultClass::ClockSkew,
        ] {
            assert!(TABLE.iter().any(|(fault, ..)| *fault == Fault::Answer(class)), "{class:?}");
        }
    }

    /// Which cell's breaker opens after five of the same.
    #[test]
    fn whose_breaker() {
        let policy = Policy { rate_scope: RateScope::Model, signed_again: false };
        for (kind, sent, of_key, of_origin) in [
            (Kind::Answer(FaultClass::Server), Sent::Answered { status: 503 }, true, false),
            (Kind::Connect, Sent::Never, false, true),
            (Kind::Broken, Sent::Maybe, true, false),
            (Kind::FirstByteTimeout, Sent::Maybe, true, false),
            (Kind::Answer(FaultClass::Caller), ANSWERED, false, false),
        ] {
            let key = key("k");
            for _ in 0..5 {
                judge(kind, sent, &policy).record(&key, None, None, at(0));
            }
            let open = |admission| why(admission) == Some(Why::Breaker);
            assert_eq!(open(key.health.look(None, at(1))), of_key, "{kind:?}");
            assert_eq!(open(key.origin.breaker.look(None, at(1))), of_origin, "{kind:?}");
        }
    }

    /// A failure whose upstream says "in half an hour" rests the key for this model until then.
    #[test]
    fn a_failure_with_a_date() {
        let policy = Policy { rate_scope: RateScope::Model, signed_again: false };
        let (key, model) = (key("k"), UpstreamModel::new("m"));
        let verdict = judge(Kind::Answer(FaultClass::Server), Sent::Answered { status: 503 }, &policy);
        verdict.record(&key, Some(&model), Some(at(1800)), at(0));
        let until = Admission::Barred { until: at(1800), why: Why::Cooling };
        assert_eq!(key.health.look(Some(&model), at(1)), until);
        assert_eq!(key.health.look(None, at(1)), Admission::Free);
    }

    #[test]
    fn calls_without_a_model() {
        let policy = Policy { rate_scope: RateScope::Model, signed_again: false };
        let after = |class| {
            let key = key("k");
            judge(Kind::Answer(class), ANSWERED, &policy).record(&key, None, Some(at(9)), at(0));
            key.health.look(None, at(1))
        };
        assert_eq!(after(FaultClass::ModelAccess), Admission::Free, "nothing to bar");
        assert_eq!(after(FaultClass::Rate), Admission::Barred { until: at(9), why: Why::Cooling });
        assert_eq!(why(after(FaultClass::Credential)), Some(Why::Unauthorized));
    }

    #[test]
    fn a_probe_is_given_back_whatever_happens() {
        let policy = Policy { rate_scope: RateScope::Model, signed_again: false };
        let model = UpstreamModel::new("m");
        for end in 0..4 {
            let key = key("k");
            key.health.record(None, crate::health::Outcome::Bench, at(0));
            assert_eq!(key.health.admits(Some(&model), at(600)), Admission::Probe);
            match end {
                0 => untold(&key, Some(&model), at(601)),
                1 => {
                    judge(Kind::Answer(FaultClass::Caller), ANSWERED, &policy).record(&key, Some(&model), None, at(601))
                }
                2 => judge(Kind::Connect, Sent::Never, &policy).record(&key, Some(&model), None, at(601)),
                _ => judge(Kind::Answer(FaultClass::Rate), ANSWERED, &policy).record(&key, Some(&model), None, at(601)),
            }
            assert_eq!(key.health.look(None, at(601)), Admission::Probe, "{end}");
        }
    }
}
