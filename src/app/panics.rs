//! What is said of a panic: where, never what. Its message may quote what a caller or a file sent.

use std::panic::{self, PanicHookInfo};
use std::thread;

/// Puts one line into the log in place of the message that the runtime would print.
pub fn install() {
    panic::set_hook(Box::new(told));
}

fn told(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = thread::current();
    tracing::error!(place, thread = thread.name().unwrap_or("unnamed"), "a bug: the gateway panicked and goes on");
}
