//! Containers, which run the command of their image.

use std::collections::HashMap;

use bollard::{
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
        ContainerUpdateBody, EndpointSettings, HostConfig, Mount, MountType, NetworkingConfig, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
        RemoveContainerOptionsBuilder, RestartContainerOptions, StartContainerOptions, StopContainerOptions,
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value, json};

use super::{
    Docker, Size,
    failure::{disappeared, driver_error, foreign, none_if_missing, not_found, status},
    labels, page_of,
};
use crate::resources::{
    drivers::driver::{
        Action, DriverError, DriverErrorKind, ListQuery, Object, ObjectPage, ObjectState, Order, Result,
    },
    kinds::{
        Kind, Power,
        spec::{InstanceSpec, Spec},
    },
};

/// Maximum number of containers that are inspected concurrently.
const MAX_CONCURRENT_INSPECTIONS: usize = 8;
/// Time for a container's process to exit before it is killed, in seconds.
const STOP_SECONDS: i64 = 10;
/// Maximum number of processes in a container.
const MAX_PROCESSES: i64 = 1024;
/// Default capabilities that instances do not need: raw sockets, device nodes and file capabilities.
const DROPPED: [&str; 3] = ["NET_RAW", "MKNOD", "SETFCAP"];

impl Docker {
    pub(super) async fn create_instance(&self, order: &Order, spec: &InstanceSpec<String>) -> Result<Object> {
        let engine = self.engine().await?;
        self.require_references(spec).await?;
        let name = labels::name(&order.tags);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let body = self.body(order, spec)?;
        match engine.create_container(Some(options), body).await {
            Ok(_) => {}
            // A container of this name exists, possibly from an earlier call.
            Err(error) if status(&error) == Some(409) => {}
            Err(error) if status(&error) == Some(404) => return Err(self.missing_image_error(&spec.image).await?),
            Err(error) => return Err(driver_error(error)),
        }
        let mut container = self.container(&name).await?.ok_or_else(|| disappeared(&name))?;
        if !labels::is_owned_by(&self.name, &order.tags, &labels_of(&container)) {
            return Err(foreign(&name));
        }
        if status_of(&container) == Status::CREATED {
            engine.start_container(&name, None::<StartContainerOptions>).await.map_err(driver_error)?;
            container = self.container(&name).await?.ok_or_else(|| disappeared(&name))?;
        }
        Ok(self.instance(container))
    }

    pub(super) async fn read_instance(&self, reference: &str) -> Result<Option<Object>> {
        Ok(self.container(reference).await?.map(|container| self.instance(container)))
    }

    pub(super) async fn resize_instance(&self, reference: &str, size: &str) -> Result<()> {
        let Size { nano_cpus, memory } = self.size(size)?;
        let body = ContainerUpdateBody {
            nano_cpus: Some(nano_cpus),
            memory: Some(memory),
            memory_swap: Some(memory),
            ..ContainerUpdateBody::default()
        };
        self.engine().await?.update_container(reference, body).await.map_err(driver_error)
    }

    pub(super) async fn turn_instance(&self, reference: &str, action: Action) -> Result<()> {
        let engine = self.engine().await?;
        let done = match action {
            Action::Power(Power::On) => engine.start_container(reference, None::<StartContainerOptions>).await,
            Action::Power(Power::Off) => engine.stop_container(reference, None::<StopContainerOptions>).await,
            Action::Reboot => engine.restart_container(reference, None::<RestartContainerOptions>).await,
        };
        done.map_err(driver_error)
    }

    pub(super) async fn delete_instance(&self, reference: &str) -> Result<()> {
        // Also removes the anonymous volumes that the image declares. Volumes of resources have names and remain.
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.engine().await?.remove_container(reference, Some(options)).await {
            // The container is deleted, or being deleted.
            Err(error) if !matches!(status(&error), Some(404 | 409)) => Err(driver_error(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn list_instances(&self, query: &ListQuery) -> Result<ObjectPage> {
        let filters = labels::filters(&self.name, query);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.engine().await?.list_containers(Some(options)).await.map_err(driver_error)?;
        let containers = containers.into_iter().filter_map(|container| {
            let matches = labels::matches_query(query, &container.labels.unwrap_or_default());
            container.id.filter(|_| matches).map(|id| (id, ()))
        });
        let (page, next) = page_of(query, containers.collect());
        // A list contains neither sizes nor attached volumes.
        let objects = stream::iter(page)
            .map(|(id, ())| async move { self.read_instance(&id).await })
            .buffered(MAX_CONCURRENT_INSPECTIONS)
            .try_filter_map(|object| async { Ok(object) })
            .try_collect()
            .await?;
        Ok(ObjectPage { objects, next })
    }

    async fn container(&self, reference: &str) -> Result<Option<ContainerInspectResponse>> {
        none_if_missing(self.engine().await?.inspect_container(reference, None::<InspectContainerOptions>).await)
    }

    /// Checks that the references exist: the engine would create a missing volume, and start a container without its
    /// network.
    async fn require_references(&self, spec: &InstanceSpec<String>) -> Result<()> {
        for volume in &spec.volumes {
            self.volume(volume).await?.ok_or_else(|| not_found(volume))?;
        }
        if let Some(network) = &spec.network {
            self.read_network(network).await?.ok_or_else(|| not_found(network))?;
        }
        Ok(())
    }

    fn size(&self, name: &str) -> Result<Size> {
        let none =
            || DriverError::new(DriverErrorKind::Invalid, "no_size", format!("unknown size '{name}' at this provider"));
        self.settings.sizes.get(name).copied().ok_or_else(none)
    }

    fn image<'a>(&'a self, name: &'a str) -> &'a str {
        self.settings.images.get(name).map_or(name, String::as_str)
    }

    async fn missing_image_error(&self, name: &str) -> Result<DriverError> {
        let image = self.image(name);
        if self.settings.pull {
            return Ok(self.pulls.fetch(self.engine().await?, image));
        }
        let message = format!(
            "the Docker engine does not have the image '{image}', and pulling is off; ask the operator to `docker pull` it"
        );
        Ok(DriverError::new(DriverErrorKind::Invalid, "no_image", message))
    }

    fn body(&self, order: &Order, spec: &InstanceSpec<String>) -> Result<ContainerCreateBody> {
        let Size { nano_cpus, memory } = self.size(&spec.size)?;
        let mounts = spec.volumes.iter().map(|volume| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume.clone()),
            target: Some(format!("/mnt/{}", volume.trim_start_matches("cloudapi-"))),
            ..Mount::default()
        });
        // Without a network: the engine's default network, if the provider supports networks.
        let network = spec.network.clone().or_else(|| (!self.settings.networking).then(|| "none".to_owned()));
        // Containers in the same network find the instance by its name.
        let endpoint = EndpointSettings { aliases: Some(vec![order.name.clone()]), ..EndpointSettings::default() };
        let endpoints = spec.network.clone().map(|network| HashMap::from([(network, endpoint)]));
        let host = HostConfig {
            nano_cpus: Some(nano_cpus),
            memory: Some(memory),
            // No additional swap.
            memory_swap: Some(memory),
            pids_limit: Some(MAX_PROCESSES),
            privileged: Some(false),
            security_opt: Some(vec!["no-new-privileges:true".into()]),
            cap_drop: Some(DROPPED.map(str::to_owned).into()),
            // The resource's power state decides whether the container runs.
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), ..RestartPolicy::default() }),
            network_mode: network,
            mounts: Some(mounts.collect()),
            ..HostConfig::default()
        };
        Ok(ContainerCreateBody {
            hostname: Some(order.name.clone()),
            image: Some(self.image(&spec.image).to_owned()),
            labels: Some(labels::for_object(&self.name, order)),
            // An image without a service runs a shell, which exits immediately without these.
            tty: Some(true),
            open_stdin: Some(true),
            stop_timeout: Some(STOP_SECONDS),
            networking_config: Some(NetworkingConfig { endpoints_config: endpoints }),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        })
    }

    fn instance(&self, container: ContainerInspectResponse) -> Object {
        let (state, power) = match status_of(&container) {
            Status::RUNNING | Status::PAUSED => (ObjectState::Ready, Some(Power::On)),
            Status::CREATED | Status::EXITED => (ObjectState::Ready, Some(Power::Off)),
            Status::REMOVING => (ObjectState::Deleting, None),
            Status::DEAD => (ObjectState::Failed, Some(Power::Off)),
            Status::RESTARTING | Status::STOPPING | Status::EMPTY => (ObjectState::Busy, None),
        };
        let labels = labels_of(&container);
        let outputs = outputs(&container);
        let reason = (state == ObjectState::Failed).then(|| "the engine could not remove the container".to_owned());
        let host = container.host_config.unwrap_or_default();
        let image = match labels::requested_spec(Kind::Instance, &labels) {
            Some(Spec::Instance(requested)) => requested.image,
            _ => container.config.and_then(|config| config.image).unwrap_or_default(),
        };
        let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let spec = InstanceSpec {
            size: self.size_of(&host),
            image,
            network: network_of(&host, &networks),
            // Volumes that the image declares are not part of the request.
            volumes: host.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.source).collect(),
        };
        Object {
            reference: container.id.unwrap_or_default(),
            tags: labels::tags(&labels),
            state,
            power,
            spec: Spec::Instance(spec),
            outputs,
            reason,
        }
    }

    /// Name of the container's current size, or its limits if no size matches.
    fn size_of(&self, host: &HostConfig) -> String {
        let size = Size { nano_cpus: host.nano_cpus.unwrap_or_default(), memory: host.memory.unwrap_or_default() };
        let name = self.settings.sizes.iter().find(|(_, offered)| **offered == size).map(|(name, _)| name.clone());
        name.unwrap_or_else(|| format!("{}-millicpus-{}-mib", size.nano_cpus / 1_000_000, size.memory >> 20))
    }
}

fn labels_of(container: &ContainerInspectResponse) -> labels::Labels {
    container.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default()
}

fn status_of(container: &ContainerInspectResponse) -> Status {
    container.state.as_ref().and_then(|state| state.status).unwrap_or(Status::EMPTY)
}

/// Network that the container was created in, unless it has been disconnected since. A network that the engine chose is
/// recorded by name, and a resource's network by id. A container's network shows its id only after the first start.
fn network_of(host: &HostConfig, networks: &HashMap<String, EndpointSettings>) -> Option<String> {
    let requested =
        host.network_mode.as_deref().filter(|mode| !matches!(*mode, "" | "default" | "bridge" | "none" | "host"))?;
    let is_requested = |(name, endpoint): (&String, &EndpointSettings)| match endpoint.network_id.as_deref() {
        None | Some("") => true,
        Some(id) => id == requested || name == requested,
    };
    networks.iter().any(is_requested).then(|| requested.to_owned())
}

fn outputs(container: &ContainerInspectResponse) -> Map<String, Value> {
    let name = container.name.as_deref().map(|name| name.trim_start_matches('/'));
    let networks = container.network_settings.iter().flat_map(|settings| &settings.networks).flatten();
    let mut addresses = networks.filter_map(|(_, endpoint)| endpoint.ip_address.as_deref()).filter(|ip| !ip.is_empty());
    let state = container.state.as_ref();
    let ended = |state: &&ContainerState| state.status == Some(Status::EXITED);
    let outputs = [
        ("container_id", json!(container.id)),
        ("name", json!(name)),
        ("private_ip", json!(addresses.next())),
        ("status", json!(state.and_then(|state| state.status))),
        // Reason for being off.
        ("exit_code", json!(state.filter(ended).and_then(|state| state.exit_code))),
        ("out_of_memory", json!(state.filter(ended).and_then(|state| state.oom_killed).filter(|killed| *killed))),
        ("error", json!(state.and_then(|state| state.error.as_deref()).filter(|error| !error.is_empty()))),
    ];
    outputs.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)).collect()
}
