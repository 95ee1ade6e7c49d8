//! Folders and files around the cluster.

pub(crate) mod account;
pub(crate) mod owner;

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, unistd::Uid};

use super::{Error, PORT};
use account::Account;

/// Maximum length of a Unix socket's path: 107 on Linux, 103 on macOS.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Creates the data directory if it is missing, and returns its canonical path.
pub(super) fn create_data_dir(path: &Path) -> Result<PathBuf, Error> {
    if path.as_os_str().as_bytes().contains(&b'\n') {
        // PostgreSQL's `postmaster.pid` has one value per line.
        let error = io::Error::new(io::ErrorKind::InvalidInput, "the name has a line break");
        return Err(Error::files("using the data directory", path)(error));
    }
    if !path.is_dir() {
        DirBuilder::new().recursive(true).create(path).map_err(Error::files("creating the data directory", path))?;
        // PostgreSQL's user must be able to traverse the folder, regardless of the umask. Listing is not needed.
        fs::set_permissions(path, Permissions::from_mode(0o711)).map_err(Error::files("changing the mode of", path))?;
    }
    fs::canonicalize(path).map_err(Error::files("finding", path))
}

/// Opens a file for reading and appending, and creates it if missing. It does not follow a symbolic link, which could
/// make root write elsewhere.
pub(super) fn open(path: &Path, mode: u32) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(Error::files("opening", path))
}

/// Recreates the socket's folder, so that nothing of an earlier run remains, including the socket's lock file:
/// PostgreSQL would refuse to start if another process has the PID in it.
pub(super) fn create_run_dir(data_dir: &Path, account: &Account) -> Result<PathBuf, Error> {
    let path = run_dir(data_dir);
    remove(&path)?;
    // Fails if another process has created the folder in between, so the folder is ours.
    DirBuilder::new().mode(0o700).create(&path).map_err(Error::files("creating the socket's folder", &path))?;
    account.chown(&path)?;
    Ok(path)
}

/// Removes a folder and its contents, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::files("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Name of PostgreSQL's socket.
pub(super) fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

/// Folder of the socket: in the data directory, unless the socket's path would be too long. Then it is a folder in /tmp
/// whose name is derived from the data directory.
fn run_dir(data_dir: &Path) -> PathBuf {
    let inside = data_dir.join("run");
    if inside.join(socket_name(PORT)).as_os_str().len() <= SOCKET_PATH_MAX {
        return inside;
    }
    let mut hasher = DefaultHasher::new();
    data_dir.hash(&mut hasher);
    PathBuf::from(format!("/tmp/cloudapi-{}-{:016x}", Uid::effective(), hasher.finish()))
}

/// Quotes a path as an item of PostgreSQL's list of folders.
pub(super) fn quoted(path: &Path) -> Vec<u8> {
    let escaped = path.as_os_str().as_bytes().iter().flat_map(|byte| match byte {
        b'"' => vec![b'"', b'"'],
        byte => vec![*byte],
    });
    [b'"'].into_iter().chain(escaped).chain([b'"']).collect()
}

/// Returns `name=value`, for a value that may not be UTF-8.
pub(super) fn setting(name: &str, value: &[u8]) -> OsString {
    let mut setting = OsString::from(format!("{name}="));
    setting.push(OsStr::from_bytes(value));
    setting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_in_the_data_directory_if_its_path_is_short_enough() {
        assert_eq!(run_dir(Path::new("/var/lib/cloudapi")), Path::new("/var/lib/cloudapi/run"));
        let longest = SOCKET_PATH_MAX - "/run/.s.PGSQL.5432".len();
        let fits = PathBuf::from(format!("/{}", "x".repeat(longest - 1)));
        assert_eq!(run_dir(&fits), fits.join("run"));
        let too_long = PathBuf::from(format!("/{}", "x".repeat(longest)));
        let elsewhere = run_dir(&too_long);
        assert!(elsewhere.starts_with("/tmp"), "{elsewhere:?}");
        assert_eq!(elsewhere, run_dir(&too_long), "the next start uses the same folder");
        assert_ne!(elsewhere, run_dir(&too_long.join("y")), "each data directory has another folder");
    }

    #[test]
    fn folder_may_have_any_name() {
        assert_eq!(quoted(Path::new("/a, \"b\"/c")), b"\"/a, \"\"b\"\"/c\"");
    }
}
