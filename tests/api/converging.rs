//! The engine provisions what was requested and keeps it in that state, although calls fail, objects are changed
//! outside CloudAPI, and servers create objects twice.

use std::{collections::BTreeMap, time::Duration};

use cloudapi::{
    base::id::{OperationId, ResourceId},
    resources::{
        cloud::CloudOptions,
        drivers::{
            config::{DriverSettings, ImportProjects, ProviderSettings},
            driver::{Driver, ListQuery, Order, OwnerFilter, Tags},
            sim::{Sim, SimSettings},
        },
        engine::timing::EngineTiming,
        kinds::{
            Kind,
            spec::{Spec, VolumeSpec},
        },
    },
    server::{scrape, state::AppOptions},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Identity, Session, TestApp,
    cloud::{fast_provider, fast_timing, id_of, stalled_provider, wait_until_ended, wait_until_succeeded},
    eventually,
    prometheus::Exposition,
};

/// Options that sweep providers continuously.
fn with_frequent_sweeps(settings: SimSettings) -> AppOptions {
    let provider = ProviderSettings {
        name: "sim".into(),
        import_projects: ImportProjects::None,
        driver: DriverSettings::Sim(settings),
    };
    let timing = EngineTiming { sweep_interval: Duration::from_millis(50), ..fast_timing() };
    AppOptions { cloud: CloudOptions { providers: vec![provider], timing }, ..AppOptions::default() }
}

fn without_latency() -> SimSettings {
    SimSettings { latency_min_ms: 0, latency_max_ms: 5, ..SimSettings::default() }
}

fn volume(project: &str, reconcile: &str) -> Value {
    json!({ "project_id": project, "kind": "storage.volume", "name": "data", "reconcile": reconcile,
            "spec": { "size_gib": 20 } })
}

fn instance(project: &str, reconcile: &str) -> Value {
    json!({ "project_id": project, "kind": "compute.instance", "name": "web", "reconcile": reconcile,
            "spec": { "size": "small", "image": "debian-12" } })
}

async fn make(owner: &Session<'_>, body: Value) -> Value {
    let submitted = owner.post("/v1/resources", body).await.accepted();
    wait_until_succeeded(owner, &submitted).await
}

async fn get(owner: &Session<'_>, resource: &Value) -> Value {
    owner.get(&format!("/v1/resources/{}", id_of(resource))).await.ok()
}

/// Waits until the resource satisfies `wanted`; returns the resource.
async fn wait_until(owner: &Session<'_>, resource: &Value, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || Some(get(owner, resource).await).filter(|resource| wanted(resource))).await
}

fn conditions(resource: &Value) -> Vec<&str> {
    resource["status"]["conditions"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect()
}

/// Changes an object directly at the provider.
async fn change_externally(app: &TestApp, sql: &'static str, resource: &Value) {
    let reference = resource["status"]["provider_ref"].as_str().unwrap();
    let done = sqlx::query(sql).bind(reference).execute(&app.db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

const GROW_VOLUME: &str = r#"UPDATE sim_objects SET spec = '{"size_gib": 21}' WHERE reference = $1"#;
const SHRINK_VOLUME: &str = r#"UPDATE sim_objects SET spec = '{"size_gib": 19}' WHERE reference = $1"#;
const TURN_OFF: &str = "UPDATE sim_objects SET power = 'off' WHERE reference = $1";
const DELETE_OBJECT: &str = "DELETE FROM sim_objects WHERE reference = $1";

/// The types and changes of the events about a resource, in order.
async fn recorded_events(owner: &Session<'_>, resource: &Value) -> Vec<(String, Value)> {
    let path = format!("/v1/events?limit=100&project_id={}", owner.project);
    let listed = owner.get(&path).await.ok();
    let about = |event: &&Value| event["subject"] == resource["id"];
    let events = listed["data"].as_array().unwrap().iter().filter(about);
    events.map(|event| (event["type"].as_str().unwrap().to_owned(), event["data"]["changes"].clone())).collect()
}

async fn recorded_event(owner: &Session<'_>, resource: &Value, event_type: &str) -> Value {
    eventually(event_type, async || {
        recorded_events(owner, resource)
            .await
            .into_iter()
            .rev()
            .find(|(name, _)| name == event_type)
            .map(|(_, changes)| changes)
    })
    .await
}

/// The references of existing objects.
async fn objects(app: &TestApp) -> Vec<String> {
    let sql = "SELECT reference FROM sim_objects WHERE gone_at IS NULL ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(&app.db).await.unwrap()
}

#[tokio::test]
async fn drift_is_reported_once_with_difference_and_resolved_by_update() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let made = make(&owner, volume(&owner.project, "observe")).await;
    change_externally(&app, GROW_VOLUME, &made).await;
    let drifted = wait_until(&owner, &made, "drift detected", |resource| conditions(resource) == ["drifted"]).await;
    let condition = &drifted["status"]["conditions"][0];
    assert_eq!(condition["difference"], json!({ "size_gib": [20, 21] }));
    assert_eq!(drifted["status"]["phase"], "active");
    assert_eq!(recorded_event(&owner, &made, "resource.drifted").await["difference"], json!({ "size_gib": [20, 21] }));
    // Drift is reported once and not remediated.
    let synced = owner.post_empty(&format!("/v1/resources/{}/sync", id_of(&made))).await.accepted();
    let seen = wait_until_succeeded(&owner, &synced).await;
    assert_eq!(seen["status"]["conditions"][0]["since"], condition["since"]);
    // An update to the actual value resolves the drift.
    let patch = json!({ "spec": { "size_gib": 21 } });
    let taken = owner.patch(&format!("/v1/resources/{}", id_of(&made)), patch).await.accepted();
    assert_eq!(conditions(&wait_until_succeeded(&owner, &taken).await), [""; 0]);
    recorded_event(&owner, &made, "resource.updated").await;
    let drifts =
        recorded_events(&owner, &made).await.into_iter().filter(|(name, _)| name == "resource.drifted").count();
    assert_eq!(drifts, 1);
}

#[tokio::test]
async fn drift_is_remediated_with_reconcile_enforce() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let disk = make(&owner, volume(&owner.project, "enforce")).await;
    let machine = make(&owner, instance(&owner.project, "enforce")).await;
    change_externally(&app, SHRINK_VOLUME, &disk).await;
    change_externally(&app, TURN_OFF, &machine).await;
    for (resource, difference) in
        [(&disk, json!({ "size_gib": [20, 19] })), (&machine, json!({ "power": ["on", "off"] }))]
    {
        assert_eq!(recorded_event(&owner, resource, "resource.drifted").await["difference"], difference);
        recorded_event(&owner, resource, "resource.remediated").await;
        let mended =
            wait_until(&owner, resource, "resource remediated", |now| now["status"]["phase"] == "active").await;
        assert_eq!(conditions(&mended), [""; 0]);
        assert_eq!(mended["status"]["provider_ref"], resource["status"]["provider_ref"]);
    }
    let as_asked: (Value, String) = sqlx::query_as(
        "SELECT (SELECT spec FROM sim_objects WHERE kind = 'storage.volume'),
                (SELECT power FROM sim_objects WHERE kind = 'compute.instance')",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert_eq!(as_asked, (json!({ "size_gib": 20 }), "on".to_owned()));
}

#[tokio::test]
async fn deleted_object_is_reported_missing_and_recreated_with_reconcile_enforce() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let observed = make(&owner, volume(&owner.project, "observe")).await;
    let enforced = make(&owner, volume(&owner.project, "enforce")).await;
    change_externally(&app, DELETE_OBJECT, &observed).await;
    change_externally(&app, DELETE_OBJECT, &enforced).await;
    let missing =
        wait_until(&owner, &observed, "object reported missing", |resource| resource["status"]["phase"] == "failed")
            .await;
    assert_eq!(conditions(&missing), ["missing"]);
    assert_eq!(
        recorded_event(&owner, &observed, "resource.drifted").await["difference"],
        json!({ "exists": [true, false] })
    );
    recorded_event(&owner, &enforced, "resource.remediated").await;
    let again =
        wait_until(&owner, &enforced, "object recreated", |resource| resource["status"]["phase"] == "active").await;
    assert_ne!(again["status"]["provider_ref"], enforced["status"]["provider_ref"]);
    assert_eq!(objects(&app).await, [again["status"]["provider_ref"].as_str().unwrap()]);
    // A resource whose object is missing can still be deleted.
    let deleted = owner.delete(&format!("/v1/resources/{}", id_of(&observed))).await.accepted();
    assert_eq!(wait_until_ended(&owner, &deleted).await["status"], "succeeded");
}

/// Creates a volume at the provider with a resource's tag, as a delayed server would.
async fn insert_extra_object(app: &TestApp, resource: ResourceId) -> String {
    let deployment: Uuid = sqlx::query_scalar("SELECT id FROM deployment").fetch_one(&app.db).await.unwrap();
    let order = Order {
        tags: Tags { deployment, resource },
        operation: OperationId::new(),
        name: "data".into(),
        labels: BTreeMap::new(),
        spec: Spec::Volume(VolumeSpec { size_gib: 20 }),
    };
    let sim = Sim::new("sim".into(), without_latency(), app.db.clone().into());
    sim.create(&order).await.unwrap().reference
}

#[tokio::test]
async fn duplicate_object_is_deleted_and_object_of_unknown_resource_is_kept() {
    let app = TestApp::start_with(with_frequent_sweeps(without_latency())).await;
    let owner = app.owner().await;
    let made = make(&owner, volume(&owner.project, "observe")).await;
    let deleted = make(&owner, volume(&owner.project, "observe")).await;
    let submitted = owner.delete(&format!("/v1/resources/{}", id_of(&deleted))).await.accepted();
    wait_until_ended(&owner, &submitted).await;
    let id = |resource: &Value| id_of(resource).parse::<ResourceId>().unwrap();
    insert_extra_object(&app, id(&made)).await;
    insert_extra_object(&app, id(&deleted)).await;
    // A database restored from a backup may not have every resource of the provider's objects.
    let unknown = insert_extra_object(&app, ResourceId::new()).await;
    let mut kept = vec![made["status"]["provider_ref"].as_str().unwrap().to_owned(), unknown];
    kept.sort();
    eventually("duplicates deleted", async || (objects(&app).await == kept).then_some(())).await;
    assert_eq!(get(&owner, &made).await["status"]["phase"], "active");
    assert!(Exposition::parse(&scrape::render(&app)).get("cloudapi_objects_cleared_total", &[]) >= 2.0);
}

#[tokio::test]
async fn resources_converge_without_duplicates_when_every_third_provider_call_fails() {
    let app =
        TestApp::start_with(with_frequent_sweeps(SimSettings { failures_per_mille: 333, ..without_latency() })).await;
    let owner = app.owner().await;
    let mut submitted = Vec::new();
    for _ in 0..8 {
        submitted.push(owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted());
    }
    let mut made = Vec::new();
    for one in &submitted {
        made.push(wait_until_succeeded(&owner, one).await);
    }
    let mut recorded: Vec<&str> = made.iter().map(|one| one["status"]["provider_ref"].as_str().unwrap()).collect();
    recorded.sort_unstable();
    assert_eq!(objects(&app).await, recorded);
    for one in &made {
        let deleted = owner.delete(&format!("/v1/resources/{}", id_of(one))).await.accepted();
        assert_eq!(wait_until_ended(&owner, &deleted).await["status"], "succeeded");
    }
    assert_eq!(objects(&app).await, [""; 0]);
}

#[tokio::test]
async fn failed_sweep_is_retried_before_the_next_interval() {
    let mut options = with_frequent_sweeps(SimSettings { failures_per_mille: 300, ..without_latency() });
    options.cloud.timing.sweep_interval = Duration::from_secs(60);
    let app = TestApp::start_with(options).await;
    let sql = "SELECT count(*) FILTER (WHERE swept_at IS NULL) = 0 AND count(*) > 0 FROM provider_sweeps";
    eventually("every kind swept", async || {
        sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap_or(false).then_some(())
    })
    .await;
}

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
    let mut network = crate::support::cloud::network_in(&owner.project);
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
