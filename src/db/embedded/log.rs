//! PostgreSQL's log, a file in the data directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{Error, folders};

const FILE: &str = "postgres.log";
/// Number of log lines that an error shows.
const TAIL_LINES: usize = 12;

/// Log of one run.
#[derive(Debug)]
pub(super) struct Log {
    /// Path of the log.
    pub(super) path: PathBuf,
    /// File that PostgreSQL writes to.
    pub(super) file: File,
}

impl Log {
    /// Truncates the log, so that it does not grow without bound. A run logs little (see the settings).
    pub(super) fn start(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let file = folders::open(&path, 0o600)?;
        file.set_len(0).map_err(Error::files("emptying", &path))?;
        Ok(Self { path, file })
    }

    /// Returns the last lines.
    pub(super) fn tail(&self) -> String {
        let text = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }
}
