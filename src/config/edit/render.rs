//! A new value as text, in the manner of the file.

use super::NewValue;
use super::body::{Body, break_at, indent_at};
use super::style::{Step, Style, model};
use crate::config::syntax::{Kind, Tree, Value};
use crate::limits::EDIT_LINE_CHARS_MAX;

/// Writes values for one file.
pub(super) struct Render<'t> {
    tree: &'t Tree,
    /// Of the whole file.
    pub style: Style<'t>,
}

/// Where a value is going to stand.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    /// White space that begins the line on which the value begins.
    pub indent: &'p str,
    /// What is around it stands on one line, and so shall it.
    pub one_line: bool,
    /// What comes to stand before it on its line, without the indentation.
    pub used_chars: usize,
}

/// How the items of a list or an object are laid out.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// All of it on one line.
    OneLine,
    /// Brackets and items follow one another on a line, though an item may have several.
    Hug,
    /// Each item on a line of its own.
    Broken,
}

/// Without a sign of how deep the file is indented.
pub(super) const UNIT: &str = "  ";

impl<'t> Render<'t> {
    pub fn new(tree: &'t Tree) -> Self {
        Self { tree, style: Style::of_file(tree.text(), tree.root()) }
    }

    pub fn value(&self, new: &NewValue, way: &mut Vec<Step>, place: Place<'_>, out: &mut String) {
        match new {
            NewValue::Null => out.push_str("null"),
            NewValue::Bool(true) => out.push_str("true"),
            NewValue::Bool(false) => out.push_str("false"),
            NewValue::Number(text) => out.push_str(text),
            NewValue::Text(text) => quote(text, out),
            // Refused before any text is made; never in clear.
            NewValue::Secret(_) => out.push_str("null"),
            NewValue::List(items) => {
                let items: Vec<_> = items.iter().map(|item| (None, item)).collect();
                self.container(new, ('[', ']'), &items, way, place, out);
            }
            NewValue::Object(members) => {
                let members: Vec<_> = members.iter().map(|(name, member)| (Some(name.as_str()), member)).collect();
                self.container(new, ('{', '}'), &members, way, place, out);
            }
        }
    }

    fn container(
        &self,
        new: &NewValue,
        (open, close): (char, char),
        items: &[(Option<&str>, &NewValue)],
        way: &mut Vec<Step>,
        place: Place<'_>,
        out: &mut String,
    ) {
        out.push(open);
        if !items.is_empty() {
            let model = model(self.tree.root(), way, new).filter(|model| self.is_fit(model, new, way));
            let style = model.map(|model| Style::of(self.tree.text(), model)).unwrap_or_default().or(self.style);
            let layout = match (place.one_line, model) {
                (true, _) => Layout::OneLine,
                (false, Some(model)) => layout_of(self.tree.text(), model),
                (false, None) => self.usual(new, way, place),
            };
            self.items(items, layout, style, way, place, out);
        }
        out.push(close);
    }

    fn items(
        &self,
        items: &[(Option<&str>, &NewValue)],
        layout: Layout,
        style: Style<'_>,
        way: &mut Vec<Step>,
        place: Place<'_>,
        out: &mut String,
    ) {
        let is_list = items.first().is_some_and(|(name, _)| name.is_none());
        let pad = if is_list { style.list_pad } else { style.object_pad }.unwrap_or_default();
        let inner = format!("{}{}", place.indent, style.unit.unwrap_or(UNIT));
        let line_break = break_at(self.tree.text(), 0);
        for (at, (name, item)) in items.iter().enumerate() {
            match layout {
                Layout::Broken => {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(line_break);
                    out.push_str(&inner);
                }
                Layout::OneLine | Layout::Hug if at == 0 => out.push_str(pad),
                Layout::OneLine | Layout::Hug => {
                    out.push(',');
                    out.push_str(style.comma_gap.unwrap_or(self.gap()));
                }
            }
            way.push(name.map_or(Step::Index(at), |name| Step::Name(name.to_owned())));
            let place = Place {
                indent: if layout == Layout::Broken { &inner } else { place.indent },
                one_line: layout == Layout::OneLine,
                used_chars: 0,
            };
            self.item(*name, item, style, way, place, out);
            way.pop();
        }
        if layout == Layout::Broken {
            out.push_str(if style.trailing == Some(true) { "," } else { "" });
            out.push_str(line_break);
            out.push_str(place.indent);
        } else {
            out.push_str(pad);
        }
    }

    /// An item of a list, or a member with its name.
    pub fn item(
        &self,
        name: Option<&str>,
        value: &NewValue,
        style: Style<'_>,
        way: &mut Vec<Step>,
        place: Place<'_>,
        out: &mut String,
    ) {
        let start = out.len();
        if let Some(name) = name {
            quote(name, out);
            out.push_str(style.colon.or(self.style.colon).unwrap_or(": "));
        }
        let used_chars = place.used_chars + out.len() - start;
        self.value(value, way, Place { used_chars, ..place }, out);
    }

    /// Behind a comma on one line, where the file shows nothing: as behind its colons.
    pub fn gap(&self) -> &'static str {
        self.style.comma_gap.unwrap_or(if self.style.colon.is_some_and(|colon| !colon.ends_with(' ')) {
            ""
        } else {
            " "
        })
    }

    /// A lone scalar in brackets says little about a record beside it, unless all its neighbours are
    /// of one kind.
    fn is_fit(&self, model: &Value, new: &NewValue, way: &[Step]) -> bool {
        let Kind::Object(members) = &model.kind else { return true };
        let named_alike = matches!(way.last(), Some(Step::Index(_))) || members.len() == 1 || !is_small(new);
        named_alike || self.neighbours_are_alike(way, model)
    }

    fn neighbours_are_alike(&self, way: &[Step], model: &Value) -> bool {
        let Some((_, above)) = way.split_last() else { return true };
        let holder = above.iter().try_fold(self.tree.root(), |value, step| match (&value.kind, step) {
            (Kind::Object(_), Step::Name(name)) => value.member(name).map(|m| &m.value),
            (Kind::List(items), Step::Index(at)) => items.get(*at),
            _ => None,
        });
        match holder.map(|holder| &holder.kind) {
            Some(Kind::Object(members)) => {
                members.iter().all(|m| std::mem::discriminant(&m.value.kind) == std::mem::discriminant(&model.kind))
            }
            // The way is new: the model is the same thing elsewhere.
            _ => true,
        }
    }

    /// How a value is laid out that resembles nothing in the file.
    fn usual(&self, new: &NewValue, way: &mut Vec<Step>, place: Place<'_>) -> Layout {
        let root = self.tree.root();
        let text = self.tree.text().get(root.span.clone()).unwrap_or_default();
        if !text.contains(['\n', '\r']) && Body::of(self.tree.text(), root).is_some_and(|body| !body.slots.is_empty()) {
            return Layout::OneLine;
        }
        if is_small(new) {
            return Layout::OneLine;
        }
        let one_line = match new {
            NewValue::List(items) => items.iter().all(NewValue::is_scalar),
            NewValue::Object(members) => {
                self.style.one_line_objects == Some(true) && members.iter().all(|(_, member)| member.len() == 0)
            }
            NewValue::Null | NewValue::Bool(_) | NewValue::Number(_) | NewValue::Text(_) | NewValue::Secret(_) => true,
        };
        if !one_line {
            return Layout::Broken;
        }
        let mut line = String::new();
        self.value(new, way, Place { one_line: true, ..place }, &mut line);
        let chars = place.indent.chars().count() + place.used_chars + line.chars().count();
        if chars <= EDIT_LINE_CHARS_MAX { Layout::OneLine } else { Layout::Broken }
    }
}

/// One scalar in brackets: a reference, a sealed value, a list of one.
fn is_small(new: &NewValue) -> bool {
    match new {
        NewValue::List(items) => items.len() == 1 && items.iter().all(NewValue::is_scalar),
        NewValue::Object(members) => members.len() == 1 && members.iter().all(|(_, member)| member.is_scalar()),
        NewValue::Null | NewValue::Bool(_) | NewValue::Number(_) | NewValue::Text(_) | NewValue::Secret(_) => false,
    }
}

fn layout_of(text: &str, model: &Value) -> Layout {
    let all = text.get(model.span.clone()).unwrap_or_default();
    match Body::of(text, model).and_then(|body| body.slots.first().map(|slot| slot.inline)) {
        Some(false) => Layout::Broken,
        _ if all.contains(['\n', '\r']) => Layout::Hug,
        _ => Layout::OneLine,
    }
}

/// A JSON string; what is not ASCII stays readable.
fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// The place of a value that takes the place of another.
pub(super) fn place_of<'t>(text: &'t str, old: &Value, one_line: bool) -> Place<'t> {
    let indent = indent_at(text, old.span.start);
    let line = text.get(..old.span.start).and_then(|before| before.rsplit(['\n', '\r']).next()).unwrap_or_default();
    Place { indent, one_line, used_chars: line.chars().count().saturating_sub(indent.chars().count()) }
}
