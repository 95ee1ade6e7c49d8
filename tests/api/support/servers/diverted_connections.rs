//! A server whose connections reach another PostgreSQL server than its heartbeats, simulated on one PostgreSQL:
//! `auth_server()` is replaced to return another name for such connections.

use cloudapi::server::state::AppOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use crate::support::{Identity, TestApp, eventually};

/// Starts a server next to `app` whose connections [`divert_all`] can distinguish from others.
pub async fn start_peer(app: &TestApp, options: AppOptions) -> TestApp {
    let database = app.db.connect_options();
    let role = format!("role_of_{}", database.get_database().unwrap());
    run(app, &format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN SUPERUSER")).await;
    run(
        app,
        "CREATE TABLE misled (usename name NOT NULL, pid int);
         CREATE OR REPLACE FUNCTION auth_server() RETURNS text LANGUAGE sql VOLATILE AS $$
             SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint || '/' ||
                    CASE WHEN EXISTS (SELECT FROM misled WHERE usename = current_user
                                                           AND coalesce(pid, pg_backend_pid()) = pg_backend_pid())
                         THEN 'backend ' || pg_backend_pid() ELSE 'primary' END
         $$",
    )
    .await;
    // `app` itself has reconnected to the server of the new name.
    eventually("heartbeats and lookups agree on the server", async || {
        (app.anonymous().get("/readyz").await.status == 200).then_some(())
    })
    .await;
    app.start_with_database(database.as_ref().clone().username(&role), options).await
}

/// From now on, each connection of `app`, existing or new, reaches a different server.
pub async fn divert_all(app: &TestApp) {
    run(app, "INSERT INTO misled SELECT current_user").await;
}

/// The process IDs of the pool's connections: those of `app`'s role, except those of its lease, its sealer and its
/// database check.
pub async fn pool_connections(app: &TestApp) -> Vec<i32> {
    let mut db = PgConnection::connect_with(&app.db.connect_options()).await.unwrap();
    let sql = AssertSqlSafe(format!("SELECT pid FROM pg_stat_activity WHERE {OF_POOL}"));
    let pids = sqlx::query_scalar(sql).fetch_all(&mut db).await.unwrap();
    db.close().await.unwrap();
    pids
}

const OF_POOL: &str = "datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
                 AND query NOT LIKE 'UPDATE auth_nodes SET stamp%' AND query NOT LIKE 'SELECT auth_server(), c.seq, l.seq%'
                 AND query NOT LIKE 'LISTEN%' AND query NOT LIKE '%pg_terminate_backend(pid)%'
                 AND application_name <> 'cloudapi sealer'";

/// From now on, the pool's open connections reach another server; new ones do not. Returns their process IDs.
pub async fn divert_open(app: &TestApp) -> Vec<i32> {
    let mut db = PgConnection::connect_with(&app.db.connect_options()).await.unwrap();
    let sql = AssertSqlSafe(format!(
        "INSERT INTO misled SELECT current_user, pid FROM pg_stat_activity WHERE {OF_POOL} RETURNING pid"
    ));
    let rows = sqlx::query(sql).fetch_all(&mut db).await.unwrap();
    db.close().await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// How many of these processes are running.
pub async fn running(app: &TestApp, pids: &[i32]) -> i64 {
    let mut db = PgConnection::connect_with(&app.db.connect_options()).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)";
    sqlx::query_scalar(sql).bind(pids).fetch_one(&mut db).await.unwrap()
}

/// From now on, all connections reach the same server again.
pub async fn restore(app: &TestApp) {
    run(app, "TRUNCATE misled").await;
}

/// Runs a statement on its own connection, as `app`'s user.
async fn run(app: &TestApp, sql: &str) {
    let mut db: PgConnection = app.db.connect_options().connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}
