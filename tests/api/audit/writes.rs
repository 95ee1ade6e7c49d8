//! The audit trail records each write in the route table exactly once.

use cloudapi::{base::identity::role::Role, http::describe::Operation, server::routes};
use serde_json::{Value, json};

use super::{PASSWORD, invite, text};
use crate::support::{
    Identity, Reply, Session, TestApp,
    cloud::{insert_network, insert_operation, insert_volume, network_in},
    hooks::{create_idle_webhook, insert_delivery},
    trail::{sealed, sealed_since},
};

/// Expected audit entry: action, target, type of the target, and whether it is in the project's chain.
type ExpectedEvent = (&'static str, String, &'static str, bool);

/// A project with items to write to.
struct Fixture<'a> {
    owner: Session<'a>,
    member: Session<'a>,
    key: String,
    token: String,
    webhook: String,
    delivery: String,
    network: String,
    volume: String,
    operation: String,
    invited: Value,
    /// The number of audit entries before the call.
    known: usize,
}

impl<'a> Fixture<'a> {
    async fn new(app: &'a TestApp, number: usize) -> Self {
        let owner = app.owner().await;
        app.set_password(&owner, PASSWORD).await;
        let member = app.member(&owner, Role::Member).await;
        let key = owner.key().await;
        let token = key.token(&["users:read"]).await.id;
        let invited = invite(&owner, &format!("invited-{number}@example.com")).await;
        let webhook = create_idle_webhook(&owner).await;
        let delivery = insert_delivery(&owner, &webhook).await;
        let (network, volume) = (insert_network(&owner).await, insert_volume(&owner).await);
        let operation = insert_operation(app, &insert_network(&owner).await).await;
        let known = sealed(&app.db).await.len();
        Self { network, volume, operation, webhook, delivery, owner, member, key: key.id, token, invited, known }
    }

    /// Calls `operation`; returns the response and the expected audit entries.
    async fn act(&self, app: &TestApp, operation: &Operation) -> (Reply, Vec<ExpectedEvent>) {
        let Self { owner, member, key, token, webhook, delivery, network, volume, operation: busy, invited, .. } = self;
        let (project, user) = (owner.project.clone(), owner.user_id.to_string());
        let (method, path) = (operation.method.as_str(), operation.path);
        let in_project = |action, id: &str, kind| vec![(action, id.to_owned(), kind, true)];
        let outside_project = |action, id: &str, kind| vec![(action, id.to_owned(), kind, false)];
        let filled = path
            .replace("{project_id}", &project)
            .replace("{key_id}", key)
            .replace("{token_id}", token)
            .replace("{session_id}", &owner.id)
            .replace("{webhook_id}", webhook)
            .replace("{delivery_id}", delivery)
            .replace("{resource_id}", if path.ends_with("/actions") { volume } else { network })
            .replace("{operation_id}", busy)
            .replace("{user_id}", &format!("{}?project_id={project}", member.user_id));
        let by_owner = async |body: Value| {
            let request = owner.request(method, &filled);
            if body.is_null() { request.send().await } else { request.json(&body).send().await }
        };
        match (method, path) {
            ("POST", "/v1/sessions") => {
                let reply = app.anonymous().post(path, json!({ "email": owner.email, "password": PASSWORD })).await;
                let id = text(reply.json(), "id");
                (reply, outside_project("session.created", &id, "session"))
            }
            ("POST", "/v1/invitations/accept") => {
                let body = json!({ "token": invited["invitation"], "password": PASSWORD });
                let reply = app.anonymous().post(path, body).await;
                let mut expected_events = outside_project("session.created", &text(reply.json(), "id"), "session");
                expected_events.extend(in_project("user.joined", &text(&reply.json()["user"], "id"), "user"));
                (reply, expected_events)
            }
            ("DELETE", "/v1/sessions/current" | "/v1/sessions/{session_id}") => {
                (by_owner(Value::Null).await, outside_project("session.revoked", &owner.id, "session"))
            }
            ("POST", "/v1/sessions/current/reauthenticate") => (
                by_owner(json!({ "password": PASSWORD })).await,
                outside_project("session.reauthenticated", &owner.id, "session"),
            ),
            ("POST", "/v1/users/me/password") => {
                let body = json!({ "current_password": PASSWORD, "new_password": "another horse battery staple" });
                (by_owner(body).await, outside_project("user.password_changed", &user, "user"))
            }
            ("POST", "/v1/projects") => {
                let reply = by_owner(json!({ "name": "n" })).await;
                let id = text(reply.json(), "id");
                (reply, in_project("project.created", &id, "project"))
            }
            ("PATCH", "/v1/projects/{project_id}") => {
                (by_owner(json!({ "name": "n" })).await, in_project("project.updated", &project, "project"))
            }
            ("DELETE", "/v1/projects/{project_id}") => {
                // A project with resources cannot be deleted.
                sqlx::query("UPDATE resources SET phase = 'deleted', deleted_at = now()")
                    .execute(&app.db)
                    .await
                    .unwrap();
                owner.post_empty(&format!("{filled}/archive")).await.ok();
                let mut expected_events = in_project("project.archived", &project, "project");
                expected_events.extend(in_project("project.deleted", &project, "project"));
                (by_owner(Value::Null).await, expected_events)
            }
            ("POST", "/v1/projects/{project_id}/suspend") => {
                (by_owner(Value::Null).await, in_project("project.suspended", &project, "project"))
            }
            ("POST", "/v1/projects/{project_id}/archive") => {
                (by_owner(Value::Null).await, in_project("project.archived", &project, "project"))
            }
            ("POST", "/v1/projects/{project_id}/resume") => {
                owner.post_empty(&format!("/v1/projects/{project}/suspend")).await.ok();
                let mut expected_events = in_project("project.suspended", &project, "project");
                expected_events.extend(in_project("project.resumed", &project, "project"));
                (by_owner(Value::Null).await, expected_events)
            }
            ("POST", "/v1/keys") => {
                let reply = by_owner(json!({ "project_id": project })).await;
                let id = text(reply.json(), "id");
                (reply, in_project("key.created", &id, "key"))
            }
            ("PATCH", "/v1/keys/{key_id}") => {
                (by_owner(json!({ "name": "n" })).await, in_project("key.updated", key, "key"))
            }
            ("POST", "/v1/keys/{key_id}/rotate") => (by_owner(json!({})).await, in_project("key.rotated", key, "key")),
            ("DELETE", "/v1/keys/{key_id}") => (by_owner(Value::Null).await, in_project("key.revoked", key, "key")),
            ("POST", "/v1/tokens") => {
                let body = json!({ "project_id": project, "name": "n", "scopes": ["users:read"] });
                let reply = by_owner(body).await;
                let id = text(reply.json(), "id");
                (reply, in_project("token.created", &id, "token"))
            }
            ("DELETE", "/v1/tokens/{token_id}") => {
                (by_owner(Value::Null).await, in_project("token.revoked", token, "token"))
            }
            ("POST", "/v1/users") => {
                let body =
                    json!({ "project_id": project, "email": format!("of-{project}@example.com"), "role": "viewer" });
                let reply = by_owner(body).await;
                let id = text(reply.json(), "id");
                (reply, in_project("user.invited", &id, "user"))
            }
            ("PATCH", "/v1/users/{user_id}") => {
                let id = member.user_id.to_string();
                (by_owner(json!({ "role": "viewer" })).await, in_project("user.updated", &id, "user"))
            }
            ("DELETE", "/v1/users/{user_id}") => {
                (by_owner(Value::Null).await, in_project("user.removed", &member.user_id.to_string(), "user"))
            }
            ("POST", "/v1/webhooks") => {
                let reply = by_owner(json!({ "project_id": project, "url": "https://receiver.invalid/" })).await;
                let id = text(reply.json(), "id");
                (reply, in_project("webhook.created", &id, "webhook"))
            }
            ("PATCH", "/v1/webhooks/{webhook_id}") => {
                (by_owner(json!({ "description": "d" })).await, in_project("webhook.updated", webhook, "webhook"))
            }
            ("POST", "/v1/webhooks/{webhook_id}/rotate-secret") => {
                (by_owner(json!({})).await, in_project("webhook.secret_rotated", webhook, "webhook"))
            }
            ("POST", "/v1/webhooks/{webhook_id}/test") => {
                (by_owner(Value::Null).await, in_project("webhook.tested", webhook, "webhook"))
            }
            ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver") => {
                (by_owner(Value::Null).await, in_project("delivery.retried", delivery, "delivery"))
            }
            ("DELETE", "/v1/webhooks/{webhook_id}") => {
                (by_owner(Value::Null).await, in_project("webhook.deleted", webhook, "webhook"))
            }
            ("POST", "/v1/resources") => {
                let reply = by_owner(network_in(&project)).await;
                let id = text(&reply["resource"], "id");
                (reply, in_project("resource.created", &id, "resource"))
            }
            ("POST", "/v1/resources/import") => {
                let body = json!({
                    "project_id": project, "kind": "storage.volume", "provider": "sim", "provider_ref": "vol-1", "name": "n",
                });
                let reply = by_owner(body).await;
                let id = text(&reply["resource"], "id");
                (reply, in_project("resource.import_requested", &id, "resource"))
            }
            ("PATCH", "/v1/resources/{resource_id}") => (
                by_owner(json!({ "protection": true })).await,
                in_project("resource.update_requested", network, "resource"),
            ),
            ("DELETE", "/v1/resources/{resource_id}") => {
                (by_owner(Value::Null).await, in_project("resource.deletion_requested", network, "resource"))
            }
            ("POST", "/v1/resources/{resource_id}/actions") => (
                by_owner(json!({ "action": "resize", "size_gib": 40 })).await,
                in_project("resource.update_requested", volume, "resource"),
            ),
            ("POST", "/v1/resources/{resource_id}/sync") => {
                (by_owner(Value::Null).await, in_project("resource.sync_requested", network, "resource"))
            }
            ("POST", "/v1/operations/{operation_id}/cancel") => {
                (by_owner(Value::Null).await, in_project("operation.cancel_requested", busy, "operation"))
            }
            other => panic!("{other:?} is a write: add its request and its audit entry here"),
        }
    }
}

#[tokio::test]
async fn every_write_in_the_route_table_is_recorded_exactly_once() {
    let app = TestApp::start().await;
    for (number, operation) in routes::table().operations().filter(|operation| !operation.is_read()).enumerate() {
        let fixture = Fixture::new(&app, number).await;
        let (reply, expected) = fixture.act(&app, operation).await;
        let what = format!("{} {}", operation.method, operation.path);
        assert!(reply.status < 300, "{what}: {}", reply.json());
        // The server itself records the results of operations.
        let mut recorded = sealed_since(&app.db, fixture.known).await;
        recorded.retain(|entry| entry["actor"]["type"] != "system");
        let found: Vec<ExpectedEvent> = expected
            .iter()
            .zip(&recorded)
            .map(|((action, _, kind, _), entry)| {
                assert_eq!((&entry["action"], &entry["target"]["type"]), (&json!(action), &json!(kind)), "{what}");
                (*action, text(&entry["target"], "id"), *kind, !entry["project_id"].is_null())
            })
            .collect();
        assert_eq!((found, recorded.len()), (expected.clone(), expected.len()), "{what}: {recorded:#?}");
        let entry = recorded.last().unwrap();
        assert_eq!(entry["request_id"], reply.header("x-request-id").unwrap(), "{what}");
        assert_eq!((&entry["outcome"], &entry["source_ip"]), (&json!("success"), &json!("127.0.0.1")), "{what}");
        assert_eq!(entry["actor"]["type"], "user", "{what}");
        if !operation.path.ends_with("/accept") {
            assert_eq!(entry["actor"]["id"], fixture.owner.user_id.to_string(), "{what}");
        }
        // Testing a webhook changes nothing, and neither does proving who one is.
        let changes = entry["changes"].as_object().unwrap();
        let is_without = ["webhook.tested", "session.reauthenticated"].map(Value::from).contains(&entry["action"]);
        assert_eq!(changes.is_empty(), is_without, "{what}: {entry}");
    }
}
