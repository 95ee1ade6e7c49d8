//! `/v1/users`.

use cloudapi::users::model::Role;

use crate::support::{Identity, TestApp};

#[tokio::test]
async fn a_projects_users_are_its_members_with_their_roles() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    app.owner().await; // Somebody else, in another project.
    let key = owner.key().await;
    let listed = key.get("/v1/users").await.ok();
    let seen: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|user| (&user["id"], &user["email"], &user["role"])).collect();
    let (owner_id, viewer_id) = (owner.user_id.to_string().into(), viewer.user_id.to_string().into());
    let (owner_email, viewer_email) = (owner.email.clone().into(), viewer.email.clone().into());
    assert_eq!(seen, [(&owner_id, &owner_email, &"owner".into()), (&viewer_id, &viewer_email, &"viewer".into())]);
    assert_eq!(key.get(&format!("/v1/users/{}", viewer.user_id)).await.ok(), listed["data"][1]);
    let token = owner.token(&["users:read"]).await;
    assert_eq!(token.get("/v1/users").await.ok()["data"], listed["data"]);
}

#[tokio::test]
async fn a_session_names_the_project() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    owner.get("/v1/users").await.problem(400, "project_required");
    owner.get(&format!("/v1/users/{}", owner.user_id)).await.problem(400, "project_required");
    owner.get(&format!("/v1/users?project_id={}", owner.project)).await.ok();
    owner.get(&format!("/v1/users/{}?project_id={}", owner.user_id, owner.project)).await.ok();
    owner.get("/v1/users?project_id=proj_123").await.problem(404, "not_found");
}

#[tokio::test]
async fn a_user_of_another_project_is_not_found() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let key = owner.key().await;
    for id in [stranger.user_id.to_string(), "usr_123".into(), "key_123".into(), "me".into()] {
        key.get(&format!("/v1/users/{id}")).await.problem(404, "not_found");
        owner.get(&format!("/v1/users/{id}?project_id={}", owner.project)).await.problem(404, "not_found");
    }
    // Naming one's own project changes nothing; naming another's hides everything.
    key.get(&format!("/v1/users?project_id={}", owner.project)).await.ok();
    key.get(&format!("/v1/users?project_id={}", stranger.project)).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_credential_without_users_read_is_refused() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key_with(serde_json::json!({ "scopes": ["usage:read"] })).await;
    let reply = key.get("/v1/users").await;
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"cloudapi\", error=\"insufficient_scope\", scope=\"users:read\"")
    );
    reply.problem(403, "insufficient_scope");
}
