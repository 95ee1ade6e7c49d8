//! The table of SQLSTATEs: the response for the client, whether the connection is at fault, and whether the statement
//! may be retried on another connection. Handlers, credential lookups and workers all use it, through
//! `From<sqlx::Error>` and [`Pool::handle_sql_error`](super::Pool::handle_sql_error).

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::base::error::{Code, Error};

/// Meaning of a database error.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorClass {
    /// Error code for the client if retries do not help.
    pub code: Code,
    /// Error detail for the client.
    pub detail: &'static str,
    /// Whether to replace the pool's connections, because they lead to a server that cannot serve the statement, are
    /// broken, or have prepared statements that no longer work.
    pub replaces_connections: bool,
    /// Whether the statement may be retried on another connection, if nothing can have been committed.
    pub retry: bool,
    /// Reason why all writes fail, if the error implies that.
    pub writes_fail: Option<WriteFailure>,
}

/// Reason why writes fail while reads may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The server is a standby, or read-only.
    ReadOnly,
    /// The database server's disk is full.
    DiskFull,
    /// The database server cannot read or write its files.
    StorageFailure,
    /// The database server refuses writes because it has reached one of its limits.
    ServerLimit,
}

const UNAVAILABLE: ErrorClass = ErrorClass {
    code: Code::DatabaseUnavailable,
    detail: "The database cannot be reached; retry in a moment",
    replaces_connections: false,
    retry: false,
    writes_fail: None,
};
/// The connection is unusable; another one may work.
const BROKEN: ErrorClass = ErrorClass { replaces_connections: true, retry: true, ..UNAVAILABLE };
const READ_ONLY: ErrorClass = ErrorClass {
    detail: "The database does not accept writes now, as during a failover; retry in a moment",
    writes_fail: Some(WriteFailure::ReadOnly),
    ..BROKEN
};
/// A prepared statement of this connection no longer works.
const STALE_STATEMENT: ErrorClass =
    ErrorClass { detail: "The database schema or its connections have just changed; retry in a moment", ..BROKEN };
const REFUSED: ErrorClass = ErrorClass {
    detail: "The database refuses the server's statement. The operator must fix this; retry later",
    ..UNAVAILABLE
};
const EXHAUSTED: ErrorClass =
    ErrorClass { detail: "The database server has run out of a resource; retry in a moment", ..UNAVAILABLE };
const DISK_FULL: ErrorClass = ErrorClass {
    detail: "The database server's disk is full, so writes fail; retry later",
    writes_fail: Some(WriteFailure::DiskFull),
    ..UNAVAILABLE
};
const STORAGE: ErrorClass = ErrorClass {
    detail: "The database server cannot read or write its files; retry later",
    writes_fail: Some(WriteFailure::StorageFailure),
    ..UNAVAILABLE
};
const LIMIT: ErrorClass = ErrorClass {
    detail: "The database server has reached one of its limits; retry later",
    writes_fail: Some(WriteFailure::ServerLimit),
    ..UNAVAILABLE
};
const CONFLICT: ErrorClass = ErrorClass {
    code: Code::Overloaded,
    detail: "The request conflicted with another write; retry in a moment",
    ..UNAVAILABLE
};
const RETRIED_CONFLICT: ErrorClass = ErrorClass { retry: true, ..CONFLICT };
const SLOW: ErrorClass =
    ErrorClass { code: Code::Timeout, detail: "The database took too long; retry in a moment", ..UNAVAILABLE };
const BUSY: ErrorClass = ErrorClass {
    code: Code::Overloaded,
    detail: "Every database connection is in use; retry in a moment",
    ..UNAVAILABLE
};
/// The database can never serve this request.
const UNENCODABLE: ErrorClass = ErrorClass {
    code: Code::MalformedRequest,
    detail: "The request contains a character that the database cannot store, such as NUL; remove it",
    ..UNAVAILABLE
};
/// Bug in CloudAPI: the statement is wrong, or violates a rule that should have been checked before.
const INTERNAL_BUG: ErrorClass = ErrorClass { code: Code::Internal, detail: "", ..UNAVAILABLE };

/// Classes by SQLSTATE or its prefix. The longest matching prefix applies.
static TABLE: &[(&str, ErrorClass)] = &[
    // Connection exceptions. Poolers and proxies use 08P01 and 08006.
    ("08", BROKEN),
    // Feature not supported: "cached plan must not change result type", after a migration.
    ("0A", STALE_STATEMENT),
    ("22021", UNENCODABLE),
    ("22P05", UNENCODABLE),
    // The connection is in an unexpected state, because another client has used it.
    ("25", BROKEN),
    ("25006", READ_ONLY),
    // Transaction timeout or idle-in-transaction timeout. PostgreSQL rolls back and closes the connection.
    ("25P03", SLOW),
    ("25P04", SLOW),
    // A prepared statement or cursor is missing or already exists: a pooler in transaction mode, or DISCARD.
    ("26", STALE_STATEMENT),
    ("34", STALE_STATEMENT),
    ("42P03", STALE_STATEMENT),
    ("42P05", STALE_STATEMENT),
    // The password, role, database, schema or privilege no longer exists.
    ("28", REFUSED),
    ("3D", REFUSED),
    ("3F", REFUSED),
    ("42501", REFUSED),
    // Raised by a trigger or an extension that the operator added.
    ("38", REFUSED),
    ("39", REFUSED),
    ("P0001", REFUSED),
    // Serialization failure or deadlock; on a standby also a conflict with recovery.
    ("40", RETRIED_CONFLICT),
    // The outcome of the statement is unknown.
    ("40003", UNAVAILABLE),
    // A constraint that is checked at COMMIT.
    ("40002", INTERNAL_BUG),
    // Snapshot too old.
    ("72", RETRIED_CONFLICT),
    ("53", EXHAUSTED),
    ("53100", DISK_FULL),
    // Among others: no more transaction IDs before a vacuum.
    ("54", LIMIT),
    // Object not in prerequisite state, as during recovery.
    ("55", UNAVAILABLE),
    ("55P03", CONFLICT),
    // Operator intervention: shutdown, crash, startup, termination, idle timeout.
    ("57", BROKEN),
    ("57014", SLOW),
    // System errors outside of PostgreSQL, or errors of its files.
    ("58", STORAGE),
    // PostgreSQL's configuration file; foreign data.
    ("F0", UNAVAILABLE),
    ("HV", UNAVAILABLE),
    // Internal errors of PostgreSQL.
    ("XX", BROKEN),
    ("XX001", STORAGE),
    ("XX002", STORAGE),
];

static INTERNAL: ErrorClass = INTERNAL_BUG;
static NO_CONNECTION: ErrorClass = BUSY;
static LOST: ErrorClass = BROKEN;
static CLOSED: ErrorClass = UNAVAILABLE;

/// Class of a SQLSTATE.
pub fn classify_state(state: &str) -> &'static ErrorClass {
    let fitting = TABLE.iter().filter(|(beginning, _)| state.starts_with(beginning));
    fitting.max_by_key(|(beginning, _)| beginning.len()).map_or(&INTERNAL, |(_, class)| class)
}

/// Class of an error from the database or from the connection to it.
pub fn classify(error: &sqlx::Error) -> &'static ErrorClass {
    match error {
        sqlx::Error::Database(error) => classify_state(error.code().as_deref().unwrap_or_default()),
        sqlx::Error::PoolTimedOut => &NO_CONNECTION,
        sqlx::Error::PoolClosed => &CLOSED,
        // A connection with a protocol error is unusable, as after a restart.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => &LOST,
        _ => &INTERNAL,
    }
}

/// The database error that caused `error`, if any.
pub fn database_cause(error: &Error) -> Option<&sqlx::Error> {
    let cause = error.cause()?;
    match (cause.downcast_ref::<sqlx::Error>(), cause.downcast_ref::<Error>()) {
        (Some(error), _) => Some(error),
        (None, Some(error)) => database_cause(error),
        (None, None) => None,
    }
}

/// Class of the database error that caused `error`, if any.
pub fn classify_cause(error: &Error) -> Option<&'static ErrorClass> {
    database_cause(error).map(classify)
}

/// Reports whether a transaction whose COMMIT failed with `error` may have been committed. An ERROR rolls back; an
/// error that ends the connection leaves the outcome unknown.
pub fn may_have_committed(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return classify(error).code != Code::Internal;
    };
    let state = error.code();
    let state = state.as_deref().unwrap_or_default();
    let ends_connection = error
        .try_downcast_ref::<PgDatabaseError>()
        .is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic));
    match state {
        // The session ended because it was idle, so COMMIT was not sent.
        "25P03" | "57P05" => false,
        "40003" => true,
        _ => ends_connection || state.starts_with("08"),
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match classify(&error) {
            ErrorClass { code: Code::Internal, .. } => Self::internal(error),
            ErrorClass { code, detail, .. } => Self::new(*code, *detail).caused_by(error),
        }
    }
}

impl WriteFailure {
    /// Description for `/readyz`. `host` is the address of the database.
    pub fn describe(self, host: &str) -> String {
        match self {
            Self::ReadOnly => format!("read-only: the database at {host} does not accept writes"),
            Self::DiskFull => format!("disk full: PostgreSQL at {host} has no space left on its disk"),
            Self::StorageFailure => format!("storage failure: PostgreSQL at {host} cannot read or write its files"),
            Self::ServerLimit => {
                format!("refused: PostgreSQL at {host} has reached one of its limits; see its log")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_decides_in_any_order_of_rows() {
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
            let class = classify_state(state);
            let found = (class.code, class.replaces_connections, class.retry);
            assert_eq!(found, (code, replaces, retry), "{state}");
        }
    }

    #[test]
    fn verdict_is_found_through_nested_causes() {
        let inner = Error::from(sqlx::Error::WorkerCrashed);
        let outer = Error::new(Code::AuthUnavailable, "unavailable").caused_by(inner);
        assert_eq!(classify_cause(&outer), Some(&BROKEN));
        assert_eq!(classify_cause(&Error::not_found()), None);
    }

    #[test]
    fn lost_response_to_commit_leaves_the_outcome_unknown() {
        assert!(may_have_committed(&sqlx::Error::WorkerCrashed));
        assert!(!may_have_committed(&sqlx::Error::RowNotFound));
    }
}
