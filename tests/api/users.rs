//! `/v1/users`.

use cloudapi::base::{role::Role, secret::SecretKind};
use serde_json::json;
use unicode_normalization::UnicodeNormalization;

use crate::support::{Bearer, Identity, Reply, Session, TestApp, app::stray_secret};

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

const PASSWORD: &str = "correct horse battery staple";

async fn invite(inviter: &Session<'_>, email: &str, role: &str) -> serde_json::Value {
    let body = json!({ "project_id": inviter.project, "email": email, "role": role });
    inviter.post("/v1/users", body).await.created()
}

async fn accept(app: &TestApp, invited: &serde_json::Value, password: &str) -> Reply {
    let body = json!({ "token": invited["invitation"], "password": password });
    app.nobody().post("/v1/invitations/accept", body).await
}

#[tokio::test]
async fn an_invited_user_is_listed_and_becomes_a_member_by_accepting() {
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
    app.nobody().post("/v1/sessions", signed_in).await.created();

    // From now on the member has the account's id, and the invitation's names nothing.
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
async fn who_is_only_invited_may_do_nothing_yet() {
    let app = TestApp::start().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let invited = invite(&owner, &other.email, "admin").await;
    assert_ne!(invited["id"], other.user_id.to_string());
    other.get(&format!("/v1/projects/{}", owner.project)).await.problem(404, "not_found");
    other.post("/v1/keys", json!({ "project_id": owner.project })).await.problem(404, "not_found");
    assert_eq!(other.get("/v1/projects").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_invitation_works_once_while_it_is_open_and_for_a_week() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let used = invite(&owner, "a@example.com", "viewer").await;
    accept(&app, &used, PASSWORD).await.created();
    accept(&app, &used, PASSWORD).await.problem(409, "invalid_state");

    let withdrawn = invite(&owner, "b@example.com", "viewer").await;
    let path = format!("/v1/users/{}?project_id={}", withdrawn["id"].as_str().unwrap(), owner.project);
    owner.delete(&path).await.ok();
    accept(&app, &withdrawn, PASSWORD).await.problem(409, "invalid_state");
    // Invited again, the first invitation stays dead.
    let again = invite(&owner, "b@example.com", "viewer").await;
    accept(&app, &withdrawn, PASSWORD).await.problem(409, "invalid_state");
    accept(&app, &again, PASSWORD).await.created();

    let expired = invite(&owner, "c@example.com", "viewer").await;
    app.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600 + 1));
    accept(&app, &expired, PASSWORD).await.problem(409, "invalid_state");

    let unknown = json!({ "invitation": stray_secret(SecretKind::Invitation) });
    accept(&app, &unknown, PASSWORD).await.problem(404, "not_found");
    for junk in ["inv_junk", "sk_live_x", "x"] {
        let reply = accept(&app, &json!({ "invitation": junk }), PASSWORD).await;
        assert_eq!(reply.invalid_member(), ("#/token".into(), "invalid_format".into()));
    }
}

#[tokio::test]
async fn an_invitation_opens_no_account_that_there_is_already() {
    let app = TestApp::start().await;
    let (owner, known, without_password) = (app.owner().await, app.owner().await, app.owner().await);
    app.set_password(&known, PASSWORD).await;
    let invited = invite(&owner, &known.email, "viewer").await;
    accept(&app, &invited, "another password of mine").await.problem(401, "invalid_credentials");
    app.nobody().post("/v1/sessions", json!({ "email": known.email, "password": PASSWORD })).await.created();
    accept(&app, &invited, PASSWORD).await.created();
    known.get(&format!("/v1/projects/{}", owner.project)).await.ok();
    // The operator has made this one, without a password: whoever invites them does not get to set one.
    let invited = invite(&owner, &without_password.email, "viewer").await;
    accept(&app, &invited, PASSWORD).await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn a_new_users_password_has_12_to_128_characters() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let invited = invite(&owner, "a@example.com", "viewer").await;
    assert_eq!(accept(&app, &invited, "elevenchars").await.invalid_member(), ("#/password".into(), "too_short".into()));
    let longest = "éèê ëœæøñ".repeat(15).chars().take(128).collect::<String>();
    let long = format!("{longest}x");
    assert_eq!(accept(&app, &invited, &long).await.invalid_member(), ("#/password".into(), "too_long".into()));
    accept(&app, &invited, &longest).await.created();
    // However the keyboard composes it.
    let decomposed = json!({ "email": "a@example.com", "password": longest.nfd().collect::<String>() });
    app.nobody().post("/v1/sessions", decomposed).await.created();
}

#[tokio::test]
async fn an_invitation_accepted_twice_at_the_same_time_is_accepted_once() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let invited = invite(&owner, "a@example.com", "viewer").await;
    let (a, b) = tokio::join!(accept(&app, &invited, PASSWORD), accept(&app, &invited, PASSWORD));
    let statuses = [a.status, b.status];
    assert!(statuses.contains(&201) && (statuses.contains(&409) || statuses.contains(&401)), "{statuses:?}");
}

#[tokio::test]
async fn whoever_is_in_a_project_or_invited_to_it_is_not_invited_again() {
    let app = TestApp::start().await;
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
    // Addresses are not only ASCII, and two spellings of one are one.
    for (email, status) in [("JOSE\u{301}@example.com", 201), ("josé@example.com", 409)] {
        let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
        let reply = owner.post("/v1/users", body).await;
        assert_eq!(reply.status, status, "{}", reply.json());
    }
    let body = json!({ "project_id": owner.project, "email": "b@example.com", "role": "king" });
    assert_eq!(owner.post("/v1/users", body).await.invalid_member(), ("#/role".into(), "unknown_value".into()));
}

#[tokio::test]
async fn nobody_gives_or_takes_a_role_above_their_own() {
    let app = TestApp::start().await;
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
async fn the_last_owner_stays_one() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    invite(&owner, "a@example.com", "owner").await; // Does not count until it is accepted.
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
async fn of_two_last_owners_who_demote_each_other_at_the_same_time_one_stays() {
    let app = TestApp::start().await;
    for round in 0..8 {
        let a = app.owner().await;
        let b = app.member(&a, Role::Owner).await;
        let path = |user: &Session<'_>| format!("/v1/users/{}?project_id={}", user.user_id, a.project);
        let (of_a, of_b) = (path(&a), path(&b));
        let demoted = json!({ "role": "viewer" });
        // Each the other, each themself, and one of each kind of change.
        let (one, other) = match round % 4 {
            0 => tokio::join!(a.patch(&of_b, demoted.clone()), b.patch(&of_a, demoted.clone())),
            1 => tokio::join!(a.patch(&of_a, demoted.clone()), b.patch(&of_b, demoted.clone())),
            2 => tokio::join!(a.delete(&of_b), b.delete(&of_a)),
            _ => tokio::join!(a.delete(&of_a), b.patch(&of_b, demoted.clone())),
        };
        let statuses = [one.status, other.status];
        assert!(statuses.contains(&200), "{statuses:?}");
        // Refused as the last owner, or no longer there to ask at all.
        assert!(statuses.iter().any(|status| matches!(status, 403 | 404 | 409)), "{statuses:?}");
    }
}

#[tokio::test]
async fn a_removed_user_sees_the_project_no_more_and_what_they_issued_there_is_dead() {
    let app = TestApp::start().await;
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
    // Let in again, they start anew.
    app.set_password(&admin, PASSWORD).await;
    let invited = invite(&owner, &admin.email, "admin").await;
    accept(&app, &invited, PASSWORD).await.created();
    token.get("/v1/users").await.problem(401, "token_revoked");
}

#[tokio::test]
async fn users_are_listed_by_role() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let viewer = app.member(&owner, Role::Viewer).await;
    let listed = owner.key().await.get("/v1/users?role=viewer").await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["id"], viewer.user_id.to_string());
    owner.key().await.get("/v1/users?role=king").await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn a_changed_password_ends_every_other_session() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.set_password(&user, PASSWORD).await;
    let signed_in = json!({ "email": user.email, "password": PASSWORD });
    let other = app.nobody().post("/v1/sessions", signed_in.clone()).await.created();
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
    app.nobody().post("/v1/sessions", signed_in).await.problem(401, "invalid_credentials");
    let better = json!({ "email": user.email, "password": "a better password" });
    app.nobody().post("/v1/sessions", better).await.created();
}

#[tokio::test]
async fn a_user_without_a_password_cannot_change_it() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let body = json!({ "current_password": "", "new_password": "a long enough one" });
    user.post("/v1/users/me/password", body).await.problem(422, "invalid_current_password");
    let key = app.owner().await.key().await;
    let body = json!({ "current_password": "x", "new_password": "a long enough one" });
    key.post("/v1/users/me/password", body).await.problem(403, "credential_kind_not_allowed");
}

#[tokio::test]
async fn an_address_with_a_character_that_nobody_sees_is_none() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    // A space without width, a byte order mark, a soft hyphen, and one that turns the writing round.
    for unseen in ['\u{200b}', '\u{feff}', '\u{ad}', '\u{202e}'] {
        for email in [format!("{unseen}ada@example.com"), format!("ada{unseen}@example.com")] {
            let body = json!({ "project_id": owner.project, "email": email, "role": "viewer" });
            let fault = owner.post("/v1/users", body).await.invalid_member();
            assert_eq!(fault, ("#/email".into(), "invalid_format".into()), "{email:?}");
        }
    }
}
