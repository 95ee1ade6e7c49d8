//! The database: how it is reached, brought up to date, and how its errors are told.

mod call;
pub mod deletions;
mod email_keys;
pub mod embedded;
mod pool;
pub mod sqlstate;
mod stamp;
pub mod writes;

use std::{str::FromStr, time::Duration};

use sqlx::{
    PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

pub use call::Call;
pub use pool::{Pool, WriteConnection};
pub use stamp::{ServerId, Stamp, Stamped};

use crate::base::{id::Kind, server_key::ServerKey};

/// The migrations, embedded in the binary.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// The oldest PostgreSQL that is supported, as its `server_version_num`.
const OLDEST_VERSION: i32 = 140_000;
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
    let options = options.application_name("cloudapi").options([
        // What a dead or stuck client of ours can hold up, and for how long.
        ("statement_timeout", "20s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "30s"),
        // What a statement locks or claims, the next one sees as it is then, whatever the database's own default is.
        ("default_transaction_isolation", "read committed"),
        ("timezone", "UTC"),
        // Compiling a query takes longer than any of ours.
        ("jit", "off"),
        // What `tx::open` writes literals by.
        ("standard_conforming_strings", "on"),
    ]);
    let options_of_pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIME)
        // A ping before each use costs more than the rare broken connection, whose request is served again on another
        // one if nothing can have been committed.
        .test_before_acquire(false);
    Pool::connect_lazy(options_of_pool, options)
}

/// Why a database cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It does not answer, now; it may later.
    #[error("the database does not answer: {0}; check DATABASE_URL and that PostgreSQL is running")]
    Unreachable(#[source] sqlx::Error),
    /// It answers, and will not have us.
    #[error(
        "the database refuses the connection: {0}; check the user, the password and the database's name in DATABASE_URL"
    )]
    Refused(#[source] sqlx::Error),
    /// It is too old.
    #[error("the database is PostgreSQL {0}, and cloudapi needs 14 or newer; upgrade it or set another DATABASE_URL")]
    TooOld(i32),
    /// Its tables are not what this version can work with.
    #[error(
        "the database cannot be migrated: {0}; check that the role may create tables, and that no newer cloudapi has migrated this database"
    )]
    Migration(#[source] MigrateError),
    /// Its servers have another key than this process.
    #[error(
        "the key found here is not the one that this deployment's servers have in common; copy the file of one of them (secret.key in its data directory) to this machine and name it as CLOUDAPI_SECRET_KEY_FILE, or if it is lost for good see 'cloudapi admin replace-key --help'"
    )]
    ForeignKey,
}

impl PrepareError {
    /// Whether waiting may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl From<sqlx::Error> for PrepareError {
    fn from(error: sqlx::Error) -> Self {
        // A pool that has waited in vain does not say why; the reason may pass.
        if matches!(error, sqlx::Error::PoolTimedOut) || is_connection_trouble(&error) {
            Self::Unreachable(error)
        } else {
            Self::Refused(error)
        }
    }
}

/// Checks the version and applies the migrations that are missing. Several nodes may do so at once:
/// one does, the others wait (sqlx holds an advisory lock).
pub async fn prepare(pool: &PgPool) -> Result<(), PrepareError> {
    let mut db = pool.acquire().await?;
    let version: i32 =
        sqlx::query_scalar("SELECT current_setting('server_version_num')::int").fetch_one(&mut *db).await?;
    if version < OLDEST_VERSION {
        return Err(PrepareError::TooOld(version / 10_000));
    }
    // Waiting for another node's migration may take longer than a request may.
    sqlx::query("SET statement_timeout = 0").execute(&mut *db).await?;
    sqlx::query("SET lock_timeout = 0").execute(&mut *db).await?;
    let migrated = MIGRATIONS.run(&mut *db).await.map_err(|error| match error {
        MigrateError::Execute(error) if is_connection_trouble(&error) => error.into(),
        other => PrepareError::Migration(other),
    });
    let migrated = match migrated {
        Ok(()) => email_keys::fill(&mut db).await.map_err(PrepareError::from),
        failed => failed,
    };
    // Closed rather than given back: its time-outs are not a request's.
    let closed = db.close().await.map_err(PrepareError::from);
    migrated.and(closed)
}

/// Sees to it that all servers on this database have one key. The first one's is noted; who comes with another is
/// refused, instead of signing and sealing what the others can neither check nor open.
pub async fn agree_on_key(pool: &PgPool, key: &ServerKey) -> Result<(), PrepareError> {
    let mut db = pool.acquire().await?;
    let ours = key.fingerprint();
    // Of several that start at once, one writes; the others then see what it wrote.
    sqlx::query("UPDATE deployment SET server_key = $1 WHERE server_key IS NULL")
        .bind(&ours[..])
        .execute(&mut *db)
        .await?;
    let noted: Option<Vec<u8>> = sqlx::query_scalar("SELECT server_key FROM deployment").fetch_one(&mut *db).await?;
    if noted.as_deref() == Some(&ours[..]) { Ok(()) } else { Err(PrepareError::ForeignKey) }
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
