//! Typed ids: a prefix that names the kind, and a UUID in short hexadecimal.
//!
//! `proj_8f2c4` is the UUID `00000000-0000-0000-0000-00000008f2c4`: leading zeros are trimmed, so
//! the short ids of the published reference are ordinary ids. New ids are UUIDv7 (RFC 9562 §5.7),
//! so their order is creation order up to the nodes' clock difference.

use std::{borrow::Cow, fmt, hash, marker::PhantomData, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sqlx::{Decode, Encode, Postgres, Type, encode::IsNull, error::BoxDynError};
use uuid::Uuid;

/// How much of a UUIDv7 is not its time.
const RANDOM_BITS: u32 = 80;

/// What an id can be the id of.
pub trait Kind: Send + Sync + 'static {
    /// The text before the underscore.
    const PREFIX: &'static str;
    /// The kind in a sentence: "a project".
    const NOUN: &'static str;
    /// The published reference's example, shown in the API's description.
    const EXAMPLE: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident as $alias:ident = $prefix:literal, $noun:literal, $example:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
            const NOUN: &'static str = $noun;
            const EXAMPLE: &'static str = $example;
        }
        #[doc = concat!("The id of ", $noun, ": `", $example, "`.")]
        pub type $alias = Id<$kind>;
    )*
        /// The prefixes of all kinds.
        pub const PREFIXES: &[&str] = &[$($prefix),*];
    };
}

kinds! {
    /// A project.
    Project as ProjectId = "proj", "a project", "proj_8f2c4";
    /// A user.
    User as UserId = "usr", "a user", "usr_8f2";
    /// A session.
    Session as SessionId = "sess", "a session", "sess_5b1";
    /// An API key.
    Key as KeyId = "key", "a key", "key_7d1";
    /// A scoped token.
    Token as TokenId = "tok", "a token", "tok_2c9";
    /// An invitation to a project.
    Invitation as InvitationId = "inv", "an invitation", "inv_3e7";
    /// An entry of the audit trail.
    Audit as AuditId = "aud", "an audit entry", "aud_4d2";
    /// An event: a change that clients may follow. It has the number of the audit entry that it is.
    Event as EventId = "evt", "an event", "evt_4d2";
    /// A webhook.
    Webhook as WebhookId = "wh", "a webhook", "wh_6a3";
    /// One event on its way to one webhook.
    Delivery as DeliveryId = "dlv", "a delivery", "dlv_1c8";
    /// A cloud resource.
    Resource as ResourceId = "res", "a resource", "res_5d7";
    /// Something that is done to a resource.
    Operation as OperationId = "op", "an operation", "op_8c4";
    /// One HTTP request.
    Request as RequestId = "req", "a request", "req_9c0e1";
}

/// The id of one `K`.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

impl<K> Id<K> {
    /// An id from a number, as the published reference's ids are.
    pub const fn from_u128(number: u128) -> Self {
        Self::from_uuid(Uuid::from_u128(number))
    }

    /// The number that the id is.
    pub const fn as_u128(self) -> u128 {
        self.uuid.as_u128()
    }

    const fn from_uuid(uuid: Uuid) -> Self {
        Self { uuid, kind: PhantomData }
    }

    /// The id that nothing has. A text that is no id is looked up as this one, so that "malformed"
    /// and "absent" cannot be told apart.
    pub const NOTHING: Self = Self::from_uuid(Uuid::nil());

    /// The id below every other: where an ascending list starts.
    pub const FIRST: Self = Self::NOTHING;

    /// The id above every other: where a descending list starts.
    pub const LAST: Self = Self::from_uuid(Uuid::max());
}

impl<K: Kind> Id<K> {
    /// A new id that sorts after those made before it on this node.
    pub fn new() -> Self {
        Self::from_uuid(Uuid::now_v7())
    }

    /// The first id that can have been made at `millis`, in milliseconds since 1970 (RFC 9562 §5.7).
    pub const fn first_of(millis: u64) -> Self {
        Self::from_u128((millis as u128) << RANDOM_BITS)
    }

    /// When it was made, in milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        (self.as_u128() >> RANDOM_BITS) as u64
    }

    /// The regular expression that every id of this kind matches.
    pub fn pattern() -> String {
        format!("^{}_[1-9a-f][0-9a-f]{{0,31}}$", K::PREFIX)
    }
}

impl<K: Kind> Default for Id<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// A text that is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the wanted kind")]
pub struct NotAnId;

impl<K: Kind> FromStr for Id<K> {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(NotAnId)?;
        // One spelling per id: no upper case, no leading zero (which also excludes nil), no sign.
        let canonical = (1..=32).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(NotAnId);
        }
        u128::from_str_radix(digits, 16).map(Self::from_u128).map_err(|_| NotAnId)
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        let digits: &str = self.uuid.simple().encode_lower(&mut digits);
        let digits = digits.trim_start_matches('0');
        f.write_str(K::PREFIX)?;
        f.write_str("_")?;
        f.write_str(if digits.is_empty() { "0" } else { digits })
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Derives would ask the same of `K`, which is never a value.
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
        serializer.collect_str(self)
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
    fn the_references_ids_are_read_and_written_as_published() {
        let id: ProjectId = "proj_8f2c4".parse().unwrap();
        assert_eq!(id, ProjectId::from_u128(0x8f2c4));
        assert_eq!(id.to_string(), "proj_8f2c4");
    }

    #[test]
    fn every_other_spelling_is_no_id() {
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
            assert_eq!(text.parse::<ProjectId>(), Err(NotAnId), "{text:?}");
        }
    }

    #[test]
    fn new_ids_sort_in_the_order_they_were_made() {
        let made: Vec<KeyId> = (0..1000).map(|_| KeyId::new()).collect();
        assert!(made.is_sorted());
        assert!(made.iter().all(|id| KeyId::first_of(id.millis()) <= *id && KeyId::first_of(id.millis() + 1) > *id));
        assert_eq!(made[7].to_string().parse(), Ok(made[7]));
    }
}
