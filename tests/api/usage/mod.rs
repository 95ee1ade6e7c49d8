//! `/v1/usage`, and which requests count.

mod breakdown;
mod journals;
mod overview;
mod pages;
mod periods;
mod quota;

use std::{path::Path, time::Duration};

use cloudapi::{
    api::usage::counting::{
        flush,
        journal::slot::CounterKey,
        meter::{Meter, MeterOptions},
    },
    base::{
        identity::credential::CredentialId,
        runtime::{clock::Timestamp, period::Period},
    },
};
use serde_json::{Value, json};
use time::Date;

use crate::support::{Bearer, Identity, Key, TestApp};

const HOUR: Duration = Duration::from_secs(3600);

/// The current month.
fn this_month(app: &TestApp) -> Period {
    Period::of(app.clock.now().date())
}

/// Advances the clock to `by` after the end of `period`.
fn advance_past(app: &TestApp, period: Period, by: Duration) {
    app.clock.advance(app.clock.now().until(period.end()) + by);
}

/// Counter of a key's requests for its project on a day.
fn counted(project: &str, key: &Key<'_>, day: Date) -> CounterKey {
    let credential = CredentialId::Key(key.id.parse().unwrap());
    CounterKey { project: Some(project.parse().unwrap()), credential, route: 1, day }
}

/// Options of a server with its journal in `folder`.
fn in_folder(folder: &Path, slots: usize) -> MeterOptions {
    MeterOptions { folder: Some(folder.to_owned()), slots, ..MeterOptions::default() }
}

/// Another server on the same database, with counted requests that are not flushed yet.
async fn another_server(app: &TestApp, options: MeterOptions, counted: &CounterKey, requests: usize) -> Meter {
    let meter = Meter::new(options).unwrap();
    flush::open(&meter, &app.db, &app.clock).await.unwrap();
    for _ in 0..requests {
        meter.count(counted, app.clock.now());
    }
    meter
}

/// Items of a list.
fn data(list: &Value) -> &Vec<Value> {
    list["data"].as_array().unwrap()
}

/// Checks that the sums without credentials are equal to those of the counts, at any time.
async fn check_sums(app: &TestApp) {
    let different: i64 = sqlx::query_scalar(
        "WITH counts AS (
             SELECT project_id, day, kind, route, journal, sum(n) FROM usage_node GROUP BY 1, 2, 3, 4, 5
             UNION ALL
             SELECT project_id, period, kind, route, NULL, sum(requests) FROM usage_monthly GROUP BY 1, 2, 3, 4
         ), sums AS (
             SELECT project_id, day, kind, route, journal, n FROM usage_days
             UNION ALL
             SELECT project_id, period, kind, route, NULL, requests FROM usage_months
         )
         SELECT count(d.project_id) FROM (
             (TABLE counts EXCEPT ALL TABLE sums) UNION ALL (TABLE sums EXCEPT ALL TABLE counts)
         ) AS d",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert_eq!(different, 0, "sums that are not those of the counts");
}

async fn requests(app: &TestApp, key: &impl Identity) -> i64 {
    app.flush_usage().await;
    check_sums(app).await;
    key.get("/v1/usage").await.ok()["requests"].as_i64().unwrap()
}

#[tokio::test]
async fn every_authenticated_request_is_counted_once() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await; // 1: the session names the project
    key.get("/v1/projects").await.ok(); // 2
    key.get("/v1/users/usr_123").await.problem(404, "not_found"); // 3: an error response counts too
    key.post("/v1/tokens", json!({})).await.problem(422, "validation_failed"); // 4
    key.post("/v1/projects", json!({ "name": "n" })).await.problem(403, "credential_kind_not_allowed"); // 5
    assert_eq!(requests(&app, &key).await, 5);
    assert_eq!(requests(&app, &key).await, 6); // the previous usage request
}

#[tokio::test]
async fn requests_without_a_valid_credential_are_not_counted() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let before = requests(&app, &key).await + 1;
    app.anonymous().get("/v1/projects").await.problem(401, "missing_credentials");
    Bearer { app: &app, secret: "sk_live_junk".into() }.get("/v1/projects").await.problem(401, "invalid_token");
    app.anonymous().get("/healthz").await.ok();
    key.request("OPTIONS", "/v1/projects").send().await;
    key.get("/v1/nothing").await.problem(404, "route_not_found");
    // A session's request without a project is not counted for any project.
    owner.get("/v1/projects").await.ok();
    assert_eq!(requests(&app, &key).await, before);
}

#[tokio::test]
async fn session_request_counts_for_the_project_it_names() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let usage = format!("/v1/usage?project_id={}", owner.project);
    assert_eq!(owner.get(&usage).await.ok()["requests"], 0);
    app.flush_usage().await;
    assert_eq!(owner.get(&usage).await.ok()["requests"], 1);
    owner.get("/v1/usage").await.problem(400, "project_required");
}

#[tokio::test]
async fn period_is_a_utc_calendar_month_and_starts_at_zero() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    assert_eq!(requests(&app, &key).await, 1);
    let usage = key.get("/v1/usage").await.ok();
    let now = app.clock.now().to_string();
    assert_eq!(usage["period_start"].as_str().unwrap(), format!("{}-01", &now[..7]));
    assert_eq!((&usage["overage"], &usage["included"]), (&json!(0), &json!(null)));
    app.flush_usage().await;

    let last = usage["period_end"].as_str().unwrap();
    let last: Timestamp = Timestamp::parse(&format!("{last}T23:59:59.999Z")).unwrap();
    app.clock.advance(app.clock.now().until(last) + Duration::from_millis(2));
    let next = key.get("/v1/usage").await.ok();
    assert_eq!(next["requests"], 0);
    assert!(next["period_start"].as_str() > usage["period_end"].as_str());
}
