//! Every key that a request could mean, whether it could serve, with which share, and why not.
//!
//! What `keyway route`, the 503 body and `GET /api/explain` show. Takes no probe and changes nothing;
//! holds no secret.

use std::collections::BTreeMap;

use super::pick::look;
use super::plan::{Plan, Step, plan};
use super::{ModelRequest, NoPlan};
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
        let mut out = Vec::new();
        let mut chances = Chances::of(&self.steps);
        for (at, step) in self.steps.iter().enumerate() {
            let Some(provider) = snapshot.providers.get(step.target.provider as usize) else { continue };
            let first_visit = !self.steps.iter().take(at).any(|earlier| earlier.target == step.target);
            let mut keys = self.keys_of(provider, step, first_visit, now);
            chances.spend(at, &self.steps, provider, &mut keys);
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

/// The chance that the first attempt falls on each step, handed down to the next step in line where
/// one has no key that could take it.
struct Chances {
    /// Still to be given away.
    left: f64,
}

impl Chances {
    fn of(steps: &[Step]) -> Self {
        Self { left: if steps.is_empty() { 0.0 } else { 1.0 } }
    }

    fn spend(&mut self, at: usize, steps: &[Step], provider: &Provider, keys: &mut [(u32, KeyReason)]) {
        let chance = self.left * share_of_step(at, steps);
        let Some(priority) = keys.iter().filter(|(_, key)| key.eligible).map(|(_, key)| key.priority).min() else {
            // Nobody here: what was meant for this step stays for those behind it.
            return;
        };
        let weight = |index: u32| provider.keys.get(index as usize).map_or(0.0, |key| key.weight.value());
        let able = |key: &KeyReason| key.eligible && key.priority == priority;
        let largest = keys.iter().filter(|(_, key)| able(key)).map(|(index, _)| weight(*index)).fold(0.0, f64::max);
        // As in the pool: relative to the largest, and evenly where all are zero.
        let part = |index: u32| if largest > 0.0 { weight(index) / largest } else { 1.0 };
        let total: f64 = keys.iter().filter(|(_, key)| able(key)).map(|(index, _)| part(*index)).sum();
        for (index, key) in keys.iter_mut().filter(|(_, key)| able(key)) {
            key.share = chance * part(*index) / total;
            key.reason = if part(*index) > 0.0 { Reason::First } else { Reason::Drained };
            if chance == 0.0 {
                key.reason = Reason::Later;
            }
        }
        self.left -= chance;
    }
}

/// Of what is left when the step's turn comes: all of it in a chain, its weight among the siblings
/// behind it in a weighted route.
fn share_of_step(at: usize, steps: &[Step]) -> f64 {
    let Some(Step { weight: Some(weight), route, .. }) = steps.get(at) else { return 1.0 };
    let siblings = || steps.iter().skip(at).take_while(|step| step.weight.is_some() && step.route == *route);
    let total: f64 = siblings().filter_map(|step| step.weight).sum();
    if total > 0.0 {
        return weight / total;
    }
    // All that are left are drained: one as good as the other.
    #[expect(clippy::cast_precision_loss, reason = "a route has few targets")]
    let even = 1.0 / siblings().count() as f64;
    even
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
                Ineligible::Unready(Unready::SealedUnreadable) => "sealed_unreadable",
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
                Ineligible::Unready(Unready::SealedUnreadable) => "its sealed value cannot be opened".to_owned(),
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
