//! Kinds of resources, and the scopes that they require.

pub mod spec;

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::identity::scope::Scope;

/// Kind of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(type_name = "text")]
pub enum Kind {
    /// Network with its own address range.
    #[sqlx(rename = "network.network")]
    Network,
    /// Disk that exists independently of the instance it is attached to.
    #[sqlx(rename = "storage.volume")]
    Volume,
    /// Physical or virtual machine, or container.
    #[sqlx(rename = "compute.instance")]
    Instance,
}

impl Kind {
    /// All kinds; those that others refer to come first.
    pub const ALL: &'static [Self] = &[Self::Network, Self::Volume, Self::Instance];

    /// Name as clients write it: family and type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network.network",
            Self::Volume => "storage.volume",
            Self::Instance => "compute.instance",
        }
    }

    /// Scope required to read.
    pub const fn read_scope(self) -> Scope {
        match self {
            Self::Network => Scope::NetworkRead,
            Self::Volume => Scope::StorageRead,
            Self::Instance => Scope::ComputeRead,
        }
    }

    /// Scope required to change.
    pub const fn write_scope(self) -> Scope {
        match self {
            Self::Network => Scope::NetworkWrite,
            Self::Volume => Scope::StorageWrite,
            Self::Instance => Scope::ComputeWrite,
        }
    }

    /// Whether resources of this kind have a power state.
    pub const fn has_power(self) -> bool {
        matches!(self, Self::Instance)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error: the text is not the name of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of resource; use network.network, storage.volume or compute.instance")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Kind {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ResourceKind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "The kind of a resource.", "enum": Self::ALL })
    }
}

/// Power state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum Power {
    /// Running.
    On,
    /// Stopped.
    Off,
}
