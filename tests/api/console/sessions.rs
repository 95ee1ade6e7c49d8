//! Signing in and out, and the session cookie.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Bearer, Identity, TestApp,
    browser::{Browser, PASSWORD, hidden, text},
};

#[tokio::test]
async fn session_cookie_is_strict_and_out_of_reach_of_scripts() {
    let app = TestApp::start().await;
    let user = app.owner().await;
    app.set_password(&user, PASSWORD).await;
    let browser = Browser::new(&app);
    let reply = browser.sign_in(&user.email, PASSWORD).await;
    let port = app.url.rsplit(':').next().unwrap();
    let cookie = reply.header("set-cookie").unwrap();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert!(value.starts_with(&format!("cloudapi-{port}=cbs_")), "{cookie}");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console")));
}

#[tokio::test]
async fn session_cookie_is_no_bearer_credential() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let (_, secret) = browser.session_cookie().unwrap();
    Bearer { app: &app, secret }.get("/v1/projects").await.problem(401, "invalid_token");
}

#[tokio::test]
async fn wrong_password_is_rejected_without_saying_which_part_is_wrong() {
    let app = TestApp::start().await;
    let user = app.owner().await;
    app.set_password(&user, PASSWORD).await;
    let browser = Browser::new(&app);
    let mut pages = Vec::new();
    for (email, password) in [(user.email.as_str(), "wrong"), ("nobody@example.com", "wrong"), ("", "")] {
        let reply = browser.sign_in(email, password).await;
        assert_eq!((reply.status, browser.session_cookie()), (401, None));
        let page = text(&reply);
        assert!(page.contains("The email address or the password is wrong"), "{page}");
        pages.push(page.replace(email, ""));
    }
    assert_eq!(pages[0], pages[1]);
}

#[tokio::test]
async fn signing_in_always_makes_a_new_session() {
    let app = TestApp::start().await;
    let (browser, user) = Browser::owner(&app).await;
    let (name, first) = browser.session_cookie().unwrap();
    // An attacker who sets a cookie does not know the secret of the session that follows.
    browser.sign_in(&user.email, PASSWORD).await;
    let second = browser.session_cookie().unwrap();
    assert!(second.0 == name && second.1 != first);
}

#[tokio::test]
async fn person_continues_on_the_page_that_needed_a_session() {
    let app = TestApp::start().await;
    let user = app.owner().await;
    app.set_password(&user, PASSWORD).await;
    let browser = Browser::new(&app);
    let path = format!("/console/projects/{}/keys?status=active", user.project);
    let reply = browser.get(&path).await;
    let location = reply.header("location").unwrap().to_owned();
    assert!(reply.status == 303 && location.starts_with("/console/sign-in?return="), "{location}");
    let page = text(&browser.get(&location).await);
    let fields = hidden(&page);
    assert_eq!(fields, [("return".to_owned(), path.clone())]);
    let reply = browser
        .post("/console/sign-in", &[("email", &user.email), ("password", PASSWORD), ("return", &fields[0].1)])
        .await;
    assert_eq!(reply.header("location"), Some(path.as_str()));
}

#[tokio::test]
async fn sign_in_does_not_redirect_to_other_sites() {
    let app = TestApp::start().await;
    let user = app.owner().await;
    app.set_password(&user, PASSWORD).await;
    let browser = Browser::new(&app);
    for target in
        ["//evil.example", "https://evil.example/console", "/\\evil.example", "/console\\..\\evil", "/v1/keys"]
    {
        let fields = [("email", user.email.as_str()), ("password", PASSWORD), ("return", target)];
        let reply = browser.post("/console/sign-in", &fields).await;
        assert_eq!(reply.header("location"), Some("/console"), "{target}");
        let fields = [("theme", "dark"), ("return", target)];
        assert_eq!(browser.post("/console/theme", &fields).await.header("location"), Some("/console"), "{target}");
    }
}

#[tokio::test]
async fn signing_out_ends_the_session_on_every_server() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let (name, secret) = browser.session_cookie().unwrap();
    let reply = browser.post("/console/sign-out", &[]).await;
    assert_eq!((reply.status, reply.header("location")), (303, Some("/console/sign-in")));
    assert_eq!(browser.session_cookie(), None);
    assert!(text(&browser.get("/console/sign-in").await).contains("You are signed out."));
    // A stolen cookie does not work any more, and is removed.
    browser.cookies.lock().unwrap().insert(name, secret);
    let reply = browser.get(&browser.path("")).await;
    assert_eq!((reply.status, browser.session_cookie()), (303, None));
}

#[tokio::test]
async fn signing_out_on_all_devices_ends_every_session() {
    let app = TestApp::start().await;
    let (browser, user) = Browser::owner(&app).await;
    let other = Browser::of(&user).await;
    browser.post("/console/sign-out", &[("everywhere", "1")]).await;
    assert_eq!(other.get(&other.path("")).await.status, 303);
    user.get("/v1/projects").await.problem(401, "token_revoked");
}

#[tokio::test]
async fn expired_session_leads_to_the_sign_in_page() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    app.clock.advance(Duration::from_secs(13 * 3600));
    let reply = browser.get(&browser.path("/keys")).await;
    assert!(reply.status == 303 && reply.header("location").unwrap().starts_with("/console/sign-in?return="));
}

#[tokio::test]
async fn what_was_typed_survives_the_end_of_the_session() {
    let app = TestApp::start().await;
    let (browser, user) = Browser::owner(&app).await;
    let path = browser.path("/keys/new");
    browser.get(&path).await;
    app.clock.advance(Duration::from_secs(13 * 3600));
    let typed = [("name", "bill & \"ing\" <é>"), ("preset", "custom"), ("scopes", "keys:read"), ("expires", "30")];
    let reply = browser.post(&path, &typed).await;
    assert_eq!(reply.status, 401);
    let page = text(&reply);
    assert!(page.contains("what you typed is kept"), "{page}");

    let mut fields = hidden(&page);
    fields.extend([("email".into(), user.email.clone()), ("password".into(), PASSWORD.into())]);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reply = browser.post("/console/sign-in", &fields).await;
    assert_eq!((reply.status, reply.header("location")), (307, Some(path.as_str())));
    // The browser posts the same fields there.
    let page = text(&browser.post(&path, &fields).await);
    assert!(page.contains("value=\"bill &#38; &#34;ing&#34; &#60;é&#62;\""), "{page}");
    assert!(page.contains("value=\"keys:read\" checked"), "{page}");
    assert!(!page.contains(PASSWORD));
    let keys = user.get(&format!("/v1/keys?project_id={}", user.project)).await;
    assert!(keys.status == 401 || keys["data"] == json!([]), "the form was shown and not submitted");
}

#[tokio::test]
async fn key_is_created_after_the_password_was_confirmed() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let path = browser.path("/keys/new");
    app.clock.advance(Duration::from_secs(16 * 60));
    let reply = browser.submit(&path, &[("name", "kept"), ("preset", "read"), ("expires", "never")]).await;
    assert_eq!(reply.status, 403);
    let page = text(&reply);
    assert!(page.contains("Confirm that it is you"), "{page}");
    let typed = hidden(&page).into_iter().find(|(name, _)| name == "_typed").unwrap().1;

    let reply = browser.post(&path, &[("_typed", &typed), ("_password", "wrong password")]).await;
    assert!(reply.status == 403 && text(&reply).contains("The password is wrong"));
    let reply = browser.post(&path, &[("_typed", &typed), ("_password", PASSWORD)]).await;
    let page = text(&reply);
    assert!(reply.status == 200 && page.contains("Key created") && page.contains("kept"), "{page}");
}
