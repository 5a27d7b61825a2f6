//! `keyway diff`: what a swap from one file to another would change, by name and never by value.
//!
//! Both files are compiled as a dry run first: what would not become a generation is not compared.
//! Resolves no reference, hence says nothing of what stands behind one.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Format, USAGE, complain, dry_run, print};
use crate::config::compare::{Difference, compare};

#[derive(clap::Args)]
pub struct Args {
    /// The config as it is.
    old: PathBuf,
    /// The config as it would be.
    new: PathBuf,
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub fn run(args: &Args) -> ExitCode {
    let (old, new) = match (dry_run(&args.old), dry_run(&args.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for text in [old.err(), new.err()].into_iter().flatten() {
                complain(&text);
            }
            return ExitCode::from(USAGE);
        }
    };
    let differences = compare(&old, &new);
    match args.format {
        Format::Json => print(&format!("{}\n", differences.iter().map(as_json).collect::<Value>())),
        Format::Human => print(&differences.iter().map(line).collect::<String>()),
    }
    if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(it: &Difference) -> String {
    let field = if it.field.is_empty() { String::new() } else { format!(": {}", it.field) };
    format!("{:<8} {}{field}\n", it.kind.as_str(), it.owner)
}

fn as_json(it: &Difference) -> Value {
    let field = (!it.field.is_empty()).then_some(&it.field);
    json!({"kind": it.kind.as_str(), "owner": it.owner, "field": field})
}
