//! Which members of a key and of a provider may be secrets, and what kind of thing each one is.
//!
//! One table for all that treats secrets apart: views (masked or shown), bodies (kept, sealed,
//! checked). A member that is not listed is plain data; a test holds the table against the schema of
//! the records, so that no secret can be forgotten.

use crate::config::syntax::{Kind, Member, Value};

/// What a member that takes the secret forms of CONTRACT 2.2 holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A credential: masked on the way out, sealed on the way in.
    Credential,
    /// Where a credential is sent: shown, and checked on the way in.
    Address,
    /// A region, a project, a certificate: shown.
    Name,
}

/// How a member is treated.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Secret(Role),
    /// Names are data, values are secrets.
    Secrets(Role),
    Record(&'static Record),
    /// Not listed: data as it stands.
    Plain,
}

/// An object of known members.
#[derive(Debug)]
pub struct Record {
    /// Members that are not plain.
    pub members: &'static [(&'static str, Shape)],
    /// Members that others make up; never written, ignored on input.
    pub made_up: &'static [&'static str],
    /// What an absent plain member means, as JSON.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Members that a full replacement keeps when it does not name them.
    pub kept: &'static [&'static str],
}

const EMPTY: Record = Record { members: &[], made_up: &[], defaults: &[], kept: &[] };

const CREDENTIAL: Shape = Shape::Secret(Role::Credential);
const ADDRESS: Shape = Shape::Secret(Role::Address);
const NAME: Shape = Shape::Secret(Role::Name);

/// Where the old generation kept its aliases.
pub const DEPLOYMENTS: &str = "deployments";

/// Beside an address that an API named; no API takes it off.
const PUBLIC_MARK: &str = "public_address_only";

const AZURE: Record = Record {
    members: &[
        ("endpoint", ADDRESS),
        ("api_version", NAME),
        ("client_id", NAME),
        ("client_secret", CREDENTIAL),
        ("tenant_id", NAME),
    ],
    made_up: &[DEPLOYMENTS],
    ..EMPTY
};
const VERTEX: Record = Record {
    members: &[("project_id", NAME), ("project_number", NAME), ("region", NAME), ("auth_credentials", CREDENTIAL)],
    made_up: &[DEPLOYMENTS],
    defaults: &[("force_single_region", "false")],
    ..EMPTY
};
const BEDROCK: Record = Record {
    members: &[
        ("access_key", CREDENTIAL),
        ("secret_key", CREDENTIAL),
        ("session_token", CREDENTIAL),
        ("region", NAME),
        ("arn", NAME),
        ("role_arn", NAME),
        ("external_id", CREDENTIAL),
        ("session_name", NAME),
        ("project_id", NAME),
    ],
    made_up: &[DEPLOYMENTS],
    ..EMPTY
};
const REPLICATE: Record =
    Record { made_up: &[DEPLOYMENTS], defaults: &[("use_deployments_endpoint", "false")], ..EMPTY };
const SERVER: Record = Record { members: &[("url", ADDRESS)], ..EMPTY };

/// A key. Its id, name and times are settled apart: a replacement does not touch them.
pub const KEY: Record = Record {
    members: &[
        ("value", CREDENTIAL),
        ("base_url", ADDRESS),
        ("azure_key_config", Shape::Record(&AZURE)),
        ("vertex_key_config", Shape::Record(&VERTEX)),
        ("bedrock_key_config", Shape::Record(&BEDROCK)),
        ("replicate_key_config", Shape::Record(&REPLICATE)),
        ("vllm_key_config", Shape::Record(&SERVER)),
        ("ollama_key_config", Shape::Record(&SERVER)),
        ("sgl_key_config", Shape::Record(&SERVER)),
    ],
    made_up: &[
        "id",
        "name",
        "aliases",
        "huggingface_key_config",
        "created_at",
        "updated_at",
        "config_hash",
        "status",
        "description",
    ],
    defaults: &[
        ("models", "[\"*\"]"),
        ("blacklisted_models", "[]"),
        ("weight", "1"),
        ("priority", "500"),
        ("enabled", "true"),
        ("use_for_batch_api", "false"),
    ],
    kept: &["replicate_key_config", PUBLIC_MARK],
};

const NETWORK: Record = Record {
    members: &[("base_url", ADDRESS), ("extra_headers", Shape::Secrets(Role::Credential)), ("ca_cert_pem", NAME)],
    defaults: &[
        ("enforce_http2", "false"),
        ("insecure_skip_verify", "false"),
        ("allow_private_network", "false"),
        ("max_retries", "0"),
    ],
    kept: &[PUBLIC_MARK],
    ..EMPTY
};
const PROXY: Record = Record {
    members: &[("url", ADDRESS), ("username", CREDENTIAL), ("password", CREDENTIAL), ("ca_cert_pem", NAME)],
    kept: &[PUBLIC_MARK],
    ..EMPTY
};

/// A provider without its keys.
pub const PROVIDER: Record = Record {
    members: &[("network_config", Shape::Record(&NETWORK)), ("proxy_config", Shape::Record(&PROXY))],
    made_up: &["keys"],
    defaults: &[
        ("send_back_raw_request", "false"),
        ("send_back_raw_response", "false"),
        ("store_raw_request_response", "false"),
    ],
    kept: &["proxy_config", "custom_provider_config", "openai_config"],
};

impl Record {
    pub fn shape(&self, member: &str) -> Shape {
        self.members.iter().find(|(name, _)| *name == member).map_or(Shape::Plain, |(_, shape)| *shape)
    }

    pub fn is_made_up(&self, member: &str) -> bool {
        self.made_up.contains(&member)
    }

    pub fn default_of(&self, member: &str) -> Option<&'static str> {
        self.defaults.iter().find(|(name, _)| *name == member).map(|(_, json)| *json)
    }
}

/// The members of an object; none for anything else.
pub fn members(value: &Value) -> &[Member] {
    match &value.kind {
        Kind::Object(members) => members,
        _ => &[],
    }
}

/// The text that stands where a secret would be written out, in either form; `None` in an object
/// that refers to something else.
pub fn literal_text(value: &Value) -> Option<&str> {
    let is_set = |name: &str| match value.member(name).map(|m| &m.value.kind) {
        None | Some(Kind::Null | Kind::Bool(false)) => false,
        Some(Kind::Text(text)) => !text.is_empty(),
        Some(Kind::Bool(true) | Kind::Number(_) | Kind::List(_) | Kind::Object(_)) => true,
    };
    let text = match &value.kind {
        Kind::Object(_) if ["env_var", "from_env", "file", "ref"].into_iter().any(is_set) => return None,
        Kind::Object(_) => &value.member("value")?.value.kind,
        kind => kind,
    };
    match text {
        Kind::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value as Json;

    use super::*;

    /// Dotted paths of all members of a definition that are secrets by the schema.
    fn by_schema(schema: &Json, name: &str, prefix: &str, found: &mut BTreeSet<String>) {
        let definition = &schema["$defs"][name];
        let object = definition["anyOf"].as_array().map_or(definition, |any| &any[1]);
        for (member, of) in object["properties"].as_object().into_iter().flatten() {
            let target = |of: &Json| of["$ref"].as_str().map(|r| r.trim_start_matches("#/$defs/").to_owned());
            let path = format!("{prefix}{member}");
            match (target(of), target(&of["additionalProperties"])) {
                (Some(target), _) if target == "Secret" => drop(found.insert(path)),
                (_, Some(target)) if target == "Secret" => drop(found.insert(format!("{path}.*"))),
                (Some(target), _) => by_schema(schema, &target, &format!("{path}."), found),
                _ => {}
            }
        }
    }

    fn by_table(record: &Record, prefix: &str, found: &mut BTreeSet<String>) {
        for (name, shape) in record.members {
            let path = format!("{prefix}{name}");
            match shape {
                Shape::Secret(_) => drop(found.insert(path)),
                Shape::Secrets(_) => drop(found.insert(format!("{path}.*"))),
                Shape::Record(record) => by_table(record, &format!("{path}."), found),
                Shape::Plain => {}
            }
        }
    }

    #[test]
    fn every_secret_of_the_records_is_listed() {
        let schema = crate::config::schema();
        for (name, record) in [("Key", &KEY), ("Provider", &PROVIDER)] {
            let (mut wanted, mut listed) = (BTreeSet::new(), BTreeSet::new());
            by_schema(&schema, name, "", &mut wanted);
            by_table(record, "", &mut listed);
            assert!(wanted.len() >= 7, "{wanted:?}");
            assert_eq!(wanted, listed, "{name}");
        }
    }

    /// An object with a literal at every credential of a record.
    fn literals(record: &Record) -> Json {
        let members = record.members.iter().filter_map(|(name, shape)| {
            let value = match shape {
                Shape::Secret(Role::Credential) => "a literal".into(),
                Shape::Secrets(Role::Credential) => serde_json::json!({"x-team": "a literal"}),
                Shape::Record(record) => literals(record),
                Shape::Secret(_) | Shape::Secrets(_) | Shape::Plain => return None,
            };
            Some(((*name).to_owned(), value))
        });
        Json::Object(members.collect())
    }

    fn count(value: &Json) -> usize {
        value.as_object().map_or(1, |members| members.values().map(count).sum())
    }

    #[test]
    fn what_a_body_has_sealed_the_command_seals() {
        let mut provider = literals(&PROVIDER);
        provider["keys"] = serde_json::json!([literals(&KEY)]);
        let expected = count(&literals(&PROVIDER)) + count(&literals(&KEY));
        let (document, _) = crate::config::read(&serde_json::json!({"providers": {"openai": provider}}).to_string());
        let found = crate::snapshot::sealable_literals(&document.expect("reads").file);
        assert!(expected >= 9, "{expected}");
        assert_eq!(found.len(), expected, "{found:#?}");
    }

    #[test]
    fn written_out_or_not() {
        for (json, expected) in [
            ("\"a\"", Some("a")),
            ("{\"value\":\"a\"}", Some("a")),
            ("{\"value\":\"a\",\"env_var\":\"\",\"from_env\":false}", Some("a")),
            ("{\"value\":\"a\",\"env_var\":\"env.A\",\"from_env\":true}", None),
            ("{\"value\":\"a\",\"from_env\":true}", None),
            ("{\"file\":\"x\"}", None),
            ("{\"ref\":\"env.A\"}", None),
            ("7", None),
        ] {
            let tree = crate::config::Tree::parse(json).unwrap();
            assert_eq!(literal_text(tree.root()), expected, "{json}");
        }
    }
}
