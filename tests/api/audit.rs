//! The audit trail records each write exactly once, and refused requests.

use cloudapi::{base::identity::role::Role, http::describe::Operation, server::routes};
use serde_json::{Value, json};

use crate::support::{
    Bearer, Identity, Reply, Session, TestApp,
    app::unknown_secret,
    binary::Deployment,
    cloud::{insert_network, insert_operation, insert_volume, network_in},
    hooks::{create_idle_webhook, insert_delivery},
    trail::{sealed, sealed_since, staged},
};
use cloudapi::base::identity::secret::SecretKind;

const PASSWORD: &str = "correct horse battery staple";

/// Expected audit entry: action, target, type of the target, and whether it is in the project's chain.
type ExpectedEvent = (&'static str, String, &'static str, bool);

fn text(reply: &Value, name: &str) -> String {
    reply[name].as_str().unwrap_or_else(|| panic!("no {name:?} in {reply}")).to_owned()
}

async fn invite(owner: &Session<'_>, email: &str) -> Value {
    let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
    owner.post("/v1/users", body).await.created()
}

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
        // Testing a webhook changes nothing.
        let changes = entry["changes"].as_object().unwrap();
        assert_eq!(changes.is_empty(), entry["action"] == "webhook.tested", "{what}: {entry}");
    }
}

#[tokio::test]
async fn entry_contains_actor_credential_and_user_agent() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["tokens:write", "users:read"]).await;
    let known = sealed(&app.db).await.len();
    let agent = format!("ci/1 {} {}", key.secret, "x".repeat(300));
    for who in [&key as &dyn Caller, &token] {
        let body = json!({ "name": "n", "scopes": ["users:read"] });
        who.call("/v1/tokens").header("user-agent", &agent).json(&body).send().await.created();
    }
    let recorded = sealed_since(&app.db, known).await;
    let actor = |entry: &Value| entry["actor"].clone();
    assert_eq!(actor(&recorded[0]), json!({ "credential_id": key.id, "id": key.id, "type": "key" }));
    assert_eq!(actor(&recorded[1]), json!({ "credential_id": token.id, "id": token.id, "type": "token" }));
    let message = text(&recorded[0], "user_agent");
    assert!(message.starts_with("ci/1  xxx") && message.len() == 256, "{message}");
}

/// An identity that can send requests, as a trait object.
trait Caller {
    fn call(&self, path: &str) -> crate::support::identity::TestRequest;
}

impl<T: Identity> Caller for T {
    fn call(&self, path: &str) -> crate::support::identity::TestRequest {
        self.request("POST", path)
    }
}

#[tokio::test]
async fn changes_are_public_fields_with_both_values_after_updates() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let project = owner.get(&format!("/v1/projects/{}", owner.project)).await.ok();
    let recorded = sealed(&app.db).await;
    assert_eq!(recorded[0]["changes"], project);

    let path = format!("/v1/projects/{}", owner.project);
    owner.patch(&path, json!({ "name": "Another", "metadata": { "a": "1" } })).await.ok();
    let made = owner.post("/v1/keys", json!({ "project_id": owner.project, "name": "ci" })).await.created();
    let key = format!("/v1/keys/{}", text(&made, "id"));
    owner.patch(&key, json!({ "scopes": ["users:read"] })).await.ok();
    owner.delete(&key).await.ok();
    let invited = invite(&owner, "ada@example.com").await;
    let user = format!("/v1/users/{}?project_id={}", text(&invited, "id"), owner.project);
    owner.patch(&user, json!({ "role": "member" })).await.ok();
    owner.delete(&user).await.ok();
    let recorded = sealed_since(&app.db, recorded.len()).await;
    let changes: Vec<_> = recorded.iter().map(|entry| entry["changes"].clone()).collect();
    assert_eq!(changes[0], json!({ "name": ["A project", "Another"], "metadata": [{}, { "a": "1" }] }));
    // A secret that is shown once is not a public field.
    let mut view = made.clone();
    view.as_object_mut().unwrap().remove("key");
    assert_eq!(changes[1], view);
    assert_eq!(changes[2], json!({ "scopes": [made["scopes"], ["users:read"]] }));
    assert_eq!(changes[3], json!({ "status": ["active", "revoked"] }));
    assert_eq!(changes[4]["email"], "ada@example.com");
    assert_eq!(changes[5], json!({ "role": ["viewer", "member"] }));
    assert_eq!(changes[6]["email"], json!(["ada@example.com", null]));
}

#[tokio::test]
async fn writes_without_effect_refusals_and_replays_are_not_recorded() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let (key, token) = (owner.key().await, owner.token(&["users:read"]).await);
    let project = format!("/v1/projects/{}", owner.project);
    let twice = async || {
        owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
        owner.delete(&format!("/v1/tokens/{}", token.id)).await.ok();
        owner.post_empty(&format!("{project}/suspend")).await.ok();
        let another = app.another_session(&owner).await;
        another.delete("/v1/sessions/current").await.ok();
        owner.delete(&format!("/v1/sessions/{}", another.id)).await.ok();
        let request = owner.request("POST", "/v1/projects").header("idempotency-key", "k");
        request.json(&json!({ "name": "n" })).send().await.created();
    };
    twice().await;
    let recorded = sealed(&app.db).await;
    let actions: Vec<_> = recorded.iter().skip(3).map(|entry| entry["action"].as_str().unwrap()).collect();
    let once = ["key.revoked", "token.revoked", "project.suspended", "session.revoked", "project.created"];
    assert_eq!(actions, once);

    twice().await;
    let body = json!({ "project_id": owner.project });
    owner.post("/v1/keys", body.clone()).await.problem(409, "project_not_active");
    owner.post_empty(&format!("{project}/resume")).await.ok();
    owner.post("/v1/keys", json!({ "project_id": owner.project, "name": 1 })).await.problem(422, "validation_failed");
    let request = owner.request("PATCH", &project).header("if-match", "\"77\"");
    request.json(&json!({ "name": "m" })).send().await.problem(412, "precondition_failed");
    owner.patch(&project, json!({ "name": "A project" })).await.ok();
    // The session is new each time, so its revocation is recorded again. Nothing else is.
    let actions = sealed_since(&app.db, recorded.len()).await;
    let actions: Vec<_> = actions.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["session.revoked", "project.resumed"]);
}

#[tokio::test]
async fn failed_sign_in_is_recorded_without_submitted_values() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.set_password(&user, PASSWORD).await;
    let sign_in = async |email: &str| {
        let body = json!({ "email": email, "password": "wrong" });
        app.anonymous().post("/v1/sessions", body).await.problem(401, "invalid_credentials");
    };
    sign_in(&user.email).await;
    sign_in("my-password-in-the-wrong-place").await;
    let owner = app.owner().await;
    let invited = invite(&owner, &user.email).await;
    let body = json!({ "token": invited["invitation"], "password": "a wrong password" });
    app.anonymous().post("/v1/invitations/accept", body).await.problem(401, "invalid_credentials");
    let body = json!({ "current_password": "wrong", "new_password": "another horse battery staple" });
    user.post("/v1/users/me/password", body).await.problem(422, "invalid_current_password");
    app.denials.flush(&app.db, &app.clock).await.unwrap();

    let target = json!({ "id": user.user_id, "type": "user" });
    let recorded = sealed(&app.db).await;
    let failed: Vec<_> = recorded
        .iter()
        .filter(|entry| entry["outcome"] != "success")
        .map(|entry| (text(entry, "action"), text(&entry["actor"], "type"), entry["target"].clone()))
        .collect();
    let refused = |target: &Value| ("session.refused".to_owned(), "anonymous".to_owned(), target.clone());
    let expected = [
        refused(&target),
        refused(&Value::Null),
        refused(&target),
        ("user.password_changed".to_owned(), "user".to_owned(), target),
    ];
    assert_eq!(failed, expected);
    assert!(!json!(recorded).to_string().contains("wrong-place"));
    assert!(recorded.iter().all(|entry| entry["outcome"] == "success" || entry["changes"] == json!({})));
}

#[tokio::test]
async fn refusals_are_counted_in_memory_and_written_on_flush() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let narrow = owner.key_with(json!({ "scopes": ["storage:write"] })).await;
    let known = sealed(&app.db).await.len();
    for _ in 0..3 {
        let stray = Bearer { app: &app, secret: unknown_secret(SecretKind::Key) };
        stray.get("/v1/keys").await.problem(401, "invalid_token");
    }
    for _ in 0..2 {
        narrow.get("/v1/users").await.problem(403, "insufficient_scope");
        app.anonymous().get("/v1/keys").await.problem(401, "missing_credentials");
    }
    let viewer = app.member(&owner, Role::Viewer).await;
    viewer.post("/v1/keys", json!({ "project_id": owner.project })).await.problem(403, "insufficient_scope");
    assert_eq!((staged(&app.db).await, sealed(&app.db).await.len()), (0, known));

    app.denials.flush(&app.db, &app.clock).await.unwrap();
    let mut recorded: Vec<_> = sealed_since(&app.db, known)
        .await
        .iter()
        .map(|entry| {
            assert_eq!((&entry["action"], &entry["outcome"]), (&json!("request.denied"), &json!("denied")));
            let [project, actor, changes] = ["project_id", "actor", "changes"].map(|name| entry[name].clone());
            (project, actor["id"].clone(), changes)
        })
        .collect();
    recorded.sort_by_key(|(_, _, changes)| changes.to_string());
    let changes = |code: &str, count: u64, route: &str| json!({ "code": code, "count": count, "route": route });
    let (project, nobody) = (json!(owner.project), Value::Null);
    let expected = [
        (project.clone(), json!(viewer.user_id), changes("insufficient_scope", 1, "POST /v1/keys")),
        (project, json!(narrow.id), changes("insufficient_scope", 2, "GET /v1/users")),
        (nobody.clone(), nobody.clone(), changes("invalid_token", 3, "GET /v1/keys")),
        (nobody.clone(), nobody, changes("missing_credentials", 2, "GET /v1/keys")),
    ];
    assert_eq!(recorded, expected);
    // A second flush writes nothing.
    app.denials.flush(&app.db, &app.clock).await.unwrap();
    assert_eq!(sealed_since(&app.db, known).await.len(), 4);
}

#[tokio::test]
async fn commands_of_the_operator_are_recorded_as_operator_actions() {
    let app = TestApp::start().await;
    let deployment = Deployment::new();
    let run = |arguments: &[&str]| {
        let (succeeded, printed, errors) = deployment.run_on(&app.db.connect_options(), arguments);
        assert!(succeeded, "{errors}");
        printed
    };
    let made = run(&["admin", "bootstrap", "--email", "ada@example.com", "--project", "Core", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let project = text(&made["project"], "id");
    run(&["admin", "project", &project, "--included", "1000"]);
    run(&["admin", "project", &project, "--included", "1000"]);
    run(&["admin", "session", "--email", "ada@example.com"]);
    let recorded = sealed(&app.db).await;
    let actions: Vec<_> = recorded.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = ["session.created", "deployment.bootstrapped", "project.quota_changed", "session.created"];
    assert_eq!(actions, expected);
    assert!(
        recorded.iter().all(|entry| entry["actor"]["type"] == "operator" && entry["source_ip"].is_null()),
        "{recorded:#?}"
    );
    assert_eq!(recorded[1]["changes"]["project"]["name"], "Core");
    assert_eq!(recorded[1]["changes"]["owner"]["email"], "ada@example.com");
    assert_eq!(recorded[2]["changes"], json!({ "included": [null, 1000] }));
}

#[tokio::test]
async fn pruning_the_journal_of_a_lost_server_is_recorded() {
    let app = TestApp::start().await;
    let deployment = Deployment::new();
    let journal = "0190a7e4-0000-7000-8000-000000000001";
    let open = "INSERT INTO usage_journals (journal, opened_at, flushed_at) VALUES ($1::uuid, now(), now())";
    sqlx::query(open).bind(journal).execute(&app.db).await.unwrap();
    let forget = || deployment.run_on(&app.db.connect_options(), &["usage", "forget", journal]);
    assert!(forget().0);
    let recorded = sealed(&app.db).await;
    assert_eq!(
        (&recorded[0]["action"], &recorded[0]["changes"]),
        (&json!("usage.forgotten"), &json!({ "journal": journal }))
    );
    assert_eq!(recorded.len(), 1);
}
