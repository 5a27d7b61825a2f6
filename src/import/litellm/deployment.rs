//! `model_list`: each entry as one deployment for each name under which it is asked for.

use super::keys::is_config;
use super::vendors::{OPENAI, OWN_SERVER, Vendor, by_family, vendor};
use crate::import::findings::Findings;
use crate::import::out::Out;
use crate::import::source::At;

/// One model at one place, under one name.
pub(super) struct Deployment<'s> {
    pub at: At<'s>,
    pub params: At<'s>,
    /// Values of the credential that it names, asked where the entry has none.
    credential: Option<At<'s>>,
    pub vendor: &'static Vendor,
    /// As callers ask for it.
    pub public: String,
    /// As the provider here is asked for it.
    pub local: String,
    /// As the upstream is asked for it.
    pub upstream: String,
    /// Share, where several serve one name at one provider.
    pub weight: Option<f64>,
}

/// Members of `litellm_params` that become part of a key, or are told elsewhere.
const TAKEN: [&str; 10] = [
    "model",
    "api_key",
    "api_base",
    "base_url",
    "order",
    "weight",
    "rpm",
    "tpm",
    "custom_llm_provider",
    "litellm_credential_name",
];

const REASONS: &[(&str, &str)] = &[
    ("timeout", "deadlines are a provider's: `network_config`"),
    ("stream_timeout", "deadlines are a provider's: `network_config`"),
    ("request_timeout", "deadlines are a provider's: `network_config`"),
    ("max_retries", "retries are a provider's: `network_config.max_retries`"),
    ("num_retries", "retries are a provider's: `network_config.max_retries`"),
    ("organization", "headers are a provider's: `network_config.extra_headers`"),
    ("extra_headers", "headers are a provider's: `network_config.extra_headers`"),
    ("headers", "headers are a provider's: `network_config.extra_headers`"),
    ("max_parallel_requests", "requests in flight are bounded for the gateway: `server.limits.in_flight_max`"),
    ("input_cost_per_token", "write `prices`"),
    ("output_cost_per_token", "write `prices`"),
    ("azure_ad_token", "a token that ends within the hour; write client_id, client_secret and tenant_id"),
    ("mock_response", "the provider `mock` answers by itself"),
    ("tags", "there is no routing by tag"),
    ("max_budget", "budgets are a project's"),
    ("budget_duration", "budgets are a project's"),
];

pub(super) fn all<'s>(root: &At<'s>, findings: &mut Findings) -> Vec<Deployment<'s>> {
    let credentials = root.get("credential_list").map(|list| list.items()).unwrap_or_default();
    let aliases = root.get("router_settings").and_then(|it| it.get("model_group_alias"));
    let aliases = aliases.map(|it| it.members()).unwrap_or_default();
    let entries = root.get("model_list").map(|list| list.items()).unwrap_or_default();
    let mut deployments = Vec::with_capacity(entries.len());
    for entry in &entries {
        let Some(first) = one(entry, &credentials, findings) else { continue };
        for (alias, target) in &aliases {
            let meant = target.get("model").and_then(|it| it.text()).or_else(|| target.text());
            if meant == Some(&*first.public) {
                deployments.push(Deployment { public: (*alias).to_owned(), ..first.again() });
            }
        }
        deployments.push(first);
    }
    for (_, target) in &aliases {
        let meant = target.get("model").and_then(|it| it.text()).or_else(|| target.text()).unwrap_or_default();
        if !deployments.iter().any(|it| it.public == meant) {
            findings.dropped(target, "no deployment that was kept has the name that this stands for");
        }
    }
    weigh(&mut deployments, findings);
    deployments
}

fn one<'s>(entry: &At<'s>, credentials: &[At<'s>], findings: &mut Findings) -> Option<Deployment<'s>> {
    let (Some(name), Some(params)) = (entry.get("model_name").and_then(|it| it.text()), entry.get("litellm_params"))
    else {
        findings.dropped(entry, "a deployment has `model_name` and `litellm_params`");
        return None;
    };
    let Some(model_at) = params.get("model") else {
        findings.dropped(&params, "a deployment has a `model`");
        return None;
    };
    let model = model_at.text().unwrap_or_default().trim();
    let named = params.get("litellm_credential_name");
    let credential = named.as_ref().and_then(|named| {
        let is = |it: &&At<'s>| it.get("credential_name").is_some_and(|name| name.text() == named.text());
        credentials.iter().find(is)?.get("credential_values")
    });
    if let (Some(named), None) = (&named, &credential) {
        findings.dropped(named, "`credential_list` has no credential of that name");
    }
    let base = params.get("api_base").or_else(|| params.get("base_url"));
    let base = base.or_else(|| credential.as_ref().and_then(|it| it.get("api_base")));
    let (vendor, upstream) = match spoken(&params, model, base.is_some()) {
        Ok(found) => found,
        Err(why) => {
            findings.dropped(&model_at, why);
            return None;
        }
    };
    let mut it = Deployment {
        at: entry.clone(),
        params,
        credential,
        vendor,
        public: name.trim().to_owned(),
        local: String::new(),
        upstream: upstream.to_owned(),
        weight: None,
    };
    if it.vendor.provider == OPENAI && base.is_some() && it.value("api_key").is_none_or(|key| key.is_empty()) {
        findings.changed(&it.params, format!("a server of one's own without a key: now of `{OWN_SERVER}`"));
        it.vendor = super::vendors::vendor(OWN_SERVER)?;
    }
    if it.vendor.needs_base && base.is_none() {
        findings.dropped(entry, "no `api_base`, and this kind of server is nowhere by itself");
        return None;
    }
    untold(&it, findings);
    Some(it)
}

/// The provider of a model string, and the model as it is called there.
fn spoken<'m>(params: &At<'_>, model: &'m str, has_base: bool) -> Result<(&'static Vendor, &'m str), &'static str> {
    if let Some(named) = params.get("custom_llm_provider").and_then(|it| it.text()) {
        let found = vendor(named).ok_or("its provider is not known here")?;
        return Ok((found, model.strip_prefix(named).and_then(|rest| rest.strip_prefix('/')).unwrap_or(model)));
    }
    if let Some((prefix, rest)) = model.split_once('/')
        && let Some(found) = vendor(prefix)
    {
        // `bedrock/converse/…` and the like say which API, which is decided by the model here.
        let rest = rest.strip_prefix("converse/").or_else(|| rest.strip_prefix("invoke/")).unwrap_or(rest);
        return if rest.is_empty() { Err("no model after its provider") } else { Ok((found, rest)) };
    }
    match by_family(model) {
        Some(found) => Ok((found, model)),
        None if has_base && !model.contains('/') => vendor(OPENAI).map(|found| (found, model)).ok_or("no provider"),
        None => Err("its provider is not named, or is not known here"),
    }
}

/// What an entry says that a key cannot.
fn untold(it: &Deployment<'_>, findings: &mut Findings) {
    let taken = |name: &str| TAKEN.contains(&name) || is_config(it.vendor.provider, name);
    for (name, at) in it.params.members().into_iter().filter(|(name, at)| !taken(name) && !at.is_empty()) {
        let known = REASONS.iter().find(|(member, _)| *member == name).map(|(_, why)| *why);
        findings.dropped(&at, known.unwrap_or("requests are sent as the caller wrote them"));
    }
    for (name, at) in it.at.members().into_iter().filter(|(_, at)| !at.is_empty()) {
        match name {
            "model_name" | "litellm_params" => {}
            "model_info" => findings.dropped(&at, "nothing is said of models here; prices stand in `prices`"),
            _ => findings.dropped(&at, "there is nothing like it here"),
        }
    }
}

/// Shares as LiteLLM takes them: by `weight`, else by `rpm`, else by `tpm` of the first of a name.
fn weigh(deployments: &mut [Deployment<'_>], findings: &mut Findings) {
    let number = |it: &Deployment<'_>, member: &str| it.params.get(member).and_then(|it| it.number());
    for at in 0..deployments.len() {
        let Some(it) = deployments.get(at) else { continue };
        let same: Vec<&Deployment<'_>> = deployments.iter().filter(|other| other.public == it.public).collect();
        let by =
            ["weight", "rpm", "tpm"].into_iter().find(|by| same.first().is_some_and(|it| number(it, by).is_some()));
        let weight = by.filter(|_| same.len() > 1).map(|by| number(it, by).unwrap_or(0.0).max(0.0));
        for limit in ["rpm", "tpm"] {
            let Some(limit_at) = it.params.get(limit) else { continue };
            if weight.is_some() && by == Some(limit) {
                findings.changed(&limit_at, "no limit here; kept as the share of its name, as it is used there too");
            } else {
                findings.dropped(&limit_at, "a deployment has no limits here; 429 answers cool a key");
            }
        }
        if let Some(by) = by.filter(|by| weight.is_some() && number(it, by).is_none()) {
            findings.changed(&it.at, format!("without `{by}` it counts as 0, as it does there beside one that has it"));
        }
        if let Some(it) = deployments.get_mut(at) {
            it.weight = weight;
        }
    }
}

impl<'s> Deployment<'s> {
    fn again(&self) -> Self {
        Self {
            at: self.at.clone(),
            params: self.params.clone(),
            credential: self.credential.clone(),
            vendor: self.vendor,
            public: self.public.clone(),
            local: self.local.clone(),
            upstream: self.upstream.clone(),
            weight: self.weight,
        }
    }

    /// A member of the entry, else of the credential that it names.
    pub fn value(&self, name: &str) -> Option<At<'s>> {
        self.params.get(name).or_else(|| self.credential.as_ref().and_then(|it| it.get(name)))
    }

    /// The first of these that is there, as a secret.
    pub fn secret(&self, names: &[&str]) -> Option<Out> {
        names.iter().find_map(|name| self.value(name)).and_then(|at| secret(&at))
    }

    /// Lower is tried first.
    pub fn order(&self) -> Option<u64> {
        const PRIORITY_MAX: f64 = 1000.0;
        let order = self.params.get("order")?.number()?;
        // The cast is of a whole number in a small range.
        Some(order.clamp(0.0, PRIORITY_MAX) as u64)
    }

    /// The name stands for whatever the provider has.
    pub fn is_wildcard(&self) -> bool {
        self.public.contains('*')
    }
}

/// `os.environ/NAME` as `env.NAME`; a literal as it is.
pub(super) fn secret(at: &At<'_>) -> Option<Out> {
    let text = at.text().map(str::trim).filter(|text| !text.is_empty())?;
    let reference = text.strip_prefix("os.environ/").map(|name| format!("env.{}", name.trim()));
    Some(Out::text(reference.unwrap_or_else(|| text.to_owned()), at))
}
