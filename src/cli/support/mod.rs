//! What all commands share: the environment, output, and errors.

pub mod command_error;
pub mod environment;
pub mod output;
