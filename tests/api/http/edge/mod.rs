//! Checks on every request, independent of the route: limits, strict parsing, errors, headers.

mod framing;

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
    let app = TestApp::shared().await;
    for path in ["//", "/v1", "/v1/nothing", "/v2/projects", "/v1/projects/", "/v1/keys/a/b"] {
        app.anonymous().get(path).await.problem(404, "route_not_found");
    }
}

#[tokio::test]
async fn unsupported_method_is_405_with_allow_header() {
    let app = TestApp::shared().await;
    let reply = app.anonymous().request("PUT", "/v1/projects").send().await;
    assert_eq!(reply.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
    reply.problem(405, "method_not_allowed");
    let reply = app.anonymous().request("OPTIONS", "/v1/keys/key_7d1").send().await;
    assert_eq!((reply.status, reply.header("allow")), (204, Some("GET, PATCH, DELETE, HEAD, OPTIONS")));
}

#[tokio::test]
async fn head_is_get_without_body() {
    let app = TestApp::shared().await;
    let key = app.owner().await.key().await;
    let (get, head) = (key.get("/v1/projects").await, key.request("HEAD", "/v1/projects").send().await);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    app.anonymous().request("HEAD", "/v1/projects").send().await.expect(reqwest::StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn credential_is_accepted_only_in_a_single_authorization_header() {
    let app = TestApp::shared().await;
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
    let app = TestApp::shared().await;
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
    let app = TestApp::shared().await;
    let key = app.owner().await.key().await;
    key.request("GET", "/v1/projects").body("{}").send().await.problem(400, "unexpected_body");
    key.request("DELETE", "/v1/keys/key_1").body("{}").send().await.problem(400, "unexpected_body");
    key.request("GET", "/v1/projects").header("content-type", "application/json").send().await.ok();
}

#[tokio::test]
async fn body_must_be_json_with_json_content_type() {
    let app = TestApp::shared().await;
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
    let app = TestApp::shared().await;
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
    let app = TestApp::shared().await;
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
    let app = TestApp::shared().await;
    for request in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        let answer = raw(&app, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    app.anonymous().get("/healthz").await.ok();
}

#[tokio::test]
async fn request_id_is_generated_by_the_server_for_each_request() {
    let app = TestApp::shared().await;
    let ask = || app.anonymous().request("GET", "/healthz").header("x-request-id", "req_1").send();
    let (one, two) = (ask().await, ask().await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    assert_ne!(one.header("x-request-id"), Some("req_1"));
}

#[tokio::test]
async fn credential_kind_is_checked_before_query_and_body() {
    let app = TestApp::shared().await;
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
async fn response_lists_at_most_fifty_validation_errors() {
    let app = TestApp::shared().await;
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
