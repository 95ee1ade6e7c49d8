//! The server's log.

use std::time::Instant;

use cloudapi::base::identity::secret::SecretKind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    app::unknown_secret,
    binary::{Deployment, Server},
    eventually,
};

async fn send(url: &str, headers: &[(&str, &[u8])]) {
    let mut request = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
    for (name, value) in headers {
        request = request.header(*name, reqwest::header::HeaderValue::from_bytes(value).unwrap());
    }
    request.send().await.unwrap();
}

#[tokio::test]
async fn every_log_line_is_one_json_object_for_any_client_input() {
    let deployment = Deployment::prepared();
    let server = deployment.serve();
    let url = |path: &str| format!("{}{path}", server.url);
    send(&url("/v1/projects"), &[("x-request-id", b"build-42_a")]).await;
    let long = "a".repeat(65);
    for hostile in [&b"evil\"},{\"level\":\"ERROR"[..], b"\xff\xfe", b"\x1b[31mred", b"a b", b"", long.as_bytes()] {
        let header = reqwest::header::HeaderValue::from_bytes(hostile);
        // Bytes that a header value cannot contain cannot be sent.
        if header.is_ok() {
            send(&url("/v1/projects"), &[("x-request-id", hostile)]).await;
        }
    }
    send(&url("/v1/%0d%0aforged%20line?x=%0a%22%7d"), &[]).await;
    send(&url("/v1/keys/%22%7d%0a"), &[("user-agent", b"\"}\t{")]).await;

    let ended = server.end(Signal::SIGTERM);
    let lines: Vec<Value> = ended
        .errors
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("invalid JSON: {line}")))
        .collect();
    let answered: Vec<&Value> = lines.iter().filter(|line| line["target"] == "cloudapi::request").collect();
    assert!(answered.len() >= 8, "{answered:#?}");
    let named: Vec<&Value> =
        answered.iter().map(|line| &line["client_request_id"]).filter(|id| !id.is_null()).collect();
    assert_eq!(named, [&json!("build-42_a")]);
    for line in answered {
        assert!(line["request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "{line}");
        assert!(
            line["status"].is_number() && line["duration_ms"].is_number() && line["client"] == "127.0.0.1",
            "{line}"
        );
        // The route template, not the path that the client sent.
        assert!(!line.to_string().contains("forged") && !line.to_string().contains("%0"), "{line}");
    }
}

#[tokio::test]
async fn secret_sent_as_request_id_or_method_is_not_logged() {
    let deployment = Deployment::prepared();
    let server = deployment.serve();
    let secrets = [SecretKind::Session, SecretKind::Key, SecretKind::Token, SecretKind::Invitation].map(unknown_secret);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for secret in &secrets {
        let url = format!("{}/v1/projects", server.url);
        send(&url, &[("x-request-id", secret.as_bytes())]).await;
        http.request(secret.parse().unwrap(), &url).send().await.unwrap();
    }
    let log = server.end(Signal::SIGTERM).errors.join("\n");
    assert!(log.contains(r#""method":"other""#), "{log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "{log}");
    }
}

#[tokio::test]
async fn readyz_during_drain_logs_no_error() {
    let deployment = Deployment::prepared();
    let mut serve = deployment.command(&["serve"]);
    serve.env("CLOUDAPI_DRAIN_DELAY_SECONDS", "30");
    let server = Server::start(serve);
    server.signal(Signal::SIGTERM);
    // Polling starts after this line: with more than a hundred responses per second, the log is sampled.
    server.wait_for_error("shutdown started");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = format!("{}/readyz", server.url);
    eventually("the server to drain", async || (http.get(&ready).send().await.unwrap().status() == 503).then_some(()))
        .await;
    let ended = server.end(Signal::SIGTERM);
    assert!(!ended.errors.iter().any(|line| line.contains("readi")), "{:#?}", ended.errors);
    assert!(!ended.errors.iter().any(|line| line.contains(r#""level":"ERROR""#)), "{:#?}", ended.errors);
}

#[tokio::test]
async fn refused_flood_is_sampled_in_the_log() {
    let deployment = Deployment::prepared();
    let mut serve = deployment.command(&["serve"]);
    serve.env("CLOUDAPI_SIGN_IN_LIMIT", "100000/1");
    let server = Server::start(serve);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let attempt = async |n: usize| {
        let body = json!({ "email": format!("{n}@example.com"), "password": "wrong" }).to_string();
        let request = http.post(format!("{}/v1/sessions", server.url)).header("content-type", "application/json");
        request.body(body).send().await.unwrap().status()
    };
    let began = Instant::now();
    let answers = futures_util::future::join_all((0..600).map(attempt)).await;
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let refused = answers.iter().filter(|status| **status == 503).count();
    assert!(refused > 300, "{refused}");
    let ended = server.end(Signal::SIGTERM);
    let line_count = ended.errors.iter().filter(|line| line.contains("overloaded")).count();
    // A hundred per second, and one in a hundred of the others. A few more if two threads begin the same second.
    let most = 100 * (seconds + 2) + refused / 100 + 20;
    assert!((1..=most).contains(&line_count), "{line_count} lines for {refused} refusals in {seconds} s");
}
