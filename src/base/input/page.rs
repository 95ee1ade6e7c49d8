//! Keyset pagination of all lists. The cost of a page does not depend on its position.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{
    error::{Code, Error, ItemCode, Result},
    id::{Id, Kind},
};

const DEFAULT_LIMIT: u8 = 25;

/// Order of a list, by id, which is the order of creation.
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

/// Query string of a list: the page, and the filters `F`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListQuery<F> {
    /// Filters.
    #[serde(flatten)]
    pub filter: F,
    /// Maximum number of items on the page, from 1 to 100; 25 by default.
    #[schemars(range(min = 1, max = 100), extend("default" = DEFAULT_LIMIT))]
    limit: Option<u8>,
    /// `next_cursor` of the previous page; the first page by default.
    cursor: Option<String>,
    /// Order by id: oldest first (`asc`, the default) or newest first (`desc`).
    #[schemars(extend("default" = Order::Asc))]
    order: Option<Order>,
}

impl<F> ListQuery<F> {
    /// Maximum number of items on the page.
    pub fn limit(&self) -> u8 {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// Order of the items.
    pub fn order(&self) -> Order {
        self.order.unwrap_or_default()
    }

    /// Parses the cursor of a list whose items have no ids. `what` describes a valid cursor.
    pub fn cursor<T>(&self, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let read = |text| parse(text).ok_or_else(|| invalid_cursor(what));
        self.cursor.as_deref().map(read).transpose()
    }

    /// Returns the requested page. The cursor must be an id of the right kind, but the object does not have to exist.
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
        format!("'cursor' is not {what}; send the 'next_cursor' of the previous page, or omit it to start over");
    Error::new(Code::InvalidCursor, detail).at_parameter("cursor", ItemCode::InvalidFormat)
}

/// No filter.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct NoFilter {}

/// Filter of lists of one project.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ProjectIdFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
}

/// Requested page of a list with ids of `K`.
#[derive(Debug)]
pub struct PageRequest<K: Kind> {
    /// Maximum number of items.
    pub limit: u8,
    /// Order.
    pub order: Order,
    /// Id before the first item, in that order.
    pub after: Id<K>,
}

impl<K: Kind> PageRequest<K> {
    /// Number of rows to query.
    pub fn rows(&self) -> i64 {
        rows_for(self.limit)
    }

    /// Builds the page from the queried rows.
    pub fn page<T>(&self, rows: Vec<T>, id: impl Fn(&T) -> Id<K>) -> Page<T, K> {
        let (items, next) = truncate_page(rows, self.limit, id);
        Page { items, next }
    }
}

/// Number of rows to query: one more than `limit`, to detect whether more follow.
pub fn rows_for(limit: u8) -> i64 {
    i64::from(limit) + 1
}

/// Truncates the [`rows_for`] rows to `limit`. Returns the cursor of the last row if more follow.
pub fn truncate_page<T, C>(mut rows: Vec<T>, limit: u8, cursor: impl Fn(&T) -> C) -> (Vec<T>, Option<C>) {
    let more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    let next = rows.last().filter(|_| more).map(cursor);
    (rows, next)
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<T, K: Kind> {
    /// Items.
    pub items: Vec<T>,
    /// Cursor of the next page, if more items may follow.
    pub next: Option<Id<K>>,
}

impl<T, K: Kind> Page<T, K> {
    /// A page of a scan that may end before the page is full: `next` is then the last row that was looked at.
    pub fn scanned(items: Vec<T>, next: Option<Id<K>>) -> Self {
        Self { items, next }
    }

    /// Converts each item of the page.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U, K> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}
