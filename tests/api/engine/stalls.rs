//! The resource engine while the database stalls: operations in progress continue afterwards, every wait is bounded,
//! and the metrics show waiting operations.

use std::time::Duration;

use cloudapi::{
    resources::{
        cloud::CloudOptions,
        engine::{
            machine::{OperationState, Step},
            timing::EngineTiming,
        },
        store::queue::{self, Holder},
    },
    server::{scrape, state::AppOptions, supervision::status::WorkerOptions},
};
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};

use crate::support::{
    Identity, Session, TestApp,
    cloud::{fast_timing, id_of, sim, wait_until_succeeded},
    eventually,
    prometheus::Exposition,
    worker_faults::{Fault, WorkerFaults},
};

fn with_timing(timing: EngineTiming) -> AppOptions {
    AppOptions { cloud: CloudOptions { providers: vec![sim("sim", 0, 5)], timing }, ..AppOptions::default() }
}

async fn submit(owner: &Session<'_>, count: usize) -> Vec<Value> {
    let mut submitted = Vec::new();
    for number in 0..count {
        let body = json!({ "project_id": owner.project, "kind": "storage.volume", "name": format!("v{number}"),
                           "spec": { "size_gib": 20 } });
        submitted.push(owner.post("/v1/resources", body).await.accepted());
    }
    submitted
}

/// Blocks the statement that every step of an operation begins with.
async fn lock(app: &TestApp) -> Transaction<'static, Postgres> {
    let mut lock = app.db.begin().await.unwrap();
    sqlx::query("LOCK TABLE deployment IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    lock
}

/// Waits until at least `count` connections of the server wait for the lock.
async fn wait_until_blocked(app: &TestApp, count: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%deployment%'";
    eventually("the engine to wait for the database", async || {
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&app.db).await.unwrap() >= count).then_some(())
    })
    .await;
}

async fn objects(app: &TestApp) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM sim_objects").fetch_one(&app.db).await.unwrap()
}

/// Hung workers are not detected.
fn with_stall_bound(faults: &WorkerFaults) -> WorkerOptions {
    let stall_after = Some(Duration::from_secs(3600));
    WorkerOptions { stall_after, decorator: faults.decorator(), ..WorkerOptions::default() }
}

/// Makes the engine hang permanently.
async fn stop_engine(app: &TestApp, faults: &WorkerFaults) {
    faults.inject("resource_engine", Fault::Stall);
    let status = app.workers.get("resource_engine").unwrap();
    eventually("the engine to hang", async || {
        let count = status.heartbeat.count();
        tokio::time::sleep(fast_timing().poll_interval * 4).await;
        (status.heartbeat.count() == count).then_some(())
    })
    .await;
}

fn metric(app: &TestApp, name: &str) -> f64 {
    Exposition::parse(&scrape::render(app)).find(name, &[]).expect("a metric")
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_in_progress_continue_after_a_database_stall() {
    let app = TestApp::start_with(with_timing(EngineTiming { lease: Duration::from_secs(2), ..fast_timing() })).await;
    let owner = app.owner().await;
    let lock = lock(&app).await;
    let submitted = submit(&owner, 12).await;
    // The number of database permits.
    wait_until_blocked(&app, 3).await;
    let begun: String = sqlx::query_scalar("SELECT now()::text").fetch_one(&app.db).await.unwrap();
    eventually("several lease renewals", async || {
        let sql = "SELECT now() > $1::timestamptz + interval '5 seconds'";
        sqlx::query_scalar::<_, bool>(sql).bind(&begun).fetch_one(&app.db).await.unwrap().then_some(())
    })
    .await;
    lock.rollback().await.unwrap();
    for one in &submitted {
        assert_eq!(wait_until_succeeded(&owner, one).await["id"], id_of(&one["resource"]));
    }
    assert_eq!(objects(&app).await, 12, "nothing must be created twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_database_permits_and_hung_statements_time_out_and_are_counted() {
    let timing = EngineTiming {
        db_permits: 1,
        db_permit_timeout: Duration::from_millis(200),
        db_timeout: Duration::from_secs(1),
        lease: Duration::from_secs(2),
        ..fast_timing()
    };
    let app = TestApp::start_with(with_timing(timing)).await;
    let owner = app.owner().await;
    let lock = lock(&app).await;
    let submitted = submit(&owner, 4).await;
    wait_until_blocked(&app, 1).await;
    eventually("a wait for the permit to time out", async || {
        (metric(&app, "cloudapi_operations_db_permit_timeouts_total") > 0.0).then_some(())
    })
    .await;
    // More than the waits: the step that has the permit also times out while the lock is still held.
    eventually("a hung statement to time out", async || {
        let waits = metric(&app, "cloudapi_operations_db_permit_timeouts_total");
        (metric(&app, "cloudapi_operations_aborted_steps_total") > waits).then_some(())
    })
    .await;
    lock.rollback().await.unwrap();
    for one in &submitted {
        wait_until_succeeded(&owner, one).await;
    }
    assert_eq!(objects(&app).await, 4, "nothing must be created twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_lease_renewal_does_not_delay_a_released_operation() {
    let faults = WorkerFaults::default();
    let workers = with_stall_bound(&faults);
    let app = TestApp::start_with(AppOptions { workers, ..with_timing(fast_timing()) }).await;
    let owner = app.owner().await;
    stop_engine(&app, &faults).await;
    submit(&owner, 1).await;
    let (mut db, lease) = (app.db.acquire().await.unwrap(), Duration::from_secs(3600));
    let claimed = queue::claim(&mut db, &["sim"], 1, lease).await.unwrap().remove(0);
    assert!(queue::renew(&mut db, &claimed, lease).await.unwrap());
    let state = OperationState::new(claimed.kind, Step::of(&claimed.step).unwrap());
    assert!(queue::save(&mut db, &claimed, &state, Holder::ThisServer(lease), None).await.unwrap());
    assert!(queue::save(&mut db, &claimed, &state, Holder::AnyServer(Duration::ZERO), None).await.unwrap());
    assert!(!queue::renew(&mut db, &claimed, lease).await.unwrap());
    assert!(!queue::save(&mut db, &claimed, &state, Holder::ThisServer(lease), None).await.unwrap());
    let again = queue::claim(&mut db, &["sim"], 1, lease).await.unwrap();
    assert_eq!(again.len(), 1, "the operation must be due immediately");
}

#[tokio::test(flavor = "multi_thread")]
async fn due_operations_are_measured_while_the_engine_hangs() {
    let faults = WorkerFaults::default();
    let workers = with_stall_bound(&faults);
    let app = TestApp::start_with(AppOptions { workers, ..with_timing(fast_timing()) }).await;
    let owner = app.owner().await;
    stop_engine(&app, &faults).await;
    submit(&owner, 2).await;
    sqlx::query("UPDATE operations SET due_at = now() - interval '10 minutes'").execute(&app.db).await.unwrap();
    eventually("the age of the oldest operation", async || {
        (metric(&app, "cloudapi_operations_oldest_due_seconds") >= 600.0).then_some(())
    })
    .await;
    let page = Exposition::parse(&scrape::render(&app));
    assert_eq!(page.get("cloudapi_operations", &[("state", "due")]), 2.0);
}
