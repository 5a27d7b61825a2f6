//! A string that may be a secret, in every form that CONTRACT 2.2 names.
//!
//! Remembers which form was written and resolves nothing: a reference stays a reference until
//! `snapshot/compile` asks its `Resolve`.

use std::path::PathBuf;

use crate::secret::Secret;

/// How a secret, URL or credential is written in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretRef {
    /// `"literal"` or `{"value": "literal"}`.
    Literal(Secret),
    /// `"env.NAME"` and its object forms; holds `NAME`.
    Env(String),
    /// `{"file": "path"}`, as written; relative paths count from the config's directory.
    File(PathBuf),
    /// `sealed:v1:…`, whole.
    Sealed(String),
}
