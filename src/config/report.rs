//! Problems with their places, for people and for machines.
//!
//! Shows no line of the file: the line of a problem is the one most likely to hold a secret.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt::Write as _;

use super::problem::{Code, Problem, Problems, Severity};
use super::syntax::Tree;
use crate::limits::PROBLEMS_MAX;

impl Problems {
    /// Gives every problem its line and column, by its pointer or the nearest ancestor that the
    /// file has; sorts by place; keeps the first [`PROBLEMS_MAX`], errors before warnings, and says
    /// last how many more there are. May be called again after more problems came in.
    pub fn locate(&mut self, tree: &Tree) {
        self.place(tree.text(), Some(tree));
        self.cap();
    }

    /// Places and sorts. Without a tree only what is known by byte gets a place.
    pub(super) fn place(&mut self, text: &str, tree: Option<&Tree>) {
        let mut offsets: Vec<(usize, usize)> = Vec::new();
        for (index, problem) in self.0.iter().enumerate() {
            if problem.line > 0 || problem.code == Code::TooMany {
                continue;
            }
            let by_pointer = || tree.map(|tree| offset_of(tree, problem));
            offsets.extend(problem.offset().or_else(by_pointer).map(|offset| (offset, index)));
        }
        offsets.sort_unstable();
        let mut cursor = Cursor::new(text);
        for (offset, index) in offsets {
            let (line, column) = cursor.advance(offset);
            if let Some(problem) = self.0.get_mut(index) {
                (problem.line, problem.column) = (line, column);
            }
        }
        self.drop_echoes();
        self.0.sort_by(by_place);
    }

    /// A value that could not be read is no value to the checks after it; what they say of that is
    /// an echo of the first problem.
    fn drop_echoes(&mut self) {
        let misread = |p: &Problem| matches!(p.code, Code::WrongType | Code::BadValue) && p.severity == Severity::Error;
        let unread: HashSet<String> = self.0.iter().filter(|p| misread(p)).map(|p| p.pointer.clone()).collect();
        let mut seen = HashSet::new();
        self.0.retain(|p| {
            let echo = p.code == Code::MissingMember && unread.contains(&p.pointer);
            let message = if misread(p) { String::new() } else { p.message.clone() };
            !echo && seen.insert((p.line, p.column, p.pointer.clone(), p.code, message))
        });
    }

    /// Keeps the first [`PROBLEMS_MAX`] of a sorted list.
    pub(super) fn cap(&mut self) {
        let mut hidden = 0;
        self.0.retain(|p| {
            if p.code == Code::TooMany {
                hidden += p.message.split(' ').find_map(|word| word.parse::<usize>().ok()).unwrap_or(0);
            }
            p.code != Code::TooMany
        });
        if self.0.len() > PROBLEMS_MAX {
            hidden += self.0.len() - PROBLEMS_MAX;
            self.0.sort_by_key(|p| p.severity);
            self.0.truncate(PROBLEMS_MAX);
            self.0.sort_by(by_place);
        }
        if hidden > 0 {
            let severity = if self.has_errors() { Severity::Error } else { Severity::Warning };
            let message = format!("and {hidden} more");
            match severity {
                Severity::Error => self.error(Code::TooMany, "", message),
                Severity::Warning => self.warning(Code::TooMany, "", message),
            };
        }
    }

    /// For `check --format json` and the status API.
    pub fn to_json(&self) -> serde_json::Value {
        self.0
            .iter()
            .map(|p| {
                serde_json::json!({
                    "severity": p.severity.as_str(), "code": p.code.as_str(), "pointer": p.pointer,
                    "line": p.line, "column": p.column, "message": p.message, "hint": p.hint,
                })
            })
            .collect()
    }

    /// One or more lines for each problem, `path:line:column:` first, so that editors can jump.
    pub fn render(&self, path: &str) -> String {
        let mut out = String::new();
        for p in &self.0 {
            let place = if p.line > 0 { format!("{path}:{}:{}", p.line, p.column) } else { path.to_owned() };
            let kind = format!("{}[{}]", p.severity.as_str(), p.code.as_str());
            let _ = writeln!(out, "{}: {kind}: {}", printable(&place), printable(&p.message));
            if !p.pointer.is_empty() {
                let _ = writeln!(out, "  at: {}", printable(&p.pointer));
            }
            if let Some(hint) = &p.hint {
                let _ = writeln!(out, "  hint: {}", printable(hint));
            }
        }
        out
    }
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Names in a pointer are the file's; a terminal must not obey them.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The end of the list belongs to the line that counts the rest.
fn by_place(a: &Problem, b: &Problem) -> Ordering {
    let key = |p: &Problem| (p.code == Code::TooMany, p.line, p.column, p.severity);
    key(a).cmp(&key(b)).then_with(|| a.pointer.cmp(&b.pointer))
}

/// What is about the member itself points at its name, anything else at its value.
fn offset_of(tree: &Tree, problem: &Problem) -> usize {
    let nearest = tree.nearest(&problem.pointer);
    let about_name =
        matches!(problem.code, Code::UnknownMember | Code::Deprecated | Code::NotSupportedYet | Code::Conflict);
    match nearest.name_span {
        Some(span) if about_name && nearest.exact => span.start,
        _ => nearest.value.span.start,
    }
}

/// Lines and columns of offsets that come in rising order: one pass over the text for all of them.
struct Cursor<'a> {
    rest: &'a str,
    offset: usize,
    line: u32,
    column: u32,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest, offset: text.len() - rest.len(), line: 1, column: 1 }
    }

    fn advance(&mut self, to: usize) -> (u32, u32) {
        let mut chars = self.rest.chars();
        while self.offset < to {
            let Some(c) = chars.next() else { break };
            self.offset += c.len_utf8();
            // A lone CR ends a line too; of CR LF the LF does.
            if c == '\n' || c == '\r' && !chars.as_str().starts_with('\n') {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            } else {
                self.column = self.column.saturating_add(1);
            }
        }
        self.rest = chars.as_str();
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters() {
        let text = "\u{feff}{\n\t\"ключ\": {\"a\": 1},\r\n  \"b\": [true,\r null]}";
        let tree = Tree::parse(text).unwrap();
        for (pointer, line, column) in [
            ("", 1, 1),
            ("/ключ", 2, 10),
            ("/ключ/a", 2, 16),
            ("/ключ/absent/deeper", 2, 10),
            ("/b", 3, 8),
            ("/b/0", 3, 9),
            ("/b/1", 4, 2),
            ("/b/7", 3, 8),
            ("/absent", 1, 1),
        ] {
            let mut problems = Problems::default();
            problems.error(Code::BadValue, pointer, "bad");
            problems.locate(&tree);
            assert_eq!((problems.0[0].line, problems.0[0].column), (line, column), "{pointer}");
        }
    }

    #[test]
    fn order_and_bound() {
        let items = vec!["0"; PROBLEMS_MAX + 20].join(",\n");
        let tree = Tree::parse(&format!("[{items}]")).unwrap();
        let mut problems = Problems::default();
        for at in 0..PROBLEMS_MAX + 20 {
            problems.warning(Code::Suspicious, format!("/{at}"), "odd");
        }
        problems.error(Code::BadValue, "/100", "bad");
        problems.locate(&tree);
        assert_eq!(problems.0.len(), PROBLEMS_MAX + 1);
        assert!(problems.has_errors(), "an error is never the one left out");
        assert_eq!(problems.0.last().unwrap().message, "and 21 more");
        assert!(problems.0.windows(2).all(|w| w[0].line <= w[1].line || w[1].code == Code::TooMany));

        problems.error(Code::Conflict, "/0", "later");
        problems.locate(&tree);
        assert_eq!(problems.0.last().unwrap().message, "and 22 more");
        assert_eq!(problems.0[0].message, "later");
    }

    #[test]
    fn a_flood_keeps_its_error() {
        let mut problems = Problems::default();
        for at in 0..crate::limits::PROBLEMS_COLLECTED_MAX - 1 {
            problems.warning(Code::Suspicious, format!("/{at}"), "odd");
        }
        problems.error(Code::BadValue, "", "bad");
        for _ in 0..5 {
            problems.warning(Code::Suspicious, "/x", "odd").hint("h");
        }
        assert!(problems.has_errors());
        assert_eq!(problems.0.len(), crate::limits::PROBLEMS_COLLECTED_MAX);
    }

    #[test]
    fn a_misread_value_is_not_also_missing() {
        let tree = Tree::parse("{\"a\": 1}").unwrap();
        let mut problems = Problems::default();
        problems.error(Code::WrongType, "/a", "expected a string");
        problems.error(Code::MissingMember, "/a", "needed");
        problems.locate(&tree);
        assert_eq!(problems.0.len(), 1);
    }

    #[test]
    fn text_for_people() {
        let mut problems = Problems::default();
        problems.error(Code::BadValue, "/providers/a\u{1b}[2J", "bad").hint("write it well");
        problems.0[0].line = 3;
        problems.0[0].column = 7;
        assert_eq!(
            problems.render("config.json"),
            "config.json:3:7: error[bad_value]: bad\n  at: /providers/a\\u{1b}[2J\n  hint: write it well\n"
        );
        assert_eq!(problems.to_json()[0]["line"], 3);
    }
}
