//! `storage.volume`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{KindSpec, SpecChange, SpecFault};
use crate::base::identity::scope::Scope;

/// Disk that exists independently of the instance it is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Size in GiB, from 1 to 16384. Can grow later if the provider supports it, and never shrinks.
    #[schemars(range(min = 1, max = 16_384), example = 20)]
    pub size_gib: u32,
}

impl<R> KindSpec<R> for VolumeSpec {
    type With<N> = Self;

    const NAME: &'static str = "storage.volume";
    const READ_SCOPE: Scope = Scope::StorageRead;
    const WRITE_SCOPE: Scope = Scope::StorageWrite;

    fn map_references<N>(&self, _: impl FnMut(&R) -> Option<N>) -> Option<Self> {
        Some(self.clone())
    }

    fn change_fault(&self, after: &Self) -> Option<SpecFault> {
        (after.size_gib < self.size_gib).then(|| SpecFault {
            member: "size_gib",
            detail: format!("a volume of {} GiB cannot shrink; create another volume and copy the data", self.size_gib),
        })
    }

    fn apply(&mut self, change: SpecChange<R>) -> Result<(), SpecFault> {
        match change {
            SpecChange::SizeGib(size) => self.size_gib = size,
            SpecChange::Size(_) => {
                return Err(SpecFault { member: "size", detail: "a volume has no 'size'; use 'size_gib'".into() });
            }
            SpecChange::Attach(_) | SpecChange::Detach(_) => return Err(change.not_applicable(self)),
        }
        Ok(())
    }
}
