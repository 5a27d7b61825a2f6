//! `projects`: who may call the data plane, and what for.

use std::collections::HashSet;
use std::sync::Arc;

use super::access::{self, Entry};
use super::provider::ProviderDraft;
use super::{Compiler, did_you_mean, is_plain_name};
use crate::budget::{Budget, Period, Reach, Unit, Window};
use crate::config::Code;
use crate::config::file::{BudgetFile, ProjectFile, RouteFile};
use crate::config::problem::pointer_to;
use crate::health::Registry;
use crate::id::ProjectId;
use crate::limits::{BUDGETS_MAX, PROJECT_ID_CHARS_MAX, PROJECT_RATE_DEFAULT};
use crate::snapshot::Project;

pub(super) fn all(
    cx: &mut Compiler<'_>,
    projects: &[ProjectFile],
    providers: &[ProviderDraft],
    routes: Option<&[(String, RouteFile)]>,
) -> Vec<Project> {
    let mut ids: HashSet<&str> = HashSet::new();
    let mut compiled = Vec::with_capacity(projects.len());
    for (i, file) in projects.iter().enumerate() {
        let pointer = pointer_to("/projects", &i.to_string());
        let at = pointer_to(&pointer, "id");
        match file.id.as_deref() {
            None => {
                cx.missing(&pointer, "id", "logs, budgets and `route --project` name the project by it");
            }
            Some(id) if !is_plain_name(id, PROJECT_ID_CHARS_MAX) => {
                let problem = cx.problems.error(Code::BadValue, at, "not an id for a project");
                problem.hint(format!("letters, digits, `.`, `_` and `-`, at most {PROJECT_ID_CHARS_MAX}"));
            }
            Some(id) if !ids.insert(id) => {
                cx.problems.error(Code::Duplicate, at, "another project has the same id");
            }
            Some(_) => {}
        }
        compiled.push(one(cx, file, providers, routes, &pointer));
    }
    compiled
}

fn one(
    cx: &mut Compiler<'_>,
    file: &ProjectFile,
    providers: &[ProviderDraft],
    routes: Option<&[(String, RouteFile)]>,
    pointer: &str,
) -> Project {
    let keys = file.keys.as_deref().unwrap_or_default();
    if keys.is_empty() {
        cx.problems.warning(Code::Suspicious, pointer, "no keys: nobody can call as this project");
    }
    let entries = keys.iter().map(|key| Entry {
        name: key.name.as_deref(),
        hash: key.hash.as_deref(),
        value: key.value.as_ref(),
        rate_limit: key.rate_limit_per_minute.unwrap_or(PROJECT_RATE_DEFAULT),
    });
    let keys = access::keys(cx, entries, &pointer_to(pointer, "keys"));
    let models = match &file.models {
        None => vec!["*".into()],
        Some(patterns) => patterns_of(cx, patterns, providers, routes, &pointer_to(pointer, "models")),
    };
    let budgets = budgets(cx, file.budgets.as_deref().unwrap_or_default(), &pointer_to(pointer, "budgets"));
    let closed = file.on_state_outage.as_deref().map(|policy| policy == "closed");
    Project {
        id: ProjectId::from(file.id.as_deref().unwrap_or_default()),
        keys,
        models,
        passthrough: file.passthrough.unwrap_or(false),
        pin: file.pin.unwrap_or(false),
        // A limit that cannot be looked at is not passed, unless the file says so.
        closed_on_outage: closed.unwrap_or(!budgets.is_empty()),
        budgets,
        spend: Arc::default(),
    }
}

/// Connects a project of a good config with what is remembered of it.
pub(super) fn remember(project: &mut Project, registry: &mut Registry) {
    for key in &mut project.keys {
        key.rate = registry.rate(project.id.as_str(), &key.name);
    }
    project.spend = registry.spend(&project.id);
    for budget in &mut project.budgets {
        budget.cell = registry.budget(&project.id, &budget.id, budget.reach);
    }
}

/// One budget for each limit that is set.
fn budgets(cx: &mut Compiler<'_>, files: &[BudgetFile], pointer: &str) -> Vec<Budget> {
    let mut ids: HashSet<&str> = HashSet::new();
    let mut compiled = Vec::new();
    if files.len() > BUDGETS_MAX {
        cx.problems.error(Code::BadValue, pointer, format!("at most {BUDGETS_MAX} budgets of one project"));
    }
    for (i, file) in files.iter().enumerate() {
        let at = pointer_to(pointer, &i.to_string());
        match file.id.as_deref() {
            None => {
                cx.missing(&at, "id", "refusals name the budget by it");
            }
            Some(id) if !is_plain_name(id, PROJECT_ID_CHARS_MAX) => {
                let problem = cx.problems.error(Code::BadValue, pointer_to(&at, "id"), "not an id for a budget");
                problem.hint(format!("letters, digits, `.`, `_` and `-`, at most {PROJECT_ID_CHARS_MAX}"));
            }
            Some(id) if !ids.insert(id) => {
                let text = "another budget of this project has the same id";
                cx.problems.error(Code::Duplicate, pointer_to(&at, "id"), text);
            }
            Some(_) => {}
        }
        let period = match file.period.as_deref() {
            Some("day") => Period::Day,
            Some("week") => Period::Week,
            Some(_) => Period::Month,
            None => {
                cx.missing(&at, "period", "`day`, `week` or `month`");
                Period::Month
            }
        };
        let window = if file.window.as_deref() == Some("rolling") { Window::Rolling } else { Window::Calendar };
        let usd = file.limit_usd.map(|limit| (Unit::NanoUsd, nano_usd(limit)));
        let tokens = file.limit_tokens.map(|limit| (Unit::Tokens, limit));
        if usd.is_none() && tokens.is_none() {
            cx.missing(&at, "limit_usd", "or `limit_tokens`, or both");
        }
        for (unit, limit) in usd.into_iter().chain(tokens) {
            let id = file.id.as_deref().unwrap_or_default().into();
            compiled.push(Budget { id, reach: Reach { unit, period, window }, limit, cell: Arc::default() });
        }
    }
    compiled
}

fn nano_usd(usd: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float that is cast saturates")]
    let nano = (usd * 1e9).round() as u64;
    nano
}

/// Absent = every model, `[]` = none, as for the keys of a provider.
fn patterns_of(
    cx: &mut Compiler<'_>,
    patterns: &[String],
    providers: &[ProviderDraft],
    routes: Option<&[(String, RouteFile)]>,
    pointer: &str,
) -> Vec<Box<str>> {
    if patterns.is_empty() {
        let problem = cx.problems.warning(Code::Suspicious, pointer, "an empty list: the project may use no model");
        problem.hint("leave the member out to allow all");
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = pointer_to(pointer, &i.to_string());
        if pattern.trim() != pattern || pattern.is_empty() {
            cx.problems.error(Code::BadValue, at, "not a pattern: empty, or with blanks at its ends");
        } else if pattern.starts_with('@') {
            let known = || routes.into_iter().flatten().map(|(name, _)| name.as_str());
            leads_somewhere(cx, pattern, known, "no route has this name", at);
        } else if let Some((provider, _)) = pattern.split_once('/') {
            let known = || providers.iter().map(|draft| draft.name.as_str());
            leads_somewhere(cx, provider, known, "the pattern's provider is not configured", at);
        }
    }
    patterns.iter().map(|pattern| pattern.to_ascii_lowercase().into()).collect()
}

/// A name without a `*` that means nothing admits nobody, which is hardly what was meant.
fn leads_somewhere<'k, I: Iterator<Item = &'k str>>(
    cx: &mut Compiler<'_>,
    name: &str,
    known: impl Fn() -> I,
    text: &str,
    pointer: String,
) {
    if name.contains('*') || known().any(|known| known.eq_ignore_ascii_case(name)) {
        return;
    }
    let problem = cx.problems.warning(Code::UnknownReference, pointer, text);
    if let Some(hint) = did_you_mean(name, known()) {
        problem.hint(hint);
    }
}
