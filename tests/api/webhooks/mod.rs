//! Webhooks, against real receivers on real sockets.

mod addresses;
mod claims;
mod delivery;
mod manage;
mod own_failures;
mod queue;

use std::time::Duration;

use cloudapi::{
    api::webhooks::{delivery::backoff::DeliveryPolicy, metrics::DeliveryOutcome, outbox::WebhookOptions},
    server::state::AppOptions,
};
use serde_json::{Value, json};

use crate::support::{Identity, Session, TestApp, eventually, receiver::Receiver};

/// The default policy, but with backoffs of milliseconds.
pub fn fast_policy() -> DeliveryPolicy {
    DeliveryPolicy {
        poll: Duration::from_millis(20),
        initial_backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(50),
        ..DeliveryPolicy::default()
    }
}

/// Options that allow receivers on this machine.
fn allow_loopback(policy: DeliveryPolicy) -> AppOptions {
    let webhooks =
        WebhookOptions { allowed: vec!["127.0.0.0/8".parse().unwrap()], policy, ..WebhookOptions::default() };
    AppOptions { webhooks, ..AppOptions::default() }
}

/// An allowed URL whose host does not resolve: no test connects to another machine.
pub const UNREACHABLE_URL: &str = "https://receiver.invalid/hooks";

/// Creates a webhook with these members for the user's project.
pub async fn webhook(owner: &Session<'_>, url: &str, mut members: Value) -> Value {
    members["project_id"] = json!(owner.project);
    members["url"] = json!(url);
    owner.post("/v1/webhooks", members).await.created()
}

/// The path of a webhook.
fn path(webhook: &Value) -> String {
    format!("/v1/webhooks/{}", webhook["id"].as_str().unwrap())
}

/// Deliveries of one event type to a webhook, oldest first.
async fn deliveries(owner: &Session<'_>, webhook: &Value, event_type: &str) -> Vec<Value> {
    let listed = owner.get(&format!("{}/deliveries?limit=100", path(webhook))).await.ok();
    let of_type = |delivery: &&Value| delivery["event_type"] == event_type;
    listed["data"].as_array().unwrap().iter().filter(of_type).cloned().collect()
}

/// Waits until the only delivery of this type has this status.
pub async fn delivered(owner: &Session<'_>, webhook: &Value, event_type: &str, status: &str) -> Value {
    eventually(&format!("{event_type} to be {status}"), async || {
        let found = deliveries(owner, webhook, event_type).await;
        assert!(found.len() <= 1, "{found:?}");
        found.into_iter().find(|delivery| delivery["status"] == status)
    })
    .await
}

/// Waits until a server has counted this many attempts with this outcome. It counts them after the database commit.
async fn counted(app: &TestApp, outcome: DeliveryOutcome, count: u64) {
    let what = format!("{count} of {outcome:?}");
    eventually(&what, async || (app.webhooks.outbox.metrics.count(outcome) >= count).then_some(())).await;
    assert_eq!(app.webhooks.outbox.metrics.count(outcome), count, "{outcome:?}");
}

/// A server, and an allowed receiver on the same machine.
pub async fn set_up(policy: DeliveryPolicy) -> (TestApp, Receiver) {
    (TestApp::start_with(allow_loopback(policy)).await, Receiver::start().await)
}
