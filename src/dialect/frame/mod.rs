//! Bytes to events, sans-IO: one file per framing.

pub mod sse;
