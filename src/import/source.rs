//! The file that is imported, as one tree, whether it was written in JSON or in YAML: every value
//! with its place.
//!
//! Looks forgiving because the formats are (a YAML key may be a bare number); refuses what cannot be
//! read at all. Repeats no value in an error.

use crate::config::problem::pointer_to;
use crate::config::syntax::{Kind, Tree, Value};
use crate::config::{Problems, is_showable};

/// One value and where it stands. Neither `Debug` nor `Display`: it may be a secret.
#[derive(Clone, PartialEq)]
pub struct Source {
    pub kind: SourceKind,
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, PartialEq)]
pub enum SourceKind {
    Null,
    Bool(bool),
    /// As spelled, which need not be as JSON spells it.
    Number(String),
    Text(String),
    List(Vec<Source>),
    /// Names are unique.
    Object(Vec<(String, Source)>),
}

/// Where something stands in the imported file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    pub pointer: String,
    pub line: u32,
    pub column: u32,
}

/// A value and the way to it.
#[derive(Clone)]
pub struct At<'s> {
    pub source: &'s Source,
    pointer: String,
}

impl Source {
    /// Reads JSON with comments and trailing commas.
    pub fn json(text: &str) -> Result<Self, Problems> {
        let tree = Tree::parse(text)?;
        let lines = Lines::new(tree.text());
        Ok(Self::of(tree.root(), &lines))
    }

    fn of(value: &Value, lines: &Lines<'_>) -> Self {
        let kind = match &value.kind {
            Kind::Null => SourceKind::Null,
            Kind::Bool(value) => SourceKind::Bool(*value),
            Kind::Number(text) => SourceKind::Number(text.to_string()),
            Kind::Text(text) => SourceKind::Text(text.to_string()),
            Kind::List(items) => SourceKind::List(items.iter().map(|item| Self::of(item, lines)).collect()),
            Kind::Object(members) => {
                SourceKind::Object(members.iter().map(|m| (m.name.to_string(), Self::of(&m.value, lines))).collect())
            }
        };
        let (line, column) = lines.place(value.span.start);
        Self { kind, line, column }
    }

    pub fn root(&self) -> At<'_> {
        At { source: self, pointer: String::new() }
    }
}

impl<'s> At<'s> {
    pub fn place(&self) -> Place {
        Place { pointer: self.pointer.clone(), line: self.source.line, column: self.source.column }
    }

    /// A member that is there and not null.
    pub fn get(&self, name: &str) -> Option<At<'s>> {
        self.members().into_iter().find(|(member, at)| *member == name && !at.is_null()).map(|(_, at)| at)
    }

    /// The members of an object; of anything else, none. A name that does not look like one is left
    /// out of the pointer.
    pub fn members(&self) -> Vec<(&'s str, At<'s>)> {
        let SourceKind::Object(members) = &self.source.kind else { return Vec::new() };
        let shown = |name: &str| pointer_to(&self.pointer, if is_tellable(name) { name } else { "…" });
        members.iter().map(|(name, source)| (name.as_str(), At { source, pointer: shown(name) })).collect()
    }

    /// The items of a list; of anything else, none.
    pub fn items(&self) -> Vec<At<'s>> {
        let SourceKind::List(items) = &self.source.kind else { return Vec::new() };
        let at = |(index, source)| At { source, pointer: format!("{}/{index}", self.pointer) };
        items.iter().enumerate().map(at).collect()
    }

    pub fn is_null(&self) -> bool {
        matches!(self.source.kind, SourceKind::Null)
    }

    pub fn is_object(&self) -> bool {
        matches!(self.source.kind, SourceKind::Object(_))
    }

    /// Nothing in it: null, `""`, `[]`, `{}`.
    pub fn is_empty(&self) -> bool {
        match &self.source.kind {
            SourceKind::Null => true,
            SourceKind::Bool(_) | SourceKind::Number(_) => false,
            SourceKind::Text(text) => text.is_empty(),
            SourceKind::List(items) => items.is_empty(),
            SourceKind::Object(members) => members.is_empty(),
        }
    }

    /// The text of a string, and of a number that stands where a string is meant.
    pub fn text(&self) -> Option<&'s str> {
        match &self.source.kind {
            SourceKind::Text(text) | SourceKind::Number(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        self.text()?.trim().replace('_', "").parse().ok().filter(|number: &f64| number.is_finite())
    }

    pub fn flag(&self) -> Option<bool> {
        match &self.source.kind {
            SourceKind::Bool(value) => Some(*value),
            SourceKind::Text(text) => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }
}

/// Whether a name may stand in a report: a longer one of ordinary letters is somebody's member.
pub fn is_tellable(name: &str) -> bool {
    const CHARS_MAX: usize = 64;
    is_showable(name) || (name.len() <= CHARS_MAX && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

/// Byte offsets to lines and characters.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn place(&self, offset: usize) -> (u32, u32) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|at| self.starts.get(at)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default().trim_start_matches('\u{feff}');
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (count(line), count(before.chars().count() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let source = Source::json("\u{feff}{\n  \"a\": [1,\n \"é\", true]}").unwrap_or_else(|_| panic!());
        let list = source.root().get("a").unwrap();
        let places: Vec<_> = list.items().iter().map(At::place).map(|p| (p.pointer, p.line, p.column)).collect();
        let place = |pointer: &str, line, column| (pointer.to_owned(), line, column);
        assert_eq!(places, [place("/a/0", 2, 9), place("/a/1", 3, 2), place("/a/2", 3, 7)]);
    }

    #[test]
    fn names_that_may_be_secrets_are_not_repeated() {
        let source = Source::json(r#"{"sk-proj-abcdefghijklmnopqrst": 1, "access_token_ttl_seconds": 2}"#);
        let source = source.unwrap_or_else(|_| panic!());
        let pointers: Vec<_> = source.root().members().into_iter().map(|(_, at)| at.place().pointer).collect();
        assert_eq!(pointers, ["/…", "/access_token_ttl_seconds"]);
    }
}
