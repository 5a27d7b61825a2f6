//! What stands between the brackets of a list or an object, and to which item it belongs.
//!
//! A comment behind an item on its line is the item's, and so are the comment lines directly above
//! it. A comment behind the opening bracket is the container's; one set off by a blank line, or
//! below the last item, is nobody's and stays.

use std::ops::Range;

use crate::config::syntax::{Kind, Value};

/// The inside of a list or an object.
pub(super) struct Body {
    /// Behind the opening bracket.
    pub open: usize,
    /// Before the closing one.
    pub close: usize,
    /// End of what follows the opening bracket on its line; `open` if no line break follows.
    pub head: usize,
    pub slots: Vec<Slot>,
    /// Whether no line break stands between the items, nor between them and the brackets.
    pub one_line: bool,
}

/// An item or member with what belongs to it.
pub(super) struct Slot {
    /// From here on it is the item's: line breaks, comment lines above it, its indentation.
    pub lead: usize,
    /// Its first comment, or itself.
    pub content: usize,
    /// Of the name of a member.
    pub start: usize,
    pub end: usize,
    /// Up to here: its comma, and comments on its last line.
    pub trail: usize,
    /// In front of it, where commas begin the lines.
    pub comma_before: Option<usize>,
    pub comma_after: Option<usize>,
    /// No line break stands between it and what is before it.
    pub inline: bool,
    /// What stands before `lead` ends in a comment that only a line break ends.
    pub after_line_comment: bool,
    /// What belongs to it ends in such a comment.
    pub ends_in_line_comment: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trivia {
    Space,
    Break,
    LineComment,
    BlockComment,
    Comma,
}

pub(super) struct Token {
    pub kind: Trivia,
    pub span: Range<usize>,
}

impl Token {
    pub fn is_comment(&self) -> bool {
        matches!(self.kind, Trivia::LineComment | Trivia::BlockComment)
    }
}

impl Body {
    /// `None` for a scalar.
    pub fn of(text: &str, value: &Value) -> Option<Self> {
        let items: Vec<Range<usize>> = match &value.kind {
            Kind::List(items) => items.iter().map(|v| v.span.clone()).collect(),
            Kind::Object(members) => members.iter().map(|m| m.name_span.start..m.value.span.end).collect(),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => return None,
        };
        let (open, close) = (value.span.start + 1, value.span.end - 1);
        let first = items.first().map_or(close, |item| item.start);
        let mut gap = Gap::between(text, open, first);
        let mut body = Self { open, close, head: gap.trail, slots: Vec::new(), one_line: gap.inline };
        for (at, item) in items.iter().enumerate() {
            let next = items.get(at + 1);
            let after = match next {
                Some(next) => Gap::between(text, item.end, next.start),
                None => Gap::at_end(text, item.end, close),
            };
            body.one_line &= after.inline;
            body.slots.push(Slot {
                lead: gap.lead,
                content: gap.content,
                start: item.start,
                end: item.end,
                trail: after.trail,
                comma_before: gap.comma.filter(|_| gap.comma_leads),
                comma_after: after.comma.filter(|_| !after.comma_leads),
                inline: gap.inline,
                after_line_comment: gap.after_line_comment,
                ends_in_line_comment: after.ends_in_line_comment,
            });
            gap = after;
        }
        Some(body)
    }
}

/// What stands between two items, divided.
struct Gap {
    trail: usize,
    lead: usize,
    content: usize,
    comma: Option<usize>,
    /// The comma belongs to the latter item.
    comma_leads: bool,
    inline: bool,
    after_line_comment: bool,
    ends_in_line_comment: bool,
}

impl Gap {
    fn between(text: &str, from: usize, to: usize) -> Self {
        let tokens = trivia(text, from..to);
        let comma = tokens.iter().find(|t| t.kind == Trivia::Comma).map(|t| t.span.start);
        let Some(first) = tokens.iter().position(|t| t.kind == Trivia::Break) else {
            let trail = comma.map_or(from, |comma| comma + 1);
            return Self { trail, lead: trail, content: content(&tokens, trail, to), ..Self::inline(comma) };
        };
        let (behind, lines) = tokens.split_at(first);
        let trail = lines.first().map_or(to, |t| t.span.start);
        let comma_leads = comma.is_some_and(|comma| comma >= trail);
        let mut lead = to;
        for line in by_line(lines).iter().rev() {
            let Some(start) = line.first().map(|t| t.span.start) else { break };
            let own = lead == to;
            let belongs = own || line.iter().any(Token::is_comment) || comma.is_some_and(|comma| comma >= start);
            // Above a comma that begins a line everything up to it is bound to the item.
            let bound = comma_leads && comma.is_some_and(|comma| comma < lead);
            if !belongs && !bound {
                break;
            }
            lead = start;
        }
        Self {
            trail,
            lead,
            content: content(&tokens, comma.filter(|_| comma_leads).map_or(lead, |comma| comma + 1), to),
            comma,
            comma_leads,
            inline: false,
            after_line_comment: tokens.iter().rfind(|t| t.span.end <= lead).is_some_and(is_line_comment),
            ends_in_line_comment: behind.last().is_some_and(is_line_comment),
        }
    }

    /// Behind the last item: all up to the line break (that behind its comma, if the comma comes
    /// later), or up to the last comment or comma.
    fn at_end(text: &str, from: usize, close: usize) -> Self {
        let tokens = trivia(text, from..close);
        let comma = tokens.iter().find(|t| t.kind == Trivia::Comma).map(|t| t.span.start);
        let is_end = |t: &Token| t.kind == Trivia::Break && t.span.start >= comma.unwrap_or(from);
        let end = tokens.iter().position(is_end);
        let behind = tokens.get(..end.unwrap_or(tokens.len())).unwrap_or_default();
        let trail = match end {
            Some(end) => tokens.get(end).map_or(close, |t| t.span.start),
            None => {
                behind.iter().rfind(|t| !matches!(t.kind, Trivia::Space | Trivia::Break)).map_or(from, |t| t.span.end)
            }
        };
        Self {
            trail,
            inline: !tokens.iter().any(|t| t.kind == Trivia::Break),
            ends_in_line_comment: behind.last().is_some_and(is_line_comment),
            ..Self::inline(comma)
        }
    }

    fn inline(comma: Option<usize>) -> Self {
        Self {
            trail: 0,
            lead: 0,
            content: 0,
            comma,
            comma_leads: false,
            inline: true,
            after_line_comment: false,
            ends_in_line_comment: false,
        }
    }
}

fn is_line_comment(token: &Token) -> bool {
    token.kind == Trivia::LineComment
}

/// The first comment from `from` on, or the item itself.
fn content(tokens: &[Token], from: usize, to: usize) -> usize {
    tokens.iter().find(|t| t.is_comment() && t.span.start >= from).map_or(to, |t| t.span.start)
}

/// Each line with the break that begins it.
fn by_line(tokens: &[Token]) -> Vec<&[Token]> {
    tokens.chunk_by(|_, next| next.kind != Trivia::Break).collect()
}

/// What may stand between two values. The text has been parsed: nothing else does.
pub(super) fn trivia(text: &str, range: Range<usize>) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = range.start;
    while let Some(rest) = text.get(at..range.end).filter(|rest| !rest.is_empty()) {
        let until = |end: Option<usize>| end.unwrap_or(rest.len());
        let (kind, len) = if rest.starts_with("\r\n") {
            (Trivia::Break, 2)
        } else if rest.starts_with(['\n', '\r']) {
            (Trivia::Break, 1)
        } else if rest.starts_with(',') {
            (Trivia::Comma, 1)
        } else if rest.starts_with("//") {
            (Trivia::LineComment, until(rest.find(['\n', '\r'])))
        } else if let Some(inside) = rest.strip_prefix("/*") {
            (Trivia::BlockComment, until(inside.find("*/").map(|end| end + 4)))
        } else {
            let spaces = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            // Never 0, so that the loop ends whatever comes.
            (Trivia::Space, if spaces > 0 { spaces } else { rest.chars().next().map_or(1, char::len_utf8) })
        };
        tokens.push(Token { kind, span: at..at + len });
        at += len;
    }
    tokens
}

/// The white space that begins the line in which a byte stands.
pub(super) fn indent_at(text: &str, at: usize) -> &str {
    let start = text.get(..at).and_then(|before| before.rfind(['\n', '\r'])).map_or(0, |end| end + 1);
    let line = text.get(start..at).unwrap_or_default();
    line.get(..line.len() - line.trim_start_matches([' ', '\t']).len()).unwrap_or_default()
}

/// The line break that is in use around a byte: that before it, else the first of the text.
pub(super) fn break_at(text: &str, at: usize) -> &'static str {
    let before = text.get(..at).unwrap_or_default();
    let end = before.rfind(['\n', '\r']).or_else(|| text.find(['\n', '\r']));
    let Some(end) = end else { return "\n" };
    let around = text.get(..end + 2).or_else(|| text.get(..=end)).unwrap_or_default();
    match (text.get(..=end).unwrap_or_default(), around) {
        (to, _) if to.ends_with("\r\n") => "\r\n",
        (to, _) if to.ends_with('\n') => "\n",
        (_, around) if around.ends_with("\r\n") => "\r\n",
        _ => "\r",
    }
}
