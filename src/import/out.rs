//! The config that is being made: values that remember where in the imported file they come from,
//! and their text.

use std::collections::HashSet;

use super::source::{At, Place, Source, SourceKind};
use crate::config::problem::pointer_to;
use crate::limits::IMPORT_LINE_CHARS_MAX;

/// One value of the result. Neither `Debug` nor `Display`: it may be a secret.
#[derive(Clone)]
pub struct Out {
    pub kind: OutKind,
    pub from: Place,
}

#[derive(Clone)]
pub enum OutKind {
    Null,
    Bool(bool),
    /// As JSON spells it.
    Number(String),
    Text(String),
    List(Vec<Out>),
    Object(Vec<(String, Out)>),
}

/// How deep in the result every value has lines of its own, however short it is: sections and what
/// they name.
const BROKEN_DEPTH: usize = 2;

impl Out {
    pub fn new(kind: OutKind, from: &At<'_>) -> Self {
        Self { kind, from: from.place() }
    }

    pub fn text(text: impl Into<String>, from: &At<'_>) -> Self {
        Self::new(OutKind::Text(text.into()), from)
    }

    pub fn whole(number: u64, from: &At<'_>) -> Self {
        Self::new(OutKind::Number(number.to_string()), from)
    }

    pub fn list(items: Vec<Self>, from: &At<'_>) -> Self {
        Self::new(OutKind::List(items), from)
    }

    pub fn object(from: &At<'_>) -> Self {
        Self::new(OutKind::Object(Vec::new()), from)
    }

    /// The same as it is written, its parts with places of their own.
    pub fn copy(at: &At<'_>) -> Self {
        let kind = match &at.source.kind {
            SourceKind::Null => OutKind::Null,
            SourceKind::Bool(value) => OutKind::Bool(*value),
            SourceKind::Number(text) => number(text),
            SourceKind::Text(text) => OutKind::Text(text.clone()),
            SourceKind::List(_) => OutKind::List(at.items().iter().map(Self::copy).collect()),
            SourceKind::Object(_) => {
                OutKind::Object(at.members().iter().map(|(name, at)| ((*name).to_owned(), Self::copy(at))).collect())
            }
        };
        Self::new(kind, at)
    }

    /// Puts a member at the end of an object, or in the place of the one of that name.
    pub fn set(&mut self, name: &str, value: Self) {
        let OutKind::Object(members) = &mut self.kind else { return };
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => members.push((name.to_owned(), value)),
        }
    }

    /// Puts a member there that has something in it.
    pub fn set_some(&mut self, name: &str, value: Option<Self>) {
        if let Some(value) = value.filter(|value| !value.is_hollow()) {
            self.set(name, value);
        }
    }

    pub fn member(&self, name: &str) -> Option<&Self> {
        match &self.kind {
            OutKind::Object(members) => members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The member of that name, made if it is not there.
    pub fn entry(&mut self, name: &str, from: &At<'_>) -> Option<&mut Self> {
        let OutKind::Object(members) = &mut self.kind else { return None };
        let at = members.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            members.push((name.to_owned(), Self::object(from)));
            members.len() - 1
        });
        members.get_mut(at).map(|(_, value)| value)
    }

    pub fn len(&self) -> usize {
        match &self.kind {
            OutKind::List(items) => items.len(),
            OutKind::Object(members) => members.len(),
            _ => 0,
        }
    }

    /// An object or a list with nothing in it.
    pub fn is_hollow(&self) -> bool {
        matches!(self.kind, OutKind::List(_) | OutKind::Object(_)) && self.len() == 0
    }

    /// The innermost value on the way of a pointer, with its own pointer.
    pub fn nearest(&self, pointer: &str) -> (String, &Self) {
        let (mut at, mut here) = (String::new(), self);
        for segment in pointer.split('/').skip(1) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            let next = match &here.kind {
                OutKind::List(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
                _ => here.member(&name),
            };
            let Some(next) = next else { break };
            (at, here) = (format!("{at}/{segment}"), next);
        }
        (at, here)
    }

    /// Takes the values at these pointers out.
    pub fn remove(&mut self, pointers: &HashSet<String>) {
        self.prune("", pointers);
    }

    fn prune(&mut self, at: &str, pointers: &HashSet<String>) {
        match &mut self.kind {
            OutKind::List(items) => {
                let mut index = 0;
                items.retain_mut(|item| {
                    let inner = format!("{at}/{index}");
                    index += 1;
                    item.prune(&inner, pointers);
                    !pointers.contains(&inner)
                });
            }
            OutKind::Object(members) => members.retain_mut(|(name, value)| {
                let inner = pointer_to(at, name);
                value.prune(&inner, pointers);
                !pointers.contains(&inner)
            }),
            _ => {}
        }
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.write(0, 0, &mut text);
        text.push('\n');
        text
    }

    /// `used` are the columns before it on its line.
    fn write(&self, depth: usize, used: usize, text: &mut String) {
        let line = self.on_one_line();
        let roomy = depth >= BROKEN_DEPTH || self.len() == 0;
        if roomy && used + line.chars().count() <= IMPORT_LINE_CHARS_MAX {
            text.push_str(&line);
            return;
        }
        let items: Vec<(String, &Self)> = match &self.kind {
            OutKind::Object(members) => {
                members.iter().map(|(name, value)| (format!("{}: ", quoted(name)), value)).collect()
            }
            OutKind::List(items) => items.iter().map(|value| (String::new(), value)).collect(),
            // Longer than a line, and there is nothing to break.
            _ => return text.push_str(&line),
        };
        let (open, close) = if matches!(self.kind, OutKind::Object(_)) { ('{', '}') } else { ('[', ']') };
        let indent = "  ".repeat(depth + 1);
        text.push(open);
        for (at, (label, value)) in items.into_iter().enumerate() {
            text.push_str(if at == 0 { "\n" } else { ",\n" });
            text.push_str(&indent);
            text.push_str(&label);
            // One for the comma.
            value.write(depth + 1, indent.len() + label.chars().count() + 1, text);
        }
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
        text.push(close);
    }

    fn on_one_line(&self) -> String {
        match &self.kind {
            OutKind::Null => "null".to_owned(),
            OutKind::Bool(value) => value.to_string(),
            OutKind::Number(text) => text.clone(),
            OutKind::Text(text) => quoted(text),
            OutKind::List(items) => {
                format!("[{}]", items.iter().map(Self::on_one_line).collect::<Vec<_>>().join(", "))
            }
            OutKind::Object(members) => {
                let member = |(name, value): &(String, Self)| format!("{}: {}", quoted(name), value.on_one_line());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A number as JSON spells it, where it is one.
pub fn number(text: &str) -> OutKind {
    if text.parse::<serde_json::Number>().is_ok() {
        return OutKind::Number(text.to_owned());
    }
    let read = text.replace('_', "").parse().ok().and_then(serde_json::Number::from_f64);
    read.map_or_else(|| OutKind::Text(text.to_owned()), |number| OutKind::Number(number.to_string()))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What is written, on one line: where a form that is no config value is kept as text.
pub fn as_json_text(source: &Source) -> String {
    Out::copy(&source.root()).on_one_line()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(json: &str) -> Out {
        Out::copy(&Source::json(json).unwrap_or_else(|_| panic!()).root())
    }

    #[test]
    fn layout() {
        let text =
            out(r#"{"server": {}, "providers": {"mock": {}, "openai": {"keys": [{"value": "env.A"}]}}}"#).render();
        assert_eq!(
            text,
            "{\n  \"server\": {},\n  \"providers\": {\n    \"mock\": {},\n    \"openai\": {\"keys\": [{\"value\": \"env.A\"}]}\n  }\n}\n"
        );
        let long = "x".repeat(IMPORT_LINE_CHARS_MAX);
        let text = out(&format!(r#"{{"a": "{long}", "b": {{"c": {{"d": ["{long}", 1]}}}}}}"#)).render();
        let again = out(&text).render();
        assert_eq!(text, again);
        assert!(text.contains("  \"a\": \"xxx") && text.contains("        1\n      ]"), "{text}");
    }

    #[test]
    fn removal_does_not_shift() {
        let mut it = out(r#"{"a": [0, 1, 2, {"b/c": 1, "d": 2}], "e": 1}"#);
        let pointers = ["/a/0", "/a/2", "/a/3/b~1c", "/e"].map(str::to_owned).into();
        it.remove(&pointers);
        assert_eq!(it.on_one_line(), r#"{"a": [1, {"d": 2}]}"#);
        let (at, _) = it.nearest("/a/1/nothing/there");
        assert_eq!(at, "/a/1");
    }

    #[test]
    fn numbers() {
        for (text, expected) in [("1", "1"), ("1.50", "1.50"), ("1_000", "1000.0"), (".5", "0.5"), ("0x", "\"0x\"")] {
            let kind = number(text);
            assert_eq!(Out { kind, from: Place::default() }.on_one_line(), expected, "{text}");
        }
    }
}
