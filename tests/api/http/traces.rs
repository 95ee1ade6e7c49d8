//! W3C Trace Context: a client's `traceparent` appears in the log.

use serde_json::{Value, json};

use crate::support::{Identity, Reply, TestApp, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Fields of the log line with this message about a request.
async fn logged(app: &TestApp, reply: &Reply, message: &str) -> Value {
    let id = reply.header("x-request-id").unwrap().to_owned();
    eventually("the log line", async || {
        let log = app.leak_detector.logged();
        let lines = log.lines().filter(|line| line.contains(&id)).map(|line| serde_json::from_str(line).unwrap());
        lines.map(|line: Value| line["fields"].clone()).find(|fields| fields["message"] == message)
    })
    .await
}

async fn trace_of(app: &TestApp, headers: &[&str]) -> String {
    let mut request = app.http.get(format!("{}/v1/projects", app.url));
    for value in headers {
        request = request.header("traceparent", reqwest::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let reply = Reply::read(request.send().await.unwrap()).await;
    assert_eq!(reply.status, 401);
    let trace = logged(app, &reply, "request completed").await["trace_id"].as_str().unwrap().to_owned();
    assert!(trace.len() == 32 && trace.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{trace}");
    trace
}

#[tokio::test]
async fn trace_id_is_logged_for_the_request_and_its_change() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let given = format!("00-{TRACE}-{PARENT}-01");
    let request = owner.request("POST", "/v1/keys").json(&json!({ "project_id": owner.project }));
    let reply = request.header("traceparent", &given).send().await;
    assert_eq!(reply.status, 201);
    for message in ["request completed", "change committed"] {
        assert_eq!(logged(&app, &reply, message).await["trace_id"], TRACE, "{message}");
    }
    // A future version may have more fields, but begins with the same ones.
    assert_eq!(trace_of(&app, &[&format!("7f-{TRACE}-{PARENT}-00-more")]).await, TRACE);
}

#[tokio::test]
async fn invalid_or_repeated_traceparent_is_ignored() {
    let app = TestApp::start().await;
    let valid = format!("00-{TRACE}-{PARENT}-01");
    let zeros = "0".repeat(32);
    let mut seen = vec![TRACE.to_owned(), zeros.clone()];
    for headers in [
        vec![],
        vec![""],
        vec![valid.as_str(), valid.as_str()],
        vec![&format!("{valid},{valid}")],
        vec![&format!("{valid}-00")],
        vec![&format!("ff-{TRACE}-{PARENT}-01")],
        vec![&format!("00-{}-{PARENT}-01", TRACE.to_uppercase())],
        vec![&format!("00-{zeros}-{PARENT}-01")],
        vec![&format!("00-{TRACE}-0000000000000000-01")],
        vec![&format!("00-{TRACE}-{PARENT}")],
        vec![&format!("00-{}é-{PARENT}-01", &TRACE[..30])],
        vec![&format!("00-{TRACE}{PARENT}--01")],
        vec!["\"}{\"trace_id\":\"forged"],
    ] {
        let trace = trace_of(&app, &headers).await;
        // Each request gets a new trace ID.
        assert!(!seen.contains(&trace), "{headers:?}");
        seen.push(trace);
    }
}
