//! The shape of the process: which threads there are, what they share, how they end.
//!
//! The only module that knows all others. Serves nothing itself.

mod check;
mod compiler;
mod control;
mod ids;
mod listeners;
mod machine;
mod online;
mod panics;
mod prober;
mod run;
mod seal;
mod systemd;
mod worker;
mod world;

pub use check::{Unreadable, check, compile_file, dry_run, read_text};
pub use online::check_online;
pub use run::{Options, random, run};
pub use seal::{NotSealed, Resealed, reseal, seal};
