//! Edits of config.json as a minimal diff: what a careful person would have typed.
//!
//! Text in, text out. Every byte that an edit is not about stays as it was: order, spacing,
//! comments, number spellings, line ends. Refuses edits that contradict one another, and a secret
//! that nobody has sealed: what leaves here may be written to disk.

mod body;
mod plan;
mod render;
mod splice;
mod style;

use std::fmt;

use super::read::shortest;
use super::syntax::{Kind, Tree, Value};
use crate::secret::Secret;

/// A value to be written: ordered members, numbers as spelled, secrets marked so that the writer
/// can seal them.
#[derive(Clone, PartialEq)]
pub enum NewValue {
    Null,
    Bool(bool),
    /// A JSON number, as it shall stand in the file.
    Number(String),
    Text(String),
    /// To be sealed, that is replaced by another value, before the text is made.
    Secret(Secret),
    List(Vec<NewValue>),
    Object(Vec<(String, NewValue)>),
}

/// One edit. Its pointer names a place in the tree as it is before all edits, whatever the others do:
/// indexes do not shift when an item before is removed.
#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    /// Replaces a value, or adds a member to an object that exists. Of a list or an object that is
    /// replaced by another, only what differs is touched.
    Set { pointer: String, value: NewValue },
    /// Takes a member or an item away, with its comma and the comments that belong to it.
    Remove { pointer: String },
    /// Adds an item at the end of the list at `pointer`.
    Append { pointer: String, value: NewValue },
}

/// Why a list of edits could not be made into a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EditError {
    /// Of the edit, or of the part of its value that is at fault.
    pub pointer: String,
    pub fault: EditFault,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EditFault {
    /// The place does not exist, and is no new member of an object that does.
    NotFound,
    /// Only a list can be appended to.
    NotAList,
    /// The whole file cannot be removed.
    Root,
    /// Two edits on one place, or one inside what another replaces or removes.
    Overlap,
    /// A secret in clear.
    Unsealed,
    /// Not a number as JSON spells it.
    BadNumber,
    /// A value with two members of one name.
    DuplicateMember,
    TooDeep,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            EditFault::NotFound => "there is nothing at this place to edit",
            EditFault::NotAList => "only a list can be appended to",
            EditFault::Root => "the whole file cannot be removed",
            EditFault::Overlap => "two edits concern the same place",
            EditFault::Unsealed => "a secret must be sealed before it is written",
            EditFault::BadNumber => "not a JSON number",
            EditFault::DuplicateMember => "this member is written twice",
            EditFault::TooDeep => "nested too deep",
        };
        write!(f, "{}: {what}", self.pointer)
    }
}

impl std::error::Error for EditError {}

/// The text with all edits made. Where the value that is set equals the one that is there, no byte
/// changes; with no effective edit the text comes back as it was.
pub fn apply(tree: &Tree, edits: &[Edit]) -> Result<String, EditError> {
    let work = plan::of(tree, edits)?;
    splice::made(tree, &work)
}

impl NewValue {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The number of items or members; 0 for what holds none.
    fn len(&self) -> usize {
        match self {
            Self::List(items) => items.len(),
            Self::Object(members) => members.len(),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Secret(_) => 0,
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Object(_))
    }
}

/// What stands in a file can be written to it again.
impl From<&Value> for NewValue {
    fn from(value: &Value) -> Self {
        match &value.kind {
            Kind::Null => Self::Null,
            Kind::Bool(value) => Self::Bool(*value),
            Kind::Number(text) => Self::Number(text.to_string()),
            Kind::Text(text) => Self::Text(text.to_string()),
            Kind::List(items) => Self::List(items.iter().map(Self::from).collect()),
            Kind::Object(members) => {
                Self::Object(members.iter().map(|m| (m.name.to_string(), Self::from(&m.value))).collect())
            }
        }
    }
}

/// Contents may be secrets: only the shape is shown.
impl fmt::Debug for NewValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bool(_) => f.write_str("Bool(…)"),
            Self::Number(_) => f.write_str("Number(…)"),
            Self::Text(_) => f.write_str("Text(…)"),
            Self::Secret(_) => f.write_str("Secret(…)"),
            Self::List(items) => write!(f, "List({} items)", items.len()),
            Self::Object(members) => write!(f, "Object({} members)", members.len()),
        }
    }
}

/// Whether writing `new` over `old` would change what the file says. The order of members says
/// nothing, nor does the spelling of a number.
fn same(old: &Value, new: &NewValue) -> bool {
    match (&old.kind, new) {
        (Kind::Null, NewValue::Null) => true,
        (Kind::Bool(old), NewValue::Bool(new)) => old == new,
        (Kind::Number(old), NewValue::Number(new)) => **old == **new || shortest(old) == shortest(new),
        (Kind::Text(old), NewValue::Text(new)) => **old == **new,
        (Kind::List(old), NewValue::List(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new))
        }
        (Kind::Object(members), NewValue::Object(new)) => {
            members.len() == new.len()
                && new.iter().all(|(name, new)| old.member(name).is_some_and(|member| same(&member.value, new)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
