//! How the file is written: spaces, indentation, trailing commas; and which value that is there a
//! new one should look like.

use super::NewValue;
use super::body::{Body, indent_at};
use crate::config::syntax::{Kind, Value};
use crate::limits::EDIT_MODEL_STEPS_MAX;

/// Habits, as far as some value shows them.
#[derive(Clone, Copy, Default)]
pub(super) struct Style<'t> {
    /// Between the name of a member and its value.
    pub colon: Option<&'static str>,
    /// Behind a comma that ends no line.
    pub comma_gap: Option<&'static str>,
    /// Inside the brackets of an object on one line.
    pub object_pad: Option<&'static str>,
    pub list_pad: Option<&'static str>,
    /// One level of indentation.
    pub unit: Option<&'t str>,
    /// Whether the last line of several ends in a comma.
    pub trailing: Option<bool>,
    /// Whether objects of several members stand on one line.
    pub one_line_objects: Option<bool>,
}

impl<'t> Style<'t> {
    /// What a list or an object shows by itself.
    pub fn of(text: &'t str, value: &Value) -> Self {
        let Some(body) = Body::of(text, value) else { return Self::default() };
        let between = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        let Some(first) = body.slots.first() else { return Self::default() };
        let mut style = Self::default();
        if let Kind::Object(members) = &value.kind {
            style.colon = members.iter().rev().find_map(|m| colon(between(m.name_span.end, m.value.span.start)));
            style.object_pad = first.inline.then(|| gap(between(body.open, first.content))).flatten();
            style.one_line_objects = (members.len() > 1).then_some(body.one_line);
        } else {
            style.list_pad = first.inline.then(|| gap(between(body.open, first.content))).flatten();
        }
        let inline = body.slots.iter().skip(1).rev().find(|slot| slot.inline);
        style.comma_gap = inline.and_then(|slot| gap(between(slot.lead, slot.content)));
        if !first.inline {
            let outer = indent_at(text, value.span.start);
            let unit = indent_at(text, first.start).strip_prefix(outer);
            style.unit = unit.filter(|unit| !unit.is_empty());
            style.trailing = body.slots.last().map(|slot| slot.comma_after.is_some());
        }
        style
    }

    /// The habits of a whole file: those that it shows first, and of trailing commas and of objects
    /// on one line the more frequent way.
    pub fn of_file(text: &'t str, root: &Value) -> Self {
        let mut style = Self::default();
        let (mut trailing, mut one_line) = (0_i64, 0_i64);
        let mut open = vec![root];
        while let Some(value) = open.pop() {
            let shown = Self::of(text, value);
            let vote = |way: Option<bool>| way.map_or(0, |way| if way { 1 } else { -1 });
            trailing += vote(shown.trailing);
            one_line += vote(shown.one_line_objects);
            style = style.or(shown);
            match &value.kind {
                Kind::List(items) => open.extend(items.iter().rev()),
                Kind::Object(members) => open.extend(members.iter().rev().map(|m| &m.value)),
                Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {}
            }
        }
        Self { trailing: Some(trailing > 0), one_line_objects: Some(one_line > 0), ..style }
    }

    /// These habits, and those of `other` where these show nothing.
    pub fn or(self, other: Self) -> Self {
        Self {
            colon: self.colon.or(other.colon),
            comma_gap: self.comma_gap.or(other.comma_gap),
            object_pad: self.object_pad.or(other.object_pad),
            list_pad: self.list_pad.or(other.list_pad),
            unit: self.unit.or(other.unit),
            trailing: self.trailing.or(other.trailing),
            one_line_objects: self.one_line_objects.or(other.one_line_objects),
        }
    }
}

/// Nothing or one space: more is an alignment, which holds for its own lines alone.
fn gap(text: &str) -> Option<&'static str> {
    match text {
        "" => Some(""),
        _ if text.chars().all(|c| c == ' ' || c == '\t') => Some(" "),
        _ => None,
    }
}

fn colon(text: &str) -> Option<&'static str> {
    let (before, after) = text.split_once(':')?;
    match (gap(before)?, gap(after)?) {
        ("", "") => Some(":"),
        ("", _) => Some(": "),
        (_, "") => Some(" :"),
        _ => Some(" : "),
    }
}

/// One step of the way to a value.
#[derive(Clone, PartialEq)]
pub(super) enum Step {
    Name(String),
    Index(usize),
}

/// How strictly a step is followed when models are looked for.
#[derive(Clone, Copy, PartialEq)]
enum Follow {
    Exactly,
    Any,
}

/// A value that is there and that a new one at `way` should look like: its neighbour in a list; what
/// has the same name in another item or under another name; its neighbour in an object.
pub(super) fn model<'t>(root: &'t Value, way: &[Step], new: &NewValue) -> Option<&'t Value> {
    let last = way.len().checked_sub(1)?;
    let indexes_open =
        |at: usize| if matches!(way.get(at), Some(Step::Index(_))) { Follow::Any } else { Follow::Exactly };
    let mut rows: Vec<Vec<Follow>> = Vec::with_capacity(way.len() + 2);
    if let Some(Step::Index(_)) = way.last() {
        rows.push((0..=last).map(|at| if at == last { Follow::Any } else { Follow::Exactly }).collect());
    }
    rows.push((0..=last).map(indexes_open).collect());
    // The top level is of one kind with nothing, and a list's item has been looked for above.
    for open in (1..last).rev().filter(|open| matches!(way.get(*open), Some(Step::Name(_)))) {
        rows.push((0..=last).map(|at| if at == open { Follow::Any } else { indexes_open(at) }).collect());
    }
    let mut search = Search { way, new, steps_left: EDIT_MODEL_STEPS_MAX };
    if let Some(found) = rows.iter().find_map(|row| search.at(root, row, 0)) {
        return Some(found);
    }
    let beside: Vec<_> = (0..=last).map(|at| if at == last { Follow::Any } else { Follow::Exactly }).collect();
    search.at(root, &beside, 0).filter(|_| last > 0)
}

struct Search<'a> {
    way: &'a [Step],
    new: &'a NewValue,
    steps_left: usize,
}

impl Search<'_> {
    /// The last match: new items come at the end.
    fn at<'t>(&mut self, value: &'t Value, row: &[Follow], depth: usize) -> Option<&'t Value> {
        self.steps_left = self.steps_left.checked_sub(1)?;
        let (Some(follow), Some(step)) = (row.get(depth), self.way.get(depth)) else {
            return is_alike(value, self.new).then_some(value);
        };
        match (&value.kind, step, follow) {
            (Kind::Object(_), Step::Name(name), Follow::Exactly) => self.at(&value.member(name)?.value, row, depth + 1),
            (Kind::Object(members), Step::Name(_), Follow::Any) => {
                members.iter().rev().find_map(|m| self.at(&m.value, row, depth + 1))
            }
            (Kind::List(items), Step::Index(at), Follow::Exactly) => self.at(items.get(*at)?, row, depth + 1),
            (Kind::List(items), Step::Index(_), Follow::Any) => {
                items.iter().rev().find_map(|item| self.at(item, row, depth + 1))
            }
            _ => None,
        }
    }
}

/// Of the same kind, and not empty.
fn is_alike(value: &Value, new: &NewValue) -> bool {
    match (&value.kind, new) {
        (Kind::List(items), NewValue::List(_)) => !items.is_empty(),
        (Kind::Object(members), NewValue::Object(_)) => !members.is_empty(),
        _ => false,
    }
}
