//! Edits to work: which values stay, go, are replaced or added, on the tree as it is.
//!
//! Decides what changes, not how it is written. Refuses edits that overlap, for their order would
//! decide what the file says.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Edit, EditError, EditFault, NewValue, same};
use crate::config::problem::pointer_to;
use crate::config::syntax::{Kind, Member, Tree, Value};
use crate::limits::{CONFIG_DEPTH_MAX, EDIT_ALIGN_CELLS_MAX};

/// What is to be done at one value and below it.
#[derive(Default)]
pub(super) struct Work<'a> {
    pub fate: Fate<'a>,
    /// By place in the list or object.
    pub items: BTreeMap<usize, Work<'a>>,
    pub added: Vec<Added<'a>>,
    /// An edit names this very value: no other may reach into it.
    claimed: bool,
}

#[derive(Default)]
pub(super) enum Fate<'a> {
    #[default]
    Keep,
    Remove,
    Replace(&'a NewValue),
}

/// A new item or member, in front of the one that stands at `before` now.
pub(super) struct Added<'a> {
    pub before: usize,
    pub name: Option<Cow<'a, str>>,
    pub value: &'a NewValue,
}

pub(super) fn of<'a>(tree: &'a Tree, edits: &'a [Edit]) -> Result<Work<'a>, EditError> {
    let mut root = Work::default();
    for edit in edits {
        let (Edit::Set { pointer, .. } | Edit::Remove { pointer } | Edit::Append { pointer, .. }) = edit;
        if let Edit::Set { value, .. } | Edit::Append { value, .. } = edit {
            check(value, pointer, 0)?;
        }
        let fail = |fault| EditError { pointer: pointer.clone(), fault };
        match edit {
            Edit::Set { value, .. } => set(&mut root, tree, pointer, value),
            Edit::Remove { .. } => remove(&mut root, tree, pointer),
            Edit::Append { value, .. } => append(&mut root, tree, pointer, value),
        }
        .map_err(fail)?;
    }
    Ok(root)
}

/// Whether a value can be written at all.
fn check(value: &NewValue, pointer: &str, depth: usize) -> Result<(), EditError> {
    let fail = |fault| Err(EditError { pointer: pointer.to_owned(), fault });
    if depth > CONFIG_DEPTH_MAX {
        return fail(EditFault::TooDeep);
    }
    match value {
        NewValue::Secret(_) => fail(EditFault::Unsealed),
        NewValue::Number(text) if !is_number(text) => fail(EditFault::BadNumber),
        NewValue::Null | NewValue::Bool(_) | NewValue::Number(_) | NewValue::Text(_) => Ok(()),
        NewValue::List(items) => {
            items.iter().enumerate().try_for_each(|(at, item)| check(item, &format!("{pointer}/{at}"), depth + 1))
        }
        NewValue::Object(members) => {
            let mut seen = BTreeSet::new();
            members.iter().try_for_each(|(name, member)| {
                if !seen.insert(name) {
                    return fail(EditFault::DuplicateMember);
                }
                check(member, &pointer_to(pointer, name), depth + 1)
            })
        }
    }
}

/// `-? (0 | [1-9] digits) (. digits)? ([eE] [+-]? digits)?`
fn is_number(text: &str) -> bool {
    /// What follows one digit or more.
    fn after_digits(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest)
    }
    let whole = text.strip_prefix('-').unwrap_or(text);
    let rest = match whole.strip_prefix('0') {
        Some(rest) => Some(rest),
        None => after_digits(whole),
    };
    let rest = rest.and_then(|rest| rest.strip_prefix('.').map_or(Some(rest), after_digits));
    let rest = rest.and_then(|rest| {
        let Some(exponent) = rest.strip_prefix(['e', 'E']) else { return Some(rest) };
        after_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
    });
    rest == Some("")
}

/// The names or indexes on the way to a place.
fn segments(pointer: &str) -> Result<Vec<Cow<'_, str>>, EditFault> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = pointer.strip_prefix('/') else { return Err(EditFault::NotFound) };
    let plain = |segment: &'_ str| segment.replace("~1", "/").replace("~0", "~");
    Ok(rest.split('/').map(|s| if s.contains('~') { Cow::Owned(plain(s)) } else { Cow::Borrowed(s) }).collect())
}

/// Where an item or member stands in its list or object.
fn slot_of(value: &Value, segment: &str) -> Option<usize> {
    match &value.kind {
        Kind::Object(members) => members.iter().position(|m| *m.name == *segment),
        Kind::List(items) => {
            // One spelling for each index.
            segment.parse().ok().filter(|at: &usize| *at < items.len() && at.to_string() == segment)
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => None,
    }
}

/// The value in a slot.
pub(super) fn child(value: &Value, at: usize) -> Option<&Value> {
    match &value.kind {
        Kind::Object(members) => members.get(at).map(|m| &m.value),
        Kind::List(items) => items.get(at),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => None,
    }
}

/// Follows a way that must exist, through nothing that another edit has claimed.
fn follow<'w, 'a, 't>(
    root: &'w mut Work<'a>,
    tree: &'t Tree,
    way: &[Cow<'_, str>],
) -> Result<(&'w mut Work<'a>, &'t Value), EditFault> {
    let (mut work, mut value) = (root, tree.root());
    for segment in way {
        if work.claimed {
            return Err(EditFault::Overlap);
        }
        let at = slot_of(value, segment).ok_or(EditFault::NotFound)?;
        value = child(value, at).ok_or(EditFault::NotFound)?;
        work = work.items.entry(at).or_default();
    }
    Ok((work, value))
}

impl Work<'_> {
    fn claim(&mut self) -> Result<(), EditFault> {
        if self.claimed || !self.items.is_empty() || !self.added.is_empty() {
            return Err(EditFault::Overlap);
        }
        self.claimed = true;
        Ok(())
    }
}

fn set<'a>(root: &mut Work<'a>, tree: &'a Tree, pointer: &'a str, value: &'a NewValue) -> Result<(), EditFault> {
    let mut way = segments(pointer)?;
    let Some(last) = way.pop() else {
        root.claim()?;
        differ(root, tree.root(), value);
        return Ok(());
    };
    let (parent, holder) = follow(root, tree, &way)?;
    if parent.claimed {
        return Err(EditFault::Overlap);
    }
    match (slot_of(holder, &last), &holder.kind) {
        (Some(at), _) => {
            let work = parent.items.entry(at).or_default();
            work.claim()?;
            differ(work, child(holder, at).ok_or(EditFault::NotFound)?, value);
        }
        (None, Kind::Object(members)) => {
            if parent.added.iter().any(|a| a.name.as_ref() == Some(&last)) {
                return Err(EditFault::Overlap);
            }
            parent.added.push(Added { before: members.len(), name: Some(last), value });
        }
        (None, _) => return Err(EditFault::NotFound),
    }
    Ok(())
}

fn remove(root: &mut Work<'_>, tree: &Tree, pointer: &str) -> Result<(), EditFault> {
    let way = segments(pointer)?;
    if way.is_empty() {
        return Err(EditFault::Root);
    }
    let (work, _) = follow(root, tree, &way)?;
    work.claim()?;
    work.fate = Fate::Remove;
    Ok(())
}

fn append<'a>(root: &mut Work<'a>, tree: &Tree, pointer: &str, value: &'a NewValue) -> Result<(), EditFault> {
    let (work, holder) = follow(root, tree, &segments(pointer)?)?;
    let Kind::List(items) = &holder.kind else { return Err(EditFault::NotAList) };
    if work.claimed {
        return Err(EditFault::Overlap);
    }
    work.added.push(Added { before: items.len(), name: None, value });
    Ok(())
}

/// The least that makes `old` say what `new` says.
fn differ<'a>(work: &mut Work<'a>, old: &Value, new: &'a NewValue) {
    if same(old, new) {
        return;
    }
    match (&old.kind, new) {
        (Kind::Object(old), NewValue::Object(new)) if !new.is_empty() => differ_members(work, old, new),
        (Kind::List(old), NewValue::List(new)) if !new.is_empty() => differ_items(work, old, new),
        _ => work.fate = Fate::Replace(new),
    }
}

fn differ_members<'a>(work: &mut Work<'a>, old: &[Member], new: &'a [(String, NewValue)]) {
    let wanted: BTreeMap<&str, &NewValue> = new.iter().map(|(name, value)| (name.as_str(), value)).collect();
    for (at, member) in old.iter().enumerate() {
        match wanted.get(&*member.name) {
            Some(value) => differ_at(work, at, &member.value, value),
            None => work.items.entry(at).or_default().fate = Fate::Remove,
        }
    }
    let known: BTreeSet<&str> = old.iter().map(|m| &*m.name).collect();
    for (name, value) in new.iter().filter(|(name, _)| !known.contains(name.as_str())) {
        work.added.push(Added { before: old.len(), name: Some(Cow::Borrowed(name)), value });
    }
}

fn differ_at<'a>(work: &mut Work<'a>, at: usize, old: &Value, new: &'a NewValue) {
    if !same(old, new) {
        differ(work.items.entry(at).or_default(), old, new);
    }
}

fn differ_items<'a>(work: &mut Work<'a>, old: &[Value], new: &'a [NewValue]) {
    let mut pairs = aligned(old, new);
    // The end is a pair too, so that what follows the last one is treated alike.
    pairs.push((old.len(), new.len()));
    let (mut from_old, mut from_new) = (0, 0);
    for (to_old, to_new) in pairs {
        let gone = old.iter().enumerate().take(to_old).skip(from_old);
        let mut come = new.iter().take(to_new).skip(from_new).peekable();
        for (at, item) in gone {
            match come.next_if(|new| !(identity(item).is_some() && new_identity(new).is_some())) {
                Some(new) => differ_at(work, at, item, new),
                None => work.items.entry(at).or_default().fate = Fate::Remove,
            }
        }
        work.added.extend(come.map(|value| Added { before: to_old, name: None, value }));
        if let (Some(old), Some(new)) = (old.get(to_old), new.get(to_new)) {
            differ_at(work, to_old, old, new);
        }
        (from_old, from_new) = (to_old + 1, to_new + 1);
    }
}

/// What an item of a list is called, if anything: under the same name it is the same thing, changed.
fn identity(value: &Value) -> Option<&str> {
    ["id", "name"].iter().find_map(|name| match &value.member(name)?.value.kind {
        Kind::Text(text) => Some(&**text),
        _ => None,
    })
}

fn new_identity(value: &NewValue) -> Option<&str> {
    let NewValue::Object(members) = value else { return None };
    ["id", "name"].iter().find_map(|wanted| match members.iter().find(|(name, _)| name == wanted)? {
        (_, NewValue::Text(text)) => Some(text.as_str()),
        _ => None,
    })
}

fn akin(old: &Value, new: &NewValue) -> bool {
    same(old, new) || identity(old).is_some_and(|id| Some(id) == new_identity(new))
}

/// Pairs of items that are the same thing before and after, in order: the longest such row.
fn aligned(old: &[Value], new: &[NewValue]) -> Vec<(usize, usize)> {
    let head = old.iter().zip(new).take_while(|(old, new)| akin(old, new)).count();
    let (rest_old, rest_new) = (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = rest_old.iter().rev().zip(rest_new.iter().rev()).take_while(|(old, new)| akin(old, new)).count();
    let (rows, columns) = (rest_old.len() - tail, rest_new.len() - tail);
    let mut pairs: Vec<_> = (0..head).map(|at| (at, at)).collect();
    if rows.saturating_mul(columns) <= EDIT_ALIGN_CELLS_MAX {
        let middle = longest(
            rows,
            columns,
            |row, column| matches!((rest_old.get(row), rest_new.get(column)), (Some(old), Some(new)) if akin(old, new)),
        );
        pairs.extend(middle.into_iter().map(|(row, column)| (head + row, head + column)));
    }
    pairs.extend((0..tail).map(|at| (head + rows + at, head + columns + at)));
    pairs
}

/// Longest common subsequence, by the usual table.
fn longest(rows: usize, columns: usize, pair: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let width = columns + 1;
    let mut lengths = vec![0_u32; (rows + 1) * width];
    let length = |lengths: &[u32], row: usize, column: usize| lengths.get(row * width + column).copied().unwrap_or(0);
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let best = if pair(row, column) {
                1 + length(&lengths, row + 1, column + 1)
            } else {
                length(&lengths, row + 1, column).max(length(&lengths, row, column + 1))
            };
            if let Some(cell) = lengths.get_mut(row * width + column) {
                *cell = best;
            }
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while row < rows && column < columns {
        if pair(row, column) {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if length(&lengths, row + 1, column) >= length(&lengths, row, column + 1) {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}
