//! The process: hands the command line to `keyway::cli` and its exit code to the system.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    keyway::cli::run()
}
