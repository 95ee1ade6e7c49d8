//! Disallowed addresses, DNS, redirects, TLS, and malformed responses of receivers.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cloudapi::{
    api::webhooks::{
        delivery::{backoff::DeliveryPolicy, send::Resolver},
        outbox::WebhookOptions,
    },
    server::state::AppOptions,
};
use serde_json::{Value, json};

use super::{allow_loopback, deliveries, fast_policy, set_up, webhook};
use crate::support::{
    Identity, Session, TestApp,
    binary::{Deployment, Server},
    eventually,
    https::Certificate,
    receiver::{Behavior, Receiver},
};

/// Creates a key and waits for the first attempt at its delivery.
async fn first_attempt(owner: &Session<'_>, hook: &Value) -> Value {
    owner.key().await;
    eventually("an attempt", async || {
        let found = deliveries(owner, hook, "key.created").await;
        found.iter().find_map(|delivery| delivery["attempts"].get(0).cloned())
    })
    .await
}

/// A server that may send to 127.0.0.2. Each lookup returns the next answer; the last one repeats.
async fn with_names(answers: &[&[&str]]) -> TestApp {
    let answers: VecDeque<Vec<IpAddr>> =
        answers.iter().map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect()).collect();
    let answers = Mutex::new(answers);
    let resolver = Resolver::Custom(Arc::new(move |_| {
        let mut answers = answers.lock().unwrap();
        Ok(if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() })
    }));
    let webhooks = WebhookOptions { allowed: vec!["127.0.0.2".parse().unwrap()], resolver, policy: fast_policy() };
    TestApp::start_with(AppOptions { webhooks, ..AppOptions::default() }).await
}

#[tokio::test]
async fn name_that_resolves_to_this_machine_is_not_connected_to() {
    let (app, receiver) = (TestApp::start().await, Receiver::start().await);
    let owner = app.owner().await;
    // Resolved by the system's resolver.
    let url = format!("https://localhost:{}/", receiver.address.port());
    let hook = webhook(&owner, &url, json!({ "event_types": ["key.created"] })).await;
    let attempt = first_attempt(&owner, &hook).await;
    assert_eq!((&attempt["error"], &attempt["status_code"]), (&json!("address_not_allowed"), &json!(null)));
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn nonexistent_name_is_reported_as_name_not_found() {
    let app = TestApp::start_with(allow_loopback(fast_policy())).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, "https://receiver.invalid/", json!({ "event_types": ["key.created"] })).await;
    assert_eq!(first_attempt(&owner, &hook).await["error"], "name_not_found");
}

#[tokio::test]
async fn name_that_resolves_differently_is_checked_at_each_attempt() {
    let app = with_names(&[&["127.0.0.2"], &["127.0.0.1"]]).await;
    let (allowed, victim) = Receiver::start_pair().await;
    let owner = app.owner().await;
    let url = format!("http://receiver.example:{}/", allowed.address.port());
    let hook = webhook(&owner, &url, json!({ "event_types": ["key.created"] })).await;
    allowed.respond_with("500 Internal Server Error");
    owner.key().await;
    let attempts = eventually("two attempts", async || {
        let found = deliveries(&owner, &hook, "key.created").await;
        let attempts = found.first()?["attempts"].as_array().unwrap().clone();
        (attempts.len() >= 2).then_some(attempts)
    })
    .await;
    // Each attempt connects to the address that it looked up and checked, without a second lookup.
    assert_eq!((&attempts[0]["status_code"], &attempts[1]["error"]), (&json!(500), &json!("address_not_allowed")));
    assert_eq!((allowed.connections(), victim.connections()), (1, 0));
    assert_eq!(allowed.received()[0].header("host"), format!("receiver.example:{}", allowed.address.port()));
}

#[tokio::test]
async fn only_allowed_addresses_of_a_name_are_connected_to() {
    let app = with_names(&[&["127.0.0.1", "::1", "127.0.0.3", "127.0.0.2"]]).await;
    let (allowed, victim) = Receiver::start_pair().await;
    let owner = app.owner().await;
    let url = format!("http://receiver.example:{}/", allowed.address.port());
    let hook = webhook(&owner, &url, json!({ "event_types": ["key.created"] })).await;
    assert_eq!(first_attempt(&owner, &hook).await["status_code"], 200);
    assert_eq!((allowed.connections(), victim.connections()), (1, 0));
}

#[tokio::test]
async fn address_allowed_at_creation_is_checked_again_when_sending() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"], "enabled": false })).await;
    drop(owner.patch(&super::path(&hook), json!({ "enabled": true })).await.ok());
    // As if the operator had changed the setting: on this other server, the address is not allowed.
    let other = TestApp::start_with(AppOptions::default()).await;
    let stranger = other.owner().await;
    let there = webhook(&stranger, "https://receiver.invalid/", json!({ "event_types": ["key.created"] })).await;
    sqlx::query("UPDATE webhooks SET url = $1").bind(receiver.url()).execute(&other.db).await.unwrap();
    assert_eq!(first_attempt(&stranger, &there).await["error"], "address_not_allowed");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn redirect_is_a_failure_and_not_followed() {
    let (app, receiver) = set_up(fast_policy()).await;
    let victim = Receiver::start().await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    for (number, status) in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
        .into_iter()
        .enumerate()
    {
        receiver.set(Behavior::Respond(status, format!("location: {}\r\n", victim.url())));
        let made = owner.key().await;
        let attempt = eventually("the attempt", async || {
            let found = deliveries(&owner, &hook, "key.created").await;
            found.get(number).and_then(|delivery| delivery["attempts"].get(0).cloned())
        })
        .await;
        assert_eq!(
            (&attempt["error"], attempt["status_code"].as_u64()),
            (&json!("redirect"), status[..3].parse().ok()),
            "{}",
            made.id
        );
    }
    assert_eq!(victim.connections(), 0);
}

#[tokio::test]
async fn malformed_responses_are_reported_and_long_ones_are_not_read_to_the_end() {
    let (app, receiver) = set_up(fast_policy()).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    let endless_head = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100_000)).into_bytes();
    let big = [b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n".to_vec(), vec![0; 1_000_000]].concat();
    let cases: [(Vec<u8>, Value); 6] = [
        (b"220 mail.example.com ESMTP\r\n".to_vec(), json!("bad_answer")),
        (Vec::new(), json!("bad_answer")),
        (endless_head, json!("bad_answer")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_vec(), json!("bad_answer")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(), json!(null)),
        (big, json!(null)),
    ];
    for (number, (answer, expected)) in cases.into_iter().enumerate() {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        receiver.set(Behavior::Raw(answer));
        owner.key().await;
        let attempt = eventually("the attempt", async || {
            let found = deliveries(&owner, &hook, "key.created").await;
            found.get(number).and_then(|delivery| delivery["attempts"].get(0).cloned())
        })
        .await;
        assert_eq!(attempt["error"], expected, "{shown}");
    }
}

#[tokio::test]
async fn receiver_that_never_responds_times_out() {
    let (app, receiver) = set_up(DeliveryPolicy { request_timeout: Duration::from_millis(100), ..fast_policy() }).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, &receiver.url(), json!({ "event_types": ["key.created"] })).await;
    receiver.set(Behavior::Hang);
    let attempt = first_attempt(&owner, &hook).await;
    assert_eq!(attempt["error"], "timeout");
    // Shorter than the default timeout.
    let longest = u64::try_from(DeliveryPolicy::default().request_timeout.as_millis()).unwrap();
    assert!((100..longest).contains(&attempt["duration_ms"].as_u64().unwrap()), "{attempt}");
}

#[tokio::test]
async fn https_receiver_must_have_a_certificate_that_the_machine_trusts() {
    let (trusted, other) = (Certificate::new(), Certificate::new());
    let receiver = Receiver::start_with_tls(&trusted).await;
    let impostor = Receiver::start_with_tls(&other).await;
    let deployment = Deployment::prepared();
    let mut command = deployment.command(&["serve"]);
    command.env("SSL_CERT_FILE", trusted.cert()).env("CLOUDAPI_WEBHOOK_ALLOW", "127.0.0.0/8,::1");
    // Proxy settings of the environment must have no effect.
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(proxy, "http://127.0.0.1:1");
    }
    let server = Server::start(command);
    let session = deployment.printed(&["admin", "session", "--email", "ada@example.com"]).trim().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = async |method: &str, path: &str, body: Value| {
        let request = client.request(method.parse().unwrap(), format!("{}{path}", server.url)).bearer_auth(&session);
        let request = match body {
            Value::Null => request,
            body => request.header("content-type", "application/json").body(body.to_string()),
        };
        serde_json::from_slice::<Value>(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
    };
    let hook = async |receiver: &Receiver| {
        let url = format!("https://localhost:{}/", receiver.address.port());
        let body = json!({ "project_id": "proj_8f2c4", "url": url, "event_types": ["project.updated"] });
        call("POST", "/v1/webhooks", body).await
    };
    let (good, bad) = (hook(&receiver).await, hook(&impostor).await);
    call("PATCH", "/v1/projects/proj_8f2c4", json!({ "name": "x" })).await;
    let received = receiver.wait_for("project.updated", 1).await;
    assert!(received.is_signed_by(good["secret"].as_str().unwrap()));
    let path = format!("/v1/webhooks/{}/deliveries", bad["id"].as_str().unwrap());
    let error = eventually("an attempt", async || {
        let listed = call("GET", &path, Value::Null).await;
        listed["data"][0]["attempts"][0]["error"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(error, "tls_failed");
    assert_eq!(impostor.received().len(), 0);
}
