//! `keyway schema`: the JSON Schema of config.json, from the types that read it, or the OpenAPI
//! document of the management routes.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, config_path, print};

/// Name under which `--write` puts the schema beside the config.
const FILE_NAME: &str = "config.schema.json";

#[derive(clap::Args)]
pub struct Args {
    /// Write it beside the config, for `"$schema": "./config.schema.json"`.
    #[arg(long)]
    write: bool,
    /// The config beside which to write; else KEYWAY_CONFIG, else the one in this directory.
    #[arg(long, env = "KEYWAY_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print the OpenAPI document of the management routes instead.
    #[arg(long, conflicts_with = "write")]
    openapi: bool,
}

pub fn run(args: &Args) -> ExitCode {
    if args.openapi {
        print(&format!("{:#}\n", crate::admin::openapi::document()));
        return ExitCode::SUCCESS;
    }
    let text = format!("{:#}\n", crate::config::schema());
    if !args.write {
        print(&text);
        return ExitCode::SUCCESS;
    }
    let path = match config_path(args.config.as_ref()) {
        Ok(path) => path.with_file_name(FILE_NAME),
        Err(text) => {
            complain(&text);
            return ExitCode::FAILURE;
        }
    };
    match std::fs::write(&path, text) {
        Ok(()) => {
            print(&format!("{}\n", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("{} cannot be written: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}
