//! `projects`: who may call the data plane, and what for.

use std::collections::HashSet;

use super::access::{self, Entry};
use super::provider::ProviderDraft;
use super::{Compiler, did_you_mean, is_plain_name};
use crate::config::Code;
use crate::config::file::{ProjectFile, RouteFile};
use crate::config::problem::pointer_to;
use crate::id::ProjectId;
use crate::limits::{PROJECT_ID_CHARS_MAX, PROJECT_RATE_DEFAULT};
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
    });
    let keys = access::keys(cx, entries, &pointer_to(pointer, "keys"), PROJECT_RATE_DEFAULT);
    let models = match &file.models {
        None => vec!["*".into()],
        Some(patterns) => patterns_of(cx, patterns, providers, routes, &pointer_to(pointer, "models")),
    };
    Project {
        id: ProjectId::from(file.id.as_deref().unwrap_or_default()),
        keys,
        models,
        passthrough: file.passthrough.unwrap_or(false),
        pin: file.pin.unwrap_or(false),
    }
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
