//! File of a journal, and its header.

use std::{
    fs::{self, File as Handle, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::map::{HEADER_BYTES, Map, file_size};

/// Extension of a journal's file name.
pub const EXTENSION: &str = "journal";
const MAGIC: &[u8; 16] = b"cloudapi usage 1";
/// Counters are in native byte order. On a machine with another byte order, this number reads differently.
const BYTE_ORDER_MARK: u32 = 1;
const CHECKSUMMED_BYTES: usize = 56;

/// A locked file. Dropping it releases the lock.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    _lock: Handle,
}

/// An opened journal file.
#[derive(Debug)]
pub struct JournalFile {
    pub(super) file: File,
    /// ID of the journal, created with the file.
    pub journal: Uuid,
    pub(super) map: Map,
}

/// Reason why a file cannot be used as a journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A server uses the file.
    #[error("a running server counts in it")]
    Locked,
    /// The file is not a journal, or is damaged.
    #[error("it is not a usage journal of this machine type, or its header is damaged")]
    InvalidFormat,
    /// The journal belongs to another database.
    #[error("it belongs to another database")]
    OtherDatabase,
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl File {
    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file. Its content must have been flushed to the database.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Creates an empty journal for `database` in `folder`. Its disk space is allocated, so that a full disk is noticed now
/// and not when a request is counted.
pub fn create(folder: &Path, database: Uuid, slots: usize) -> io::Result<JournalFile> {
    let journal = Uuid::new_v4();
    let path = folder.join(format!("{journal}.{EXTENSION}"));
    // A temporary name until the file is complete, so that every file with a journal's name is a journal.
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
    let created = (|| {
        file.lock()?;
        let header = header(journal, database, slots);
        file.write_all(&header)?;
        let rest = file_size(slots) - header.len();
        io::copy(&mut io::repeat(0).take(rest as u64), &mut file)?;
        file.sync_all()?;
        let map = Map::from_file(&file, slots)?;
        fs::rename(&temporary, &path)?;
        Handle::open(folder)?.sync_all()?;
        Ok(map)
    })();
    match created {
        Ok(map) => Ok(JournalFile { file: File { path, _lock: file }, journal, map }),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Opens the journal at `path`, to count in it for `database`.
pub fn open(path: &Path, database: Uuid) -> Result<JournalFile, OpenError> {
    open_with(path, OpenOptions::new().read(true).write(true), database, Map::from_file)
}

/// Reads a copy of the journal at `path`, which may be on a read-only file system. The lock keeps servers from using
/// it.
pub fn read(path: &Path, database: Uuid) -> Result<JournalFile, OpenError> {
    open_with(path, OpenOptions::new().read(true), database, Map::read_copy)
}

fn open_with(
    path: &Path,
    options: &OpenOptions,
    database: Uuid,
    map: impl FnOnce(&Handle, usize) -> io::Result<Map>,
) -> Result<JournalFile, OpenError> {
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // A file that is too short is not a journal.
    let map_eof = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => OpenError::InvalidFormat,
        _ => error.into(),
    };
    let mut found = [0; HEADER_BYTES];
    file.read_exact_at(&mut found, 0).map_err(map_eof)?;
    let field = |at: usize| found.get(at..at + 16).and_then(|bytes| Uuid::from_slice(bytes).ok());
    let slots = found.get(48..52).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let (Some(journal), Some(owner), Ok(slots)) = (field(16), field(32), usize::try_from(slots)) else {
        return Err(OpenError::InvalidFormat);
    };
    // Any damage makes the header differ from a newly built one.
    if found.as_slice() != header(journal, owner, slots) || slots == 0 {
        return Err(OpenError::InvalidFormat);
    }
    if owner != database {
        return Err(OpenError::OtherDatabase);
    }
    let map = map(&file, slots).map_err(map_eof)?;
    Ok(JournalFile { file: File { path: path.to_owned(), _lock: file }, journal, map })
}

/// Builds the first page: magic number, journal, database, number of slots, byte order, and a CRC-32 over these.
fn header(journal: Uuid, database: Uuid, slots: usize) -> Vec<u8> {
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(MAGIC);
    header.extend(journal.as_bytes());
    header.extend(database.as_bytes());
    header.extend(slots.to_ne_bytes());
    header.extend(BYTE_ORDER_MARK.to_ne_bytes());
    debug_assert_eq!(header.len(), CHECKSUMMED_BYTES);
    let sum = crc32fast::hash(&header);
    header.extend(sum.to_ne_bytes());
    header.resize(HEADER_BYTES, 0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::usage::counting::journal::Journal;

    const DATABASE: Uuid = Uuid::from_u128(1);

    #[test]
    fn journal_is_locked_while_open_and_can_be_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let created = create(folder.path(), DATABASE, 64).unwrap();
        let (path, id) = (created.file.path.clone(), created.journal);
        assert!(matches!(open(&path, DATABASE), Err(OpenError::Locked)));
        drop(created);
        assert_eq!(open(&path, DATABASE).unwrap().journal, id);
        assert!(matches!(open(&path, Uuid::from_u128(2)), Err(OpenError::OtherDatabase)));
    }

    #[test]
    fn damaged_or_foreign_file_is_not_a_journal() {
        let folder = tempfile::tempdir().unwrap();
        let created = create(folder.path(), DATABASE, 64).unwrap();
        let path = created.file.path.clone();
        drop(created);
        let content = fs::read(&path).unwrap();
        for offset in [0, 20, 40, 49, 53, 57] {
            let mut damaged = content.clone();
            damaged[offset] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(matches!(open(&path, DATABASE), Err(OpenError::InvalidFormat)), "{offset}");
        }
        for length in [0, 100, HEADER_BYTES, content.len() - 1] {
            fs::write(&path, &content[..length]).unwrap();
            assert!(matches!(open(&path, DATABASE), Err(OpenError::InvalidFormat)), "{length}");
        }
        fs::write(&path, content).unwrap();
        assert_eq!(Journal::in_file(open(&path, DATABASE).unwrap()).changed_since(&[]), []);
    }
}
