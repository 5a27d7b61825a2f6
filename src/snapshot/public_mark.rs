//! Which addresses of a file an API has named, and that the file says so.
//!
//! Both hands write the same file, so where an address came from must stand beside it, or nobody who
//! dials it a week later could know. `public_address_only` is that mark: every address that a change of
//! an API brings gets it, in the same write, and no API can take it off again; a person with an editor
//! can. It is part of the file and travels with it, to another machine and through git.

use std::collections::HashMap;

use super::compile::{DEFAULT_NAME, derived_id, is_empty_literal};
use crate::config::file::{ConfigFile, KeyFile, ProviderFile};
use crate::config::problem::pointer_to;
use crate::config::{Document, SecretRef};
use crate::provider::{BaseUrl, ProxyUrl};

/// What is missing in `new`, which a change made of `base`: pointers of marks that must be set.
/// The error names the member by which the change says that private addresses are in order, which is
/// for the file alone to say.
pub fn missing_marks(base: &Document, new: &Document) -> Result<Vec<String>, String> {
    let before = Named::of(&base.file);
    let allowed = allowed_origins(&new.file);
    let mut marks = Vec::new();
    for (name, provider) in new.file.providers.iter().flatten() {
        let pointer = pointer_to("/providers", name);
        if lets_private(provider) && !before.private.contains(&name.as_str()) {
            return Err("network_config.allow_private_network".to_owned());
        }
        for place in Place::all(name, provider, &pointer) {
            let known = before.places.get(&place.id);
            let is_new = known.is_none_or(|known| known.is_marked || known.address != place.address);
            if place.is_marked || !is_new || place.is_allowed(&allowed) {
                continue;
            }
            if place.says_no {
                return Err(place.field.to_owned());
            }
            marks.push(place.mark);
        }
    }
    Ok(marks)
}

const KEY_MARK: &str = "public_address_only";

fn lets_private(provider: &ProviderFile) -> bool {
    provider.network_config.as_ref().is_some_and(|network| network.allow_private_network == Some(true))
}

fn allowed_origins(file: &ConfigFile) -> Vec<(Box<str>, u16)> {
    let origins = file.management.iter().flat_map(|management| management.allowed_origins.iter().flatten());
    origins.filter_map(|origin| BaseUrl::parse(origin, "").ok()).map(|url| (url.host, url.port)).collect()
}

/// The addresses of a file, as far as somebody wrote them.
struct Named<'f> {
    places: HashMap<String, Place<'f>>,
    /// Providers that may be anywhere.
    private: Vec<&'f str>,
}

impl<'f> Named<'f> {
    fn of(file: &'f ConfigFile) -> Self {
        let providers = || file.providers.iter().flatten();
        let places = providers().flat_map(|(name, provider)| Place::all(name, provider, ""));
        let private = providers().filter(|(_, provider)| lets_private(provider)).map(|(name, _)| name.as_str());
        Self { places: places.map(|place| (place.id.clone(), place)).collect(), private: private.collect() }
    }
}

/// One record that names addresses, and what it says of them.
struct Place<'f> {
    /// Stable over renames and moves in the file.
    id: String,
    address: Vec<&'f SecretRef>,
    is_marked: bool,
    /// The mark stands there and says no.
    says_no: bool,
    mark: String,
    field: &'static str,
}

impl<'f> Place<'f> {
    fn all(name: &str, provider: &'f ProviderFile, pointer: &str) -> Vec<Self> {
        let network = provider.network_config.as_ref();
        let proxy = provider.proxy_config.as_ref();
        let mut places = vec![
            Self::of(
                format!("network/{name}"),
                vec![network.and_then(|network| network.base_url.as_ref())],
                network.and_then(|network| network.public_address_only),
                pointer_to(pointer, "network_config"),
                "network_config.public_address_only",
            ),
            Self::of(
                format!("proxy/{name}"),
                vec![proxy.and_then(|proxy| proxy.url.as_ref())],
                proxy.and_then(|proxy| proxy.public_address_only),
                pointer_to(pointer, "proxy_config"),
                "proxy_config.public_address_only",
            ),
        ];
        let keys = pointer_to(pointer, "keys");
        for (at, key) in provider.keys.iter().flatten().enumerate() {
            let id = key.id.clone();
            let id = id.unwrap_or_else(|| derived_id(name, key.name.as_deref().unwrap_or(DEFAULT_NAME)));
            let pointer = pointer_to(&keys, &at.to_string());
            places.push(Self::of(format!("key/{id}"), addresses(key), key.public_address_only, pointer, KEY_MARK));
        }
        places.retain(|place| !place.address.is_empty());
        places
    }

    fn of(
        id: String,
        address: Vec<Option<&'f SecretRef>>,
        mark: Option<bool>,
        record: String,
        field: &'static str,
    ) -> Self {
        Self {
            id,
            address: address.into_iter().flatten().filter(|address| !is_empty_literal(address)).collect(),
            is_marked: mark == Some(true),
            says_no: mark == Some(false),
            mark: pointer_to(&record, "public_address_only"),
            field,
        }
    }

    /// Written out, and listed in the file: nothing to be marked.
    fn is_allowed(&self, origins: &[(Box<str>, u16)]) -> bool {
        let origin = |address: &SecretRef| {
            let written = super::compile::literal_address(address, "").map(|url| (url.host, url.port));
            written.or_else(|| super::compile::literal_proxy(address).map(|url: ProxyUrl| (url.host, url.port)))
        };
        self.address.iter().all(|address| origin(address).is_some_and(|origin| origins.contains(&origin)))
    }
}

/// Everything in a key that says where its requests go.
fn addresses(key: &KeyFile) -> Vec<Option<&SecretRef>> {
    vec![
        key.base_url.as_ref(),
        key.azure_key_config.as_ref().and_then(|config| config.endpoint.as_ref()),
        key.vllm_key_config.as_ref().and_then(|config| config.url.as_ref()),
        key.ollama_key_config.as_ref().and_then(|config| config.url.as_ref()),
        key.sgl_key_config.as_ref().and_then(|config| config.url.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn document(providers: &str) -> Document {
        let text = format!(
            "{{\"management\": {{\"allowed_origins\": [\"http://10.0.0.9:80\"]}}, \"providers\": {{{providers}}}}}"
        );
        let (document, problems) = config::read(&text);
        assert!(!problems.has_errors(), "{problems:?}");
        document.unwrap()
    }

    const NETWORK: &str = "/providers/openai/network_config/public_address_only";
    const KEY: &str = "/providers/openai/keys/0/public_address_only";

    #[test]
    fn what_an_api_brings_is_marked() {
        let network = |members: &str| format!("\"openai\": {{\"network_config\": {{{members}}}}}");
        let key =
            |members: &str| format!("\"openai\": {{\"keys\": [{{\"name\": \"a\", \"value\": \"env.A\"{members}}}]}}");
        let (url, marked) = ("\"base_url\": \"https://a.example\"", ", \"public_address_only\": true");
        let said_no = ", \"public_address_only\": false";
        let refused = |field: &str| Err(field.to_owned());
        for (base, new, expected) in [
            (String::new(), network(url), Ok(vec![NETWORK.to_owned()])),
            (network(""), network(url), Ok(vec![NETWORK.to_owned()])),
            (network(""), network(&format!("{url}{marked}")), Ok(vec![])),
            // By hand, and none of an API's business since.
            (network(url), network(url), Ok(vec![])),
            (network(url), network(&format!("{url}, \"max_retries\": 1")), Ok(vec![])),
            // It cannot be taken off by leaving it out, nor by saying no.
            (network(&format!("{url}{marked}")), network(url), Ok(vec![NETWORK.to_owned()])),
            (
                network(&format!("{url}{marked}")),
                network(&format!("{url}{said_no}")),
                refused("network_config.public_address_only"),
            ),
            (network(&format!("{url}{said_no}")), network(&format!("{url}{said_no}")), Ok(vec![])),
            (network(url), network("\"base_url\": \"https://b.example\""), Ok(vec![NETWORK.to_owned()])),
            (network(""), network("\"base_url\": \"http://10.0.0.9/v1\""), Ok(vec![])),
            (network(""), network("\"base_url\": \"env.BASE\""), Ok(vec![NETWORK.to_owned()])),
            (network(""), network("\"max_retries\": 1"), Ok(vec![])),
            (network(""), network("\"allow_private_network\": true"), refused("network_config.allow_private_network")),
            (network("\"allow_private_network\": true"), network("\"allow_private_network\": true"), Ok(vec![])),
            (key(""), key(&format!(", {url}")), Ok(vec![KEY.to_owned()])),
            (key(&format!(", {url}")), key(&format!(", {url}")), Ok(vec![])),
            (key(&format!(", {url}{marked}")), key(&format!(", {url}")), Ok(vec![KEY.to_owned()])),
            (
                String::new(),
                "\"openai\": {\"proxy_config\": {\"type\": \"http\", \"url\": \"http://p.example:3128\"}}".to_owned(),
                Ok(vec!["/providers/openai/proxy_config/public_address_only".to_owned()]),
            ),
            (
                String::new(),
                "\"openai\": {\"proxy_config\": {\"type\": \"socks5\", \"url\": \"socks5://10.0.0.9:80\"}}".to_owned(),
                Ok(vec![]),
            ),
        ] {
            assert_eq!(missing_marks(&document(&base), &document(&new)), expected, "{base} -> {new}");
        }
    }

    #[test]
    fn an_address_that_was_copied_from_another_key_is_new() {
        let base = document(
            "\"openai\": {\"keys\": [{\"id\": \"x\", \"name\": \"a\", \"value\": \"env.A\", \"base_url\": \"http://10.1.1.1\"}]}",
        );
        let new = document(
            "\"openai\": {\"keys\": [{\"id\": \"x\", \"name\": \"a\", \"value\": \"env.A\", \"base_url\": \"http://10.1.1.1\"}, \
             {\"id\": \"y\", \"name\": \"b\", \"value\": \"env.A\", \"base_url\": \"http://10.1.1.1\"}]}",
        );
        assert_eq!(missing_marks(&base, &new), Ok(vec!["/providers/openai/keys/1/public_address_only".to_owned()]));
    }
}
