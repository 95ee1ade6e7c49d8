//! The one table of SQLSTATEs: what a client is answered, whether the connection is to blame, and whether the statement may
//! be tried again on another connection. Handlers, credential look-ups and workers all go by it, through
//! `From<sqlx::Error>` and [`Pool::note`](super::Pool::note).

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::base::error::{Code, Error};

/// What an error of the database means.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What a client is answered if trying again does not help.
    pub code: Code,
    /// What was wrong and what to do, for the client.
    pub detail: &'static str,
    /// Whether the pool's connections are to be replaced: they lead to a server that cannot do what is asked, are broken,
    /// or hold statements that do not work any more.
    pub replaces_connections: bool,
    /// Whether the same may be tried again on another connection, if nothing can have been committed.
    pub retry: bool,
    /// Why every write fails, if that follows.
    pub writes_fail: Option<WriteFailure>,
}

/// Why writes fail while reads may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The server is a standby, or does not take writes.
    ReadOnly,
    /// The database server's disk is full.
    DiskFull,
    /// The database server cannot read or write its files.
    StorageFailure,
    /// The database server refuses writes because it has run into one of its own limits.
    ServerLimit,
}

const UNAVAILABLE: Verdict = Verdict {
    code: Code::DatabaseUnavailable,
    detail: "The database cannot be reached; retry in a moment",
    replaces_connections: false,
    retry: false,
    writes_fail: None,
};
/// The connection is of no use, and another one may be.
const BROKEN: Verdict = Verdict { replaces_connections: true, retry: true, ..UNAVAILABLE };
const READ_ONLY: Verdict = Verdict {
    detail: "The database does not take writes now, as during a failover; retry in a moment",
    writes_fail: Some(WriteFailure::ReadOnly),
    ..BROKEN
};
/// A statement that was prepared on this connection does not work any more.
const STALE_STATEMENT: Verdict =
    Verdict { detail: "The database's tables or connections have just changed; retry in a moment", ..BROKEN };
const REFUSED: Verdict = Verdict {
    detail: "The database refuses the server's request, which the operator has to solve; retry later",
    ..UNAVAILABLE
};
const EXHAUSTED: Verdict =
    Verdict { detail: "The database server has run out of a resource; retry in a moment", ..UNAVAILABLE };
const DISK_FULL: Verdict = Verdict {
    detail: "The database server's disk is full, so nothing can be written; retry later",
    writes_fail: Some(WriteFailure::DiskFull),
    ..UNAVAILABLE
};
const STORAGE: Verdict = Verdict {
    detail: "The database server cannot read or write its files; retry later",
    writes_fail: Some(WriteFailure::StorageFailure),
    ..UNAVAILABLE
};
const LIMIT: Verdict = Verdict {
    detail: "The database server refuses this because of one of its own limits; retry later",
    writes_fail: Some(WriteFailure::ServerLimit),
    ..UNAVAILABLE
};
const CONFLICT: Verdict =
    Verdict { code: Code::Overloaded, detail: "Another write was in the way; retry in a moment", ..UNAVAILABLE };
const RETRIED_CONFLICT: Verdict = Verdict { retry: true, ..CONFLICT };
const SLOW: Verdict =
    Verdict { code: Code::Timeout, detail: "The database took too long; retry in a moment", ..UNAVAILABLE };
const BUSY: Verdict =
    Verdict { code: Code::Overloaded, detail: "Every database connection is in use; retry in a moment", ..UNAVAILABLE };
/// Not a request that the database can serve, whoever sends it.
const UNENCODABLE: Verdict = Verdict {
    code: Code::MalformedRequest,
    detail: "The request holds a character that the database cannot store, such as NUL; remove it",
    ..UNAVAILABLE
};
/// A fault of ours: the statement is wrong, or breaks a rule that should have been checked before.
const OUR_MISTAKE: Verdict = Verdict { code: Code::Internal, detail: "", ..UNAVAILABLE };

/// By SQLSTATE or its beginning; the longest that fits decides.
static TABLE: &[(&str, Verdict)] = &[
    // Connection exceptions; poolers and proxies use 08P01 and 08006.
    ("08", BROKEN),
    // Feature not supported: "cached plan must not change result type", after a migration.
    ("0A", STALE_STATEMENT),
    ("22021", UNENCODABLE),
    ("22P05", UNENCODABLE),
    // The connection is in another state than it should be: somebody else has used it.
    ("25", BROKEN),
    ("25006", READ_ONLY),
    // The transaction was idle, or took, for too long. It is rolled back, and the connection closed.
    ("25P03", SLOW),
    ("25P04", SLOW),
    // A prepared statement or cursor that is not there, or there already: a pooler in transaction mode, or DISCARD.
    ("26", STALE_STATEMENT),
    ("34", STALE_STATEMENT),
    ("42P03", STALE_STATEMENT),
    ("42P05", STALE_STATEMENT),
    // The password, the role, the database, the schema or a privilege is gone.
    ("28", REFUSED),
    ("3D", REFUSED),
    ("3F", REFUSED),
    ("42501", REFUSED),
    // A trigger or an extension that the operator has added.
    ("38", REFUSED),
    ("39", REFUSED),
    ("P0001", REFUSED),
    // Serialization failure, deadlock; on a standby also a query that is in the way of recovery.
    ("40", RETRIED_CONFLICT),
    // The statement's end is not known.
    ("40003", UNAVAILABLE),
    // A constraint that is checked at COMMIT.
    ("40002", OUR_MISTAKE),
    // Snapshot too old.
    ("72", RETRIED_CONFLICT),
    ("53", EXHAUSTED),
    ("53100", DISK_FULL),
    // Among others: no more transaction ids before a vacuum.
    ("54", LIMIT),
    // Not in the state that is needed, as during recovery.
    ("55", UNAVAILABLE),
    ("55P03", CONFLICT),
    // Operator intervention: shutdown, crash, starting, terminated, idle for too long.
    ("57", BROKEN),
    ("57014", SLOW),
    // Errors of the system outside of PostgreSQL, or of its files.
    ("58", STORAGE),
    // PostgreSQL's configuration file; foreign data.
    ("F0", UNAVAILABLE),
    ("HV", UNAVAILABLE),
    // PostgreSQL's own faults.
    ("XX", BROKEN),
    ("XX001", STORAGE),
    ("XX002", STORAGE),
];

static INTERNAL: Verdict = OUR_MISTAKE;
static NO_CONNECTION: Verdict = BUSY;
static LOST: Verdict = BROKEN;
static CLOSED: Verdict = UNAVAILABLE;

/// What a SQLSTATE means.
pub fn of_state(state: &str) -> &'static Verdict {
    let fitting = TABLE.iter().filter(|(beginning, _)| state.starts_with(beginning));
    fitting.max_by_key(|(beginning, _)| beginning.len()).map_or(&INTERNAL, |(_, verdict)| verdict)
}

/// What an error of the database, or on the way to it, means.
pub fn of(error: &sqlx::Error) -> &'static Verdict {
    match error {
        sqlx::Error::Database(error) => of_state(error.code().as_deref().unwrap_or_default()),
        sqlx::Error::PoolTimedOut => &NO_CONNECTION,
        sqlx::Error::PoolClosed => &CLOSED,
        // A connection that answers something else than was asked is of no use, as after a restart.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => &LOST,
        _ => &INTERNAL,
    }
}

/// The database's error behind `error`, if there is one.
pub fn cause_of(error: &Error) -> Option<&sqlx::Error> {
    let cause = error.cause()?;
    match (cause.downcast_ref::<sqlx::Error>(), cause.downcast_ref::<Error>()) {
        (Some(error), _) => Some(error),
        (None, Some(error)) => cause_of(error),
        (None, None) => None,
    }
}

/// What the database's error behind `error` means, if there is one.
pub fn behind(error: &Error) -> Option<&'static Verdict> {
    cause_of(error).map(of)
}

/// Whether a transaction may have been committed whose COMMIT was answered with `error`. An ERROR rolls it back; what ends
/// the connection leaves it open.
pub fn may_have_committed(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return of(error).code != Code::Internal;
    };
    let state = error.code();
    let state = state.as_deref().unwrap_or_default();
    let ends_connection = error
        .try_downcast_ref::<PgDatabaseError>()
        .is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic));
    match state {
        // Ended because nothing was sent: so COMMIT was not either.
        "25P03" | "57P05" => false,
        "40003" => true,
        _ => ends_connection || state.starts_with("08"),
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match of(&error) {
            Verdict { code: Code::Internal, .. } => Self::internal(error),
            Verdict { code, detail, .. } => Self::new(*code, *detail).caused_by(error),
        }
    }
}

impl WriteFailure {
    /// For `/readyz`; `host` is where the database is.
    pub fn describe(self, host: &str) -> String {
        match self {
            Self::ReadOnly => format!("read-only: the database at {host} does not take writes"),
            Self::DiskFull => format!("disk full: PostgreSQL at {host} has no space left on its disk"),
            Self::StorageFailure => format!("storage failure: PostgreSQL at {host} cannot read or write its files"),
            Self::ServerLimit => {
                format!("refused: PostgreSQL at {host} has reached one of its own limits; its log says which")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_decides_whatever_the_order_of_rows() {
        for (state, code, replaces, retry) in [
            ("25006", Code::DatabaseUnavailable, true, true),
            ("25P02", Code::DatabaseUnavailable, true, true),
            ("25P03", Code::Timeout, false, false),
            ("57014", Code::Timeout, false, false),
            ("57P01", Code::DatabaseUnavailable, true, true),
            ("0A000", Code::DatabaseUnavailable, true, true),
            ("26000", Code::DatabaseUnavailable, true, true),
            ("42P05", Code::DatabaseUnavailable, true, true),
            ("40001", Code::Overloaded, false, true),
            ("40P01", Code::Overloaded, false, true),
            ("55P03", Code::Overloaded, false, false),
            ("53100", Code::DatabaseUnavailable, false, false),
            ("22021", Code::MalformedRequest, false, false),
            ("42601", Code::Internal, false, false),
            ("23505", Code::Internal, false, false),
            ("ABCDE", Code::Internal, false, false),
            ("", Code::Internal, false, false),
        ] {
            let verdict = of_state(state);
            let found = (verdict.code, verdict.replaces_connections, verdict.retry);
            assert_eq!(found, (code, replaces, retry), "{state}");
        }
    }

    #[test]
    fn a_verdict_is_found_behind_an_error_that_another_one_caused() {
        let inner = Error::from(sqlx::Error::WorkerCrashed);
        let outer = Error::new(Code::AuthUnavailable, "unavailable").caused_by(inner);
        assert_eq!(behind(&outer), Some(&BROKEN));
        assert_eq!(behind(&Error::not_found()), None);
    }

    #[test]
    fn a_lost_answer_to_commit_leaves_the_outcome_open() {
        assert!(may_have_committed(&sqlx::Error::WorkerCrashed));
        assert!(!may_have_committed(&sqlx::Error::RowNotFound));
    }
}
