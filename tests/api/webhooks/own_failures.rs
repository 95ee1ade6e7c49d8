//! Failures caused by this server, its machine or its network, and receivers with unresponsive addresses.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cloudapi::{
    api::webhooks::{
        delivery::{backoff::DeliveryPolicy, send::Resolver},
        outbox::WebhookOptions,
    },
    server::state::AppOptions,
};
use nix::errno::Errno;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{delivered, deliveries, fast_policy, path, webhook};
use crate::support::{Identity, TestApp, eventually, receiver::Receiver};

type MakeError = fn() -> io::Error;

/// Errors of a resolver or socket that are this machine's fault, with the reported `error`.
const OWN_FAILURES: [(MakeError, &str); 8] = [
    (|| os_error(Errno::EMFILE), "out_of_resources"),
    (|| os_error(Errno::ENFILE), "out_of_resources"),
    (|| os_error(Errno::ENOBUFS), "out_of_resources"),
    (|| os_error(Errno::ENOMEM), "out_of_resources"),
    (|| os_error(Errno::ENETUNREACH), "no_route"),
    (|| os_error(Errno::EPERM), "no_route"),
    (
        || io::Error::other("failed to lookup address information: Temporary failure in name resolution"),
        "name_lookup_failed",
    ),
    (|| io::Error::other("failed to lookup address information: System error"), "name_lookup_failed"),
];

fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// A server that disables a webhook at its receiver's second failure. Names resolve to the result of `find`.
async fn app_with_short_timeouts(find: impl Fn() -> io::Result<Vec<&'static str>> + Send + Sync + 'static) -> TestApp {
    let resolver =
        Resolver::Custom(Arc::new(move |_| Ok(find()?.into_iter().map(|address| address.parse().unwrap()).collect())));
    let policy = DeliveryPolicy { disable_after: Duration::ZERO, disable_failures: 2, ..fast_policy() };
    let webhooks = WebhookOptions { allowed: vec!["127.0.0.0/8".parse().unwrap()], resolver, policy };
    TestApp::start_with(AppOptions { webhooks, ..AppOptions::default() }).await
}

#[tokio::test]
async fn failure_of_this_server_is_recorded_as_its_own_and_never_disables_the_webhook() {
    let failed = Arc::new(AtomicUsize::new(0));
    let app = app_with_short_timeouts({
        let failed = Arc::clone(&failed);
        move || match OWN_FAILURES.get(failed.fetch_add(1, Ordering::Relaxed)) {
            Some((error, _)) => Err(error()),
            None => Ok(vec!["127.0.0.2"]),
        }
    })
    .await;
    let (receiver, _) = Receiver::start_pair().await;
    let owner = app.owner().await;
    let url = format!("http://receiver.example:{}/", receiver.address.port());
    let hook = webhook(&owner, &url, json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    // Delivered as soon as the server can send.
    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    let attempts = delivery["attempts"].as_array().unwrap();
    for (attempt, (_, word)) in attempts.iter().zip(OWN_FAILURES) {
        assert_eq!((&attempt["error"], &attempt["cause"]), (&json!(word), &json!("server")), "{attempt}");
    }
    let last = attempts.last().unwrap();
    assert_eq!(
        (attempts.len(), &last["status_code"], &last["cause"]),
        (OWN_FAILURES.len() + 1, &json!(200), &json!(null))
    );
    let hook = owner.get(&path(&hook)).await.ok();
    assert_eq!((&hook["enabled"], &hook["failing_since"]), (&json!(true), &json!(null)));
}

#[tokio::test]
async fn failure_of_the_receiver_counts_against_it() {
    let app = app_with_short_timeouts(|| Ok(Vec::new())).await;
    let owner = app.owner().await;
    let hook = webhook(&owner, "https://receiver.example/", json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    eventually("the webhook to be disabled", async || {
        (owner.get(&path(&hook)).await.ok()["enabled"] == false).then_some(())
    })
    .await;
    let found = deliveries(&owner, &hook, "key.created").await;
    let attempt = &found[0]["attempts"][0];
    assert_eq!((&attempt["error"], &attempt["cause"]), (&json!("name_not_found"), &json!("receiver")));
}

/// An unresponsive address: a listener whose backlog is full, as long as the result is held.
async fn unresponsive(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    (listener, waiting)
}

#[tokio::test]
async fn unresponsive_addresses_leave_time_for_a_responsive_one() {
    const DEAD: [&str; 5] = ["127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.14", "127.0.0.15"];
    let resolver = Resolver::Custom(Arc::new(|_| {
        Ok(DEAD.into_iter().chain(["127.0.0.2"]).map(|address| address.parse().unwrap()).collect())
    }));
    let webhooks = WebhookOptions { allowed: vec!["127.0.0.0/8".parse().unwrap()], resolver, policy: fast_policy() };
    let app = TestApp::start_with(AppOptions { webhooks, ..AppOptions::default() }).await;
    let (receiver, _) = Receiver::start_pair().await;
    let port = receiver.address.port();
    let mut held = Vec::new();
    for address in DEAD {
        held.push(unresponsive(format!("{address}:{port}").parse().unwrap()).await);
    }
    let owner = app.owner().await;
    let url = format!("http://receiver.example:{port}/");
    let hook = webhook(&owner, &url, json!({ "event_types": ["key.created"] })).await;
    owner.key().await;
    let delivery = delivered(&owner, &hook, "key.created", "delivered").await;
    // Tried one after the other, they would use up the time limit of the exchange.
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1, "{delivery}");
    assert_eq!(delivery["attempts"][0]["status_code"], 200);
    assert_eq!(receiver.received().len(), 1);
}
