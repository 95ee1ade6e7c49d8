//! Pages of lists, each read from one index in the order of the list. A page costs the same whatever else the table
//! contains and whatever the planner assumes.
//!
//! A filter and `ORDER BY id` alone would leave the planner a choice: it does not know how many rows match, and if it
//! estimates wrong, it sorts all of them, or scans every other project. Therefore a scan starts at a row comparison over
//! all columns of an index, sorts by the same columns, and ends at a constant LIMIT. Only that index supports both, so a
//! plan for any parameters uses it too. Whether a row is still within the list, and whether it matches filters that are
//! not in the index, is decided afterwards.
//!
//! A list with several optional filters reads an index on columns with few values ([`Scan::merged`]), such as a status: its
//! page is merged from the first rows of each combination of values that matches.

use sqlx::{
    AssertSqlSafe, FromRow, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

use crate::base::{
    id::{Id, Kind},
    input::page::{Order, Page, PageRequest},
};

/// Rows to scan for a page: those of the largest page and one that shows that more follow.
pub const PAGE_ROWS: usize = 101;
/// Maximum number of rows to scan for a page. If too few match, the page ends there, with a cursor.
pub const MAX_ROWS: usize = 500;

/// Rows of a merge at first: those of the page, and not too few if some do not match. That many are read of each group.
const MERGED_ROWS: &str = "greatest($2, 26)";

/// Query for a page. The caller binds the parameters from `$3`.
pub type Query<'q, T, K> = QueryAs<'q, Postgres, Scanned<T, K>, PgArguments>;

/// Scan of an index. Parameters of its SQL are `$1` [`PageRequest::after`], `$2` [`PageRequest::rows`], and those that the
/// fields name.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Table.
    pub table: &'a str,
    /// Columns to read, including those of `key` and `id`.
    pub columns: &'a str,
    /// Columns that lead the index, and the values that the list has in them.
    pub key: &'a [Column<'a>],
    /// Last column of the index.
    pub id: &'a str,
    /// Text columns of the index between `key` and `id`, if the list has several values in them, none of which is empty. A
    /// group is a combination of their values that exists. There should be few: the scan probes the index for each group,
    /// and merges the rows of all of them.
    pub merged: &'a [&'a str],
    /// Condition of the groups `g` that the list has. Empty for all.
    pub groups: &'a str,
    /// Maximum number of rows to scan for a page, from each group of a merge.
    pub max_rows: usize,
    /// Condition of a partial index, beginning with AND.
    pub partial: &'a str,
    /// ID after which the scan starts.
    pub after: &'a str,
    /// Condition at which the list ends, beginning with AND.
    pub until: &'a str,
    /// Joins to the scanned row `s`, one row each: LATERAL subqueries with OFFSET 0, so that each of the few rows is
    /// looked up instead of the whole table being joined.
    pub lookup: &'a str,
    /// Columns of an item. Empty for `columns`.
    pub item: &'a str,
    /// Condition that items match. Empty for none.
    pub filter: &'a str,
}

impl Scan<'_> {
    /// Values for fields that are not set.
    pub const DEFAULT: Self = Self {
        table: "",
        columns: "",
        key: &[],
        id: "id",
        merged: &[],
        groups: "",
        max_rows: MAX_ROWS,
        partial: "",
        after: "$1",
        until: "",
        lookup: "",
        item: "",
        filter: "",
    };

    /// Reads a page. Scans more rows than those of a page only if too few match.
    pub async fn page<'q, T, K: Kind>(
        &self,
        db: &mut PgConnection,
        request: &PageRequest<K>,
        bind: impl Fn(Query<'q, T, K>) -> Query<'q, T, K>,
    ) -> sqlx::Result<Page<T, K>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let query = |rows| {
            let sql = AssertSqlSafe(self.sql(request.order, rows));
            bind(sqlx::query_as(sql).bind(request.after).bind(request.rows()))
        };
        let page = into_page(request, query(PAGE_ROWS).fetch_all(&mut *db).await?);
        let can_scan_more = !self.filter.is_empty() && self.max_rows > PAGE_ROWS;
        if page.next.is_some() && page.items.len() < usize::from(request.limit) && can_scan_more {
            return Ok(into_page(request, query(self.max_rows).fetch_all(db).await?));
        }
        Ok(page)
    }

    /// SQL that scans up to `rows` rows. Returns rows that are [`Scanned`]. Contains nothing from a request.
    pub fn sql(&self, order: Order, rows: usize) -> String {
        let Self { columns, key, id, after, until, lookup, filter, .. } = *self;
        let item = if self.item.is_empty() { columns } else { self.item };
        let (range, rows, sorted) = if self.merged.is_empty() {
            (self.range(key, (id, after), order, rows), rows.to_string(), key)
        } else {
            let limit = if rows > PAGE_ROWS { rows.to_string() } else { MERGED_ROWS.to_owned() };
            (self.merged_range(order, rows, &limit), limit, &[][..])
        };
        let (is_within, scan_order) = (equal("s", key), sort("s.", sorted, id, order));
        if filter.is_empty() {
            return format!(
                "SELECT {item}, s.{id} AS scan_id, true AS scan_fits, false AS scan_stops FROM ({range}) AS s {lookup}
                 WHERE {is_within}{until} ORDER BY {scan_order} LIMIT $2"
            );
        }
        // The last row that may be scanned is returned even if it does not match: the next page continues there. The rows
        // are numbered in the order of the scan, so that the scan ends when the page is full.
        let numbered = sort("", sorted, id, order);
        format!(
            "SELECT {item}, s.{id} AS scan_id, coalesce({filter}, false) AS scan_fits, s.position = {rows} AS scan_stops
             FROM (SELECT {columns}, row_number() OVER (ORDER BY {numbered}) AS position FROM ({range}) AS r) AS s {lookup}
             WHERE {is_within}{until} AND (coalesce({filter}, false) OR s.position = {rows}) ORDER BY {scan_order} LIMIT $2"
        )
    }

    /// Up to `rows` rows of the index on `key` and `last`, after these values. Rows of the next value of `key` may follow:
    /// a second comparison would not end the scan, except one of the first column, which the planner would take for a
    /// range with few rows, to be sorted.
    fn range(&self, key: &[Column<'_>], last: Column<'_>, order: Order, rows: usize) -> String {
        let after = match order {
            Order::Asc => ">",
            Order::Desc => "<",
        };
        let Self { table, columns, partial, .. } = self;
        let names = list(key, |(name, _)| format!("{name}, "));
        let values = list(key, |(_, value)| format!("{value}, "));
        // An index may leave out rows that are null in one of the other columns.
        let not_null = list(key.get(1..).unwrap_or_default(), |(name, _)| format!(" AND {name} IS NOT NULL"));
        let (sorted, (id, start)) = (sort("", key, last.0, order), last);
        format!(
            "SELECT {columns} FROM {table} WHERE ({names}{id}) {after} ({values}{start}){not_null} AND {id} IS NOT NULL{partial}
             ORDER BY {sorted} LIMIT {rows}"
        )
    }

    /// Finds each group by one probe after the previous group, and merges the next rows of all groups. The number of rows
    /// is a constant, because the planner assumes a tenth of the table for an expression. `limit` is at most that many.
    fn merged_range(&self, order: Order, rows: usize, limit: &str) -> String {
        let Self { columns, key, merged, groups, id, after, .. } = *self;
        let names = |row: &str| merged.iter().map(|name| format!("{row}{name}")).collect::<Vec<_>>();
        let (found, values) = (names("n.").join(", "), names("g."));
        let next_group = |after: &[Column<'_>]| {
            let (last, before) = after.split_last().map_or((("", ""), key), |(last, before)| (*last, before));
            let next = self.range(before, last, Order::Asc, 1);
            format!("SELECT {found} FROM ({next}) AS n WHERE {}", equal("n", key))
        };
        let start: Vec<_> = key.iter().copied().chain(merged.iter().map(|name| (*name, "''"))).collect();
        let values = merged.iter().zip(&values).map(|(name, value)| (*name, value.as_str()));
        let group: Vec<_> = key.iter().copied().chain(values).collect();
        let (first, next) = (next_group(&start), next_group(&group));
        let (range, is_within) = (self.range(&group, (id, after), order, rows), equal("e", &group));
        let (in_group, sorted) = (sort("", &group, id, order), sort("", &[], id, order));
        let of_row = columns.split(", ").map(|column| format!("e.{column}")).collect::<Vec<_>>().join(", ");
        let (groups, condition) = (names("").join(", "), if groups.is_empty() { "true" } else { groups });
        format!(
            "WITH RECURSIVE g ({groups}) AS (({first}) UNION ALL SELECT {found} FROM g CROSS JOIN LATERAL ({next}) AS n)
             SELECT {of_row} FROM g CROSS JOIN LATERAL (
                 SELECT {columns} FROM ({range}) AS r ORDER BY {in_group} LIMIT {limit}
             ) AS e WHERE ({condition}) AND {is_within} ORDER BY {sorted} LIMIT {limit}"
        )
    }
}

/// Name of a column, and its value.
type Column<'a> = (&'a str, &'a str);

fn list(columns: &[Column<'_>], text: impl Fn(&Column<'_>) -> String) -> String {
    columns.iter().map(text).collect()
}

/// Direction of ORDER BY.
pub fn direction(order: Order) -> &'static str {
    match order {
        Order::Asc => "ASC",
        Order::Desc => "DESC",
    }
}

/// Sort expressions of an index.
fn sort(row: &str, key: &[Column<'_>], last: &str, order: Order) -> String {
    let direction = direction(order);
    list(key, |(name, _)| format!("{row}{name} {direction}, ")) + &format!("{row}{last} {direction}")
}

/// Condition that the columns of `row` have these values.
fn equal(row: &str, columns: &[Column<'_>]) -> String {
    columns.iter().map(|(name, value)| format!("{row}.{name} = {value}")).collect::<Vec<_>>().join(" AND ")
}

/// Scanned row.
#[derive(Debug)]
pub struct Scanned<T, K: Kind> {
    id: Id<K>,
    /// None if the row does not match.
    item: Option<T>,
    /// Whether the scan ended here, possibly before the end of the list.
    stops: bool,
}

impl<'r, T: FromRow<'r, PgRow>, K: Kind> FromRow<'r, PgRow> for Scanned<T, K> {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let fits: bool = row.try_get("scan_fits")?;
        Ok(Self {
            id: row.try_get("scan_id")?,
            item: fits.then(|| T::from_row(row)).transpose()?,
            stops: row.try_get("scan_stops")?,
        })
    }
}

/// Builds the requested page from the rows of a scan.
pub fn into_page<T, K: Kind>(request: &PageRequest<K>, rows: Vec<Scanned<T, K>>) -> Page<T, K> {
    let (mut items, mut last, mut stops) = (Vec::with_capacity(rows.len()), request.after, false);
    for row in rows {
        if items.len() == usize::from(request.limit) {
            stops = true;
            break;
        }
        items.extend(row.item);
        (last, stops) = (row.id, row.stops);
    }
    Page::scanned(items, stops.then_some(last))
}
