//! Why the private PostgreSQL does not run, and what to do about it.

use std::{io, path::PathBuf};

/// Why the private PostgreSQL does not run, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine has none.
    #[error("no PostgreSQL (14 or newer) was found on this machine; do one of these, then start again:\n{0}")]
    NotInstalled(String),
    /// The operator's folder has none.
    #[error(
        "CLOUDAPI_PG_BIN = {} has no PostgreSQL that runs ({why}); set it to the folder that holds `postgres` and `initdb`, or unset it",
        folder.display()
    )]
    NotInFolder {
        /// The folder.
        folder: PathBuf,
        /// What was tried, and how it went.
        why: String,
    },
    /// The operator's folder has one of the past.
    #[error("CLOUDAPI_PG_BIN = {} has PostgreSQL {major}, and cloudapi needs 14 or newer; set it to a newer one's folder, or unset it", folder.display())]
    TooOld {
        /// The folder.
        folder: PathBuf,
        /// Its major version.
        major: u32,
    },
    /// The data were written by a version that is not there.
    #[error(
        "the data in CLOUDAPI_DATA_DIR were written by PostgreSQL {needed}, which {where_not} ({found}); install PostgreSQL {needed}, set CLOUDAPI_PG_BIN to its folder, or upgrade the data with pg_upgrade"
    )]
    OtherMajor {
        /// The version that wrote the data.
        needed: u32,
        /// Where it was looked for.
        where_not: String,
        /// What is there.
        found: String,
    },
    /// Another server works with the data directory.
    #[error(
        "{owner} already uses the data directory {}; stop it, or give this one a CLOUDAPI_DATA_DIR of its own (several servers can share the database of one DATABASE_URL)",
        data_dir.display()
    )]
    Owned {
        /// The data directory.
        data_dir: PathBuf,
        /// The other server.
        owner: String,
    },
    /// The server that works with the data directory has no PostgreSQL that answers.
    #[error(
        "{owner} uses the data directory {}, but its PostgreSQL does not answer; look at that server's log, and restart it",
        data_dir.display()
    )]
    OwnerNotReady {
        /// The data directory.
        data_dir: PathBuf,
        /// The other server.
        owner: String,
    },
    /// PostgreSQL must not run as root, and there is nobody else.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as; add the user `postgres`, or set DATABASE_URL"
    )]
    NoAccount,
    /// The user that PostgreSQL runs as cannot reach the data.
    #[error(
        "PostgreSQL runs as the user {account} (it refuses root), who may not enter the data directory {}; set CLOUDAPI_DATA_DIR to a folder below ones that all may enter, such as /var/lib/cloudapi",
        data_dir.display()
    )]
    MayNotEnter {
        /// The data directory.
        data_dir: PathBuf,
        /// The user.
        account: String,
    },
    /// Something else lies where the cluster should be.
    #[error("{} is there but is no PostgreSQL cluster; move it away, or set another CLOUDAPI_DATA_DIR", .0.display())]
    NotACluster(PathBuf),
    /// A file or folder cannot be used.
    #[error("{what} {} failed; check who may use it, or set another CLOUDAPI_DATA_DIR", path.display())]
    Files {
        /// What was done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A program cannot be run.
    #[error("{} could not be run{}; check that it exists, and who may run it", program.display(), as_user(account.as_deref()))]
    Run {
        /// The program.
        program: PathBuf,
        /// As whom.
        account: Option<String>,
        /// What went wrong.
        source: io::Error,
    },
    /// initdb failed.
    #[error("PostgreSQL's files could not be made ({how}); the end of {} tells why, CLOUDAPI_DATA_DIR is where they go:\n{said}", log.display())]
    NotMade {
        /// How initdb ended.
        how: String,
        /// Where all of it is.
        log: PathBuf,
        /// The last lines.
        said: String,
    },
    /// PostgreSQL ended, or took too long.
    #[error("the private PostgreSQL did not start ({how}); the end of {} tells why, or set DATABASE_URL to use another:\n{said}", log.display())]
    DidNotStart {
        /// How it went.
        how: String,
        /// Where all of it is.
        log: PathBuf,
        /// The last lines.
        said: String,
    },
    /// An earlier PostgreSQL does not end.
    #[error("an earlier PostgreSQL still works on {} ({who}) after {seconds} s; end it (kill -QUIT), then start again", cluster.display())]
    StillRunning {
        /// The cluster.
        cluster: PathBuf,
        /// The process, as far as it is known.
        who: String,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl Error {
    /// For `map_err`.
    pub(super) fn files(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { what, path, source }
    }
}

fn as_user(account: Option<&str>) -> String {
    account.map(|account| format!(" as the user {account}")).unwrap_or_default()
}
