//! Lists that read one index, although they have several filters.

use crate::base::input::page::Order;

/// Index of `table` on `prefix`, `groups` and `id`, in this order. The columns of `groups` are texts with few distinct
/// values, such as a status. A group is a combination of their values that exists. Within a group, the index has the
/// rows in the order of the list, so a page is merged from the first rows of the groups that match the filters.
///
/// The cost is one probe for each group, and a page of index entries for each group that matches. It depends neither on
/// the number of rows or matches nor on the position of the page. The planner has no choice: only this index supports
/// the row comparisons in their order, whatever the statistics say.
#[derive(Debug)]
pub struct MergeScan {
    /// Name of the table.
    pub table: &'static str,
    /// Leading columns, with the parameters that have their values.
    pub prefix: &'static [(&'static str, &'static str)],
    /// Columns with few values. None of them may be an empty text.
    pub groups: &'static [&'static str],
    /// Last column, which orders the list.
    pub id: &'static str,
}

/// Maximum number of rows of a page. It is in the query as a constant: for a parameter, the planner assumes a tenth of
/// the table.
pub const MAX_ROWS: i64 = 1_000;

impl MergeScan {
    /// Begins a query: WITH clauses for `page (item, position)`, the first `$2` ids after `$1` in the groups for which
    /// `condition` is true. The condition names the columns of the group `g`. The first position is 1.
    pub fn page(&self, order: Order, condition: &str) -> String {
        let Self { table, prefix, groups, id } = self;
        let (operator, direction) = match order {
            Order::Asc => (">", "ASC"),
            Order::Desc => ("<", "DESC"),
        };
        let columns: Vec<&str> = prefix.iter().map(|(column, _)| *column).chain(groups.iter().copied()).collect();
        let key = columns.join(", ");
        let directed = join(&columns, ", ", |column| format!("{column} {direction}"));
        let values = join(prefix, ", ", |(_, value)| (*value).to_owned());
        let group = groups.join(", ");
        let nothing = join(groups, ", ", |_| "''::text".to_owned());
        let of = |alias: &str| join(groups, ", ", |column| format!("{alias}.{column}"));
        let has_prefix = |alias: &str| join(prefix, " AND ", |(column, value)| format!("{alias}.{column} = {value}"));
        let is_in_group = join(groups, " AND ", |column| format!("x.{column} = g.{column}"));
        format!(
            "WITH RECURSIVE groups ({group}) AS (
                 SELECT {nothing}
                 UNION ALL
                 SELECT {next} FROM groups g CROSS JOIN LATERAL (
                     SELECT {key} FROM {table} WHERE ({key}) > ({values}, {current}) ORDER BY {key} LIMIT 1) n
                 WHERE {next_has_prefix}),
             page AS MATERIALIZED (
                 SELECT x.{id} AS item, row_number() OVER (ORDER BY x.{id} {direction}) AS position
                 FROM groups g CROSS JOIN LATERAL (
                     SELECT {key}, {id} FROM (
                         SELECT {key}, {id} FROM {table} WHERE ({key}, {id}) {operator} ({values}, {current}, $1)
                         ORDER BY {directed}, {id} {direction} LIMIT {MAX_ROWS}) bounded LIMIT $2) x
                 WHERE {condition} AND {has_prefix} AND {is_in_group}
                 ORDER BY position LIMIT $2)
             ",
            next = of("n"),
            current = of("g"),
            next_has_prefix = has_prefix("n"),
            has_prefix = has_prefix("x"),
        )
    }
}

fn join<T>(items: &[T], separator: &str, format: impl Fn(&T) -> String) -> String {
    items.iter().map(format).collect::<Vec<_>>().join(separator)
}
