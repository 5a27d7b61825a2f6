//! `keyway mock`: the built-in upstream on a socket of its own.

use std::process::ExitCode;
use std::sync::Arc;

use super::{complain, print};
use crate::mock;

#[derive(clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDR")]
    listen: String,
}

pub fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::bind(&args.listen).await {
            Ok(listener) => listener,
            Err(error) => {
                complain(&format!("cannot listen on {}: {error}", args.listen));
                return ExitCode::FAILURE;
            }
        };
        if let Ok(address) = listener.local_addr() {
            print(&format!("listening on http://{address}\n"));
        }
        let stop = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        mock::serve(listener, Arc::new(mock::Mock::new(mock::Recording::On)), stop).await;
        ExitCode::SUCCESS
    })
}
