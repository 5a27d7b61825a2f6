//! What the tests stand on: the gateway as a process, a caller before it, an upstream behind it.

// Each test uses a part of it.
#![allow(dead_code)]

pub mod client;
pub mod gateway;
pub mod keys;
pub mod needs;
pub mod source;
pub mod strace;
pub mod upstream;
