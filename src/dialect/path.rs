//! The paths of a dialect, as rows: what each one asks for and where in it a model's name stands.
//!
//! A dialect lists the paths that mean something to routing; every other one is
//! [`Operation::Other`]. Rows are read from the top: the first that fits wins.

use std::ops::Range;

use super::{BodyKind, Operation};

/// One path of a dialect, below its version prefix.
#[derive(Clone, Copy, Debug)]
pub struct PathRow {
    pub method: &'static str,
    pub pattern: Pattern,
    pub operation: Operation,
    pub body: BodyKind,
    /// The path itself asks for a stream; elsewhere the body's `stream` does.
    pub streams: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// The path and nothing else.
    Exact(&'static str),
    /// The path, a slash and a model name, which may hold slashes.
    Model(&'static str),
    /// The path, a slash and whatever follows.
    Below(&'static str),
    /// Gemini: `/models/{name}:{verb}` or `/tunedModels/{name}:{verb}`. The kind belongs to the name.
    Verb(&'static str),
    /// As [`Self::Verb`], for verbs of no row: their model counts all the same.
    AnyVerb,
    /// Gemini: `/models/{name}` or `/tunedModels/{name}`, without a verb.
    Resource,
    /// What a model of Gemini has: `/models/{name}/{part}/{id}`.
    Part(&'static str),
    /// Bedrock: `/model/{id}/{word}`, the id one segment.
    Word(&'static str),
    /// As [`Self::Word`], for words of no row: their model counts all the same.
    AnyWord,
}

/// Kinds of models that Gemini's paths begin with.
const KINDS: [&str; 2] = ["/models/", "/tunedModels/"];
const MODEL: &str = "/model/";

pub(super) const fn row(method: &'static str, pattern: Pattern, operation: Operation, body: BodyKind) -> PathRow {
    PathRow { method, pattern, operation, body, streams: false }
}

impl PathRow {
    pub(super) const fn streamed(self) -> Self {
        Self { streams: true, ..self }
    }
}

impl Pattern {
    /// Whether `path` fits, and where in it the part that is not literal stands.
    pub fn fits(self, path: &str) -> Option<Range<usize>> {
        let length = path.len();
        let some = |range: Range<usize>| (!range.is_empty()).then_some(range);
        match self {
            Self::Exact(literal) => (path == literal).then_some(length..length),
            Self::Model(literal) | Self::Below(literal) => {
                path.strip_prefix(literal)?.strip_prefix('/')?;
                some(literal.len() + 1..length)
            }
            Self::Verb(verb) => {
                let end = path.strip_suffix(verb)?.strip_suffix(':')?.len();
                Self::named(path, end).then_some(1..end)
            }
            Self::AnyVerb => {
                let end = path.rfind(':')?;
                Self::named(path, end).then_some(1..end)
            }
            Self::Resource => (Self::named(path, length) && !has_colon(path)).then_some(1..length),
            Self::Part(part) => {
                let (before, id) = path.rsplit_once('/')?;
                let end = before.strip_suffix(part)?.strip_suffix('/')?.len();
                (Self::named(path, end) && !id.is_empty()).then_some(1..end)
            }
            Self::Word(_) | Self::AnyWord => {
                let (id, word) = path.strip_prefix(MODEL)?.split_once('/')?;
                let fits = match self {
                    Self::Word(wanted) => word == wanted,
                    _ => !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'),
                };
                some(MODEL.len()..MODEL.len() + id.len()).filter(|_| fits)
            }
        }
    }

    /// Whether the part that is not literal is a model's name.
    pub fn has_model(self) -> bool {
        match self {
            Self::Exact(_) | Self::Below(_) => false,
            Self::Model(_)
            | Self::Verb(_)
            | Self::AnyVerb
            | Self::Resource
            | Self::Part(_)
            | Self::Word(_)
            | Self::AnyWord => true,
        }
    }

    /// The kind, a slash, and a name up to `end`.
    fn named(path: &str, end: usize) -> bool {
        KINDS.iter().any(|kind| path.starts_with(kind) && end > kind.len())
    }
}

/// Whether a colon stands in a path, in clear or escaped: to a server that decodes first, what follows
/// it is a verb.
fn has_colon(path: &str) -> bool {
    path.contains(':') || path.as_bytes().windows(3).any(|escape| escape.eq_ignore_ascii_case(b"%3a"))
}

#[cfg(test)]
impl Pattern {
    /// A path that fits.
    pub fn example(self) -> String {
        match self {
            Self::Exact(path) => path.to_owned(),
            Self::Model(path) | Self::Below(path) => format!("{path}/some"),
            Self::Verb(verb) => format!("/models/some:{verb}"),
            Self::AnyVerb => "/models/some:other".to_owned(),
            Self::Resource => "/models/some".to_owned(),
            Self::Part(part) => format!("/models/some/{part}/other"),
            Self::Word(word) => format!("/model/some/{word}"),
            Self::AnyWord => "/model/some/other".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::*;

    #[test]
    fn what_fits() {
        for (pattern, path, found) in [
            (Pattern::Exact("/messages"), "/messages", Some("")),
            (Pattern::Exact("/messages"), "/messages/x", None),
            (Pattern::Below("/files"), "/files/a/content", Some("a/content")),
            (Pattern::Below("/files"), "/files", None),
            (Pattern::Below("/files"), "/files/", None),
            (Pattern::Below("/files"), "/filesx", None),
            (Pattern::Model("/models"), "/models/a/b", Some("a/b")),
            (Pattern::Verb("embedContent"), "/models/a:embedContent", Some("models/a")),
            (Pattern::Verb("embedContent"), "/models/p/a:b:embedContent", Some("models/p/a:b")),
            (Pattern::Verb("embedContent"), "/tunedModels/a:embedContent", Some("tunedModels/a")),
            (Pattern::Verb("embedContent"), "/models/:embedContent", None),
            (Pattern::Verb("embedContent"), "/models/a:batchembedContent", None),
            (Pattern::Verb("embedContent"), "/files/a:embedContent", None),
            (Pattern::Resource, "/models/a", Some("models/a")),
            (Pattern::Resource, "/models/a:countTokens", None),
            (Pattern::Resource, "/models/", None),
            (Pattern::Resource, "/models/a%3acountTokens", None),
            (Pattern::Resource, "/models/a%3AcountTokens", None),
            (Pattern::AnyVerb, "/models/a:someVerb", Some("models/a")),
            (Pattern::AnyVerb, "/models/a", None),
            (Pattern::AnyVerb, "/models/:x", None),
            (Pattern::Part("operations"), "/models/a/operations/o1", Some("models/a")),
            (Pattern::Part("operations"), "/models/a/b/operations/o1", Some("models/a/b")),
            (Pattern::Part("operations"), "/models/operations/o1", None),
            (Pattern::Part("operations"), "/models/a/operations", None),
            (Pattern::Word("converse"), "/model/a%2Fb%3A0/converse", Some("a%2Fb%3A0")),
            (Pattern::Word("converse"), "/model/a/converse-stream", None),
            (Pattern::Word("converse"), "/model/a/b/converse", None),
            (Pattern::Word("converse"), "/model//converse", None),
            (Pattern::Word("converse"), "/model/converse", None),
            (Pattern::AnyWord, "/model/a%2Fb/some-word", Some("a%2Fb")),
            (Pattern::AnyWord, "/model/a/b/c", None),
            (Pattern::AnyWord, "/model/a/b%2Fc", None),
            (Pattern::AnyWord, "/model/a/", None),
        ] {
            let fit = pattern.fits(path).map(|range| &path[range]);
            assert_eq!(fit, found, "{pattern:?} {path}");
        }
    }

    #[test]
    fn rows_do_not_shadow_each_other() {
        for dialect in Dialect::ALL {
            let paths = dialect.paths();
            for (index, row) in paths.iter().enumerate() {
                let same = |other: &&PathRow| other.method == row.method && other.pattern == row.pattern;
                assert_eq!(paths.iter().filter(same).count(), 1, "{} {:?}", row.method, row.pattern);
                let path = row.pattern.example();
                let first =
                    paths.iter().position(|other| other.method == row.method && other.pattern.fits(&path).is_some());
                assert_eq!(first, Some(index), "{} {path}", row.method);
                assert!(path.starts_with('/') && !path.ends_with('/'), "{path}");
            }
        }
    }
}
