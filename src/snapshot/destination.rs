//! Where the stored secrets of a file go, and whether a change would send one elsewhere.
//!
//! CONTRACT 2.2: a stored secret never travels to a new place silently. Compares two files by what
//! is written there, so that a key which is not ready counts as well, and two snapshots by what that
//! has led to. A place is an address and the trust in it. In doubt it has moved.

use std::collections::{BTreeMap, HashMap};

use super::compile::{DEFAULT_NAME, credentials, derived_id, is_empty_literal, literal_address, names_credential};
use super::{Key, Snapshot};
use crate::config::file::{ConfigFile, KeyFile, NetworkFile, ProviderFile, ProxyFile};
use crate::config::{Document, SecretRef};
use crate::provider::{BaseUrl, ProviderRow, UpstreamAuth, row};

/// How `renewed` names what a provider sends for all of its keys: static headers, and the
/// credentials of its proxy. No id of a key holds a slash.
pub fn provider_id(name: &str) -> String {
    format!("providers/{name}")
}

const BASE_URL: &str = "base_url";
const PROVIDER_BASE_URL: &str = "network_config.base_url";
const CA: &str = "network_config.ca_cert_pem";
const SKIP_VERIFY: &str = "network_config.insecure_skip_verify";
const PATHS: &str = "custom_provider_config.request_path_overrides";
const PROXY: &str = "proxy_config";

/// One aspect of a place, with the field that decides it.
struct Aspect<'f> {
    field: &'static str,
    is: Is<'f>,
}

/// What an aspect comes to; equal ones lead to the same place.
#[derive(PartialEq)]
enum Is<'f> {
    Absent,
    /// Two spellings of one address are one address.
    Address(BaseUrl),
    /// A reference, or a literal of no further meaning.
    Written(&'f SecretRef),
    Text(&'f str),
    Flag(bool),
    Paths(BTreeMap<&'f str, &'f str>),
}

impl<'f> From<Option<&'f SecretRef>> for Is<'f> {
    fn from(reference: Option<&'f SecretRef>) -> Self {
        reference.filter(|reference| !is_empty_literal(reference)).map_or(Self::Absent, Self::Written)
    }
}

/// All aspects in a fixed order: two places are compared one by one.
struct Place<'f>(Vec<Aspect<'f>>);

impl<'f> Place<'f> {
    /// Of one key, or of the keys that say nothing of their own.
    fn of(name: &'f str, provider: &'f ProviderFile, key: Option<&'f KeyFile>) -> Self {
        let custom = provider.custom_provider_config.as_ref();
        let base_type = custom.and_then(|custom| custom.base_provider_type.as_deref());
        let row = row(base_type.unwrap_or(name));
        let network = provider.network_config.as_ref();
        let mut aspects = vec![
            Aspect {
                field: "custom_provider_config.base_provider_type",
                is: Is::Text(row.map_or(base_type.unwrap_or(name), |row| row.id)),
            },
            address(row, network, key),
            Aspect { field: CA, is: network.and_then(|network| network.ca_cert_pem.as_ref()).into() },
            Aspect {
                field: SKIP_VERIFY,
                is: Is::Flag(network.is_some_and(|network| network.insecure_skip_verify == Some(true))),
            },
            Aspect {
                field: PATHS,
                is: Is::Paths(
                    custom
                        .and_then(|custom| custom.request_path_overrides.as_deref())
                        .unwrap_or_default()
                        .iter()
                        .map(|(operation, path)| (operation.as_str(), path.as_str()))
                        .collect(),
                ),
            },
        ];
        aspects.extend(proxy(provider.proxy_config.as_ref()));
        aspects.extend(of_clouds(key));
        Self(aspects)
    }

    /// The field by which `self` is another place than `base`.
    fn differs_from(&self, base: &Self) -> Option<&'static str> {
        let (now, then) = self.0.iter().zip(&base.0).find(|(now, then)| now.is != then.is)?;
        // A member that was removed is what moved it, not the default that took over.
        let removed = now.field == PROVIDER_BASE_URL && then.field != PROVIDER_BASE_URL;
        Some(if removed { then.field } else { now.field })
    }
}

/// By the same order of precedence as in compile: the key's own, its server's, the provider's, the
/// catalogue's.
fn address<'f>(
    row: Option<&'static ProviderRow>,
    network: Option<&'f NetworkFile>,
    key: Option<&'f KeyFile>,
) -> Aspect<'f> {
    let of_key = |key: &'f KeyFile| {
        [
            (BASE_URL, key.base_url.as_ref()),
            ("vllm_key_config.url", key.vllm_key_config.as_ref().and_then(|it| it.url.as_ref())),
            ("ollama_key_config.url", key.ollama_key_config.as_ref().and_then(|it| it.url.as_ref())),
            ("sgl_key_config.url", key.sgl_key_config.as_ref().and_then(|it| it.url.as_ref())),
        ]
    };
    let of_provider = (PROVIDER_BASE_URL, network.and_then(|network| network.base_url.as_ref()));
    let written = key.into_iter().flat_map(of_key).chain([of_provider]);
    let mut set = written.filter_map(|(field, url)| Some((field, url.filter(|url| !is_empty_literal(url))?)));
    let prefix = row.map_or("", |row| row.version_prefix);
    match set.next() {
        Some((field, url)) => Aspect { field, is: literal_address(url, prefix).map_or(Is::Written(url), Is::Address) },
        None => {
            let known = row.and_then(|row| BaseUrl::parse(row.base_url, prefix).ok());
            Aspect { field: PROVIDER_BASE_URL, is: known.map_or(Is::Absent, Is::Address) }
        }
    }
}

fn proxy(file: Option<&ProxyFile>) -> [Aspect<'_>; 3] {
    let file = file.filter(|file| file.kind.as_deref() != Some("none"));
    let of = |is| Aspect { field: PROXY, is };
    [
        of(file.map_or(Is::Absent, |file| Is::Text(file.kind.as_deref().unwrap_or_default()))),
        of(file.and_then(|file| file.url.as_ref()).into()),
        of(file.and_then(|file| file.ca_cert_pem.as_ref()).into()),
    ]
}

/// What moves a key of the large clouds.
fn of_clouds(key: Option<&KeyFile>) -> [Aspect<'_>; 4] {
    let azure = key.and_then(|key| key.azure_key_config.as_ref());
    let vertex = key.and_then(|key| key.vertex_key_config.as_ref());
    let bedrock = key.and_then(|key| key.bedrock_key_config.as_ref());
    [
        Aspect { field: "azure_key_config.endpoint", is: azure.and_then(|azure| azure.endpoint.as_ref()).into() },
        // The client secret goes to the tenant's token URL.
        Aspect { field: "azure_key_config.tenant_id", is: azure.and_then(|azure| azure.tenant_id.as_ref()).into() },
        Aspect { field: "vertex_key_config.region", is: vertex.and_then(|vertex| vertex.region.as_ref()).into() },
        Aspect { field: "bedrock_key_config.region", is: bedrock.and_then(|bedrock| bedrock.region.as_ref()).into() },
    ]
}

/// A key of a file: who it is, what it holds, where that goes.
struct Stored<'f> {
    id: String,
    provider: &'f str,
    secrets: Vec<&'f SecretRef>,
    place: Place<'f>,
}

fn stored(file: &ConfigFile) -> Vec<Stored<'_>> {
    let providers = file.providers.iter().flatten();
    let keys = providers.flat_map(|(name, provider)| {
        provider.keys.iter().flatten().map(move |key| {
            let key_name = key.name.as_deref().unwrap_or(DEFAULT_NAME);
            let secrets = credentials(key).into_iter().filter_map(|(_, reference)| reference);
            Stored {
                id: key.id.clone().unwrap_or_else(|| derived_id(name, key_name)),
                provider: name,
                secrets: secrets.filter(|reference| !is_empty_literal(reference)).collect(),
                place: Place::of(name, provider, Some(key)),
            }
        })
    });
    keys.collect()
}

/// The field by which a secret that is stored in `base` would go to a new place under `new`, unless
/// its holder stands in `renewed`: ids of keys, and of providers by [`provider_id`].
pub fn moved(base: &Document, new: &Document, renewed: &[String]) -> Option<String> {
    let is_renewed = |id: &str| renewed.iter().any(|renewed| renewed == id);
    let (before, after) = (stored(&base.file), stored(&new.file));
    let by_id: HashMap<&str, &Stored<'_>> = before.iter().map(|key| (key.id.as_str(), key)).collect();
    for key in &after {
        let known = by_id.get(key.id.as_str());
        // What held nothing has nothing that could travel.
        let known_secrets = known.map(|known| known.secrets.as_slice()).unwrap_or_default();
        let stays = key.secrets.is_empty() || known_secrets.is_empty() || is_renewed(&key.id);
        let field = known.filter(|_| !stays).and_then(|known| key.place.differs_from(&known.place));
        if let Some(field) = field.or_else(|| copied(key, known_secrets, &before)) {
            return Some(field.to_owned());
        }
    }
    of_providers(base, new, &by_id, is_renewed).map(str::to_owned)
}

/// A secret that another key of the file holds and that cannot have come with the request: nobody is
/// shown a literal, nor what it was sealed to.
fn copied(key: &Stored<'_>, own: &[&SecretRef], before: &[Stored<'_>]) -> Option<&'static str> {
    let closed = |reference: &SecretRef| matches!(reference, SecretRef::Literal(_) | SecretRef::Sealed(_));
    let foreign = key.secrets.iter().filter(|reference| closed(reference) && !own.contains(reference));
    foreign.into_iter().find_map(|reference| {
        let holders = before.iter().filter(|known| known.secrets.contains(reference));
        let differences: Option<Vec<_>> = holders.map(|known| key.place.differs_from(&known.place)).collect();
        differences?.first().copied()
    })
}

/// What a provider sends along with every key goes wherever one of its keys goes.
fn of_providers(
    base: &Document,
    new: &Document,
    by_id: &HashMap<&str, &Stored<'_>>,
    is_renewed: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let after = stored(&new.file);
    for (name, provider) in new.file.providers.iter().flatten() {
        let known = base.file.providers.iter().flatten().find(|(known, _)| known == name);
        let Some((_, known)) = known.filter(|_| !is_renewed(&provider_id(name))) else { continue };
        if has_proxy_secret(known) && has_proxy_secret(provider) {
            let (now, then) = (proxy(provider.proxy_config.as_ref()), proxy(known.proxy_config.as_ref()));
            if now.iter().zip(&then).any(|(now, then)| now.is != then.is) {
                return Some(PROXY);
            }
        }
        if !has_secret_header(known) || !has_secret_header(provider) {
            continue;
        }
        let default = Place::of(name, known, None);
        let was = |place: &Place<'_>| {
            let of_keys = by_id.values().filter(|key| key.provider == name).map(|key| &key.place);
            of_keys.chain([&default]).any(|known| place.differs_from(known).is_none())
        };
        let own = Place::of(name, provider, None);
        let keys = after.iter().filter(|key| key.provider == name).map(|key| &key.place);
        if let Some(place) = keys.chain([&own]).find(|place| !was(place)) {
            return place.differs_from(&default);
        }
    }
    None
}

fn has_proxy_secret(provider: &ProviderFile) -> bool {
    let proxy = provider.proxy_config.as_ref();
    proxy.is_some_and(|proxy| [&proxy.username, &proxy.password].into_iter().flatten().any(|it| !is_empty_literal(it)))
}

fn has_secret_header(provider: &ProviderFile) -> bool {
    let headers = provider.network_config.iter().flat_map(|network| network.extra_headers.iter().flatten());
    let mut headers = headers.filter(|(_, value)| !is_empty_literal(value));
    headers.any(|(name, value)| !matches!(value, SecretRef::Literal(_)) || names_credential(name))
}

/// The same question to what two files have been compiled to: where a key that was and is ready
/// would send its secret.
pub fn moved_when_resolved(base: &Snapshot, new: &Snapshot, renewed: &[String]) -> Option<String> {
    let keys = |snapshot: &'_ Snapshot| -> Vec<_> {
        snapshot.providers.iter().flat_map(|provider| provider.keys.iter().cloned()).collect()
    };
    let before: HashMap<_, _> = keys(base).into_iter().map(|key| (key.id.clone(), key)).collect();
    let after = keys(new);
    let kept = after.iter().filter(|key| !renewed.iter().any(|id| *id == key.id.as_str()));
    let mut fields = kept.filter_map(|key| resolved_elsewhere(before.get(&key.id)?, key));
    fields.next().map(str::to_owned)
}

fn resolved_elsewhere(then: &Key, now: &Key) -> Option<&'static str> {
    let (Ok(then), Ok(now)) = (&then.ready, &now.ready) else { return None };
    if matches!(then.auth, UpstreamAuth::None) {
        return None;
    }
    let (from, to) = (&then.transport, &now.transport);
    let address = (&from.scheme, &from.authority, from.in_process) == (&to.scheme, &to.authority, to.in_process);
    let paths = (&then.base_path, &then.root_path) == (&now.base_path, &now.root_path);
    let proxy = from.wire.proxy == to.wire.proxy;
    let trust = [(from.ca_pem == to.ca_pem, CA), (from.skip_verify == to.skip_verify, SKIP_VERIFY), (proxy, PROXY)];
    [(address && paths, BASE_URL)].into_iter().chain(trust).find_map(|(is_same, field)| (!is_same).then_some(field))
}

#[cfg(test)]
pub mod tests;
