//! Standard output. A reader may close the pipe early, as `head` does; the command then ends without an error.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;

use super::command_error::CommandError;

/// Writes a command's result and a newline.
pub fn print(text: &str) -> anyhow::Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes a part of a command's result.
pub fn write(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CommandError::OutputClosed.into()),
        written => written.context("the result could not be written completely"),
    }
}

/// Writes a server's startup message. A closed pipe does not stop the server.
pub fn announce(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
