//! The real binary: start, signals, kill, restart.

mod output;
mod rest;

use std::{fs, io::Write, process::Stdio, thread};

use cloudapi::db::{
    self,
    embedded::{Durability, Options, PrivatePostgres},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    binary::{Deployment, Server},
    cluster, eventually,
    raw::read_response,
};

/// Sends a request to a server process. Returns the response's status and body.
async fn call(method: &str, url: &str, secret: Option<&str>, body: Option<Value>) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), url);
    if let Some(secret) = secret {
        request = request.bearer_auth(secret);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

async fn get(server: &Server, path: &str, secret: &str) -> (u16, Value) {
    call("GET", &format!("{}{path}", server.url), Some(secret), None).await
}

fn session(deployment: &Deployment) -> String {
    deployment.printed(&["admin", "session", "--email", "ada@example.com"]).trim().to_owned()
}

#[tokio::test]
async fn first_start_loads_the_examples_and_the_next_start_keeps_changes() {
    let deployment = Deployment::new();
    let server = deployment.serve();
    assert_eq!(call("GET", &format!("{}/readyz", server.url), None, None).await.0, 200);
    // The operator's commands work while the server runs.
    let secret = session(&deployment);
    let (status, projects) = get(&server, "/v1/projects", &secret).await;
    assert_eq!((status, &projects["data"][0]["id"]), (200, &json!("proj_8f2c4")));
    let url = format!("{}/v1/keys/key_7d1", server.url);
    assert_eq!(call("DELETE", &url, Some(&secret), None).await, (200, json!({ "id": "key_7d1", "revoked": true })));
    server.end(Signal::SIGTERM).expect_success();

    let server = deployment.serve();
    let (_, key) = get(&server, "/v1/keys/key_7d1", &secret).await;
    assert_eq!(key["status"], "revoked");
    server.end(Signal::SIGINT).expect_success();
}

#[tokio::test]
async fn killed_server_loses_no_acknowledged_write() {
    let deployment = Deployment::prepared();
    let mut server = deployment.serve();
    let secret = session(&deployment);
    for round in 0..3 {
        let body = json!({ "name": format!("round {round}") });
        let (status, _) = call("POST", &format!("{}/v1/projects", server.url), Some(&secret), Some(body)).await;
        assert_eq!(status, 201);
        assert!(server.end(Signal::SIGKILL).was_killed());
        server = deployment.serve();
        let (_, projects) = get(&server, "/v1/projects?order=desc", &secret).await;
        assert_eq!(projects["data"][0]["name"], format!("round {round}"));
    }
}

#[tokio::test]
async fn killed_private_postgresql_is_restarted_without_loss() {
    let deployment = Deployment::prepared();
    let server = deployment.serve();
    let secret = session(&deployment);
    let note = fs::read_to_string(deployment.folder().join("data/postgres/postmaster.pid")).unwrap();
    let postgres: i32 = note.lines().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(postgres), Signal::SIGKILL).unwrap();
    eventually("the server to serve again", async || {
        let (status, answer) = get(&server, "/v1/projects", &secret).await;
        // In between, 503 is the only other status.
        assert!(matches!(status, 200 | 503), "{status} {answer}");
        (status == 200 && answer["data"][0]["id"] == "proj_8f2c4").then_some(())
    })
    .await;
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn second_server_on_the_same_data_directory_fails_with_a_clear_error() {
    let deployment = Deployment::prepared();
    let server = deployment.serve();
    let Err(message) = Server::try_start(deployment.command(&["serve"])) else {
        panic!("two servers share a directory")
    };
    assert!(message.contains(&server.id().to_string()), "expected the first server's process ID: {message}");
    assert_eq!(call("GET", &format!("{}/readyz", server.url), None, None).await.0, 200);
}

#[tokio::test]
async fn bootstrap_creates_or_finds_the_first_owner_and_project() {
    let deployment = Deployment::new();
    let bootstrap = ["admin", "bootstrap", "--email", "Owner@Example.com", "--project", "First", "--json"];
    // Works without a running server, on the private database.
    let first: Value = serde_json::from_str(&deployment.printed(&bootstrap)).unwrap();
    assert_eq!((&first["user"]["email"], &first["project"]["name"]), (&json!("owner@example.com"), &json!("First")));
    let server = deployment.serve();
    let again: Value = serde_json::from_str(&deployment.printed(&bootstrap)).unwrap();
    assert_eq!((&again["user"]["id"], &again["project"]["id"]), (&first["user"]["id"], &first["project"]["id"]));
    for made in [&first, &again] {
        let (status, projects) = get(&server, "/v1/projects", made["session"]["token"].as_str().unwrap()).await;
        // The examples are not loaded into a database in use.
        assert_eq!((status, projects["data"].as_array().unwrap().len()), (200, 1));
    }

    let with_password = |password: &str| {
        let bootstrap =
            ["admin", "bootstrap", "--email", "owner@example.com", "--project", "First", "--password-stdin"];
        let mut command = deployment.command(&bootstrap);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    for (password, why) in [
        ("too short\n", "at least 12"),
        ("Qwertyuiop123\n", "common password"),
        ("owner@example.com\n", "email address"),
    ] {
        let refused = with_password(password);
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && message.contains(why), "{message}");
    }
    assert!(with_password("a long enough password\n").status.success());
    let body = json!({ "email": "owner@example.com", "password": "a long enough password" });
    assert_eq!(call("POST", &format!("{}/v1/sessions", server.url), None, Some(body)).await.0, 201);

    let json: Value =
        serde_json::from_str(&deployment.printed(&["admin", "session", "--email", "owner@example.com", "--json"]))
            .unwrap();
    assert_eq!(json["user"]["id"], first["user"]["id"]);
    let unknown = deployment.run(&["admin", "session", "--email", "nobody@example.com"]);
    assert!(!unknown.status.success());
    let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(message.contains("no user nobody@example.com") && message.contains("admin bootstrap"), "{message}");
}

#[tokio::test]
async fn no_demo_keeps_an_empty_database_empty() {
    let deployment = Deployment::new();
    let server = Server::start(deployment.command(&["--no-demo"]));
    let output = deployment.run(&["admin", "session", "--email", "ada@example.com"]);
    assert!(!output.status.success());
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn unknown_setting_is_warned_about() {
    let deployment = Deployment::new();
    let mut command = deployment.command(&["migrate"]);
    command.env("CLOUDAPI_LISTN", "127.0.0.1:1").env("CLOUDAPI_TOKEN", "is the client's");
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    assert!(
        message.contains("CLOUDAPI_LISTN is set, but is not a setting; did you mean CLOUDAPI_LISTEN?"),
        "{message}"
    );
    assert!(!message.contains("CLOUDAPI_TOKEN"), "{message}");
}

#[tokio::test]
async fn server_on_an_external_database_migrates_it_and_loads_no_examples() {
    let url = cluster::url(&cluster::empty_database().await);
    let deployment = Deployment::new();
    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", &url);
    let server = Server::start(command);
    eventually("the server to be ready", async || {
        (call("GET", &format!("{}/readyz", server.url), None, None).await.0 == 200).then_some(())
    })
    .await;
    let output = deployment
        .command(&["admin", "session", "--email", "ada@example.com"])
        .env("DATABASE_URL", &url)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let mut files: Vec<_> =
        fs::read_dir(deployment.folder().join("data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["secret.key", "usage"], "unexpected files in the data directory");
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn three_concurrent_migrations_succeed() {
    let url = cluster::url(&cluster::empty_database().await);
    let deployment = Deployment::new();
    let migrate = || deployment.command(&["migrate"]).env("DATABASE_URL", &url).spawn().unwrap();
    let nodes = [migrate(), migrate(), migrate()];
    for node in nodes {
        let output = node.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn server_started_before_its_database_reports_it_and_recovers() {
    let deployment = Deployment::new();
    let data_dir = deployment.folder().join("later");
    let options = Options {
        data_dir,
        pg_bin: std::env::var_os("CLOUDAPI_PG_BIN").map(Into::into),
        durability: Durability::Volatile,
        max_connections: 30,
    };
    // Started once to learn its endpoint.
    let postgres = PrivatePostgres::start(options.clone()).unwrap();
    let url = cluster::url(&db::options_for_private(postgres.endpoint()));
    postgres.stop().unwrap();

    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", &url);
    let (server, reason) = Server::start_waiting(command);
    assert!(reason.contains("there is no socket"), "{reason}");
    let ready = format!("{}/readyz", server.url);
    let (status, body) = call("GET", &ready, None, None).await;
    assert_eq!((status, &body["checks"]["database"]), (503, &json!("unreachable: no socket")), "{body}");
    let projects = format!("{}/v1/projects", server.url);
    let (status, problem) = call("GET", &projects, None, None).await;
    assert_eq!((status, &problem["code"]), (503, &json!("database_unavailable")));

    let postgres = PrivatePostgres::start(options).unwrap();
    eventually("the server to be ready", async || (call("GET", &ready, None, None).await.0 == 200).then_some(())).await;
    assert_eq!(call("GET", &projects, None, None).await.0, 401);
    assert_eq!(server.wait_for_output("cloudapi listens on "), format!("cloudapi listens on {}", server.url));
    let ended = server.end(Signal::SIGTERM);
    ended.expect_success();
    // Polls of the probe are not logged, only changes.
    let polls = ended.errors.iter().filter(|line| line.contains("/readyz")).count();
    assert_eq!(polls, 0, "{:?}", ended.errors);
    postgres.stop().unwrap();
}

#[tokio::test]
async fn refused_database_connection_is_not_reported_as_overload() {
    let deployment = Deployment::new();
    // Nothing listens on a port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = deployment.command(&["serve"]);
    command.env("DATABASE_URL", format!("postgres://user:password@127.0.0.1:{port}/database"));
    let (server, reason) = Server::start_waiting(command);
    assert!(reason.contains(&format!("connection refused (127.0.0.1:{port})")), "{reason}");
    let (status, body) = call("GET", &format!("{}/readyz", server.url), None, None).await;
    assert_eq!((status, &body["checks"]["database"]), (503, &json!("unreachable: connection refused")), "{body}");
    let ended = server.end(Signal::SIGTERM);
    let log = ended.errors.join("\n");
    assert!(log.contains("connection refused (127.0.0.1:"), "{log}");
    assert!(!log.contains("in use") && ended.output.iter().all(|line| !line.contains("listens on")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_in_flight_is_finished_before_shutdown_and_counted() {
    let deployment = Deployment::prepared();
    let server = deployment.serve();
    let secret = session(&deployment);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let body = r#"{"name":"slow","project_id":"proj_8f2c4","scopes":["users:read"]}"#;
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(10);
    stream.write_all(head.as_bytes()).await.unwrap();
    // The request is in flight once the server asks for its body.
    assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(first.as_bytes()).await.unwrap();
    let (_, before) = get(&server, "/v1/usage?project_id=proj_8f2c4", &secret).await;
    let ending = thread::spawn(move || server.end(Signal::SIGTERM));
    // While stopping, the server accepts no new connections.
    eventually("new connections to be refused", async || TcpStream::connect(&address).await.is_err().then_some(()))
        .await;
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let ended = ending.join().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.errors);

    let server = deployment.serve();
    let (_, after) = get(&server, "/v1/usage?project_id=proj_8f2c4", &secret).await;
    let counted = after["requests"].as_i64().unwrap() - before["requests"].as_i64().unwrap();
    assert_eq!(counted, 2, "expected the usage request and the token request");
}
