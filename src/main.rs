//! The `cloudapi` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    cloudapi::cli::main()
}
