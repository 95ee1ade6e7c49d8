//! A stream ends when its reader loses the permission to read it.

use std::time::Duration;

use cloudapi::{base::identity::role::Role, server::state::AppOptions};
use serde_json::json;

use super::{STREAM, ServerPair, with};
use crate::support::{Identity, Key, Session, TestApp, eventually, stream::EventStream};

/// Opens a stream with the key on the other server.
async fn followed(pair: &ServerPair, key: &Key<'_>) -> EventStream {
    pair.at(true, &key.secret).open_stream().await
}

/// Checks that a stream ended before the write that ended it returned: no later event is sent.
async fn ended(mut stream: EventStream, owner: &Session<'_>, code: &str) {
    // The stream may still send earlier events, but no later ones.
    let after = owner.post("/v1/keys", json!({ "project_id": owner.project })).await;
    let (events, reason) = stream.read_to_end().await;
    if let Some(id) = after.json()["id"].as_str() {
        assert!(events.iter().all(|received| received.json()["subject"] != id), "event sent after the end: {events:?}");
    }
    assert_eq!(reason.expect("no reason")["code"], code);
}

#[tokio::test]
async fn streams_of_a_revoked_credential_end_on_every_server_before_the_response() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let token = key.token(&["events:read"]).await;
    let streams = [
        pair.at(true, &key.secret).open_stream().await,
        pair.at(false, &key.secret).open_stream().await,
        pair.at(true, &token.secret).open_stream().await,
    ];
    let other = owner.key().await;
    let mut unharmed = followed(&pair, &other).await;
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    for stream in streams {
        ended(stream, &owner, "token_revoked").await;
    }
    let is_it = async || (unharmed.event().await.unwrap().event.as_deref() == Some("key.revoked")).then_some(());
    eventually("other streams continue", is_it).await;
}

#[tokio::test]
async fn streams_end_after_revocation_without_the_credential_cache() {
    let options = with(|streams| streams.check_interval = Duration::from_secs(3600));
    let pair = ServerPair::start_with(AppOptions { auth_cache: false, ..options }).await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let streams = [pair.at(true, &key.secret).open_stream().await, pair.at(false, &key.secret).open_stream().await];
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    for stream in streams {
        ended(stream, &owner, "token_revoked").await;
    }
}

#[tokio::test]
async fn every_loss_of_permission_ends_the_stream() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let project = format!("/v1/projects/{}", owner.project);

    let narrowed = owner.key().await;
    let stream = followed(&pair, &narrowed).await;
    owner.patch(&format!("/v1/keys/{}", narrowed.id), json!({ "scopes": ["users:read"] })).await.ok();
    ended(stream, &owner, "insufficient_scope").await;

    let fenced = owner.key().await;
    let stream = followed(&pair, &fenced).await;
    owner.patch(&format!("/v1/keys/{}", fenced.id), json!({ "allowed_ips": ["192.0.2.0/24"] })).await.ok();
    ended(stream, &owner, "ip_not_allowed").await;

    let rotated = owner.key().await;
    let mut stream = followed(&pair, &rotated).await;
    owner.post(&format!("/v1/keys/{}/rotate", rotated.id), json!({ "overlap_seconds": 0 })).await.created();
    let (_, reason) = stream.read_to_end().await;
    assert!(matches!(reason.unwrap()["code"].as_str(), Some("token_expired" | "token_revoked")));

    let member = pair.here.member(&owner, Role::Viewer).await;
    let path = format!("{STREAM}?project_id={}", owner.project);
    let stream = pair.at(true, &member.secret).request("GET", &path).open().await;
    owner.delete(&format!("/v1/users/{}?project_id={}", member.user_id, owner.project)).await.ok();
    ended(stream, &owner, "not_found").await;

    let signed_out = pair.here.another_session(&owner).await;
    let stream = pair.at(true, &signed_out.secret).request("GET", &path).open().await;
    signed_out.delete("/v1/sessions/current").await.ok();
    ended(stream, &owner, "token_revoked").await;

    let key = owner.key().await;
    let stream = followed(&pair, &key).await;
    let mut unharmed = pair.at(true, &owner.secret).request("GET", &path).open().await;
    owner.post_empty(&format!("{project}/suspend")).await.ok();
    ended(stream, &owner, "project_suspended").await;
    // Members can still read the events.
    let is_it = async || (unharmed.event().await.unwrap().event.as_deref() == Some("project.suspended")).then_some(());
    eventually("streams of members continue", is_it).await;
}

#[tokio::test]
async fn change_of_a_credential_that_keeps_its_permission_does_not_end_its_stream() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut stream = key.open_stream().await;
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "name": "another" })).await.ok();
    owner.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.created();
    let is_it = async || (stream.event().await.unwrap().event.as_deref() == Some("key.rotated")).then_some(());
    eventually("stream continues", is_it).await;
}

#[tokio::test]
async fn stream_ends_when_its_credential_expires() {
    let app = TestApp::start_with(with(|streams| streams.heartbeat = Duration::from_millis(100))).await;
    let owner = app.owner().await;
    let token = owner.key().await.token(&["events:read"]).await;
    let mut stream = token.open_stream().await;
    app.clock.advance(Duration::from_secs(91 * 24 * 3600));
    let (_, reason) = stream.read_to_end().await;
    assert_eq!(reason.unwrap()["code"], "token_expired");
}
