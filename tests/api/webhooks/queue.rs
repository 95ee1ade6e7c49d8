//! How deliveries wait for their turn: whoever sends them, whoever fails, and whoever dies meanwhile.

use std::{collections::HashMap, time::Duration};

use cloudapi::{
    base::{id::WebhookId, server_key::ServerKey},
    state::AppOptions,
    webhooks::{figures::Outcome, pace::Pace, queue},
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{counted, delivered, deliveries, here, path, soon, webhook, world};
use crate::support::{
    Identity, Session, TestApp, eventually,
    receiver::{Manner, Receiver},
};

/// Receivers may take their time.
fn patient() -> Pace {
    Pace { exchange: Duration::from_secs(60), lease: Duration::from_secs(90), ..soon() }
}

fn id(webhook: &Value) -> WebhookId {
    webhook["id"].as_str().unwrap().parse().unwrap()
}

/// Queues the project's last event so many times more for a webhook.
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
async fn a_black_hole_with_five_hundred_deliveries_holds_up_nobody_else() {
    let (app, live) = world(patient()).await;
    let hole = Receiver::start().await;
    let owner = app.owner().await;
    hole.set(Manner::Hang);
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
    // One at a time, as long as it has not shown that it works.
    assert_eq!(hole.received().len(), 1);
    // A few, when it has; and then the rest.
    hole.answers("200 OK");
    eventually("it works", async || (hole.received().len() > 20).then_some(())).await;
    hole.set(Manner::Hang);
    eventually("a few at a time", async || (hole.at_a_time() == 4).then_some(())).await;
    for count in 7..=9 {
        owner.token(&["users:read"]).await;
        live.wait_for("token.created", count).await;
    }
    assert_eq!(hole.at_a_time(), 4);
    hole.answers("200 OK");
    eventually("the rest goes on", async || (hole.received().len() > 100).then_some(())).await;
}

#[tokio::test]
async fn more_black_holes_than_there_are_places_hold_up_nobody_else() {
    let (app, live) = world(patient()).await;
    let hole = Receiver::start().await;
    hole.answers("500 Internal Server Error");
    let owners = join_all((0..4).map(|_| app.owner())).await;
    let url = hole.url();
    let holes = owners
        .iter()
        .flat_map(|owner| (0..20).map(|_| webhook(owner, &url, json!({ "event_types": ["key.created"] }))));
    let holes = join_all(holes).await;
    join_all(owners.iter().map(Session::key)).await;
    eventually("all have failed", async || {
        let sql = "SELECT count(*) FROM webhooks WHERE failing_since IS NOT NULL";
        let failing: i64 = sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap();
        (failing == holes.len() as i64).then_some(())
    })
    .await;
    // Each is tried again soon, and now it hangs for longer than anything is waited for here.
    hole.set(Manner::Hang);
    let hanging = async || (hole.at_a_time() == 16).then_some(());
    eventually("all places for receivers in trouble are taken", hanging).await;
    let owner = app.owner().await;
    webhook(&owner, &live.url(), json!({ "event_types": ["token.created"] })).await;
    for count in 1..=5 {
        owner.token(&["users:read"]).await;
        live.wait_for("token.created", count).await;
    }
    // None of the holes has made room for that, and none has taken more.
    assert_eq!(hole.at_a_time(), 16);
}

#[tokio::test]
async fn servers_share_the_work_and_nothing_is_sent_twice() {
    let key = ServerKey::generate();
    let options = || AppOptions { server_key: key.clone(), ..here(patient()) };
    let one = TestApp::start_with(options()).await;
    let other = one.start_beside(options()).await;
    let (owner, receiver) = (one.owner().await, Receiver::start().await);
    receiver.set(Manner::Hang);
    for _ in 0..10 {
        webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    }
    join_all((0..10).map(|_| owner.key())).await;
    // While nobody has seen it work, each server sends one at a time to each webhook.
    eventually("both are at work", async || (receiver.received().len() == 20).then_some(())).await;
    receiver.answers("200 OK");
    let done = [&one, &other].map(|app| app.outbox.figures.count(Outcome::Delivered));
    eventually("all is delivered", async || {
        let done = [&one, &other].map(|app| app.outbox.figures.count(Outcome::Delivered));
        (done[0] + done[1] == 100).then_some(())
    })
    .await;
    assert_eq!(done, [0, 0]);
    assert!([&one, &other].iter().all(|app| app.outbox.figures.attempts() >= 10));
    let mut sent = HashMap::<_, usize>::new();
    for received in receiver.received() {
        *sent.entry(received.header("webhook-id").to_owned()).or_default() += 1;
    }
    // Ten events, each to ten webhooks.
    assert!(sent.len() == 10 && sent.values().all(|count| *count == 10), "{sent:?}");
}

#[tokio::test]
async fn what_a_server_does_not_finish_in_its_time_another_sends_and_the_late_word_does_not_count() {
    let key = ServerKey::generate();
    let options = |pace| AppOptions { server_key: key.clone(), ..here(pace) };
    let one = TestApp::start_with(options(Pace { lease: Duration::from_millis(200), ..patient() })).await;
    let (owner, receiver) = (one.owner().await, Receiver::start().await);
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Manner::Hang);
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    // As after kill -9: nothing is heard of who took it. Who takes it now has it for as long as this lasts.
    let other = one.start_beside(options(patient())).await;
    let again = receiver.wait_for("key.created", 2).await;
    assert_eq!(again.header("webhook-id"), receiver.received()[0].header("webhook-id"));
    // It was not dead, only slow: what it has to say now is about another's delivery.
    receiver.answers_one(0, "500 Internal Server Error");
    counted(&one, Outcome::Overtaken, 1).await;
    assert_eq!(deliveries(&owner, &hook, "key.created").await[0]["attempts"], json!([]));
    receiver.answers("200 OK");
    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    counted(&other, Outcome::Delivered, 1).await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(delivery["attempts"][0]["number"], 2);
    assert_eq!(deliveries(&owner, &hook, "key.created").await, [delivery]);
}

#[tokio::test]
async fn what_a_stopped_server_was_sending_is_sent_by_another() {
    let key = ServerKey::generate();
    let pace = Pace { lease: Duration::from_millis(200), ..patient() };
    let options = || AppOptions { server_key: key.clone(), ..here(pace) };
    let one = TestApp::start_with(options()).await;
    let (owner, receiver) = (one.owner().await, Receiver::start().await);
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Manner::Hang);
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    let other = one.start_beside(options()).await;
    let hook = id(&hook);
    drop(one);
    receiver.wait_for("key.created", 2).await;
    receiver.answers("200 OK");
    eventually("it is delivered", async || {
        let sql = "SELECT status FROM webhook_deliveries WHERE webhook_id = $1";
        let status: String = sqlx::query_scalar(sql).bind(hook).fetch_one(&other.db).await.unwrap();
        (status == "delivered").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_webhook_that_is_deleted_while_it_is_sent_something_is_gone_and_so_are_its_deliveries() {
    let (app, receiver) = world(patient()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Manner::Hang);
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    queue_again(&app, &hook, 3).await;
    owner.delete(&path(&hook)).await.ok();
    receiver.answers("200 OK");
    counted(&app, Outcome::Overtaken, 1).await;
    let mut db = app.db.acquire().await.unwrap();
    while queue::sweep(&mut db, &app.outbox.pace).await.unwrap() > 0 {}
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM webhook_deliveries").fetch_one(&mut *db).await.unwrap();
    assert_eq!((left, receiver.received().len()), (0, 1));
    owner.get(&format!("{}/deliveries", path(&hook))).await.problem(404, "not_found");
}

#[tokio::test]
async fn an_event_whose_content_was_deleted_is_not_sent_any_more() {
    let (app, receiver) = world(soon()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.answers("500 Internal Server Error");
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
    // Redelivery cannot bring it back, and says so.
    let asked = receiver.received().len();
    let again = format!("{}/deliveries/{}/redeliver", path(&hook), delivery["id"].as_str().unwrap());
    owner.post_empty(&again).await.expect(reqwest::StatusCode::ACCEPTED);
    delivered(&owner, &hook, "key.created", "failed").await;
    assert_eq!(receiver.received().len(), asked);
}

#[tokio::test]
async fn a_secret_from_another_row_or_under_another_key_signs_nothing() {
    let (app, receiver) = world(soon()).await;
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
    // It is not the receiver's fault; and a new secret mends it.
    assert_eq!(owner.get(&path(&hook)).await.ok()["failing_since"], json!(null));
    let rotated = owner.post(&format!("{}/rotate-secret", path(&hook)), json!({})).await.created();
    let received = receiver.wait_for("key.created", 1).await;
    assert!(received.is_signed_by(rotated["secret"].as_str().unwrap()));
}

#[tokio::test]
async fn deliveries_are_kept_for_thirty_days_and_given_up_at_webhooks_that_stay_disabled() {
    let (app, receiver) = world(soon()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    delivered(&owner, &hook, "key.created", "delivered").await;
    let resting = webhook(&owner, &receiver.url(), json!({ "enabled": false })).await;
    sqlx::query(
        "INSERT INTO webhook_deliveries (id, webhook_id, project_id, event_id, event_type, created_at, queued_at)
         SELECT gen_random_uuid(), w.id, w.project_id, w.id, 'key.created', now() - age, now() - age
         FROM webhooks w, unnest(array[interval '1 hour', interval '25 hours', interval '31 days']) AS age,
              generate_series(1, 700)
         WHERE w.id = $1",
    )
    .bind(id(&resting))
    .execute(&app.db)
    .await
    .unwrap();
    let mut db = app.db.acquire().await.unwrap();
    let mut most = 0;
    while let rows @ 1.. = queue::sweep(&mut db, &app.outbox.pace).await.unwrap() {
        most = most.max(rows);
    }
    assert!(most <= 3000, "{most}");
    let sql = "SELECT status, count(*) FROM webhook_deliveries WHERE webhook_id = $1 GROUP BY status ORDER BY status";
    let left: Vec<(String, i64)> = sqlx::query_as(sql).bind(id(&resting)).fetch_all(&mut *db).await.unwrap();
    assert_eq!(left, [("failed".to_owned(), 700), ("pending".to_owned(), 700)]);
    assert_eq!(deliveries(&owner, &hook, "key.created").await.len(), 1);
}

#[tokio::test]
async fn a_list_of_deliveries_is_paged_in_the_order_of_events() {
    let (app, receiver) = world(soon()).await;
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
async fn how_much_waits_and_for_how_long_is_counted() {
    let (app, receiver) = world(patient()).await;
    let owner = app.owner().await;
    receiver.set(Manner::Hang);
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    receiver.wait_for("key.created", 1).await;
    queue_again(&app, &hook, 9).await;
    let mut db = app.db.acquire().await.unwrap();
    let depth = queue::depth(&mut db).await.unwrap();
    assert_eq!((depth.open, depth.due), (10, 9));
    assert!(depth.oldest_due < Duration::from_secs(60));
    assert_eq!(app.outbox.figures.attempts(), 1);
}
