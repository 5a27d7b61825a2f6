//! What Redeo and Modelux call `api_key` and its address, as members of a key in the file.
//!
//! Which members these are follows from how the provider is shown a key. A text like `env.NAME` is a
//! reference here as everywhere. Looks at nothing but the form.

use serde_json::{Map, Value as Json, json};

use super::error::ApiError;
use super::fields::invalid;
use crate::config::Tree;
use crate::config::syntax::Value;
use crate::provider::{AuthKind, ProviderRow};

/// Between the parts of AWS credentials in one text.
const PARTS: &str = "::";
/// Of a Google key that names no other; every project has it.
const GOOGLE_REGION: &str = "global";

/// What to do with the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address<'a> {
    Keep,
    /// Back to the provider's own.
    Own,
    Set(&'a str),
}

/// Members of a key's record that say the same; `null` takes a member away.
pub fn members(
    row: &ProviderRow,
    custom: bool,
    api_key: Option<&str>,
    address: Address<'_>,
) -> Result<Map<String, Json>, ApiError> {
    let mut members = Map::new();
    let own = format!("{}_key_config", row.id);
    if let Some(api_key) = api_key {
        match row.auth {
            AuthKind::AwsSigV4 => {
                members.insert(own.clone(), aws(api_key)?);
                // A bearer key from before would go first.
                members.insert("value".to_owned(), Json::Null);
            }
            AuthKind::GoogleOAuth => {
                members.insert(own.clone(), json!({"auth_credentials": api_key}));
            }
            AuthKind::None | AuthKind::Bearer | AuthKind::Header(_) | AuthKind::Azure => {
                members.insert("value".to_owned(), api_key.into());
            }
        }
    }
    let url = match address {
        Address::Keep => return Ok(members),
        Address::Own => Json::Null,
        Address::Set(url) => url.into(),
    };
    if row.needs_endpoint && !custom {
        members.insert(own, json!({(address_member(row)): url}));
    } else {
        members.insert("base_url".to_owned(), url);
    }
    Ok(members)
}

/// What a new key needs beside, where the text does not say it.
pub fn complete(row: &ProviderRow, members: &mut Map<String, Json>) {
    if row.auth == AuthKind::GoogleOAuth {
        let config = members.entry(format!("{}_key_config", row.id)).or_insert_with(|| json!({}));
        if let Some(config) = config.as_object_mut() {
            config.entry("region").or_insert_with(|| GOOGLE_REGION.into());
        }
    }
}

/// Where such a key holds its address.
pub fn address_member(row: &ProviderRow) -> &'static str {
    if row.auth == AuthKind::Azure { "endpoint" } else { "url" }
}

/// `ACCESS_KEY_ID::SECRET_ACCESS_KEY::REGION[::SESSION_TOKEN]`.
fn aws(text: &str) -> Result<Json, ApiError> {
    let parts: Vec<&str> = text.split(PARTS).collect();
    let (access, secret, region, session) = match *parts.as_slice() {
        [access, secret, region] => (access, secret, region, None),
        [access, secret, region, session] => (access, secret, region, Some(session)),
        _ => ("", "", "", None),
    };
    if [access, secret, region].contains(&"") || session == Some("") {
        let form = "ACCESS_KEY_ID::SECRET_ACCESS_KEY::REGION, with ::SESSION_TOKEN for temporary credentials";
        return Err(invalid("api_key", format!("IAM credentials go here as {form}")));
    }
    Ok(json!({"access_key": access, "secret_key": secret, "region": region, "session_token": session}))
}

/// Members as a record that the readers of bodies take.
pub fn record(members: Map<String, Json>) -> Result<Value, ApiError> {
    // The text was made here, hence it has no fault but that it is nested too deep.
    let tree = Tree::parse(&Json::Object(members).to_string());
    tree.map(|tree| tree.root().clone()).map_err(|_| invalid("", "this cannot be written to the file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::rows;

    fn row(auth: AuthKind) -> &'static ProviderRow {
        rows().iter().find(|row| row.auth == auth).unwrap()
    }

    #[test]
    fn what_each_kind_of_key_becomes() {
        let of = |auth, address| Json::Object(members(row(auth), false, Some("k"), address).unwrap());
        assert_eq!(of(AuthKind::Bearer, Address::Set("https://x")), json!({"value": "k", "base_url": "https://x"}));
        assert_eq!(of(AuthKind::Bearer, Address::Own), json!({"value": "k", "base_url": null}));
        assert_eq!(of(AuthKind::Azure, Address::Keep), json!({"value": "k"}));
        let azure = of(AuthKind::Azure, Address::Set("https://x"));
        assert_eq!(azure, json!({"value": "k", "azure_key_config": {"endpoint": "https://x"}}));
        assert_eq!(of(AuthKind::GoogleOAuth, Address::Keep), json!({"vertex_key_config": {"auth_credentials": "k"}}));
    }

    #[test]
    fn aws_credentials() {
        let of = |text: &str| members(row(AuthKind::AwsSigV4), false, Some(text), Address::Keep);
        let config = |text: &str| of(text).unwrap()["bedrock_key_config"].clone();
        assert_eq!(
            config("AKIA1::wJalr/x+y==::us-west-2"),
            json!({"access_key": "AKIA1", "secret_key": "wJalr/x+y==", "region": "us-west-2", "session_token": null})
        );
        assert_eq!(config("a::b::c::d")["session_token"], "d");
        assert_eq!(of("a::b::c").unwrap()["value"], Json::Null);
        for text in ["", "a", "a::b", "a::b::", "::b::c", "a::::c", "a::b::c::", "a::b::c::d::e"] {
            let error = of(text).unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), ("invalid_value", Some("api_key")), "{text}");
        }
    }
}
