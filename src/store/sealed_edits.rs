//! Secrets of edits, replaced by what may be written, each with the place where it will stand.
//!
//! Knows neither keys nor providers, and seals nothing itself.

use super::ApplyError;
use crate::config::Tree;
use crate::config::edit::{Edit, NewValue};
use crate::config::problem::pointer_to;
use crate::config::syntax::Kind;
use crate::secret::Secret;

/// Says what is written for a secret at a pointer of the new file.
pub(super) type Seal<'s> = dyn FnMut(&Secret, &str) -> Result<String, ApplyError> + 's;

/// The same edits with `{"value": …}` for every secret; `None` where there is none.
pub(super) fn sealed(tree: &Tree, edits: &[Edit], seal: &mut Seal<'_>) -> Result<Option<Vec<Edit>>, ApplyError> {
    let has_secret = |edit: &Edit| match edit {
        Edit::Set { value, .. } | Edit::Append { value, .. } => holds_secret(value),
        Edit::Remove { .. } => false,
    };
    if !edits.iter().any(has_secret) {
        return Ok(None);
    }
    let mut made = Vec::with_capacity(edits.len());
    for (i, edit) in edits.iter().enumerate() {
        made.push(match edit {
            Edit::Remove { .. } => edit.clone(),
            Edit::Set { pointer, value } => Edit::Set {
                pointer: pointer.clone(),
                value: without_secrets(value, &landing(tree, edits, pointer), seal)?,
            },
            Edit::Append { pointer, value } => {
                let before = edits.iter().take(i);
                let added =
                    before.filter(|it| matches!(it, Edit::Append { pointer: list, .. } if list == pointer)).count();
                let end = place_in(tree, edits, pointer, items(tree, pointer)) + added;
                let at = pointer_to(&landing(tree, edits, pointer), &end.to_string());
                Edit::Append { pointer: pointer.clone(), value: without_secrets(value, &at, seal)? }
            }
        });
    }
    Ok(Some(made))
}

fn holds_secret(value: &NewValue) -> bool {
    match value {
        NewValue::Secret(_) => true,
        NewValue::List(items) => items.iter().any(holds_secret),
        NewValue::Object(members) => members.iter().any(|(_, value)| holds_secret(value)),
        NewValue::Null | NewValue::Bool(_) | NewValue::Number(_) | NewValue::Text(_) => false,
    }
}

fn without_secrets(value: &NewValue, pointer: &str, seal: &mut Seal<'_>) -> Result<NewValue, ApplyError> {
    Ok(match value {
        NewValue::Secret(secret) => {
            NewValue::Object(vec![("value".to_owned(), NewValue::Text(seal(secret, pointer)?))])
        }
        NewValue::List(items) => {
            let items = items.iter().enumerate();
            let made = items.map(|(i, item)| without_secrets(item, &pointer_to(pointer, &i.to_string()), seal));
            NewValue::List(made.collect::<Result<_, _>>()?)
        }
        NewValue::Object(members) => {
            let made = members
                .iter()
                .map(|(name, value)| Ok((name.clone(), without_secrets(value, &pointer_to(pointer, name), seal)?)));
            NewValue::Object(made.collect::<Result<_, ApplyError>>()?)
        }
        NewValue::Null | NewValue::Bool(_) | NewValue::Number(_) | NewValue::Text(_) => value.clone(),
    })
}

/// Where the value at `pointer` stands when all edits are made: items that go let others move up.
fn landing(tree: &Tree, edits: &[Edit], pointer: &str) -> String {
    let (mut before, mut after) = (String::new(), String::new());
    for segment in pointer.split('/').skip(1) {
        let is_item = tree.find(&before).is_some_and(|value| matches!(value.kind, Kind::List(_)));
        let place = segment.parse().ok().filter(|_| is_item).map(|at| place_in(tree, edits, &before, at));
        before = format!("{before}/{segment}");
        after = match place {
            Some(place) => format!("{after}/{place}"),
            None => format!("{after}/{segment}"),
        };
    }
    after
}

/// The new place of item `at` of a list.
fn place_in(tree: &Tree, edits: &[Edit], list: &str, at: usize) -> usize {
    let is_gone = |place: &usize| {
        let pointer = pointer_to(list, &place.to_string());
        edits.iter().any(|edit| matches!(edit, Edit::Remove { pointer: gone } if *gone == pointer))
    };
    at - (0..at.min(items(tree, list))).filter(is_gone).count()
}

fn items(tree: &Tree, list: &str) -> usize {
    match tree.find(list).map(|value| &value.kind) {
        Some(Kind::List(items)) => items.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> NewValue {
        NewValue::Secret(Secret::new(text))
    }

    /// Where each secret is said to stand, for edits of a file with three keys.
    fn places(edits: &[Edit]) -> Vec<String> {
        let tree = Tree::parse(r#"{"p": {"a/b": {"keys": [{"v": 1}, {"v": 2}, {"v": 3}]}}}"#).unwrap();
        let mut places = Vec::new();
        let made = sealed(&tree, edits, &mut |_, pointer| {
            places.push(pointer.to_owned());
            Ok(format!("sealed:v1:{pointer}"))
        });
        let Some(made) = made.unwrap() else { return places };
        let text = crate::config::edit::apply(&tree, &made).unwrap();
        let after = Tree::parse(&text).unwrap();
        for place in &places {
            // The place that was said is the place where it stands.
            let found = after.find(&format!("{place}/value")).map(|value| value.kind.clone());
            assert!(
                matches!(found, Some(Kind::Text(text)) if *text == *format!("sealed:v1:{place}")),
                "{place}\n{text}"
            );
        }
        places
    }

    #[test]
    fn every_secret_is_told_its_place() {
        let keys = "/p/a~1b/keys";
        let set = |at: &str, value| Edit::Set { pointer: format!("{keys}{at}"), value };
        let remove = |at: &str| Edit::Remove { pointer: format!("{keys}{at}") };
        let append = |value| Edit::Append { pointer: keys.to_owned(), value };
        let key = |text: &str| NewValue::Object(vec![("v".to_owned(), secret(text))]);
        for (edits, expected) in [
            (vec![set("/1/v", NewValue::Null)], vec![]),
            (vec![set("/1/v", secret("x"))], vec!["/1/v"]),
            (vec![set("/2/v", secret("x")), remove("/0")], vec!["/1/v"]),
            (vec![append(key("x"))], vec!["/3/v"]),
            (vec![append(key("x")), remove("/1"), append(key("y")), remove("/2")], vec!["/1/v", "/2/v"]),
            (vec![set("", NewValue::List(vec![NewValue::Null, key("x")]))], vec!["/1/v"]),
            (vec![set("/0/new", NewValue::List(vec![secret("x"), secret("y")]))], vec!["/0/new/0", "/0/new/1"]),
        ] {
            let expected: Vec<String> = expected.iter().map(|at| format!("{keys}{at}")).collect();
            assert_eq!(places(&edits), expected, "{edits:?}");
        }
    }

    #[test]
    fn a_refusal_ends_it() {
        let tree = Tree::parse(r#"{"a": 1}"#).unwrap();
        let edits = [Edit::Set { pointer: "/a".to_owned(), value: secret("x") }];
        let refuse = &mut |_: &Secret, _: &str| Err(ApplyError::Sealing { reason: "no key".to_owned() });
        assert!(matches!(sealed(&tree, &edits, refuse), Err(ApplyError::Sealing { .. })));
    }
}
