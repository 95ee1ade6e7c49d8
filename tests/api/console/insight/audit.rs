//! Pages of the audit log.

use cloudapi::base::identity::role::Role;
use serde_json::json;

use crate::support::{
    Identity, Session, TestApp,
    browser::{Browser, text},
    trail::all_sealed,
};

const MARKUP: &str = "<script>alert(1)</script>";

async fn entry(owner: &Session<'_>, action: &str) -> String {
    let path = format!("/v1/audit-logs?project_id={}&action={action}", owner.project);
    owner.get(&path).await.ok()["data"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn log_is_filtered_and_paged() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let mut keys = Vec::new();
    for number in 0..52 {
        keys.push(owner.key_with(json!({ "name": format!("key-{number:02}") })).await);
    }
    all_sealed(&app.db).await;
    let path = browser.path("/audit");
    let page = text(&browser.get(&path).await);
    assert!(page.contains("key-51") && !page.contains("key-00<"), "{page}");
    assert!(page.contains(&owner.email) && page.contains("Next page") && page.contains("127.0.0.1"));
    let page = text(&browser.get(&format!("{path}?action=project.created")).await);
    assert!(page.contains("A project") && !page.contains("key-51"), "{page}");
    let page = text(&browser.get(&format!("{path}?target={}&actor={}", keys[7].id, owner.user_id)).await);
    assert!(page.contains("key-07") && !page.contains("key-08"), "{page}");
    let today = app.clock.now().date();
    let page = text(&browser.get(&format!("{path}?from={today}&to={today}&action=key.created")).await);
    assert!(page.contains("key-51"), "{page}");
    let page = text(&browser.get(&format!("{path}?to=2020-01-01")).await);
    assert!(page.contains("No entry matches") && page.contains("Clear"), "{page}");
    // What the API does not accept is said at the field, and what was typed is kept.
    for query in ["actor=%3Cscript%3Ealert(1)%3C/script%3E", "target=nonsense", "from=2020-01-02&to=2020-01-01"] {
        let reply = browser.get(&format!("{path}?{query}")).await;
        let page = text(&reply);
        assert!(reply.status == 422 && page.contains("class=\"fault\""), "{query}: {page}");
        assert!(!page.contains(MARKUP), "{page}");
    }
    let page = text(&browser.get(&format!("{path}?action=nonsense")).await);
    assert!(page.contains("class=\"fault\""), "{page}");
}

#[tokio::test]
async fn entry_shows_before_and_after_and_where_it_came_from() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let key = owner.key_with(json!({ "name": "before", "metadata": { "team": "a" } })).await;
    let change = json!({ "name": MARKUP, "metadata": { "team": "b" } });
    let change = owner.request("PATCH", &format!("/v1/keys/{}", key.id)).header("user-agent", MARKUP).json(&change);
    let reply = change.send().await;
    let request = reply.header("x-request-id").unwrap().to_owned();
    reply.ok();
    all_sealed(&app.db).await;
    let id = entry(&owner, "key.updated").await;
    let path = browser.path(&format!("/audit/{id}"));
    let page = text(&browser.get(&path).await);
    for shown in [
        "<del>before</del>",
        "<ins>&#60;script&#62;alert(1)&#60;/script&#62;</ins>",
        "metadata.team",
        "<ins>b</ins>",
        "127.0.0.1",
        "&#60;script&#62;",
        request.as_str(),
        owner.email.as_str(),
        "/keys/key_",
        &format!("/audit?target={}", key.id),
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert!(!page.contains(MARKUP), "{page}");
    assert!(page.contains(&format!("GET /v1/audit-logs/{id}")), "the drawer has the call");
    let list = text(&browser.get(&browser.path("/audit")).await);
    assert!(list.contains("&#60;script&#62;") && !list.contains(MARKUP), "{list}");

    let created = entry(&owner, "key.created").await;
    let page = text(&browser.get(&browser.path(&format!("/audit/{created}"))).await);
    assert!(!page.contains("<del>") && page.contains("<ins>before</ins>"), "{page}");
    // Each object of an ID leads back to the trail.
    let key_page = text(&browser.get(&browser.path(&format!("/keys/{}", key.id))).await);
    assert!(key_page.contains(&format!("/audit?target={}", key.id)), "{key_page}");
}

#[tokio::test]
async fn entries_of_other_projects_are_not_found() {
    let app = TestApp::start().await;
    let (browser, _) = Browser::owner(&app).await;
    let other = app.owner().await;
    other.key().await;
    all_sealed(&app.db).await;
    let id = entry(&other, "key.created").await;
    for path in [format!("/audit/{id}"), "/audit/aud_1".into(), "/audit/nonsense".into()] {
        assert_eq!(browser.get(&browser.path(&path)).await.status, 404, "{path}");
    }
    let foreign = format!("/console/projects/{}/audit/{id}", other.project);
    assert_eq!(browser.get(&foreign).await.status, 404);
}

#[tokio::test]
async fn trail_is_signed_and_exported() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    owner.key_with(json!({ "name": "=1+1" })).await;
    all_sealed(&app.db).await;
    let page = text(&browser.get(&browser.path("/audit")).await);
    assert!(page.contains("Not signed yet") && page.contains("/docs/guides/audit"), "{page}");
    let reply = browser.get(&browser.path("/audit/export?format=ndjson")).await;
    let name = format!("attachment; filename=\"audit-{}.ndjson\"", owner.project);
    assert_eq!(reply.header("content-disposition"), Some(name.as_str()));
    let file = text(&reply);
    assert!(file.lines().last().unwrap().starts_with("{\"checkpoint\":"), "{file}");
    let reply = browser.get(&browser.path("/audit/export?format=csv")).await;
    assert!(reply.header("content-type").unwrap().starts_with("text/csv") && text(&reply).starts_with("id,seq,"));
    let reply = browser.get(&browser.path("/audit/export?format=exe")).await;
    assert!(reply.status == 400 && text(&reply).contains("format"), "{}", text(&reply));
}

#[tokio::test]
async fn only_admins_and_owners_read_the_log() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let member = Browser::member(&owner, Role::Member).await;
    assert!(!text(&member.get(&member.path("")).await).contains("/audit\""), "the log is not linked");
    for path in ["/audit", "/audit/export", "/audit/aud_1"] {
        let reply = member.get(&member.path(path)).await;
        assert!([403, 404].contains(&reply.status), "{path}: {}", reply.status);
    }
    let admin = Browser::member(&owner, Role::Admin).await;
    assert!(text(&admin.get(&admin.path("")).await).contains("/audit\""));
    assert_eq!(admin.get(&admin.path("/audit")).await.status, 200);
}
