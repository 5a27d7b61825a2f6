//! From what the caller asked for to the steps to take: CONTRACT 3.4 before any key is drawn.
//!
//! A step is a target, perhaps narrowed to one priority (bare names, whose groups interleave
//! providers) or to one pinned key. Says which; `pick.rs` draws.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::trouble::Trouble;
use super::{ModelRequest, NoPlan, Pick, Target, Verdict, verdict::Next};
use crate::dialect::{Endpoint, Operation};
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
    /// What came of the attempts so far; `None` until one has failed.
    pub(super) trouble: Option<Box<Trouble>>,
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
        return Err(not_served(snapshot, request, &providers));
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
    // An API of its own, asked for by the name of the provider: whatever path it has.
    let own = request.endpoint.operation == Operation::Other && request.provider.is_some();
    provider(snapshot, at).is_some_and(|provider| {
        (provider.row.serves(request.endpoint) || (own && provider.row.speaks.is_empty()))
            && provider.allowed.permits(request.endpoint.operation, request.stream)
    })
}

/// Why none of the providers that were meant serves the request.
fn not_served(snapshot: &Snapshot, request: &ModelRequest, meant: &[u32]) -> NoPlan {
    let Endpoint { dialect, operation } = request.endpoint;
    let meant = || meant.iter().filter_map(|at| provider(snapshot, *at));
    let mut providers: Vec<ProviderName> = meant().map(|provider| provider.name.clone()).collect();
    providers.dedup();
    match meant().any(|provider| provider.row.speaks(dialect)) {
        true => NoPlan::NotServed { providers, operation },
        false => NoPlan::OtherDialect { providers, dialect },
    }
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
    let speaks = |at: &u32| provider(snapshot, *at).is_some_and(|p| p.row.speaks(request.endpoint.dialect));
    let default = || by_name(DEFAULT_PROVIDER).filter(speaks);
    let first = || (0..).zip(&snapshot.providers).map(|(at, _)| at).find(speaks);
    let at = native(snapshot, request).or_else(default).or_else(first).ok_or(NoPlan::NoProvider)?;
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

    /// Whether another attempt may follow the pick just made: of another step, of another key of the
    /// same provider, or of the same key once more.
    pub fn has_others(&self, snapshot: &Snapshot) -> bool {
        let provider = self.steps.get(self.at).and_then(|step| snapshot.providers.get(step.target.provider as usize));
        let again = |provider: &Provider| provider.retry.max > 0 || provider.row.auth.is_shown_anew();
        self.steps.len() > self.at + 1 || provider.is_none_or(|provider| provider.keys.len() > 1 || again(provider))
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Takes in how a pick ended, so that the next one goes where the verdict says. `named` is how
    /// long the upstream asks to be left alone. Returns whether there is any sense in asking for a
    /// next pick.
    pub fn refused(
        &mut self,
        snapshot: &Snapshot,
        pick: &Pick,
        verdict: &Verdict,
        named: Option<Duration>,
        now: Ticks,
    ) -> bool {
        match verdict.request {
            Next::GiveUp => return false,
            // The caller keeps the pick and sends it again.
            Next::SameKey => return true,
            Next::NextKey | Next::NextTarget => {}
        }
        let Some(provider) = provider(snapshot, pick.provider) else { return true };
        let target = self.target_at(self.at);
        let trouble = self.trouble.get_or_insert_default();
        if !trouble.take_in(target, pick, verdict, &provider.retry, named, now) {
            self.next_target();
        }
        true
    }

    /// What the target of a step is known by: the first step that has it. Steps behind the current
    /// one may still change places, those before it do not.
    pub(super) fn target_at(&self, at: usize) -> usize {
        let Some(step) = self.steps.get(at) else { return at };
        self.steps.iter().position(|other| other.target == step.target).unwrap_or(at)
    }

    /// Whether the next step is about another target, or there is none.
    pub(super) fn ends_target(&self) -> bool {
        let of = |at: usize| self.steps.get(at).map(|step| &step.target);
        of(self.at) != of(self.at + 1)
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
        if self.ends_target()
            && let Some(trouble) = &mut self.trouble
        {
            trouble.leave();
        }
        self.at += 1;
        // The same key may be tried again for another model.
        self.tried.clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Pin;
    use super::*;
    use crate::dialect::Dialect;
    use crate::health::registry::Listed;
    use crate::snapshot::AllowedRequests;
    use crate::snapshot::fixture::{key, listing, provider, snapshot};
    use crate::snapshot::index::Ineligible;

    pub(in crate::dispatch) fn ask(model: &str) -> ModelRequest {
        let model = (!model.is_empty()).then(|| ModelName::new(model));
        let endpoint = Endpoint { dialect: Dialect::OpenAi, operation: Operation::ChatCompletion };
        let fallbacks = SmallVec::new();
        ModelRequest { endpoint, stream: false, model, provider: None, native: &[], fallbacks, pin: None }
    }

    /// Steps as text: provider/model, `#priority` where narrowed, `!` where pinned.
    fn steps(snapshot: &Snapshot, request: &ModelRequest) -> Result<Vec<String>, NoPlan> {
        let shown = |step: &Step| {
            let provider = &snapshot.providers[step.target.provider as usize].name;
            let model = step.target.model.as_ref().map_or("-", ModelName::as_str);
            let tier = step.tier.map_or(String::new(), |p| format!("#{}", p.value()));
            let pinned = if step.pinned.is_some() { "!" } else { "" };
            format!("{provider}/{model}{tier}{pinned}")
        };
        Ok(plan(snapshot, request)?.steps.iter().map(shown).collect())
    }

    fn world() -> Snapshot {
        let listed = Listed::from([("groq".into(), Arc::from(vec!["llama-9".into(), "gpt-5".into()]))]);
        let providers = vec![
            provider("groq", vec![key("g")]),
            provider("openai", vec![key("a"), key("b").priority(100), key("mini").models(&["Small"])]),
            provider("meta", vec![key("m").models(&["llama/9", "both"]).priority(200)]),
            provider("openrouter", vec![key("r").alias(&[("both", "x/y")])]),
            provider("denying", vec![key("d").deny(&["secret"])]),
        ];
        listing(providers, &listed)
            .route("@fast", Strategy::Fallback, &[("groq", "llama-9", 1.0), ("openai", "gpt-5", 1.0)])
            .route("@split", Strategy::Weighted, &[("groq", "x", 1.0), ("openai", "y", 2.0), ("groq", "x", 3.0)])
    }

    #[test]
    fn model_strings() {
        let world = world();
        for (asked, expected) in [
            ("openai/gpt-5", &["openai/gpt-5"][..]),
            // Only the first slash splits, and only where a provider stands before it.
            ("openrouter/anthropic/claude-x", &["openrouter/anthropic/claude-x"]),
            ("meta/llama/9", &["meta/llama/9"]),
            ("llama/9", &["meta/llama/9#200"]),
            // An unknown model of a known provider is the upstream's to refuse.
            ("groq/never-heard-of", &["groq/never-heard-of"]),
            // Names are exact: this is a bare name that nobody serves, and so are these.
            ("OpenAI/gpt-5", &[]),
            ("nobody/gpt-5", &[]),
            ("openai/", &[]),
            ("/gpt-5", &[]),
            ("nothing", &[]),
            ("@nothing", &[]),
            ("@fast", &["groq/llama-9", "openai/gpt-5"]),
            ("@Fast", &[]),
            ("@split", &["groq/x", "openai/y"]),
            // Named in the config, whatever lists or families say.
            ("small", &["openai/small#100", "openai/small#500"]),
            ("both", &["meta/both#200", "openrouter/both#500"]),
            // Listed by an upstream beats the family.
            ("gpt-5", &["groq/gpt-5#500"]),
            ("LLAMA-9", &["groq/LLAMA-9#500"]),
            ("gpt-4o", &["openai/gpt-4o#100", "openai/gpt-4o#500"]),
            // Denied by somebody: known, though nobody may.
            ("secret", &["denying/secret#500"]),
        ] {
            let got = steps(&world, &ask(asked));
            match got {
                Ok(got) => assert_eq!(got, expected, "{asked}"),
                Err(NoPlan::UnknownRoute { .. }) => assert!(asked.starts_with('@'), "{asked}"),
                Err(NoPlan::ModelNotFound { providers, .. }) => {
                    assert!(expected.is_empty() && providers.len() == 5 && !asked.starts_with('@'), "{asked}");
                }
                Err(other) => panic!("{asked}: {other:?}"),
            }
        }
    }

    #[test]
    fn native_paths() {
        let world = world();
        let native =
            |names: &'static [&'static str], model: &str| steps(&world, &ModelRequest { native: names, ..ask(model) });
        assert_eq!(native(&["openai"], "llama-9").unwrap(), ["openai/llama-9"]);
        assert_eq!(native(&["azure", "openai"], "x").unwrap(), ["openai/x"]);
        // A prefix and a route say more than the path.
        assert_eq!(native(&["openai"], "groq/x").unwrap(), ["groq/x"]);
        assert_eq!(native(&["openai"], "@fast").unwrap().len(), 2);
        // Not configured, or a custom provider that only shares the row.
        assert_eq!(native(&["azure"], "llama-9").unwrap(), ["groq/llama-9#500"]);
        let custom = snapshot(vec![provider("my-openai", vec![key("k").models(&["x"])])]);
        let request = ModelRequest { native: &["openai"], ..ask("x") };
        assert_eq!(steps(&custom, &request).unwrap(), ["my-openai/x#500"]);
        assert_eq!(steps(&custom, &ask("gpt-4o")).map_err(|e| e.to_error().public.code), Err("model_not_found"));
    }

    #[test]
    fn calls_without_a_model() {
        let world = world();
        let files = Endpoint { dialect: Dialect::OpenAi, operation: Operation::Files };
        let call = ModelRequest { endpoint: files, ..ask("") };
        assert_eq!(steps(&world, &call).unwrap(), ["openai/-"]);
        let named = |name: &str| ModelRequest { provider: Some(name.into()), ..call.clone() };
        assert_eq!(steps(&world, &named("groq")).unwrap(), ["groq/-"]);
        assert!(matches!(steps(&world, &named("nobody")), Err(NoPlan::UnknownProvider { .. })));
        let native = ModelRequest { native: &["openrouter"], ..call.clone() };
        assert_eq!(steps(&world, &native).unwrap(), ["openrouter/-"]);
        // Without openai the first that speaks the dialect, in file order.
        let others =
            snapshot(vec![provider("elevenlabs", vec![key("c")]), provider("mine", vec![]), provider("groq", vec![])]);
        assert_eq!(steps(&others, &call).unwrap(), ["mine/-"]);
        assert_eq!(steps(&snapshot(vec![]), &call), Err(NoPlan::NoProvider));
        let own_api = snapshot(vec![provider("elevenlabs", vec![key("c")])]);
        assert_eq!(steps(&own_api, &call), Err(NoPlan::NoProvider));
        assert!(matches!(steps(&own_api, &ask("elevenlabs/x")), Err(NoPlan::OtherDialect { .. })));
        let endpoint = Endpoint { operation: Operation::Other, ..call.endpoint };
        let by_name = ModelRequest { endpoint, provider: Some("elevenlabs".into()), ..ask("") };
        assert_eq!(steps(&own_api, &by_name).unwrap(), ["elevenlabs/-"]);
    }

    #[test]
    fn other_dialects() {
        let messages = |model: &str| {
            let endpoint = Endpoint { dialect: Dialect::Anthropic, operation: Operation::ChatCompletion };
            ModelRequest { endpoint, native: &["anthropic"], ..ask(model) }
        };
        let world = snapshot(vec![
            provider("openai", vec![key("o")]),
            provider("anthropic", vec![key("a")]),
            provider("mock", vec![]),
        ])
        .route("@mixed", Strategy::Fallback, &[("openai", "x", 1.0), ("anthropic", "y", 1.0)]);
        for (model, expected) in [
            ("claude-x", Some(&["anthropic/claude-x"][..])),
            // On a native path a bare name means the vendor, whosever family it is of.
            ("gpt-4o", Some(&["anthropic/gpt-4o"])),
            ("mock/m", Some(&["mock/m"])),
            ("@mixed", Some(&["anthropic/y"])),
            ("openai/gpt-4o", None),
        ] {
            match steps(&world, &messages(model)) {
                Ok(got) => assert_eq!(
                    Some(&*got),
                    expected.map(|e| e.iter().map(|s| s.to_string()).collect::<Vec<_>>()).as_deref()
                ),
                Err(error) => {
                    assert_eq!(expected, None, "{model}");
                    let openai = NoPlan::OtherDialect { providers: vec!["openai".into()], dialect: Dialect::Anthropic };
                    assert_eq!(error, openai);
                    assert_eq!(error.to_error().public.code, "translation_not_supported");
                }
            }
        }
        assert!(matches!(steps(&world, &ask("claude-x")), Err(NoPlan::OtherDialect { .. })));
        // Without a model: the vendor, else the first that speaks the dialect, never the default.
        assert_eq!(steps(&world, &messages("")).unwrap(), ["anthropic/-"]);
        let others = snapshot(vec![provider("openai", vec![key("o")]), provider("mock", vec![])]);
        assert_eq!(steps(&others, &messages("")).unwrap(), ["mock/-"]);
    }

    #[test]
    fn fallbacks() {
        let world = world();
        let with = |model: &str, fallbacks: &[&str]| {
            let fallbacks = fallbacks.iter().map(|f| ModelName::new(*f)).collect();
            steps(&world, &ModelRequest { fallbacks, ..ask(model) })
        };
        assert_eq!(with("groq/a", &["openai/b", "meta/c"]).unwrap(), ["groq/a", "openai/b", "meta/c"]);
        assert_eq!(with("groq/a", &["groq/a", "openai/b", "openai/b"]).unwrap(), ["groq/a", "openai/b"]);
        assert_eq!(with("groq/a", &["@fast"]).unwrap(), ["groq/a", "groq/llama-9", "openai/gpt-5"]);
        assert_eq!(with("small", &["both"]).unwrap().len(), 4);
        assert!(
            matches!(with("groq/a", &["typo/x"]), Err(NoPlan::ModelNotFound { model, .. }) if model.as_str() == "typo/x")
        );
        assert!(matches!(with("groq/a", &["@typo"]), Err(NoPlan::UnknownRoute { .. })));
        let many: Vec<String> = (0..40).map(|n| format!("groq/{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(with("groq/a", &many).unwrap().len(), 1 + FALLBACKS_MAX);
    }

    #[test]
    fn allowed_requests() {
        let mut narrow = provider("narrow", vec![key("n").models(&["x"])]);
        narrow.allowed = AllowedRequests::Only(vec!["embedding".into()]);
        let world = snapshot(vec![narrow, provider("wide", vec![key("w").models(&["x"])])]);
        assert_eq!(steps(&world, &ask("x")).unwrap(), ["wide/x#500"]);
        let request = ask("narrow/x");
        let error = NoPlan::NotServed { providers: vec!["narrow".into()], operation: Operation::ChatCompletion };
        assert_eq!(steps(&world, &request), Err(error.clone()));
        assert_eq!(error.to_error().public.message, "chat_completion is not served by narrow");
        let fallbacks = SmallVec::from_iter([ModelName::new("narrow/x")]);
        assert_eq!(steps(&world, &ModelRequest { fallbacks, ..ask("wide/x") }).unwrap(), ["wide/x"]);
        let embedding = Endpoint { operation: Operation::Embedding, ..request.endpoint };
        assert_eq!(steps(&world, &ModelRequest { endpoint: embedding, ..request }).unwrap(), ["narrow/x"]);
    }

    #[test]
    fn pins() {
        let world = world();
        let id = |id: &str, model: &str| {
            let fallbacks = SmallVec::from_iter([ModelName::new("groq/z")]);
            steps(&world, &ModelRequest { pin: Some(Pin::Id(id.into())), fallbacks, ..ask(model) })
        };
        assert_eq!(id("openai-a", "openai/x").unwrap(), ["openai/x!", "groq/z"]);
        // Any group of a bare name is the first choice, and the other groups are no fallback.
        assert_eq!(id("openrouter-r", "both").unwrap(), ["openrouter/both!", "groq/z"]);
        // A chain's first target alone; the rest of it stays.
        assert_eq!(id("groq-g", "@fast").unwrap(), ["groq/llama-9!", "openai/gpt-5", "groq/z"]);
        assert!(matches!(id("openai-a", "@fast"), Err(NoPlan::PinUnknown { .. })));
        assert_eq!(id("openai-a", "@split").unwrap(), ["openai/y!", "groq/x", "groq/z"]);
        assert!(matches!(id("groq-g", "openai/x"), Err(NoPlan::PinUnknown { .. })), "a key of another provider");
        let refused = id("openai-mini", "openai/x").unwrap_err();
        assert!(matches!(refused, NoPlan::PinIneligible { why: Ineligible::NotAllowed, .. }));
        assert!(refused.to_error().public.message.contains("\"openai-mini\""));
        let unknown = id("nobody", "openai/x").unwrap_err().to_error();
        assert_eq!(unknown.public.param.as_deref(), Some("x-bf-api-key-id"));
        assert!(unknown.public.message.contains("\"nobody\""));
        let name = ModelRequest { pin: Some(Pin::Name("b".into())), ..ask("openai/x") };
        assert_eq!(steps(&world, &name).unwrap(), ["openai/x!"]);
    }

    #[test]
    fn projects_narrow_a_plan() {
        let world = world();
        let mut plan = plan(&world, &ask("@fast")).unwrap();
        assert!(plan.targets().all(|(_, route)| route.is_some_and(|r| r.as_str() == "@fast")));
        assert!(plan.keep(|target, _| target.provider == 1));
        assert_eq!(plan.targets().count(), 1);
        assert!(!plan.keep(|_, _| false));
    }

    #[test]
    fn what_errors_repeat_is_bounded() {
        let world = snapshot((0..30).map(|n| provider(&format!("p{n}"), vec![])).collect());
        let error = plan(&world, &ask(&format!("a\nb{}", "x".repeat(2000)))).unwrap_err().to_error();
        assert!(error.public.message.len() < 400 && !error.public.message.contains('\n'));
        assert_eq!(error.public.param.as_deref(), Some("model"));
    }
}
