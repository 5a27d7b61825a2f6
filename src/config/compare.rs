//! What two files say differently, down to the member, by name and never by value.
//!
//! Compares canonical forms: order of members, spelling of numbers, comments and the form in which a
//! reference is written are no difference. Lists of records are told apart by the names of their
//! items, any other list is one thing. Whether the files are any good is not asked here.

use std::collections::{BTreeMap, BTreeSet};

use super::Document;
use super::problem::pointer_to;
use super::read::FromConfig;
use super::suggest::is_showable;
use super::syntax::{Kind, Tree};
use crate::hash::Canon;

/// One thing that differs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Difference {
    /// What it belongs to: `providers/openai`, `keys/openai/main`, `routes/@fast`, `server`, …
    /// A `/` inside a name is written `~1`, as in a JSON pointer.
    pub owner: String,
    /// The member of it, `network_config/base_url`; empty where all of it came or went.
    pub field: String,
    pub kind: DifferenceKind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DifferenceKind {
    Added,
    Removed,
    Changed,
}

impl DifferenceKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// Members that are for editors, or given by APIs and ignored on input.
const SAY_NOTHING: [&str; 4] = ["$schema", "status", "description", "config_hash"];
/// Names the one key that has none.
const UNNAMED: &str = "default";
/// Stands in the place of a member for the order of several.
const ORDER: &str = "(order)";

/// All differences, sorted.
pub fn compare(old: &Document, new: &Document) -> Vec<Difference> {
    let mut all = Comparison::default();
    let (before, after) = (members(canon(old)), members(canon(new)));
    for name in names(&before, &after) {
        let (before, after) = (before.get(name), after.get(name));
        match name {
            "providers" => all.providers(object(before), object(after)),
            "routes" | "prices" => all.each(name, object(before), object(after)),
            "projects" => {
                // `[]` admits nobody, and is not the same as nothing.
                all.presence(name, "", before.is_some(), after.is_some());
                all.each(name, by_name(before, "id"), by_name(after, "id"));
            }
            _ if SAY_NOTHING.contains(&name) => {}
            _ => all.fields(name, "", before, after),
        }
    }
    if provider_order(&old.tree, &new.tree) != provider_order(&new.tree, &old.tree) {
        all.push("providers", ORDER, DifferenceKind::Changed);
    }
    let mut found = all.0;
    found.sort();
    found
}

type Named = BTreeMap<String, Canon>;

#[derive(Default)]
struct Comparison(Vec<Difference>);

impl Comparison {
    fn push(&mut self, owner: &str, field: &str, kind: DifferenceKind) {
        self.0.push(Difference { owner: owner.to_owned(), field: field.to_owned(), kind });
    }

    fn presence(&mut self, owner: &str, field: &str, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.push(owner, field, DifferenceKind::Added),
            (true, false) => self.push(owner, field, DifferenceKind::Removed),
            _ => {}
        }
    }

    fn providers(&mut self, mut before: Named, mut after: Named) {
        for (name, provider) in before.iter_mut() {
            let other = after.get_mut(name).map(take_keys);
            let keys = take_keys(provider);
            // Of a provider that goes, the keys need not be told.
            if let Some(other) = other {
                // No list and an empty one are not the same to a server that may go without keys.
                if by_name(keys.as_ref(), "name").is_empty() && by_name(other.as_ref(), "name").is_empty() {
                    self.presence(&under("providers", name), "keys", keys.is_some(), other.is_some());
                }
                self.each(&under("keys", name), by_name(keys.as_ref(), "name"), by_name(other.as_ref(), "name"));
            }
        }
        self.each("providers", before, after);
    }

    /// Things with names of their own: whole ones come and go, of the others the members differ.
    fn each(&mut self, section: &str, before: Named, after: Named) {
        for name in names(&before, &after) {
            let owner = under(section, name);
            match (before.get(name), after.get(name)) {
                (Some(then), Some(now)) => self.fields(&owner, "", Some(then), Some(now)),
                (then, now) => self.presence(&owner, "", then.is_some(), now.is_some()),
            }
        }
    }

    fn fields(&mut self, owner: &str, field: &str, before: Option<&Canon>, after: Option<&Canon>) {
        if before == after {
            return;
        }
        let (Some(Canon::Object(then)), Some(Canon::Object(now))) = (before, after) else {
            match (before, after) {
                (Some(_), Some(_)) => self.list(owner, field, before, after),
                _ => self.presence(owner, field, before.is_some(), after.is_some()),
            }
            return;
        };
        if then.is_empty() != now.is_empty() && !field.is_empty() {
            // An empty object and an absent one can mean different things; the member itself differs.
            self.push(owner, field, DifferenceKind::Changed);
            return;
        }
        for name in names(then, now).into_iter().filter(|name| !SAY_NOTHING.contains(name)) {
            // A name that could be a credential in the wrong place is not repeated.
            let inner = if is_tellable(name) { under(field, name) } else { field.to_owned() };
            self.fields(owner, &inner, then.get(name), now.get(name));
        }
    }

    /// Items with a name are told apart by it; any other list is one thing.
    fn list(&mut self, owner: &str, field: &str, before: Option<&Canon>, after: Option<&Canon>) {
        for member in ["name", "id"] {
            let (then, now) = (by_name(before, member), by_name(after, member));
            if is_named(before, member) && is_named(after, member) && then != now {
                for name in names(&then, &now) {
                    self.fields(owner, &under(field, name), then.get(name), now.get(name));
                }
                return;
            }
        }
        self.push(owner, field, DifferenceKind::Changed);
    }
}

fn canon(document: &Document) -> Canon {
    super::ConfigFile::canon(document.tree.root())
}

fn members(canon: Canon) -> Named {
    match canon {
        Canon::Object(members) => members,
        _ => Named::new(),
    }
}

fn object(canon: Option<&Canon>) -> Named {
    canon.cloned().map(members).unwrap_or_default()
}

fn take_keys(provider: &mut Canon) -> Option<Canon> {
    match provider {
        Canon::Object(members) => members.remove("keys"),
        _ => None,
    }
}

/// The records of a list, by what they are called.
fn by_name(list: Option<&Canon>, member: &str) -> Named {
    let Some(Canon::List(items)) = list else { return Named::new() };
    let name = |item: &Canon| match item {
        Canon::Object(members) => match members.get(member) {
            Some(Canon::Text(name)) => name.clone(),
            _ => UNNAMED.to_owned(),
        },
        _ => String::new(),
    };
    items.iter().map(|item| (name(item), item.clone())).collect()
}

/// Whether every item of a list is a record with a name of its own.
fn is_named(list: Option<&Canon>, member: &str) -> bool {
    let Some(Canon::List(items)) = list else { return false };
    let mut seen = BTreeSet::new();
    items.iter().all(|item| match item {
        Canon::Object(members) => matches!(members.get(member), Some(Canon::Text(name)) if seen.insert(name)),
        _ => false,
    })
}

fn names<'c>(before: &'c Named, after: &'c Named) -> BTreeSet<&'c str> {
    before.keys().chain(after.keys()).map(String::as_str).collect()
}

fn under(base: &str, name: &str) -> String {
    let joined = pointer_to(base, name);
    if base.is_empty() { joined.trim_start_matches('/').to_owned() } else { joined }
}

/// Names of our members are; others are as far as they look like names.
fn is_tellable(name: &str) -> bool {
    const CHARS_MAX: usize = 64;
    is_showable(name) || (name.len() <= CHARS_MAX && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

/// The order in which a bare model name meets the providers that both files have.
fn provider_order<'t>(of: &'t Tree, other: &'t Tree) -> Vec<&'t str> {
    let providers = |tree: &'t Tree| match tree.root().member("providers").map(|member| &member.value.kind) {
        Some(Kind::Object(members)) => members.iter().map(|member| &*member.name).collect(),
        _ => Vec::new(),
    };
    let known: Vec<&str> = providers(other);
    providers(of).into_iter().filter(|name| known.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        crate::config::read(text).0.unwrap()
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        let told = |d: &Difference| format!("{} {} {}", d.kind.as_str(), d.owner, d.field).trim_end().to_owned();
        compare(&document(old), &document(new)).iter().map(told).collect()
    }

    #[test]
    fn what_is_no_difference() {
        for (old, new) in [
            ("{}", "{ /* nothing */ }"),
            ("{}", r#"{"$schema": "./config.schema.json"}"#),
            (r#"{"providers": {"mock": {}}, "state": {}}"#, r#"{"state": {}, "providers": {"mock": {}}}"#),
            (
                r#"{"providers": {"openai": {"keys": [{"value": "env.A", "weight": 1, "models": ["a", "b"]}]}}}"#,
                r#"{"providers": {"openai": {"keys": [{"models": ["b", "a"], "weight": 1.0, "value": {"env_var": "A"}}]}}}"#,
            ),
            (
                r#"{"providers": {"openai": {"keys": [{"name": "a", "value": "env.A"}, {"name": "b", "value": "env.B"}]}}}"#,
                r#"{"providers": {"openai": {"keys": [{"name": "b", "value": "env.B"}, {"name": "a", "value": "env.A", "status": "success"}]}}}"#,
            ),
        ] {
            assert_eq!(told(old, new), [""; 0], "{old} {new}");
        }
    }

    #[test]
    fn what_is() {
        let provider = |members: &str| format!(r#"{{"providers": {{"openai": {{{members}}}}}}}"#);
        let key = |members: &str| provider(&format!(r#""keys": [{{{members}}}]"#));
        for (old, new, expected) in [
            ("{}".to_owned(), provider(""), &["added providers/openai"][..]),
            (key(r#""value": "env.A""#), "{}".to_owned(), &["removed providers/openai"]),
            (
                key(r#""value": "sk-old""#),
                key(r#""value": "sk-new", "priority": 1"#),
                &["added keys/openai/default priority", "changed keys/openai/default value"],
            ),
            (
                key(r#""name": "a/b", "value": "env.A""#),
                key(r#""name": "b", "value": "env.A""#),
                &["removed keys/openai/a~1b", "added keys/openai/b"],
            ),
            (
                key(r#""value": "env.A", "aliases": {"fast": "a", "slow": "b"}"#),
                key(r#""value": "env.A", "aliases": {"fast": "c", "sk-proj-abcdefghijklmnopqrstuvwx": "b"}"#),
                &[
                    "added keys/openai/default aliases",
                    "changed keys/openai/default aliases/fast/model_id",
                    "removed keys/openai/default aliases/slow",
                ],
            ),
            (
                provider(r#""network_config": {"base_url": "http://a", "max_retries": 0}"#),
                provider(r#""network_config": {"base_url": "http://b"}, "keys": []"#),
                &["added providers/openai keys", "changed providers/openai network_config/base_url", "removed providers/openai network_config/max_retries"],
            ),
            (
                r#"{"routes": {"@a": {"targets": ["x/1", "x/2"]}, "@b": {}}}"#.to_owned(),
                r#"{"routes": {"@a": {"targets": ["x/2", "x/1"]}, "@c": {}}}"#.to_owned(),
                &["changed routes/@a targets", "removed routes/@b", "added routes/@c"],
            ),
            (
                r#"{"projects": [{"id": "a", "keys": [{"name": "ci", "hash": "x"}]}, {"id": "b"}]}"#.to_owned(),
                r#"{"projects": [{"id": "b", "pin": true}, {"id": "a", "keys": [{"name": "ci", "hash": "y"}, {"name": "cd"}]}]}"#
                    .to_owned(),
                &["added projects/a keys/cd", "changed projects/a keys/ci/hash", "added projects/b pin"],
            ),
            ("{}".to_owned(), r#"{"projects": []}"#.to_owned(), &["added projects"]),
            (
                r#"{"server": {"listen": ["a"]}}"#.to_owned(),
                r#"{"server": {"listen": ["b"], "limits": {"in_flight_max": 1}}, "management": {"keys": []}}"#.to_owned(),
                &["added management", "added server limits", "changed server listen"],
            ),
            (
                r#"{"providers": {"mock": {}, "openai": {}}}"#.to_owned(),
                r#"{"providers": {"openai": {}, "groq": {}, "mock": {}}}"#.to_owned(),
                &["changed providers (order)", "added providers/groq"],
            ),
        ] {
            assert_eq!(told(&old, &new), expected, "{old}\n{new}");
        }
    }
}
