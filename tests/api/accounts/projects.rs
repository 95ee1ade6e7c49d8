//! `/v1/projects`.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{Identity, TestApp, eventually, items::body_of_creation};

#[tokio::test]
async fn creator_of_a_project_is_its_owner() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let reply = user.post("/v1/projects", json!({ "name": "Core Platform", "metadata": { "team": "core" } })).await;
    let location = reply.header("location").unwrap().to_owned();
    let made = reply.created();
    assert_eq!(made["name"], "Core Platform");
    assert_eq!(made["status"], "active");
    assert_eq!(made["metadata"], json!({ "team": "core" }));
    let path = format!("/v1/projects/{}", made["id"].as_str().unwrap());
    assert_eq!(location, path);
    assert_eq!(user.get(&path).await.ok(), made);
    let users = user.get(&format!("/v1/users?project_id={}", made["id"].as_str().unwrap())).await.ok();
    assert_eq!(users["data"][0]["role"], "owner");
}

#[tokio::test]
async fn session_lists_its_users_projects_and_key_lists_its_own() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let other = owner.post("/v1/projects", json!({ "name": "Another" })).await.created();
    let stranger = app.owner().await;
    let ids = |listed: serde_json::Value| -> Vec<String> {
        listed["data"].as_array().unwrap().iter().map(|project| project["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        ids(owner.get("/v1/projects").await.ok()),
        [owner.project.clone(), other["id"].as_str().unwrap().into()]
    );
    assert_eq!(ids(stranger.get("/v1/projects").await.ok()), std::slice::from_ref(&stranger.project));
    assert_eq!(ids(owner.key().await.get("/v1/projects").await.ok()), std::slice::from_ref(&owner.project));
    let token = owner.token(&["projects:read"]).await;
    assert_eq!(ids(token.get("/v1/projects").await.ok()), std::slice::from_ref(&owner.project));
}

#[tokio::test]
async fn list_pages_have_no_gap_or_repeat_in_both_orders() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let mut made = Vec::new();
    for n in 0..7 {
        let project = user.post("/v1/projects", json!({ "name": format!("Project {n}") })).await.created();
        made.push(project["id"].as_str().unwrap().to_owned());
    }
    for order in ["asc", "desc"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = user.get(&format!("/v1/projects?limit=3&order={order}{cursor}")).await.ok();
            seen.extend(page["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert_eq!(Some(next), seen.last().map(String::as_str));
            cursor = format!("&cursor={next}");
        }
        if order == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, made);
    }
    // A cursor may be the ID of an item that does not exist.
    assert_eq!(user.get("/v1/projects?cursor=proj_1").await.ok()["data"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn update_changes_only_the_given_members() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/projects/{}", owner.project);
    let changed = owner.patch(&path, json!({ "metadata": { "a": "1" } })).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("A project"), &json!({ "a": "1" })));
    let changed = owner.patch(&path, json!({ "name": "Renamed" })).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("Renamed"), &json!({ "a": "1" })));
    assert_eq!(owner.get(&path).await.ok(), changed);
}

#[tokio::test]
async fn name_must_have_1_to_100_characters_and_no_control_characters() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    for (name, code) in [
        (json!(""), "too_short"),
        (json!("x".repeat(101)), "too_long"),
        (json!("a\u{0}b"), "invalid_characters"),
        (json!("a\r\nX-Evil: 1"), "invalid_characters"),
        (json!(7), "wrong_type"),
    ] {
        let reply = user.post("/v1/projects", json!({ "name": name })).await;
        assert_eq!(reply.invalid_member(), ("#/name".into(), code.into()));
    }
    assert_eq!(user.post("/v1/projects", json!({})).await.invalid_member(), ("#/name".into(), "required".into()));
    // A hundred multi-byte characters, and text that looks like SQL or markup.
    for name in ["é".repeat(100), "'; DROP TABLE projects; --".into(), "<script>alert(1)</script>".into()] {
        assert_eq!(user.post("/v1/projects", json!({ "name": name })).await.created()["name"], name);
    }
}

#[tokio::test]
async fn metadata_is_bounded_and_must_be_text() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let many: serde_json::Map<_, _> = (0..51).map(|n| (n.to_string(), json!("x"))).collect();
    for (metadata, pointer, code) in [
        (json!(many), "#/metadata", "too_long"),
        (json!({ "x".repeat(41): "v" }), "#/metadata", "too_long"),
        (json!({ "k": "v".repeat(501) }), "#/metadata/k", "too_long"),
        (json!({ "k": 1 }), "#/metadata/k", "wrong_type"),
        (json!([]), "#/metadata", "wrong_type"),
    ] {
        let reply = user.post("/v1/projects", json!({ "name": "n", "metadata": metadata })).await;
        assert_eq!(reply.invalid_member(), (pointer.into(), code.into()));
    }
}

#[tokio::test]
async fn read_only_members_are_unknown_fields_in_a_request() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    for member in ["status", "id", "quota", "project_id", "created_at"] {
        let reply = owner.patch(&format!("/v1/projects/{}", owner.project), json!({ member: "x" })).await;
        assert_eq!(reply.invalid_member(), (format!("#/{member}"), "unknown_field".into()));
    }
    let problem = owner.post("/v1/projects", json!({ "nmae": "n" })).await.problem(422, "validation_failed");
    let errors = problem["errors"].as_array().unwrap();
    assert!(errors.iter().any(|e| e["detail"].as_str().unwrap().contains("did you mean 'name'?")), "{problem}");
}

#[tokio::test]
async fn foreign_and_nonexistent_projects_get_the_same_response() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let key = stranger.key().await;
    for id in [owner.project.as_str(), "proj_123", "proj_", "proj_0", "PROJ_1", "usr_8f2", "x%00y", "%ff", "a%2Fb"] {
        let path = format!("/v1/projects/{id}");
        stranger.get(&path).await.problem(404, "not_found");
        key.get(&path).await.problem(404, "not_found");
        stranger.patch(&path, json!({ "name": "mine" })).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn viewer_can_read_but_not_change_a_project() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    let path = format!("/v1/projects/{}", owner.project);
    viewer.get(&path).await.ok();
    viewer.patch(&path, json!({ "name": "mine" })).await.problem(403, "insufficient_scope");
    // On an item, the body is validated before the role is checked.
    viewer.patch(&path, json!({ "name": "" })).await.problem(422, "validation_failed");
}

#[tokio::test]
async fn keys_and_tokens_cannot_create_or_change_projects() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = owner.token(&["projects:write"]).await;
    for refused in [
        key.post("/v1/projects", json!({ "name": "n" })).await,
        token.post("/v1/projects", json!({ "name": "n" })).await,
        key.patch(&format!("/v1/projects/{}", owner.project), json!({ "name": "n" })).await,
        token.patch(&format!("/v1/projects/{}", owner.project), json!({ "name": "n" })).await,
    ] {
        refused.problem(403, "credential_kind_not_allowed");
    }
}

#[tokio::test]
async fn suspending_a_project_stops_its_keys_and_tokens_immediately_until_it_is_resumed() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let (of_key, of_session) = (key.token(&["users:read"]).await, owner.token(&["users:read"]).await);
    let path = format!("/v1/projects/{}", owner.project);
    assert_eq!(owner.post_empty(&format!("{path}/suspend")).await.ok()["status"], "suspended");
    key.get("/v1/users").await.problem(403, "project_suspended");
    of_key.get("/v1/users").await.problem(403, "project_suspended");
    of_session.get("/v1/users").await.problem(403, "project_suspended");
    // Members still see it.
    assert_eq!(owner.get(&path).await.ok()["status"], "suspended");
    // Suspending is idempotent.
    assert_eq!(owner.post_empty(&format!("{path}/suspend")).await.ok()["status"], "suspended");
    assert_eq!(owner.post_empty(&format!("{path}/resume")).await.ok()["status"], "active");
    key.get("/v1/users").await.ok();
    of_key.get("/v1/users").await.ok();
    of_session.get("/v1/users").await.ok();
}

#[tokio::test]
async fn inactive_project_allows_only_revocations_and_removals() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let member = app.member(&owner, Role::Member).await;
    let (key, token) = (owner.key().await, owner.token(&["users:read"]).await);
    let path = format!("/v1/projects/{}", owner.project);
    owner.post_empty(&format!("{path}/archive")).await.ok();
    key.get("/v1/users").await.problem(403, "project_archived");
    owner.post_empty(&format!("{path}/suspend")).await.problem(409, "invalid_state");

    let project = json!(owner.project);
    let user = format!("/v1/users/{}?project_id={}", member.user_id, owner.project);
    for refused in [
        owner.patch(&path, json!({ "name": "n" })).await,
        owner.post("/v1/keys", json!({ "project_id": project })).await,
        owner.patch(&format!("/v1/keys/{}", key.id), json!({ "name": "n" })).await,
        owner.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await,
        owner.post("/v1/tokens", json!({ "project_id": project, "name": "n", "scopes": ["users:read"] })).await,
        owner.post("/v1/users", json!({ "project_id": project, "email": "a@example.com", "role": "viewer" })).await,
        owner.patch(&user, json!({ "role": "admin" })).await,
    ] {
        refused.problem(409, "project_not_active");
    }
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    owner.delete(&format!("/v1/tokens/{}", token.id)).await.ok();
    owner.delete(&user).await.ok();
}

#[tokio::test]
async fn only_an_archived_project_can_be_deleted_with_its_contents() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let token = key.token(&["users:read"]).await;
    app.flush_usage().await;
    let path = format!("/v1/projects/{}", owner.project);
    owner.delete(&path).await.problem(409, "project_not_archived");
    owner.post_empty(&format!("{path}/archive")).await.ok();
    assert_eq!(owner.delete(&path).await.ok(), json!({ "id": owner.project, "deleted": true }));
    owner.get(&path).await.problem(404, "not_found");
    key.get("/v1/users").await.problem(401, "invalid_token");
    token.get("/v1/users").await.problem(401, "invalid_token");
    // Usage of a deleted project that is not yet flushed does not block other usage.
    key.get("/v1/users").await;
    app.flush_usage().await;
}

#[tokio::test]
async fn only_an_owner_can_suspend_resume_archive_or_delete_a_project() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let admin = app.member(&owner, Role::Admin).await;
    let path = format!("/v1/projects/{}", owner.project);
    for action in ["suspend", "resume", "archive"] {
        admin.post_empty(&format!("{path}/{action}")).await.problem(403, "insufficient_scope");
        owner.key().await.post_empty(&format!("{path}/{action}")).await.problem(403, "credential_kind_not_allowed");
    }
    admin.delete(&path).await.problem(403, "insufficient_scope");
    app.member(&owner, Role::Owner).await.post_empty(&format!("{path}/suspend")).await.ok();
}

#[tokio::test]
async fn if_match_makes_an_update_conditional() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/projects/{}", owner.project);
    let etag = owner.get(&path).await.header("etag").unwrap().to_owned();
    let change = |condition: &str| {
        owner.request("PATCH", &path).json(&json!({ "name": "Renamed" })).header("if-match", condition).send()
    };
    let changed = change(&etag).await;
    let newer = changed.header("etag").unwrap().to_owned();
    changed.ok();
    assert_ne!(newer, etag);
    assert_eq!(owner.get(&path).await.header("etag"), Some(newer.as_str()));
    let problem = change(&etag).await.problem(412, "precondition_failed");
    assert!(problem["detail"].as_str().unwrap().contains(&newer), "{problem}");
    change(&format!("W/{newer}")).await.problem(412, "precondition_failed");
    change("nonsense").await.problem(400, "malformed_request");
    change(&format!("\"other\", {newer}")).await.ok();
    change("*").await.ok();
    // 404 and validation errors take precedence over `If-Match`.
    let absent = owner.request("PATCH", "/v1/projects/proj_1").json(&json!({})).header("if-match", &etag);
    absent.send().await.problem(404, "not_found");
    let invalid = owner.request("PATCH", &path).json(&json!({ "name": "" })).header("if-match", &etag);
    invalid.send().await.problem(422, "validation_failed");
}

#[tokio::test]
async fn only_one_of_two_updates_with_the_same_etag_succeeds() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/projects/{}", owner.project);
    let etag = owner.get(&path).await.header("etag").unwrap().to_owned();
    let change =
        |name: &str| owner.request("PATCH", &path).json(&json!({ "name": name })).header("if-match", &etag).send();
    let (a, b) = tokio::join!(change("A"), change("B"));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

#[tokio::test]
async fn projects_can_be_filtered_by_status() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let other = owner.post("/v1/projects", json!({ "name": "Another" })).await.created();
    owner.post_empty(&format!("/v1/projects/{}/suspend", owner.project)).await.ok();
    for (status, expected) in [("suspended", vec![&owner.project]), ("archived", vec![])] {
        let listed = owner.get(&format!("/v1/projects?status={status}")).await.ok();
        let ids: Vec<_> =
            listed["data"].as_array().unwrap().iter().map(|project| project["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected);
    }
    assert_eq!(owner.get("/v1/projects?status=active").await.ok()["data"][0]["id"], other["id"]);
    owner.get("/v1/projects?status=deleted").await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn role_that_changes_during_a_create_is_not_used() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let admin = app.member(&owner, Role::Admin).await;
    for path in ["/v1/keys", "/v1/tokens", "/v1/webhooks"] {
        let mut change = app.db.begin().await.unwrap();
        let set_role = "UPDATE members SET role = $2 WHERE user_id = $1";
        sqlx::query(set_role).bind(admin.user_id).bind(Role::Viewer).execute(&mut *change).await.unwrap();
        let body = body_of_creation(path, &owner.project).unwrap();
        let create = admin.post(path, body.clone());
        let demote = async {
            // The create has read the former role, and waits for the lock on it.
            let waiting = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event_type = 'Lock'
                             AND query LIKE '%require_membership(%'";
            eventually("the create to wait for the role", async || {
                let count: i64 = sqlx::query_scalar(waiting).fetch_one(&app.db).await.unwrap();
                (count > 0).then_some(())
            })
            .await;
            change.commit().await.unwrap();
        };
        let (reply, ()) = tokio::join!(create, demote);
        assert_eq!(reply.header("retry-after"), Some("1"), "{path}");
        reply.problem(503, "overloaded");
        // Sent again, the request is decided by the new role.
        admin.post(path, body).await.problem(403, "insufficient_scope");
        let list = owner.get(&format!("{path}?project_id={}", owner.project)).await.ok();
        assert_eq!(list["data"], json!([]), "{path}");
        sqlx::query(set_role).bind(admin.user_id).bind(Role::Admin).execute(&app.db).await.unwrap();
    }
}
