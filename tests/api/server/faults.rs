//! Faults inside and outside the server: panics, errors, disconnecting clients, load, and a restarting database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    routing::{get, post},
};
use cloudapi::{
    base::{
        error::Error,
        input::limit::{LimitSettings, RateLimit},
    },
    db::{
        self,
        embedded::{Durability, Options, PrivatePostgres},
    },
    server::{self, state::AppOptions},
};
use futures_util::future::join_all;
use http_body_util::BodyExt;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{
    Identity, TestApp,
    app::POOL_SIZE,
    binary::{Deployment, Server},
    cluster, eventually,
    raw::{connect, edge_options, send},
};

/// Routes that fail in different ways, behind the layers of every route.
fn failing() -> Router {
    let panics = async || -> &'static str { panic!("the secret of the handler") };
    let fails = async || -> Result<&'static str, Error> {
        Err(sqlx::Error::Protocol("SELECT secret FROM somewhere".into()).into())
    };
    let breaks = async || -> Result<&'static str, Error> { Err(Error::internal("/etc/secret: permission denied")) };
    Router::new()
        .route("/panics", get(panics).post(panics))
        .route("/fails", get(fails).post(fails))
        .route("/breaks", get(breaks).post(breaks))
        .route("/works", post(async || "worked"))
}

#[tokio::test]
async fn panics_and_internal_errors_return_problems_without_internal_details() {
    let app = TestApp::start().await;
    let service = server::layers(&app, failing());
    for method in ["GET", "POST"] {
        for (path, status, code) in
            [("/panics", 500, "internal"), ("/breaks", 500, "internal"), ("/fails", 503, "database_unavailable")]
        {
            let request = Request::builder().method(method).uri(path).header("host", "x").body(Body::empty()).unwrap();
            let answer = service.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert_eq!(answer.headers().contains_key("retry-after"), status == 503);
            let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
            let body = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((&problem["code"], &problem["request_id"]), (&json!(code), &json!(id)));
            for inside in ["secret", "SELECT", "/etc", "handler", "panic", ".rs"] {
                assert!(!body.contains(inside), "{inside:?} in {body}");
            }
        }
    }
    // The next request is served.
    let request = Request::post("/works").header("host", "x").body(Body::empty()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn panicked_requests_and_writes_release_their_slots() {
    let app = TestApp::start_with(edge_options(|limits| limits.max_requests = 2)).await;
    let service = server::layers(&app, failing());
    for method in ["GET", "POST"] {
        for _ in 0..10 {
            let request = Request::builder().method(method).uri("/panics").header("host", "x");
            let answer = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 500, "slot not released");
        }
    }
    assert!(app.edge.tracker.is_empty(), "panicked write still tracked");
    let request = Request::post("/works").header("host", "x").body(Body::empty()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn write_of_a_disconnecting_client_is_atomic_and_leaves_no_open_transaction() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let body = r#"{"name":"from a client that goes"}"#;
    let request = format!(
        "POST /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        user.secret,
        body.len()
    );
    // In the head, in the body, and at increasing delays after everything was sent.
    let moments =
        (0..150_usize).map(|round| (request.len().min(round * 7), (round.saturating_sub(40) as u64).pow(2) * 8));
    let goers = moments.map(async |(sent, microseconds)| {
        let mut stream = connect(&app.url).await;
        send(&mut stream, &request.as_bytes()[..sent]).await;
        if sent == request.len() {
            // The delay is not for a condition: each client disconnects at another moment.
            let _ = tokio::time::timeout(Duration::from_micros(microseconds), stream.readable()).await;
        }
        // Closes with a reset, as when a process is killed.
        let _ = stream.set_zero_linger();
    });
    join_all(goers).await;
    // Independent of the machine's load, one client disconnects after the commit: at the first byte of the response.
    let mut stream = connect(&app.url).await;
    send(&mut stream, &request).await;
    stream.readable().await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);

    let count = async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&app.db).await.unwrap();
    // This connection was the last, and connections are accepted in order, so all others have been accepted.
    eventually("all connections closed", async || app.edge.connections.is_empty().then_some(())).await;
    eventually("no write in progress", async || {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND pid <> pg_backend_pid() AND state <> 'idle'";
        (app.edge.tracker.is_empty() && count(busy).await == 0).then_some(())
    })
    .await;
    let projects = count("SELECT count(*) FROM projects").await;
    assert!(projects > 0, "the acknowledged write was lost");
    assert_eq!(count("SELECT count(*) FROM members").await, projects, "project without owner");
    // Every connection of the pool works, outside a transaction.
    let connections = join_all((0..POOL_SIZE).map(|_| app.db.acquire())).await;
    for connection in connections {
        let mut connection = connection.unwrap();
        let savepoint = sqlx::query("SAVEPOINT only_inside_a_transaction").execute(&mut *connection).await;
        assert!(savepoint.is_err(), "connection left inside a transaction");
    }
    user.post("/v1/projects", json!({ "name": "and then" })).await.created();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_concurrent_sign_ins_do_not_block_other_requests() {
    // All come from one address, which the default limits would reject.
    let limits = LimitSettings {
        sign_ins: RateLimit::new(100_000, 60),
        failures: RateLimit::new(100_000, 60),
        credentials: None,
    };
    let app = TestApp::start_with(AppOptions { limits, ..AppOptions::default() }).await;
    let is_stopped = AtomicBool::new(false);
    // Sign-ins continue until the other requests are served.
    let sign_ins = join_all((0..200).map(async |n| {
        while !is_stopped.load(Ordering::SeqCst) {
            let body = json!({ "email": format!("nobody{n}@example.com"), "password": "not the password" });
            let reply = app.anonymous().post("/v1/sessions", body).await;
            assert!(matches!(reply.status, 401 | 503), "{}", reply.status);
        }
    }));
    let health = async {
        for _ in 0..3 {
            app.anonymous().get("/healthz").await.ok();
            app.anonymous().get("/readyz").await.ok();
        }
        is_stopped.store(true, Ordering::SeqCst);
    };
    tokio::join!(async { drop(sign_ins.await) }, health);
}

/// Clients that read and write until they are stopped, and record the responses.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<(u16, bool)>>>,
    served: Arc<AtomicU32>,
}

impl Clients {
    fn start(url: &str, secret: &str) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let tasks = (0..6)
            .map(|client| {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let (url, secret) = (format!("{url}/v1/projects"), secret.to_owned());
                let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
                tokio::spawn(async move {
                    let mut answers = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        let request = if client % 2 == 0 {
                            http.get(&url)
                        } else {
                            http.post(&url).header("content-type", "application/json").body(r#"{"name":"under load"}"#)
                        };
                        let answer = request.bearer_auth(&secret).send().await.unwrap();
                        let status = answer.status().as_u16();
                        if status < 300 {
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        answers.push((status, answer.headers().contains_key("retry-after")));
                        // Paced, because other tests run on the same machine.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    answers
                })
            })
            .collect();
        Self { stop, tasks, served }
    }

    /// Waits until requests are served again.
    async fn are_served(&self) {
        let before = self.served.load(Ordering::SeqCst);
        eventually("requests served", async || (self.served.load(Ordering::SeqCst) > before + 20).then_some(())).await;
    }

    async fn stop(self) -> Vec<(u16, bool)> {
        self.stop.store(true, Ordering::SeqCst);
        join_all(self.tasks).await.into_iter().flat_map(Result::unwrap).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_restarts_under_load_cause_only_503_and_service_recovers() {
    let deployment = Deployment::new();
    let options = Options {
        data_dir: deployment.folder().join("elsewhere"),
        pg_bin: std::env::var_os("CLOUDAPI_PG_BIN").map(Into::into),
        durability: Durability::Volatile,
        max_connections: 40,
    };
    let mut postgres = PrivatePostgres::start(options.clone()).unwrap();
    let database = cluster::url(&db::options_for_private(postgres.endpoint()));
    let bootstrap = ["admin", "bootstrap", "--email", "ada@example.com", "--project", "P", "--json"];
    let made = deployment.command(&bootstrap).env("DATABASE_URL", &database).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", &database);
    let server = Server::start(command);

    let clients = Clients::start(&server.url, made["session"]["token"].as_str().unwrap());
    for _ in 0..3 {
        clients.are_served().await;
        let options = options.clone();
        postgres = tokio::task::spawn_blocking(move || {
            postgres.stop().unwrap();
            PrivatePostgres::start(options).unwrap()
        })
        .await
        .unwrap();
    }
    clients.are_served().await;
    let answers = clients.stop().await;
    let refused = answers.iter().filter(|(status, _)| *status >= 300).count();
    assert!(refused > 0, "no request failed during the restarts");
    for (status, retry_after) in answers {
        assert!(
            matches!((status, retry_after), (200 | 201, false) | (503, true)),
            "{status}, Retry-After: {retry_after}"
        );
    }
    let ended = server.end(Signal::SIGTERM);
    ended.expect_success();
    postgres.stop().unwrap();
}
