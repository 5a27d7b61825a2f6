//! What a request has cost its project: from the upstream's own account of it, when the answer ends.
//!
//! Added once, when it is dropped, however the request ended. An answer that ended before its account
//! came is charged by what was seen of it, for a caller who leaves early must not read for nothing.

use std::sync::Arc;

use super::Caller;
use crate::budget::{Price, SpendCell, Spent, Usage};
use crate::dialect::usage::Tap;
use crate::limits::BYTES_PER_TOKEN;
use crate::snapshot::{Prices, Project, Snapshot};

/// Of one request of a project.
#[derive(Debug)]
pub struct Charge {
    spend: Arc<SpendCell>,
    /// The project has budgets: an answer that gives no account is asked for one.
    pub is_limited: bool,
    price: Option<Price>,
    tap: Option<Tap>,
    /// An event stream: its account comes last, and may be missed.
    streams: bool,
    bytes_in: u64,
}

impl Charge {
    pub fn of(caller: &Caller, snapshot: &Snapshot) -> Option<Box<Self>> {
        let project = caller.project(snapshot)?;
        Some(Box::new(Self {
            spend: Arc::clone(&project.spend),
            is_limited: !project.budgets.is_empty(),
            price: None,
            tap: None,
            streams: false,
            bytes_in: 0,
        }))
    }

    /// A key of this provider is about to answer for this model.
    pub fn priced(&mut self, prices: &Prices, provider: &str, model: &str) {
        self.price = prices.of(provider, model);
    }

    /// A good answer begins.
    pub fn listens(&mut self, tap: Option<Tap>, streams: bool, bytes_in: u64) {
        self.tap = tap;
        self.streams = streams;
        self.bytes_in = bytes_in;
    }

    /// The next bytes of the answer, as the upstream sent them.
    pub fn hear(&mut self, chunk: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.push(chunk);
        }
    }

    fn usage(&self) -> Option<Usage> {
        let tap = self.tap.as_ref()?;
        let seen = || Usage { input: self.bytes_in / BYTES_PER_TOKEN, output: tap.events_seen(), ..Usage::default() };
        tap.usage().or_else(|| (self.streams && self.is_limited).then(seen))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(usage) = self.usage() else { return };
        let nano_usd = self.price.map_or(0, |price| price.nano_usd(&usage));
        self.spend.add(Spent { nano_usd, tokens: usage.tokens() });
    }
}

/// Whether a project may use a model as far as its price goes: under a budget of dollars, one that has
/// none cannot be counted.
pub fn is_countable(project: &Project, prices: &Prices, provider: &str, model: &str) -> bool {
    !project.counts_usd() || prices.of(provider, model).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, Period, Reach, Unit, Window};
    use crate::id::ProjectId;
    use crate::snapshot::fixture::snapshot;

    fn world(budgets: Vec<Budget>) -> Snapshot {
        let mut world = snapshot(vec![]);
        world.prices.models.insert("m".into(), Price { input: 2_000_000, output: 10_000_000, ..Price::default() });
        world.projects = Some(vec![Project {
            id: ProjectId::new("app"),
            keys: vec![],
            models: vec!["*".into()],
            passthrough: false,
            pin: false,
            budgets,
            spend: Arc::default(),
            closed_on_outage: false,
        }]);
        world
    }

    fn budget(unit: Unit) -> Budget {
        let reach = Reach { unit, period: Period::Day, window: Window::Calendar };
        Budget { id: "b".into(), reach, limit: 1, cell: Arc::default() }
    }

    fn charged(world: &Snapshot, of: impl FnOnce(&mut Charge)) -> Spent {
        let project = &world.projects.as_deref().unwrap()[0];
        let before = project.spend.unsettled();
        let caller = Caller::Project { project: 0, key: 0 };
        of(&mut Charge::of(&caller, world).unwrap());
        let after = project.spend.unsettled();
        Spent { nano_usd: after.nano_usd - before.nano_usd, tokens: after.tokens - before.tokens }
    }

    #[test]
    fn once_and_by_the_upstreams_word() {
        let world = world(vec![budget(Unit::Tokens)]);
        let spent = charged(&world, |charge| {
            charge.priced(&world.prices, "p", "other");
            charge.priced(&world.prices, "p", "M");
            charge.listens(Some(Tap::text()), false, 1_000);
            charge.hear(b"{\"usage\":{\"prompt_tok");
            charge.hear(b"ens\":3,\"completion_tokens\":4}}");
        });
        assert_eq!(spent, Spent { nano_usd: 3 * 2 + 4 * 10, tokens: 7 });
        // No answer, and one that is no text: nothing is known of them.
        assert_eq!(charged(&world, |charge| charge.priced(&world.prices, "p", "m")), Spent::default());
        assert_eq!(charged(&world, |charge| charge.listens(None, false, 9)), Spent::default());
        // A stream that was left.
        let left = |charge: &mut Charge| {
            charge.listens(Some(Tap::events()), true, 400);
            charge.hear(b"data: {}\n\ndata: {}\n\nda");
        };
        assert_eq!(charged(&world, left), Spent { nano_usd: 0, tokens: 102 });
        assert_eq!(charged(&self::world(vec![]), left), Spent::default(), "nothing is limited");
        assert!(Charge::of(&Caller::Open, &world).is_none());
    }

    #[test]
    fn under_dollars_a_price_is_needed() {
        for (budgets, model, expected) in [
            (vec![], "x", true),
            (vec![budget(Unit::Tokens)], "x", true),
            (vec![budget(Unit::NanoUsd)], "x", false),
            (vec![budget(Unit::NanoUsd)], "m", true),
            (vec![budget(Unit::Tokens), budget(Unit::NanoUsd)], "x", false),
        ] {
            let world = world(budgets);
            let project = &world.projects.as_deref().unwrap()[0];
            assert_eq!(is_countable(project, &world.prices, "p", model), expected);
        }
    }
}
