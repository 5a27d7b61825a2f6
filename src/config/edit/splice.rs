//! Work to text: which bytes go, and what comes where.
//!
//! Produces splices of the text as it is, so that whatever is in none of them cannot change.

use std::ops::Range;

use super::body::{Body, Slot, Trivia, break_at, indent_at, trivia};
use super::plan::{Added, Fate, Work, child};
use super::render::{Place, Render, UNIT, place_of};
use super::style::{Step, Style};
use super::{EditError, EditFault, NewValue};
use crate::config::syntax::{Kind, Tree, Value};

pub(super) fn made(tree: &Tree, work: &Work<'_>) -> Result<String, EditError> {
    let mut splicer = Splicer { text: tree.text(), render: Render::new(tree), way: Vec::new(), splices: Vec::new() };
    splicer.value(tree.root(), work, false);
    let mut splices = splicer.splices;
    // Stable: what was put at one place in order stays in order.
    splices.sort_by_key(|(range, _)| (range.start, range.end));
    let (mut out, mut from) = (String::with_capacity(tree.text().len()), 0);
    for (range, text) in splices {
        let Some(kept) = tree.text().get(from..range.start) else {
            return Err(EditError { pointer: String::new(), fault: EditFault::Overlap });
        };
        out.push_str(kept);
        out.push_str(&text);
        from = range.end;
    }
    out.push_str(tree.text().get(from..).unwrap_or_default());
    Ok(out)
}

struct Splicer<'t> {
    text: &'t str,
    render: Render<'t>,
    way: Vec<Step>,
    splices: Vec<(Range<usize>, String)>,
}

/// What the inside of a list or an object will be, in order.
enum Piece<'p> {
    Old { slot: &'p Slot, comma_before: bool, comma_after: bool },
    New(New),
}

/// An item that comes in.
struct New {
    at: usize,
    lead: Lead,
    text: String,
    comma_after: bool,
    /// What parts it from an item that follows on the same line.
    gap: &'static str,
}

/// White space in front of an item; where commas begin the lines, around its comma.
#[derive(Default)]
struct Lead {
    before: String,
    comma: bool,
    after: String,
}

impl<'t> Splicer<'t> {
    fn put(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.splices.push((range, text.into()));
    }

    fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    /// `one_line`: what is around the value stands on one line.
    fn value(&mut self, old: &Value, work: &Work<'_>, one_line: bool) {
        if let Fate::Replace(new) = work.fate {
            let mut text = String::new();
            self.render.value(new, &mut self.way, place_of(self.text, old, one_line), &mut text);
            return self.put(old.span.clone(), text);
        }
        if work.items.is_empty() && work.added.is_empty() {
            return;
        }
        let Some(body) = Body::of(self.text, old) else { return };
        if body.slots.is_empty() {
            return self.fill(old, &body, &work.added, one_line);
        }
        let one_line = !self.slice(old.span.clone()).contains(['\n', '\r']);
        for (at, below) in work.items.iter().filter(|(_, below)| !matches!(below.fate, Fate::Remove)) {
            let Some(item) = child(old, *at) else { continue };
            self.way.push(step(old, *at));
            self.value(item, below, one_line);
            self.way.pop();
        }
        let is_gone = |at| work.items.get(&at).is_some_and(|below: &Work<'_>| matches!(below.fate, Fate::Remove));
        let gone: Vec<bool> = (0..body.slots.len()).map(is_gone).collect();
        if work.added.is_empty() && body.one_line && !gone.contains(&false) {
            return self.put(body.open..body.close, "");
        }
        if !work.added.is_empty() || gone.contains(&true) {
            let ahead = self.remove(&body, &gone);
            self.arrange(old, &body, &gone, &ahead, &work.added, one_line);
        }
    }

    /// Takes items out with what is theirs. Says in front of which of those that stay the way was
    /// cleared up to their first byte.
    fn remove(&mut self, body: &Body, gone: &[bool]) -> Vec<bool> {
        let mut ahead = vec![false; body.slots.len()];
        let mut slots = body.slots.iter().zip(gone).zip(&mut ahead).peekable();
        // Where the last deletion ended, if a line comment has come to stand right before that.
        let mut bare = None;
        while let Some(((first, gone), _)) = slots.next() {
            if !gone {
                continue;
            }
            // Those that go together with it on its line.
            let mut last = first;
            while let Some(((next, _), _)) = slots.next_if(|((next, gone), _)| next.inline && **gone) {
                last = next;
            }
            match slots.peek_mut() {
                Some(((next, _), ahead)) if next.inline => {
                    // It comes to stand where they began.
                    **ahead = true;
                    let from = first.comma_before.unwrap_or(first.content);
                    self.splices.push((from..next.content, String::new()));
                }
                _ => {
                    // A comment above must not swallow what follows on the last line.
                    let in_comment = first.after_line_comment || bare == Some(first.lead);
                    bare = in_comment.then_some(last.trail);
                    let follows = self.slice(last.trail..body.close).trim_start_matches([' ', '\t']);
                    let keeps_break = in_comment && !follows.starts_with(['\n', '\r']);
                    let line_break = if keeps_break { break_at(self.text, first.start) } else { "" };
                    self.splices.push((first.lead..last.trail, line_break.to_owned()));
                }
            }
        }
        ahead
    }

    /// Puts new items in, with one comma between each two.
    fn arrange(
        &mut self,
        old: &Value,
        body: &Body,
        gone: &[bool],
        ahead: &[bool],
        added: &[Added<'_>],
        one_line: bool,
    ) {
        let mut added: Vec<&Added<'_>> = added.iter().collect();
        added.sort_by_key(|new| new.before);
        let mut added = added.into_iter().peekable();
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for at in 0..=body.slots.len() {
            let ahead = ahead.get(at).copied().unwrap_or(false);
            while let Some(new) = added.next_if(|new| new.before == at) {
                let new = self.piece(old, body, ahead, new, pieces.last(), one_line);
                pieces.push(Piece::New(new));
            }
            if let (Some(slot), Some(false)) = (body.slots.get(at), gone.get(at)) {
                let (comma_before, comma_after) = (slot.comma_before.is_some(), slot.comma_after.is_some());
                pieces.push(Piece::Old { slot, comma_before, comma_after });
            }
        }
        self.commas(&mut pieces, body.slots.last().is_some_and(|slot| slot.comma_after.is_some()));
        for piece in pieces {
            if let Piece::New(New { at, lead, text, comma_after, gap }) = piece {
                let [comma_before, comma_after] = [lead.comma, comma_after].map(|comma| if comma { "," } else { "" });
                let Lead { before, after, .. } = lead;
                self.put(at..at, format!("{before}{comma_before}{after}{text}{comma_after}{gap}"));
            }
        }
    }

    /// One comma between each two, none before the first, and behind the last as it was.
    fn commas(&mut self, pieces: &mut [Piece<'_>], ends_in_comma: bool) {
        let mut before: Option<&mut Piece<'_>> = None;
        for piece in pieces {
            let comma_above = before.as_deref().map(Piece::comma_after);
            match (comma_above, piece.comma_before()) {
                (None | Some(true), true) => self.drop_comma_before(piece),
                (Some(false), false) => before.into_iter().for_each(|before| self.add_comma_after(before)),
                _ => {}
            }
            before = Some(piece);
        }
        let Some(last) = before else { return };
        match (last.comma_after(), ends_in_comma) {
            (true, false) => self.drop_comma_after(last),
            (false, true) => self.add_comma_after(last),
            _ => {}
        }
    }

    fn add_comma_after(&mut self, piece: &mut Piece<'_>) {
        match piece {
            Piece::Old { slot, .. } => self.put(slot.end..slot.end, ","),
            Piece::New(new) => new.comma_after = true,
        }
    }

    fn drop_comma_after(&mut self, piece: &mut Piece<'_>) {
        match piece {
            Piece::Old { slot, .. } => {
                let comma = slot.comma_after.unwrap_or(slot.end);
                self.put(comma..comma + 1, "");
            }
            Piece::New(new) => new.comma_after = false,
        }
    }

    fn drop_comma_before(&mut self, piece: &mut Piece<'_>) {
        match piece {
            Piece::Old { slot, .. } => {
                let Some(comma) = slot.comma_before else { return };
                let rest = self.slice(comma + 1..slot.start);
                let spaces = rest.len() - rest.trim_start_matches([' ', '\t']).len();
                self.put(comma..comma + 1 + spaces, "");
            }
            Piece::New(new) => new.lead = Lead { comma: false, after: String::new(), ..std::mem::take(&mut new.lead) },
        }
    }

    /// A new item, in the manner of the one that it comes to stand before, else of the last one.
    fn piece(
        &mut self,
        old: &Value,
        body: &Body,
        ahead: bool,
        new: &Added<'_>,
        before: Option<&Piece<'_>>,
        one_line: bool,
    ) -> New {
        let style = Style::of(self.text, old).or(self.render.style);
        let gap = style.comma_gap.unwrap_or(self.render.gap());
        let next = body.slots.get(new.before);
        let above = new.before.checked_sub(1).and_then(|above| body.slots.get(above));
        let fits_ahead = next.filter(|next| ahead || (above.is_none() && next.inline));
        let (at, lead, gap) = match (fits_ahead, before) {
            (Some(next), _) => (next.content, Lead::default(), gap),
            (None, before) => {
                let at = above.map_or(body.head, |above| above.trail);
                (at, self.lead(body, next, before, gap), "")
            }
        };
        let near = next.or(above).map_or(body.open, |slot| slot.start);
        let broken = lead.before.contains(['\n', '\r']);
        let indent = if broken { lead.before.trim_start_matches(['\n', '\r']) } else { indent_at(self.text, near) };
        let place = Place { indent, one_line: one_line && !broken, used_chars: 0 };
        self.way.push(match &new.name {
            Some(name) => Step::Name(name.to_string()),
            None => Step::Index(new.before),
        });
        let mut text = String::new();
        self.render.item(new.name.as_deref(), new.value, style, &mut self.way, place, &mut text);
        self.way.pop();
        New { at, lead, text, comma_after: false, gap }
    }

    fn lead(&self, body: &Body, next: Option<&Slot>, before: Option<&Piece<'_>>, gap: &str) -> Lead {
        // The first one stands where the first one stood.
        let model = if before.is_none() { body.slots.first() } else { next.or(body.slots.last()) };
        let Some(model) = model else { return Lead::default() };
        let in_comment = matches!(before, Some(Piece::Old { slot, .. }) if slot.ends_in_line_comment);
        if model.inline && !in_comment {
            let space = if before.is_none() { self.slice(body.open..model.content) } else { gap };
            return Lead { before: space.to_owned(), ..Lead::default() };
        }
        let lead = break_at(self.text, model.start).to_owned() + indent_at(self.text, model.start);
        let after = model.comma_before.map(|comma| self.slice(comma + 1..model.content));
        let is_blank = |after: &&str| after.chars().all(|c| c == ' ' || c == '\t');
        Lead { before: lead, comma: after.is_some(), after: after.filter(is_blank).unwrap_or_default().to_owned() }
    }

    /// Puts the first items into an empty list or object.
    fn fill(&mut self, old: &Value, body: &Body, added: &[Added<'_>], one_line: bool) {
        let tokens = trivia(self.text, body.open..body.close);
        let last_comment = tokens.iter().rposition(|t| matches!(t.kind, Trivia::LineComment | Trivia::BlockComment));
        let first_break = tokens.iter().position(|t| t.kind == Trivia::Break);
        if last_comment.is_none() && first_break.is_none() {
            let whole = match &old.kind {
                Kind::List(_) => NewValue::List(added.iter().map(|new| new.value.clone()).collect()),
                _ => {
                    let named = |new: &Added<'_>| Some((new.name.as_deref()?.to_owned(), new.value.clone()));
                    NewValue::Object(added.iter().filter_map(named).collect())
                }
            };
            let mut text = String::new();
            self.render.value(&whole, &mut self.way, place_of(self.text, old, one_line), &mut text);
            return self.put(old.span.clone(), text);
        }
        let comment = last_comment.and_then(|at| tokens.get(at));
        let indent = match (last_comment, comment) {
            // In line with the comments that stand there alone.
            (Some(at), Some(comment)) if first_break.is_some_and(|first| first < at) => {
                indent_at(self.text, comment.span.start).to_owned()
            }
            _ => indent_at(self.text, body.close).to_owned() + self.render.style.unit.unwrap_or(UNIT),
        };
        let broken = first_break.is_some();
        let place = Place { indent: &indent, one_line: !broken, used_chars: 0 };
        let mut text = String::new();
        for (at, new) in added.iter().enumerate() {
            if broken {
                text.push_str(break_at(self.text, body.close));
                text.push_str(&indent);
            } else {
                text.push_str(if at == 0 { " " } else { self.render.gap() });
            }
            self.way.push(new.name.as_ref().map_or(Step::Index(at), |name| Step::Name(name.to_string())));
            self.render.item(new.name.as_deref(), new.value, self.render.style, &mut self.way, place, &mut text);
            self.way.pop();
            let is_last = at + 1 == added.len();
            text.push_str(if !is_last || (broken && self.render.style.trailing == Some(true)) { "," } else { "" });
        }
        let at = comment.map_or(body.open, |comment| comment.span.end);
        self.put(at..at, text);
    }
}

impl Piece<'_> {
    fn comma_before(&self) -> bool {
        match self {
            Self::Old { comma_before, .. } => *comma_before,
            Self::New(new) => new.lead.comma,
        }
    }

    fn comma_after(&self) -> bool {
        match self {
            Self::Old { comma_after, .. } => *comma_after,
            Self::New(new) => new.comma_after,
        }
    }
}

fn step(value: &Value, at: usize) -> Step {
    match &value.kind {
        Kind::Object(members) => members.get(at).map_or(Step::Index(at), |m| Step::Name(m.name.to_string())),
        _ => Step::Index(at),
    }
}
