//! Responses do not reveal whether an email address has an account, or when the account was created.

use std::{collections::BTreeSet, time::Duration};

use cloudapi::{
    api::webhooks::{delivery::backoff::DeliveryPolicy, outbox::WebhookOptions},
    base::{
        id::UserId,
        input::limit::{LimitSettings, RateLimit},
    },
    server::state::AppOptions,
};
use serde_json::{Value, json};

use crate::support::{Identity, Reply, Session, TestApp, eventually, receiver::Receiver};

const PASSWORD: &str = "correct horse battery staple";

/// The parts of a response that must not depend on the address: status, header names, and the body without IDs and
/// times.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    status: u16,
    headers: BTreeSet<String>,
    body: Value,
}

fn shape(reply: &Reply, email: &str) -> Shape {
    let headers = reply.headers.keys().map(ToString::to_string).collect();
    Shape { status: reply.status, headers, body: without_particulars(reply.json().clone(), email) }
}

/// The body with placeholders for IDs, times, hashes and the address.
fn without_particulars(value: Value, email: &str) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().map(|(name, value)| {
                let is_particular =
                    matches!(name.as_str(), "seq" | "hash" | "prev_hash" | "salt" | "traceparent" | "duration_ms");
                (name, if is_particular { json!("…") } else { without_particulars(value, email) })
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| without_particulars(item, email)).collect()),
        Value::String(text) => {
            let text = text.replace(email, "<address>");
            match text.split_once('_') {
                Some((prefix @ ("usr" | "inv" | "req" | "aud" | "evt" | "sess" | "proj"), _)) => json!(prefix),
                _ if text.len() > 20 && text.ends_with('Z') => json!("<time>"),
                _ => json!(text),
            }
        }
        other => other,
    }
}

/// All strings in a body.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// An address and its account, if any.
struct Address {
    what: &'static str,
    email: String,
    account: Option<UserId>,
}

/// One address for each state of an account.
async fn addresses(app: &TestApp) -> Vec<Address> {
    let known = app.owner().await;
    app.set_password(&known, PASSWORD).await;
    let without_password = app.owner().await;
    let in_no_project = app.user().await;
    app.set_password(&in_no_project, PASSWORD).await;
    let bare = app.user().await;
    let elsewhere = app.owner().await;
    let body = json!({ "project_id": elsewhere.project, "email": "invited@example.com", "role": "viewer" });
    elsewhere.post("/v1/users", body).await.created();
    let invited: UserId = sqlx::query_scalar("SELECT id FROM users WHERE email = 'invited@example.com'")
        .fetch_one(&app.db)
        .await
        .unwrap();
    let of = |what, user: &Session<'_>| Address { what, email: user.email.clone(), account: Some(user.user_id) };
    vec![
        Address { what: "unknown", email: "unknown@example.com".into(), account: None },
        of("known", &known),
        of("known, without a password", &without_password),
        of("known, in no project", &in_no_project),
        of("known, without a password and in no project", &bare),
        Address { what: "invited elsewhere", email: "invited@example.com".into(), account: Some(invited) },
    ]
}

/// All requests that an admin, an anonymous caller and the invitation's holder can send about an address of a
/// non-member.
async fn responses(app: &TestApp, owner: &Session<'_>, address: &Address) -> Vec<(&'static str, Reply)> {
    let email = &address.email;
    let mut answers = Vec::new();
    let sign_in = json!({ "email": email, "password": "not the password" });
    answers.push(("sign in", app.anonymous().post("/v1/sessions", sign_in).await));
    let body = json!({ "project_id": owner.project, "email": email, "role": "member" });
    let invited = owner.request("POST", "/v1/users").json(&body).header("idempotency-key", email).send().await;
    let again = owner.request("POST", "/v1/users").json(&body).header("idempotency-key", email).send().await;
    let id = invited.json()["id"].as_str().unwrap().to_owned();
    let secret = invited.json()["invitation"].clone();
    assert_eq!(again.json()["id"], id);
    answers.push(("invite", invited));
    answers.push(("invite, replayed", again));
    answers.push(("invite twice", owner.post("/v1/users", body).await));
    let item = format!("/v1/users/{id}?project_id={}", owner.project);
    answers.push(("get", owner.get(&item).await));
    answers.push(("list", owner.get(&format!("/v1/users?project_id={}&role=member", owner.project)).await));
    answers.push(("change", owner.patch(&item, json!({ "role": "viewer" })).await));
    if let Some(account) = address.account {
        let by_account = owner.get(&format!("/v1/users/{account}?project_id={}", owner.project)).await;
        by_account.problem(404, "not_found");
    }
    // A password that is invalid for a new account reveals nothing either.
    for password in ["short", "123456789012", "QWERTYUIOP123"] {
        let body = json!({ "token": secret, "password": password });
        let reply = app.anonymous().post("/v1/invitations/accept", body).await;
        answers.push(("accept with an unfit password", reply));
    }
    answers.push(("withdraw", owner.delete(&item).await));
    let body = json!({ "token": secret, "password": PASSWORD });
    answers.push(("accept what was withdrawn", app.anonymous().post("/v1/invitations/accept", body).await));
    let trail = format!("/v1/audit-logs?project_id={}&target={id}", owner.project);
    let whole = eventually("three audit entries", async || {
        let reply = owner.get(&trail).await;
        // The invitation, its update and its withdrawal.
        (reply.json()["data"].as_array()?.len() == 3).then_some(reply)
    });
    answers.push(("audit trail", whole.await));
    answers
}

#[tokio::test]
async fn invitations_and_sign_ins_do_not_reveal_whether_an_address_has_an_account() {
    let limits = LimitSettings { sign_ins: RateLimit::new(10_000, 60), ..LimitSettings::default() };
    let app = TestApp::start_with(AppOptions { limits, ..AppOptions::default() }).await;
    app.passwords.attempts.set_delays(|_| Duration::ZERO);
    let addresses = addresses(&app).await;
    let mut expected: Option<Vec<(&str, Shape)>> = None;
    for address in &addresses {
        let owner = app.owner().await;
        // Users created by the calls below have IDs from this time on.
        let since = u64::try_from(app.clock.now().unix_millis()).unwrap();
        let before = app.passwords.verifications();
        let answers = responses(&app, &owner, address).await;
        // One for the sign-in and one for each invalid password.
        assert_eq!(app.passwords.verifications() - before, 4, "{}", address.what);
        for (call, reply) in &answers {
            for text in texts(reply.json()) {
                if let Ok(user) = text.parse::<UserId>() {
                    assert_ne!(Some(user), address.account, "{call} reveals the account of {}", address.what);
                    assert!(user == owner.user_id || user.millis() >= since, "{call} of {}: {text}", address.what);
                }
            }
            if let Some(created_at) = reply.json()["created_at"].as_str() {
                let created_at = cloudapi::base::runtime::clock::Timestamp::parse(created_at).unwrap();
                assert!(created_at.unix_millis() >= i64::try_from(since).unwrap(), "{call} of {}", address.what);
            }
        }
        let shapes: Vec<(&str, Shape)> =
            answers.iter().map(|(call, reply)| (*call, shape(reply, &address.email))).collect();
        match &expected {
            None => expected = Some(shapes),
            Some(expected) => {
                for (expected, found) in expected.iter().zip(&shapes) {
                    assert_eq!(expected, found, "{} is distinguishable from {}", address.what, addresses[0].what);
                }
            }
        }
    }
}

#[tokio::test]
async fn events_and_webhooks_name_an_account_only_after_it_is_a_member() {
    let webhooks = WebhookOptions {
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        policy: DeliveryPolicy { poll: Duration::from_millis(20), ..DeliveryPolicy::default() },
        ..WebhookOptions::default()
    };
    let app = TestApp::start_with(AppOptions { webhooks, ..AppOptions::default() }).await;
    let receiver = Receiver::start().await;
    let owner = app.owner().await;
    let known = app.sign_in_new(UserId::new(), "known@example.com").await;
    app.set_password(&known, PASSWORD).await;
    let hook = json!({
        "project_id": owner.project, "url": receiver.url(),
        "event_types": ["user.invited", "user.updated", "user.joined", "user.removed"],
    });
    owner.post("/v1/webhooks", hook).await.created();
    let body = json!({ "project_id": owner.project, "email": known.email, "role": "member" });
    let invited = owner.post("/v1/users", body).await.created();
    let item = format!("/v1/users/{}?project_id={}", invited["id"].as_str().unwrap(), owner.project);
    owner.patch(&item, json!({ "role": "viewer" })).await.ok();
    let account = known.user_id.to_string();
    for event_type in ["user.invited", "user.updated"] {
        let received = receiver.wait_for(event_type, 1).await;
        assert_eq!(received.event()["subject"], invited["id"]);
        // The address of a test user contains the user's ID.
        let event = received.event().to_string().replace(known.email.as_str(), "");
        assert!(!event.contains(&account), "{event_type}: {event}");
    }
    let body = json!({ "token": invited["invitation"], "password": PASSWORD });
    app.anonymous().post("/v1/invitations/accept", body).await.created();
    let joined = receiver.wait_for("user.joined", 1).await.event();
    assert_eq!(joined["subject"], account);
    // The event maps the invitation's ID to the account.
    assert_eq!(joined["data"]["changes"]["id"], json!([invited["id"], account]));
    owner.patch(&item, json!({ "role": "admin" })).await.problem(404, "not_found");
    owner.delete(&item).await.problem(404, "not_found");
    let member = format!("/v1/users/{account}?project_id={}", owner.project);
    assert_eq!(owner.get(&member).await.ok()["status"], "active");
    owner.delete(&member).await.ok();
    assert_eq!(receiver.wait_for("user.removed", 1).await.event()["subject"], account);
}
