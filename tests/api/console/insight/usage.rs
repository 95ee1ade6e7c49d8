//! Page and file of usage.

use cloudapi::base::{identity::role::Role, runtime::period::Period};
use serde_json::json;

use crate::support::{
    Bearer, Identity, Key, Session, TestApp,
    browser::{Browser, text},
    not_at_midnight,
};

/// A name that is a formula in a spreadsheet, has a delimiter and is markup in a page.
const NAME: &str = "=1+1,<b>\"x\"</b>";

async fn used<'a>(owner: &Session<'a>) -> Key<'a> {
    let key = owner.key_with(json!({ "name": NAME })).await;
    for _ in 0..4 {
        key.get("/v1/keys").await.ok();
    }
    let token = key.token(&["users:read"]).await;
    Bearer { app: owner.app, secret: token.secret.clone() }.get("/v1/users").await.ok();
    owner.app.flush_usage().await;
    key
}

#[tokio::test]
async fn usage_is_shown_by_day_key_token_and_route() {
    not_at_midnight();
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let path = browser.path("/usage");
    assert!(text(&browser.get(&browser.path("/usage?by=token")).await).contains("No requests"));
    let key = used(&owner).await;
    let page = text(&browser.get(&path).await);
    let month = Period::of(app.clock.now().date());
    assert!(page.contains("<svg") && page.contains("Show as a table"), "{page}");
    // Four requests of the key, and one with which it made the token.
    assert!(page.contains("=1+1,&#60;b&#62;") && page.contains("<td class=\"number\">5</td>"), "{page}");
    assert!(page.contains(&format!("href=\"{}\"", browser.path(&format!("/keys/{}", key.id)))));
    assert!(page.contains("Without a key") && page.contains("sessions and tokens") && page.contains("unlimited"));
    assert!(page.contains(&format!("<option value=\"{month}\" selected>")), "{page}");
    assert!(!page.contains("Previous month"), "the project is new");
    let page = text(&browser.get(&format!("{path}?by=token")).await);
    assert!(page.contains("a token") && page.contains("Without a token"), "{page}");
    let page = text(&browser.get(&format!("{path}?by=route")).await);
    assert!(page.contains("<code>GET /v1/keys</code>") && page.contains("aria-current=\"page\">Routes</a>"), "{page}");
    assert!(page.contains("/v1/usage/breakdown?project_id="), "the drawer has the call");
    // A month before the project, and text that is not a month.
    let page = browser.get(&format!("{path}?period=1999-01")).await;
    assert!(page.status == 400 && text(&page).contains("was created in"), "{}", text(&page));
    assert_eq!(browser.get(&format!("{path}?period=%3Cscript%3E&by=x")).await.status, 200);
    // The key's page has its own routes.
    let page = text(&browser.get(&browser.path(&format!("/keys/{}", key.id))).await);
    assert!(page.contains("GET /v1/keys") && page.contains("POST /v1/tokens") && !page.contains("GET /v1/users"));
}

#[tokio::test]
async fn months_can_be_chosen_and_final_ones_say_so() {
    let app = TestApp::start().await;
    let (_, owner) = Browser::owner(&app).await;
    used(&owner).await;
    let month = Period::of(app.clock.now().date());
    app.clock.advance(app.clock.now().until(month.end()) + std::time::Duration::from_secs(3600));
    let browser = Browser::of(&app.another_session(&owner).await).await;
    let page = text(&browser.get(&browser.path("/usage")).await);
    assert!(page.contains("Previous month") && page.contains(&format!("?period={month}&#38;by=key")), "{page}");
    let page = text(&browser.get(&browser.path(&format!("/usage?period={month}"))).await);
    assert!(page.contains("Next month") && page.contains("=1+1"), "{page}");
    assert!(page.contains("grow until 24 hours after the month ends"), "{page}");
}

#[tokio::test]
async fn csv_has_all_groups_and_no_formula() {
    not_at_midnight();
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let key = used(&owner).await;
    let reply = browser.get(&browser.path("/usage/download")).await;
    let (day, month) = (app.clock.now().date(), Period::of(app.clock.now().date()));
    assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let name = format!("attachment; filename=\"usage-{}-{month}.csv\"", owner.project);
    assert_eq!(reply.header("content-disposition"), Some(name.as_str()));
    let file = text(&reply);
    let mut lines = file.split("\r\n");
    assert_eq!(lines.next(), Some("day,key_id,key_name,token_id,token_name,route,requests"));
    let row = format!("{day},{},\"'=1+1,<b>\"\"x\"\"</b>\",,,\"GET /v1/keys\",4", key.id);
    assert!(file.contains(&row), "{row} in {file}");
    assert!(file.contains(",\"a token\",\"GET /v1/users\",1\r\n"), "{file}");
    // All pages of the list are in the file.
    for number in 0..101 {
        let key = owner.key_with(json!({ "name": format!("key {number}") })).await;
        key.get("/v1/keys").await.ok();
    }
    app.flush_usage().await;
    let file = text(&browser.get(&browser.path("/usage/download")).await);
    assert_eq!(file.matches("\"key ").count(), 101, "{file}");
    let page = text(&browser.get(&browser.path("/usage")).await);
    assert!(page.contains("The largest 50 of 103."), "{page}");
    let reply = browser.get(&browser.path("/usage/download?period=1999-01")).await;
    assert!(reply.status == 200 || text(&reply).contains("<html"), "a fault is a page");
}

#[tokio::test]
async fn viewer_sees_usage_and_others_do_not() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let browser = Browser::member(&owner, Role::Viewer).await;
    assert_eq!(browser.get(&browser.path("/usage")).await.status, 200);
    let (stranger, _) = Browser::owner(&app).await;
    for path in ["/usage", "/usage/download"] {
        assert_eq!(stranger.get(&browser.path(path)).await.status, 404);
    }
}
