//! Draws one key: weights inside a priority, priorities in order, steps in order.
//!
//! A few draws find a free key nearly always; only when they do not, one exact pass over the tier
//! decides. Everything random comes from a seeded [`Dice`], everything timed from an argument.

use std::sync::Arc;
use std::time::Duration;

use super::dice::{Dice, Lottery};
use super::plan::{Plan, Step};
use super::trouble::Trouble;
use super::{NobodyLeft, Pick};
use crate::health::{Admission, Outcome, Why, stricter};
use crate::id::{ModelName, UpstreamModel};
use crate::limits::REDRAWS_MAX;
use crate::snapshot::index::fold;
use crate::snapshot::{Key, Provider, Snapshot, Tier};
use crate::ticks::Ticks;

impl Plan {
    /// The next key to try. A pick that comes with a probe holds it until its record.
    pub fn next(&mut self, snapshot: &Snapshot, now: Ticks, dice: &mut Dice) -> Result<Pick, NobodyLeft> {
        loop {
            self.draw_step(dice);
            let Some(step) = self.steps.get(self.at).cloned() else {
                if let Some(trouble) = &mut self.trouble {
                    trouble.repay();
                }
                return Err(self.nobody());
            };
            let provider = snapshot.providers.get(step.target.provider as usize);
            let found = provider.and_then(|provider| Some((provider, self.key_in(provider, &step, now, dice)?)));
            if let Some((provider, index)) = found
                && let Some(key) = provider.keys.get(index as usize)
            {
                self.tried.push(index);
                self.attempts += 1;
                self.settle(key);
                let model = step.target.model.as_ref().map(|model| key.upstream_model(model));
                let (key, provider, target) = (Arc::clone(key), step.target.provider, self.at);
                return Ok(Pick { key, provider, model, target, wait: Duration::ZERO });
            }
            if let Some(pick) = provider.and_then(|provider| self.again(provider, now, dice)) {
                self.attempts += 1;
                return Ok(pick);
            }
            self.advance();
        }
    }

    /// What the attempt means to the retry budget of its origin.
    fn settle(&mut self, key: &Key) {
        if self.trouble.is_none() {
            return key.origin.retries.earn();
        }
        let target = self.target_at(self.at);
        if let Some(trouble) = &mut self.trouble {
            trouble.drawn(target, key);
        }
    }

    /// Every key of the target had its turn: the last one that may be asked again.
    fn again(&mut self, provider: &Provider, now: Ticks, dice: &mut Dice) -> Option<Pick> {
        if !self.ends_target() {
            return None;
        }
        let target = self.target_at(self.at);
        self.trouble.as_mut()?.again(target, &provider.retry, now, dice)
    }

    fn nobody(&self) -> NobodyLeft {
        match (self.attempts, self.cooling, self.recovering) {
            (1.., ..) => NobodyLeft::Exhausted,
            (0, Some(until), _) => NobodyLeft::Cooling { until },
            (0, None, Some(until)) => NobodyLeft::Recovering { until },
            (0, None, None) => NobodyLeft::NotEligible,
        }
    }

    /// Where the current step is one of a weighted route: draws which of those left comes now.
    fn draw_step(&mut self, dice: &mut Dice) {
        let at = self.at;
        if at < self.drawn {
            return;
        }
        self.drawn = at + 1;
        let Some(Step { weight: Some(_), route, .. }) = self.steps.get(at) else { return };
        let rest = self.steps.iter().skip(at);
        let siblings = rest.take_while(|step| step.weight.is_some() && step.route == *route);
        let weights: Vec<f64> = siblings.map(|step| step.weight.unwrap_or_default()).collect();
        let all_zero = weights.iter().all(|weight| *weight == 0.0);
        let mut lottery = Lottery::default();
        for (index, weight) in weights.iter().enumerate() {
            lottery.enter(index, if all_zero { 1.0 } else { *weight }, dice);
        }
        if let Some(chosen) = lottery.winner {
            // In range: `chosen` counts steps from `at` on.
            self.steps.swap(at, at + chosen);
        }
    }

    fn key_in(&mut self, provider: &Provider, step: &Step, now: Ticks, dice: &mut Dice) -> Option<u32> {
        let model = step.target.model.as_ref();
        let mut draw = Draw { plan: self, provider, model, now };
        if let Some(index) = step.pinned {
            return draw.takes(index, dice).then_some(index);
        }
        let folded = model.map(|model| fold(model.as_str()));
        let pool = provider.pools.of(folded.as_deref(), draw.plan.batch);
        let wanted = |tier: &&Tier| step.tier.is_none_or(|priority| priority == tier.priority);
        pool.tiers.iter().filter(wanted).find_map(|tier| draw.from(tier, dice))
    }
}

impl Pick {
    /// Whether the key must not be asked again after all, for what is known of it by now. Its own
    /// cool-down does not count: the request waits as long as the upstream asked.
    pub fn is_stopped(&self, now: Ticks) -> bool {
        match look(&self.key, self.model.as_ref(), now) {
            Admission::Barred { why, .. } => why != Why::Cooling,
            Admission::Free | Admission::Ramping { .. } | Admission::Probe => false,
        }
    }
}

/// What one draw needs to know.
struct Draw<'a> {
    plan: &'a mut Plan,
    provider: &'a Provider,
    model: Option<&'a ModelName>,
    now: Ticks,
}

impl<'a> Draw<'a> {
    fn from(&mut self, tier: &Tier, dice: &mut Dice) -> Option<u32> {
        // A single key drawn again would be the same one.
        let redraws = if tier.draws.len() > 1 { REDRAWS_MAX } else { 0 };
        for _ in 0..=redraws {
            let index = drawn(tier, dice)?;
            if self.takes(index, dice) {
                return Some(index);
            }
        }
        self.exactly(tier, dice)
    }

    /// Among all keys that are free now, by their weights; the drained ones only after that. A key
    /// that another request takes in between costs one more pass.
    fn exactly(&mut self, tier: &Tier, dice: &mut Dice) -> Option<u32> {
        for _ in 0..2 {
            let mut weighted = Lottery::default();
            let mut before = 0.0;
            for (index, sum) in &tier.draws {
                weighted.enter(*index, (sum - before) * self.share(*index), dice);
                before = *sum;
            }
            let mut drained = Lottery::default();
            if weighted.winner.is_none() {
                for index in &tier.drained {
                    drained.enter(*index, self.share(*index), dice);
                }
            }
            let index = weighted.winner.or(drained.winner)?;
            if !matches!(self.admits(index), None | Some(Admission::Barred { .. })) {
                return Some(index);
            }
        }
        None
    }

    /// Whether a drawn key is taken: untried, not barred, and by its share while it ramps up.
    fn takes(&mut self, index: u32, dice: &mut Dice) -> bool {
        match self.admits(index) {
            Some(Admission::Free | Admission::Probe) => true,
            Some(Admission::Ramping { permille }) => dice.unit() * 1000.0 < f64::from(permille),
            Some(Admission::Barred { .. }) | None => false,
        }
    }

    /// How much of its weight the key has now.
    fn share(&mut self, index: u32) -> f64 {
        let Some(key) = self.untried(index) else { return 0.0 };
        let model = self.model.map(|model| key.upstream_model(model));
        match look(key, model.as_ref(), self.now) {
            Admission::Free | Admission::Probe => 1.0,
            Admission::Ramping { permille } => f64::from(permille) / 1000.0,
            barred @ Admission::Barred { .. } => {
                self.note(barred);
                0.0
            }
        }
    }

    fn admits(&mut self, index: u32) -> Option<Admission> {
        let key = self.untried(index)?;
        let model = self.model.map(|model| key.upstream_model(model));
        let admission = admits(key, model.as_ref(), self.now);
        self.note(admission);
        Some(admission)
    }

    /// The key, unless this request had its turn with it or cannot reach its origin.
    fn untried(&self, index: u32) -> Option<&'a Key> {
        let key = self.provider.keys.get(index as usize)?;
        let may = |trouble: &Trouble| trouble.admits(self.plan.target_at(self.plan.at), key);
        (!self.plan.tried.contains(&index) && self.plan.trouble.as_deref().is_none_or(may)).then_some(key)
    }

    fn note(&mut self, admission: Admission) {
        let Admission::Barred { until, why } = admission else { return };
        let slot = match why {
            Why::Cooling => &mut self.plan.cooling,
            Why::Breaker | Why::Probing => &mut self.plan.recovering,
            Why::Unauthorized | Why::ModelAccess => return,
        };
        *slot = Some(slot.map_or(until, |known| known.min(until)));
    }
}

fn drawn(tier: &Tier, dice: &mut Dice) -> Option<u32> {
    let (last, total) = tier.draws.last()?;
    let at = dice.unit() * total;
    let place = tier.draws.partition_point(|(_, sum)| *sum <= at);
    // Rounding may lift the product to the total itself.
    Some(tier.draws.get(place).map_or(*last, |(index, _)| *index))
}

/// The key's own health and its origin's, whichever allows less.
pub(super) fn look(key: &Key, model: Option<&UpstreamModel>, now: Ticks) -> Admission {
    stricter(key.health.look(model, now), key.origin.breaker.look(None, now))
}

/// As [`look`], and takes the probes that there are to take; both or none.
fn admits(key: &Key, model: Option<&UpstreamModel>, now: Ticks) -> Admission {
    let seen = look(key, model, now);
    if matches!(seen, Admission::Barred { .. }) {
        return seen;
    }
    let own = key.health.admits(model, now);
    if matches!(own, Admission::Barred { .. }) {
        return own;
    }
    let origin = key.origin.breaker.admits(None, now);
    if own == Admission::Probe && matches!(origin, Admission::Barred { .. }) {
        key.health.record(model, Outcome::Untold, now);
    }
    stricter(own, origin)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::super::plan::tests::ask;
    use super::super::verdict::succeeded;
    use super::super::{ModelRequest, Policy, judge, plan};
    use super::*;
    use crate::dialect::Operation;
    use crate::error::{FaultClass, Kind, Sent};
    use crate::health::OriginHealth;
    use crate::provider::RateScope;
    use crate::snapshot::Strategy as RouteStrategy;
    use crate::snapshot::fixture::{key, provider, snapshot};

    const POLICY: Policy = Policy { rate_scope: RateScope::Model, signed_again: false };

    fn one(keys: Vec<Key>) -> Snapshot {
        snapshot(vec![provider("openai", keys)])
    }

    fn at(seconds: u64) -> Ticks {
        Ticks::default().after(Duration::from_secs(1000 + seconds))
    }

    /// Names of the keys that are tried, in order, when each one fails.
    fn order(world: &Snapshot, request: &ModelRequest, seed: u64) -> Vec<String> {
        let mut plan = plan(world, request).unwrap();
        let mut dice = Dice::new(seed);
        std::iter::from_fn(|| plan.next(world, at(0), &mut dice).ok()).map(|pick| pick.key.name.to_string()).collect()
    }

    fn first_picks(world: &Snapshot, request: &ModelRequest, draws: u32, now: Ticks) -> HashMap<String, u32> {
        let mut dice = Dice::new(7);
        let mut counts = HashMap::new();
        for _ in 0..draws {
            let pick = plan(world, request).unwrap().next(world, now, &mut dice).unwrap();
            *counts.entry(pick.key.id.to_string()).or_default() += 1;
        }
        counts
    }

    /// Pearson's statistic of what was seen against what was expected, in shares of one.
    fn chi_square(seen: &HashMap<String, u32>, expected: &[(&str, f64)]) -> f64 {
        let total: u32 = seen.values().sum();
        assert_eq!(seen.len(), expected.len(), "{seen:?}");
        expected
            .iter()
            .map(|(name, share)| {
                let expected = share * f64::from(total);
                let seen = f64::from(seen[*name]);
                (seen - expected).powi(2) / expected
            })
            .sum()
    }

    /// bifrost.md 11.4. 20.5 is the 99.99 % point of chi-square at 3 degrees of freedom; the dice are
    /// seeded, so the test says the same each time.
    #[test]
    fn shares() {
        for (weights, shares) in [
            (&[("a", 1.0), ("b", 3.0)][..], &[("openai-a", 0.25), ("openai-b", 0.75)][..]),
            (&[("a", 0.001), ("b", 0.001)], &[("openai-a", 0.5), ("openai-b", 0.5)]),
            (&[("a", 0.0), ("b", 0.0)], &[("openai-a", 0.5), ("openai-b", 0.5)]),
            (&[("a", 0.0), ("b", 1.0)], &[("openai-b", 1.0)]),
            (&[("a", 5e-324), ("b", 5e-324)], &[("openai-a", 0.5), ("openai-b", 0.5)]),
            (&[("a", f64::MAX), ("b", f64::MAX)], &[("openai-a", 0.5), ("openai-b", 0.5)]),
            (&[("a", 0.7), ("b", 0.2), ("c", 0.1)], &[("openai-a", 0.7), ("openai-b", 0.2), ("openai-c", 0.1)]),
        ] {
            let world = one(weights.iter().map(|(name, weight)| key(name).weight(*weight)).collect());
            let seen = first_picks(&world, &ask("openai/m"), 40_000, at(0));
            let chi = chi_square(&seen, shares);
            assert!(chi < 20.5, "{weights:?}: {seen:?}, chi-square {chi}");
        }
    }

    /// The shares hold where redraws and exact passes step in: half the keys are barred.
    #[test]
    fn shares_among_the_free_ones() {
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        let world = one(keys.iter().map(|name| key(name).weight(if *name == "a" { 1000.0 } else { 1.0 })).collect());
        for key in &world.providers[0].keys {
            if !matches!(key.name.as_str(), "b" | "c") {
                key.health.record(None, Outcome::Bench, at(0));
            }
        }
        let seen = first_picks(&world, &ask("openai/m"), 40_000, at(1));
        let chi = chi_square(&seen, &[("openai-b", 0.5), ("openai-c", 0.5)]);
        assert!(chi < 20.5, "{seen:?}, chi-square {chi}");
    }

    #[test]
    fn weighted_routes() {
        let world = snapshot(vec![
            provider("openai", vec![key("k")]),
            provider("groq", vec![key("k")]),
            provider("xai", vec![key("k")]),
        ]);
        for (weights, shares) in [
            ([1.0, 3.0, 0.0], &[("openai-k", 0.25), ("groq-k", 0.75)][..]),
            ([0.0, 0.0, 0.0], &[("openai-k", 1.0 / 3.0), ("groq-k", 1.0 / 3.0), ("xai-k", 1.0 / 3.0)]),
            ([0.0, 0.0, 2.0], &[("xai-k", 1.0)]),
        ] {
            let world = snapshot(world.providers.iter().map(|p| provider(p.name.as_str(), vec![key("k")])).collect());
            let [a, b, c] = weights;
            let world =
                world.route("@w", RouteStrategy::Weighted, &[("openai", "m", a), ("groq", "m", b), ("xai", "m", c)]);
            let seen = first_picks(&world, &ask("@w"), 40_000, at(0));
            assert!(chi_square(&seen, shares) < 20.5, "{seen:?}");
            // All of them are tried in the end, each once.
            let mut plan = plan(&world, &ask("@w")).unwrap();
            let mut dice = Dice::new(3);
            let mut tried: Vec<_> = std::iter::from_fn(|| plan.next(&world, at(0), &mut dice).ok())
                .map(|pick| pick.key.id.to_string())
                .collect();
            if c == 0.0 && a > 0.0 {
                assert_eq!(tried.last().map(String::as_str), Some("xai-k"), "the drained one comes last");
            }
            tried.sort_unstable();
            assert_eq!(tried, ["groq-k", "openai-k", "xai-k"]);
        }
    }

    #[test]
    fn order_of_exhaustion() {
        let world = one(vec![
            key("late").priority(900),
            key("x"),
            key("y"),
            key("drained").weight(0.0),
            key("off").disabled(),
            key("unset").unready(),
            key("other").models(&["other"]),
            key("early").priority(1),
        ]);
        for seed in 0..50 {
            let mut got = order(&world, &ask("openai/m"), seed);
            assert_eq!(got.len(), 5, "each once: {got:?}");
            got[1..3].sort_unstable();
            assert_eq!(got, ["early", "x", "y", "drained", "late"]);
        }
        let second: std::collections::HashSet<_> = (0..50).map(|seed| order(&world, &ask("openai/m"), seed)).collect();
        assert_eq!(second.len(), 2, "another seed, another draw");
        assert_eq!(order(&world, &ask("openai/m"), 5), order(&world, &ask("openai/m"), 5));
    }

    #[test]
    fn bare_names_interleave_providers() {
        let world = snapshot(vec![
            provider("groq", vec![key("g5").models(&["m"]), key("g9").priority(900)]),
            provider("openai", vec![key("o5"), key("o1").priority(100).models(&["m"])]),
        ]);
        assert_eq!(order(&world, &ask("m"), 1), ["o1", "g5", "o5", "g9"]);
        assert_eq!(order(&world, &ask("groq/m"), 1), ["g5", "g9"]);
        assert_eq!(order(&world, &ask("openai/m"), 1), ["o1", "o5"]);
    }

    #[test]
    fn the_alias_of_the_chosen_key() {
        let world = one(vec![
            key("a").alias(&[("m", "deployment-a")]).priority(1),
            key("b").alias(&[("M", "deployment-b")]),
            key("c").priority(900),
        ]);
        let mut plan = plan(&world, &ask("openai/m")).unwrap();
        let mut dice = Dice::new(1);
        let models: Vec<_> = std::iter::from_fn(|| plan.next(&world, at(0), &mut dice).ok())
            .map(|pick| pick.model.unwrap().to_string())
            .collect();
        assert_eq!(models, ["deployment-a", "deployment-b", "m"]);
    }

    #[test]
    fn batch_flag() {
        let world = one(vec![key("a"), key("b").batch(), key("c").models(&[]).batch()]);
        let mut request = ask("");
        assert_eq!(order(&world, &request, 1).len(), 2);
        request.endpoint.operation = Operation::Files;
        assert_eq!(order(&world, &request, 1), ["b"]);
        let none = one(vec![key("a")]);
        assert_eq!(
            plan(&none, &request).unwrap().next(&none, at(0), &mut Dice::new(1)).unwrap_err(),
            NobodyLeft::NotEligible
        );
    }

    /// A thousand keys cost what ten do: throws of the dice per pick, and how many keys are looked
    /// at is bounded by them.
    #[test]
    fn cost_does_not_grow_with_keys() {
        let mut throws = Vec::new();
        for keys in [10, 1000] {
            let world = one((0..keys).map(|n| key(&n.to_string()).weight(f64::from(n % 7 + 1))).collect());
            // A tenth is barred.
            for key in world.providers[0].keys.iter().step_by(10) {
                key.health.record(None, Outcome::Bench, at(0));
            }
            let mut dice = Dice::new(11);
            let picks = 10_000;
            for _ in 0..picks {
                plan(&world, &ask("openai/m")).unwrap().next(&world, at(1), &mut dice).unwrap();
            }
            let mean = dice.thrown() as f64 / f64::from(picks);
            println!("{keys} keys: {mean:.3} throws a pick over {picks} picks");
            throws.push(mean);
        }
        assert!(throws.iter().all(|mean| *mean < 1.3), "{throws:?}");
    }

    #[test]
    fn nobody_left() {
        let nobody = |world: &Snapshot| {
            plan(world, &ask("openai/m")).unwrap().next(world, at(1), &mut Dice::new(1)).unwrap_err()
        };
        assert_eq!(nobody(&one(vec![])), NobodyLeft::NotEligible);
        assert_eq!(nobody(&one(vec![key("a").disabled(), key("b").deny(&["m"])])), NobodyLeft::NotEligible);
        let world = one(vec![key("a"), key("b"), key("c"), key("d")]);
        let cell = |n: usize| &world.providers[0].keys[n].health;
        cell(0).record(None, Outcome::Bench, at(0));
        cell(1).record(None, Outcome::Cool { until: Some(at(40)) }, at(0));
        let model = UpstreamModel::new("m");
        cell(2).record(Some(&model), Outcome::Cool { until: Some(at(20)) }, at(0));
        (0..5).for_each(|_| cell(3).record(None, Outcome::Failure, at(0)));
        assert_eq!(nobody(&world), NobodyLeft::Cooling { until: at(20) });
        let failing = one(vec![key("a"), key("b").disabled()]);
        (0..5).for_each(|_| failing.providers[0].keys[0].origin.breaker.record(None, Outcome::Failure, at(0)));
        assert_eq!(nobody(&failing), NobodyLeft::Recovering { until: at(5) });
        // Something was tried: whatever else there is, that is the answer.
        let mixed = one(vec![key("a"), key("b")]);
        mixed.providers[0].keys[1].health.record(None, Outcome::Cool { until: None }, at(0));
        let mut plan = plan(&mixed, &ask("openai/m")).unwrap();
        assert_eq!(plan.next(&mixed, at(1), &mut Dice::new(1)).unwrap().key.name.as_str(), "a");
        assert_eq!(plan.next(&mixed, at(1), &mut Dice::new(1)).unwrap_err(), NobodyLeft::Exhausted);
    }

    #[test]
    fn one_probe_of_a_benched_key() {
        let world = one(vec![key("a")]);
        world.providers[0].keys[0].health.record(None, Outcome::Bench, at(0));
        let next = || plan(&world, &ask("openai/m")).unwrap().next(&world, at(600), &mut Dice::new(1));
        let probe = next().unwrap();
        assert!(matches!(next(), Err(NobodyLeft::Recovering { .. })));
        succeeded(&probe.key, probe.model.as_ref(), at(600));
        assert!(next().is_ok());
    }

    #[test]
    fn a_ramping_key_takes_less() {
        let world = one(vec![key("a"), key("b")]);
        world.providers[0].keys[0].health.record(None, Outcome::Cool { until: Some(at(10)) }, at(0));
        // A tenth against one.
        let seen = first_picks(&world, &ask("openai/m"), 40_000, at(10));
        assert!(chi_square(&seen, &[("openai-a", 1.0 / 11.0), ("openai-b", 10.0 / 11.0)]) < 20.5, "{seen:?}");
        // And all of it when it is the only one.
        let alone = one(vec![key("a")]);
        alone.providers[0].keys[0].health.record(None, Outcome::Cool { until: Some(at(10)) }, at(0));
        assert_eq!(first_picks(&alone, &ask("openai/m"), 100, at(10))["openai-a"], 100);
    }

    #[test]
    fn unreachable_origins_and_chains() {
        let origin = std::sync::Arc::new(OriginHealth::default());
        let keys =
            (0..6).map(|n| key(&n.to_string()).origin(&origin)).chain([key("elsewhere").priority(900)]).collect();
        let world = snapshot(vec![provider("openai", keys), provider("groq", vec![key("g")])]);
        let request = ModelRequest { fallbacks: [ModelName::new("groq/m")].into_iter().collect(), ..ask("openai/m") };
        let tries = |kind, sent| {
            let mut plan = plan(&world, &request).unwrap();
            let mut dice = Dice::new(1);
            let mut names = Vec::new();
            while let Ok(pick) = plan.next(&world, at(0), &mut dice) {
                names.push(pick.key.name.to_string());
                if !plan.refused(&world, &pick, &judge(kind, sent, &POLICY), None, at(0)) {
                    break;
                }
            }
            names
        };
        let got = tries(Kind::Connect, Sent::Never);
        assert_eq!((got.len(), &got[2..]), (4, &["elsewhere".to_owned(), "g".to_owned()][..]), "{got:?}");
        // It may have arrived: this target is left, the chain goes on.
        assert_eq!(tries(Kind::Broken, Sent::Maybe).len(), 2);
        assert_eq!(tries(Kind::Answer(FaultClass::Server), Sent::Answered { status: 500 }).len(), 8);
        assert_eq!(tries(Kind::Answer(FaultClass::Caller), Sent::Answered { status: 400 }).len(), 1);
    }

    #[test]
    fn an_unanswered_target_takes_its_other_groups_along() {
        let world = snapshot(vec![
            provider("groq", vec![key("g5").models(&["m"]), key("g9").priority(900)]),
            provider("openai", vec![key("o6").models(&["m"]).priority(600)]),
        ]);
        let mut plan = plan(&world, &ask("m")).unwrap();
        let mut dice = Dice::new(1);
        let first = plan.next(&world, at(0), &mut dice).unwrap();
        plan.refused(&world, &first, &judge(Kind::FirstByteTimeout, Sent::Maybe, &POLICY), None, at(0));
        assert_eq!(plan.next(&world, at(0), &mut dice).unwrap().key.name.as_str(), "o6");
        assert!(plan.next(&world, at(0), &mut dice).is_err());
    }
}
