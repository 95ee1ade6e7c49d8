//! Cost of a flood of well-formed but unknown secrets, for the database and for other clients.

use std::time::{Duration, Instant};

use cloudapi::{
    base::{
        id::{KeyId, TokenId},
        identity::{role::Role, secret::SecretKind},
        input::limit::{LimitSettings, RateLimit},
    },
    server::state::AppOptions,
};
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::support::{Bearer, Identity, Session, TestApp, app::unknown_secret, eventually, prometheus};

/// Concurrent requests of a flood.
const CONCURRENCY: usize = 32;
const FLOOD: usize = 2_000;

fn behind_a_proxy(failures: RateLimit) -> AppOptions {
    AppOptions {
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        limits: LimitSettings { failures, ..LimitSettings::default() },
        ..AppOptions::default()
    }
}

/// Sends a request with a secret from an address. Returns the status.
async fn send(app: &TestApp, secret: &str, address: &str) -> u16 {
    let request = app.http.get(format!("{}/v1/projects", app.url)).bearer_auth(secret);
    request.header("x-forwarded-for", address).send().await.unwrap().status().as_u16()
}

/// Sends `count` requests; `request` maps a number to a secret and an address. Returns the numbers of 401 and 429
/// responses.
async fn flood(app: &TestApp, count: usize, request: impl Fn(usize) -> (String, String)) -> (usize, usize) {
    let statuses: Vec<u16> = stream::iter((0..count).map(request))
        .map(|(secret, address)| async move { send(app, &secret, &address).await })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let of = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(of(401) + of(429), count, "{statuses:?}");
    (of(401), of(429))
}

/// Committed transactions in the server's database, including those of closed connections.
async fn transactions(app: &TestApp) -> i64 {
    // A connection reports its transactions when it closes.
    eventually("connections to close", async || {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        .fetch_one(&app.db)
        .await
        .ok()?;
        (open >= 0).then_some(())
    })
    .await;
    eventually("the statistics", async || {
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        sqlx::query_scalar(sql).fetch_one(&app.db).await.ok()
    })
    .await
}

/// Single lookups, batched lookups and batches so far.
async fn look_ups(app: &TestApp) -> [f64; 3] {
    let page = prometheus::Exposition::parse(&cloudapi::server::scrape::render(app));
    [
        page.get("cloudapi_auth_lookups_total", &[("mode", "single")]),
        page.get("cloudapi_auth_lookups_total", &[("mode", "batched")]),
        page.get("cloudapi_auth_lookup_batches_total", &[]),
    ]
}

async fn wait_until_served(app: &TestApp, secret: &str) {
    eventually("the server to serve", async || (send(app, secret, "192.0.2.1").await == 200).then_some(())).await;
}

#[tokio::test]
async fn flood_from_one_address_costs_at_most_its_failure_limit_and_a_few_batches() {
    let app = TestApp::start_with(behind_a_proxy(RateLimit::new(100, 3600))).await;
    let owner = app.owner().await;
    app.lease().await;
    let before = transactions(&app).await;
    wait_until_served(&app, &owner.secret).await;
    let [singles, ..] = look_ups(&app).await;
    let began = Instant::now();
    let (refused, limited) = flood(&app, FLOOD, |_| (unknown_secret(SecretKind::Key), "203.0.113.7".into())).await;
    let took = began.elapsed();
    assert_eq!((refused, limited), (100, FLOOD - 100));
    let [singles_after, batched, batches] = look_ups(&app).await;
    assert!(singles_after - singles <= 100.0, "{singles} {singles_after}");
    assert!(batched >= (FLOOD - 100) as f64);
    check_cost(singles_after - singles, batches, transactions(&app).await - before, took);
}

/// Checks that a flood of this duration cost no more transactions than its lookups, its batches and background work.
fn check_cost(singles: f64, batches: f64, transactions: i64, took: Duration) {
    let seconds = took.as_secs_f64() + 1.0;
    assert!(singles <= 100.0 + 20.0 * seconds, "{singles} lookups in {took:?}");
    // At most one batch per 20 ms.
    assert!(batches <= 50.0 * seconds, "{batches} batches in {took:?}");
    let most = singles + batches + 200.0 + 60.0 * seconds;
    assert!((transactions as f64) <= most, "{transactions} transactions in {took:?}, of which {singles} and {batches}");
}

#[tokio::test]
async fn flood_from_many_addresses_costs_a_bounded_number_of_transactions() {
    let app = TestApp::start_with(behind_a_proxy(RateLimit::new(100, 60))).await;
    let owner = app.owner().await;
    app.lease().await;
    let before = transactions(&app).await;
    wait_until_served(&app, &owner.secret).await;
    let [singles, ..] = look_ups(&app).await;
    let began = Instant::now();
    let kinds = [SecretKind::Key, SecretKind::Token, SecretKind::Session];
    let request = |n: usize| (unknown_secret(kinds[n % 3]), format!("2001:db8:{:x}:{:x}::1", n / 256, n % 256));
    // No address reaches its failure limit, so every response is a 401.
    assert_eq!(flood(&app, FLOOD, request).await, (FLOOD, 0));
    let took = began.elapsed();
    let [singles_after, _, batches] = look_ups(&app).await;
    check_cost(singles_after - singles, batches, transactions(&app).await - before, took);
}

#[tokio::test]
async fn valid_credentials_are_accepted_during_a_flood_from_their_address() {
    let app = TestApp::start_with(behind_a_proxy(RateLimit::new(5, 3600))).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["projects:read", "tokens:write"]).await;
    let nested = token.token(&["projects:read"]).await;
    let of_session = owner.token(&["projects:read"]).await;
    let other = app.another_session(&owner).await;
    // None has been used, so none is cached.
    let valid = [&key.secret, &token.secret, &nested.secret, &of_session.secret, &other.secret];
    let junk = flood(&app, 500, |_| (unknown_secret(SecretKind::Key), "203.0.113.7".into()));
    let honest = async {
        let mut statuses = Vec::new();
        for secret in valid {
            statuses.push(send(&app, secret, "203.0.113.7").await);
            statuses.push(send(&app, secret, "203.0.113.7").await);
        }
        statuses
    };
    let (junk, statuses) = tokio::join!(junk, honest);
    assert_eq!(junk, (5, 495));
    assert_eq!(statuses, [200; 10]);
    // A new credential is valid immediately.
    let fresh = owner.key().await;
    assert_eq!(send(&app, &fresh.secret, "203.0.113.7").await, 200);
}

/// Credentials that ended in different ways, each with the expected error code.
async fn ended_credentials(app: &TestApp, owner: &Session<'_>) -> Vec<(String, &'static str)> {
    let revoked = owner.key().await;
    owner.delete(&format!("/v1/keys/{}", revoked.id)).await.ok();
    let expired =
        owner.key_with(json!({ "expires_at": app.clock.now().plus(Duration::from_secs(60)).to_string() })).await;
    let of_expired = expired.token(&["projects:read"]).await;
    let member = app.member(owner, Role::Admin).await;
    let of_member = member.token(&["projects:read"]).await;
    owner.delete(&format!("/v1/users/{}?project_id={}", member.user_id, owner.project)).await.ok();
    let (lost_key, key) = (owner.key().await, owner.key().await);
    let of_lost_key = lost_key.token(&["projects:read"]).await;
    let lost = key.token(&["projects:read", "tokens:write"]).await;
    let of_lost = lost.token(&["projects:read"]).await;
    let key_id: KeyId = lost_key.id.parse().unwrap();
    sqlx::query("DELETE FROM keys WHERE id = $1").bind(key_id).execute(&app.db).await.unwrap();
    let token_id: TokenId = lost.id.parse().unwrap();
    sqlx::query("DELETE FROM tokens WHERE id = $1").bind(token_id).execute(&app.db).await.unwrap();
    let signed_out = app.another_session(owner).await;
    signed_out.delete("/v1/sessions/current").await.ok();
    app.clock.advance(Duration::from_secs(61));
    vec![
        (revoked.secret, "token_revoked"),
        (expired.secret, "token_expired"),
        (of_expired.secret, "token_expired"),
        (of_member.secret, "token_revoked"),
        (of_lost_key.secret, "token_revoked"),
        (of_lost.secret, "token_revoked"),
        (signed_out.secret, "token_revoked"),
        (unknown_secret(SecretKind::Key), "invalid_token"),
        (unknown_secret(SecretKind::Invitation), "invalid_token"),
    ]
}

#[tokio::test]
async fn ended_credentials_cost_no_single_lookups_once_their_address_is_limited() {
    let app = TestApp::start_with(behind_a_proxy(RateLimit::new(1, 3600))).await;
    let owner = app.owner().await;
    let ended = ended_credentials(&app, &owner).await;
    for (number, (secret, code)) in ended.iter().enumerate() {
        let address = format!("203.0.113.{number}");
        let reply = Bearer { app: &app, secret: secret.clone() };
        let reply = reply.request("GET", "/v1/projects").header("x-forwarded-for", &address).send().await;
        let found = reply.json()["code"].clone();
        // A token of an expired key may already be revoked.
        assert!(found == *code || found == "token_revoked", "{number}: {found}");
        assert_eq!(reply.status, 401);
        let [singles, ..] = look_ups(&app).await;
        for _ in 0..3 {
            assert_eq!(send(&app, secret, &address).await, 429, "{code}");
        }
        assert_eq!(look_ups(&app).await[0], singles, "{code}");
    }
}

#[tokio::test]
async fn ended_credential_gets_its_exact_code_during_a_flood_from_other_addresses() {
    let app = TestApp::start_with(behind_a_proxy(RateLimit::new(100, 60))).await;
    let owner = app.owner().await;
    let ended = ended_credentials(&app, &owner).await;
    // Uses up the failure limit of all addresses together.
    flood(&app, 400, |n| (unknown_secret(SecretKind::Token), format!("2001:db8:0:{n:x}::1"))).await;
    for (secret, code) in ended {
        let reply = Bearer { app: &app, secret };
        let reply = reply.request("GET", "/v1/projects").header("x-forwarded-for", "198.51.100.7").send().await;
        let found = reply.json()["code"].clone();
        assert!(found == code || (code == "token_expired" && found == "token_revoked"), "{code}: {found}");
    }
    let key = owner.key().await;
    assert_eq!(send(&app, &key.secret, "198.51.100.7").await, 200);
}

#[tokio::test]
async fn concurrent_requests_with_one_unknown_secret_share_lookups() {
    let app = TestApp::start_with(behind_a_proxy(RateLimit::new(1_000_000, 60))).await;
    app.lease().await;
    if app.node.credentials.is_none() {
        // Without the cache, each request does its own lookup.
        return;
    }
    let secret = unknown_secret(SecretKind::Key);
    let [singles, ..] = look_ups(&app).await;
    // A request for a secret whose lookup is in progress joins the next batch.
    assert_eq!(flood(&app, 200, |_| (secret.clone(), "203.0.113.7".into())).await, (200, 0));
    let [singles_after, batched, _] = look_ups(&app).await;
    assert!(batched > 0.0 && singles_after - singles < 200.0, "{singles_after} {batched}");
}
