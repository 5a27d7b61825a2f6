//! Edits by table.

use super::*;
use crate::config::Tree;

/// A JSON text as a value to be written.
fn new(text: &str) -> NewValue {
    NewValue::from(Tree::parse(text).unwrap().root())
}

fn set(pointer: &str, value: &str) -> Edit {
    Edit::Set { pointer: pointer.to_owned(), value: new(value) }
}

fn remove(pointer: &str) -> Edit {
    Edit::Remove { pointer: pointer.to_owned() }
}

fn append(pointer: &str, value: &str) -> Edit {
    Edit::Append { pointer: pointer.to_owned(), value: new(value) }
}

#[track_caller]
fn check(text: &str, edits: &[Edit], expected: &str) {
    let tree = Tree::parse(text).unwrap();
    let made = apply(&tree, edits).unwrap();
    assert_eq!(made, expected, "\n--- made\n{made}\n--- expected\n{expected}");
    Tree::parse(&made).unwrap();
}

#[test]
fn scalars_in_place() {
    check(r#"{"a": 1, "b": 2}"#, &[set("/a", "3")], r#"{"a": 3, "b": 2}"#);
}
