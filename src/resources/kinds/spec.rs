//! Specs: the desired state of a resource, one type for each kind. The published schemas are generated from these
//! types.
//!
//! Clients refer to other resources by id, and a provider by references of its own. Each spec is therefore generic over
//! the type of a reference: clients send [`Spec`], and drivers receive and return `Spec<String>`.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Kind;
pub use super::{Spec, instance::InstanceSpec, network::NetworkSpec, volume::VolumeSpec};
use crate::base::{id::ResourceId, identity::scope::Scope};

/// What this server knows about one kind of resource. Implemented by the type of the kind's spec, whose references to
/// other resources are of type `R`.
pub trait KindSpec<R>: Sized {
    /// The same spec with references of type `N`.
    type With<N>;

    /// Name of the kind as clients write it: family and type.
    const NAME: &'static str;
    /// Scope required to read resources of this kind.
    const READ_SCOPE: Scope;
    /// Scope required to change resources of this kind.
    const WRITE_SCOPE: Scope;
    /// Whether resources of this kind have a power state.
    const HAS_POWER: bool = false;

    /// Returns the references of the spec, each with its member.
    fn references(&self) -> Vec<(Member, &R)> {
        Vec::new()
    }

    /// Translates the references with `name`; `None` if it returns `None` for one of them.
    fn map_references<N>(&self, name: impl FnMut(&R) -> Option<N>) -> Option<Self::With<N>>;

    /// Leaves references to the provider that `keep` rejects, if their member may be omitted.
    fn retain_optional_references(&mut self, _keep: impl FnMut(&R) -> bool) {}

    /// Returns the members that contain text of the provider, apart from references.
    fn texts(&mut self) -> Vec<&mut String> {
        Vec::new()
    }

    /// Checks what the schema cannot express.
    fn fault(&self) -> Option<SpecFault> {
        None
    }

    /// Checks whether a resource can change to `after`, whatever its provider supports.
    fn change_fault(&self, _after: &Self) -> Option<SpecFault> {
        None
    }

    /// Applies an action.
    fn apply(&mut self, change: SpecChange<R>) -> Result<(), SpecFault> {
        Err(change.not_applicable(self))
    }

    /// Returns a text about the limit that the spec exceeds after an action, if it does.
    fn limit_fault(&self) -> Option<String> {
        None
    }
}

/// Invalid member of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFault {
    /// Name of the member.
    pub member: &'static str,
    /// What is wrong, and what to do.
    pub detail: String,
}

/// Change that an action makes to a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecChange<R = ResourceId> {
    /// Attaches a volume.
    Attach(R),
    /// Detaches a volume.
    Detach(R),
    /// Changes the named size.
    Size(String),
    /// Changes the size in GiB.
    SizeGib(u32),
}

impl<R> SpecChange<R> {
    /// Returns the fault of a spec that has no such member.
    pub fn not_applicable<S: KindSpec<R>>(&self, _: &S) -> SpecFault {
        let member = match self {
            Self::Attach(_) | Self::Detach(_) => "volume",
            Self::Size(_) => "size",
            Self::SizeGib(_) => "size_gib",
        };
        SpecFault { member, detail: format!("'{member}' does not apply to a {}; remove it", S::NAME) }
    }
}

impl<R: Serialize> Spec<R> {
    /// Returns the spec as stored and shown.
    pub fn to_json(&self) -> Value {
        self.members().into()
    }

    /// Returns the members of the spec, as stored and shown.
    pub fn members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            // Unreachable: every spec serializes to an object of plain members.
            _ => Map::new(),
        }
    }
}

impl Spec<String> {
    /// Compares the spec with `observed`. Returns the requested and the observed value of each member that differs. A
    /// member that was left to the provider never differs, and the order of a list does not matter.
    pub fn difference(&self, observed: &Self) -> Map<String, Value> {
        if self.kind() != observed.kind() {
            return Map::from_iter([("kind".to_owned(), json!([self.kind(), observed.kind()]))]);
        }
        let mut observed = observed.members();
        let differences = self.members().into_iter().filter_map(|(member, requested)| {
            let observed = sorted(observed.remove(&member).unwrap_or_default());
            let requested = sorted(requested);
            (requested != observed).then(|| (member, json!([requested, observed])))
        });
        differences.collect()
    }
}

fn sorted(mut value: Value) -> Value {
    if let Value::Array(items) = &mut value {
        items.sort_unstable_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    value
}

/// Spec member that refers to other resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Member {
    /// `network`.
    Network,
    /// `volumes`.
    Volumes,
}

impl Member {
    /// All members. Rows are locked in this order.
    pub const ALL: [Self; 2] = [Self::Network, Self::Volumes];

    /// Name of the member.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Volumes => "volumes",
        }
    }

    /// Kind that the member must refer to.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Network => Kind::Network,
            Self::Volumes => Kind::Volume,
        }
    }

    /// Whether the member is a list.
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Volumes)
    }

    /// Whether only one resource can refer to an object with this member.
    pub const fn is_exclusive(self) -> bool {
        matches!(self, Self::Volumes)
    }
}

impl JsonSchema for Spec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Spec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schemas: Vec<Value> = Kind::ALL.iter().map(|kind| kind.spec_schema(generator).to_value()).collect();
        schemas.push(json!({ "type": "object", "maxProperties": 0 }));
        schemars::json_schema!({
            "description": "Desired state of a resource, depending on its kind. Empty until an import has read the object.",
            "anyOf": schemas,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_parses_only_its_own_spec() {
        let network = json!({ "cidr": "10.0.0.0/16" });
        let instance = json!({ "size": "small", "image": "debian-12", "network": "res_1", "volumes": ["res_2"] });
        for (kind, value) in
            [(Kind::Network, network), (Kind::Volume, json!({ "size_gib": 20 })), (Kind::Instance, instance)]
        {
            let spec: Spec = Spec::from_json(kind, value.clone()).unwrap();
            assert_eq!((spec.kind(), spec.to_json()), (kind, value.clone()));
            for other in Kind::ALL.iter().filter(|other| **other != kind) {
                assert!(Spec::<ResourceId>::from_json(*other, value.clone()).is_err());
            }
        }
    }

    #[test]
    fn difference_lists_changed_members_and_ignores_members_left_to_the_provider() {
        let spec = |network: Option<&str>, volumes: &[&str], size: &str| {
            Spec::Instance(InstanceSpec {
                size: size.into(),
                image: "i".into(),
                network: network.map(Into::into),
                volumes: volumes.iter().map(|&volume| volume.into()).collect(),
            })
        };
        let asked: Spec<String> = spec(None, &["a", "b"], "small");
        assert!(asked.difference(&spec(Some("default"), &["b", "a"], "small")).is_empty());
        let difference = asked.difference(&spec(None, &["b"], "large"));
        assert_eq!(Value::Object(difference), json!({ "size": ["small", "large"], "volumes": [["a", "b"], ["b"]] }));
        let difference = spec(Some("n"), &[], "small").difference(&spec(None, &[], "small"));
        assert_eq!(Value::Object(difference), json!({ "network": ["n", null] }));
        let volume = Spec::Volume(VolumeSpec { size_gib: 1 });
        assert_eq!(asked.difference(&volume)["kind"], json!(["compute.instance", "storage.volume"]));
    }

    #[test]
    fn action_that_does_not_fit_the_kind_is_a_fault() {
        let mut network: Spec = Spec::from_json(Kind::Network, json!({ "cidr": "10.0.0.0/16" })).unwrap();
        let mut volume: Spec = Spec::Volume(VolumeSpec { size_gib: 20 });
        let member = |spec: &mut Spec, change| spec.apply(change).map_err(|fault| fault.member);
        assert_eq!(member(&mut network, SpecChange::Size("s".into())), Err("size"));
        assert_eq!(member(&mut volume, SpecChange::Size("s".into())), Err("size"));
        assert_eq!(member(&mut volume, SpecChange::Attach(ResourceId::NIL)), Err("volume"));
        assert_eq!(member(&mut volume, SpecChange::SizeGib(40)), Ok(()));
        assert_eq!(volume, Spec::Volume(VolumeSpec { size_gib: 40 }));
    }
}
