//! From the body of a create to members of the file, and what creates and replacements have in
//! common: what a body says at the place of a secret, and whether it may.
//!
//! Whatever has the shape of a mask is refused here: nobody's secret looks like that. Decides nothing
//! about ids and names.

use super::origin;
use super::shape::{Record, Role, Shape, literal_text, members};
use crate::config::edit::NewValue;
use crate::config::read::{FromConfig, Node, plain};
use crate::config::syntax::{Kind, Member, Value};
use crate::config::{Document, Problems, SecretRef, Tree};
use crate::hash::Canon;
use crate::secret::is_mask_shaped;
use crate::snapshot::{Snapshot, may_refer};
use crate::store::{Base, Generation, Refused};

/// A file and what it means, whichever of the two is asked.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub document: &'a Document,
    pub snapshot: &'a Snapshot,
}

impl<'a> From<&Base<'a>> for Ground<'a> {
    fn from(base: &Base<'a>) -> Self {
        Self { document: base.document, snapshot: base.snapshot }
    }
}

impl<'a> From<&'a Generation> for Ground<'a> {
    fn from(generation: &'a Generation) -> Self {
        Self { document: &generation.document, snapshot: &generation.snapshot }
    }
}

/// Stands for secrets where somebody reads who has no business with them.
const UNREAD: &str = "env.UNREAD";

/// What a body says at the place of a secret.
pub(super) enum Incoming<'b> {
    Absent,
    /// `null`: take it away.
    Cleared,
    /// `""` and the like: how an unset secret is shown.
    Empty,
    Mask(&'b str),
    Given(SecretRef),
}

pub(super) fn incoming<'b>(value: Option<&'b Value>, field: &str) -> Result<Incoming<'b>, Refused> {
    let Some(value) = value else { return Ok(Incoming::Absent) };
    if matches!(value.kind, Kind::Null) {
        return Ok(Incoming::Cleared);
    }
    if SecretRef::is_unset(value) {
        return Ok(Incoming::Empty);
    }
    let shown = literal_text(value).filter(|text| is_mask_shaped(text));
    let mut problems = Problems::default();
    // The reader refuses every mask; what else it has to say of one counts here too.
    let read = match shown {
        Some(_) => SecretRef::read(Node::root(&unmasked(value)), &mut problems),
        None => SecretRef::read(Node::root(value), &mut problems),
    };
    match (read, shown) {
        (Some(_), Some(mask)) => Ok(Incoming::Mask(mask)),
        (Some(SecretRef::Sealed(_)), None) => {
            Err(invalid("invalid_value", field, "a sealed value belongs to its place in the file and cannot be sent"))
        }
        (Some(reference), None) => Ok(Incoming::Given(reference)),
        (None, _) => {
            let message = problems.0.first().map_or("not a secret", |problem| problem.message.as_str());
            Err(invalid("invalid_value", field, message))
        }
    }
}

/// The same form with something else than a mask in it.
fn unmasked(value: &Value) -> Value {
    let mut value = value.clone();
    match &mut value.kind {
        Kind::Object(members) => {
            members.iter_mut().filter(|m| &*m.name == "value").for_each(|m| m.value.kind = Kind::Text(UNREAD.into()));
        }
        kind => *kind = Kind::Text(UNREAD.into()),
    }
    value
}

/// A refusal that names the field.
pub fn invalid(code: &'static str, field: &str, message: impl Into<String>) -> Refused {
    Refused::Invalid { code, field: field.to_owned(), message: message.into() }
}

pub(super) fn dotted(field: &str, member: &str) -> String {
    if field.is_empty() { member.to_owned() } else { format!("{field}.{member}") }
}

/// Whether the body's secrets are secrets at all, wherever they would go.
pub fn well_formed(record: &Record, body: &Value, field: &str) -> Result<(), Refused> {
    for member in members(body) {
        let field = dotted(field, &member.name);
        match record.shape(&member.name) {
            Shape::Secret(_) => drop(incoming(Some(&member.value), &field)?),
            Shape::Secrets(_) => {
                for secret in members(&member.value) {
                    incoming(Some(&secret.value), &dotted(&field, &secret.name))?;
                }
            }
            Shape::Record(record) => well_formed(record, &member.value, &field)?,
            Shape::Plain => {}
        }
    }
    Ok(())
}

/// The body with every secret that it holds, or that is kept for it, replaced by a reference to
/// nothing: for readers and checks that have no business with secrets.
pub fn without_secrets(record: &Record, body: &Value, stored: Option<&Value>) -> Value {
    let Kind::Object(written) = &body.kind else { return body.clone() };
    let mut made = written.clone();
    for member in &mut made {
        let below = stored.and_then(|stored| stored.member(&member.name)).map(|m| &m.value);
        match record.shape(&member.name) {
            Shape::Secret(_) => blind(&mut member.value),
            Shape::Secrets(_) => {
                if let Kind::Object(secrets) = &mut member.value.kind {
                    secrets.iter_mut().for_each(|secret| blind(&mut secret.value));
                }
            }
            Shape::Record(record) => member.value = without_secrets(record, &member.value, below),
            Shape::Plain => {}
        }
    }
    for kept in stored.map(members).unwrap_or_default() {
        let sent = made.iter_mut().find(|m| m.name == kept.name);
        if matches!(record.shape(&kept.name), Shape::Secret(_)) && !SecretRef::is_unset(&kept.value) {
            let mut kept = kept.clone();
            blind(&mut kept.value);
            match sent {
                None => made.push(kept),
                Some(sent) if SecretRef::is_unset(&sent.value) && !matches!(sent.value.kind, Kind::Null) => {
                    *sent = kept
                }
                Some(_) => {}
            }
        }
    }
    Value { span: body.span.clone(), kind: Kind::Object(made) }
}

/// What stands in the file, as a client would send it back with some members changed: secrets are left
/// out, for that keeps them.
pub fn patched(record: &Record, stored: &Value, changes: &Value) -> Value {
    let mut made: Vec<Member> = Vec::new();
    for member in members(stored) {
        match record.shape(&member.name) {
            Shape::Secret(_) | Shape::Secrets(_) => {}
            Shape::Record(record) => {
                let none = Value { span: 0..0, kind: Kind::Object(Vec::new()) };
                let changes = changes.member(&member.name).map_or(&none, |member| &member.value);
                made.push(Member { value: patched(record, &member.value, changes), ..member.clone() });
            }
            Shape::Plain => made.push(member.clone()),
        }
    }
    for change in members(changes) {
        match made.iter_mut().find(|member| member.name == change.name) {
            Some(_) if matches!(record.shape(&change.name), Shape::Record(_)) => {}
            Some(member) => *member = change.clone(),
            None => made.push(change.clone()),
        }
    }
    Value { span: stored.span.clone(), kind: Kind::Object(made) }
}

fn blind(value: &mut Value) {
    if !SecretRef::is_unset(value) {
        value.kind = Kind::Text(UNREAD.into());
    }
}

/// The members of a new record, in the order in which the schema names them.
pub fn made(
    record: &Record,
    order: &[&str],
    body: &Value,
    field: &str,
    ground: Ground<'_>,
) -> Result<Vec<(String, NewValue)>, Refused> {
    let mut made = Vec::new();
    for member in members(body).iter().filter(|m| !record.is_made_up(&m.name) && !matches!(m.value.kind, Kind::Null)) {
        let field = dotted(field, &member.name);
        let value = match record.shape(&member.name) {
            Shape::Secret(role) => new_secret(&member.value, role, &field, ground)?,
            Shape::Secrets(role) => {
                let mut secrets = Vec::new();
                for secret in members(&member.value) {
                    let value = new_secret(&secret.value, role, &dotted(&field, &secret.name), ground)?;
                    secrets.extend(value.map(|value| (secret.name.to_string(), value)));
                }
                object(secrets)
            }
            Shape::Record(record) => object(self::made(record, &[], &member.value, &field, ground)?),
            Shape::Plain if says_default(record, &member.name, &member.value) => None,
            Shape::Plain => Some(NewValue::from(&member.value)),
        };
        made.extend(value.map(|value| (member.name.to_string(), value)));
    }
    made.sort_by_key(|(name, _)| order.iter().position(|known| known == name));
    Ok(made)
}

/// An object that would say nothing is not written.
pub(super) fn object(members: Vec<(String, NewValue)>) -> Option<NewValue> {
    (!members.is_empty()).then_some(NewValue::Object(members))
}

fn says_default(record: &Record, member: &str, value: &Value) -> bool {
    default_of(record, member).is_some_and(|default| default == plain(value))
}

pub(super) fn default_of(record: &Record, member: &str) -> Option<Canon> {
    Tree::parse(record.default_of(member)?).ok().map(|tree| plain(tree.root()))
}

pub(super) fn new_secret(
    value: &Value,
    role: Role,
    field: &str,
    ground: Ground<'_>,
) -> Result<Option<NewValue>, Refused> {
    match incoming(Some(value), field)? {
        Incoming::Absent | Incoming::Cleared | Incoming::Empty => Ok(None),
        Incoming::Mask(_) => Err(invalid("invalid_value", field, "this is a mask, not a secret")),
        Incoming::Given(reference) => admitted(&reference, value, role, field, ground).map(Some),
    }
}

/// The form in which a secret of a body goes into the file, if it may.
pub(super) fn admitted(
    reference: &SecretRef,
    value: &Value,
    role: Role,
    field: &str,
    ground: Ground<'_>,
) -> Result<NewValue, Refused> {
    let Ground { document, snapshot } = ground;
    match reference {
        SecretRef::Literal(secret) if role == Role::Credential => Ok(NewValue::Secret(secret.clone())),
        SecretRef::Literal(_) => {
            let text = literal_text(value).unwrap_or_default();
            if role == Role::Address {
                address(text, field, document)?;
            }
            Ok(NewValue::text(text))
        }
        SecretRef::Env(_) | SecretRef::File(_) if !may_refer(document, &snapshot.management, reference) => {
            let message = "an API body may not refer to this; add it to `management.references` in the file";
            Err(invalid("reference_not_allowed", field, message))
        }
        SecretRef::Env(name) => Ok(NewValue::text(format!("env.{name}"))),
        SecretRef::File(path) => {
            let path = NewValue::text(path.to_string_lossy());
            Ok(NewValue::Object(vec![("file".to_owned(), path)]))
        }
        SecretRef::Sealed(_) => Err(invalid("invalid_value", field, "a sealed value cannot be sent")),
    }
}

/// An address that a body writes out must be one that API bodies may name.
pub fn address(text: &str, field: &str, document: &Document) -> Result<(), Refused> {
    let management = document.file.management.as_ref();
    let allowed = management.and_then(|it| it.allowed_origins.as_deref()).unwrap_or_default();
    origin::check(text, allowed).map_err(|what| invalid("address_not_allowed", field, what))
}
