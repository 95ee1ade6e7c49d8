//! What the server writes to its log.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::binary::Deployment;

async fn ask(url: &str, headers: &[(&str, &[u8])]) {
    let mut request = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
    for (name, value) in headers {
        request = request.header(*name, reqwest::header::HeaderValue::from_bytes(value).unwrap());
    }
    request.send().await.unwrap();
}

#[tokio::test]
async fn every_line_is_one_json_object_whatever_a_client_sends() {
    let deployment = Deployment::new();
    let server = deployment.serve();
    let url = |path: &str| format!("{}{path}", server.url);
    ask(&url("/v1/projects"), &[("x-request-id", b"build-42_a")]).await;
    let long = "a".repeat(65);
    for hostile in [&b"evil\"},{\"level\":\"ERROR"[..], b"\xff\xfe", b"\x1b[31mred", b"a b", b"", long.as_bytes()] {
        let header = reqwest::header::HeaderValue::from_bytes(hostile);
        // What no header can hold never arrives.
        if header.is_ok() {
            ask(&url("/v1/projects"), &[("x-request-id", hostile)]).await;
        }
    }
    ask(&url("/v1/%0d%0aforged%20line?x=%0a%22%7d"), &[]).await;
    ask(&url("/v1/keys/%22%7d%0a"), &[("user-agent", b"\"}\t{")]).await;

    let ended = server.end(Signal::SIGTERM);
    let lines: Vec<Value> = ended
        .errors
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
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
        // The template, never what the client wrote.
        assert!(!line.to_string().contains("forged") && !line.to_string().contains("%0"), "{line}");
    }
}
