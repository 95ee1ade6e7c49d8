//! Folders for the test runs' databases, so that two runs do not collide and what a run leaves behind is
//! cleared by the next.

use std::{
    env,
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

/// What a suite needs in memory, in bytes; on a disk it is slower.
const ROOM: u64 = 1 << 30;

/// A folder that no other run holds, and that is not there yet.
pub struct Slot {
    pub folder: PathBuf,
    /// Held for as long as the slot is.
    _lock: File,
}

impl Slot {
    /// The first one that is free, of those for `suite`.
    pub fn take(suite: &str) -> Self {
        let base = base(suite);
        for slot in 0..100 {
            let lock = File::create(base.join(format!("{slot}.lock"))).unwrap();
            match lock.try_lock() {
                Ok(()) => {
                    let folder = base.join(slot.to_string());
                    // What an earlier run left.
                    let _ = fs::remove_dir_all(&folder);
                    return Self { folder, _lock: lock };
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("{error}"),
            }
        }
        panic!("a hundred runs of this suite are going on in {}", base.display());
    }
}

/// In memory when there is room, else in the temporary folder.
fn base(suite: &str) -> PathBuf {
    let mut checkout = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut checkout);
    let name = format!("cloudapi-{suite}-{}-{:x}", nix::unistd::geteuid(), checkout.finish());
    let shm = Path::new("/dev/shm");
    let free = statvfs(shm).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
    let base = if free >= ROOM { shm.join(name) } else { env::temp_dir().join(name) };
    fs::create_dir_all(&base).unwrap();
    // The user that PostgreSQL runs as has to get in.
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    base
}
