//! The `cloudapi` command.

use std::process::ExitCode;

/// Requests allocate and free often, on another thread than their connection's; see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cloudapi::cli::main()
}
