//! Shared code of all commands: the process's environment, output, and errors.

pub mod command_error;
pub mod environment;
pub mod memory;
pub mod output;
