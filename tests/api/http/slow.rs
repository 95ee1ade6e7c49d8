//! Slow and idle clients, and limits on connections and requests.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use cloudapi::http::layers::edge::EdgeOptions;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{
    Identity, Reply, TestApp,
    binary::{Deployment, Server},
    cluster, eventually,
    raw::{connect, edge_options, read_response, read_to_end, send},
};

/// Short enough for a test, long enough that requests which are not slow succeed on a busy machine.
const SOON: Duration = Duration::from_secs(1);
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn client_with_a_slow_head_is_disconnected_and_others_are_not() {
    let app = TestApp::start_with(edge_options(|limits| limits.head_timeout = SOON)).await;
    let mut used = connect(&app.url).await;
    send(&mut used, HEALTH).await;
    assert!(read_response(&mut used).await.starts_with("HTTP/1.1 200 "));

    // A silent client, one with a partial head, one that could still be HTTP/2, and one whose first request was fast.
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
    app.anonymous().get("/healthz").await.ok();
}

#[tokio::test]
async fn head_timeout_is_not_extended_by_each_byte() {
    let app = TestApp::start_with(edge_options(|limits| limits.head_timeout = SOON)).await;
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
async fn client_with_a_slow_body_gets_408_and_others_do_not() {
    let app = TestApp::start_with(edge_options(|limits| limits.body_timeout = SOON)).await;
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
async fn idle_connection_outlives_the_head_timeout_and_closes_without_an_error() {
    let app = TestApp::start_with(edge_options(|limits| {
        limits.head_timeout = SOON;
        limits.idle_timeout = 4 * SOON;
    }))
    .await;
    let mut stream = connect(&app.url).await;
    send(&mut stream, HEALTH).await;
    read_response(&mut stream).await;
    // A silent client that connects later is disconnected first.
    assert_eq!(read_to_end(&mut connect(&app.url).await).await, "");
    send(&mut stream, HEALTH).await;
    assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 200 "), "the connection must still be open");
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn client_that_reads_no_responses_is_disconnected() {
    let app = TestApp::start_with(edge_options(|limits| limits.stall_timeout = SOON)).await;
    let mut stream = connect(&app.url).await;
    // More responses than the socket buffers hold.
    let request = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    send(&mut stream, request).await;
    eventually("the server to disconnect", async || {
        // Unread data at close turns the close into a reset.
        let error = stream.take_error().unwrap().is_some();
        (error || stream.try_write(b"GET").is_err()).then_some(())
    })
    .await;
    app.anonymous().get("/healthz").await.ok();
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A HEADERS frame of a complete HTTP/2 request.
fn head(stream: u32, method: &str, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // Names from HPACK's static table: method, path, authority; 0x86 is the scheme http.
    let fields = [vec![0x02], text(method), vec![0x04], text(path), vec![0x01], text("x"), vec![0x86]].concat();
    frame(1, 0x1 | 0x4, stream, &fields)
}

#[tokio::test]
async fn unread_http_2_response_closes_its_connection_despite_other_requests() {
    // A window of zero, and one with room for the first byte.
    for window in [0_u32, 1] {
        let app = TestApp::start_with(edge_options(|limits| limits.stall_timeout = SOON)).await;
        let mut stream = connect(&app.url).await;
        let settings = frame(4, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat());
        send(&mut stream, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await;
        send(&mut stream, head(1, "GET", "/openapi.json")).await;
        let mut next = 3;
        eventually("the server to disconnect", async || {
            tokio::time::sleep(SOON / 10).await;
            // A response without a body needs no window.
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
async fn connections_beyond_the_limit_wait_until_one_closes() {
    let app = TestApp::start_with(edge_options(|limits| limits.max_connections = 2)).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&app.url).await;
        send(&mut stream, HEALTH).await;
        read_response(&mut stream).await;
        open.push(stream);
    }
    let mut waiting = connect(&app.url).await;
    send(&mut waiting, HEALTH).await;
    // Open connections are served, and the waiting one gets no response meanwhile.
    for _ in 0..20 {
        send(&mut open[0], HEALTH).await;
        read_response(&mut open[0]).await;
    }
    assert!(waiting.try_read(&mut [0; 1]).is_err(), "a third connection was served");
    open.pop();
    assert!(read_response(&mut waiting).await.starts_with("HTTP/1.1 200 "));
}

/// A POST in flight that waits for a database lock, which the test holds.
async fn blocked_request(app: &TestApp) -> (sqlx::Transaction<'static, sqlx::Postgres>, tokio::task::JoinHandle<u16>) {
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
    eventually("the request to wait in the database", async || {
        let waiting: i64 = sqlx::query_scalar(
            // Excludes background work.
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%create_project(%'",
        )
        .fetch_one(&app.db)
        .await
        .unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}

async fn is_admitted(app: &TestApp) -> bool {
    let reply = app.anonymous().get("/v1/projects").await;
    reply.status == 401
}

fn assert_refused(reply: Reply) {
    assert_eq!(reply.header("retry-after"), Some("1"));
    reply.problem(503, "overloaded");
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_immediately_except_health_checks() {
    let app = TestApp::start_with(edge_options(|limits| limits.max_requests = 1)).await;
    let (lock, asking) = blocked_request(&app).await;
    waiting_for_a_lock(&app).await;
    for path in ["/v1/projects", "/v1/nothing", "/openapi.json"] {
        assert_refused(app.anonymous().get(path).await);
    }
    app.anonymous().get("/healthz").await.ok();
    app.anonymous().get("/readyz").await.ok();
    lock.rollback().await.unwrap();
    assert_eq!(asking.await.unwrap(), 201);
    assert!(is_admitted(&app).await, "the slot must be free again");
}

#[tokio::test]
async fn write_of_a_disconnected_client_keeps_its_slot_until_it_ends() {
    let app = TestApp::start_with(edge_options(|limits| limits.max_requests = 1)).await;
    let (lock, asking) = blocked_request(&app).await;
    waiting_for_a_lock(&app).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_refused(app.anonymous().get("/v1/projects").await);
    lock.rollback().await.unwrap();
    eventually("the slot to be free again", async || is_admitted(&app).await.then_some(())).await;
}

#[tokio::test]
async fn clients_with_slow_bodies_do_not_use_up_request_slots() {
    let app = TestApp::start_with(edge_options(|limits| {
        limits.max_requests = 1;
        // Longer than the test takes.
        limits.body_timeout = Duration::from_secs(60);
    }))
    .await;
    let user = app.user().await;
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{";
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..10 {
        let mut stream = connect(&app.url).await;
        send(&mut stream, head).await;
        slow.push(stream);
        // One at a time, because each takes a slot for a moment.
        eventually("another request to be served", async || {
            (user.get("/v1/projects").await.status == 200).then_some(())
        })
        .await;
    }
    eventually("another write to be served", async || {
        let reply = user.post("/v1/projects", json!({ "name": "quick" })).await;
        // The last slow client may hold the slot for a moment.
        if reply.status == 503 {
            return None;
        }
        Some(reply.created())
    })
    .await;
    // Slow clients are served once their bodies are complete.
    for stream in &mut slow {
        send(stream, "                   ").await;
        assert!(read_response(stream).await.starts_with("HTTP/1.1 400 "));
    }
}

#[tokio::test]
async fn low_open_file_limit_reduces_connections_with_a_warning() {
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
    // A limit that the server can raise is not reported.
    let server = limited("ulimit -n 11000; ulimit -S -n 300");
    let ended = server.end(Signal::SIGTERM);
    assert!(!ended.errors.iter().any(|line| line.contains("raise its limit")), "{:?}", ended.errors);
}

#[tokio::test]
async fn default_limits_match_the_documentation() {
    let limits = EdgeOptions::default().limits;
    let seconds = [limits.head_timeout, limits.body_timeout, limits.idle_timeout, limits.stall_timeout]
        .map(|time| time.as_secs());
    assert_eq!((seconds, limits.max_connections, limits.max_requests), ([10, 10, 75, 100], 10_000, 1_000));
}
