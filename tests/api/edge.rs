//! Checks on every request, independent of the route: limits, strict parsing, errors, headers.

use cloudapi::base::identity::secret::SecretKind;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Bearer, Identity, Reply, TestApp, app::unknown_secret};

/// Sends raw bytes and reads the response to its end.
async fn raw(app: &TestApp, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    // The server may respond and close before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn unknown_path_is_404_without_credentials() {
    let app = TestApp::start().await;
    for path in ["//", "/v1", "/v1/nothing", "/v2/projects", "/v1/projects/", "/v1/keys/a/b"] {
        app.anonymous().get(path).await.problem(404, "route_not_found");
    }
}

#[tokio::test]
async fn unsupported_method_is_405_with_allow_header() {
    let app = TestApp::start().await;
    let reply = app.anonymous().request("PUT", "/v1/projects").send().await;
    assert_eq!(reply.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
    reply.problem(405, "method_not_allowed");
    let reply = app.anonymous().request("OPTIONS", "/v1/keys/key_7d1").send().await;
    assert_eq!((reply.status, reply.header("allow")), (204, Some("GET, PATCH, DELETE, HEAD, OPTIONS")));
}

#[tokio::test]
async fn head_is_get_without_body() {
    let app = TestApp::start().await;
    let key = app.owner().await.key().await;
    let (get, head) = (key.get("/v1/projects").await, key.request("HEAD", "/v1/projects").send().await);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    app.anonymous().request("HEAD", "/v1/projects").send().await.expect(reqwest::StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn credential_is_accepted_only_in_a_single_authorization_header() {
    let app = TestApp::start().await;
    let key = app.owner().await.key().await;
    let nobody = app.anonymous();
    let challenge = |reply: &Reply| reply.header("www-authenticate").unwrap().to_owned();

    let reply = nobody.get("/v1/projects").await;
    assert_eq!(challenge(&reply), "Bearer realm=\"cloudapi\"");
    reply.problem(401, "missing_credentials");
    nobody.get(&format!("/v1/projects?access_token={}", key.secret)).await.problem(401, "missing_credentials");
    let cookie = nobody.request("GET", "/v1/projects").header("cookie", &format!("token={}", key.secret));
    cookie.send().await.problem(401, "missing_credentials");
    let basic = nobody.request("GET", "/v1/projects").header("authorization", "Basic dXNlcjpwYXNz");
    basic.send().await.problem(401, "missing_credentials");
    let twice = key.request("GET", "/v1/projects").header("authorization", &format!("Bearer {}", key.secret));
    twice.send().await.problem(400, "malformed_request");

    for spelling in [format!("bearer {}", key.secret), format!("BEARER   {}", key.secret)] {
        nobody.request("GET", "/v1/projects").header("authorization", &spelling).send().await.ok();
    }
    for kind in [SecretKind::Session, SecretKind::Key, SecretKind::Token] {
        Bearer { app: &app, secret: unknown_secret(kind) }.get("/v1/projects").await.problem(401, "invalid_token");
    }
    let (start, _) = key.secret.split_at(key.secret.len() - 1);
    for junk in ["", "sk_live_", "junk", start, &format!("{start}é")] {
        let header = format!("Bearer {junk}");
        let reply = nobody.request("GET", "/v1/projects").header("authorization", &header).send().await;
        assert_eq!(reply.status, 401, "{junk:?}");
    }
}

#[tokio::test]
async fn junk_secrets_never_reach_the_database() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    app.db.close().await;
    let (start, _) = owner.secret.split_at(owner.secret.len() - 1);
    // 401 rather than 503, because the database is not queried.
    Bearer { app: &app, secret: format!("{start}!") }.get("/v1/projects").await.problem(401, "invalid_token");
    // Another secret than the owner's, which may be cached.
    let unknown = unknown_secret(SecretKind::Session);
    Bearer { app: &app, secret: unknown }.get("/v1/projects").await.problem(503, "auth_unavailable");
}

#[tokio::test]
async fn unknown_duplicate_and_out_of_range_query_parameters_are_rejected() {
    let app = TestApp::start().await;
    let key = app.owner().await.key().await;
    for (query, code, parameter) in [
        ("limt=5", "unknown_parameter", "limt"),
        ("project_id=x", "unknown_parameter", "project_id"),
        ("limit=5&limit=6", "duplicate_parameter", "limit"),
        ("limit=0", "invalid_parameter", "limit"),
        ("limit=101", "invalid_parameter", "limit"),
        ("limit=-1", "invalid_parameter", "limit"),
        ("limit=1e1", "invalid_parameter", "limit"),
        ("limit=%2B1", "invalid_parameter", "limit"),
        ("limit=", "invalid_parameter", "limit"),
        ("limit=99999999999999999999", "invalid_parameter", "limit"),
        ("order=up", "invalid_parameter", "order"),
        ("cursor=usr_8f2", "invalid_cursor", "cursor"),
        ("cursor=", "invalid_cursor", "cursor"),
        ("cursor=proj_0", "invalid_cursor", "cursor"),
        ("cursor=%27%3B--", "invalid_cursor", "cursor"),
    ] {
        let problem = key.get(&format!("/v1/projects?{query}")).await.problem(400, code);
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{query}: {problem}");
        let item = match code {
            "unknown_parameter" => "unknown_field",
            "invalid_cursor" => "invalid_format",
            "invalid_parameter" if parameter == "order" => "unknown_value",
            "invalid_parameter"
                if query.starts_with("limit=0") || query.starts_with("limit=101") || query == "limit=-1" =>
            {
                "out_of_range"
            }
            "duplicate_parameter" => "out_of_range",
            _ => continue,
        };
        assert_eq!(problem["errors"][0]["code"], item, "{query}: {problem}");
    }
    let problem = key.get("/v1/projects?limt=5").await.problem(400, "unknown_parameter");
    assert!(problem["detail"].as_str().unwrap().contains("did you mean 'limit'?"), "{problem}");
    let wrong = key.get("/v1/projects?order=up").await.problem(400, "invalid_parameter");
    assert!(wrong["detail"].as_str().unwrap().contains("use one of: asc, desc"), "{wrong}");
    for query in ["limit=1", "limit=100", "order=desc", "cursor=proj_1", ""] {
        key.get(&format!("/v1/projects?{query}")).await.ok();
    }
    key.get("/v1/keys/key_1?x=1").await.problem(400, "unknown_parameter");
    key.delete("/v1/keys/key_1?force=true").await.problem(400, "unknown_parameter");
}

#[tokio::test]
async fn unexpected_body_is_rejected_but_content_type_alone_is_accepted() {
    let app = TestApp::start().await;
    let key = app.owner().await.key().await;
    key.request("GET", "/v1/projects").body("{}").send().await.problem(400, "unexpected_body");
    key.request("DELETE", "/v1/keys/key_1").body("{}").send().await.problem(400, "unexpected_body");
    key.request("GET", "/v1/projects").header("content-type", "application/json").send().await.ok();
}

#[tokio::test]
async fn body_must_be_json_with_json_content_type() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let post = |media_type: &str, body: &str| {
        user.request("POST", "/v1/projects").header("content-type", media_type).body(body.to_owned()).send()
    };
    for media_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json5", "*/*"]
    {
        post(media_type, r#"{"name":"n"}"#).await.problem(415, "unsupported_media_type");
    }
    user.request("POST", "/v1/projects").body("{}").send().await.problem(415, "unsupported_media_type");
    let gzip = user.request("POST", "/v1/projects").json(&json!({ "name": "n" })).header("content-encoding", "gzip");
    gzip.send().await.problem(415, "unsupported_media_type");
    for media_type in ["application/json", "Application/JSON; charset=utf-8"] {
        post(media_type, r#"{"name":"n"}"#).await.created();
    }
    for body in [
        "",
        " ",
        "{",
        "{}}",
        "nul",
        "{'name':'n'}",
        r#"{"name":"a","name":"b"}"#,
        r#"{"name":"\ud800"}"#,
        "\u{feff}{}",
        &"[".repeat(10_000),
        "[1,]",
        "01",
        &"9".repeat(40_000),
    ] {
        let reply = post("application/json", body).await;
        assert!(matches!(reply.status, 400 | 422), "{} for {body:.20}", reply.status);
        assert!(reply.status == 422 || reply["code"] == "malformed_json");
    }
    let overlong = user
        .request("POST", "/v1/projects")
        .header("content-type", "application/json")
        .body(&b"{\"name\":\"\xc0\xaf\"}"[..]);
    overlong.send().await.problem(400, "malformed_json");
    for body in ["[]", "\"name\"", "7", "null", "true"] {
        let problem = post("application/json", body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], "#");
    }
}

#[tokio::test]
async fn body_is_limited_to_64_kib_with_or_without_content_length() {
    let app = TestApp::start().await;
    let user = app.user().await;
    let body = |size: usize| format!("{{\"name\":\"n\"{}}}", " ".repeat(size - 12));
    let sized =
        |size| user.request("POST", "/v1/projects").header("content-type", "application/json").body(body(size)).send();
    sized(64 * 1024).await.created();
    sized(64 * 1024 + 1).await.problem(413, "payload_too_large");
    let host = "host: x\r\nconnection: close\r\ncontent-type: application/json";
    for (size, status) in [(64 * 1024, "201"), (64 * 1024 + 1, "413")] {
        let head = format!("POST /v1/projects HTTP/1.1\r\n{host}\r\nauthorization: Bearer {}\r\n", user.secret);
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n", body(size));
        let answer = raw(&app, chunked.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:.200}");
    }
}

#[tokio::test]
async fn head_is_limited_to_16_kib_and_uri_to_8_kib() {
    let app = TestApp::start().await;
    let nobody = app.anonymous();
    let with_header = |size: usize| nobody.request("GET", "/healthz").header("x-long", &"a".repeat(size)).send();
    with_header(15 * 1024).await.ok();
    with_header(16 * 1024).await.problem(431, "headers_too_large");
    with_header(48 * 1024).await.problem(431, "headers_too_large");
    nobody.get(&format!("/healthz?{}", "a".repeat(8 * 1024))).await.problem(414, "uri_too_long");
    // Beyond the parser's limit, the response is not a problem document.
    let answer =
        raw(&app, format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(200_000)).as_bytes())
            .await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:.100}");
}

#[tokio::test]
async fn non_http_input_is_rejected_and_server_keeps_running() {
    let app = TestApp::start().await;
    for request in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        let answer = raw(&app, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    app.anonymous().get("/healthz").await.ok();
}

#[tokio::test]
async fn request_id_is_generated_by_the_server_for_each_request() {
    let app = TestApp::start().await;
    let ask = || app.anonymous().request("GET", "/healthz").header("x-request-id", "req_1").send();
    let (one, two) = (ask().await, ask().await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    assert_ne!(one.header("x-request-id"), Some("req_1"));
}

#[tokio::test]
async fn credential_kind_is_checked_before_query_and_body() {
    let app = TestApp::start().await;
    let key = app.owner().await.key().await;
    let wrong = "/v1/keys?nonsense=1";
    let body = "not json";
    app.anonymous().request("POST", wrong).body(body).send().await.problem(401, "missing_credentials");
    key.request("POST", wrong).body(body).send().await.problem(403, "credential_kind_not_allowed");
    let session = app.owner().await;
    session.request("POST", wrong).body(body).send().await.problem(400, "unknown_parameter");
    session.request("POST", "/v1/keys").body(body).send().await.problem(415, "unsupported_media_type");
    let json = session.request("POST", "/v1/keys").header("content-type", "application/json");
    json.body(body).send().await.problem(400, "malformed_json");
}

#[tokio::test]
async fn ambiguous_framing_is_rejected_with_one_response() {
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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
    let app = TestApp::start().await;
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

#[tokio::test]
async fn response_lists_at_most_fifty_validation_errors() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = owner.key().await;
    let scopes: Vec<String> = (0..5000).map(|n| format!("x{n}")).collect();
    let members: serde_json::Map<_, _> = (0..5000).map(|n| (format!("k{n}"), json!(1))).collect();
    for body in [json!({ "name": "n", "scopes": scopes }), json!(members)] {
        let problem = key.post("/v1/tokens", body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 50);
        assert!(
            problem["detail"].as_str().unwrap().starts_with("More than 50 members are invalid"),
            "{}",
            problem["detail"]
        );
    }
}
