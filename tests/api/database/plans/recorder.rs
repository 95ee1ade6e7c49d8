//! Records the plan of every statement that PostgreSQL executes for a server, also of those within functions and
//! triggers: `auto_explain` sends plans as notices, and sqlx writes notices to the log.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    subscriber::{DefaultGuard, set_default},
};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, SubscriberExt},
};

const TARGET: &str = "sqlx::postgres::notice";

/// Settings of all later connections to the database.
const SETTINGS: [(&str, &str); 9] = [
    ("session_preload_libraries", "auto_explain"),
    ("auto_explain.log_analyze", "on"),
    ("auto_explain.log_format", "json"),
    ("auto_explain.log_level", "notice"),
    ("auto_explain.log_min_duration", "0"),
    ("auto_explain.log_nested_statements", "on"),
    ("auto_explain.log_timing", "off"),
    ("auto_explain.log_triggers", "off"),
    // The plan that a connection uses after it has executed a statement five times.
    ("plan_cache_mode", "force_generic_plan"),
];

/// A statement with its plan.
#[derive(Clone)]
pub struct Statement {
    /// SQL, in one line.
    pub text: String,
    /// Plan, as `EXPLAIN (FORMAT JSON)` shows it.
    pub plan: Value,
}

impl Statement {
    pub fn new(sql: &str, plan: Value) -> Self {
        Self { text: sql.split_whitespace().collect::<Vec<_>>().join(" "), plan }
    }

    pub fn is(&self, sql: &str) -> bool {
        self.text.split(' ').eq(sql.split_whitespace())
    }
}

/// The statements that were executed on this thread's connections.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Statement>>>);

impl Recorder {
    /// Enables the recording of later connections. False, with a message on stderr, if this PostgreSQL has no
    /// `auto_explain`.
    pub async fn enable(&self, db: &mut PgConnection) -> bool {
        if sqlx::query("LOAD 'auto_explain'").execute(&mut *db).await.is_err() {
            let _ = writeln!(io::stderr(), "SKIPPED: this PostgreSQL has no auto_explain (contrib)");
            return false;
        }
        for (name, value) in SETTINGS {
            let sql = format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {name} = {value}', current_database()); END $$"
            );
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *db).await.unwrap();
        }
        true
    }

    /// Records on this thread, until the result is dropped.
    pub fn start(&self) -> DefaultGuard {
        let notices = Targets::new().with_target(TARGET, Level::INFO);
        set_default(tracing_subscriber::registry().with(self.clone().with_filter(notices)))
    }

    /// Returns what was recorded since the last call.
    pub fn take(&self) -> Vec<Statement> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn record(&self, notice: &str) {
        let Some((_, plan)) = notice.split_once(" plan:\n") else { return };
        let plan: Value = serde_json::from_str(plan).unwrap();
        self.0.lock().unwrap().push(Statement::new(plan["Query Text"].as_str().unwrap(), plan["Plan"].clone()));
    }
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Message(self));
    }
}

struct Message<'a>(&'a Recorder);

impl Visit for Message<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.record(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.record(&format!("{value:?}"));
        }
    }
}
