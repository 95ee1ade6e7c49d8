//! A complete environment on the Docker engine, through the API.

use std::{collections::HashMap, time::Duration};

use bollard::query_parameters::{
    KillContainerOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
};
use cloudapi::{
    resources::{
        cloud::CloudOptions,
        drivers::{
            config::{DriverSettings, ImportProjects, ProviderSettings},
            docker::DockerSettings,
        },
        engine::timing::EngineTiming,
    },
    server::state::AppOptions,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{OCTETS, Ordering, engine, remove_container, settings, socket};
use crate::support::{Identity, Session, TestApp, cloud::fast_timing, eventually};

struct Environment<'a> {
    owner: &'a Session<'a>,
}

impl Environment<'_> {
    async fn ask(&self, kind: &str, name: &str, spec: Value) -> Value {
        let project = &self.owner.project;
        let body = json!({ "project_id": project, "kind": kind, "name": name, "spec": spec, "reconcile": "enforce" });
        self.owner.post("/v1/resources", body).await.expect(StatusCode::ACCEPTED)
    }

    async fn act(&self, id: &str, action: Value) {
        let accepted = self.owner.post(&format!("/v1/resources/{id}/actions"), action).await;
        self.succeeded(accepted.expect(StatusCode::ACCEPTED)).await;
    }

    /// Waits until an accepted operation succeeds; returns the ID of its resource.
    async fn succeeded(&self, accepted: Value) -> String {
        let operation = accepted["operation"]["id"].as_str().unwrap();
        let operation = self.owner.get(&format!("/v1/operations/{operation}?wait=60")).await.ok();
        assert_eq!(operation["status"], "succeeded", "{operation}");
        operation["resource_id"].as_str().unwrap().to_owned()
    }

    async fn status(&self, id: &str) -> Value {
        self.owner.get(&format!("/v1/resources/{id}")).await.ok()["status"].clone()
    }

    async fn reference(&self, id: &str) -> String {
        self.status(id).await["provider_ref"].as_str().unwrap().to_owned()
    }
}

fn options(settings: DockerSettings) -> AppOptions {
    let providers = vec![ProviderSettings {
        name: "docker".into(),
        import_projects: ImportProjects::None,
        driver: DriverSettings::Docker(settings),
    }];
    let timing = EngineTiming { sweep_interval: Duration::from_millis(200), ..fast_timing() };
    AppOptions { cloud: CloudOptions { providers, timing }, ..AppOptions::default() }
}

#[tokio::test]
async fn environment_is_created_used_reconciled_and_deleted_without_leftovers() {
    let Some(socket) = socket() else { return };
    let settings = settings(socket);
    let engine = engine(&settings).await;
    let networking = settings.networking;
    let app = TestApp::start_with(options(settings)).await;
    let owner = app.owner().await;
    let environment = Environment { owner: &owner };

    // All are created concurrently: a resource waits for those it depends on.
    let disk = environment.ask("storage.volume", "disk", json!({ "size_gib": 5 })).await;
    let mut spec = json!({ "size": "small", "image": "tested", "volumes": [disk["resource"]["id"]] });
    let cidr = format!("10.{}.0.0/24", OCTETS.fetch_add(1, Ordering::Relaxed));
    let mut network = None;
    if networking {
        let accepted = environment.ask("network.network", "net", json!({ "cidr": cidr })).await;
        spec["network"] = accepted["resource"]["id"].clone();
        network = Some(accepted);
    }
    let web = environment.ask("compute.instance", "web", spec).await;
    let web = environment.succeeded(web).await;
    let mut created = vec![web.clone(), environment.succeeded(disk).await];
    if let Some(network) = network {
        created.push(environment.succeeded(network).await);
        let address = environment.status(&web).await["outputs"]["private_ip"].clone();
        assert!(address.as_str().unwrap().starts_with(cidr.trim_end_matches("0/24")), "{address}");
    }

    environment.act(&web, json!({ "action": "resize", "size": "medium" })).await;
    environment.act(&web, json!({ "action": "stop" })).await;
    assert_eq!(environment.status(&web).await["power"], "off");
    environment.act(&web, json!({ "action": "start" })).await;
    environment.act(&web, json!({ "action": "reboot" })).await;
    let action = json!({ "action": "detach", "volume": created[1] });
    let error = owner.post(&format!("/v1/resources/{web}/actions"), action).await;
    error.problem(422, "unsupported_capability");

    // The container's process is killed, and it is restarted. The container is removed, and it is recreated.
    let reference = environment.reference(&web).await;
    let began = async || {
        let found = super::container(&engine, &reference).await.state.unwrap();
        (found.running == Some(true)).then_some(found.started_at)
    };
    let first = began().await;
    engine.kill_container(&reference, None::<KillContainerOptions>).await.unwrap();
    eventually("container restarted", async || began().await.filter(|at| Some(at) != first.as_ref())).await;
    eventually("resource active without conditions", async || {
        let status = environment.status(&web).await;
        (status["phase"] == "active" && status["conditions"] == json!([])).then_some(())
    })
    .await;
    remove_container(&engine, &reference).await;
    let again = eventually("container recreated", async || {
        let status = environment.status(&web).await;
        (status["phase"] == "active" && status["provider_ref"] != json!(reference)).then_some(status)
    });
    assert_eq!(again.await["power"], "on");

    for id in &created {
        let accepted = owner.delete(&format!("/v1/resources/{id}")).await.expect(StatusCode::ACCEPTED);
        environment.succeeded(accepted).await;
    }
    for id in &created {
        let filters = HashMap::from([("label".to_owned(), vec![format!("dev.cloudapi.resource={id}")])]);
        let containers = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        assert_eq!(engine.list_containers(Some(containers)).await.unwrap(), []);
        let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
        assert_eq!(engine.list_volumes(Some(volumes)).await.unwrap().volumes.unwrap_or_default(), []);
        let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
        assert_eq!(engine.list_networks(Some(networks)).await.unwrap(), []);
    }
}
