//! Credentials that stand in clear in the file: what `keyway seal` seals, and what `check` warns
//! about inside a git work tree.

use crate::config::file::{AzureKeyFile, BedrockKeyFile, KeyFile, ProxyFile, VertexKeyFile};
use crate::config::problem::pointer_to;
use crate::config::{ConfigFile, SecretRef};

/// Words in the name of a header that make its value a credential.
const HEADER_WORDS: [&str; 6] = ["auth", "key", "token", "secret", "cookie", "password"];

/// JSON pointers of all that is surely a credential and written out, in the order of the file's
/// members. Addresses, regions and names are not credentials, whatever their type.
pub fn plaintext_literals(file: &ConfigFile) -> Vec<String> {
    literals(file, names_credential)
}

/// Those, and the values of all other headers: no name tells for certain that a value is harmless.
pub fn sealable_literals(file: &ConfigFile) -> Vec<String> {
    literals(file, |_| true)
}

fn literals(file: &ConfigFile, is_header_credential: fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |reference: Option<&SecretRef>, pointer: String| {
        if matches!(reference, Some(SecretRef::Literal(secret)) if !secret.is_empty()) {
            found.push(pointer);
        }
    };
    if let Some(management) = &file.management {
        for (i, key) in management.keys.iter().flatten().enumerate() {
            look(key.value.as_ref(), format!("/management/keys/{i}/value"));
        }
        look(management.sealing_key.as_ref(), "/management/sealing_key".to_owned());
    }
    for (name, provider) in file.providers.iter().flatten() {
        let pointer = pointer_to("/providers", name);
        for (i, key) in provider.keys.iter().flatten().enumerate() {
            for (member, reference) in credentials(key) {
                look(reference, format!("{pointer}/keys/{i}/{member}"));
            }
            // Not a credential that goes anywhere by itself, but what guards a role.
            let external_id = key.bedrock_key_config.as_ref().and_then(|bedrock| bedrock.external_id.as_ref());
            look(external_id, format!("{pointer}/keys/{i}/bedrock_key_config/external_id"));
        }
        let headers = provider.network_config.iter().flat_map(|network| network.extra_headers.iter().flatten());
        for (header, reference) in headers {
            if is_header_credential(header) {
                look(Some(reference), pointer_to(&format!("{pointer}/network_config/extra_headers"), header));
            }
        }
        if let Some(ProxyFile { username, password, .. }) = &provider.proxy_config {
            look(username.as_ref(), format!("{pointer}/proxy_config/username"));
            look(password.as_ref(), format!("{pointer}/proxy_config/password"));
        }
    }
    for (i, project) in file.projects.iter().flatten().enumerate() {
        for (j, key) in project.keys.iter().flatten().enumerate() {
            look(key.value.as_ref(), format!("/projects/{i}/keys/{j}/value"));
        }
    }
    let redis = file.state.as_ref().and_then(|state| state.redis.as_ref());
    look(redis.and_then(|redis| redis.url.as_ref()), "/state/redis/url".to_owned());
    found
}

/// Whether a header of this name carries a credential, as far as its name tells.
pub(in crate::snapshot) fn names_credential(header: &str) -> bool {
    let folded = header.to_ascii_lowercase();
    HEADER_WORDS.iter().any(|word| folded.contains(word))
}

/// Members of a key that are credentials, whether they are there or not.
pub(in crate::snapshot) fn credentials(key: &KeyFile) -> Vec<(&'static str, Option<&SecretRef>)> {
    let mut found = vec![("value", key.value.as_ref())];
    if let Some(AzureKeyFile { client_secret, .. }) = &key.azure_key_config {
        found.push(("azure_key_config/client_secret", client_secret.as_ref()));
    }
    if let Some(VertexKeyFile { auth_credentials, .. }) = &key.vertex_key_config {
        found.push(("vertex_key_config/auth_credentials", auth_credentials.as_ref()));
    }
    if let Some(BedrockKeyFile { access_key, secret_key, session_token, .. }) = &key.bedrock_key_config {
        found.push(("bedrock_key_config/access_key", access_key.as_ref()));
        found.push(("bedrock_key_config/secret_key", secret_key.as_ref()));
        found.push(("bedrock_key_config/session_token", session_token.as_ref()));
    }
    found
}
