//! A deployment without requests: how much it asks of the database, and that it notices work at once.

use std::time::Duration;

use cloudapi::{api::usage::counting::meter::MeterOptions, server::state::AppOptions};
use serde_json::json;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Bearer, Identity, TestApp, WAIT_LIMIT, cluster};

/// Time over which transactions are counted.
const WINDOW: Duration = Duration::from_millis(2500);

/// Starts servers on one database, which count requests in files, as in production.
async fn start(database: &PgConnectOptions, count: usize) -> (Vec<TestApp>, Vec<tempfile::TempDir>) {
    let (mut apps, mut folders) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let folder = tempfile::tempdir().unwrap();
        let meter = MeterOptions { folder: Some(folder.path().to_owned()), slots: 64, ..MeterOptions::default() };
        apps.push(TestApp::start_unhurried(database.clone(), AppOptions { meter, ..AppOptions::default() }).await);
        folders.push(folder);
    }
    (apps, folders)
}

async fn transactions(admin: &mut PgConnection, database: &PgConnectOptions) -> i64 {
    sqlx::query_scalar("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1")
        .bind(database.get_database().unwrap())
        .fetch_one(admin)
        .await
        .unwrap()
}

/// Counts the transactions of `count` servers until there are at most `limit` a second, once they have started.
async fn wait_for_rest(count: usize, limit: f64) {
    let database = cluster::fresh_database().await;
    let _servers = start(&database, count).await;
    // Another database, whose transactions are counted separately.
    let mut admin = PgConnection::connect_with(&database.clone().database("postgres")).await.unwrap();
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        let (before, began) = (transactions(&mut admin, &database).await, Instant::now());
        sleep(WINDOW).await;
        let rate = (transactions(&mut admin, &database).await - before) as f64 / began.elapsed().as_secs_f64();
        if rate <= limit {
            return;
        }
        assert!(Instant::now() < deadline, "{rate} transactions a second");
    }
}

#[tokio::test]
async fn idle_server_makes_few_transactions() {
    wait_for_rest(1, 5.0).await;
}

#[tokio::test]
async fn further_idle_servers_make_few_transactions_each() {
    wait_for_rest(3, 11.0).await;
}

#[tokio::test]
async fn event_of_one_server_reaches_the_stream_of_an_idle_one_without_waiting_for_the_next_reading() {
    let database = cluster::fresh_database().await;
    let (apps, _folders) = start(&database, 2).await;
    let [here, there] = &*apps else { unreachable!() };
    let owner = here.owner().await;
    let reader = Bearer { app: there, secret: owner.key_with(json!({ "scopes": ["events:read"] })).await.secret };
    let mut stream = reader.open_stream().await;
    // Each event arrives just after a reading, so that waiting for the next ones would take eight seconds.
    let events = async {
        for _ in 0..8 {
            owner.key().await;
            stream.event().await.unwrap();
        }
    };
    timeout(Duration::from_secs(5), events).await.expect("events without waiting");
}
