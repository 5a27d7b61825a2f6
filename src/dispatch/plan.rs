//! From what the caller asked for to the steps to take: CONTRACT 3.4 before any key is drawn.
//!
//! A step is a target, perhaps narrowed to one priority (bare names, whose groups interleave
//! providers) or to one pinned key. Says which; `pick.rs` draws.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{ModelRequest, NoPlan, Pick, Target, Verdict, verdict::Next};
use crate::health::KeyHealth;
use crate::id::{ModelName, ProviderName};
use crate::limits::FALLBACKS_MAX;
use crate::provider::DEFAULT_PROVIDER;
use crate::snapshot::index::{Groups, fold, groups_of};
use crate::snapshot::{Provider, RouteTarget, Snapshot, Strategy};
use crate::ticks::Ticks;
use crate::weight::Priority;

/// What to try, in order, and what has been tried.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(super) steps: SmallVec<[Step; 2]>,
    /// The step that is being worked on.
    pub(super) at: usize,
    /// Weighted steps before this one have been drawn.
    pub(super) drawn: usize,
    /// Only keys with `use_for_batch_api`.
    pub(super) batch: bool,
    /// Keys of the current step that were tried.
    pub(super) tried: SmallVec<[u32; 4]>,
    /// Attempts so far, over all steps.
    pub(super) attempts: u32,
    /// Origins that could not be reached, once for each time.
    pub(super) unreached: SmallVec<[Arc<KeyHealth>; 2]>,
    /// Earliest end of a cool-down that was met, and of a breaker or a probe.
    pub(super) cooling: Option<Ticks>,
    pub(super) recovering: Option<Ticks>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) target: Target,
    /// `None`: all priorities, in their order.
    pub(super) tier: Option<Priority>,
    /// Index of the only key that may serve.
    pub(super) pinned: Option<u32>,
    /// Weight among the neighbours of the same weighted route; `None`: in its place.
    pub(super) weight: Option<f64>,
    /// The route that it comes from.
    pub(super) route: Option<ModelName>,
}

/// Resolves a request against a snapshot. Looks at no health: that changes from pick to pick.
pub fn plan(snapshot: &Snapshot, request: &ModelRequest) -> Result<Plan, NoPlan> {
    let mut steps = match &request.model {
        Some(model) => steps_for(snapshot, request, model)?,
        None => Steps::from_iter([without_model(snapshot, request)?]),
    };
    let providers: Vec<u32> = steps.iter().map(|step| step.target.provider).collect();
    steps.retain(|step| serves(snapshot, request, step.target.provider));
    if steps.is_empty() {
        let mut providers: Vec<ProviderName> =
            providers.iter().filter_map(|at| provider(snapshot, *at)).map(|p| p.name.clone()).collect();
        providers.dedup();
        return Err(NoPlan::NotServed { providers, operation: request.endpoint.operation });
    }
    if request.pin.is_some() {
        pin(snapshot, request, &mut steps)?;
    }
    for fallback in request.fallbacks.iter().take(FALLBACKS_MAX) {
        // A fallback that names nothing is the caller's mistake, and he would never learn of it if
        // it were skipped.
        let more = steps_for(snapshot, request, fallback)?;
        for step in more {
            if serves(snapshot, request, step.target.provider) && !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
    Ok(Plan { steps, batch: request.endpoint.operation.is_batch(), ..Plan::default() })
}

type Steps = SmallVec<[Step; 2]>;

impl Step {
    fn to(provider: u32, model: Option<ModelName>) -> Self {
        Self { target: Target { provider, model }, tier: None, pinned: None, weight: None, route: None }
    }
}

fn provider(snapshot: &Snapshot, at: u32) -> Option<&Provider> {
    snapshot.providers.get(at as usize).map(|provider| &**provider)
}

fn serves(snapshot: &Snapshot, request: &ModelRequest, at: u32) -> bool {
    provider(snapshot, at).is_some_and(|provider| {
        provider.row.speaks(request.endpoint.dialect)
            && provider.allowed.permits(request.endpoint.operation, request.stream)
    })
}

/// The steps that one model string stands for.
fn steps_for(snapshot: &Snapshot, request: &ModelRequest, asked: &ModelName) -> Result<Steps, NoPlan> {
    let text = asked.as_str();
    if text.starts_with('@') {
        let route = snapshot.routes.get(text).ok_or_else(|| NoPlan::UnknownRoute { route: asked.clone() })?;
        return Ok(route_steps(&route.targets, route.strategy, asked));
    }
    if let Some((name, model)) = text.split_once('/')
        && let Some(at) = snapshot.index.by_name.get(name)
        && !model.is_empty()
    {
        return Ok(Steps::from_iter([Step::to(*at, Some(ModelName::new(model)))]));
    }
    if let Some(at) = native(snapshot, request) {
        return Ok(Steps::from_iter([Step::to(at, Some(asked.clone()))]));
    }
    let groups = bare(snapshot, text);
    if groups.is_empty() || text.is_empty() {
        let providers = snapshot.providers.iter().map(|p| p.name.clone()).collect();
        return Err(NoPlan::ModelNotFound { model: asked.clone(), providers });
    }
    let step = |(priority, at): &(Priority, u32)| Step { tier: Some(*priority), ..Step::to(*at, Some(asked.clone())) };
    Ok(groups.iter().map(step).collect())
}

fn route_steps(targets: &[RouteTarget], strategy: Strategy, route: &ModelName) -> Steps {
    let mut steps = Steps::new();
    for target in targets {
        let weight = (strategy == Strategy::Weighted).then(|| target.weight.value());
        let step = Step { weight, route: Some(route.clone()), ..Step::to(target.provider, Some(target.model.clone())) };
        match steps.iter_mut().find(|known| known.target == step.target) {
            // Named twice: its shares add up, a second visit would find the same keys tried.
            Some(known) => known.weight = known.weight.zip(weight).map(|(a, b)| a + b),
            None => steps.push(step),
        }
    }
    steps
}

/// The provider that a bare name means on a provider-native path. One that is not configured means
/// nothing, and the name is looked for among the others.
fn native(snapshot: &Snapshot, request: &ModelRequest) -> Option<u32> {
    let is = |row: &str, provider: &Provider| !provider.custom && provider.row.id == row;
    request.native.iter().find_map(|row| (0..).zip(&snapshot.providers).find(|(_, p)| is(row, p)).map(|(at, _)| at))
}

/// Groups for a bare name: named in the config, else in an upstream's list, else by family; else
/// whoever denies it, so that the answer is "nobody may" and not "unknown".
fn bare<'s>(snapshot: &'s Snapshot, text: &str) -> std::borrow::Cow<'s, [(Priority, u32)]> {
    let name = fold(text);
    let index = &snapshot.index;
    if let Some(groups) = index.named.get(&*name).or_else(|| index.listed.get(&*name)) {
        return groups.into();
    }
    let all = |means: &dyn Fn(&Provider) -> bool| {
        let meant = (0..).zip(&snapshot.providers).filter(|(_, provider)| means(provider));
        let mut groups: Groups = meant.flat_map(|(at, provider)| groups_of(provider, at, &name)).collect();
        groups.sort_unstable();
        groups
    };
    // A custom provider speaks like its base but need not have its models.
    let mut groups = all(&|provider| !provider.custom && provider.row.owns(&name));
    if groups.is_empty() {
        groups = all(&|provider| provider.pools.knows(&name));
    }
    groups.into_vec().into()
}

/// Calls without a model: `?provider=`, the path's own provider, the default, the first that speaks
/// the dialect.
fn without_model(snapshot: &Snapshot, request: &ModelRequest) -> Result<Step, NoPlan> {
    let by_name = |name: &str| snapshot.index.by_name.get(name).copied();
    if let Some(name) = &request.provider {
        let at = by_name(name.as_str()).ok_or_else(|| NoPlan::UnknownProvider { provider: name.clone() })?;
        return Ok(Step::to(at, None));
    }
    let speaks = || {
        let mut all = (0..).zip(&snapshot.providers);
        all.find(|(_, p)| p.row.speaks(request.endpoint.dialect)).map(|(at, _)| at)
    };
    let at =
        native(snapshot, request).or_else(|| by_name(DEFAULT_PROVIDER)).or_else(speaks).ok_or(NoPlan::NoProvider)?;
    Ok(Step::to(at, None))
}

/// Narrows the first choice to the pinned key. The groups of a bare name and the targets of a
/// weighted route are all first choices, so the key may be in any of them; a route's other targets
/// stay behind it as they are, for a pin never reaches a fallback.
fn pin(snapshot: &Snapshot, request: &ModelRequest, steps: &mut Steps) -> Result<(), NoPlan> {
    let Some(pin) = &request.pin else { return Ok(()) };
    let from_route = steps.iter().any(|step| step.route.is_some());
    let first_only = from_route && steps.iter().all(|step| step.weight.is_none());
    let holder = steps.iter().take(if first_only { 1 } else { usize::MAX }).enumerate().find_map(|(at, step)| {
        let keys = &provider(snapshot, step.target.provider)?.keys;
        let (index, key) = (0..).zip(keys).find(|(_, key)| pin.fits(key))?;
        Some((at, index, Arc::clone(key)))
    });
    let Some((at, index, key)) = holder else { return Err(NoPlan::PinUnknown { pin: pin.clone() }) };
    let mut first = steps.remove(at);
    let folded = first.target.model.as_ref().map(|model| fold(model.as_str()));
    if let Some(why) = key.ineligible(folded.as_deref(), request.endpoint.operation.is_batch()) {
        return Err(NoPlan::PinIneligible { pin: pin.clone(), why });
    }
    first = Step { tier: None, pinned: Some(index), weight: None, ..first };
    if !from_route {
        steps.clear();
    }
    steps.insert(0, first);
    Ok(())
}

impl Plan {
    /// Every target that may be asked, and the route that it comes from.
    pub fn targets(&self) -> impl Iterator<Item = (&Target, Option<&ModelName>)> {
        self.steps.iter().map(|step| (&step.target, step.route.as_ref()))
    }

    /// Drops the targets that the caller may not use. Returns whether any is left.
    pub fn keep(&mut self, may: impl Fn(&Target, Option<&ModelName>) -> bool) -> bool {
        self.steps.retain(|step| may(&step.target, step.route.as_ref()));
        !self.steps.is_empty()
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Takes in how a pick ended, so that the next one goes where the verdict says. Returns whether
    /// there is any sense in asking for a next one.
    pub fn refused(&mut self, pick: &Pick, verdict: &Verdict) -> bool {
        if verdict.unreached() {
            self.unreached.push(Arc::clone(&pick.key.origin));
        }
        match verdict.request {
            Next::NextKey => true,
            // The caller keeps the pick and sends it again.
            Next::SameKey => true,
            Next::NextTarget => {
                self.next_target();
                true
            }
            Next::GiveUp => false,
        }
    }

    /// Leaves the current target, its other priorities included.
    pub fn next_target(&mut self) {
        let Some(left) = self.steps.get(self.at).map(|step| step.target.clone()) else { return };
        let mut index = 0;
        let at = self.at;
        self.steps.retain(|step| {
            let keep = index <= at || step.target != left;
            index += 1;
            keep
        });
        self.advance();
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
        // The same key may be tried again for another model.
        self.tried.clear();
    }
}
