//! Scopes: permissions of the form `thing:verb`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::names::names;

macro_rules! scopes {
    ($($group:ident {
        ids $ids:tt
        scopes {$($scope:ident = $text:literal;)*}
        actions $actions:tt
    })*) => {
        /// Permission of a credential.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Scope {
            $($(#[doc = concat!("`", $text, "`")] $scope,)*)*
        }

        impl Scope {
            /// Every scope, in display order.
            pub const ALL: &'static [Self] = &[$($(Self::$scope,)*)*];

            /// Scope as clients write it.
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$scope => $text,)*)* }
            }
        }

        /// Scopes as types, for the signatures of handlers: `Grant<KeysRead>`.
        pub mod of {
            $($(
                #[doc = concat!("Requires `", $text, "`.")]
                #[derive(Clone, Copy, Debug)]
                pub enum $scope {}
                impl super::ScopeType for $scope {
                    const SCOPES: &'static [super::Scope] = &[super::Scope::$scope];
                }
            )*)*

            /// Requires `compute:read`, `storage:read` or `network:read`, depending on the kind of resource.
            #[derive(Clone, Copy, Debug)]
            pub enum ResourcesRead {}
            impl super::ScopeType for ResourcesRead {
                const SCOPES: &'static [super::Scope] =
                    &[super::Scope::ComputeRead, super::Scope::StorageRead, super::Scope::NetworkRead];
            }

            /// Requires `compute:write`, `storage:write` or `network:write`, depending on the kind of resource.
            #[derive(Clone, Copy, Debug)]
            pub enum ResourcesWrite {}
            impl super::ScopeType for ResourcesWrite {
                const SCOPES: &'static [super::Scope] =
                    &[super::Scope::ComputeWrite, super::Scope::StorageWrite, super::Scope::NetworkWrite];
            }
        }
    };
}

/// Type that represents a required scope, or several scopes of which one is required.
pub trait ScopeType: Send + Sync + 'static {
    /// Scopes, one of which is required.
    const SCOPES: &'static [Scope];
}

names!(scopes);

impl Scope {
    /// Returns whether the scope is a `:read` scope.
    pub fn is_read(self) -> bool {
        self.as_str().ends_with(":read")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error for a text that is not a scope.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a scope")]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Scope {
    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Permission of a credential, in the form `thing:verb`.",
            "enum": Self::ALL,
        })
    }
}

/// Set of scopes, displayed in the order of [`Scope::ALL`] and stored as `text[]`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeSet(u32);

impl ScopeSet {
    /// Set of all scopes.
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Returns whether the set contains `scope`.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }

    /// Returns whether the set contains one of `scopes`.
    pub fn contains_any(self, scopes: &[Scope]) -> bool {
        scopes.iter().any(|&scope| self.contains(scope))
    }

    /// Returns the intersection of two sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the scopes of `self` that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Iterates over the scopes of the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |&scope| self.contains(scope))
    }

    /// Stored form of the set.
    pub fn to_texts(self) -> Vec<&'static str> {
        self.iter().map(Scope::as_str).collect()
    }

    /// Parses the stored form. A scope of a newer version, which this version does not know, is ignored.
    pub fn from_texts(texts: &[String]) -> Self {
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u32))
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.to_texts()).finish()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.iter().enumerate() {
            f.write_str(if position == 0 { "" } else { " " })?;
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Scope>::deserialize(deserializer).map(|scopes| scopes.into_iter().collect())
    }
}

impl JsonSchema for ScopeSet {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ScopeSet".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<Scope>(), "uniqueItems": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_round_trips_as_text() {
        for &scope in Scope::ALL {
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
        assert!("users:raed".parse::<Scope>().is_err());
    }

    #[test]
    fn sets_keep_the_declared_order_and_support_set_operations() {
        let set: ScopeSet = [Scope::UsageRead, Scope::UsersRead].into_iter().collect();
        assert_eq!(set.to_string(), "users:read usage:read");
        assert_eq!(ScopeSet::all().intersection(set), set);
        assert!(set.difference(ScopeSet::all()).is_empty());
        assert_eq!(ScopeSet::from_texts(&["users:read".into(), "from:the-future".into()]).to_string(), "users:read");
    }
}
