//! What a bare name cannot say: shares across providers, and chains.

use super::deployment::Deployment;
use crate::import::findings::Findings;
use crate::import::out::{Out, OutKind};
use crate::import::source::At;
use crate::limits::ROUTE_NAME_CHARS_MAX;

/// One `provider/model`, and its share of its name.
struct Target<'d> {
    text: String,
    weight: f64,
    order: Option<u64>,
    at: &'d At<'d>,
}

pub(super) fn all(root: &At<'_>, deployments: &[Deployment<'_>], findings: &mut Findings) -> Option<Out> {
    let mut routes = Out::object(root);
    let mut names: Vec<&str> = Vec::new();
    for it in deployments.iter().filter(|it| !it.is_wildcard()) {
        if !names.contains(&&*it.public) {
            names.push(&it.public);
        }
    }
    let chains: Vec<At<'_>> = ["router_settings", "litellm_settings"]
        .into_iter()
        .filter_map(|section| root.get(section)?.get("fallbacks"))
        .flat_map(|list| list.items())
        .collect();
    for chain in &chains {
        for (name, list) in chain.members() {
            chained(name, &list, deployments, &mut routes, findings);
        }
    }
    for name in names {
        let targets = targets(name, deployments);
        let Some(first) = targets.first().filter(|_| targets.len() > 1) else { continue };
        let Some(route) = route_name(name) else { continue };
        let ordered = targets.iter().any(|target| target.order.is_some());
        if routes.member(&route).is_none() {
            let how = if ordered { "in their order" } else { "by weight" };
            let text = format!("served by several providers, tried in turn; ask for `{route}` to have them {how}");
            findings.changed(first.at, text);
            let weighted = !ordered;
            routes.set(&route, self::route(&targets, weighted, first.at));
        }
    }
    Some(routes)
}

/// `fallbacks: [{name: [other, …]}]`.
fn chained(name: &str, list: &At<'_>, deployments: &[Deployment<'_>], routes: &mut Out, findings: &mut Findings) {
    let mut chain = targets(name, deployments);
    let Some(route) = route_name(name).filter(|_| !chain.is_empty()) else {
        findings.dropped(list, "no deployment that was kept has the name that falls back");
        return;
    };
    for item in list.items() {
        let meant = item.get("model").and_then(|it| it.text()).or_else(|| item.text()).unwrap_or_default();
        let more = targets(meant, deployments);
        if more.is_empty() {
            findings.dropped(&item, "no deployment that was kept has this name");
        }
        for target in more {
            if !chain.iter().any(|known| known.text == target.text) {
                chain.push(target);
            }
        }
    }
    if chain.len() < 2 {
        findings.dropped(list, "nothing is left to fall back to");
        return;
    }
    findings.changed(list, format!("callers ask for `{route}` to have these fallbacks, or name them in the body"));
    routes.set(&route, self::route(&chain, false, list));
}

/// One target for each provider that serves a name, lowest order first.
fn targets<'d>(name: &str, deployments: &'d [Deployment<'d>]) -> Vec<Target<'d>> {
    let mut targets: Vec<Target<'d>> = Vec::new();
    for it in deployments.iter().filter(|it| it.public == name && !it.is_wildcard()) {
        let text = format!("{}/{}", it.vendor.provider, it.local);
        let weight = it.weight.unwrap_or(1.0);
        match targets.iter_mut().find(|target| target.text == text) {
            Some(target) => {
                target.weight += weight;
                target.order = target.order.min(it.order());
            }
            None => targets.push(Target { text, weight, order: it.order(), at: &it.at }),
        }
    }
    targets.sort_by_key(|target| target.order.unwrap_or(u64::MAX));
    targets
}

fn route(targets: &[Target<'_>], weighted: bool, at: &At<'_>) -> Out {
    let target = |it: &Target<'_>| {
        if !weighted {
            return Out::text(&*it.text, it.at);
        }
        let mut target = Out::object(it.at);
        target.set("model", Out::text(&*it.text, it.at));
        target.set("weight", Out::new(OutKind::Number(it.weight.to_string()), it.at));
        target
    };
    let mut out = Out::object(at);
    out.set("strategy", Out::text(if weighted { "weighted" } else { "fallback" }, at));
    out.set("targets", Out::list(targets.iter().map(target).collect(), at));
    out
}

/// `@` and the name, in the characters that a route may have.
fn route_name(name: &str) -> Option<String> {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }).collect();
    let fits = (1..=ROUTE_NAME_CHARS_MAX).contains(&plain.len()) && plain.contains(|c: char| c.is_ascii_alphanumeric());
    fits.then(|| format!("@{plain}"))
}
