//! The database: how it is reached, brought up to date, and how its errors are told.

mod call;
mod connect;
pub mod deletions;
mod email_keys;
pub mod embedded;
mod pool;
mod pooler;
mod prepare;
pub mod sqlstate;
mod stamp;
pub mod writes;

use std::{str::FromStr, time::Duration};

use sqlx::{
    PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgSslMode},
};

pub use call::Call;
pub use connect::{connect, explain, kind, pool_options};
pub use pool::{Connections, Pool, WriteConnection};
pub use prepare::{PrepareError, agree_on_key, prepare};
pub use stamp::{ServerId, Stamp, Stamped};

use crate::base::{id::Kind, server_key::ServerKey};

/// The migrations, embedded in the binary.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long a request may wait for a free connection.
const ACQUIRE_TIME: Duration = Duration::from_secs(5);

/// A kind of thing that lives in one project and has an id of its own.
pub trait ProjectItem: Kind {
    /// SQL that gives the project of the item `$1`.
    const PROJECT_OF: &'static str;
}

/// Reads `DATABASE_URL`.
pub fn options_from_url(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    PgConnectOptions::from_str(url)
}

/// How the private PostgreSQL is reached. Each field is set, because the defaults come from `PG*`
/// variables, which are about some other server.
pub fn options_for_private(endpoint: &embedded::Endpoint) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(&endpoint.socket_dir)
        .port(endpoint.port)
        .username(&endpoint.user)
        .database(&endpoint.database)
        .ssl_mode(PgSslMode::Disable)
}

/// A pool that connects when first used, so that the server can start before its database does.
pub fn pool(options: PgConnectOptions, max_connections: u32) -> Pool {
    let pool = pool_options()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIME)
        // A ping before each use costs more than the rare broken connection, whose request is served again on another
        // one if nothing can have been committed.
        .test_before_acquire(false);
    Pool::connect_lazy(pool, connect::options(options))
}

/// Notes `key` as the one that all servers have from now on; gives the fingerprint of the one before.
pub async fn replace_key(db: &mut PgConnection, key: &ServerKey) -> sqlx::Result<Option<Vec<u8>>> {
    let before = sqlx::query_scalar("SELECT server_key FROM deployment FOR UPDATE").fetch_one(&mut *db).await?;
    sqlx::query("UPDATE deployment SET server_key = $1").bind(&key.fingerprint()[..]).execute(db).await?;
    Ok(before)
}

/// The name of the constraint that a write ran against. Conflicts are told by it, not by looking
/// first, which another write could overtake.
pub fn violated_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}

fn is_connection_trouble(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            // 08 connection, 53 resources, 57P operator intervention (shutdown, crash, not yet started), 25006 a standby.
            error.code().is_some_and(|code| ["08", "53", "57P", "25006"].iter().any(|class| code.starts_with(class)))
        }
        sqlx::Error::PoolClosed => true,
        error => sqlstate::of(error).replaces_connections,
    }
}
