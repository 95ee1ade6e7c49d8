//! Billing periods: open, final, and later adjustments.

use cloudapi::{
    api::usage::{
        counting::{
            flush,
            meter::{Meter, MeterOptions},
        },
        finalize::Finalizer,
        ledger::{self, UsageRow},
    },
    base::{
        identity::credential::CredentialId,
        runtime::{
            clock::{Clock, Timestamp},
            period::Period,
        },
    },
};
use serde_json::{Value, json};
use time::Date;
use uuid::Uuid;

use super::{HOUR, advance_past, another_server, check_sums, counted, data, in_folder, requests, this_month};
use crate::support::{Identity, Key, TestApp, eventually};

async fn close(app: &TestApp) {
    Finalizer::new(400).finalize_due(&app.db, app.clock.now()).await.unwrap();
}

/// Counts requests of a key on a day at another server, and flushes them.
async fn count_on_other_server(app: &TestApp, project: &str, key: &Key<'_>, day: Date, requests: usize) -> Meter {
    let meter = another_server(app, MeterOptions::default(), &counted(project, key, day), requests).await;
    flush::flush_or_log(&meter, &app.db, &app.clock).await;
    meter
}

async fn of(key: &Key<'_>, period: Period) -> Value {
    check_sums(key.app).await;
    key.get(&format!("/v1/usage?period={period}")).await.ok()
}

#[tokio::test]
async fn period_becomes_final_a_day_after_its_end_and_later_requests_are_adjustments() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let month = this_month(&app);
    set_quota(&app, &owner.project, Some(3), None).await;
    assert_eq!(requests(&app, &key).await, 1);
    key.get("/v1/projects").await.ok();
    app.flush_usage().await;
    let open = of(&key, month).await;
    let members = |usage: &Value| {
        let (status, adjustments) = (usage["status"].clone(), usage["adjustments"].clone());
        (status, usage["requests"].clone(), usage["overage"].clone(), usage["included"].clone(), adjustments)
    };
    assert_eq!(members(&open), (json!("open"), json!(3), json!(0), json!(3), json!([])));
    // Flush the usage request too, before the background flush does it at any time.
    app.flush_usage().await;

    advance_past(&app, month, 23 * HOUR);
    close(&app).await;
    // A server that was partitioned reconnects in time.
    count_on_other_server(&app, &owner.project, &key, month.last(), 2).await;
    assert_eq!(members(&of(&key, month).await), (json!("open"), json!(6), json!(3), json!(3), json!([])));
    app.clock.advance(2 * HOUR);
    close(&app).await;
    let closed = of(&key, month).await;
    assert_eq!(members(&closed), (json!("final"), json!(6), json!(3), json!(3), json!([])));
    assert!(closed["final_at"].is_string());

    // Later requests and later quota changes do not change what was billed.
    set_quota(&app, &owner.project, None, None).await;
    let folder = tempfile::tempdir().unwrap();
    let counted = counted(&owner.project, &key, month.last());
    let late = another_server(&app, in_folder(folder.path(), 64), &counted, 4).await;
    flush::flush_or_log(&late, &app.db, &app.clock).await;
    let today = app.clock.now().date().to_string();
    let adjusted = of(&key, month).await;
    let adjustment = json!([{ "recorded_on": today, "requests": 4, "overage": 4 }]);
    assert_eq!(members(&adjusted), (json!("final"), json!(6), json!(3), json!(3), adjustment));
    // Flushed again by the next server with the same journal, nothing changes; a new request is added.
    drop(late);
    let again = another_server(&app, in_folder(folder.path(), 64), &counted, 0).await;
    assert_eq!(of(&key, month).await["adjustments"][0]["requests"], 4);
    again.count(&counted, app.clock.now());
    flush::flush_or_log(&again, &app.db, &app.clock).await;
    assert_eq!(of(&key, month).await["adjustments"][0]["requests"], 5);
    let broken_down =
        key.get(&format!("/v1/usage/breakdown?group_by=key&from={}&to={}", month.first(), month.last())).await.ok();
    let sum: i64 = data(&broken_down).iter().map(|group| group["requests"].as_i64().unwrap()).sum();
    assert_eq!(sum, 6 + 5);
}

#[tokio::test]
async fn flush_that_is_completed_after_the_month_is_final_is_billed_once() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (one, other) = (owner.key().await, owner.key().await);
    app.flush_usage().await;
    let month = this_month(&app);
    let row = |key: &Key<'_>, count| UsageRow {
        project: owner.project.parse().unwrap(),
        day: month.first(),
        credential: CredentialId::Key(key.id.parse().unwrap()),
        route: 1,
        count,
    };
    // The second of two batches fails.
    let (journal, mut db) = (Uuid::new_v4(), app.db.acquire().await.unwrap());
    assert!(ledger::write(&mut db, journal, Timestamp::EARLIEST, &[row(&one, 5)]).await.unwrap());
    let billed = of(&one, month).await["requests"].as_i64().unwrap();
    app.flush_usage().await;
    advance_past(&app, month, 25 * HOUR);
    close(&app).await;
    // The flush is repeated.
    let (rows, now) = ([row(&one, 5), row(&other, 7)], app.clock.now());
    assert!(!ledger::write(&mut db, journal, now, &rows).await.unwrap());
    ledger::write_late(&mut db, journal, now, &rows).await.unwrap();
    let usage = of(&one, month).await;
    let (first, second) = (usage["requests"].as_i64().unwrap(), usage["adjustments"][0]["requests"].as_i64().unwrap());
    // The request that read `billed` was counted afterwards.
    assert_eq!((first, second), (billed + 1, 7));
}

#[tokio::test]
async fn server_with_a_slow_clock_can_write_to_a_month_that_is_already_final() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let month = this_month(&app);
    app.flush_usage().await;
    let slow = Clock::system();
    advance_past(&app, month, 25 * HOUR);
    close(&app).await;
    let meter = Meter::new(MeterOptions::default()).unwrap();
    let counted = counted(&owner.project, &key, month.first());
    for expected in 1..3 {
        meter.count(&counted, slow.now());
        flush::flush_or_log(&meter, &app.db, &slow).await;
        assert_eq!(of(&key, month).await["adjustments"][0]["requests"], expected);
    }
}

#[tokio::test]
async fn month_without_requests_becomes_final_and_stays_final() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let month = this_month(&app);
    // The key's creation counts for the other project; this project's month has no requests.
    let other = app.owner().await;
    let key = other.key().await;
    advance_past(&app, month, 25 * HOUR);
    close(&app).await;
    count_on_other_server(&app, &owner.project, &key, month.last(), 7).await;
    close(&app).await;
    let session = app.another_session(&owner).await;
    let usage = session.get(&format!("/v1/usage?project_id={}&period={month}", owner.project)).await.ok();
    assert_eq!((&usage["status"], &usage["requests"]), (&json!("final"), &json!(0)));
    assert_eq!(usage["adjustments"][0]["requests"], 7);
}

#[tokio::test]
async fn periods_are_listed_from_the_first_month_of_the_project_to_the_current_one() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let first = this_month(&app);
    for _ in 0..2 {
        let month = this_month(&app);
        app.flush_usage().await;
        advance_past(&app, month, 25 * HOUR);
        close(&app).await;
        key.get("/v1/projects").await.ok();
    }
    app.flush_usage().await;
    let listed = key.get("/v1/usage/periods").await;
    assert!(listed.header("usage-as-of").is_some());
    let listed = listed.ok();
    let months: Vec<_> = data(&listed).iter().map(|usage| usage["period_start"].clone()).collect();
    let expected = [first, first.next(), first.next().next()].map(|month| json!(month.first().to_string()));
    assert_eq!(months, expected);
    let statuses: Vec<_> = data(&listed).iter().map(|usage| usage["status"].clone()).collect();
    assert_eq!(statuses, ["final", "final", "open"]);
    for (usage, month) in data(&listed).iter().zip([first, first.next()]) {
        assert_eq!(&of(&key, month).await, usage, "the list and the single period must be equal");
    }
    for (order, last) in [("asc", 2), ("desc", 0)] {
        let page = key.get(&format!("/v1/usage/periods?order={order}&limit=2")).await.ok();
        let cursor = page["next_cursor"].as_str().unwrap();
        assert_eq!(cursor, first.next().to_string());
        let page = key.get(&format!("/v1/usage/periods?order={order}&limit=2&cursor={cursor}")).await.ok();
        assert_eq!(data(&page).len(), 1);
        assert_eq!(data(&page)[0]["period_start"], months[last]);
        assert!(page.get("next_cursor").is_none());
    }
    key.get("/v1/usage/periods?cursor=key_7d1").await.problem(400, "invalid_cursor");
    let beyond = key.get("/v1/usage/periods?cursor=2999-01").await.ok();
    assert_eq!(data(&beyond).len(), 0);
}

#[tokio::test]
async fn invalid_future_and_too_early_periods_are_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let month = this_month(&app);
    for period in ["2026-13", "2026-3", "2026-03-01", "march", ""] {
        key.get(&format!("/v1/usage?period={period}")).await.problem(400, "invalid_parameter");
    }
    for (period, why) in [(month.next(), "has not begun"), (month.previous(), "the project was created in")] {
        let problem = key.get(&format!("/v1/usage?period={period}")).await.problem(400, "invalid_parameter");
        assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
        assert_eq!(problem["errors"][0]["parameter"], "period");
    }
    of(&key, month).await;
}

#[tokio::test]
async fn usage_as_of_advances_and_is_held_back_by_a_silent_server() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let as_of = async || {
        let reply = key.get("/v1/usage").await;
        reply.header("usage-as-of").unwrap().to_owned()
    };
    // The server flushes once a second in the background.
    let since = app.clock.now().to_string();
    let asked = async || key.get("/v1/usage").await.ok()["requests"].as_u64();
    eventually("counted requests in the response", async || asked().await.filter(|requests| *requests > 0)).await;
    eventually("Usage-As-Of to advance", async || (as_of().await > since).then_some(())).await;
    assert!(as_of().await <= app.clock.now().to_string());
    let silent = count_on_other_server(&app, &owner.project, &key, app.clock.now().date(), 1).await;
    // From here on, the other server is behind.
    app.flush_usage().await;
    let held = as_of().await;
    app.clock.advance(HOUR);
    app.flush_usage().await;
    assert_eq!(as_of().await, held);
    flush::close(&silent, &app.db, &app.clock).await;
    app.flush_usage().await;
    assert!(as_of().await > held);
}

#[tokio::test]
async fn machine_with_a_wrong_clock_does_not_make_a_month_final() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let month = this_month(&app);
    app.flush_usage().await;
    advance_past(&app, month, 25 * HOUR);
    let (ahead, behind) = (Clock::system(), Clock::system());
    ahead.advance(HOUR);
    behind.set_back(HOUR);
    for machine in [ahead, behind] {
        let mut finalizer = Finalizer::new(400);
        finalizer.system_clock = machine;
        finalizer.finalize_due(&app.db, app.clock.now()).await.unwrap();
        assert_eq!(of(&key, month).await["status"], "open");
    }
    close(&app).await;
    assert_eq!(of(&key, month).await["status"], "final");
}

pub async fn set_quota(app: &TestApp, project: &str, included: Option<i64>, hard_limit: Option<i64>) {
    let quota = cloudapi::api::projects::repo::Quota { included, hard_limit };
    let mut db = app.db.acquire().await.unwrap();
    cloudapi::api::projects::repo::set_quota(&mut db, project.parse().unwrap(), quota).await.unwrap();
}
