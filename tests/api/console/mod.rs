//! The console, as a browser without scripts sees it.

mod access;
mod events;
mod forms;
mod headers;
mod insight;
mod keys;
mod origins;
mod problems;
mod resources;
mod sessions;
mod webhooks;

use cloudapi::console::pages::{Access, TABLE};
use serde_json::json;

use crate::events::trigger_event;
use crate::support::{
    Identity, Session, TestApp,
    browser::{Browser, text},
};

/// Name of every object of [`pages_of`], which no page may take for markup.
const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

/// Paths of all pages that a signed-in person can open, for a project with an object of each kind.
async fn pages_of(owner: &Session<'_>) -> Vec<String> {
    let key = owner.key_with(json!({ "name": MARKUP, "metadata": { "<b>k": "<i>v" } })).await;
    let token = json!({ "project_id": owner.project, "name": MARKUP, "scopes": ["users:read"] });
    let token = owner.post("/v1/tokens", token).await.created();
    let volume =
        json!({ "project_id": owner.project, "kind": "storage.volume", "name": "data", "spec": { "size_gib": 20 } });
    let volume = owner.post("/v1/resources", volume).await.accepted();
    let (webhook, delivery) = webhooks::example(owner).await;
    let event = trigger_event(owner, &key).await;
    let entries = owner.get(&format!("/v1/audit-logs?project_id={}", owner.project)).await.ok();
    let signed_in = TABLE.iter().filter(|page| page.access == Access::SignedIn && page.is_html);
    let examples = [
        ("{project_id}", owner.project.as_str()),
        ("{key_id}", &key.id),
        ("{token_id}", token["id"].as_str().unwrap()),
        ("{user_id}", &owner.user_id.to_string()),
        ("{resource_id}", volume["resource"]["id"].as_str().unwrap()),
        ("{operation_id}", volume["operation"]["id"].as_str().unwrap()),
        ("{webhook_id}", &webhook),
        ("{delivery_id}", &delivery),
        ("{event_id}", event["id"].as_str().unwrap()),
        ("{entry_id}", entries["data"][0]["id"].as_str().unwrap()),
    ];
    let filled = |path: &str| examples.iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
    let paths: Vec<String> = signed_in.map(|page| filled(page.path)).collect();
    for path in &paths {
        assert!(!path.contains('{'), "{path}: give the test an example of this parameter");
    }
    paths
}

#[tokio::test]
async fn every_page_of_the_table_is_served() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    for path in pages_of(&owner).await {
        let reply = browser.get(&path).await;
        // With one project, the list of projects leads to it.
        let expected = if path == "/console" { 303 } else { 200 };
        assert_eq!(reply.status, expected, "{path}: {}", text(&reply));
    }
}

#[tokio::test]
async fn pages_are_small() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    for path in pages_of(&owner).await {
        let size = browser.get(&path).await.body.len();
        assert!(size <= 60 * 1024, "{path}: {size} bytes");
    }
}
