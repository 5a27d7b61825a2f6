//! `providers`: which row a name means, and whether it may have the keys that it has.

use std::collections::HashMap;

use super::network::{self, Network};
use super::requests;
use super::{Compiler, did_you_mean, is_plain_name, key};
use crate::config::Code;
use crate::config::file::{CustomProviderFile, ProviderFile};
use crate::config::problem::pointer_to;
use crate::dialect::Operation;
use crate::id::ProviderName;
use crate::limits::PROVIDER_NAME_CHARS_MAX;
use crate::provider::{AuthKind, ProviderRow, row, rows};
use crate::snapshot::{AllowedRequests, Key, Retry, Timeouts};

/// A provider that has not been connected with what is remembered of its keys.
pub(super) struct ProviderDraft {
    pub name: ProviderName,
    pub row: &'static ProviderRow,
    pub custom: bool,
    pub keys: Vec<Key>,
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub allowed: AllowedRequests,
    pub path_overrides: HashMap<Operation, Box<str>>,
}

/// What the keys of one provider have in common.
pub(super) struct Host<'n> {
    pub name: &'n str,
    /// `None`: the name means nothing, which is reported; keys are checked for the rest.
    pub row: Option<&'static ProviderRow>,
    pub custom: bool,
    pub network: &'n Network,
}

pub(super) fn all(cx: &mut Compiler<'_>, providers: &[(String, ProviderFile)]) -> Vec<ProviderDraft> {
    let mut names: Vec<(String, &str)> = Vec::new();
    let mut drafts = Vec::new();
    for (name, file) in providers {
        let pointer = pointer_to("/providers", name);
        let folded = name.to_ascii_lowercase();
        if names.iter().any(|(other, _)| *other == folded) {
            let problem = cx.problems.error(Code::Duplicate, &*pointer, "another provider has this name but for case");
            problem.hint("names are told apart ignoring case");
        }
        names.push((folded, name));
        drafts.extend(one(cx, name, file, &pointer));
    }
    drafts
}

fn one(cx: &mut Compiler<'_>, name: &str, file: &ProviderFile, pointer: &str) -> Option<ProviderDraft> {
    if !is_plain_name(name, PROVIDER_NAME_CHARS_MAX) {
        let problem = cx.problems.error(Code::BadValue, pointer, "not a name for a provider");
        problem.hint(format!("letters, digits, `.`, `_` and `-`, at most {PROVIDER_NAME_CHARS_MAX}"));
        return None;
    }
    let custom = file.custom_provider_config.as_ref();
    let row = row_of(cx, name, custom, pointer);
    // A keyless custom provider may authenticate by a static header of its own.
    let keyless = custom.is_some_and(|custom| custom.is_key_less == Some(true));
    let auth = row.filter(|_| !keyless).map_or(AuthKind::None, |row| row.auth);
    let network = network::settings(cx, file.network_config.as_ref(), file.proxy_config.as_ref(), row, auth, pointer);
    let host = Host { name, row, custom: custom.is_some(), network: &network };
    let keys = keys(cx, &host, file, pointer);
    let (allowed, path_overrides) = match custom {
        Some(custom) => requests::rules(cx, custom, row, &pointer_to(pointer, "custom_provider_config")),
        None => (AllowedRequests::All, HashMap::new()),
    };
    Some(ProviderDraft {
        name: ProviderName::from(name),
        row: row?,
        custom: custom.is_some(),
        keys,
        timeouts: network.timeouts,
        retry: network.retry,
        allowed,
        path_overrides,
    })
}

/// The row that a name means by itself, or by what its custom config says.
fn row_of(
    cx: &mut Compiler<'_>,
    name: &str,
    custom: Option<&CustomProviderFile>,
    pointer: &str,
) -> Option<&'static ProviderRow> {
    let standard = row(&name.to_ascii_lowercase());
    let custom_pointer = pointer_to(pointer, "custom_provider_config");
    match (standard, custom) {
        (Some(row), Some(_)) => {
            let text = "a provider of the catalogue cannot be a custom one";
            cx.problems.error(Code::Conflict, custom_pointer, text).hint("give the custom provider another name");
            Some(row)
        }
        (Some(found), None) if row(name).is_none() => {
            let problem = cx.problems.error(Code::UnknownReference, pointer, "no provider has this name");
            problem.hint(format!("did you mean `{}`?", found.id));
            Some(found)
        }
        (Some(row), None) => Some(row),
        (None, None) => {
            let known = rows().iter().flat_map(|row| row.also.iter().chain([&row.id])).copied();
            let hint = did_you_mean(name, known).unwrap_or_else(|| {
                "a provider of your own needs `custom_provider_config` with a `base_provider_type`".to_owned()
            });
            cx.problems.error(Code::UnknownReference, pointer, "no provider has this name").hint(hint);
            None
        }
        (None, Some(custom)) => base_row(cx, custom, &custom_pointer),
    }
}

fn base_row(cx: &mut Compiler<'_>, custom: &CustomProviderFile, pointer: &str) -> Option<&'static ProviderRow> {
    let Some(base) = &custom.base_provider_type else {
        cx.missing(pointer, "base_provider_type", "the API that it speaks: a provider of the catalogue");
        return None;
    };
    let at = pointer_to(pointer, "base_provider_type");
    let Some(row) = row(base).filter(|row| !row.in_process) else {
        let known = rows().iter().filter(|row| !row.in_process).map(|row| row.id);
        let problem = cx.problems.error(Code::UnknownReference, at, "no provider of the catalogue has this name");
        if let Some(hint) = did_you_mean(base, known) {
            problem.hint(hint);
        }
        return None;
    };
    if custom.is_key_less == Some(true) && row.auth == AuthKind::AwsSigV4 {
        let text = "requests of this base type are signed, which needs a key";
        cx.problems.error(Code::Conflict, pointer_to(pointer, "is_key_less"), text);
    }
    Some(row)
}

fn keys(cx: &mut Compiler<'_>, host: &Host<'_>, file: &ProviderFile, pointer: &str) -> Vec<Key> {
    let written = file.keys.as_deref().unwrap_or_default();
    let at = pointer_to(pointer, "keys");
    if is_keyless(host, file) {
        if !written.is_empty() {
            let problem = cx.problems.error(Code::Conflict, &*at, "this provider takes no keys");
            problem.hint("remove `keys`");
        }
        return key::implicit(cx, host, pointer).into_iter().collect();
    }
    if written.is_empty() && !cx.is_misread(&at) {
        let problem = cx.problems.warning(Code::Suspicious, pointer, "no keys: nothing can be served from here");
        problem.hint("add a key to `keys`");
    }
    let names = key::identities(cx, host.name, written, &at);
    (0..)
        .zip(written.iter().zip(names))
        .filter_map(|(i, (file, identity))| key::one(cx, host, file, identity, pointer_to(&at, &usize::to_string(&i))))
        .collect()
}

/// Takes no keys by its row or by its custom config; or is a local server in the old spelling, with
/// its address in `network_config` and no `keys` member at all (bifrost.md 2.5).
fn is_keyless(host: &Host<'_>, file: &ProviderFile) -> bool {
    let custom = file.custom_provider_config.as_ref().and_then(|custom| custom.is_key_less);
    let by_row = host.row.is_some_and(|row| {
        let local = row.needs_endpoint && row.value_optional && row.auth == AuthKind::Bearer;
        !host.custom && (row.keyless || (local && file.keys.is_none() && host.network.base_url.is_some()))
    });
    custom.unwrap_or(by_row)
}
