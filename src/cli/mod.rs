//! The command line: flags to commands, results to exit codes (CONTRACT 1).
//!
//! One file per command. Nothing here serves a request or decides a default of the config.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};

use crate::app;
use crate::config::{Document, Problems, Severity};

mod audit;
mod check;
mod completions;
mod diff;
mod healthcheck;
mod import;
mod mock;
mod route;
mod schema;
mod seal;
mod serve;
mod token;

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
    /// Show what a swap from one config to another would change, by name.
    Diff(diff::Args),
    /// Explain which keys could serve a model, in which order, and which not and why.
    Route(route::Args),
    /// Print the config.json that says what the config of another gateway says.
    Import(import::Args),
    /// Run the built-in upstream, for trying things out and for tests.
    Mock(mock::Args),
    /// Ask a running gateway whether it is ready; exit code 0 or 1.
    Healthcheck(healthcheck::Args),
    /// Print the JSON Schema of config.json.
    Schema(schema::Args),
    /// Encrypt the credentials that stand in clear in a config, or re-encrypt them under a new key.
    Seal(seal::Args),
    /// Make tokens for callers and for management.
    Token(token::Args),
    /// Show who wrote what through the management APIs, and what came of it.
    Audit(audit::Args),
    /// Print completions for a shell.
    Completions(completions::Args),
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
        Some(Command::Diff(args)) => diff::run(&args),
        Some(Command::Route(args)) => route::run(&args),
        Some(Command::Import(args)) => import::run(&args),
        Some(Command::Mock(args)) => mock::run(&args),
        Some(Command::Healthcheck(args)) => healthcheck::run(&args),
        Some(Command::Schema(args)) => schema::run(&args),
        Some(Command::Seal(args)) => seal::run(&args),
        Some(Command::Token(args)) => token::run(&args),
        Some(Command::Audit(args)) => audit::run(&args),
        Some(Command::Completions(args)) => completions::run(&args),
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

/// The document of a config that would become a generation somewhere, or what is wrong with it.
fn dry_run(path: &Path) -> Result<Arc<Document>, String> {
    let name = path.display().to_string();
    let text = app::read_text(path).map_err(|error| format!("{name}: {error}"))?;
    let (compiled, problems) = app::dry_run(&text);
    compiled.map(|compiled| compiled.document).ok_or_else(|| not_good(&name, &problems))
}

/// The errors of a config that something else was to be done with.
fn not_good(name: &str, problems: &Problems) -> String {
    let errors = problems.0.iter().filter(|problem| problem.severity == Severity::Error).cloned().collect();
    format!("{name} is not a good config\n{}", Problems(errors).render(name).trim_end())
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
