//! What PostgreSQL says, in a file of the data directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{Error, folders};

const FILE: &str = "postgres.log";
/// How much of it an error shows.
const TAIL_LINES: usize = 12;

/// The log of one run.
#[derive(Debug)]
pub(super) struct Log {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Where PostgreSQL writes to.
    pub(super) file: File,
}

impl Log {
    /// Starts it anew, so that it does not grow for ever; a run says little (see the settings).
    pub(super) fn start(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let file = folders::open(&path, 0o600)?;
        file.set_len(0).map_err(Error::files("emptying", &path))?;
        Ok(Self { path, file })
    }

    /// Its last lines.
    pub(super) fn tail(&self) -> String {
        let text = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }
}
