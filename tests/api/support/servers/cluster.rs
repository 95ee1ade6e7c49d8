//! One PostgreSQL for the test process, with a template database that is copied for each test.

use std::{
    env,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use cloudapi::db::{
    self,
    embedded::{Durability, Options, PrivatePostgres},
};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;

use crate::support::{shared::RUNTIME, slot::Slot};

const TEMPLATE: &str = "template_cloudapi";

struct Cluster {
    postgres: PrivatePostgres,
    /// Connections that create databases, on the runtime of the shared server.
    admin: PgPool,
    /// How databases are created.
    strategy: &'static str,
    /// Held as long as the process runs.
    _slot: Slot,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Connection options of a new, migrated database.
pub async fn fresh_database() -> PgConnectOptions {
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    copy(TEMPLATE, &name).await
}

/// Connection options of a new database without tables.
pub async fn empty_database() -> PgConnectOptions {
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    copy("template0", &name).await
}

/// The URL form of `options`, for another process.
pub fn url(options: &PgConnectOptions) -> String {
    options.to_url_lossy().to_string()
}

async fn copy(template: &str, name: &str) -> PgConnectOptions {
    let cluster = CLUSTER.get_or_init(start).await;
    let sql = format!("CREATE DATABASE {name} TEMPLATE {template} {}", cluster.strategy);
    let created = async move { sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&cluster.admin).await };
    RUNTIME.spawn(created).await.unwrap().unwrap();
    db::options_for_private(cluster.postgres.endpoint()).database(name)
}

async fn start() -> Cluster {
    let slot = Slot::acquire("test");
    let options = Options {
        data_dir: slot.folder.clone(),
        pg_bin: env::var_os("CLOUDAPI_PG_BIN").map(PathBuf::from),
        durability: Durability::Volatile,
        max_connections: 200,
    };
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(options)).await.unwrap().unwrap();
    let options = db::options_for_private(postgres.endpoint());
    let mut admin = PgConnection::connect_with(&options).await.unwrap();
    // With hundreds of databases, its launcher would start a worker ten times a second.
    for sql in ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"] {
        sqlx::query(sql).execute(&mut admin).await.unwrap();
    }
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {TEMPLATE}"))).execute(&mut admin).await.unwrap();
    let version: i32 =
        sqlx::query_scalar("SELECT current_setting('server_version_num')::int").fetch_one(&mut admin).await.unwrap();
    // Copying files is much faster than logging their content. Supported since PostgreSQL 15.
    let strategy = if version >= 150_000 { "STRATEGY FILE_COPY" } else { "" };
    admin.close().await.unwrap();
    let pool = db::pool(options.clone().database(TEMPLATE), 1);
    db::prepare(&pool).await.unwrap();
    pool.close().await;
    let admin = PgPoolOptions::new().max_connections(4).idle_timeout(None).max_lifetime(None);
    Cluster { postgres, admin: admin.connect_lazy_with(options), strategy, _slot: slot }
}
