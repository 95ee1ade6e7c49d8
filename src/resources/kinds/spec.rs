//! Specs: the desired state of a resource, one type for each kind. The published schemas are generated from these
//! types.
//!
//! Clients refer to other resources by id, and a provider by references of its own. Each spec is therefore generic over
//! the type of a reference: clients send [`Spec`], and drivers receive and return `Spec<String>`.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::Kind;
use crate::base::{id::ResourceId, input::net::Cidr};

/// Maximum number of volumes of an instance.
pub const MAX_VOLUMES: u32 = 16;

/// Network with its own address range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Address range: a private IPv4 network in CIDR notation, from /16 to /28.
    #[schemars(example = &"10.0.0.0/16")]
    pub cidr: Cidr,
}

/// Disk that exists independently of the instance it is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Size in GiB, from 1 to 16384. Can grow later if the provider supports it, and never shrinks.
    #[schemars(range(min = 1, max = 16_384), example = 20)]
    pub size_gib: u32,
}

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
    pub network: Option<R>,
    /// Ids of the attached volumes, at most 16. Default: none.
    #[serde(default = "Vec::<R>::new")]
    #[schemars(length(max = MAX_VOLUMES), extend("uniqueItems" = true))]
    pub volumes: Vec<R>,
}

/// Desired state of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Spec<R = ResourceId> {
    /// Spec of a network.
    Network(NetworkSpec),
    /// Spec of a volume.
    Volume(VolumeSpec),
    /// Spec of an instance.
    Instance(InstanceSpec<R>),
}

impl<R> Spec<R> {
    /// Kind of the resource.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Network(_) => Kind::Network,
            Self::Volume(_) => Kind::Volume,
            Self::Instance(_) => Kind::Instance,
        }
    }

    /// Parses a spec of `kind` that was stored, or that was validated against its schema.
    pub fn from_json(kind: Kind, value: Value) -> serde_json::Result<Self>
    where
        R: DeserializeOwned,
    {
        Ok(match kind {
            Kind::Network => Self::Network(serde_json::from_value(value)?),
            Kind::Volume => Self::Volume(serde_json::from_value(value)?),
            Kind::Instance => Self::Instance(serde_json::from_value(value)?),
        })
    }

    /// Returns the spec as stored and shown.
    pub fn to_json(&self) -> Value
    where
        R: Serialize,
    {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Returns the references of the spec, each with its member.
    pub fn references(&self) -> impl Iterator<Item = (Member, &R)> {
        let instance = match self {
            Self::Instance(spec) => Some(spec),
            _ => None,
        };
        let network = instance.and_then(|spec| spec.network.as_ref()).map(|network| (Member::Network, network));
        let volumes = instance.into_iter().flat_map(|spec| &spec.volumes).map(|volume| (Member::Volumes, volume));
        network.into_iter().chain(volumes)
    }

    /// Translates the references with `name`; `None` if it returns `None` for one of them.
    pub fn map_references<N>(&self, mut name: impl FnMut(&R) -> Option<N>) -> Option<Spec<N>> {
        Some(match self {
            Self::Network(spec) => Spec::Network(spec.clone()),
            Self::Volume(spec) => Spec::Volume(spec.clone()),
            Self::Instance(spec) => Spec::Instance(InstanceSpec {
                size: spec.size.clone(),
                image: spec.image.clone(),
                network: match &spec.network {
                    Some(network) => Some(name(network)?),
                    None => None,
                },
                volumes: spec.volumes.iter().map(name).collect::<Option<_>>()?,
            }),
        })
    }
}

impl Spec<String> {
    /// Compares the spec with `observed`. Returns the requested and the observed value of each member that differs. A
    /// member that was left to the provider never differs.
    pub fn difference(&self, observed: &Self) -> Map<String, Value> {
        let mut difference = Map::new();
        let mut compare = |member: &str, asked: Value, observed: Value| {
            if asked != observed {
                difference.insert(member.to_owned(), json!([asked, observed]));
            }
        };
        match (self, observed) {
            (Self::Network(asked), Self::Network(observed)) => {
                compare("cidr", json!(asked.cidr), json!(observed.cidr));
            }
            (Self::Volume(asked), Self::Volume(observed)) => {
                compare("size_gib", json!(asked.size_gib), json!(observed.size_gib));
            }
            (Self::Instance(asked), Self::Instance(observed)) => {
                compare("size", json!(asked.size), json!(observed.size));
                compare("image", json!(asked.image), json!(observed.image));
                if asked.network.is_some() {
                    compare("network", json!(asked.network), json!(observed.network));
                }
                let sorted = |volumes: &[String]| {
                    let mut volumes = volumes.to_vec();
                    volumes.sort_unstable();
                    json!(volumes)
                };
                compare("volumes", sorted(&asked.volumes), sorted(&observed.volumes));
            }
            (asked, observed) => compare("kind", json!(asked.kind()), json!(observed.kind())),
        }
        difference
    }
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
}

impl JsonSchema for Spec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Spec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds = [
            generator.subschema_for::<NetworkSpec>(),
            generator.subschema_for::<VolumeSpec>(),
            generator.subschema_for::<InstanceSpec>(),
        ];
        schemars::json_schema!({
            "description": "Desired state of a resource, depending on its kind. Empty until an import has read the object.",
            "anyOf": [kinds[0], kinds[1], kinds[2], { "type": "object", "maxProperties": 0 }],
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
    }
}
