//! Draws one key: weights inside a priority, priorities in order, steps in order.
//!
//! A few draws find a free key nearly always; only when they do not, one exact pass over the tier
//! decides. Everything random comes from a seeded [`Dice`], everything timed from an argument.

use std::sync::Arc;

use super::plan::{Plan, Step};
use super::{NobodyLeft, Pick};
use crate::health::{Admission, Outcome, Why, stricter};
use crate::id::{ModelName, UpstreamModel};
use crate::limits::{CONNECTS_PER_ORIGIN_MAX, REDRAWS_MAX};
use crate::snapshot::index::fold;
use crate::snapshot::{Key, Provider, Snapshot, Tier};
use crate::ticks::Ticks;

/// splitmix64: a few nanoseconds, equidistributed, and the same on every machine for one seed.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
    thrown: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, thrown: 0 }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.thrown += 1;
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly in [0, 1).
    pub fn unit(&mut self) -> f64 {
        // The 53 bits that a double holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let mantissa = (self.next_u64() >> 11) as f64;
        mantissa / (1u64 << 53) as f64
    }

    /// How often it was thrown: what a choice cost.
    pub fn thrown(&self) -> u64 {
        self.thrown
    }
}

impl Plan {
    /// The next key to try. A pick that comes with a probe holds it until its record.
    pub fn next(&mut self, snapshot: &Snapshot, now: Ticks, dice: &mut Dice) -> Result<Pick, NobodyLeft> {
        loop {
            self.draw_step(dice);
            let Some(step) = self.steps.get(self.at).cloned() else { return Err(self.nobody()) };
            let provider = snapshot.providers.get(step.target.provider as usize);
            let found = provider.and_then(|provider| Some((provider, self.key_in(provider, &step, now, dice)?)));
            if let Some((provider, index)) = found
                && let Some(key) = provider.keys.get(index as usize)
            {
                self.tried.push(index);
                self.attempts += 1;
                let model = step.target.model.as_ref().map(|model| key.upstream_model(model));
                return Ok(Pick { key: Arc::clone(key), provider: step.target.provider, model, target: self.at });
            }
            self.advance();
        }
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
        let unreached = self.plan.unreached.iter().filter(|origin| Arc::ptr_eq(origin, &key.origin)).count();
        (!self.plan.tried.contains(&index) && unreached < CONNECTS_PER_ORIGIN_MAX).then_some(key)
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
    stricter(key.health.look(model, now), key.origin.look(None, now))
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
    let origin = key.origin.admits(None, now);
    if own == Admission::Probe && matches!(origin, Admission::Barred { .. }) {
        key.health.record(model, Outcome::Untold, now);
    }
    stricter(own, origin)
}

/// One winner among entries that come one by one, each with its weight's chance.
#[derive(Debug)]
pub(super) struct Lottery<T> {
    pub(super) winner: Option<T>,
    total: f64,
}

impl<T> Default for Lottery<T> {
    fn default() -> Self {
        Self { winner: None, total: 0.0 }
    }
}

impl<T> Lottery<T> {
    fn enter(&mut self, entry: T, weight: f64, dice: &mut Dice) {
        if weight <= 0.0 {
            return;
        }
        self.total += weight;
        if dice.unit() * self.total < weight {
            self.winner = Some(entry);
        }
    }
}
