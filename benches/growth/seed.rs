//! Inserts the rows of a project directly into the tables.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use cloudapi::base::{
    id::{KeyId, ProjectId, ResourceId, WebhookId},
    runtime::{clock::Timestamp, period::Period},
};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{
    statements::{FUNCTIONS, OF_PROJECT, OF_USER},
    support::Result,
};

/// Number of rows of each kind in the small database, and minimum number in the large one.
const SMALL_ROWS: u64 = 60;
/// Age of the oldest row. Events are listed for seven days.
const AGE: Duration = Duration::from_secs(6 * 24 * 3600);
/// Minimum age of the newest row, so that rows that the server creates come last.
const MIN_AGE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Number of months with usage, including the current one.
const MONTHS: usize = 12;
/// Statements that take longer are printed.
const PRINTED_AFTER: Duration = Duration::from_secs(1);

/// Numbers of rows.
#[derive(Clone, Copy)]
pub struct Counts {
    pub keys: u64,
    pub tokens: u64,
    pub members: u64,
    /// Projects of the owner.
    pub projects: u64,
    /// Sessions of the owner, half of which have expired.
    pub sessions: u64,
    /// Resources that are not deleted.
    pub live: u64,
    /// Deleted resources, older than the live ones.
    pub deleted: u64,
    pub operations: u64,
    /// Deliveries of one webhook.
    pub deliveries: u64,
    /// Audit entries, one in twenty of which is a checkpoint.
    pub entries: u64,
    /// Keys with a year of daily counters on two routes.
    pub credentials: u64,
}

impl Counts {
    /// Rows of the small database, and of the small project in the large one. A page after the middle of a list is
    /// full, so that responses are as long as those of the large project.
    pub const SMALL: Self = Self {
        keys: SMALL_ROWS,
        tokens: SMALL_ROWS,
        members: SMALL_ROWS,
        projects: SMALL_ROWS,
        sessions: SMALL_ROWS * 2,
        live: SMALL_ROWS,
        deleted: SMALL_ROWS,
        operations: SMALL_ROWS,
        deliveries: SMALL_ROWS,
        entries: SMALL_ROWS,
        credentials: 1,
    };

    /// Rows of the large project, multiplied by `scale`.
    pub fn large(scale: f64) -> Self {
        let scaled = |count: u32| ((f64::from(count) * scale) as u64).max(SMALL_ROWS);
        Self {
            keys: scaled(500_000),
            tokens: scaled(500_000),
            members: scaled(100_000),
            projects: scaled(100_000),
            sessions: scaled(100_000),
            live: scaled(200_000),
            deleted: scaled(100_000),
            operations: scaled(300_000),
            deliveries: scaled(300_000),
            entries: scaled(2_000_000),
            credentials: scaled(1_000),
        }
    }

    fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("keys", self.keys),
            ("tokens", self.tokens),
            ("members", self.members),
            ("projects", self.projects),
            ("sessions", self.sessions),
            ("live", self.live),
            ("deleted", self.deleted),
            ("resources", self.live + self.deleted),
            ("operations", self.operations),
            ("deliveries", self.deliveries),
            ("entries", self.entries),
            ("credentials", self.credentials),
        ]
    }

    fn max(&self) -> u64 {
        self.named().into_iter().map(|(_, count)| count).max().unwrap_or(SMALL_ROWS)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.named().into_iter().map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&texts.join(", "))
    }
}

/// Distance of the rows that match `few`: about 20 of them, and at least two in the small database. A multiple of 20,
/// because rows are classified by their number modulo 20.
fn few(count: u64) -> u64 {
    (count / 20 / 20 * 20).max(20)
}

/// Rows of one project. Rows of all tables have the same IDs, which increase with their number `n`, from 0.
pub struct Seed {
    /// Distinguishes the IDs of projects.
    number: u32,
    project: ProjectId,
    /// Owner of the project.
    user: Uuid,
    counts: Counts,
    /// Time of the first row.
    start: Timestamp,
    /// Milliseconds between two rows.
    step: u64,
    now: Timestamp,
}

impl Seed {
    pub fn new(number: u32, project: ProjectId, user: Uuid, counts: Counts, now: Timestamp) -> Self {
        let span = u64::try_from((AGE - MIN_AGE).as_millis()).unwrap_or(u64::MAX);
        Self { number, project, user, counts, start: now.minus(AGE), step: (span / counts.max()).max(1), now }
    }

    /// ID of row `n`, as the SQL function `row_id` computes it.
    fn id(&self, n: u64) -> u128 {
        let millis = self.start.unix_millis().unsigned_abs() + n * self.step;
        (u128::from(millis) << 80) | (0x7_0008_u128 << 60) | (u128::from(self.number) << 48) | u128::from(n)
    }

    fn time(&self, n: u64) -> Timestamp {
        self.start.plus(Duration::from_millis(n * self.step))
    }

    /// Months with usage, the latest first.
    fn months(&self) -> impl Iterator<Item = Period> {
        let current = Period::of(self.now.date());
        std::iter::successors(Some(current), |period| Some(period.previous())).take(MONTHS)
    }

    /// First day with usage.
    fn first_day(&self) -> String {
        self.months().last().map_or_else(|| self.now.date().to_string(), |period| period.first().to_string())
    }

    /// Values of `$` variables and of path parameters.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let entries = self.counts.entries;
        let few_entries = (entries / 20).clamp(1, 20);
        let resource = |n| ResourceId::from_u128(self.id(self.counts.deleted + n)).to_string();
        let values = [
            ("webhook_id", WebhookId::from_u128(self.id(0)).to_string()),
            ("key_many", KeyId::from_u128(self.id(0)).to_string()),
            ("key_few", KeyId::from_u128(self.id(7)).to_string()),
            ("resource_many", resource(0)),
            ("resource_disjoint", resource(1)),
            ("resource_few", resource(2)),
            ("resource_none", resource(3)),
            ("from_many", self.start.minus(DAY).to_string()),
            ("from_few", self.time(entries - few_entries).to_string()),
            ("from_none", self.now.plus(DAY).to_string()),
            ("to_many", self.now.plus(DAY).to_string()),
            ("to_few", self.time(few_entries).to_string()),
            ("to_none", self.start.minus(DAY).to_string()),
            ("first_day", self.first_day()),
            ("month", Period::of(self.now.date()).first().to_string()),
            ("today", self.now.date().to_string()),
        ];
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Replaces the placeholders in an SQL text, such as `{project}`.
    pub fn fill(&self, sql: &str) -> String {
        let counts = self.counts.named().into_iter().flat_map(|(name, count)| {
            [(name.to_owned(), count.to_string()), (format!("few_{name}"), few(count).to_string())]
        });
        let others = [
            ("number", self.number.to_string()),
            ("project", Uuid::from_u128(self.project.as_u128()).to_string()),
            ("project_text", self.project.to_string()),
            ("user", self.user.to_string()),
            ("start", self.start.unix_millis().to_string()),
            ("step", self.step.to_string()),
            ("first_day", self.first_day()),
            ("today", self.now.date().to_string()),
        ];
        let others = others.into_iter().map(|(name, value)| (name.to_owned(), value));
        counts.chain(others).fold(sql.to_owned(), |sql, (name, value)| sql.replace(&format!("{{{name}}}"), &value))
    }

    /// Inserts the rows.
    pub async fn insert(&self, db: &mut PgConnection) -> Result<()> {
        let of_user: &[_] = if self.number == 0 { OF_USER } else { &[] };
        for &(name, sql) in FUNCTIONS.iter().chain(of_user).chain(OF_PROJECT) {
            self.execute(db, name, sql).await?;
        }
        // All months but the current one are final, as in production.
        for period in self.months().skip(1) {
            let sql = format!("SELECT finalize_usage(ARRAY['{{project}}'::uuid], '{}'::date, now())", period.first());
            self.execute(db, "final months", &sql).await?;
        }
        Ok(())
    }

    async fn execute(&self, db: &mut PgConnection, name: &str, sql: &str) -> Result<()> {
        let began = Instant::now();
        let executed = sqlx::raw_sql(AssertSqlSafe(self.fill(sql))).execute(db).await;
        executed.map_err(|error| format!("{name} were not inserted: {error}"))?;
        if began.elapsed() >= PRINTED_AFTER {
            println!("  {name}: {:.0} s", began.elapsed().as_secs_f64());
        }
        Ok(())
    }
}
