//! Preparation of a database: checks that this server can work with it, and applies migrations.

use sqlx::{Connection, PgConnection, PgPool, Row, migrate::MigrateError, postgres::PgConnectOptions};

use super::{
    MIGRATIONS, Pool, email_keys, is_connection_error,
    pool::{
        connect::{connect, explain_connect_error},
        pooler,
    },
};
use crate::base::server_key::ServerKey;

/// Oldest supported PostgreSQL, as `server_version_num`.
const OLDEST_VERSION: i32 = 140_000;
/// SQLSTATE of all errors from PgBouncer itself.
const PROTOCOL_VIOLATION: &str = "08P01";
/// Messages of PgBouncer about errors that are permanent.
const POOLER_REFUSALS: [&str; 4] =
    ["unsupported startup parameter", "no such database", "no such user", "bouncer config error"];
/// SQLSTATEs for a missing prepared statement, and for one with an existing name.
const OTHER_SESSION: [&str; 2] = ["26000", "42P05"];
/// PgBouncer's message in statement mode.
const NO_TRANSACTIONS: &str = "transaction blocks not allowed";

/// Reason why a database cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The database cannot be reached now.
    #[error("the database cannot be reached: {0}; check DATABASE_URL and that PostgreSQL is running")]
    Unreachable(String),
    /// The database is a standby, which may be promoted.
    #[error(
        "the database is a standby, which is read-only: promote it, or set DATABASE_URL to the primary (with several hosts behind one name, to the name of the primary)"
    )]
    Standby,
    /// The database refuses the connection.
    #[error("the database refuses the connection: {why}; {remedy}")]
    Refused {
        /// The database's message.
        why: String,
        /// Remedy.
        remedy: &'static str,
    },
    /// Several connections share a session.
    #[error(
        "connections made with DATABASE_URL share PostgreSQL sessions, as with PgBouncer in transaction or statement mode; cloudapi needs session mode: set pool_mode = session for this database in pgbouncer.ini, or connect DATABASE_URL to PostgreSQL directly"
    )]
    SharedSessions,
    /// PostgreSQL is too old.
    #[error("the database is PostgreSQL {0}, and cloudapi needs 14 or newer; upgrade it or set another DATABASE_URL")]
    TooOld(i32),
    /// The encoding cannot store every text.
    #[error(
        "the database '{database}' has the encoding {encoding}, and cloudapi needs UTF8; create another database with CREATE DATABASE name ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0, and set DATABASE_URL to it"
    )]
    Encoding {
        /// Name of the database.
        database: String,
        /// Encoding of the database.
        encoding: String,
    },
    /// Transactions are read-only by default for the role or the database.
    #[error(
        "transactions of the role '{role}' in the database '{database}' are read-only by default; remove that with ALTER ROLE … RESET default_transaction_read_only or ALTER DATABASE … RESET default_transaction_read_only"
    )]
    ReadOnly {
        /// The role.
        role: String,
        /// The database.
        database: String,
    },
    /// No schema is available for tables.
    #[error(
        "no schema of search_path ({search_path}) exists or can be used by the role '{role}'; create one, or set search_path with ALTER ROLE … SET search_path = public"
    )]
    NoSchema {
        /// The role.
        role: String,
        /// PostgreSQL's `search_path`.
        search_path: String,
    },
    /// The role lacks privileges on a table, or a policy hides rows of it.
    #[error(
        "the role '{role}' may not read and write all rows of the table '{table}'; connect as the role that owns it, or grant the role all privileges on the tables and disable row level security"
    )]
    NotAllowed {
        /// The role.
        role: String,
        /// The table.
        table: String,
    },
    /// The migrations cannot be applied, or a newer version applied others.
    #[error(
        "the database cannot be migrated: {0}; check that the role may create tables, and that no newer cloudapi has migrated this database"
    )]
    Migration(#[source] MigrateError),
    /// A query of the preparation failed.
    #[error("the database cannot be prepared: {0}; check that the role in DATABASE_URL owns the database's tables")]
    Failed(#[source] sqlx::Error),
    /// The deployment's servers have another key than this process.
    #[error(
        "this server's key is not the key of the deployment; copy the file of another server (secret.key in its data directory) to this machine and set CLOUDAPI_SECRET_KEY_FILE to it, or if the key is lost, see 'cloudapi admin replace-key --help'"
    )]
    ForeignKey,
}

impl PrepareError {
    /// Reports whether the error is transient.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Standby)
    }

    /// Summary of a transient error without the address, for `/readyz`, which is public.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::Standby => "the database is a standby",
            _ => "the database cannot be reached",
        }
    }

    /// Classifies a failed connection attempt.
    fn from_connect_error(error: &sqlx::Error, options: &PgConnectOptions) -> Self {
        let why = explain_connect_error(error, options);
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let remedy = match (error, code.as_deref()) {
            (sqlx::Error::Tls(_), _) => {
                "check sslmode, sslrootcert, sslcert and sslkey in DATABASE_URL, and the server's certificate"
            }
            (sqlx::Error::Database(error), Some(PROTOCOL_VIOLATION)) if is_pooler_refusal(error.message()) => {
                "this error is from PgBouncer; remove such parameters from DATABASE_URL, use pool_mode = session, or connect DATABASE_URL to PostgreSQL directly"
            }
            (sqlx::Error::Database(_), Some("28P01")) => "check the user and the password in DATABASE_URL",
            (sqlx::Error::Database(error), Some("28000")) if error.message().contains("no encryption") => {
                "the server may accept TLS only: set sslmode=require in DATABASE_URL, or let its pg_hba.conf accept this client"
            }
            (sqlx::Error::Database(_), Some("3D000")) => {
                "create it with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, or correct the database's name in DATABASE_URL"
            }
            (sqlx::Error::Database(_), _) if !is_connection_error(error) => {
                "check the user, the password and the database's name in DATABASE_URL, and the server's pg_hba.conf"
            }
            (sqlx::Error::Configuration(_), _) => "correct DATABASE_URL",
            _ => return Self::Unreachable(why),
        };
        Self::Refused { why, remedy }
    }
}

/// Reports whether a statement was prepared by another session, or a prepared one is missing. Both happen only if
/// sessions are shared.
fn is_shared_session_error(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| OTHER_SESSION.contains(&&*code))
}

fn is_pooler_refusal(message: &str) -> bool {
    POOLER_REFUSALS.iter().any(|refusal| message.contains(refusal))
}

impl From<sqlx::Error> for PrepareError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database_error) if database_error.message().contains(NO_TRANSACTIONS) => {
                Self::SharedSessions
            }
            error if is_shared_session_error(error) => Self::SharedSessions,
            error if matches!(error, sqlx::Error::PoolTimedOut) || is_connection_error(error) => {
                Self::Unreachable(error.to_string())
            }
            _ => Self::Failed(error),
        }
    }
}

/// Checks the database and applies missing migrations. Several nodes may do so concurrently: one migrates, and the
/// others wait (sqlx holds an advisory lock).
pub async fn prepare(pool: &PgPool) -> Result<(), PrepareError> {
    let options = pool.connect_options();
    let mut db = connect(&options).await.map_err(|error| PrepareError::from_connect_error(&error, &options))?;
    // First, and with simple queries: with shared sessions, nothing else works as expected.
    if pooler::shares_sessions(&options, &mut db).await? {
        return Err(PrepareError::SharedSessions);
    }
    check(&mut db).await?;
    // Waiting for another node's migration may take longer than a request's timeouts.
    sqlx::query("SET statement_timeout = 0").execute(&mut db).await?;
    sqlx::query("SET lock_timeout = 0").execute(&mut db).await?;
    MIGRATIONS.run(&mut db).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if is_connection_error(&error) || is_shared_session_error(&error) =>
        {
            error.into()
        }
        other => PrepareError::Migration(other),
    })?;
    email_keys::fill(&mut db).await?;
    check_privileges(&mut db).await?;
    db.close().await.map_err(PrepareError::from)
}

/// Refuses an unsuitable database before anything is changed in it.
async fn check(db: &mut PgConnection) -> Result<(), PrepareError> {
    let found = sqlx::raw_sql(
        "SELECT current_setting('server_version_num')::int, current_database()::text, current_user::text,
                current_setting('server_encoding'), pg_is_in_recovery(),
                current_setting('default_transaction_read_only')::bool, current_schema()::text,
                current_setting('search_path')",
    )
    .fetch_one(db)
    .await?;
    let (version, database, role): (i32, String, String) = (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
    let (encoding, is_standby, is_read_only): (String, bool, bool) =
        (found.try_get(3)?, found.try_get(4)?, found.try_get(5)?);
    let schema: Option<String> = found.try_get(6)?;
    if version < OLDEST_VERSION {
        return Err(PrepareError::TooOld(version / 10_000));
    }
    if encoding != "UTF8" {
        return Err(PrepareError::Encoding { database, encoding });
    }
    if is_standby {
        return Err(PrepareError::Standby);
    }
    if is_read_only {
        return Err(PrepareError::ReadOnly { role, database });
    }
    if schema.is_none() {
        return Err(PrepareError::NoSchema { role, search_path: found.try_get(7)? });
    }
    Ok(())
}

/// Refuses a role without the table privileges that requests need.
async fn check_privileges(db: &mut PgConnection) -> Result<(), PrepareError> {
    let refused: Option<(String, String)> = sqlx::query_as(
        "SELECT current_user::text, relname::text FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
           AND (row_security_active(oid)
                OR NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                        AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')))
           AND relname = ANY ($1)
         ORDER BY oid LIMIT 1",
    )
    .bind(tables())
    .fetch_optional(db)
    .await?;
    refused.map_or(Ok(()), |(role, table)| Err(PrepareError::NotAllowed { role, table }))
}

/// Names of all tables that the migrations create.
fn tables() -> Vec<String> {
    let named = |sql: &str| -> Vec<String> {
        let after = sql.split("CREATE TABLE ").skip(1);
        after.filter_map(|rest| rest.split([' ', '(', '\n']).next()).map(str::to_owned).collect()
    };
    MIGRATIONS.iter().flat_map(|migration| named(migration.sql.as_str())).collect()
}

/// Ensures that all servers on this database have the same key. The first server's key is recorded; a server with
/// another key is refused, because it would sign and seal data that the others cannot verify or open.
pub async fn ensure_server_key(pool: &Pool, key: &ServerKey) -> Result<(), PrepareError> {
    let mut db = pool.acquire().await?;
    let ours = key.fingerprint();
    // Of several servers that start concurrently, one writes, and the others see its key.
    sqlx::query("UPDATE deployment SET server_key = $1 WHERE server_key IS NULL")
        .bind(&ours[..])
        .execute(&mut *db)
        .await?;
    let recorded: Option<Vec<u8>> = sqlx::query_scalar("SELECT server_key FROM deployment").fetch_one(&mut *db).await?;
    if recorded.as_deref() == Some(&ours[..]) { Ok(()) } else { Err(PrepareError::ForeignKey) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_from_the_migrations() {
        let tables = tables();
        for table in ["keys", "sessions", "deployment", "auth_clock", "audit_entries", "webhooks", "resources"] {
            assert!(tables.iter().any(|found| found == table), "{table}: {tables:?}");
        }
    }
}
