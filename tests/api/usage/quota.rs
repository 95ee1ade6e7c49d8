//! Quotas of requests: included volume and hard limit.

use cloudapi::api::usage::counting::flush;
use serde_json::{Value, json};

use super::{HOUR, advance_past, counted, periods::set_quota, requests, this_month};
use crate::{
    events::{listed, trigger_event},
    support::{Identity, Session, TestApp, binary::Deployment, cluster, eventually},
};

#[tokio::test]
async fn hard_limit_rejects_requests_until_the_next_month_or_a_higher_limit() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (key, other) = (owner.key().await, app.owner().await);
    let (token, elsewhere) = (key.token(&["users:read"]).await, other.key().await);
    set_quota(&app, &owner.project, None, Some(4)).await;
    assert_eq!(requests(&app, &key).await, 2); // creation of the key and of the token
    key.get("/v1/projects").await.ok(); // 4
    app.flush_usage().await;
    let end = this_month(&app).end();
    let left = || app.clock.now().until(end).as_secs();
    let most = left() + 1;
    let refused = key.get("/v1/projects").await;
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((left()..=most).contains(&wait), "{wait}");
    let problem = refused.problem(429, "quota_exceeded");
    assert!(problem["detail"].as_str().unwrap().contains(&end.to_string()), "{problem}");
    token.get("/v1/users").await.problem(429, "quota_exceeded");
    // Other errors take precedence, and other projects are not affected.
    app.anonymous().get("/v1/projects").await.problem(401, "missing_credentials");
    token.get("/v1/keys").await.problem(403, "insufficient_scope");
    elsewhere.get("/v1/projects").await.ok();
    app.flush_usage().await;
    // Sessions still work: users can read the usage and revoke credentials.
    let usage = owner.get(&format!("/v1/usage?project_id={}", owner.project)).await.ok();
    assert_eq!(usage["requests"], 4 + 1, "of the rejected requests, only the 403 must count");
    owner.delete(&format!("/v1/tokens/{}", token.id)).await.ok();

    set_quota(&app, &owner.project, None, Some(100)).await;
    app.flush_usage().await;
    key.get("/v1/projects").await.ok();
    set_quota(&app, &owner.project, None, Some(0)).await;
    app.flush_usage().await;
    key.get("/v1/projects").await.problem(429, "quota_exceeded");
    set_quota(&app, &owner.project, None, Some(3)).await;
    let month = this_month(&app);
    advance_past(&app, month, HOUR);
    app.flush_usage().await;
    key.get("/v1/projects").await.ok();
}

#[tokio::test]
async fn operator_sets_and_shows_included_volume_and_hard_limit() {
    let database = cluster::empty_database().await;
    let deployment = Deployment::new();
    let run = |arguments: &[&str]| deployment.run_on(&database, arguments);
    let made = run(&["admin", "bootstrap", "--email", "ada@example.com", "--project", "Core", "--json"]).1;
    let made: Value = serde_json::from_str(&made).unwrap();
    let project = made["project"]["id"].as_str().unwrap();
    let set = |arguments: &[&str]| {
        let (done, printed, error) = run(&[&["admin", "project", project, "--json"], arguments].concat());
        assert!(done, "{error}");
        serde_json::from_str::<Value>(&printed).unwrap()
    };
    let quota = |included: Option<i64>, hard_limit: Option<i64>| json!({ "id": project, "name": "Core", "included": included, "hard_limit": hard_limit, "resources": { "compute.instance": 100, "network.network": 100, "storage.volume": 100 } });
    assert_eq!(set(&[]), quota(None, None));
    assert_eq!(set(&["--included", "1000", "--hard-limit", "5000"]), quota(Some(1000), Some(5000)));
    assert_eq!(set(&["--included", "unlimited"]), quota(None, Some(5000)));
    assert_eq!(set(&["--hard-limit", "none"]), quota(None, None));
    assert_eq!(set(&["--included", "0"]), quota(Some(0), None));
    let shown = run(&["admin", "project", project]).1;
    assert!(shown.contains("included    0 requests per month") && shown.contains("hard limit  none"), "{shown}");
    for (arguments, said) in [
        (["admin", "project", "proj_123", "--included=1"], "there is no project 'proj_123'"),
        (["admin", "project", "Core", "--included=1"], "there is no project 'Core'"),
        (["admin", "project", project, "--included=-1"], "must be a whole number of requests"),
        (["admin", "project", project, "--hard-limit=lots"], "must be a whole number of requests"),
    ] {
        let (done, _, error) = run(&arguments);
        assert!(!done && error.contains(said), "{arguments:?}: {error}");
    }
}

#[tokio::test]
async fn hard_limit_takes_effect_on_every_server_within_two_flushes() {
    let app = TestApp::start().await;
    let beside = app.start_peer(Default::default()).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    set_quota(&app, &owner.project, None, Some(1)).await;
    // Only the servers flush here, not the test.
    let there = crate::support::Bearer { app: &beside, secret: key.secret.clone() };
    eventually("both servers to reject requests", async || {
        let refused = [key.get("/v1/projects").await, there.get("/v1/projects").await];
        refused.iter().all(|reply| reply.status == 429).then_some(())
    })
    .await;
}

/// Quota events of a project: type, quota, percentage and bound.
async fn notices(owner: &Session<'_>, reader: &impl Identity) -> Vec<(String, String, u64, u64)> {
    // A later event is sealed, so everything staged before it is too.
    trigger_event(owner, reader).await;
    let of_quota = |event: &Value| {
        let (kind, changes) = (event["type"].as_str()?, &event["data"]["changes"]);
        let quota = changes["quota"].as_str()?;
        assert_eq!(changes["period"], event["time"].as_str()?[..7]);
        assert_eq!(event["data"]["actor"]["type"], "system");
        let share = (changes["percent"].as_u64()?, changes["bound"].as_u64()?);
        assert!(changes["requests"].as_u64()? * 100 >= share.0 * share.1);
        Some((kind.to_owned(), quota.to_owned(), share.0, share.1))
    };
    listed(reader).await.iter().filter_map(of_quota).collect()
}

fn notice(quota: &str, percent: u64, bound: u64) -> (String, String, u64, u64) {
    let kind = if percent < 100 { "quota.warning" } else { "quota.reached" };
    (kind.to_owned(), quota.to_owned(), percent, bound)
}

#[tokio::test]
async fn each_quota_threshold_causes_one_event_across_servers() {
    let app = TestApp::start().await;
    let beside = app.start_peer(Default::default()).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let used = counted(&owner.project, &key, app.clock.now().date());
    // The test's own requests add a few dozen.
    let use_more = async |requests: usize| {
        (0..requests).for_each(|_| app.meter.count(&used, app.clock.now()));
        app.flush_usage().await;
    };
    set_quota(&app, &owner.project, Some(10_000), None).await;
    use_more(7_000).await;
    assert_eq!(notices(&owner, &key).await, []);
    use_more(1_500).await;
    let mut all = vec![notice("included", 80, 10_000)];
    assert_eq!(notices(&owner, &key).await, all);
    use_more(2_000).await;
    // Repeated by several servers concurrently, and by a new server without state.
    for _ in 0..3 {
        let (here, there) = tokio::join!(
            flush::refresh(&app.quota, &app.db, &app.clock),
            flush::refresh(&beside.quota, &beside.db, &beside.clock),
        );
        here.and(there).unwrap();
    }
    app.start_peer(Default::default()).await.flush_usage().await;
    all.push(notice("included", 100, 10_000));
    assert_eq!(notices(&owner, &key).await, all);

    // A new bound causes an event; a bound that was set before does not.
    for (bound, is_news) in [(12_000, true), (10_000, false), (12_000, false)] {
        set_quota(&app, &owner.project, Some(bound), None).await;
        app.flush_usage().await;
        all.extend(is_news.then(|| notice("included", 80, 12_000)));
        assert_eq!(notices(&owner, &key).await, all);
    }

    // A hard limit has separate events, and both thresholds when both are reached together.
    set_quota(&app, &owner.project, None, Some(10_000)).await;
    app.flush_usage().await;
    all.extend([notice("hard_limit", 80, 10_000), notice("hard_limit", 100, 10_000)]);
    set_quota(&app, &owner.project, None, None).await;
    app.flush_usage().await;
    assert_eq!(notices(&owner, &key).await, all);

    // The next month starts without events.
    let month = this_month(&app);
    advance_past(&app, month, HOUR);
    app.flush_usage().await;
    assert!(!notices(&app.another_session(&owner).await, &key).await.iter().any(|notice| !all.contains(notice)));
}
