//! Deployments to the keys of providers: one key for each credential, address, order and share.

use std::collections::HashSet;

use super::deployment::{Deployment, secret};
use super::vendors::{OPENAI, OWN_SERVER};
use crate::config::is_showable;
use crate::import::findings::Findings;
use crate::import::out::{Out, OutKind};
use crate::import::source::At;

/// A key that is being filled.
struct Draft<'d, 's> {
    first: &'d Deployment<'s>,
    /// What tells it from other keys: credential, address, order, share.
    mark: Mark,
    secret: Option<Out>,
    base: Option<Out>,
    config: Option<(&'static str, Out)>,
    /// Local names; `None`: whatever the provider has.
    models: Option<Vec<&'d Deployment<'s>>>,
}

/// Neither `Debug` nor `Display`: it holds the credential.
#[derive(PartialEq)]
struct Mark {
    parts: Vec<String>,
    order: Option<u64>,
    weight: Option<f64>,
    wildcard: bool,
}

/// The section `providers`, in the order in which the file names them.
pub(super) fn providers(root: &At<'_>, deployments: &[Deployment<'_>], findings: &mut Findings) -> Out {
    let mut providers = Out::object(&root.get("model_list").unwrap_or_else(|| root.clone()));
    let mut names: Vec<&'static str> = Vec::new();
    for it in deployments {
        if !names.contains(&it.vendor.provider) {
            names.push(it.vendor.provider);
        }
    }
    for name in names {
        let own: Vec<&Deployment<'_>> = deployments.iter().filter(|it| it.vendor.provider == name).collect();
        let Some(first) = own.first() else { continue };
        let mut provider = Out::object(&first.at);
        if first.vendor.custom {
            let mut custom = Out::object(&first.at);
            custom.set("base_provider_type", Out::text(OPENAI, &first.at));
            provider.set("custom_provider_config", custom);
            let mut network = Out::object(&first.at);
            network.set("base_url", Out::text(first.vendor.base_url, &first.at));
            provider.set("network_config", network);
        }
        let mut names = HashSet::new();
        let keys = drafts(&own, findings).iter().map(|draft| key(draft, &mut names)).collect();
        provider.set("keys", Out::list(keys, &first.at));
        providers.set(name, provider);
    }
    providers
}

fn drafts<'d, 's>(own: &[&'d Deployment<'s>], findings: &mut Findings) -> Vec<Draft<'d, 's>> {
    let mut drafts: Vec<Draft<'d, 's>> = Vec::new();
    for it in own {
        let fresh = draft(it, own, findings);
        let is_free = |draft: &&mut Draft<'d, 's>| {
            let taken = |known: &&'d Deployment<'s>| known.local.eq_ignore_ascii_case(&it.local);
            draft.mark == fresh.mark && !draft.models.iter().flatten().any(taken)
        };
        match drafts.iter_mut().find(is_free) {
            Some(draft) => draft.models.iter_mut().for_each(|models| models.push(it)),
            None => drafts.push(fresh),
        }
    }
    drafts
}

fn draft<'d, 's>(it: &'d Deployment<'s>, own: &[&'d Deployment<'s>], findings: &mut Findings) -> Draft<'d, 's> {
    let secret = credential(it, findings);
    let base = address(it, findings);
    let config = config(it);
    let text = |out: &Option<Out>| match out.as_ref().map(|out| &out.kind) {
        Some(OutKind::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let settings = config.as_ref().map(|(_, config)| config.render()).unwrap_or_default();
    // A share is one among those that serve the same name here.
    let rivals = own.iter().filter(|other| other.local == it.local && other.order() == it.order()).count();
    let mark = Mark {
        parts: vec![text(&secret), text(&base), settings],
        order: it.order(),
        weight: it.weight.filter(|_| rivals > 1),
        wildcard: it.is_wildcard(),
    };
    if it.is_wildcard() {
        wildcard(it, findings);
    }
    let models = (!it.is_wildcard()).then(|| vec![it]);
    Draft { first: it, mark, secret, base, config, models }
}

fn wildcard(it: &Deployment<'_>, findings: &mut Findings) {
    let own = it.vendor.provider;
    if it.public == "*" {
        let text = format!("not every name: `{own}/…`, and what the provider lists");
        findings.changed(&it.at, text);
    } else if it.local != "*" {
        findings.changed(&it.at, "names are not matched by pattern: the key serves every model of the provider");
    }
}

/// The key as written, else the variable that LiteLLM reads by itself.
fn credential(it: &Deployment<'_>, findings: &mut Findings) -> Option<Out> {
    if let Some(secret) = it.secret(&["api_key"]) {
        return Some(secret);
    }
    let has_own = it.value("client_secret").is_some();
    if it.vendor.env.is_empty() || has_own {
        return None;
    }
    findings.changed(
        &it.params,
        format!("no `api_key`: the variable that is read then, {}, is written out", it.vendor.env),
    );
    Some(Out::text(format!("env.{}", it.vendor.env), &it.params))
}

fn address(it: &Deployment<'_>, findings: &mut Findings) -> Option<Out> {
    // Azure's stands in its own config.
    if it.vendor.provider == AZURE {
        return None;
    }
    let Some(at) = it.value("api_base").or_else(|| it.value("base_url")) else {
        let known = it.vendor.base_url;
        if known.is_empty() || it.vendor.custom {
            return None;
        }
        findings.changed(&it.params, format!("no `api_base`: {known}, which is asked then, is written out"));
        return Some(Out::text(known, &it.params));
    };
    let base = secret(&at)?;
    if let OutKind::Text(url) = &base.kind
        && !url.starts_with("env.")
        && (it.vendor.provider == OPENAI || it.vendor.provider == OWN_SERVER || it.vendor.custom)
        && !url.trim_end_matches('/').ends_with("/v1")
    {
        findings.changed(&at, "`/v1` is put between this address and the operation");
    }
    Some(base)
}

const AZURE: &str = "azure";

/// What a cloud asks for beside a key: the `*_key_config` here, its members, and what LiteLLM calls
/// them.
struct CloudConfig {
    provider: &'static str,
    member: &'static str,
    names: &'static [(&'static str, &'static [&'static str])],
}

const CONFIGS: &[CloudConfig] = &[
    CloudConfig {
        provider: AZURE,
        member: "azure_key_config",
        names: &[
            ("endpoint", &["api_base", "base_url"]),
            ("api_version", &["api_version"]),
            ("tenant_id", &["tenant_id"]),
            ("client_id", &["client_id"]),
            ("client_secret", &["client_secret"]),
        ],
    },
    CloudConfig {
        provider: "bedrock",
        member: "bedrock_key_config",
        names: &[
            ("access_key", &["aws_access_key_id"]),
            ("secret_key", &["aws_secret_access_key"]),
            ("session_token", &["aws_session_token"]),
            ("region", &["aws_region_name"]),
            ("role_arn", &["aws_role_name"]),
            ("session_name", &["aws_session_name"]),
            ("external_id", &["aws_external_id"]),
        ],
    },
    CloudConfig {
        provider: "vertex",
        member: "vertex_key_config",
        names: &[
            ("project_id", &["vertex_project", "vertex_ai_project"]),
            ("region", &["vertex_location", "vertex_ai_location"]),
            ("auth_credentials", &["vertex_credentials"]),
        ],
    },
];

/// Whether a member of `litellm_params` becomes part of the key's config.
pub(super) fn is_config(provider: &str, member: &str) -> bool {
    let of_provider = CONFIGS.iter().filter(|config| config.provider == provider);
    of_provider.flat_map(|config| config.names).any(|(_, names)| names.contains(&member))
}

fn config(it: &Deployment<'_>) -> Option<(&'static str, Out)> {
    let cloud = CONFIGS.iter().find(|config| config.provider == it.vendor.provider)?;
    let mut out = Out::object(&it.params);
    for (member, names) in cloud.names {
        out.set_some(member, it.secret(names).map(|written| file_or_text(member, written)));
    }
    (!out.is_hollow()).then_some((cloud.member, out))
}

/// Credentials of Google are written out there, or named by the path of their file.
fn file_or_text(member: &str, written: Out) -> Out {
    match &written.kind {
        OutKind::Text(path) if member == "auth_credentials" && path.ends_with(".json") => {
            let from = written.from.clone();
            Out { kind: OutKind::Object(vec![("file".to_owned(), written)]), from }
        }
        _ => written,
    }
}

fn key(draft: &Draft<'_, '_>, names: &mut HashSet<String>) -> Out {
    let at = &draft.first.at;
    let mut out = Out::object(at);
    out.set("name", Out::text(name(draft, names), at));
    out.set_some("value", draft.secret.clone());
    out.set_some("base_url", draft.base.clone());
    if let Some((name, config)) = &draft.config {
        out.set(name, config.clone());
    }
    if let Some(order) = draft.mark.order {
        out.set("priority", Out::whole(order, at));
    }
    if let Some(weight) = draft.mark.weight {
        out.set("weight", Out::new(OutKind::Number(weight.to_string()), at));
    }
    if let Some(models) = &draft.models {
        out.set("models", Out::list(models.iter().map(|it| Out::text(&*it.local, &it.at)).collect(), at));
        let mut aliases = Out::object(at);
        for it in models.iter().filter(|it| it.local != it.upstream) {
            aliases.set(&it.local, Out::text(&*it.upstream, &it.at));
        }
        out.set_some("aliases", Some(aliases));
    }
    out
}

/// After the variable that holds it, for it stands in logs and headers.
fn name(draft: &Draft<'_, '_>, names: &mut HashSet<String>) -> String {
    let variable = match draft.secret.as_ref().map(|secret| &secret.kind) {
        Some(OutKind::Text(text)) => text.strip_prefix("env."),
        _ => None,
    };
    let base = variable.map_or_else(|| draft.first.local.clone(), |variable| variable.to_ascii_lowercase());
    let plain = is_showable(&base) || (variable.is_some() && !base.is_empty());
    let base = if plain { base } else { "key".to_owned() };
    let numbered = (2..).map(|number: u32| format!("{base}-{number}"));
    let name = std::iter::once(base.clone()).chain(numbered).find(|name| !names.contains(name)).unwrap_or_default();
    names.insert(name.clone());
    name
}
