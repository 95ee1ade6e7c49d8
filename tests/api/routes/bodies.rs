//! Request bodies that are empty, optional or not read.

use std::time::{Duration, Instant};

use cloudapi::{http::describe::Operation, server::routes};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request,
    body::{Bytes, Frame},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Identity, Reply, TestApp, document, eventually,
    items::Items,
    raw::{connect, read_response, read_to_end, send},
};

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// An empty body whose length is not known when the head is sent.
fn empty_data() -> Body {
    StreamBody::new(stream::iter([Ok(Frame::data(Bytes::new()))])).boxed_unsync()
}

fn filled(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// An HTTP/2 connection with prior knowledge.
async fn http2_to(app: &TestApp) -> http2::SendRequest<Body> {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(connect(&app.url).await)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn over_http2(app: &TestApp, method: &str, path: &str, secret: &str, body: Body) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", app.url))
        .header("authorization", format!("Bearer {secret}"))
        .body(body)
        .unwrap();
    let response = http2_to(app).await.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    // An event stream does not end.
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
        if path.contains("/stream") {
            break;
        }
    }
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// The head of a request with `more` header lines.
fn head(method: &str, path: &str, secret: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n{more}\r\n")
}

fn status_of(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no response: {answer:?}"))
}

fn without_body(operation: &Operation) -> bool {
    operation.body.is_none() && operation.path != "/v1/sessions/current"
}

#[tokio::test]
async fn empty_framed_body_counts_as_no_body_on_every_route_without_one() {
    let app = TestApp::shared().await;
    let items = Items::new(&app).await;
    let (owner, table) = (&items.owner, routes::table());
    for operation in table.operations().filter(|operation| without_body(operation)) {
        let (method, name) = (operation.method.as_str(), operation.name());
        let mut path = items.path(operation).await;
        let plain =
            if operation.path.ends_with("/stream") { 200 } else { items.request(operation, &path).send().await.status };
        for chunked in ["0\r\n\r\n", "0\r\ntrailer: 1\r\n\r\n"] {
            if operation.method == Method::DELETE {
                path = items.path(operation).await;
            }
            let mut stream = connect(&app.url).await;
            let request = head(method, &path, &owner.secret, "transfer-encoding: chunked\r\nconnection: close\r\n");
            send(&mut stream, format!("{request}{chunked}")).await;
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.unwrap();
            assert_eq!(status_of(&String::from_utf8_lossy(&start)), plain, "{name} with {chunked:?}");
        }
        if operation.method == Method::DELETE {
            path = items.path(operation).await;
        }
        let (status, answer) = over_http2(&app, method, &path, &owner.secret, empty_data()).await;
        assert_eq!(status, plain, "{name} over HTTP/2: {answer}");

        // One byte makes it a body.
        let (status, answer) = over_http2(&app, method, &path, &owner.secret, filled("x")).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("unexpected_body")), "{name}");
        let mut stream = connect(&app.url).await;
        let request = head(method, &path, &owner.secret, "transfer-encoding: chunked\r\nconnection: close\r\n");
        send(&mut stream, format!("{request}1\r\nx\r\n0\r\n\r\n")).await;
        let answer = read_to_end(&mut stream).await;
        assert_eq!((status_of(&answer), answer.contains("unexpected_body")), (400, true), "{name}: {answer}");
    }
}

#[tokio::test]
async fn body_without_a_first_byte_times_out() {
    let app = TestApp::start_with(crate::support::raw::edge_options(|limits| {
        limits.body_timeout = Duration::from_millis(100);
    }))
    .await;
    let owner = app.owner().await;
    let mut stream = connect(&app.url).await;
    send(&mut stream, head("GET", "/v1/projects", &owner.secret, "transfer-encoding: chunked\r\n")).await;
    let answer = read_response(&mut stream).await;
    assert_eq!((status_of(&answer), answer.contains("request_timeout")), (408, true), "{answer}");
}

fn comparable(reply: &Reply) -> (u16, String) {
    (reply.status, reply["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn body_without_required_fields_may_be_omitted_as_documented() {
    let app = TestApp::shared().await;
    let items = Items::new(&app).await;
    let table = routes::table();
    let mut optional = Vec::new();
    for operation in table.operations() {
        let described = &document::described(operation)["requestBody"];
        assert_eq!(described.is_null(), operation.body.is_none(), "{}", operation.name());
        let Some(body) = operation.body else { continue };
        assert_eq!(described["required"], body.required, "{}", operation.name());
        let schema = document::body_schema(operation);
        let members = schema.and_then(|schema| schema["required"].as_array()).map_or(0, Vec::len);
        assert!(members == 0 || body.required, "{} has required fields", operation.name());
        if body.required {
            continue;
        }
        optional.push(operation.name());
        let fresh = async || items.path(operation).await;
        let json = items.request(operation, &fresh().await).json(&json!({})).send().await;
        let call = items.request(operation, &fresh().await).header("content-type", "application/json");
        let spaced = call.body(" { } ").send().await;
        let none = items.request(operation, &fresh().await).send().await;
        let typed = items.request(operation, &fresh().await).header("content-type", "application/json").send().await;
        let sized = items.request(operation, &fresh().await).header("content-length", "0").send().await;
        for (what, reply) in [("white space", spaced), ("none", none), ("a type", typed), ("a length", sized)] {
            assert_eq!(comparable(&reply), comparable(&json), "{} with {what}: {}", operation.name(), reply.json());
        }
        let (path, secret) = (fresh().await, &items.owner.secret);
        let mut stream = connect(&app.url).await;
        let request =
            head(operation.method.as_str(), &path, secret, "transfer-encoding: chunked\r\nconnection: close\r\n");
        send(&mut stream, format!("{request}0\r\n\r\n")).await;
        assert_eq!(status_of(&read_to_end(&mut stream).await), json.status, "{} with chunks", operation.name());
        let (status, answer) = over_http2(&app, operation.method.as_str(), &fresh().await, secret, empty_data()).await;
        assert_eq!(status, json.status, "{} over HTTP/2: {answer}", operation.name());

        // A body that is sent is still validated strictly.
        let unknown = items.request(operation, &fresh().await).json(&json!({ "no_such_member": 1 })).send().await;
        assert!(matches!(unknown.status, 400 | 422), "{}: {}", operation.name(), unknown.json());
        let text =
            items.request(operation, &fresh().await).header("content-type", "text/plain").body("{}").send().await;
        text.problem(415, "unsupported_media_type");
    }
    for name in [
        "POST /v1/keys/{key_id}/rotate",
        "POST /v1/webhooks/{webhook_id}/rotate-secret",
        "POST /v1/projects/{project_id}/archive",
        "POST /v1/operations/{operation_id}/cancel",
        "POST /v1/resources/{resource_id}/sync",
    ] {
        assert!(optional.iter().any(|optional| optional == name), "{name} does not accept an empty body: {optional:?}");
    }
}

#[tokio::test]
async fn no_body_and_empty_object_are_the_same_idempotent_request() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let path = format!("/v1/keys/{}/rotate", owner.key().await.id);
    let rotate = || owner.request("POST", &path).header("idempotency-key", "k");
    let first = rotate().send().await;
    assert_eq!(first.status, 201, "{}", first.json());
    let again = rotate().json(&json!({})).send().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.json());
}

const FIVE_MB: usize = 5_000_000;

/// Requests that are refused before their body is read: name, status and head.
fn refused_early(secret: &str) -> Vec<(&'static str, u16, String)> {
    let json = "content-type: application/json\r\n";
    let text = "content-type: text/plain\r\n";
    let head = |method: &str, path: &str, secret: &str, more: &str| head(method, path, secret, more);
    let strip = |text: String| text.strip_suffix("\r\n").unwrap().to_owned();
    vec![
        ("no credential", 401, strip(head("POST", "/v1/projects", "", json))),
        ("no such path", 404, strip(head("POST", "/v1/nothing", secret, json))),
        ("no such method", 405, strip(head("PUT", "/v1/projects", secret, json))),
        ("an unknown parameter", 400, strip(head("POST", "/v1/projects?a=b", secret, json))),
        ("a body too large", 413, strip(head("POST", "/v1/projects", secret, json))),
        ("another media type", 415, strip(head("POST", "/v1/projects", secret, text))),
        ("a body on GET", 400, strip(head("GET", "/v1/projects", secret, json))),
    ]
}

/// Sends the complete body before reading the response, as simple clients do.
async fn send_then_read(app: &TestApp, head: &str, is_chunked: bool) -> String {
    let mut stream = connect(&app.url).await;
    let framing =
        if is_chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {FIVE_MB}") };
    let mut bytes = format!("{head}{framing}\r\n\r\n").into_bytes();
    if is_chunked {
        for _ in 0..FIVE_MB / 50_000 {
            bytes.extend(format!("{:x}\r\n", 50_000).into_bytes());
            bytes.extend([b'a'; 50_000]);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
    } else {
        bytes.resize(bytes.len() + FIVE_MB, b'a');
    }
    stream.write_all(&bytes).await.unwrap();
    read_response(&mut stream).await
}

#[tokio::test]
async fn early_refusal_reaches_client_that_sends_five_megabytes_first() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    for (what, status, head) in refused_early(&user.secret) {
        for is_chunked in [false, true] {
            for _ in 0..5 {
                let answer = send_then_read(&app, &head, is_chunked).await;
                assert_eq!(status_of(&answer), status, "{what}, chunked: {is_chunked}: {answer:.300}");
                assert!(answer.contains("\"request_id\""), "{what}: {answer:.300}");
            }
        }
    }
}

#[tokio::test]
async fn early_refusal_over_http2_leaves_connection_usable() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let mut connection = http2_to(&app).await;
    for (secret, status) in [("", 401), (user.secret.as_str(), 413)] {
        for _ in 0..5 {
            let request = Request::post(format!("{}/v1/projects", app.url))
                .header("authorization", format!("Bearer {secret}"))
                .header("content-type", "application/json")
                .body(filled(vec![b'a'; FIVE_MB]))
                .unwrap();
            let response = connection.send_request(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(!body.is_empty());
        }
    }
    let request = Request::get(format!("{}/healthz", app.url)).body(empty_data()).unwrap();
    assert_eq!(connection.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn early_refusal_reaches_reqwest_client() {
    let app = TestApp::shared().await;
    for _ in 0..10 {
        let call = app.anonymous().request("POST", "/v1/projects").header("content-type", "application/json");
        call.body(vec![b'a'; FIVE_MB]).send().await.problem(401, "missing_credentials");
    }
}

#[tokio::test]
async fn connection_stays_usable_after_unread_body() {
    let app = TestApp::shared().await;
    let mut stream = connect(&app.url).await;
    for size in [10, 100_000, 1_000_000] {
        let request = head("POST", "/v1/projects", "", &format!("content-length: {size}\r\n"));
        send(&mut stream, request).await;
        send(&mut stream, vec![b'a'; size]).await;
        let answer = read_response(&mut stream).await;
        assert_eq!(status_of(&answer), 401, "{answer}");
    }
    send(&mut stream, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status_of(&read_response(&mut stream).await), 200);
}

/// Sends until the server closes the connection; returns the number of bytes sent.
async fn send_without_end(stream: &mut TcpStream) -> usize {
    let (piece, mut sent) = (vec![b'a'; 64 * 1024], 0);
    while stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    sent
}

#[tokio::test]
async fn connection_with_endless_body_is_closed_after_limit() {
    let app = TestApp::start().await;
    for framing in ["content-length: 1000000000000", "transfer-encoding: chunked"] {
        let mut stream = connect(&app.url).await;
        let began = Instant::now();
        let start = if framing.starts_with('c') { "" } else { "ffffffffff\r\n" };
        send(&mut stream, format!("{}{start}", head("POST", "/v1/projects", "", &format!("{framing}\r\n")))).await;
        let answer = read_response(&mut stream).await;
        assert_eq!(status_of(&answer), 401, "{answer}");
        if framing.starts_with('c') {
            assert!(answer.contains("connection: close"), "no `connection: close`: {answer}");
        }
        send_without_end(&mut stream).await;
        assert!(began.elapsed() < crate::support::WAIT_LIMIT, "{framing}");
    }
    eventually("all connections closed", async || app.edge.connections.is_empty().then_some(())).await;
}

#[tokio::test]
async fn client_that_expects_100_continue_gets_refusal_and_close() {
    let app = TestApp::shared().await;
    let mut stream = connect(&app.url).await;
    let more = format!("content-length: {FIVE_MB}\r\nexpect: 100-continue\r\n");
    send(&mut stream, head("POST", "/v1/projects", "", &more)).await;
    let answer = read_response(&mut stream).await;
    assert!(status_of(&answer) == 401 && answer.contains("connection: close"), "{answer}");
}
