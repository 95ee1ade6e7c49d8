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
