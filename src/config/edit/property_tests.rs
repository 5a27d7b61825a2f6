//! Random files and random edits: the file says what was asked for, and nothing else has moved.
//!
//! What is expected is worked out here by bytes, by lines and on `serde_json`'s values, not with the
//! code under test.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::config::problem::pointer_to;

/// Writes a random file.
struct Writer {
    dice: fastrand::Rng,
    out: String,
    /// Values that may still be written.
    left: u32,
    comments: u32,
    manner: Manner,
}

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// White space, line breaks and comments anywhere.
    Wild,
    /// As people write: a container stands on one line, or each of its items does.
    Lines { unit: &'static str, colon: &'static str, gap: &'static str },
}

fn file(seed: u64, size: u32, wild: bool) -> String {
    let mut dice = fastrand::Rng::with_seed(seed);
    let manner = if wild {
        Manner::Wild
    } else {
        let unit = dice.choice(["  ", "    ", "\t"]).unwrap();
        let colon = dice.choice([": ", ":", " : "]).unwrap();
        Manner::Lines { unit, colon, gap: dice.choice([" ", ""]).unwrap() }
    };
    let bom = dice.bool();
    let crlf = dice.bool();
    let mut writer = Writer { dice, out: String::new(), left: size, comments: 0, manner };
    writer.trivia(0);
    writer.container(0, false);
    writer.trivia(0);
    let text = if crlf { writer.out.replace('\n', "\r\n") } else { writer.out };
    if bom { format!("\u{feff}{text}") } else { text }
}

impl Writer {
    fn odds(&mut self, one_in: u32) -> bool {
        self.dice.u32(0..one_in) == 0
    }

    fn comment(&mut self, to_line_end: bool) {
        self.comments += 1;
        let body = self.dice.choice(["", ",", " \"x\": [1, 2], }", " \\\" //", "{", "é"]).unwrap();
        let number = self.comments;
        self.out += &if to_line_end { format!("// c{number}.{body}") } else { format!("/* c{number}.{body} */") };
    }

    /// Anything that may stand between two tokens of a wild file.
    fn trivia(&mut self, more: u32) {
        if self.manner != Manner::Wild {
            return;
        }
        for _ in 0..self.dice.u32(0..3 + more) {
            match self.dice.u32(0..9) {
                0..3 => self.out.push(' '),
                3 => self.out.push('\t'),
                4..6 => self.out.push('\n'),
                6 => self.comment(false),
                7 => self.out += "/* c0.\n second line */",
                _ => {
                    self.comment(true);
                    self.out.push('\n');
                }
            }
        }
    }

    fn value(&mut self, depth: usize, one_line: bool) {
        self.left = self.left.saturating_sub(1);
        if depth < 5 && self.left > 0 && !self.odds(3) {
            return self.container(depth, one_line);
        }
        let scalar =
            ["1", "1.0", "-0.50", "1e2", "\"x\"", "\"a,]}// \\\" \\u0041\"", "\"\"", "true", "null", "\"ключ\""];
        self.out += self.dice.choice(scalar).unwrap();
    }

    fn container(&mut self, depth: usize, one_line: bool) {
        let object = self.dice.bool();
        let (open, close) = if object { ('{', '}') } else { ('[', ']') };
        let count = if self.odds(6) { 0 } else { self.dice.u32(1..5) };
        let one_line = one_line || self.odds(3);
        let comma_at_end = count > 0 && self.odds(2);
        let pad = !one_line || self.odds(3);
        self.out.push(open);
        for at in 0..count {
            self.before_item(depth + 1, at == 0, one_line, pad);
            if object {
                self.out += &format!("\"m{at}\"");
                self.trivia(0);
                self.out += if let Manner::Lines { colon, .. } = self.manner { colon } else { ":" };
                self.trivia(0);
            }
            self.value(depth + 1, one_line);
            self.trivia(0);
            if at + 1 < count || comma_at_end {
                self.out.push(',');
            }
            if self.manner != Manner::Wild && !one_line && self.odds(4) {
                let line = self.dice.bool();
                self.out.push(' ');
                self.comment(line);
            }
        }
        self.end(depth, one_line, pad && count > 0);
        self.out.push(close);
    }

    fn before_item(&mut self, depth: usize, first: bool, one_line: bool, pad: bool) {
        let Manner::Lines { unit, gap, .. } = self.manner else { return self.trivia(1) };
        if one_line {
            self.out += if first { if pad { " " } else { "" } } else { gap };
            return;
        }
        let indent = format!("\n{}", unit.repeat(depth));
        if first && self.odds(6) {
            self.out.push(' ');
            self.comment(true);
        }
        if self.odds(8) {
            self.out += &indent;
            self.comment(true);
            self.out += "\n";
        }
        for _ in 0..2 {
            if self.odds(6) {
                self.out += &indent;
                let line = self.dice.bool();
                self.comment(line);
            }
        }
        self.out += &indent;
    }

    fn end(&mut self, depth: usize, one_line: bool, pad: bool) {
        let Manner::Lines { unit, .. } = self.manner else { return self.trivia(1) };
        if one_line {
            self.out += if pad { " " } else { "" };
            return;
        }
        if self.odds(6) {
            self.out += &format!("\n{}", unit.repeat(depth + 1));
            self.comment(true);
        }
        self.out += &format!("\n{}", unit.repeat(depth));
    }
}

fn json(value: &Value) -> Json {
    match &value.kind {
        Kind::Null => Json::Null,
        Kind::Bool(value) => Json::from(*value),
        Kind::Number(text) => Json::from(text.parse::<f64>().unwrap()),
        Kind::Text(text) => Json::from(&**text),
        Kind::List(items) => items.iter().map(json).collect(),
        Kind::Object(members) => members.iter().map(|m| (m.name.to_string(), json(&m.value))).collect(),
    }
}

fn parsed(text: &str) -> Tree {
    Tree::parse(text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

fn json_new(value: &NewValue) -> Json {
    match value {
        NewValue::Null | NewValue::Secret(_) => Json::Null,
        NewValue::Bool(value) => Json::from(*value),
        NewValue::Number(text) => Json::from(text.parse::<f64>().unwrap()),
        NewValue::Text(text) => Json::from(text.as_str()),
        NewValue::List(items) => items.iter().map(json_new).collect(),
        NewValue::Object(members) => members.iter().map(|(n, m)| (n.clone(), json_new(m))).collect(),
    }
}

/// Every place of a tree with the bytes of its item, its name included.
fn places(value: &Value, pointer: &str, whole: Range<usize>, out: &mut Vec<(String, Range<usize>, Kind)>) {
    out.push((pointer.to_owned(), whole, value.kind.clone()));
    match &value.kind {
        Kind::List(items) => {
            for (at, item) in items.iter().enumerate() {
                places(item, &format!("{pointer}/{at}"), item.span.clone(), out);
            }
        }
        Kind::Object(members) => {
            for m in members {
                places(&m.value, &pointer_to(pointer, &m.name), m.name_span.start..m.value.span.end, out);
            }
        }
        _ => {}
    }
}

fn all_places(tree: &Tree) -> Vec<(String, Range<usize>, Kind)> {
    let mut out = Vec::new();
    places(tree.root(), "", tree.root().span.clone(), &mut out);
    out
}

fn some_value(dice: &mut fastrand::Rng, depth: u32) -> NewValue {
    match dice.u32(0..if depth > 2 { 5 } else { 8 }) {
        0 => NewValue::Null,
        1 => NewValue::Bool(dice.bool()),
        2 => NewValue::Number(dice.choice(["1", "1.00", "7", "-2.5e3"]).unwrap().to_owned()),
        3 | 4 => NewValue::text(dice.choice(["x", "new \" // é", "ключ"]).unwrap()),
        5 => NewValue::List((0..dice.u32(0..4)).map(|_| some_value(dice, depth + 1)).collect()),
        _ => NewValue::Object((0..dice.u32(0..4)).map(|at| (format!("m{at}"), some_value(dice, depth + 1))).collect()),
    }
}

/// A value like the one that is there, with a change here and there.
fn changed(dice: &mut fastrand::Rng, value: NewValue) -> NewValue {
    match value {
        _ if dice.u32(0..6) == 0 => some_value(dice, 2),
        NewValue::List(items) => {
            let mut items: Vec<_> = items.into_iter().map(|item| changed(dice, item)).collect();
            match dice.u32(0..4) {
                0 if !items.is_empty() => drop(items.remove(dice.usize(0..items.len()))),
                1 => items.insert(dice.usize(0..=items.len()), some_value(dice, 1)),
                _ => {}
            }
            NewValue::List(items)
        }
        NewValue::Object(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(name, m)| (name, changed(dice, m))).collect();
            match dice.u32(0..4) {
                0 if !members.is_empty() => drop(members.remove(dice.usize(0..members.len()))),
                1 => members.push(("n".to_owned(), some_value(dice, 1))),
                _ => {}
            }
            NewValue::Object(members)
        }
        scalar => scalar,
    }
}

fn some_edit(dice: &mut fastrand::Rng, tree: &Tree) -> Edit {
    let places = all_places(tree);
    loop {
        let (pointer, _, kind) = dice.choice(&places).unwrap().clone();
        let number = dice.u32(0..100);
        match (dice.u32(0..5), &kind) {
            (0, Kind::List(_)) => return Edit::Append { pointer, value: some_value(dice, 0) },
            (0, Kind::Object(_)) => {
                return Edit::Set {
                    pointer: pointer_to(&pointer, &format!("new{number}")),
                    value: some_value(dice, 0),
                };
            }
            (1, _) => return Edit::Set { pointer, value: some_value(dice, 0) },
            (2, _) => {
                let value = changed(dice, NewValue::from(tree.find(&pointer).unwrap()));
                return Edit::Set { pointer, value };
            }
            (3 | 4, _) if !pointer.is_empty() => return Edit::Remove { pointer },
            _ => {}
        }
    }
}

fn split(pointer: &str) -> (&str, &str) {
    pointer.rsplit_once('/').unwrap()
}

/// The edits on plain values: first all that does not shift an index, then removals from the end.
fn expected(tree: &Tree, edits: &[Edit]) -> Json {
    let mut whole = json(tree.root());
    for edit in edits {
        match edit {
            Edit::Set { pointer, value } => match whole.pointer_mut(pointer) {
                Some(there) => *there = json_new(value),
                None => {
                    let (parent, name) = split(pointer);
                    whole.pointer_mut(parent).unwrap()[name] = json_new(value);
                }
            },
            Edit::Append { pointer, value } => {
                whole.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(json_new(value));
            }
            Edit::Remove { .. } => {}
        }
    }
    let mut gone: Vec<&str> =
        edits.iter().filter_map(|e| if let Edit::Remove { pointer } = e { Some(&**pointer) } else { None }).collect();
    gone.sort_by_key(|pointer| {
        std::cmp::Reverse((pointer.matches('/').count(), split(pointer).1.parse::<usize>().ok()))
    });
    for pointer in gone {
        let (parent, name) = split(pointer);
        match whole.pointer_mut(parent).unwrap() {
            Json::Array(items) => drop(items.remove(name.parse().unwrap())),
            Json::Object(members) => drop(members.remove(name)),
            _ => unreachable!(),
        }
    }
    whole
}

fn bytes_of(tree: &Tree, pointer: &str) -> Option<Range<usize>> {
    all_places(tree).into_iter().find(|(p, _, _)| p == pointer).map(|(_, whole, _)| whole)
}

/// `long` is `short` with one piece put in: that piece.
fn put_in<'a>(short: &str, long: &'a str) -> Option<&'a str> {
    let grown = long.len().checked_sub(short.len())?;
    let same = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    let start = (0..=same).rev().find(|at| long.get(at + grown..) == short.get(*at..) && long.is_char_boundary(*at))?;
    long.get(start..start + grown)
}

/// What stands between values, with comments taken out: white space and commas.
fn is_trivia(text: &str) -> bool {
    body::trivia(text, 0..text.len())
        .iter()
        .all(|t| text[t.span.clone()].trim().is_empty() || t.is_comment() || &text[t.span.clone()] == ",")
}

/// One edit, byte by byte.
fn untouched(tree: &Tree, edit: &Edit, made: &str) {
    let text = tree.text();
    let count = |pointer: &str| match &tree.find(pointer).unwrap().kind {
        Kind::List(items) => items.len(),
        Kind::Object(members) => members.len(),
        _ => unreachable!(),
    };
    let child = |parent: &str, at: usize| match &tree.find(parent).unwrap().kind {
        Kind::List(items) => items[at].span.clone(),
        Kind::Object(members) => members[at].name_span.start..members[at].value.span.end,
        _ => unreachable!(),
    };
    let added = |parent: &str| {
        let count = count(parent);
        if count == 0 {
            // All but the inside of the brackets stays.
            let span = tree.find(parent).unwrap().span.clone();
            assert!(made.starts_with(&text[..=span.start]) && made.ends_with(&text[span.end - 1..]));
            return;
        }
        // At most a comma behind the last item, and one piece somewhere behind it.
        let end = child(parent, count - 1).end;
        let rest = made.strip_prefix(&text[..end]).expect("what is before it stays");
        let plain = put_in(&text[end..], rest);
        let comma = rest.strip_prefix(',').and_then(|rest| put_in(&text[end..], rest));
        assert!(plain.is_some() || comma.is_some(), "{text}\n---\n{made}");
    };
    match edit {
        Edit::Append { pointer, .. } => added(pointer),
        Edit::Set { pointer, .. } if tree.find(pointer).is_none() => added(split(pointer).0),
        Edit::Set { pointer, .. } => {
            let span = tree.find(pointer).unwrap().span.clone();
            assert!(made.starts_with(&text[..span.start]) && made.ends_with(&text[span.end..]));
        }
        Edit::Remove { pointer } => {
            let (parent, _) = split(pointer);
            let whole = bytes_of(tree, pointer).unwrap();
            let at = (0..count(parent)).find(|at| child(parent, *at) == whole).unwrap();
            let holder = tree.find(parent).unwrap().span.clone();
            let from = if at == 0 { holder.start + 1 } else { child(parent, at - 1).end };
            let to = if at + 1 == count(parent) { holder.end - 1 } else { child(parent, at + 1).start };
            assert!(made.starts_with(&text[..from]), "{text}\n---\n{made}");
            assert!(made.ends_with(&text[to..]), "{text}\n---\n{made}");
            let left = &made[from..made.len() - (text.len() - to)];
            assert!(is_trivia(left), "{left}");
            // Comments that stay are whole, and in order.
            let mut gap = format!("{}\0{}", &text[from..whole.start], &text[whole.end..to]);
            for comment in body::trivia(left, 0..left.len()).iter().filter(|t| t.is_comment()) {
                let (_, rest) =
                    gap.split_once(&left[comment.span.clone()]).unwrap_or_else(|| panic!("{text}\n---\n{made}"));
                gap = rest.to_owned();
            }
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

/// Lines that an edit is about: those of its item, of the comments above it, and, where a comma has
/// to come or go, the last line of the item before it.
fn lines_about(tree: &Tree, pointer: &str, lines: &[&str], about: &mut BTreeSet<usize>) {
    let text = tree.text();
    let is_comment = |at: usize| lines[at].trim_start().starts_with(['/']);
    let Some(whole) = bytes_of(tree, pointer) else { return };
    let mut first = line_of(text, whole.start);
    about.extend(first..=line_of(text, whole.end));
    while first > 0 && is_comment(first - 1) {
        first -= 1;
        about.insert(first);
    }
    if !pointer.is_empty() {
        let (parent, _) = split(pointer);
        last_line_about(tree, parent, about);
    }
}

fn last_line_about(tree: &Tree, parent: &str, about: &mut BTreeSet<usize>) {
    let Some(holder) = tree.find(parent) else { return };
    let ends: Vec<usize> = match &holder.kind {
        Kind::List(items) => items.iter().map(|v| v.span.end).collect(),
        Kind::Object(members) => members.iter().map(|m| m.value.span.end).collect(),
        _ => return,
    };
    // Any of them may be the last one once others are gone.
    about.extend(ends.iter().map(|end| line_of(tree.text(), *end)));
    if ends.is_empty() {
        about.extend(line_of(tree.text(), holder.span.start)..=line_of(tree.text(), holder.span.end));
    }
}

fn is_subsequence<'a>(short: impl IntoIterator<Item = &'a str>, long: impl IntoIterator<Item = &'a str>) -> bool {
    let mut long = long.into_iter();
    short.into_iter().all(|line| long.any(|other| other == line))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the file looks like and whatever is asked for, the result says just that.
    #[test]
    fn the_result_says_what_was_asked_for(seed: u64, size in 0_u32..40, count in 1_usize..6, wild: bool) {
        let text = file(seed, size, wild);
        let tree = parsed(&text);
        let mut dice = fastrand::Rng::with_seed(!seed);
        let edits: Vec<Edit> = (0..count).map(|_| some_edit(&mut dice, &tree)).collect();
        match apply(&tree, &edits) {
            Ok(made) => prop_assert_eq!(json(parsed(&made).root()), expected(&tree, &edits), "{:?}\n{}\n---\n{}", &edits, &text, &made),
            Err(error) => prop_assert_eq!(error.fault, EditFault::Overlap),
        }
    }

    /// Every byte outside one edit is as it was.
    #[test]
    fn every_other_byte_stays(seed: u64, size in 0_u32..40, wild: bool) {
        let text = file(seed, size, wild);
        let tree = parsed(&text);
        let edit = some_edit(&mut fastrand::Rng::with_seed(!seed), &tree);
        let made = apply(&tree, std::slice::from_ref(&edit)).unwrap();
        untouched(&tree, &edit, &made);
        // Asked again, it is done already.
        if let Edit::Set { .. } = &edit {
            let again = apply(&parsed(&made), std::slice::from_ref(&edit)).unwrap();
            prop_assert_eq!(again, made);
        }
    }

    /// Writing what is there writes nothing.
    #[test]
    fn what_is_there_already_changes_nothing(seed: u64, size in 0_u32..20, wild: bool) {
        let text = file(seed, size, wild);
        let tree = parsed(&text);
        for (pointer, _, _) in all_places(&tree) {
            let value = NewValue::from(tree.find(&pointer).unwrap());
            prop_assert_eq!(apply(&tree, &[Edit::Set { pointer, value }]).unwrap(), &*text);
        }
    }

    /// Where each item has its line, a diff shows the lines of the edited ones alone.
    #[test]
    fn a_diff_shows_only_the_edited_lines(seed: u64, size in 0_u32..40, count in 1_usize..4) {
        let text = file(seed, size, false);
        let tree = parsed(&text);
        let mut dice = fastrand::Rng::with_seed(!seed);
        let edits: Vec<Edit> = (0..count).map(|_| some_edit(&mut dice, &tree)).collect();
        let Ok(made) = apply(&tree, &edits) else { return Ok(()) };
        let lines: Vec<&str> = text.split('\n').collect();
        let mut about = BTreeSet::new();
        for edit in &edits {
            match edit {
                Edit::Append { pointer, .. } => last_line_about(&tree, pointer, &mut about),
                Edit::Set { pointer, .. } if tree.find(pointer).is_none() => {
                    last_line_about(&tree, split(pointer).0, &mut about);
                }
                Edit::Set { pointer, .. } | Edit::Remove { pointer } => {
                    lines_about(&tree, pointer, &lines, &mut about);
                }
            }
        }
        let others = lines.iter().enumerate().filter(|(at, _)| !about.contains(at)).map(|(_, line)| *line);
        prop_assert!(is_subsequence(others, made.split('\n')), "{:?}\n{}\n---\n{}", &edits, &text, &made);
        // What was whole lines leaves no half ones.
        let odd = |text: &str| text.split('\n').filter(|line| line.trim_end_matches('\r').ends_with([' ', '\t'])).count();
        prop_assert_eq!(odd(&text), odd(&made), "{:?}\n{}\n---\n{}", &edits, &text, &made);
    }
}
