//! Repeated DELETE, as after a lost response: the same rule for every route, generated from the route table.

use std::time::Duration;

use cloudapi::{base::identity::role::Role, db::deletions, http::describe::Operation, server::routes};
use reqwest::Method;
use serde_json::Value;

use crate::support::{Identity, Reply, TestApp, document, items::Items};

const HOUR: Duration = Duration::from_secs(3600);

/// The part of the response that must be equal: all of it, but for a resource only the ID of the operation.
fn comparable(operation: &Operation, reply: &Reply) -> Value {
    match operation.response.status {
        200 => reply.json().clone(),
        _ => reply["operation"]["id"].clone(),
    }
}

fn deletions_of_items() -> Vec<&'static str> {
    let table = routes::table();
    let deletions = table.operations().filter(|operation| operation.method == Method::DELETE);
    // After this route, the caller's session is revoked.
    deletions.map(|operation| operation.path).filter(|path| *path != "/v1/sessions/current").collect()
}

#[tokio::test]
async fn repeated_delete_returns_the_same_response_on_every_route() {
    let app = TestApp::start().await;
    let items = Items::new(&app).await;
    let (stranger, viewer) = (app.owner().await, app.member(&items.owner, Role::Viewer).await);
    let table = routes::table();
    let mut deleted = Vec::new();
    for operation in table.operations().filter(|operation| deletions_of_items().contains(&operation.path)) {
        if operation.method != Method::DELETE {
            continue;
        }
        let (path, name) = (items.path(operation).await, operation.name());
        let tag = match items.item_path(operation, &path) {
            Some(item) => items.owner.get(&item).await.header("etag").unwrap().to_owned(),
            None => "*".to_owned(),
        };
        let delete = || items.request(operation, &path).header("if-match", &tag).send();
        let first = delete().await;
        assert_eq!(first.status, operation.response.status, "{name}: {}", first.json());
        for again in [delete().await, items.request(operation, &path).send().await] {
            assert_eq!(again.status, first.status, "{name}: {}", again.json());
            assert_eq!(comparable(operation, &again), comparable(operation, &first), "{name}");
        }
        // Callers without permission learn nothing.
        stranger.delete(&path).await.problem(404, "not_found");
        app.anonymous().delete(&path).await.problem(401, "missing_credentials");
        let refused = viewer.delete(&path).await;
        assert!(matches!(refused.status, 403 | 404), "{name}: {} {}", refused.status, refused.json());
        // The item is deleted.
        if let Some(item) = items.item_path(operation, &path) {
            let reply = items.owner.get(&item).await;
            let is_marked = reply["status"] == "revoked"
                || matches!(reply["status"]["phase"].as_str(), Some("deleting" | "deleted"));
            assert!(reply.status == 404 || is_marked, "{name}: {}", reply.json());
        }
        deleted.push((name, path, comparable(operation, &first)));
    }
    app.clock.advance(24 * HOUR);
    assert_eq!(deletions::delete_expired(&mut app.db.acquire().await.unwrap(), app.clock.now()).await.unwrap(), 0);
    let later = app.another_session(&items.owner).await;
    for (name, path, _) in &deleted {
        let again = later.delete(path).await;
        assert!(matches!(again.status, 200 | 202), "{name} a day later: {} {}", again.status, again.json());
    }
}

#[tokio::test]
async fn delete_of_an_item_that_never_existed_is_not_found() {
    let app = TestApp::shared().await;
    let items = Items::new(&app).await;
    let table = routes::table();
    let deletions = table.operations().filter(|operation| operation.method == Method::DELETE);
    for operation in deletions.filter(|operation| deletions_of_items().contains(&operation.path)) {
        let mut path = document::absent_path(operation);
        if path.starts_with("/v1/users/") {
            path = format!("{path}?project_id={}", items.owner.project);
        }
        items.owner.delete(&path).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn recorded_deletions_are_pruned_after_two_days() {
    let app = TestApp::start().await;
    let items = Items::new(&app).await;
    let table = routes::table();
    let delete_webhook = table.operations().find(|operation| operation.name() == "DELETE /v1/webhooks/{webhook_id}");
    let path = items.path(delete_webhook.unwrap()).await;
    items.owner.delete(&path).await.ok();
    app.clock.advance(49 * HOUR);
    assert_eq!(deletions::delete_expired(&mut app.db.acquire().await.unwrap(), app.clock.now()).await.unwrap(), 1);
    app.another_session(&items.owner).await.delete(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn only_owners_of_a_deleted_project_may_repeat_its_deletion() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (other_owner, admin) = (app.member(&owner, Role::Owner).await, app.member(&owner, Role::Admin).await);
    let path = format!("/v1/projects/{}", owner.project);
    owner.post_empty(&format!("{path}/archive")).await.ok();
    let first = owner.delete(&path).await.ok();
    assert_eq!(owner.delete(&path).await.ok(), first);
    assert_eq!(other_owner.delete(&path).await.ok(), first);
    admin.delete(&path).await.problem(404, "not_found");
    app.owner().await.delete(&path).await.problem(404, "not_found");
    owner.get(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn member_who_left_may_repeat_only_the_removal() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let admin = app.member(&owner, Role::Admin).await;
    let path = format!("/v1/users/{}?project_id={}", admin.user_id, owner.project);
    let first = admin.delete(&path).await.ok();
    assert_eq!(admin.delete(&path).await.ok(), first);
    assert_eq!(owner.delete(&path).await.ok(), first);
    let other = format!("/v1/users/{}?project_id={}", owner.user_id, owner.project);
    admin.delete(&other).await.problem(404, "not_found");
    admin.get(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn repeated_removal_checks_the_removed_members_role() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (removed, admin) = (app.member(&owner, Role::Owner).await, app.member(&owner, Role::Admin).await);
    let path = format!("/v1/users/{}?project_id={}", removed.user_id, owner.project);
    admin.delete(&path).await.problem(403, "role_escalation");
    owner.delete(&path).await.ok();
    admin.delete(&path).await.problem(403, "role_escalation");
    owner.delete(&path).await.ok();
}

#[tokio::test]
async fn repeated_deletion_is_recorded_once() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/webhooks/{}", crate::support::hooks::create_idle_webhook(&owner).await);
    for _ in 0..3 {
        owner.delete(&path).await.ok();
    }
    let sealed = crate::support::eventually("deletion recorded", async || {
        let filter = format!("/v1/audit-logs?project_id={}&action=webhook.deleted", owner.project);
        let found = owner.get(&filter).await.ok()["data"].as_array().unwrap().len();
        (found > 0).then_some(found)
    })
    .await;
    assert_eq!(sealed, 1);
}
