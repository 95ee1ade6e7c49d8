//! The scans of a plan, and what bounds them.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::PgConnection;

use super::recorder::Statement;

/// Tables whose number of rows does not grow with the use of a deployment, and the table of the simulated provider.
pub const CONSTANT_TABLES: [&str; 9] = [
    "audit_sealer",
    "auth_clock",
    "auth_nodes",
    "deployment",
    "provider_sweeps",
    "quick_start",
    "quota_clock",
    "sim_objects",
    "usage_routes",
];

/// Columns that name the project, user or item that the rows belong to.
pub const TENANT_COLUMNS: [&str; 7] =
    ["from_id", "key_id", "project_id", "resource_id", "to_id", "user_id", "webhook_id"];

/// What bounds the number of rows that a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// A unique index, or a `LIMIT` that no row is skipped for.
    Page,
    /// The rows of one project, user or item.
    Tenant,
    /// Nothing: the table.
    Table,
}

/// A scan of a growing table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scan {
    pub bound: Bound,
    pub text: String,
}

/// The indexes of a database, by name.
pub struct Indexes(BTreeMap<String, Index>);

#[derive(sqlx::FromRow)]
struct Index {
    name: String,
    /// Of the table.
    table_name: String,
    columns: Vec<String>,
    is_unique: bool,
    /// Condition that all rows in the index match: that of a partial index, and that columns are not NULL.
    predicate: String,
    /// Whether some rows of the table are not in the index.
    is_partial: bool,
    is_btree: bool,
}

/// A condition of an index scan.
struct Condition {
    /// More than one for a comparison of rows.
    columns: Vec<String>,
    is_equality: bool,
}

impl Indexes {
    pub async fn read(db: &mut PgConnection) -> Self {
        let rows: Vec<Index> = sqlx::query_as(
            "SELECT c.relname::text AS name, i.indrelid::regclass::text AS table_name,
                    ARRAY(SELECT pg_get_indexdef(c.oid, n, true) FROM generate_series(1, i.indnkeyatts) n) AS columns,
                    i.indisunique AS is_unique, i.indpred IS NOT NULL AS is_partial, a.amname = 'btree' AS is_btree,
                    concat_ws(' AND ', pg_get_expr(i.indpred, i.indrelid),
                              (SELECT string_agg(format('(%s IS NOT NULL)', t.attname), ' AND ') FROM pg_attribute t
                               WHERE t.attrelid = i.indrelid AND t.attnum > 0 AND t.attnotnull)) AS predicate
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
             WHERE c.relnamespace = current_schema()::regnamespace",
        )
        .fetch_all(db)
        .await
        .unwrap();
        Self(rows.into_iter().map(|index| (index.name.clone(), index)).collect())
    }

    /// The scans of growing tables in a statement's plan.
    pub fn scans(&self, statement: &Statement) -> Vec<Scan> {
        let mut found = Vec::new();
        self.walk(&statement.plan, false, &mut found);
        found
    }

    /// `streams`: whether the scan ends when enough rows were returned, and all that it returns count.
    fn walk(&self, node: &Value, streams: bool, found: &mut Vec<Scan>) {
        let kind = text(node, "Node Type");
        let table = text(node, "Relation Name");
        let grows = !table.is_empty() && !table.starts_with("pg_") && !CONSTANT_TABLES.contains(&table);
        if kind.ends_with("Scan") && grows {
            found.push(Scan { bound: self.bound(node, streams), text: describe(node) });
        }
        for child in children(node) {
            let streams = match (kind, text(child, "Parent Relationship")) {
                (_, "InitPlan" | "SubPlan") => false,
                ("Limit", _) => true,
                // A row of the outer side is returned, whatever the inner side has.
                ("Nested Loop", "Outer") => streams && text(node, "Join Type") == "Left",
                // One row is enough for each row of the outer side.
                ("Nested Loop", "Inner") if matches!(text(node, "Join Type"), "Semi" | "Anti") => true,
                ("Nested Loop", "Inner") => streams && node["Join Filter"].is_null(),
                ("Append" | "LockRows" | "Materialize" | "Memoize" | "Merge Append" | "ProjectSet" | "Result", _)
                | ("Subquery Scan", _) => streams && node["Filter"].is_null(),
                _ => false,
            };
            self.walk(child, streams, found);
        }
    }

    fn bound(&self, node: &Value, streams: bool) -> Bound {
        match text(node, "Node Type") {
            "Index Scan" | "Index Only Scan" => self.bound_of_index(node, streams),
            "Bitmap Heap Scan" => children(node).map(|child| self.bound(child, false)).max().unwrap_or(Bound::Table),
            "Bitmap Index Scan" => self.bound_of_index(node, false),
            "BitmapAnd" => children(node).map(|child| self.bound(child, false)).min().unwrap_or(Bound::Table),
            "BitmapOr" => children(node).map(|child| self.bound(child, false)).max().unwrap_or(Bound::Table),
            // The rows were found by another scan.
            "Tid Scan" => Bound::Page,
            "Seq Scan" if streams && node["Filter"].is_null() => Bound::Page,
            _ => Bound::Table,
        }
    }

    fn bound_of_index(&self, node: &Value, streams: bool) -> Bound {
        let Some(index) = self.0.get(text(node, "Index Name")).filter(|index| index.is_btree) else {
            return Bound::Table;
        };
        let known: Vec<&str> = clauses(&index.predicate).into_iter().flat_map(clauses).map(unwrap).collect();
        let is_implied = |clause: &&str| known.contains(&unwrap(clause));
        let has_filter = !clauses(text(node, "Filter")).iter().all(is_implied);
        let mut conditions = clauses(text(node, "Index Cond"));
        conditions.retain(|clause| !is_implied(clause));
        let conditions: Vec<Condition> = conditions.into_iter().map(condition).collect();
        let is_equal = |column: &String| {
            conditions.iter().any(|condition| condition.is_equality && condition.columns == [column.as_str()])
        };
        let prefix = index.columns.iter().take_while(|column| is_equal(column)).count();
        // A condition on a later column skips rows that were read.
        let is_tight = conditions.iter().all(|condition| {
            let start = index.columns.iter().position(|column| *column == condition.columns[0]);
            start.is_some_and(|start| start <= prefix && index.columns[start..].starts_with(&condition.columns))
        });
        let equal = &index.columns[..prefix];
        let is_one_row = self.0.values().any(|unique| {
            let applies = unique.table_name == index.table_name && !unique.is_partial || unique.name == index.name;
            applies && unique.is_unique && unique.columns.iter().all(|column| equal.contains(column))
        });
        if is_one_row || streams && is_tight && !has_filter {
            Bound::Page
        } else if equal.iter().any(|column| TENANT_COLUMNS.contains(&column.as_str())) {
            Bound::Tenant
        } else {
            Bound::Table
        }
    }
}

/// The number of rows and index entries that an executed statement read. A look-up that found nothing counts as one.
pub fn rows_read(plan: &Value) -> u64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let rows = number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    let is_scan = !plan["Index Name"].is_null() || !plan["Relation Name"].is_null();
    let own =
        if is_scan && text(plan, "Node Type").ends_with("Scan") { number("Actual Loops") * rows.max(1.0) } else { 0.0 };
    own as u64 + children(plan).map(rows_read).sum::<u64>()
}

fn describe(node: &Value) -> String {
    let mut described = text(node, "Node Type").to_owned();
    let within = children(node).map(describe).collect::<Vec<_>>().join(" and ");
    for (before, value) in [
        (" on ", text(node, "Relation Name")),
        (" by ", text(node, "Index Name")),
        (", index condition ", text(node, "Index Cond")),
        (", filter ", text(node, "Filter")),
        (" of ", within.as_str()),
    ] {
        if !value.is_empty() {
            described.push_str(before);
            described.push_str(value);
        }
    }
    described
}

/// Splits conditions such as `((project_id = $1) AND (ROW(a, b) > ROW($2, $3)))`.
fn clauses(text: &str) -> Vec<&str> {
    split(unwrap(text), " AND ").into_iter().filter(|clause| !clause.is_empty()).collect()
}

fn condition(clause: &str) -> Condition {
    let parts = split(unwrap(clause), " ");
    let name = |column: &str| column.split("::").next().unwrap_or_default().trim_matches(['(', ')']).to_owned();
    let columns = match parts[0].strip_prefix("ROW(") {
        Some(row) => row.trim_end_matches(')').split(", ").map(name).collect(),
        None => vec![name(parts[0])],
    };
    let operator = parts.get(1).copied().unwrap_or_default();
    let is_null = operator == "IS" && parts.get(2) == Some(&"NULL");
    Condition { columns, is_equality: operator == "=" || is_null }
}

/// Removes the parentheses around the whole text.
fn unwrap(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    if end.is_some_and(|end| end > 0 && end + 1 == text.len()) { &text[1..text.len() - 1] } else { text }
}

/// Splits outside of parentheses.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn text<'a>(node: &'a Value, name: &str) -> &'a str {
    node[name].as_str().unwrap_or_default()
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    node["Plans"].as_array().into_iter().flatten()
}
