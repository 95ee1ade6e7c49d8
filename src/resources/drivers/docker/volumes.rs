//! Volumes of the engine's `local` driver, whose size is limited only by its disk.

use bollard::{
    models::{Volume, VolumeCreateRequest},
    query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions},
};
use serde_json::{Map, json};

use super::{
    Docker,
    failure::{disappeared, driver_error, foreign, none_if_missing, status},
    labels, page_of,
};
use crate::resources::{
    drivers::driver::{ListQuery, Object, ObjectPage, ObjectState, Order, Result},
    kinds::{
        Kind,
        spec::{Spec, VolumeSpec},
    },
};

impl Docker {
    pub(super) async fn create_volume(&self, order: &Order) -> Result<Object> {
        let name = labels::name(&order.tags);
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            driver: Some("local".into()),
            labels: Some(labels::for_object(&self.name, order)),
            ..VolumeCreateRequest::default()
        };
        // The engine returns an existing volume like a new one.
        self.engine().await?.create_volume(request).await.map_err(driver_error)?;
        let volume = self.volume(&name).await?.ok_or_else(|| disappeared(&name))?;
        if labels::is_owned_by(&self.name, &order.tags, &volume.labels) {
            Ok(object(volume))
        } else {
            Err(foreign(&name))
        }
    }

    pub(super) async fn read_volume(&self, reference: &str) -> Result<Option<Object>> {
        Ok(self.volume(reference).await?.map(object))
    }

    pub(super) async fn volume(&self, reference: &str) -> Result<Option<Volume>> {
        none_if_missing(self.engine().await?.inspect_volume(reference).await)
    }

    pub(super) async fn delete_volume(&self, reference: &str) -> Result<()> {
        // A third party may have created a volume of this name since; do not delete its data.
        let Some(volume) = self.volume(reference).await? else { return Ok(()) };
        if !labels::is_owned_by_provider(&self.name, &volume.labels) {
            return Err(foreign(reference));
        }
        match self.engine().await?.remove_volume(reference, None::<RemoveVolumeOptions>).await {
            Err(error) if status(&error) != Some(404) => Err(driver_error(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn list_volumes(&self, query: &ListQuery) -> Result<ObjectPage> {
        let options = ListVolumesOptionsBuilder::new().filters(&labels::filters(&self.name, query)).build();
        let answer = self.engine().await?.list_volumes(Some(options)).await.map_err(driver_error)?;
        let volumes = answer.volumes.unwrap_or_default().into_iter();
        let volumes = volumes.filter(|volume| labels::matches_query(query, &volume.labels));
        let (page, next) = page_of(query, volumes.map(|volume| (volume.name.clone(), volume)).collect());
        Ok(ObjectPage { objects: page.into_iter().map(|(_, volume)| object(volume)).collect(), next })
    }
}

fn object(volume: Volume) -> Object {
    // A volume that was created elsewhere has no recorded size either.
    let spec = labels::requested_spec(Kind::Volume, &volume.labels).unwrap_or(Spec::Volume(VolumeSpec { size_gib: 1 }));
    let outputs = Map::from_iter([
        ("name".to_owned(), json!(volume.name)),
        ("driver".to_owned(), json!(volume.driver)),
        ("size_enforced".to_owned(), json!(false)),
    ]);
    Object {
        tags: labels::tags(&volume.labels),
        reference: volume.name,
        state: ObjectState::Ready,
        power: None,
        spec,
        outputs,
        reason: None,
    }
}
