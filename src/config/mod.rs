//! config.json as written: text to tree to records, every problem with its place.
//!
//! Knows JSON, comments and positions. Refuses to resolve a secret, to decide a default or to touch
//! a file: text comes in as an argument, `snapshot/compile` decides, `store` reads and writes.

pub mod compare;
pub mod edit;
pub mod file;
pub mod problem;
pub mod read;
mod record;
mod report;
mod scalar;
mod schema;
pub mod secret_ref;
pub mod suggest;
pub mod syntax;

pub use file::ConfigFile;
pub use problem::{Code, Problem, Problems, Severity};
pub use report::printable;
pub use scalar::parse_duration;
pub use schema::schema;
pub use secret_ref::SecretRef;
pub use suggest::{closest, is_showable};
pub use syntax::Tree;

use read::{FromConfig, Node};

/// A file that could be parsed: what it says, and where it says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub file: ConfigFile,
    pub tree: Tree,
}

/// Reads the whole file and reports all that is wrong with its shape.
///
/// No document: the text is not JSON, or no object. A document beside problems with errors holds
/// what could be read of it, so that the checks of `snapshot/compile` can be shown at the same
/// time; it must never be served. Callers add those problems and call [`Problems::locate`].
pub fn read(text: &str) -> (Option<Document>, Problems) {
    let mut problems = Problems::default();
    let Some(tree) = Tree::parse_on(text, &mut problems) else {
        problems.place(text, None);
        return (None, problems);
    };
    let file = ConfigFile::read(Node::root(tree.root()), &mut problems);
    problems.place(tree.text(), Some(&tree));
    (file.map(|file| Document { file, tree }), problems)
}

#[cfg(test)]
mod tests;
