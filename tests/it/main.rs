//! Everything that is tested from outside a module: one binary, because each costs a link.
//!
//! `support` starts the real gateway and stands on both sides of it.

// Not the gateway: a test may end by panicking and may look at its environment.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod architecture;
mod attempts;
mod cli;
mod crash;
mod deadlines;
mod disk;
mod dispatch;
mod edits;
mod first_event;
mod git;
mod import;
mod leaving;
mod management;
mod projects;
mod readme;
mod relay;
mod reload;
mod sdk;
mod seal;
mod server;
mod streams;
mod support;
mod tools;
