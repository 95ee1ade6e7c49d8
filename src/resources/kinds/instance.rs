//! `compute.instance`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{KindSpec, Member, SpecChange, SpecFault};
use crate::base::{id::ResourceId, identity::scope::Scope};

/// Maximum number of volumes of an instance.
const MAX_VOLUMES: u32 = 16;

/// Physical or virtual machine, or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InstanceSpec", bound = "R: JsonSchema + Serialize")]
pub struct InstanceSpec<R = ResourceId> {
    /// Name of a size: one of the provider's `sizes`, or the provider's own identifier if `native_terms` is true.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), extend("x-form" = "the name of a size"), example = &"small")]
    pub size: String,
    /// Name of an image: one of the provider's `images`, or the provider's own identifier if `native_terms` is true.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"), extend("x-form" = "the name of an image"), example = &"debian-12")]
    pub image: String,
    /// Id of the network, which cannot be changed later. Default: the provider's default network.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-resource-kind" = "network.network"))]
    pub network: Option<R>,
    /// Ids of the attached volumes, at most 16. Default: none.
    #[serde(default = "Vec::<R>::new")]
    #[schemars(length(max = MAX_VOLUMES), extend("uniqueItems" = true, "x-resource-kind" = "storage.volume"))]
    pub volumes: Vec<R>,
}

impl<R: PartialEq> KindSpec<R> for InstanceSpec<R> {
    type With<N> = InstanceSpec<N>;

    const NAME: &'static str = "compute.instance";
    const READ_SCOPE: Scope = Scope::ComputeRead;
    const WRITE_SCOPE: Scope = Scope::ComputeWrite;
    const HAS_POWER: bool = true;

    fn references(&self) -> Vec<(Member, &R)> {
        let network = self.network.iter().map(|network| (Member::Network, network));
        network.chain(self.volumes.iter().map(|volume| (Member::Volumes, volume))).collect()
    }

    fn map_references<N>(&self, mut name: impl FnMut(&R) -> Option<N>) -> Option<InstanceSpec<N>> {
        Some(InstanceSpec {
            size: self.size.clone(),
            image: self.image.clone(),
            network: match &self.network {
                Some(network) => Some(name(network)?),
                None => None,
            },
            volumes: self.volumes.iter().map(name).collect::<Option<_>>()?,
        })
    }

    fn retain_optional_references(&mut self, keep: impl FnMut(&R) -> bool) {
        self.network = self.network.take().filter(keep);
    }

    fn texts(&mut self) -> Vec<&mut String> {
        vec![&mut self.size, &mut self.image]
    }

    fn apply(&mut self, change: SpecChange<R>) -> Result<(), SpecFault> {
        match change {
            SpecChange::Attach(volume) if self.volumes.contains(&volume) => {}
            SpecChange::Attach(volume) => self.volumes.push(volume),
            SpecChange::Detach(volume) => self.volumes.retain(|known| *known != volume),
            SpecChange::Size(size) => self.size = size,
            SpecChange::SizeGib(_) => {
                return Err(SpecFault {
                    member: "size_gib",
                    detail: "an instance has no 'size_gib'; use 'size'".into(),
                });
            }
        }
        Ok(())
    }

    fn limit_fault(&self) -> Option<String> {
        (self.volumes.len() > MAX_VOLUMES as usize)
            .then(|| format!("An instance can have at most {MAX_VOLUMES} volumes; detach one first"))
    }
}
