//! Metrics of the credential cache, the usage counters, the database connections and the process.

use std::{fs, path::Path};

use cloudapi::{
    api::usage::counting::{flush, meter::MeterOptions},
    http::layers::edge::EdgeLimits,
    server::state::AppOptions,
};

use super::scrape;
use crate::support::{Identity, TestApp, eventually, prometheus::Exposition, raw::edge_options};

#[tokio::test]
async fn cache_lease_and_revocation_metrics_are_exported() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    if app.node.credentials.is_none() {
        let page = scrape(&url).await;
        assert!(!page.text.contains("cloudapi_auth_cache"));
        return;
    }
    let losses = |page: &Exposition| page.get("cloudapi_auth_lease_losses_total", &[]);
    let (before, after) = eventually("all requests under one lease", async || {
        let key = owner.key().await;
        app.lease().await;
        owner.get("/v1/projects").await.ok();
        let before = scrape(&url).await;
        for _ in 0..3 {
            key.get("/v1/projects").await.ok();
        }
        owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
        let after = scrape(&url).await;
        // On a machine that stalls for three seconds, the node must lose its lease.
        (losses(&before) == losses(&after)).then_some((before, after))
    })
    .await;
    let grown = |name| after.get(name, &[]) - before.get(name, &[]);
    assert_eq!(grown("cloudapi_auth_cache_hits_total"), 3.0);
    assert_eq!(grown("cloudapi_auth_cache_misses_total"), 1.0);
    assert_eq!(grown("cloudapi_auth_cache_entries"), 1.0);
    assert_eq!(grown("cloudapi_auth_invalidation_duration_seconds_count"), 1.0);
    let invalidations = "cloudapi_auth_invalidations_total";
    let by = |page: &Exposition, what| page.get(invalidations, &[("confirmed_by", what)]);
    let confirmed = ["ack", "time"].map(|what| by(&after, what) - by(&before, what));
    assert_eq!(confirmed, [1.0, 0.0]);
    assert_eq!(after.get("cloudapi_auth_lease_held", &[]), 1.0);

    // Without its table, the node loses its lease.
    sqlx::query("ALTER TABLE auth_nodes RENAME TO auth_nodes_gone").execute(&app.db).await.unwrap();
    let page = eventually("the loss of the lease", async || {
        let page = scrape(&url).await;
        (page.get("cloudapi_auth_lease_held", &[]) == 0.0).then_some(page)
    })
    .await;
    let lost = async || (losses(&scrape(&url).await) == losses(&after) + 1.0).then_some(());
    eventually("the count of lease losses", lost).await;
    assert_eq!(page.find("cloudapi_auth_lease_held", &[]), Some(0.0));
}

#[tokio::test]
async fn flush_metrics_are_exported_for_success_and_failure() {
    let app = TestApp::start_with(AppOptions {
        meter: MeterOptions { slots: 64, ..MeterOptions::default() },
        ..AppOptions::default()
    })
    .await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    app.flush_usage().await;
    let begun = scrape(&url).await;
    let rows = "cloudapi_usage_flushed_rows_total";
    // The server also flushes in the background. Between the first two requests, this sends their row twice.
    let after = eventually("one flush of all three requests", async || {
        app.flush_usage().await;
        let before = scrape(&url).await;
        key.get("/v1/users").await.ok();
        key.get("/v1/users").await.ok();
        key.get("/v1/projects").await.ok();
        app.flush_usage().await;
        let after = scrape(&url).await;
        let sent = after.get(rows, &[]) - before.get(rows, &[]);
        assert!(sent == 2.0 || sent == 3.0, "{sent}");
        (sent == 2.0).then_some(after)
    })
    .await;
    let now = app.clock.now().unix_seconds() as f64;
    let last = after.get("cloudapi_usage_last_flush_timestamp_seconds", &[]);
    assert!((now - 20.0..=now + 1.0).contains(&last), "{last} at {now}");
    assert_eq!(after.get("cloudapi_usage_journal_slots", &[]), 64.0);
    let used = "cloudapi_usage_journal_slots_used";
    assert_eq!(after.get(used, &[]) - begun.get(used, &[]), 2.0);
    assert_eq!(after.get("cloudapi_usage_flush_failures_total", &[]), 0.0);
    assert_eq!(after.get("cloudapi_usage_lost_requests_total", &[]), 0.0);

    app.db.close().await;
    flush::flush_or_log(&app.meter, &app.db, &app.clock).await;
    let failed = scrape(&url).await;
    assert!(failed.get("cloudapi_usage_flush_failures_total", &[]) >= 1.0);
    assert_eq!(failed.get(rows, &[]), after.get(rows, &[]));
}

#[tokio::test]
async fn requests_waiting_for_a_database_connection_are_counted() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    let owner = app.owner().await;
    let used = |page: &Exposition| page.get("cloudapi_db_connections", &[("state", "used")]);
    let waiting = "cloudapi_db_acquires_waiting";
    let most = scrape(&url).await.get("cloudapi_db_connections_max", &[]) as usize;
    let mut held = Vec::new();
    for _ in 0..most {
        held.push(app.db.acquire().await.unwrap());
    }
    let before = scrape(&url).await;
    assert_eq!(used(&before), most as f64);
    let (reply, ()) = tokio::join!(owner.get("/v1/projects"), async {
        eventually("a waiting request", async || (scrape(&url).await.get(waiting, &[]) >= 1.0).then_some(())).await;
        held.clear();
    });
    reply.ok();
    let grown = async || {
        let page = scrape(&url).await;
        let acquires = "cloudapi_db_acquire_duration_seconds_count";
        (page.get(waiting, &[]) == 0.0 && page.get(acquires, &[]) > before.get(acquires, &[])).then_some(())
    };
    eventually("no waiting request", grown).await;
}

#[tokio::test]
async fn process_metrics_and_limits_are_exported() {
    let app = TestApp::start_with(edge_options(|limits: &mut EdgeLimits| limits.max_requests = 77)).await;
    let url = app.serve_metrics().await;
    let page = scrape(&url).await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(page.find("cloudapi_build_info", &[("version", version)]), Some(1.0));
    assert_eq!(page.get("cloudapi_serving", &[]), 1.0);
    assert_eq!(page.get("cloudapi_http_requests_max", &[]), 77.0);
    let now = app.clock.now().unix_seconds() as f64;
    assert!((now - 60.0..=now + 1.0).contains(&page.get("process_start_time_seconds", &[])));
    assert!(page.get("process_cpu_seconds_total", &[]) > 0.0);
    if Path::new("/proc/self/status").exists() {
        let memory = page.get("process_resident_memory_bytes", &[]);
        assert!((1e6..1e11).contains(&memory) && memory < page.get("process_virtual_memory_bytes", &[]), "{memory}");
        assert!(page.get("process_threads", &[]) >= 2.0);
        let (open, most) = (page.get("process_open_fds", &[]), page.get("process_max_fds", &[]));
        assert!((4.0..most).contains(&open), "{open} of {most}");
    }
}

#[tokio::test]
async fn docs_list_every_metric_family_and_no_other() {
    let app = TestApp::start_with(AppOptions::default()).await;
    if app.node.credentials.is_none() {
        return;
    }
    let page = scrape(&app.serve_metrics().await).await;
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md")).unwrap();
    let is_part = |character: char| character.is_ascii_lowercase() || character == '_';
    let words = docs.split(|character| !is_part(character));
    let mut mentioned: Vec<&str> = words
        .filter(|word| (word.starts_with("cloudapi_") || word.starts_with("process_")) && word.len() > 9)
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    mentioned.sort_unstable();
    mentioned.dedup();
    let families: Vec<&str> = page.families.keys().map(String::as_str).collect();
    assert_eq!(mentioned, families);
}
