//! Built-in TLS, and HTTP/2 with and without TLS.

use std::{fs, time::Duration};

use hyper::Version;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::{
    Identity, TestApp,
    binary::{Deployment, Server},
    eventually,
    https::{Certificate, Http2, get_http1},
    raw::{connect, edge_options, read_to_end, send},
};

fn serve_https(deployment: &Deployment, certificate: &Certificate) -> Server {
    let mut command = deployment.command(&["serve", "--no-demo"]);
    command.env("CLOUDAPI_TLS_CERT", certificate.cert()).env("CLOUDAPI_TLS_KEY", certificate.key());
    command.env("CLOUDAPI_HEAD_TIMEOUT_SECONDS", "3");
    Server::start(command)
}

#[tokio::test]
async fn server_with_a_certificate_serves_https_over_http_1_and_2() {
    let (deployment, certificate) = (Deployment::prepared(), Certificate::new());
    let server = serve_https(&deployment, &certificate);
    let address = server.url.strip_prefix("https://").expect("an https URL").to_owned();

    for (offered, chosen) in [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)] {
        let stream = certificate.connect(&address, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        let (got, version) = match chosen {
            Some("h2") => (Http2::handshake(stream).await.get("/v1/projects").await, Version::HTTP_2),
            _ => (get_http1(stream, "/v1/projects").await, Version::HTTP_11),
        };
        assert_eq!((got.status, got.version), (401, version));
        assert_eq!(got.headers["strict-transport-security"], "max-age=31536000");
        let problem: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(problem["type"], format!("{}/docs/errors/missing_credentials", server.url));
    }

    // Silent and plaintext clients do not block others, and are disconnected.
    let mut silent = TcpStream::connect(&address).await.unwrap();
    let mut plain = TcpStream::connect(&address).await.unwrap();
    send(&mut plain, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let stream = certificate.connect(&address, &["h2"]).await.unwrap();
    assert_eq!(Http2::handshake(stream).await.get("/healthz").await.status, 200);
    assert!(!read_to_end(&mut plain).await.contains("HTTP/1.1 200"));
    assert_eq!(read_to_end(&mut silent).await, "");
    server.end(Signal::SIGTERM).expect_success();
}

#[tokio::test]
async fn sighup_loads_a_renewed_certificate_and_rejects_an_invalid_one() {
    let (deployment, mut certificate) = (Deployment::prepared(), Certificate::new());
    let server = serve_https(&deployment, &certificate);
    let address = server.url.strip_prefix("https://").unwrap().to_owned();
    certificate.renew();
    assert!(certificate.connect(&address, &[]).await.is_err(), "the old certificate must still be in use");
    server.signal(Signal::SIGHUP);
    let taken = async || certificate.connect(&address, &[]).await.ok().map(drop);
    eventually("the new certificate to be in use", taken).await;

    fs::write(certificate.cert(), "nonsense").unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for_error("the current certificate stays in use");
    certificate.connect(&address, &[]).await.unwrap();
    server.end(Signal::SIGTERM).expect_success();
}

#[test]
fn unusable_certificate_prevents_the_start_with_one_line_that_says_why() {
    let (deployment, certificate, other) = (Deployment::new(), Certificate::new(), Certificate::new());
    let (cert, key) = (certificate.cert(), certificate.key());
    let empty = deployment.folder().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let broken = deployment.folder().join("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
    let missing = deployment.folder().join("missing.pem");
    for (cert, key, reason) in [
        (Some(&cert), None, "CLOUDAPI_TLS_KEY (--tls-key) is not; set both"),
        (None, Some(&key), "CLOUDAPI_TLS_CERT (--tls-cert) is not; set both"),
        (Some(&missing), Some(&key), "cannot be read: No such file"),
        (Some(&cert), Some(&missing), "CLOUDAPI_TLS_KEY (--tls-key)"),
        (Some(&empty), Some(&key), "holds no certificate"),
        (Some(&key), Some(&key), "holds no certificate"),
        (Some(&cert), Some(&cert), "holds no private key"),
        (Some(&broken), Some(&key), "not a valid PEM file"),
        (Some(&cert), Some(&other.key()), "use the key that the certificate was issued for"),
    ] {
        let mut command = deployment.command(&["serve"]);
        command.envs(cert.map(|cert| ("CLOUDAPI_TLS_CERT", cert))).envs(key.map(|key| ("CLOUDAPI_TLS_KEY", key)));
        let output = command.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        let lines: Vec<_> = message.lines().filter(|line| line.starts_with("cloudapi: ")).collect();
        assert!(matches!(lines[..], [line] if line.contains(reason)), "{cert:?} {key:?}: {message}");
    }
    assert!(!deployment.folder().join("data").exists(), "nothing must have been started");
}

#[tokio::test]
async fn http_2_is_served_without_tls_with_prior_knowledge() {
    let app = TestApp::shared().await;
    let client = Http2::handshake(connect(&app.url).await).await;
    let got = client.get("/v1/projects").await;
    assert_eq!((got.status, got.version), (401, Version::HTTP_2));
    assert_eq!(got.headers["content-type"], "application/problem+json");
    // Concurrent requests on the same connection.
    let answers = futures_util::future::join_all((0..50).map(|_| client.get("/healthz"))).await;
    assert!(answers.iter().all(|got| got.status == 200));
}

#[tokio::test]
async fn too_large_head_gets_a_problem_on_http_2() {
    let app = TestApp::shared().await;
    let client = Http2::handshake(connect(&app.url).await).await;
    assert_eq!(client.get(&format!("/healthz?{}", "a".repeat(8 * 1024))).await.status, 414);
    for size in [16 * 1024, 48 * 1024] {
        let got = client.get_with("/healthz", "x-long", &"a".repeat(size)).await;
        assert_eq!(got.status, 431);
        assert_eq!(got.headers["content-type"], "application/problem+json");
    }
    assert_eq!(client.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn idle_http_2_connection_is_closed() {
    let soon = Duration::from_secs(1);
    let app = TestApp::start_with(edge_options(|limits| limits.idle_timeout = soon)).await;
    let client = Http2::handshake(connect(&app.url).await).await;
    assert_eq!(client.get("/healthz").await.status, 200);
    eventually("the connection to close", async || client.is_closed().then_some(())).await;
    app.anonymous().get("/healthz").await.ok();
}
