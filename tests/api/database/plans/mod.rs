//! The cost of a statement depends neither on the rows of other projects, nor on rows that it does not return.
//!
//! One database with 5,000 rows of each kind is the basis of all tests here. Its statistics say that it is a thousand
//! times larger, once with one project and once with many. Statements are those that the server executes for each list
//! with each filter and each pair of filters, for each route and for its workers, those within functions and triggers,
//! and those in the source code. Each is planned as PostgreSQL plans it for every value of its parameters.

mod coverage;
mod exceptions;
mod growth;
mod recorder;
mod scans;
mod statistics;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::TestApp;
use exceptions::{LISTS, UNBOUNDED, UNPLANNED, WHOLE_TENANT};
use scans::{Bound, rows_read};
use workload::{ROWS, Workload, recorded};

/// Maximum number of rows that the request of a page of 25 may read: for each item, and for the page.
const MAX_ROWS: u64 = 40 * (25 + 1) + 1_200;

/// Statements that are not the server's, with what bounds them.
const PROOFS: [(&str, Bound); 7] = [
    ("SELECT id FROM keys WHERE id = $1", Bound::Page),
    (
        "SELECT id FROM (SELECT project_id, id FROM keys WHERE (project_id, id) > ($1, $2) ORDER BY project_id, id LIMIT $3) k
         WHERE project_id = $1",
        Bound::Page,
    ),
    ("SELECT m.user_id FROM members m JOIN users u ON u.id = m.user_id WHERE m.project_id = $1", Bound::Tenant),
    ("SELECT id FROM tokens WHERE project_id = $1 AND name = $2 ORDER BY created_at LIMIT $3", Bound::Tenant),
    ("SELECT id FROM keys WHERE name = $1", Bound::Table),
    ("SELECT id FROM keys WHERE ($1::uuid IS NULL OR project_id = $1) ORDER BY id LIMIT $2", Bound::Table),
    ("SELECT k.id FROM keys k JOIN users u ON u.email = k.name", Bound::Table),
];

/// Statement in a function that reads all keys.
const PROOF_FUNCTION: Function = Function { name: "count_keys", statement: "(SELECT count(k.id) FROM keys k)" };

struct Function {
    name: &'static str,
    statement: &'static str,
}

impl Function {
    async fn call(&self, app: &TestApp, db: &mut PgConnection) {
        let Self { name, statement } = self;
        let create =
            format!("CREATE FUNCTION {name}() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN {statement}; END $$");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(db).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("SELECT {name}()"))).execute(&app.db).await.unwrap();
    }
}

/// What was found, each with its details.
type Found = BTreeMap<String, BTreeSet<String>>;

/// Compares what was found with its exceptions, each with its reason. An exception must at least match one of `all`:
/// whether it is needed can depend on the day of the month.
fn compare(found: &Found, all: &[&str], exceptions: &[(&str, &str)], matches: fn(&str, &str) -> bool) {
    let mut wrong = Vec::new();
    for (name, details) in found {
        if !exceptions.iter().any(|(exception, _)| matches(name, exception)) {
            wrong.push(format!("{name}\n    {}", Vec::from_iter(details.iter().map(String::as_str)).join("\n    ")));
        }
    }
    for (exception, _) in exceptions {
        if !all.iter().any(|name| matches(name, exception)) {
            wrong.push(format!("{exception}\n    matches nothing in exceptions.rs: remove it"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n\n{}\n", wrong.len(), wrong.join("\n\n"));
}

/// The statements whose worst scan has this bound.
fn statements_with(worst: Bound, workload: &Workload) -> Found {
    let mut bounds: BTreeMap<&str, Bound> = BTreeMap::new();
    let mut scans: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for statement in &workload.statements {
        for scan in workload.indexes.scans(statement) {
            let bound = bounds.entry(&statement.text).or_insert(scan.bound);
            *bound = (*bound).max(scan.bound);
            if scan.bound == worst {
                scans.entry(&statement.text).or_default().insert(scan.text);
            }
        }
    }
    let found = scans.into_iter().filter(|(text, _)| bounds.get(text) == Some(&worst));
    found.map(|(text, scans)| (text.to_owned(), scans)).collect()
}

#[tokio::test]
async fn no_statement_can_plan_a_scan_beyond_its_project_or_its_page() {
    let Some(workload) = recorded().await else { return };
    assert!(workload.statements.len() > 1_000, "{}", workload.statements.len());
    let found = statements_with(Bound::Table, workload);
    compare(&found, &workload.texts(), UNBOUNDED, |text, part| text.contains(part));
}

#[tokio::test]
async fn statements_that_read_all_rows_of_a_project_have_a_reason() {
    let Some(workload) = recorded().await else { return };
    let mut found = statements_with(Bound::Tenant, workload);
    found.retain(|text, _| !UNBOUNDED.iter().any(|(part, _)| text.contains(part)));
    compare(&found, &workload.texts(), WHOLE_TENANT, |text, part| text.contains(part));
}

#[tokio::test]
async fn every_statement_in_the_source_code_is_planned() {
    let Some(workload) = recorded().await else { return };
    let texts = coverage::sql_texts();
    assert!(texts.len() > 150, "{}", texts.len());
    let mut unplanned = Found::new();
    for text in &texts {
        if !workload.statements.iter().any(|statement| statement.text.contains(&text.fixed_part)) {
            unplanned.entry(text.fixed_part.clone()).or_default().insert(text.module.clone());
        }
    }
    let all: Vec<_> = texts.iter().map(|text| text.fixed_part.as_str()).collect();
    compare(&unplanned, &all, UNPLANNED, |text, part| text.contains(part));
}

#[tokio::test]
async fn lists_read_few_rows_whatever_their_filters_match() {
    let Some(workload) = recorded().await else { return };
    assert!(workload.lists.len() > 300, "{}", workload.lists.len());
    let mut found = Found::new();
    for request in workload.lists.iter().filter(|request| request.rows_read > MAX_ROWS) {
        let text = format!("{} rows: {}", request.rows_read, request.text);
        found.entry(request.filters.clone()).or_default().insert(text);
    }
    let all: Vec<_> = workload.lists.iter().map(|request| request.filters.as_str()).collect();
    compare(&found, &all, LISTS, |filters, exception| filters == exception);
}

#[tokio::test]
async fn unbounded_scans_are_found() {
    let Some(workload) = recorded().await else { return };
    let bound = |statement| workload.indexes.scans(statement).into_iter().map(|scan| scan.bound).max();
    for (sql, expected) in PROOFS {
        let plans: Vec<_> = workload.proofs.iter().filter(|statement| statement.is(sql)).collect();
        assert_eq!(plans.len(), 2, "{sql}");
        for statement in plans {
            assert_eq!(bound(statement), Some(expected), "{sql}: {:#}", statement.plan);
        }
    }
    let in_function = workload.proofs.iter().find(|statement| statement.text == PROOF_FUNCTION.statement).unwrap();
    assert_eq!(bound(in_function), Some(Bound::Table));
    assert!(rows_read(&in_function.plan) >= ROWS);
}
