//! Slow clients, idle ones, and too many of them.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use cloudapi::http::edge::EdgeOptions;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{
    Identity, Reply, TestApp,
    binary::{Deployment, Server},
    cluster, eventually,
    raw::{connect, edge, read_answer, read_to_end, send},
};

/// Short enough for a test, long enough for a busy machine to do in time what is not slow.
const SOON: Duration = Duration::from_secs(1);
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_client_that_is_slow_with_its_head_is_cut_off_and_others_are_not() {
    let app = TestApp::start_with(edge(|limits| limits.head_time = SOON)).await;
    let mut used = connect(&app.url).await;
    send(&mut used, HEALTH).await;
    assert!(read_answer(&mut used).await.starts_with("HTTP/1.1 200 "));

    // One that says nothing, one that begins a head, one that could still be HTTP/2, and one that was
    // quick the first time.
    let mut slow = Vec::new();
    for start in ["", "GET /healthz HTTP/1.1\r\nhost", "PRI * HTT"] {
        let mut stream = connect(&app.url).await;
        send(&mut stream, start).await;
        slow.push(stream);
    }
    send(&mut used, "GET /heal").await;
    slow.push(used);
    for stream in &mut slow {
        assert_eq!(read_to_end(stream).await, "");
    }
    app.nobody().get("/healthz").await.ok();
}

#[tokio::test]
async fn a_head_that_trickles_is_not_helped_by_each_byte() {
    let app = TestApp::start_with(edge(|limits| limits.head_time = SOON)).await;
    let mut stream = connect(&app.url).await;
    send(&mut stream, "GET /healthz HTTP/1.1\r\nx-long: ").await;
    let (mut reading, mut writing) = stream.into_split();
    let trickling = tokio::spawn(async move {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        loop {
            pause.tick().await;
            if tokio::io::AsyncWriteExt::write_all(&mut writing, b"a").await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer).await;
    assert_eq!(String::from_utf8_lossy(&answer), "");
    trickling.await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_body_is_told_408_and_others_are_not() {
    let app = TestApp::start_with(edge(|limits| limits.body_time = SOON)).await;
    let user = app.user().await;
    let mut stream = connect(&app.url).await;
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{{\"name\":",
        user.secret
    );
    send(&mut stream, head).await;
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"code\":\"request_timeout\""), "{answer}");
    assert!(answer.contains("send the request again"), "{answer}");
    user.post("/v1/projects", json!({ "name": "quick" })).await.created();
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_head_and_ends_without_an_error() {
    let app = TestApp::start_with(edge(|limits| {
        limits.head_time = SOON;
        limits.idle_time = 4 * SOON;
    }))
    .await;
    let mut stream = connect(&app.url).await;
    send(&mut stream, HEALTH).await;
    read_answer(&mut stream).await;
    // Somebody who came later and says nothing is cut off first.
    assert_eq!(read_to_end(&mut connect(&app.url).await).await, "");
    send(&mut stream, HEALTH).await;
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200 "), "still open");
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_cut_off() {
    let app = TestApp::start_with(edge(|limits| limits.stall_time = SOON)).await;
    let mut stream = connect(&app.url).await;
    // More answers than the sockets' buffers hold.
    let request = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    send(&mut stream, request).await;
    eventually("cut off", async || {
        // What the server has not read when it closes turns the close into a reset.
        let error = stream.take_error().unwrap().is_some();
        (error || stream.try_write(b"GET").is_err()).then_some(())
    })
    .await;
    app.nobody().get("/healthz").await.ok();
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The whole head of a request of HTTP/2.
fn head(stream: u32, method: &str, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // Names from HPACK's static table: method, path, authority; 0x86 is the scheme http.
    let fields = [vec![0x02], text(method), vec![0x04], text(path), vec![0x01], text("x"), vec![0x86]].concat();
    frame(1, 0x1 | 0x4, stream, &fields)
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_its_connection_whatever_else_is_asked_on_it() {
    // With no room for an answer at all, and with room for its first byte.
    for window in [0_u32, 1] {
        let app = TestApp::start_with(edge(|limits| limits.stall_time = SOON)).await;
        let mut stream = connect(&app.url).await;
        let settings = frame(4, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat());
        send(&mut stream, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await;
        send(&mut stream, head(1, "GET", "/openapi.json")).await;
        let mut next = 3;
        eventually("cut off", async || {
            tokio::time::sleep(SOON / 10).await;
            // An answer without a body, which needs no room.
            send(&mut stream, head(next, "HEAD", "/healthz")).await;
            next += 2;
            let _ = stream.try_read(&mut [0; 4096]);
            let error = stream.take_error().unwrap().is_some();
            (error || stream.try_write(b"").is_err() || matches!(stream.try_read(&mut [0; 64]), Ok(0))).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn beyond_so_many_connections_more_wait_until_one_ends() {
    let app = TestApp::start_with(edge(|limits| limits.max_connections = 2)).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&app.url).await;
        send(&mut stream, HEALTH).await;
        read_answer(&mut stream).await;
        open.push(stream);
    }
    let mut waiting = connect(&app.url).await;
    send(&mut waiting, HEALTH).await;
    // Those that are in go on, and the one that waits is not answered meanwhile.
    for _ in 0..20 {
        send(&mut open[0], HEALTH).await;
        read_answer(&mut open[0]).await;
    }
    assert!(waiting.try_read(&mut [0; 1]).is_err(), "a third was served");
    open.pop();
    assert!(read_answer(&mut waiting).await.starts_with("HTTP/1.1 200 "));
}

/// A POST that is being served and waits for a lock in the database, which the test holds.
async fn held_up(app: &TestApp) -> (sqlx::Transaction<'static, sqlx::Postgres>, tokio::task::JoinHandle<u16>) {
    let user = app.user().await;
    let mut lock = app.db.begin().await.unwrap();
    sqlx::query("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let (http, url, secret) = (app.http.clone(), format!("{}/v1/projects", app.url), user.secret.clone());
    let asking = tokio::spawn(async move {
        let request = http.post(url).bearer_auth(secret).header("content-type", "application/json");
        request.body(r#"{"name":"held up"}"#).send().await.unwrap().status().as_u16()
    });
    (lock, asking)
}

async fn waiting_for_a_lock(app: &TestApp) {
    eventually("the request waits in the database", async || {
        let waiting: i64 = sqlx::query_scalar(
            // And not what the server does by itself.
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO projects%'",
        )
        .fetch_one(&app.db)
        .await
        .unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}

async fn is_admitted(app: &TestApp) -> bool {
    let reply = app.nobody().get("/v1/projects").await;
    reply.status == 401
}

fn refused(reply: Reply) {
    assert_eq!(reply.header("retry-after"), Some("1"));
    reply.problem(503, "overloaded");
}

#[tokio::test]
async fn beyond_so_many_requests_more_are_refused_at_once_but_health_is_always_told() {
    let app = TestApp::start_with(edge(|limits| limits.max_requests = 1)).await;
    let (lock, asking) = held_up(&app).await;
    waiting_for_a_lock(&app).await;
    for path in ["/v1/projects", "/v1/nothing", "/openapi.json"] {
        refused(app.nobody().get(path).await);
    }
    app.nobody().get("/healthz").await.ok();
    app.nobody().get("/readyz").await.ok();
    lock.rollback().await.unwrap();
    assert_eq!(asking.await.unwrap(), 201);
    assert!(is_admitted(&app).await, "the place is free again");
}

#[tokio::test]
async fn a_write_whose_client_has_gone_keeps_its_place_until_it_ends() {
    let app = TestApp::start_with(edge(|limits| limits.max_requests = 1)).await;
    let (lock, asking) = held_up(&app).await;
    waiting_for_a_lock(&app).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    refused(app.nobody().get("/v1/projects").await);
    lock.rollback().await.unwrap();
    eventually("the place is free again", async || is_admitted(&app).await.then_some(())).await;
}

#[tokio::test]
async fn clients_that_are_slow_with_their_bodies_crowd_nobody_out() {
    let app = TestApp::start_with(edge(|limits| {
        limits.max_requests = 1;
        // They are no slower than that.
        limits.body_time = Duration::from_secs(60);
    }))
    .await;
    let user = app.user().await;
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{";
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..10 {
        let mut stream = connect(&app.url).await;
        send(&mut stream, head).await;
        slow.push(stream);
        // One at a time, since each takes a place for a moment.
        eventually("served beside it", async || (user.get("/v1/projects").await.status == 200).then_some(())).await;
    }
    eventually("a write beside all of them", async || {
        let reply = user.post("/v1/projects", json!({ "name": "quick" })).await;
        // The last of them may just have taken its place.
        if reply.status == 503 {
            return None;
        }
        Some(reply.created())
    })
    .await;
    // They are served as well, once they have said what they want.
    for stream in &mut slow {
        send(stream, "                   ").await;
        assert!(read_answer(stream).await.starts_with("HTTP/1.1 400 "));
    }
}

#[tokio::test]
async fn a_process_that_may_open_few_files_takes_fewer_connections_and_says_so() {
    let url = cluster::url(&cluster::empty_database().await);
    let deployment = Deployment::new();
    let program = deployment.command(&["serve"]);
    let limited = |limits: &str| {
        let mut command = deployment.command(&[]);
        command.env("DATABASE_URL", &url);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limits}; exec \"$0\" serve")]).arg(program.get_program());
        shell.env_clear().current_dir(deployment.folder()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Server::start(shell)
    };
    let server = limited("ulimit -n 300");
    server.wait_for_error("accepts 44 connections; raise its limit");
    server.end(Signal::SIGTERM).expect_success();
    // Of what it may raise itself nothing is said.
    let server = limited("ulimit -n 11000; ulimit -S -n 300");
    let ended = server.end(Signal::SIGTERM);
    assert!(!ended.errors.iter().any(|line| line.contains("raise its limit")), "{:?}", ended.errors);
}

#[tokio::test]
async fn the_limits_are_the_documented_ones_by_default() {
    let limits = EdgeOptions::default().limits;
    let seconds = [limits.head_time, limits.body_time, limits.idle_time, limits.stall_time].map(|time| time.as_secs());
    assert_eq!((seconds, limits.max_connections, limits.max_requests), ([10, 10, 75, 100], 10_000, 1_000));
}
