//! Makes a database ready: checks that this server can work with it, and brings its tables up to date.

use sqlx::{Connection, PgConnection, PgPool, Row, migrate::MigrateError, postgres::PgConnectOptions};

use super::{
    MIGRATIONS, Pool,
    connect::{connect, explain},
    email_keys, is_connection_trouble, pooler,
};
use crate::base::server_key::ServerKey;

/// The oldest PostgreSQL that is supported, as its `server_version_num`.
const OLDEST_VERSION: i32 = 140_000;
/// The SQLSTATE of what PgBouncer itself says, whatever it is.
const PROTOCOL_VIOLATION: &str = "08P01";
/// What PgBouncer says that waiting does not change.
const POOLER_REFUSALS: [&str; 4] =
    ["unsupported startup parameter", "no such database", "no such user", "bouncer config error"];
/// The SQLSTATEs of a prepared statement that does not exist, and of one that exists already.
const OTHER_SESSION: [&str; 2] = ["26000", "42P05"];
/// What it says in statement mode.
const NO_TRANSACTIONS: &str = "transaction blocks not allowed";

/// Why a database cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It cannot be reached now.
    #[error("the database cannot be reached: {0}; check DATABASE_URL and that PostgreSQL is running")]
    Unreachable(String),
    /// It is a standby, which may be promoted.
    #[error(
        "the database is a standby, which is read-only: promote it, or set DATABASE_URL to the primary (with several hosts behind one name, to the name of the primary)"
    )]
    Standby,
    /// It does not accept the connection.
    #[error("the database refuses the connection: {why}; {remedy}")]
    Refused {
        /// What it says.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Several connections share a session.
    #[error(
        "the connections that DATABASE_URL gives share sessions of PostgreSQL, as with PgBouncer in transaction or statement mode; cloudapi needs session mode: set pool_mode = session for this database in pgbouncer.ini, or set DATABASE_URL to PostgreSQL itself"
    )]
    SharedSessions,
    /// It is too old.
    #[error("the database is PostgreSQL {0}, and cloudapi needs 14 or newer; upgrade it or set another DATABASE_URL")]
    TooOld(i32),
    /// It cannot hold every text.
    #[error(
        "the database '{database}' has the encoding {encoding}, and cloudapi needs UTF8; create another with CREATE DATABASE name ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0, and name it in DATABASE_URL"
    )]
    Encoding {
        /// Its name.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// The role's or the database's default is to write nothing.
    #[error(
        "transactions of the role '{role}' in the database '{database}' are read-only by default; remove that with ALTER ROLE … RESET default_transaction_read_only or ALTER DATABASE … RESET default_transaction_read_only"
    )]
    ReadOnly {
        /// The role.
        role: String,
        /// The database.
        database: String,
    },
    /// There is nowhere to create tables.
    #[error(
        "no schema of search_path ({search_path}) exists or may be used by the role '{role}'; create one, or set it with ALTER ROLE … SET search_path = public"
    )]
    NoSchema {
        /// The role.
        role: String,
        /// Where PostgreSQL looks.
        search_path: String,
    },
    /// The role may not use a table of ours, or a policy hides rows of it.
    #[error(
        "the role '{role}' may not read and write all rows of the table '{table}'; connect as the role that owns it, or grant the role all privileges on the tables and disable row level security"
    )]
    NotAllowed {
        /// The role.
        role: String,
        /// The table.
        table: String,
    },
    /// Its tables are not what this version can work with.
    #[error(
        "the database cannot be migrated: {0}; check that the role may create tables, and that no newer cloudapi has migrated this database"
    )]
    Migration(#[source] MigrateError),
    /// A query of the preparation failed.
    #[error("the database cannot be prepared: {0}; check that the role in DATABASE_URL owns the database's tables")]
    Failed(#[source] sqlx::Error),
    /// Its servers have another key than this process.
    #[error(
        "the key found here is not the one that this deployment's servers have in common; copy the file of one of them (secret.key in its data directory) to this machine and name it as CLOUDAPI_SECRET_KEY_FILE, or if it is lost for good see 'cloudapi admin replace-key --help'"
    )]
    ForeignKey,
}

impl PrepareError {
    /// Whether waiting may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Standby)
    }

    /// What is waited for, without the address: for `/readyz`, which anybody may read.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::Standby => "the database is a standby",
            _ => "the database cannot be reached",
        }
    }

    /// Of a connection that was not made.
    fn connecting(error: &sqlx::Error, options: &PgConnectOptions) -> Self {
        let why = explain(error, options);
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let remedy = match (error, code.as_deref()) {
            (sqlx::Error::Tls(_), _) => {
                "check sslmode, sslrootcert, sslcert and sslkey in DATABASE_URL, and the server's certificate"
            }
            (sqlx::Error::Database(error), Some(PROTOCOL_VIOLATION)) if is_pooler_refusal(error.message()) => {
                "PgBouncer says this; leave such parameters out of DATABASE_URL, use pool_mode = session, or set DATABASE_URL to PostgreSQL itself"
            }
            (sqlx::Error::Database(_), Some("28P01")) => "check the user and the password in DATABASE_URL",
            (sqlx::Error::Database(error), Some("28000")) if error.message().contains("no encryption") => {
                "the server may accept TLS only: set sslmode=require in DATABASE_URL, or let its pg_hba.conf accept this client"
            }
            (sqlx::Error::Database(_), Some("3D000")) => {
                "create it with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, or correct the database's name in DATABASE_URL"
            }
            (sqlx::Error::Database(_), _) if !is_connection_trouble(error) => {
                "check the user, the password and the database's name in DATABASE_URL, and the server's pg_hba.conf"
            }
            (sqlx::Error::Configuration(_), _) => "correct DATABASE_URL",
            _ => return Self::Unreachable(why),
        };
        Self::Refused { why, remedy }
    }
}

/// Whether a statement met what another session has prepared, or missed what its own has: both are news only where
/// sessions are shared.
fn is_of_another_session(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| OTHER_SESSION.contains(&&*code))
}

fn is_pooler_refusal(message: &str) -> bool {
    POOLER_REFUSALS.iter().any(|refusal| message.contains(refusal))
}

impl From<sqlx::Error> for PrepareError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(said) if said.message().contains(NO_TRANSACTIONS) => Self::SharedSessions,
            error if is_of_another_session(error) => Self::SharedSessions,
            error if matches!(error, sqlx::Error::PoolTimedOut) || is_connection_trouble(error) => {
                Self::Unreachable(error.to_string())
            }
            _ => Self::Failed(error),
        }
    }
}

/// Checks the database and applies the migrations that are missing. Several nodes may do so at once:
/// one does, the others wait (sqlx holds an advisory lock).
pub async fn prepare(pool: &PgPool) -> Result<(), PrepareError> {
    let options = pool.connect_options();
    let mut db = connect(&options).await.map_err(|error| PrepareError::connecting(&error, &options))?;
    // First, and with simple queries: where sessions are shared nothing else works as it should.
    if pooler::shares_sessions(&options, &mut db).await? {
        return Err(PrepareError::SharedSessions);
    }
    check(&mut db).await?;
    // Waiting for another node's migration may take longer than a request may.
    sqlx::query("SET statement_timeout = 0").execute(&mut db).await?;
    sqlx::query("SET lock_timeout = 0").execute(&mut db).await?;
    MIGRATIONS.run(&mut db).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if is_connection_trouble(&error) || is_of_another_session(&error) =>
        {
            error.into()
        }
        other => PrepareError::Migration(other),
    })?;
    email_keys::fill(&mut db).await?;
    check_privileges(&mut db).await?;
    db.close().await.map_err(PrepareError::from)
}

/// Refuses a database before anything is changed in it.
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

/// Refuses a role that may not do with the tables what requests will do.
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

/// Every table that a migration has made.
fn tables() -> Vec<String> {
    let named = |sql: &str| -> Vec<String> {
        let after = sql.split("CREATE TABLE ").skip(1);
        after.filter_map(|rest| rest.split([' ', '(', '\n']).next()).map(str::to_owned).collect()
    };
    MIGRATIONS.iter().flat_map(|migration| named(migration.sql.as_str())).collect()
}

/// Sees to it that all servers on this database have one key. The first one's is noted; who comes with another is
/// refused, instead of signing and sealing what the others can neither check nor open.
pub async fn agree_on_key(pool: &Pool, key: &ServerKey) -> Result<(), PrepareError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_the_migrations() {
        let tables = tables();
        for table in ["keys", "sessions", "deployment", "auth_clock", "audit_entries", "webhooks", "resources"] {
            assert!(tables.iter().any(|found| found == table), "{table}: {tables:?}");
        }
    }
}
