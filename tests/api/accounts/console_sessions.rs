//! Sessions of the console: their secrets, which are in a cookie, and the proof of identity that some actions need.

use std::time::Duration;

use cloudapi::{
    api::sessions,
    base::{
        identity::{access_policy::AccessPolicy, role::Role, secret::SecretKind},
        input::limit::{LimitSettings, RateLimit},
    },
    server::{routes, state::AppOptions},
};
use serde_json::{Value, json};

use crate::{
    routes::access::in_body,
    support::{
        Bearer, Identity, Session, TestApp,
        app::unknown_secret,
        console::{BROWSER, BROWSER_ADDRESS, Console},
        items::Items,
        trail::sealed,
    },
};

const PASSWORD: &str = "correct horse battery staple";
/// For this long, a proof of identity is recent.
const RECENT: Duration = Duration::from_secs(15 * 60);

/// Signs in to the console with the password. Returns the response.
async fn sign_in(app: &TestApp, user: &Session<'_>) -> Value {
    app.set_password(user, PASSWORD).await;
    let body = json!({ "email": user.email, "password": PASSWORD });
    Console::anonymous(app).post("/v1/sessions", body).await.created()
}

fn browser<'a>(app: &'a TestApp, signed_in: &Value) -> Console<'a> {
    Console::with_secret(app, signed_in["token"].as_str().unwrap())
}

#[tokio::test]
async fn sign_in_to_the_console_creates_a_session_with_its_client() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let signed_in = sign_in(&app, &owner).await;
    assert!(signed_in["token"].as_str().unwrap().starts_with("cbs_"), "{signed_in}");
    let console = browser(&app, &signed_in);
    assert_eq!(console.get("/v1/projects").await.ok()["data"][0]["id"], owner.project);
    let listed = console.get("/v1/sessions?order=desc").await.ok()["data"].clone();
    let expected = (signed_in["id"].clone(), "console", BROWSER, BROWSER_ADDRESS);
    let shown = |name: &str| listed[0][name].as_str().unwrap();
    assert_eq!((listed[0]["id"].clone(), shown("kind"), shown("user_agent"), shown("source_ip")), expected);
    assert_eq!((&listed[1]["kind"], &listed[1]["user_agent"]), (&json!("api"), &Value::Null));

    let body = json!({ "email": owner.email, "password": PASSWORD });
    let request = app.anonymous().request("POST", "/v1/sessions").header("user-agent", "backend/2").json(&body);
    let made = request.send().await.created();
    assert_eq!((&made["kind"], &made["user_agent"]), (&json!("api"), &json!("backend/2")));
    assert_eq!(made["source_ip"], "127.0.0.1");
}

#[tokio::test]
async fn invitation_that_is_accepted_in_the_console_creates_a_console_session() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let body = json!({ "project_id": owner.project, "email": "new@example.com", "role": "viewer" });
    let invited = owner.post("/v1/users", body).await.created();
    let body = json!({ "token": invited["invitation"], "password": PASSWORD });
    let accepted = Console::anonymous(&app).post("/v1/invitations/accept", body).await.created();
    assert_eq!(accepted["kind"], "console");
    browser(&app, &accepted).get(&format!("/v1/projects/{}", owner.project)).await.ok();
}

#[tokio::test]
async fn secret_of_a_console_session_is_an_unknown_credential_without_the_console() {
    let app = TestApp::start().await;
    app.lease().await;
    let owner = app.owner().await;
    let signed_in = sign_in(&app, &owner).await;
    // In the cache.
    browser(&app, &signed_in).get("/v1/projects").await.ok();
    let bearer = |secret: &str| Bearer { app: &app, secret: secret.to_owned() };
    let unknown = bearer(&unknown_secret(SecretKind::Session)).get("/v1/projects").await;
    let expected = unknown.problem(401, "invalid_token")["detail"].clone();
    let reads = format!("{:?}", app.limits.lookups());
    for secret in [signed_in["token"].as_str().unwrap(), &unknown_secret(SecretKind::Console)] {
        let reply = bearer(secret).get("/v1/projects").await;
        assert_eq!(reply.problem(401, "invalid_token")["detail"], expected);
    }
    assert_eq!(format!("{:?}", app.limits.lookups()), reads, "a console secret was looked up");
}

#[tokio::test]
async fn no_route_reads_a_cookie() {
    // One address sends many requests without a credential.
    let limits = LimitSettings { failures: RateLimit::new(10_000, 1), ..LimitSettings::default() };
    let app = TestApp::start_with(AppOptions { limits, ..AppOptions::default() }).await;
    let items = Items::new(&app).await;
    let signed_in = sign_in(&app, &items.owner).await;
    let secrets = [signed_in["token"].as_str().unwrap(), &items.owner.secret, &items.key.secret];
    let names = ["__Host-cloudapi", "cloudapi-8080", "session"];
    let mut wrong = Vec::new();
    for operation in routes::table().operations() {
        if matches!(operation.policy, AccessPolicy::Public | AccessPolicy::SignIn) {
            continue;
        }
        let path = items.path(operation).await;
        for secret in secrets {
            let cookies = names.map(|name| format!("{name}={secret}")).join("; ");
            let request = app.anonymous().request(operation.method.as_str(), &path).header("cookie", &cookies);
            let reply = request.send().await;
            if (reply.status, reply["code"].as_str()) != (401, Some("missing_credentials")) {
                wrong.push(format!("{}: {} {}", operation.name(), reply.status, reply["code"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn console_session_ends_on_every_server_before_the_response() {
    let app = TestApp::start().await;
    let peer = app.start_peer(AppOptions::default()).await;
    for server in [&app, &peer] {
        server.lease().await;
    }
    let owner = app.owner().await;
    for ending in ["DELETE /v1/sessions/current", "DELETE of an API session", "password"] {
        let signed_in = sign_in(&app, &owner).await;
        let (here, there) = (browser(&app, &signed_in), browser(&peer, &signed_in));
        for console in [&here, &there] {
            console.get("/v1/projects").await.ok();
        }
        match ending {
            "DELETE /v1/sessions/current" => drop(here.delete("/v1/sessions/current").await.ok()),
            "password" => {
                let body = json!({ "current_password": PASSWORD, "new_password": "a better password" });
                owner.post("/v1/users/me/password", body).await.ok();
            }
            _ => drop(owner.delete(&format!("/v1/sessions/{}", signed_in["id"].as_str().unwrap())).await.ok()),
        }
        for console in [&here, &there] {
            console.get("/v1/projects").await.problem(401, "token_revoked");
        }
    }
}

#[tokio::test]
async fn requests_of_the_console_renew_the_session_and_are_not_usage() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let signed_in = sign_in(&app, &owner).await;
    let console = browser(&app, &signed_in);
    let users = format!("/v1/users?project_id={}", owner.project);
    for _ in 0..3 {
        app.clock.advance(Duration::from_secs(7 * 3600));
        console.get(&users).await.ok();
        app.flush_usage().await;
    }
    console.get(&users).await.ok();
    let other = app.another_session(&owner).await;
    other.get(&users).await.ok();
    app.flush_usage().await;
    let usage = other.get(&format!("/v1/usage/breakdown?project_id={}&group_by=route", owner.project)).await.ok();
    let rows = usage["data"].as_array().unwrap();
    let counted: Vec<&Value> = rows.iter().filter(|row| row["route"] == "GET /v1/users").collect();
    assert_eq!((counted.len(), &counted[0]["requests"]), (1, &json!(1)), "{usage}");
    app.clock.advance(Duration::from_secs(13 * 3600));
    console.get(&users).await.problem(401, "token_expired");
}

#[tokio::test]
async fn routes_that_hand_out_access_need_a_recent_proof_of_identity_in_the_console() {
    let app = TestApp::start().await;
    let items = Items::new(&app).await;
    let signed_in = sign_in(&app, &items.owner).await;
    let console = browser(&app, &signed_in);
    app.clock.advance(RECENT);
    let mut marked = Vec::new();
    for operation in routes::table().operations() {
        let is_open = matches!(operation.policy, AccessPolicy::Public | AccessPolicy::SignIn);
        let ends_itself = operation.path == "/v1/sessions/current";
        let is_for_sessions = operation.policy.kinds().contains(&SecretKind::Session);
        if is_open || ends_itself || !is_for_sessions {
            continue;
        }
        let path = items.path(operation).await;
        let body = match operation.body {
            Some(_) if in_body(operation) => json!({ "project_id": items.owner.project }),
            Some(_) => json!({}),
            None => Value::Null,
        };
        let reply = console.send(operation.method.as_str(), &path, &body).await;
        if reply["code"] == "reauthentication_required" {
            let detail = reply.problem(403, "reauthentication_required")["detail"].clone();
            assert!(detail.as_str().unwrap().contains("POST /v1/sessions/current/reauthenticate"), "{detail}");
            marked.push(operation.name());
        }
        // A session that is not in a browser does not need it.
        let request = items.request(operation, &items.path(operation).await);
        let reply = if body.is_null() { request.send().await } else { request.json(&body).send().await };
        assert_ne!(reply["code"], "reauthentication_required", "{}", operation.name());
    }
    marked.sort();
    assert_eq!(
        marked,
        [
            "PATCH /v1/users/{user_id}",
            "POST /v1/keys",
            "POST /v1/keys/{key_id}/rotate",
            "POST /v1/tokens",
            "POST /v1/users",
            "POST /v1/webhooks",
            "POST /v1/webhooks/{webhook_id}/rotate-secret",
        ]
    );
}

#[tokio::test]
async fn password_confirms_the_user_of_one_session_on_every_server() {
    let app = TestApp::start().await;
    let peer = app.start_peer(AppOptions::default()).await;
    let owner = app.owner().await;
    let (one, other) = (sign_in(&app, &owner).await, sign_in(&app, &owner).await);
    let (here, there, other) = (browser(&app, &one), browser(&peer, &one), browser(&app, &other));
    let key = json!({ "project_id": owner.project });
    there.post("/v1/keys", key.clone()).await.created();
    app.clock.advance(RECENT);
    for console in [&here, &there] {
        console.post("/v1/keys", key.clone()).await.problem(403, "reauthentication_required");
    }
    let path = "/v1/sessions/current/reauthenticate";
    here.post(path, json!({ "password": "wrong" })).await.problem(422, "invalid_current_password");
    there.post("/v1/keys", key.clone()).await.problem(403, "reauthentication_required");
    let confirmed = here.post(path, json!({ "password": PASSWORD })).await.ok();
    assert_eq!((&confirmed["id"], &confirmed["created_at"]), (&one["id"], &one["created_at"]));
    assert_ne!(confirmed["authenticated_at"], one["authenticated_at"]);
    for console in [&here, &there] {
        console.post("/v1/keys", key.clone()).await.created();
    }
    other.post("/v1/keys", key).await.problem(403, "reauthentication_required");
    let recorded = sealed(&app.db).await;
    let outcomes: Vec<&Value> = recorded
        .iter()
        .filter(|entry| entry["action"] == "session.reauthenticated")
        .map(|entry| &entry["outcome"])
        .collect();
    assert_eq!(outcomes, ["failed", "success"]);
}

#[tokio::test]
async fn only_a_link_of_the_same_user_confirms_a_session() {
    let app = TestApp::start().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    let link = async |user: &Session<'_>| {
        let mut db = app.db.acquire().await.unwrap();
        let link = sessions::links::issue(&mut db, user.user_id, app.clock.now()).await.unwrap();
        json!({ "sign_in_link": link.expose() })
    };
    let signed_in = Console::anonymous(&app).post("/v1/sessions", link(&owner).await).await.created();
    let console = browser(&app, &signed_in);
    let key = json!({ "project_id": owner.project });
    // A link is a recent proof.
    console.post("/v1/keys", key.clone()).await.created();
    app.clock.advance(RECENT);
    let path = "/v1/sessions/current/reauthenticate";
    // The account has no password.
    let problem = console.post(path, json!({ "password": PASSWORD })).await.problem(422, "invalid_current_password");
    assert!(problem["detail"].as_str().unwrap().contains("sign_in_link"), "{problem}");
    let foreign = link(&stranger).await;
    assert_eq!(console.post(path, foreign.clone()).await.invalid_member().0, "#/sign_in_link");
    console.post("/v1/keys", key.clone()).await.problem(403, "reauthentication_required");
    // The refused link is not used up.
    app.anonymous().post("/v1/sessions", foreign).await.created();
    let own = link(&owner).await;
    console.post(path, own.clone()).await.ok();
    console.post("/v1/keys", key).await.created();
    assert_eq!(console.post(path, own).await.invalid_member().0, "#/sign_in_link");
    let both = json!({ "password": "x", "sign_in_link": unknown_secret(SecretKind::SignInLink) });
    assert_eq!(console.post(path, both).await.invalid_member().0, "#/sign_in_link");
    assert_eq!(console.post(path, json!({})).await.invalid_member().0, "#/password");
}

#[tokio::test]
async fn profile_shows_the_user_the_session_and_the_memberships() {
    let app = TestApp::start().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let viewer = app.member(&owner, Role::Viewer).await;
    let body = json!({ "project_id": other.project, "email": viewer.email, "role": "admin" });
    other.post("/v1/users", body).await.created();
    let profile = viewer.get("/v1/users/me").await.ok();
    let expected = json!({
        "id": viewer.user_id.to_string(), "email": viewer.email, "has_password": false, "has_more_memberships": false,
        "memberships": [{
            "project_id": owner.project, "project_name": "A project", "project_status": "active", "role": "viewer",
        }],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(profile[name], *value, "{name}");
    }
    assert_eq!((&profile["session"]["id"], &profile["session"]["kind"]), (&json!(viewer.id), &json!("api")));
    app.set_password(&viewer, PASSWORD).await;
    assert_eq!(viewer.get("/v1/users/me").await.ok()["has_password"], true);
    // A user without memberships.
    assert_eq!(app.user().await.get("/v1/users/me").await.ok()["memberships"], json!([]));
    owner.key().await.get("/v1/users/me").await.problem(403, "credential_kind_not_allowed");
}
