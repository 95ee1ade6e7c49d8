//! The console, as a browser without scripts sees it.

mod events;
mod forms;
mod headers;
mod keys;
mod origins;
mod problems;
mod sessions;

use cloudapi::console::pages::{Access, TABLE};

use crate::events::trigger_event;
use crate::support::{
    Session, TestApp,
    browser::{Browser, text},
};

/// Paths of all pages that a signed-in person can open, for a project with a key.
async fn pages_of(owner: &Session<'_>) -> Vec<String> {
    let key = owner.key().await;
    let event = trigger_event(owner, &key).await;
    let examples =
        [("{project_id}", &*owner.project), ("{key_id}", &key.id), ("{event_id}", event["id"].as_str().unwrap())];
    let signed_in = TABLE.iter().filter(|page| page.access == Access::SignedIn && page.is_html);
    let path = |path: &str| examples.iter().fold(path.to_owned(), |path, (name, example)| path.replace(name, example));
    let paths: Vec<String> = signed_in.map(|page| path(page.path)).collect();
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
