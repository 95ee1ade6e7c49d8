//! Finds a pooler that gives one session of PostgreSQL to several connections, as PgBouncer does in transaction and
//! statement mode. Session settings, prepared statements and LISTEN are then lost or somebody else's.

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::time::timeout;

use super::connect::connect;

/// More sessions than a pooler keeps idle, as a rule.
const MOST: usize = 40;
/// How often to try. Clients of the pooler besides this one take and leave sessions meanwhile, so one try may miss it.
const ROUNDS: usize = 4;
/// How long one more connection may take. A pooler that has no session left lets it wait.
const STEP_TIME: Duration = Duration::from_secs(2);

/// Whether `db` and other connections share a session. Others take sessions, and keep them in a transaction, until one
/// is given a session that was not there before: in session mode none of them is that of `db`. Where sessions are
/// shared, one of them gets it, because it is idle; or somebody else holds it, and `db` itself gets another.
///
/// Only simple queries: a prepared statement of this name may be there already in a session that is shared.
pub(super) async fn shares_sessions(options: &PgConnectOptions, db: &mut PgConnection) -> sqlx::Result<bool> {
    // Statement mode refuses this.
    sqlx::raw_sql("BEGIN").execute(&mut *db).await?;
    sqlx::raw_sql("COMMIT").execute(&mut *db).await?;
    for _ in 0..ROUNDS {
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
    while !is_shared && others.len() < MOST {
        // Whatever keeps one more connection from being made, it is not for this to tell.
        let Ok(Ok((other, row))) = timeout(STEP_TIME, one_more(options, &since)).await else { break };
        others.push(other);
        let (its, is_new): (i32, bool) = (row.try_get(0)?, row.try_get(1)?);
        is_shared = its == session;
        if is_new {
            break;
        }
    }
    if !is_shared {
        let again: i32 = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(db).await?.try_get(0)?;
        is_shared = again != session;
    }
    for other in others {
        let _ = timeout(STEP_TIME, other.close()).await;
    }
    Ok(is_shared)
}

/// Another connection, in a transaction; its session, and whether that has begun after `since`.
async fn one_more(options: &PgConnectOptions, since: &str) -> sqlx::Result<(PgConnection, PgRow)> {
    let mut other = connect(options).await?;
    sqlx::raw_sql("BEGIN").execute(&mut other).await?;
    let sql = format!(
        "SELECT pid, backend_start > '{since}'::timestamptz FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    );
    // The time is PostgreSQL's own.
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_one(&mut other).await?;
    Ok((other, row))
}
