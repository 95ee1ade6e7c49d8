//! `/v1/projects`.

use cloudapi::users::model::Role;
use serde_json::json;

use crate::support::{Identity, TestApp};

#[tokio::test]
async fn whoever_makes_a_project_owns_it() {
    let app = TestApp::start().await;
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
async fn a_session_sees_the_projects_of_its_user_and_a_key_its_own() {
    let app = TestApp::start().await;
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
async fn the_pages_of_a_list_join_without_gap_or_repeat_in_both_orders() {
    let app = TestApp::start().await;
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
    // A cursor need not exist any more, or ever have.
    assert_eq!(user.get("/v1/projects?cursor=proj_1").await.ok()["data"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let path = format!("/v1/projects/{}", owner.project);
    let changed = owner.patch(&path, json!({ "metadata": { "a": "1" } })).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("A project"), &json!({ "a": "1" })));
    let changed = owner.patch(&path, json!({ "name": "Renamed", "metadata": null })).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("Renamed"), &json!({ "a": "1" })));
    assert_eq!(owner.get(&path).await.ok(), changed);
}

#[tokio::test]
async fn a_name_has_1_to_100_characters_and_no_control_character() {
    let app = TestApp::start().await;
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
    // A hundred characters, whatever their bytes, and text that would be markup or SQL elsewhere.
    for name in ["é".repeat(100), "'; DROP TABLE projects; --".into(), "<script>alert(1)</script>".into()] {
        assert_eq!(user.post("/v1/projects", json!({ "name": name })).await.created()["name"], name);
    }
}

#[tokio::test]
async fn metadata_is_bounded_and_holds_text_only() {
    let app = TestApp::start().await;
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
async fn members_that_are_the_servers_to_set_are_unknown_in_a_request() {
    let app = TestApp::start().await;
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
async fn a_foreign_project_and_an_absent_one_are_answered_alike() {
    let app = TestApp::start().await;
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
async fn a_viewer_may_read_a_project_and_not_change_it() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    let path = format!("/v1/projects/{}", owner.project);
    viewer.get(&path).await.ok();
    viewer.patch(&path, json!({ "name": "mine" })).await.problem(403, "insufficient_scope");
    // On an item the body is judged before the role.
    viewer.patch(&path, json!({ "name": "" })).await.problem(422, "validation_failed");
}

#[tokio::test]
async fn keys_and_tokens_neither_make_nor_change_projects() {
    let app = TestApp::start().await;
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
