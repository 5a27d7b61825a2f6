//! From a translated config to one that passes `keyway check`: what this release refuses is taken
//! out, with its reason, until nothing is refused.
//!
//! The compiler is the only one who knows what is refused, hence a feature that arrives is imported
//! from that day on. Takes out the smallest whole thing: a member, else the key, target, provider or
//! route that is nothing without it. Mends nothing by guessing.

use std::collections::{HashMap, HashSet};

use super::findings::{FindingKind, Findings};
use super::out::{Out, OutKind};
use super::source::Place;
use super::{Judge, Judgement};
use crate::config::problem::pointer_to;
use crate::config::{Code, Problem, Severity};
use crate::limits::IMPORT_ROUNDS_MAX;

/// Objects that say nothing when they are empty.
const SAY_NOTHING: [&str; 7] =
    ["network_config", "aliases", "routes", "management", "server", "limits", "observability"];
const KEY_CONFIG_SUFFIX: &str = "_key_config";

/// Members of a key that hold it back.
const RESTRICTIONS: [&str; 2] = ["blacklisted_models", "enabled"];

/// The text that passes, or `None` where nothing is left that could serve.
pub fn settle(mut out: Out, findings: &mut Findings, judge: Judge<'_>) -> Option<String> {
    for _ in 0..IMPORT_ROUNDS_MAX {
        tidy(&mut out, findings);
        if out.member("providers").is_none_or(Out::is_hollow) {
            return None;
        }
        let text = out.render();
        let Judgement { problems, literals } = judge(&text);
        let errors = problems.0.iter().filter(|problem| problem.severity == Severity::Error);
        let doomed: HashMap<String, &Problem> =
            errors.filter_map(|problem| Some((victim(&out, problem)?, problem))).collect();
        if doomed.is_empty() {
            if problems.has_errors() {
                return None;
            }
            for pointer in literals {
                let place = out.nearest(&pointer).1.from.clone();
                findings.add(FindingKind::InClear, place, "a credential in clear was kept; better \"env.NAME\"");
            }
            return Some(text);
        }
        for (pointer, problem) in &doomed {
            // What goes with something larger is not told apart from it.
            let inside =
                doomed.keys().any(|other| pointer.strip_prefix(&**other).is_some_and(|rest| rest.starts_with('/')));
            if inside {
                continue;
            }
            for place in sources(&out, pointer) {
                findings.forget_changes_in(&place);
                // What follows from a loss that was told is no news.
                if !findings.has_dropped(&place) {
                    findings.add(FindingKind::Dropped, place, reason(pointer, problem));
                }
            }
        }
        out.remove(&doomed.into_keys().collect());
    }
    None
}

/// The places in the imported file that are lost with a value: its own, and those of the models that
/// were collected in a key from elsewhere.
fn sources(out: &Out, pointer: &str) -> Vec<Place> {
    let (_, lost) = out.nearest(pointer);
    let items = |of: Option<&Out>| match of.map(|of| &of.kind) {
        Some(OutKind::List(items)) => items.clone(),
        _ => Vec::new(),
    };
    let keys = items(lost.member("keys"));
    let holders = keys.iter().chain([lost]);
    let models = holders.flat_map(|holder| items(holder.member("models"))).chain(keys.iter().cloned());
    let mut places = vec![lost.from.clone()];
    for place in models.map(|model| model.from) {
        let covers = |known: &Place| {
            place.pointer.strip_prefix(&*known.pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !places.iter().any(covers) {
            places.push(place);
        }
    }
    places
}

/// What a problem is about, named where the place alone does not tell.
fn reason(pointer: &str, problem: &Problem) -> String {
    let member = pointer.rsplit('/').next().unwrap_or_default();
    if problem.message.contains(member) || member.parse::<usize>().is_ok() {
        return problem.message.clone();
    }
    format!("`{}`: {}", member.replace("~1", "/").replace("~0", "~"), problem.message)
}

/// The pointer of what goes for a problem; `None` where it is about nothing that is there.
fn victim(out: &Out, problem: &Problem) -> Option<String> {
    let (nearest, _) = out.nearest(&problem.pointer);
    let pointer = match problem.code {
        Code::MissingMember => whole(&problem.pointer).unwrap_or(nearest),
        // Without it the key would do what it was told not to.
        code if code != Code::Duplicate && holds_back(&problem.pointer) => whole(&problem.pointer).unwrap_or(nearest),
        _ => nearest,
    };
    (!pointer.is_empty()).then_some(pointer)
}

fn holds_back(pointer: &str) -> bool {
    let mut segments = pointer.split('/').skip(3);
    segments.next() == Some("keys") && segments.nth(1).is_some_and(|member| RESTRICTIONS.contains(&member))
}

/// The innermost thing that is nothing without one of its members.
fn whole(pointer: &str) -> Option<String> {
    let segments: Vec<&str> = pointer.split('/').skip(1).collect();
    let length = match segments[..] {
        ["providers", _, "keys", _, ..] => 4,
        ["projects", _, "keys", _, ..] => 4,
        ["management", "keys", _, ..] => 3,
        ["providers" | "routes" | "projects", _, ..] => 2,
        _ => return None,
    };
    Some(segments.iter().take(length).map(|segment| format!("/{segment}")).collect())
}

/// Takes out what has become empty: a provider whose last key went, and objects that say nothing.
fn tidy(out: &mut Out, findings: &mut Findings) {
    let mut gone = HashSet::new();
    if let Some(OutKind::Object(providers)) = out.member("providers").map(|providers| &providers.kind) {
        for (name, provider) in providers {
            if provider.member("keys").is_some_and(Out::is_hollow) {
                findings.add(FindingKind::Dropped, provider.from.clone(), "no key of this provider is left");
                gone.insert(pointer_to("/providers", name));
            }
        }
    }
    out.remove(&gone);
    hollow(out);
}

fn hollow(out: &mut Out) {
    let OutKind::Object(members) = &mut out.kind else {
        if let OutKind::List(items) = &mut out.kind {
            items.iter_mut().for_each(hollow);
        }
        return;
    };
    members.retain_mut(|(name, value)| {
        hollow(value);
        let says_nothing = SAY_NOTHING.contains(&name.as_str()) || name.ends_with(KEY_CONFIG_SUFFIX);
        let no_door = name == "management" && value.member("keys").is_some_and(Out::is_hollow) && value.len() == 1;
        !(no_door || value.is_hollow() && says_nothing)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problems;
    use crate::import::source::Source;

    /// Settles under a compiler that minds these, each as long as it is there.
    fn settled(json: &str, minded: &[(Code, &str)]) -> (Option<String>, Vec<String>) {
        let out = Out::copy(&Source::json(json).unwrap_or_else(|_| panic!()).root());
        let mut findings = Findings::default();
        let judge = |text: &str| {
            let it = Out::copy(&Source::json(text).unwrap_or_else(|_| panic!()).root());
            let mut problems = Problems::default();
            for (code, pointer) in minded {
                let is_there = it.nearest(pointer).0 == *pointer;
                let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
                let lacks = *code == Code::MissingMember && !is_there && it.nearest(parent).0 == parent;
                if lacks || (is_there && *code != Code::MissingMember) {
                    problems.error(*code, *pointer, "minded");
                }
            }
            Judgement { problems, literals: Vec::new() }
        };
        let config = settle(out, &mut findings, &judge);
        let told = findings.sorted().iter().map(|it| it.place.pointer.clone()).collect();
        (config.map(|text| text.split_whitespace().collect()), told)
    }

    #[test]
    fn the_smallest_whole_thing_goes() {
        let base = r#"{"providers":{"a":{"keys":[{"name":"x","b":1},{"name":"y"}]},"c":{"keys":[{"name":"z"}]}}}"#;
        for (minded, left, told) in [
            (
                &[(Code::BadValue, "/providers/a/keys/0/b")][..],
                base.replace(",\"b\":1", ""),
                &["/providers/a/keys/0/b"][..],
            ),
            (
                &[(Code::MissingMember, "/providers/c/keys/0/value")],
                base.replace(",\"c\":{\"keys\":[{\"name\":\"z\"}]}", ""),
                &["/providers/c", "/providers/c/keys/0"],
            ),
            (
                &[(Code::NotSupportedYet, "/providers/a"), (Code::BadValue, "/providers/a/keys/0/b")],
                r#"{"providers":{"c":{"keys":[{"name":"z"}]}}}"#.to_owned(),
                &["/providers/a"],
            ),
        ] {
            assert_eq!(settled(base, minded), (Some(left), told.iter().map(|it| (*it).to_owned()).collect()));
        }
    }

    #[test]
    fn a_key_that_cannot_be_held_back_goes_whole() {
        let json =
            r#"{"providers": {"a": {"keys": [{"name": "x", "blacklisted_models": ["m", "n"]}, {"name": "y"}]}}}"#;
        let at = "/providers/a/keys/0/blacklisted_models/1";
        let (config, told) = settled(json, &[(Code::BadValue, at)]);
        assert_eq!(config.as_deref(), Some(r#"{"providers":{"a":{"keys":[{"name":"y"}]}}}"#));
        assert_eq!(told, ["/providers/a/keys/0"]);
        // Written twice, it is denied once as well.
        let (config, _) = settled(json, &[(Code::Duplicate, at)]);
        assert!(config.is_some_and(|text| text.contains(r#""blacklisted_models":["m"]"#)));
    }

    #[test]
    fn what_cannot_be_settled() {
        assert_eq!(settled(r#"{"providers": {"a": {}}}"#, &[(Code::NotSupportedYet, "/providers/a")]).0, None);
        assert_eq!(settled("{}", &[]).0, None);
        // A problem of the whole file has no part to blame.
        assert_eq!(settled(r#"{"providers": {"a": {}}}"#, &[(Code::Syntax, "")]).0, None);
    }
}
