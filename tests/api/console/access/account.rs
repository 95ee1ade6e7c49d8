//! The account: sessions and password.

use std::time::Duration;

use cloudapi::api::sessions::links;

use crate::support::{
    Identity, Session, TestApp,
    browser::{Browser, PASSWORD, encoded, hidden, text},
};

const NEW: &str = "an entirely new passphrase";

async fn link(app: &TestApp, user: &Session<'_>) -> String {
    let mut db = app.db.acquire().await.unwrap();
    let link = links::issue(&mut db, user.user_id, app.clock.now()).await.unwrap();
    app.leak_detector.record(link.expose());
    link.expose().to_owned()
}

#[tokio::test]
async fn sessions_are_listed_with_device_and_address_and_end() {
    let app = TestApp::start().await;
    let (browser, user) = Browser::owner(&app).await;
    let phone = Browser::new(&app);
    let agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";
    let body = encoded(&[("email", &user.email), ("password", PASSWORD)]);
    let request = phone.request("POST", "/console/sign-in").header("sec-fetch-site", "same-origin");
    phone.send(request.header("user-agent", agent).body(body)).await;
    let page = text(&browser.get("/console/account").await);
    for shown in ["Safari on iPhone", "127.0.0.1", "This session", "Created by the operator", &user.email] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert_eq!(page.matches("This session").count(), 1);
    let row = page.split("<tr>").find(|row| row.contains("Safari on iPhone")).unwrap();
    let id = row.split('"').find(|part| part.starts_with("sess_")).unwrap().to_owned();
    let reply = browser.post("/console/account", &[("session", &id)]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console/account")));
    assert_eq!(phone.get(&browser.path("")).await.status, 303);
    assert!(!text(&browser.get("/console/account").await).contains("Safari on iPhone"));
    // Somebody else's session is not found, and the own one ends on the page that says so.
    let foreign = app.owner().await.id;
    assert_eq!(browser.post("/console/account", &[("session", &foreign)]).await.status, 303);
    assert_eq!(browser.post("/console/account", &[("session", "nonsense")]).await.status, 404);

    let other = Browser::of(&user).await;
    let reply = browser.post("/console/account", &[("others", "1")]).await;
    assert_eq!(reply.status, 303);
    assert_eq!((other.get(&other.path("")).await.status, browser.get(&browser.path("")).await.status), (303, 200));
    user.get("/v1/projects").await.problem(401, "token_revoked");
    assert!(!text(&browser.get("/console/account").await).contains("End all other sessions"));
}

#[tokio::test]
async fn password_is_changed_and_other_sessions_end() {
    let app = TestApp::start().await;
    let (browser, user) = Browser::owner(&app).await;
    let other = Browser::of(&user).await;
    app.leak_detector.record(NEW);
    let path = "/console/account/password";
    let page = text(&browser.get(path).await);
    assert!(page.contains("autocomplete=\"current-password\"") && page.contains("autocomplete=\"new-password\""));
    let change = async |current: &str, new: &str| {
        browser.submit(path, &[("current_password", current), ("new_password", new)]).await
    };
    let reply = change("wrong", NEW).await;
    assert!(reply.status == 422 && text(&reply).contains("id=\"e-current_password\""), "{}", text(&reply));
    assert!(!text(&reply).contains(NEW));
    let reply = change(PASSWORD, "123456789012").await;
    assert!(reply.status == 422 && text(&reply).contains("id=\"e-new_password\""), "{}", text(&reply));
    let reply = change(PASSWORD, NEW).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console/account")), "{}", text(&reply));
    assert_eq!((other.get(&other.path("")).await.status, browser.get(&browser.path("")).await.status), (303, 200));
    assert_eq!(Browser::new(&app).sign_in(&user.email, PASSWORD).await.status, 401);
    assert_eq!(Browser::new(&app).sign_in(&user.email, NEW).await.status, 303);
}

#[tokio::test]
async fn person_without_a_password_sets_one_with_a_link() {
    let app = TestApp::start().await;
    let user = app.owner().await;
    app.leak_detector.record(NEW);
    let browser = Browser::new(&app);
    let reply = browser.post("/console/sign-in", &[("link", &link(&app, &user).await)]).await;
    assert_eq!(reply.status, 303);
    assert!(text(&browser.get("/console/account").await).contains("Set a password"));
    let path = "/console/account/password";
    let page = text(&browser.get(path).await);
    assert!(page.contains(&format!("cloudapi admin console-link --email {}", user.email)), "{page}");
    let reply = browser.submit(path, &[("password_link", "nonsense"), ("new_password", NEW)]).await;
    assert!(reply.status == 422 && text(&reply).contains("id=\"e-password_link\""), "{}", text(&reply));
    let url = format!("{}/console/sign-in?link={}", app.url, link(&app, &user).await);
    let reply = browser.submit(path, &[("password_link", &url), ("new_password", NEW)]).await;
    assert_eq!(reply.status, 303, "{}", text(&reply));
    assert_eq!(Browser::new(&app).sign_in(&user.email, NEW).await.status, 303);
}

#[tokio::test]
async fn forgotten_password_is_replaced_on_the_page_of_a_link() {
    let app = TestApp::start().await;
    let (before, user) = Browser::owner(&app).await;
    app.leak_detector.record(NEW);
    assert!(text(&Browser::new(&app).get("/console/sign-in").await).contains("I forgot my password"));
    let link = link(&app, &user).await;
    let browser = Browser::new(&app);
    let page = text(&browser.get(&format!("/console/sign-in?link={link}")).await);
    assert!(page.contains("Set the password and sign in"), "{page}");
    let set = async |password: &str| {
        let fields = [("link", link.as_str()), ("with", "password"), ("new_password", password)];
        browser.post("/console/sign-in", &fields).await
    };
    let reply = set("short").await;
    let page = text(&reply);
    assert!(reply.status == 422 && page.contains("id=\"e-new_password\"") && page.contains(&link), "{page}");
    let reply = set(NEW).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console")), "{}", text(&reply));
    assert_eq!((browser.get(&before.path("")).await.status, before.get(&before.path("")).await.status), (200, 303));
    assert_eq!(set(NEW).await.status, 401);
    assert_eq!(Browser::new(&app).sign_in(&user.email, NEW).await.status, 303);
}

#[tokio::test]
async fn stolen_cookie_hands_out_no_access_without_the_password() {
    let app = TestApp::start().await;
    let (victim, owner) = Browser::owner(&app).await;
    let member = app.member(&owner, cloudapi::base::identity::role::Role::Viewer).await;
    let (name, cookie) = victim.session_cookie().unwrap();
    let thief = Browser { project: victim.project.clone(), ..Browser::new(&app) };
    thief.cookies.lock().unwrap().insert(name, cookie);
    app.clock.advance(Duration::from_secs(16 * 60));
    let role = format!("/members/{}/role", member.user_id);
    for (path, fields) in [
        ("/keys/new", vec![("name", "n"), ("preset", "full"), ("expires", "never")]),
        ("/tokens/new", vec![("name", "n"), ("preset", "full"), ("expires_in", "3600")]),
        ("/members/invite", vec![("email", "thief@example.com"), ("role", "owner")]),
        (role.as_str(), vec![("role", "owner")]),
    ] {
        let reply = thief.submit(&thief.path(path), &fields).await;
        assert!(reply.status == 403 && text(&reply).contains("Confirm that it is you"), "{path}: {}", text(&reply));
        let typed = hidden(&text(&reply)).into_iter().find(|(name, _)| name == "_typed").unwrap().1;
        let reply = thief.post(&thief.path(path), &[("_typed", &typed), ("_password", "a guess")]).await;
        assert_eq!(reply.status, 403, "{path}");
    }
    let guess = [("current_password", "a guess"), ("new_password", NEW)];
    assert_eq!(thief.submit("/console/account/password", &guess).await.status, 422);
    // The end of the session ends what the thief can do.
    victim.post("/console/sign-out", &[]).await;
    assert_eq!(thief.get(&thief.path("/keys")).await.status, 303);
}
