//! Event streams: no event is missed or sent twice, and none is sent to a reader that has lost its permission.

use std::time::Duration;

use cloudapi::{
    api::events::hub::StreamOptions,
    base::identity::role::Role,
    http::layers::edge::{EdgeLimits, EdgeOptions},
    server::state::AppOptions,
};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    events::{ids, listed, trigger_event},
    support::{
        Bearer, Identity, Key, Session, TestApp,
        binary::{Deployment, Server},
        eventually,
        raw::send,
        stream::{EventStream, SseMessage},
    },
};

const STREAM: &str = "/v1/events/stream";

fn with(change: impl FnOnce(&mut StreamOptions)) -> AppOptions {
    let mut streams = StreamOptions::default();
    change(&mut streams);
    AppOptions { streams, ..AppOptions::default() }
}

fn message_ids(received: &[SseMessage]) -> Vec<String> {
    received.iter().map(|received| received.id.clone().unwrap()).collect()
}

#[tokio::test]
async fn streamed_event_equals_listed_event_with_its_id_and_type() {
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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

/// Two servers on one database.
struct ServerPair {
    here: TestApp,
    there: TestApp,
}

impl ServerPair {
    /// The periodic check of readers is so rare that only an invalidation can end their streams.
    async fn start() -> Self {
        Self::start_with(with(|streams| streams.check_interval = Duration::from_secs(3600))).await
    }

    async fn start_with(options: AppOptions) -> Self {
        let here = TestApp::start_with(options.clone()).await;
        let there = here.start_peer(options).await;
        here.lease().await;
        there.lease().await;
        Self { here, there }
    }

    fn at(&self, there: bool, secret: &str) -> Bearer<'_> {
        Bearer { app: if there { &self.there } else { &self.here }, secret: secret.to_owned() }
    }
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    trigger_event(&owner, &key).await;
    for empty in ["", " "] {
        let mut stream = key.request("GET", STREAM).header("last-event-id", empty).open().await;
        let next = trigger_event(&owner, &key).await;
        assert_eq!(stream.event().await.unwrap().json(), next, "{empty:?} starts with new events");
    }
}

#[tokio::test]
async fn head_request_of_a_stream_occupies_no_slot() {
    let app = TestApp::start_with(with(|streams| streams.max_streams = 1)).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    for _ in 0..3 {
        let head = key.request("HEAD", STREAM).send().await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        eventually("no readers", async || (app.events.hub.readers() == 0).then_some(())).await;
    }
}

#[tokio::test]
async fn streams_have_their_own_limits_and_do_not_count_as_concurrent_requests() {
    let options = AppOptions {
        edge: EdgeOptions { limits: EdgeLimits { max_requests: 2, ..EdgeLimits::default() }, ..EdgeOptions::default() },
        ..with(|streams| (streams.max_streams, streams.max_streams_per_project) = (4, 3))
    };
    let app = TestApp::start_with(options).await;
    let (owner, other) = (app.owner().await, app.owner().await);
    let (key, elsewhere) = (owner.key().await, other.key().await);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(key.open_stream().await);
    }
    key.get(STREAM).await.problem(409, "limit_reached");
    streams.push(elsewhere.open_stream().await);
    let refused = elsewhere.get(STREAM).await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(503, "overloaded");
    // More streams are open than the limit of concurrent requests: open streams do not count.
    key.get("/v1/users").await.ok();
    streams.truncate(1);
    eventually("slots released", async || (app.events.hub.readers() == 1).then_some(())).await;
    key.open_stream().await;
}

#[tokio::test]
async fn stream_is_counted_as_one_request_when_it_starts() {
    let app = TestApp::start_with(with(|streams| streams.heartbeat = Duration::from_millis(20))).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let usage = format!("/v1/usage?project_id={}", owner.project);
    app.flush_usage().await;
    let before = owner.get(&usage).await.ok()["requests"].as_i64().unwrap();
    let mut stream = key.open_stream().await;
    app.flush_usage().await;
    // The usage request before it counts as well.
    assert_eq!(owner.get(&usage).await.ok()["requests"], before + 2);
    stream.next_block().await.unwrap();
    drop(stream);
    app.flush_usage().await;
    assert_eq!(owner.get(&usage).await.ok()["requests"], before + 3);
}

/// Opens a stream with the key on the other server.
async fn followed(pair: &ServerPair, key: &Key<'_>) -> EventStream {
    pair.at(true, &key.secret).open_stream().await
}

/// Checks that a stream ended before the write that ended it returned: no later event is sent.
async fn ended(mut stream: EventStream, owner: &Session<'_>, code: &str) {
    // The stream may still send earlier events, but no later ones.
    let after = owner.post("/v1/keys", json!({ "project_id": owner.project })).await;
    let (events, reason) = stream.read_to_end().await;
    if let Some(id) = after.json()["id"].as_str() {
        assert!(events.iter().all(|received| received.json()["subject"] != id), "event sent after the end: {events:?}");
    }
    assert_eq!(reason.expect("no reason")["code"], code);
}

#[tokio::test]
async fn streams_of_a_revoked_credential_end_on_every_server_before_the_response() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let token = key.token(&["events:read"]).await;
    let streams = [
        pair.at(true, &key.secret).open_stream().await,
        pair.at(false, &key.secret).open_stream().await,
        pair.at(true, &token.secret).open_stream().await,
    ];
    let other = owner.key().await;
    let mut unharmed = followed(&pair, &other).await;
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    for stream in streams {
        ended(stream, &owner, "token_revoked").await;
    }
    let is_it = async || (unharmed.event().await.unwrap().event.as_deref() == Some("key.revoked")).then_some(());
    eventually("other streams continue", is_it).await;
}

#[tokio::test]
async fn streams_end_after_revocation_without_the_credential_cache() {
    let options = with(|streams| streams.check_interval = Duration::from_secs(3600));
    let pair = ServerPair::start_with(AppOptions { auth_cache: false, ..options }).await;
    let owner = pair.here.owner().await;
    let key = owner.key().await;
    let streams = [pair.at(true, &key.secret).open_stream().await, pair.at(false, &key.secret).open_stream().await];
    owner.delete(&format!("/v1/keys/{}", key.id)).await.ok();
    for stream in streams {
        ended(stream, &owner, "token_revoked").await;
    }
}

#[tokio::test]
async fn every_loss_of_permission_ends_the_stream() {
    let pair = ServerPair::start().await;
    let owner = pair.here.owner().await;
    let project = format!("/v1/projects/{}", owner.project);

    let narrowed = owner.key().await;
    let stream = followed(&pair, &narrowed).await;
    owner.patch(&format!("/v1/keys/{}", narrowed.id), json!({ "scopes": ["users:read"] })).await.ok();
    ended(stream, &owner, "insufficient_scope").await;

    let fenced = owner.key().await;
    let stream = followed(&pair, &fenced).await;
    owner.patch(&format!("/v1/keys/{}", fenced.id), json!({ "allowed_ips": ["192.0.2.0/24"] })).await.ok();
    ended(stream, &owner, "ip_not_allowed").await;

    let rotated = owner.key().await;
    let mut stream = followed(&pair, &rotated).await;
    owner.post(&format!("/v1/keys/{}/rotate", rotated.id), json!({ "overlap_seconds": 0 })).await.created();
    let (_, reason) = stream.read_to_end().await;
    assert!(matches!(reason.unwrap()["code"].as_str(), Some("token_expired" | "token_revoked")));

    let member = pair.here.member(&owner, Role::Viewer).await;
    let path = format!("{STREAM}?project_id={}", owner.project);
    let stream = pair.at(true, &member.secret).request("GET", &path).open().await;
    owner.delete(&format!("/v1/users/{}?project_id={}", member.user_id, owner.project)).await.ok();
    ended(stream, &owner, "not_found").await;

    let signed_out = pair.here.another_session(&owner).await;
    let stream = pair.at(true, &signed_out.secret).request("GET", &path).open().await;
    signed_out.delete("/v1/sessions/current").await.ok();
    ended(stream, &owner, "token_revoked").await;

    let key = owner.key().await;
    let stream = followed(&pair, &key).await;
    let mut unharmed = pair.at(true, &owner.secret).request("GET", &path).open().await;
    owner.post_empty(&format!("{project}/suspend")).await.ok();
    ended(stream, &owner, "project_suspended").await;
    // Members can still read the events.
    let is_it = async || (unharmed.event().await.unwrap().event.as_deref() == Some("project.suspended")).then_some(());
    eventually("streams of members continue", is_it).await;
}

#[tokio::test]
async fn change_of_a_credential_that_keeps_its_permission_does_not_end_its_stream() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut stream = key.open_stream().await;
    owner.patch(&format!("/v1/keys/{}", key.id), json!({ "name": "another" })).await.ok();
    owner.post(&format!("/v1/keys/{}/rotate", key.id), json!({})).await.created();
    let is_it = async || (stream.event().await.unwrap().event.as_deref() == Some("key.rotated")).then_some(());
    eventually("stream continues", is_it).await;
}

#[tokio::test]
async fn stream_ends_when_its_credential_expires() {
    let app = TestApp::start_with(with(|streams| streams.heartbeat = Duration::from_millis(100))).await;
    let owner = app.owner().await;
    let token = owner.key().await.token(&["events:read"]).await;
    let mut stream = token.open_stream().await;
    app.clock.advance(Duration::from_secs(91 * 24 * 3600));
    let (_, reason) = stream.read_to_end().await;
    assert_eq!(reason.unwrap()["code"], "token_expired");
}

/// Opens a stream and reads nothing.
async fn take_nothing(url: &str, path: &str, secret: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // A small buffer, so that it fills up quickly.
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stream = socket.connect(url.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
    send(&mut stream, format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n\r\n")).await;
    stream
}

/// Body of a key whose event is large.
fn long_key(project: &str) -> Value {
    let notes: Map<_, _> = (0..50).map(|number| (format!("note{number}"), json!("x".repeat(500)))).collect();
    json!({ "project_id": project, "metadata": notes })
}

#[tokio::test]
async fn slow_reader_is_disconnected_and_can_resume() {
    // `stall_timeout` also limits requests, so it is longer than a request takes on a busy machine.
    let limits = EdgeLimits { stall_timeout: Duration::from_secs(5), ..EdgeLimits::default() };
    let options = AppOptions {
        edge: EdgeOptions { limits, ..EdgeOptions::default() },
        ..with(|streams| streams.queue_length = 4)
    };
    let app = TestApp::start_with(options).await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let start = trigger_event(&owner, &key).await["id"].as_str().unwrap().to_owned();
    // A reader that reads nothing: the buffers fill up, and the server disconnects it.
    let stuck = take_nothing(&app.url, STREAM, &key.secret).await;
    eventually("one reader", async || (app.events.hub.readers() == 1).then_some(())).await;
    eventually("reader disconnected", async || {
        let bodies = (0..8).map(|_| owner.post("/v1/keys", long_key(&owner.project)));
        futures_util::future::join_all(bodies).await;
        (app.events.hub.readers() == 0).then_some(())
    })
    .await;
    drop(stuck);
    let all = ids(&listed(&key).await);
    let after: Vec<_> = all.into_iter().skip_while(|id| *id != start).skip(1).collect();
    let mut received = Vec::new();
    let mut last = start;
    // The queue is short, so the reader may fall behind, receive an error event and reconnect.
    while received.len() < after.len() {
        let mut stream = key.open_stream_after(&last).await;
        while received.len() < after.len() {
            match stream.event().await {
                Some(event) if event.event.as_deref() != Some("error") => received.push(event),
                _ => break,
            }
        }
        last.clone_from(&stream.last_id);
    }
    assert_eq!(message_ids(&received), after);
}

#[tokio::test]
async fn shutdown_ends_streams_with_an_error_event_and_does_not_wait_for_stuck_readers() {
    const PROJECT: &str = "proj_8f2c4";
    let deployment = Deployment::new();
    let mut command = deployment.command(&["serve"]);
    command.env("CLOUDAPI_DRAIN_DELAY_SECONDS", "0");
    let server = Server::start(command);
    let secret = deployment.printed(&["admin", "session", "--email", "ada@example.com"]).trim().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let path = format!("{STREAM}?project_id={PROJECT}");
    let open = async || {
        let request = http.get(format!("{}{path}", server.url)).bearer_auth(&secret);
        EventStream::new(request.send().await.unwrap(), STREAM).await
    };
    let mut streams = [open().await, open().await];
    let stuck = take_nothing(&server.url, &path, &secret).await;
    // More than the buffers hold; the other readers read it.
    for _ in 0..4 {
        let make = async |_| {
            let request = http.post(format!("{}/v1/keys", server.url)).bearer_auth(&secret);
            let body = serde_json::to_vec(&long_key(PROJECT)).unwrap();
            let made = request.header("content-type", "application/json").body(body).send().await.unwrap();
            assert_eq!(made.status(), 201);
        };
        let [first, second] = &mut streams;
        tokio::join!(futures_util::future::join_all((0..45).map(make)), first.events(45), second.events(45));
    }
    server.signal(Signal::SIGTERM);
    for stream in &mut streams {
        assert_eq!(stream.read_to_end().await.1.unwrap()["code"], "overloaded");
    }
    let ended = server.wait_for_end();
    ended.expect_success();
    let has_waited = |line: &String| line.contains("requests were still in flight");
    assert!(!ended.errors.iter().any(has_waited), "{:#?}", ended.errors);
    drop(stuck);
}

#[tokio::test]
async fn thousand_readers_of_one_server_all_receive_an_event() {
    const READERS: usize = 1_000;
    // Each reader needs two sockets in this process.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let mut streams = Vec::new();
    while streams.len() < READERS {
        streams.extend(futures_util::future::join_all((0..50).map(|_| key.open_stream())).await);
    }
    assert_eq!(app.events.hub.readers(), READERS);
    let event = trigger_event(&owner, &key).await;
    let readings = streams.iter_mut().map(async |stream| {
        while {
            let received = stream.event().await.unwrap();
            assert_ne!(received.event.as_deref(), Some("error"), "{received:?}");
            received.id.as_deref() != event["id"].as_str()
        } {}
    });
    futures_util::future::join_all(readings).await;
}
