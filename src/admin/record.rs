//! Bodies of keys and providers, whichever face takes them, and what is wrong with them in words.
//!
//! A body is read by the same records that read the file, so that a member is known here iff it is
//! known there. Secrets are looked at apart and never shown.

use super::error::ApiError;
use super::merge::{invalid, well_formed, without_secrets};
use super::shape::{self, Record};
use crate::config::file::{KeyFile, ProviderFile};
use crate::config::read::{FromConfig, Node};
use crate::config::syntax::{Kind, Value};
use crate::config::{Problem, Problems, Severity, Tree};
use crate::store::Refused;

/// Problems of a body that its refusal names at most.
const PROBLEMS_SHOWN: usize = 5;

/// Members that a provider's body may have beside those of the file; all but the name are ignored,
/// for they are what a client got and sends back.
const BESIDE_PROVIDER: [&str; 6] = ["name", "provider", "provider_status", "status", "description", "config_hash"];

/// A key as a client sent it: known members of the right types.
#[derive(Clone)]
pub struct KeyBody(Value);

impl KeyBody {
    pub fn read(value: Value) -> Result<Self, Refused> {
        key_shape(&value, "")?;
        Ok(Self(value))
    }

    pub fn value(&self) -> &Value {
        &self.0
    }
}

/// A provider as a client sent it.
#[derive(Clone)]
pub struct ProviderBody {
    /// Without the members beside the file's, and without `keys`.
    pub value: Value,
    /// `provider`, or `name`.
    pub name: Option<String>,
    /// `keys`, where there are any.
    pub keys: Option<Vec<Value>>,
}

impl ProviderBody {
    pub fn read(tree: &Tree) -> Result<Self, ApiError> {
        let root = tree.root();
        let name = match (text(root, "provider")?, text(root, "name")?) {
            (Some(provider), Some(name)) if provider != name => {
                return Err(invalid("invalid_value", "name", "`provider` and `name` differ").into());
            }
            (provider, name) => provider.or(name).map(str::to_owned),
        };
        let keys = match root.member("keys").map(|member| &member.value.kind) {
            None | Some(Kind::Null) => None,
            Some(Kind::List(keys)) => Some(keys.clone()),
            Some(_) => return Err(invalid("wrong_type", "keys", "expected a list").into()),
        };
        for (at, key) in keys.iter().flatten().enumerate() {
            key_shape(key, &format!("keys.{at}"))?;
        }
        let mut value = root.clone();
        if let Kind::Object(members) = &mut value.kind {
            members.retain(|m| &*m.name != "keys" && !BESIDE_PROVIDER.contains(&&*m.name));
        }
        well_formed(&shape::PROVIDER, &value, "")?;
        read_as::<ProviderFile>(&shape::PROVIDER, &value, "")?;
        Ok(Self { value, name, keys })
    }
}

fn key_shape(key: &Value, field: &str) -> Result<(), Refused> {
    well_formed(&shape::KEY, key, field)?;
    read_as::<KeyFile>(&shape::KEY, key, field)
}

fn text<'v>(value: &'v Value, name: &str) -> Result<Option<&'v str>, ApiError> {
    match value.member(name).map(|member| &member.value.kind) {
        None | Some(Kind::Null) => Ok(None),
        Some(Kind::Text(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(invalid("wrong_type", name, "expected a name").into()),
    }
}

/// What the file's own reader has to say.
fn read_as<T: FromConfig>(record: &Record, value: &Value, field: &str) -> Result<(), Refused> {
    let mut problems = Problems::default();
    let _ = T::read(Node::root(&without_secrets(record, value, None)), &mut problems);
    refusal(&problems, field).map_or(Ok(()), Err)
}

/// The errors of a list as one refusal that names the first field.
pub fn refusal(problems: &Problems, field: &str) -> Option<Refused> {
    let errors: Vec<&Problem> = problems.0.iter().filter(|p| p.severity == Severity::Error).collect();
    let first = errors.first()?;
    let named = |problem: &Problem| {
        let below = dotted(&problem.pointer);
        match (field, below.as_str()) {
            ("", below) => below.to_owned(),
            (field, "") => field.to_owned(),
            (field, below) => format!("{field}.{below}"),
        }
    };
    let mut message = String::new();
    for problem in errors.iter().take(PROBLEMS_SHOWN) {
        let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let place = named(problem);
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        let gap = if message.is_empty() { "" } else { "; " };
        message.push_str(&format!("{gap}{place}{}{hint}", problem.message));
    }
    Some(Refused::Invalid { code: first.code.as_str(), field: named(first), message })
}

/// A JSON pointer as the dotted path that clients of these APIs know.
fn dotted(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"));
    segments.collect::<Vec<_>>().join(".")
}
