//! Folders for the databases of test runs. Parallel runs use different folders, and each run removes what an earlier
//! run left behind.

use std::{
    env,
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

/// How many bytes a suite needs in memory. A disk is slower.
const REQUIRED_BYTES: u64 = 1 << 30;

/// A folder that no other run uses, and that does not exist yet.
pub struct Slot {
    pub folder: PathBuf,
    /// Locked as long as the slot is in use.
    _lock: File,
}

impl Slot {
    /// The first free slot for `suite`.
    pub fn acquire(suite: &str) -> Self {
        let base = base(suite);
        for slot in 0..100 {
            let lock = File::create(base.join(format!("{slot}.lock"))).unwrap();
            match lock.try_lock() {
                Ok(()) => {
                    let folder = base.join(slot.to_string());
                    // Remove what an earlier run left behind.
                    let _ = fs::remove_dir_all(&folder);
                    return Self { folder, _lock: lock };
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("{error}"),
            }
        }
        panic!("all hundred slots of this suite are in use in {}", base.display());
    }
}

/// A folder in memory if there is room, else the temporary folder.
pub fn fast_folder() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let free = statvfs(shm).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
    if free >= REQUIRED_BYTES { shm.to_owned() } else { env::temp_dir() }
}

fn base(suite: &str) -> PathBuf {
    let mut checkout = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut checkout);
    let name = format!("cloudapi-{suite}-{}-{:x}", nix::unistd::geteuid(), checkout.finish());
    let base = fast_folder().join(name);
    fs::create_dir_all(&base).unwrap();
    // The user that runs PostgreSQL needs access.
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    base
}
