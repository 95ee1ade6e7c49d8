//! EC2 instances. No function waits: each call does what is possible now, and the engine calls again for the rest.

use serde_json::{Map, Value, json};

use super::{
    Aws,
    client::{errors, form::Form},
    ignore_not_found, not_found,
    responses::{DescribeInstances, Device, Ebs, Instance, Reservation},
    settings::is_id,
    tags,
};
use crate::resources::{
    drivers::driver::{
        Action, DriverError, DriverErrorKind, ListQuery, Object, ObjectPage, ObjectState, Order, Result,
    },
    kinds::{
        Power,
        spec::{InstanceSpec, Spec},
    },
};

/// All states except `terminated`, which EC2 keeps showing for an hour.
const STATES: [&str; 5] = ["pending", "running", "stopping", "stopped", "shutting-down"];

impl Aws {
    /// Launches an instance. Volumes are attached once it runs, because EC2 cannot attach them earlier.
    pub(super) async fn create_instance(&self, order: &Order, spec: &InstanceSpec<String>) -> Result<Object> {
        let subnet = match &spec.network {
            Some(network) => Some(self.subnet_in(network).await?),
            None => self.settings.subnet.clone(),
        };
        let form = Form::new("RunInstances")
            .with("ImageId", self.settings.image(&spec.image).ok_or_else(|| unknown("image", &spec.image))?)
            .with("InstanceType", self.instance_type(spec)?)
            .with("MinCount", 1)
            .with("MaxCount", 1)
            .with("ClientToken", order.operation)
            // Require IMDSv2: with IMDSv1, a request forged within the instance can read the instance's credentials.
            .with("MetadataOptions.HttpTokens", "required")
            .with_tags_on_create("instance", &self.tags(order));
        let form = match subnet {
            Some(subnet) => form.with("SubnetId", subnet),
            None => form.with("Placement.AvailabilityZone", self.zone().await?),
        };
        let launched = self.ec2.call::<Reservation>(form).await.map_err(|error| match error.code.as_str() {
            // The network has just been found or created, and is not yet visible in all of EC2.
            "InvalidSubnetID.NotFound" if spec.network.is_some() => DriverError::retryable(error.code, error.message),
            _ => error,
        })?;
        let launched = launched.instances_set.into_iter().next();
        let launched = launched
            .ok_or_else(|| DriverError::retryable("bad_answer", "the response to RunInstances contains no instance"))?;
        if is_gone(&launched) {
            return Err(launch_error(&launched));
        }
        Ok(self.instance_object(&launched))
    }

    pub(super) async fn read_instance(&self, reference: &str) -> Result<Option<Object>> {
        Ok(self.instance(reference).await?.map(|instance| self.instance_object(&instance)))
    }

    /// Changes an instance towards `spec` as far as possible now. The type can change only while the instance is
    /// stopped, so it is stopped. The engine turns it on again if it should run.
    pub(super) async fn update_instance(
        &self,
        reference: &str,
        order: &Order,
        spec: &InstanceSpec<String>,
    ) -> Result<()> {
        let instance = self.instance(reference).await?.ok_or_else(|| not_found(reference))?;
        let cannot = |code, what| Err(DriverError::new(DriverErrorKind::Invalid, code, format!("{reference} {what}")));
        if self.image_name(&instance) != spec.image && self.settings.image(&spec.image) != Some(&instance.image_id) {
            return cannot("cannot_change_image", "cannot change its image; create another instance");
        }
        if spec.network.as_ref().is_some_and(|network| *network != instance.vpc_id) {
            return cannot("cannot_change_network", "cannot change its network; create another instance");
        }
        let instance_type = self.instance_type(spec)?;
        self.retag(reference, &instance.tag_set, &self.tags(order)).await?;
        match (instance.instance_state.name.as_str(), instance.instance_type == instance_type) {
            ("running", false) => self.turn(reference, "StopInstances").await,
            ("stopped", false) => {
                let form = Form::new("ModifyInstanceAttribute").with("InstanceId", reference);
                self.ec2.send(form.with("InstanceType.Value", instance_type)).await?;
                self.update_volumes(&instance, &spec.volumes).await
            }
            ("running" | "stopped", true) => self.update_volumes(&instance, &spec.volumes).await,
            // The state is changing; the engine calls again.
            _ => Ok(()),
        }
    }

    async fn update_volumes(&self, instance: &Instance, desired: &[String]) -> Result<()> {
        for (_, ebs) in volumes(instance) {
            if !desired.contains(&ebs.volume_id) && ebs.status != "detaching" {
                let form = Form::new("DetachVolume").with("VolumeId", &ebs.volume_id);
                match self.ec2.send(form.with("InstanceId", &instance.instance_id)).await {
                    // Another server has detached it, or the volume does not exist.
                    Err(DriverError { kind: DriverErrorKind::NotFound, .. }) => {}
                    Err(error) if error.code == "IncorrectState" => {}
                    done => done?,
                }
            }
        }
        let mut names = free_names(instance);
        for volume in desired {
            if volumes(instance).any(|(_, ebs)| ebs.volume_id == *volume) {
                continue;
            }
            let name = names.next().ok_or_else(|| {
                DriverError::new(
                    DriverErrorKind::Exhausted,
                    "no_device_name",
                    "the instance has no device name left for another volume",
                )
            })?;
            let form = Form::new("AttachVolume").with("VolumeId", volume).with("Device", name);
            self.ec2.send(form.with("InstanceId", &instance.instance_id)).await.map_err(|error| {
                // Another volume has just been attached under this name.
                let is_taken = error.code == "InvalidParameterValue" && error.message.contains("already in use");
                if is_taken { DriverError { kind: DriverErrorKind::Conflict, ..error } } else { error }
            })?;
        }
        Ok(())
    }

    pub(super) async fn act(&self, reference: &str, action: Action) -> Result<()> {
        let instance = self.instance(reference).await?.ok_or_else(|| not_found(reference))?;
        let state = instance.instance_state.name.as_str();
        match (action, state) {
            (Action::Power(Power::On), "running" | "pending") | (Action::Power(Power::Off), "stopped" | "stopping") => {
                Ok(())
            }
            (Action::Power(Power::On), _) | (Action::Reboot, "stopped") => self.turn(reference, "StartInstances").await,
            (Action::Power(Power::Off), _) => self.turn(reference, "StopInstances").await,
            (Action::Reboot, _) => self.turn(reference, "RebootInstances").await,
        }
    }

    async fn turn(&self, reference: &str, action: &'static str) -> Result<()> {
        self.ec2.send(Form::new(action).with("InstanceId.1", reference)).await
    }

    pub(super) async fn delete_instance(&self, reference: &str) -> Result<()> {
        if !is_id("i-", reference) {
            return Ok(());
        }
        ignore_not_found(self.turn(reference, "TerminateInstances").await)
    }

    pub(super) async fn list_instances(&self, form: Form, query: &ListQuery) -> Result<ObjectPage> {
        let page: DescribeInstances = self.ec2.call(form.with_filter("instance-state-name", STATES)).await?;
        let instances = page.reservation_set.into_iter().flat_map(|reservation| reservation.instances_set);
        let objects = instances
            .filter(|instance| tags::matches_query(&instance.tag_set, query) && !is_gone(instance))
            .map(|instance| self.instance_object(&instance))
            .collect();
        Ok(ObjectPage { objects, next: Some(page.next_token).filter(|token| !token.is_empty()) })
    }

    async fn instance(&self, reference: &str) -> Result<Option<Instance>> {
        if !is_id("i-", reference) {
            return Ok(None);
        }
        let form = Form::new("DescribeInstances").with("InstanceId.1", reference);
        let found = match self.ec2.call::<DescribeInstances>(form).await {
            Err(DriverError { kind: DriverErrorKind::NotFound, .. }) => return Ok(None),
            found => found?,
        };
        let mut instances = found.reservation_set.into_iter().flat_map(|reservation| reservation.instances_set);
        Ok(instances.find(|instance| !is_gone(instance)))
    }

    /// Finds an instance in this network.
    pub(super) async fn instance_in(&self, network: &str) -> Result<Option<String>> {
        let form = Form::new("DescribeInstances").with_filter("vpc-id", [network]);
        let found: DescribeInstances = self.ec2.call(form.with_filter("instance-state-name", STATES)).await?;
        let mut instances = found.reservation_set.into_iter().flat_map(|reservation| reservation.instances_set);
        Ok(instances.next().map(|instance| instance.instance_id))
    }

    fn instance_type<'a>(&'a self, spec: &'a InstanceSpec<String>) -> Result<&'a str> {
        self.settings.instance_type(&spec.size).ok_or_else(|| unknown("size", &spec.size))
    }

    fn image_name(&self, instance: &Instance) -> String {
        self.settings.image_of(&instance.image_id, instance.tag_set.get(tags::IMAGE))
    }

    fn instance_object(&self, instance: &Instance) -> Object {
        let is_moving = volumes(instance).any(|(_, ebs)| !matches!(ebs.status.as_str(), "attached" | ""));
        let (state, power) = match instance.instance_state.name.as_str() {
            "running" => (ObjectState::Ready, Some(Power::On)),
            "stopped" => (ObjectState::Ready, Some(Power::Off)),
            "shutting-down" => (ObjectState::Deleting, None),
            _ => (ObjectState::Busy, None),
        };
        let state = if state == ObjectState::Ready && is_moving { ObjectState::Busy } else { state };
        let mut outputs: Map<String, Value> = Map::new();
        for (name, value) in [
            ("private_ip", &instance.private_ip_address),
            ("public_ip", &instance.ip_address),
            ("subnet_id", &instance.subnet_id),
            ("availability_zone", &instance.placement.availability_zone),
            ("instance_type", &instance.instance_type),
            ("image_id", &instance.image_id),
        ] {
            if !value.is_empty() {
                outputs.insert(name.into(), json!(value));
            }
        }
        let is_attached = |ebs: &Ebs| !matches!(ebs.status.as_str(), "detaching" | "detached");
        Object {
            reference: instance.instance_id.clone(),
            tags: tags::owner(&instance.tag_set),
            state,
            power,
            spec: Spec::Instance(InstanceSpec {
                size: self.settings.size_of(&instance.instance_type, instance.tag_set.get(tags::SIZE)),
                image: self.image_name(instance),
                network: Some(instance.vpc_id.clone()).filter(|vpc| !vpc.is_empty()),
                volumes: volumes(instance)
                    .filter(|(_, ebs)| is_attached(ebs))
                    .map(|(_, ebs)| ebs.volume_id.clone())
                    .collect(),
            }),
            outputs,
            reason: None,
        }
    }
}

/// Disks that are volumes of their own: neither the root disk, nor disks from the image that are deleted with the
/// instance.
fn volumes(instance: &Instance) -> impl Iterator<Item = (&str, &Ebs)> {
    let own = |device: &&Device| device.device_name != instance.root_device_name;
    let devices = instance.block_device_mapping.iter().filter(own);
    devices
        .filter_map(|device| Some((device.device_name.as_str(), device.ebs.as_ref()?)))
        .filter(|(_, ebs)| !ebs.delete_on_termination)
}

/// Free device names for volumes, in a fixed order: those that AWS recommends, then enough for the maximum number of
/// volumes.
fn free_names(instance: &Instance) -> impl Iterator<Item = String> {
    let recommended = ('f'..='p').map(|letter| format!("/dev/sd{letter}"));
    let more = ('a'..='p').map(|letter| format!("/dev/xvdb{letter}"));
    let used: Vec<_> = instance.block_device_mapping.iter().map(|device| device.device_name.clone()).collect();
    recommended.chain(more).filter(move |name| !used.contains(name))
}

fn is_gone(instance: &Instance) -> bool {
    instance.instance_state.name == "terminated"
}

/// Error for an instance that was launched and immediately terminated by EC2.
fn launch_error(instance: &Instance) -> DriverError {
    let (code, message) =
        instance.state_reason.as_ref().map_or(("", ""), |why| (why.code.as_str(), why.message.as_str()));
    let code = code.trim_start_matches("Server.").trim_start_matches("Client.");
    let error = errors::error(400, if code.is_empty() { "terminated" } else { code }, message);
    let kind = match error.kind {
        // The client token now belongs to this instance, so another call with it would not launch a new one.
        DriverErrorKind::Retryable { .. } | DriverErrorKind::NoCapacity => DriverErrorKind::Exhausted,
        kind => kind,
    };
    DriverError { kind, message: format!("{} was terminated: {}", instance.instance_id, error.message), ..error }
}

fn unknown(member: &str, name: &str) -> DriverError {
    DriverError::new(
        DriverErrorKind::Invalid,
        "unknown_word",
        format!("the {member} '{name}' is no longer configured; ask the operator"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(devices: &str) -> Instance {
        let text = format!(
            "<item><instanceId>i-1</instanceId><imageId>ami-1</imageId><instanceType>t3.small</instanceType>
             <instanceState><code>16</code><name>running</name></instanceState><rootDeviceName>/dev/sda1</rootDeviceName>
             <stateReason><code>Server.InsufficientInstanceCapacity</code><message>none left</message></stateReason>
             <blockDeviceMapping>{devices}</blockDeviceMapping></item>"
        );
        quick_xml::de::from_str(&text).unwrap()
    }

    #[test]
    fn own_disks_of_an_instance_are_not_volumes_and_names_are_used_in_order() {
        let device = |name: &str, volume: &str, is_deleted_with_instance: bool| {
            format!(
                "<item><deviceName>{name}</deviceName><ebs><volumeId>{volume}</volumeId><status>attached</status>
                 <deleteOnTermination>{is_deleted_with_instance}</deleteOnTermination></ebs></item>"
            )
        };
        let devices = [
            // A root disk that outlives its instance is not a volume either.
            device("/dev/sda1", "vol-root", false),
            device("/dev/sdb", "vol-of-image", true),
            device("/dev/sdf", "vol-1", false),
            device("/dev/sdh", "vol-2", false),
        ];
        let instance = instance(&devices.concat());
        let found: Vec<_> = volumes(&instance).map(|(_, ebs)| ebs.volume_id.as_str()).collect();
        assert_eq!(found, ["vol-1", "vol-2"]);
        let names: Vec<_> = free_names(&instance).collect();
        assert_eq!(names[..3], ["/dev/sdg", "/dev/sdi", "/dev/sdj"]);
        assert!(names.len() >= 16, "as many as an instance can have volumes");
    }

    #[test]
    fn instance_that_never_ran_is_reported_with_its_reason() {
        let error = launch_error(&instance(""));
        assert_eq!(error.kind, DriverErrorKind::Exhausted);
        assert_eq!(error.to_string(), "InsufficientInstanceCapacity: i-1 was terminated: none left");
    }
}
