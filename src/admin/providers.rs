//! Providers: create, create or replace, delete, each as a [`Change`] that can be planned anew on
//! whatever stands on disk by then. Their own keys are the key routes' matter, but for a create in
//! the manner of older clients. Checks in the order of bifrost.md 3.6; what the file's compiler
//! refuses is left to it.

use super::etag::IfMatch;
use super::keys;
use super::merge::{Ground, address, made};
use super::record::ProviderBody;
use super::replace::{Merged, Replacement};
use super::shape::{PROVIDER, members};
use super::view::provider_hash;
use super::write::{all_resolved, provider, stored};
use crate::config::edit::{Edit, NewValue};
use crate::config::file::ProviderFile;
use crate::config::problem::pointer_to;
use crate::config::read::FromConfig;
use crate::config::syntax::{Kind, Value};
use crate::id::KeyId;
use crate::snapshot::{Snapshot, destination};
use crate::store::{Base, Change, Plan, Refused};

/// A provider that must not be there yet.
pub struct CreateProvider {
    pub name: String,
    pub body: ProviderBody,
    /// One for each key of the body.
    pub ids: Vec<String>,
    pub now: String,
}

impl Change for CreateProvider {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        if base.document.tree.find(&pointer_to("/providers", &self.name)).is_some() {
            let message = "a provider of this name is configured already".to_owned();
            return Err(Refused::Conflict { code: "duplicate_provider", message });
        }
        let keys = self.body.keys.as_deref().unwrap_or_default();
        created(&self.name, &self.body.value, keys, &self.ids, &self.now, base)
    }

    fn accept(&self, made: &Snapshot) -> Result<(), Refused> {
        all_resolved(made, &self.ids.iter().map(|id| KeyId::new(id.as_str())).collect::<Vec<_>>())
    }
}

/// A provider as it shall be, its keys as they are.
pub struct PutProvider {
    pub name: String,
    pub body: ProviderBody,
    pub if_match: IfMatch,
}

impl Change for PutProvider {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        let pointer = pointer_to("/providers", &self.name);
        let Some(old) = base.document.tree.find(&pointer) else {
            self.if_match.admits(None)?;
            return created(&self.name, &self.body.value, &[], &[], "", base);
        };
        self.if_match.admits(Some(provider_hash(old)))?;
        let body = &self.body.value;
        overrides(body, base)?;
        let mut merged = Merged::default();
        Replacement {
            record: &PROVIDER,
            pointer: &pointer,
            field: "",
            stored: old,
            body,
            stored_canon: Some(&ProviderFile::canon(old)),
            body_canon: Some(&ProviderFile::canon(body)),
        }
        .into_edits(Ground::from(base), &mut merged)?;
        // Its headers and its proxy's credentials; those of its keys were not sent.
        let renewed = if merged.kept { Vec::new() } else { vec![destination::provider_id(&self.name)] };
        Ok(Plan { edits: merged.edits, renewed })
    }
}

/// A provider that shall be gone, with its keys.
pub struct DeleteProvider {
    pub name: String,
    pub if_match: IfMatch,
}

impl Change for DeleteProvider {
    fn plan(&self, base: &Base<'_>) -> Result<Plan, Refused> {
        provider(base.snapshot, &self.name)?;
        let pointer = pointer_to("/providers", &self.name);
        self.if_match.admits(Some(provider_hash(stored(base, &pointer, "provider")?)))?;
        Ok(Plan { edits: vec![Edit::Remove { pointer }], renewed: Vec::new() })
    }
}

fn created(
    name: &str,
    body: &Value,
    keys: &[Value],
    ids: &[String],
    now: &str,
    base: &Base<'_>,
) -> Result<Plan, Refused> {
    let ground = Ground::from(base);
    overrides(body, base)?;
    let mut new = made(&PROVIDER, ProviderFile::MEMBERS, body, "", ground)?;
    if !keys.is_empty() {
        let records = (0..)
            .zip(keys.iter().zip(ids))
            .map(|(at, (key, id)): (usize, _)| keys::record(key, id, now, &format!("keys.{at}"), ground));
        new.insert(0, ("keys".to_owned(), NewValue::List(records.collect::<Result<_, _>>()?)));
    }
    let value = NewValue::Object(new);
    let edit = match base.document.tree.find("/providers") {
        Some(Value { kind: Kind::Object(_), .. }) => Edit::Set { pointer: pointer_to("/providers", name), value },
        _ => Edit::Set { pointer: "/providers".to_owned(), value: NewValue::Object(vec![(name.to_owned(), value)]) },
    };
    Ok(Plan { edits: vec![edit], renewed: ids.to_vec() })
}

/// A path override that is a whole URL is an address like any other.
fn overrides(body: &Value, base: &Base<'_>) -> Result<(), Refused> {
    let custom = body.member("custom_provider_config");
    let paths = custom.and_then(|custom| custom.value.member("request_path_overrides"));
    for path in paths.map(|paths| members(&paths.value)).unwrap_or_default() {
        if let Kind::Text(text) = &path.value.kind
            && text.contains("://")
        {
            let field = format!("custom_provider_config.request_path_overrides.{}", path.name);
            address(text, &field, base.document)?;
        }
    }
    Ok(())
}
