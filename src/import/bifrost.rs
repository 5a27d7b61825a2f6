//! Bifrost's config.json, of any generation, as one of ours.
//!
//! Names agree for the most part: what both know is copied, what is spelled otherwise is respelled,
//! the rest is reported. Whether this release serves a thing is not decided here (`settle`).

mod key;
mod network;
mod reasons;

use super::findings::Findings;
use super::out::{Out, OutKind};
use super::source::At;
use crate::config::file::{CustomProviderFile, ProviderFile};
use crate::limits::{HEADER_KB_LARGEST, HEADER_KB_SMALLEST};
use crate::provider::row;

/// Where the old generations kept what are aliases now.
const DEPLOYMENTS: &str = "deployments";
/// Objects in a record that are no secrets.
const RECORDS: [&str; 1] = ["batch_s3_config"];

/// What decides how empty lists are to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// Up to 1.4, and `version: 1`: an empty list allows all.
    Old,
    /// An empty list allows none.
    New,
}

/// The config that says the same, as far as it can be said.
pub fn convert(root: &At<'_>, findings: &mut Findings) -> Out {
    let generation = generation(root, findings);
    let mut out = Out::object(root);
    for (name, at) in root.members() {
        match name {
            "providers" => {
                let mut providers = Out::object(&at);
                for (name, at) in at.members() {
                    if let Some((name, provider)) = provider(name, &at, generation, findings) {
                        providers.set(&name, provider);
                    }
                }
                out.set("providers", providers);
            }
            "client" => client(&at, &mut out, findings),
            "server" => server(&at, &mut out, findings),
            "governance" => {
                for (name, at) in at.members().into_iter().filter(|(_, at)| !at.is_empty()) {
                    findings.dropped(&at, reasons::of(reasons::GOVERNANCE, name));
                }
            }
            "version" => {}
            _ if at.is_empty() => {}
            _ => findings.dropped(&at, reasons::of(reasons::SECTIONS, name)),
        }
    }
    out
}

/// The file says it by `version`. Before there was a version, the names were others, and nobody
/// wrote `*`.
fn generation(root: &At<'_>, findings: &mut Findings) -> Generation {
    if let Some(version) = root.get("version") {
        return if version.number() == Some(1.0) { Generation::Old } else { Generation::New };
    }
    let Some(providers) = root.get("providers") else { return Generation::New };
    let keys: Vec<At<'_>> = providers
        .members()
        .into_iter()
        .flat_map(|(_, provider)| provider.get("keys").map(|keys| keys.items()).unwrap_or_default())
        .collect();
    let has_star = keys.iter().flat_map(models).any(|model| model.text() == Some("*"));
    let has_deployments = providers.members().iter().any(|(_, provider)| {
        provider.get("meta_config").is_some() || keys.iter().any(|key| key::deployments(key).is_some())
    });
    let none_named =
        keys.iter().any(|key| key.get("models").is_some()) && keys.iter().all(|key| models(key).is_empty());
    if has_star || !(has_deployments || none_named) {
        return Generation::New;
    }
    let why = if has_deployments { "it has `deployments`" } else { "every `models` is empty" };
    findings.changed(&providers, format!("read as of before 1.5, because {why}: an empty `models` means all"));
    Generation::Old
}

fn models<'s>(key: &At<'s>) -> Vec<At<'s>> {
    key.get("models").map(|models| models.items()).unwrap_or_default()
}

fn provider(written: &str, at: &At<'_>, generation: Generation, findings: &mut Findings) -> Option<(String, Out)> {
    if !at.is_object() {
        findings.dropped(at, "not a provider");
        return None;
    }
    let folded = written.to_ascii_lowercase();
    let name = if row(written).is_none() && row(&folded).is_some() { folded } else { written.to_owned() };
    if name != written {
        findings.changed(at, format!("the provider is called `{name}` here"));
    }
    let mut out = Out::object(at);
    let keys = key::all(&name, at, generation, findings);
    let keyless = at.get("custom_provider_config").and_then(|it| it.get("is_key_less")).and_then(|it| it.flag());
    if !keys.is_empty() && keyless != Some(true) {
        out.set("keys", Out::list(keys, &at.get("keys").unwrap_or_else(|| at.clone())));
    } else if let Some(keys) = at.get("keys").filter(|keys| !keys.is_empty()) {
        findings.dropped(&keys, "the provider takes no keys");
    }
    for (member, at) in at.members() {
        match member {
            "keys" | "meta_config" => {}
            "network_config" => out.set_some(member, Some(network::config(&at, findings))),
            "custom_provider_config" => out.set(member, known(&at, CustomProviderFile::MEMBERS, &[], findings)),
            "concurrency_and_buffer_size" => findings.dropped(&at, reasons::of(reasons::PROVIDER, member)),
            "proxy_config"
                if at.get("type").and_then(|it| it.text()).is_none_or(|kind| matches!(kind, "" | "none")) => {}
            "proxy_config" if at.is_object() => out.set(member, network::proxy(&at, findings)),
            _ if at.is_empty() || at.flag() == Some(false) => {}
            _ if ProviderFile::MEMBERS.contains(&member) => out.set(member, secrets_in(&at, findings)),
            _ => findings.dropped(&at, reasons::of(reasons::PROVIDER, member)),
        }
    }
    if out.member("keys").is_none() && !goes_without_keys(&name, &out) {
        findings.dropped(at, "the provider has no keys");
        return None;
    }
    Some((name, out))
}

/// By its own config, by what it is, or because it is a local server with an address.
fn goes_without_keys(name: &str, out: &Out) -> bool {
    let says_so = out.member("custom_provider_config").and_then(|it| it.member("is_key_less"));
    let has_address = out.member("network_config").is_some_and(|it| it.member("base_url").is_some());
    matches!(says_so.map(|it| &it.kind), Some(OutKind::Bool(true)))
        || row(name).is_some_and(|row| row.keyless || (row.value_optional && row.needs_endpoint && has_address))
}

/// The members that both know; the others are reported.
fn known(at: &At<'_>, members: &[&str], reasons: reasons::Table, findings: &mut Findings) -> Out {
    let mut out = Out::object(at);
    for (name, at) in at.members().into_iter().filter(|(_, at)| !at.is_null()) {
        if members.contains(&name) {
            out.set(name, Out::copy(&at));
        } else if !at.is_empty() {
            findings.dropped(&at, reasons::of(reasons, name));
        }
    }
    out
}

/// A record whose members may be secrets, each in the form that is taught here.
fn secrets_in(at: &At<'_>, findings: &mut Findings) -> Out {
    if !at.is_object() {
        return Out::copy(at);
    }
    let mut out = Out::object(at);
    for (name, at) in at.members().into_iter().filter(|(name, _)| *name != DEPLOYMENTS) {
        let is_secret = at.is_object() && !RECORDS.contains(&name);
        let value = if is_secret { secret(&at, findings) } else { Some(Out::copy(&at)) };
        out.set_some(name, value.filter(|_| !at.is_empty()));
    }
    out
}

/// `"env.NAME"` or the literal, whatever object it was written as; `None` for one that is not set.
fn secret(at: &At<'_>, findings: &mut Findings) -> Option<Out> {
    const MEMBERS: [&str; 5] = ["value", "env_var", "from_env", "ref", "type"];
    if !at.is_object() {
        return (!at.is_empty()).then(|| Out::copy(at));
    }
    let members = at.members();
    if members.iter().any(|(name, _)| !MEMBERS.contains(name)) {
        if at.get("file").is_some() {
            return Some(Out::copy(at));
        }
        // A service account is pasted as the object that it is.
        findings.changed(at, "an object that is a secret as a whole was put into a string");
        return Some(Out::text(super::out::as_json_text(at.source), at));
    }
    let set = |name: &str| at.get(name).filter(|at| !at.is_empty());
    let of_vault = |at: &At<'_>| at.text().is_some_and(|text| text.starts_with("vault."));
    let kind = set("type").and_then(|it| it.text());
    let reference = set("env_var").or_else(|| set("ref"));
    match (reference, set("value")) {
        (Some(it), _) if kind == Some("vault") || of_vault(&it) => Some(Out::text(vault(it.text()?), at)),
        (Some(it), _) => {
            let name = it.text()?;
            Some(Out::text(format!("env.{}", name.strip_prefix("env.").unwrap_or(name)), at))
        }
        (None, Some(value)) => Some(Out::copy(&value)),
        (None, None) => None,
    }
}

/// Kept as the reference that it is, for the compiler to say that there are none.
fn vault(path: &str) -> String {
    format!("vault.{}", path.strip_prefix("vault.").unwrap_or(path))
}

fn client(at: &At<'_>, out: &mut Out, findings: &mut Findings) {
    for (name, at) in at.members().into_iter().filter(|(_, at)| !at.is_empty()) {
        match (name, at.number()) {
            ("max_request_body_size_mb", Some(mb)) if mb >= 1.0 => {
                findings.changed(&at, "now `server.limits.request_body_mb_max`");
                limit(out, "request_body_mb_max", Out::copy(&at), &at);
            }
            // What asks for nothing is nothing lost.
            _ if at.flag() == Some(false) || at.number() == Some(0.0) => {}
            _ => findings.dropped(&at, reasons::of(reasons::CLIENT, name)),
        }
    }
}

fn server(at: &At<'_>, out: &mut Out, findings: &mut Findings) {
    for (name, at) in at.members() {
        match (name, at.number()) {
            ("read_buffer_size", Some(bytes)) if bytes > 0.0 => {
                let kb = (bytes / 1024.0).ceil().clamp(HEADER_KB_SMALLEST as f64, HEADER_KB_LARGEST as f64);
                findings.changed(&at, "bounds the head of a request: now `server.limits.header_kb_max`");
                limit(out, "header_kb_max", Out::new(OutKind::Number(format!("{kb:.0}")), &at), &at);
            }
            _ => findings.dropped(&at, reasons::of(&[], name)),
        }
    }
}

fn limit(out: &mut Out, name: &str, value: Out, at: &At<'_>) {
    let limits = out.entry("server", at).and_then(|server| server.entry("limits", at));
    if let Some(limits) = limits {
        limits.set(name, value);
    }
}
