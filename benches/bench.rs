//! keyway against a bare hyper proxy: CPU per request and per stream event, in one run.
//!
//! One process holds the upstream and the load generator and stays on core 0; the gateway under
//! test has core 1 to itself. Rounds alternate between the two gateways, because the speed of a
//! machine drifts; what carries over to another machine is the ratio, never the microseconds.
//! A window with a failed request, or a closed-loop window in which the gateway's core was not
//! busy, says nothing: it is thrown away, said so, and taken again.
//!
//! `make bench`, or `cargo bench --bench bench -- [--all] [--only WORDS] [--rounds N] [--seconds N]
//! [--bare-only] [--busy PERCENT]`. A lower `--busy` gives rough ratios on a machine that others use too.

// Not the gateway: a bench ends by panicking.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod bare;
mod cases;
mod load;
mod origin;
mod process;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use cases::Case;
use load::{Load, Window};
use origin::Origin;
use process::{Gateway, Kind};
use table::Table;

/// The load generator's core and the gateway's.
const LOAD_CORE: usize = 0;
const GATEWAY_CORE: usize = 1;

/// Below this share of its core, in per cent, a gateway was waiting for the load generator (or for
/// another process), and its CPU time holds wake-ups that a saturated one does not have.
const BUSY_MIN_PERCENT: usize = 90;

/// Windows of one round that may be thrown away before the case is given up.
const ATTEMPTS_MAX: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, upstream] = arguments.as_slice()
        && role == "bare"
    {
        bare::run(upstream.parse().expect("HOST:PORT of the upstream"));
        return ExitCode::SUCCESS;
    }
    let options = Options::read(&arguments);
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("not run: needs 2 cores");
        return ExitCode::from(u8::from(std::env::var_os("KEYWAY_REQUIRE_ALL").is_some()));
    }
    process::pin(LOAD_CORE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if runtime.block_on(run(&options)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Options {
    rounds: usize,
    window: Duration,
    all: bool,
    only: Option<String>,
    bare_only: bool,
    busy_min: f64,
}

impl Options {
    fn read(arguments: &[String]) -> Self {
        let number = |name: &str, default: usize| {
            let at = arguments.iter().position(|argument| argument == name);
            at.map_or(default, |at| arguments[at + 1].parse().unwrap_or_else(|_| panic!("{name} NUMBER")))
        };
        let only = arguments.iter().position(|argument| argument == "--only").map(|at| arguments[at + 1].clone());
        let flag = |name: &str| arguments.iter().any(|argument| argument == name);
        Self {
            rounds: number("--rounds", 3),
            window: Duration::from_secs(u64::try_from(number("--seconds", 5)).unwrap()),
            all: flag("--all"),
            only,
            bare_only: flag("--bare-only"),
            busy_min: number("--busy", BUSY_MIN_PERCENT) as f64 / 100.0,
        }
    }
}

impl Options {
    fn wants(&self, case: &Case) -> bool {
        self.only.as_ref().map_or(self.all || case.by_default, |words| case.name.contains(words.as_str()))
    }
}

/// All cases; false when one of them has no figure.
async fn run(options: &Options) -> bool {
    let origin = Origin::start().await;
    let bare = Gateway::start(Kind::Bare, origin.address());
    let keyway = (!options.bare_only).then(|| Gateway::start(Kind::Keyway, origin.address()));
    println!(
        "core {LOAD_CORE}: upstream and load; core {GATEWAY_CORE}: the gateway. {} rounds of {} s in alternation, medians.",
        options.rounds,
        options.window.as_secs()
    );
    println!("CPU: user + system of the gateway's whole process, at the ends of the window. Logging: default.\n");
    let mut table = Table::default();
    for case in cases::all().into_iter().filter(|case| options.wants(case)) {
        origin.answer_with(&case.answer);
        if case.paced_requests() {
            // Latency has a floor that no gateway is to blame for: the same load without one.
            let direct = load::Load::start(&case, origin.address()).await.window(options.window).await;
            table.direct(&case, &direct);
        }
        for _ in 0..options.rounds {
            for gateway in [Some(&bare), keyway.as_ref()].into_iter().flatten() {
                match measure(&case, gateway, options).await {
                    Some((window, cpu)) => table.add(&case, gateway.kind, &window, cpu),
                    None => table.gave_up(&case, gateway.kind),
                }
                origin.quiet().await;
            }
        }
        table.print_case(&case);
    }
    table.print_end();
    table.complete()
}

/// One window that is worth something, with the CPU time that it took.
async fn measure(case: &Case, gateway: &Gateway, options: &Options) -> Option<(Window, Duration)> {
    let length = options.window;
    for _ in 0..ATTEMPTS_MAX {
        gateway.forget_log();
        let load = Load::start(case, gateway.address()).await;
        load.warm_up(case).await;
        let (own_before, before) = (process::cpu_of(std::process::id()), gateway.cpu());
        let window = load.window(length).await;
        let cpu = gateway.cpu().saturating_sub(before);
        let own = process::cpu_of(std::process::id()).saturating_sub(own_before);
        drop(load);
        let busy = cpu.as_secs_f64() / window.length.as_secs_f64();
        let why = if window.failed > 0 {
            format!("{} failed: {}", window.failed, window.first_failure)
        } else if case.closed_loop() && busy < options.busy_min {
            let own = own.as_secs_f64() / window.length.as_secs_f64();
            format!("the gateway had its core for {:.0} % of the time, the load for {:.0} %", busy * 100.0, own * 100.0)
        } else if window.done < case.expected(length) * 95 / 100 {
            format!("{} of {} {} came", window.done, case.expected(length), case.unit)
        } else {
            return Some((window, cpu));
        };
        println!("  thrown away: {} through {}: {why}", case.name, gateway.kind.name());
    }
    None
}
