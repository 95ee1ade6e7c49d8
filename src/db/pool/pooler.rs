//! Detection of a pooler that shares PostgreSQL sessions between connections, such as PgBouncer in transaction or
//! statement mode. With shared sessions, session settings, prepared statements and LISTEN are lost or belong to another
//! client.

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::time::timeout;

use super::connect::connect;

/// Maximum number of extra connections: more than a pooler usually keeps idle.
const MAX_CONNECTIONS: usize = 40;
/// Number of attempts. Other clients of the pooler take and release sessions meanwhile, so a single attempt may miss
/// it.
const ATTEMPTS: usize = 4;
/// Time limit for one more connection. A pooler without a free session makes it wait.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports whether `db` shares its session with other connections.
///
/// Opens further connections, each of which keeps its session in a transaction, until one gets a new session. In
/// session mode, none of them gets the session of `db`. If sessions are shared, one of them gets it because it is idle,
/// or another client holds it and `db` gets a different one.
///
/// Uses only simple queries, because a shared session may already have a prepared statement of the same name.
pub(crate) async fn shares_sessions(options: &PgConnectOptions, db: &mut PgConnection) -> sqlx::Result<bool> {
    // Statement mode refuses transaction blocks.
    sqlx::raw_sql("BEGIN").execute(&mut *db).await?;
    sqlx::raw_sql("COMMIT").execute(&mut *db).await?;
    for _ in 0..ATTEMPTS {
        if is_shared_now(options, db).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn is_shared_now(options: &PgConnectOptions, db: &mut PgConnection) -> sqlx::Result<bool> {
    let first = sqlx::raw_sql("SELECT pg_backend_pid(), clock_timestamp()::text").fetch_one(&mut *db).await?;
    let (session, since): (i32, String) = (first.try_get(0)?, first.try_get(1)?);
    let mut others = Vec::new();
    let mut is_shared = false;
    while !is_shared && others.len() < MAX_CONNECTIONS {
        // A failure to open one more connection says nothing about sharing.
        let Ok(Ok((other, row))) = timeout(STEP_TIMEOUT, open_in_transaction(options, &since)).await else { break };
        others.push(other);
        let (pid, is_new): (i32, bool) = (row.try_get(0)?, row.try_get(1)?);
        is_shared = pid == session;
        if is_new {
            break;
        }
    }
    if !is_shared {
        let pid_now: i32 = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(db).await?.try_get(0)?;
        is_shared = pid_now != session;
    }
    for other in others {
        let _ = timeout(STEP_TIMEOUT, other.close()).await;
    }
    Ok(is_shared)
}

/// Opens another connection in a transaction. Returns it with its session's PID and whether the session began after
/// `since`.
async fn open_in_transaction(options: &PgConnectOptions, since: &str) -> sqlx::Result<(PgConnection, PgRow)> {
    let mut other = connect(options).await?;
    sqlx::raw_sql("BEGIN").execute(&mut other).await?;
    let sql = format!(
        "SELECT pid, backend_start > '{since}'::timestamptz FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    );
    // `since` was returned by PostgreSQL, so it is safe to embed.
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_one(&mut other).await?;
    Ok((other, row))
}
