//! Typed ids: a prefix for the kind, and a UUID in short hexadecimal.
//!
//! `proj_8f2c4` is the UUID `00000000-0000-0000-0000-00000008f2c4`: leading zeros are trimmed, so the short ids of the
//! published reference are valid ids. New ids are UUIDv7 (RFC 9562 §5.7), so their order is the order of creation,
//! apart from clock differences between nodes.

use std::{borrow::Cow, fmt, hash, marker::PhantomData, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sqlx::{Decode, Encode, Postgres, Type, encode::IsNull, error::BoxDynError};
use uuid::Uuid;

use super::names::names;

/// Number of bits of a UUIDv7 after its timestamp.
const RANDOM_BITS: u32 = 80;

/// Kind of object that an id identifies.
pub trait Kind: Send + Sync + 'static {
    /// Text before the underscore.
    const PREFIX: &'static str;
    /// Noun for the kind, with its article: "a project".
    const NOUN: &'static str;
    /// Example of the published reference, shown in the OpenAPI document.
    const EXAMPLE: &'static str;

    /// Name of the kind in audit entries and events: the last word of the noun, `entry` for "an audit entry".
    fn type_name() -> &'static str {
        Self::NOUN.rsplit(' ').next().unwrap_or(Self::NOUN)
    }
}

macro_rules! kinds {
    ($($group:ident {
        ids {$($(#[$doc:meta])* $kind:ident as $alias:ident = $prefix:literal, $noun:literal, $example:literal;)*}
        scopes $scopes:tt
        actions $actions:tt
    })*) => {$($(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
            const NOUN: &'static str = $noun;
            const EXAMPLE: &'static str = $example;
        }
        #[doc = concat!("Id of ", $noun, ": `", $example, "`.")]
        pub type $alias = Id<$kind>;
    )*)*
        /// Prefixes of all kinds.
        pub const PREFIXES: &[&str] = &[$($($prefix,)*)*];
    };
}

names!(kinds);

/// Id of a `K`.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

impl<K> Id<K> {
    /// Creates an id from a number, such as the short ids of the published reference.
    pub const fn from_u128(number: u128) -> Self {
        Self::from_uuid(Uuid::from_u128(number))
    }

    /// Returns the id as a number.
    pub const fn as_u128(self) -> u128 {
        self.uuid.as_u128()
    }

    const fn from_uuid(uuid: Uuid) -> Self {
        Self { uuid, kind: PhantomData }
    }

    /// Id of no object. A malformed id is looked up as this id, so that the response does not distinguish malformed ids
    /// from absent objects.
    pub const NIL: Self = Self::from_uuid(Uuid::nil());

    /// Smallest id: start of an ascending list.
    pub const FIRST: Self = Self::NIL;

    /// Largest id: start of a descending list.
    pub const LAST: Self = Self::from_uuid(Uuid::max());
}

impl<K: Kind> Id<K> {
    /// Creates an id that is greater than those created before on this node.
    pub fn new() -> Self {
        Self::from_uuid(Uuid::now_v7())
    }

    /// Smallest id that can be created at `millis`, in milliseconds since 1970 (RFC 9562 §5.7).
    pub const fn min_at(millis: u64) -> Self {
        Self::from_u128((millis as u128) << RANDOM_BITS)
    }

    /// Creation time, in milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        (self.as_u128() >> RANDOM_BITS) as u64
    }

    /// Regular expression that every id of this kind matches.
    pub fn pattern() -> String {
        format!("^{}_[1-9a-f][0-9a-f]{{0,31}}$", K::PREFIX)
    }
}

/// Length of the longest id.
const MAX_LENGTH: usize = 48;

impl<K: Kind> Id<K> {
    /// Writes the id into `buffer` and returns it as text. Lists format many ids.
    fn write_text(self, buffer: &mut [u8; MAX_LENGTH]) -> &str {
        let mut digits = [0; 32];
        let digits = self.uuid.simple().encode_lower(&mut digits).trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        let mut length = 0;
        for part in [K::PREFIX, "_", digits] {
            if let Some(place) = buffer.get_mut(length..length + part.len()) {
                place.copy_from_slice(part.as_bytes());
                length += part.len();
            }
        }
        buffer.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl<K: Kind> Default for Id<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Error for a text that is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the expected kind")]
pub struct ParseIdError;

impl<K: Kind> FromStr for Id<K> {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(ParseIdError)?;
        // Each id has one spelling: no upper case, no leading zero (which also excludes nil), no sign.
        let canonical = (1..=32).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(ParseIdError);
        }
        u128::from_str_radix(digits, 16).map(Self::from_u128).map_err(|_| ParseIdError)
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write_text(&mut [0; MAX_LENGTH]))
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Derives would require the same traits of `K`, of which no value exists.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<K> hash::Hash for Id<K> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.write_text(&mut [0; MAX_LENGTH]))
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl<K: Kind> JsonSchema for Id<K> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}Id", K::PREFIX).into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": Self::pattern(),
            "x-form": format!("the id of {}", K::NOUN),
            "examples": [K::EXAMPLE],
        })
    }
}

impl<K> Type<Postgres> for Id<K> {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <Uuid as Type<Postgres>>::type_info()
    }
}

impl<K> sqlx::postgres::PgHasArrayType for Id<K> {
    fn array_type_info() -> sqlx::postgres::PgTypeInfo {
        <Uuid as sqlx::postgres::PgHasArrayType>::array_type_info()
    }
}

impl<K> Encode<'_, Postgres> for Id<K> {
    fn encode_by_ref(&self, buf: &mut sqlx::postgres::PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.uuid.encode_by_ref(buf)
    }
}

impl<'r, K> Decode<'r, Postgres> for Id<K> {
    fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Uuid::decode(value).map(Self::from_uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_of_the_published_reference_are_valid() {
        let id: ProjectId = "proj_8f2c4".parse().unwrap();
        assert_eq!(id, ProjectId::from_u128(0x8f2c4));
        assert_eq!(id.to_string(), "proj_8f2c4");
    }

    #[test]
    fn every_other_spelling_is_rejected() {
        for text in [
            "",
            "proj",
            "proj_",
            "proj_0",
            "proj_08f2c4",
            "proj_8F2C4",
            "usr_8f2c4",
            "proj_+8f2c4",
            "proj_8f2c4 ",
            "proj_g",
            "proj__8",
            "8f2c4",
            "proj_111111111111111111111111111111111",
        ] {
            assert_eq!(text.parse::<ProjectId>(), Err(ParseIdError), "{text:?}");
        }
    }

    #[test]
    fn new_ids_sort_in_creation_order() {
        let made: Vec<KeyId> = (0..1000).map(|_| KeyId::new()).collect();
        assert!(made.is_sorted());
        assert!(made.iter().all(|id| KeyId::min_at(id.millis()) <= *id && KeyId::min_at(id.millis() + 1) > *id));
        assert_eq!(made[7].to_string().parse(), Ok(made[7]));
    }
}
