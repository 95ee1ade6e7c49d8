//! Ownership of the data directory: the server that holds the lock on a file in it. The lock is released when the
//! process ends, however it ends.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use crate::db::embedded::{Error, POLL_INTERVAL, folders};

const FILE: &str = "owner.lock";
/// A command that queries the owner holds the lock for a moment, and so does a new process of the former owner until it
/// executes its program. Neither must be mistaken for an owner.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Ownership of a data directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    _file: File,
}

impl Owner {
    /// Acquires ownership, unless another process has it.
    pub(crate) fn lock(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let mut file = folders::open(&path, 0o644)?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                    return Err(Error::Owned { data_dir: data_dir.into(), owner: name(&path) });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(POLL_INTERVAL),
                Err(TryLockError::Error(error)) => return Err(Error::files("locking", path)(error)),
            }
        }
        file.set_len(0)
            .and_then(|()| file.write_all(process::id().to_string().as_bytes()))
            .map_err(Error::files("writing", path))?;
        Ok(Self { _file: file })
    }
}

/// Returns the process that owns `data_dir`, for people, if any.
pub(crate) fn of(data_dir: &Path) -> Result<Option<String>, Error> {
    let path = data_dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::files("opening", path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(name(&path))),
        Err(TryLockError::Error(error)) => Err(Error::files("locking", path)(error)),
    }
}

fn name(path: &Path) -> String {
    let id = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
    id.map_or_else(|| "another process".into(), |id| format!("process {id}"))
}
