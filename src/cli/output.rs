//! Standard output. Whoever reads a command's result through a pipe may close it when they have read enough, as `head`
//! does: the command then ends without an error.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;

use super::ended::Ended;

/// Writes a command's result, and ends the line.
pub fn print(text: &str) -> anyhow::Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes a part of a command's result.
pub fn write(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Ended::Unread.into()),
        written => written.context("the result could not be written; what was written of it is not whole"),
    }
}

/// Writes what a server says of itself. It goes on serving if nobody reads that.
pub fn announce(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
