//! Graceful shutdown in steps, so that requests are not rejected unnecessarily. Uses the real binary.

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{
    binary::{Deployment, Server},
    eventually,
    https::Http2,
    raw::{connect, read_response, read_to_end, send},
};

const READY: &str = "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n";

fn serve(deployment: &Deployment, delay_seconds: &str) -> Server {
    let mut command = deployment.command(&["serve"]);
    command.env("CLOUDAPI_DRAIN_DELAY_SECONDS", delay_seconds);
    Server::start(command)
}

async fn ready(server: &Server) -> String {
    let mut stream = connect(&server.url).await;
    send(&mut stream, READY).await;
    read_response(&mut stream).await
}

/// Sends the head and the first bytes of a request, and returns the rest.
async fn begin_request(server: &Server, secret: &str) -> (TcpStream, &'static str) {
    let (first, rest) = (r#"{"name":"#, r#""late"}"#);
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        first.len() + rest.len()
    );
    let mut stream = connect(&server.url).await;
    send(&mut stream, head).await;
    // The handler reads the body.
    assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 100 "));
    send(&mut stream, first).await;
    (stream, rest)
}

fn session(deployment: &Deployment) -> String {
    deployment.printed(&["admin", "session", "--email", "ada@example.com"]).trim().to_owned()
}

#[tokio::test]
async fn sigterm_makes_readyz_return_503_while_new_connections_are_served() {
    let deployment = Deployment::prepared();
    let server = serve(&deployment, "3600");
    let secret = session(&deployment);
    let mut reused = connect(&server.url).await;
    send(&mut reused, READY).await;
    let answer = read_response(&mut reused).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"), "{answer}");

    server.signal(Signal::SIGTERM);
    let answer = eventually("not ready", async || {
        let answer = ready(&server).await;
        answer.starts_with("HTTP/1.1 503 ").then_some(answer)
    })
    .await;
    assert!(answer.contains(r#""server":"stopping""#), "{answer}");
    // Requests are still served on new and existing connections, which are closed afterwards.
    let request = format!("GET /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n\r\n");
    for mut stream in [connect(&server.url).await, reused] {
        send(&mut stream, &request).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    }
    // The delay is an hour: the second signal skips it.
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn after_the_delay_the_listener_closes_and_requests_in_flight_finish() {
    let deployment = Deployment::prepared();
    let server = serve(&deployment, "1");
    let secret = session(&deployment);
    let client = Http2::handshake(connect(&server.url).await).await;
    assert_eq!(client.get("/healthz").await.status, 200);
    let mut idle = connect(&server.url).await;
    send(&mut idle, READY).await;
    read_response(&mut idle).await;
    let (mut stream, rest) = begin_request(&server, &secret).await;

    server.signal(Signal::SIGTERM);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    eventually("no new connections", async || TcpStream::connect(&address).await.is_err().then_some(())).await;
    // Idle connections are closed, HTTP/2 connections with GOAWAY.
    assert_eq!(read_to_end(&mut idle).await, "");
    eventually("HTTP/2 connection closed", async || client.is_closed().then_some(())).await;
    send(&mut stream, rest).await;
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("connection: close"), "{answer}");
    server.wait_for_end().expect_success();
}

#[tokio::test]
async fn sigint_skips_the_drain_delay() {
    let deployment = Deployment::prepared();
    let server = serve(&deployment, "3600");
    server.end(Signal::SIGINT).expect_success();
}

#[tokio::test]
async fn second_signal_aborts_requests_in_flight() {
    let deployment = Deployment::prepared();
    let server = serve(&deployment, "0");
    let secret = session(&deployment);
    let (mut stream, _) = begin_request(&server, &secret).await;
    server.signal(Signal::SIGTERM);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    eventually("no new connections", async || TcpStream::connect(&address).await.is_err().then_some(())).await;
    // The first signal waits for the request; the second does not.
    server.signal(Signal::SIGINT);
    assert_eq!(read_to_end(&mut stream).await, "");
    let ended = server.wait_for_end();
    ended.expect_success();
    assert!(ended.errors.iter().any(|line| line.contains("shutdown forced")), "{:?}", ended.errors);

    // The aborted request had no effect.
    let server = serve(&deployment, "0");
    let projects = reqwest::Client::builder().no_proxy().build().unwrap();
    let projects = projects.get(format!("{}/v1/projects", server.url)).bearer_auth(&secret).send().await.unwrap();
    let projects: serde_json::Value = projects.json().await.unwrap();
    assert_eq!(
        (projects["data"].as_array().unwrap().len(), &projects["data"][0]["name"]),
        (1, &json!("Core Platform"))
    );
    server.end(Signal::SIGTERM).expect_success();
}
