//! Tree to records: a reader that goes on after an error and never quotes a value.
//!
//! [`FromConfig`] is the one trait: how a value is read, what its JSON Schema is and what its
//! canonical form (for hashes) is stand in one place, so that none of the three can be forgotten.
//! `record!` writes all three for a struct from one list of members.

use super::problem::{Code, Problems, pointer_to};
use super::schema::{Defs, SchemaRef};
use super::suggest::{closest, is_showable};
use super::syntax::{Kind, Value};
use crate::hash::Canon;

/// A type that stands in config.json.
pub trait FromConfig: Sized {
    /// `None` = a problem was reported, and reading goes on elsewhere.
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self>;

    fn schema(defs: &mut Defs) -> SchemaRef;

    /// The form in which two spellings of the same meaning are equal.
    fn canon(value: &Value) -> Canon {
        plain(value)
    }

    /// What an absent member of this type means; `None` = it may not be absent.
    fn absent() -> Option<Self> {
        None
    }

    /// Spellings that mean the same as leaving the member out.
    fn is_unset(value: &Value) -> bool {
        matches!(value.kind, Kind::Null)
    }
}

/// A value and the way that led to it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub value: &'a Value,
    path: &'a Path<'a>,
}

/// A JSON pointer that costs nothing until it is written.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

enum Segment<'a> {
    Root,
    Name(&'a str),
    Index(usize),
}

const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

impl Path<'_> {
    fn pointer(&self) -> String {
        let base = self.parent.map(Path::pointer).unwrap_or_default();
        match self.segment {
            Segment::Root => base,
            Segment::Name(name) => pointer_to(&base, name),
            Segment::Index(at) => format!("{base}/{at}"),
        }
    }
}

impl<'a> Node<'a> {
    pub fn root(value: &'a Value) -> Self {
        Self { value, path: &ROOT }
    }

    pub fn pointer(&self) -> String {
        self.path.pointer()
    }

    /// Reports that something else was expected here.
    pub fn wrong_type<T>(&self, expected: &str, problems: &mut Problems) -> Option<T> {
        let message = format!("expected {expected}, found {}", self.value.kind.name());
        problems.error(Code::WrongType, self.pointer(), message);
        None
    }

    /// Reports a value of the right type that may not be.
    pub fn bad_value<T>(&self, message: impl Into<String>, problems: &mut Problems) -> Option<T> {
        problems.error(Code::BadValue, self.pointer(), message);
        None
    }

    /// The text of a string.
    pub fn text(&self, problems: &mut Problems) -> Option<&'a str> {
        match &self.value.kind {
            Kind::Text(text) => Some(text),
            _ => self.wrong_type("a string", problems),
        }
    }

    /// The members of an object, of which `known` are the only ones allowed.
    pub fn members(&self, known: &[&'static str], problems: &mut Problems) -> Option<Members<'a>> {
        let Kind::Object(members) = &self.value.kind else { return self.wrong_type("an object", problems) };
        for member in members.iter().filter(|m| !known.contains(&&*m.name)) {
            let meant = closest(&member.name, known.iter().copied());
            // Near a name of ours it is a slip, not a credential in the wrong place.
            let shown = meant.is_some() || is_showable(&member.name);
            let pointer = if shown { pointer_to(&self.pointer(), &member.name) } else { self.pointer() };
            let problem = problems.error(Code::UnknownMember, pointer, "there is no member of this name here");
            problem.at(member.name_span.start);
            if let Some(meant) = meant {
                problem.hint(format!("did you mean `{meant}`?"));
            }
        }
        Some(Members { node: *self })
    }

    /// Reads the items of a list, each at its own place. All are read, and those before the first
    /// bad one are kept: with a hole in it, later checks would point at the wrong item.
    pub fn items<T: FromConfig>(&self, problems: &mut Problems) -> Option<Vec<T>> {
        let Kind::List(items) = &self.value.kind else {
            self.wrong_type::<T>("a list", problems);
            if let (Kind::Null, Some(problem)) = (&self.value.kind, problems.0.last_mut()) {
                problem.hint("write [] for none, or leave the member out");
            }
            return None;
        };
        let read = items.iter().enumerate().map(|(at, value)| {
            let path = Path { parent: Some(self.path), segment: Segment::Index(at) };
            T::read(Node { value, path: &path }, problems)
        });
        let read: Vec<Option<T>> = read.collect();
        Some(read.into_iter().map_while(|item| item).collect())
    }

    /// Reads an object whose member names are data.
    pub fn named<T: FromConfig>(&self, problems: &mut Problems) -> Option<Vec<(String, T)>> {
        let Kind::Object(members) = &self.value.kind else { return self.wrong_type("an object", problems) };
        let read = members.iter().filter_map(|member| {
            let path = Path { parent: Some(self.path), segment: Segment::Name(&member.name) };
            Some((member.name.to_string(), T::read(Node { value: &member.value, path: &path }, problems)?))
        });
        Some(read.collect())
    }
}

/// The members of one object, read by name.
pub struct Members<'a> {
    node: Node<'a>,
}

impl Members<'_> {
    /// A member that is absent or could not be read is what its type says of an absent one: the
    /// problem is reported, and the other members are still worth reading.
    pub fn take<T: FromConfig>(&self, name: &'static str, problems: &mut Problems) -> Option<T> {
        let Some(member) = self.node.value.member(name) else {
            let absent = T::absent();
            if absent.is_none() {
                problems.error(Code::MissingMember, self.node.pointer(), format!("`{name}` is needed here"));
            }
            return absent;
        };
        let path = Path { parent: Some(self.node.path), segment: Segment::Name(name) };
        T::read(Node { value: &member.value, path: &path }, problems).or_else(T::absent)
    }
}

/// The canonical form of a value that has but one meaning for each spelling.
pub fn plain(value: &Value) -> Canon {
    match &value.kind {
        Kind::Null => Canon::Null,
        Kind::Bool(value) => Canon::Bool(*value),
        Kind::Number(text) => Canon::Number(shortest(text)),
        Kind::Text(text) => Canon::Text(text.to_string()),
        Kind::List(items) => Canon::List(items.iter().map(plain).collect()),
        Kind::Object(members) => Canon::Object(members.iter().map(|m| (m.name.to_string(), plain(&m.value))).collect()),
    }
}

/// One spelling for each number: `1`, `1.0` and `1e0` are the same. What no `f64` or `i128` holds
/// exactly stays as written.
pub(super) fn shortest(text: &str) -> String {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Ok(whole) = text.parse::<i128>() {
        return whole.to_string();
    }
    match text.parse::<f64>() {
        Ok(0.0) => "0".to_owned(),
        Ok(number) if number.is_finite() && number.abs() < EXACT_MAX => number.to_string(),
        _ => text.to_ascii_lowercase(),
    }
}

impl<T: FromConfig> FromConfig for Option<T> {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        if T::is_unset(node.value) {
            return Some(None);
        }
        T::read(node, problems).map(Some)
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        T::schema(defs)
    }

    fn canon(value: &Value) -> Canon {
        if T::is_unset(value) { Canon::Null } else { T::canon(value) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromConfig> FromConfig for Vec<T> {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        node.items(problems)
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        serde_json::json!({"type": "array", "items": T::schema(defs)})
    }

    fn canon(value: &Value) -> Canon {
        match &value.kind {
            Kind::List(items) => Canon::List(items.iter().map(T::canon).collect()),
            _ => plain(value),
        }
    }

    /// `null` is no list: an absent list mostly means "all" and an empty one "none", and which of
    /// the two was meant must not be guessed.
    fn is_unset(_: &Value) -> bool {
        false
    }
}

impl<T: FromConfig> FromConfig for Vec<(String, T)> {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        node.named(problems)
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        serde_json::json!({"type": "object", "additionalProperties": T::schema(defs)})
    }

    fn canon(value: &Value) -> Canon {
        match &value.kind {
            Kind::Object(members) => {
                Canon::Object(members.iter().map(|m| (m.name.to_string(), T::canon(&m.value))).collect())
            }
            _ => plain(value),
        }
    }
}

impl FromConfig for bool {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        match node.value.kind {
            Kind::Bool(value) => Some(value),
            _ => node.wrong_type("true or false", problems),
        }
    }

    fn schema(_: &mut Defs) -> SchemaRef {
        serde_json::json!({"type": "boolean"})
    }
}

impl FromConfig for String {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        node.text(problems).map(str::to_owned)
    }

    fn schema(_: &mut Defs) -> SchemaRef {
        serde_json::json!({"type": "string"})
    }
}
