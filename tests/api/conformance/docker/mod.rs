//! The Docker driver on an engine that `.ci/docker` starts, or on any other, for example with
//! `TEST_DOCKER_SOCKET=/var/run/docker.sock TEST_DOCKER_IMAGE=busybox:1 cargo test --test api docker`. Tests remove the
//! objects that they create. Set `TEST_DOCKER_NETWORKING=false` for an engine that cannot create networks.

mod environment;
mod registry;

use std::{
    collections::HashMap,
    env,
    io::{self, Write},
    path::PathBuf,
    slice,
    sync::{
        Arc, Once,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bollard::{
    Docker as Engine,
    models::{ContainerCreateBody, ContainerInspectResponse, ContainerUpdateBody, HostConfig, VolumeCreateRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptions, RemoveContainerOptionsBuilder,
        RemoveImageOptions, RemoveVolumeOptions,
    },
};
use cloudapi::{
    base::id::OperationId,
    resources::{
        drivers::{
            docker::{Docker, DockerSettings},
            driver::{Action, Driver, DriverErrorKind, Order, OwnerFilter},
        },
        kinds::{
            Kind, Power,
            spec::{InstanceSpec, Spec},
        },
    },
};
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use super::{Subject, conformance};
use crate::support::eventually;

conformance!(start);

/// The next second octet: each test has its own networks.
static OCTETS: AtomicU8 = AtomicU8::new(100);

/// The engine's socket. If none is set, prints a message once and returns `None`.
fn socket() -> Option<PathBuf> {
    static REPORTED: Once = Once::new();
    let socket = env::var_os("TEST_DOCKER_SOCKET").map(Into::into);
    if socket.is_none() {
        // Direct output, because the test harness captures `eprintln!`.
        REPORTED.call_once(|| {
            let _ = writeln!(
                io::stderr(),
                "############ SKIPPED: the tests of the docker driver, because TEST_DOCKER_SOCKET is not set; .ci/docker runs them"
            );
        });
    }
    socket
}

fn settings(socket: PathBuf) -> DockerSettings {
    let image = env::var("TEST_DOCKER_IMAGE").expect("TEST_DOCKER_IMAGE must name an image of the engine");
    let networking = env::var("TEST_DOCKER_NETWORKING").as_deref() != Ok("false");
    let settings = json!({
        "socket": socket,
        "images": { "tested": image },
        "sizes": { "small": { "cpus": 0.25, "memory_mib": 32 }, "medium": { "cpus": 0.5, "memory_mib": 64 } },
        "networking": networking,
    });
    serde_json::from_value(settings).unwrap()
}

async fn start() -> Option<Subject> {
    let settings = settings(socket()?);
    let engine = engine(&settings).await;
    let driver = |name: &str| Arc::new(Docker::new(name.into(), settings.clone()));
    Some(Subject {
        driver: driver("docker"),
        other_driver: driver("sibling"),
        deployment: Uuid::new_v4(),
        sizes: ["small".into(), "medium".into()],
        image: "tested".into(),
        supports_client_tokens: true,
        octet: OCTETS.fetch_add(1, Ordering::Relaxed),
        many: 103,
        timeout: Duration::from_secs(60),
        create_untagged_volume: Box::new(move || {
            let engine = engine.clone();
            Box::pin(async move { engine.create_volume(VolumeCreateRequest::default()).await.unwrap().name })
        }),
        _keep: Box::new(()),
    })
}

/// A direct connection to the engine.
async fn engine(settings: &DockerSettings) -> Engine {
    let socket = settings.socket.to_str().unwrap();
    let engine = Engine::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
    engine.negotiate_version().await.unwrap()
}

/// The driver and a direct connection to its engine.
async fn both() -> Option<(Subject, Engine)> {
    let subject = start().await?;
    Some((subject, engine(&settings(socket()?)).await))
}

async fn container(engine: &Engine, reference: &str) -> ContainerInspectResponse {
    engine.inspect_container(reference, None::<InspectContainerOptions>).await.unwrap()
}

async fn remove_container(engine: &Engine, reference: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    engine.remove_container(reference, Some(options)).await.unwrap();
}

#[tokio::test]
async fn concurrent_creations_of_one_resource_create_one_object() {
    let Some(subject) = start().await else { return };
    for order in subject.one_of_each() {
        let again = Order { operation: OperationId::new(), ..order.clone() };
        // A partly created network causes conflicts until it can be found.
        let created = [&order, &again, &order, &again]
            .map(async |order| subject.retry(async || subject.driver.create(order).await).await.reference);
        let references = join_all(created).await;
        assert!(references.iter().all(|reference| *reference == references[0]), "{references:?}");
        let kind = order.spec.kind();
        assert_eq!(subject.listed(kind, OwnerFilter::Resource(order.tags.resource)).await, references[..1]);
        subject.remove(kind, &references[0]).await;
    }
}

#[tokio::test]
async fn object_with_the_expected_name_but_other_labels_is_neither_adopted_nor_deleted() {
    let Some((subject, engine)) = both().await else { return };
    let image = Some(env::var("TEST_DOCKER_IMAGE").unwrap());
    let order = subject.instance(None, &[]);
    let name = format!("cloudapi-{}", order.tags.resource);
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    // The container has the resource's label, but not the other labels.
    let another = HashMap::from([("dev.cloudapi.resource".to_owned(), order.tags.resource.to_string())]);
    let body = ContainerCreateBody { image, labels: Some(another), ..ContainerCreateBody::default() };
    let theirs = engine.create_container(Some(options), body).await.unwrap().id;
    let error = subject.driver.create(&order).await.unwrap_err();
    assert_eq!((error.kind, &*error.code), (DriverErrorKind::Conflict, "name_taken"), "{error}");
    assert_eq!(subject.listed(Kind::Instance, OwnerFilter::Resource(order.tags.resource)).await, [""; 0]);
    assert!(subject.listed(Kind::Instance, OwnerFilter::Untagged).await.contains(&theirs));
    assert_eq!(container(&engine, &theirs).await.state.unwrap().running, Some(false), "foreign container was started");
    remove_container(&engine, &theirs).await;
    let ours = subject.make(&order).await.reference;
    subject.remove(Kind::Instance, &ours).await;

    let order = subject.volume(1);
    let name = format!("cloudapi-{}", order.tags.resource);
    let theirs = VolumeCreateRequest { name: Some(name.clone()), ..VolumeCreateRequest::default() };
    engine.create_volume(theirs).await.unwrap();
    for error in [
        subject.driver.create(&order).await.unwrap_err(),
        subject.driver.delete(Kind::Volume, &name).await.unwrap_err(),
    ] {
        assert_eq!((error.kind, &*error.code), (DriverErrorKind::Conflict, "name_taken"), "{error}");
    }
    assert!(engine.inspect_volume(&name).await.is_ok(), "foreign volume was deleted");
    engine.remove_volume(&name, None::<RemoveVolumeOptions>).await.unwrap();
}

#[tokio::test]
async fn container_removed_manually_no_longer_exists() {
    let Some((subject, engine)) = both().await else { return };
    let order = subject.instance(None, &[]);
    let reference = subject.make(&order).await.reference;
    remove_container(&engine, &reference).await;
    assert_eq!(subject.read(Kind::Instance, &reference).await, None);
    // Another container with the same name is not mistaken for it.
    let name = format!("cloudapi-{}", order.tags.resource);
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let image = Some(env::var("TEST_DOCKER_IMAGE").unwrap());
    let body = ContainerCreateBody { image, ..ContainerCreateBody::default() };
    engine.create_container(Some(options), body).await.unwrap();
    assert_eq!(subject.read(Kind::Instance, &reference).await, None);
    subject.driver.delete(Kind::Instance, &reference).await.unwrap();
    remove_container(&engine, &name).await;
}

#[tokio::test]
async fn size_is_changed_without_restart_and_remediated_after_manual_change() {
    let Some((subject, engine)) = both().await else { return };
    let mut order = subject.instance(None, &[]);
    let reference = subject.make(&order).await.reference;
    let began = container(&engine, &reference).await.state.unwrap().started_at;
    if let Spec::Instance(spec) = &mut order.spec {
        spec.size = "medium".into();
    }
    subject.driver.update(&reference, &order).await.unwrap();
    let of = async || {
        let host = container(&engine, &reference).await.host_config.unwrap();
        (host.nano_cpus.unwrap(), host.memory.unwrap(), host.memory_swap.unwrap())
    };
    assert_eq!(of().await, (500_000_000, 64 << 20, 64 << 20));

    let by_hand = ContainerUpdateBody { memory: Some(48 << 20), ..ContainerUpdateBody::default() };
    engine.update_container(&reference, by_hand).await.unwrap();
    let found = subject.read(Kind::Instance, &reference).await.unwrap();
    assert_eq!(json!(order.spec.difference(&found.spec)), json!({ "size": ["medium", "500-millicpus-48-mib"] }));
    subject.converge(&reference, &order, Some(Power::On)).await;
    assert_eq!(of().await, (500_000_000, 64 << 20, 64 << 20));
    assert_eq!(container(&engine, &reference).await.state.unwrap().started_at, began, "container was restarted");

    // No other field can be changed. Changes of name and labels are ignored.
    let renamed = Order { name: "renamed".into(), labels: [("a".into(), "b".into())].into(), ..order.clone() };
    subject.driver.update(&reference, &renamed).await.unwrap();
    if let Spec::Instance(spec) = &mut order.spec {
        spec.image = "another:1".into();
    }
    let error = subject.driver.update(&reference, &order).await.unwrap_err();
    assert_eq!((error.kind, &*error.code), (DriverErrorKind::Invalid, "fixed"), "{error}");
    subject.remove(Kind::Instance, &reference).await;
}

#[tokio::test]
async fn container_whose_process_ended_is_off_and_can_be_started() {
    let Some((subject, engine)) = both().await else { return };
    let order = subject.instance(None, &[]);
    let reference = subject.make(&order).await.reference;
    engine.kill_container(&reference, None::<KillContainerOptions>).await.unwrap();
    let off = async || {
        let found = subject.read(Kind::Instance, &reference).await.unwrap();
        (found.power == Some(Power::Off)).then_some(found)
    };
    let found = eventually("power off", off).await;
    assert_eq!((&found.outputs["exit_code"], &found.outputs["status"]), (&json!(137), &json!("exited")));
    subject.driver.action(Kind::Instance, &reference, Action::Power(Power::On)).await.unwrap();
    let found = subject.read(Kind::Instance, &reference).await.unwrap();
    assert_eq!((found.power, found.outputs.get("exit_code")), (Some(Power::On), None));
    subject.remove(Kind::Instance, &reference).await;
}

#[tokio::test]
async fn instance_has_limits_volumes_and_network() {
    let Some((subject, engine)) = both().await else { return };
    let volume = subject.volume(1);
    let mounted = format!("/mnt/{}", volume.tags.resource);
    let volume = subject.make(&volume).await;
    assert_eq!(volume.outputs["size_enforced"], json!(false));
    let network = match subject.has(&[Kind::Network]) {
        true => Some(subject.make(&subject.network(7)).await.reference),
        false => None,
    };
    let order = subject.instance(network.as_deref(), &[&volume.reference]);
    let created = subject.make(&order).await;

    let seen = container(&engine, &created.reference).await;
    let host = seen.host_config.unwrap();
    assert_eq!((host.nano_cpus, host.memory, host.pids_limit), (Some(250_000_000), Some(32 << 20), Some(1024)));
    assert_eq!((host.privileged, host.cap_add), (Some(false), None));
    assert!(host.cap_drop.unwrap().iter().any(|dropped| dropped.trim_start_matches("CAP_") == "NET_RAW"));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".to_owned()]));
    let mounts: Vec<_> = seen.mounts.unwrap().into_iter().map(|mount| (mount.name, mount.destination)).collect();
    assert_eq!(mounts, [(Some(volume.reference.clone()), Some(mounted))]);
    assert_eq!(created.outputs["container_id"], json!(created.reference));
    if let Some(network) = &network {
        let address = created.outputs["private_ip"].as_str().unwrap();
        assert!(address.starts_with(&format!("10.{}.7.", subject.octet)), "{address}");
        // The container is disconnected from its network manually.
        let out = bollard::models::NetworkDisconnectRequest { container: created.reference.clone(), force: None };
        engine.disconnect_network(network, out).await.unwrap();
        let found = subject.read(Kind::Instance, &created.reference).await.unwrap();
        assert_eq!(json!(order.spec.difference(&found.spec)), json!({ "network": [network, null] }));
    }
    subject.remove(Kind::Instance, &created.reference).await;
    subject.remove(Kind::Volume, &volume.reference).await;
    if let Some(network) = network {
        subject.remove(Kind::Network, &network).await;
    }
}

#[tokio::test]
async fn missing_image_or_volume_is_reported_and_nothing_is_created() {
    let Some((subject, engine)) = both().await else { return };
    let mut order = subject.instance(None, &[]);
    if let Spec::Instance(InstanceSpec { image, .. }) = &mut order.spec {
        *image = "cloudapi-no-such-image:1".into();
    }
    let error = subject.driver.create(&order).await.unwrap_err();
    assert_eq!((error.kind, &*error.code), (DriverErrorKind::Invalid, "no_image"), "{error}");
    assert!(error.message.contains("docker pull"), "{error}");

    let other = subject.instance(None, &["cloudapi-no-such-volume"]);
    let error = subject.driver.create(&other).await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::NotFound, "{error}");
    assert!(engine.inspect_volume("cloudapi-no-such-volume").await.is_err(), "volume was created");
    assert_eq!(subject.listed(Kind::Instance, OwnerFilter::All).await, [""; 0]);
}

#[tokio::test]
async fn second_network_with_the_same_addresses_is_a_conflict() {
    let Some(subject) = start().await else { return };
    if !subject.has(&[Kind::Network]) {
        return;
    }
    let first = subject.make(&subject.network(1)).await.reference;
    let error = subject.driver.create(&subject.network(1)).await.unwrap_err();
    assert_eq!((error.kind, &*error.code), (DriverErrorKind::Conflict, "in_use"), "{error}");
    assert_eq!(subject.listed(Kind::Network, OwnerFilter::All).await, slice::from_ref(&first));
    subject.remove(Kind::Network, &first).await;
}

#[tokio::test]
async fn unreachable_engine_is_retryable() {
    let settings = json!({ "socket": "/nonexistent/docker.sock", "networking": false });
    let driver = Docker::new("docker".into(), serde_json::from_value(settings).unwrap());
    let error = driver.read(Kind::Volume, "cloudapi-res_1").await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::Retryable { after: None }, "{error}");
    assert!(driver.capabilities().of(Kind::Network).is_none());
    let spec = json!({ "size": "huge", "image": "debian:12", "network": "res_1" });
    let unsupported = driver.validate(&Spec::from_json(Kind::Instance, spec).unwrap());
    assert_eq!(unsupported.iter().map(|unsupported| unsupported.member).collect::<Vec<_>>(), ["network", "size"]);
}

#[tokio::test]
async fn image_is_pulled_if_configured() {
    let Some((subject, engine)) = both().await else { return };
    let registry = registry::start().await;
    let driver = Docker::new("docker".into(), DockerSettings { pull: true, ..settings(socket().unwrap()) });
    let creation = async |image: &str| {
        let mut order = subject.instance(None, &[]);
        let image = format!("{registry}/{image}");
        if let Spec::Instance(spec) = &mut order.spec {
            spec.image.clone_from(&image);
        }
        let first = driver.create(&order).await.unwrap_err();
        assert_eq!(
            (matches!(first.kind, DriverErrorKind::Retryable { after: Some(_) }), &*first.code),
            (true, "pulling")
        );
        let last = eventually("pull finished", async || {
            driver.create(&order).await.err().filter(|error| error.code != "pulling")
        });
        (image, order.tags.resource, last.await)
    };
    // The image exists now, but contains nothing to run.
    let (image, resource, error) = creation("empty:1").await;
    assert_eq!((error.kind, &*error.code), (DriverErrorKind::Invalid, "refused"), "{error}");
    assert!(engine.inspect_image(&image).await.is_ok());
    for created in subject.listed(Kind::Instance, OwnerFilter::Resource(resource)).await {
        subject.remove(Kind::Instance, &created).await;
    }
    engine.remove_image(&image, None::<RemoveImageOptions>, None).await.unwrap();

    let (_, _, error) = creation("no-such:1").await;
    assert_eq!((error.kind, &*error.code), (DriverErrorKind::Invalid, "no_image"), "{error}");
}

#[tokio::test]
async fn foreign_containers_are_listed_as_unowned() {
    let Some((subject, engine)) = both().await else { return };
    let image = Some(env::var("TEST_DOCKER_IMAGE").unwrap());
    let host = HostConfig { memory: Some(64 << 20), nano_cpus: Some(500_000_000), ..HostConfig::default() };
    let body = ContainerCreateBody { image: image.clone(), host_config: Some(host), ..ContainerCreateBody::default() };
    let theirs =
        engine.create_container(None::<bollard::query_parameters::CreateContainerOptions>, body).await.unwrap().id;
    let listed = subject.list(Kind::Instance, OwnerFilter::Untagged).await;
    let found = listed.into_iter().find(|object| object.reference == theirs).unwrap();
    assert_eq!((found.tags, found.power), (None, Some(Power::Off)));
    assert_eq!(found.spec.to_json(), json!({ "size": "medium", "image": image, "volumes": [] }));
    assert!(!subject.driver.capabilities().import, "labels of a container cannot be changed");
    remove_container(&engine, &theirs).await;
}
