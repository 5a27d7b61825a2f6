//! The command line: flags to commands, results to exit codes (CONTRACT 1).
//!
//! One file per command. Nothing here serves a request or decides a default of the config.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

mod check;
mod healthcheck;
mod mock;
mod schema;
mod seal;
mod serve;

/// Wrong usage or unreadable input; clap exits with the same code.
const USAGE: u8 = 2;

/// An LLM gateway that lives beside an application: one binary, one config.json.
#[derive(Parser)]
#[command(name = "keyway", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway (the default).
    Serve(serve::Args),
    /// Show every problem of a config at once.
    Check(check::Args),
    /// Run the built-in upstream, for trying things out and for tests.
    Mock(mock::Args),
    /// Ask a running gateway whether it is ready; exit code 0 or 1.
    Healthcheck(healthcheck::Args),
    /// Print the JSON Schema of config.json.
    Schema(schema::Args),
    /// Encrypt the credentials that stand in clear in a config, or re-encrypt them under a new key.
    Seal(seal::Args),
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Mock(args)) => mock::run(&args),
        Some(Command::Healthcheck(args)) => healthcheck::run(&args),
        Some(Command::Schema(args)) => schema::run(&args),
        Some(Command::Seal(args)) => seal::run(&args),
    }
}

/// The config's path: what was given, else what stands in the working directory.
fn config_path(given: Option<&PathBuf>) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    for candidate in ["config.json", "config.jsonc"] {
        let path = PathBuf::from(candidate);
        if path.exists() {
            return Ok(path);
        }
    }
    Err("no config found: neither --config nor KEYWAY_CONFIG is set, and there is no config.json or config.jsonc here\n\
         hint: this writes one that runs without any key:\n\
         \n    echo '{\"providers\": {\"mock\": {}}}' > config.json\n"
        .to_owned())
}

/// Output may go to a pipe that closes early, which is nobody's fault.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn complain(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "keyway: {text}");
}
