//! Errors of the private PostgreSQL, with remedies.

use std::{io, path::PathBuf};

/// Reason why the private PostgreSQL does not run, with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL is not installed.
    #[error("no PostgreSQL (14 or newer) was found on this machine; do one of these, then start again:\n{0}")]
    NotInstalled(String),
    /// `CLOUDAPI_PG_BIN` has no usable PostgreSQL.
    #[error(
        "CLOUDAPI_PG_BIN = {} has no usable PostgreSQL ({why}); set it to the folder that contains `postgres` and `initdb`, or unset it",
        folder.display()
    )]
    NotInFolder {
        /// The folder.
        folder: PathBuf,
        /// What was tried, and the result.
        why: String,
    },
    /// `CLOUDAPI_PG_BIN` has a version that is too old.
    #[error("CLOUDAPI_PG_BIN = {} has PostgreSQL {major}, and cloudapi needs 14 or newer; set it to the folder of a newer version, or unset it", folder.display())]
    TooOld {
        /// The folder.
        folder: PathBuf,
        /// Major version found.
        major: u32,
    },
    /// The data was written by a major version that is not available.
    #[error(
        "the data in CLOUDAPI_DATA_DIR was written by PostgreSQL {needed}, which {where_not} ({found}); install PostgreSQL {needed}, set CLOUDAPI_PG_BIN to its folder, or upgrade the data with pg_upgrade"
    )]
    OtherMajor {
        /// Major version that wrote the data.
        needed: u32,
        /// Where it is missing.
        where_not: String,
        /// Versions that were found.
        found: String,
    },
    /// Another server uses the data directory.
    #[error(
        "{owner} already uses the data directory {}; stop it, or set another CLOUDAPI_DATA_DIR (several servers can share the database of one DATABASE_URL)",
        data_dir.display()
    )]
    Owned {
        /// Data directory.
        data_dir: PathBuf,
        /// The other server.
        owner: String,
    },
    /// The PostgreSQL of the server that uses the data directory does not respond.
    #[error(
        "{owner} uses the data directory {}, but its PostgreSQL does not respond; check that server's log, and restart it",
        data_dir.display()
    )]
    OwnerNotReady {
        /// Data directory.
        data_dir: PathBuf,
        /// The other server.
        owner: String,
    },
    /// PostgreSQL must not run as root, and there is no other user.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as; add the user `postgres`, or set DATABASE_URL"
    )]
    NoAccount,
    /// The user that PostgreSQL runs as has no access to the data directory.
    #[error(
        "PostgreSQL runs as the user {account} (it refuses root), which has no access to the data directory {}; set CLOUDAPI_DATA_DIR to a folder whose parent folders all users can enter, such as /var/lib/cloudapi",
        data_dir.display()
    )]
    NoAccess {
        /// Data directory.
        data_dir: PathBuf,
        /// Name of the user.
        account: String,
    },
    /// The path of the cluster is something else.
    #[error("{} exists but is not a PostgreSQL cluster; move it, or set another CLOUDAPI_DATA_DIR", .0.display())]
    NotACluster(PathBuf),
    /// A file or folder cannot be used.
    #[error("{what} {} failed; check its permissions, or set another CLOUDAPI_DATA_DIR", path.display())]
    Files {
        /// Operation.
        what: &'static str,
        /// Path.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A program cannot be run.
    #[error("{} could not be run{}; check that it exists, and check its permissions", program.display(), as_user(account.as_deref()))]
    Run {
        /// The program.
        program: PathBuf,
        /// User that should run it.
        account: Option<String>,
        /// Cause.
        source: io::Error,
    },
    /// initdb failed.
    #[error("PostgreSQL's files could not be created in CLOUDAPI_DATA_DIR ({how}); the reason is at the end of {}:\n{log_tail}", log.display())]
    InitFailed {
        /// How initdb ended.
        how: String,
        /// Path of the log.
        log: PathBuf,
        /// Last lines of the log.
        log_tail: String,
    },
    /// PostgreSQL exited during startup, or took too long.
    #[error("the private PostgreSQL did not start ({how}); the reason is at the end of {}. To use another PostgreSQL, set DATABASE_URL:\n{log_tail}", log.display())]
    StartFailed {
        /// How the start failed.
        how: String,
        /// Path of the log.
        log: PathBuf,
        /// Last lines of the log.
        log_tail: String,
    },
    /// An earlier PostgreSQL does not exit.
    #[error("an earlier PostgreSQL still uses {} ({who}) after {seconds} s; stop it (kill -QUIT), then start again", cluster.display())]
    StillRunning {
        /// The cluster.
        cluster: PathBuf,
        /// The process, as far as known.
        who: String,
        /// Wait in seconds.
        seconds: u64,
    },
}

impl Error {
    /// Returns a constructor of [`Error::Files`], for `map_err`.
    pub(super) fn files(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { what, path, source }
    }
}

fn as_user(account: Option<&str>) -> String {
    account.map(|account| format!(" as the user {account}")).unwrap_or_default()
}
