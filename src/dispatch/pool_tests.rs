//! Whole requests over random pools: real plan, real draw, real verdicts, in virtual time.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::plan::tests::ask;
use super::verdict::succeeded;
use super::{Dice, ModelRequest, NobodyLeft, Pick, Policy, judge, plan};
use crate::error::{FaultClass, Kind, Sent};
use crate::health::OriginHealth;
use crate::id::ModelName;
use crate::limits::{CONNECTS_PER_ORIGIN_MAX, RETRY_FLOOR};
use crate::provider::RateScope;
use crate::snapshot::fixture::{key, provider, snapshot};
use crate::snapshot::{Key, Provider, Snapshot};
use crate::ticks::Ticks;

const POLICY: Policy = Policy { rate_scope: RateScope::Model, signed_again: false };
/// Origins of one pool: the first answers, the others cannot be reached.
const ORIGINS: usize = 4;
const CREDENTIAL: Kind = Kind::Answer(FaultClass::Credential);
const MODEL_ACCESS: Kind = Kind::Answer(FaultClass::ModelAccess);
const RATE: Kind = Kind::Answer(FaultClass::Rate);
const SERVER: Kind = Kind::Answer(FaultClass::Server);

/// As many, or thirty times as many with `KEYWAY_LONG=1`.
pub(super) fn scaled(count: u32) -> u32 {
    if std::env::var_os("KEYWAY_LONG").is_some() { count * 30 } else { count }
}

fn at(ms: u64) -> Ticks {
    Ticks(1_000_000 + ms)
}

fn sent(kind: Kind) -> Sent {
    match kind {
        Kind::Connect => Sent::Never,
        Kind::FirstByteTimeout | Kind::Broken => Sent::Maybe,
        _ => Sent::Answered { status: 400 },
    }
}

/// What became of one request.
#[derive(Debug, Default)]
struct Run {
    /// Names of the keys asked, in order.
    asked: Vec<String>,
    /// Waits before attempts, in milliseconds.
    waits: Vec<u128>,
    served_by: Option<String>,
    nobody: Option<NobodyLeft>,
}

/// Runs a request to its end. `answer` says what a key does: `None` is a good answer.
fn run(
    world: &Snapshot,
    request: &ModelRequest,
    now: &mut Ticks,
    dice: &mut Dice,
    mut answer: impl FnMut(&Pick) -> Option<(Kind, Option<Duration>)>,
) -> Run {
    let mut run = Run::default();
    let mut plan = plan(world, request).expect("a plan");
    loop {
        let pick = match plan.next(world, *now, dice) {
            Ok(pick) => pick,
            Err(nobody) => {
                run.nobody = Some(nobody);
                return run;
            }
        };
        *now = now.after(pick.wait);
        if !pick.wait.is_zero() && pick.is_stopped(*now) {
            continue;
        }
        run.asked.push(pick.key.name.to_string());
        run.waits.push(pick.wait.as_millis());
        let Some((kind, named)) = answer(&pick) else {
            succeeded(&pick.key, pick.model.as_ref(), *now);
            run.served_by = Some(pick.key.name.to_string());
            return run;
        };
        let verdict = judge(kind, sent(kind), &POLICY);
        verdict.record(&pick.key, pick.model.as_ref(), named.map(|span| now.after(span)), *now);
        if !plan.refused(world, &pick, &verdict, named, *now) {
            return run;
        }
    }
}

fn one(keys: Vec<Key>) -> Snapshot {
    snapshot(vec![provider("openai", keys)])
}

/// A pool: of each key its fault and its origin, and which keys work.
#[derive(Clone, Debug)]
struct Pool {
    faults: Vec<Kind>,
    good: HashSet<usize>,
    priorities: Vec<u16>,
    weights: Vec<f64>,
    dead_origins: Vec<usize>,
    seed: u64,
}

fn pools() -> impl Strategy<Value = Pool> {
    let fault = prop_oneof![Just(CREDENTIAL), Just(MODEL_ACCESS), Just(RATE), Just(Kind::Connect)];
    (1usize..40).prop_flat_map(move |count| {
        (
            proptest::collection::vec(fault.clone(), count),
            proptest::collection::hash_set(0..count, 1..=count.min(3)),
            proptest::collection::vec(0u16..4, count),
            proptest::collection::vec(prop_oneof![Just(0.0), Just(1e-9), 0.001..100.0], count),
            proptest::collection::vec(1usize..ORIGINS, count),
            any::<u64>(),
        )
            .prop_map(|(faults, good, priorities, weights, dead_origins, seed)| Pool {
                faults,
                good,
                priorities,
                weights,
                dead_origins,
                seed,
            })
    })
}

impl Pool {
    /// Keys that answer share an origin; those that cannot be reached are spread over dead ones.
    fn provider(&self) -> Provider {
        let origins: Vec<Arc<OriginHealth>> = (0..ORIGINS).map(|_| Arc::default()).collect();
        let keys = (0..self.faults.len()).map(|n| {
            let is_dead = self.faults[n] == Kind::Connect && !self.good.contains(&n);
            let origin = &origins[if is_dead { self.dead_origins[n] } else { 0 }];
            key(&n.to_string()).priority(self.priorities[n]).weight(self.weights[n]).origin(origin)
        });
        provider("openai", keys.collect())
    }

    fn fault(&self, pick: &Pick) -> Option<(Kind, Option<Duration>)> {
        let n: usize = pick.key.name.as_str().parse().expect("a number");
        (!self.good.contains(&n)).then_some((self.faults[n], None))
    }
}

/// Whatever mix of refused credentials, refused models, rate limits and dead addresses the others
/// show, and though not one retry is left in any budget: where a key works, every request is served.
/// A refused key is not asked again, an address is dialled a bounded number of times.
#[test]
fn where_a_key_works_the_request_succeeds() {
    let (cases, rounds) = (scaled(3_000), 4);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let attempts = Cell::new(0);
    let outcome = runner.run(&pools(), |pool| {
        let world = snapshot(vec![pool.provider()]);
        for key in &world.providers[0].keys {
            while key.origin.retries.take(at(0)) {}
        }
        let mut dice = Dice::new(pool.seed);
        let mut refused = HashSet::new();
        for round in 0..rounds {
            let mut now = at(round * 10);
            let run = run(&world, &ask("openai/m"), &mut now, &mut dice, |pick| pool.fault(pick));
            prop_assert!(run.served_by.is_some(), "round {round}: {run:?}");
            for name in &run.asked[..run.asked.len() - 1] {
                let fault = pool.faults[name.parse::<usize>().unwrap()];
                prop_assert!(fault == Kind::Connect || refused.insert(name.clone()), "{name} again: {run:?}");
            }
            let dials = run.asked.iter().filter(|n| pool.faults[n.parse::<usize>().unwrap()] == Kind::Connect).count();
            prop_assert!(dials <= CONNECTS_PER_ORIGIN_MAX * (ORIGINS - 1) + 1, "{run:?}");
            attempts.set(attempts.get() + run.asked.len());
        }
        Ok(())
    });
    println!("{cases} pools, {} requests, {} attempts", u64::from(cases) * rounds, attempts.get());
    outcome.unwrap();
}

/// The same where the working key is at the end of a chain of whole providers, failures of the
/// upstream's own among them: the next target is never a retry.
#[test]
fn a_chain_ends_at_the_target_that_works() {
    let (cases, attempts) = (scaled(1_000), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(pools(), any::<bool>()), |(pool, server)| {
        let last = provider("groq", vec![key("good")]);
        let world = snapshot(vec![pool.provider(), last]);
        world.providers[0].keys.iter().for_each(|key| while key.origin.retries.take(at(0)) {});
        let fallbacks = [ModelName::new("groq/m")].into_iter().collect();
        let request = ModelRequest { fallbacks, ..ask("openai/m") };
        let mut dice = Dice::new(pool.seed);
        for round in 0..3 {
            let run = run(&world, &request, &mut at(round), &mut dice, |pick| {
                let n: Option<usize> = pick.key.name.as_str().parse().ok();
                n.map(|n| (if server { SERVER } else { pool.faults[n] }, None))
            });
            prop_assert_eq!(run.served_by.as_deref(), Some("good"));
            prop_assert!(!server || run.asked.len() <= ORIGINS + 1, "one try of each origin: {:?}", run);
            attempts.set(attempts.get() + run.asked.len());
        }
        Ok(())
    });
    println!("{cases} chains, {} requests, {} attempts", cases * 3, attempts.get());
    outcome.unwrap();
}

/// An upstream that answers nothing but errors: a fifth more attempts than requests, and the floor.
#[test]
fn a_failing_upstream_is_not_stormed() {
    // Keys, max_retries, and whether the budget is what stops it (else the breakers do).
    for (keys, retries, kind, by_budget) in [
        (2_000, 0, SERVER, true),
        (2_000, 3, SERVER, true),
        (2_000, 2, Kind::Broken, true),
        (1, 5, SERVER, false),
        (2, 100, Kind::FirstByteTimeout, false),
    ] {
        let origin = Arc::default();
        let pool = (0..keys).map(|n| key(&n.to_string()).origin(&origin)).collect();
        let world = snapshot(vec![provider("openai", pool).retries(retries)]);
        let mut dice = Dice::new(7);
        let (requests, mut attempts) = (1_500u64, 0);
        for n in 0..requests {
            let run = run(&world, &ask("openai/m"), &mut at(n), &mut dice, |_| Some((kind, None)));
            attempts += run.asked.len() as u64;
        }
        println!("{keys} keys, max_retries {retries}, {kind:?}: {attempts} attempts for {requests} requests");
        // The clock of the last request is a few seconds ahead at most: one more of the floor.
        assert!(attempts * 10 <= requests * 12 + (RETRY_FLOOR + 1) * 10, "{attempts} for {requests}");
        assert_eq!(attempts * 10 >= requests * 12, by_budget, "{attempts} for {requests}");
    }
}

/// A burst of failures after good times lives on what was saved, and on no more.
#[test]
fn good_times_pay_for_bad_ones() {
    let origin = Arc::default();
    let world = one((0..50).map(|n| key(&n.to_string()).origin(&origin)).collect());
    let mut dice = Dice::new(3);
    for _ in 0..100 {
        assert_eq!(run(&world, &ask("openai/m"), &mut at(0), &mut dice, |_| None).asked.len(), 1);
    }
    let spent = run(&world, &ask("openai/m"), &mut at(0), &mut dice, |_| Some((SERVER, None)));
    assert_eq!(spent.asked.len() as u64, 1 + RETRY_FLOOR + 20, "a fifth of a hundred, and the floor");
    assert_eq!(run(&world, &ask("openai/m"), &mut at(0), &mut dice, |_| Some((SERVER, None))).asked.len(), 1);
}

/// bifrost.md 11.4 and CONTRACT 3.5: who is asked, in which order, for `max_retries`.
#[test]
fn the_same_key_again() {
    let far = Duration::from_secs(30);
    let near = Duration::from_secs(3);
    // Keys, max_retries, faults in order (then good), who is asked.
    type Case = (&'static [&'static str], u32, Vec<(Kind, Option<Duration>)>, &'static [&'static str]);
    let cases: Vec<Case> = vec![
        (&["a"], 0, vec![(SERVER, None)], &["a"]),
        (&["a"], 2, vec![(SERVER, None); 9], &["a", "a", "a"]),
        (&["a"], 2, vec![(SERVER, None)], &["a", "a"]),
        // Others first, then the last of them again.
        (&["a", "b"], 0, vec![(SERVER, None); 9], &["a", "b"]),
        (&["a", "b"], 2, vec![(SERVER, None); 9], &["a", "b", "b", "b"]),
        (&["a", "b"], 1, vec![(SERVER, None), (CREDENTIAL, None)], &["a", "b", "a"]),
        (&["a"], 3, vec![(CREDENTIAL, None); 9], &["a"]),
        (&["a"], 3, vec![(MODEL_ACCESS, None); 9], &["a"]),
        (&["a"], 3, vec![(Kind::Answer(FaultClass::Caller), None); 9], &["a"]),
        (&["a", "b"], 3, vec![(Kind::Answer(FaultClass::Content), None); 9], &["a"]),
        (&["a"], 2, vec![(RATE, None); 9], &["a", "a", "a"]),
        (&["a"], 2, vec![(RATE, Some(near)); 9], &["a", "a", "a"]),
        (&["a"], 2, vec![(RATE, Some(far)); 9], &["a"]),
        (&["a"], 2, vec![(SERVER, Some(far)); 9], &["a"]),
        (&["a", "b"], 0, vec![(RATE, Some(far)); 9], &["a", "b"]),
        (&["a"], 2, vec![(Kind::Connect, None); 9], &["a", "a", "a"]),
        // What may have arrived is not sent to this target again but for max_retries, by whatever key.
        (&["a", "b"], 0, vec![(Kind::Broken, None); 9], &["a"]),
        (&["a", "b"], 0, vec![(Kind::FirstByteTimeout, None); 9], &["a"]),
        (&["a", "b"], 1, vec![(Kind::Broken, None); 9], &["a", "b"]),
        (&["a", "b"], 2, vec![(Kind::Broken, None); 9], &["a", "b", "b"]),
        (&["a"], 1, vec![(Kind::FirstByteTimeout, None); 9], &["a", "a"]),
        // A breaker that opens under way ends it.
        (&["a"], 100, vec![(SERVER, None); 99], &["a", "a", "a", "a", "a"]),
    ];
    let count = cases.len();
    for (names, retries, faults, expected) in cases {
        let keys = (1u16..).zip(names).map(|(priority, name)| key(name).priority(priority)).collect();
        let world = snapshot(vec![provider("openai", keys).retries(retries)]);
        let mut faults = faults.clone().into_iter();
        let what = format!("{names:?}, max_retries {retries}, {faults:?}");
        let run = run(&world, &ask("openai/m"), &mut at(0), &mut Dice::new(1), |_| faults.next());
        assert_eq!(run.asked, expected, "{what}");
        // Waits belong to the same key alone, and grow; a named time is waited for.
        for (n, pair) in run.asked.windows(2).enumerate() {
            assert_eq!(run.waits[n + 1] > 0, pair[0] == pair[1] || n + 1 >= names.len(), "{what}: {:?}", run.waits);
        }
        if what.contains("3s") {
            assert_eq!(run.waits[1..], [3000, 3000], "{what}");
        }
    }
    println!("{count} cases");
}

/// The next target of a chain is asked also after an attempt that may have arrived.
#[test]
fn chains_go_on() {
    for retries in [0, 1] {
        let targets =
            vec![provider("openai", vec![key("a"), key("b")]).retries(retries), provider("groq", vec![key("g")])];
        let world = snapshot(targets);
        let request = ModelRequest { fallbacks: [ModelName::new("groq/m")].into_iter().collect(), ..ask("openai/m") };
        for kind in [Kind::Broken, Kind::FirstByteTimeout, SERVER, Kind::Connect, RATE, CREDENTIAL] {
            let fails = |pick: &Pick| (pick.key.name.as_str() != "g").then_some((kind, None));
            let mut now = at(0);
            let run = run(&world, &request, &mut now, &mut Dice::new(1), fails);
            assert_eq!(run.served_by.as_deref(), Some("g"), "{kind:?} {run:?}");
            for key in &world.providers[0].keys {
                key.health.record(None, crate::health::Outcome::Success, now);
            }
        }
        let stops = run(&world, &request, &mut at(9_000_000), &mut Dice::new(1), |_| {
            Some((Kind::Answer(FaultClass::Caller), None))
        });
        assert_eq!((stops.asked.len(), stops.nobody), (1, None), "the caller's mistake is nobody else's to answer");
    }
}
