//! Requests with ambiguous framing are rejected, so that no proxy and the server disagree about their end.

use serde_json::json;

use super::raw;
use crate::support::{Identity, TestApp};

#[tokio::test]
async fn ambiguous_framing_is_rejected_with_one_response() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let head = |more: &str| {
        format!(
            "POST /v1/projects HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n{more}",
            user.secret
        )
    };
    let json = "content-type: application/json\r\n";
    for (what, request) in [
        (
            "a coding besides chunks",
            head(&format!("{json}transfer-encoding: gzip, chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n")),
        ),
        ("two media types", head(&format!("{json}content-type: text/plain\r\ncontent-length: 2\r\n\r\n{{}}"))),
        ("two hosts", head(&format!("host: y\r\n{json}content-length: 2\r\n\r\n{{}}"))),
        ("no host", head(&format!("{json}content-length: 2\r\n\r\n{{}}")).replace("host: x\r\n", "")),
    ] {
        let answer = raw(&app, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("malformed_request"), "{what}: {answer}");
        assert_eq!(answer.matches("x-request-id:").count(), 1, "{what}: expected one response: {answer}");
    }
    // HTTP/1.0 requires no Host.
    assert!(raw(&app, b"GET /healthz HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 "));
}

/// The number of responses in `answer`, counted by their Date headers.
fn responses(answer: &str) -> usize {
    answer.matches("\r\ndate: ").count()
}

/// Requests with ambiguous framing, each with a description. If accepted, the request creates a project.
fn ambiguous(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let body = r#"{"name":"n"}"#;
    let length = format!("content-length: {}\r\n", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let line = "POST /v1/projects HTTP/1.1\r\n";
    let rest = format!("host: x\r\nauthorization: Bearer {secret}\r\ncontent-type: application/json\r\n");
    let with = |more: &str, body: &str| format!("{line}{rest}{more}\r\n{body}");
    let good = with(&length, body);
    let coding = "transfer-encoding: chunked\r\n";
    let requests = vec![
        ("LF at the end of every line", good.replace("\r\n", "\n")),
        ("LF after the request line", good.replacen("\r\n", "\n", 1)),
        ("LF after a header", good.replacen("host: x\r\n", "host: x\n", 1)),
        ("LF for the empty line", good.replacen("\r\n\r\n", "\r\n\n", 1)),
        ("LF before the request line", format!("\n{good}")),
        ("CR alone at the end of a header", good.replacen("host: x\r\n", "host: x\r", 1)),
        ("CR in a value", good.replacen("host: x\r\n", "host: x\r\nx-a: a\rb\r\n", 1)),
        ("NUL in a value", good.replacen("host: x\r\n", "host: x\r\nx-a: a\0b\r\n", 1)),
        ("a length and chunks", with(&format!("{length}{coding}"), &chunks)),
        ("chunks and a length", with(&format!("{coding}{length}"), &chunks)),
        ("two lengths that differ", with(&format!("{length}content-length: 1\r\n"), body)),
        ("two lengths that are the same", with(&format!("{length}{length}"), body)),
        ("a list of lengths", with(&format!("content-length: {0}, {0}\r\n", body.len()), body)),
        ("a length with a sign", with(&format!("content-length: +{}\r\n", body.len()), body)),
        ("a negative length", with("content-length: -1\r\n", body)),
        ("a length in hex", with("content-length: 0xc\r\n", body)),
        ("an empty length", with("content-length: \r\n", body)),
        ("a length beyond 64 bits", with("content-length: 99999999999999999999999\r\n", body)),
        ("identity before chunks", with("transfer-encoding: identity, chunked\r\n", &chunks)),
        ("identity after chunks", with("transfer-encoding: chunked, identity\r\n", &chunks)),
        ("identity alone", with("transfer-encoding: identity\r\n", body)),
        ("chunks twice", with("transfer-encoding: chunked, chunked\r\n", &chunks)),
        ("two codings in two lines", with(&format!("transfer-encoding: gzip\r\n{coding}"), &chunks)),
        ("chunked twice in two lines", with(&format!("{coding}{coding}"), &chunks)),
        ("an unknown coding", with("transfer-encoding: xchunked\r\n", &chunks)),
        ("a coding with a vertical tab", with("transfer-encoding: \x0bchunked\r\n", &chunks)),
        ("a space before the colon", with(&length.replace(':', " :"), body)),
        ("a space before the colon of a coding", with("transfer-encoding : chunked\r\n", &chunks)),
        ("a folded line", with(&format!("{length}x-a: a\r\n b\r\n"), body)),
        ("a folded coding", with("transfer-encoding:\r\n chunked\r\n", &chunks)),
        ("a line that begins with a space", good.replacen("host: x\r\n", " host: x\r\nhost: x\r\n", 1)),
        ("a line without a colon", with(&format!("{length}x-a\r\n"), body)),
        ("no name before the colon", with(&format!("{length}: a\r\n"), body)),
        ("a chunk's size with a sign", with(coding, &chunks.replacen('c', "+c", 1))),
        ("a chunk's size in another notation", with(coding, &format!("0x{chunks}"))),
        ("a chunk's size beyond 64 bits", with(coding, &chunks.replacen('c', "1000000000000000c", 1))),
        ("LF after a chunk's size", with(coding, &chunks.replacen("\r\n", "\n", 1))),
        ("LF after a chunk", with(coding, &chunks.replacen("}\r\n", "}\n", 1))),
        ("LF in a chunk's extension", with(coding, &chunks.replacen("\r\n", ";a=\nb\r\n", 1))),
        ("a chunk that is longer than its size", with(coding, &chunks.replacen('c', "b", 1))),
        ("no host", good.replacen("host: x\r\n", "", 1)),
        ("two hosts", good.replacen("host: x\r\n", "host: x\r\nhost: y\r\n", 1)),
        ("the same host twice", good.replacen("host: x\r\n", "host: x\r\nhost: x\r\n", 1)),
        ("a host with a space", good.replacen("host: x\r\n", "host: x y\r\n", 1)),
        ("a host with a user", good.replacen("host: x\r\n", "host: a@x\r\n", 1)),
        ("a host with a path", good.replacen("host: x\r\n", "host: x/y\r\n", 1)),
        ("an absolute target and no host", good.replacen("host: x\r\n", "", 1).replacen("/v1", "http://x/v1", 1)),
        ("two spaces in the request line", good.replacen("POST ", "POST  ", 1)),
        ("a tab in the request line", good.replacen("POST ", "POST\t", 1)),
        ("chunks over HTTP/1.0", with(coding, &chunks).replacen("HTTP/1.1", "HTTP/1.0", 1)),
    ];
    requests.into_iter().map(|(what, text)| (what, text.into_bytes())).collect()
}

#[tokio::test]
async fn every_ambiguous_framing_is_rejected_and_connection_is_closed() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let next = format!("GET /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", user.secret);
    for (what, request) in ambiguous(&user.secret) {
        // The bytes that follow could be read as a separate request or as part of this one.
        let answer = raw(&app, &[&request[..], next.as_bytes()].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{what}: {answer}");
        assert_eq!(responses(&answer), 1, "{what}: expected one response: {answer}");
    }
    assert_eq!(user.get("/v1/projects").await.ok()["data"], json!([]), "a rejected request created a project");
}

#[tokio::test]
async fn ambiguous_head_is_rejected_after_any_request_on_the_connection() {
    let app = TestApp::shared().await;
    let user = app.user().await;
    let secret = &user.secret;
    let firsts = [
        "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\na\nb\r\n\r\nc\n".to_owned(),
        "POST /v1/nothing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\n\n\n\n\r\n0\r\n\r\n"
            .to_owned(),
    ];
    for first in firsts {
        for (what, bad) in ambiguous(secret) {
            let answer = raw(&app, &[first.as_bytes(), &bad].concat()).await;
            assert_eq!(responses(&answer), 2, "{what} after {first:?}: {answer}");
            assert!(answer.contains(" 400 Bad Request"), "{what} after {first:?}: {answer}");
        }
    }
    assert_eq!(user.get("/v1/projects").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn valid_but_unusual_heads_are_accepted() {
    let app = TestApp::shared().await;
    for (what, request) in [
        ("an absolute target with another Host", "GET http://other/healthz HTTP/1.1\r\nhost: x\r\n"),
        ("an empty Host", "GET /healthz HTTP/1.1\r\nhost:\r\n"),
        ("a Host with a port", "GET /healthz HTTP/1.1\r\nhost: x:80\r\n"),
        ("a Host that is an address", "GET /healthz HTTP/1.1\r\nHost: [::1]:8080\r\n"),
        ("an empty line before the request", "\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n"),
        ("spaces around a value", "GET /healthz HTTP/1.1\r\nhost: \t x \t\r\n"),
        ("a length of zero", "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n"),
    ] {
        let answer = raw(&app, format!("{request}connection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{what}: {answer}");
    }
}
