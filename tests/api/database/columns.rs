//! A column is added to a table while a server runs, as when a newer server migrates the database.

use cloudapi::{
    api::webhooks::{delivery::backoff::DeliveryPolicy, outbox::WebhookOptions},
    server::{routes, state::AppOptions},
};
use serde_json::json;
use sqlx::PgPool;

use super::admin;
use crate::{
    routes::access::{CallerKind, Fixture, may_change_fixture},
    support::{
        Identity, TestApp,
        cloud::{self, network_in, wait_until_succeeded},
        cluster, eventually, prometheus,
        receiver::Receiver,
    },
};

/// Calls every route as an owner, as a key and without credentials; returns the 5xx responses.
async fn ask_all(app: &TestApp) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fixture = Fixture::new(app).await;
    for operation in routes::table().operations() {
        for who in
            [CallerKind::Session(cloudapi::base::identity::role::Role::Owner), CallerKind::Key, CallerKind::Nobody]
        {
            let reply = fixture.call(app, operation, who).await;
            if reply.status >= 500 {
                faults.push(format!(
                    "{} {} by {who:?}: {} {}",
                    operation.method, operation.path, reply.status, reply["code"]
                ));
            }
            if reply.status == 200 && may_change_fixture(operation) {
                fixture = Fixture::new(app).await;
            }
        }
    }
    faults
}

/// Makes the background workers do work.
pub(super) async fn work(app: &TestApp, receiver: &Receiver) {
    let owner = app.owner().await;
    let url = receiver.url();
    let body = json!({ "project_id": owner.project, "url": url, "event_types": ["key.created"] });
    owner.post("/v1/webhooks", body).await.created();
    let before = receiver.received().len();
    owner.key().await;
    eventually("event delivered", async || (receiver.received().len() > before).then_some(())).await;
    let submitted = owner.post("/v1/resources", network_in(&owner.project)).await;
    assert_eq!(submitted.status, 202, "{}", submitted.json());
    wait_until_succeeded(&owner, submitted.json()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn column_added_while_the_server_runs_breaks_no_route_or_worker() {
    let policy = DeliveryPolicy { poll: std::time::Duration::from_millis(20), ..DeliveryPolicy::default() };
    let webhooks =
        WebhookOptions { allowed: vec!["127.0.0.0/8".parse().unwrap()], policy, ..WebhookOptions::default() };
    let app =
        TestApp::start_with(AppOptions { webhooks, cloud: cloud::fast_provider(), ..AppOptions::default() }).await;
    let receiver = Receiver::start().await;
    let metrics = app.serve_metrics().await;
    let replaced = async || {
        let text = reqwest::get(format!("{metrics}/metrics")).await.unwrap().text().await.unwrap();
        prometheus::Exposition::parse(&text).get("cloudapi_db_connections_replaced_total", &[])
    };
    work(&app, &receiver).await;
    assert_eq!(ask_all(&app).await, Vec::<String>::new());

    let db = admin(&app).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        let sql = format!("ALTER TABLE {table} ADD COLUMN added_meanwhile text DEFAULT 'new'");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&db).await.unwrap();
    }
    assert_eq!(ask_all(&app).await, Vec::<String>::new());
    work(&app, &receiver).await;
    // No connection had to be replaced.
    assert_eq!(replaced().await, 0.0);
}

#[tokio::test]
async fn database_functions_use_no_asterisk_and_return_no_table_rows() {
    let db = PgPool::connect_with(cluster::fresh_database().await).await.unwrap();
    let functions: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT p.proname::text, p.prosrc, EXISTS (SELECT FROM pg_class c WHERE c.reltype = p.prorettype AND c.reltype <> 0)
         FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert!(functions.len() > 5);
    for (name, source, gives_rows) in functions {
        assert!(!gives_rows, "{name} returns rows of a table");
        assert!(!crate::source::architecture::has_asterisk(&source), "{name} uses an asterisk");
    }
}
