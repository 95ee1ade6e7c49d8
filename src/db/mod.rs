//! The database: connections, migrations, and classification of errors.

mod call;
pub mod deletions;
mod email_keys;
pub mod embedded;
pub mod jobs;
pub mod lists;
pub mod pool;
mod prepare;
pub mod pulse;
pub mod purges;
pub mod sqlstate;
mod stamp;

use std::{str::FromStr, time::Duration};

use sqlx::{
    PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgSslMode},
};

pub use call::{Call, unexpected_result};
pub use pool::connect::{connect, connect_error_kind, explain_connect_error, pool_options};
pub use pool::{ConnectionSource, Pool, WriteConnection};
pub use prepare::{PrepareError, ensure_server_key, prepare};
pub use stamp::{ServerId, Stamp, Stamped};

use crate::base::{id::Kind, runtime::clock::Timestamp, server_key::ServerKey};

/// Migrations, embedded in the binary.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// Time limit for a request to get a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Kind of item that belongs to one project and has an ID.
pub trait ProjectItem: Kind {
    /// SQL expression for the project of the item `$1`.
    const PROJECT_OF: &'static str;
}

/// SQL that deletes up to 1,000 rows of a table whose time in a column, which has an index, is at most `$1`, the oldest
/// first. Skips locked rows, so that it waits for no request and cannot deadlock with one.
macro_rules! delete_batch {
    ($table:literal, $time:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ctid = ANY (ARRAY(SELECT ctid FROM ",
            $table,
            " WHERE ",
            $time,
            " <= $1 ORDER BY ",
            $time,
            " LIMIT 1000 FOR UPDATE SKIP LOCKED))"
        )
    };
}
pub(crate) use delete_batch;

/// Parses `DATABASE_URL`.
pub fn options_from_url(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    PgConnectOptions::from_str(url)
}

/// Connection options of the private PostgreSQL. Every field is set, because the defaults come from `PG*` variables,
/// which are meant for another server.
pub fn options_for_private(endpoint: &embedded::Endpoint) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(&endpoint.socket_dir)
        .port(endpoint.port)
        .username(&endpoint.user)
        .database(&endpoint.database)
        .ssl_mode(PgSslMode::Disable)
}

/// Creates a pool that connects on first use, so that the server can start before its database.
pub fn pool(options: PgConnectOptions, max_connections: u32) -> Pool {
    let pool = pool_options()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A ping before each use costs more than a rare broken connection, whose request is retried on another one if
        // nothing can have been committed.
        .test_before_acquire(false);
    Pool::connect_lazy(pool, pool::connect::options(options))
}

/// Records `key` as the key of all servers from now on. Returns the fingerprint of the previous key.
pub async fn replace_key(db: &mut PgConnection, key: &ServerKey) -> sqlx::Result<Option<Vec<u8>>> {
    let before = sqlx::query_scalar("SELECT server_key FROM deployment FOR UPDATE").fetch_one(&mut *db).await?;
    sqlx::query("UPDATE deployment SET server_key = $1").bind(&key.fingerprint()[..]).execute(db).await?;
    Ok(before)
}

/// Name of the constraint that a write violated. Conflicts are detected by constraints, because a check before the
/// write is subject to races.
pub fn violated_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}

fn is_connection_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            // 08 connection, 53 resources, 57P operator intervention (shutdown, crash, starting up), 25006 standby.
            error.code().is_some_and(|code| ["08", "53", "57P", "25006"].iter().any(|class| code.starts_with(class)))
        }
        sqlx::Error::PoolClosed => true,
        error => sqlstate::classify(error).replaces_connections,
    }
}

/// The database's time.
pub async fn database_now(db: &mut PgConnection) -> sqlx::Result<Timestamp> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(db).await
}
