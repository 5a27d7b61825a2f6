//! `keyway seal`: no credential in clear in the file, and none on the screen.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{USAGE, complain, config_path, print};
use crate::app::{self, NotSealed, Resealed};

#[derive(clap::Args)]
pub struct Args {
    /// The config; else KEYWAY_CONFIG, else the one in this directory.
    #[arg(value_name = "PATH", env = "KEYWAY_CONFIG")]
    path: Option<PathBuf>,
    /// Seal what is sealed anew: under a new key file, or under `management.sealing_key`.
    #[arg(long)]
    rekey: bool,
    /// Variable with the key that the values are sealed under now.
    #[arg(long, value_name = "NAME", requires = "rekey")]
    old_key_env: Option<String>,
}

pub fn run(args: &Args) -> ExitCode {
    let path = match config_path(args.path.as_ref()) {
        Ok(path) => path,
        Err(text) => {
            complain(&text);
            return ExitCode::from(USAGE);
        }
    };
    let done = if args.rekey { app::reseal(&path, args.old_key_env.as_deref()) } else { app::seal(&path) };
    let path = path.display().to_string();
    match done {
        Ok(Resealed { names, notes }) => {
            print(&match names.len() {
                0 => format!("{path}: nothing to seal\n"),
                1 => format!("{path}: sealed 1 credential\n"),
                n => format!("{path}: sealed {n} credentials\n"),
            });
            names.iter().for_each(|name| print(&format!("  {name}\n")));
            notes.iter().for_each(|note| complain(note));
            ExitCode::SUCCESS
        }
        Err(NotSealed::Unreadable(error)) => {
            complain(&format!("{path}: {error}"));
            ExitCode::from(USAGE)
        }
        Err(NotSealed::Problems(problems)) => {
            print(&problems.render(&path));
            complain(&format!("{path}: nothing was sealed, for the config is no good as it stands"));
            ExitCode::FAILURE
        }
        Err(NotSealed::Failed(what)) => {
            complain(&format!("{path}: nothing was sealed: {what}"));
            ExitCode::FAILURE
        }
    }
}
