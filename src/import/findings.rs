//! What an import dropped, changed or kept in clear: each with its place and its reason.

use super::source::{At, Place};
use crate::config::printable;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FindingKind {
    /// Not in the result.
    Dropped,
    /// In the result, and not the same.
    Changed,
    /// A credential that stands in clear, there as here.
    InClear,
}

impl FindingKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Changed => "changed",
            Self::InClear => "in clear",
        }
    }
}

/// One of them. The message names members and features, never a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub kind: FindingKind,
    pub place: Place,
    pub message: String,
}

/// All of them, each once.
#[derive(Clone, Default, Debug)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub fn add(&mut self, kind: FindingKind, place: Place, message: impl Into<String>) {
        let finding = Finding { kind, place, message: message.into() };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    pub fn dropped(&mut self, at: &At<'_>, why: impl Into<String>) {
        self.add(FindingKind::Dropped, at.place(), why);
    }

    pub fn changed(&mut self, at: &At<'_>, how: impl Into<String>) {
        self.add(FindingKind::Changed, at.place(), how);
    }

    /// Whether something was dropped at this very place.
    pub fn has_dropped(&self, place: &Place) -> bool {
        self.0.iter().any(|finding| finding.kind == FindingKind::Dropped && finding.place == *place)
    }

    /// How a thing was changed says nothing once all of it is dropped.
    pub fn forget_changes_in(&mut self, place: &Place) {
        let inside = |it: &Place| {
            it.pointer.strip_prefix(&*place.pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.retain(|finding| finding.kind != FindingKind::Changed || !inside(&finding.place));
    }

    pub fn count(&self, kind: FindingKind) -> usize {
        self.0.iter().filter(|finding| finding.kind == kind).count()
    }

    /// In the order of the file.
    pub fn sorted(&self) -> Vec<&Finding> {
        let mut all: Vec<&Finding> = self.0.iter().collect();
        all.sort_by_key(|finding| (finding.place.line, finding.place.column, finding.kind));
        all
    }

    /// One line each, `path:line:column:` first, so that editors can jump.
    pub fn render(&self, path: &str) -> String {
        let line = |finding: &&Finding| {
            let Finding { kind, place, message } = finding;
            let pointer = if place.pointer.is_empty() { "/" } else { &place.pointer };
            let text = format!("{path}:{}:{}: {}: {pointer}: {message}", place.line, place.column, kind.as_str());
            printable(&text) + "\n"
        };
        self.sorted().iter().map(line).collect()
    }
}
