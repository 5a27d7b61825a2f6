//! The process: hands the command line to `keyway::cli` and its exit code to the system.

#![forbid(unsafe_code)]

/// A gateway allocates and frees a dozen small things per request; glibc's allocator is a sixth of
/// its time (`make bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keyway::cli::run()
}
