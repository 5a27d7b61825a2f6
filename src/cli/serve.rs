//! `keyway serve`: runs until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, config_path};
use crate::app;

#[derive(clap::Args, Clone)]
pub struct Args {
    /// Path of the config; else KEYWAY_CONFIG, else ./config.json or ./config.jsonc.
    #[arg(long, env = "KEYWAY_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// Refuse a config that refers to a variable or file that cannot be read.
    #[arg(long)]
    strict_env: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let path = match config_path(args.config.as_ref()) {
        Ok(path) => path,
        Err(text) => {
            complain(&text);
            return ExitCode::FAILURE;
        }
    };
    app::run(&app::Options { config: path, strict_env: args.strict_env })
}
