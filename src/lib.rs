//! keyway: an LLM gateway that lives beside an application.
//!
//! `config.json` is parsed and compiled into an immutable snapshot; one writer owns the file and
//! swaps the snapshot; workers serve requests from it without a lock, a file or a blocking call.
//! The map of the modules and who may import whom stand in ARCHITECTURE.md.

#![forbid(unsafe_code)]
// The bans of clippy.toml are about the gateway: a test may spawn its counterpart and read its environment.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod admin;
pub mod app;
pub mod base64url;
pub mod budget;
pub mod chunks;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod dispatch;
pub mod error;
pub mod hash;
pub mod health;
pub mod id;
pub mod identity;
pub mod import;
pub mod limits;
pub mod mock;
pub mod permit;
pub mod project;
pub mod provider;
pub mod proxy;
pub mod rate;
pub mod router;
pub mod secret;
pub mod server;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod ticks;
pub mod token;
pub mod upstream;
pub mod weight;
