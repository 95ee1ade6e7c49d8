//! The listener for metrics.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::{TcpListener, TcpStream};

use super::scrape;
use crate::support::{
    Identity, TestApp,
    binary::{Deployment, Server},
    cluster, eventually,
    raw::{connect, edge_options, read_response, read_to_end, send},
};

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Base URL of the metrics listener of a server process.
fn metrics_url(server: &Server) -> String {
    let line = server.wait_for_error("metrics are at ");
    let (_, rest) = line.split_once("metrics are at ").unwrap();
    rest.split_once("/metrics").unwrap().0.to_owned()
}

#[tokio::test]
async fn api_and_metrics_have_separate_listeners() {
    let app = TestApp::start().await;
    let url = app.serve_metrics().await;
    app.anonymous().get("/metrics").await.problem(404, "route_not_found");
    let ask = async |method: &str, path: &str| {
        let request = app.http.request(method.parse().unwrap(), format!("{url}{path}"));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned()))
    };
    for path in ["/", "/metrics/", "/metrics/x", "/v1/projects", "/healthz", "/openapi.json"] {
        assert_eq!(ask("GET", path).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
        assert_eq!(ask(method, "/metrics").await, (405, Some("GET, HEAD".into())), "{method}");
    }
    assert_eq!(ask("HEAD", "/metrics").await.0, 200);
    assert_eq!(ask("GET", "/metrics?name=x").await.0, 200);
    // Scrapes are not counted as API requests.
    let page = scrape(&url).await;
    assert_eq!(
        page.get("cloudapi_http_requests_total", &[("method", "GET"), ("route", "none"), ("status", "404")]),
        1.0
    );
}

#[tokio::test]
async fn garbage_and_slow_clients_do_not_block_scrapes() {
    let app = TestApp::start_with(edge_options(|limits| limits.head_timeout = Duration::from_secs(1))).await;
    let url = app.serve_metrics().await;
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b"GET\r\n\r\n", b"\0\0\0\0", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = connect(&url).await;
        send(&mut stream, garbage).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let mut long = connect(&url).await;
    send(&mut long, format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(200_000))).await;
    assert!(read_to_end(&mut long).await.starts_with("HTTP/1.1 431 "));
    // More connections than the listener has room for. None finishes its request head.
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&url).await;
        send(&mut stream, "GET /metrics HTTP/1.1\r\nhost").await;
        slow.push(stream);
    }
    let mut quick = connect(&url).await;
    send(&mut quick, SCRAPE).await;
    assert!(read_to_end(&mut quick).await.starts_with("HTTP/1.1 200 "));
    for mut stream in slow {
        assert_eq!(read_to_end(&mut stream).await, "");
    }
}

#[tokio::test]
async fn metrics_are_served_during_drain_and_end_with_the_server() {
    let deployment = Deployment::prepared();
    let mut serve = deployment.command(&["serve"]);
    serve.env("CLOUDAPI_DRAIN_DELAY_SECONDS", "3600");
    let server = Server::start(serve);
    let url = metrics_url(&server);
    // A connection that stays open, as Prometheus uses.
    let mut kept = connect(&url).await;
    send(&mut kept, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(read_response(&mut kept).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(scrape(&url).await.get("cloudapi_serving", &[]), 1.0);
    server.signal(Signal::SIGTERM);
    eventually("the server to drain", async || (scrape(&url).await.get("cloudapi_serving", &[]) == 0.0).then_some(()))
        .await;
    server.end(Signal::SIGTERM).expect_success();
    assert_eq!(read_to_end(&mut kept).await, "");
    assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).await.is_err());
}

#[tokio::test]
async fn metrics_can_be_turned_off_and_an_unavailable_address_is_an_error() {
    let database = cluster::url(&cluster::empty_database().await);
    let deployment = Deployment::new();
    let serve = |setting: Option<&str>| {
        let mut command = deployment.command(&["serve"]);
        command.env("DATABASE_URL", &database);
        match setting {
            Some(setting) => command.env("CLOUDAPI_METRICS_LISTEN", setting),
            None => command.env_remove("CLOUDAPI_METRICS_LISTEN"),
        };
        Server::try_start(command)
    };
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();
    for wrong in [taken.1.as_str(), "192.0.2.1:9464", "nonsense", "94640", "OFF", ""] {
        let Err(said) = serve(Some(wrong)) else { panic!("served with metrics on {wrong:?}") };
        let mentioned: Vec<_> = said.lines().filter(|line| line.starts_with("cloudapi: ")).collect();
        let is_clear = |line: &str| line.contains("CLOUDAPI_METRICS_LISTEN (--metrics-listen)") && line.contains("off");
        assert!(matches!(mentioned[..], [line] if is_clear(line)), "{wrong:?}: {said}");
    }
    let quiet = serve(Some("off")).unwrap().end(Signal::SIGTERM);
    quiet.expect_success();
    assert!(!quiet.errors.iter().any(|line| line.contains("metrics")), "{:#?}", quiet.errors);

    // Without a setting, a second server on the machine starts without metrics. This bind may fail: then another
    // process holds the port.
    let _taken = TcpListener::bind("127.0.0.1:9464").await;
    let server = serve(None).unwrap();
    let line = server.wait_for_error("metrics are not served");
    assert!(line.contains("WARN") && line.contains("CLOUDAPI_METRICS_LISTEN") && line.contains("off"), "{line}");
    server.end(Signal::SIGTERM).expect_success();
}
