//! Updates of resources, and actions on them.

use serde_json::{Value, json};

use super::{RESOURCES, conflict, faults, instance, made, make, network, path, pipeline, start, volume};
use crate::support::{
    Identity, TestApp,
    cloud::{finish_and_wait, id_of, stalled_provider, wait_until_succeeded},
};

fn at(pointer: &str, code: &str) -> Vec<(String, String)> {
    vec![(pointer.to_owned(), code.to_owned())]
}

#[tokio::test]
async fn spec_change_creates_a_generation_and_reaches_the_provider() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let made = make(&key, volume(20)).await;
    let at = path(&id_of(&made));
    let etag = made["etag"].as_str().unwrap();
    let patch = |tag: &str| {
        key.request("PATCH", &at).header("if-match", tag).json(&json!({ "spec": { "size_gib": 40 } })).send()
    };
    patch("\"0\"").await.problem(412, "precondition_failed");
    let submitted = patch(etag).await.accepted();
    assert_eq!(
        (&submitted["resource"]["generation"], &submitted["resource"]["spec"]),
        (&json!(2), &json!({ "size_gib": 40 }))
    );
    assert_eq!(submitted["resource"]["status"]["phase"], "updating");
    assert_eq!(submitted["operation"]["type"], "update");
    let after = wait_until_succeeded(&key, &submitted).await;
    assert_eq!((&after["status"]["phase"], &after["observed_generation"]), (&json!("active"), &json!(2)));
    patch(etag).await.problem(412, "precondition_failed");
    let object: Value = sqlx::query_scalar("SELECT spec FROM sim_objects").fetch_one(&app.db).await.unwrap();
    assert_eq!(object["size_gib"], 40);
}

#[tokio::test]
async fn changes_without_the_provider_succeed_immediately() {
    let app = TestApp::start().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let made = make(&key, volume(20)).await;
    let at = path(&id_of(&made));
    let body = json!({ "protection": true, "reconcile": "enforce", "ttl_seconds": 3600, "spec": { "size_gib": 20 } });
    let submitted = key.patch(&at, body).await.accepted();
    let (resource, operation) = (&submitted["resource"], &submitted["operation"]);
    assert_eq!((&operation["status"], &operation["progress"]), (&json!("succeeded"), &json!(100)));
    assert_eq!(operation["finished_at"], operation["created_at"]);
    assert_eq!((&resource["status"]["phase"], &resource["generation"]), (&json!("active"), &json!(1)));
    assert_eq!((&resource["protection"], &resource["reconcile"]), (&json!(true), &json!("enforce")));
    assert!(resource["expires_at"].is_string());
    // The provider stores the name and labels too.
    let renamed = key.patch(&at, json!({ "name": "other", "labels": { "a": "b" } })).await.accepted();
    assert_eq!((&renamed["operation"]["status"], &renamed["resource"]["generation"]), (&json!("queued"), &json!(1)));
    wait_until_succeeded(&key, &renamed).await;
    let (name, labels): (String, Value) =
        sqlx::query_as("SELECT name, labels FROM sim_objects").fetch_one(&app.db).await.unwrap();
    assert_eq!((name.as_str(), labels), ("other", json!({ "a": "b" })));
}

#[tokio::test]
async fn unsupported_and_invalid_spec_changes_are_reported_with_a_pointer() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let (network, volume) = (made(&key, network()).await, made(&key, volume(20)).await);
    let instance = made(&key, instance(None, &[])).await;
    let reported =
        async |id: &str, spec: Value, code: &str| faults(key.patch(&path(id), json!({ "spec": spec })).await, code);
    const CANNOT: &str = "unsupported_capability";
    assert_eq!(reported(&network, json!({ "cidr": "10.1.0.0/16" }), CANNOT).await, at("#/spec/cidr", "unsupported"));
    assert_eq!(reported(&volume, json!({ "size_gib": 10 }), CANNOT).await, at("#/spec/size_gib", "unsupported"));
    assert_eq!(reported(&instance, json!({ "image": "debian-13" }), CANNOT).await, at("#/spec/image", "unsupported"));
    assert_eq!(reported(&instance, json!({ "network": network }), CANNOT).await, at("#/spec/network", "unsupported"));
    assert_eq!(reported(&instance, json!({ "size": "huge" }), CANNOT).await, at("#/spec/size", "unsupported"));
    const INVALID: &str = "validation_failed";
    assert_eq!(reported(&volume, json!({ "size_gib": "40" }), INVALID).await, at("#/spec/size_gib", "wrong_type"));
    assert_eq!(reported(&volume, json!({ "size": "large" }), INVALID).await, at("#/spec/size", "unknown_field"));
    assert_eq!(
        reported(&instance, json!({ "volumes": ["res_1"] }), INVALID).await,
        at("#/spec/volumes/0", "unknown_value")
    );
}

#[tokio::test]
async fn instance_can_be_stopped_started_rebooted_and_resized() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let id = made(&key, instance(None, &[])).await;
    let act = async |body: Value| key.post(&format!("{}/actions", path(&id)), body).await;
    let stopped = act(json!({ "action": "stop" })).await.accepted();
    assert_eq!(
        (&stopped["operation"]["type"], &stopped["resource"]["status"]["phase"]),
        (&json!("stop"), &json!("updating"))
    );
    assert_eq!(wait_until_succeeded(&key, &stopped).await["status"]["power"], "off");
    assert!(conflict(act(json!({ "action": "reboot" })).await, "invalid_state").contains("start it"));
    for action in ["start", "start", "reboot"] {
        let submitted = act(json!({ "action": action })).await.accepted();
        assert_eq!(wait_until_succeeded(&key, &submitted).await["status"]["power"], "on", "{action}");
    }
    let resized = act(json!({ "action": "resize", "size": "large" })).await.accepted();
    let resized = wait_until_succeeded(&key, &resized).await;
    assert_eq!((&resized["spec"]["size"], &resized["generation"]), (&json!("large"), &json!(2)));
}

#[tokio::test]
async fn volume_can_be_attached_to_only_one_instance() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let (one, other) = (made(&key, instance(None, &[])).await, made(&key, instance(None, &[])).await);
    let volume = made(&key, volume(20)).await;
    let act = async |id: &str, action: &str| {
        key.post(&format!("{}/actions", path(id)), json!({ "action": action, "volume": volume })).await
    };
    let attached = act(&one, "attach").await.accepted();
    assert_eq!(wait_until_succeeded(&key, &attached).await["spec"]["volumes"], json!([volume]));
    assert!(conflict(act(&other, "attach").await, "resource_in_use").contains(&one));
    assert!(conflict(act(&other, "detach").await, "invalid_state").contains("not attached"));
    let refused = key.post(RESOURCES, instance(None, &[&volume])).await;
    assert!(conflict(refused, "resource_in_use").contains(&one));
    // Already attached, so there is nothing to do.
    assert_eq!(act(&one, "attach").await.accepted()["operation"]["status"], "succeeded");
    let detached = act(&one, "detach").await.accepted();
    assert_eq!(wait_until_succeeded(&key, &detached).await["spec"]["volumes"], json!([]));
    let attached = act(&other, "attach").await.accepted();
    wait_until_succeeded(&key, &attached).await;
}

#[tokio::test]
async fn invalid_action_is_reported_with_a_pointer() {
    let app = TestApp::shared().await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let (instance, volume) = (made(&key, instance(None, &[])).await, made(&key, volume(20)).await);
    let reported =
        async |id: &str, body: Value, code: &str| faults(key.post(&format!("{}/actions", path(id)), body).await, code);
    const INVALID: &str = "validation_failed";
    assert_eq!(reported(&instance, json!({}), INVALID).await, at("#/action", "required"));
    assert_eq!(reported(&instance, json!({ "action": "explode" }), INVALID).await, at("#/action", "unknown_value"));
    assert_eq!(reported(&instance, json!({ "action": "attach" }), INVALID).await, at("#/volume", "required"));
    assert_eq!(reported(&instance, json!({ "action": "resize" }), INVALID).await, at("#/size", "required"));
    assert_eq!(
        reported(&instance, json!({ "action": "stop", "size": "l" }), INVALID).await,
        at("#/size", "unknown_field")
    );
    assert_eq!(
        reported(&instance, json!({ "action": "resize", "size_gib": 9 }), INVALID).await,
        at("#/size_gib", "unknown_field")
    );
    assert_eq!(
        reported(&instance, json!({ "action": "attach", "volume": instance }), INVALID).await,
        at("#/volume", "unknown_value")
    );
    const CANNOT: &str = "unsupported_capability";
    assert_eq!(reported(&volume, json!({ "action": "start" }), CANNOT).await, at("#/action", "unsupported"));
    assert_eq!(
        reported(&volume, json!({ "action": "resize", "size_gib": 10 }), CANNOT).await,
        at("#/size_gib", "unsupported")
    );
    assert_eq!(
        reported(&instance, json!({ "action": "resize", "size": "huge" }), CANNOT).await,
        at("#/size", "unsupported")
    );
}

#[tokio::test]
async fn resource_has_one_operation_at_a_time_and_others_get_its_id() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, volume(20)).await.accepted();
    let (at, operation) = (path(&id_of(&submitted["resource"])), id_of(&submitted["operation"]));
    let replies = [
        key.patch(&at, json!({ "spec": { "size_gib": 40 } })).await,
        key.post(&format!("{at}/actions"), json!({ "action": "resize", "size_gib": 40 })).await,
        key.post_empty(&format!("{at}/sync")).await,
        key.delete(&at).await,
    ];
    for reply in replies {
        let detail = conflict(reply, "resource_locked");
        assert!(detail.contains(&operation) && detail.contains("(create)"), "{detail}");
    }
}

#[tokio::test]
async fn only_one_of_many_concurrent_changes_is_accepted() {
    let app = start(stalled_provider()).await;
    let owner = app.owner().await;
    let key = pipeline(&owner).await;
    let submitted = key.post(RESOURCES, volume(20)).await.accepted();
    let at = path(&id_of(&finish_and_wait(&key, &submitted).await));
    let patches = (0..8).map(|_| key.patch(&at, json!({ "spec": { "size_gib": 40 } })));
    let answers = futures_util::future::join_all(patches).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
    assert_eq!(accepted.len(), 1);
    for answer in refused {
        assert!(conflict(answer, "resource_locked").contains("(update)"));
    }
    let now = key.get(&at).await.ok();
    assert_eq!((&now["generation"], &now["spec"]), (&json!(2), &accepted[0]["resource"]["spec"]));
}
