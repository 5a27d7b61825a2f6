//! What the tests stand on: the gateway as a process, a caller before it, an upstream behind it.

// Each test uses a part of it.
#![allow(dead_code)]

pub mod canaries;
pub mod client;
pub mod frames;
pub mod gateway;
pub mod impair;
pub mod keys;
pub mod needs;
mod process;
pub mod proxies;
pub mod redis;
pub mod source;
pub mod strace;
pub mod suite;
pub mod upstream;

/// `KEYWAY_LONG=1`: counts of a night instead of counts of a minute.
pub fn is_long() -> bool {
    std::env::var_os("KEYWAY_LONG").is_some_and(|value| value == "1")
}
