//! Request body of an action on a resource.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    base::{
        error::{Error, Item, ItemCode, ItemLocation, Result},
        id::ResourceId,
    },
    resources::{
        drivers::driver::ActionType,
        engine::lifecycle::OperationType,
        kinds::{Power, spec::Spec},
    },
};

/// Action to execute on a resource.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceAction {
    /// Action. The available actions depend on the kind and on the provider.
    pub action: ActionType,
    /// Id of the volume to attach or detach. Required for `attach` and `detach`.
    pub volume: Option<ResourceId>,
    /// New size of an instance. Required to `resize` an instance.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), extend("x-form" = "the name of a size"), example = &"large")]
    pub size: Option<String>,
    /// New size of a volume in GiB, from 1 to 16384, not below the current size. Required to `resize` a volume.
    #[schemars(range(min = 1, max = 16_384), example = 40)]
    pub size_gib: Option<u32>,
}

impl ResourceAction {
    /// Checks that the members fit the action: all that it needs, and no others.
    pub fn require_valid(&self) -> Result<()> {
        use ActionType as A;
        let mut items = Vec::new();
        let given =
            [("volume", self.volume.is_some()), ("size", self.size.is_some()), ("size_gib", self.size_gib.is_some())];
        for (name, is_given) in given {
            let is_applicable = match name {
                "volume" => matches!(self.action, A::Attach | A::Detach),
                _ => self.action == A::Resize,
            };
            if is_given && !is_applicable {
                let detail = format!("'{name}' does not apply to this action; remove it");
                items.push(item(name, ItemCode::UnknownField, detail));
            }
            if name == "volume" && is_applicable && !is_given {
                items.push(item(name, ItemCode::Required, "'volume' is required; add it".into()));
            }
        }
        if self.action == A::Resize && self.size.is_none() && self.size_gib.is_none() {
            let detail = "'size' is required to resize an instance, 'size_gib' to resize a volume; add one of them";
            items.push(item("size", ItemCode::Required, detail.into()));
        }
        if items.is_empty() { Ok(()) } else { Err(Error::validation(items)) }
    }

    /// Returns the spec after the action, and a function that maps a spec member to its place in the body, for errors.
    pub fn apply_to(&self, spec: &Spec) -> Result<(Spec, impl Fn(&str) -> String + use<>)> {
        let mut after = spec.clone();
        match (&mut after, self.volume, &self.size, self.size_gib) {
            (Spec::Instance(instance), Some(volume), ..) => {
                let is_attached = instance.volumes.contains(&volume);
                match self.action {
                    ActionType::Detach => instance.volumes.retain(|known| *known != volume),
                    _ if is_attached => {}
                    _ => instance.volumes.push(volume),
                }
            }
            (Spec::Instance(instance), _, Some(size), None) => instance.size.clone_from(size),
            (Spec::Volume(volume), _, None, Some(size)) => volume.size_gib = size,
            (_, _, Some(_), _) => return Err(invalid_size_member("size", "a volume has no 'size'; use 'size_gib'")),
            (_, _, _, Some(_)) => {
                return Err(invalid_size_member("size_gib", "an instance has no 'size_gib'; use 'size'"));
            }
            _ => {}
        }
        let place = |member: &str| match member {
            "volumes" => "/volume".to_owned(),
            other => format!("/{other}"),
        };
        Ok((after, place))
    }

    /// Returns the type of the operation, and the desired power state if the action sets it.
    pub const fn operation(&self) -> (OperationType, Option<Power>) {
        match self.action {
            ActionType::Start => (OperationType::Start, Some(Power::On)),
            ActionType::Stop => (OperationType::Stop, Some(Power::Off)),
            ActionType::Reboot => (OperationType::Reboot, None),
            ActionType::Attach => (OperationType::Attach, None),
            ActionType::Detach => (OperationType::Detach, None),
            ActionType::Resize => (OperationType::Resize, None),
        }
    }
}

fn item(member: &str, code: ItemCode, detail: String) -> Item {
    Item { location: ItemLocation::Body(format!("/{member}")), code, detail }
}

fn invalid_size_member(member: &str, detail: &str) -> Error {
    Error::validation(vec![item(member, ItemCode::UnknownField, detail.to_owned())])
}
