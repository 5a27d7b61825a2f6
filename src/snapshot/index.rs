//! Which keys serve a model, which providers a bare name means, and what a key calls a model.
//!
//! Built once at compile, so that a request does one map look-up and one binary search whatever the
//! number of keys. The only file that makes an [`UpstreamModel`]. Knows nothing that changes: what
//! is barred now is asked of the key's health by dispatch.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Aliases, Allow, AllowedRequests, Index, Key, ModelRule, Pool, Pools, Provider, Tier, Unready};
use crate::dialect::Operation;
use crate::health::registry::Listed;
use crate::id::{ModelName, UpstreamModel};
use crate::weight::Priority;

/// ASCII lower case, the form in which model names are compared (CONTRACT 2.3).
pub fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Why a key is out of the question for a request, whatever its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    Disabled,
    Unready(Unready),
    NotForBatch,
    /// Not in `models`.
    NotAllowed,
    /// In `blacklisted_models`.
    Denied,
    /// The key serves one other model only.
    OtherModel,
}

impl Allow {
    fn contains(&self, folded: &str) -> bool {
        match self {
            Self::All => true,
            Self::Set(names) => names.iter().any(|name| **name == *folded),
        }
    }
}

impl ModelRule {
    /// Deny wins. `folded` is the name that the caller used, without its provider.
    pub fn allows(&self, folded: &str) -> bool {
        self.allow.contains(folded) && !self.deny.contains(folded)
    }

    /// Whether there is any model at all that it allows: for calls without one.
    fn allows_any(&self) -> bool {
        self.deny != Allow::All
            && match &self.allow {
                Allow::All => true,
                Allow::Set(names) => names.iter().any(|name| !self.deny.contains(name)),
            }
    }
}

impl Aliases {
    /// Later entries of the same name win over earlier ones; compile reports them beforehand.
    pub fn new<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut aliases = Self::default();
        for (name, model_id) in entries {
            let model = UpstreamModel::new(model_id);
            aliases.folded.insert(fold(name).into(), model.clone());
            aliases.exact.insert(name.into(), model);
            aliases.names.push(name.into());
        }
        aliases
    }

    /// The exact name first, then ignoring case. Not chained: an alias of an alias is not followed.
    fn get(&self, name: &str) -> Option<&UpstreamModel> {
        if self.exact.is_empty() {
            return None;
        }
        self.exact.get(name).or_else(|| self.folded.get(&*fold(name)))
    }
}

impl Key {
    /// What this key's upstream calls the model.
    pub fn upstream_model(&self, name: &ModelName) -> UpstreamModel {
        self.aliases.get(name.as_str()).cloned().unwrap_or_else(|| UpstreamModel::new(name.shared()))
    }

    /// Why the key cannot serve such a request, or `None` where it can: the filter of
    /// [`pools`], told for one key. `model` is folded.
    pub fn ineligible(&self, model: Option<&str>, batch: bool) -> Option<Ineligible> {
        if !self.enabled {
            return Some(Ineligible::Disabled);
        }
        if let Err(unready) = &self.ready {
            return Some(Ineligible::Unready(unready.clone()));
        }
        if batch && !self.for_batch {
            return Some(Ineligible::NotForBatch);
        }
        let Some(model) = model else {
            return (!self.rule.allows_any()).then_some(Ineligible::NotAllowed);
        };
        if self.rule.deny.contains(model) {
            return Some(Ineligible::Denied);
        }
        if !self.rule.allow.contains(model) {
            return Some(Ineligible::NotAllowed);
        }
        (!self.is_its_model(model)).then_some(Ineligible::OtherModel)
    }

    /// A vLLM server runs one model: it is asked for by its name or by an alias for it.
    fn is_its_model(&self, folded: &str) -> bool {
        let Some(only) = self.ready.as_ref().ok().and_then(|ready| ready.only_model.as_deref()) else { return true };
        folded == only || self.aliases.get(folded).is_some_and(|model| *fold(model.as_str()) == *only)
    }

    /// Names that set this key apart from one that serves everything.
    fn special_names(&self) -> impl Iterator<Item = Box<str>> {
        let set = |allow: &Allow| match allow {
            Allow::All => Vec::new(),
            Allow::Set(names) => names.clone(),
        };
        let only = self.ready.as_ref().ok().and_then(|ready| ready.only_model.clone());
        // An alias matters for who serves only where it leads to the one model of the key.
        let aliases = only.iter().flat_map(|_| self.aliases.folded.keys().cloned()).collect::<Vec<_>>();
        set(&self.rule.allow).into_iter().chain(set(&self.rule.deny)).chain(only).chain(aliases)
    }

    /// Whether some names are special to it while all others are served.
    fn is_general(&self) -> bool {
        self.rule.allow == Allow::All
            && self.rule.deny != Allow::All
            && self.ready.as_ref().is_ok_and(|ready| ready.only_model.is_none())
    }
}

impl AllowedRequests {
    /// Files and batches are one operation each here and several at Bifrost (`file_upload`,
    /// `batch_create`, …): any of them opens the family.
    pub fn permits(&self, operation: Operation, stream: bool) -> bool {
        let Self::Only(names) = self else { return true };
        let name = operation.as_str();
        names.iter().any(|allowed| match operation {
            Operation::Files => **allowed == *name || allowed.starts_with("file_"),
            Operation::Batches => **allowed == *name || allowed.starts_with("batch_"),
            _ if stream => allowed.strip_suffix("_stream") == Some(name),
            _ => **allowed == *name,
        })
    }
}

/// Keys of one provider by requested model. Only keys that could serve are in; health is not asked.
pub fn pools(keys: &[Arc<Key>]) -> Pools {
    let usable: Vec<(u32, &Key)> =
        (0..).zip(keys.iter().map(|key| &**key)).filter(|(_, key)| could_serve(key)).collect();
    let general: Vec<(u32, &Key)> = usable.iter().copied().filter(|(_, key)| key.is_general()).collect();
    // Every name that is special to some key, with the keys that it is special to. Disabled keys
    // count too: their names are known, though nobody serves them.
    let mut special: HashMap<Box<str>, Vec<(u32, &Key)>> = HashMap::new();
    for (at, key) in (0..).zip(keys) {
        for name in key.special_names() {
            let keys = special.entry(name).or_default();
            if could_serve(key) && keys.last().is_none_or(|(last, _)| *last != at) {
                keys.push((at, key));
            }
        }
    }
    let mut pools = Pools {
        any: pool(&usable),
        batch_any: pool(&for_batch(&usable)),
        rest: pool(&general),
        batch_rest: pool(&for_batch(&general)),
        ..Pools::default()
    };
    for (name, concerned) in special {
        let others = general.iter().filter(|(at, _)| concerned.binary_search_by_key(at, |(at, _)| *at).is_err());
        let mut able: Vec<(u32, &Key)> = concerned
            .iter()
            .filter(|(_, key)| key.ineligible(Some(&name), false).is_none())
            .chain(others)
            .copied()
            .collect();
        able.sort_unstable_by_key(|(at, _)| *at);
        pools.batch_by_model.insert(name.clone(), pool(&for_batch(&able)));
        pools.by_model.insert(name, pool(&able));
    }
    pools
}

fn could_serve(key: &Key) -> bool {
    key.ineligible(None, false).is_none()
}

fn for_batch<'a>(keys: &[(u32, &'a Key)]) -> Vec<(u32, &'a Key)> {
    keys.iter().copied().filter(|(_, key)| key.for_batch).collect()
}

fn pool(keys: &[(u32, &Key)]) -> Pool {
    let mut by_priority: Vec<(u32, &Key)> = keys.to_vec();
    // Stable: inside one priority the order of the file stays.
    by_priority.sort_by_key(|(_, key)| key.priority);
    Pool { tiers: by_priority.chunk_by(|(_, a), (_, b)| a.priority == b.priority).filter_map(tier).collect() }
}

/// Cumulative weights of keys of one priority. They are taken relative to the largest, so that
/// neither 1e-300 nor 1e300 leaves the range in which a sum is exact enough to draw from.
fn tier(keys: &[(u32, &Key)]) -> Option<Tier> {
    let priority = keys.first()?.1.priority;
    let largest = keys.iter().map(|(_, key)| key.weight.value()).fold(0.0, f64::max);
    let mut tier = Tier { priority, draws: Vec::with_capacity(keys.len()), drained: Vec::new() };
    let mut sum = 0.0;
    for (at, key) in keys {
        let share = if largest > 0.0 { key.weight.value() / largest } else { 1.0 };
        // A weight too small to count beside the largest is as good as drained.
        if sum + share > sum {
            sum += share;
            tier.draws.push((*at, sum));
        } else {
            tier.drained.push(*at);
        }
    }
    Some(tier)
}

impl Pools {
    /// `model` is folded; `None` = a call without a model.
    pub fn of(&self, model: Option<&str>, batch: bool) -> &Pool {
        match (model, batch) {
            (None, false) => &self.any,
            (None, true) => &self.batch_any,
            (Some(model), false) => self.by_model.get(model).unwrap_or(&self.rest),
            (Some(model), true) => self.batch_by_model.get(model).unwrap_or(&self.batch_rest),
        }
    }

    /// Whether some key's rule speaks of this model, be it to deny it.
    pub fn knows(&self, folded: &str) -> bool {
        self.by_model.contains_key(folded)
    }
}

/// Groups of (priority, provider) for one bare name, first choice first.
pub type Groups = SmallVec<[(Priority, u32); 4]>;

/// The groups in which a provider's keys serve a model. A provider whose keys all are out of the
/// question still has one, with no key in it: the answer is then "no eligible key" and not
/// "unknown model".
pub fn groups_of(provider: &Provider, at: u32, folded: &str) -> Groups {
    let tiers = &provider.pools.of(Some(folded), false).tiers;
    if tiers.is_empty() {
        return Groups::from_iter([(Priority::DEFAULT, at)]);
    }
    tiers.iter().map(|tier| (tier.priority, at)).collect()
}

/// Which providers a bare model name means: those that name it, and those that list it.
pub fn build(providers: &[Arc<Provider>], listed: &Listed) -> Index {
    let mut index = Index::default();
    for (at, provider) in (0..).zip(providers) {
        index.by_name.insert(provider.name.clone(), at);
        let mut named: Vec<Box<str>> = provider.keys.iter().flat_map(|key| names_of(key)).collect();
        let mut known: Vec<Box<str>> = listed
            .get(&provider.name)
            .map(|models| models.iter().map(|m| fold(m).into()).collect())
            .unwrap_or_default();
        for (names, map) in [(&mut named, &mut index.named), (&mut known, &mut index.listed)] {
            names.sort_unstable();
            names.dedup();
            for name in names.drain(..) {
                let groups = groups_of(provider, at, &name);
                map.entry(name).or_default().extend(groups);
            }
        }
    }
    for groups in index.named.values_mut().chain(index.listed.values_mut()) {
        groups.sort_unstable();
    }
    index
}

/// Names in `models` and `aliases` of a key, folded.
fn names_of(key: &Key) -> Vec<Box<str>> {
    let allowed = match &key.rule.allow {
        Allow::All => &[][..],
        Allow::Set(names) => names,
    };
    let only = key.ready.as_ref().ok().and_then(|ready| ready.only_model.clone());
    allowed.iter().cloned().chain(key.aliases.folded.keys().cloned()).chain(only).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{key, provider};
    use super::*;

    /// bifrost.md 11.3, and what an alias does.
    #[test]
    fn permission() {
        let fast = [("fast", "gpt-4o-mini")];
        let chain = [("a", "b"), ("b", "c")];
        let other_case = [("Fast", "gpt-4o-mini")];
        for (models, denied, aliases, ask, upstream) in [
            (&["*"][..], &[][..], &[][..], "gpt-4o", Some("gpt-4o")),
            (&[], &[], &[], "gpt-4o", None),
            (&["gpt-4o"], &[], &[], "GPT-4O", Some("GPT-4O")),
            (&["GPT-4o"], &[], &[], "gpt-4O", Some("gpt-4O")),
            (&["gpt-4o"], &["gpt-4o"], &[], "gpt-4o", None),
            (&["*"], &["*"], &[], "any", None),
            (&["*"], &["gpt-4o"], &[], "gpt-4o-mini", Some("gpt-4o-mini")),
            (&["*"], &["gpt-4o"], &[], "GPT-4o", None),
            (&["gpt-4o"], &[], &[], "gpt-4o-mini", None),
            (&["fast"], &[], &fast, "fast", Some("gpt-4o-mini")),
            (&["gpt-4o-mini"], &[], &fast, "fast", None),
            (&["gpt-4o-mini"], &[], &fast, "gpt-4o-mini", Some("gpt-4o-mini")),
            (&["*"], &[], &chain, "a", Some("b")),
            (&["*"], &[], &chain, "b", Some("c")),
            (&["fast"], &[], &other_case, "FAST", Some("gpt-4o-mini")),
            (&["*"], &["fast"], &other_case, "fast", None),
        ] {
            let key = key("k").models(models).deny(denied).alias(aliases);
            let ask = ModelName::new(ask);
            let folded = ask.folded();
            let allowed = key.ineligible(Some(&folded), false).is_none();
            assert_eq!(allowed, key.rule.allows(&folded));
            let got = allowed.then(|| key.upstream_model(&ask));
            assert_eq!(got.as_ref().map(UpstreamModel::as_str), upstream, "{models:?} {denied:?} {aliases:?} {ask}");
        }
    }

    #[test]
    fn exact_alias_before_folded() {
        let key = key("k").alias(&[("Fast", "upper"), ("fast", "lower"), ("FAST", "loud")]);
        for (ask, upstream) in [("Fast", "upper"), ("fast", "lower"), ("FAST", "loud"), ("fASt", "loud"), ("x", "x")] {
            assert_eq!(key.upstream_model(&ModelName::new(ask)).as_str(), upstream, "{ask}");
        }
        assert_eq!(key.aliases.names.len(), 3);
    }

    #[test]
    fn the_one_model_of_a_server() {
        let key = key("k").only("llama-3").alias(&[("fast", "Llama-3"), ("slow", "other")]);
        for (ask, why) in [
            ("llama-3", None),
            ("fast", None),
            ("slow", Some(Ineligible::OtherModel)),
            ("gpt", Some(Ineligible::OtherModel)),
        ] {
            assert_eq!(key.ineligible(Some(ask), false), why, "{ask}");
        }
        let provider = provider("vllm", vec![key, super::super::fixture::key("general")]);
        let keys_for = |model: &str| provider.pools.of(Some(model), false).tiers[0].draws.len();
        assert_eq!((keys_for("llama-3"), keys_for("fast"), keys_for("slow"), keys_for("gpt")), (2, 2, 1, 1));
    }

    #[test]
    fn tiers_and_weights() {
        let keys = vec![
            key("late").priority(600),
            key("a").weight(1.0),
            key("b").weight(3.0),
            key("drained").weight(0.0),
            key("first").priority(0).weight(0.0),
            key("first too").priority(0).weight(0.0),
        ];
        let provider = provider("openai", keys);
        let tiers = &provider.pools.of(Some("m"), false).tiers;
        let shown: Vec<_> = tiers.iter().map(|t| (t.priority.value(), t.draws.clone(), t.drained.clone())).collect();
        let third = 1.0 / 3.0;
        assert_eq!(
            shown,
            [
                // All zero: evenly, none drained.
                (0, vec![(4, 1.0), (5, 2.0)], vec![]),
                (500, vec![(1, third), (2, third + 1.0)], vec![3]),
                (600, vec![(0, 1.0)], vec![]),
            ]
        );
    }

    #[test]
    fn weights_at_the_edges_of_a_double() {
        for (weights, draws) in [
            (&[0.001, 0.001][..], 2),
            (&[5e-324, 5e-324], 2),
            (&[f64::MAX, f64::MAX], 2),
            (&[1e-300, 1e-301], 2),
            // Nothing beside the largest: never drawn while it is there.
            (&[1e300, 1e-300], 1),
            (&[1.0, 0.0], 1),
        ] {
            let keys = weights.iter().enumerate().map(|(i, w)| key(&i.to_string()).weight(*w)).collect();
            let provider = provider("openai", keys);
            let tier = &provider.pools.any.tiers[0];
            assert_eq!(tier.draws.len(), draws, "{weights:?}");
            assert_eq!(tier.draws.len() + tier.drained.len(), weights.len());
            assert!(tier.draws.iter().all(|(_, sum)| sum.is_finite() && *sum > 0.0));
        }
    }

    #[test]
    fn bare_names() {
        let providers: Vec<_> = [
            provider("openai", vec![key("a").models(&["GPT-x", "shared"]), key("b").priority(100)]),
            provider(
                "my-vllm",
                vec![key("c").alias(&[("fast", "m")]).priority(50), key("d").models(&["shared"]).disabled()],
            ),
            provider(
                "groq",
                vec![key("e").models(&["shared"]).deny(&["shared"]), key("f").unready().models(&["gone"])],
            ),
        ]
        .into_iter()
        .map(Arc::new)
        .collect();
        let listed = Listed::from([("groq".into(), Arc::from(vec!["Llama-9".into(), "shared".into()]))]);
        let index = build(&providers, &listed);
        let named =
            |name: &str| index.named.get(name).map(|g| g.iter().map(|(p, at)| (p.value(), *at)).collect::<Vec<_>>());
        assert_eq!(named("gpt-x"), Some(vec![(100, 0), (500, 0)]));
        assert_eq!(named("fast"), Some(vec![(50, 1)]));
        // Interleaved by priority; my-vllm by its general key; groq names it and nobody there may.
        assert_eq!(named("shared"), Some(vec![(50, 1), (100, 0), (500, 0), (500, 2)]));
        assert_eq!(named("gone"), Some(vec![(500, 2)]));
        assert!(named("GPT-x").is_none() && named("other").is_none());
        assert_eq!(index.listed["llama-9"], [(Priority::DEFAULT, 2)]);
        assert_eq!(index.by_name["my-vllm"], 1);
    }

    #[test]
    fn allowed_requests() {
        let only = |names: &[&str]| AllowedRequests::Only(names.iter().map(|n| (*n).into()).collect());
        for (allowed, operation, stream, expected) in [
            (AllowedRequests::All, Operation::Other, true, true),
            (only(&[]), Operation::ChatCompletion, false, false),
            (only(&["chat_completion"]), Operation::ChatCompletion, false, true),
            (only(&["chat_completion"]), Operation::ChatCompletion, true, false),
            (only(&["chat_completion_stream"]), Operation::ChatCompletion, true, true),
            (only(&["chat_completion_stream"]), Operation::ChatCompletion, false, false),
            (only(&["file_upload"]), Operation::Files, false, true),
            (only(&["batch_create"]), Operation::Files, false, false),
            (only(&["batch_create"]), Operation::Batches, false, true),
        ] {
            assert_eq!(allowed.permits(operation, stream), expected, "{allowed:?} {operation:?} {stream}");
        }
    }

    fn any_key() -> impl Strategy<Value = Key> {
        let names = proptest::collection::vec(0usize..4, 0..3);
        (names.clone(), names, any::<[bool; 4]>(), 0u16..3, 0usize..4).prop_map(
            |(allow, deny, flags, priority, only)| {
                const NAMES: [&str; 4] = ["a", "b", "c", "fast"];
                let pick = |at: &[usize]| at.iter().map(|at| NAMES[*at]).collect::<Vec<_>>();
                let [all, enabled, batch, ready] = flags;
                let mut made = key("k").deny(&pick(&deny)).priority(priority).alias(&[("fast", "a")]);
                if !all {
                    made = made.models(&pick(&allow));
                }
                if only < 2 {
                    made = made.only(NAMES[only]);
                }
                made.for_batch = batch;
                made.enabled = enabled;
                if ready { made } else { made.unready() }
            },
        )
    }

    proptest! {
        /// A pool holds exactly the keys that are eligible one by one, once each, in priority order.
        #[test]
        fn pools_say_what_keys_say(keys in proptest::collection::vec(any_key(), 0..8)) {
            let keys: Vec<_> = keys.into_iter().map(Arc::new).collect();
            let pools = pools(&keys);
            for model in [None, Some("a"), Some("b"), Some("c"), Some("fast"), Some("other")] {
                for batch in [false, true] {
                    let tiers = &pools.of(model, batch).tiers;
                    prop_assert!(tiers.is_sorted_by(|a, b| a.priority < b.priority));
                    let mut held: Vec<u32> =
                        tiers.iter().flat_map(|t| t.draws.iter().map(|(at, _)| *at).chain(t.drained.iter().copied())).collect();
                    held.sort_unstable();
                    let eligible: Vec<u32> = (0..).zip(&keys).filter(|(_, k)| k.ineligible(model, batch).is_none()).map(|(at, _)| at).collect();
                    prop_assert_eq!(held, eligible, "{:?} {}", model, batch);
                }
            }
        }
    }
}
