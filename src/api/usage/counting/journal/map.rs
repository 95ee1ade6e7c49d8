//! Slots in memory that outlives the process. The only module with `unsafe` code.

use std::{fs::File, io, os::unix::fs::FileExt, slice};

use memmap2::{MmapMut, MmapOptions, MmapRaw, UncheckedAdvice};

use super::slot::Slot;

/// Bytes before the first slot, a multiple of the slot size.
pub const HEADER_BYTES: usize = 4096;

/// Mapping of a file's slots, or of anonymous memory.
#[derive(Debug)]
pub struct Map {
    memory: MmapRaw,
    slots: usize,
    is_file: bool,
}

/// Size in bytes of a file with this number of slots.
pub const fn file_size(slots: usize) -> usize {
    HEADER_BYTES + slots * size_of::<Slot>()
}

impl Map {
    /// Maps a file with `slots` slots that nobody truncates while it is mapped: the caller holds its lock. Writes are
    /// immediately in the kernel's page cache, so they survive the process.
    pub fn from_file(file: &File, slots: usize) -> io::Result<Self> {
        let length = file_size(slots);
        if file.metadata()?.len() < length as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its header says"));
        }
        Ok(Self { memory: MmapOptions::new().len(length).map_raw(file)?, slots, is_file: true })
    }

    /// Copies a file's slots into anonymous memory.
    pub fn read_copy(file: &File, slots: usize) -> io::Result<Self> {
        let mut memory = MmapMut::map_anon(file_size(slots))?;
        file.read_exact_at(&mut memory, 0)?;
        Ok(Self { memory: MmapRaw::from(memory), slots, is_file: false })
    }

    /// Allocates anonymous memory, which does not survive the process.
    pub fn anonymous(slots: usize) -> io::Result<Self> {
        Ok(Self { memory: MmapRaw::from(MmapMut::map_anon(file_size(slots))?), slots, is_file: false })
    }

    /// Returns the slots.
    pub fn slots(&self) -> &[Slot] {
        // SAFETY:
        // - Each constructor maps `file_size(slots)` bytes, so the slice is within the mapping, and the mapping lives
        //   as long as `self`, from which the slice borrows. `map_raw` maps readable and writable memory.
        // - A mapping begins at a page boundary, and a page and `HEADER_BYTES` are multiples of 64, so each slot is
        //   aligned.
        // - A `Slot` is `repr(C)` and consists of `AtomicU64`s: it has no padding, and all bit patterns are valid.
        // - All access is atomic, and `&Slot` makes no promise about unchanging values, so concurrent writes of other
        //   threads and of other processes with the same file are not data races.
        // - If a mapped file is truncated, an access raises SIGBUS, which ends the process like kill -9. This is not
        //   undefined behavior. The lock keeps our own processes from it, and the operator should not do it.
        #[allow(unsafe_code, reason = "see the SAFETY comment")]
        unsafe {
            slice::from_raw_parts(self.memory.as_ptr().add(HEADER_BYTES).cast::<Slot>(), self.slots)
        }
    }

    /// Removes the pages of a mapped file from this process's memory, until they are accessed again. They stay in the
    /// kernel's page cache.
    pub fn unload(&self) -> io::Result<()> {
        // SAFETY: Discarding the pages of a shared file mapping loses nothing: the next access maps the same pages of
        // the page cache. Anonymous memory, which would be lost, is excluded.
        #[allow(unsafe_code, reason = "see the SAFETY comment")]
        if self.is_file { unsafe { self.memory.unchecked_advise(UncheckedAdvice::DontNeed) } } else { Ok(()) }
    }

    /// Writes the changes to the disk, to survive a power failure.
    pub fn sync(&self) -> io::Result<()> {
        self.memory.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_to_the_mapping_are_in_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(file_size(4) as u64).unwrap();
        let map = Map::from_file(&file, 4).unwrap();
        assert_eq!(map.slots().len(), 4);
        map.slots()[3].add(9);
        let reopened = Map::from_file(&file, 4).unwrap();
        assert_eq!((reopened.slots()[3].read().count, reopened.slots()[2].read().count), (1, 0));
        map.unload().unwrap();
        map.slots()[3].add(9);
        assert_eq!((map.slots()[3].read().count, reopened.slots()[3].read().count), (2, 2));
        map.sync().unwrap();
    }

    #[test]
    fn file_that_is_too_short_is_not_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(file_size(4) as u64 - 1).unwrap();
        assert_eq!(Map::from_file(&file, 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
