//! Every key that a request could mean, whether it could serve, with which share, and why not.
//!
//! What `keyway route`, the 503 body and `GET /api/explain` show. Takes no probe and changes nothing;
//! holds no secret.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::pick::look;
use super::plan::{Plan, Step, plan};
use super::{ModelRequest, NoPlan};
use crate::dialect::{Dialect, Endpoint, Operation};
use crate::health::{Admission, Why};
use crate::id::{KeyId, KeyName, ModelName, ProviderName, UpstreamModel};
use crate::snapshot::index::{Ineligible, fold};
use crate::snapshot::{Key, Provider, Snapshot, Unready};
use crate::ticks::Ticks;
use crate::weight::Priority;

/// One key and what it means to the request.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyReason {
    pub provider: ProviderName,
    pub id: KeyId,
    pub name: KeyName,
    pub priority: Priority,
    /// As the target asks for it, and what the key's upstream is asked for.
    pub model: Option<ModelName>,
    pub upstream_model: Option<UpstreamModel>,
    /// Could be tried now, at once or after others.
    pub eligible: bool,
    /// Chance to be tried first.
    pub share: f64,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Drawn by weight for the first attempt.
    First,
    /// Serves when all before it are exhausted.
    Later,
    /// Weight 0 beside positive ones.
    Drained,
    /// Another key is pinned.
    NotPinned,
    Ineligible(Ineligible),
    Barred {
        why: Why,
        seconds: u64,
    },
}

impl From<Ineligible> for Reason {
    fn from(why: Ineligible) -> Self {
        Self::Ineligible(why)
    }
}

/// All keys in the order in which they would be tried.
pub fn explain(snapshot: &Snapshot, request: &ModelRequest, now: Ticks) -> Result<Vec<KeyReason>, NoPlan> {
    Ok(plan(snapshot, request)?.explain(snapshot, now))
}

/// A chat with this model as somebody would ask who calls it in a dialect that it is served in.
pub fn about(snapshot: &Snapshot, model: ModelName) -> Result<Plan, NoPlan> {
    let mut request = ModelRequest {
        endpoint: Endpoint { dialect: Dialect::OpenAi, operation: Operation::ChatCompletion },
        stream: false,
        model: Some(model),
        provider: None,
        native: &[],
        fallbacks: SmallVec::new(),
        pin: None,
    };
    let first = plan(snapshot, &request);
    if !matches!(first, Err(NoPlan::OtherDialect { .. })) {
        return first;
    }
    let mut others = Dialect::ALL.into_iter().filter_map(|dialect| {
        request.endpoint.dialect = dialect;
        plan(snapshot, &request).ok()
    });
    others.next().map_or(first, Ok)
}

/// How many keys there are for each reason: what a project's caller may know.
pub fn counts(reasons: &[KeyReason]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for key in reasons {
        *counts.entry(key.reason.code()).or_default() += 1;
    }
    counts
}

impl Plan {
    /// As [`explain`], for a plan that exists.
    pub fn explain(&self, snapshot: &Snapshot, now: Ticks) -> Vec<KeyReason> {
        let mut visits = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            let Some(provider) = snapshot.providers.get(step.target.provider as usize) else { continue };
            let first_visit = !self.steps.iter().take(at).any(|earlier| earlier.target == step.target);
            visits.push((step, provider, self.keys_of(provider, step, first_visit, now)));
        }
        let able: Vec<bool> = visits.iter().map(|(.., keys)| keys.iter().any(|(_, key)| key.eligible)).collect();
        let steps: Vec<&Step> = visits.iter().map(|(step, ..)| *step).collect();
        let chances = chances(&steps, &able);
        let mut out = Vec::new();
        for ((_, provider, mut keys), chance) in visits.into_iter().zip(chances) {
            if chance > 0.0 {
                share_out(chance, provider, &mut keys);
            }
            out.extend(keys.into_iter().map(|(_, reason)| reason));
        }
        out
    }

    /// The keys that a step is about, with their index, ordered by priority.
    fn keys_of(&self, provider: &Provider, step: &Step, first_visit: bool, now: Ticks) -> Vec<(u32, KeyReason)> {
        let folded = step.target.model.as_ref().map(|model| fold(model.as_str()));
        let mut keys = Vec::new();
        for (index, key) in (0..).zip(&provider.keys) {
            let reason = match key.ineligible(folded.as_deref(), self.batch) {
                // Told once, not again for each priority of the same target.
                Some(why) if first_visit => Reason::Ineligible(why),
                Some(_) => continue,
                None if step.tier.is_some_and(|priority| priority != key.priority) => continue,
                None if step.pinned.is_some_and(|pinned| pinned != index) => Reason::NotPinned,
                None => now_of(key, step, now),
            };
            keys.push((index, reason_of(key, step, reason)));
        }
        keys.sort_by_key(|(_, key)| (matches!(key.reason, Reason::Ineligible(_) | Reason::NotPinned), key.priority));
        keys
    }
}

fn now_of(key: &Key, step: &Step, now: Ticks) -> Reason {
    let upstream = step.target.model.as_ref().map(|model| key.upstream_model(model));
    match look(key, upstream.as_ref(), now) {
        Admission::Barred { until, why } => Reason::Barred { why, seconds: until.remaining(now).as_secs().max(1) },
        Admission::Free | Admission::Ramping { .. } | Admission::Probe => Reason::Later,
    }
}

fn reason_of(key: &Key, step: &Step, reason: Reason) -> KeyReason {
    KeyReason {
        provider: key.provider.clone(),
        id: key.id.clone(),
        name: key.name.clone(),
        priority: key.priority,
        model: step.target.model.clone(),
        upstream_model: step.target.model.as_ref().map(|model| key.upstream_model(model)),
        eligible: reason == Reason::Later,
        share: 0.0,
        reason,
    }
}

/// The chance that the first attempt falls on each step. A step without a key that could take it
/// leaves its chance to its siblings in a weighted route, and to the steps behind it in a chain.
fn chances(steps: &[&Step], able: &[bool]) -> Vec<f64> {
    let mut chances = Vec::with_capacity(steps.len());
    let mut given = false;
    for siblings in steps.chunk_by(|a, b| a.weight.is_some() && b.weight.is_some() && a.route == b.route) {
        let able: Vec<bool> = able.iter().skip(chances.len()).take(siblings.len()).copied().collect();
        let weight = |step: &Step, able: bool| if able && !given { step.weight.unwrap_or(1.0) } else { 0.0 };
        let total: f64 = siblings.iter().zip(&able).map(|(step, able)| weight(step, *able)).sum();
        let count = able.iter().filter(|able| **able).count();
        let even = 1.0 / count.max(1) as f64;
        chances.extend(siblings.iter().zip(&able).map(|(step, able)| match (total > 0.0, *able && !given) {
            (true, _) => weight(step, *able) / total,
            // All that could serve are drained: one as good as the other.
            (false, true) => even,
            (false, false) => 0.0,
        }));
        given |= count > 0;
    }
    chances
}

/// Divides the chance of a step among its keys of the first priority that has any.
fn share_out(chance: f64, provider: &Provider, keys: &mut [(u32, KeyReason)]) {
    let Some(priority) = keys.iter().filter(|(_, key)| key.eligible).map(|(_, key)| key.priority).min() else { return };
    let able = |key: &KeyReason| key.eligible && key.priority == priority;
    let weight = |index: u32| provider.keys.get(index as usize).map_or(0.0, |key| key.weight.value());
    let largest = keys.iter().filter(|(_, key)| able(key)).map(|(index, _)| weight(*index)).fold(0.0, f64::max);
    // As in the pool: relative to the largest, and evenly where all are zero.
    let part = |index: u32| if largest > 0.0 { weight(index) / largest } else { 1.0 };
    let total: f64 = keys.iter().filter(|(_, key)| able(key)).map(|(index, _)| part(*index)).sum();
    for (index, key) in keys.iter_mut().filter(|(_, key)| able(key)) {
        key.share = chance * part(*index) / total;
        key.reason = if part(*index) > 0.0 { Reason::First } else { Reason::Drained };
    }
}

impl KeyReason {
    /// For `keyway route --format json` and for management.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "provider": self.provider.as_str(), "key": self.name.as_str(), "id": self.id.as_str(),
            "priority": self.priority.value(),
            "model": self.model.as_ref().map(ModelName::as_str),
            "upstream_model": self.upstream_model.as_ref().map(UpstreamModel::as_str),
            "eligible": self.eligible, "share": self.share,
            "reason": self.reason.code(), "text": self.reason.text(),
        })
    }
}

impl Reason {
    /// Stable word, for labels and counts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Later => "later",
            Self::Drained => "drained",
            Self::NotPinned => "not_pinned",
            Self::Ineligible(why) => match why {
                Ineligible::Disabled => "disabled",
                Ineligible::Unready(Unready::EnvMissing { .. }) => "env_missing",
                Ineligible::Unready(Unready::FileUnreadable { .. }) => "file_unreadable",
                Ineligible::Unready(Unready::SealedUnreadable { .. }) => "sealed_unreadable",
                Ineligible::Unready(Unready::Incomplete { .. }) => "incomplete",
                Ineligible::NotForBatch => "not_for_batch",
                Ineligible::NotAllowed => "model_not_allowed",
                Ineligible::Denied => "model_blacklisted",
                Ineligible::OtherModel => "other_model",
            },
            Self::Barred { why, .. } => match why {
                Why::Unauthorized => "unauthorized",
                Why::ModelAccess => "model_refused",
                Why::Cooling => "cooling",
                Why::Breaker => "failing",
                Why::Probing => "probing",
            },
        }
    }

    /// For people, in one clause.
    pub fn text(&self) -> String {
        match self {
            Self::First => "drawn by weight for the first attempt".to_owned(),
            Self::Later => "used when those before it are exhausted".to_owned(),
            Self::Drained => "drained by weight 0".to_owned(),
            Self::NotPinned => "another key is pinned".to_owned(),
            Self::Ineligible(why) => match why {
                Ineligible::Disabled => "disabled in the config".to_owned(),
                Ineligible::Unready(Unready::EnvMissing { name }) => format!("environment variable {name} is not set"),
                Ineligible::Unready(Unready::FileUnreadable { path }) => {
                    format!("secret file {} cannot be read", path.display())
                }
                Ineligible::Unready(Unready::SealedUnreadable { why }) => {
                    format!("its sealed value cannot be opened: {why}")
                }
                Ineligible::Unready(Unready::Incomplete { what }) => format!("incomplete: {what}"),
                Ineligible::NotForBatch => "use_for_batch_api is not set".to_owned(),
                Ineligible::NotAllowed => "the model is not in models".to_owned(),
                Ineligible::Denied => "the model is in blacklisted_models".to_owned(),
                Ineligible::OtherModel => "serves another model only".to_owned(),
            },
            Self::Barred { why, seconds } => match why {
                Why::Unauthorized => format!("refused by the upstream, tried again in {seconds} s"),
                Why::ModelAccess => format!("this model was refused by the upstream, tried again in {seconds} s"),
                Why::Cooling => format!("rate limited for {seconds} s"),
                Why::Breaker => format!("failing, tried again in {seconds} s"),
                Why::Probing => "being tried by another request".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Dice;
    use super::super::plan::tests::ask;
    use super::*;
    use crate::health::Outcome;
    use crate::snapshot::Strategy;
    use crate::snapshot::fixture::{key, provider, snapshot};

    fn now() -> Ticks {
        Ticks::default().after(Duration::from_secs(1000))
    }

    fn shown(reasons: &[KeyReason]) -> Vec<String> {
        reasons
            .iter()
            .map(|key| format!("{} {} {:.3} {}", key.id, key.eligible, key.share, key.reason.code()))
            .collect()
    }

    #[test]
    fn every_key_and_its_reason() {
        let world = snapshot(vec![provider(
            "openai",
            vec![
                key("late").priority(900),
                key("a").weight(1.0),
                key("b").weight(3.0),
                key("drained").weight(0.0),
                key("off").disabled(),
                key("unset").unready(),
                key("other").models(&["other"]),
                key("denied").deny(&["m"]),
                key("only").only("other"),
                key("benched"),
                key("cooling"),
            ],
        )]);
        let cell = |n: usize| &world.providers[0].keys[n].health;
        cell(9).record(None, Outcome::Bench, now());
        cell(10).record(None, Outcome::Cool { until: None }, now());
        let reasons = explain(&world, &ask("openai/m"), now()).unwrap();
        assert_eq!(
            shown(&reasons),
            [
                "openai-a true 0.250 first",
                "openai-b true 0.750 first",
                "openai-drained true 0.000 drained",
                "openai-benched false 0.000 unauthorized",
                "openai-cooling false 0.000 cooling",
                "openai-late true 0.000 later",
                "openai-off false 0.000 disabled",
                "openai-unset false 0.000 env_missing",
                "openai-other false 0.000 model_not_allowed",
                "openai-denied false 0.000 model_blacklisted",
                "openai-only false 0.000 other_model",
            ]
        );
        assert_eq!(counts(&reasons)["first"], 2);
        let texts: Vec<_> = reasons.iter().map(|key| key.reason.text()).collect();
        assert!(texts.contains(&"rate limited for 30 s".to_owned()));
        assert!(texts.contains(&"environment variable KW_MISSING is not set".to_owned()));
    }

    #[test]
    fn ineligible_keys_are_told_once() {
        let world = snapshot(vec![
            provider("openai", vec![key("a").models(&["m"]), key("b").priority(1), key("off").disabled()]),
            provider("groq", vec![key("g").models(&["m"]).disabled()]),
        ]);
        assert_eq!(
            shown(&explain(&world, &ask("m"), now()).unwrap()),
            [
                "openai-b true 1.000 first",
                "openai-off false 0.000 disabled",
                "openai-a true 0.000 later",
                "groq-g false 0.000 disabled"
            ]
        );
        assert!(explain(&world, &ask("unknown"), now()).is_err());
    }

    #[test]
    fn pinned() {
        let world = snapshot(vec![provider("openai", vec![key("a"), key("b")])]);
        let request = ModelRequest { pin: Some(super::super::Pin::Name("b".into())), ..ask("openai/m") };
        assert_eq!(
            shown(&explain(&world, &request, now()).unwrap()),
            ["openai-b true 1.000 first", "openai-a false 0.000 not_pinned"]
        );
    }

    /// What is foretold is what is drawn.
    #[test]
    fn shares_are_those_of_the_draw() {
        let world = || {
            snapshot(vec![
                provider("openai", vec![key("a").weight(1.0), key("b").weight(4.0), key("c").priority(900)]),
                provider("groq", vec![key("g")]),
                provider("xai", vec![key("x").disabled()]),
            ])
        };
        let targets = [("openai", "m", 2.0), ("xai", "m", 5.0), ("groq", "m", 1.0)];
        for strategy in [Strategy::Weighted, Strategy::Fallback] {
            let world = world().route("@r", strategy, &targets);
            let reasons = explain(&world, &ask("@r"), now()).unwrap();
            assert!((reasons.iter().map(|key| key.share).sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", shown(&reasons));
            let mut dice = Dice::new(5);
            let draws = 40_000;
            let mut seen = BTreeMap::new();
            for _ in 0..draws {
                let pick = plan(&world, &ask("@r")).unwrap().next(&world, now(), &mut dice).unwrap();
                *seen.entry(pick.key.id.to_string()).or_insert(0u32) += 1;
            }
            for key in &reasons {
                let share = f64::from(seen.get(key.id.as_str()).copied().unwrap_or(0)) / f64::from(draws);
                assert!((share - key.share).abs() < 0.01, "{} {share} {:?}", key.id, shown(&reasons));
            }
        }
    }
}
