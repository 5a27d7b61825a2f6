//! Bytes to events, sans-IO: one file per framing.

pub mod document;
pub mod ending;
pub mod eventstream;
pub mod sse;
