//! `/v1/users`.

use cloudapi::base::identity::{role::Role, secret::SecretKind};
use serde_json::json;
use unicode_normalization::UnicodeNormalization;

use crate::support::{Bearer, Identity, Reply, Session, TestApp, app::unknown_secret};

#[tokio::test]
async fn users_of_a_project_are_its_members_with_their_roles() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    app.owner().await; // Another user, in another project.
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
async fn session_must_name_the_project() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    owner.get("/v1/users").await.problem(400, "project_required");
    owner.get(&format!("/v1/users/{}", owner.user_id)).await.problem(400, "project_required");
    owner.get(&format!("/v1/users?project_id={}", owner.project)).await.ok();
    owner.get(&format!("/v1/users/{}?project_id={}", owner.user_id, owner.project)).await.ok();
    owner.get("/v1/users?project_id=proj_123").await.problem(404, "not_found");
}

#[tokio::test]
async fn user_of_another_project_is_not_found() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let key = owner.key().await;
    for id in [stranger.user_id.to_string(), "usr_123".into(), "key_123".into(), "mine".into()] {
        key.get(&format!("/v1/users/{id}")).await.problem(404, "not_found");
        owner.get(&format!("/v1/users/{id}?project_id={}", owner.project)).await.problem(404, "not_found");
    }
    // A key may name its own project; any other project is not found.
    key.get(&format!("/v1/users?project_id={}", owner.project)).await.ok();
    key.get(&format!("/v1/users?project_id={}", stranger.project)).await.problem(404, "not_found");
}

#[tokio::test]
async fn credential_without_users_read_is_rejected() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key_with(serde_json::json!({ "scopes": ["usage:read"] })).await;
    let reply = key.get("/v1/users").await;
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"cloudapi\", error=\"insufficient_scope\", scope=\"users:read\"")
    );
    reply.problem(403, "insufficient_scope");
}

const PASSWORD: &str = "correct horse battery staple";

async fn invite(inviter: &Session<'_>, email: &str, role: &str) -> serde_json::Value {
    let body = json!({ "project_id": inviter.project, "email": email, "role": role });
    inviter.post("/v1/users", body).await.created()
}

async fn accept(app: &TestApp, invited: &serde_json::Value, password: &str) -> Reply {
    let body = json!({ "token": invited["invitation"], "password": password });
    app.anonymous().post("/v1/invitations/accept", body).await
}

#[tokio::test]
async fn invited_user_is_listed_and_becomes_a_member_by_accepting() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project, "email": "New@Example.COM", "role": "member" });
    let reply = owner.post("/v1/users", body).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let location = reply.header("location").unwrap().to_owned();
    let mut invited = reply.created();
    assert_eq!(
        (&invited["email"], &invited["role"], &invited["status"]),
        (&json!("new@example.com"), &json!("member"), &json!("invited"))
    );
    assert!(invited["invitation"].as_str().unwrap().starts_with("inv_"));
    assert_eq!(location, format!("/v1/users/{}", invited["id"].as_str().unwrap()));

    let accepted = accept(&app, &invited, PASSWORD).await;
    assert_eq!(accepted.header("cache-control"), Some("no-store"));
    let accepted = accepted.created();
    assert_eq!(accepted["user"]["email"], "new@example.com");
    assert_ne!(accepted["user"]["id"], invited["id"]);
    let session = Bearer { app: &app, secret: accepted["token"].as_str().unwrap().into() };
    assert_eq!(session.get("/v1/projects").await.ok()["data"][0]["id"], owner.project);
    let signed_in = json!({ "email": "new@example.com", "password": PASSWORD });
    app.anonymous().post("/v1/sessions", signed_in).await.created();

    // Now the member has the account's ID, and the invitation's ID is not found.
    let of_project = |id: &str| format!("/v1/users/{id}?project_id={}", owner.project);
    let member = owner.get(&of_project(accepted["user"]["id"].as_str().unwrap())).await.ok();
    invited.as_object_mut().unwrap().remove("invitation");
    invited["id"] = accepted["user"]["id"].clone();
    invited["status"] = json!("active");
    invited["created_at"] = member["created_at"].clone();
    assert_eq!(member, invited);
    owner.get(&format!("{location}?project_id={}", owner.project)).await.problem(404, "not_found");
}

#[tokio::test]
async fn invited_user_has_no_access_before_accepting() {
    let app = TestApp::shared().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let invited = invite(&owner, &other.email, "admin").await;
    assert_ne!(invited["id"], other.user_id.to_string());
    other.get(&format!("/v1/projects/{}", owner.project)).await.problem(404, "not_found");
    other.post("/v1/keys", json!({ "project_id": owner.project })).await.problem(404, "not_found");
    assert_eq!(other.get("/v1/projects").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn invitation_works_once_until_withdrawn_and_for_a_week() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let used = invite(&owner, "a@example.com", "viewer").await;
    accept(&app, &used, PASSWORD).await.created();
    accept(&app, &used, PASSWORD).await.problem(409, "invalid_state");

    let withdrawn = invite(&owner, "b@example.com", "viewer").await;
    let path = format!("/v1/users/{}?project_id={}", withdrawn["id"].as_str().unwrap(), owner.project);
    owner.delete(&path).await.ok();
    accept(&app, &withdrawn, PASSWORD).await.problem(409, "invalid_state");
    // After a new invitation, the first one stays invalid.
    let again = invite(&owner, "b@example.com", "viewer").await;
    accept(&app, &withdrawn, PASSWORD).await.problem(409, "invalid_state");
    accept(&app, &again, PASSWORD).await.created();

    let expired = invite(&owner, "c@example.com", "viewer").await;
    app.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600 + 1));
    accept(&app, &expired, PASSWORD).await.problem(409, "invalid_state");

    let unknown = json!({ "invitation": unknown_secret(SecretKind::Invitation) });
    accept(&app, &unknown, PASSWORD).await.problem(404, "not_found");
    for junk in ["inv_junk", "sk_live_x", "x"] {
        let reply = accept(&app, &json!({ "invitation": junk }), PASSWORD).await;
        assert_eq!(reply.invalid_member(), ("#/token".into(), "invalid_format".into()));
    }
}

#[tokio::test]
async fn invitation_cannot_take_over_an_existing_account() {
    let app = TestApp::shared().await;
    let (owner, known, without_password) = (app.owner().await, app.owner().await, app.owner().await);
    app.set_password(&known, PASSWORD).await;
    let invited = invite(&owner, &known.email, "viewer").await;
    accept(&app, &invited, "another password of mine").await.problem(401, "invalid_credentials");
    app.anonymous().post("/v1/sessions", json!({ "email": known.email, "password": PASSWORD })).await.created();
    accept(&app, &invited, PASSWORD).await.created();
    known.get(&format!("/v1/projects/{}", owner.project)).await.ok();
    // The operator created this account without a password: an invitation must not set one.
    let invited = invite(&owner, &without_password.email, "viewer").await;
    accept(&app, &invited, PASSWORD).await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn password_of_a_new_user_must_have_12_to_128_characters() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let invited = invite(&owner, "a@example.com", "viewer").await;
    assert_eq!(accept(&app, &invited, "elevenchars").await.invalid_member(), ("#/password".into(), "too_short".into()));
    let longest = "éèê ëœæøñ".repeat(15).chars().take(128).collect::<String>();
    let long = format!("{longest}x");
    assert_eq!(accept(&app, &invited, &long).await.invalid_member(), ("#/password".into(), "too_long".into()));
    accept(&app, &invited, &longest).await.created();
    // The Unicode normalization form does not matter.
    let decomposed = json!({ "email": "a@example.com", "password": longest.nfd().collect::<String>() });
    app.anonymous().post("/v1/sessions", decomposed).await.created();
}

#[tokio::test]
async fn concurrent_acceptances_of_an_invitation_succeed_once() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let invited = invite(&owner, "a@example.com", "viewer").await;
    let (a, b) = tokio::join!(accept(&app, &invited, PASSWORD), accept(&app, &invited, PASSWORD));
    let statuses = [a.status, b.status];
    assert!(statuses.contains(&201) && (statuses.contains(&409) || statuses.contains(&401)), "{statuses:?}");
}

#[tokio::test]
async fn members_and_invited_users_cannot_be_invited_again() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    invite(&owner, "a@example.com", "viewer").await;
    for email in ["A@example.com", owner.email.as_str()] {
        let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
        owner.post("/v1/users", body).await.problem(409, "already_member");
    }
    for (email, code) in [("no address", "invalid_format"), ("a@b@c", "invalid_format"), (" ", "invalid_format")] {
        let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
        assert_eq!(owner.post("/v1/users", body).await.invalid_member(), ("#/email".into(), code.into()));
    }
    // Addresses may be non-ASCII, and different normalization forms are equal.
    for (email, status) in [("JOSE\u{301}@example.com", 201), ("josé@example.com", 409)] {
        let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
        let reply = owner.post("/v1/users", body).await;
        assert_eq!(reply.status, status, "{}", reply.json());
    }
    let body = json!({ "project_id": owner.project, "email": "b@example.com", "role": "king" });
    assert_eq!(owner.post("/v1/users", body).await.invalid_member(), ("#/role".into(), "unknown_value".into()));
}

#[tokio::test]
async fn users_cannot_grant_or_remove_a_role_above_their_own() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let (admin, member) = (app.member(&owner, Role::Admin).await, app.member(&owner, Role::Member).await);
    let path = |user: &Session<'_>| format!("/v1/users/{}?project_id={}", user.user_id, owner.project);
    let body = |role: &str| json!({ "project_id": owner.project, "email": "a@example.com", "role": role });
    admin.post("/v1/users", body("owner")).await.problem(403, "role_escalation");
    admin.patch(&path(&member), json!({ "role": "owner" })).await.problem(403, "role_escalation");
    admin.patch(&path(&admin), json!({ "role": "owner" })).await.problem(403, "role_escalation");
    admin.patch(&path(&owner), json!({ "role": "viewer" })).await.problem(403, "role_escalation");
    admin.delete(&path(&owner)).await.problem(403, "role_escalation");
    member.post("/v1/users", body("viewer")).await.problem(403, "insufficient_scope");
    admin.post("/v1/users", body("admin")).await.created();
    assert_eq!(admin.patch(&path(&member), json!({ "role": "admin" })).await.ok()["role"], "admin");
    assert_eq!(owner.patch(&path(&member), json!({ "role": "owner" })).await.ok()["role"], "owner");
}

#[tokio::test]
async fn last_owner_cannot_be_demoted_or_removed() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    invite(&owner, "a@example.com", "owner").await; // Does not count until accepted.
    let path = |user: &Session<'_>| format!("/v1/users/{}?project_id={}", user.user_id, owner.project);
    owner.patch(&path(&owner), json!({ "role": "admin" })).await.problem(409, "last_owner");
    owner.delete(&path(&owner)).await.problem(409, "last_owner");
    owner.patch(&path(&owner), json!({ "role": "owner" })).await.ok();
    owner.patch(&path(&owner), json!({})).await.ok();
    let other = app.member(&owner, Role::Owner).await;
    owner.delete(&path(&owner)).await.ok();
    other.patch(&path(&other), json!({ "role": "viewer" })).await.problem(409, "last_owner");
}

#[tokio::test]
async fn two_last_owners_who_concurrently_demote_each_other_leave_one_owner() {
    let app = TestApp::shared().await;
    for round in 0..8 {
        let a = app.owner().await;
        let b = app.member(&a, Role::Owner).await;
        let path = |user: &Session<'_>| format!("/v1/users/{}?project_id={}", user.user_id, a.project);
        let (of_a, of_b) = (path(&a), path(&b));
        let demoted = json!({ "role": "viewer" });
        // Each demotes the other, each demotes themself, each removes the other, and a mix.
        let (one, other) = match round % 4 {
            0 => tokio::join!(a.patch(&of_b, demoted.clone()), b.patch(&of_a, demoted.clone())),
            1 => tokio::join!(a.patch(&of_a, demoted.clone()), b.patch(&of_b, demoted.clone())),
            2 => tokio::join!(a.delete(&of_b), b.delete(&of_a)),
            _ => tokio::join!(a.delete(&of_a), b.patch(&of_b, demoted.clone())),
        };
        let statuses = [one.status, other.status];
        assert!(statuses.contains(&200), "{statuses:?}");
        // Rejected as the last owner, or no longer a member.
        assert!(statuses.iter().any(|status| matches!(status, 403 | 404 | 409)), "{statuses:?}");
    }
}

#[tokio::test]
async fn removed_user_loses_access_and_their_tokens_are_revoked() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let admin = app.member(&owner, Role::Admin).await;
    let key = admin.key().await;
    let token = admin.token(&["tokens:write", "users:read"]).await;
    let child = token.token(&["users:read"]).await;
    let path = format!("/v1/users/{}?project_id={}", admin.user_id, owner.project);
    assert_eq!(owner.delete(&path).await.ok(), json!({ "id": admin.user_id.to_string(), "removed": true }));
    owner.get(&path).await.problem(404, "not_found");
    admin.get(&format!("/v1/projects/{}", owner.project)).await.problem(404, "not_found");
    token.get("/v1/users").await.problem(401, "token_revoked");
    child.get("/v1/users").await.problem(401, "token_revoked");
    // Keys belong to the project.
    key.get("/v1/users").await.ok();
    // After a new invitation, old tokens stay revoked.
    app.set_password(&admin, PASSWORD).await;
    let invited = invite(&owner, &admin.email, "admin").await;
    accept(&app, &invited, PASSWORD).await.created();
    token.get("/v1/users").await.problem(401, "token_revoked");
}

#[tokio::test]
async fn users_can_be_filtered_by_role() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    let listed = owner.key().await.get("/v1/users?role=viewer").await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["id"], viewer.user_id.to_string());
    owner.key().await.get("/v1/users?role=king").await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn password_change_revokes_every_other_session() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    app.set_password(&user, PASSWORD).await;
    let signed_in = json!({ "email": user.email, "password": PASSWORD });
    let other = app.anonymous().post("/v1/sessions", signed_in.clone()).await.created();
    let other = Bearer { app: &app, secret: other["token"].as_str().unwrap().into() };
    let change = |current: &str, new: &str| {
        user.post("/v1/users/me/password", json!({ "current_password": current, "new_password": new }))
    };
    change("wrong", "a better password").await.problem(422, "invalid_current_password");
    assert_eq!(change(PASSWORD, "too short").await.invalid_member(), ("#/new_password".into(), "too_short".into()));
    other.get("/v1/sessions").await.ok();
    let changed = change(PASSWORD, "a better password").await.ok();
    assert_eq!(changed, json!({ "id": user.user_id.to_string(), "sessions_revoked": 1 }));
    other.get("/v1/sessions").await.problem(401, "token_revoked");
    user.get("/v1/sessions").await.ok();
    app.anonymous().post("/v1/sessions", signed_in).await.problem(401, "invalid_credentials");
    let better = json!({ "email": user.email, "password": "a better password" });
    app.anonymous().post("/v1/sessions", better).await.created();
}

#[tokio::test]
async fn password_change_requires_a_session_and_an_existing_password() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let body = json!({ "current_password": "", "new_password": "a long enough one" });
    user.post("/v1/users/me/password", body).await.problem(422, "invalid_current_password");
    let key = app.owner().await.key().await;
    let body = json!({ "current_password": "x", "new_password": "a long enough one" });
    key.post("/v1/users/me/password", body).await.problem(403, "credential_kind_not_allowed");
}

#[tokio::test]
async fn email_address_with_an_invisible_character_is_invalid() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    // Zero-width space, byte order mark, soft hyphen, right-to-left override.
    for unseen in ['\u{200b}', '\u{feff}', '\u{ad}', '\u{202e}'] {
        for email in [format!("{unseen}ada@example.com"), format!("ada{unseen}@example.com")] {
            let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
            let fault = owner.post("/v1/users", body).await.invalid_member();
            assert_eq!(fault, ("#/email".into(), "invalid_format".into()), "{email:?}");
        }
    }
}
