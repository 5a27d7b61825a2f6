//! Bytes to events, sans-IO: one file per framing.

pub mod ending;
pub mod sse;
