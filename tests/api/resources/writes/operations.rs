//! Operations: wait, get, list and cancel.

use std::time::{Duration, Instant};

use cloudapi::{base::runtime::lifecycle::Phase, http::layers::edge::EdgeOptions, server::state::AppOptions};
use serde_json::{Value, json};

use super::{RESOURCES, conflict, instance, made, make, network, path, pipeline, start, volume};
use crate::support::{
    Identity, TestApp,
    cloud::{finish_and_wait, id_of, insert_operation, network_in, stalled_provider, wait_until_ended},
    eventually,
};

fn at(submitted: &Value) -> String {
    format!("/v1/operations/{}", id_of(&submitted["operation"]))
}

#[tokio::test]
async fn wait_returns_when_the_operation_ends_or_the_time_is_over() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, volume(1)).await.accepted();
    let began = Instant::now();
    let waited = key.get(&format!("{}?wait=1", at(&submitted))).await.ok();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((&waited["status"], &waited["finished_at"]), (&json!("running"), &Value::Null));
    // The response comes soon after the operation's end, long before the time limit.
    let waiting = async { (key.get(&format!("{}?wait=60", at(&submitted))).await.ok(), Instant::now()) };
    let ((ended, responded_at), ended_at) = tokio::join!(waiting, async {
        finish_and_wait(&key, &submitted).await;
        Instant::now()
    });
    assert_eq!(ended["status"], "succeeded");
    assert!(responded_at < ended_at + Duration::from_secs(3), "{:?}", responded_at - ended_at);
    // Ended operations are returned immediately.
    let began = Instant::now();
    key.get(&format!("{}?wait=60", at(&submitted))).await.ok();
    assert!(began.elapsed() < Duration::from_secs(5));
    for wrong in ["wait=61", "wait=-1", "wait=yes", "wait=1&wait=1"] {
        assert_eq!(key.get(&format!("{}?{wrong}", at(&submitted))).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn waiting_clients_hold_no_request_slot_and_no_connection() {
    let limits = cloudapi::http::layers::edge::EdgeLimits { max_requests: 2, ..Default::default() };
    let options = AppOptions {
        cloud: stalled_provider(),
        edge: EdgeOptions { limits, ..EdgeOptions::default() },
        ..AppOptions::default()
    };
    let app = TestApp::start_with(options).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, volume(1)).await.accepted();
    let wait = format!("{}?wait=60", at(&submitted));
    // More than there are request slots and database connections. Each needs a slot only until it waits, and repeats its
    // request while there is none.
    let waiting = futures_util::future::join_all((0..20).map(|_| {
        eventually("a slot for a waiting client", async || {
            let reply = key.get(&wait).await;
            (reply.status != 503).then_some(reply)
        })
    }));
    let others = async {
        tokio::task::yield_now().await;
        for _ in 0..20 {
            eventually("a slot for another request", async || {
                let reply = key.get(&format!("{RESOURCES}?limit=1")).await;
                assert!(matches!(reply.status, 200 | 503), "{}", reply.status);
                (reply.status == 200).then_some(())
            })
            .await;
        }
        eventually("the operation has ended", async || {
            sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&app.db).await.unwrap();
            let reply = key.get(&at(&submitted)).await;
            (reply.status == 200 && !reply["finished_at"].is_null()).then_some(())
        })
        .await;
    };
    let (waited, ()) = tokio::join!(waiting, others);
    for reply in waited {
        assert_eq!(reply.ok()["status"], "succeeded");
    }
}

#[tokio::test]
async fn stopping_server_ends_all_waits() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, volume(1)).await.accepted();
    let began = Instant::now();
    let wait = format!("{}?wait=25", at(&submitted));
    let (waited, ()) = tokio::join!(key.get(&wait), async {
        eventually("the operation to run", async || {
            (key.get(&at(&submitted)).await["status"] == "running").then_some(())
        })
        .await;
        app.lifecycle.enter(Phase::Draining);
    });
    assert_eq!(waited.ok()["status"], "running");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn canceled_operation_is_undone_and_reported() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, instance(None, &[])).await.accepted();
    let id = id_of(&finish_and_wait(&key, &submitted).await);
    let change = key.patch(&path(&id), json!({ "spec": { "size": "large" } })).await.accepted();
    let cancel = format!("{}/cancel", at(&change));
    let asked = key.post_empty(&cancel).await.accepted();
    assert_eq!((&asked["operation"]["id"], &asked["resource"]["id"]), (&change["operation"]["id"], &json!(id)));
    // Canceling again changes nothing.
    let again = key.post_empty(&cancel).await;
    assert!([202, 409].contains(&again.status), "{}", again.json());
    eventually("the operation to be canceled", async || {
        sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&app.db).await.unwrap();
        (key.get(&at(&change)).await["status"] == "canceled").then_some(())
    })
    .await;
    let now = key.get(&path(&id)).await.ok();
    assert_eq!((&now["status"]["phase"], &now["spec"]["size"]), (&json!("active"), &json!("small")));
    assert!(conflict(key.post_empty(&cancel).await, "invalid_state").contains("is over (canceled)"));
    assert!(
        conflict(key.post_empty(&format!("{}/cancel", at(&submitted))).await, "invalid_state").contains("succeeded")
    );
}

#[tokio::test]
async fn deletion_in_progress_cannot_be_canceled() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, volume(20)).await.accepted();
    let id = id_of(&finish_and_wait(&key, &submitted).await);
    let deletion = key.delete(&path(&id)).await.accepted();
    eventually("the deletion to run", async || (key.get(&at(&deletion)).await["status"] == "running").then_some(()))
        .await;
    let detail = conflict(key.post_empty(&format!("{}/cancel", at(&deletion))).await, "invalid_state");
    assert!(detail.contains("cannot be undone"), "{detail}");
}

#[tokio::test]
async fn operations_can_be_filtered_by_resource_status_and_type() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let (first, second) = (made(&key, volume(1)).await, made(&key, network()).await);
    let gone = key.delete(&path(&second)).await.accepted();
    wait_until_ended(&key, &gone).await;
    let busy = made(&owner, network_in(&owner.project)).await;
    insert_operation(&app, &busy).await;
    let listed = async |query: &str| {
        let page = key.get(&format!("/v1/operations?{query}")).await.ok();
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["type"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("limit=100").await, ["create", "create", "delete", "create", "sync"]);
    assert_eq!(listed(&format!("resource_id={second}")).await, ["create", "delete"]);
    assert_eq!(listed(&format!("resource_id={first}&order=desc")).await, ["create"]);
    assert_eq!(listed("status=running").await, ["sync"]);
    assert_eq!(listed("type=delete").await, ["delete"]);
    assert_eq!(listed("status=failed").await, [""; 0]);
    for wrong in ["status=over", "type=make", "resource_id=op_1"] {
        assert_eq!(key.get(&format!("/v1/operations?{wrong}")).await.status, 400, "{wrong}");
    }
    owner.get("/v1/operations").await.problem(400, "project_required");
    let resource = make(&key, volume(1)).await;
    assert_eq!(resource["status"]["phase"], "active");
}
