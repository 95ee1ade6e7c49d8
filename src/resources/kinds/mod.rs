//! Kinds of resources. Each has a file with its spec and everything else that depends on the kind ([`spec::KindSpec`]);
//! [`kinds!`] lists them.

pub mod instance;
pub mod network;
pub mod spec;
pub mod volume;

use std::{borrow::Cow, fmt, str::FromStr, sync::LazyLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use serde_json::Value;
use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef},
};

use self::{
    instance::InstanceSpec,
    network::NetworkSpec,
    spec::{KindSpec, Member, SpecChange, SpecFault},
    volume::VolumeSpec,
};
use crate::base::{error::Item, id::ResourceId, identity::scope::Scope, input::schema::Rules};

/// Defines [`Kind`] and [`Spec`], and dispatches to the kinds' specs.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $spec:ty;)*) => {
        /// Kind of a resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds; those that others refer to come first.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Name as clients write it: family and type.
            pub const fn as_str(self) -> &'static str {
                type R = ResourceId;
                match self {
                    $(Self::$kind => <$spec as KindSpec<R>>::NAME,)*
                }
            }

            /// Scope required to read.
            pub const fn read_scope(self) -> Scope {
                type R = ResourceId;
                match self {
                    $(Self::$kind => <$spec as KindSpec<R>>::READ_SCOPE,)*
                }
            }

            /// Scope required to change.
            pub const fn write_scope(self) -> Scope {
                type R = ResourceId;
                match self {
                    $(Self::$kind => <$spec as KindSpec<R>>::WRITE_SCOPE,)*
                }
            }

            /// Whether resources of this kind have a power state.
            pub const fn has_power(self) -> bool {
                type R = ResourceId;
                match self {
                    $(Self::$kind => <$spec as KindSpec<R>>::HAS_POWER,)*
                }
            }

            /// Schema of the spec, as a reference to the generator's definitions.
            pub fn spec_schema(self, generator: &mut SchemaGenerator) -> Schema {
                type R = ResourceId;
                match self {
                    $(Self::$kind => generator.subschema_for::<$spec>(),)*
                }
            }

            /// Schema of the spec, as a document of its own.
            pub fn root_schema(self, generator: SchemaGenerator) -> Schema {
                type R = ResourceId;
                match self {
                    $(Self::$kind => generator.into_root_schema_for::<$spec>(),)*
                }
            }

            /// Validates `spec`, whose texts were checked before, against the schema.
            pub fn spec_faults(self, spec: &Value) -> Vec<Item> {
                type R = ResourceId;
                match self {
                    $(Self::$kind => {
                        static RULES: LazyLock<Rules> = LazyLock::new(Rules::of::<$spec>);
                        RULES.schema_faults(spec)
                    })*
                }
            }
        }

        /// Desired state of a resource.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Spec<R = ResourceId> {
            $($(#[$doc])* $kind($spec),)*
        }

        impl<R> Spec<R> {
            /// Kind of the resource.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Parses a spec of `kind` that was stored, or that was validated against its schema.
            pub fn from_json(kind: Kind, value: Value) -> serde_json::Result<Self>
            where
                R: DeserializeOwned,
            {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(serde_json::from_value(value)?),)*
                })
            }
        }

        impl<R: PartialEq> Spec<R> {
            /// Returns the references of the spec, each with its member.
            pub fn references(&self) -> impl Iterator<Item = (Member, &R)> {
                let references = match self {
                    $(Self::$kind(spec) => spec.references(),)*
                };
                references.into_iter()
            }

            /// Translates the references with `name`; `None` if it returns `None` for one of them.
            pub fn map_references<N>(&self, name: impl FnMut(&R) -> Option<N>) -> Option<Spec<N>> {
                Some(match self {
                    $(Self::$kind(spec) => Spec::$kind(spec.map_references(name)?),)*
                })
            }

            /// Leaves references to the provider that `keep` rejects, if their member may be omitted.
            pub fn retain_optional_references(&mut self, keep: impl FnMut(&R) -> bool) {
                match self {
                    $(Self::$kind(spec) => spec.retain_optional_references(keep),)*
                }
            }

            /// Returns the members that contain text of the provider, apart from references.
            pub fn texts(&mut self) -> Vec<&mut String> {
                match self {
                    $(Self::$kind(spec) => KindSpec::<R>::texts(spec),)*
                }
            }

            /// Checks what the schema cannot express.
            pub fn fault(&self) -> Option<SpecFault> {
                match self {
                    $(Self::$kind(spec) => KindSpec::<R>::fault(spec),)*
                }
            }

            /// Checks whether a resource can change to `after`, whatever its provider supports.
            pub fn change_fault(&self, after: &Self) -> Option<SpecFault> {
                match (self, after) {
                    $((Self::$kind(before), Self::$kind(after)) => KindSpec::<R>::change_fault(before, after),)*
                    _ => None,
                }
            }

            /// Applies an action.
            pub fn apply(&mut self, change: SpecChange<R>) -> Result<(), SpecFault> {
                match self {
                    $(Self::$kind(spec) => spec.apply(change),)*
                }
            }

            /// Returns a text about the limit that the spec exceeds after an action, if it does.
            pub fn limit_fault(&self) -> Option<String> {
                match self {
                    $(Self::$kind(spec) => KindSpec::<R>::limit_fault(spec),)*
                }
            }
        }
    };
}

kinds! {
    /// Network with its own address range.
    Network: NetworkSpec;
    /// Disk that exists independently of the instance it is attached to.
    Volume: VolumeSpec;
    /// Physical or virtual machine, or container.
    Instance: InstanceSpec<R>;
}

impl Type<Postgres> for Kind {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
    fn compatible(ty: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(ty)
    }
}

impl Encode<'_, Postgres> for Kind {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <&str as Encode<'_, Postgres>>::encode_by_ref(&self.as_str(), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Kind {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(<&str as Decode<'r, Postgres>>::decode(value)?.parse::<Self>()?)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error: the text is not the name of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of resource; use one of: {}", Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "))]
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
