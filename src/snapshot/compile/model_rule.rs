//! `models` and `blacklisted_models` of a key (CONTRACT 2.3, vectors 11.3 of bifrost.md).

use std::collections::HashSet;

use super::Compiler;
use crate::config::Code;
use crate::config::file::KeyFile;
use crate::config::problem::pointer_to;
use crate::limits::MODEL_NAME_BYTES_MAX;
use crate::snapshot::{Allow, ModelRule};

const EVERY: &str = "*";

/// Absent `models` = all, `[]` = none.
pub(super) fn of(cx: &mut Compiler<'_>, provider: &str, file: &KeyFile, pointer: &str) -> ModelRule {
    let allow = match &file.models {
        None => Allow::All,
        Some(models) => {
            let at = pointer_to(pointer, "models");
            if models.is_empty() {
                let problem = cx.problems.warning(Code::Suspicious, &*at, "an empty list: the key serves no model");
                problem.hint("leave the member out to allow all, or set `enabled` to false");
            }
            names(cx, provider, models, &at)
        }
    };
    let denied = file.blacklisted_models.as_deref().unwrap_or_default();
    let deny = names(cx, provider, denied, &pointer_to(pointer, "blacklisted_models"));
    if deny == Allow::All {
        let at = pointer_to(pointer, "blacklisted_models");
        let problem = cx.problems.warning(Code::Suspicious, at, "every model is denied: the key serves none");
        problem.hint("to rest a key, set `enabled` to false");
    }
    ModelRule { allow, deny }
}

fn names(cx: &mut Compiler<'_>, provider: &str, list: &[String], pointer: &str) -> Allow {
    if let [only] = list
        && only == EVERY
    {
        return Allow::All;
    }
    let mut seen: HashSet<String> = HashSet::new();
    let mut set = Vec::with_capacity(list.len());
    for (i, name) in list.iter().enumerate() {
        let at = pointer_to(pointer, &i.to_string());
        let folded = name.to_ascii_lowercase();
        if name == EVERY {
            cx.problems.error(Code::Conflict, at, "`*` stands alone in its list").hint("it means every model");
            continue;
        }
        if !is_model_name(name) {
            let text = "not the name of a model: empty, too long, or with blanks at its ends";
            cx.problems.error(Code::BadValue, at, text);
            continue;
        }
        if name.contains(EVERY) {
            let problem =
                cx.problems.error(Code::BadValue, at, "names are matched whole, a `*` inside one means nothing");
            problem.hint("list the models, or write `[\"*\"]` for all");
            continue;
        }
        if !seen.insert(folded.clone()) {
            cx.problems.error(Code::Duplicate, at, "this model is in the list already, ignoring case");
            continue;
        }
        if folded.strip_prefix(&provider.to_ascii_lowercase()).is_some_and(|rest| rest.starts_with('/')) {
            let text = "names are matched without the provider's prefix";
            cx.problems.warning(Code::Suspicious, at, text).hint("write the part after the first `/`");
        }
        set.push(folded.into_boxed_str());
    }
    Allow::Set(set)
}

/// What may stand where a model is named.
pub(super) fn is_model_name(name: &str) -> bool {
    (1..=MODEL_NAME_BYTES_MAX).contains(&name.len()) && name.trim() == name && !name.chars().any(char::is_control)
}
