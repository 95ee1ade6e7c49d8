//! Statistics of a large database, on a small one.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row};

use super::{
    recorder::Statement,
    scans::{CONSTANT_TABLES, TENANT_COLUMNS},
};
use crate::support::TestApp;

/// Number of times that the planner believes a table to be larger.
const FACTOR: u32 = 1_000;

/// Number of projects, users and items in the statistics.
#[derive(Clone, Copy, Debug)]
pub enum Tenants {
    /// As in the tables: one project has nearly all rows.
    One,
    /// A tenant for each thousand rows.
    Many,
}

/// Gives every table and index a page, because the planner knows that they are empty otherwise. The transaction that
/// writes the pages is rolled back.
pub async fn make_pages(db: &mut PgConnection) {
    let constant = CONSTANT_TABLES.join("', '");
    let sql = format!(
        "BEGIN;
         -- Without triggers and foreign keys.
         SET LOCAL session_replication_role = replica;
         DO $$ DECLARE t regclass; c name; names text; vals text; BEGIN
             FOR t IN SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
                      AND relname NOT IN ('{constant}') LOOP
                 FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = t AND contype = 'c' LOOP
                     EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', t, c);
                 END LOOP;
                 SELECT string_agg(quote_ident(a.attname), ', '),
                        string_agg(CASE y.typname
                            WHEN 'uuid' THEN 'gen_random_uuid()' WHEN 'text' THEN 'md5(n::text)'
                            WHEN 'bytea' THEN 'sha256(n::text::bytea)' WHEN 'bool' THEN 'n % 2 = 0'
                            WHEN 'jsonb' THEN '''{{}}''' WHEN 'timestamptz' THEN 'now() + n * interval ''1 day'''
                            WHEN 'date' THEN 'current_date + n'
                            ELSE CASE y.typcategory WHEN 'A' THEN '''{{}}''' ELSE format('n::text::%s', y.oid::regtype) END
                            END, ', ')
                 INTO names, vals
                 FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
                 WHERE a.attrelid = t AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
                 EXECUTE format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM generate_series(1, 10) n ON CONFLICT DO NOTHING', t, names, vals);
             END LOOP;
         END $$;
         ROLLBACK"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(db).await.unwrap();
}

/// Sets the statistics of growing tables to those of larger tables. Prepared statements are planned again.
pub async fn set_statistics(db: &mut PgConnection, tenants: Tenants) {
    let setting = match tenants {
        Tenants::One => "RESET (n_distinct)",
        Tenants::Many => "SET (n_distinct = -0.001)",
    };
    let columns = TENANT_COLUMNS.join("', '");
    let constant = CONSTANT_TABLES.join("', '");
    let sql = format!(
        "DO $$ DECLARE t name; c name; BEGIN
             FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
                 -- Automatic analysis would count the rows.
                 EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = off)', t);
             END LOOP;
             FOR t, c IN SELECT table_name, column_name FROM information_schema.columns
                         WHERE table_schema = current_schema() AND column_name IN ('{columns}') LOOP
                 EXECUTE format('ALTER TABLE %I ALTER COLUMN %I {setting}', t, c);
             END LOOP;
         END $$;
         ANALYZE;
         UPDATE pg_class SET reltuples = greatest(reltuples, 100) * {FACTOR}
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'i') AND relname NOT IN ('{constant}')"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(db).await.unwrap();
}

/// Plans of all statements that the server's connections have prepared, for every value of their parameters.
pub async fn plan_prepared(app: &TestApp) -> Vec<Statement> {
    let mut connections = Vec::new();
    for _ in 0..app.db.size() {
        connections.push(app.db.acquire().await.unwrap());
    }
    let (mut planned, mut found) = (BTreeSet::new(), Vec::new());
    for db in &mut connections {
        for Prepared { name, sql, parameters } in prepared(db).await {
            // Some have no plan, such as LISTEN.
            if planned.insert(sql.clone())
                && let Some(plan) = explain(db, &name, parameters).await
            {
                found.push(Statement::new(&sql, plan));
            }
        }
    }
    found
}

/// Plan of a statement. None if this is not a whole statement.
pub async fn plan(db: &mut PgConnection, sql: &str) -> Option<Statement> {
    let prepare = format!("SET plan_cache_mode = force_generic_plan; DEALLOCATE ALL; PREPARE planned AS {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *db).await.ok()?;
    let statement = prepared(db).await.into_iter().find(|statement| statement.name == "planned")?;
    Some(Statement::new(sql, explain(db, &statement.name, statement.parameters).await?))
}

#[derive(sqlx::FromRow)]
struct Prepared {
    name: String,
    sql: String,
    parameters: i32,
}

async fn prepared(db: &mut PgConnection) -> Vec<Prepared> {
    // Not prepared itself.
    let rows = sqlx::raw_sql(
        "SELECT name, statement AS sql, coalesce(array_length(parameter_types, 1), 0) AS parameters
         FROM pg_prepared_statements",
    );
    let rows = rows.fetch_all(db).await.unwrap();
    rows.iter().map(|row| Prepared::from_row(row).unwrap()).collect()
}

async fn explain(db: &mut PgConnection, name: &str, parameters: i32) -> Option<Value> {
    // The plan does not depend on the values.
    let values = vec!["NULL"; usize::try_from(parameters).unwrap()].join(", ");
    let values = if values.is_empty() { values } else { format!("({values})") };
    let sql = format!("EXPLAIN (FORMAT JSON) EXECUTE {name} {values}");
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(db).await.ok()?;
    Some(row.get::<Value, _>(0)[0]["Plan"].clone())
}
