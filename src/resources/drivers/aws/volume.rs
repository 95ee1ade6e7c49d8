//! EBS volumes of the type gp3.

use serde_json::{Map, Value, json};

use super::{
    Aws,
    client::form::Form,
    ignore_not_found, not_found,
    responses::{DescribeVolumes, DescribeVolumesModifications, Volume},
    settings::is_id,
    tags,
};
use crate::resources::{
    drivers::driver::{DriverError, DriverErrorKind, ListQuery, Object, ObjectPage, ObjectState, Order, Result},
    kinds::spec::{Spec, VolumeSpec},
};

impl Aws {
    pub(super) async fn create_volume(&self, order: &Order, spec: &VolumeSpec) -> Result<Object> {
        let form = Form::new("CreateVolume")
            .with("AvailabilityZone", self.zone().await?)
            .with("Size", spec.size_gib)
            .with("VolumeType", "gp3")
            .with("ClientToken", order.operation)
            .with_tags_on_create("volume", &self.tags(order));
        Ok(volume(self.ec2.call(form).await?))
    }

    pub(super) async fn read_volume(&self, reference: &str) -> Result<Option<Object>> {
        Ok(self.volume(reference).await?.map(volume))
    }

    pub(super) async fn update_volume(&self, reference: &str, order: &Order, spec: &VolumeSpec) -> Result<()> {
        let volume = self.volume(reference).await?.ok_or_else(|| not_found(reference))?;
        self.retag(reference, &volume.tag_set, &self.tags(order)).await?;
        if spec.size_gib < volume.size {
            let message = format!("a volume of {} GiB cannot shrink", volume.size);
            return Err(DriverError::new(DriverErrorKind::Invalid, "cannot_shrink", message));
        }
        if spec.size_gib == volume.size {
            return Ok(());
        }
        let form = Form::new("ModifyVolume").with("VolumeId", reference).with("Size", spec.size_gib);
        match self.ec2.send(form).await {
            // A modification is in progress; ignore the error if it leads to the requested size.
            Err(error) if error.code == "IncorrectModificationState" => {
                if self.is_modifying_to(reference, spec.size_gib).await? { Ok(()) } else { Err(error) }
            }
            done => done,
        }
    }

    pub(super) async fn delete_volume(&self, reference: &str) -> Result<()> {
        if !is_id("vol-", reference) {
            return Ok(());
        }
        ignore_not_found(self.ec2.send(Form::new("DeleteVolume").with("VolumeId", reference)).await)
    }

    pub(super) async fn list_volumes(&self, form: Form, query: &ListQuery) -> Result<ObjectPage> {
        let page: DescribeVolumes = self.ec2.call(form).await?;
        let matches = |volume: &Volume| {
            // A volume that is deleted with its instance is part of it, and not a resource.
            tags::matches_query(&volume.tag_set, query)
                && !volume.attachment_set.iter().any(|attachment| attachment.delete_on_termination)
        };
        let objects = page.volume_set.into_iter().filter(matches).map(volume).collect();
        Ok(ObjectPage { objects, next: Some(page.next_token).filter(|token| !token.is_empty()) })
    }

    async fn volume(&self, reference: &str) -> Result<Option<Volume>> {
        if !is_id("vol-", reference) {
            return Ok(None);
        }
        match self.ec2.call::<DescribeVolumes>(Form::new("DescribeVolumes").with("VolumeId.1", reference)).await {
            Ok(found) => Ok(found.volume_set.into_iter().find(|volume| volume.status != "deleted")),
            Err(DriverError { kind: DriverErrorKind::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn is_modifying_to(&self, reference: &str, size_gib: u32) -> Result<bool> {
        let form = Form::new("DescribeVolumesModifications").with("VolumeId.1", reference);
        let found: DescribeVolumesModifications = self.ec2.call(form).await?;
        let is_effective = |state: &str| matches!(state, "modifying" | "optimizing" | "completed");
        Ok(found
            .volume_modification_set
            .iter()
            .any(|modification| modification.target_size == size_gib && is_effective(&modification.modification_state)))
    }
}

fn volume(volume: Volume) -> Object {
    let state = match volume.status.as_str() {
        "available" | "in-use" => ObjectState::Ready,
        "deleting" => ObjectState::Deleting,
        "error" => ObjectState::Failed,
        _ => ObjectState::Busy,
    };
    let outputs: Map<String, Value> = [
        ("availability_zone".to_owned(), json!(volume.availability_zone)),
        ("volume_type".to_owned(), json!(volume.volume_type)),
    ]
    .into_iter()
    .collect();
    Object {
        reference: volume.volume_id,
        tags: tags::owner(&volume.tag_set),
        state,
        power: None,
        spec: Spec::Volume(VolumeSpec { size_gib: volume.size }),
        outputs,
        reason: (state == ObjectState::Failed).then(|| "EBS could not create the volume".to_owned()),
    }
}
