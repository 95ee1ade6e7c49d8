//! The kinds of resources, and which scopes they are about.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::scope::Scope;

/// What a resource can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(type_name = "text")]
pub enum Kind {
    /// A network of its own addresses.
    #[sqlx(rename = "network.network")]
    Network,
    /// A disk that outlives what it is attached to.
    #[sqlx(rename = "storage.volume")]
    Volume,
    /// A machine, real or virtual, or a container.
    #[sqlx(rename = "compute.instance")]
    Instance,
}

impl Kind {
    /// All of them, those first that others refer to.
    pub const ALL: &'static [Self] = &[Self::Network, Self::Volume, Self::Instance];

    /// The kind as clients write it: its family, and what it is.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network.network",
            Self::Volume => "storage.volume",
            Self::Instance => "compute.instance",
        }
    }

    /// What its readers must hold.
    pub const fn read_scope(self) -> Scope {
        match self {
            Self::Network => Scope::NetworkRead,
            Self::Volume => Scope::StorageRead,
            Self::Instance => Scope::ComputeRead,
        }
    }

    /// What those must hold who change it.
    pub const fn write_scope(self) -> Scope {
        match self {
            Self::Network => Scope::NetworkWrite,
            Self::Volume => Scope::StorageWrite,
            Self::Instance => Scope::ComputeWrite,
        }
    }

    /// Whether it can be on or off.
    pub const fn has_power(self) -> bool {
        matches!(self, Self::Instance)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of resource; known are network.network, storage.volume and compute.instance")]
pub struct NotAKind;

impl FromStr for Kind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, NotAKind> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(NotAKind)
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

/// Whether an instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum Power {
    /// It runs.
    On,
    /// It does not.
    Off,
}
