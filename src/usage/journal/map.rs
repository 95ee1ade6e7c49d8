//! Slots in memory that outlives the process: the one module that may be `unsafe`.

use std::{fs::File, io, os::unix::fs::FileExt, slice};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::slot::Slot;

/// The bytes before the first slot; a whole number of slots.
pub const HEADER: usize = 4096;

/// A mapping of a file's slots, or of memory that only this process has.
#[derive(Debug)]
pub struct Map {
    memory: MmapRaw,
    slots: usize,
}

/// The size of a file with so many slots, in bytes.
pub const fn bytes_of(slots: usize) -> usize {
    HEADER + slots * size_of::<Slot>()
}

impl Map {
    /// Maps a file whose length is that of `slots` slots, and which nobody will cut while it is mapped: the caller
    /// holds its lock. What is written is in the kernel's hands at once, and so survives the process.
    pub fn of_file(file: &File, slots: usize) -> io::Result<Self> {
        let length = bytes_of(slots);
        if file.metadata()?.len() < length as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its header says"));
        }
        Ok(Self { memory: MmapOptions::new().len(length).map_raw(file)?, slots })
    }

    /// A copy of a file's slots, in memory that dies with the process.
    pub fn copy_of(file: &File, slots: usize) -> io::Result<Self> {
        let mut memory = MmapMut::map_anon(bytes_of(slots))?;
        file.read_exact_at(&mut memory, 0)?;
        Ok(Self { memory: MmapRaw::from(memory), slots })
    }

    /// Memory that dies with the process.
    pub fn of_memory(slots: usize) -> io::Result<Self> {
        Ok(Self { memory: MmapRaw::from(MmapMut::map_anon(bytes_of(slots))?), slots })
    }

    /// The slots.
    pub fn slots(&self) -> &[Slot] {
        // SAFETY:
        // - Each constructor maps `bytes_of(slots)` bytes, so that the slice lies within the mapping, and the mapping
        //   lives as long as `self`, from which the slice borrows. `map_raw` maps readable and writable.
        // - A mapping begins at a page, and a page and `HEADER` are multiples of 64: each slot is aligned.
        // - A `Slot` is `repr(C)` and made of `AtomicU64`s alone: it has no padding, and any bytes are a valid one.
        // - All access is atomic, and `&Slot` promises nothing about values that stand still: that other threads, and
        //   other processes with the same file, write at the same time is no data race.
        // - A file that is cut while it is mapped makes access a SIGBUS, which ends the process as kill -9 would; it
        //   is not undefined behaviour. The lock keeps our own processes from it, and its owner should not.
        #[allow(unsafe_code, reason = "the argument is above")]
        unsafe {
            slice::from_raw_parts(self.memory.as_ptr().add(HEADER).cast::<Slot>(), self.slots)
        }
    }

    /// Has the disk hold what was written, for the case that the machine loses its power.
    pub fn sync(&self) -> io::Result<()> {
        self.memory.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_a_mapped_file_is_in_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes_of(4) as u64).unwrap();
        let map = Map::of_file(&file, 4).unwrap();
        assert_eq!(map.slots().len(), 4);
        map.slots()[3].add(9);
        let again = Map::of_file(&file, 4).unwrap();
        assert_eq!((again.slots()[3].read().count, again.slots()[2].read().count), (1, 0));
        map.sync().unwrap();
    }

    #[test]
    fn a_file_that_is_too_short_is_not_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes_of(4) as u64 - 1).unwrap();
        assert_eq!(Map::of_file(&file, 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
