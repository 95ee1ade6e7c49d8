//! Content of deliveries, and retries for receivers that fail.

use std::time::Duration;

use cloudapi::{
    api::webhooks::{delivery::backoff::DeliveryPolicy, metrics::DeliveryOutcome},
    base::id::WebhookId,
};
use serde_json::{Value, json};

use super::{counted, delivered, deliveries, fast_policy, path, set_up, webhook};
use crate::{
    events::trigger_event,
    support::{
        Identity, Session,
        app::PUBLIC_URL,
        eventually,
        receiver::{Behavior, Received, Receiver},
    },
};

#[tokio::test]
async fn event_is_sent_once_as_a_signed_cloudevent() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    let key = owner.key().await;

    let received = receiver.wait_for("key.created", 1).await;
    assert_eq!(received.target, "POST /hooks HTTP/1.1");
    assert_eq!(received.header("host"), receiver.address.to_string());
    assert_eq!(received.header("content-type"), "application/json");
    assert!(received.header("user-agent").starts_with("CloudAPI/"));
    let event = received.event();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["source"], format!("{PUBLIC_URL}/v1/projects/{}", owner.project));
    assert_eq!((&event["subject"], &event["data"]["action"]), (&json!(key.id), &json!("key.created")));
    assert_eq!(event["data"]["actor"]["id"], owner.user_id.to_string());
    assert_eq!(event["data"]["changes"]["id"], key.id);
    assert_eq!(received.header("webhook-id"), event["id"]);
    assert!(event["id"].as_str().unwrap().starts_with("evt_"));
    assert!(received.is_signed_by(hook["secret"].as_str().unwrap()));
    let other = webhook(&owner, "https://receiver.invalid/", json!({ "enabled": false })).await;
    assert!(!received.is_signed_by(other["secret"].as_str().unwrap()));

    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    assert_eq!((&delivery["event_id"], &delivery["next_attempt_at"]), (&event["id"], &json!(null)));
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (&attempts[0]["number"], &attempts[0]["status_code"], &attempts[0]["error"]),
        (&json!(1), &json!(200), &json!(null))
    );
    assert_eq!(
        owner.get(&format!("{}/deliveries/{}", path(&hook), delivery["id"].as_str().unwrap())).await.ok(),
        delivery
    );
    assert_eq!(receiver.received().len(), 1);
    counted(&app, DeliveryOutcome::Delivered, 1).await;
}

#[tokio::test]
async fn trace_of_a_request_continues_in_its_audit_entry_event_and_delivery() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    let (trace, step) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let create = owner.request("POST", "/v1/keys").header("traceparent", &format!("00-{trace}-{step}-01"));
    create.json(&json!({ "project_id": owner.project })).send().await.created();

    let received = receiver.wait_for("key.created", 1).await;
    let sent = received.header("traceparent").to_owned();
    let reported = received.event()["traceparent"].as_str().unwrap().to_owned();
    let path = format!("/v1/audit-logs?action=key.created&project_id={}", owner.project);
    assert_eq!(owner.get(&path).await.ok()["data"][0]["traceparent"], reported);
    for one in [&sent, &reported] {
        assert!(one.starts_with(&format!("00-{trace}-")) && one.ends_with("-01"), "{one}");
        // With a new span ID.
        assert!(!one.contains(step), "{one}");
    }
    assert_ne!(sent, reported);
}

#[tokio::test]
async fn webhook_receives_only_subscribed_events_of_its_project() {
    let (app, receiver) = set_up(fast_policy()).await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created", "key.revoked"] })).await;
    let everything = webhook(&stranger, &receiver.url(), json!({})).await;
    let key = owner.key().await;
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "name": "x" })).await.ok();
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    for wanted in ["key.created", "key.revoked"] {
        receiver.wait_for(wanted, 1).await;
    }
    let types: Vec<String> = receiver.received().iter().map(Received::event_type).collect();
    // In any order: several are sent concurrently.
    let mut ours: Vec<_> = types.iter().filter(|one| one.starts_with("key")).collect();
    ours.sort_unstable();
    assert_eq!(ours, ["key.created", "key.revoked"]);
    // A webhook with all events also receives its own creation.
    let made = receiver.wait_for("webhook.created", 1).await;
    assert_eq!(made.event()["subject"], everything["id"]);
    assert!(!String::from_utf8(made.body).unwrap().contains("whsec_"));
}

#[tokio::test]
async fn test_event_goes_only_to_the_tested_webhook_regardless_of_its_event_types() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let narrow = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.revoked"] })).await;
    let wide = webhook(&owner, &receiver.url(), json!({})).await;
    let reply = owner.post_empty(&format!("{}/test", path(&narrow))).await;
    assert_eq!(reply.header("location").unwrap(), format!("{}/deliveries?order=desc", path(&narrow)));
    assert_eq!(reply.expect(reqwest::StatusCode::ACCEPTED), json!({ "id": narrow["id"], "queued": true }));
    let received = receiver.wait_for("webhook.tested", 1).await;
    assert!(received.is_signed_by(narrow["secret"].as_str().unwrap()));
    delivered(&owner, &narrow, "webhook.tested", "delivered").await;
    assert_eq!(deliveries(&owner, &wide, "webhook.tested").await, [] as [Value; 0]);
}

#[tokio::test]
async fn failing_receiver_gets_the_same_delivery_until_it_accepts_it() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.respond_with("503 Service Unavailable");
    owner.key().await;
    let third = receiver.wait_for("key.created", 3).await;
    assert!(owner.get(&path(&hook)).await.ok()["failing_since"].is_string());
    receiver.respond_with("204 No Content");
    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    let received = receiver.of_type("key.created");
    assert!(
        received.iter().all(|one| one.header("webhook-id") == third.header("webhook-id") && one.body == third.body)
    );
    assert!(received.iter().all(|one| one.is_signed_by(hook["secret"].as_str().unwrap())));
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), received.len());
    let first = (&attempts[0]["status_code"], &attempts[0]["error"]);
    assert_eq!(first, (&json!(503), &json!("unsuccessful_status")));
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=attempts.len() as u64).collect::<Vec<_>>());
    assert_eq!(attempts.last().unwrap()["status_code"], 204);
    // Recorded separately, after the attempt.
    let is_well = async || owner.get(&path(&hook)).await.ok()["failing_since"].is_null().then_some(());
    eventually("failing_since to be cleared", is_well).await;
    // The response body of a receiver is never stored.
    assert!(!delivery.to_string().contains("hello"));
}

#[tokio::test]
async fn delivery_fails_after_its_retry_period_and_can_be_redelivered() {
    let (app, receiver) = set_up(DeliveryPolicy { retry_window: Duration::from_millis(200), ..fast_policy() }).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.respond_with("500 Internal Server Error");
    owner.key().await;
    let failed = delivered(&owner, &hook, "key.created", "failed").await;
    assert_eq!(failed["next_attempt_at"], json!(null));
    let tried = receiver.received().len();
    assert_eq!(failed["attempts"].as_array().unwrap().len(), tried);
    assert_eq!(owner.get(&format!("{}/deliveries?status=failed", path(&hook))).await.ok()["data"], json!([failed]));
    assert_eq!(owner.get(&format!("{}/deliveries?status=pending", path(&hook))).await.ok()["data"], json!([]));

    receiver.respond_with("200 OK");
    let again = format!("{}/deliveries/{}/redeliver", path(&hook), failed["id"].as_str().unwrap());
    let send = || owner.request("POST", &again).header("idempotency-key", "once").send();
    let reply = send().await;
    assert_eq!(reply.header("location").unwrap(), again.trim_end_matches("/redeliver"));
    assert_eq!(reply.expect(reqwest::StatusCode::ACCEPTED)["status"], "pending");
    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    assert_eq!(delivery["id"], failed["id"]);
    let received = receiver.received();
    assert_eq!(received.len(), tried + 1);
    assert_eq!(received[tried].header("webhook-id"), received[0].header("webhook-id"));
    // A retry with the same `Idempotency-Key` does not redeliver again.
    assert_eq!(send().await.header("idempotent-replayed"), Some("true"));
    assert_eq!(deliveries(&owner, &hook, "key.created").await[0]["status"], "delivered");
}

#[tokio::test]
async fn both_secrets_sign_during_rotation_overlap_and_then_only_the_new_one() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    let rotate = async |overlap: u32| {
        let rotated =
            owner.post(&format!("{}/rotate-secret", path(&hook)), json!({ "overlap_seconds": overlap })).await;
        rotated.created()["secret"].as_str().unwrap().to_owned()
    };
    let first = hook["secret"].as_str().unwrap().to_owned();
    let second = rotate(3600).await;
    owner.key().await;
    let received = receiver.wait_for("key.created", 1).await;
    assert!(received.is_signed_by(&first) && received.is_signed_by(&second));
    assert_eq!(received.header("webhook-signature").split(' ').count(), 2);
    app.clock.advance(Duration::from_secs(3601));
    owner.key().await;
    let received = receiver.wait_for("key.created", 2).await;
    assert_eq!(received.header("webhook-signature").split(' ').count(), 1);
    let third = rotate(0).await;
    app.clock.advance(Duration::from_secs(1));
    owner.key().await;
    let received = receiver.wait_for("key.created", 3).await;
    assert_eq!(received.header("webhook-signature").split(' ').count(), 1);
    assert_ne!(second, third);
}

#[tokio::test]
async fn webhook_of_a_receiver_that_responds_410_is_disabled_until_enabled_again() {
    let (app, receiver) = set_up(fast_policy()).await;
    let (owner, other) = (app.owner().await, Receiver::start().await);
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    webhook(&owner, &other.url(), json!({ "event_types": ["webhook.disabled"] })).await;
    receiver.respond_with("410 Gone");
    let key = owner.key().await;
    let reported = other.wait_for("webhook.disabled", 1).await.event();
    assert_eq!(
        (&reported["subject"], &reported["data"]["changes"]),
        (&hook["id"], &json!({ "enabled": [true, false], "disabled_reason": [null, "gone"] }))
    );
    assert_eq!(reported["data"]["actor"]["type"], "system");
    let disabled = owner.get(&path(&hook)).await.ok();
    assert_eq!((&disabled["enabled"], &disabled["disabled_reason"]), (&json!(false), &json!("gone")));
    let asked = receiver.received().len();
    assert_eq!(asked, 1);
    // Events that occur meanwhile are not sent, not even later.
    trigger_event(&owner, &key).await;
    owner.post_empty(&format!("{}/test", path(&hook))).await.problem(409, "webhook_disabled");
    let delivery = &deliveries(&owner, &hook, "key.created").await[0];
    let again = format!("{}/deliveries/{}/redeliver", path(&hook), delivery["id"].as_str().unwrap());
    owner.post_empty(&again).await.problem(409, "webhook_disabled");

    receiver.respond_with("200 OK");
    let enabled = owner.patch(&path(&hook), json!({ "enabled": true })).await.ok();
    assert_eq!((&enabled["enabled"], &enabled["disabled_reason"]), (&json!(true), &json!(null)));
    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn webhook_events_match_their_schemas() {
    let (app, receiver) = set_up(fast_policy()).await;
    let (owner, everything) = (app.owner().await, Receiver::start().await);
    webhook(&owner, &everything.url(), json!({})).await;
    let hook = webhook(&owner, &receiver.url(), json!({ "description": "x" })).await;
    owner.patch(&path(&hook), json!({ "description": "y" })).await.ok();
    owner.post(&format!("{}/rotate-secret", path(&hook)), json!({})).await.created();
    receiver.wait_for("webhook.secret_rotated", 1).await;
    // Deliver the other events first, so that the receiver rejects only the test event.
    eventually("all deliveries", async || {
        let pending = owner.get(&format!("{}/deliveries?status=pending", path(&hook))).await.ok();
        (pending["data"] == json!([])).then_some(())
    })
    .await;
    receiver.respond_with("410 Gone");
    owner.post_empty(&format!("{}/test", path(&hook))).await.expect(reqwest::StatusCode::ACCEPTED);
    everything.wait_for("webhook.disabled", 1).await;
    owner.delete(&path(&hook)).await.ok();
    everything.wait_for("webhook.deleted", 1).await;
    for (event_type, count) in [("webhook.created", 2), ("webhook.updated", 1), ("webhook.secret_rotated", 1)] {
        everything.wait_for(event_type, count).await;
    }
    // The receiver has validated each event against its schema. The test event went to the other webhook.
    assert_eq!(receiver.wait_for("webhook.tested", 1).await.event()["subject"], hook["id"]);
    assert!(everything.of_type("webhook.tested").is_empty());
}

#[tokio::test]
async fn webhook_is_disabled_after_its_receiver_fails_for_too_long() {
    let policy = DeliveryPolicy { disable_after: Duration::from_millis(150), disable_failures: 4, ..fast_policy() };
    let (app, receiver) = set_up(policy).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.respond_with("500 Internal Server Error");
    owner.key().await;
    let disabled = eventually("the webhook to be disabled", async || {
        Some(owner.get(&path(&hook)).await.ok()).filter(|hook| hook["enabled"] == false)
    })
    .await;
    assert_eq!(disabled["disabled_reason"], "failing");
    assert!(receiver.received().len() >= 4);
    eventually("the count of disabled webhooks", async || (app.webhooks.outbox.metrics.disabled() == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn delivery_that_waited_too_long_at_a_disabled_webhook_fails_when_it_is_enabled() {
    let (app, receiver) = set_up(DeliveryPolicy { max_backoff: Duration::from_secs(3600), ..fast_policy() }).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    // No attempt is made during this time.
    receiver.set(Behavior::Respond("503 Service Unavailable", "retry-after: 1800\r\n".into()));
    owner.key().await;
    attempted_once(&owner, &hook).await;
    owner.patch(&path(&hook), json!({ "enabled": false })).await.ok();
    sqlx::query(
        "UPDATE webhook_deliveries SET queued_at = queued_at - interval '25 hours', next_attempt_at = now()
         WHERE webhook_id = $1",
    )
    .bind(hook["id"].as_str().unwrap().parse::<WebhookId>().unwrap())
    .execute(&app.db)
    .await
    .unwrap();
    receiver.respond_with("200 OK");
    owner.patch(&path(&hook), json!({ "enabled": true })).await.ok();
    delivered(&owner, &hook, "key.created", "failed").await;
    assert_eq!(receiver.received().len(), 1);
}

/// Waits for the first attempt at the only `key.created` delivery.
async fn attempted_once(owner: &Session<'_>, hook: &Value) -> Value {
    eventually("one attempt", async || {
        let found = deliveries(owner, hook, "key.created").await;
        found.into_iter().find(|delivery| delivery["attempts"].as_array().unwrap().len() == 1)
    })
    .await
}

/// Wait of a delivery after a response with these headers, with a longest pause of one hour.
async fn wait_after(status: &'static str, headers: String) -> Duration {
    let (app, receiver) = set_up(DeliveryPolicy { max_backoff: Duration::from_secs(3600), ..fast_policy() }).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Behavior::Respond(status, headers));
    owner.key().await;
    let delivery = attempted_once(&owner, &hook).await;
    let next = cloudapi::base::runtime::clock::Timestamp::parse(delivery["next_attempt_at"].as_str().unwrap()).unwrap();
    app.clock.now().until(next)
}

#[tokio::test]
async fn retry_after_of_a_receiver_is_respected() {
    let wait = wait_after("429 Too Many Requests", "retry-after: 1800\r\n".into()).await;
    assert!(wait > Duration::from_secs(1700), "{wait:?}");
}

#[tokio::test]
async fn retry_after_may_be_a_date_in_any_http_format() {
    for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        let headers = format!("date: Sun, 06 Nov 1994 08:19:37 GMT\r\nretry-after: {date}\r\n");
        let wait = wait_after("503 Service Unavailable", headers).await;
        assert!(wait > Duration::from_secs(1700) && wait <= Duration::from_secs(1800), "{date}: {wait:?}");
    }
}

#[tokio::test]
async fn retry_after_of_years_is_capped_at_the_longest_pause() {
    for asked in ["99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let wait = wait_after("503 Service Unavailable", format!("retry-after: {asked}\r\n")).await;
        assert!(wait > Duration::from_secs(3000) && wait <= Duration::from_secs(3600), "{asked}: {wait:?}");
    }
}
