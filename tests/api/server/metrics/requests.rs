//! Metrics of requests, by route and status.

use std::collections::BTreeMap;

use serde_json::json;

use super::scrape;
use crate::support::{
    Identity, TestApp, eventually,
    prometheus::Exposition,
    raw::{connect, send},
};

type Counts = BTreeMap<(String, String, String), f64>;

/// Requests counted between two scrapes, by method, route and status.
fn requests(before: &Exposition, after: &Exposition) -> Counts {
    let grown = after.since(before, "cloudapi_http_requests_total");
    let named = |mut labels: BTreeMap<String, String>| {
        let mut take = |name| labels.remove(name).unwrap();
        (take("method"), take("route"), take("status"))
    };
    grown.into_iter().map(|(labels, count)| (named(labels), count)).collect()
}

fn counts<const N: usize>(expected: [(&str, &str, &str, u32); N]) -> Counts {
    let text = str::to_owned;
    expected.map(|(method, route, status, count)| ((text(method), text(route), text(status)), f64::from(count))).into()
}

#[tokio::test]
async fn requests_are_counted_and_timed_by_route_and_status() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let before = scrape(&url).await;

    for _ in 0..3 {
        key.get("/v1/projects").await.ok();
    }
    key.request("HEAD", "/v1/projects").send().await;
    key.get("/v1/keys/key_404").await.problem(404, "not_found");
    key.get("/v1/keys/key_405").await.problem(404, "not_found");
    key.post("/v1/tokens", json!({})).await.problem(422, "validation_failed");
    app.anonymous().get("/v1/projects").await.problem(401, "missing_credentials");
    app.anonymous().get("/nowhere").await.problem(404, "route_not_found");
    app.anonymous().request("PUT", "/v1/projects").send().await.problem(405, "method_not_allowed");
    app.anonymous().request("OPTIONS", "/v1/keys").send().await;

    let after = scrape(&url).await;
    let expected = counts([
        ("GET", "/v1/projects", "200", 4),
        ("GET", "/v1/projects", "401", 1),
        ("GET", "/v1/keys/{key_id}", "404", 2),
        ("POST", "/v1/tokens", "422", 1),
        ("GET", "none", "404", 1),
        ("PUT", "none", "405", 1),
        ("OPTIONS", "none", "204", 1),
    ]);
    assert_eq!(requests(&before, &after), expected);

    let timed = after.since(&before, "cloudapi_http_request_duration_seconds_count");
    let mut by_route: BTreeMap<_, f64> = BTreeMap::new();
    for ((method, route, _), count) in expected {
        *by_route.entry(BTreeMap::from([("method".into(), method), ("route".into(), route)])).or_default() += count;
    }
    assert_eq!(timed, by_route);
    let took = after.since(&before, "cloudapi_http_request_duration_seconds_sum");
    assert!(took.len() == timed.len() && took.values().all(|seconds| *seconds < 10.0), "{took:?}");

    let problems = after.since(&before, "cloudapi_http_problems_total");
    let codes: Vec<_> = problems.iter().map(|(labels, count)| (labels["code"].as_str(), *count)).collect();
    assert_eq!(
        codes,
        [
            ("method_not_allowed", 1.0),
            ("missing_credentials", 1.0),
            ("not_found", 2.0),
            ("route_not_found", 1.0),
            ("validation_failed", 1.0)
        ]
    );
    assert_eq!(after.get("cloudapi_http_requests_in_flight", &[]), 0.0);
    assert_eq!(after.get("cloudapi_http_requests_abandoned_total", &[]), 0.0);
}

#[tokio::test]
async fn series_stay_the_same_and_contain_no_id_or_secret_for_any_requests() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let mut chosen = vec![owner.secret.clone(), owner.id.clone(), owner.project.clone(), owner.user_id.to_string()];
    chosen.push(owner.email.clone());
    let mut before = None;
    for round in 0..20 {
        let key = owner.key().await;
        let token = key.token(&["users:read"]).await;
        token.get("/v1/users").await.ok();
        key.get(&format!("/v1/keys/{}", key.id)).await.ok();
        key.get(&format!("/v1/tokens/tok_{round}")).await.problem(404, "not_found");
        let path = format!("/v1/guess-{round}/{}", key.secret);
        chosen.push(app.anonymous().get(&path).await.header("x-request-id").unwrap().to_owned());
        let guess = format!("/v1/users?guess={round}");
        app.anonymous().request(&format!("GUESS{round}"), &guess).send().await.problem(405, "method_not_allowed");
        token.delete(&format!("/v1/tokens/{}", token.id)).await.ok();
        key.delete(&format!("/v1/keys/{}", key.id)).await.ok();
        chosen.extend([key.secret, key.id, token.secret, token.id, path, format!("GUESS{round}")]);
        let page = scrape(&url).await;
        let series: Vec<_> = page.series.into_keys().collect();
        assert_eq!(*before.get_or_insert_with(|| series.clone()), series, "round {round}");
    }
    let page = scrape(&url).await;
    for chosen in &chosen {
        assert!(!page.text.contains(chosen.as_str()), "{chosen} is on the page");
    }
    assert!(app.leak_detector.leaks_in(&page.text).is_empty());
    for value in page.label_values() {
        let prefixes = ["proj_", "key_", "tok_", "usr_", "sess_", "inv_", "req_", "aud_", "evt_", "wh_", "dlv_"];
        let is_id = |prefix: &&str| {
            let digits = value.strip_prefix(*prefix);
            digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        // The longest values are path templates.
        assert!(!prefixes.iter().any(is_id) && value.len() < 80, "{value}");
    }
}

#[tokio::test]
async fn in_flight_and_abandoned_requests_are_counted() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let flight = async || {
        let page = scrape(&url).await;
        let numbers = ["in_flight", "abandoned_total"];
        numbers.map(|name| page.get(&format!("cloudapi_http_requests_{name}"), &[]))
    };
    let mut lock = app.db.begin().await.unwrap();
    sqlx::query("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let mut stream = connect(&app.url).await;
    let head = format!("GET /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", owner.secret);
    send(&mut stream, head).await;
    eventually("one request in flight", async || (flight().await == [1.0, 0.0]).then_some(())).await;
    assert!(scrape(&url).await.get("cloudapi_http_connections", &[]) >= 1.0);
    drop(stream);
    eventually("one abandoned request", async || (flight().await == [0.0, 1.0]).then_some(())).await;
    lock.rollback().await.unwrap();
}
