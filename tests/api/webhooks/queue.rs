//! The delivery queue: fairness between receivers, several servers, and servers that fail.

use std::{collections::HashMap, time::Duration};

use cloudapi::{
    api::webhooks::{
        delivery::{backoff::DeliveryPolicy, queue},
        metrics::DeliveryOutcome,
    },
    base::{id::WebhookId, server_key::ServerKey},
    db::purges::purge_batch,
    server::state::AppOptions,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{allow_loopback, counted, delivered, deliveries, fast_policy, path, set_up, webhook};
use crate::support::{
    Identity, Session, TestApp, eventually,
    receiver::{Behavior, Receiver},
};

/// Long timeouts for slow receivers.
fn policy_without_retries() -> DeliveryPolicy {
    DeliveryPolicy { request_timeout: Duration::from_secs(60), lease: Duration::from_secs(90), ..fast_policy() }
}

fn id(webhook: &Value) -> WebhookId {
    webhook["id"].as_str().unwrap().parse().unwrap()
}

/// Queues the webhook's delivery `count` more times.
async fn queue_again(app: &TestApp, webhook: &Value, count: i32) {
    sqlx::query(
        "INSERT INTO webhook_deliveries (id, webhook_id, project_id, event_id, event_type)
         SELECT gen_random_uuid(), $1, d.project_id, d.event_id, d.event_type
         FROM generate_series(1, $2), LATERAL (SELECT * FROM webhook_deliveries WHERE webhook_id = $1 LIMIT 1) d",
    )
    .bind(id(webhook))
    .bind(count)
    .execute(&app.db)
    .await
    .unwrap();
}

#[tokio::test]
async fn hanging_receiver_with_500_deliveries_does_not_delay_others() {
    let (app, live) = set_up(policy_without_retries()).await;
    let hole = Receiver::start().await;
    let owner = app.owner().await;
    hole.set(Behavior::Hang);
    let hanging = webhook(&owner, &hole.url(), json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    hole.wait_for("key.created", 1).await;
    queue_again(&app, &hanging, 500).await;
    let working = webhook(&owner, &live.url(), json!({ "event_types": ["token.created"] })).await;
    for count in 1..=6 {
        owner.token(&["users:read"]).await;
        live.wait_for("token.created", count).await;
    }
    assert_eq!(deliveries(&owner, &working, "token.created").await.len(), 6);
    // One at a time until the receiver has succeeded.
    assert_eq!(hole.received().len(), 1);
    // After a success a few at a time, and then the rest.
    hole.respond_with("200 OK");
    eventually("the receiver to accept deliveries", async || (hole.received().len() > 20).then_some(())).await;
    hole.set(Behavior::Hang);
    eventually("four deliveries at a time", async || (hole.max_concurrent() == 4).then_some(())).await;
    for count in 7..=9 {
        owner.token(&["users:read"]).await;
        live.wait_for("token.created", count).await;
    }
    assert_eq!(hole.max_concurrent(), 4);
    hole.respond_with("200 OK");
    eventually("the remaining deliveries", async || (hole.received().len() > 100).then_some(())).await;
}

#[tokio::test]
async fn more_hanging_receivers_than_slots_do_not_delay_others() {
    let (app, live) = set_up(policy_without_retries()).await;
    let hole = Receiver::start().await;
    hole.respond_with("500 Internal Server Error");
    let owners = join_all((0..4).map(|_| app.owner())).await;
    let url = hole.url();
    let holes = owners
        .iter()
        .flat_map(|owner| (0..20).map(|_| webhook(owner, &url, json!({ "event_types": ["key.created"] }))));
    let holes = join_all(holes).await;
    join_all(owners.iter().map(Session::key)).await;
    eventually("all receivers to fail", async || {
        let sql = "SELECT count(*) FROM webhooks WHERE failing_since IS NOT NULL";
        let failing: i64 = sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap();
        (failing == holes.len() as i64).then_some(())
    })
    .await;
    // Each is retried soon. Now each attempt hangs for longer than this test waits.
    hole.set(Behavior::Hang);
    let hanging = async || (hole.max_concurrent() == 16).then_some(());
    eventually("all slots for failing receivers to be taken", hanging).await;
    let owner = app.owner().await;
    webhook(&owner, &live.url(), json!({ "event_types": ["token.created"] })).await;
    for count in 1..=5 {
        owner.token(&["users:read"]).await;
        live.wait_for("token.created", count).await;
    }
    // The hanging receivers still use the same number of slots.
    assert_eq!(hole.max_concurrent(), 16);
}

#[tokio::test]
async fn servers_share_deliveries_and_send_nothing_twice() {
    let key = ServerKey::generate();
    let options = || AppOptions { server_key: key.clone(), ..allow_loopback(policy_without_retries()) };
    let one = TestApp::start_with(options()).await;
    let other = one.start_peer(options()).await;
    let (owner, receiver) = (one.owner().await, Receiver::start().await);
    receiver.set(Behavior::Hang);
    for _ in 0..10 {
        webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    }
    join_all((0..10).map(|_| owner.key())).await;
    // Until the first success, each server sends one delivery at a time to each webhook.
    eventually("both servers to send", async || (receiver.received().len() == 20).then_some(())).await;
    receiver.respond_with("200 OK");
    let done = [&one, &other].map(|app| app.webhooks.outbox.metrics.count(DeliveryOutcome::Delivered));
    eventually("all deliveries", async || {
        let done = [&one, &other].map(|app| app.webhooks.outbox.metrics.count(DeliveryOutcome::Delivered));
        (done[0] + done[1] == 100).then_some(())
    })
    .await;
    assert_eq!(done, [0, 0]);
    assert!([&one, &other].iter().all(|app| app.webhooks.outbox.metrics.attempts() >= 10));
    let mut sent = HashMap::<_, usize>::new();
    for received in receiver.received() {
        *sent.entry(received.header("webhook-id").to_owned()).or_default() += 1;
    }
    // Ten events, each to ten webhooks.
    assert!(sent.len() == 10 && sent.values().all(|count| *count == 10), "{sent:?}");
}

#[tokio::test]
async fn delivery_with_an_expired_lease_is_sent_by_another_server_and_the_late_result_ignored() {
    let key = ServerKey::generate();
    let options = |policy| AppOptions { server_key: key.clone(), ..allow_loopback(policy) };
    let one =
        TestApp::start_with(options(DeliveryPolicy { lease: Duration::from_millis(200), ..policy_without_retries() }))
            .await;
    let (owner, receiver) = (one.owner().await, Receiver::start().await);
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Behavior::Hang);
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    // As after kill -9: the first server does not renew its lease. The next lease lasts until the end of the test.
    let other = one.start_peer(options(policy_without_retries())).await;
    let again = receiver.wait_for("key.created", 2).await;
    assert_eq!(again.header("webhook-id"), receiver.received()[0].header("webhook-id"));
    // The first server was only slow. Its result must not change the delivery, which another server has claimed.
    receiver.respond_to_one_with(0, "500 Internal Server Error");
    counted(&one, DeliveryOutcome::Superseded, 1).await;
    assert_eq!(deliveries(&owner, &hook, "key.created").await[0]["attempts"], json!([]));
    receiver.respond_with("200 OK");
    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    counted(&other, DeliveryOutcome::Delivered, 1).await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(delivery["attempts"][0]["number"], 2);
    assert_eq!(deliveries(&owner, &hook, "key.created").await, [delivery]);
}

#[tokio::test]
async fn delivery_of_a_stopped_server_is_sent_by_another() {
    let key = ServerKey::generate();
    let policy = DeliveryPolicy { lease: Duration::from_millis(200), ..policy_without_retries() };
    let options = || AppOptions { server_key: key.clone(), ..allow_loopback(policy) };
    let one = TestApp::start_with(options()).await;
    let (owner, receiver) = (one.owner().await, Receiver::start().await);
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Behavior::Hang);
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    let other = one.start_peer(options()).await;
    let hook = id(&hook);
    drop(one);
    receiver.wait_for("key.created", 2).await;
    receiver.respond_with("200 OK");
    eventually("the delivery", async || {
        let sql = "SELECT status FROM webhook_deliveries WHERE webhook_id = $1";
        let status: String = sqlx::query_scalar(sql).bind(hook).fetch_one(&other.db).await.unwrap();
        (status == "delivered").then_some(())
    })
    .await;
}

#[tokio::test]
async fn webhook_deleted_during_a_delivery_is_removed_with_its_deliveries() {
    let (app, receiver) = set_up(policy_without_retries()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Behavior::Hang);
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    queue_again(&app, &hook, 3).await;
    owner.delete(&path(&hook)).await.ok();
    receiver.respond_with("200 OK");
    counted(&app, DeliveryOutcome::Superseded, 1).await;
    let mut db = app.db.acquire().await.unwrap();
    // Not immediately, because the sealer may be queueing an event.
    assert_eq!(purge_batch(&mut db).await.unwrap(), 0);
    sqlx::query("UPDATE purges SET due_at = now()").execute(&mut *db).await.unwrap();
    while purge_batch(&mut db).await.unwrap() > 0 {}
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM webhook_deliveries").fetch_one(&mut *db).await.unwrap();
    assert_eq!((left, receiver.received().len()), (0, 1));
    owner.get(&format!("{}/deliveries", path(&hook))).await.problem(404, "not_found");
}

#[tokio::test]
async fn redacted_event_is_no_longer_sent() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.respond_with("500 Internal Server Error");
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    sqlx::query(
        "UPDATE audit_entries SET payload = NULL, salt = NULL, action = NULL, actor_id = NULL, target_id = NULL
         WHERE action = 'key.created'",
    )
    .execute(&app.db)
    .await
    .unwrap();
    let delivery = delivered(&owner, &hook, "key.created", "failed").await;
    assert_eq!(delivery["attempts"].as_array().unwrap().last().unwrap()["error"], "event_gone");
    // Redelivery cannot restore the event and fails again.
    let asked = receiver.received().len();
    let again = format!("{}/deliveries/{}/redeliver", path(&hook), delivery["id"].as_str().unwrap());
    owner.post_empty(&again).await.expect(reqwest::StatusCode::ACCEPTED);
    delivered(&owner, &hook, "key.created", "failed").await;
    assert_eq!(receiver.received().len(), asked);
}

#[tokio::test]
async fn secret_from_another_row_cannot_be_decrypted_and_signs_nothing() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    let other = webhook(&owner, &receiver.url(), json!({ "enabled": false })).await;
    sqlx::query("UPDATE webhooks SET secret = (SELECT secret FROM webhooks WHERE id = $2) WHERE id = $1")
        .bind(id(&hook))
        .bind(id(&other))
        .execute(&app.db)
        .await
        .unwrap();
    owner.key().await;
    let delivery = eventually("an attempt", async || {
        let found = deliveries(&owner, &hook, "key.created").await;
        found.into_iter().find(|delivery| !delivery["attempts"][0].is_null())
    })
    .await;
    assert_eq!(delivery["attempts"][0]["error"], "secret_unreadable");
    assert_eq!(receiver.connections(), 0);
    // This does not count as a failure of the receiver, and a new secret fixes it.
    assert_eq!(owner.get(&path(&hook)).await.ok()["failing_since"], json!(null));
    let rotated = owner.post(&format!("{}/rotate-secret", path(&hook)), json!({})).await.created();
    let received = receiver.wait_for("key.created", 1).await;
    assert!(received.is_signed_by(rotated["secret"].as_str().unwrap()));
}

#[tokio::test]
async fn deliveries_are_kept_for_30_days_and_fail_after_a_day_at_disabled_webhooks() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    delivered(&owner, &hook, "key.created", "delivered").await;
    let resting = webhook(&owner, &receiver.url(), json!({ "enabled": false })).await;
    sqlx::query(
        "INSERT INTO webhook_deliveries (id, webhook_id, project_id, event_id, event_type, created_at, queued_at)
         SELECT gen_random_uuid(), w.id, w.project_id, w.id, 'key.created', now() - age, now() - age
         FROM webhooks w, unnest(array[interval '1 hour', interval '25 hours', interval '31 days']) AS age,
              generate_series(1, 1100)
         WHERE w.id = $1",
    )
    .bind(id(&resting))
    .execute(&app.db)
    .await
    .unwrap();
    let mut db = app.db.acquire().await.unwrap();
    let mut most = 0;
    while let rows @ 1.. = queue::delete_old(&mut db, &app.webhooks.outbox.policy).await.unwrap() {
        most = most.max(rows);
    }
    assert!(most <= 1000, "{most}");
    // More than a batch of the worker, which fails them meanwhile.
    let sql = "SELECT status, count(*) FROM webhook_deliveries WHERE webhook_id = $1 GROUP BY status ORDER BY status";
    eventually("the deliveries to fail", async || {
        let left: Vec<(String, i64)> = sqlx::query_as(sql).bind(id(&resting)).fetch_all(&mut *db).await.unwrap();
        (left == [("failed".to_owned(), 1_100), ("pending".to_owned(), 1_100)]).then_some(())
    })
    .await;
    assert_eq!(deliveries(&owner, &hook, "key.created").await.len(), 1);
}

#[tokio::test]
async fn delivery_list_is_paged_in_the_order_of_events() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(owner.key().await.id);
    }
    receiver.wait_for("key.created", 5).await;
    let events: HashMap<String, String> = receiver
        .received()
        .iter()
        .map(|received| {
            (received.header("webhook-id").to_owned(), received.event()["subject"].as_str().unwrap().to_owned())
        })
        .collect();
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = owner.get(&format!("{}/deliveries?limit=2{cursor}", path(&hook))).await.ok();
        listed.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|delivery| events[delivery["event_id"].as_str().unwrap()].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed, keys);
}

#[tokio::test]
async fn queue_depth_and_oldest_due_delivery_are_measured() {
    let (app, receiver) = set_up(policy_without_retries()).await;
    let owner = app.owner().await;
    receiver.set(Behavior::Hang);
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    queue_again(&app, &hook, 9).await;
    let mut db = app.db.acquire().await.unwrap();
    let depth = queue::depth(&mut db).await.unwrap();
    assert_eq!((depth.open, depth.due), (10, 9));
    assert!(depth.oldest_due < Duration::from_secs(60));
    assert_eq!(app.webhooks.outbox.metrics.attempts(), 1);
}

#[tokio::test]
async fn deliveries_of_a_disabled_webhook_are_not_looked_for_until_it_is_enabled() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    owner.patch(&path(&hook), json!({ "enabled": false })).await.ok();
    queue_again(&app, &hook, 20).await;
    eventually("no timer but that of the end of the retry period", async || {
        let sql = "SELECT bool_and(due_at > now() + interval '23 hours') FROM webhook_timers WHERE webhook_id = $1";
        let is_later: Option<bool> = sqlx::query_scalar(sql).bind(id(&hook)).fetch_one(&app.db).await.unwrap();
        (is_later == Some(true)).then_some(())
    })
    .await;
    let mut db = app.db.acquire().await.unwrap();
    assert_eq!(queue::depth(&mut db).await.unwrap().open, 0);
    owner.patch(&path(&hook), json!({ "enabled": true })).await.ok();
    receiver.wait_for("key.created", 21).await;
}
