//! Loss of a synchronous standby: writes wait for it in COMMIT.

use std::time::{Duration, Instant};

use cloudapi::db::{
    self,
    embedded::{Durability, Options, PrivatePostgres},
};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::support::{Identity, TestApp, eventually, slot::Slot};

/// Time limit of a read while writes are waiting. The writes wait longer.
const SOON: Duration = Duration::from_secs(5);

async fn count(db: &mut PgConnection, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cloudapi%' AND {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db).await.unwrap()
}

async fn set_standby(db: &mut PgConnection, name: &str) {
    let sql = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *db).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&mut *db).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_waiting_for_a_lost_standby_are_terminated_and_leave_connections_for_reads() {
    // A separate PostgreSQL, because the setting affects the whole server.
    let slot = Slot::acquire("standby");
    let options = Options {
        data_dir: slot.folder.clone(),
        pg_bin: std::env::var_os("CLOUDAPI_PG_BIN").map(Into::into),
        durability: Durability::Durable,
        max_connections: 60,
    };
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(options)).await.unwrap().unwrap();
    let database = db::options_for_private(postgres.endpoint());
    let pool = db::pool(database.clone(), 1);
    db::prepare(&pool).await.unwrap();
    pool.close().await;
    let app = TestApp::start_at(&database).await;
    let owner = app.owner().await;
    let mut admin = PgConnection::connect_with(&database.application_name("admin")).await.unwrap();
    set_standby(&mut admin, "nobody").await;
    eventually("setting in effect", async || {
        let shown: String = sqlx::query_scalar("SHOW synchronous_standby_names").fetch_one(&mut admin).await.unwrap();
        (shown == "nobody").then_some(())
    })
    .await;

    // More clients than the pool has connections.
    let writers = join_all((0..12).map(async |_| owner.post("/v1/projects", json!({ "name": "waits" })).await));
    let beside = async {
        eventually("readyz reports the waiting writes", async || {
            let ready = app.anonymous().get("/readyz").await;
            let writes = ready["checks"]["writes"].as_str().unwrap_or_default();
            (ready.status == 503 && writes.contains("SyncRep")).then_some(())
        })
        .await;
        for _ in 0..10 {
            let began = Instant::now();
            let reply = owner.get("/v1/projects").await;
            // Without a committed lease, no credential is accepted. That response must be as fast.
            assert!(reply.status == 200 || reply["code"] == "auth_unavailable", "{} {}", reply.status, reply["code"]);
            sqlx::query("SELECT 1").execute(&app.db).await.unwrap();
            assert!(began.elapsed() < SOON, "a read took {:?}", began.elapsed());
        }
    };
    let (answers, ()) = tokio::join!(writers, beside);
    let mut unknown = 0;
    for reply in answers {
        assert_eq!(reply.status, 503, "{}", reply.json());
        assert!(reply.header("retry-after").is_some());
        let code = reply["code"].as_str().unwrap();
        assert!(["outcome_unknown", "overloaded", "auth_unavailable"].contains(&code), "{code}");
        unknown += usize::from(code == "outcome_unknown");
    }
    assert!(unknown > 0, "no write returned outcome_unknown");
    // Connections of the pool, the sealer and the invalidation listener, and lease connections that are still open.
    let open = count(&mut admin, "true").await;
    assert!(open < 30, "{open} connections");

    set_standby(&mut admin, "").await;
    eventually("write succeeded", async || {
        (owner.post("/v1/projects", json!({ "name": "goes on" })).await.status == 201).then_some(())
    })
    .await;
    eventually("ready", async || (app.anonymous().get("/readyz").await.status == 200).then_some(())).await;
    eventually("no waiting backend", async || (count(&mut admin, "wait_event = 'SyncRep'").await == 0).then_some(()))
        .await;
    drop(owner);
    drop(app);
    admin.close().await.unwrap();
    tokio::task::spawn_blocking(|| postgres.stop().unwrap()).await.unwrap();
    std::fs::remove_dir_all(&slot.folder).unwrap();
}
