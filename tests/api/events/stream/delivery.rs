//! What a stream sends: each event of the project once, also to a reader that reconnects.

use std::time::Duration;

use serde_json::json;

use super::{STREAM, ServerPair, message_ids, with};
use crate::{
    events::{ids, listed, trigger_event},
    support::{Identity, TestApp, eventually},
};

#[tokio::test]
async fn streamed_event_equals_listed_event_with_its_id_and_type() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut stream = key.open_stream().await;
    let event = trigger_event(&owner, &key).await;
    let received = eventually("the key's event", async || {
        let received = stream.event().await.unwrap();
        (received.json()["subject"] == event["subject"]).then_some(received)
    })
    .await;
    assert_eq!((received.id.as_deref(), received.event.as_deref()), (event["id"].as_str(), Some("key.created")));
    assert_eq!(received.json(), event);
}

#[tokio::test]
async fn session_must_name_the_project_of_the_stream() {
    let app = TestApp::shared().await;
    let (owner, stranger) = (app.owner().await, app.owner().await);
    owner.get(STREAM).await.problem(400, "project_required");
    stranger.get(&format!("{STREAM}?project_id={}", owner.project)).await.problem(404, "not_found");
    let mut stream = owner.request("GET", &format!("{STREAM}?project_id={}", owner.project)).open().await;
    let key = owner.key().await;
    let is_it = async || (stream.event().await.unwrap().json()["subject"] == key.id.as_str()).then_some(());
    eventually("the key's event", is_it).await;
}

#[tokio::test]
async fn events_of_another_project_are_not_sent() {
    let app = TestApp::shared().await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let (key, foreign) = (owner.key().await, other.key().await);
    let mut stream = key.open_stream().await;
    trigger_event(&other, &foreign).await;
    let own = trigger_event(&owner, &key).await;
    loop {
        let received = stream.event().await.unwrap().json();
        assert!(received["source"].as_str().unwrap().ends_with(&owner.project), "{received}");
        if received == own {
            break;
        }
    }
}

#[tokio::test]
async fn stream_can_be_filtered_by_type_for_past_and_new_events() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let first = trigger_event(&owner, &key).await;
    let all = listed(&key).await;
    let path = format!("{STREAM}?type=token.created");
    key.token(&["users:read"]).await;
    let mut stream = key.request("GET", &path).header("last-event-id", all[0]["id"].as_str().unwrap()).open().await;
    assert_eq!(stream.event().await.unwrap().event.as_deref(), Some("token.created"));
    let second = trigger_event(&owner, &key).await;
    key.token(&["usage:read"]).await;
    let received = stream.event().await.unwrap();
    assert_eq!(received.event.as_deref(), Some("token.created"));
    assert!(first["id"].as_str() < second["id"].as_str() && second["id"].as_str() < received.id.as_deref());
    let refused = key.get(&format!("{STREAM}?type=key.admired")).await.problem(400, "invalid_parameter");
    assert_eq!(refused["errors"][0]["parameter"], "type");
    // Actions that are only in the audit trail are not event types.
    key.get(&format!("{STREAM}?type=session.created")).await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn reader_that_reconnects_to_either_server_receives_each_event_exactly_once() {
    const KEYS: usize = 40;
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let start = trigger_event(&owner, &key).await["id"].as_str().unwrap().to_owned();
    let writing = async {
        for number in 0..KEYS {
            let writer = pair.at(number % 2 == 1, &owner.secret);
            writer.post("/v1/keys", json!({ "project_id": owner.project })).await.created();
        }
    };
    let reading = async {
        let (mut received, mut last) = (Vec::new(), start.clone());
        // Reconnects after each number of events, while events are written.
        for turn in 0_usize.. {
            let reader = pair.at(turn % 2 == 1, &key.secret);
            let mut stream = reader.open_stream_after(&last).await;
            let left = KEYS - received.len();
            let now = stream.events((turn % 4).min(left)).await;
            received.extend(now);
            last.clone_from(&stream.last_id);
            if received.len() == KEYS {
                break;
            }
        }
        received
    };
    let ((), received) = tokio::join!(writing, reading);
    let all = ids(&listed(&key).await);
    let after: Vec<String> = all.into_iter().skip_while(|id| *id != start).skip(1).collect();
    assert_eq!(message_ids(&received), after);

    // From several positions, with more events than one read returns.
    for (place, id) in after.iter().enumerate().step_by(7) {
        let mut stream = pair.at(place % 2 == 0, &key.secret).open_stream_after(id).await;
        assert_eq!(message_ids(&stream.events(KEYS - 1 - place).await), after[place + 1..]);
    }
}

#[tokio::test]
async fn long_backlog_is_sent_completely_before_new_events() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let first = trigger_event(&owner, &key).await["id"].as_str().unwrap().to_owned();
    for _ in 0..250 {
        key.token(&["users:read"]).await;
    }
    let mut stream = key.open_stream_after(&first).await;
    let begun = stream.events(1).await;
    let last = trigger_event(&owner, &key).await;
    let mut received = begun;
    while received.last().unwrap().id.as_deref() != last["id"].as_str() {
        received.push(stream.event().await.unwrap());
    }
    let all = ids(&listed(&key).await);
    assert_eq!(message_ids(&received), all.into_iter().skip_while(|id| *id != first).skip(1).collect::<Vec<_>>());
}

#[tokio::test]
async fn reader_without_events_resumes_from_its_start() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    trigger_event(&owner, &key).await;
    let stream = key.open_stream().await;
    let began = stream.last_id.clone();
    drop(stream);
    let missed = trigger_event(&owner, &key).await;
    let mut stream = key.open_stream_after(&began).await;
    let is_it = async || (stream.event().await.unwrap().json() == missed).then_some(());
    eventually("the missed event", is_it).await;
}

#[tokio::test]
async fn idle_stream_sends_heartbeats_with_resumable_ids() {
    let app = TestApp::start_with(with(|streams| streams.heartbeat = Duration::from_millis(50))).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let event = trigger_event(&owner, &key).await;
    let mut stream = key.open_stream_after(event["id"].as_str().unwrap()).await;
    for _ in 0..3 {
        let sign = stream.next_block().await.unwrap();
        assert!(sign.comment.is_some() && sign.data.is_none() && sign.id.is_some(), "{sign:?}");
        assert!(stream.last_id.as_str() >= event["id"].as_str().unwrap(), "the position went back");
    }
    let last = stream.last_id.clone();
    drop(stream);
    let next = trigger_event(&owner, &key).await;
    assert_eq!(key.open_stream_after(&last).await.event().await.unwrap().json(), next);
}

#[tokio::test]
async fn invalid_or_expired_last_event_id_is_rejected() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let old = trigger_event(&owner, &key).await["id"].as_str().unwrap().to_owned();
    for id in ["nonsense", "aud_4d2", "evt_04d2", "evt_0", "key_7d1"] {
        let call = key.request("GET", STREAM).header("last-event-id", id);
        call.send().await.problem(400, "invalid_cursor");
    }
    let twice = key.request("GET", STREAM).header("last-event-id", "evt_4d2").header("last-event-id", "evt_4d2");
    twice.send().await.problem(400, "malformed_request");
    // Only the header sets the position.
    key.get(&format!("{STREAM}?last_event_id={old}")).await.problem(400, "unknown_parameter");
    key.request("GET", STREAM).header("last-event-id", "evt_4d2").send().await.problem(410, "cursor_expired");
    app.clock.advance(Duration::from_secs(7 * 24 * 3600 + 1));
    key.request("GET", STREAM).header("last-event-id", &old).send().await.problem(410, "cursor_expired");
    key.open_stream().await;
}

#[tokio::test]
async fn empty_last_event_id_is_ignored() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    trigger_event(&owner, &key).await;
    for empty in ["", " "] {
        let mut stream = key.request("GET", STREAM).header("last-event-id", empty).open().await;
        let next = trigger_event(&owner, &key).await;
        assert_eq!(stream.event().await.unwrap().json(), next, "{empty:?} starts with new events");
    }
}
