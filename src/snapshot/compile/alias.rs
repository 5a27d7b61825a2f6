//! `aliases` of a key (bifrost.md 2.4).

use std::collections::HashSet;

use super::Compiler;
use super::model_rule::is_model_name;
use crate::config::Code;
use crate::config::file::{AliasFile, KeyFile};
use crate::config::problem::pointer_to;
use crate::snapshot::{Aliases, ModelRule};

pub(super) fn of(cx: &mut Compiler<'_>, file: &KeyFile, rule: &ModelRule, pointer: &str) -> Aliases {
    let written = file.aliases.as_deref().unwrap_or_default();
    let pointer = pointer_to(pointer, "aliases");
    let mut seen: HashSet<String> = HashSet::new();
    for (name, alias) in written {
        let at = pointer_to(&pointer, name);
        let folded = name.to_ascii_lowercase();
        if !is_model_name(name) {
            let text = "not a name for a model: empty, too long, or with blanks at its ends";
            cx.problems.error(Code::BadValue, &*at, text);
        } else if !rule.allows(&folded) {
            let text = "the alias is never used: the key's `models` or `blacklisted_models` shut its name out";
            cx.problems
                .warning(Code::Suspicious, &*at, text)
                .hint("lists are matched against the alias, not its target");
        }
        if !seen.insert(folded) {
            cx.problems.error(Code::Duplicate, &*at, "another alias has this name, ignoring case");
        }
        members(cx, alias, &at);
    }
    Aliases::new(written.iter().map(|(name, alias)| (name.as_str(), alias.model_id.as_str())))
}

fn members(cx: &mut Compiler<'_>, alias: &AliasFile, pointer: &str) {
    if !is_model_name(&alias.model_id) {
        let text = "not the id of a model: empty, too long, or with blanks at its ends";
        cx.problems.error(Code::BadValue, pointer, text);
    }
    // None of the providers that this release serves has members of its own here.
    for (member, _) in &alias.other {
        let text = "this member belongs to aliases of another provider";
        cx.problems.error(Code::Conflict, pointer_to(pointer, member), text).hint("remove the member");
    }
}
