//! One-time sign-in links.

use std::time::Duration;

use cloudapi::{api::sessions::links, base::identity::secret::SecretKind};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Bearer, Identity, Session, TestApp, app::unknown_secret, console::Console, trail::sealed};

const PASSWORD: &str = "correct horse battery staple";

async fn link(app: &TestApp, user: &Session<'_>) -> String {
    let mut db = app.db.acquire().await.unwrap();
    let link = links::issue(&mut db, user.user_id, app.clock.now()).await.unwrap();
    app.leak_detector.record(link.expose());
    link.expose().to_owned()
}

fn body(link: &str) -> Value {
    json!({ "sign_in_link": link })
}

async fn session_count(app: &TestApp, user: &Session<'_>) -> usize {
    user.app.another_session(user).await;
    let listed = Bearer { app, secret: user.secret.clone() }.get("/v1/sessions?limit=100").await.ok();
    listed["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn link_signs_its_user_in_once() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let used = link(&app, &user).await;
    let made = app.anonymous().post("/v1/sessions", body(&used)).await.created();
    assert_eq!((&made["user"]["email"], &made["kind"]), (&json!(user.email), &json!("api")));
    Bearer { app: &app, secret: made["token"].as_str().unwrap().into() }.get("/v1/projects").await.ok();
    let made = Console::anonymous(&app).post("/v1/sessions", body(&link(&app, &user).await)).await.created();
    assert_eq!(made["kind"], "console");

    let again = app.anonymous().post("/v1/sessions", body(&used)).await.problem(401, "invalid_credentials");
    let unknown = body(&unknown_secret(SecretKind::SignInLink));
    let unknown = app.anonymous().post("/v1/sessions", unknown).await.problem(401, "invalid_credentials");
    assert_eq!(again["detail"], unknown["detail"]);
    let recorded = sealed(&app.db).await;
    let created: Vec<&Value> = recorded.iter().filter(|entry| entry["action"] == "session.created").collect();
    assert_eq!(created.iter().filter(|entry| entry["changes"]["sign_in_link"] == true).count(), 2);
    assert_eq!(recorded.iter().filter(|entry| entry["action"] == "session.refused").count(), 2);
}

#[tokio::test]
async fn link_that_is_sent_many_times_at_once_creates_one_session() {
    let app = TestApp::start().await;
    let peer = app.start_peer(cloudapi::server::state::AppOptions::default()).await;
    let user = app.user().await;
    let before = session_count(&app, &user).await;
    for round in 0..5 {
        let link = body(&link(&app, &user).await);
        let servers = [&app, &peer].into_iter().cycle().take(6);
        let replies = join_all(servers.map(async |server| server.anonymous().post("/v1/sessions", link.clone()).await));
        let mut statuses: Vec<u16> = replies.await.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 401, 401, 401, 401, 401]);
        // Each count adds one.
        assert_eq!(session_count(&app, &user).await, before + 2 * (round + 1));
    }
}

#[tokio::test]
async fn link_expires_after_an_hour_and_with_a_change_of_the_password() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let (early, late) = (link(&app, &user).await, link(&app, &user).await);
    app.clock.advance(links::LIFETIME - Duration::from_secs(60));
    app.anonymous().post("/v1/sessions", body(&early)).await.created();
    app.clock.advance(Duration::from_secs(60));
    app.anonymous().post("/v1/sessions", body(&late)).await.problem(401, "invalid_credentials");

    app.set_password(&user, PASSWORD).await;
    let link = link(&app, &user).await;
    let change = json!({ "current_password": PASSWORD, "new_password": "a better password" });
    user.post("/v1/users/me/password", change).await.ok();
    app.anonymous().post("/v1/sessions", body(&link)).await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn sign_in_takes_either_a_link_or_an_address_and_a_password() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.set_password(&user, PASSWORD).await;
    let link = link(&app, &user).await;
    for mixed in [
        json!({ "sign_in_link": link, "email": user.email, "password": PASSWORD }),
        json!({ "sign_in_link": link, "email": user.email }),
        json!({ "sign_in_link": link, "password": PASSWORD }),
    ] {
        assert_eq!(app.anonymous().post("/v1/sessions", mixed).await.invalid_member().0, "#/sign_in_link");
    }
    let email_only = app.anonymous().post("/v1/sessions", json!({ "email": user.email })).await;
    assert_eq!(email_only.invalid_member(), ("#/password".into(), "required".into()));
    for junk in ["", "lnk_", &user.secret, &link[1..]] {
        let reply = app.anonymous().post("/v1/sessions", body(junk)).await;
        assert_eq!(reply.invalid_member(), ("#/sign_in_link".into(), "invalid_format".into()));
    }
    // Nothing of that has used it up. A link is not a credential, and the log does not contain the address of its page.
    Bearer { app: &app, secret: link.clone() }.get("/v1/projects").await.problem(401, "invalid_token");
    app.http.get(format!("{}/console/sign-in?link={link}", app.url)).send().await.unwrap();
    app.anonymous().post("/v1/sessions", body(&link)).await.created();
}

#[tokio::test]
async fn link_takes_the_place_of_a_forgotten_password() {
    let app = TestApp::start().await;
    // Without a password, and with one.
    for password in [None, Some(PASSWORD)] {
        let user = app.user().await;
        if let Some(password) = password {
            app.set_password(&user, password).await;
        }
        let other = app.another_session(&user).await;
        let (used, unused) = (link(&app, &user).await, link(&app, &user).await);
        let new = "a new password to remember";
        let change = json!({ "sign_in_link": used, "new_password": new });
        assert_eq!(user.post("/v1/users/me/password", change.clone()).await.ok()["sessions_revoked"], 1);
        other.get("/v1/projects").await.problem(401, "token_revoked");
        let sign_in = json!({ "email": user.email, "password": new });
        app.anonymous().post("/v1/sessions", sign_in).await.created();
        // It is used up, and the change has ended all others.
        let again = user.post("/v1/users/me/password", change).await.invalid_member();
        assert_eq!(again, ("#/sign_in_link".into(), "invalid_format".into()));
        app.anonymous().post("/v1/sessions", body(&unused)).await.problem(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn password_is_not_changed_with_the_link_of_another_user() {
    let app = TestApp::start().await;
    let (user, other) = (app.user().await, app.user().await);
    let foreign = link(&app, &other).await;
    let change = json!({ "sign_in_link": foreign, "new_password": "a new password to remember" });
    let refused = user.post("/v1/users/me/password", change).await.invalid_member();
    assert_eq!(refused, ("#/sign_in_link".into(), "invalid_format".into()));
    // A weak password, or two proofs, do not use up a link.
    let own = link(&app, &user).await;
    let weak = json!({ "sign_in_link": own, "new_password": "passwordpassword" });
    assert_eq!(user.post("/v1/users/me/password", weak).await.invalid_member().0, "#/new_password");
    let both = json!({ "sign_in_link": own, "current_password": "x", "new_password": "a new password to remember" });
    assert_eq!(user.post("/v1/users/me/password", both).await.invalid_member().0, "#/sign_in_link");
    let neither = json!({ "new_password": "a new password to remember" });
    assert_eq!(user.post("/v1/users/me/password", neither).await.invalid_member().0, "#/current_password");
    for unused in [foreign, own] {
        app.anonymous().post("/v1/sessions", body(&unused)).await.created();
    }
}

#[tokio::test]
async fn link_sets_a_new_password_at_the_sign_in() {
    let app = TestApp::start().await;
    let user = app.user().await;
    app.set_password(&user, PASSWORD).await;
    let link = link(&app, &user).await;
    let with = |password: &str| json!({ "sign_in_link": link, "new_password": password });
    let weak = app.anonymous().post("/v1/sessions", with("123456789012")).await;
    assert_eq!(weak.invalid_member().0, "#/new_password");
    let new = "a new password to remember";
    let made = app.anonymous().post("/v1/sessions", with(new)).await.created();
    Bearer { app: &app, secret: made["token"].as_str().unwrap().into() }.get("/v1/projects").await.ok();
    user.get("/v1/projects").await.problem(401, "token_revoked");
    app.anonymous().post("/v1/sessions", with(new)).await.problem(401, "invalid_credentials");
    let with_password = json!({ "email": user.email, "password": PASSWORD });
    app.anonymous().post("/v1/sessions", with_password).await.problem(401, "invalid_credentials");
    let with_password = json!({ "email": user.email, "password": new, "new_password": "another new password" });
    assert_eq!(app.anonymous().post("/v1/sessions", with_password).await.invalid_member().0, "#/new_password");
    app.anonymous().post("/v1/sessions", json!({ "email": user.email, "password": new })).await.created();
    let recorded = sealed(&app.db).await;
    let changed: Vec<&Value> = recorded.iter().filter(|entry| entry["action"] == "user.password_changed").collect();
    assert_eq!((changed.len(), &changed[0]["actor"]["id"]), (1, &json!(user.user_id.to_string())));
}
