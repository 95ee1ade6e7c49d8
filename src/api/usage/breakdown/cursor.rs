//! Positions in a breakdown.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use time::Date;

use crate::base::{
    id::{Id, KeyId, Kind, TokenId},
    input::page::Order,
    runtime::clock::Day,
};

/// Day of groups that are not by day.
pub(super) const FIRST_DAY: Date = time::macros::date!(0001 - 01 - 01);

/// Position of a page's end: the groups of its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) day: Date,
    pub(super) key: KeyId,
    pub(super) token: TokenId,
    pub(super) route: String,
}

impl Cursor {
    /// Position before the first row, or after the last in descending order.
    pub(super) fn before_first(order: Order) -> Self {
        match order {
            Order::Asc => Self { day: FIRST_DAY, key: Id::NIL, token: Id::NIL, route: String::new() },
            // Greater than every route.
            Order::Desc => Self { day: Date::MAX, key: Id::LAST, token: Id::LAST, route: "~".into() },
        }
    }

    /// First token that can follow. Groups by token have no key, so all of them are on one side of those by key.
    pub(super) fn first_token(&self) -> TokenId {
        if self.key == Id::NIL { self.token } else { Id::LAST }
    }

    /// Encodes the position as a cursor.
    pub fn encode(&self) -> String {
        let Self { day, key, token, route } = self;
        URL_SAFE_NO_PAD.encode(format!("{day} {key} {token} {route}"))
    }

    /// Decodes a cursor.
    pub fn decode(cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let mut parts = text.splitn(4, ' ');
        let day = Day::parse(parts.next()?)?.0;
        let (key, token, route) = (parts.next()?, parts.next()?, parts.next()?.to_owned());
        Some(Self { day, key: id(key)?, token: id(token)?, route })
    }
}

/// Parses an ID in a cursor. The nil ID, which is invalid elsewhere, means "without".
fn id<K: Kind>(text: &str) -> Option<Id<K>> {
    if text == Id::<K>::NIL.to_string() { Some(Id::NIL) } else { text.parse().ok() }
}
