//! Text to tree: the only user of `jsonc-parser`.
//!
//! Accepts JSON (RFC 8259) plus comments, trailing commas and a UTF-8 byte order mark, and nothing
//! else that the parser would let through. Every value keeps its byte range. Refuses a member that
//! is written twice, at any depth: a JSON parser keeps one of the two, and nobody sees which.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::tokens::TokenAndRange;
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};

use super::problem::{Code, Problems, pointer_to};
use super::suggest::is_showable;
use crate::limits::CONFIG_DEPTH_MAX;

/// A parsed file: its text and the values in it.
#[derive(Clone, PartialEq)]
pub struct Tree {
    text: Box<str>,
    root: Value,
}

/// One JSON value and the bytes it stands in.
#[derive(Clone, PartialEq)]
pub struct Value {
    pub span: Range<usize>,
    pub kind: Kind,
}

#[derive(Clone, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    /// As spelled: what it means is up to the reader.
    Number(Box<str>),
    /// Escapes decoded.
    Text(Box<str>),
    List(Vec<Value>),
    /// In file order, names unique.
    Object(Vec<Member>),
}

#[derive(Clone, PartialEq)]
pub struct Member {
    pub name: Box<str>,
    /// With its quotes.
    pub name_span: Range<usize>,
    pub value: Value,
}

const UTF8_BOM: char = '\u{feff}';

const STRICT: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

impl Tree {
    /// The tree, or where and why the text is none. A syntax error ends the parse; members written
    /// twice are all reported.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        match Self::parse_on(text, &mut problems) {
            Some(tree) if !problems.has_errors() => Ok(tree),
            _ => {
                problems.place(text, None);
                problems.cap();
                Err(problems)
            }
        }
    }

    /// As [`Tree::parse`], but what is wrong with a tree that has a shape does not withhold it, so
    /// that the reader can report its share too. Of a member written twice the first is kept.
    pub(super) fn parse_on(text: &str, problems: &mut Problems) -> Option<Self> {
        let root = parse(text, problems)?;
        Some(Self { text: text.into(), root })
    }

    pub fn root(&self) -> &Value {
        &self.root
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value at a JSON pointer.
    pub fn find(&self, pointer: &str) -> Option<&Value> {
        let nearest = self.nearest(pointer);
        nearest.exact.then_some(nearest.value)
    }

    /// The value at a JSON pointer, or the innermost one on the way there that exists.
    pub fn nearest(&self, pointer: &str) -> Nearest<'_> {
        let mut nearest = Nearest { value: &self.root, name_span: None, exact: true };
        for segment in pointer.split('/').skip(1) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            nearest = match (&nearest.value.kind, nearest.value.member(&name)) {
                (_, Some(member)) => {
                    Nearest { value: &member.value, name_span: Some(member.name_span.clone()), exact: true }
                }
                (Kind::List(items), None) => match name.parse().ok().and_then(|at: usize| items.get(at)) {
                    Some(value) => Nearest { value, name_span: None, exact: true },
                    None => return Nearest { exact: false, ..nearest },
                },
                _ => return Nearest { exact: false, ..nearest },
            };
        }
        nearest
    }
}

/// Where a pointer leads, as far as the tree goes.
pub struct Nearest<'a> {
    pub value: &'a Value,
    /// Of the member that holds the value, if an object does.
    pub name_span: Option<Range<usize>>,
    /// Whether the pointer was followed to its end.
    pub exact: bool,
}

impl Value {
    /// A member of an object; `None` for every other kind.
    pub fn member(&self, name: &str) -> Option<&Member> {
        match &self.kind {
            Kind::Object(members) => members.iter().find(|m| *m.name == *name),
            _ => None,
        }
    }
}

/// Contents may be secrets: only the shape is shown.
impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({} bytes)", self.text.len())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} at {:?})", self.kind.name(), self.span)
    }
}

impl Kind {
    /// What a message calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

fn parse(text: &str, problems: &mut Problems) -> Option<Value> {
    let body = text.strip_prefix(UTF8_BOM).unwrap_or(text);
    let base = text.len() - body.len();
    // Comments are wanted among the tokens only so that the gaps between tokens are white space.
    let collect = CollectOptions { comments: CommentCollectionStrategy::AsTokens, tokens: true };
    let parsed = match parse_to_ast(body, &collect, &STRICT) {
        Ok(parsed) => parsed,
        Err(error) => {
            syntax(problems, base + error.range().start, describe(&error));
            return None;
        }
    };
    refuse_odd_space(body, base, parsed.tokens.as_deref().unwrap_or_default(), problems);
    let Some(root) = parsed.value else {
        // At the start, however much white space there is: the store says the same of a file that
        // is empty, and does not keep its text.
        syntax(problems, 0, "the file is empty, or holds only comments");
        return None;
    };
    Copy { body, base, problems }.value(&root, "", 0)
}

fn syntax(problems: &mut Problems, offset: usize, message: &str) {
    problems.error(Code::Syntax, "", message).at(offset);
}

/// Our own words, because the parser's may quote what it found.
fn describe(error: &ParseError) -> &'static str {
    use ParseErrorKind as K;
    match error.kind() {
        K::BareDecimalPointNumbersNotAllowed => "a number needs a digit on both sides of its point",
        K::ExpectedColonAfterObjectKey => "expected `:` after the name of a member",
        K::ExpectedObjectValue => "expected a value after `:`",
        K::ExpectedStringObjectProperty => "the name of a member stands in double quotes",
        K::ExpectedDigit | K::ExpectedDigitFollowingNegativeSign | K::ExpectedPlusMinusOrDigitInNumberLiteral => {
            "expected a digit"
        }
        K::ExpectedComma => "expected `,`",
        K::MultipleRootJsonValues => "text after the end of the value",
        K::HexadecimalNumbersNotAllowed | K::UnaryPlusNumbersNotAllowed | K::NonFiniteNumbersNotAllowed => {
            "numbers are written as in JSON: no hexadecimal digits, no leading +, no Infinity or NaN"
        }
        K::SingleQuotedStringsNotAllowed => "strings stand in double quotes",
        K::String(jsonc_parser::ParseStringErrorKind::UnterminatedStringLiteral) => "this string is not closed",
        K::String(_) => "an escape in this string is not JSON",
        K::UnterminatedArray => "this list is not closed",
        K::UnterminatedObject => "this object is not closed",
        K::UnterminatedCommentBlock => "this comment is not closed",
        K::NestingDepthExceeded => "nested too deep",
        K::CommentsNotAllowed
        | K::TrailingCommasNotAllowed
        | K::UnexpectedCloseBrace
        | K::UnexpectedCloseBracket
        | K::UnexpectedColon
        | K::UnexpectedComma
        | K::UnexpectedToken
        | K::UnexpectedTokenInObject
        | K::UnexpectedWord => "unexpected here",
    }
}

/// The parser skips every Unicode white space; JSON has four. A no-break space that came with a
/// pasted line is invisible, and other tools refuse the file for it.
fn refuse_odd_space(body: &str, base: usize, tokens: &[TokenAndRange<'_>], problems: &mut Problems) {
    let mut from = 0;
    let ends = tokens.iter().map(|t| (t.range.start, t.range.end)).chain([(body.len(), body.len())]);
    for (start, end) in ends {
        let gap = body.get(from..start).unwrap_or_default();
        if let Some(at) = gap.find(|c| !matches!(c, ' ' | '\t' | '\r' | '\n')) {
            syntax(problems, base + from + at, "white space that JSON does not know");
        }
        from = end;
    }
}

/// Copies the parser's tree into ours, and reports what only the whole shows.
struct Copy<'a> {
    body: &'a str,
    base: usize,
    problems: &'a mut Problems,
}

impl Copy<'_> {
    fn value(&mut self, node: &ast::Value<'_>, pointer: &str, depth: usize) -> Option<Value> {
        let span = self.span(node);
        if depth > CONFIG_DEPTH_MAX {
            syntax(self.problems, span.start, "nested too deep");
            return None;
        }
        let kind = match node {
            ast::Value::NullKeyword(_) => Kind::Null,
            ast::Value::BooleanLit(node) => Kind::Bool(node.value),
            ast::Value::NumberLit(node) => Kind::Number(node.value.into()),
            ast::Value::StringLit(node) => {
                self.refuse_control_characters(node);
                Kind::Text(node.value.as_ref().into())
            }
            ast::Value::Array(node) => {
                let items = node.elements.iter().enumerate();
                Kind::List(
                    items.map(|(at, v)| self.value(v, &format!("{pointer}/{at}"), depth + 1)).collect::<Option<_>>()?,
                )
            }
            ast::Value::Object(node) => Kind::Object(self.members(node, pointer, depth)?),
        };
        Some(Value { span, kind })
    }

    fn members(&mut self, node: &ast::Object<'_>, pointer: &str, depth: usize) -> Option<Vec<Member>> {
        let mut seen = HashSet::with_capacity(node.properties.len());
        let mut members = Vec::with_capacity(node.properties.len());
        for property in &node.properties {
            if let ast::ObjectPropName::String(literal) = &property.name {
                self.refuse_control_characters(literal);
            }
            let name = property.name.as_str();
            let inner = pointer_to(pointer, name);
            let name_span = self.span(&property.name);
            if !seen.insert(name) {
                let shown = if is_showable(name) { inner.as_str() } else { pointer };
                self.problems
                    .error(Code::DuplicateMember, shown, "this member is written twice")
                    .at(name_span.start)
                    .hint("remove one of the two");
                continue;
            }
            let value = self.value(&property.value, &inner, depth + 1)?;
            members.push(Member { name: name.into(), name_span, value });
        }
        Some(members)
    }

    /// JSON wants them escaped. A raw line break is mostly a quote that was forgotten.
    fn refuse_control_characters(&mut self, node: &ast::StringLit<'_>) {
        let raw = self.body.get(node.range.start..node.range.end).unwrap_or_default();
        if let Some(at) = raw.bytes().position(|b| b < 0x20) {
            syntax(
                self.problems,
                self.base + node.range.start + at,
                "a control character or line break inside a string; write it as an escape",
            );
        }
    }

    fn span(&self, node: &impl Ranged) -> Range<usize> {
        self.base + node.start()..self.base + node.end()
    }
}
