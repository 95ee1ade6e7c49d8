//! Operations that are canceled, time out, fail, expire, or lose their server.

use std::time::Duration;

use cloudapi::{
    base::id::{OperationId, ResourceId},
    resources::{
        drivers::{
            driver::{Driver, ListQuery, OwnerFilter},
            sim::Sim,
        },
        kinds::Kind,
    },
    server::{scrape, state::AppOptions},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    conditions, get, instance, make, objects, recorded_event, recorded_events, volume, wait_until, without_latency,
};
use crate::support::{
    Identity, TestApp,
    cloud::{
        fast_provider, id_of, insert_operation, insert_volume, network_in, stalled_provider, wait_until_ended,
        wait_until_succeeded,
    },
    eventually,
    prometheus::Exposition,
};

#[tokio::test]
async fn canceled_creation_leaves_no_object_at_the_provider() {
    let app = TestApp::start_with(AppOptions { cloud: stalled_provider(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let submitted = owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted();
    eventually("object created", async || (!objects(&app).await.is_empty()).then_some(())).await;
    owner.post_empty(&format!("/v1/operations/{}/cancel", id_of(&submitted["operation"]))).await;
    eventually("object deletion started", async || objects(&app).await.is_empty().then_some(())).await;
    sqlx::query("UPDATE sim_objects SET gone_at = now()").execute(&app.db).await.unwrap();
    let operation = wait_until_ended(&owner, &submitted).await;
    assert_eq!((&operation["status"], &operation["error"]), (&json!("canceled"), &Value::Null));
    let resource = get(&owner, &submitted["resource"]).await;
    assert_eq!(
        (&resource["status"]["phase"], &resource["status"]["provider_ref"]),
        (&json!("failed"), &Value::Null),
        "{resource}"
    );
}

#[tokio::test]
async fn canceled_update_is_rolled_back() {
    let app = TestApp::start_with(AppOptions { cloud: fast_provider(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let made = make(&owner, instance(&owner.project, "observe")).await;
    // The update takes a day, so it is in progress when it is canceled.
    let path = format!("/v1/resources/{}", id_of(&made));
    let slow = "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN IF new.spec <> old.spec THEN new.ready_at = now() + interval '1 day'; END IF; RETURN new; END $$";
    sqlx::query(slow).execute(&app.db).await.unwrap();
    let trigger = "CREATE TRIGGER later BEFORE UPDATE ON sim_objects FOR EACH ROW EXECUTE FUNCTION later()";
    sqlx::query(trigger).execute(&app.db).await.unwrap();
    let submitted = owner.patch(&path, json!({ "spec": { "size": "large" } })).await.accepted();
    let size = async || {
        let sql = "SELECT spec ->> 'size' FROM sim_objects";
        sqlx::query_scalar::<_, String>(sql).fetch_one(&app.db).await.unwrap()
    };
    eventually("update started", async || (size().await == "large").then_some(())).await;
    sqlx::query("DROP TRIGGER later ON sim_objects").execute(&app.db).await.unwrap();
    owner.post_empty(&format!("/v1/operations/{}/cancel", id_of(&submitted["operation"]))).await;
    sqlx::query("UPDATE sim_objects SET ready_at = now()").execute(&app.db).await.unwrap();
    let operation = wait_until_ended(&owner, &submitted).await;
    let after = get(&owner, &made).await;
    if operation["status"] == "canceled" {
        assert_eq!((&after["spec"]["size"], size().await), (&json!("small"), "small".to_owned()));
        assert_eq!(after["status"]["phase"], "active");
        assert_eq!(after["generation"], after["observed_generation"]);
    } else {
        // The update finished before the cancellation was processed.
        assert_eq!((&operation["status"], size().await), (&json!("succeeded"), "large".to_owned()));
    }
}

#[tokio::test]
async fn operation_that_times_out_fails_and_its_object_is_deleted() {
    let mut cloud = stalled_provider();
    cloud.timing.operation_timeout = Duration::from_millis(300);
    let app = TestApp::start_with(AppOptions { cloud, ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let submitted = owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted();
    let operation = wait_until_ended(&owner, &submitted).await;
    assert_eq!((&operation["status"], &operation["error"]["code"]), (&json!("failed"), &json!("timeout")));
    assert_eq!(objects(&app).await, [""; 0]);
    let resource = get(&owner, &submitted["resource"]).await;
    assert_eq!((&resource["status"]["phase"], conditions(&resource)), (&json!("failed"), vec!["failed"]));
    let failed = recorded_event(&owner, &submitted["resource"], "resource.failed").await;
    assert_eq!(failed["operation"]["id"], submitted["operation"]["id"]);
}

#[tokio::test]
async fn object_of_failed_import_is_kept_when_resource_is_deleted() {
    let app = TestApp::start_with(AppOptions { cloud: fast_provider(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let made = "INSERT INTO sim_objects (provider, reference, kind, name, spec, power, ready_at)
                VALUES ('sim', 'vm-theirs', 'compute.instance', 'theirs',
                        '{\"size\": \"small\", \"image\": \"debian-12\", \"volumes\": [\"vol-theirs\"]}', 'on', now())";
    sqlx::query(made).execute(&app.db).await.unwrap();
    let body = json!({ "project_id": owner.project, "kind": "compute.instance", "provider": "sim", "name": "theirs",
                       "provider_ref": "vm-theirs" });
    let submitted = owner.post("/v1/resources/import", body).await.accepted();
    let operation = wait_until_ended(&owner, &submitted).await;
    assert_eq!(
        (&operation["status"], &operation["error"]["provider_code"]),
        (&json!("failed"), &json!("unknown_volumes"))
    );
    let deleted = owner.delete(&format!("/v1/resources/{}", id_of(&submitted["resource"]))).await.accepted();
    assert_eq!(wait_until_ended(&owner, &deleted).await["status"], "succeeded");
    assert_eq!(objects(&app).await, ["vm-theirs"]);
}

#[tokio::test]
async fn expired_resource_in_use_is_deleted_after_its_user_is_deleted() {
    let app = TestApp::start_with(AppOptions { cloud: fast_provider(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let mut network = network_in(&owner.project);
    network["ttl_seconds"] = json!(60);
    let network = make(&owner, network).await;
    let mut user = instance(&owner.project, "observe");
    user["spec"]["network"] = network["id"].clone();
    let user = make(&owner, user).await;
    app.clock.advance(Duration::from_secs(61));
    let waiting =
        wait_until(&owner, &network, "condition `expired`", |resource| conditions(resource) == ["expired"]).await;
    assert!(waiting["status"]["conditions"][0]["message"].as_str().unwrap().contains(&id_of(&user)), "{waiting}");
    let deleted = owner.delete(&format!("/v1/resources/{}", id_of(&user))).await.accepted();
    wait_until_ended(&owner, &deleted).await;
    // Expiry is retried after a delay.
    app.clock.advance(Duration::from_secs(3));
    wait_until(&owner, &network, "network deleted", |resource| resource["status"]["phase"] == "deleted").await;
    recorded_event(&owner, &network, "resource.deleted").await;
    let event_types: Vec<String> = recorded_events(&owner, &network).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(event_types, ["resource.created", "resource.provisioned", "resource.expired", "resource.deleted"]);
}

#[tokio::test]
async fn servers_share_operations_and_take_over_those_of_a_dead_server() {
    let cloud = fast_provider();
    let app = TestApp::start_with(AppOptions { cloud: cloud.clone(), ..AppOptions::default() }).await;
    let other = app.start_peer(AppOptions { cloud, ..AppOptions::default() }).await;
    let owner = app.owner().await;
    // The state left by a server that created the object and died before recording it.
    let submitted = owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted();
    wait_until_succeeded(&owner, &submitted).await;
    let id: ResourceId = id_of(&submitted["resource"]).parse().unwrap();
    let died = "UPDATE operations SET status = 'running', step = 'creating', finished_at = NULL,
                       due_at = now() + interval '200 milliseconds', fence = fence + 1 WHERE resource_id = $1";
    let forgot = "UPDATE resources SET phase = 'provisioning', provider_ref = NULL WHERE id = $1";
    for sql in [forgot, died] {
        sqlx::query(sql).bind(id).execute(&app.db).await.unwrap();
    }
    let found = objects(&app).await;
    let adopted = wait_until_succeeded(&owner, &submitted).await;
    assert_eq!(objects(&app).await, found, "object created twice");
    assert_eq!(adopted["status"]["provider_ref"], found[0]);
    let mut more = Vec::new();
    for _ in 0..40 {
        more.push(owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted());
    }
    for one in &more {
        wait_until_succeeded(&owner, one).await;
    }
    for server in [&app, &other] {
        let labels = [("type", "create"), ("outcome", "succeeded")];
        let ended = Exposition::parse(&scrape::render(server)).get("cloudapi_operations_ended_total", &labels);
        assert!(ended > 0.0, "one of the servers completed no operation");
    }
    let query = ListQuery { kind: Kind::Volume, deployment: Uuid::nil(), owner: OwnerFilter::Untagged, cursor: None };
    let sim = Sim::new("sim".into(), without_latency(), app.db.clone().into());
    assert!(sim.list_owned(&query).await.unwrap().objects.is_empty(), "object created without a tag");
}

#[tokio::test]
async fn operation_of_a_provider_that_no_server_has_fails_at_its_deadline() {
    let app = TestApp::start_with(AppOptions { cloud: fast_provider(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let overdue = insert_operation(&app, &insert_volume(&owner).await).await;
    let waiting = insert_operation(&app, &insert_volume(&owner).await).await;
    for sql in [
        "UPDATE resources SET provider = 'gone'",
        "UPDATE operations SET provider = 'gone', status = 'queued', due_at = now()",
    ] {
        sqlx::query(sql).execute(&app.db).await.unwrap();
    }
    sqlx::query("UPDATE operations SET deadline = now() WHERE id = $1")
        .bind(overdue.parse::<OperationId>().unwrap())
        .execute(&app.db)
        .await
        .unwrap();
    let at = |id: &str| format!("/v1/operations/{id}");
    let failed = eventually("the overdue operation has failed", async || {
        let operation = owner.get(&at(&overdue)).await.ok();
        (operation["status"] == "failed").then_some(operation)
    })
    .await;
    assert_eq!(failed["error"]["code"], "provider_unavailable");
    assert_eq!(owner.get(&at(&waiting)).await.ok()["status"], "queued");
    make(&owner, volume(&owner.project, "observe")).await;
    assert_eq!(owner.get(&at(&waiting)).await.ok()["status"], "queued");
}
