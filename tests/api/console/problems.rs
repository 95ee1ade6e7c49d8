//! Pages for problems.

use std::time::Duration;

use cloudapi::{
    base::input::limit::{LimitSettings, RateLimit},
    server::state::AppOptions,
};
use serde_json::json;

use crate::support::{
    TestApp,
    browser::{Browser, hidden, text},
};

#[tokio::test]
async fn unknown_address_is_a_page_that_says_what_to_do() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    for path in ["/console/nothing", "/console/projects", "/console/projects/x/y/z"] {
        let reply = browser.get(path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(text(&reply).contains("There is no page at this address"), "{path}");
        assert!(text(&reply).contains("Sign out"), "the page has the navigation");
    }
    let reply = browser.post(&browser.path(""), &[]).await;
    assert_eq!(reply.status, 405);
    let reply = browser.get("/console/projects/proj_1").await;
    assert!(reply.status == 404 && text(&reply).contains("request ID") || text(&reply).contains("Request ID"));
}

#[tokio::test]
async fn rate_limit_is_a_page_that_says_when_to_try_again() {
    let limits = LimitSettings { sign_ins: RateLimit::new(1, 3600), ..LimitSettings::default() };
    let app = TestApp::start_with(AppOptions { limits, ..AppOptions::default() }).await;
    let browser = Browser::new(&app);
    browser.sign_in("a@example.com", "wrong").await;
    let reply = browser.sign_in("a@example.com", "wrong").await;
    let page = text(&reply);
    assert_eq!(reply.status, 429, "{page}");
    assert!(page.contains("Try again in ") && page.contains("Wait a moment"), "{page}");
}

#[tokio::test]
async fn rate_limit_of_a_form_keeps_what_was_typed() {
    let limits = LimitSettings { credentials: Some(RateLimit::new(12, 3600)), ..LimitSettings::default() };
    let app = TestApp::start_with(AppOptions { limits, ..AppOptions::default() }).await;
    let (browser, _) = Browser::owner(&app).await;
    let path = browser.path("/keys/new");
    let fields = [("name", "kept & <safe>"), ("preset", "custom"), ("expires", "never")];
    let limited = loop {
        let reply = browser.post(&path, &fields).await;
        if reply.status != 422 {
            break reply;
        }
    };
    let page = text(&limited);
    assert_eq!(limited.status, 429, "{page}");
    let typed = hidden(&page).into_iter().find(|(name, _)| name == "_typed").unwrap().1;
    assert!(typed.contains("name=kept%20%26%20%3Csafe%3E"), "{typed}");
    app.clock.advance(Duration::from_secs(3600));
    let page = text(&browser.post(&path, &[("_typed", &typed)]).await);
    assert!(page.contains("kept &#38; &#60;safe&#62;") && page.contains("Create a key"), "{page}");
}

#[tokio::test]
async fn pasted_id_opens_its_object() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let key = owner.key_with(json!({ "name": "k" })).await;
    let reply = browser.post("/console/go", &[("q", &key.id)]).await;
    assert_eq!(reply.header("location"), Some(browser.path(&format!("/keys/{}", key.id)).as_str()));
    let reply = browser.post("/console/go", &[("q", &owner.project)]).await;
    assert_eq!(reply.header("location"), Some(browser.path("").as_str()));
    for text_of in ["key_1", "nonsense", "", "key_1/../../x"] {
        assert_eq!(browser.post("/console/go", &[("q", text_of)]).await.status, 404, "{text_of}");
    }
    let page = text(&browser.post("/console/go", &[("q", &key.secret)]).await);
    assert!(page.contains("That is a secret, not an ID") && !page.contains(&key.secret), "{page}");
}
