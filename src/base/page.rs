//! Keyset paging: every list in one way, at the same cost however deep the page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{Code, Error, ItemCode, Result},
    id::{Id, Kind},
};

const DEFAULT_LIMIT: u8 = 25;

/// The order of a list, by id, which is the order of creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// The query string of a list: which part of it, and the filters `F`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListQuery<F> {
    /// What the items have in common.
    #[serde(flatten)]
    pub filter: F,
    /// At most so many items; 25 when left out.
    #[schemars(range(min = 1, max = 100), extend("default" = DEFAULT_LIMIT))]
    limit: Option<u8>,
    /// The `next_cursor` of the page before; the first page when left out.
    cursor: Option<String>,
    /// By id, oldest first (`asc`, when left out) or newest first (`desc`).
    #[schemars(extend("default" = Order::Asc))]
    order: Option<Order>,
}

impl<F> ListQuery<F> {
    /// At most so many items.
    pub fn limit(&self) -> u8 {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// In this order.
    pub fn order(&self) -> Order {
        self.order.unwrap_or_default()
    }

    /// The cursor of a list whose items have no ids, read by `parse`.
    pub fn cursor<T>(&self, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let read = |text| parse(text).ok_or_else(|| invalid_cursor(what));
        self.cursor.as_deref().map(read).transpose()
    }

    /// The part of the list that is asked for. The cursor must be an id of the right kind, though
    /// nothing need have it.
    pub fn page<K: Kind>(&self) -> Result<PageRequest<K>> {
        let order = self.order();
        let after = match (self.cursor.as_deref(), order) {
            (Some(cursor), _) => cursor.parse().map_err(|_| invalid_cursor(&format!("the id of {}", K::NOUN)))?,
            (None, Order::Asc) => Id::FIRST,
            (None, Order::Desc) => Id::LAST,
        };
        Ok(PageRequest { limit: self.limit(), order, after })
    }
}

fn invalid_cursor(what: &str) -> Error {
    let detail =
        format!("'cursor' is not {what}; send the 'next_cursor' of the page before, or leave it out to start over");
    Error::new(Code::InvalidCursor, detail).at_parameter("cursor", ItemCode::InvalidFormat)
}

/// No filter.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Everything {}

/// The filter of lists that belong to one project.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InProject {
    /// The project; needed with a session, whose user may see several.
    pub project_id: Option<String>,
}

/// The part of a list that was asked for, in terms of the ids of `K`.
#[derive(Debug)]
pub struct PageRequest<K: Kind> {
    /// At most so many items.
    pub limit: u8,
    /// In this order.
    pub order: Order,
    /// Strictly after this id, in that order.
    pub after: Id<K>,
}

impl<K: Kind> PageRequest<K> {
    /// How many rows to ask the database for.
    pub fn rows(&self) -> i64 {
        rows_for(self.limit)
    }

    /// Makes the page out of the rows the database gave.
    pub fn page<T>(&self, rows: Vec<T>, id: impl Fn(&T) -> Id<K>) -> Page<T, K> {
        let (items, next) = cut(rows, self.limit, id);
        Page { items, next }
    }
}

/// How many rows to ask the database for: one more than `limit`, to learn whether more follow.
pub fn rows_for(limit: u8) -> i64 {
    i64::from(limit) + 1
}

/// Cuts what the database gave for [`rows_for`] to `limit`, with the cursor of the last row if more follow.
pub fn cut<T, C>(mut rows: Vec<T>, limit: u8, cursor: impl Fn(&T) -> C) -> (Vec<T>, Option<C>) {
    let more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    let next = rows.last().filter(|_| more).map(cursor);
    (rows, next)
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<T, K: Kind> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page, when more may follow.
    pub next: Option<Id<K>>,
}

impl<T, K: Kind> Page<T, K> {
    /// The same page with each item turned into something else.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U, K> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}

/// Completes a SELECT, which must end in a condition, into a keyset page over the column `$id`. The
/// query's `$1` is [`PageRequest::after`] and its `$2` is [`PageRequest::rows`].
macro_rules! keyset {
    ($request:expr, $id:literal, $select:expr) => {
        match $request.order {
            $crate::base::page::Order::Asc => {
                concat!($select, " AND ", $id, " > $1 ORDER BY ", $id, " ASC LIMIT $2")
            }
            $crate::base::page::Order::Desc => {
                concat!($select, " AND ", $id, " < $1 ORDER BY ", $id, " DESC LIMIT $2")
            }
        }
    };
}
pub(crate) use keyset;
