//! YAML to [`Source`], as Python's safe loader understands it, which is what wrote these files.
//!
//! Works on the parser's events: anchors are copied within a bound, merge keys (`<<`) are merged.
//! Refuses several documents, keys that are no scalars, and what is nested too deep.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::source::{Source, SourceKind};
use crate::limits::{CONFIG_DEPTH_MAX, IMPORT_VALUES_MAX};

/// Why and where a text is no YAML that can be read. Never what stands there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotYaml {
    pub line: u32,
    pub column: u32,
    pub message: &'static str,
}

/// A document, and the places of members that were written twice.
pub struct Yaml {
    pub root: Source,
    pub twice: Vec<(u32, u32)>,
}

const MERGE: &str = "<<";

/// The one document of a text.
pub fn read(text: &str) -> Result<Yaml, NotYaml> {
    let mut reader = Reader { open: Vec::new(), anchors: HashMap::new(), root: None, twice: Vec::new(), values: 0 };
    let mut documents = 0;
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            NotYaml { line: count(mark.line()), column: count(mark.col() + 1), message: "not YAML from here on" }
        })?;
        if let Event::DocumentStart(_) = event {
            documents += 1;
            if documents > 1 {
                return Err(not(&span, "a second document; only one is read"));
            }
        }
        reader.event(event, &span)?;
    }
    let root = reader.root.unwrap_or(Source { kind: SourceKind::Null, line: 1, column: 1 });
    Ok(Yaml { root, twice: reader.twice })
}

/// A list or a mapping that is not closed yet.
struct Open {
    anchor: usize,
    line: u32,
    column: u32,
    /// Values inside when it was opened: what lies between is its size.
    values: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Source>),
    Object { members: Vec<(String, Source)>, key: Option<String> },
}

struct Reader {
    open: Vec<Open>,
    /// By the parser's number, each with its size.
    anchors: HashMap<usize, (Source, usize)>,
    root: Option<Source>,
    twice: Vec<(u32, u32)>,
    values: usize,
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), NotYaml> {
        let (line, column) = (count(span.start.line()), count(span.start.col() + 1));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.suffix == "str");
                let kind = if style == ScalarStyle::Plain && !is_text {
                    plain(&text)
                } else {
                    SourceKind::Text(text.into_owned())
                };
                self.grow(1, span)?;
                let source = Source { kind, line, column };
                self.remember(anchor, &source, 1);
                self.put(source, span)
            }
            Event::SequenceStart(anchor, _) => self.enter(OpenKind::List(Vec::new()), anchor, span),
            Event::MappingStart(anchor, _) => {
                self.enter(OpenKind::Object { members: Vec::new(), key: None }, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let Some((source, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(not(span, "an alias of something that is not closed yet"));
                };
                self.grow(size, span)?;
                self.put(source, span)
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, kind: OpenKind, anchor: usize, span: &Span) -> Result<(), NotYaml> {
        if self.open.len() >= CONFIG_DEPTH_MAX {
            return Err(not(span, "nested too deep"));
        }
        let (line, column) = (count(span.start.line()), count(span.start.col() + 1));
        self.open.push(Open { anchor, line, column, values: self.values, kind });
        self.grow(1, span)
    }

    fn close(&mut self, span: &Span) -> Result<(), NotYaml> {
        let Some(Open { anchor, line, column, values, kind }) = self.open.pop() else { return Ok(()) };
        let kind = match kind {
            OpenKind::List(items) => SourceKind::List(items),
            OpenKind::Object { members, .. } => SourceKind::Object(merged(members)),
        };
        let source = Source { kind, line, column };
        self.remember(anchor, &source, self.values - values);
        self.put(source, span)
    }

    fn remember(&mut self, anchor: usize, source: &Source, size: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, (source.clone(), size));
        }
    }

    /// An alias of an alias of an alias is a way to fill the memory with a few lines.
    fn grow(&mut self, by: usize, span: &Span) -> Result<(), NotYaml> {
        self.values += by;
        if self.values > IMPORT_VALUES_MAX { Err(not(span, "too many values")) } else { Ok(()) }
    }

    fn put(&mut self, source: Source, span: &Span) -> Result<(), NotYaml> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(source),
            Some(OpenKind::List(items)) => items.push(source),
            Some(OpenKind::Object { members, key }) => match key.take() {
                Some(name) => {
                    if let Some(known) = members.iter().position(|(member, _)| *member == name && name != MERGE) {
                        self.twice.push((source.line, source.column));
                        members.remove(known);
                    }
                    members.push((name, source));
                }
                None => {
                    let name = match source.kind {
                        SourceKind::Text(text) | SourceKind::Number(text) => text,
                        SourceKind::Bool(value) => value.to_string(),
                        SourceKind::Null => "null".to_owned(),
                        SourceKind::List(_) | SourceKind::Object(_) => {
                            return Err(not(span, "a key that is a list or a mapping"));
                        }
                    };
                    *key = Some(name);
                }
            },
        }
        Ok(())
    }
}

/// Merge keys resolved: what is written wins, then the earlier of several.
fn merged(members: Vec<(String, Source)>) -> Vec<(String, Source)> {
    let (merges, mut own): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| name == MERGE);
    for (_, source) in merges {
        let parts = match source.kind {
            SourceKind::List(items) => items,
            _ => vec![source],
        };
        for part in parts {
            let SourceKind::Object(members) = part.kind else { continue };
            for (name, value) in members {
                if !own.iter().any(|(known, _)| *known == name) {
                    own.push((name, value));
                }
            }
        }
    }
    own
}

/// What YAML 1.1 makes of a word without quotes, as far as configs use it.
fn plain(text: &str) -> SourceKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => SourceKind::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => SourceKind::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => SourceKind::Bool(false),
        _ if is_number(text) => SourceKind::Number(text.to_owned()),
        _ => SourceKind::Text(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.'));
    begins && text.bytes().any(|b| b.is_ascii_digit()) && text.replace('_', "").parse::<f64>().is_ok()
}

fn not(span: &Span, message: &'static str) -> NotYaml {
    NotYaml { line: count(span.start.line()), column: count(span.start.col() + 1), message }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As JSON, for looking at.
    fn shown(source: &Source) -> String {
        match &source.kind {
            SourceKind::Null => "null".to_owned(),
            SourceKind::Bool(value) => value.to_string(),
            SourceKind::Number(text) => text.clone(),
            SourceKind::Text(text) => format!("{text:?}"),
            SourceKind::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
            SourceKind::Object(members) => {
                let member = |(name, value): &(String, Source)| format!("{name}:{}", shown(value));
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn of(text: &str) -> String {
        read(text).map(|yaml| shown(&yaml.root)).unwrap_or_else(|error| format!("{error:?}"))
    }

    #[test]
    fn values() {
        for (text, expected) in [
            ("", "null"),
            ("# nothing\n", "null"),
            ("a: 1\nb: [x, 'y', \"z\"]\n", "{a:1,b:[\"x\",\"y\",\"z\"]}"),
            ("a: yes\nb: 'yes'\nc: ~\nd:\ne: -0.5\nf: 1_000\n", "{a:true,b:\"yes\",c:null,d:null,e:-0.5,f:1_000}"),
            ("k: os.environ/A\nm: gpt-4o\nv: 2024-02-01\n", "{k:\"os.environ/A\",m:\"gpt-4o\",v:\"2024-02-01\"}"),
            ("1: a\ntrue: b\n", "{1:\"a\",true:\"b\"}"),
            ("v: !!str 12\n", "{v:\"12\"}"),
            ("{\"a\": {\"b\": [1, 2]}}", "{a:{b:[1,2]}}"),
            ("d: &d {x: 1, y: 2}\ne: {<<: *d, y: 3}\nf: [*d]\n", "{d:{x:1,y:2},e:{y:3,x:1},f:[{x:1,y:2}]}"),
            ("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n", "{a:{x:1},b:{x:2,y:2},c:{x:1,y:2}}"),
            ("a: 1\na: 2\n", "{a:2}"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!(read("a: 1\nb: 1\na: 2\n").map(|yaml| yaml.twice), Ok(vec![(3, 4)]));
    }

    #[test]
    fn refusals() {
        for (text, line, message) in [
            ("a: [1\nb: 2\n", 2, "not YAML from here on"),
            ("a: 1\n---\nb: 2\n", 2, "a second document; only one is read"),
            ("? [a]\n: 1\n", 1, "a key that is a list or a mapping"),
            ("a: &a [*a]\n", 1, "an alias of something that is not closed yet"),
        ] {
            let error = read(text).map(|_| ()).unwrap_err();
            assert_eq!((error.line, error.message), (line, message), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(CONFIG_DEPTH_MAX + 1), "]".repeat(CONFIG_DEPTH_MAX + 1));
        assert_eq!(read(&deep).map(|_| ()).unwrap_err().message, "nested too deep");
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let before = format!("*a{}", n - 1);
            laughs += &format!("a{n}: &a{n} [{}]\n", vec![before; 10].join(", "));
        }
        assert_eq!(read(&laughs).map(|_| ()).unwrap_err().message, "too many values");
    }

    proptest::proptest! {
        #[test]
        fn random_text_never_panics(text in "[-a-z:*&\\[\\]{}<|>\"'#!?%@, \n]{0,80}") {
            let _ = read(&text);
        }
    }
}
