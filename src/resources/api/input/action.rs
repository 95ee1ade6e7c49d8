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
        kinds::{
            Power,
            spec::{Spec, SpecChange, SpecFault},
        },
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
        let attachment = self.volume.map(|volume| match self.action {
            ActionType::Detach => SpecChange::Detach(volume),
            _ => SpecChange::Attach(volume),
        });
        let size = self.size.clone().map(SpecChange::Size);
        for change in [attachment, size, self.size_gib.map(SpecChange::SizeGib)].into_iter().flatten() {
            after.apply(change).map_err(|SpecFault { member, detail }| {
                Error::validation(vec![item(member, ItemCode::UnknownField, detail)])
            })?;
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
