//! Background workers: a worker that panics, ends early or stalls is restarted, counted, and shown on `/readyz`. The
//! tests cover every worker of the table.

use std::{collections::BTreeMap, time::Duration};

use cloudapi::server::{
    scrape,
    state::AppOptions,
    supervision::status::{State, WorkerOptions},
    workers::TABLE,
};
use serde_json::{Value, json};

use crate::support::{
    Bearer, Identity, TestApp,
    cloud::fast_provider,
    eventually,
    prometheus::Exposition,
    worker_faults::{Fault, WorkerFaults},
};

/// A server that detects stalled workers quickly and restarts workers after `pause`.
async fn start(pause: Duration) -> (TestApp, WorkerFaults) {
    let faults = WorkerFaults::default();
    let workers = WorkerOptions {
        stall_after: Some(Duration::from_secs(2)),
        initial_backoff: pause,
        max_backoff: pause,
        decorator: faults.decorator(),
    };
    let options =
        AppOptions { workers, audit_retention_months: Some(1200), cloud: fast_provider(), ..AppOptions::default() };
    let app = TestApp::start_with(options).await;
    eventually("all workers", async || started(&app).iter().all(|name| app.workers.get(name).is_some()).then_some(()))
        .await;
    (app, faults)
}

/// Workers of the table that run in these tests.
fn started(app: &TestApp) -> Vec<&'static str> {
    let names = TABLE.iter().map(|worker| worker.name);
    names.filter(|name| *name != "auth_lease" || app.node.credentials.is_some()).collect()
}

fn is_required(name: &str) -> bool {
    TABLE.iter().any(|worker| worker.name == name && worker.is_required)
}

fn restarts(app: &TestApp, worker: &str) -> f64 {
    let page = Exposition::parse(&scrape::render(app));
    page.find("cloudapi_worker_restarts_total", &[("worker", worker)]).expect("a restart counter of each worker")
}

fn last_progress(app: &TestApp, worker: &str) -> f64 {
    Exposition::parse(&scrape::render(app)).get("cloudapi_worker_last_progress_seconds", &[("worker", worker)])
}

/// Status of `/readyz`, and its check of the workers.
async fn readiness(app: &TestApp) -> (u16, String) {
    let reply = app.anonymous().get("/readyz").await;
    (reply.status, reply["checks"]["workers"].as_str().expect("a text").to_owned())
}

/// Injects a fault into every worker, and waits until each runs again.
async fn assert_each_recovers_from(fault: Fault) {
    let (app, faults) = start(Duration::from_millis(50)).await;
    app.lease().await;
    let before = |worker| (worker, restarts(&app, worker), last_progress(&app, worker));
    let workers: Vec<_> = started(&app).into_iter().map(before).collect();
    workers.iter().for_each(|(worker, ..)| faults.inject(worker, fault));
    for (worker, before, progress) in workers {
        eventually(&format!("a restart of {worker}"), async || (restarts(&app, worker) > before).then_some(())).await;
        let status = app.workers.get(worker).unwrap();
        let count = status.heartbeat.count();
        eventually(&format!("progress of {worker}"), async || {
            let is_on = status.heartbeat.count() > count || status.heartbeat.is_idle();
            (is_on && status.state() == State::Running && last_progress(&app, worker) >= progress).then_some(())
        })
        .await;
    }
    app.lease().await;
    eventually("all workers to be ready", async || (readiness(&app).await == (200, "ok".to_owned())).then_some(()))
        .await;
    // The workers do their work: a write is sealed and becomes an event.
    let owner = app.owner().await;
    owner.key().await;
    eventually("an event", async || {
        let events = owner.get(&format!("/v1/events?project_id={}", owner.project)).await.ok();
        events["data"].as_array().unwrap().iter().any(|event| event["type"] == "key.created").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panicking_worker_is_restarted_and_counted() {
    assert_each_recovers_from(Fault::Panic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_that_ends_early_is_restarted_and_counted() {
    assert_each_recovers_from(Fault::Return).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stalled_worker_is_aborted_restarted_and_counted() {
    assert_each_recovers_from(Fault::Stall).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_names_stopped_workers_and_is_503_if_requests_need_one() {
    // Failed workers stay down until the end of the test.
    let (app, faults) = start(Duration::from_secs(3600)).await;
    app.lease().await;
    assert_eq!(readiness(&app).await, (200, "ok".to_owned()));
    let (needed, spare): (Vec<_>, Vec<_>) = started(&app).into_iter().partition(|name| is_required(name));
    assert!(!needed.is_empty() && !spare.is_empty());
    let mut down = BTreeMap::new();
    // First the workers that requests do not need: with all of these down, requests are still served.
    for (worker, status) in spare.into_iter().map(|name| (name, 200)).chain(needed.into_iter().map(|name| (name, 503)))
    {
        faults.inject(worker, Fault::Panic);
        down.insert(worker, status);
        eventually(&format!("/readyz to name {worker}"), async || {
            let (found, text) = readiness(&app).await;
            let named = text.split(", ").any(|part| part == format!("{worker} restarting"));
            (named && found == status).then_some(())
        })
        .await;
    }
    let (_, text) = readiness(&app).await;
    assert_eq!(text.split(", ").count(), down.len(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_wait_for_a_restart_finish_their_work_at_shutdown() {
    let (app, faults) = start(Duration::from_secs(3600)).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let beside = app.start_peer(AppOptions { cloud: fast_provider(), ..AppOptions::default() }).await;
    faults.inject("audit_denials", Fault::Panic);
    eventually("the worker to be down", async || {
        matches!(app.workers.get("audit_denials").unwrap().state(), State::Restarting(_)).then_some(())
    })
    .await;
    // The denial is in the server's memory.
    key.post("/v1/webhooks", json!({})).await.problem(403, "insufficient_scope");
    let path = format!("/v1/audit-logs?limit=100&project_id={}", owner.project);
    let owner = Bearer { app: &beside, secret: owner.secret.clone() };
    drop(key);
    drop(app);
    eventually("the denial in the audit trail", async || {
        let trail: Value = owner.get(&path).await.ok();
        trail["data"].as_array().unwrap().iter().any(|entry| entry["action"] == "request.denied").then_some(())
    })
    .await;
}
