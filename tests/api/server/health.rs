//! `/healthz` and `/readyz`.

use cloudapi::base::runtime::lifecycle::Phase;

use crate::support::{Identity, TestApp};

#[tokio::test]
async fn running_server_is_alive_and_ready() {
    let app = TestApp::start().await;
    assert_eq!(app.anonymous().get("/healthz").await.ok()["status"], "ok");
    let ready = app.anonymous().get("/readyz").await.ok();
    assert_eq!(ready["status"], "ready");
    assert_eq!(ready["checks"]["database"], "ok");
}

#[tokio::test]
async fn starting_or_stopping_server_is_alive_and_not_ready_with_the_reason() {
    let app = TestApp::start().await;
    for (phase, why) in [
        (Phase::Starting("the database does not answer".into()), "starting: the database does not answer"),
        (Phase::Draining, "stopping"),
    ] {
        app.lifecycle.enter(phase);
        app.anonymous().get("/healthz").await.ok();
        let reply = app.anonymous().get("/readyz").await;
        assert_eq!(reply.status, 503);
        assert_eq!(reply["checks"]["server"], why);
    }
}

#[tokio::test]
async fn server_without_database_is_not_ready_and_returns_503_with_retry_after() {
    let app = TestApp::start().await;
    // A key that the server has not cached.
    let key = app.owner().await.key().await;
    app.db.close().await;
    assert_eq!(app.anonymous().get("/readyz").await.status, 503);
    let reply = key.get("/v1/projects").await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    reply.problem(503, "auth_unavailable");
    let reply = app.anonymous().post("/v1/sessions", serde_json::json!({ "email": "a@b.c", "password": "x" })).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    reply.problem(503, "database_unavailable");
}
