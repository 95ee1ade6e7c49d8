//! Actions: names and meanings, as the audit trail, events and webhooks use them.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::names::names;

/// Where an action is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// In the audit trail only.
    AuditTrail,
    /// In the audit trail and as an event.
    Event,
}

macro_rules! actions {
    ($($group:ident {
        ids $ids:tt
        scopes $scopes:tt
        actions {$($variant:ident = $text:literal, $recorded:ident, $doc:literal;)*}
    })*) => {
        /// Recorded action: a type of object and what happened to it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[doc = $doc] $variant,)*)*
        }

        impl Action {
            /// All actions.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// Name of the action.
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$variant => $text,)*)* }
            }

            /// Where the action is recorded.
            pub const fn recorded(self) -> Recorded {
                match self { $($(Self::$variant => Recorded::$recorded,)*)* }
            }

            /// Meaning, in one sentence.
            pub const fn description(self) -> &'static str {
                match self { $($(Self::$variant => $doc,)*)* }
            }
        }
    };
}

names!(actions);

/// Names of earlier releases. Sealed entries of the audit trail keep them.
const FORMER_NAMES: [(&str, Action); 2] =
    [("resource.mended", Action::ResourceRemediated), ("audit.trimmed", Action::AuditRetentionApplied)];

impl Action {
    /// Returns the current name of the action `name`, which may be a name of an earlier release. Returns an unknown
    /// name unchanged.
    pub fn current_name(name: &str) -> &str {
        FORMER_NAMES.iter().find(|(former, _)| *former == name).map_or(name, |(_, action)| action.as_str())
    }

    /// Returns the names of `actions` and their former names, which sealed entries keep and filters accept.
    pub fn names(actions: impl Iterator<Item = Self> + Clone) -> Vec<&'static str> {
        let former = FORMER_NAMES.iter().filter(|(_, renamed)| actions.clone().any(|action| action == *renamed));
        actions.clone().map(Self::as_str).chain(former.map(|(name, _)| *name)).collect()
    }

    /// Actions that are events.
    pub fn events() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.iter().copied().filter(|action| action.recorded() == Recorded::Event)
    }
}

/// Error for a text that is not an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an action")]
pub struct ParseActionError;

impl FromStr for Action {
    type Err = ParseActionError;

    fn from_str(text: &str) -> Result<Self, ParseActionError> {
        let name = Self::current_name(text);
        Self::ALL.iter().copied().find(|action| action.as_str() == name).ok_or(ParseActionError)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let all = Self::names(Self::ALL.iter().copied());
        json_schema!({ "type": "string", "enum": all })
    }
}
