//! Every place of the file where a secret, URL or credential may stand.
//!
//! A table, so that whoever looks for sealed values or for references sees them all; a test holds it
//! against the schema. Resolves nothing.

use crate::config::file::{KeyFile, ManagementFile, NetworkFile, ProjectFile, ProviderFile, ProxyFile};
use crate::config::problem::pointer_to;
use crate::config::{ConfigFile, SecretRef};

type Found<'f> = Vec<(String, &'f SecretRef)>;

/// All that are written, with their pointers.
pub fn secret_fields(file: &ConfigFile) -> Found<'_> {
    let mut found = own_fields(file);
    found.extend(provider_fields(file));
    found
}

/// Those that belong to a provider: sent to an upstream, or saying where that is.
pub(super) fn provider_fields(file: &ConfigFile) -> Found<'_> {
    let mut found = Vec::new();
    for (name, provider) in file.providers.iter().flatten() {
        of_provider(provider, &pointer_to("/providers", name), &mut found);
    }
    found
}

/// Those that guard the gateway itself.
pub(super) fn own_fields(file: &ConfigFile) -> Found<'_> {
    let mut found = Vec::new();
    if let Some(ManagementFile { keys, sealing_key, .. }) = &file.management {
        let values = keys.iter().flatten().map(|key| key.value.as_ref());
        found.extend(values.enumerate().filter_map(|(i, value)| Some((format!("/management/keys/{i}/value"), value?))));
        found.extend(sealing_key.iter().map(|key| ("/management/sealing_key".to_owned(), key)));
    }
    for (i, ProjectFile { keys, .. }) in file.projects.iter().flatten().enumerate() {
        let values = keys.iter().flatten().map(|key| key.value.as_ref());
        let named = values.enumerate().filter_map(|(j, value)| Some((format!("/projects/{i}/keys/{j}/value"), value?)));
        found.extend(named);
    }
    let redis = file.state.as_ref().and_then(|state| state.redis.as_ref()?.url.as_ref());
    found.extend(redis.map(|url| ("/state/redis/url".to_owned(), url)));
    found
}

fn of_provider<'f>(file: &'f ProviderFile, pointer: &str, found: &mut Found<'f>) {
    for (i, key) in file.keys.iter().flatten().enumerate() {
        let members = of_key(key).into_iter();
        found.extend(members.filter_map(|(member, value)| Some((format!("{pointer}/keys/{i}/{member}"), value?))));
    }
    if let Some(NetworkFile { base_url, extra_headers, ca_cert_pem, .. }) = &file.network_config {
        let pointer = pointer_to(pointer, "network_config");
        for (member, value) in [("base_url", base_url), ("ca_cert_pem", ca_cert_pem)] {
            found.extend(value.iter().map(|value| (pointer_to(&pointer, member), value)));
        }
        let pointer = pointer_to(&pointer, "extra_headers");
        found.extend(extra_headers.iter().flatten().map(|(name, value)| (pointer_to(&pointer, name), value)));
    }
    if let Some(ProxyFile { url, username, password, ca_cert_pem, .. }) = &file.proxy_config {
        let pointer = pointer_to(pointer, "proxy_config");
        for (member, value) in
            [("url", url), ("username", username), ("password", password), ("ca_cert_pem", ca_cert_pem)]
        {
            found.extend(value.iter().map(|value| (pointer_to(&pointer, member), value)));
        }
    }
}

fn of_key(key: &KeyFile) -> Vec<(&'static str, Option<&SecretRef>)> {
    let azure = key.azure_key_config.as_ref();
    let vertex = key.vertex_key_config.as_ref();
    let bedrock = key.bedrock_key_config.as_ref();
    vec![
        ("value", key.value.as_ref()),
        ("base_url", key.base_url.as_ref()),
        ("azure_key_config/endpoint", azure.and_then(|it| it.endpoint.as_ref())),
        ("azure_key_config/api_version", azure.and_then(|it| it.api_version.as_ref())),
        ("azure_key_config/client_id", azure.and_then(|it| it.client_id.as_ref())),
        ("azure_key_config/client_secret", azure.and_then(|it| it.client_secret.as_ref())),
        ("azure_key_config/tenant_id", azure.and_then(|it| it.tenant_id.as_ref())),
        ("vertex_key_config/project_id", vertex.and_then(|it| it.project_id.as_ref())),
        ("vertex_key_config/project_number", vertex.and_then(|it| it.project_number.as_ref())),
        ("vertex_key_config/region", vertex.and_then(|it| it.region.as_ref())),
        ("vertex_key_config/auth_credentials", vertex.and_then(|it| it.auth_credentials.as_ref())),
        ("bedrock_key_config/access_key", bedrock.and_then(|it| it.access_key.as_ref())),
        ("bedrock_key_config/secret_key", bedrock.and_then(|it| it.secret_key.as_ref())),
        ("bedrock_key_config/session_token", bedrock.and_then(|it| it.session_token.as_ref())),
        ("bedrock_key_config/region", bedrock.and_then(|it| it.region.as_ref())),
        ("bedrock_key_config/arn", bedrock.and_then(|it| it.arn.as_ref())),
        ("bedrock_key_config/role_arn", bedrock.and_then(|it| it.role_arn.as_ref())),
        ("bedrock_key_config/external_id", bedrock.and_then(|it| it.external_id.as_ref())),
        ("bedrock_key_config/session_name", bedrock.and_then(|it| it.session_name.as_ref())),
        ("bedrock_key_config/project_id", bedrock.and_then(|it| it.project_id.as_ref())),
        ("vllm_key_config/url", key.vllm_key_config.as_ref().and_then(|it| it.url.as_ref())),
        ("ollama_key_config/url", key.ollama_key_config.as_ref().and_then(|it| it.url.as_ref())),
        ("sgl_key_config/url", key.sgl_key_config.as_ref().and_then(|it| it.url.as_ref())),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    /// An object with a secret at every place where the schema has one, and nothing else.
    fn filled(schema: &Value, all: &Value) -> Option<Value> {
        if let Some(name) = schema["$ref"].as_str() {
            if name.ends_with("/Secret") {
                return Some(json!("env.A"));
            }
            return filled(all.pointer(name.trim_start_matches('#')).expect("definition"), all);
        }
        if let Some(items) = schema.get("items") {
            return Some(json!([filled(items, all)?]));
        }
        let mut object = Map::new();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            object.extend(filled(member, all).map(|value| (name.clone(), value)));
        }
        let others = schema.get("additionalProperties").filter(|it| it.is_object());
        object.extend(others.and_then(|it| filled(it, all)).map(|value| ("a/b".to_owned(), value)));
        (!object.is_empty()).then_some(Value::Object(object))
    }

    fn leaves(value: &Value, pointer: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| leaves(value, &pointer_to(pointer, name), found));
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, value)| leaves(value, &format!("{pointer}/{i}"), found));
            }
            _ => found.push(pointer.to_owned()),
        }
    }

    #[test]
    fn every_secret_of_the_schema_is_found() {
        let schema = crate::config::schema();
        let file = filled(&schema, &schema).expect("secrets");
        let mut expected = Vec::new();
        leaves(&file, "", &mut expected);
        let (document, _) = crate::config::read(&file.to_string());
        let document = document.expect("reads");
        let mut found: Vec<String> = secret_fields(&document.file).into_iter().map(|(pointer, _)| pointer).collect();
        found.sort();
        expected.sort();
        assert!(expected.len() > 30, "{expected:#?}");
        assert_eq!(found, expected);
    }
}
