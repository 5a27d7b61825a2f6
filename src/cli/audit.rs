//! `keyway audit`: every write through a management API, by whom, on what, and what came of it.
//!
//! Reads the state beside a gateway that runs, or after it. There are names in it and no values.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Format, USAGE, complain, config_path, not_good, print};
use crate::app;
use crate::state::{Recorded, read_log};

#[derive(clap::Args)]
pub struct Args {
    /// The config; else KEYWAY_CONFIG, else the one in this directory.
    #[arg(long, env = "KEYWAY_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// How many of the newest entries.
    #[arg(long, default_value_t = 50)]
    count: u64,
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub fn run(args: &Args) -> ExitCode {
    match log(args) {
        Ok(log) => {
            let shown = log.iter().map(|entry| match args.format {
                Format::Json => format!("{}\n", to_json(entry)),
                Format::Human => to_text(entry),
            });
            print(&shown.collect::<String>());
            ExitCode::SUCCESS
        }
        Err(text) => {
            complain(&text);
            ExitCode::from(USAGE)
        }
    }
}

fn log(args: &Args) -> Result<Vec<Recorded>, String> {
    let path = config_path(args.config.as_ref())?;
    let name = path.display().to_string();
    let (compiled, problems) = app::compile_file(&path).map_err(|error| format!("{name}: {error}"))?;
    let compiled = compiled.ok_or_else(|| not_good(&name, &problems))?;
    read_log(&compiled.snapshot.state_dir, args.count)
}

fn to_json(recorded: &Recorded) -> Value {
    let Recorded { number, entry, outcome } = recorded;
    json!({
        "number": number, "at": rfc3339(recorded), "who": entry.who, "action": entry.action, "target": entry.target,
        "request_id": entry.request,
        "status": outcome.as_ref().map(|it| it.status),
        "code": outcome.as_ref().map(|it| &it.code).filter(|code| !code.is_empty()),
        "generation": outcome.as_ref().map(|it| it.generation),
    })
}

fn to_text(recorded: &Recorded) -> String {
    let Recorded { entry, outcome, .. } = recorded;
    let outcome = match outcome {
        Some(it) if it.code.is_empty() => format!("{} generation {}", it.status, it.generation),
        Some(it) => format!("{} {}", it.status, it.code),
        None => "not answered".to_owned(),
    };
    format!("{}  {}  {}  {}  {outcome}\n", rfc3339(recorded), entry.who, entry.action, entry.target)
}

/// A time before 1970 or after 9999 does not occur; it would be shown as the epoch.
fn rfc3339(recorded: &Recorded) -> String {
    OffsetDateTime::from(recorded.entry.at).format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}
