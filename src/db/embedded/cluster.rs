//! The cluster: PostgreSQL's files and settings.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use super::{
    Durability, Endpoint, Error, POLL_INTERVAL, START_TIMEOUT, USER,
    find::Programs,
    folders::{self, account::Account},
    lifeline::Launcher,
};

/// File with the major version that wrote its folder.
const VERSION_FILE: &str = "PG_VERSION";

/// Path of the cluster.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

/// Returns the major version that wrote the cluster, or None if there is no cluster. An empty folder is not a cluster.
pub(super) fn major(cluster: &Path) -> Result<Option<u32>, Error> {
    let path = cluster.join(VERSION_FILE);
    if let Some(major) = read_major(&path)? {
        return Ok(Some(major));
    }
    match fs::read_dir(cluster).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(None),
        // After a power failure the file may be empty. Each database has a copy.
        Ok(false) => match read_major(&cluster.join("base/1").join(VERSION_FILE))? {
            Some(major) if cluster.join("global/pg_control").exists() => Ok(Some(major)),
            _ => Err(Error::NotACluster(cluster.into())),
        },
        Err(_) if fs::symlink_metadata(cluster).is_ok() => Err(Error::NotACluster(cluster.into())),
        Err(_) => Ok(None),
    }
}

fn read_major(path: &Path) -> Result<Option<u32>, Error> {
    match fs::read(path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).trim().parse().ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::files("reading", path)(error)),
    }
}

/// Restores the cluster's version file if it does not have the version that [`major`] found, because PostgreSQL would
/// not start. Call this only while nothing runs on the cluster.
pub(super) fn restore_version_file(cluster: &Path, account: &Account) -> Result<(), Error> {
    let path = cluster.join(VERSION_FILE);
    let Some(major) = major(cluster)? else { return Ok(()) };
    if read_major(&path)?.is_some() {
        return Ok(());
    }
    tracing::warn!("{} had no version, as after a power failure; restored from a copy", path.display());
    let temporary = cluster.join("PG_VERSION.new");
    let restored = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(format!("{major}\n").as_bytes())?;
        file.sync_all()
    })();
    restored.map_err(Error::files("writing", &temporary))?;
    account.chown(&temporary)?;
    fs::rename(&temporary, &path).and_then(|()| File::open(cluster)?.sync_all()).map_err(Error::files("writing", path))
}

/// Creates the cluster if it is missing, and returns whether it did. The cluster is created under a temporary name and
/// then renamed, so an interruption never leaves a partial one.
pub(super) fn create_if_missing(
    data_dir: &Path,
    launcher: &Launcher,
    programs: &Programs,
    durability: Durability,
) -> Result<bool, Error> {
    let unfinished = data_dir.join("postgres.unfinished");
    folders::remove(&unfinished)?;
    let cluster = path(data_dir);
    if major(&cluster)?.is_some() {
        return Ok(false);
    }
    DirBuilder::new().mode(0o700).create(&unfinished).map_err(Error::files("creating", &unfinished))?;
    launcher.account.chown(&unfinished)?;
    initdb(&unfinished, launcher, programs, durability)?;
    fs::rename(&unfinished, &cluster)
        .and_then(|()| File::open(data_dir)?.sync_all())
        .map_err(Error::files("finishing", cluster))?;
    Ok(true)
}

fn initdb(cluster: &Path, launcher: &Launcher, programs: &Programs, durability: Durability) -> Result<(), Error> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), cluster.into(), "-U".into(), USER.into()];
    // Access to the socket's folder is the access control. Peer authentication is not possible, because both root and
    // the user that runs PostgreSQL must be able to connect.
    arguments.extend(["--auth-local=trust", "--auth-host=reject"].map(OsString::from));
    arguments.extend(["--encoding=UTF8", "--locale=C", "--no-instructions"].map(OsString::from));
    if durability == Durability::Volatile {
        arguments.push("--no-sync".into());
    }
    let mut initdb = launcher.launch(&programs.initdb(), arguments)?;
    let not_made =
        |how: String| Error::InitFailed { how, log: launcher.log.path.clone(), log_tail: launcher.log.tail() };
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match initdb.exit_status()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(not_made(status.to_string())),
            None if Instant::now() > deadline => {
                return Err(not_made(format!("initdb was not done after {} s", START_TIMEOUT.as_secs())));
            }
            None => thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Command line of PostgreSQL for the cluster at `endpoint`. Settings on the command line override the configuration
/// files, and a new version of CloudAPI can change them.
pub(super) fn arguments(
    cluster: &Path,
    endpoint: &Endpoint,
    durability: Durability,
    max_connections: u32,
) -> Vec<OsString> {
    let durable = match durability {
        Durability::Durable => "on",
        Durability::Volatile => "off",
    };
    let port = endpoint.port.to_string();
    let max_connections = max_connections.to_string();
    let settings = [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("port", &port),
        ("ssl", "off"),
        ("max_connections", &max_connections),
        ("shared_buffers", "64MB"),
        ("fsync", durable),
        ("full_page_writes", durable),
        ("synchronous_commit", durable),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        // PostgreSQL's standard error is our log. Errors of clients are reported to the client, and would fill the log
        // with user data.
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("log_min_messages", "log"),
        ("log_min_error_statement", "panic"),
        ("log_error_verbosity", "terse"),
        ("log_checkpoints", "off"),
    ];
    let mut arguments: Vec<OsString> = vec!["-D".into(), cluster.into()];
    let socket_dir = folders::setting("unix_socket_directories", &folders::quoted(&endpoint.socket_dir));
    arguments.extend(["-c".into(), socket_dir]);
    for (name, value) in settings {
        arguments.extend(["-c".into(), folders::setting(name, value.as_bytes())]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_volatile_cluster_is_not_durable() {
        let endpoint = Endpoint::at("/run".into(), 5432);
        for (durability, value) in [(Durability::Durable, "on"), (Durability::Volatile, "off")] {
            let arguments = arguments(Path::new("/d/postgres"), &endpoint, durability, 7);
            for name in ["fsync", "full_page_writes", "synchronous_commit"] {
                assert!(arguments.contains(&OsString::from(format!("{name}={value}"))), "{arguments:?}");
            }
        }
    }
}
