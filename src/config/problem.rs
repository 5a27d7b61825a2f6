//! A problem of the config: what, where, and how to mend it. Never quotes a value.
//!
//! Problems are collected, not thrown: one check shows them all (CONTRACT 1, `check`).

use crate::limits::PROBLEMS_COLLECTED_MAX;

/// Machine-readable kind of a problem: stable over releases, for CI annotations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Code {
    /// Not JSON (with comments and trailing commas): the parser stopped here.
    Syntax,
    DuplicateMember,
    UnknownMember,
    WrongType,
    /// Right type, bad value: range, characters, shape.
    BadValue,
    MissingMember,
    /// A member whose feature this release does not have; parsed, never ignored.
    NotSupportedYet,
    /// Two things that must differ are the same: names, ids, list entries.
    Duplicate,
    /// Names something that does not exist: a provider, a route target.
    UnknownReference,
    /// Members that exclude or need one another.
    Conflict,
    /// A reference that resolves to nothing: variable unset, file unreadable, seal broken.
    Unresolved,
    /// Works, but probably not as meant.
    Suspicious,
    /// Old spelling that is still read.
    Deprecated,
    /// A credential stands in clear in the file.
    PlaintextSecret,
    /// The file cannot be read at all.
    Unreadable,
    /// A listener could not be bound.
    Bind,
    /// The upstream was asked, and does not vouch for this key.
    Unverified,
    /// Stands last and counts the problems that are not shown.
    TooMany,
}

impl Code {
    /// Spelling in `check --format json` and in API answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::DuplicateMember => "duplicate_member",
            Self::UnknownMember => "unknown_member",
            Self::WrongType => "wrong_type",
            Self::BadValue => "bad_value",
            Self::MissingMember => "missing_member",
            Self::NotSupportedYet => "not_supported_yet",
            Self::Duplicate => "duplicate",
            Self::UnknownReference => "unknown_reference",
            Self::Conflict => "conflict",
            Self::Unresolved => "unresolved",
            Self::Suspicious => "suspicious",
            Self::Deprecated => "deprecated",
            Self::PlaintextSecret => "plaintext_secret",
            Self::Unreadable => "unreadable",
            Self::Bind => "bind",
            Self::Unverified => "unverified",
            Self::TooMany => "too_many",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The config does not become a generation.
    Error,
    /// Shown, and nothing else.
    Warning,
}

/// One problem. `pointer` is a JSON pointer (RFC 6901) into the file; `line` and `column` count
/// from 1, columns in characters; 0 = not located (yet).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub severity: Severity,
    pub code: Code,
    pub pointer: String,
    pub line: u32,
    pub column: u32,
    /// What is wrong, in lower case, without the value.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// All problems of one config.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn error(&mut self, code: Code, pointer: impl Into<String>, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Error, code, pointer.into(), message.into())
    }

    pub fn warning(&mut self, code: Code, pointer: impl Into<String>, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Warning, code, pointer.into(), message.into())
    }

    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|p| p.severity == Severity::Error)
    }

    #[expect(clippy::indexing_slicing, reason = "the index is that of the element just put there")]
    fn push(&mut self, severity: Severity, code: Code, pointer: String, message: String) -> &mut Problem {
        let problem = Problem { severity, code, pointer, line: 0, column: 0, message, hint: None };
        let mut at = self.0.len();
        if at < PROBLEMS_COLLECTED_MAX {
            self.0.push(problem);
        } else {
            // Full: the newest gives way, but an error never to a warning, or the file would pass.
            let last_is_error = self.0.last().is_some_and(|p| p.severity == Severity::Error);
            at -= if last_is_error && severity == Severity::Warning { 2 } else { 1 };
            self.0[at] = problem;
        }
        // The element was put there on the lines above.
        &mut self.0[at]
    }
}

impl Problem {
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the place by byte instead of by pointer, until `Problems::place` has seen the text.
    /// Told apart from a place by `line` 0.
    pub(super) fn at(&mut self, offset: usize) -> &mut Self {
        self.column = u32::try_from(offset).unwrap_or(u32::MAX - 1).saturating_add(1);
        self
    }

    pub(super) fn offset(&self) -> Option<usize> {
        let unplaced = self.line == 0 && self.column > 0;
        unplaced.then(|| self.column as usize - 1)
    }
}

/// `base` extended by one member name or index, escaped by RFC 6901.
pub fn pointer_to(base: &str, segment: &str) -> String {
    format!("{base}/{}", segment.replace('~', "~0").replace('/', "~1"))
}
