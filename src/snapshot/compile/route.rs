//! `routes`: named chains and shares of targets. No route inside a route.

use std::collections::HashMap;

use super::model_rule::is_model_name;
use super::provider::ProviderDraft;
use super::{Compiler, did_you_mean, is_plain_name};
use crate::config::Code;
use crate::config::file::{RouteFile, StrategyFile, TargetFile};
use crate::config::problem::pointer_to;
use crate::id::ModelName;
use crate::limits::{ROUTE_NAME_CHARS_MAX, ROUTE_TARGETS_MAX};
use crate::snapshot::{Route, RouteTarget, Strategy};
use crate::weight::Weight;

pub(super) fn all(
    cx: &mut Compiler<'_>,
    routes: &[(String, RouteFile)],
    providers: &[ProviderDraft],
) -> HashMap<Box<str>, Route> {
    let mut compiled = HashMap::new();
    for (name, file) in routes {
        let pointer = pointer_to("/routes", name);
        match name.strip_prefix('@') {
            None => {
                cx.problems.error(Code::BadValue, &*pointer, "the name of a route begins with `@`");
            }
            Some(rest) if !is_plain_name(rest, ROUTE_NAME_CHARS_MAX) => {
                let problem = cx.problems.error(Code::BadValue, &*pointer, "not a name for a route");
                problem.hint(format!("`@` and letters, digits, `.`, `_` and `-`, at most {ROUTE_NAME_CHARS_MAX}"));
            }
            Some(_) => {}
        }
        compiled.insert(name.as_str().into(), one(cx, name, file, providers, &pointer));
    }
    compiled
}

fn one(cx: &mut Compiler<'_>, name: &str, file: &RouteFile, providers: &[ProviderDraft], pointer: &str) -> Route {
    let strategy = match file.strategy {
        None | Some(StrategyFile::Fallback) => Strategy::Fallback,
        Some(StrategyFile::Weighted) => Strategy::Weighted,
        Some(StrategyFile::Latency) => {
            let at = pointer_to(pointer, "strategy");
            let problem =
                cx.problems.error(Code::NotSupportedYet, at, "this strategy is not supported by this release");
            problem.hint("`fallback` or `weighted`");
            Strategy::Fallback
        }
    };
    let written = file.targets.as_deref().unwrap_or_default();
    let at = pointer_to(pointer, "targets");
    if written.is_empty() {
        cx.missing(pointer, "targets", "a list of `provider/model`");
    } else if written.len() > ROUTE_TARGETS_MAX {
        cx.problems.error(Code::BadValue, &*at, format!("more than {ROUTE_TARGETS_MAX} targets"));
    }
    let targets = written
        .iter()
        .enumerate()
        .filter_map(|(i, file)| target(cx, file, providers, &pointer_to(&at, &i.to_string())))
        .collect();
    Route { name: name.into(), strategy, targets }
}

fn target(cx: &mut Compiler<'_>, file: &TargetFile, providers: &[ProviderDraft], pointer: &str) -> Option<RouteTarget> {
    if file.model.starts_with('@') {
        cx.problems.error(Code::Conflict, pointer, "a route cannot have a route as target");
        return None;
    }
    let Some((provider, model)) = file.model.split_once('/') else {
        let problem = cx.problems.error(Code::BadValue, pointer, "a target names its provider");
        problem.hint("write `provider/model`");
        return None;
    };
    if !is_model_name(model) {
        cx.problems.error(Code::BadValue, pointer, "no model after the provider");
        return None;
    }
    let Some(at) = providers.iter().position(|draft| draft.name.as_str() == provider) else {
        if cx.is_misread(&pointer_to("/providers", provider)) {
            return None;
        }
        let problem = cx.problems.error(Code::UnknownReference, pointer, "the target's provider is not configured");
        if let Some(hint) = did_you_mean(provider, providers.iter().map(|draft| draft.name.as_str())) {
            problem.hint(hint);
        }
        return None;
    };
    let folded = model.to_ascii_lowercase();
    let served = |draft: &ProviderDraft| draft.keys.iter().any(|key| key.enabled && key.rule.allows(&folded));
    if providers.get(at).is_some_and(|draft| !served(draft)) {
        let text = "no enabled key of the target's provider serves this model";
        cx.problems.warning(Code::Suspicious, pointer, text).hint("see `models` and `blacklisted_models` of its keys");
    }
    let provider = u32::try_from(at).ok()?;
    Some(RouteTarget { provider, model: ModelName::from(model), weight: file.weight.unwrap_or(Weight::DEFAULT) })
}
