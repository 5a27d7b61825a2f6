//! `keyway check`: every problem of a config, each with its place, never a value.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Format, USAGE, complain, config_path, print};
use crate::app;
use crate::config::{Problems, Severity};

#[derive(clap::Args)]
pub struct Args {
    /// The config; else KEYWAY_CONFIG, else the one in this directory.
    #[arg(value_name = "PATH", env = "KEYWAY_CONFIG")]
    path: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Count variables and files that cannot be read as errors.
    #[arg(long)]
    strict_env: bool,
    /// Verify each key with a call that costs nothing.
    #[arg(long)]
    online: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let path = match config_path(args.path.as_ref()) {
        Ok(path) => path,
        Err(text) => {
            complain(&text);
            return ExitCode::from(USAGE);
        }
    };
    let check = if args.online { app::check_online } else { app::check };
    match check(&path, args.strict_env) {
        Ok(problems) => {
            report(&problems, &path, args.format);
            if problems.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            complain(&format!("{}: {error}", path.display()));
            ExitCode::from(USAGE)
        }
    }
}

fn report(problems: &Problems, path: &Path, format: Format) {
    match format {
        Format::Json => print(&format!("{}\n", problems.to_json())),
        Format::Human => {
            let count = |severity| problems.0.iter().filter(|p| p.severity == severity).count();
            let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
            print(&problems.render(&path.display().to_string()));
            print(&match (errors, warnings) {
                (0, 0) => format!("{}: good\n", path.display()),
                (0, n) => format!("{}: good, with {n} warning{}\n", path.display(), plural(n)),
                (n, m) => format!("{}: {n} error{}, {m} warning{}\n", path.display(), plural(n), plural(m)),
            });
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
