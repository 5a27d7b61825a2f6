//! config.json as written: text to tree to records, every problem with its place.
//!
//! Knows JSON, comments and positions. Refuses to resolve a secret, to decide a default or to touch
//! a file: text comes in as an argument, `snapshot/compile` decides, `store` reads and writes.

pub mod file;
pub mod problem;
pub mod secret_ref;

pub use file::ConfigFile;
pub use problem::{Code, Problem, Problems, Severity};
pub use secret_ref::SecretRef;
