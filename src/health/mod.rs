//! What is remembered of a key or an origin beyond a snapshot: bars, benches, cool-downs, breakers.
//!
//! Atomic cells behind `Arc`s, reached from a `Key` without a map or a lock. Knows no provider, no
//! request, no fault and no clock: what an upstream's error means is decided by
//! `dispatch/verdict.rs`, time comes in as [`Ticks`].

mod bar;
mod budget;
#[cfg(test)]
mod property_tests;
pub mod registry;
mod windows;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bar::{Bar, ModelBars};
pub use budget::RetryBudget;
pub use registry::Registry;
use windows::Windows;
pub use windows::{Window, WindowSeen};

use crate::id::UpstreamModel;
use crate::limits::{
    BENCH_SPAN, BREAKER_FAILURES, BREAKER_SPAN_MAX, BREAKER_SPAN_MIN, COOL_DEFAULT, COOL_MAX, COOL_MIN,
};
use crate::ticks::Ticks;

/// Whether a key may be used for a model now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Free,
    /// Back from a bar: takes this share of its weight, in thousandths.
    Ramping {
        permille: u16,
    },
    /// Half-open: this request is the single probe (from `admits`), or would be (from `look`).
    Probe,
    Barred {
        until: Ticks,
        why: Why,
    },
}

/// Why a key is barred; also the `status` of CONTRACT 2.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Why {
    /// The upstream refused the credential.
    Unauthorized,
    /// The upstream refused this model to this key.
    ModelAccess,
    /// Rate limited until a time.
    Cooling,
    /// Too many failures in a row.
    Breaker,
    /// Half-open, and another request is the probe.
    Probing,
}

/// How one attempt ended, as the cell that it concerns sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A good answer, or for an origin any answer at all.
    Success,
    /// The credential, or with a model this model, is refused.
    Bench,
    /// Too many requests, until the deadline that the upstream named.
    Cool { until: Option<Ticks> },
    /// Counts for the breaker.
    Failure,
    /// Nothing is known: the caller left, or the fault was his. Gives a probe back.
    Untold,
}

/// What is known of a key as a whole, for views and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// No answer so far.
    Unknown,
    Good,
    /// The last model list could not be had.
    ListModelsFailed {
        why: ListFault,
    },
    Barred {
        until: Ticks,
        why: Why,
    },
    /// The bar's time is over, its probe is still to come.
    HalfOpen {
        why: Why,
    },
}

/// Why a model list could not be had: all that anybody but the log is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ListFault {
    Unauthorized,
    Unreachable,
    Timeout,
    Unexpected,
}

const SEEN_NOTHING: u8 = 0;
const SEEN_SUCCESS: u8 = 1;
const SEEN_UNAUTHORIZED: u8 = 2;
const SEEN_UNREACHABLE: u8 = 3;
const SEEN_TIMEOUT: u8 = 4;
const SEEN_UNEXPECTED: u8 = 5;

/// All that is remembered of one origin.
#[derive(Debug, Default)]
pub struct OriginHealth {
    /// Whether it can be reached.
    pub breaker: KeyHealth,
    pub retries: RetryBudget,
}

/// All that is remembered of one key; the breaker of an origin is of the same make.
#[derive(Debug, Default)]
pub struct KeyHealth {
    whole: Bar,
    /// Made at the first bar of a model: a thousand keys without one cost nothing.
    models: OnceLock<Box<ModelBars>>,
    /// Failures since the last success.
    streak: AtomicU32,
    /// Times that the breaker opened since the last success.
    openings: AtomicU32,
    seen: AtomicU8,
    /// Made at the first attempt: a key that is never used costs nothing.
    windows: OnceLock<Box<Windows>>,
    /// When an attempt ended last, in ticks and one more; 0: never.
    last_attempt: AtomicU64,
    /// An API put another secret in its place: no attempt begins with this one.
    rotated: AtomicBool,
}

impl KeyHealth {
    /// What [`admits`](Self::admits) would say, without taking the probe.
    pub fn look(&self, model: Option<&UpstreamModel>, now: Ticks) -> Admission {
        let whole = self.whole.look(now);
        let Some(bar) = self.model_bar(model) else { return whole };
        stricter(whole, bar.look(now))
    }

    /// Whether the key may be used for the model. [`Admission::Probe`] is given to one request at a
    /// time, which owes a [`record`](Self::record).
    pub fn admits(&self, model: Option<&UpstreamModel>, now: Ticks) -> Admission {
        let Some(bar) = self.model_bar(model) else { return self.whole.admits(now) };
        // Looked at first, so that the probe of one bar is not taken while the other one stands.
        if let barred @ Admission::Barred { .. } = stricter(self.whole.look(now), bar.look(now)) {
            return barred;
        }
        let whole = self.whole.admits(now);
        if matches!(whole, Admission::Barred { .. }) {
            return whole;
        }
        let both = stricter(whole, bar.admits(now));
        if whole == Admission::Probe && matches!(both, Admission::Barred { .. }) {
            self.whole.release();
        }
        both
    }

    /// The end of an attempt. `model` narrows a bench or a cool-down to one model of the key.
    pub fn record(&self, model: Option<&UpstreamModel>, outcome: Outcome, now: Ticks) {
        match outcome {
            Outcome::Success => self.succeeded(model, now),
            Outcome::Bench => {
                let why = if model.is_some() { Why::ModelAccess } else { Why::Unauthorized };
                self.raise(model, now.after(BENCH_SPAN), why, now);
            }
            Outcome::Cool { until } => {
                let until = until.unwrap_or_else(|| now.after(COOL_DEFAULT));
                let until = until.clamp(now.after(COOL_MIN), now.after(COOL_MAX));
                self.raise(model, until, Why::Cooling, now);
            }
            Outcome::Failure => self.failed(now),
            Outcome::Untold => {
                self.whole.release();
                if let Some(bar) = self.model_bar(model) {
                    bar.release();
                }
            }
        }
    }

    /// How the last asking for a model list ended.
    pub fn listed(&self, result: Result<(), ListFault>) {
        let seen = match result {
            Ok(()) => SEEN_SUCCESS,
            Err(ListFault::Unauthorized) => SEEN_UNAUTHORIZED,
            Err(ListFault::Unreachable) => SEEN_UNREACHABLE,
            Err(ListFault::Timeout) => SEEN_TIMEOUT,
            Err(ListFault::Unexpected) => SEEN_UNEXPECTED,
        };
        self.seen.store(seen, Ordering::Relaxed);
    }

    /// The upstream took the credential when it was asked for its models: a bench that the key is
    /// under for its credential ends. A rate limit or a breaker is about something else and stays.
    pub fn vouched(&self, now: Ticks) {
        self.whole.pardon(Why::Unauthorized, now);
    }

    /// An attempt with the key ended: with a first byte after `good`, or in a failure of the upstream's.
    pub fn attempted(&self, good: Option<Duration>, now: Ticks) {
        self.windows.get_or_init(Box::default).add(good, now);
        self.last_attempt.store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    /// Lets go of what is only worth its memory while the key serves: a state that is kept for a key
    /// that may come back must be small.
    pub(super) fn shed(&mut self) {
        self.windows.take();
    }

    /// How the attempts went lately.
    pub fn window(&self, window: Window, now: Ticks) -> WindowSeen {
        self.windows.get().map(|windows| windows.seen(window, now)).unwrap_or_default()
    }

    pub fn last_attempt(&self) -> Option<Ticks> {
        self.last_attempt.load(Ordering::Relaxed).checked_sub(1).map(Ticks)
    }

    /// From now on requests of older generations take the key that stands in its place.
    pub fn rotate(&self) {
        self.rotated.store(true, Ordering::Release);
    }

    pub fn is_rotated(&self) -> bool {
        self.rotated.load(Ordering::Acquire)
    }

    pub fn standing(&self, now: Ticks) -> Standing {
        match (self.whole.look(now), self.whole.why()) {
            (Admission::Barred { until, why }, _) => Standing::Barred { until, why },
            (Admission::Probe, Some(why)) => Standing::HalfOpen { why },
            _ => {
                let failed = |why| Standing::ListModelsFailed { why };
                match self.seen.load(Ordering::Relaxed) {
                    SEEN_NOTHING => Standing::Unknown,
                    SEEN_UNAUTHORIZED => failed(ListFault::Unauthorized),
                    SEEN_UNREACHABLE => failed(ListFault::Unreachable),
                    SEEN_TIMEOUT => failed(ListFault::Timeout),
                    SEEN_UNEXPECTED => failed(ListFault::Unexpected),
                    _ => Standing::Good,
                }
            }
        }
    }

    fn succeeded(&self, model: Option<&UpstreamModel>, now: Ticks) {
        self.whole.lift(now);
        if let Some(bar) = self.model_bar(model) {
            bar.lift(now);
        }
        // Read before written: the good path stays free of stores that other cores would see.
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
        if self.openings.load(Ordering::Relaxed) != 0 && self.whole.why() != Some(Why::Breaker) {
            self.openings.store(0, Ordering::Relaxed);
        }
        if self.seen.load(Ordering::Relaxed) != SEEN_SUCCESS {
            self.seen.store(SEEN_SUCCESS, Ordering::Relaxed);
        }
    }

    fn raise(&self, model: Option<&UpstreamModel>, until: Ticks, why: Why, now: Ticks) {
        match model {
            None => self.whole.raise(until, why),
            Some(model) => {
                self.models.get_or_init(Box::default).raise(model, until, why, now);
                if why == Why::ModelAccess {
                    // Known and refused one model: the key as such works.
                    self.whole.lift(now);
                }
                // A 429 proves nothing of the kind, but the probe is over.
                self.whole.release();
            }
        }
    }

    fn failed(&self, now: Ticks) {
        match self.whole.look(now) {
            // While half-open one failure is enough: it is the probe's, or as good as.
            Admission::Probe | Admission::Barred { why: Why::Probing, .. } => {}
            // Of a request that began before the bar: what it says is known, and a crowd of them must
            // not double the rest again and again.
            Admission::Barred { .. } => return,
            Admission::Free | Admission::Ramping { .. } => {
                // Of those that fail at the same moment one opens it, hence no `>=`.
                if self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1) != BREAKER_FAILURES {
                    return;
                }
            }
        }
        self.streak.store(0, Ordering::Relaxed);
        let openings = self.openings.fetch_add(1, Ordering::Relaxed).min(16);
        let span = BREAKER_SPAN_MIN.saturating_mul(1 << openings).min(BREAKER_SPAN_MAX);
        self.whole.raise(now.after(span), Why::Breaker);
    }

    fn model_bar(&self, model: Option<&UpstreamModel>) -> Option<&Bar> {
        // In this order: without any model bar, which is nearly always, nothing is hashed.
        self.models.get()?.find(model?)
    }
}

/// The admission that allows less.
pub fn stricter(a: Admission, b: Admission) -> Admission {
    let rank = |admission| match admission {
        Admission::Free => (0, 0),
        // Less of a share is stricter.
        Admission::Ramping { permille } => (1, u64::from(1000 - permille.min(1000))),
        Admission::Probe => (2, 0),
        Admission::Barred { until: Ticks(until), .. } => (3, until),
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::limits::{MODEL_BARS_MAX, PROBE_SPAN, RAMP_SPAN};

    const START: Ticks = Ticks(1_000_000);

    fn model(name: &str) -> UpstreamModel {
        UpstreamModel::new(name)
    }

    fn at(seconds: u64) -> Ticks {
        START.after(Duration::from_secs(seconds))
    }

    fn barred(admission: Admission) -> Option<(Why, u64)> {
        match admission {
            Admission::Barred { until, why } => Some((why, until.since(START).as_secs())),
            _ => None,
        }
    }

    #[test]
    fn fresh() {
        let health = KeyHealth::default();
        assert_eq!(health.admits(None, Ticks(0)), Admission::Free);
        assert_eq!(health.admits(Some(&model("m")), START), Admission::Free);
        assert_eq!(health.standing(START), Standing::Unknown);
        health.record(None, Outcome::Success, START);
        assert_eq!(health.standing(START), Standing::Good);
        for why in [ListFault::Unauthorized, ListFault::Unreachable, ListFault::Timeout, ListFault::Unexpected] {
            health.listed(Err(why));
            assert_eq!(health.standing(START), Standing::ListModelsFailed { why });
        }
        health.record(None, Outcome::Success, START);
        assert_eq!(health.standing(START), Standing::Good);
    }

    #[test]
    fn bench_and_single_probe() {
        let health = KeyHealth::default();
        health.record(None, Outcome::Bench, START);
        assert_eq!(barred(health.admits(None, at(599))), Some((Why::Unauthorized, 600)));
        assert_eq!(barred(health.admits(Some(&model("m")), at(1))), Some((Why::Unauthorized, 600)));
        assert_eq!(health.standing(at(1)), Standing::Barred { until: at(600), why: Why::Unauthorized });
        // A success of a request that began before does not end the bench.
        health.record(None, Outcome::Success, at(1));
        assert!(barred(health.admits(None, at(2))).is_some());

        assert_eq!(health.look(None, at(600)), Admission::Probe);
        assert_eq!(health.standing(at(600)), Standing::HalfOpen { why: Why::Unauthorized });
        assert_eq!(health.admits(None, at(600)), Admission::Probe);
        assert_eq!(barred(health.admits(None, at(601))).map(|(why, _)| why), Some(Why::Probing));
        // Refused again: benched again.
        health.record(None, Outcome::Bench, at(602));
        assert_eq!(barred(health.admits(None, at(603))), Some((Why::Unauthorized, 1202)));
        // And good at last: back by and by.
        assert_eq!(health.admits(None, at(1202)), Admission::Probe);
        health.record(None, Outcome::Success, at(1203));
        assert_eq!(health.admits(None, at(1203)), Admission::Ramping { permille: 100 });
        assert_eq!(health.admits(None, at(1208)), Admission::Ramping { permille: 550 });
        assert_eq!(health.admits(None, at(1203).after(RAMP_SPAN)), Admission::Free);
    }

    #[test]
    fn a_probe_that_never_reports() {
        let health = KeyHealth::default();
        health.record(None, Outcome::Bench, START);
        assert_eq!(health.admits(None, at(600)), Admission::Probe);
        assert!(barred(health.admits(None, at(600))).is_some());
        health.record(None, Outcome::Untold, at(601));
        assert_eq!(health.admits(None, at(601)), Admission::Probe, "the caller left: the next one probes");
        assert_eq!(health.admits(None, at(601).after(PROBE_SPAN)), Admission::Probe, "lost: the next one probes");
    }

    #[test]
    fn cool_downs() {
        let health = KeyHealth::default();
        let cool = |seconds: u64, now: u64| health.record(None, Outcome::Cool { until: Some(at(seconds)) }, at(now));
        cool(20, 0);
        // The longest deadline wins, whatever the order.
        cool(10, 1);
        assert_eq!(barred(health.admits(None, at(19))), Some((Why::Cooling, 20)));
        cool(40, 2);
        assert_eq!(barred(health.admits(None, at(19))), Some((Why::Cooling, 40)));
        // The upstream said when: no probe, but not the whole share at once.
        assert_eq!(health.admits(None, at(40)), Admission::Ramping { permille: 100 });
        assert_eq!(health.admits(None, at(50)), Admission::Free);
        // Clamped, and the default.
        cool(100_000, 100);
        assert_eq!(barred(health.admits(None, at(101))), Some((Why::Cooling, 3700)));
        let other = KeyHealth::default();
        other.record(None, Outcome::Cool { until: Some(START) }, START);
        assert_eq!(barred(other.look(None, START)), Some((Why::Cooling, 1)));
        let third = KeyHealth::default();
        third.record(None, Outcome::Cool { until: None }, START);
        assert_eq!(barred(third.look(None, START)), Some((Why::Cooling, 30)));
    }

    #[test]
    fn bars_of_single_models() {
        let health = KeyHealth::default();
        let (a, b) = (model("a"), model("b"));
        health.record(Some(&a), Outcome::Bench, START);
        health.record(Some(&b), Outcome::Cool { until: Some(at(5)) }, START);
        assert_eq!(barred(health.admits(Some(&a), at(1))), Some((Why::ModelAccess, 600)));
        assert_eq!(barred(health.admits(Some(&b), at(1))), Some((Why::Cooling, 5)));
        assert_eq!(health.admits(Some(&model("c")), at(1)), Admission::Free);
        assert_eq!(health.admits(None, at(1)), Admission::Free);
        assert_eq!(health.standing(at(1)), Standing::Unknown);
        assert_eq!(health.admits(Some(&a), at(600)), Admission::Probe);
        assert!(barred(health.admits(Some(&a), at(600))).is_some());
        health.record(Some(&a), Outcome::Success, at(601));
        assert_eq!(health.admits(Some(&a), at(601).after(RAMP_SPAN)), Admission::Free);
    }

    #[test]
    fn one_model_too_many() {
        let health = KeyHealth::default();
        for n in 0..MODEL_BARS_MAX as u64 {
            let until = Outcome::Cool { until: Some(at(100 + n)) };
            health.record(Some(&model(&n.to_string())), until, START);
        }
        // One that would end before all others is not kept; a longer one replaces the first to end.
        health.record(Some(&model("short")), Outcome::Cool { until: Some(at(50)) }, START);
        assert_eq!(health.look(Some(&model("short")), START), Admission::Free);
        health.record(Some(&model("long")), Outcome::Bench, START);
        assert!(barred(health.look(Some(&model("long")), START)).is_some());
        assert_eq!(health.look(Some(&model("0")), START), Admission::Free);
        assert!(barred(health.look(Some(&model("1")), START)).is_some());
        // Ended bars give way first.
        health.record(Some(&model("new")), Outcome::Cool { until: Some(at(130)) }, at(120));
        assert!(barred(health.look(Some(&model("new")), at(121))).is_some());
        assert!(barred(health.look(Some(&model("31")), at(121))).is_some());
    }

    #[test]
    fn breaker() {
        let health = KeyHealth::default();
        let fail = |times: u32, now: u64| (0..times).for_each(|_| health.record(None, Outcome::Failure, at(now)));
        fail(BREAKER_FAILURES - 1, 0);
        health.record(None, Outcome::Success, START);
        fail(BREAKER_FAILURES - 1, 0);
        assert_eq!(health.admits(None, START), Admission::Free, "only failures in a row count");
        fail(1, 0);
        assert_eq!(barred(health.admits(None, at(4))), Some((Why::Breaker, 5)));
        // Each failed probe doubles the rest, up to the bound.
        let mut now = 5;
        for span in [10, 20, 40, 60, 60] {
            assert_eq!(health.admits(None, at(now)), Admission::Probe, "at {now}");
            fail(1, now);
            now += span;
            assert_eq!(barred(health.admits(None, at(now - 1))), Some((Why::Breaker, now)));
        }
        assert_eq!(health.admits(None, at(now)), Admission::Probe);
        // A 429 is no proof of health, but gives the probe back.
        health.record(Some(&model("m")), Outcome::Cool { until: None }, at(now));
        assert_eq!(health.admits(None, at(now)), Admission::Probe);
        health.record(None, Outcome::Success, at(now));
        health.record(None, Outcome::Success, at(now));
        assert!(matches!(health.admits(None, at(now)), Admission::Ramping { .. }));
        // Healed: the next opening is short again.
        fail(BREAKER_FAILURES, now);
        assert_eq!(barred(health.admits(None, at(now))), Some((Why::Breaker, now + 5)));
    }

    /// Forty requests were under way when the upstream went down: their failures are one outage.
    #[test]
    fn a_crowd_of_failures_is_one_opening() {
        let health = KeyHealth::default();
        (0..40).for_each(|n| health.record(None, Outcome::Failure, START.after(Duration::from_millis(n))));
        assert_eq!(barred(health.look(None, at(1))), Some((Why::Breaker, 5)));
        // Half-open: the first of the late ones closes it again, the rest says nothing new.
        (0..9).for_each(|_| health.record(None, Outcome::Failure, at(6)));
        assert_eq!(barred(health.look(None, at(7))), Some((Why::Breaker, 16)));
    }

    /// A list of models proves the credential, and nothing else.
    #[test]
    fn vouched_for() {
        let health = KeyHealth::default();
        health.record(None, Outcome::Bench, START);
        health.vouched(at(1));
        assert!(matches!(health.look(None, at(1)), Admission::Ramping { .. }));
        health.record(None, Outcome::Bench, at(2));
        assert_eq!(barred(health.look(None, at(3))), Some((Why::Unauthorized, 602)), "and benched again");
        for outcome in [Outcome::Cool { until: None }, Outcome::Failure] {
            let health = KeyHealth::default();
            (0..BREAKER_FAILURES).for_each(|_| health.record(None, outcome, START));
            let before = health.look(None, at(1));
            health.vouched(at(1));
            assert_eq!(health.look(None, at(1)), before, "{outcome:?}");
        }
        let model = model("m");
        health.record(Some(&model), Outcome::Bench, at(2));
        health.vouched(at(3));
        assert_eq!(barred(health.look(Some(&model), at(3))).map(|(why, _)| why), Some(Why::ModelAccess));
    }

    #[test]
    fn one_probe_among_many_threads() {
        for round in 0..50 {
            let health = Arc::new(KeyHealth::default());
            health.record(None, Outcome::Bench, START);
            if round % 2 == 0 {
                health.record(Some(&model("m")), Outcome::Bench, START);
            }
            let ask = |health: Arc<KeyHealth>| move || health.admits(Some(&model("m")), at(700)) == Admission::Probe;
            let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(ask(Arc::clone(&health)))).collect();
            let probes = threads.into_iter().map(|t| t.join().unwrap()).filter(|probe| *probe).count();
            assert_eq!(probes, 1);
        }
    }
}
