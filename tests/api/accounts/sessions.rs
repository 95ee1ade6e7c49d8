//! `/v1/sessions`.

use std::time::Duration;

use serde_json::json;

use crate::support::{Bearer, Identity, Session, TestApp};

const PASSWORD: &str = "correct horse battery staple";

#[tokio::test]
async fn sign_in_creates_a_working_session() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    app.set_password(&owner, PASSWORD).await;
    let reply = app.anonymous().post("/v1/sessions", json!({ "email": owner.email, "password": PASSWORD })).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let made = reply.created();
    assert_eq!(made["user"], json!({ "id": owner.user_id.to_string(), "email": owner.email }));
    let session = Bearer { app: &app, secret: made["token"].as_str().unwrap().into() };
    let listed = session.get("/v1/projects").await.ok();
    assert_eq!(listed["data"][0]["id"], owner.project);
    // Case and surrounding spaces of the address do not matter.
    let shouted = json!({ "email": format!(" {} ", owner.email.to_uppercase()), "password": PASSWORD });
    app.anonymous().post("/v1/sessions", shouted).await.created();
}

#[tokio::test]
async fn wrong_password_and_unknown_address_get_the_same_response() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let without_password = app.user().await;
    app.set_password(&owner, PASSWORD).await;
    let mut answers = Vec::new();
    for (email, password) in [
        (owner.email.as_str(), "wrong"),
        (owner.email.as_str(), ""),
        ("nobody@example.com", PASSWORD),
        (without_password.email.as_str(), ""),
        ("no address", PASSWORD),
    ] {
        let reply = app.anonymous().post("/v1/sessions", json!({ "email": email, "password": password })).await;
        let mut problem = reply.problem(401, "invalid_credentials");
        problem.as_object_mut().unwrap().remove("request_id");
        answers.push(problem);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn sign_in_accepts_exactly_an_address_and_a_password() {
    let app = TestApp::shared().await;
    let problem =
        app.anonymous().post("/v1/sessions", json!({ "mail": "a@b.c" })).await.problem(422, "validation_failed");
    let found: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [("#/email", "required"), ("#/mail", "unknown_field"), ("#/password", "required")]);
}

#[tokio::test]
async fn sign_out_revokes_the_session_immediately() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let ended = user.delete("/v1/sessions/current").await.ok();
    assert_eq!(ended, json!({ "id": user.id, "revoked": true }));
    user.get("/v1/projects").await.problem(401, "token_revoked");
}

async fn another_session<'a>(app: &'a TestApp, user: &Session<'_>) -> Session<'a> {
    let answer =
        app.anonymous().post("/v1/sessions", json!({ "email": user.email, "password": PASSWORD })).await.created();
    Session {
        app,
        user_id: user.user_id,
        email: user.email.clone(),
        id: answer["id"].as_str().unwrap().into(),
        secret: answer["token"].as_str().unwrap().into(),
        project: user.project.clone(),
    }
}

#[tokio::test]
async fn user_can_list_and_revoke_only_their_own_active_sessions() {
    let app = TestApp::shared().await;
    let (user, stranger) = (app.user().await, app.user().await);
    app.set_password(&user, PASSWORD).await;
    let other = another_session(&app, &user).await;
    let listed = user.get("/v1/sessions").await.ok();
    let ids: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [user.id.as_str(), other.id.as_str()]);

    stranger.delete(&format!("/v1/sessions/{}", other.id)).await.problem(404, "not_found");
    user.delete("/v1/sessions/sess_123").await.problem(404, "not_found");
    for _ in 0..2 {
        let ended = user.delete(&format!("/v1/sessions/{}", other.id)).await.ok();
        assert_eq!(ended, json!({ "id": other.id, "revoked": true }));
    }
    other.get("/v1/sessions").await.problem(401, "token_revoked");
    assert_eq!(user.get("/v1/sessions").await.ok()["data"].as_array().unwrap().len(), 1);
}

const HOUR: Duration = Duration::from_secs(3600);

/// IDs in the list of `user`'s sessions.
async fn listed(user: &Session<'_>) -> Vec<String> {
    let listed = user.get("/v1/sessions").await.ok();
    listed["data"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn session_expires_after_thirty_days_even_if_used() {
    let app = TestApp::start().await;
    let user = app.user().await;
    for _ in 0..65 {
        app.clock.advance(11 * HOUR);
        user.get("/v1/sessions").await.ok();
        app.flush_usage().await;
    }
    app.clock.advance(5 * HOUR);
    user.get("/v1/sessions").await.problem(401, "token_expired");
}

#[tokio::test]
async fn session_expires_after_twelve_hours_without_a_request() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let nearly = 12 * HOUR - Duration::from_secs(60);
    app.clock.advance(nearly);
    user.get("/v1/sessions").await.ok();
    app.flush_usage().await;
    app.clock.advance(nearly);
    // Failed requests count too, with or without a project.
    user.get("/v1/users?project_id=proj_123").await.problem(404, "not_found");
    app.flush_usage().await;
    app.clock.advance(nearly);
    user.get("/v1/projects").await.ok();
    app.flush_usage().await;
    // The last use is recorded to the minute, so the session may last a minute longer, but never ends early.
    app.clock.advance(12 * HOUR + Duration::from_secs(61));
    let problem = user.get("/v1/sessions").await.problem(401, "token_expired");
    assert!(problem["detail"].as_str().unwrap().contains("12 hours"), "{problem}");
    // A rejected request does not renew it.
    app.flush_usage().await;
    user.get("/v1/sessions").await.problem(401, "token_expired");
}

#[tokio::test]
async fn session_list_shows_last_use_and_omits_idle_sessions() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.set_password(&user, PASSWORD).await;
    let unused = another_session(&app, &user).await;
    assert_eq!(user.get("/v1/sessions").await.ok()["data"][1]["last_used_at"], json!(null));
    let used = app.clock.now().minute();
    unused.get("/v1/sessions").await.ok();
    let until = app.clock.now().minute();
    app.flush_usage().await;
    let noted = user.get("/v1/sessions").await.ok()["data"][1]["last_used_at"].clone();
    assert!([used.to_string(), until.to_string()].map(Into::into).contains(&noted), "{noted}");

    app.clock.advance(8 * HOUR);
    assert_eq!(listed(&user).await, [user.id.as_str(), unused.id.as_str()]);
    app.flush_usage().await;
    app.clock.advance(8 * HOUR);
    assert_eq!(listed(&user).await, [user.id.as_str()]);
    // Idle sessions are not counted among those that a password change revokes.
    let change = json!({ "current_password": PASSWORD, "new_password": "a better password" });
    assert_eq!(user.post("/v1/users/me/password", change).await.ok()["sessions_revoked"], 0);
}
