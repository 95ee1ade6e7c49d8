//! What an audit entry contains, and which requests and commands are recorded.

use cloudapi::base::identity::{role::Role, secret::SecretKind};
use serde_json::{Value, json};

use super::{PASSWORD, invite, text};
use crate::support::{
    Bearer, Identity, TestApp,
    app::unknown_secret,
    binary::Deployment,
    identity::TestRequest,
    trail::{sealed, sealed_since, staged},
};

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
    fn call(&self, path: &str) -> TestRequest;
}

impl<T: Identity> Caller for T {
    fn call(&self, path: &str) -> TestRequest {
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
