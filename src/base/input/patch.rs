//! Members of a PATCH body, with the semantics of JSON Merge Patch (RFC 7396), one level deep: an omitted member keeps
//! its value, null clears it, a value replaces it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

/// Member that can be cleared. A struct with such a member needs `#[serde(default)]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Omitted: the member keeps its value.
    #[default]
    Unset,
    /// Null: the member is cleared.
    Clear,
    /// New value.
    Set(T),
}

impl<T> Patch<T> {
    /// Returns the change, if any: the new value, or `None` for a cleared member.
    pub fn change(self) -> Option<Option<T>> {
        match self {
            Self::Unset => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }

    /// Returns the change, if any: the new value, or the default for a cleared member.
    pub fn change_or_default(self) -> Option<T>
    where
        T: Default,
    {
        self.change().map(Option::unwrap_or_default)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T: JsonSchema> JsonSchema for Patch<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// Member that always has a value. Its schema rejects null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replace<T>(pub Option<T>);

impl<T> Default for Replace<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Replace<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

impl<T: JsonSchema> JsonSchema for Replace<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Body {
        note: Patch<String>,
        name: Replace<String>,
    }

    #[test]
    fn omitted_null_and_set_members_are_distinguished() {
        let read = |value| serde_json::from_value::<Body>(value);
        assert_eq!(read(json!({})).unwrap().note, Patch::Unset);
        assert_eq!(read(json!({ "note": null })).unwrap().note, Patch::Clear);
        assert_eq!(read(json!({ "note": "n" })).unwrap().note, Patch::Set("n".into()));
        assert_eq!(read(json!({ "name": "n" })).unwrap().name, Replace(Some("n".into())));
        assert_eq!(read(json!({})).unwrap().name, Replace(None));
        assert!(read(json!({ "name": null })).is_err());
        assert_eq!(Patch::<String>::Unset.change_or_default(), None);
        assert_eq!(Patch::<String>::Clear.change_or_default(), Some(String::new()));
        assert_eq!(Patch::<u32>::Clear.change(), Some(None));
    }
}
