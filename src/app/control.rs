//! The control thread: runs the writer, hears the signals, waits for the workers.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::machine;
use super::run::Running;
use super::systemd;
use crate::store::Command;

/// What signals ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Reload,
    /// With the number of the signal.
    Stop(i32),
}

/// The signals that are heard. Made before the first address is announced: until then a SIGHUP
/// would end the process, and whoever reads the address may send one.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Inside a runtime.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop(SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => Asked::Stop(SignalKind::interrupt().as_raw_value()),
        }
    }
}

/// Serves until a signal, then drains: readiness fails, listeners close, streams finish within
/// `server.drain_seconds`. A second signal ends the process at once with 128 + its number.
pub fn until_drained(running: Running) -> ExitCode {
    let Running { runtime, mut signals, writer, store, commands, inbox, keeper, drain, draining, log, .. } = running;
    let (workers, state, mut ended, overload) = (running.workers, running.state, running.ended, running.overload);
    runtime.block_on(async move {
        systemd::ready();
        super::run::gather_entropy();
        // Ends with this block: requests that drain may still need a token.
        let mut keeping = JoinSet::new();
        keeping.spawn(keeper.run());
        let mut writing = Box::pin(writer.run(inbox));
        let mut memory = Box::pin(machine::watch_memory(overload.memory_room, overload.in_flight));
        loop {
            tokio::select! {
                never = &mut memory => match never {},
                () = &mut writing => {
                    tracing::error!("the writer has ended");
                    break;
                }
                asked = signals.next() => match asked {
                    Asked::Reload => reload(&commands),
                    Asked::Stop(_) => break,
                },
            }
        }
        draining.store(true, Ordering::Release);
        // The writer's own handles of the listening sockets would keep them open.
        drop(writing);
        systemd::stopping();
        let bound = store.load().server.drain;
        tracing::info!(bound_seconds = bound.as_secs(), "draining");
        drain.begin(bound);
        for _ in 0..workers.len() {
            tokio::select! {
                _ = ended.recv() => {}
                number = stop(&mut signals) => {
                    log.flush();
                    end_now(number);
                }
            }
        }
        let cut: usize = workers.into_iter().filter_map(|worker| worker.join().ok()).map(|drained| drained.cut).sum();
        state.close();
        tracing::info!(connections_cut = cut, "drained");
        ExitCode::SUCCESS
    })
}

fn reload(commands: &tokio::sync::mpsc::Sender<Command>) {
    systemd::reloading();
    if commands.try_send(Command::Reload { reply: None }).is_err() {
        tracing::warn!("the writer is busy; the file is looked at all the same");
    }
    systemd::ready();
}

/// The next signal to stop; reloads are over.
async fn stop(signals: &mut Signals) -> i32 {
    loop {
        if let Asked::Stop(number) = signals.next().await {
            return number;
        }
    }
}

/// Streams are cut: that is what a second signal asks for.
#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "the second signal asks for an end without waiting for anything"
)]
fn end_now(number: i32) -> ! {
    std::process::exit(128 + number)
}
