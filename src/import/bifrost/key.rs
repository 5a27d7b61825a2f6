//! `providers.<name>.keys[]` of any generation, and the `meta_config` of the first one.

use std::collections::HashSet;

use super::{DEPLOYMENTS, Generation, reasons, secret, secrets_in};
use crate::config::file::KeyFile;
use crate::import::findings::Findings;
use crate::import::out::{Out, OutKind};
use crate::import::source::At;

const CONFIG_SUFFIX: &str = "_key_config";
/// Members of `meta_config` that were called otherwise.
const META_RENAMED: [(&str, &str); 1] = [("secret_access_key", "secret_key")];

/// The map of an old key, wherever it stands.
pub(super) fn deployments<'s>(key: &At<'s>) -> Option<At<'s>> {
    let configs = key.members().into_iter().filter(|(name, _)| name.ends_with(CONFIG_SUFFIX));
    configs.filter_map(|(_, config)| config.get(DEPLOYMENTS)).find(|map| !map.is_empty())
}

pub(super) fn all(provider: &str, at: &At<'_>, generation: Generation, findings: &mut Findings) -> Vec<Out> {
    let written = at.get("keys").map(|keys| keys.items()).unwrap_or_default();
    let mut names = Names::default();
    let mut keys = Vec::with_capacity(written.len());
    for key in &written {
        if !key.is_object() {
            findings.dropped(key, "not a key");
            continue;
        }
        keys.push(one(key, generation, &mut names, findings));
    }
    let weighed = |key: &&At<'_>| key.get("weight").is_some() || !key.is_object();
    // A lone key gets everything, whatever its weight.
    for key in written.iter().filter(|key| written.len() > 1 && !weighed(key)) {
        findings.changed(key, "without `weight` a key counts as 1 here, and as 0 there");
    }
    if let Some(meta) = at.get("meta_config").filter(|meta| !meta.is_empty()) {
        meta_config(provider, &meta, &mut keys, findings);
    }
    keys
}

fn one(at: &At<'_>, generation: Generation, names: &mut Names, findings: &mut Findings) -> Out {
    let mut out = Out::object(at);
    names.give(at, &mut out, findings);
    for (name, at) in at.members().into_iter().filter(|(_, at)| !at.is_null()) {
        match name {
            "name" => {}
            "value" | "base_url" => out.set_some(name, secret(&at, findings)),
            "models" if at.is_empty() && generation == Generation::Old => {
                findings.changed(&at, "left out: an empty list means none here, and meant all there");
            }
            "config_hash" | "status" | "description" => findings.dropped(&at, reasons::of(reasons::KEY, name)),
            _ if name.ends_with(CONFIG_SUFFIX) && KeyFile::MEMBERS.contains(&name) => {
                let config = secrets_in(&at, findings);
                // That of Hugging Face held nothing else.
                if name.strip_suffix(CONFIG_SUFFIX) != Some("huggingface") {
                    out.set_some(name, Some(config));
                }
            }
            _ if KeyFile::MEMBERS.contains(&name) => out.set(name, Out::copy(&at)),
            _ if at.is_empty() => {}
            _ => findings.dropped(&at, reasons::of(reasons::KEY, name)),
        }
    }
    if let Some(map) = deployments(at) {
        fold(&map, &mut out, generation, findings);
    }
    out
}

/// Names are unique in a provider, and only one key may go without.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn give(&mut self, at: &At<'_>, out: &mut Out, findings: &mut Findings) {
        let written = at.get("name").filter(|name| !name.is_empty());
        let base = written.as_ref().and_then(|name| name.text()).unwrap_or("default").trim().to_owned();
        let numbered = (2..).map(|number: u32| format!("{base}-{number}"));
        let Some(name) = std::iter::once(base.clone()).chain(numbered).find(|name| !self.0.contains(name)) else {
            return;
        };
        self.0.insert(name.clone());
        match &written {
            Some(place) => {
                if name != base {
                    findings.changed(place, "another key of the provider has this name; a number was added");
                }
                out.set("name", Out::text(name, place));
            }
            None if name != base => {
                findings.changed(at, "only one key may go without a name; it was given one");
                out.set("name", Out::text(name, at));
            }
            None => {}
        }
    }
}

/// Old maps were aliases, and the only models of their key.
fn fold(map: &At<'_>, out: &mut Out, generation: Generation, findings: &mut Findings) {
    findings.changed(map, "now `aliases` of the key");
    let names = map.members();
    if let Some(aliases) = out.entry("aliases", map) {
        for (name, at) in &names {
            if aliases.member(name).is_none() {
                aliases.set(name, Out::copy(at));
            }
        }
    }
    if generation == Generation::Old && out.member("models").is_none() {
        findings.changed(map, "`models` are its names: the key served no others");
        out.set("models", Out::list(names.iter().map(|(name, at)| Out::text(*name, at)).collect(), map));
    }
}

/// The first generation said once for a provider what each key says now.
fn meta_config(provider: &str, meta: &At<'_>, keys: &mut Vec<Out>, findings: &mut Findings) {
    let member = format!("{provider}{CONFIG_SUFFIX}");
    if !KeyFile::MEMBERS.contains(&member.as_str()) {
        findings.dropped(meta, reasons::of(&[], "meta_config"));
        return;
    }
    findings.changed(meta, format!("now `{member}` of each key"));
    let mut config = Out::object(meta);
    for (name, at) in meta.members() {
        let name = META_RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| *new);
        match name {
            DEPLOYMENTS => {}
            _ if at.is_object() => config.set_some(name, secret(&at, findings)),
            _ if !at.is_empty() => config.set(name, Out::copy(&at)),
            _ => {}
        }
    }
    if keys.is_empty() {
        keys.push(Out::object(meta));
    }
    for key in keys {
        if let Some(map) = meta.get(DEPLOYMENTS) {
            fold(&map, key, Generation::New, findings);
        }
        // What was the value of a Bedrock key is the id that goes with its secret.
        if config.member("secret_key").is_some()
            && let OutKind::Object(members) = &mut key.kind
            && let Some(value) = members.iter().position(|(name, _)| name == "value")
        {
            let (_, value) = members.remove(value);
            config.set("access_key", value);
        }
        key.set(&member, config.clone());
    }
}
