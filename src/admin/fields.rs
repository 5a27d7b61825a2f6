//! Bodies of the faces that do not speak in records of the file: a few members of plain types.
//!
//! A wrong type is malformed (400), a missing or impossible value is refused (422), as their
//! conventions have it. `null` says as much as an absent member, but where a face asks for the
//! difference.

use http::StatusCode;

use super::error::ApiError;
use crate::config::syntax::{Kind, Value};

/// What is said by the shape of a body alone, whatever it is about: these stay 400.
const MALFORMED: [&str; 3] = ["invalid_json", "wrong_type", "body_broken"];

/// A refusal by the conventions of these faces: 422 where the body could be read.
pub fn unprocessable(error: ApiError) -> ApiError {
    match error.status {
        StatusCode::BAD_REQUEST if !MALFORMED.contains(&error.code) => {
            ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, ..error }
        }
        _ => error,
    }
}

/// A value of a body that will not do.
pub fn invalid(field: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message).field(field)
}

/// A body with no members but known ones.
#[derive(Clone, Copy)]
pub struct Fields<'b>(&'b Value);

impl<'b> Fields<'b> {
    pub fn of(body: &'b Value, known: &[&str]) -> Result<Self, ApiError> {
        let members = super::shape::members(body);
        match members.iter().find(|member| !known.contains(&&*member.name)) {
            None => Ok(Self(body)),
            Some(unknown) => {
                let message = format!("not a member of this body; it takes {}", known.join(", "));
                let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_member", message);
                Err(error.field(&*unknown.name))
            }
        }
    }

    /// `null` counts as absent.
    pub fn value(&self, name: &str) -> Option<&'b Value> {
        self.0.member(name).map(|member| &member.value).filter(|value| !matches!(value.kind, Kind::Null))
    }

    /// The same where `null` says something of its own.
    pub fn written(&self, name: &str) -> Option<&'b Value> {
        self.0.member(name).map(|member| &member.value)
    }

    /// A text that is not empty.
    pub fn text(&self, name: &str) -> Result<Option<&'b str>, ApiError> {
        match self.value(name).map(|value| &value.kind) {
            None => Ok(None),
            Some(Kind::Text(text)) if text.trim().is_empty() => Err(invalid(name, "this is empty")),
            Some(Kind::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "a text")),
        }
    }

    pub fn required_text(&self, name: &str) -> Result<&'b str, ApiError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A whole number within bounds, however it is spelled.
    pub fn whole(&self, name: &str, max: u16) -> Result<Option<u16>, ApiError> {
        let number = match self.value(name).map(|value| &value.kind) {
            None => return Ok(None),
            Some(Kind::Number(text)) => text.parse::<f64>().unwrap_or(f64::NAN),
            Some(_) => return Err(wrong_type(name, "a whole number")),
        };
        let found = (0..=max).find(|whole| f64::from(*whole) == number);
        found.map(Some).ok_or_else(|| invalid(name, format!("a whole number from 0 to {max} goes here")))
    }
}

pub fn missing(name: &str) -> ApiError {
    let message = format!("Missing required field: {name}");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "missing_field", message).field(name)
}

pub fn wrong_type(name: &str, wanted: &str) -> ApiError {
    ApiError::bad_request("wrong_type", format!("{wanted} goes here")).field(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tree;

    #[test]
    fn table() {
        let tree = Tree::parse(r#"{"a": "x", "b": null, "c": 7, "d": "", "e": 1e1, "f": 1.5, "g": -1, "h": 1001}"#);
        let tree = tree.unwrap();
        let fields = Fields::of(tree.root(), &["a", "b", "c", "d", "e", "f", "g", "h"]).unwrap();
        let outcome = |result: Result<String, ApiError>| result.map_err(|error| (error.status.as_u16(), error.code));
        let text = |name: &str| outcome(fields.required_text(name).map(str::to_owned));
        assert_eq!(text("a"), Ok("x".into()));
        assert_eq!((text("b"), text("i")), (Err((422, "missing_field")), Err((422, "missing_field"))));
        assert_eq!((text("c"), text("d")), (Err((400, "wrong_type")), Err((422, "invalid_value"))));
        let whole = |name: &str| outcome(fields.whole(name, 1000).map(|found| format!("{found:?}")));
        assert_eq!((whole("c"), whole("e")), (Ok("Some(7)".into()), Ok("Some(10)".into())));
        assert_eq!((whole("b"), whole("i")), (Ok("None".into()), Ok("None".into())));
        assert_eq!(whole("a"), Err((400, "wrong_type")));
        for name in ["f", "g", "h"] {
            assert_eq!(whole(name), Err((422, "invalid_value")), "{name}");
        }
        let unknown = Fields::of(tree.root(), &["a"]).err().map(|error| (error.code, error.field.unwrap_or_default()));
        assert_eq!(unknown, Some(("unknown_member", "b".to_owned())));
    }
}
