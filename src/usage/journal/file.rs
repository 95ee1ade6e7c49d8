//! A journal's file: its header, and whose it is.

use std::{
    fs::{self, File as Handle, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::map::{HEADER, Map, bytes_of};

/// What the name of a journal's file ends in.
pub const EXTENSION: &str = "journal";
const MAGIC: &[u8; 16] = b"cloudapi usage 1";
/// The machine's own byte order is that of the counters: 1 reads as something else on another kind of machine.
const ORDER: u32 = 1;
const SUMMED: usize = 56;

/// A locked file. The lock goes with it.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    _lock: Handle,
}

/// A journal's file that was opened.
#[derive(Debug)]
pub struct Opened {
    pub(super) file: File,
    /// The journal's own id, made with the file.
    pub journal: Uuid,
    pub(super) map: Map,
}

/// Why a file cannot be counted in.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A server has it.
    #[error("a running server counts in it")]
    Locked,
    /// It is no journal, or a damaged one.
    #[error("it is not a usage journal of this kind of machine, or its header is damaged")]
    NoJournal,
    /// It was counted for another database.
    #[error("it belongs to another database")]
    Foreign,
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl File {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file; what is in it must have been written to the database.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Makes an empty journal for `database` in `folder`. Its room is there on the disk, so that a full disk shows now and
/// not when something is counted.
pub fn create(folder: &Path, database: Uuid, slots: usize) -> io::Result<Opened> {
    let journal = Uuid::new_v4();
    let path = folder.join(format!("{journal}.{EXTENSION}"));
    // Under another name until it is whole: a file with a journal's name is one.
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let made = (|| {
        file.lock()?;
        let mut header = header(journal, database, slots);
        header.resize(bytes_of(slots), 0);
        file.write_all(&header)?;
        file.sync_all()?;
        let map = Map::of_file(&file, slots)?;
        fs::rename(&unfinished, &path)?;
        Handle::open(folder)?.sync_all()?;
        Ok(map)
    })();
    match made {
        Ok(map) => Ok(Opened { file: File { path, _lock: file }, journal, map }),
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

/// Opens the journal at `path`, to count in it for `database`.
pub fn open(path: &Path, database: Uuid) -> Result<Opened, Unusable> {
    take(path, OpenOptions::new().read(true).write(true), database, Map::of_file)
}

/// Reads the journal at `path` as it is, which may be where nothing can be written. Nobody counts in it meanwhile.
pub fn read(path: &Path, database: Uuid) -> Result<Opened, Unusable> {
    take(path, OpenOptions::new().read(true), database, Map::copy_of)
}

fn take(
    path: &Path,
    options: &OpenOptions,
    database: Uuid,
    map: impl FnOnce(&Handle, usize) -> io::Result<Map>,
) -> Result<Opened, Unusable> {
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Unusable::Locked),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // A file that is too short is none.
    let whole = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Unusable::NoJournal,
        _ => error.into(),
    };
    let mut found = [0; HEADER];
    file.read_exact_at(&mut found, 0).map_err(whole)?;
    let field = |at: usize| found.get(at..at + 16).and_then(|bytes| Uuid::from_slice(bytes).ok());
    let slots = found.get(48..52).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let (Some(journal), Some(owner), Ok(slots)) = (field(16), field(32), usize::try_from(slots)) else {
        return Err(Unusable::NoJournal);
    };
    // Whatever is damaged, it is then not what would have been written.
    if found.as_slice() != header(journal, owner, slots) || slots == 0 {
        return Err(Unusable::NoJournal);
    }
    if owner != database {
        return Err(Unusable::Foreign);
    }
    let map = map(&file, slots).map_err(whole)?;
    Ok(Opened { file: File { path: path.to_owned(), _lock: file }, journal, map })
}

/// The first page: what it is, whose, how long, and a CRC-32 over that.
fn header(journal: Uuid, database: Uuid, slots: usize) -> Vec<u8> {
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(journal.as_bytes());
    header.extend(database.as_bytes());
    header.extend(slots.to_ne_bytes());
    header.extend(ORDER.to_ne_bytes());
    debug_assert_eq!(header.len(), SUMMED);
    let sum = crc32fast::hash(&header);
    header.extend(sum.to_ne_bytes());
    header.resize(HEADER, 0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::journal::Journal;

    const DATABASE: Uuid = Uuid::from_u128(1);

    #[test]
    fn a_journal_is_locked_while_it_is_open_and_found_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let made = create(folder.path(), DATABASE, 64).unwrap();
        let (path, id) = (made.file.path.clone(), made.journal);
        assert!(matches!(open(&path, DATABASE), Err(Unusable::Locked)));
        drop(made);
        assert_eq!(open(&path, DATABASE).unwrap().journal, id);
        assert!(matches!(open(&path, Uuid::from_u128(2)), Err(Unusable::Foreign)));
    }

    #[test]
    fn what_is_no_journal_or_a_damaged_one_is_not_counted_in() {
        let folder = tempfile::tempdir().unwrap();
        let made = create(folder.path(), DATABASE, 64).unwrap();
        let path = made.file.path.clone();
        drop(made);
        let whole = fs::read(&path).unwrap();
        for place in [0, 20, 40, 49, 53, 57] {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(matches!(open(&path, DATABASE), Err(Unusable::NoJournal)), "{place}");
        }
        for length in [0, 100, HEADER, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(open(&path, DATABASE), Err(Unusable::NoJournal)), "{length}");
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(Journal::in_file(open(&path, DATABASE).unwrap()).changed_since(&[]), []);
    }
}
