//! Limits on streams, their usage, slow readers and shutdown.

use std::time::Duration;

use cloudapi::{
    http::layers::edge::{EdgeLimits, EdgeOptions},
    server::state::AppOptions,
};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tokio::net::{TcpSocket, TcpStream};

use super::{STREAM, message_ids, with};
use crate::{
    events::{ids, listed, trigger_event},
    support::{
        Identity, TestApp,
        binary::{Deployment, Server},
        eventually,
        raw::send,
        stream::EventStream,
    },
};

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
    let deployment = Deployment::prepared();
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
