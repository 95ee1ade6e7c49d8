//! Measures a breakdown of a year, in which all months but the current one are final, next to a breakdown of the
//! current month.

use std::{path::Path, time::Instant};

use cloudapi::base::runtime::{clock::Clock, period::Period};
use serde_json::json;
use sqlx::{PgPool, postgres::PgPoolOptions};
use time::Date;
use uuid::Uuid;

use crate::support::{
    Result, Server, bootstrap,
    load::{Client, request, text},
    median,
};

const KEYS: i32 = 100;
const ROUTES: i64 = 10;
const JOURNALS: i32 = 2;
/// Other projects with less usage, so that the table has a realistic size.
const OTHERS: usize = 20;
const KEYS_OF_OTHERS: i32 = 10;
const MONTHS: usize = 12;
const ROUNDS: usize = 15;

/// Measures all requests.
pub fn run(folder: &Path, database: &str) -> Result<()> {
    let (session, project) = bootstrap(folder, database)?;
    // The server inserts its routes into the database.
    let server = Server::cloudapi(folder, database, &[])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::open(server.address).await?;
        let made = client.create("/v1/keys", &session, &json!({ "project_id": project })).await?;
        let bench = Bench { key: text(&made, "key")?, months: months() };
        let rows = seed(database, &bench.months).await?;
        println!(
            "GET /v1/usage, {KEYS} keys on {ROUTES} routes in {JOURNALS} journals for a year, {rows} rows in the table"
        );
        let (year, month) = (bench.span(MONTHS - 1), bench.span(0));
        let by = |groups: &str, span: &str| format!("/v1/usage/breakdown?group_by={groups}&{span}");
        for groups in ["key", "key,route"] {
            let name = format!("the year by {groups}, next to the month");
            bench.compare(&mut client, &name, [&by(groups, &year), &by(groups, &month)]).await?;
        }
        let name = "the month's sum, next to the month by key";
        bench.compare(&mut client, name, ["/v1/usage", &by("key", &month)]).await?;
        let periods = format!("/v1/usage/periods?limit={MONTHS}");
        bench.compare(&mut client, "the year's sums, next to the year by key", [&periods, &by("key", &year)]).await
    })
}

struct Bench {
    key: String,
    months: Vec<Period>,
}

/// The current month and those before it, the latest first.
fn months() -> Vec<Period> {
    let present = Period::of(Clock::system().now().date());
    std::iter::successors(Some(present), |period| Some(period.previous())).take(MONTHS).collect()
}

impl Bench {
    /// The query for the months from `back` months ago to the current one.
    fn span(&self, back: usize) -> String {
        format!("from={}&to={}&limit=100", self.months[back].first(), self.months[0].last())
    }

    async fn compare(&self, client: &mut Client, name: &str, [asked, baseline]: [&str; 2]) -> Result<()> {
        let (mut ratios, mut times, mut base_times) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let time = self.milliseconds(client, asked).await?;
            let base_time = self.milliseconds(client, baseline).await?;
            // The first round warms up.
            if round > 0 {
                ratios.push(time / base_time);
                times.push(time);
                base_times.push(base_time);
            }
        }
        println!(
            "  {name}: {:.1} ms and {:.1} ms, median ratio {:.2}",
            median(&mut times),
            median(&mut base_times),
            median(&mut ratios)
        );
        Ok(())
    }

    async fn milliseconds(&self, client: &mut Client, path: &str) -> Result<f64> {
        let began = Instant::now();
        client.send(&request("GET", path, &self.key, "", ""), 200).await?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }
}

/// Inserts the counts of two nodes in these months, and makes all months but the first final.
async fn seed(database: &str, months: &[Period]) -> Result<i64> {
    let db = PgPoolOptions::new().max_connections(1).connect(database).await?;
    let first = months[months.len() - 1].first();
    let used: Uuid =
        sqlx::query_scalar("UPDATE projects SET created_at = $1::date RETURNING id").bind(first).fetch_one(&db).await?;
    sqlx::query(
        "INSERT INTO projects (id, name, created_at) SELECT gen_random_uuid(), 'Other', $1::date FROM generate_series(1, $2)",
    )
    .bind(first)
    .bind(i64::try_from(OTHERS)?)
    .execute(&db)
    .await?;
    insert_counts(&db, used, first, months[0].last()).await?;
    sqlx::query(
        "INSERT INTO usage_days (project_id, day, kind, route, journal, n)
         SELECT project_id, day, kind, route, journal, sum(n) FROM usage_node GROUP BY 1, 2, 3, 4, 5 ON CONFLICT DO NOTHING",
    )
    .execute(&db)
    .await?;
    for period in months {
        sqlx::query(
            "INSERT INTO usage_totals (project_id, period, journal, requests)
             SELECT project_id, $1, journal, sum(n) FROM usage_node WHERE day BETWEEN $1 AND $2 GROUP BY 1, 3 ON CONFLICT DO NOTHING",
        )
        .bind(period.first())
        .bind(period.last())
        .execute(&db)
        .await?;
    }
    for period in &months[1..] {
        sqlx::query("SELECT finalize_usage(ARRAY(SELECT id FROM projects), $1, now())")
            .bind(period.first())
            .execute(&db)
            .await?;
    }
    sqlx::query("VACUUM ANALYZE").execute(&db).await?;
    Ok(sqlx::query_scalar("SELECT count(*) FROM usage_node").fetch_one(&db).await?)
}

/// Inserts each day's rows in random order, as they are first written in production.
async fn insert_counts(db: &PgPool, used: Uuid, from: Date, to: Date) -> Result<()> {
    sqlx::query(
        "WITH journals AS (
             SELECT open_usage_journal(gen_random_uuid(), now()) AS journal FROM generate_series(1, $6)
         ), keys AS (
             SELECT p.id AS project_id, gen_random_uuid() AS credential_id
             FROM projects p CROSS JOIN LATERAL generate_series(1, CASE WHEN p.id = $1 THEN $4 ELSE $7 END)
         ), routes AS (
             SELECT id AS route FROM usage_routes ORDER BY id LIMIT $5
         )
         INSERT INTO usage_node (project_id, day, credential_id, kind, route, journal, n)
         SELECT project_id, day::date, credential_id, 2, route, journal, 1 + (random() * 1000)::bigint
         FROM generate_series($2::date::timestamp, $3::date::timestamp, '1 day') AS day, keys, routes, journals
         ORDER BY day, random()",
    )
    .bind(used)
    .bind(from)
    .bind(to)
    .bind(KEYS)
    .bind(ROUTES)
    .bind(JOURNALS)
    .bind(KEYS_OF_OTHERS)
    .execute(db)
    .await?;
    sqlx::query("UPDATE usage_journals SET closed_at = now() WHERE id IN (SELECT journal FROM usage_node)")
        .execute(db)
        .await?;
    Ok(())
}
