//! A change must not take the last key away from a target of a route (CONTRACT 2.4).
//!
//! What has no key before the change is not its business: a hand may write what it likes.

use std::collections::{BTreeSet, HashSet};

use super::{Provider, RouteTarget, Snapshot};
use crate::config::Document;

/// Routes of `new` that name a provider which `base` has and `new` has not. By the files: such a
/// one does not compile.
pub fn lost_providers(base: &Document, new: &Document) -> Vec<String> {
    let names = |document: &Document| -> HashSet<String> {
        document.file.providers.iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let (before, after) = (names(base), names(new));
    let is_lost = |model: &str| {
        let provider = model.split_once('/').map_or(model, |(provider, _)| provider);
        before.contains(provider) && !after.contains(provider)
    };
    let routes = new.file.routes.iter().flatten();
    let hit = routes.filter(|(_, route)| route.targets.iter().flatten().any(|target| is_lost(&target.model)));
    hit.map(|(name, _)| name.clone()).collect()
}

/// Routes of `new` with a target that some key of `base` may serve and none of `new`. A key that is
/// switched off, or not ready, is a key: it is there to be switched on.
pub fn lost_keys(base: &Snapshot, new: &Snapshot) -> Vec<String> {
    let had: HashSet<(&str, String)> = base.providers.iter().flat_map(|provider| targets_of(new, provider)).collect();
    let mut hit = BTreeSet::new();
    for route in new.routes.values() {
        let lost = |target: &RouteTarget| {
            let provider = usize::try_from(target.provider).ok().and_then(|at| new.providers.get(at));
            provider.is_some_and(|provider| {
                let model = target.model.as_str().to_ascii_lowercase();
                !serves(provider, &model) && had.contains(&(provider.name.as_str(), model))
            })
        };
        if route.targets.iter().any(lost) {
            hit.insert(route.name.to_string());
        }
    }
    hit.into_iter().collect()
}

/// Targets of the routes of `new` that this provider of another snapshot serves.
fn targets_of<'p>(new: &Snapshot, provider: &'p Provider) -> Vec<(&'p str, String)> {
    let targets = new.routes.values().flat_map(|route| &route.targets);
    let own = targets.filter(|target| {
        let named = usize::try_from(target.provider).ok().and_then(|at| new.providers.get(at));
        named.is_some_and(|named| named.name == provider.name)
    });
    let models = own.map(|target| target.model.as_str().to_ascii_lowercase());
    models.filter(|model| serves(provider, model)).map(|model| (provider.name.as_str(), model)).collect()
}

fn serves(provider: &Provider, folded_model: &str) -> bool {
    provider.keys.iter().any(|key| key.rule.allows(folded_model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::destination::tests::{document, snapshot};

    const KEYS: &str = r#"{"name": "a", "value": "env.A"}, {"name": "b", "value": "env.B", "models": ["m2"]}"#;

    fn with(providers: &str) -> String {
        let routes = r#""@one": {"targets": ["openai/m1"]}, "@two": {"targets": ["groq/x", "openai/M2"]}"#;
        format!(
            "{{\"providers\": {{{providers}, \"groq\": {{\"keys\": [{{\"value\": \"env.G\"}}]}}}}, \"routes\": {{{routes}}}}}"
        )
    }

    fn keys(keys: &str) -> String {
        with(&format!("\"openai\": {{\"keys\": [{keys}]}}"))
    }

    /// (before, after, routes that lose a target)
    #[test]
    fn last_keys() {
        let b = r#"{"name": "b", "value": "env.B", "models": ["m2"]}"#;
        for (before, after, expected) in [
            (KEYS, KEYS, vec![]),
            (KEYS, r#"{"name": "a", "value": "env.A"}"#, vec![]),
            (KEYS, b, vec!["@one"]),
            (KEYS, "", vec!["@one", "@two"]),
            (KEYS, r#"{"name": "a", "value": "env.A", "enabled": false}"#, vec![]),
            (KEYS, r#"{"name": "a", "value": "env.UNSET"}"#, vec![]),
            (KEYS, r#"{"name": "a", "value": "env.A", "models": []}"#, vec!["@one", "@two"]),
            (KEYS, r#"{"name": "a", "value": "env.A", "blacklisted_models": ["M1"]}"#, vec!["@one"]),
            // What was lost before is lost already.
            (b, "", vec!["@two"]),
            ("", "", vec![]),
            ("", KEYS, vec![]),
        ] {
            assert_eq!(lost_keys(&snapshot(&keys(before)), &snapshot(&keys(after))), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn last_provider() {
        let (before, after) = (document(&keys(KEYS)), document(&with("\"xai\": {}")));
        assert_eq!(lost_providers(&before, &after), ["@one", "@two"]);
        assert!(lost_providers(&before, &before).is_empty());
        assert!(lost_providers(&after, &after).is_empty(), "a dangling target of a hand edit is compile's business");
    }
}
