//! Everything that is tested from outside a module: one binary, because each costs a link.
//!
//! `support` starts the real gateway and stands on both sides of it.

// Not the gateway: a test may end by panicking and may look at its environment.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod affinity;
mod architecture;
mod attempts;
mod aws;
mod azure;
mod canary;
mod catalog;
mod cli;
mod clocks;
mod contract;
mod conventions;
mod counts;
mod crash;
mod deadlines;
mod descriptors;
mod dialects;
mod disk;
mod dispatch;
mod doors;
mod drain;
mod edits;
mod first_event;
mod framing;
mod git;
mod hostile;
mod import;
mod leaving;
mod limits;
mod management;
mod masks;
mod mcp;
mod memory;
mod modelux;
mod network;
mod online;
mod overload;
mod passthrough;
mod pools;
mod problems;
mod projects;
mod readme;
mod redeo;
mod relay;
mod reload;
mod replicas;
mod round_trip;
mod sdk;
mod seal;
mod server;
mod slips;
mod state;
mod streams;
mod support;
mod tools;
mod vertex;
