//! The resource engine while the database stalls: what was under way goes on when the stall is over, and the figures show
//! what waits.

use std::time::Duration;

use cloudapi::{
    metrics::scrape,
    resources::{cloud::CloudOptions, pace::Pace},
    state::AppOptions,
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    Identity, Session, TestApp,
    cloud::{done, id_of, sim, soon},
    eventually,
    prometheus::Page,
};

/// An engine whose leases are so short that each is renewed several times during a stall of a second.
fn short_leases() -> AppOptions {
    let pace = Pace { lease: Duration::from_millis(400), ..soon() };
    AppOptions { cloud: CloudOptions { providers: vec![sim("sim", 0, 5)], pace }, ..AppOptions::default() }
}

fn volume(owner: &Session<'_>, number: usize) -> Value {
    json!({ "project_id": owner.project, "kind": "storage.volume", "name": format!("v{number}"), "spec": { "size_gib": 20 } })
}

/// How many statements of the engine wait for a lock.
async fn blocked_statements(db: &PgPool) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%deployment%'";
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

/// Holds up a statement that each turn at an operation begins with, until all permits are taken and leases have run out several times.
async fn stall(app: &TestApp, blocked: i64) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = app.db.begin().await.unwrap();
    sqlx::query("LOCK TABLE deployment IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    sqlx::query("UPDATE operations SET due_at = now() WHERE due_at IS NOT NULL").execute(&app.db).await.unwrap();
    eventually("the engine waits for the database", async || {
        (blocked_statements(&app.db).await >= blocked).then_some(())
    })
    .await;
    let begun: String = sqlx::query_scalar("SELECT now()::text").fetch_one(&app.db).await.unwrap();
    eventually("several leases have run out", async || {
        let sql = "SELECT now() > $1::timestamptz + interval '2 seconds'";
        sqlx::query_scalar::<_, bool>(sql).bind(&begun).fetch_one(&app.db).await.unwrap().then_some(())
    })
    .await;
    lock
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_under_way_go_on_when_a_stall_of_the_database_ends() {
    let app = TestApp::start_with(short_leases()).await;
    let owner = app.owner().await;
    // So that creations stay under way until the stall.
    sqlx::query(
        "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN new.ready_at = now() + interval '1 day'; RETURN new; END $$",
    )
    .execute(&app.db)
    .await
    .unwrap();
    sqlx::query("CREATE TRIGGER later BEFORE INSERT ON sim_objects FOR EACH ROW EXECUTE FUNCTION later()")
        .execute(&app.db)
        .await
        .unwrap();
    let mut submitted = Vec::new();
    for number in 0..12 {
        submitted.push(owner.post("/v1/resources", volume(&owner, number)).await.accepted());
    }
    eventually("all are begun", async || {
        let sql = "SELECT count(*) FROM sim_objects";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&app.db).await.unwrap() == 12).then_some(())
    })
    .await;
    stall(&app, 3).await.rollback().await.unwrap();
    sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&app.db).await.unwrap();
    for one in &submitted {
        let resource = done(&owner, one).await;
        assert_eq!(resource["id"], id_of(&one["resource"]));
    }
    // Nothing was made twice.
    let objects: i64 = sqlx::query_scalar("SELECT count(*) FROM sim_objects").fetch_one(&app.db).await.unwrap();
    assert_eq!(objects, 12);
    let _ = Page::parse(&scrape::page(&app));
}
