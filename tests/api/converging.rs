//! The engine provisions what was requested and keeps it in that state, although calls fail, objects are changed outside
//! CloudAPI, and servers create objects twice.

use std::{collections::BTreeMap, time::Duration};

use cloudapi::{
    base::id::{OperationId, ResourceId},
    metrics::scrape,
    resources::{
        cloud::CloudOptions,
        config::{DriverSettings, ImportProjects, ProviderSettings},
        driver::{Driver, ListQuery, Order, Owned, Tags},
        drivers::sim::{Sim, SimSettings},
        kind::Kind,
        pace::Pace,
        spec::{Spec, VolumeSpec},
    },
    state::AppOptions,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Identity, Session, TestApp,
    cloud::{done, id_of, over, quick, soon, stuck},
    eventually,
    prometheus::Page,
};

/// Options that sweep providers continuously.
fn watchful(settings: SimSettings) -> AppOptions {
    let provider = ProviderSettings {
        name: "sim".into(),
        import_projects: ImportProjects::None,
        driver: DriverSettings::Sim(settings),
    };
    let pace = Pace { sweep: Duration::from_millis(50), ..soon() };
    AppOptions { cloud: CloudOptions { providers: vec![provider], pace }, ..AppOptions::default() }
}

fn at_once() -> SimSettings {
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
    done(owner, &submitted).await
}

async fn get(owner: &Session<'_>, resource: &Value) -> Value {
    owner.get(&format!("/v1/resources/{}", id_of(resource))).await.ok()
}

/// Waits until the resource satisfies `wanted`; returns the resource.
async fn until(owner: &Session<'_>, resource: &Value, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || Some(get(owner, resource).await).filter(|resource| wanted(resource))).await
}

fn conditions(resource: &Value) -> Vec<&str> {
    resource["status"]["conditions"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect()
}

/// Changes an object directly at the provider.
async fn elsewhere(app: &TestApp, sql: &'static str, resource: &Value) {
    let reference = resource["status"]["provider_ref"].as_str().unwrap();
    let done = sqlx::query(sql).bind(reference).execute(&app.db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

const GROWN: &str = r#"UPDATE sim_objects SET spec = '{"size_gib": 21}' WHERE reference = $1"#;
const SHRUNK: &str = r#"UPDATE sim_objects SET spec = '{"size_gib": 19}' WHERE reference = $1"#;
const TURNED_OFF: &str = "UPDATE sim_objects SET power = 'off' WHERE reference = $1";
const DELETED: &str = "DELETE FROM sim_objects WHERE reference = $1";

/// The types and changes of the events about a resource, in order.
async fn told(owner: &Session<'_>, resource: &Value) -> Vec<(String, Value)> {
    let path = format!("/v1/events?limit=100&project_id={}", owner.project);
    let listed = owner.get(&path).await.ok();
    let about = |event: &&Value| event["subject"] == resource["id"];
    let events = listed["data"].as_array().unwrap().iter().filter(about);
    events.map(|event| (event["type"].as_str().unwrap().to_owned(), event["data"]["changes"].clone())).collect()
}

async fn told_of(owner: &Session<'_>, resource: &Value, event_type: &str) -> Value {
    eventually(event_type, async || {
        told(owner, resource).await.into_iter().rev().find(|(name, _)| name == event_type).map(|(_, changes)| changes)
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
    let app = TestApp::start_with(watchful(at_once())).await;
    let owner = app.owner().await;
    let made = make(&owner, volume(&owner.project, "observe")).await;
    elsewhere(&app, GROWN, &made).await;
    let drifted = until(&owner, &made, "drift detected", |resource| conditions(resource) == ["drifted"]).await;
    let condition = &drifted["status"]["conditions"][0];
    assert_eq!(condition["difference"], json!({ "size_gib": [20, 21] }));
    assert_eq!(drifted["status"]["phase"], "active");
    assert_eq!(told_of(&owner, &made, "resource.drifted").await["difference"], json!({ "size_gib": [20, 21] }));
    // Drift is reported once and not remediated.
    let synced = owner.post_empty(&format!("/v1/resources/{}/sync", id_of(&made))).await.accepted();
    let seen = done(&owner, &synced).await;
    assert_eq!(seen["status"]["conditions"][0]["since"], condition["since"]);
    // An update to the actual value resolves the drift.
    let patch = json!({ "spec": { "size_gib": 21 } });
    let taken = owner.patch(&format!("/v1/resources/{}", id_of(&made)), patch).await.accepted();
    assert_eq!(conditions(&done(&owner, &taken).await), [""; 0]);
    told_of(&owner, &made, "resource.updated").await;
    let drifts = told(&owner, &made).await.into_iter().filter(|(name, _)| name == "resource.drifted").count();
    assert_eq!(drifts, 1);
}

#[tokio::test]
async fn drift_is_remediated_with_reconcile_enforce() {
    let app = TestApp::start_with(watchful(at_once())).await;
    let owner = app.owner().await;
    let disk = make(&owner, volume(&owner.project, "enforce")).await;
    let machine = make(&owner, instance(&owner.project, "enforce")).await;
    elsewhere(&app, SHRUNK, &disk).await;
    elsewhere(&app, TURNED_OFF, &machine).await;
    for (resource, difference) in
        [(&disk, json!({ "size_gib": [20, 19] })), (&machine, json!({ "power": ["on", "off"] }))]
    {
        assert_eq!(told_of(&owner, resource, "resource.drifted").await["difference"], difference);
        told_of(&owner, resource, "resource.remediated").await;
        let mended = until(&owner, resource, "resource remediated", |now| now["status"]["phase"] == "active").await;
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
    let app = TestApp::start_with(watchful(at_once())).await;
    let owner = app.owner().await;
    let observed = make(&owner, volume(&owner.project, "observe")).await;
    let enforced = make(&owner, volume(&owner.project, "enforce")).await;
    elsewhere(&app, DELETED, &observed).await;
    elsewhere(&app, DELETED, &enforced).await;
    let missing =
        until(&owner, &observed, "object reported missing", |resource| resource["status"]["phase"] == "failed").await;
    assert_eq!(conditions(&missing), ["missing"]);
    assert_eq!(told_of(&owner, &observed, "resource.drifted").await["difference"], json!({ "exists": [true, false] }));
    told_of(&owner, &enforced, "resource.remediated").await;
    let again = until(&owner, &enforced, "object recreated", |resource| resource["status"]["phase"] == "active").await;
    assert_ne!(again["status"]["provider_ref"], enforced["status"]["provider_ref"]);
    assert_eq!(objects(&app).await, [again["status"]["provider_ref"].as_str().unwrap()]);
    // A resource whose object is missing can still be deleted.
    let deleted = owner.delete(&format!("/v1/resources/{}", id_of(&observed))).await.accepted();
    assert_eq!(over(&owner, &deleted).await["status"], "succeeded");
}

/// Creates a volume at the provider with a resource's tag, as a delayed server would.
async fn stray(app: &TestApp, resource: ResourceId) -> String {
    let deployment: Uuid = sqlx::query_scalar("SELECT id FROM deployment").fetch_one(&app.db).await.unwrap();
    let order = Order {
        tags: Tags { deployment, resource },
        operation: OperationId::new(),
        name: "data".into(),
        labels: BTreeMap::new(),
        spec: Spec::Volume(VolumeSpec { size_gib: 20 }),
    };
    let sim = Sim::new("sim".into(), at_once(), app.db.clone().into());
    sim.create(&order).await.unwrap().reference
}

#[tokio::test]
async fn duplicate_object_is_deleted_and_object_of_unknown_resource_is_kept() {
    let app = TestApp::start_with(watchful(at_once())).await;
    let owner = app.owner().await;
    let made = make(&owner, volume(&owner.project, "observe")).await;
    let deleted = make(&owner, volume(&owner.project, "observe")).await;
    let submitted = owner.delete(&format!("/v1/resources/{}", id_of(&deleted))).await.accepted();
    over(&owner, &submitted).await;
    let id = |resource: &Value| id_of(resource).parse::<ResourceId>().unwrap();
    stray(&app, id(&made)).await;
    stray(&app, id(&deleted)).await;
    // A database restored from a backup may not have every resource of the provider's objects.
    let unknown = stray(&app, ResourceId::new()).await;
    let mut kept = vec![made["status"]["provider_ref"].as_str().unwrap().to_owned(), unknown];
    kept.sort();
    eventually("duplicates deleted", async || (objects(&app).await == kept).then_some(())).await;
    assert_eq!(get(&owner, &made).await["status"]["phase"], "active");
    assert!(Page::parse(&scrape::page(&app)).get("cloudapi_objects_cleared_total", &[]) >= 2.0);
}

#[tokio::test]
async fn resources_converge_without_duplicates_when_every_third_provider_call_fails() {
    let app = TestApp::start_with(watchful(SimSettings { failures_per_mille: 333, ..at_once() })).await;
    let owner = app.owner().await;
    let mut submitted = Vec::new();
    for _ in 0..8 {
        submitted.push(owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted());
    }
    let mut made = Vec::new();
    for one in &submitted {
        made.push(done(&owner, one).await);
    }
    let mut recorded: Vec<&str> = made.iter().map(|one| one["status"]["provider_ref"].as_str().unwrap()).collect();
    recorded.sort_unstable();
    assert_eq!(objects(&app).await, recorded);
    for one in &made {
        let deleted = owner.delete(&format!("/v1/resources/{}", id_of(one))).await.accepted();
        assert_eq!(over(&owner, &deleted).await["status"], "succeeded");
    }
    assert_eq!(objects(&app).await, [""; 0]);
}

#[tokio::test]
async fn failed_sweep_is_retried_before_the_next_interval() {
    let mut options = watchful(SimSettings { failures_per_mille: 300, ..at_once() });
    options.cloud.pace.sweep = Duration::from_secs(60);
    let app = TestApp::start_with(options).await;
    let sql = "SELECT count(*) FILTER (WHERE swept_at IS NULL) = 0 AND count(*) > 0 FROM provider_sweeps";
    eventually("every kind swept", async || {
        sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap_or(false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn canceled_creation_leaves_no_object_at_the_provider() {
    let app = TestApp::start_with(AppOptions { cloud: stuck(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let submitted = owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted();
    eventually("object created", async || (!objects(&app).await.is_empty()).then_some(())).await;
    owner.post_empty(&format!("/v1/operations/{}/cancel", id_of(&submitted["operation"]))).await;
    eventually("object deletion started", async || objects(&app).await.is_empty().then_some(())).await;
    sqlx::query("UPDATE sim_objects SET gone_at = now()").execute(&app.db).await.unwrap();
    let operation = over(&owner, &submitted).await;
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
    let app = TestApp::start_with(AppOptions { cloud: quick(), ..AppOptions::default() }).await;
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
    let operation = over(&owner, &submitted).await;
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
    let mut cloud = stuck();
    cloud.pace.give_up_after = Duration::from_millis(300);
    let app = TestApp::start_with(AppOptions { cloud, ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let submitted = owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted();
    let operation = over(&owner, &submitted).await;
    assert_eq!((&operation["status"], &operation["error"]["code"]), (&json!("failed"), &json!("timeout")));
    assert_eq!(objects(&app).await, [""; 0]);
    let resource = get(&owner, &submitted["resource"]).await;
    assert_eq!((&resource["status"]["phase"], conditions(&resource)), (&json!("failed"), vec!["failed"]));
    let failed = told_of(&owner, &submitted["resource"], "resource.failed").await;
    assert_eq!(failed["operation"]["id"], submitted["operation"]["id"]);
}

#[tokio::test]
async fn object_of_failed_import_is_kept_when_resource_is_deleted() {
    let app = TestApp::start_with(AppOptions { cloud: quick(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let made = "INSERT INTO sim_objects (provider, reference, kind, name, spec, power, ready_at)
                VALUES ('sim', 'vm-theirs', 'compute.instance', 'theirs',
                        '{\"size\": \"small\", \"image\": \"debian-12\", \"volumes\": [\"vol-theirs\"]}', 'on', now())";
    sqlx::query(made).execute(&app.db).await.unwrap();
    let body = json!({ "project_id": owner.project, "kind": "compute.instance", "provider": "sim", "name": "theirs",
                       "provider_ref": "vm-theirs" });
    let submitted = owner.post("/v1/resources/import", body).await.accepted();
    let operation = over(&owner, &submitted).await;
    assert_eq!(
        (&operation["status"], &operation["error"]["provider_code"]),
        (&json!("failed"), &json!("unknown_volumes"))
    );
    let deleted = owner.delete(&format!("/v1/resources/{}", id_of(&submitted["resource"]))).await.accepted();
    assert_eq!(over(&owner, &deleted).await["status"], "succeeded");
    assert_eq!(objects(&app).await, ["vm-theirs"]);
}

#[tokio::test]
async fn expired_resource_in_use_is_deleted_after_its_user_is_deleted() {
    let app = TestApp::start_with(AppOptions { cloud: quick(), ..AppOptions::default() }).await;
    let owner = app.owner().await;
    let mut network = crate::support::cloud::network_in(&owner.project);
    network["ttl_seconds"] = json!(60);
    let network = make(&owner, network).await;
    let mut user = instance(&owner.project, "observe");
    user["spec"]["network"] = network["id"].clone();
    let user = make(&owner, user).await;
    app.clock.advance(Duration::from_secs(61));
    let waiting = until(&owner, &network, "condition `expired`", |resource| conditions(resource) == ["expired"]).await;
    assert!(waiting["status"]["conditions"][0]["message"].as_str().unwrap().contains(&id_of(&user)), "{waiting}");
    let deleted = owner.delete(&format!("/v1/resources/{}", id_of(&user))).await.accepted();
    over(&owner, &deleted).await;
    // Expiry is retried after a delay.
    app.clock.advance(Duration::from_secs(3));
    until(&owner, &network, "network deleted", |resource| resource["status"]["phase"] == "deleted").await;
    told_of(&owner, &network, "resource.deleted").await;
    let told: Vec<String> = told(&owner, &network).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(told, ["resource.created", "resource.provisioned", "resource.expired", "resource.deleted"]);
}

#[tokio::test]
async fn servers_share_operations_and_take_over_those_of_a_dead_server() {
    let cloud = quick();
    let app = TestApp::start_with(AppOptions { cloud: cloud.clone(), ..AppOptions::default() }).await;
    let other = app.start_beside(AppOptions { cloud, ..AppOptions::default() }).await;
    let owner = app.owner().await;
    // The state left by a server that created the object and died before recording it.
    let submitted = owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted();
    done(&owner, &submitted).await;
    let id: ResourceId = id_of(&submitted["resource"]).parse().unwrap();
    let died = "UPDATE operations SET status = 'running', step = 'creating', finished_at = NULL,
                       due_at = now() + interval '200 milliseconds', fence = fence + 1 WHERE resource_id = $1";
    let forgot = "UPDATE resources SET phase = 'provisioning', provider_ref = NULL WHERE id = $1";
    for sql in [forgot, died] {
        sqlx::query(sql).bind(id).execute(&app.db).await.unwrap();
    }
    let found = objects(&app).await;
    let adopted = done(&owner, &submitted).await;
    assert_eq!(objects(&app).await, found, "object created twice");
    assert_eq!(adopted["status"]["provider_ref"], found[0]);
    let mut more = Vec::new();
    for _ in 0..40 {
        more.push(owner.post("/v1/resources", volume(&owner.project, "observe")).await.accepted());
    }
    for one in &more {
        done(&owner, one).await;
    }
    for server in [&app, &other] {
        let labels = [("type", "create"), ("outcome", "succeeded")];
        let ended = Page::parse(&scrape::page(server)).get("cloudapi_operations_ended_total", &labels);
        assert!(ended > 0.0, "one of the servers completed no operation");
    }
    let query = ListQuery { kind: Kind::Volume, deployment: Uuid::nil(), of: Owned::Nobody, page: None };
    let sim = Sim::new("sim".into(), at_once(), app.db.clone().into());
    assert!(sim.list_owned(&query).await.unwrap().objects.is_empty(), "object created without a tag");
}
