//! Events: the list, one event, and the stream that pages follow.

use serde_json::json;

use crate::{
    events::trigger_event,
    support::{
        Identity, Session, TestApp,
        browser::{Browser, text, unescaped},
        stream::EventStream,
    },
};

/// Follows the events of the browser's project, after this event.
async fn follow(browser: &Browser<'_>, after: &str) -> EventStream {
    let request = browser.request("GET", &browser.path("/events/stream")).header("last-event-id", after);
    // It is the stream of the API.
    EventStream::new(request.send().await.unwrap(), "/v1/events/stream").await
}

/// ID of the event of a new key with this name.
async fn event_of(owner: &Session<'_>, name: &str) -> String {
    let event = trigger_event(owner, &owner.key().await).await;
    let key = event["subject"].as_str().unwrap();
    owner.patch(&format!("/v1/keys/{key}"), json!({ "name": name })).await.ok();
    let renamed = crate::support::eventually("event of the new name", async || {
        let page =
            owner.get(&format!("/v1/events?project_id={}&type=key.updated&order=desc", owner.project)).await.ok();
        page["data"].as_array().unwrap().iter().find(|event| event["subject"] == key).cloned()
    });
    renamed.await["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn events_are_listed_in_words_and_filtered() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    event_of(&owner, "billing").await;
    let page = unescaped(&text(&browser.get(&browser.path("/events")).await));
    for part in [
        "A key was created",
        "key.created",
        "A key's settings changed",
        ">billing</a>",
        "/members/usr_",
        "data-live=\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let filtered = text(&browser.get(&browser.path("/events?type=project.created")).await);
    assert!(filtered.contains("A project was created") && !filtered.contains("A key was created"));
    assert!(filtered.contains("data-live-types=\"project.created\""));
    let none = text(&browser.get(&browser.path("/events?type=webhook.created")).await);
    assert!(none.contains("No event of this type") && none.contains("Show all events"));
}

#[tokio::test]
async fn event_is_shown_as_the_api_sends_it() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let event = event_of(&owner, "<script>alert(1)</script>").await;
    let page = text(&browser.get(&browser.path(&format!("/events/{event}"))).await);
    assert!(page.contains("specversion") && page.contains(&event) && page.contains("key.updated"));
    assert!(page.contains("&#60;script&#62;alert(1)") && !page.contains("<script>alert"), "{page}");

    let other = Browser::owner(&app).await.0;
    for path in [other.path(&format!("/events/{event}")), browser.path("/events/evt_1")] {
        assert_eq!(browser.get(&path).await.status, 404, "{path}");
        assert_eq!(other.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn stream_resumes_after_an_event_without_gap() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let first = event_of(&owner, "first").await;
    let missed = event_of(&owner, "missed").await;
    let mut stream = follow(&browser, &first).await;
    let live = event_of(&owner, "live").await;
    let mut received = Vec::new();
    while received.last() != Some(&live) {
        received.push(stream.event().await.unwrap().id.unwrap());
    }
    assert!(!received.contains(&first) && received.contains(&missed), "{received:?}");
    // A key that reads, one that is created and renamed, twice.
    assert_eq!(received.len(), 6, "{received:?}");
}

#[tokio::test]
async fn stream_ends_with_the_session() {
    let app = TestApp::start().await;
    let (browser, owner) = Browser::owner(&app).await;
    let first = event_of(&owner, "first").await;
    let mut stream = follow(&browser, &first).await;
    browser.post("/console/sign-out", &[]).await;
    let (_, reason) = stream.read_to_end().await;
    assert_eq!(reason.expect("no reason")["code"], "token_revoked");
    let again = browser.get(&browser.path("/events/stream")).await;
    assert_eq!((again.status, again.header("content-type")), (303, None));
}
