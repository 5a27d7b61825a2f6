//! From the body of a replacement to edits of what stands in the file.
//!
//! A member whose meaning does not change is not touched: what a client got and sends back leaves
//! every byte in place. A secret is kept where the body leaves it out or shows the exact mask that
//! was shown; any other mask is refused.

use super::merge::{Ground, Incoming, admitted, default_of, dotted, incoming, invalid, made, new_secret, object};
use super::shape::{Record, Role, Shape, members};
use super::view::mask;
use crate::config::SecretRef;
use crate::config::edit::{Edit, NewValue};
use crate::config::problem::pointer_to;
use crate::config::read::FromConfig;
use crate::config::syntax::{Kind, Value};
use crate::hash::Canon;
use crate::store::Refused;

/// What a replacement comes to.
#[derive(Debug, Default)]
pub struct Merged {
    pub edits: Vec<Edit>,
    /// Some stored credential stays: the caller has not sent all of them anew.
    pub kept: bool,
}

/// One record that stands in the file, and the body that shall replace it.
pub struct Replacement<'a> {
    pub record: &'static Record,
    pub pointer: &'a str,
    /// Dotted path inside the body.
    pub field: &'a str,
    pub stored: &'a Value,
    pub body: &'a Value,
    /// Canonical forms of both, by the record's own reader.
    pub stored_canon: Option<&'a Canon>,
    pub body_canon: Option<&'a Canon>,
}

impl Replacement<'_> {
    /// Collects the edits that make the record say what the body says.
    pub fn into_edits(self, ground: Ground<'_>, out: &mut Merged) -> Result<(), Refused> {
        for (name, shape) in self.record.members {
            match shape {
                Shape::Secret(role) => self.secret(name, *role, ground, out)?,
                Shape::Secrets(role) => self.secrets(name, *role, ground, out)?,
                Shape::Record(record) => self.below(name, record, ground, out)?,
                Shape::Plain => {}
            }
        }
        let names = members(self.stored).iter().chain(members(self.body)).map(|m| &*m.name);
        let mut seen = Vec::new();
        for name in names.filter(|name| matches!(self.record.shape(name), Shape::Plain)) {
            if !self.record.is_made_up(name) && !seen.contains(&name) {
                seen.push(name);
                self.plain(name, out);
            }
        }
        Ok(())
    }

    fn of<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
        value.member(name).map(|member| &member.value)
    }

    fn keeps(&self, name: &str) -> bool {
        self.record.kept.contains(&name)
    }

    fn plain(&self, name: &str, out: &mut Merged) {
        let (stored, sent) = (Self::of(self.stored, name), Self::of(self.body, name));
        if sent.is_none() && self.keeps(name) {
            return;
        }
        let says = |canon: Option<&Canon>| match canon {
            Some(Canon::Object(members)) => members.get(name).cloned().or_else(|| default_of(self.record, name)),
            _ => default_of(self.record, name),
        };
        if says(self.stored_canon) == says(self.body_canon) {
            return;
        }
        let pointer = pointer_to(self.pointer, name);
        match (stored, sent.filter(|sent| !matches!(sent.kind, Kind::Null))) {
            (_, Some(sent)) => out.edits.push(Edit::Set { pointer, value: NewValue::from(sent) }),
            (Some(_), None) => out.edits.push(Edit::Remove { pointer }),
            (None, None) => {}
        }
    }

    fn secret(&self, name: &str, role: Role, ground: Ground<'_>, out: &mut Merged) -> Result<(), Refused> {
        let (stored, sent) = (Self::of(self.stored, name), Self::of(self.body, name));
        let slot = Slot { pointer: pointer_to(self.pointer, name), field: dotted(self.field, name), role };
        slot.replace(stored, sent, ground, out)
    }

    fn secrets(&self, name: &str, role: Role, ground: Ground<'_>, out: &mut Merged) -> Result<(), Refused> {
        let (pointer, field) = (pointer_to(self.pointer, name), dotted(self.field, name));
        let stored = Self::of(self.stored, name);
        let Some(sent) = Self::of(self.body, name) else {
            out.kept |= role == Role::Credential && stored.is_some_and(|stored| !members(stored).is_empty());
            return Ok(());
        };
        match (stored, &sent.kind) {
            (Some(_), Kind::Null) => out.edits.push(Edit::Remove { pointer }),
            (None, Kind::Null) => {}
            (None, _) => {
                let mut made = Vec::new();
                for secret in members(sent) {
                    let value = new_secret(&secret.value, role, &dotted(&field, &secret.name), ground)?;
                    made.extend(value.map(|value| (secret.name.to_string(), value)));
                }
                out.edits.extend(object(made).map(|value| Edit::Set { pointer, value }));
            }
            (Some(stored), _) => {
                for gone in members(stored).iter().filter(|m| sent.member(&m.name).is_none()) {
                    out.edits.push(Edit::Remove { pointer: pointer_to(&pointer, &gone.name) });
                }
                for secret in members(sent) {
                    let slot =
                        Slot { pointer: pointer_to(&pointer, &secret.name), field: dotted(&field, &secret.name), role };
                    slot.replace(Self::of(stored, &secret.name), Some(&secret.value), ground, out)?;
                }
            }
        }
        Ok(())
    }

    fn below(&self, name: &str, record: &'static Record, ground: Ground<'_>, out: &mut Merged) -> Result<(), Refused> {
        let (pointer, field) = (pointer_to(self.pointer, name), dotted(self.field, name));
        let stored = Self::of(self.stored, name).filter(|stored| !matches!(stored.kind, Kind::Null));
        let sent = Self::of(self.body, name);
        match (stored, sent) {
            (Some(_), None) if self.keeps(name) => {
                out.kept = true;
            }
            (Some(stored), None) if says_nothing(record, stored) => {}
            (Some(_), None) => out.edits.push(Edit::Remove { pointer }),
            (Some(_), Some(sent)) if matches!(sent.kind, Kind::Null) => out.edits.push(Edit::Remove { pointer }),
            (Some(stored), Some(body)) => {
                let canon = |canon: Option<&'_ Canon>| match canon {
                    Some(Canon::Object(members)) => members.get(name).cloned(),
                    _ => None,
                };
                let (stored_canon, body_canon) = (canon(self.stored_canon), canon(self.body_canon));
                Replacement {
                    record,
                    pointer: &pointer,
                    field: &field,
                    stored,
                    body,
                    stored_canon: stored_canon.as_ref(),
                    body_canon: body_canon.as_ref(),
                }
                .into_edits(ground, out)?;
            }
            (None, Some(sent)) => {
                let made = made(record, &[], sent, &field, ground)?;
                out.edits.extend(object(made).map(|value| Edit::Set { pointer, value }));
            }
            (None, None) => {}
        }
        Ok(())
    }
}

/// Whether a record holds nothing but what is made up of others.
fn says_nothing(record: &Record, stored: &Value) -> bool {
    members(stored).iter().all(|member| record.is_made_up(&member.name))
}

/// The place of one secret.
struct Slot {
    pointer: String,
    field: String,
    role: Role,
}

impl Slot {
    fn replace(
        self,
        stored: Option<&Value>,
        sent: Option<&Value>,
        ground: Ground<'_>,
        out: &mut Merged,
    ) -> Result<(), Refused> {
        let set = stored.filter(|stored| !SecretRef::is_unset(stored));
        match (incoming(sent, &self.field)?, set) {
            (Incoming::Absent | Incoming::Empty, set) => out.kept |= set.is_some() && self.role == Role::Credential,
            (Incoming::Cleared, _) => {
                if stored.is_some() {
                    out.edits.push(Edit::Remove { pointer: self.pointer });
                }
            }
            (Incoming::Mask(shown), Some(set)) if mask(set, &self.pointer, ground) == shown => {
                out.kept |= self.role == Role::Credential;
            }
            (Incoming::Mask(_), _) => {
                let message =
                    "this is not the mask of the stored value; send the secret itself, or leave the field out";
                return Err(invalid("mask_mismatch", &self.field, message));
            }
            (Incoming::Given(reference), Some(set)) if sent.map(SecretRef::canon) == Some(SecretRef::canon(set)) => {
                // Who repeats a reference has shown that he read it, not that he knows the secret.
                out.kept |= self.role == Role::Credential && !matches!(reference, SecretRef::Literal(_));
            }
            (Incoming::Given(reference), _) => {
                let Some(sent) = sent else { return Ok(()) };
                let value = admitted(&reference, sent, self.role, &self.field, ground)?;
                out.edits.push(Edit::Set { pointer: self.pointer, value });
            }
        }
        Ok(())
    }
}
